"""How the machine behaves now, compared with how it behaved when it was profiled.

One slow-down factor per compute element (measured over profiled latency of an inference; ALERT's xi) and one overhead
around the inference (end-to-end minus inference), both normal distributions tracked by a Kalman filter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Iterable, NamedTuple, Sequence

import numpy as np

from dynamic_perception.management.backlog import Backlog
from dynamic_perception.management.kalman import NO_HINT, Hint, KalmanFilter, KalmanSettings

Gaussians = tuple[np.ndarray, np.ndarray]  # (means, variances)
Gaussian = tuple[float, float]             # (mean, variance)


@dataclass(frozen=True)
class EnvironmentSettings:
    """Filters of the slow-down [1] and of the overhead [s]; the start values hold until there are samples.

    Tuned on synthetic traces: with 1 to 5 % noise a step to 1.36 is followed within 3 samples, one sample of 3
    changes nothing, and an element that was slowed 3 times is tried again some ten seconds after it was left.
    """

    slow_down: KalmanSettings = KalmanSettings(mean=1.0, deviation=0.1, noise=0.03, noise_floor=0.01, fade_time=4.0,
                                               grace=2.0)
    overhead: KalmanSettings = KalmanSettings(mean=2e-3, deviation=1e-3, noise=5e-4, noise_floor=1e-4)


def cluster_of(element: str) -> str:
    """The part of "<cluster>:<threads>" that elements on the same cores have in common."""
    return element.partition(":")[0]


class _Element:
    """The slow-down of one compute element, and how it stands to those on the same cores."""

    def __init__(self, settings: KalmanSettings, cluster: str):
        self.filter = KalmanFilter(settings)
        self.cluster = cluster
        self.samples = 0    # since it was taken into use
        self.left_at = 1.0  # its slow-down when it was last in use
        self.peak = 1.0     # the greatest slow-down that another element of the cluster showed since it was heard


class _Heard(NamedTuple):
    """An element in use, and what it says about others."""

    used: _Element | None = None
    level: float = 1.0   # its slow-down
    excess: float = 0.0  # by how much others are slowed as well


class SlowDowns:
    """Measured over profiled inference latency of every compute element; other work on its cores makes it rise.

    An element that is not used fades to "as profiled", so that it is tried again.  If the trial shows that it is still
    slow, it fades RELAPSE times as slowly from then on, up to SLOWEST_FADE.

    Nor is an element "as profiled" while the one in use is slowed: the cause may slow all of them.  It is taken to be
    slowed as much on the same cores (one cluster, other thread counts), and half as much on others, with more doubt.
    Not so where the one in use is slowed beyond what memory, heat or a fair share of the cores explain: then its
    threads wait for one another, and others need not.  The belief fades from the last step on, so that one which is not
    slowed is found where the slow-down lasts.

    Elements on the same cores know more of each other.  If the one in use was slowed after the other was left, and
    recovers, then the other has recovered by the same share; and an element that was slow does not fade below a
    slow-down that the one in use still has.
    """

    SETTLED = 2          # [samples] of an element that was taken into use, after which the filter has followed a step
    FELT = 0.15          # a slow-down by less than this says nothing about other elements, and is no new regime
    RELAPSE = 1.5
    PATIENCE = 3.0       # [periods of the reports] of silence before an element counts as not used
    LONGEST_GAP = 10.0   # [s] between two reports, that says something about their period
    SLOWEST_FADE = 60.0  # [s]
    ELSEWHERE = 0.5      # share of a slow-down that is taken to hold for elements on other cores
    DOUBT = 0.2          # standard deviation of what is passed on, as a share of it
    PASSED_ON = 20.0     # [s] time constant with which that fades after a step
    COMMON = 2.5         # the greatest slow-down that is taken to hold for other elements as well

    def __init__(self, elements: Iterable[str] = (), settings: KalmanSettings = EnvironmentSettings().slow_down):
        self._settings = settings
        self._elements: dict[str, _Element] = {}
        self._clusters: dict[str, list[_Element]] = {}
        self._in_use: dict[str, _Element] = {}  # cluster -> the element that was heard last and is settled
        self._newest: _Element | None = None    # of these, the last one
        self._slowed_at = -math.inf             # [s] of its last step up, or when it was not slowed
        self.regime = 0  # counts the steps that an estimate has made: other work came or went, which is no noise
        self._reported_at = -math.inf
        self._period = 0.0        # [s] between two reports
        self._grace = settings.grace
        self.add(elements)

    def add(self, elements: Iterable[str]) -> None:
        """Also track these; what is known about the others stays."""
        for element in elements:
            if element not in self._elements:
                tracked = self._elements[element] = _Element(self._settings, cluster_of(element))
                self._clusters.setdefault(tracked.cluster, []).append(tracked)

    @property
    def elements(self) -> tuple[str, ...]:
        """Every element that is tracked."""
        return tuple(self._elements)

    def observe(self, time: float, element: str, ratio: float) -> bool:
        """An inference at `time` [s] took `ratio` times its profiled latency; KeyError for an unknown element.

        Whether it was an outlier, which does not count unless the next one is as slow.
        """
        tracked = self._elements[element]
        self._learn_period(time)
        if time - tracked.filter.heard_at > self._grace:
            tracked.samples, tracked.left_at = 0, tracked.filter.mean
        hint = NO_HINT
        if tracked is not self._newest:
            hint = self._hint(tracked, self._heard_of(self._speaker(tracked.cluster), time))
        held_back = not tracked.filter.observe(time, ratio, hint)
        change = tracked.filter.mean / tracked.filter.expected - 1.0
        self.regime += abs(change) > self.FELT
        if change > self.FELT or tracked.filter.mean < 1.0 + self.FELT:
            self._slowed_at = time
        tracked.samples += 1
        tracked.peak = 1.0
        if tracked.samples == self.SETTLED:
            self._judge_trial(tracked)
        if tracked.samples >= self.SETTLED:
            self._in_use[tracked.cluster] = self._newest = tracked
            for other in self._clusters[tracked.cluster]:
                if other is not tracked and other.peak < tracked.filter.mean:
                    other.peak = tracked.filter.mean
        return held_back

    def predict(self, time: float, elements: Sequence[str]) -> Gaussians:
        """([elements], [elements]) mean and variance of the next inference's latency over the profiled one."""
        speakers: dict[str, _Element | None] = {}  # by cluster
        heard: dict[_Element | None, _Heard] = {}  # by speaker
        unheard: dict[str, Gaussian] = {}          # by cluster: elements that were never heard are all alike
        means, variances = [], []
        for element in elements:
            tracked = self._elements[element]
            cluster = tracked.cluster
            never = tracked.filter.heard_at == -math.inf
            if never and cluster in unheard:
                mean, variance = unheard[cluster]
            elif tracked is self._newest:
                mean, variance = tracked.filter.predict(time)
            else:
                if cluster not in speakers:
                    used = speakers[cluster] = self._speaker(cluster)
                    if used not in heard:
                        heard[used] = self._heard_of(used, time)
                mean, variance = tracked.filter.predict(time, self._hint(tracked, heard[speakers[cluster]]))
                if never:
                    unheard[cluster] = mean, variance
            means.append(mean)
            variances.append(variance)
        return np.array(means), np.array(variances)

    def _learn_period(self, time: float) -> None:
        """Where reports come seldom, an element is not forgotten between two of them."""
        gap, self._reported_at = time - self._reported_at, max(time, self._reported_at)
        if 0.0 <= gap < math.inf:
            self._period += 0.2 * (min(gap, self.LONGEST_GAP) - self._period)
        grace = max(self._settings.grace, self.PATIENCE * self._period)
        if grace != self._grace:
            self._grace = grace
            for tracked in self._elements.values():
                tracked.filter.grace = grace

    def _hint(self, tracked: _Element, heard: _Heard) -> Hint:
        """What an element in use says about one that was not heard since."""
        used, level, excess = heard
        if used is None or (excess == 0.0 and used.cluster != tracked.cluster):
            return NO_HINT
        if used is tracked or used.filter.heard_at < tracked.filter.heard_at:
            return NO_HINT
        if used.cluster != tracked.cluster:
            return Hint(1.0 + self.ELSEWHERE * excess, deviation=self.DOUBT * excess)
        left, towards = 1.0, 1.0 + excess
        if tracked.peak > 1.0 + self.FELT:
            left = min(1.0, max(0.0, (level - 1.0) / (tracked.peak - 1.0)))
        if level >= 1.0 + self.FELT and tracked.filter.heard_at > -math.inf:
            towards = max(towards, min(1.0 + left * (tracked.filter.mean - 1.0), level))
        return Hint(towards, left, self.DOUBT * excess)

    def _speaker(self, cluster: str) -> _Element | None:
        """Who speaks for a cluster: its own element in use, or else, of all in use, the one that is slowed least."""
        if self._newest is None or len(self._in_use) == 1:
            return self._newest
        since = self._newest.filter.heard_at - self._grace
        used = self._in_use.get(cluster)
        if used is not None and used.filter.heard_at >= since:
            return used
        return min((one for one in self._in_use.values() if one.filter.heard_at >= since),
                   key=lambda one: one.filter.mean)

    def _heard_of(self, used: _Element | None, time: float) -> _Heard:
        """What an element in use says about others."""
        if used is None:
            return _Heard()
        level = used.filter.predict(time)[0]
        excess = level - 1.0 if 1.0 < level < self.COMMON else 0.0
        if time > self._slowed_at:
            excess *= math.exp((self._slowed_at - time) / self.PASSED_ON)
        return _Heard(used, level, excess)

    def _judge_trial(self, tracked: _Element) -> None:
        """The element was taken into use again: had it recovered, as the fading said?"""
        if tracked.left_at < 1.0 + self.FELT:
            return
        relapsed = tracked.filter.mean > (1.0 + tracked.left_at) / 2.0
        slower = min(tracked.filter.fade_time * self.RELAPSE, max(self.SLOWEST_FADE, self._settings.fade_time))
        tracked.filter.fade_time = slower if relapsed else self._settings.fade_time


class Environment:
    """The slow-down of every compute element and the overhead around inference, with their variances.

    `slow_downs`: those of the machine, where other networks run on it too; the overhead is this network's own.
    """

    def __init__(self, elements: Sequence[str], settings: EnvironmentSettings = EnvironmentSettings(),
                 slow_downs: SlowDowns | None = None, catches_up: bool = True):
        """`catches_up`: that frames wait counts after one slow inference already, not only after a step."""
        self.elements = tuple(elements)
        self._slow_downs = SlowDowns((), settings.slow_down) if slow_downs is None else slow_downs
        self._slow_downs.add(self.elements)
        self._overhead = KalmanFilter(settings.overhead)
        self._backlog = Backlog()
        self._catches_up = catches_up
        self._stepped = False  # frames wait because of a step

    def observe(self, time: float, element: str, inference: float, profiled: float, overhead: float) -> None:
        """Take one frame: `inference` s where the profile says `profiled` s, and `overhead` s around it.

        ValueError, and no change, for an unknown element or a duration that cannot be (NaN, infinite, not positive).
        """
        if element not in self.elements:
            raise ValueError(f"environment: compute element is {element!r}: expected one of {', '.join(self.elements)}")
        if not (0.0 < inference < math.inf and 0.0 < profiled < math.inf and 0.0 <= overhead < math.inf):
            self._refuse(inference, profiled, overhead)
        regime = self.regime
        outlier = self._slow_downs.observe(time, element, inference / profiled)
        if not self._backlog.waiting:
            self._overhead.observe(time, overhead)
        stepped = self.regime > regime
        self._backlog.observe(time, inference + overhead, slow=stepped or outlier)
        self._stepped = stepped or self._stepped and self._backlog.waiting > 0.0

    @staticmethod
    def _refuse(inference: float, profiled: float, overhead: float) -> None:
        for name, value, least in (("inference", inference, "more than"), ("profiled", profiled, "more than"),
                                   ("overhead", overhead, "at least")):
            if not math.isfinite(value) or value < 0 or (value == 0 and least == "more than"):
                raise ValueError(f"environment: {name} duration is {value:g} s: expected {least} 0 and finite")

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
    def waiting(self) -> float:
        """[s] that the next frame will have waited because of a slow inference; part of the overhead."""
        return self._backlog.waiting if self._catches_up or self._stepped else 0.0

    def overhead(self, time: float = 0.0) -> Gaussian:
        """Mean [s] and variance [s^2] of the next frame's overhead, waiting included."""
        mean, variance = self._overhead.predict(time)
        return mean + self.waiting, variance
