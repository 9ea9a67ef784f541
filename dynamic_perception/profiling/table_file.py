"""The operating-point table as a file: one format, YAML, SI units, every number with its provenance.

schema_version: 1
model: {name: group_cnn_cifar10, weights_sha256: 9f86...}
engine: {name: onnxruntime, version: 1.22.0}
platform: {...}            # fingerprint of the machine, as the hardware package gives it
conditions: {...}          # what was held fixed while profiling: repetitions, other load, governor, ...
units: {latency: s, ...}
provenance: {latency: measured, power: modelled, ...}
columns: [subnetwork, compute_element, cpu_frequency, ...]
rows:
  - [25%, 'cpu:1', .nan, ...]
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dynamic_perception.file_writing import write_atomically
from dynamic_perception.hardware.compute_element import platform_fingerprint, platform_name
from dynamic_perception.installation import data_folder
from dynamic_perception.management.operating_points import (
    COLUMNS,
    TEXT_COLUMNS,
    UNITS,
    OperatingPointError,
    OperatingPointTable,
)

SCHEMA_VERSION = 1
KEYS = ("schema_version", "model", "engine", "platform", "conditions", "units", "provenance", "columns", "rows")
Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times faster, but not in every build of PyYAML


@dataclass(frozen=True, eq=False)
class ProfileFile:
    """A table and what it was made from: the weights, the machine, the engine, the conditions."""

    table: OperatingPointTable
    model: str  # name of the model bundle
    weights_sha256: str  # of the bundle's weights, hexadecimal
    engine: str
    engine_version: str
    platform: Mapping[str, Any]  # plain YAML values
    conditions: Mapping[str, Any]  # plain YAML values


def default_profile(model: str) -> Path:
    """Where this machine's table of a model is kept: `profiles/<platform>/<model>.yaml` in the data folder."""
    return data_folder() / "profiles" / platform_name(platform_fingerprint(Path("/sys"))) / f"{model}.yaml"


def emulated_profile(model: str) -> Path:
    """Where the one that was measured under an emulated clock is kept, apart from those that a robot decides over."""
    return data_folder() / "profiles_emulated" / default_profile(model).relative_to(data_folder() / "profiles")


def write_table(path: str | os.PathLike, profile: ProfileFile) -> None:
    """Write `profile` so that a reader sees the old file or the whole new one, never a part."""
    path = Path(path)
    table = profile.table
    columns = [getattr(table, name) if name in TEXT_COLUMNS else getattr(table, name).tolist() for name in COLUMNS]
    content = {
        "schema_version": SCHEMA_VERSION,
        "model": {"name": profile.model, "weights_sha256": profile.weights_sha256},
        "engine": {"name": profile.engine, "version": profile.engine_version},
        "platform": dict(profile.platform),
        "conditions": dict(profile.conditions),
        "units": dict(UNITS),
        "provenance": dict(table.provenance),
        "columns": _OnOneLine(COLUMNS),
        "rows": [_OnOneLine(row) for row in zip(*columns)],
    }
    header = f"# Operating points of {profile.model}, SI units; .nan: not set or not known.\n"
    text = header + yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=float("inf"))
    write_atomically(path, text)


def read_table(path: str | os.PathLike) -> ProfileFile:
    """Read what :func:`write_table` wrote.

    ValueError naming file, line, key and what was expected, for anything else; OSError if the file cannot be read.
    """
    return _Reader(path).read()


class _OnOneLine(list):
    """A list that is written as [a, b, c]."""


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True  # repeated values are written out: anchors are no help to people


_Dumper.add_representer(
    _OnOneLine, lambda dumper, row: dumper.represent_sequence("tag:yaml.org,2002:seq", row, flow_style=True)
)


class _Reader:
    """Walks the YAML nodes, which know their lines, instead of the values, which do not."""

    def __init__(self, path: str | os.PathLike):
        self.path = path

    def read(self) -> ProfileFile:
        text = Path(self.path).read_bytes()
        self._loader = Loader(text)
        try:
            root = self._loader.get_single_node()
            if root is None:
                raise ValueError(f"{self.path}: the file is empty: expected {', '.join(KEYS)}")
            return self._profile(root)
        except (yaml.MarkedYAMLError, yaml.reader.ReaderError, UnicodeDecodeError) as error:
            raise ValueError(f"{self.path}: no valid YAML: {error}") from error
        finally:
            self._loader.dispose()

    def _profile(self, root: yaml.Node) -> ProfileFile:
        version = self._mapping(root, "the file").get("schema_version")
        if version is None or version.value != str(SCHEMA_VERSION):
            self._fail(version or root, "schema_version", f"{SCHEMA_VERSION}", version.value if version else "nothing")
        keys = self._keys(root, "the file", KEYS)
        model = self._keys(keys["model"], "model", ("name", "weights_sha256"))
        engine = self._keys(keys["engine"], "engine", ("name", "version"))
        units = self._keys(keys["units"], "units", tuple(UNITS))
        for name, unit in UNITS.items():
            if units[name].value != unit:
                self._fail(units[name], f"units.{name}", unit, units[name].value)
        return ProfileFile(
            table=self._table(keys),
            model=self._text(model["name"], "model.name"),
            weights_sha256=self._text(model["weights_sha256"], "model.weights_sha256"),
            engine=self._text(engine["name"], "engine.name"),
            engine_version=self._text(engine["version"], "engine.version"),
            platform=self._plain(keys["platform"], "platform"),
            conditions=self._plain(keys["conditions"], "conditions"),
        )

    def _table(self, keys: Mapping[str, yaml.Node]) -> OperatingPointTable:
        header = self._sequence(keys["columns"], "columns")
        names = [self._text(node, "columns") for node in header]
        missing = [name for name in COLUMNS if name not in names]
        if missing or len(names) != len(COLUMNS):
            self._fail(
                keys["columns"],
                "columns",
                f"each once: {', '.join(COLUMNS)}",
                f"no {missing[0]}" if missing else ", ".join(names),
            )
        columns: dict[str, list] = {name: [] for name in COLUMNS}
        rows = self._sequence(keys["rows"], "rows")
        if not rows:
            self._fail(keys["rows"], "rows", "at least one operating point", "none")
        for index, row in enumerate(rows):
            values = self._sequence(row, f"rows[{index}]")
            if len(values) != len(names):
                self._fail(row, f"rows[{index}]", f"{len(names)} values, one per column", f"{len(values)}")
            for name, value in zip(names, values):
                take = self._text if name in TEXT_COLUMNS else self._number
                columns[name].append(take(value, name))
        provenance = {
            name: self._text(node, f"provenance.{name}")
            for name, node in self._mapping(keys["provenance"], "provenance").items()
        }
        try:
            return OperatingPointTable(**columns, provenance=provenance)
        except OperatingPointError as error:
            node = rows[error.row].value[names.index(error.column)]
            raise ValueError(f"{self._place(node)}: {error.column} {error.reason}") from error
        except ValueError as error:  # the provenance is all that is not of one row
            raise ValueError(f"{self._place(keys['provenance'])}: {error}") from error

    def _keys(self, node: yaml.Node, key: str, expected: tuple[str, ...]) -> dict[str, yaml.Node]:
        """The values of a mapping that must have exactly the `expected` keys."""
        found = self._mapping(node, key)
        for name in expected:
            if name not in found:
                self._fail(node, key, f"the key {name}", f"only {', '.join(found) or 'nothing'}")
        for name, value in found.items():
            if name not in expected:
                self._fail(value, key, ", ".join(expected), f"the key {name}")
        return found

    def _mapping(self, node: yaml.Node, key: str) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._fail(node, key, "a mapping", node.value)
        found: dict[str, yaml.Node] = {}
        for name, value in node.value:
            if name.value in found:
                self._fail(name, key, "every key once", f"{name.value} again")
            found[name.value] = value
        return found

    def _sequence(self, node: yaml.Node, key: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode):
            self._fail(node, key, "a list", node.value)
        return node.value

    def _text(self, node: yaml.Node, key: str) -> str:
        if node.tag != "tag:yaml.org,2002:str":
            self._fail(node, key, "text (in quotes, if it looks like a number)", node.value)
        return node.value

    def _number(self, node: yaml.Node, key: str) -> float:
        if node.tag not in ("tag:yaml.org,2002:float", "tag:yaml.org,2002:int"):
            self._fail(node, key, "a number (with a point in it before an exponent, as 1.0e-3)", node.value)
        return float(self._loader.construct_object(node))

    def _plain(self, node: yaml.Node, key: str) -> dict[str, Any]:
        self._mapping(node, key)
        return self._loader.construct_object(node, deep=True)

    def _fail(self, node: yaml.Node, key: str, expected: str, found: Any) -> None:
        found = found if isinstance(found, str) else "something nested"
        raise ValueError(f"{self._place(node)}: {key}: expected {expected}, found {found!r}")

    def _place(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"
