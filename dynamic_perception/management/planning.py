"""Which point the manager would take on an undisturbed machine, and what kept it from taking others.

The machine is taken as it was when it was profiled: no slow-down, no work around the inference, no heat and no battery
that limits.  The choice is the `Selector`'s, so that a plan and the robot cannot disagree about the rules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.selection import Prediction, Relaxed, Selector, Situation
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.target import Target


@dataclass(frozen=True)
class RunnerUp:
    """A point that was not taken: the best one of its subnetwork on its element."""

    index: int
    misses: tuple[Relaxed, ...]  # empty: it meets every limit, and the objective prefers the chosen point


@dataclass(frozen=True)
class Plan:
    """What is chosen and why.

    Attributes:
        index: row of the chosen point.
        misses: limits that it misses, where no point meets all.
        excluded: limit to the number of points that miss it.
        missing: rows of the points that miss a limit.
        met: number of points that meet every limit.
        better: points that the objective prefers to the chosen one, but that miss a limit; the best one first.
        next_best: points that meet what the chosen one meets, the best one first.
    """

    index: int
    misses: tuple[Relaxed, ...]
    excluded: dict[str, int]
    missing: tuple[int, ...]
    met: int
    better: tuple[RunnerUp, ...]
    next_best: tuple[RunnerUp, ...]

    @property
    def feasible(self) -> bool:
        """Whether the chosen point meets every limit."""
        return not self.misses


def make_plan(
    table: OperatingPointTable, target: Target, settings: ManagerSettings = ManagerSettings(), runners_up: int = 4
) -> Plan:
    """Choose a point of `table`.

    Args:
        settings: the manager's; the probability of meeting the deadline and the order of giving limits up count.
        runners_up: how many of each kind to name at the most.
    """
    chooser = _Chooser(table, target, settings)
    everything = np.ones(len(table), dtype=bool)
    missed = [chooser.missed(index) for index in range(len(table))]
    chosen = chooser.best(target, everything)
    kept = np.array([{miss.limit for miss in of_one} <= {miss.limit for miss in missed[chosen]} for of_one in missed])
    preferred = chooser.ranked(Target(objective=target.objective), everything, chosen, runners_up)
    return Plan(
        index=chosen,
        misses=missed[chosen],
        excluded={
            name: sum(any(miss.limit == name for miss in of_one) for of_one in missed)
            for name in ("deadline", "energy", "power", "accuracy")
            if chooser.asked(name)
        },
        missing=tuple(index for index, of_one in enumerate(missed) if of_one),
        met=sum(not of_one for of_one in missed),
        better=tuple(RunnerUp(index, missed[index]) for index in preferred),
        next_best=tuple(RunnerUp(index, missed[index]) for index in chooser.after(chosen, kept, runners_up)),
    )


def assured_latencies(table: OperatingPointTable, settings: ManagerSettings = ManagerSettings()) -> np.ndarray:
    """[n] latency [s] of every point on the undisturbed machine, kept with the probability asked of deadlines."""
    return _Chooser(table, Target(), settings).assured_latencies


class _Chooser:
    """The manager's rules on the undisturbed machine."""

    def __init__(self, table: OperatingPointTable, target: Target, settings: ManagerSettings):
        self._table = table
        self._target = target
        self._selector = Selector(table, settings.relax, settings.deadline_probability, np.empty(0, dtype=np.intp))
        self._prediction = self._predict(target)
        self._without_limits = self._predict(Target(objective=target.objective))

    @property
    def assured_latencies(self) -> np.ndarray:
        """[n] [s]"""
        return self._prediction.assured

    def best(self, target: Target, among: np.ndarray) -> int:
        """The point that the manager would take if only those in `among` ([n] bool) were available.

        `target` is the chooser's own, or one with its objective alone.
        """
        prediction = self._prediction if target is self._target else self._without_limits
        return self._selector.select(self._situation(target, among), prediction).index

    def missed(self, index: int) -> tuple[Relaxed, ...]:
        """The target's limits that a point misses."""
        everything = np.ones(len(self._table), dtype=bool)
        return self._selector.missed(self._situation(self._target, everything), self._prediction, index)

    def asked(self, limit: str) -> bool:
        """Whether the target has this limit."""
        field = {"deadline": "max_latency", "accuracy": "min_accuracy"}.get(limit, f"max_{limit}")
        return not math.isnan(getattr(self._target, field))

    def ranked(self, target: Target, among: np.ndarray, until: int | None, count: int) -> list[int]:
        """The best points in `among`, one of every subnetwork and element, up to the point `until`."""
        found, left = [], among.copy()
        while left.any() and len(found) < count:
            index = self.best(target, left)
            if index == until:
                break
            found.append(index)
            left &= ~self._alike(index)
            if until is not None:
                left[until] = True  # at another clock it may be among those that come before
        return found

    def after(self, chosen: int, among: np.ndarray, count: int) -> list[int]:
        """The best points in `among` but for the chosen one and those like it."""
        return self.ranked(self._target, among & ~self._alike(chosen), None, count)

    def _alike(self, index: int) -> np.ndarray:
        alike = np.zeros(len(self._table), dtype=bool)
        alike[self._table.matching(self._table.subnetwork[index], self._table.compute_element[index])] = True
        return alike

    def _predict(self, target: Target) -> Prediction:
        """With the limits of that target."""
        return self._selector.predict(self._situation(target, np.ones(len(self._table), dtype=bool)))

    def _situation(self, target: Target, available: np.ndarray) -> Situation:
        elements = len(self._table.elements)
        return Situation(
            target=target,
            deadline=math.inf if math.isnan(target.max_latency) else target.max_latency,
            thermal_cap=math.inf,
            battery_cap=math.inf,
            battery_ignored=False,
            fallback=False,
            slow_down=(np.ones(elements), np.zeros(elements)),
            overhead=(0.0, 0.0),
            available=available,
        )
