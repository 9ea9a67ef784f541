"""A Kalman filter for one slowly moving quantity that sometimes jumps and is sometimes measured wrong.

The filter of ALERT (USENIX ATC 2020, arXiv 1911.00119): a random walk whose process noise Q follows the corrections,

    y = value - mean;  K = (P + Q) / (P + Q + R);  mean += K y;  P = (1 - K)(P + Q)
    Q = max(Q0, alpha Q + (1 - alpha)(K y)^2)

With ALERT's published numbers (Q0 0.1, R 0.001) the gain is 0.99 and the estimate is simply the last sample.  Three
things are different here, so that it can be smooth and quick at once:

* R is the square of a share of the quantity, learnt so that 90 % of the innovations are within their predicted 90 %
  interval, and Q0 is a fraction of R.  Until there was a sample it is what is known of a quantity like this one.
* An estimate that is not heard of fades, after a grace, to where the quantity lies while nothing is known.
* An innovation test: a sample outside the gate is held back.  If the very next one is outside on the same side, the
  quantity has jumped and the filter restarts from the two.  If it stays alone for `confirmation` samples, it was an
  outlier and never counts.  If others follow, but not at once, the quantity really varies that much, and they count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from dynamic_perception.management.operating_points import Z_95

EITHER_OR = 0.3  # share of the start value: the most that two places where the quantity may be count as doubt
NOISE_GAIN = 3.0  # over the number of samples: the best steps for a normal distribution, 1 / (2 Z_95 phi(Z_95))
NOISE_PRIOR = 20.0  # [samples] that the start value counts as
COVERAGE = 0.90  # a two-sided 90 % quantile is a one-sided 95 % one: Z_95 deviations of a normal distribution


@dataclass(frozen=True)
class KalmanSettings:
    """Start values in the unit of the quantity, and the filter's behaviour."""

    mean: float  # where the filter starts, and returns to when it hears nothing
    deviation: float  # standard deviation of the quantity around `mean` while nothing is known
    noise: float  # standard deviation of one sample, before it is learnt
    noise_floor: float  # never assume less
    process_ratio: float = 0.1  # Q0 / R; 0.1 is a steady gain of 0.27: about the last 7 samples count
    alpha: float = 0.3  # ALERT's
    gate: float = 3.0  # [standard deviations of the innovation]
    confirmation: int = 20  # [samples] one outlier in so many is ignored: a deadline kept in 95 % allows for 5 %
    noise_rate: float = 0.05  # least relative step of the quantile estimate per sample
    fade_time: float = math.inf  # [s] time constant of forgetting; inf: never
    grace: float = 0.0  # [s] of silence before forgetting begins: the time between two samples is none

    def __post_init__(self):
        for name in (
            "deviation",
            "noise",
            "noise_floor",
            "process_ratio",
            "gate",
            "confirmation",
            "noise_rate",
            "fade_time",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"Kalman filter: {name} is {getattr(self, name):g}: expected more than 0")
        if not self.grace >= 0:
            raise ValueError(f"Kalman filter: grace is {self.grace:g}: expected 0 or more")
        if not 0 <= self.alpha < 1:
            raise ValueError(f"Kalman filter: alpha is {self.alpha:g}: expected 0 to below 1")


class Hint(NamedTuple):
    """What is known about a quantity that is not heard of, from one that moves with it."""

    towards: float = math.nan  # what the estimate fades to; NaN: the start value
    left: float = 1.0  # [0..1] of its distance from the start value when it was last heard
    deviation: float = 0.0  # how far it may be from `towards`, beyond the deviation of the settings
    noise: float = math.nan  # standard deviation of a sample over the quantity; counts until there was one


NO_HINT = Hint()


class KalmanFilter:
    """Mean and variance of one quantity."""

    def __init__(self, settings: KalmanSettings):
        self.settings = settings
        self.fade_time = settings.fade_time  # [s] may be changed
        self.grace = settings.grace  # [s] may be changed
        self.heard_at = -math.inf  # [s] time of the newest sample
        self.expected = settings.mean  # mean when the newest sample came, without it
        self._mean = settings.mean
        self._variance = settings.deviation**2  # P
        self._share = settings.noise / settings.mean  # square root of R, over the quantity
        self._learnt = 0  # samples that it was learnt from
        self._process = settings.process_ratio * settings.noise**2  # Q
        self._outlier = math.nan  # the last sample outside the gate
        self._since_outlier = math.inf  # [samples]

    @property
    def mean(self) -> float:
        """As of the newest sample."""
        return self._mean

    @property
    def noise(self) -> float:
        """Standard deviation of a sample over the quantity, as far as it was learnt."""
        return self._share

    def _noise_at(self, mean: float) -> float:
        """Standard deviation of a sample where the quantity is `mean`: a share of it."""
        return max(self.settings.noise_floor, self._share * mean)

    def predict(self, time: float, hint: Hint = NO_HINT) -> tuple[float, float]:
        """(mean, variance) of the next sample at `time` [s]: doubt about the estimate, and noise of the sample."""
        if hint is NO_HINT and time - self.heard_at <= self.grace:  # the usual case
            return self._mean, self._variance + self._process + self._noise_at(self._mean) ** 2
        mean, variance, process = self._faded(time, hint)
        return mean, variance + process + self._noise_at(mean) ** 2

    def observe(self, time: float, value: float, hint: Hint = NO_HINT) -> bool:
        """Take the sample `value`, measured at `time` [s]; False: it is held back.  `hint`: what was known before."""
        self._mean, self._variance, self._process = self._faded(time, hint)
        self.expected = self._mean
        self.heard_at = max(self.heard_at, time)
        self._since_outlier += 1
        innovation = value - self._mean
        noise = self._noise_at(self._mean)
        if abs(innovation) > self.settings.gate * math.sqrt(self._variance + self._process + noise * noise):
            before, since = self._outlier, self._since_outlier
            self._outlier, self._since_outlier = value, 0
            if since > self.settings.confirmation:
                return False
            if since == 1 and (before - self._mean) * innovation > 0:
                self._restart((before + value) / 2)
                return True
        self._update(innovation, noise)
        return True

    def _faded(self, time: float, hint: Hint) -> tuple[float, float, float]:
        """Mean and variance of the estimate, and its process noise, after hearing nothing until `time`.

        With the chance `kept` the quantity is still where it was heard, else it is where it lies while nothing is
        known: that is more doubt than either of the two has.  Less so where they are far from each other, as doubt
        puts off the next sample, which would end it.
        """
        towards, left, deviation, noise = hint
        start, doubt = self.settings.mean, self.settings.deviation**2
        if towards != towards:
            towards = start
        if self.heard_at == -math.inf:
            self._assume(noise)
            return towards, doubt + deviation * deviation, self._process
        mean, variance, process = self._mean, self._variance, self._process
        if left < 1.0:  # half the doubt of the start: something vouches for it
            mean, variance = start + left * (mean - start), variance + (1.0 - left) * doubt / 4.0
        silence = time - self.heard_at - self.grace
        if silence <= 0.0:
            return mean, variance, process
        kept, doubt = math.exp(-silence / self.fade_time), doubt + deviation * deviation
        either = kept * (1.0 - kept) * min(abs(mean - towards), EITHER_OR * start) ** 2
        mean = towards + kept * (mean - towards)
        least = self.settings.process_ratio * self._noise_at(mean) ** 2
        return mean, kept * variance + (1.0 - kept) * doubt + either, least + kept * (process - least)

    def _assume(self, noise: float) -> None:
        """Until there is a sample the noise is what others say, a share of the quantity; NaN: they say nothing."""
        if noise == noise:
            self._share = noise
            self._process = self.settings.process_ratio * self._noise_at(self.settings.mean) ** 2

    def _restart(self, mean: float) -> None:
        self._mean = mean
        self._since_outlier = math.inf  # the next one is judged by the new mean
        noise = self._noise_at(mean)
        self._variance = 2.0 * noise * noise  # of two samples, of which the first may have been amid the jump
        # The jump is over: it must not make the samples to come look uncertain, so Q forgets it.
        self._process = self.settings.process_ratio * noise * noise

    def _update(self, innovation: float, noise: float) -> None:
        settings = self.settings
        variance = self._variance + self._process
        gain = variance / (variance + noise * noise)
        correction = gain * innovation
        self._mean += correction
        self._variance = (1.0 - gain) * variance
        self._learn_noise(abs(innovation) > Z_95 * math.sqrt(variance + noise * noise))
        followed = settings.alpha * self._process + (1.0 - settings.alpha) * correction**2
        self._process = max(settings.process_ratio * self._noise_at(self._mean) ** 2, followed)

    def _learn_noise(self, outside: bool) -> None:
        """One step towards COVERAGE of the innovations inside their interval (Robbins and Monro's quantile rule)."""
        self._learnt += 1
        rate = max(self.settings.noise_rate, NOISE_GAIN / (NOISE_PRIOR + self._learnt))
        step = rate * (COVERAGE if outside else COVERAGE - 1.0)
        self._share = max(self.settings.noise_floor / self.settings.mean, self._share * math.exp(step))
