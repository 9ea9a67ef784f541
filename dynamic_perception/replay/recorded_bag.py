"""A bag as recorded runs, for the report: one run for every network whose `inference_report` was recorded.

Times are those of the stamps.  What has no stamp, such as a deadline, has the time at which it was recorded, moved by
what lies between both clocks, so that a bag of simulated time fits together too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from dynamic_perception.installation import PACKAGE
from dynamic_perception.management.manager import Reason
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.plausible import charge_of
from dynamic_perception.nodes.image_messages import decode_compressed, decode_image
from dynamic_perception.profiling.table_file import ProfileFile
from dynamic_perception.replay.bag import FILES, METADATA, Bag
from dynamic_perception.report.recorded_run import (
    Answer,
    Command,
    DeadlineChange,
    Frame,
    PhaseSpan,
    Picture,
    Reading,
    RecordedRun,
    list_changes,
)
from dynamic_perception.report.results_file import Results

RESULTS = ("applied", "partial", "rejected", "superseded")  # OperatingPointState.RESULT_*
MODELLED = "modelled"  # with which the name of a zone or battery begins that a model stands in for
PICTURES = 24  # frames at the most, two for a change: the last one before it and the first one after it
IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
ANSWERS = ("overlay", "segmentation", "truth")  # images that are not the camera's
REPORT = "inference_report"
HEARD = (
    REPORT,
    "operating_point/command",
    "operating_point/state",
    "deadline",
    "target",
    "battery_state",
    "temperature",
    "power",
    "classification",
)


class _Recorded(NamedTuple):
    time: float  # [s] when it was recorded
    topic: str
    kind: str
    message: Any


def is_bag(path: Path) -> bool:
    """Whether this looks like a bag: a file of a known ending, or a folder with one in it."""
    return path.suffix in FILES or (
        path.is_dir() and ((path / METADATA).exists() or any(True for ending in FILES for _ in path.glob(f"*{ending}")))
    )


def read_bag(path: Path, profile: ProfileFile | None = None) -> Results:
    """The runs of a bag.

    Args:
        profile: the operating points that were chosen among; a bag holds none.

    Raises:
        ValueError: it cannot be read, or holds no inference report.
    """
    with Bag(path) as bag:
        heard = list(_read(bag, lambda topic, kind: kind not in IMAGES and any(_is(topic, name) for name in HEARD)))
        networks = sorted({topic.removesuffix(REPORT) for _, topic, kind, _ in heard if _is(topic, REPORT)})
        if not networks:
            raise ValueError(f"{path}: expected messages of {PACKAGE}/msg/InferenceReport on a topic {REPORT}")
        table = None if profile is None else profile.table
        runs = [_Run(prefix, heard, table).read() for prefix in networks]
        for prefix, run in zip(networks, runs):
            if len(networks) > 1:
                run.title = f"{run.title}, {prefix.strip('/')}"
        _add_pictures(bag, networks, runs, heard)
        lost = [*dict.fromkeys(bag.lost), *(f"{count} messages: {text}" for text, count in bag.refused.items())]
    return Results(
        name=path.resolve().parent.name if path.is_file() else path.resolve().name,
        runs=tuple(runs),
        table=table,
        sources=_sources(runs[0], profile) | ({"damage of the bag": "; ".join(lost)} if lost else {}),
        machine={} if profile is None else {key: str(value) for key, value in profile.platform.items()},
    )


def _read(bag: Bag, wanted: Callable[[str, str], bool]) -> Iterator[_Recorded]:
    """Messages of the topics for which `wanted(topic, type)` holds, in the order of recording."""
    topics = [name for name, stored in bag.topics.items() if wanted(name, stored.msgtype)]
    for time, topic, message in bag.messages(topics):
        yield _Recorded(1e-9 * time, topic, bag.topics[topic].msgtype, message)


def _is(topic: str, name: str) -> bool:
    return topic == name or topic.endswith(f"/{name}")


def _stamp(message: Any) -> int:
    """[ns] of its header."""
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


class _Run:
    """Makes the run of one network; `prefix` is its namespace, with a slash at the end."""

    def __init__(self, prefix: str, heard: Sequence[_Recorded], table: OperatingPointTable | None):
        self._table = table
        self._of = {name: _nearest(prefix, name, heard) for name in HEARD}
        reports = self._of[REPORT]
        first = reports[0]
        self.start = 1e-9 * min(_stamp(report.message) for report in reports)
        # Stamps may be of another clock than the recorder's.
        answered = 1e-9 * _stamp(first.message) + first.message.end_to_end_duration
        self._behind = first.time - answered if abs(first.time - answered) > 60.0 else 0.0
        self.run = RecordedRun("recorded", bool(self._of["operating_point/command"]), (), "measured", "measured")

    def read(self) -> RecordedRun:
        """The run, without pictures."""
        run = self.run
        accuracies = self._add_commands()
        self._add_answers(accuracies)
        run.frames = [self._frame(one.message, accuracies) for one in self._of[REPORT]]
        run.frames.sort(key=lambda frame: frame.time)
        self._add_deadlines()
        run.temperatures, run.temperature_source = self._readings("temperature", lambda m: m.temperature)
        run.charges, run.battery_source = self._readings(
            "battery_state", lambda m: charge_of(m.percentage) if m.present or m.percentage > 0 else math.nan
        )
        run.powers, _ = self._readings("power", lambda m: m.power)
        run.energy_source = "unknown" if self._table is None else self._table.provenance.get("energy", "unknown")
        end = max(frame.time + frame.latency for frame in run.frames)  # until the last answer
        run.phases = (PhaseSpan("recording", "As it was recorded.", 0.0, end),)
        run.title = "with the manager" if run.managed else "recorded"
        return run

    def _time(self, one: _Recorded) -> float:
        """[s] since the start; what was said before the first frame holds from it on."""
        stamped = hasattr(one.message, "header") and _stamp(one.message) > 0
        time = 1e-9 * _stamp(one.message) if stamped else one.time - self._behind
        return max(0.0, time - self.start)

    def _add_commands(self) -> dict[tuple[str, str], float]:
        """The commands, each once; accuracies that they promise, by subnetwork and element."""
        accuracies, seen = {}, set()
        for one in self._of["operating_point/command"]:
            message, point = one.message, one.message.operating_point
            accuracies[point.subnetwork, point.compute_element] = point.expected_accuracy
            if message.sequence in seen:
                continue  # it is repeated every second
            seen.add(message.sequence)
            self.run.commands.append(
                Command(
                    self._time(one),
                    message.sequence,
                    point.subnetwork,
                    point.compute_element,
                    _reason(message.reason),
                    bool(message.feasible),
                    message.detail,
                    point.cpu_frequency,
                    point.gpu_frequency,
                )
            )
        return accuracies

    def _add_answers(self, accuracies: dict[tuple[str, str], float]) -> None:
        seen = set()
        for one in self._of["operating_point/state"]:
            message, actual = one.message, one.message.actual
            if not math.isnan(actual.expected_accuracy):
                accuracies.setdefault((actual.subnetwork, actual.compute_element), actual.expected_accuracy)
            key = message.sequence, message.result, actual.cpu_frequency, actual.gpu_frequency
            if key not in seen:
                seen.add(key)
                result = RESULTS[message.result] if message.result < len(RESULTS) else f"result {message.result}"
                self.run.answers.append(
                    Answer(
                        self._time(one),
                        message.sequence,
                        result,
                        message.message,
                        message.switch_duration,
                        actual.cpu_frequency,
                        actual.gpu_frequency,
                    )
                )

    def _frame(self, report: Any, accuracies: Mapping[tuple[str, str], float]) -> Frame:
        energy, accuracy = report.energy, accuracies.get((report.subnetwork, report.compute_element), math.nan)
        row = None if self._table is None else self._table.find(report.subnetwork, report.compute_element)
        if row is not None:
            energy = float(self._table.energy[row]) if math.isnan(energy) else energy
            accuracy = float(self._table.accuracy[row])
        return Frame(
            1e-9 * _stamp(report) - self.start,
            report.end_to_end_duration,
            report.inference_duration,
            report.subnetwork,
            report.compute_element,
            bool(report.deadline_met),
            int(report.skipped_frames),
            energy,
            accuracy,
        )

    def _add_deadlines(self) -> None:
        changes = [(self._time(one), one.message.sec + 1e-9 * one.message.nanosec) for one in self._of["deadline"]]
        changes += [(self._time(one), one.message.max_latency) for one in self._of["target"]]
        for time, deadline in sorted(changes, key=lambda change: change[0]):
            self.run.deadlines.append(DeadlineChange(time, deadline if deadline > 0 else math.nan))

    def _readings(self, name: str, value: Callable[[Any], float]) -> tuple[list[Reading], str]:
        """Readings, and whether they are measured or modelled."""
        readings = [
            Reading(self._time(one), one.message.header.frame_id, float(value(one.message))) for one in self._of[name]
        ]
        modelled = any(reading.zone.startswith(MODELLED) for reading in readings)
        return readings, "modelled" if modelled else "measured"


def _nearest(prefix: str, name: str, heard: Sequence[_Recorded]) -> list[_Recorded]:
    """Messages on the topic `name` of the namespace, or of the one that has the most in common with it.

    What a network says and is told must be its own; sensors and targets may be those of all.
    """
    of_network = (REPORT, "operating_point/command", "operating_point/state", "classification")
    topics = {one.topic for one in heard if _is(one.topic, name)}
    if name in of_network or f"{prefix}{name}" in topics:
        topic = f"{prefix}{name}"
    else:
        parts = prefix.split("/")
        topic = max(sorted(topics), default="", key=lambda other: sum(a == b for a, b in zip(parts, other.split("/"))))
    return [one for one in heard if one.topic == topic]


def _reason(number: int) -> str:
    return Reason(number).name.lower().replace("_", " ") if number in list(Reason) else f"reason {number}"


def _sources(run: RecordedRun, profile: ProfileFile | None) -> dict[str, str]:
    energy = (
        "as the inference reports say it; the bag does not say how it was found: name the operating points with --table"
        if profile is None
        else f"{run.energy_source}: of a frame's operating point, as the table has it"
    )
    return {
        "latency, misses": "measured: from a frame's stamp to its published answer, by the perception node",
        "energy": energy,
        "temperature, battery": "as recorded; those of a zone or a battery whose name begins with 'modelled' come "
        "from a model",
        "accuracy": "as commands and operating points say it, per subnetwork; not on the frames of this run",
    }


# Frames at the moments of change --------------------------------------------------------------------------------


def _add_pictures(bag: Bag, networks: Sequence[str], runs: Sequence[RecordedRun], heard: Sequence[_Recorded]) -> None:
    """The frames around the changes, as far as the bag holds the camera's images."""
    stamps = {
        prefix: {1e-9 * _stamp(one.message): _stamp(one.message) for one in heard if one.topic == prefix + REPORT}
        for prefix in networks
    }
    wanted: dict[int, list[tuple[RecordedRun, str, Frame]]] = {}
    for prefix, run in zip(networks, runs):
        start = min(stamps[prefix])
        by_time = {time - start: stamp for time, stamp in stamps[prefix].items()}
        for frame in _frames_around_changes(run):
            wanted.setdefault(by_time[frame.time], []).append((run, prefix, frame))
    images: dict[int, np.ndarray] = {}
    answers: dict[tuple[int, str], np.ndarray] = {}
    for one in _read(bag, lambda topic, kind: kind in IMAGES) if wanted else ():
        stamp = _stamp(one.message)
        if stamp not in wanted:
            continue
        if any(_is(one.topic, name) for name in ANSWERS):
            if _is(one.topic, "overlay"):
                answers[stamp, one.topic] = _to_rgb(one)
        else:
            images.setdefault(stamp, _to_rgb(one))
    labels = {(_stamp(one.message), one.topic): one.message for one in heard if _is(one.topic, "classification")}
    for stamp, places in sorted(wanted.items()):
        for run, prefix, frame in places if stamp in images else ():
            answer = labels.get((stamp, f"{prefix}classification"))
            run.pictures.append(
                Picture(
                    frame.time,
                    images[stamp],
                    frame.subnetwork,
                    tuple(answer.labels) if answer else (),
                    tuple(map(float, answer.scores)) if answer else (),
                    answers.get((stamp, f"{prefix}overlay")),
                )
            )


def _frames_around_changes(run: RecordedRun) -> list[Frame]:
    """The last frame before and the first after each change, of evenly chosen changes where there are many."""
    times = [frame.time for frame in run.frames]
    changes = list_changes(run)
    if len(changes) > PICTURES // 2:
        changes = [changes[place] for place in np.linspace(0, len(changes) - 1, PICTURES // 2).astype(int)]
    numbers = {
        number
        for change in changes
        for after in [int(np.searchsorted(times, change.time))]
        for number in (after - 1, after)
        if 0 <= number < len(times)
    }
    return [run.frames[number] for number in sorted(numbers)]


def _to_rgb(one: _Recorded) -> np.ndarray:
    pixels, to_rgb = decode_image(one.message) if one.kind == IMAGES[0] else decode_compressed(one.message)
    return pixels if to_rgb is None else cv2.cvtColor(pixels, to_rgb)
