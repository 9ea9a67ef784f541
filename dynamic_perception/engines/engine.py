"""What every engine can do: run one subnetwork on one compute element, and switch between those that are ready.

A *point* here is a subnetwork on a compute element.  An engine holds what is ready to run of several points, so that a
switch is only an assignment.  What they hold together stays under a budget: the point that was not used for longest is
dropped, and built again by a thread of the engine's own when somebody asks for it, while another one goes on running.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import ClassVar, NamedTuple

import numpy as np

from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import FLOAT32, PRECISIONS, ModelBundle, Subnetwork

MEMORY_BUDGET = 256 * 2**20  # [byte]
BRIEF = 2e-3  # [s] an inference that takes longer hardly notices where its weights come from
Point = tuple[str, str]  # names of subnetwork and compute element


def on_gpu(element: ComputeElement) -> bool:
    """Whether an element is a GPU: its cluster is called "gpu..."."""
    return element.cluster.startswith("gpu")


class Ranking(NamedTuple):
    """A classifier's answer.

    Attributes:
        classes: int64 [classes], class numbers, the best first.
        scores: float32 [classes], their softmax, falling.
    """

    classes: np.ndarray
    scores: np.ndarray


Answer = Ranking | np.ndarray  # of a segmenter the best class of every pixel of the input, uint8 [H, W]


class Ready(NamedTuple):
    """What runs a point: both take an RGB image, uint8 [H, W, 3] of the subnetwork's input size, C-contiguous.

    Attributes:
        run: gives the answer.
        logits: gives what the answer comes from, float32: [classes], or [1, classes, h, w] before interpolation.
    """

    run: Callable[[np.ndarray], Answer]
    logits: Callable[[np.ndarray], np.ndarray]


def ready_graph(task: str, infer: Callable[..., Sequence[np.ndarray]]) -> Ready:
    """What runs the graph of a bundle of that task; `infer(image, *names)` gives its outputs of these names."""

    def rank(image: np.ndarray) -> Answer:
        return Ranking(*infer(image, *Ranking._fields))

    def label(image: np.ndarray) -> Answer:
        return infer(image, "labels")[0]

    return Ready(rank if task == "classification" else label, lambda image: infer(image, "logits")[0])


class NotReady(ValueError):
    """A point that has to be made ready first."""


class EngineError(OSError):
    """An engine that cannot do what it should: out of memory, a provider that is lost, a package that is missing."""


class Engine(ABC):
    """Runs the subnetworks of one bundle.  `activate`, `run` and `close` belong to one thread.

    An engine of its own says how a point is built (`build`), and what is to be done when one becomes active (`enter`).

    Args:
        bundle: whose subnetworks to run.
        memory_budget: [byte] that ready points may hold together.  The active point and those to `keep` are never
            dropped, so that one more may be there where these leave no room for it.
    """

    name: ClassVar[str]
    version: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = PRECISIONS  # that it can run

    def __init__(self, bundle: ModelBundle, memory_budget: int = MEMORY_BUDGET):
        self.bundle = bundle
        self._budget = memory_budget
        self._lock = Lock()  # guards what follows, which the building thread changes too
        self._ready: OrderedDict[Point, Ready] = OrderedDict()  # the one not used for longest first
        self._kept: set[Point] = set()
        self._active: Point | None = None
        self._building: dict[Point, Future] = {}
        self._builder: ThreadPoolExecutor | None = None
        self._running: Ready | None = None
        self._durations: dict[Point, float] = {}  # [s] of the last warm-up run

    @abstractmethod
    def build(self, subnetwork: str, element: ComputeElement) -> Ready:
        """Make a point ready, from any thread, and leave that thread as it was; EngineError if it cannot be done."""

    @property
    def subnetworks(self) -> tuple[Subnetwork, ...]:
        """The bundle's subnetworks that this engine can run, in rising size."""
        return tuple(s for s in self.bundle.subnetworks if s.precision in self.precisions)

    def bytes_of(self, subnetwork: str) -> int:
        """Memory [byte] that a ready point of the subnetwork holds for itself: its weights."""
        chosen = self.bundle.subnetwork(subnetwork)
        return (4 if chosen.precision == FLOAT32 else 1) * chosen.parameters

    def enter(self, element: ComputeElement) -> None:
        """Prepare the calling thread to run on `element`."""

    def prepare(
        self, subnetworks: Sequence[str], elements: Sequence[ComputeElement], warm_up_runs: int = 1
    ) -> dict[Point, EngineError]:
        """Make every combination ready, in this order, as far as the budget goes; the ones that cannot be, and why."""
        failures = {}
        for element in elements:
            for subnetwork in subnetworks:
                if not self.is_ready(subnetwork, element):
                    if self.held_bytes + self.bytes_of(subnetwork) > self._budget:
                        return failures
                    try:
                        self.make_ready(subnetwork, element, warm_up_runs)
                    except EngineError as error:
                        failures[subnetwork, element.name] = error
        return failures

    def make_ready(self, subnetwork: str, element: ComputeElement, warm_up_runs: int = 1) -> None:
        """Make a point ready now, in place of others if the budget demands it; EngineError if it cannot be done."""
        if self.is_ready(subnetwork, element):
            return
        self._make_room(self.bytes_of(subnetwork))
        ready = self.build(subnetwork, element)
        image = np.zeros((*self.bundle.input_size(subnetwork), 3), np.uint8)
        for _ in range(warm_up_runs):
            started = time.perf_counter()
            ready.run(image)
            self._durations[subnetwork, element.name] = time.perf_counter() - started
        with self._lock:
            self._ready[subnetwork, element.name] = ready

    def keep(self, subnetwork: str, element: ComputeElement) -> None:
        """Make a point ready that is never dropped."""
        self._kept.add((subnetwork, element.name))
        self.make_ready(subnetwork, element)

    def is_ready(self, subnetwork: str, element: ComputeElement) -> bool:
        """Whether `activate` would find the point ready."""
        return (subnetwork, element.name) in self._ready

    def request(self, subnetwork: str, element: ComputeElement) -> Future:
        """Make a point ready in the background; the future ends when it is, or with what went wrong."""
        point = subnetwork, element.name
        with self._lock:
            if point in self._building:
                return self._building[point]
            if self._builder is None:
                self._builder = ThreadPoolExecutor(1, thread_name_prefix="engine-builder")
            future = self._builder.submit(self.make_ready, subnetwork, element)
            self._building[point] = future
        future.add_done_callback(lambda _: self._forget_request(point))
        return future

    def drop(self, subnetwork: str, element: ComputeElement) -> None:
        """Free a point that failed; it is ready again after a `request`."""
        with self._lock:
            self._ready.pop((subnetwork, element.name), None)
            if self._active == (subnetwork, element.name):
                self._active = self._running = None

    def activate(self, subnetwork: str, element: ComputeElement) -> None:
        """Run that subnetwork on that element from now on; NotReady, and no change, if the point is not ready."""
        point = subnetwork, element.name
        with self._lock:
            ready = self._ready.get(point)
            if ready is None:
                raise NotReady(f"subnetwork '{subnetwork}' on '{element.name}' was not prepared")
            self._ready.move_to_end(point)
            self._active = point
        self.enter(element)
        self._running = ready

    def refresh(self) -> None:
        """Run the active point once for nothing, so that its weights are in the caches when the next frame comes.

        For after a switch, while nothing waits.  Nothing is done where an inference takes longer than `BRIEF`.
        """
        if self._durations.get(self._active, np.inf) <= BRIEF:
            self.run(np.zeros((*self.bundle.input_size(self._active[0]), 3), np.uint8))

    def run(self, image: np.ndarray) -> Answer:
        """The active subnetwork's answer to an RGB image, uint8 [H, W, 3] of its input size, C-contiguous."""
        return self._running.run(image)

    def logits(self, image: np.ndarray) -> np.ndarray:
        """What that answer comes from, to compare engines by: see `Ready`."""
        return self._running.logits(image)

    @property
    def held_bytes(self) -> int:
        """Memory [byte] that the ready points hold, each one for itself."""
        with self._lock:
            return self._held()

    def close(self) -> None:
        """Free everything."""
        if self._builder is not None:
            self._builder.shutdown(cancel_futures=True)
            self._builder = None
        with self._lock:
            self._ready.clear()
            self._active = self._running = None

    def _make_room(self, wanted: int) -> None:
        """Drop points, the one not used for longest first, until `wanted` bytes fit, but for those that must stay."""
        with self._lock:
            for point in list(self._ready):
                if self._held() + wanted <= self._budget:
                    return
                if point not in self._kept and point != self._active:
                    del self._ready[point]

    def _held(self) -> int:
        return sum(self.bytes_of(subnetwork) for subnetwork, _ in self._ready)

    def _forget_request(self, point: Point) -> None:
        with self._lock:
            self._building.pop(point, None)
