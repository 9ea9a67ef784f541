"""What messages and parameters say to the resource manager: one way for the node and for replay.

Only fields of messages are read, never their class, so that a message out of a bag will do.  `network` stands for the
names that a manager of several networks wants after the time; a manager of one takes none.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable

from dynamic_perception.management.budgets import COLDEST, HOTTEST, BatteryThreshold, ThermalZone
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.settings import STALE_POLICIES, ManagerSettings
from dynamic_perception.management.target import Objective, Target
from dynamic_perception.networks.bundle import ModelBundle, find_bundle, read_bundle
from dynamic_perception.profiling.table_file import default_profile, read_table

TARGET_PARAMETERS = ("max_latency", "max_energy", "max_power", "min_accuracy", "objective")


# Messages: each function tells the manager, and returns what is wrong with the message, or an empty text --------------


def give_battery(manager: Any, time: float, message: Any) -> str:
    """Tell the state of charge of a BatteryState."""
    manager.observe_battery(time, message.percentage, message.present)
    if message.present and not 0 <= message.percentage <= 1:
        return (f"battery_state.percentage is {message.percentage:g}: expected 0 to 1; "
                "the state of charge counts as unknown")
    return ""


def give_temperature(manager: Any, time: float, message: Any) -> str:
    """Tell the Temperature of a zone."""
    zone = zone_of(message)
    if manager.observe_temperature(time, zone, message.temperature):
        return ""
    return (f"temperature of zone '{zone}' is {message.temperature:g} C: expected {COLDEST:g} to {HOTTEST:g} C, and "
            "not exactly 0; the reading is not used")


def give_deadline(manager: Any, time: float, message: Any, *network: str) -> str:
    """Tell a deadline, a Duration."""
    return _take("deadline", lambda: manager.set_deadline(time, *network, limit(seconds_of(message))))


def give_target(manager: Any, time: float, message: Any, *network: str) -> str:
    """Tell a PerformanceTarget."""

    def give() -> None:
        limits = (limit(getattr(message, name)) for name in TARGET_PARAMETERS[:-1])
        manager.set_target(time, *network, Target(*limits, Objective(message.objective)))
        manager.set_deadline(time, *network, math.nan)  # the newest word on the deadline is the target's

    return _take("target", give)


def give_report(manager: Any, time: float, message: Any, *network: str) -> str:
    """Tell an InferenceReport."""
    overhead = max(0.0, message.end_to_end_duration - message.inference_duration)
    return _take("inference_report", lambda: manager.observe_report(
        time, *network, message.subnetwork, message.compute_element, message.inference_duration, overhead))


def zone_of(message: Any) -> str:
    """Name of the zone that a Temperature belongs to."""
    return message.header.frame_id or "unnamed"


def seconds_of(message: Any) -> float:
    """A Duration or a Time in seconds."""
    return message.sec + 1e-9 * message.nanosec


def limit(value: float) -> float:
    """Messages say "none" as NaN or, from `ros2 topic pub` with fields left out, as 0."""
    return math.nan if value == 0 else value


def _take(name: str, give: Callable[[], None]) -> str:
    try:
        give()
    except ValueError as error:
        return f"{name} refused: {error}"
    return ""


class Answers:
    """Which OperatingPointStates answer the command in force, and which of those are news."""

    def __init__(self) -> None:
        self.newest: Any = None  # answer to the command; None: none yet
        self._command: Any = None

    def expect(self, command: Any) -> None:
        """A new command is in force."""
        self._command, self.newest = command, None

    def is_news(self, state: Any) -> bool:
        """Take a state; whether it answers the command for the first time, or otherwise than before.

        A latched state may answer the same number of a manager that ran before this one.
        """
        command = self._command
        if command is None or state.sequence != command.sequence or _stamp(state) < _stamp(command):
            return False
        before, self.newest = self.newest, state
        return before is None or before.result != state.result  # a point that was applied may fail later


def _stamp(message: Any) -> tuple[int, int]:
    return message.header.stamp.sec, message.header.stamp.nanosec


# Parameters: `value` gives that of a name ----------------------------------------------------------------------------


def read_profile(model: str, profile: str) -> tuple[ModelBundle, Path, OperatingPointTable]:
    """The bundle, and where its operating-point table is and what it says; ValueError if they do not fit together."""
    bundle = read_bundle(find_bundle(model))
    path = Path(profile or default_profile(bundle.name)).expanduser()
    if not path.exists():
        raise ValueError(f"no operating-point table at {path}: measure it with `dynamic-perception profile {model}`")
    file = read_table(path)
    if file.weights_sha256 != bundle.weights_sha256:
        raise ValueError(f"{path} was measured with other weights of {file.model}: measure it again with "
                         f"`dynamic-perception profile {model}`")
    known = {subnetwork.name for subnetwork in bundle.subnetworks}
    unknown = sorted(set(file.table.subnetwork) - known)
    if unknown:
        raise ValueError(f"{path} has subnetwork '{unknown[0]}', which {bundle.name} has not: it has "
                         f"{', '.join(sorted(known))}")
    return bundle, path, file.table


def read_settings(value: Callable[[str], Any], greatest_power: float) -> ManagerSettings:
    """The manager's settings; `greatest_power`: [W] of the table."""
    thresholds, caps = value("battery_thresholds"), value("battery_power_caps")
    if len(thresholds) != len(caps):
        raise ValueError(
            f"battery_power_caps has {len(caps)} entries: expected one per battery_thresholds, {len(thresholds)}")
    zone = ThermalZone(
        name="*",
        sustainable_power=value("sustainable_power") or 0.5 * greatest_power,
        switch_on=value("thermal_switch_on_temperature"),
        control=value("thermal_control_temperature"),
        critical=value("thermal_critical_temperature"),
    )
    fallback = value("fallback_subnetwork"), value("fallback_element")
    return ManagerSettings(
        deadline_probability=value("deadline_probability"),
        dwell=value("dwell"),
        fallback=fallback if all(fallback) else None,
        battery=tuple(BatteryThreshold(below, max_power_fraction=cap) for below, cap in zip(thresholds, caps)),
        thermal=(zone,),
        **{f"{name}_timeout": value(f"{name}_timeout") or math.inf for name in STALE_POLICIES},
        **{f"{name}_stale_policy": value(f"{name}_stale_policy") for name in STALE_POLICIES},
    )


def read_target(value: Callable[[str], Any]) -> Target:
    """The target until a message says otherwise."""
    limits = (limit(value(name)) for name in TARGET_PARAMETERS[:-1])
    return Target(*limits, Objective[value("objective").upper()])
