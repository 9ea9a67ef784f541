"""ALERT (Wan et al., USENIX ATC 2020, arXiv 1911.00119): one slow-down factor for everything.

The factor xi ~ N(mu, sigma^2) is tracked by a Kalman filter with an adaptive process noise:

    y = measured / profiled - mu;  Q = max(Q0, alpha Q + (1 - alpha)(K_previous y_previous)^2)
    P = (1 - K_previous) P + Q;  K = P / (P + R);  mu += K y

and the best point is taken among those of which Phi((deadline / t - mu) / sigma) is at least what was asked for, with
the expected energy power x t x mu.  With no such point: the one most likely to be in time, as deadlines come first
there. It decides on every frame anew; heat and battery are not in its model.  The overhead around an inference, which
ALERT takes as part of the profiled latency, is known to it here as its profiled value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from dynamic_perception.management.target import Objective, Target
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.manager import Manager


@dataclass(frozen=True)
class AlertSettings:
    """The filter's; the default is what was published.  `probability`: with which a deadline must be met."""

    gain: float = 0.5
    mean: float = 1.0
    variance: float = 0.1
    alpha: float = 0.3
    least_process: float = 0.1  # Q0
    noise: float = 0.001  # R
    probability: float = 0.95


# With the published Q0, sigma is at least 0.32, so that a point must be half as fast again as it has to: 43 to 53 %
# more energy than the oracle.  These were the best of a grid of 5 pairs of Q0 and R and 3 probabilities, on seeds 0 to
# 2 of all families on the modelled Odroid XU3: of those with fewest missed deadlines, the one of least energy and
# error.
TUNED = AlertSettings(least_process=1e-4, noise=1e-3, probability=0.99)


class Alert(Manager):
    """See the module's text."""

    def __init__(self, board: Board, settings: AlertSettings = TUNED, name: str = "ALERT", overhead: float = 2e-3):
        super().__init__(board)
        self.name, self._settings, self._overhead = name, settings, overhead
        self.mean, self.variance, self.gain = settings.mean, settings.variance, settings.gain
        self._process, self._correction = settings.least_process, 0.0
        self._quantile = NormalDist().inv_cdf(settings.probability)
        table = board.table
        self._latency, self._accuracy = table.latency, table.accuracy
        self._energy = np.nan_to_num(table.energy, nan=0.0)
        self._target = Target()
        self._best_first = np.arange(len(table))

    def set_target(self, time: float, target: Target) -> None:
        """Ranks the points once: the expected energy of all of them grows by the same factor."""
        self._target = target
        if target.objective is Objective.MIN_ENERGY:
            self._best_first = np.lexsort((self._latency, self._energy))
        else:
            self._best_first = np.lexsort((self._latency, self._energy, -self._accuracy))

    def report(self, time: float, row: int, ran: int, inference: float, overhead: float, waited: float) -> None:
        """One step of the filter; the profiled latency is that of the point that was asked for."""
        settings = self._settings
        error = inference / self._latency[row] - self.mean
        self._process = max(
            settings.least_process, settings.alpha * self._process + (1.0 - settings.alpha) * self._correction**2
        )
        self.variance = (1.0 - self.gain) * self.variance + self._process
        self.gain = self.variance / (self.variance + settings.noise)
        self._correction = self.gain * error
        self.mean += self._correction

    def decide(self, time: float, frame: int) -> int:
        order, target = self._best_first, self._target
        longest = (target.max_latency - self._overhead) / (self.mean + self._quantile * math.sqrt(self.variance))
        in_time = self._latency[order] <= longest
        kept = in_time
        if not math.isnan(target.max_energy):
            kept = kept & (self._energy[order] * self.mean <= target.max_energy)
        if not math.isnan(target.min_accuracy):
            kept = kept & (self._accuracy[order] >= target.min_accuracy)
        if kept.any():
            return int(order[np.argmax(kept)])
        if not in_time.any():
            return int(np.argmin(self._latency))
        among = order[in_time]
        if not math.isnan(target.min_accuracy):  # the floor goes first, and by as little as possible
            among = among[self._accuracy[among] == self._accuracy[among].max()]
        return int(among[np.argmin(self._energy[among])])

    def explanation(self) -> str:
        return f"slow-down {self.mean:.2f} +- {math.sqrt(self.variance):.2f}"
