"""Families of made-up traces: the same family, board and seed give the same trace.

The board's table sets the scale.  Its *unit* is the latency of the most accurate subnetwork at the fastest operating
point; the deadline is 1.2 to 3 of them, frames come 1.1 deadlines apart with 2 % of jitter, and floor and budget are
those that an undisturbed machine can keep within the deadline.  What is assumed, because nobody published it:

* noise of 1 to 3 % of an inference (normal, one level per trace), and one frame in 500 that takes 1.2 to 1.6 times as
  long;
* other work for 4 to 15 s, then none for 6 to 20 s, on 1 to 4 cores of the fastest cluster (20 to 100 % of a GPU),
  which also takes up to 15 % of everybody's memory bandwidth;
* overhead around an inference of 2 ms +- 10 %.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dynamic_perception.simulation.boards import Board, knows_energy
from dynamic_perception.simulation.trace import Trace

FRAMES = 600
TIGHTEST, LOOSEST = 1.2, 3.0  # [units] deadline
GAP, JITTER = 1.1, 0.02  # frame period over deadline, deviation of an arrival over the period
NOISE = (0.01, 0.03)  # of an inference
HICCUP, HICCUP_FACTOR = 1 / 500, (1.2, 1.6)
OTHER_WORK, REST = (4.0, 15.0), (6.0, 20.0)  # [s]
BANDWIDTH = 0.15
OVERHEAD, OVERHEAD_NOISE = 2e-3, 0.1
OTHER_LOAD = 8.0  # [W] of the rest of a small robot, assumed


class _Draft:
    """A trace in the making: a calm one, to which the families add."""

    def __init__(self, board: Board, random: np.random.Generator, frames: int):
        self.board, self.random, self.frames = board, random, frames
        table = board.table
        largest = table.accuracy == table.accuracy.max()
        self.unit = float(table.latency[largest].min())
        self.deadline = np.full(frames, self.unit * random.uniform(TIGHTEST, LOOSEST) + OVERHEAD)
        period = GAP * self.deadline[0]
        jitter = np.clip(random.normal(0.0, JITTER, frames), -0.045, 0.045)
        self.arrival = period * (1.0 + np.arange(frames) + jitter)
        self.noise = 1.0 + random.uniform(*NOISE) * random.standard_normal(frames)
        hiccups = random.random(frames) < HICCUP
        self.noise[hiccups] *= random.uniform(*HICCUP_FACTOR, int(hiccups.sum()))
        self.noise = np.maximum(self.noise, 0.5)
        self.slow_down = np.ones(frames)
        self.threads = {cluster: np.zeros(frames) for cluster in board.clusters}
        self.overhead = OVERHEAD * np.maximum(0.2, 1.0 + OVERHEAD_NOISE * random.standard_normal(frames))
        self.ambient = np.zeros(frames)
        self.load = np.full(frames, OTHER_LOAD)
        self.charge = 1.0
        self.floor, self.budget = self._wishes()

    def _wishes(self) -> tuple[float, float]:
        """A floor and a budget that an undisturbed machine keeps, with 10 % to spare, within the deadline."""
        table = self.board.table
        fits = 1.1 * table.latency + OVERHEAD <= self.deadline[0]
        possible = np.unique(table.accuracy[fits])
        floor = float(self.random.choice(possible))
        if not knows_energy(self.board):
            return floor, np.inf
        of_floor = fits & (table.accuracy >= floor)
        return floor, float(table.energy[of_floor].min() * self.random.uniform(1.05, 1.5))

    @property
    def seconds(self) -> float:
        return float(self.arrival[-1])

    def span(self, start: float, end: float) -> np.ndarray:
        """[n] bool: frames that arrive between two times [s]."""
        return (self.arrival >= start) & (self.arrival < end)

    def trace(self, family: str, seed: int) -> Trace:
        return Trace(
            self.arrival,
            self.deadline,
            self.floor,
            self.budget,
            self.slow_down * self.noise,
            self.overhead,
            self.ambient,
            self.load,
            self.threads,
            self.charge,
            family,
            seed,
            self.noise,
        )


def _calm(draft: _Draft) -> None:
    """Nothing but noise."""


def _bursts(draft: _Draft) -> None:
    """Other work comes and goes."""
    random, time = draft.random, draft.random.uniform(*REST)
    fastest = draft.board.default_element.partition(":")[0]
    cores = draft.board.cores[draft.board.clusters.index(fastest)]
    while time < draft.seconds:
        end = time + random.uniform(*OTHER_WORK)
        frames = draft.span(time, end)
        load = float(random.integers(1, cores + 1)) if cores > 1 else random.uniform(0.2, 1.0)
        draft.threads[fastest][frames] = load
        draft.slow_down[frames] *= 1.0 + random.uniform(0.0, BANDWIDTH)
        time = end + random.uniform(*REST)


def _ramps(draft: _Draft) -> None:
    """Everything gets slower, and faster again, bit by bit: memory that fills, caches that are shared."""
    random, time = draft.random, draft.random.uniform(2.0, 8.0)
    while time < draft.seconds:
        rise, stay, fall = random.uniform(6.0, 20.0), random.uniform(2.0, 10.0), random.uniform(6.0, 20.0)
        top = random.uniform(1.2, 1.8)
        corners = time + np.cumsum([0.0, rise, stay, fall])
        draft.slow_down *= np.interp(draft.arrival, corners, [1.0, top, top, 1.0])
        time = corners[-1] + random.uniform(4.0, 15.0)


def _heat(draft: _Draft) -> None:
    """The surroundings get 10 to 30 K hotter, and other work adds to it."""
    start, end = draft.seconds * np.array([0.15, draft.random.uniform(0.4, 0.7)])
    draft.ambient += np.interp(draft.arrival, [start, end], [0.0, draft.random.uniform(10.0, 30.0)])
    slowest = draft.board.clusters[-1]
    if len(draft.board.clusters) > 1:  # on cores that perception does not use: it only heats
        draft.threads[slowest][draft.span(0.5 * end, draft.seconds)] = draft.random.integers(1, 3)


def _battery(draft: _Draft) -> None:
    """The battery passes the thresholds of the policy."""
    draft.charge = 0.25
    draft.load += 0.2 * draft.board.battery_capacity / draft.seconds


def _mixed(draft: _Draft) -> None:
    """Other work, a ramp, warmth, and a user who changes the deadline."""
    _bursts(draft)
    random = draft.random
    start = random.uniform(0.1, 0.5) * draft.seconds
    top = random.uniform(1.1, 1.4)
    draft.slow_down *= np.interp(draft.arrival, start + np.array([0.0, 8.0, 16.0, 24.0]), [1.0, top, top, 1.0])
    warm = draft.seconds * np.array([0.3, 0.8])
    draft.ambient += np.interp(draft.arrival, warm, [0.0, random.uniform(5.0, 15.0)])
    changes = np.sort(random.uniform(0.1, 0.9, 3)) * draft.seconds
    first = draft.deadline[0]
    for change in changes:  # never longer than the gap between frames: a frame that is in time never meets the next
        draft.deadline[draft.arrival >= change] = first * random.uniform(0.7, 1.0)


FAMILIES: dict[str, Callable[[_Draft], None]] = {
    "calm": _calm,
    "bursts": _bursts,
    "ramps": _ramps,
    "heat": _heat,
    "battery": _battery,
    "mixed": _mixed,
}


def make_trace(family: str, board: Board, seed: int, frames: int = FRAMES) -> Trace:
    """The trace of this family and seed; ValueError for a family that there is not."""
    if family not in FAMILIES:
        raise ValueError(f"no family of traces '{family}': expected one of {', '.join(FAMILIES)}")
    number = list(FAMILIES).index(family)
    draft = _Draft(board, np.random.default_rng([seed, number]), frames)
    FAMILIES[family](draft)
    return draft.trace(family, seed)
