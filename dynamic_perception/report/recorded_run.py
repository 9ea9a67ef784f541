"""What was seen of one run, as plain data, and its numbers per phase."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Mapping

import numpy as np


@dataclass(frozen=True)
class Frame:
    """One processed frame; times are seconds since the start of the run."""

    time: float        # [s] of its stamp
    latency: float     # [s] from stamp to answer
    inference: float   # [s] the network alone
    subnetwork: str
    element: str
    met: bool          # its deadline
    skipped: int       # frames that were replaced by newer ones before it, and never answered
    energy: float      # [J] of the operating point, as the profile gives it
    accuracy: float    # [0..1] of the subnetwork, as the bundle gives it


@dataclass(frozen=True)
class Command:
    """One decision of the manager."""

    time: float  # [s]
    sequence: int
    subnetwork: str
    element: str
    reason: str
    feasible: bool
    detail: str


@dataclass(frozen=True)
class Answer:
    """The perception node's answer to a command."""

    time: float  # [s]
    sequence: int
    result: str  # applied, partial, rejected, superseded
    message: str
    switch_duration: float  # [s] NaN: nothing was switched


@dataclass(frozen=True)
class Reading:
    """One value of a sensor: a temperature [°C] or a state of charge [0..1] (NaN: on mains)."""

    time: float  # [s]
    zone: str
    value: float


@dataclass(frozen=True)
class DeadlineChange:
    """A deadline [s] that holds from `time` on."""

    time: float
    deadline: float


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame ([H, W, 3] uint8, RGB) with its answer."""

    time: float  # [s]
    image: np.ndarray
    subnetwork: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class PhaseSpan:
    """A part of the run."""

    name: str
    text: str
    start: float  # [s]
    end: float    # [s]


@dataclass(frozen=True)
class Limits:
    """What the manager keeps temperature [°C] and charge [0..1] to."""

    switch_on: float
    control: float
    critical: float
    battery_thresholds: tuple[float, ...]


@dataclass
class RecordedRun:
    """Everything that was seen of one run, in the order in which it came.

    Attributes:
        title: for people.
        managed: whether a resource manager ran; otherwise the largest subnetwork was fixed.
        phases: one after the other without gaps.
        temperature_source, battery_source: "measured" or "modelled".
    """

    title: str
    managed: bool
    phases: tuple[PhaseSpan, ...]
    temperature_source: str
    battery_source: str
    frames: list[Frame] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    deadlines: list[DeadlineChange] = field(default_factory=list)
    temperatures: list[Reading] = field(default_factory=list)
    charges: list[Reading] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)

    def phase_at(self, time: float) -> PhaseSpan:
        """The phase that `time` [s] falls into; before the start the first, after the end the last."""
        return next((phase for phase in self.phases if time < phase.end), self.phases[-1])


def list_changes(run: RecordedRun) -> list[Command]:
    """The commands that changed the operating point; others only say that a limit came or went."""
    points = [None, *((command.subnetwork, command.element) for command in run.commands)]
    return [command for before, command in zip(points, run.commands) if (command.subnetwork, command.element) != before]


@dataclass(frozen=True)
class PhaseSummary:
    """One phase in numbers; NaN where there was no frame.

    A miss is an answer after its deadline, or no answer at all because newer frames came first.
    """

    phase: str
    frames: int           # answered or skipped
    misses: int
    latency_median: float  # [s]
    latency_p95: float     # [s]
    accuracy: float       # [0..1] mean over the answered frames
    energy: float         # [J] mean of an answered frame, modelled
    hottest: float        # [°C]
    charge_end: float     # [0..1]

    @property
    def miss_rate(self) -> float:
        """[0..1]; NaN without frames."""
        return self.misses / self.frames if self.frames else math.nan


def summarise(run: RecordedRun) -> list[PhaseSummary]:
    """One summary for every phase, and one named "whole run" at the end."""
    whole = PhaseSpan("whole run", "", 0.0, run.phases[-1].end)
    return [_summarise(run, span) for span in (*run.phases, whole)]


def _summarise(run: RecordedRun, span: PhaseSpan) -> PhaseSummary:
    frames = [frame for frame in run.frames if span.start <= frame.time < span.end]
    skipped = sum(frame.skipped for frame in frames)
    latencies = np.array([frame.latency for frame in frames])
    temperatures = [reading.value for reading in run.temperatures if span.start <= reading.time < span.end]
    charges = [reading.value for reading in run.charges if reading.time < span.end]
    return PhaseSummary(
        phase=span.name,
        frames=len(frames) + skipped,
        misses=sum(not frame.met for frame in frames) + skipped,
        latency_median=float(np.median(latencies)) if len(frames) else math.nan,
        latency_p95=float(np.quantile(latencies, 0.95)) if len(frames) else math.nan,
        accuracy=float(np.mean([frame.accuracy for frame in frames])) if frames else math.nan,
        energy=float(np.mean([frame.energy for frame in frames])) if frames else math.nan,
        hottest=max(temperatures, default=math.nan),
        charge_end=charges[-1] if charges else math.nan,
    )


def to_plain(run: RecordedRun) -> dict[str, Any]:
    """The run as JSON can hold it: every series by column, with the unit in the column's name; NaN becomes None."""
    units: Mapping[str, str] = {
        "time": "time_s", "latency": "latency_s", "inference": "inference_s", "energy": "energy_J",
        "switch_duration": "switch_duration_s", "deadline": "deadline_s", "start": "start_s", "end": "end_s"}
    series = {name: getattr(run, name) for name in ("phases", "frames", "commands", "answers", "deadlines")}
    plain: dict[str, Any] = {
        "title": run.title, "managed": run.managed, "temperature_source": run.temperature_source,
        "battery_source": run.battery_source}
    for name, rows in series.items():
        columns = list(rows[0].__dataclass_fields__) if rows else []
        plain[name] = {units.get(column, column): [_plain(getattr(row, column)) for row in rows] for column in columns}
    for name, unit in (("temperatures", "celsius"), ("charges", "charge")):
        rows = getattr(run, name)
        plain[name] = {"time_s": [_plain(row.time) for row in rows], "zone": [row.zone for row in rows],
                       unit: [_plain(row.value) for row in rows]}
    return plain


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 7)
    return value
