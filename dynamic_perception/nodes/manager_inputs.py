"""What messages and parameters say to the resource manager: one way for the node and for replay.

Only fields of messages are read, never their class, so that a message out of a bag will do.  `network` is the name of
the application that a message is of; "" where there is only one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from dynamic_perception.hardware.compute_element import platform_fingerprint
from dynamic_perception.management import plausible
from dynamic_perception.management.budgets import BatteryThreshold, ThermalZone
from dynamic_perception.management.joint import JointManager
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.settings import STALE_POLICIES, ManagerSettings
from dynamic_perception.management.strangers import clipped
from dynamic_perception.management.target import Objective, Target
from dynamic_perception.networks.bundle import ModelBundle, find_bundle, read_bundle
from dynamic_perception.nodes.frame_age import age_of_machine
from dynamic_perception.profiling.table_choice import check_table, find_table
from dynamic_perception.profiling.table_file import read_table

MESSAGE_LIMITS = ("max_latency", "max_energy", "max_power", "min_accuracy")  # of a PerformanceTarget
THERMAL_GAINS = ("overshoot_gain", "undershoot_gain", "integral_gain")  # in the order of the parameter
CLOCKS = ("cpu", "gpu")
NOT_KNOWN = (math.nan, math.nan)
TARGET_PARAMETERS = (*MESSAGE_LIMITS, "min_rate", "objective")

Value = Callable[[str], Any]  # gives a parameter of the node by its name


def label(network: str, kind: str) -> str:
    """`kind` of fault or value, with the name of the network where there are several."""
    return f"{network} {kind}" if network else kind


# Messages: each function tells the manager, and returns what is wrong with the message, or an empty text --------------


def give_battery(manager: JointManager, time: float, message: Any) -> str:
    """Tell the state of charge of a BatteryState."""
    name = battery_of(message)
    usable = manager.observe_battery(time, message.percentage, message.present, name)
    batteries = manager.machine.batteries
    if batteries.contradiction:  # the first time only
        return f"battery_state of battery '{name}' {batteries.contradiction}: the percentage is used"
    if usable:
        return ""
    if plausible.possible_charge(message.percentage):
        return f"battery_state of battery '{name}' is not used: {batteries.fault}"
    return f"battery_state.percentage is {message.percentage:g}: expected 0 to 1; the state of charge counts as unknown"


def give_temperature(manager: JointManager, time: float, message: Any) -> str:
    """Tell the Temperature of a zone."""
    zone = zone_of(message)
    used = manager.observe_temperature(time, zone, message.temperature)
    if used or not manager.machine.temperatures.refused:
        return ""
    if plausible.possible_temperature(message.temperature):
        return f"temperature of zone '{zone}' is not used: {manager.machine.temperatures.refused}"
    least, most = plausible.TEMPERATURE.least, plausible.TEMPERATURE.most
    return (
        f"temperature of zone '{zone}' is {message.temperature:g} C: expected {least:g} to {most:g} C, and "
        "not exactly 0; the reading is not used"
    )


def give_deadline(manager: JointManager, time: float, network: str, message: Any) -> str:
    """Tell a deadline, a Duration."""
    seconds = limit(seconds_of(message))
    return refusal(label(network, "deadline"), lambda: manager.set_deadline(time, network, seconds))


def give_target(manager: JointManager, time: float, network: str, message: Any, min_rate: float) -> str:
    """Tell a PerformanceTarget; it has no rate, so `min_rate` [Hz] of the parameter stays in force."""

    def give() -> None:
        limits = {name: limit(getattr(message, name)) for name in MESSAGE_LIMITS}
        target = Target(**limits, min_rate=limit(min_rate), objective=Objective(message.objective))
        manager.set_target(time, network, target)
        manager.set_deadline(time, network, math.nan)  # the newest word on the deadline is the target's

    return refusal(label(network, "target"), give)


def give_report(manager: JointManager, time: float, network: str, message: Any, answers: Answers) -> str:
    """Tell an InferenceReport; `answers`: of its network, which know the clocks that the point in force asks for."""
    age = message.age_at_start  # NaN: an older version knew none, and left it out of the sum
    late = age - age_of_machine(age, message.deadline) if age > 0.0 else 0.0
    overhead = max(message.end_to_end_duration - message.inference_duration - late, 0.0)  # NaN stays NaN: refused
    cpu, gpu = math.nan, math.nan
    if answers.command is not None and message.sequence == answers.command.sequence:
        cpu, gpu = answers.clocks_of(message)
    return refusal(
        label(network, "inference_report"),
        lambda: manager.observe_report(
            time, network, message.subnetwork, message.compute_element, message.inference_duration, overhead, cpu, gpu
        ),
    )


def give_state(manager: JointManager, time: float, answers: Answers, message: Any) -> bool:
    """Tell the clocks of an OperatingPointState; whether it is news about the command in force.

    A clock that cannot be is not known: nothing follows from it.
    """
    news = answers.is_news(message)
    for clock, (asked, actual) in answers.clocks.items():
        if asked > 0:
            manager.observe_clock(time, answers.command.operating_point.compute_element, asked, actual, clock)
    return news


def refusal(name: str, give: Callable[[], None]) -> str:
    """Give an input to the manager; a wrong one changes nothing, and this says why."""
    try:
        give()
    except ValueError as error:
        return f"{name} refused: {error}"
    return ""


def zone_of(message: Any) -> str:
    """Name of the zone that a Temperature belongs to."""
    return clipped(message.header.frame_id) or "unnamed"


def battery_of(message: Any) -> str:
    """Name of the battery that a BatteryState is of: all that tells it from others, each once."""
    parts = (message.header.frame_id, message.location, message.serial_number)
    return " ".join(dict.fromkeys(clipped(part) for part in parts if part))


def seconds_of(message: Any) -> float:
    """A Duration or a Time in seconds."""
    return message.sec + 1e-9 * message.nanosec


def limit(value: float) -> float:
    """Messages say "none" as NaN or, from `ros2 topic pub` with fields left out, as 0."""
    return math.nan if value == 0 else value


class Answers:
    """Which OperatingPointStates answer the command in force, and which of those are news.

    Attributes:
        command: in force; None: none yet.
        newest: answer to it; None: none yet.
    """

    def __init__(self) -> None:
        self.command: Any = None
        self.newest: Any = None

    def expect(self, command: Any) -> None:
        """A new command is in force."""
        self.command, self.newest = command, None

    def is_news(self, state: Any) -> bool:
        """Take a state; whether it answers the command for the first time, or otherwise than before.

        A latched state may answer the same number of a manager that ran before this one.
        """
        command = self.command
        if command is None or state.sequence != command.sequence or not _answers(state, command):
            return False
        before, self.newest = self.newest, state
        return before is None or before.result != state.result  # a point that was applied may fail later

    @property
    def clocks(self) -> dict[str, tuple[float, float]]:
        """Of the CPU and of the GPU: clock [Hz] that the point in force asks for, and the one that was read back.

        NaN: not known, not set.
        """
        state = self.newest
        if state is None:
            return dict.fromkeys(CLOCKS, NOT_KNOWN)
        both = {
            clock: tuple(getattr(point, f"{clock}_frequency") for point in (state.requested, state.actual))
            for clock in CLOCKS
        }
        return {
            clock: pair if all(hertz in plausible.CLOCK for hertz in pair) else NOT_KNOWN
            for clock, pair in both.items()
        }

    def clocks_of(self, report: Any) -> tuple[float, float]:
        """Clocks [Hz] of CPU and GPU that a report was made at: its own, else those of the newest answer.

        NaN: not known, or the point does not ask for one.
        """
        clocks = self.clocks
        told = {clock: getattr(report, f"{clock}_frequency") for clock in CLOCKS}
        cpu, gpu = (
            told[clock] if asked > 0 and told[clock] in plausible.CLOCK else actual
            for clock, (asked, actual) in clocks.items()
        )
        return cpu, gpu


def _answers(state: Any, command: Any) -> bool:
    """Whether a state of the command's number is of this command, and not of another manager's.

    The clocks of two machines differ, and clocks are set: only where a state does not name its command (an older
    version recorded it) the order of their stamps counts.
    """
    named = _time(state.command_stamp)
    return (
        named == _time(command.header.stamp) if any(named) else _time(state.header.stamp) >= _time(command.header.stamp)
    )


def _time(stamp: Any) -> tuple[int, int]:
    return stamp.sec, stamp.nanosec


# Parameters ----------------------------------------------------------------------------------------------------------


class Profile(NamedTuple):
    """What is decided over."""

    bundle: ModelBundle
    path: Path
    table: OperatingPointTable
    forced: list[str]  # how the table is not one of this bundle on this machine, in words


def of_network(value: Value, network: str) -> Value:
    """The parameters as they hold for one network: "<network>.<parameter>"."""
    return (lambda name: value(f"{network}.{name}")) if network else value


def read_profile(value: Value, network: str) -> Profile:
    """The bundle and the operating-point table of a network.

    Raises:
        ValueError, FileNotFoundError: there is no table, or it does not fit this bundle or machine; says what to do.
    """
    own = of_network(value, network)
    bundle = read_bundle(find_bundle(own("model")))
    here = platform_fingerprint()
    path = Path(own("profile")).expanduser() if own("profile") else find_table(bundle, here)
    if not path.exists():
        raise ValueError(
            f"no operating-point table at {path}: measure it with `dynamic-perception profile {own('model')}`"
        )
    file = read_table(path)
    return Profile(bundle, path, file.table, check_table(path, file, bundle, here, value("force_profile")))


def make_manager(time: float, value: Value, tables: Mapping[str, OperatingPointTable]) -> JointManager:
    """The manager as the parameters want it at the start, `time` [s].

    Args:
        value: gives a parameter.
        tables: operating points of every network, by its name.

    Raises:
        ValueError: parameters do not fit together, or not to a table.
    """
    settings = read_settings(value, sum(float(table.power.max()) for table in tables.values()))
    manager = JointManager(settings)
    for network, table in tables.items():
        own = of_network(value, network)
        fallback = own("fallback_subnetwork"), own("fallback_element")
        of_application = replace(settings, fallback=fallback if all(fallback) else None)
        manager.add_application(time, network, table, read_target(own), own("weight"), of_application)
    if value("mission_duration") > 0:
        manager.set_mission(time, value("mission_duration"))
    return manager


def read_settings(value: Value, greatest_power: float) -> ManagerSettings:
    """The settings that all networks share; `greatest_power`: [W] of their tables together."""
    thresholds, caps = value("battery_thresholds"), value("battery_power_caps")
    if len(thresholds) != len(caps):
        raise ValueError(
            f"battery_power_caps has {len(caps)} entries: expected one per battery_thresholds, {len(thresholds)}"
        )
    gains = [gain or math.nan for gain in value("thermal_gains")]
    if len(gains) != len(THERMAL_GAINS):
        raise ValueError(f"thermal_gains has {len(gains)} entries: expected {', '.join(THERMAL_GAINS)}")
    zone = ThermalZone(
        name="*",
        sustainable_power=value("sustainable_power") or 0.5 * greatest_power,
        switch_on=value("thermal_switch_on_temperature"),
        control=value("thermal_control_temperature"),
        critical=value("thermal_critical_temperature"),
        integral_cutoff=value("thermal_integral_cutoff"),
        **dict(zip(THERMAL_GAINS, gains)),
    )
    return ManagerSettings(
        deadline_probability=value("deadline_probability"),
        dwell=value("dwell"),
        most_up=value("most_up"),
        relax=tuple(filter(None, value("relax"))),
        battery_capacity=value("battery_capacity") or math.nan,
        battery_reserve=value("battery_reserve"),
        other_load=value("other_load"),
        battery=tuple(BatteryThreshold(below, max_power_fraction=cap) for below, cap in zip(thresholds, caps)),
        thermal=(zone,),
        temperature_zones=tuple(filter(None, value("temperature_zones"))),
        **{f"{name}_timeout": value(f"{name}_timeout") or math.inf for name in STALE_POLICIES},
        **{f"{name}_stale_policy": value(f"{name}_stale_policy") for name in STALE_POLICIES},
    )


def read_target(value: Value) -> Target:
    """The target until a message says otherwise."""
    limits = {name: limit(value(name)) for name in TARGET_PARAMETERS if name != "objective"}
    return Target(**limits, objective=Objective[value("objective").upper()])
