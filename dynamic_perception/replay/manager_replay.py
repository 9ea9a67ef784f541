"""The resource manager on a bag's clock: recorded messages in, the commands that the node would send out.

Decisions happen when they do in the node: with every input, every `DECISION_PERIOD`, and what is said of an unchanged
point every `COMMAND_PERIOD`; only that the node's timers begin at its activation, and these at the bag's first message.
Nothing else decides, so the same bag gives the same commands every time and on every machine.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from dynamic_perception.management.manager import Decision, Reason
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.msg import OperatingPointState
from dynamic_perception.nodes.manager_inputs import (
    Answers,
    Value,
    give_battery,
    give_deadline,
    give_report,
    give_state,
    give_target,
    give_temperature,
    make_manager,
    seconds_of,
    zone_of,
)
from dynamic_perception.nodes.resource_manager import COMMAND_PERIOD, DECISION_PERIOD, REJECTED_FOR

NETWORK = ""  # the only application
COMMAND, STATE = "operating_point/command", "operating_point/state"
NANOSECONDS = 10**9


@dataclass(frozen=True)
class Command:
    """One command, replayed or recorded."""

    time: float  # [s] since the bag's first message
    subnetwork: str
    compute_element: str
    cpu_frequency: float  # [Hz]; NaN: not set
    gpu_frequency: float  # [Hz]; NaN: not set
    reason: str  # as in OperatingPointCommand, in small letters
    feasible: bool
    detail: str  # in words

    @property
    def point(self) -> str:
        """For people."""
        clocks = [f" at {1e-6 * value:g} MHz" for value in (self.cpu_frequency, self.gpu_frequency) if value > 0]
        return f"{self.subnetwork} on {self.compute_element}{''.join(clocks)}"


class ManagerReplay:
    """Decides as the resource-manager node of one network would have.

    Args:
        table: operating points.
        value: gives a parameter of the nodes by its name.
        start: [ns] time of the bag's first message.

    Attributes:
        commands: replayed so far.
        recorded: commands that the bag holds, as far as it was heard, each one once.
        faults: what was refused -> how often.
    """

    def __init__(self, table: OperatingPointTable, value: Value, start: int):
        self._table, self._value = table, value
        self._start = self._now = start
        self._manager = make_manager(self._seconds(), value, {NETWORK: table})
        self._ticks = 0  # decisions without input so far
        self._decisions_per_command = round(COMMAND_PERIOD / DECISION_PERIOD)
        self._answers = Answers()  # to the recorded command in force
        self._heard: list[tuple[float, str, str]] = []
        self.commands: list[Command] = []
        self.recorded: list[Command] = []
        self.faults: Counter[str] = Counter()
        self._decide()

    def advance(self, time: int) -> None:
        """Let the bag's clock run up to `time` [ns]."""
        period = round(DECISION_PERIOD * NANOSECONDS)
        while self._start + (self._ticks + 1) * period <= time:
            self._ticks += 1
            self._now = self._start + self._ticks * period
            self._decide()
            if self._ticks % self._decisions_per_command == 0 and self._decision.feasible != self.commands[-1].feasible:
                self._send()  # the point stays, but what is said about it does not
        self._now = max(self._now, time)

    def hear(self, topic: str, time: int, message: Any) -> None:
        """Take a message that was recorded at `time` [ns] on a topic of `MANAGER_TOPICS`."""
        self.advance(time)
        if topic == COMMAND:
            self._hear_command(message)
        elif topic == STATE:
            self._hear_state(message)
        else:
            fault = self._give(topic, message)
            if fault:
                self.faults[fault] += 1
            self._note(*_describe(topic, message))
            self._decide()

    def _give(self, topic: str, message: Any) -> str:
        manager, time = self._manager, self._seconds()
        if topic == "battery_state":
            return give_battery(manager, time, message)
        if topic == "temperature":
            return give_temperature(manager, time, message)
        if topic == "deadline":
            return give_deadline(manager, time, NETWORK, message)
        if topic == "target":
            return give_target(manager, time, NETWORK, message, self._value("min_rate"))
        return give_report(manager, time, NETWORK, message, self._answers)

    def inputs_at(self, time: float) -> str:
        """What was heard last on every input up to `time` [s since the start], for people."""
        newest = {name: (when, text) for when, name, text in self._heard if when <= time + 1e-9}
        return ", ".join(f"{name} {text} ({when:.3f} s)" for name, (when, text) in newest.items()) or "none"

    def _hear_command(self, message: Any) -> None:
        before = self._answers.command
        if before is not None and (before.sequence, before.header.stamp) == (message.sequence, message.header.stamp):
            return  # it is repeated every second
        self._answers.expect(message)
        point = message.operating_point
        reasons = [reason.value for reason in Reason]
        self.recorded.append(
            Command(
                self._since_start(),
                point.subnetwork,
                point.compute_element,
                point.cpu_frequency,
                point.gpu_frequency,
                _name(Reason(message.reason)) if message.reason in reasons else str(message.reason),
                message.feasible,
                message.detail,
            )
        )

    def _hear_state(self, message: Any) -> None:
        news = give_state(self._manager, self._seconds(), self._answers, message)
        if not news or message.result != OperatingPointState.RESULT_REJECTED:
            return
        point = self._answers.command.operating_point
        row = self._table.find(point.subnetwork, point.compute_element, point.cpu_frequency, point.gpu_frequency)
        if row is None:
            self.faults[f"rejected point {point.subnetwork} on {point.compute_element} is not in the table"] += 1
            return
        self._manager.reject(self._seconds(), NETWORK, row, REJECTED_FOR)
        self._note("rejected", f"{point.subnetwork} on {point.compute_element}")
        self._decide()

    def _decide(self) -> None:
        self._decision = self._manager.decide(self._seconds())[NETWORK]
        if not self.commands or self._decision.changed:
            self._send()

    def _send(self) -> None:
        decision: Decision = self._decision
        point = decision.point
        self.commands.append(
            Command(
                self._since_start(),
                point.subnetwork,
                point.compute_element,
                point.cpu_frequency,
                point.gpu_frequency,
                _name(decision.reason),
                decision.feasible,
                decision.detail,
            )
        )

    def _note(self, name: str, text: str) -> None:
        self._heard.append((self._since_start(), name, text))

    def _seconds(self) -> float:
        """Time [s] that decisions count in: as in the node, that of the clock itself."""
        return 1e-9 * self._now

    def _since_start(self) -> float:
        return 1e-9 * (self._now - self._start)


def _name(reason: Reason) -> str:
    return reason.name.lower().replace("_", " ")


def _describe(topic: str, message: Any) -> tuple[str, str]:
    """An input's name and value, for people."""
    if topic == "battery_state":
        return topic, f"{message.percentage:.3g}" if message.present or message.percentage > 0 else "mains"
    if topic == "temperature":
        return f"{topic} {zone_of(message)}", f"{message.temperature:g} C"
    if topic == "deadline":
        return topic, f"{seconds_of(message):g} s"
    if topic == "target":
        return topic, (
            f"max_latency {message.max_latency:g} s, max_energy {message.max_energy:g} J, max_power "
            f"{message.max_power:g} W, min_accuracy {message.min_accuracy:g}, objective {message.objective}"
        )
    around = message.end_to_end_duration - message.inference_duration
    return topic, (
        f"{message.subnetwork} on {message.compute_element}: {1e3 * message.inference_duration:.3g} ms and "
        f"{1e3 * around:.3g} ms around it"
    )
