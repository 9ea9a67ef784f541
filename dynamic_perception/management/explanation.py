"""Why the operating point moved, in one sentence for people."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np

from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.management.selection import Situation


def explain_change(field: str, before: Situation, now: Situation, table: OperatingPointTable, element: str) -> str:
    """What a change of `field` of the situation means, as far as the situation tells; `element`: the one concerned."""
    if field == "deadline":
        return f"deadline {_milliseconds(before.deadline)} -> {_milliseconds(now.deadline)}"
    if field == "target":
        return f"target {now.target}"
    if field == "slow_down":
        position = table.elements.index(element)
        old, new = before.slow_down[0][position], now.slow_down[0][position]
        if new > old and new >= 1.05:
            return f"{element} slowed {new:.2f}x by other work"
        return f"{element} at {new:.2f}x +- {math.sqrt(now.slow_down[1][position]):.2f} of its profiled latency"
    if field == "overhead":
        return f"overhead around inference {_milliseconds(before.overhead[0])} -> {_milliseconds(now.overhead[0])}"
    raise KeyError(field)


def explain_move(old: OperatingPoint, new: OperatingPoint) -> str:
    """For example "50% on cpu:2 (was 100%)"."""
    same_place = (
        old.compute_element == new.compute_element
        and old.subnetwork != new.subnetwork
        and str(old).removeprefix(old.subnetwork) == str(new).removeprefix(new.subnetwork)
    )
    return f"{new} (was {old.subnetwork if same_place else old})"


def explain_left_out(situation: Situation, kept: np.ndarray, unknown: Mapping[str, np.ndarray]) -> list[str]:
    """Which points no limit could be held against; `unknown`: Selector.unknown."""
    battery_cap = math.inf if situation.battery_ignored else situation.battery_cap
    power_caps = (situation.thermal_cap, battery_cap, situation.target.max_power)
    limited = {
        "power": any(math.isfinite(cap) for cap in power_caps),
        "energy": math.isfinite(situation.target.max_energy),
    }
    return [
        f"{np.count_nonzero(rows)} of {len(rows)} points left out: {name} not known"
        for name, rows in unknown.items()
        if limited[name] and not kept[rows].any()
    ]


def explain_stale(ages: Iterable[tuple[str, float]]) -> str:
    """For example "battery not heard of for 31 s"; `ages`: input and seconds since its last usable value."""
    return ", ".join(f"{name} not heard of for {age:.0f} s" for name, age in ages) or "every input is heard again"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if math.isfinite(seconds) else "none"
