"""The nodes' parameters for a replay: from the parameter file of the robot, and from the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dynamic_perception.documents import parse_yaml, read_yaml
from dynamic_perception.nodes.parameters import KNOWN_NAMES, NODE_PARAMETERS, ParameterSpec

REPLAYED_NODES = ("perception", "resource_manager")
SPECS: dict[str, ParameterSpec] = {spec.name: spec for node in REPLAYED_NODES for spec in NODE_PARAMETERS[node]}
NOT_OURS = ("use_sim_time", "qos_overrides")


def read_parameters(file: Path | None = None, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Every parameter of the perception and the resource-manager node.

    Args:
        file: a ROS parameter file; entries for other nodes are left out.
        settings: "name:=value", which win.

    Raises:
        ValueError: a name is not known or a value not allowed; names it and what was expected.
    """
    values = {name: spec.default for name, spec in SPECS.items()}
    if file is not None:
        found = _read_file(file)
        of_networks = tuple(f"{name}." for name in found.get("namespaces") or () if name)
        for name, value in found.items():
            if name in SPECS:
                values[name] = _checked(name, value, f"{file}: ")
            elif name not in KNOWN_NAMES and not name.startswith((*NOT_OURS, *of_networks)):
                raise ValueError(f"{file}: no node of this package has a parameter '{name}'")
    for setting in settings:
        name, separator, text = setting.partition(":=")
        if not separator or name not in SPECS:
            raise ValueError(f"parameter '{setting}': expected <name>:=<value> with one of {', '.join(sorted(SPECS))}")
        values[name] = _checked(name, parse_yaml(text, f"parameter {name}") if text else "", "")
    return values


def _read_file(file: Path) -> dict[str, Any]:
    content = read_yaml(file)
    values: dict[str, Any] = {}
    for node, entry in (content if isinstance(content, dict) else {}).items():
        if str(node).rpartition("/")[2] in ("**", "*", *REPLAYED_NODES):
            if not isinstance(entry, dict) or not isinstance(entry.get("ros__parameters"), dict):
                raise ValueError(f"{file}: {node}: expected a mapping 'ros__parameters'")
            values |= _flatten(entry["ros__parameters"])
    if not values:
        raise ValueError(f"{file}: expected parameters below '/**', {' or '.join(map(repr, REPLAYED_NODES))}")
    return values


def _flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        flat |= _flatten(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _checked(name: str, value: Any, place: str) -> Any:
    """The value in the type of the parameter."""
    spec = SPECS[name]
    expected = f"{place}parameter '{name}' is {value!r}: expected "
    kind, value = type(spec.default), spec.in_type(value)
    if type(value) is not kind:
        raise ValueError(f"{expected}{'a list' if kind is list else f'a value of type {kind.__name__}'}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{expected}a finite number")
    if spec.choices and value not in spec.choices:
        raise ValueError(f"{expected}one of {', '.join(spec.choices)}")
    if kind in (int, float):
        low = -math.inf if spec.minimum is None else spec.minimum
        high = math.inf if spec.maximum is None else spec.maximum
        if not low <= value <= high:
            raise ValueError(f"{expected}{low:g} to {high:g}")
    return value
