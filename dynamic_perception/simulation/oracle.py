"""What no manager does better than: the oracle, one that gets hot, and the causal bound.

The oracle knows how slow the coming frame will be at every point, and takes the best one of the whole table.

It is no manager that could be built, but a bound: heat does not slow it down, it needs no margin, and nothing keeps it
from moving at every frame.  So no manager does better by the objective in a frame in which both keep all limits.  That
holds over a whole trace, because a frame that is in time has ended when the next one arrives (deadlines are shorter
than the gaps between frames), and where no point is in time it takes the fastest one, so that it is never behind
anybody.

The throttled oracle knows as much, but the kernel keeps its clocks down when it is hot, as everybody's, and it chooses
among those that are left.  So what a manager takes more than it is not the price of heat.

They keep the battery's policy by the true charge, and give limits up in the manager's order: accuracy, energy, battery,
deadline.

The causal bound knows as much, but for what is chance: the noise of the coming inference and its overhead, of which it
knows the distribution.  What it takes more than the oracle is the price of not seeing the future; what a manager
takes more than it, at the same rate of misses, is the price of having to learn what the machine does.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dynamic_perception.management.target import Objective, Target
from dynamic_perception.simulation.boards import BATTERY_POLICY, Board
from dynamic_perception.simulation.manager import Manager
from dynamic_perception.simulation.trace import Trace


class Oracle(Manager):
    """See the module's text."""

    name = "oracle"
    sees_future = True
    is_throttled = False

    def __init__(self, board: Board, budgets: bool = True):
        """Without `budgets` it does not mind the battery: the bound of managers that do not know of it."""
        super().__init__(board)
        self._policy = BATTERY_POLICY if budgets else ()
        table = board.table
        self._energy = np.where(np.isnan(table.energy), 0.0, table.energy)
        self._power = np.where(np.isnan(table.power), 0.0, table.power)
        self._rank = np.unique(table.accuracy, return_inverse=True)[1].astype(float)
        self._greatest = float(self._power.max())
        self._cap = math.inf
        self._free: np.ndarray | None = None  # [rows] bool: not throttled; None: all
        self._choices: dict[tuple, np.ndarray] = {}  # (cap, what is free) -> [n] rows

    def foresee(self, trace: Trace, slow_downs: np.ndarray, targets: list[Target]) -> None:
        self._trace, self._targets = trace, targets
        self._slow, self._free = slow_downs, None
        self._choices.clear()

    def _longest(self, frames: slice, waited: float) -> np.ndarray:
        """[m] how long the inferences [s] of these frames may take, of which one has `waited` s."""
        return (self._trace.deadline - self._trace.overhead)[frames] - waited

    def hear(self, time: float, celsius: float, charge: float) -> None:
        below = [t.max_power_fraction for t in self._policy if charge < t.below]
        self._cap = min(below) * self._greatest if below else math.inf

    def decide(self, time: float, frame: int) -> int:
        waited = time - float(self._trace.arrival[frame])
        if waited > 1e-9:
            return int(self._choose(slice(frame, frame + 1), self._cap, waited)[0])
        key = self._cap, None if self._free is None else self._free.tobytes()
        if key not in self._choices:
            self._choices[key] = self._choose(slice(None), self._cap, 0.0)
        return int(self._choices[key][frame])

    def _choose(self, frames: slice, cap: float, waited: float) -> np.ndarray:
        """[m] rows for these frames."""
        table, targets = self.board.table, self._targets[frames]
        of_rows = self._slow[frames][:, table.element_index]
        inference, energy = table.latency * of_rows, self._energy * of_rows
        late = inference - self._longest(frames, waited)[:, None]
        if self._free is not None:
            late[:, ~self._free] = math.inf
        floor = np.array([np.nan_to_num(target.min_accuracy, nan=0.0) for target in targets])[:, None]
        budget = np.array([np.nan_to_num(target.max_energy, nan=math.inf) for target in targets])[:, None]
        met = [late <= 0.0, np.broadcast_to(self._power <= cap, late.shape), energy <= budget, table.accuracy >= floor]
        spent = energy / energy.max(axis=1, keepdims=True) if energy.max() > 0 else inference / inference.max()
        worst = self._rank.max() - self._rank
        thrifty = np.array([target.objective is Objective.MIN_ENERGY for target in targets])[:, None]
        best = np.where(thrifty, spent, 10.0 * worst + spent)
        # What is minimised while the first so many of `met` are kept: the next limit is missed by as little as
        # possible.
        scores = [late, 1e3 * np.broadcast_to(self._power, late.shape) + best / 1e3, energy, 10.0 * worst + spent, best]
        chosen, done = np.zeros(len(late), dtype=np.intp), np.zeros(len(late), dtype=bool)
        for level in range(len(met), -1, -1):
            kept = np.logical_and.reduce(met[:level]) if level else np.ones(late.shape, dtype=bool)
            now = ~done & kept.any(axis=1)
            chosen[now] = np.where(kept, scores[level], math.inf)[now].argmin(axis=1)
            done |= now
        return chosen


class ThrottledOracle(Oracle):
    """See the module's text."""

    name = "throttled oracle"
    is_throttled = True

    def throttle(self, steps: Sequence[int]) -> None:
        if not any(steps):
            self._free = None
            return
        board = self.board
        down = np.array(steps)[board.element_cluster[board.table.element_index]].tolist()
        self._free = np.array([board.throttled[row][by] == row for row, by in enumerate(down)])


class CausalBound(Oracle):
    """Knows the coming frame but for its noise and overhead, and takes what is in time with `probability`.

    A point is in time where profiled latency x slow-down x noise + overhead is within the deadline: where profiled
    latency x slow-down is within that quantile of (deadline - overhead) / noise, over what the whole trace draws.
    """

    name = "causal bound"

    def __init__(self, board: Board, budgets: bool = True, probability: float = 0.90):
        """With 0.90 it misses 1 % of the made-up traces' frames: most points have more room than that."""
        super().__init__(board, budgets)
        self.probability = probability

    def foresee(self, trace: Trace, slow_downs: np.ndarray, targets: list[Target]) -> None:
        super().foresee(trace, slow_downs / trace.noise[:, None], targets)

    def _longest(self, frames: slice, waited: float) -> np.ndarray:
        trace = self._trace
        deadlines, of_frames = np.unique(trace.deadline[frames], return_inverse=True)
        drawn = (deadlines[:, None] - waited - trace.overhead) / trace.noise
        return np.quantile(drawn, 1.0 - self.probability, axis=1, method="lower")[of_frames]
