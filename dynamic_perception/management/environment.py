"""How the machine behaves now, compared with how it behaved when it was profiled.

One slow-down factor per compute element (measured over profiled latency of an inference; ALERT's xi) and one overhead
around the inference (end-to-end minus inference), both normal distributions tracked by a Kalman filter.

Not all that an inference takes longer is a factor: to be woken, or to find the caches cold, costs as much for a short
one as for a long one.  Taken for a factor, it would keep a manager from ever leaving a subnetwork of a millisecond.  So
the excess over the profile is split as the two causes are likely to have made it,

    fixed / (excess - fixed) = F^2 / (S T)^2    with a fixed cost of 0 +- F s, and a factor of 1 +- S on T s

(the means of two normal distributions of which the sum is known), and the fixed part counts as overhead.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dynamic_perception.management import plausible
from dynamic_perception.management.backlog import Backlog
from dynamic_perception.management.kalman import KalmanFilter, KalmanSettings
from dynamic_perception.management.slow_downs import SLOW_DOWN, Gaussian, Gaussians, SlowDowns


@dataclass(frozen=True)
class EnvironmentSettings:
    """Filters of the slow-down [1] and of the overhead [s]; the start values hold until there are samples.

    Tuned on synthetic traces: with 1 to 5 % noise a step to 1.36 is followed within 3 samples, one sample of 3
    changes nothing, and an element that was slowed 3 times is tried again some ten seconds after it was left.
    """

    slow_down: KalmanSettings = SLOW_DOWN
    overhead: KalmanSettings = KalmanSettings(mean=2e-3, deviation=1e-3, noise=5e-4, noise_floor=1e-4)
    fixed_cost: float = 3e-4  # F [s]; 0: all is a factor
    factor: float = 0.2  # S

    def __post_init__(self):
        if not 0.0 <= self.fixed_cost < math.inf:
            raise ValueError(f"environment: fixed_cost is {self.fixed_cost:g} s: expected 0 or more")
        if not self.factor > 0.0:
            raise ValueError(f"environment: factor is {self.factor:g}: expected more than 0")


class Environment:
    """The slow-down of every compute element and the overhead around inference, with their variances.

    `slow_downs`: those of the machine, where other networks run on it too; the overhead is this network's own.
    """

    def __init__(
        self,
        elements: Sequence[str],
        settings: EnvironmentSettings = EnvironmentSettings(),
        slow_downs: SlowDowns | None = None,
        catches_up: bool = True,
    ):
        """`catches_up`: that frames wait counts after one slow inference already, not only after a step."""
        self.elements = tuple(elements)
        self._settings = settings
        self._slow_downs = SlowDowns((), settings.slow_down) if slow_downs is None else slow_downs
        self._slow_downs.add(self.elements)
        self._overhead = KalmanFilter(settings.overhead)
        self._backlog = Backlog()
        self._catches_up = catches_up
        self._stepped = False  # frames wait because of a step
        self._suspected = 1.0  # by how much the last inference was slower than believed, if that is not believed yet

    def observe(self, time: float, element: str, inference: float, profiled: float, overhead: float) -> None:
        """Take one frame: `inference` s where the profile says `profiled` s, and `overhead` s around it.

        ValueError, and no change, for an unknown element or a duration that is not plausible.
        """
        if element not in self.elements:
            raise ValueError(f"environment: compute element is {element!r}: expected one of {', '.join(self.elements)}")
        plausible.INFERENCE.check("environment: inference duration", inference)
        plausible.OVERHEAD.check("environment: overhead duration", overhead)
        if not 0.0 < profiled < math.inf:
            raise ValueError(f"environment: profiled duration is {profiled:g} s: expected more than 0 and finite")
        regime = self.regime
        fixed = self._fixed_part(inference - profiled, profiled)
        # Beyond what a slow-down can be it only says that something hung; how long must not stay in the filters.
        ratio = plausible.SLOW_DOWN.bound((inference - fixed) / profiled)
        outlier = self._slow_downs.observe(time, element, ratio)
        self._suspected = max(1.0, ratio / self._slow_downs.level(element)) if outlier else 1.0
        if not self._backlog.waiting:
            self._overhead.observe(time, max(0.0, overhead + fixed))
        stepped = self.regime > regime
        self._backlog.observe(time, inference + overhead, slow=stepped or outlier)
        self._stepped = stepped or (self._stepped and self._backlog.waiting > 0.0)

    def _fixed_part(self, excess: float, profiled: float) -> float:
        """[s] of what an inference takes longer than `profiled` s, that is likely to be a fixed cost, at most 2 F."""
        fixed, factor = self._settings.fixed_cost, self._settings.factor * profiled
        part = excess * fixed * fixed / (fixed * fixed + factor * factor)
        return min(max(part, -2.0 * fixed), 2.0 * fixed)

    def slow_down(self, time: float) -> Gaussians:
        """([elements], [elements]) mean and variance of the next inference's latency over the profiled one, at `time`.

        An element that is not used fades to the start values, or to what those in use say of it.
        """
        return self._slow_downs.predict(time, self.elements)

    @property
    def regime(self) -> int:
        """Another number: other work came or went since, and what was learnt about how steady things are is past."""
        return self._slow_downs.regime

    @property
    def suspected(self) -> float:
        """How many times slower than believed the next inference may be: the last one was, and a frame waits for it."""
        return self._suspected if self.waiting > 0.0 else 1.0

    @property
    def waiting(self) -> float:
        """[s] that the next frame will have waited because of a slow inference; part of the overhead."""
        return self._backlog.waiting if self._catches_up or self._stepped else 0.0

    def overhead(self, time: float = 0.0) -> Gaussian:
        """Mean [s] and variance [s^2] of the next frame's overhead, waiting included."""
        mean, variance = self._overhead.predict(time)
        return mean + self.waiting, variance
