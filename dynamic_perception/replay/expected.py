"""The commands that a bag is expected to give: a file to keep beside it, and the first difference in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from itertools import zip_longest
from pathlib import Path

import yaml

from dynamic_perception.documents import read_yaml
from dynamic_perception.file_writing import write_atomically
from dynamic_perception.replay.manager_replay import Command

SCHEMA_VERSION = 1
TOLERANCE = 1e-6  # [s] between times that count as alike
COMPARED = ("subnetwork", "compute_element", "cpu_frequency", "gpu_frequency", "reason", "feasible")  # not the words
POINT = COMPARED[:4]
TYPES = {"float": (float, int), "str": (str,), "bool": (bool,)}


def write_expected(path: Path, commands: Sequence[Command], bag: str) -> None:
    """Write the file so that a reader sees the old one or the whole new one, never a part."""
    text = f"# Commands that the resource manager gives on {bag}; times in seconds since its first message.\n"
    content = {"schema_version": SCHEMA_VERSION, "commands": [asdict(command) for command in commands]}
    text += yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
    write_atomically(path, text)


def read_expected(path: Path) -> list[Command]:
    """Read what `write_expected` wrote; ValueError for anything else."""
    content = read_yaml(path)
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"{path}: expected schema_version {SCHEMA_VERSION}, as `replay --write-expected` writes it")
    commands = content.get("commands")
    if not isinstance(commands, list):
        raise ValueError(f"{path}: commands: expected a list")
    return [_read_command(path, number, entry) for number, entry in enumerate(commands, start=1)]


def _read_command(path: Path, number: int, entry: object) -> Command:
    expected = {field.name: field.type for field in fields(Command)}
    if not isinstance(entry, dict) or set(entry) != set(expected):
        raise ValueError(f"{path}: command {number}: expected exactly {', '.join(expected)}")
    for name, kind in expected.items():
        if type(entry[name]) not in TYPES[kind]:
            raise ValueError(f"{path}: command {number}: {name} is {entry[name]!r}: expected a {kind}")
    return Command(**entry)


def first_difference(expected: Sequence[Command], got: Sequence[Command], inputs_at: Callable[[float], str]) -> str:
    """The first command that differs: when, what was heard up to then, expected and got; empty if none does."""
    for number, (wanted, given) in enumerate(zip_longest(expected, got), start=1):
        if wanted is not None and given is not None and _same(wanted, given, COMPARED, TOLERANCE):
            continue
        time = min(command.time for command in (wanted, given) if command is not None)
        return (
            f"command {number} differs at {time:.6f} s\n  inputs:   {inputs_at(time)}\n  expected: "
            f"{_describe(wanted)}\n  got:      {_describe(given)}"
        )
    return ""


def compare_recorded(
    recorded: Sequence[Command], replayed: Sequence[Command], inputs_at: Callable[[float], str]
) -> str:
    """How the replayed points compare with those that were commanded when the bag was recorded, in words.

    Their times differ by what the messages took to the recorder, and where timers stood; so only the order counts.
    """
    for number, (then, now) in enumerate(zip_longest(recorded, replayed), start=1):
        if then is None or now is None or not _same(then, now, POINT, math.inf):
            time = min(command.time for command in (then, now) if command is not None)
            return (
                f"other points than recorded, from command {number} on, at {time:.3f} s\n  inputs:   "
                f"{inputs_at(time)}\n  recorded: {_describe(then)}\n  replayed: {_describe(now)}"
            )
    latest = max((abs(then.time - now.time) for then, now in zip(recorded, replayed)), default=0.0)
    return f"the {len(recorded)} points that were recorded, in the same order, at most {latest:.3f} s apart"


def _same(a: Command, b: Command, names: Sequence[str], tolerance: float) -> bool:
    def alike(name: str) -> bool:
        first, second = getattr(a, name), getattr(b, name)
        return first == second or (first != first and second != second)  # NaN: both are not set

    return abs(a.time - b.time) <= tolerance and all(alike(name) for name in names)


def _describe(command: Command | None) -> str:
    if command is None:
        return "no command"
    feasible = "" if command.feasible else ", not feasible"
    return f"{command.point} at {command.time:.6f} s because of {command.reason}{feasible}: {command.detail}"
