"""How the machine behaves now, compared with how it behaved when it was profiled.

One slow-down factor per compute element (measured over profiled latency of an inference; ALERT's xi) and one overhead
around the inference (end-to-end minus inference), both normal distributions tracked by a Kalman filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Sequence

import numpy as np

from dynamic_perception.management.kalman import KalmanFilter, KalmanSettings
from dynamic_perception.management.operating_points import OperatingPointTable

Gaussians = tuple[np.ndarray, np.ndarray]  # (means, variances)
Gaussian = tuple[float, float]             # (mean, variance)


@dataclass(frozen=True)
class EnvironmentSettings:
    """Filters of the slow-down [1] and of the overhead [s]; the start values hold until there are samples.

    Tuned on synthetic traces: with 1 to 5 % noise a step to 1.36 is followed within 3 samples, and one sample of 3
    changes nothing.
    """

    slow_down: KalmanSettings = KalmanSettings(mean=1.0, deviation=0.1, noise=0.03, noise_floor=0.01, fade_time=30.0)
    overhead: KalmanSettings = KalmanSettings(mean=2e-3, deviation=1e-3, noise=5e-4, noise_floor=1e-4)


class Environment:
    """The slow-down of every compute element and the overhead around inference, with their variances."""

    def __init__(self, elements: Sequence[str], settings: EnvironmentSettings = EnvironmentSettings()):
        self.elements = tuple(elements)
        self._slow_down = {element: KalmanFilter(settings.slow_down) for element in self.elements}
        self._overhead = KalmanFilter(settings.overhead)

    def observe(self, time: float, element: str, inference: float, profiled: float, overhead: float) -> None:
        """Take one frame: `inference` s where the profile says `profiled` s, and `overhead` s around it.

        ValueError, and no change, for an unknown element or a duration that cannot be (NaN, infinite, not positive).
        """
        if element not in self._slow_down:
            raise ValueError(f"environment: compute element is {element!r}: expected one of {', '.join(self.elements)}")
        for name, value, least in (("inference", inference, "more than"), ("profiled", profiled, "more than"),
                                   ("overhead", overhead, "at least")):
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "more than"):
                raise ValueError(f"environment: {name} duration is {value:g} s: expected {least} 0 and finite")
        self._slow_down[element].observe(time, inference / profiled)
        self._overhead.observe(time, overhead)

    def slow_down(self, time: float) -> Gaussians:
        """([elements], [elements]) mean and variance of the next inference's latency over the profiled one, at `time`.

        An element that is not used fades back to the start values: nobody knows how it would do now.
        """
        predictions = [tracked.predict(time) for tracked in self._slow_down.values()]
        mean, variance = np.array(predictions).T
        return mean, variance

    def overhead(self, time: float = 0.0) -> Gaussian:
        """Mean [s] and variance [s^2] of the next frame's overhead."""
        return self._overhead.predict(time)


@dataclass(frozen=True, eq=False)
class LatencyPrediction:
    """Normal distributions of the end-to-end latency at every operating point, and the expected inference alone."""

    inference: np.ndarray  # [n] expected inference [s]
    mean: np.ndarray       # [n] expected end-to-end latency [s]
    deviation: np.ndarray  # [n] its standard deviation [s]

    def within(self, deadline: float) -> np.ndarray:
        """[n] probability that the next frame takes at most `deadline` s; infinite deadlines are always met."""
        if deadline == math.inf:
            return np.ones_like(self.mean)
        return normal_cdf((deadline - self.mean) / self.deviation)

    def quantile(self, probability: float) -> np.ndarray:
        """[n] latency [s] that the next frame stays within with `probability`: the inverse of :meth:`within`."""
        return self.mean + NormalDist().inv_cdf(probability) * self.deviation


def predict_latency(table: OperatingPointTable, slow_down: Gaussians, overhead: Gaussian) -> LatencyPrediction:
    """Profiled latency x slow-down of its element + overhead, for every row of `table`.

    The spread that the profile itself shows between median and p95 is the least that is assumed.
    """
    mean, variance = slow_down[0][table.element_index], slow_down[1][table.element_index]
    variance = np.maximum(variance, (table.spread * mean) ** 2)
    inference = table.latency * mean
    return LatencyPrediction(inference, inference + overhead[0], np.sqrt(table.latency ** 2 * variance + overhead[1]))


def probability_of_meeting(deadline: float, table: OperatingPointTable, slow_down: Gaussians,
                           overhead: Gaussian) -> np.ndarray:
    """[n] P(overhead + latency x slow-down <= deadline), for every row of `table`."""
    return predict_latency(table, slow_down, overhead).within(deadline)


def normal_cdf(z: np.ndarray) -> np.ndarray:
    """P(Z <= z) of a standard normal Z, within 7.5e-8.

    Formula 26.2.17 of Abramowitz and Stegun, Handbook of Mathematical Functions: numpy has no error function.
    """
    a = np.abs(z)
    t = 1.0 / (1.0 + 0.2316419 * a)
    polynomial = t * (0.319381530 + t * (-0.356563782 + t * (1.781477937 + t * (-1.821255978 + t * 1.330274429))))
    tail = np.exp(-0.5 * a * a) / math.sqrt(2.0 * math.pi) * polynomial
    return np.where(z >= 0, 1.0 - tail, tail)
