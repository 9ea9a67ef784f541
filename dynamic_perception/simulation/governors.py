"""Linux's CPU frequency governors, with the largest network that fits at full clock: only the clocks move.

The network is chosen once for every target: of those whose profiled latency at full clock, with 2 ms around it, is
within the deadline, the most accurate one; if none is, the smallest.  It runs on the fastest element, or
(`best_element`) on the one of least energy at full clock among those on which it fits.  Floor and energy budget are not
what a governor knows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dynamic_perception.management.target import Target
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.fixed import networks_of
from dynamic_perception.simulation.manager import Manager

OVERHEAD = 2e-3  # [s]


class LargestThatFits(Manager):
    """What the governors have in common: `decide` gives the network at full clock."""

    def __init__(self, board: Board, name: str, best_element: bool = False):
        super().__init__(board)
        self.name = name
        elements = board.table.elements if best_element else (board.default_element,)
        self._candidates = [networks_of(board, element) for element in elements]
        self._row = int(self._candidates[0][0])

    def set_target(self, time: float, target: Target) -> None:
        table = self.board.table
        rows = np.concatenate(self._candidates)
        fits = rows[table.latency[rows] + OVERHEAD <= target.max_latency]
        if not len(fits):
            self._row = int(rows[np.lexsort((table.latency[rows], table.accuracy[rows]))[0]])
            return
        largest = fits[table.accuracy[fits] == table.accuracy[fits].max()]
        self._row = int(largest[np.argmin(np.nan_to_num(table.energy[largest]))])

    def decide(self, time: float, frame: int) -> int:
        return self._row


class Performance(LargestThatFits):
    """Always the highest clock."""

    def __init__(self, board: Board):
        super().__init__(board, "performance")


class Powersave(LargestThatFits):
    """Always the lowest clock."""

    def __init__(self, board: Board):
        super().__init__(board, "powersave")

    def decide(self, time: float, frame: int) -> int:
        return int(self.board.ladder(self._row)[0])


@dataclass(frozen=True)
class SchedutilSettings:
    """As in the kernel: `next = 1.25 f_max util`, a load average of 32 ms half-life that counts work, not time
    (frequency invariance), UTIL_EST's estimate while a task wakes up.  `tick` [s]: between two looks (HZ=250)."""

    headroom: float = 1.25
    half_life: float = 32e-3
    tick: float = 4e-3
    util_est: bool = True  # since Linux 4.17
    estimate_weight: float = 0.25  # UTIL_EST_WEIGHT_SHIFT = 2


class Schedutil(LargestThatFits):
    """Schedutil (kernel/sched/cpufreq_schedutil.c, pelt.c), also in place of a GPU's governor, which follows load too.

    All threads of the network are busy while it runs and asleep otherwise, so one of them stands for the cluster; other
    work that keeps a core busy keeps the cluster at its highest clock, as the load of the busiest core counts.  Of a
    GPU, other work takes a share, and the load is that of both.
    """

    governs = True

    def __init__(self, board: Board, best_element: bool = False, settings: SchedutilSettings = SchedutilSettings()):
        super().__init__(board, "schedutil, best element" if best_element else "schedutil", best_element)
        self._settings = settings
        self._load = 0.0  # [0..1] of the highest clock's capacity
        self._estimate = 0.0  # moving average of the load at the ends of inferences
        self._ended = 0.0  # [s] of the last inference
        self._last = 0.0  # load at its end
        self._kept = 0.5 ** (settings.tick / settings.half_life)
        self._ladders: dict[int, tuple[np.ndarray, list[float], list[float], list[float]]] = {}

    def _ladder(self, row: int) -> tuple[np.ndarray, list[float], list[float], list[float]]:
        """(rows, clock over the highest one, latency, power) of every clock."""
        if row not in self._ladders:
            rows, table, clock = self.board.ladder(row), self.board.table, self.board.clock
            shares = clock[rows] / clock[rows[-1]] if clock[rows[-1]] > 0 else np.ones(len(rows))
            self._ladders[row] = (rows, shares.tolist(), table.latency[rows].tolist(), table.power[rows].tolist())
        return self._ladders[row]

    def govern(self, time: float, row: int, slow_down: float, steps: int, other: float) -> tuple[float, float, int]:
        """Work through an inference tick by tick, each at the clock that the load so far asks for."""
        rows, shares, latencies, powers = self._ladder(row)
        top = max(0, len(rows) - 1 - steps)
        settings, kept = self._settings, self._kept
        load = self._load * 0.5 ** (max(0.0, time - self._ended) / settings.half_life)
        shared = other if other < 1.0 else 1.0
        left, elapsed, energy, index = 1.0, 0.0, 0.0, top
        while left > 1e-12:
            wanted = settings.headroom * min(1.0, max(load, self._estimate, self._last) + shared)
            index = top
            for level in range(top):
                if shares[level] >= wanted - 1e-9:
                    index = level
                    break
            seconds = latencies[index] * slow_down
            step = min(settings.tick, left * seconds)
            left -= step / seconds
            elapsed += step
            energy += step * powers[index]
            decay = kept if step == settings.tick else 0.5 ** (step / settings.half_life)
            load = load * decay + (1.0 - decay) * shares[index]
        self._load, self._ended = load, time + elapsed
        if settings.util_est:
            self._last = load
            self._estimate += settings.estimate_weight * (load - self._estimate)
        return elapsed, energy / elapsed if elapsed > 0 else math.nan, int(rows[index])
