"""How much slower every compute element is than when it was profiled, and what one element says about the others."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from dynamic_perception.management.kalman import NO_HINT, Hint, KalmanFilter, KalmanSettings

Gaussians = tuple[np.ndarray, np.ndarray]  # (means, variances)
Gaussian = tuple[float, float]  # (mean, variance)

SLOW_DOWN = KalmanSettings(mean=1.0, deviation=0.1, noise=0.03, noise_floor=0.01, fade_time=4.0, grace=2.0)


def cluster_of(element: str) -> str:
    """The part of "<cluster>:<threads>" that elements on the same cores have in common."""
    return element.partition(":")[0]


def threads_of(element: str) -> int:
    """The part of "<cluster>:<threads>" after the colon; 1 where there is none, as on a GPU."""
    threads = element.partition(":")[2]
    return int(threads) if threads.isdecimal() and int(threads) > 0 else 1


class _Element:
    """The slow-down of one compute element, and how it stands to others."""

    def __init__(self, settings: KalmanSettings, name: str):
        self.filter = KalmanFilter(settings)
        self.cluster = cluster_of(name)
        self.threads = threads_of(name)
        self.samples = 0  # since it was taken into use
        self.turns = 1.0  # the part of its slow-down that came in steps: it takes turns with other threads
        self.slowed_at = -math.inf  # [s] of its last step up, or when it was not slowed
        self.judged = True  # whether it had recovered when it was taken into use
        self.left_at = 1.0  # its slow-down when it was last in use
        self.peaker: _Element | None = None  # the one that was heard last of those that tell of this one's recovery
        self.peak = 1.0  # its greatest slow-down since


class _Heard(NamedTuple):
    """What an element that was in use says about others."""

    used: _Element
    level: float  # its slow-down
    alike: float = 1.0  # by how much others are slowed if what slows this one slows all alike,
    common: float = 1.0  # and if its steps were other threads on its cores: the rest, which holds for others too,
    turns: float = 1.0  # besides these
    likely: float = 1.0  # [0..1] how much the first is believed
    kept: float = 1.0  # [0..1] how much of all that still is

    def of_another(self, turns: float = 1.0) -> float:
        """The slow-down of another element, which takes `turns` with those threads."""
        return self.likely * self.alike + (1.0 - self.likely) * self.common * (1.0 + self.kept * (turns - 1.0))


class SlowDowns:
    """Measured over profiled inference latency of every compute element; other work on its cores makes it rise.

    An element that is not used fades to "as profiled", so that it is tried again.  If the trial shows that it is still
    slow, it fades RELAPSE times as slowly from then on, up to SLOWEST_FADE.

    Nor is an element "as profiled" while the one in use is slowed: the cause may slow all of them.  Right after a step
    it is taken to be slowed as much on the same cores (one cluster, other thread counts), and ELSEWHERE of that on
    others, with more doubt.  This belief fades to another one: the step was other threads that take turns with those of
    the network on that cluster (JointSelector's model), so that n threads on c cores with k others take
    max(1, (n + k) / c) times as long.  What came bit by bit (memory, heat) goes on to hold for all.  All of that fades
    slowly, and does not count against what an element itself showed since that step.  So a free one is found.

    Not so where the one in use is slowed beyond what memory, heat or a fair share of the cores explain: then its
    threads wait for one another, and others need not.

    Elements on the same cores know more of each other.  If the one in use was slowed after the other was left, and
    recovers, then the other has recovered by the same share; and an element that was slow does not fade below a
    slow-down that the one in use still has.
    """

    SETTLED = 2  # [samples] of an element that was taken into use, after which the filter has followed a step
    FELT = 0.15  # a slow-down by less than this says nothing about other elements, and is no new regime
    SAID = 0.05  # nor does one by less than this say that another element is slowed
    RELAPSE = 1.5
    PATIENCE = 3.0  # [periods of the reports] of silence before an element counts as not used
    LONGEST_GAP = 10.0  # [s] between two reports, that says something about their period
    SLOWEST_FADE = 60.0  # [s]
    ELSEWHERE = 0.5  # share of a slow-down that is taken to hold for elements on other cores
    DOUBT = 0.2  # standard deviation of what is passed on, as a share of it
    ALIKE = 3.0  # [s] time constant with which the belief fades that a step slows all elements alike
    PASSED_ON = 60.0  # [s] time constant with which that fades which came bit by bit
    COMMON = 2.5  # the greatest slow-down that is taken to hold for other elements as well

    def __init__(self, elements: Iterable[str] = (), settings: KalmanSettings = SLOW_DOWN):
        self._settings = settings
        self._elements: dict[str, _Element] = {}
        self._clusters: dict[str, list[_Element]] = {}
        self._cores: dict[str, int] = {}  # cluster -> the greatest thread count of its elements
        self._in_use: dict[str, _Element] = {}  # cluster -> the element that was heard last and is settled
        self._newest: _Element | None = None  # of these, the last one
        self.regime = 0  # counts the steps that an estimate has made: other work came or went, which is no noise
        self._reported_at = -math.inf
        self._period = 0.0  # [s] between two reports
        self._grace = settings.grace
        self.add(elements)

    def add(self, elements: Iterable[str]) -> None:
        """Also track these; what is known about the others stays."""
        for element in elements:
            if element not in self._elements:
                tracked = self._elements[element] = _Element(self._settings, element)
                self._clusters.setdefault(tracked.cluster, []).append(tracked)
                self._cores[tracked.cluster] = max(self._cores.get(tracked.cluster, 1), tracked.threads)

    @property
    def elements(self) -> tuple[str, ...]:
        """Every element that is tracked."""
        return tuple(self._elements)

    @property
    def clusters(self) -> Collection[str]:
        """Every cluster that they are on."""
        return self._clusters.keys()

    def level(self, element: str) -> float:
        """The slow-down of an element when it was last heard."""
        return self._elements[element].filter.mean

    def observe(self, time: float, element: str, ratio: float) -> bool:
        """An inference at `time` [s] took `ratio` times its profiled latency; KeyError for an unknown element.

        Whether it was an outlier, which does not count unless the next one is as slow.
        """
        tracked = self._elements[element]
        self._learn_period(time)
        hint = NO_HINT if tracked is self._newest else self._hint(tracked, time, {})
        if time - tracked.filter.heard_at > self._grace:
            self._begin_trial(tracked)
        held_back = not tracked.filter.observe(time, ratio, hint)
        tracked.samples += 1
        if not tracked.judged and not held_back:
            self._judge_trial(tracked)
        self._notice_step(tracked, time)
        tracked.peaker = None
        if tracked.samples >= self.SETTLED:
            self._in_use[tracked.cluster] = self._newest = tracked
            self._be_compared(tracked)
        return held_back

    def _be_compared(self, tracked: _Element) -> None:
        """Let those on its cores, and those that were slow for the same cause, know how slow the one in use is."""
        mean = tracked.filter.mean
        for other in self._clusters[tracked.cluster]:
            if other is not tracked and (other.peaker is not tracked or other.peak < mean):
                other.peaker, other.peak = tracked, mean
        for other in self._in_use.values():
            if other.cluster == tracked.cluster:
                continue
            if other.peaker is tracked:
                other.peak = max(other.peak, mean)
            elif (
                tracked.samples == self.SETTLED
                and 1.0 + self.FELT < other.filter.mean < self.COMMON
                and (1.0 + other.filter.mean) / 2.0 < mean < self.COMMON
            ):
                other.peaker, other.peak = tracked, mean

    def _notice_step(self, tracked: _Element, time: float) -> None:
        """A step of the element in use is other threads; one of an element that was just taken into use is none."""
        mean = tracked.filter.mean
        change = mean / tracked.filter.expected - 1.0
        self.regime += abs(change) > self.FELT
        if abs(change) > self.FELT and tracked.samples > self.SETTLED:
            tracked.turns *= 1.0 + change
        elif tracked.samples == self.SETTLED and mean > tracked.turns * (1.0 + self.FELT):
            tracked.turns = 1.0  # what slows it is not what was thought
        tracked.turns = max(1.0, min(tracked.turns, mean))
        if change > self.FELT or mean < 1.0 + self.FELT:
            tracked.slowed_at = time

    def predict(self, time: float, elements: Sequence[str]) -> Gaussians:
        """([elements], [elements]) mean and variance of the next inference's latency over the profiled one."""
        heard: dict[_Element, _Heard] = {}
        unheard: dict[str, Gaussian] = {}  # by cluster: elements that were never heard, and are all alike
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
                mean, variance = tracked.filter.predict(time, self._hint(tracked, time, heard))
                used = heard.get(self._in_use.get(cluster)) if never else None
                if never and (used is None or used.alike == 1.0):
                    unheard[cluster] = mean, variance
            means.append(mean)
            variances.append(variance)
        both = np.array((means, variances))
        return both[0], both[1]

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

    def _hint(self, tracked: _Element, time: float, heard: dict[_Element, _Heard]) -> Hint:
        """What elements that are or were in use say about one that was not heard since; `heard`: what they said."""
        used = self._in_use.get(tracked.cluster)
        if used is None or used is tracked:
            return self._hint_from_elsewhere(tracked, time, heard)
        if used.filter.heard_at < tracked.filter.heard_at:
            return NO_HINT
        said = self._said_by(used, time, heard)
        towards = said.of_another(self._turns_of(tracked, used, said.turns))
        left = self._share_left(tracked, said)
        if said.level >= 1.0 + self.FELT and tracked.filter.heard_at > -math.inf:
            tried = tracked.filter.heard_at >= used.slowed_at
            still = said.level if tried or tracked.threads >= used.threads else towards
            towards = max(towards, min(1.0 + left * (tracked.filter.mean - 1.0), still))
        return Hint(towards, left, self.DOUBT * (said.of_another() - 1.0), used.filter.noise)

    def _hint_from_elsewhere(self, tracked: _Element, time: float, heard: dict[_Element, _Heard]) -> Hint:
        """What the element in use says about those on other cores: of all in use, the one that is slowed least."""
        if self._newest is None:
            return NO_HINT
        since = self._newest.filter.heard_at - self._grace
        used = self._newest
        if len(self._in_use) > 1:
            used = min(
                (one for one in self._in_use.values() if one.filter.heard_at >= since), key=lambda one: one.filter.mean
            )
        if used is tracked or used.filter.heard_at < tracked.filter.heard_at:
            return NO_HINT
        said = self._said_by(used, time, heard)
        if tracked.peaker is used and said.level < self.COMMON:
            left = self._share_left(tracked, said)
            return Hint(min(1.0 + left * (tracked.filter.mean - 1.0), said.level), left)
        if said.alike == 1.0 and tracked.filter.heard_at > -math.inf:
            return NO_HINT
        excess = said.of_another() - 1.0
        return Hint(1.0 + self.ELSEWHERE * excess, deviation=self.DOUBT * excess, noise=used.filter.noise)

    def _said_by(self, used: _Element, time: float, heard: dict[_Element, _Heard]) -> _Heard:
        """What an element says about others, worked out once."""
        if used not in heard:
            heard[used] = self._heard_of(used, time, heard)
        return heard[used]

    def _heard_of(self, used: _Element, time: float, heard: dict[_Element, _Heard]) -> _Heard:
        """What an element that was in use says about others."""
        hint = NO_HINT if used is self._newest else self._hint_from_elsewhere(used, time, heard)
        level = used.filter.predict(time, hint)[0]
        if not 1.0 + self.SAID < level < self.COMMON:
            return _Heard(used, level)
        turns = used.turns
        if turns > 1.0 and level < used.filter.mean:  # it is fading
            turns = 1.0 + (turns - 1.0) * (level - 1.0) / (used.filter.mean - 1.0)
        since = min(0.0, used.slowed_at - time)
        kept = math.exp(since / self.PASSED_ON)
        alike, common = 1.0 + kept * (level - 1.0), max(1.0, 1.0 + kept * (level / turns - 1.0))
        return _Heard(used, level, alike, common, turns, math.exp(since / self.ALIKE), kept)

    def _share_left(self, tracked: _Element, said: _Heard) -> float:
        """[0..1] of what slowed an element, as far as one knows that was slowed with it and may have recovered."""
        if tracked.peaker is not said.used or tracked.peak <= 1.0 + self.FELT:
            return 1.0
        return min(1.0, max(0.0, (said.level - 1.0) / (tracked.peak - 1.0)))

    def _turns_of(self, tracked: _Element, used: _Element, turns: float) -> float:
        """By how much an element is slowed by the threads that the one in use takes `turns` with."""
        return max(1.0, turns + (tracked.threads - used.threads) / self._cores[used.cluster]) if turns > 1.0 else 1.0

    def _begin_trial(self, tracked: _Element) -> None:
        """The element is taken into use."""
        tracked.samples, tracked.left_at, tracked.judged = 0, tracked.filter.mean, False
        used = self._in_use.get(tracked.cluster)
        tracked.turns = 1.0 if used in (None, tracked) else self._turns_of(tracked, used, used.turns)
        if self._newest is not None:  # what slows this one may be what slowed that
            tracked.slowed_at = self._newest.slowed_at

    def _judge_trial(self, tracked: _Element) -> None:
        """The element was taken into use again: had it recovered, as the fading said?"""
        tracked.judged = True
        if tracked.left_at < 1.0 + self.FELT:
            return
        relapsed = tracked.filter.mean > (1.0 + tracked.left_at) / 2.0
        slower = min(tracked.filter.fade_time * self.RELAPSE, max(self.SLOWEST_FADE, self._settings.fade_time))
        tracked.filter.fade_time = slower if relapsed else self._settings.fade_time
