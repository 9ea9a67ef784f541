"""Choosing one operating point: a pure function of the table and of what is known now.

Every limit becomes one column of the table that may not exceed a number.  The points that exceed none are kept; where
there are none, the limits are given up in the declared order, the most important one last, and what is given up is
missed by as little as possible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import NamedTuple

import numpy as np

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.slow_downs import Gaussian, Gaussians
from dynamic_perception.management.target import Objective, Target

_STANDARD_NORMAL = NormalDist()
_UNITS = {"accuracy": (1, ""), "energy": (1e3, " mJ"), "rate": (1, " Hz"), "deadline": (1e3, " ms")}


class Situation(NamedTuple):
    """Everything that a choice depends on; caps and the deadline are inf where there is none."""

    target: Target  # its max_latency is in `deadline`
    deadline: float  # [s]
    thermal_cap: float  # [W] 0 at a critical temperature
    battery_cap: float  # [W]
    battery_ignored: bool  # not heard of, and the stale policy says ignore
    fallback: bool  # an input is not heard of, and the stale policy says fallback
    slow_down: Gaussians  # ([elements], [elements])
    overhead: Gaussian  # [s], [s^2]
    available: np.ndarray  # [n] bool
    sharing: np.ndarray | None = None  # [elements] by how much other networks on the machine slow this one; None: not


@dataclass(frozen=True)
class Relaxed:
    """A limit that the chosen point misses."""

    limit: str  # "accuracy", "energy", "power", "battery", "rate" or "deadline"
    asked: float  # [0..1], J, W, W, Hz, s
    got: float  # what the point is predicted to do; NaN: not known

    def __str__(self) -> str:
        scale, unit = _UNITS.get(self.limit, (1, " W"))
        got = "unknown" if math.isnan(self.got) else f"{self.got * scale:.3g}{unit}"
        return f"{self.limit} {got} instead of {self.asked * scale:.3g}{unit}"


class Prediction:
    """What every operating point would do now; unknown power and energy are inf: no limit is met by not knowing.

    Its columns are written anew by every :meth:`Selector.predict` into it.
    """

    def __init__(self, length: int):
        self.inference = np.empty(length)  # [n] expected inference [s]
        self.assured = np.empty(length)  # [n] end-to-end latency [s] kept with the asked probability
        self.power = np.empty(0)  # [n] [W]
        self.overhead: Gaussian = (0.0, 0.0)
        self.limits: dict[str, tuple[np.ndarray, float]] = {}  # name -> (column, what it may be at most)
        self.slow_down: np.ndarray | float = np.empty(0)  # [n] mean of every row's element, or that of all
        self.profiled_energy = np.empty(0)  # [n] [J]
        self.of_rows = np.empty((2, length))  # room for the mean and the variance of every row's element
        self._energy = np.empty(length)
        self._energy_is_new = False

    def begin(self, slow_down: np.ndarray | float, overhead: Gaussian, power: np.ndarray, energy: np.ndarray) -> None:
        """Take what the other columns follow from; `energy`: as profiled."""
        self.slow_down, self.overhead, self.power, self.profiled_energy = slow_down, overhead, power, energy
        self._energy_is_new = False

    @property
    def energy(self) -> np.ndarray:
        """[n] [J]; stretches with the latency, at the same power (ALERT's model)."""
        if not self._energy_is_new:
            np.multiply(self.profiled_energy, self.slow_down, out=self._energy)
            self._energy_is_new = True
        return self._energy

    def energy_of(self, index: int) -> float:
        """[J] of one point."""
        slow_down = self.slow_down if isinstance(self.slow_down, float) else self.slow_down[index]
        return self.profiled_energy[index] * slow_down


class Selection(NamedTuple):
    """The best point, and all that may run."""

    index: int
    kept: np.ndarray  # [n] bool: meets every limit that was not given up
    given_up: tuple[str, ...]  # limits that no point could meet together with the more important ones


class Selector:
    """Chooses points of one table.  `relax` and `deadline_probability` are those of ManagerSettings."""

    def __init__(
        self, table: OperatingPointTable, relax: tuple[str, ...], deadline_probability: float, fallback: np.ndarray
    ):
        """`fallback`: indices of the rows that are the fallback point (at several clocks, perhaps)."""
        self.table = table
        self.deadline_probability = deadline_probability
        self._relax = relax
        self._quantile = _STANDARD_NORMAL.inv_cdf(deadline_probability)
        self.unknown = {
            name: values for name in ("power", "energy") if (values := np.isnan(getattr(table, name))).any()
        }  # [n] bool columns, where any is unknown
        self._power = np.where(np.isnan(table.power), np.inf, table.power)
        self._energy = np.where(np.isnan(table.energy), np.inf, table.energy)
        self._inaccuracy = -table.accuracy
        self._latency_squared = table.latency**2
        self._spread_squared = table.spread**2 if table.spread.any() else None
        self.fallback = np.zeros(len(table), dtype=bool)
        self.fallback[fallback] = True

    def predict(self, situation: Situation, into: Prediction | None = None) -> Prediction:
        """Predict for every point; `into`: columns to write over."""
        prediction = Prediction(len(self.table)) if into is None else into
        mean, variance = self._of_rows(situation.slow_down, prediction)
        if situation.sharing is not None:
            return self._predict_sharing(situation, prediction, mean, variance)
        np.multiply(self.table.latency, mean, out=prediction.inference)
        assured = prediction.assured
        if self._spread_squared is not None:  # what the profile itself shows between median and p95 is the least
            np.multiply(self._spread_squared, mean * mean, out=assured)
            variance = np.maximum(assured, variance, out=assured)
        np.multiply(self._latency_squared, variance, out=assured)
        assured += situation.overhead[1]
        np.sqrt(assured, out=assured)
        assured *= self._quantile
        assured += prediction.inference
        assured += situation.overhead[0]
        prediction.begin(mean, situation.overhead, self._power, self._energy)
        prediction.limits = self._limits(situation, prediction)
        return prediction

    def _predict_sharing(
        self, situation: Situation, prediction: Prediction, mean: np.ndarray | float, variance: np.ndarray | float
    ) -> Prediction:
        """Who takes turns is slower, but while the others have theirs it draws no power."""
        shared = situation.sharing[self.table.element_index]
        variance = np.maximum(variance, self.table.spread**2 * mean**2)
        prediction.inference[:] = self.table.latency * mean * shared
        prediction.assured[:] = (
            prediction.inference
            + situation.overhead[0]
            + self._quantile * np.sqrt((self.table.latency * shared) ** 2 * variance + situation.overhead[1])
        )
        prediction.begin(mean, situation.overhead, self._power / shared, self._energy)
        prediction.limits = self._limits(situation, prediction)
        return prediction

    def _of_rows(self, slow_down: Gaussians, prediction: Prediction) -> tuple[np.ndarray | float, np.ndarray | float]:
        """Mean and variance of the slow-down of every row's element; numbers where there is one element."""
        if len(self.table.elements) == 1:
            return float(slow_down[0][0]), float(slow_down[1][0])
        elements = self.table.element_index
        mean, variance = prediction.of_rows
        slow_down[0].take(elements, out=mean, mode="clip")  # with "raise", numpy would go through a buffer
        slow_down[1].take(elements, out=variance, mode="clip")
        return mean, variance

    def within_deadline(self, situation: Situation, prediction: Prediction, index: int) -> float:
        """Probability that point `index` meets the deadline with the next frame."""
        if situation.deadline == math.inf:
            return 1.0
        latency = prediction.assured[index]
        expected = prediction.inference[index] + prediction.overhead[0]
        deviation = (latency - expected) / self._quantile if self._quantile > 0 else self._deviation(situation, index)
        return _STANDARD_NORMAL.cdf((situation.deadline - expected) / max(deviation, 1e-300))

    def _deviation(self, situation: Situation, index: int) -> float:
        element = self.table.element_index[index]
        mean, variance = situation.slow_down[0][element], situation.slow_down[1][element]
        variance = max(variance, (self.table.spread[index] * mean) ** 2)
        shared = 1.0 if situation.sharing is None else situation.sharing[element]
        return math.sqrt((self.table.latency[index] * shared) ** 2 * variance + situation.overhead[1])

    def select(
        self, situation: Situation, prediction: Prediction, current: int | None = None, margin: float = 0.0
    ) -> Selection:
        """The best point.  With `current`, every other one must do with latency, power and energy worse by `margin`."""
        worse = 1.0 if current is None else 1.0 + margin
        kept = self._required(situation, prediction, current, worse)
        limits = prediction.limits
        for name, (column, most) in limits.items():
            if name not in self._relax:
                met = kept & self._meets(name, column, most, current, worse)
                kept = met if np.count_nonzero(met) else self.coolest(kept)
        given_up = [name for name in self._relax if name in limits]
        while given_up:
            met = self._meets(given_up[-1], *limits[given_up[-1]], current, worse)
            met &= kept
            if not np.count_nonzero(met):
                break
            kept = met
            given_up.pop()
        misses = [(self._excess(name, *limits[name], current, worse), 1.0) for name in reversed(given_up)]
        ranking = self._ranking(situation.target.objective, prediction, worse)
        return Selection(self._best(kept, misses + ranking, current), kept, tuple(given_up))

    def admits(self, situation: Situation, prediction: Prediction, index: int) -> bool:
        """Whether point `index` meets every limit: then nothing is given up, and it is among those that are kept."""
        if not situation.available[index] or prediction.power[index] > situation.thermal_cap:
            return False
        if situation.fallback and not self.fallback[index]:
            return False
        return all(column[index] <= most for column, most in prediction.limits.values())

    def missed(self, situation: Situation, prediction: Prediction, index: int) -> tuple[Relaxed, ...]:
        """The limits that point `index` misses; the thermal one is not among them."""
        missed = []
        for name, (column, most) in prediction.limits.items():
            got = float(column[index])
            if got > most:
                asked = most
                if name == "accuracy":
                    asked, got = -most, -got
                elif name == "rate":
                    asked, got = situation.target.min_rate, 1.0 / (got + prediction.overhead[0])
                missed.append(Relaxed(name, asked, known(got)))
        return tuple(missed)

    def coolest(self, among: np.ndarray) -> np.ndarray:
        """[n] bool: the point of least power of those in `among`, alone."""
        only = np.zeros(len(self.table), dtype=bool)
        only[self._best(among, [(self._power, 1.0), (self._energy, 1.0), (self.table.latency, 1.0)], None)] = True
        return only

    def _required(self, situation: Situation, prediction: Prediction, current: int | None, worse: float) -> np.ndarray:
        """[n] bool, never empty: available, within the thermal limit, and the fallback point if that is asked for."""
        cool = situation.available
        if situation.thermal_cap < math.inf:
            cool = self._meets("power", prediction.power, situation.thermal_cap, current, worse)
            cool &= situation.available
            if not np.count_nonzero(cool):
                return self.coolest(situation.available)
        if situation.fallback:
            fallback = cool & self.fallback
            return fallback if np.count_nonzero(fallback) else self.coolest(cool)
        return cool

    def _limits(self, situation: Situation, prediction: Prediction) -> dict[str, tuple[np.ndarray, float]]:
        """Those of the situation, as in Prediction.limits."""
        target = situation.target
        limits = {}
        if not math.isnan(target.max_energy):
            limits["energy"] = prediction.energy, target.max_energy
        if not math.isnan(target.max_power):
            limits["power"] = prediction.power, target.max_power
        if situation.battery_cap < math.inf and not situation.battery_ignored:
            limits["battery"] = prediction.power, situation.battery_cap
        if not math.isnan(target.min_rate):
            limits["rate"] = prediction.inference, 1.0 / target.min_rate - prediction.overhead[0]
        if situation.deadline < math.inf:
            limits["deadline"] = prediction.assured, situation.deadline
        if not math.isnan(target.min_accuracy):
            limits["accuracy"] = self._inaccuracy, -target.min_accuracy
        return limits

    @staticmethod
    def _worse(name: str, worse: float) -> float:
        """By what the column of this limit counts as worse; an accuracy is what it is."""
        return 1.0 if name == "accuracy" else worse

    def _meets(self, name: str, column: np.ndarray, most: float, current: int | None, worse: float) -> np.ndarray:
        """[n] bool: at most `most`, when all but `current` is worse."""
        worse = self._worse(name, worse)
        met = column <= most / worse
        if current is not None and worse != 1.0:
            met[current] = column[current] <= most
        return met

    def _excess(self, name: str, column: np.ndarray, most: float, current: int | None, worse: float) -> np.ndarray:
        """[n] by how much more than `most`, when all but `current` is worse."""
        excess = column * self._worse(name, worse) - most
        if current is not None:
            excess[current] = column[current] - most
        return np.maximum(excess, 0.0, out=excess)

    def _ranking(self, objective: Objective, prediction: Prediction, worse: float) -> list[tuple[np.ndarray, float]]:
        """Columns to minimise, the first one first, and by what they count as worse at all but the current point."""
        energy, inference = (prediction.energy, worse), (prediction.inference, worse)
        if objective is Objective.MAX_ACCURACY:
            return [(self._inaccuracy, 1.0), energy, inference]
        return [energy, inference] if objective is Objective.MIN_ENERGY else [inference, energy]

    def _best(self, among: np.ndarray, columns: list[tuple[np.ndarray, float]], current: int | None) -> int:
        """Row of `among` ([n] bool, not empty) that is least in the first column, ties by the next ones."""
        rows = among.nonzero()[0]
        for column, worse in columns:
            if len(rows) == 1:
                break
            values = column.take(rows)
            if worse != 1.0 and current is not None:
                values *= worse
                position = rows.searchsorted(current)
                if position < len(rows) and rows[position] == current:
                    values[position] = column[current]
            rows = rows[(values == values[values.argmin()]).nonzero()[0]]  # argmin takes a fifth of min's time
        return int(rows[0])


def known(value: float) -> float:
    """A predicted power or energy as people should read it: NaN where it is not known."""
    return float(value) if math.isfinite(value) else math.nan
