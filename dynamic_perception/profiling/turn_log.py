"""The turns of an unfinished profile, kept beside the table, so that an interrupted one can go on.

One JSON object a line: first what is measured, on what and how, then a turn each.  A line that was cut off is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dynamic_perception.documents import InvalidDocument, parse_json
from dynamic_perception.profiling.statistics import Turn

SCHEMA = 1


class AnotherRun(ValueError):
    """The kept turns are of something else."""


class TurnLog:
    """Kept turns, and where new ones are kept.

    Attributes:
        path: the file.
        header: what is measured; of an interrupted profile, if there is one, with all that it had noted.
        turns: (number of the point, turn) of an interrupted profile.
    """

    def __init__(self, path: Path, header: Mapping[str, Any], restart: bool = False):
        """Read the file if there is one.

        Args:
            path: beside the table.
            header: plain values that must be the same for turns to be put together.
            restart: throw away what is there.

        Raises:
            AnotherRun: what is there has another header; names what differs.
        """
        self.path, self.header, self.turns = path, dict(header), []
        if restart:
            path.unlink(missing_ok=True)
        try:
            lines = path.read_text().splitlines()
        except FileNotFoundError:
            lines = []
        entries = [entry for line in lines if (entry := _parse(line)) is not None]
        if entries:
            self.header = entries[0]
            for key, value in json.loads(json.dumps({"schema": SCHEMA, **header})).items():
                self.require(key, value)
            self.turns = [(entry["point"], _turn(entry)) for entry in entries[1:]]
        self._file = None

    @property
    def resumed(self) -> bool:
        """Whether an interrupted profile goes on."""
        return bool(self.turns)

    def begin(self, notes: Mapping[str, Any]) -> None:
        """Open the file for new turns; `notes` are added to the header of a new profile."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.resumed:
            self.header = {"schema": SCHEMA, **self.header, **notes}
            self.path.write_text(json.dumps(self.header) + "\n")
        else:
            with open(self.path, "rb") as file:  # a turn that was cut off must not spoil the next one
                whole = file.read().endswith(b"\n")
            if not whole:
                with open(self.path, "a") as file:
                    file.write("\n")
        self._file = open(self.path, "a")  # noqa: SIM115  (closed with the object)

    def add(self, point: int, turn: Turn) -> None:
        """Keep a turn."""
        self._file.write(json.dumps({"point": point, **asdict(turn)}) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Leave the file for the next time."""
        if self._file is not None:
            self._file.close()

    def remove(self) -> None:
        """All is measured and written: the turns are not needed any more."""
        self.close()
        self.path.unlink(missing_ok=True)

    def require(self, key: str, value: Any) -> None:
        """AnotherRun, if the header found has another value there."""
        if self.header.get(key) != value:
            raise AnotherRun(
                f"{self.path} holds turns of an interrupted profile with another {key}: "
                f"{_difference(self.header.get(key), value)}. Go on with that one as it was started, or "
                "throw its turns away with --restart"
            )


def _difference(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        pairs = [
            (key, found.get(key), expected.get(key))
            for key in {**found, **expected}
            if found.get(key) != expected.get(key)
        ]
        return "; ".join(f"{key} {was!r}, now {is_now!r}" for key, was, is_now in pairs)
    if isinstance(found, list) and isinstance(expected, list):
        return f"{len(found)}, now {len(expected)}" if len(found) != len(expected) else "others of the same number"
    return f"{found!r}, now {expected!r}"


def _parse(line: str) -> dict[str, Any] | None:
    try:
        entry = parse_json(line, "a turn")
    except InvalidDocument:
        return None
    return entry if isinstance(entry, dict) else None


def _turn(entry: Mapping[str, Any]) -> Turn:
    values = {name: entry[name] for name in Turn.__dataclass_fields__}
    return Turn(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})
