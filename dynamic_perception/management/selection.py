"""Choosing one operating point: a pure function of the table and of what is known now.

Every limit becomes one column of excesses over the table.  The points without excess are kept; where there are none,
the limits are given up in the declared order, the most important one last, and what is given up is missed by as little
as possible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dynamic_perception.management.environment import Gaussian, Gaussians, LatencyPrediction, predict_latency
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.target import Objective, Target


@dataclass(frozen=True, eq=False)
class Situation:
    """Everything that a choice depends on; caps and the deadline are inf where there is none."""

    target: Target          # its max_latency is in `deadline`
    deadline: float         # [s]
    thermal_cap: float      # [W] 0 at a critical temperature
    battery_cap: float      # [W]
    battery_ignored: bool   # not heard of, and the stale policy says ignore
    fallback: bool          # an input is not heard of, and the stale policy says fallback
    slow_down: Gaussians    # ([elements], [elements])
    overhead: Gaussian      # [s], [s^2]
    available: np.ndarray   # [n] bool


@dataclass(frozen=True)
class Relaxed:
    """A limit that the chosen point misses."""

    limit: str    # "accuracy", "energy", "power", "battery" or "deadline"
    asked: float  # [0..1], J, W, W, s
    got: float    # what the point is predicted to do; NaN: not known

    def __str__(self) -> str:
        scale, unit = {"accuracy": (1, ""), "energy": (1e3, " mJ"), "deadline": (1e3, " ms")}.get(self.limit, (1, " W"))
        got = "unknown" if math.isnan(self.got) else f"{self.got * scale:.3g}{unit}"
        return f"{self.limit} {got} instead of {self.asked * scale:.3g}{unit}"


@dataclass(frozen=True, eq=False)
class Prediction:
    """What every operating point would do now; unknown power and energy are inf: no limit is met by not knowing."""

    latency: LatencyPrediction
    assured_latency: np.ndarray  # [n] end-to-end latency [s] kept with the asked probability
    power: np.ndarray            # [n] [W]
    energy: np.ndarray           # [n] [J]


@dataclass(frozen=True, eq=False)
class Selection:
    """The best point, and all that may run."""

    index: int
    kept: np.ndarray            # [n] bool: meets every limit that was not given up
    given_up: tuple[str, ...]   # limits that no point could meet together with the more important ones


@dataclass(frozen=True)
class _Limit:
    name: str
    asked: float
    got: np.ndarray     # [n]
    excess: np.ndarray  # [n] > 0: missed


class Selector:
    """Chooses points of one table.  `relax` and `deadline_probability` are those of ManagerSettings."""

    def __init__(self, table: OperatingPointTable, relax: tuple[str, ...], deadline_probability: float,
                 fallback: np.ndarray):
        """`fallback`: indices of the rows that are the fallback point (at several clocks, perhaps)."""
        self.table = table
        self.deadline_probability = deadline_probability
        self._relax = relax
        self._power = np.where(np.isnan(table.power), np.inf, table.power)
        self._energy = np.where(np.isnan(table.energy), np.inf, table.energy)
        self._fallback = np.zeros(len(table), dtype=bool)
        self._fallback[fallback] = True

    def predict(self, situation: Situation) -> Prediction:
        """Energy stretches with the latency, at the same power (ALERT's model)."""
        latency = predict_latency(self.table, situation.slow_down, situation.overhead)
        energy = self._energy * situation.slow_down[0][self.table.element_index]
        return Prediction(latency, latency.quantile(self.deadline_probability), self._power, energy)

    def select(self, situation: Situation, prediction: Prediction, current: int | None = None,
               margin: float = 0.0) -> Selection:
        """The best point.  With `current`, every other one must do with latency, power and energy worse by `margin`."""
        if current is not None:
            worse = np.full(len(self.table), 1.0 + margin)
            worse[current] = 1.0
            prediction = self._scaled(prediction, worse)
        required = self._required(situation, prediction)
        limits = self._limits(situation, prediction)
        for limit in limits:
            if limit.name not in self._relax:
                met = required & (limit.excess <= 0)
                required = met if met.any() else self.coolest(required)
        relaxable = {limit.name: limit for limit in limits if limit.name in self._relax}
        order = [name for name in self._relax if name in relaxable]
        for count in range(len(order) + 1):
            kept = required.copy()
            for name in order[count:]:
                kept &= relaxable[name].excess <= 0
            if kept.any():
                break
        given_up = order[:count]
        misses = [np.maximum(relaxable[name].excess, 0.0) for name in reversed(given_up)]
        ranking = self._ranking(situation.target.objective, prediction)
        return Selection(_first(kept, [*misses, *ranking]), kept, tuple(given_up))

    def missed(self, situation: Situation, prediction: Prediction, index: int) -> tuple[Relaxed, ...]:
        """The limits that point `index` misses; the thermal one is not among them."""
        missed = [limit for limit in self._limits(situation, prediction) if limit.excess[index] > 0]
        return tuple(Relaxed(limit.name, limit.asked, known(limit.got[index])) for limit in missed)

    def coolest(self, among: np.ndarray) -> np.ndarray:
        """[n] bool: the point of least power of those in `among`, alone."""
        only = np.zeros(len(self.table), dtype=bool)
        only[_first(among, [self._power, self._energy, self.table.latency])] = True
        return only

    def _required(self, situation: Situation, prediction: Prediction) -> np.ndarray:
        """[n] bool, never empty: available, within the thermal limit, and the fallback point if that is asked for."""
        cool = situation.available & (prediction.power <= situation.thermal_cap)
        if not cool.any():
            return self.coolest(situation.available)
        if situation.fallback:
            fallback = cool & self._fallback
            return fallback if fallback.any() else self.coolest(cool)
        return cool

    def _limits(self, situation: Situation, prediction: Prediction) -> list[_Limit]:
        target = situation.target
        battery_cap = math.inf if situation.battery_ignored else situation.battery_cap
        limits = [_Limit(name, asked, got, got - asked) for name, asked, got in (
            ("energy", target.max_energy, prediction.energy), ("power", target.max_power, prediction.power),
            ("battery", battery_cap, prediction.power), ("deadline", situation.deadline, prediction.assured_latency),
        ) if math.isfinite(asked)]
        if not math.isnan(target.min_accuracy):
            accuracy = self.table.accuracy
            limits.append(_Limit("accuracy", target.min_accuracy, accuracy, target.min_accuracy - accuracy))
        return limits

    def _ranking(self, objective: Objective, prediction: Prediction) -> list[np.ndarray]:
        """Columns to minimise, the first one first."""
        best = {Objective.MAX_ACCURACY: -self.table.accuracy, Objective.MIN_ENERGY: prediction.energy,
                Objective.MIN_LATENCY: prediction.latency.inference}[objective]
        return [best, prediction.energy, prediction.latency.inference]

    @staticmethod
    def _scaled(prediction: Prediction, factor: np.ndarray) -> Prediction:
        latency = prediction.latency
        scaled = LatencyPrediction(latency.inference * factor, latency.mean * factor, latency.deviation * factor)
        return Prediction(scaled, prediction.assured_latency * factor, prediction.power * factor,
                          prediction.energy * factor)


def known(value: float) -> float:
    """A predicted power or energy as people should read it: NaN where it is not known."""
    return float(value) if np.isfinite(value) else math.nan


def _first(among: np.ndarray, columns: list[np.ndarray]) -> int:
    """Index of the row in `among` ([n] bool, not empty) that is least in the first column, ties by the next ones."""
    rows = np.flatnonzero(among)
    for column in columns:
        if len(rows) == 1:
            break
        values = column[rows]
        rows = rows[values == values.min()]
    return int(rows[0])
