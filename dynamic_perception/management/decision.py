"""A decision: which operating point, what it is predicted to do, and why."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from dynamic_perception.management.operating_points import OperatingPoint
from dynamic_perception.management.selection import Relaxed


class Reason(IntEnum):
    """Why the point changed; the values are those of OperatingPointCommand.msg."""

    STARTUP = 0
    TARGET = 1
    BATTERY = 2
    THERMAL = 3
    DEADLINE = 4
    CONTENTION = 5
    STALE_INPUT = 6
    MANUAL = 7


# Fields of the situation that can move the point, and the reason they stand for; the first that explains a move is it.
CAUSES = (
    (Reason.THERMAL, ("thermal_cap",)),
    (Reason.BATTERY, ("battery_cap",)),
    (Reason.DEADLINE, ("deadline",)),
    (Reason.TARGET, ("target",)),
    (Reason.CONTENTION, ("available",)),
    (Reason.CONTENTION, ("slow_down",)),
    (Reason.CONTENTION, ("overhead",)),
    (Reason.STALE_INPUT, ("battery_ignored", "fallback")),
)
USER_REASONS = (Reason.DEADLINE, Reason.TARGET)  # may change as often as the user likes


class Decision(NamedTuple):
    """The operating point to run, with what it is predicted to do now (NaN: not known)."""

    index: int  # row of the table
    point: OperatingPoint  # that row, as profiled
    expected_latency: float  # [s] one inference
    expected_end_to_end: float  # [s] with the overhead around it
    expected_power: float  # [W] while an inference runs
    expected_energy: float  # [J] of one inference
    expected_accuracy: float  # [0..1]
    deadline_probability: float  # [0..1] of meeting the deadline; 1 where there is none
    reason: Reason  # why this point was taken, when it was
    feasible: bool  # every limit is met
    relaxed: tuple[Relaxed, ...]  # the limits that are missed, and by how much; never the thermal one
    detail: str  # the reason in words, and what is missed
    changed: bool  # the decision before was for another point
