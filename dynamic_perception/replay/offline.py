"""A bag replayed without DDS, as fast as this machine allows: messages to the manager, frames to the network.

The way of a message: `_feed` (a thread) reads, decodes and gives it to `ManagerReplay`; a frame is prepared there, by
the node's own function, for the subnetwork that is commanded at its time -> a short queue -> `_run`: the network.
So reading and preparing the next frames takes no time from the network but that of a CPU.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dynamic_perception.engines.engine import Answer, Engine
from dynamic_perception.engines.scaling import scale_labels
from dynamic_perception.engines.selection import AUTO, open_engine
from dynamic_perception.hardware.compute_element import (
    ComputeElement,
    discover_elements,
    find_element,
    platform_fingerprint,
)
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes.image_messages import ImageRefused, PreparedFrame, decode_image, prepare_frame
from dynamic_perception.nodes.manager_inputs import read_profile, seconds_of
from dynamic_perception.profiling.table_choice import measured_engine
from dynamic_perception.replay.bag import Bag
from dynamic_perception.replay.manager_replay import NETWORK, Command, ManagerReplay
from dynamic_perception.replay.topics import BagTopics, find_topics
from dynamic_perception.report.progress import progress_bar
from dynamic_perception.training.segmentation_score import count_confusion, mean_iou

QUEUED_FRAMES = 4
KEPT_TRUTHS = 30  # answers, or truths, that wait for their counterpart

OnAnswer = Callable[["ReplayedFrame", Answer], None]


class ReplayedFrame(NamedTuple):
    """One frame that the network has answered to."""

    time: float  # [s] since the bag's first message
    stamp: int  # [ns] of its header
    size: tuple[int, int]  # height and width [pixel]
    subnetwork: str
    compute_element: str
    prepare_duration: float  # [s] decoding and scaling, here
    inference_duration: float  # [s] the network, here
    deadline: float  # [s] in force at its time; 0: none

    @property
    def deadline_met(self) -> bool:
        """Whether what it took here is within the deadline; true where there is none."""
        return self.deadline == 0 or self.prepare_duration + self.inference_duration <= self.deadline


@dataclass
class Replay:
    """What came of replaying a bag.

    Attributes:
        bag: its path.
        duration: [s] of the bag.
        commands: that the manager gave; empty if all frames ran at one point.
        recorded: commands that the bag holds.
        inputs_at: what the manager had heard at a time [s], for people.
        frames: in their order.
        reports, reports_missed: recorded reports, and those of a missed deadline.
        mean_iou: [0..1] against the bag's `truth`; NaN where there is none.
        wall_time: [s] that it took, without what making points ready did.
        refused: what could not be used -> how often.
        notes: what to know about the result, in sentences.
        lost: what of the bag cannot be read, in sentences.
    """

    bag: Path
    duration: float
    commands: list[Command] = field(default_factory=list)
    recorded: list[Command] = field(default_factory=list)
    inputs_at: Callable[[float], str] = lambda time: "none"
    frames: list[ReplayedFrame] = field(default_factory=list)
    reports: int = 0
    reports_missed: int = 0
    mean_iou: float = math.nan
    wall_time: float = 0.0
    refused: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)

    @property
    def missed(self) -> float:
        """[0..1] share of the frames that took longer here than their deadline; 0 without frames."""
        return sum(not frame.deadline_met for frame in self.frames) / max(1, len(self.frames))


@dataclass(frozen=True)
class ReplayOptions:
    """How to replay.

    Attributes:
        parameters: of the nodes, by name (`read_parameters`).
        namespace: of the perception node, for bags of several.
        image_topic: of the frames, where it has another name.
        subnetwork: run every frame with it, and no manager; empty: as commanded.
        element: run every frame on it; empty: as commanded, or without a manager as the node starts.
        frames: whether frames run at all.
    """

    parameters: Mapping[str, Any]
    namespace: str = ""
    image_topic: str | None = None
    subnetwork: str = ""
    element: str = ""
    frames: bool = True


class _Frame(NamedTuple):
    """A frame on its way to the network."""

    time: int  # [ns]
    stamp: int  # [ns]
    frame: PreparedFrame
    subnetwork: str
    element: ComputeElement
    duration: float  # [s] of preparing
    deadline: float  # [s]


class _Truth(NamedTuple):
    stamp: int  # [ns]
    labels: np.ndarray


def replay(path: Path, options: ReplayOptions, on_answer: OnAnswer | None = None) -> Replay:
    """Replay a bag.

    Args:
        path: of the bag.
        options: how.
        on_answer: gets every frame with its answer; a label map has the size of the network's input.

    Raises:
        ValueError: the bag, or what is to be used with it, cannot be read or does not fit; says what was expected.
    """
    with Bag(path) as bag:
        topics = find_topics(bag.topics, options.namespace, options.image_topic)
        run = _Run(bag, topics, options)
        try:
            return run.play(on_answer)
        finally:
            run.close()


class _Run:
    """One replay; `_feed` runs in a thread of its own and owns the bag and the manager until it ends."""

    def __init__(self, bag: Bag, topics: BagTopics, options: ReplayOptions):
        self._bag, self._topics, self._options = bag, topics, options
        self._value = options.parameters.__getitem__
        self._result = Replay(bag.path, 1e-9 * (bag.end - bag.start))
        self._manager: ManagerReplay | None = None
        self._engine: Engine | None = None
        self._ready_duration = 0.0  # [s] that making points ready took
        self._deadline = self._value("deadline")
        if options.subnetwork or not topics.manager:
            self._bundle = read_bundle(find_bundle(self._value("model")))
        else:
            self._make_manager()
        self._truth = topics.truth if self._bundle.task == "segmentation" else None
        self._elements = {element.name: element for element in discover_elements()}
        self._runs_frames = options.frames and topics.image is not None
        if not self._runs_frames and self._manager is None:
            raise ValueError(
                f"{bag.path} has neither frames nor messages for the resource manager: it has "
                f"{', '.join(bag.topics) or 'no topics'}"
            )
        if options.element:
            find_element(self._elements.values(), options.element)
        self._fixed = self._bundle.subnetwork(options.subnetwork).name if options.subnetwork else ""
        self._substituted: Counter[str] = Counter()
        self._note_topics()

    def _make_manager(self) -> None:
        namespaces = self._value("namespaces")
        if any(namespaces):
            raise ValueError(
                f"parameter 'namespaces' is {namespaces}: what is decided for several networks together "
                "cannot be replayed offline; expected one empty name, --subnetwork, or --live"
            )
        self._bundle, path, table, forced = read_profile(self._value, NETWORK)
        self._result.notes += [f"{path} {difference}: taken because of force_profile" for difference in forced]
        self._manager = ManagerReplay(table, self._value, self._bag.start)

    def close(self) -> None:
        """Free the engine."""
        if self._engine is not None:
            self._engine.close()

    def play(self, on_answer: OnAnswer | None) -> Replay:
        """The whole bag."""
        result = self._result
        if self._runs_frames:
            asked = self._value("engine")
            name = asked if asked != AUTO else measured_engine(self._bundle, platform_fingerprint())
            self._engine = open_engine(name, self._bundle, self._value("engine.memory_budget"))
        score = _Score(len(self._bundle.labels))
        with progress_bar() as bar:
            task = bar.add_task("replaying [s]", total=round(result.duration, 1))
            began = time.perf_counter()
            for item in _prefetch(self._feed(), QUEUED_FRAMES):
                if isinstance(item, _Truth):
                    score.take_truth(item.stamp, item.labels)
                else:
                    frame, answer = self._run(item)
                    result.frames.append(frame)
                    if self._truth is not None:
                        score.take_answer(frame.stamp, scale_labels(answer, frame.size))
                    if on_answer is not None:
                        on_answer(frame, answer)
                    bar.update(task, completed=round(frame.time, 1))
            result.wall_time = time.perf_counter() - began - self._ready_duration
            bar.update(task, completed=round(result.duration, 1))
        result.mean_iou = score.mean_iou
        result.notes += [
            f"{count} frames were commanded to {element}, which this machine has not: they ran on "
            f"{self._start_element().name}"
            for element, count in self._substituted.items()
        ]
        result.lost = self._bag.lost + [f"{count} messages: {text}" for text, count in self._bag.refused.items()]
        if self._manager is not None:
            result.commands, result.recorded = self._manager.commands, self._manager.recorded
            result.inputs_at = self._manager.inputs_at
            result.refused += self._manager.faults
        return result

    # The thread that reads ---------------------------------------------------------------------------------------

    def _feed(self) -> Iterator[_Frame | _Truth]:
        names = (
            set(self._topics.manager)
            if self._manager is not None
            else {
                name
                for name, short in self._topics.manager.items()
                if short in ("deadline", "target", "inference_report")
            }
        )
        if self._runs_frames:
            names |= {name for name in (self._topics.image, self._truth) if name is not None}
        for time_, topic, message in self._bag.messages(names):
            if topic in (self._topics.image, self._truth):
                try:
                    yield (
                        self._prepare(time_, message)
                        if topic == self._topics.image
                        else _Truth(_stamp(message), decode_image(message)[0])
                    )
                except ImageRefused as refusal:
                    self._result.refused[f"{topic}: {refusal}"] += 1
            else:
                self._hear(self._topics.manager[topic], time_, message)
        if self._manager is not None:
            self._manager.advance(self._bag.end)

    def _hear(self, topic: str, time_: int, message: Any) -> None:
        if topic == "inference_report":
            self._result.reports += 1
            self._result.reports_missed += not message.deadline_met
        elif topic in ("deadline", "target"):
            seconds = seconds_of(message) if topic == "deadline" else message.max_latency
            if 0 <= seconds < math.inf or math.isnan(seconds):  # as the perception node; others stay without effect
                self._deadline = 0.0 if math.isnan(seconds) else seconds
        if self._manager is not None:
            self._manager.hear(topic, time_, message)

    def _prepare(self, time_: int, message: Any) -> _Frame:
        subnetwork, element = self._point_at(time_)
        started = time.perf_counter()
        frame = prepare_frame(message, self._bundle.input_size(subnetwork))
        return _Frame(time_, _stamp(message), frame, subnetwork, element, time.perf_counter() - started, self._deadline)

    def _point_at(self, time_: int) -> tuple[str, ComputeElement]:
        if self._manager is None:
            subnetwork = self._fixed or self._value("start_subnetwork") or self._bundle.subnetworks[-1].name
            return subnetwork, self._start_element()
        self._manager.advance(time_)
        command = self._manager.commands[-1]
        if self._options.element:
            return command.subnetwork, self._start_element()
        if command.compute_element not in self._elements:
            self._substituted[command.compute_element] += 1
            return command.subnetwork, self._start_element()
        return command.subnetwork, self._elements[command.compute_element]

    def _start_element(self) -> ComputeElement:
        """What is asked for; else, as in the node, the first cluster with all its threads."""
        asked = self._options.element or self._value("start_element")
        if asked:
            return find_element(self._elements.values(), asked)
        first = next(iter(self._elements.values())).cluster
        return [element for element in self._elements.values() if element.cluster == first][-1]

    # The thread that infers --------------------------------------------------------------------------------------

    def _run(self, item: _Frame) -> tuple[ReplayedFrame, Answer]:
        engine = self._engine
        if not engine.is_ready(item.subnetwork, item.element):
            began = time.perf_counter()
            engine.make_ready(item.subnetwork, item.element, self._value("warm_up_runs"))
            self._ready_duration += time.perf_counter() - began
        engine.activate(item.subnetwork, item.element)
        started = time.perf_counter()
        answer = engine.run(item.frame.image)
        ended = time.perf_counter()
        since_start = 1e-9 * (item.time - self._bag.start)
        return ReplayedFrame(
            since_start,
            item.stamp,
            item.frame.size,
            item.subnetwork,
            item.element.name,
            item.duration,
            ended - started,
            item.deadline,
        ), answer

    def _note_topics(self) -> None:
        names = set(self._topics.manager.values())
        if self._manager is not None and "inference_report" not in names:
            self._result.notes.append(
                "the bag has no inference_report: the manager decides without knowing how fast the machine was"
            )
        if self._manager is not None and "operating_point/command" not in names and "operating_point/state" in names:
            self._result.notes.append(
                "the bag has operating_point/state but no operating_point/command: which command "
                "was rejected is not known"
            )
        for topic in self._topics.manager:
            missing = self._bag.decoder(topic).new_fields
            if missing:
                self._result.notes.append(f"{topic} was recorded by an older version; not known: {', '.join(missing)}")


class _Score:
    """Compares label maps with the truth of the same stamp, whichever comes first."""

    def __init__(self, classes: int):
        self._classes = classes
        self._confusion = np.zeros((classes, classes), np.int64)
        self._waiting: tuple[OrderedDict[int, np.ndarray], OrderedDict[int, np.ndarray]] = OrderedDict(), OrderedDict()

    @property
    def mean_iou(self) -> float:
        """[0..1]; NaN if nothing was compared."""
        return mean_iou(self._confusion) if self._confusion.any() else math.nan

    def take_truth(self, stamp: int, labels: np.ndarray) -> None:
        """Label map of a frame."""
        self._take(stamp, labels, own=0)

    def take_answer(self, stamp: int, labels: np.ndarray) -> None:
        """The network's answer to a frame, in its size."""
        self._take(stamp, labels, own=1)

    def _take(self, stamp: int, labels: np.ndarray, own: int) -> None:
        mine, others = self._waiting[own], self._waiting[1 - own]
        mine[stamp] = labels
        if stamp in others:
            del mine[stamp]
            pair = (labels, others.pop(stamp))[:: 1 if own == 0 else -1]
            self._confusion += count_confusion(*pair, self._classes)
        while len(mine) > KEPT_TRUTHS:
            mine.popitem(last=False)


def _stamp(message: Any) -> int:
    return 10**9 * message.header.stamp.sec + message.header.stamp.nanosec


def _prefetch(items: Iterator[Any], depth: int) -> Iterator[Any]:
    """The same items, produced by a thread that is up to `depth` ahead; its exception comes out here."""
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(depth)
    end, abandoned = object(), threading.Event()

    def produce() -> None:
        try:
            for item in items:
                while not abandoned.is_set():
                    try:
                        ready.put((item, None), timeout=0.1)
                        break
                    except queue.Full:
                        pass
                if abandoned.is_set():
                    return
            last = end, None
        except BaseException as error:  # whatever it is, the consumer gets it
            last = end, error
        while not abandoned.is_set():
            try:
                return ready.put(last, timeout=0.1)
            except queue.Full:
                pass

    thread = threading.Thread(target=produce, name="replay-reader", daemon=True)
    thread.start()
    try:
        while True:
            item, error = ready.get()
            if item is end:
                if error is not None:
                    raise error
                return
            yield item
    finally:
        abandoned.set()
        thread.join()
