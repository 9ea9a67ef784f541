"""What was seen of one run, as plain data, and its numbers per phase."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from dynamic_perception.training.segmentation_score import mean_iou

RECENT = 2.0  # [s] over which live numbers are taken


@dataclass(frozen=True)
class Frame:
    """One processed frame; times are seconds since the start of the run."""

    time: float  # [s] of its stamp
    latency: float  # [s] from stamp to answer
    inference: float  # [s] the network alone
    subnetwork: str
    element: str
    met: bool  # its deadline
    skipped: int  # frames that were replaced by newer ones before it, and never answered
    energy: float  # [J] of the inference; the run's energy_source says how it is known; NaN: not known
    accuracy: float  # [0..1] of the subnetwork, as the bundle gives it
    cpu_frequency: float = math.nan  # [Hz] as read back when the point came into force; NaN: not known


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
    cpu_frequency: float = math.nan  # [Hz] NaN or 0: left alone
    gpu_frequency: float = math.nan  # [Hz] alike


@dataclass(frozen=True)
class Answer:
    """The perception node's answer to a command."""

    time: float  # [s]
    sequence: int
    result: str  # applied, partial, rejected, superseded
    message: str
    switch_duration: float  # [s] NaN: nothing was switched
    cpu_frequency: float = math.nan  # [Hz] as read back; NaN: not known
    gpu_frequency: float = math.nan  # [Hz] alike


@dataclass(frozen=True)
class Reading:
    """One value of a sensor: a temperature [°C], a state of charge [0..1] (NaN: on mains) or a power [W] of a rail."""

    time: float  # [s]
    zone: str  # or battery, or rail
    value: float


@dataclass(frozen=True)
class DeadlineChange:
    """A deadline [s] that holds from `time` on."""

    time: float
    deadline: float


@dataclass(frozen=True, eq=False)
class Score:
    """How the answer to one frame compares with the truth."""

    time: float  # [s] of the frame's stamp
    confusion: np.ndarray  # pixels by true (row) and answered (column) class, [classes, classes]


@dataclass(frozen=True, eq=False)
class Picture:
    """A frame ([H, W, 3] uint8, RGB) with its answer: the best labels and their scores, or labels of all pixels."""

    time: float  # [s]
    image: np.ndarray
    subnetwork: str
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()
    overlay: np.ndarray | None = None  # [H, W, 3] uint8, RGB: the frame under the colours of its classes
    truth: np.ndarray | None = None  # [H, W] uint8: class numbers; None: not known
    mean_iou: float = math.nan  # [0..1] of this frame; NaN: not known


@dataclass(frozen=True)
class PhaseSpan:
    """A part of the run."""

    name: str
    text: str
    start: float  # [s]
    end: float  # [s]


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
        energy_source: how the energy of a frame is known: "measured", "modelled", "published" or "unknown".
        iou_source: what the mean IoU of the answers is measured against, for people; empty: nobody knows the truth.
        clock_source: what sets the clock, for people; empty: nothing does.
    """

    title: str
    managed: bool
    phases: tuple[PhaseSpan, ...]
    temperature_source: str
    battery_source: str
    iou_source: str = ""
    energy_source: str = "modelled"
    clock_source: str = ""
    frames: list[Frame] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    deadlines: list[DeadlineChange] = field(default_factory=list)
    temperatures: list[Reading] = field(default_factory=list)
    charges: list[Reading] = field(default_factory=list)
    powers: list[Reading] = field(default_factory=list)  # measured: nothing models a rail
    pictures: list[Picture] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)

    def phase_at(self, time: float) -> PhaseSpan:
        """The phase that `time` [s] falls into; before the start the first, after the end the last."""
        return next((phase for phase in self.phases if time < phase.end), self.phases[-1])


def list_changes(run: RecordedRun) -> list[Command]:
    """The commands that changed the operating point; others only say that a limit came or went."""
    points = [(c.subnetwork, c.element, _set_clock(c.cpu_frequency), _set_clock(c.gpu_frequency)) for c in run.commands]
    return [command for before, point, command in zip([None, *points], points, run.commands) if point != before]


def describe_point(subnetwork: str, element: str, cpu_frequency: float) -> str:
    """An operating point for people; `cpu_frequency` [Hz], 0 or NaN: not worth a word."""
    return f"{subnetwork} on {element}" + (f" at {cpu_frequency / 1e6:.0f} MHz" if cpu_frequency > 0 else "")


def _set_clock(frequency: float) -> float:
    return frequency if frequency > 0 else 0.0


def measure_iou(run: RecordedRun, start: float, end: float) -> float:
    """Mean IoU [0..1] of the answers to frames of `start` <= time < `end` [s] together; NaN if none was scored."""
    confusions = [score.confusion for score in run.scores if start <= score.time < end]
    return mean_iou(np.sum(confusions, axis=0)) if confusions else math.nan


def iou_series(run: RecordedRun) -> tuple[np.ndarray, np.ndarray]:
    """Times [s] of the scored frames, and the mean IoU [0..1] of the RECENT seconds up to each."""
    times = np.array([score.time for score in run.scores])
    if not len(times):
        return times, times
    order = np.argsort(times, kind="stable")
    times = times[order]
    sums = np.cumsum([np.zeros_like(run.scores[0].confusion), *(run.scores[i].confusion for i in order)], axis=0)
    starts = np.searchsorted(times, times - RECENT, side="right")
    return times, np.array([mean_iou(sums[end] - sums[start]) for end, start in enumerate(starts, start=1)])


@dataclass(frozen=True)
class PhaseSummary:
    """One phase in numbers; NaN where there was no frame.

    A miss is an answer after its deadline, or no answer at all because newer frames came first.
    """

    phase: str
    frames: int  # answered or skipped
    misses: int
    latency_median: float  # [s]
    latency_p95: float  # [s]
    accuracy: float  # [0..1] mean over the answered frames
    latency_p99: float  # [s]
    energy: float  # [J] mean of an answered frame whose energy is known
    hottest: float  # [°C]
    charge_end: float  # [0..1]
    mean_iou: float  # [0..1] of the answers of this phase; NaN: nobody knows the truth

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
        accuracy=_mean_of_known([frame.accuracy for frame in frames]),
        latency_p99=float(np.quantile(latencies, 0.99)) if len(frames) else math.nan,
        energy=_mean_of_known([frame.energy for frame in frames]),
        hottest=max(temperatures, default=math.nan),
        charge_end=charges[-1] if charges else math.nan,
        mean_iou=measure_iou(run, span.start, span.end),
    )


def _mean_of_known(values: list[float]) -> float:
    """NaN where none is known."""
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
