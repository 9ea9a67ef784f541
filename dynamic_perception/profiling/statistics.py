"""What the turns of one operating point say about it, and whether they can be believed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959963984540054  # two-sided 95 % of the standard normal distribution
Z_TREND = 2.326347874040841  # one-sided 99 %
CLOCK_TOLERANCE = 0.01  # of the clock that was asked for, by which it may read back
LEAST_DRIFTED = 4  # turns at another clock before a point is given up
LEAST_RISE = 0.05  # of the latency from the first turn to the last, less is not worth a word
LEAST_WARMING = 3.0  # [K] meanwhile


@dataclass(frozen=True)
class Turn:
    """Some inferences of one point in a row.

    Attributes:
        durations: [s] of each.
        clocks: [Hz] as read back before and after; NaN: not told.
        temperatures: [°C] of the hottest sensor before and after; NaN: no sensor.
        energy: [J] above idle that a span of further inferences took; NaN: not measured.
        energy_time: [s] of that span.
        energy_runs: inferences in it.
    """

    durations: tuple[float, ...]
    clocks: tuple[float, float] = (math.nan, math.nan)
    temperatures: tuple[float, float] = (math.nan, math.nan)
    energy: float = math.nan
    energy_time: float = 0.0
    energy_runs: int = 0

    def drifted(self, clock: float) -> bool:
        """Whether it ran at another clock than `clock` [Hz]; 0: none was asked for."""
        return clock > 0 and any(abs(actual / clock - 1) > CLOCK_TOLERANCE for actual in self.clocks)


@dataclass(frozen=True)
class Summary:
    """One operating point, measured.

    Attributes:
        durations: [s] of all inferences that count, in the order of their time.
        left_out: turns that do not count, because the clock was another one.
        temperatures: [°C] before the first turn and after the last.
        power, energy: [W] above idle while an inference runs, [J] of one; NaN: not measured.
        mark: why the point cannot be believed; empty: it can.
    """

    durations: np.ndarray
    left_out: int
    temperatures: tuple[float, float]
    power: float
    energy: float
    mark: str


def summarise(turns: Sequence[Turn], clock: float) -> Summary:
    """Put the turns of a point at `clock` [Hz] (0: left to the governor) together.

    Turns at another clock do not count.  If they are the more, or if heat slowed the point down, it is marked.
    """
    clean = [turn for turn in turns if not turn.drifted(clock)]
    left_out = len(turns) - len(clean)
    mark = ""
    if gave_up(turns, clock):
        actual = np.median([min(turn.clocks) for turn in turns if turn.drifted(clock)])
        mark = f"drifted: ran at {actual / 1e6:.0f} MHz in {left_out} of {len(turns)} turns"
    else:
        mark = throttling(clean)
    measured = [turn for turn in clean if not math.isnan(turn.energy)]
    energy, seconds, runs = (
        sum(getattr(turn, name) for turn in measured) for name in ("energy", "energy_time", "energy_runs")
    )
    above_idle = runs > 0 and energy > 0  # less than idle: too little to be seen by this sensor
    counted = clean or turns
    return Summary(
        durations=np.array([duration for turn in counted for duration in turn.durations]),
        left_out=left_out,
        temperatures=(turns[0].temperatures[0], turns[-1].temperatures[1]),
        power=energy / seconds if above_idle else math.nan,
        energy=energy / runs if above_idle else math.nan,
        mark=mark,
    )


def gave_up(turns: Sequence[Turn], clock: float) -> bool:
    """Whether the clock is another one so often that the point is not worth going on with."""
    drifted = sum(turn.drifted(clock) for turn in turns)
    return drifted >= LEAST_DRIFTED and 2 * drifted > len(turns)


def throttling(turns: Sequence[Turn]) -> str:
    """How heat slowed a point down, in words; empty where it did not.

    Heat has, if the latency rose steadily (Mann's test of the turns' medians for a trend, Econometrica 13, 1945) while
    the machine became warmer.
    """
    if len(turns) < 4:
        return ""
    medians = np.array([np.median(turn.durations) for turn in turns])
    warming = turns[-1].temperatures[1] - turns[0].temperatures[0]
    third = max(1, len(turns) // 3)
    rise = np.median(medians[-third:]) / np.median(medians[:third]) - 1
    if not (warming >= LEAST_WARMING and rise >= LEAST_RISE and _trend(medians) > Z_TREND):
        return ""
    return f"throttled: {100 * rise:.0f} % slower while the temperature rose by {warming:.0f} K"


def precision(durations: Sequence[float], quantile: float = 0.5) -> float:
    """Half-width of the 95 % confidence interval of a quantile, relative to it.

    The interval's ends are order statistics, at n q -+ z sqrt(n q (1 - q)) (binomial distribution), whatever the
    distribution of the durations; beyond the largest duration the interval is not known: inf.
    """
    ordered = np.sort(durations)
    n = len(ordered)
    reach = Z_95 * math.sqrt(n * quantile * (1 - quantile))
    low, high = math.floor(n * quantile - reach), math.ceil(n * quantile + reach)
    if quantile > 0.5 and high > n - 1:
        return math.inf
    low, high = max(0, low), min(n - 1, high)
    return float((ordered[high] - ordered[low]) / 2 / np.quantile(ordered, quantile))


def _trend(values: np.ndarray) -> float:
    """z of Mann's test: how many standard deviations more pairs rise than fall."""
    n = len(values)
    first, second = np.triu_indices(n, k=1)
    score = np.sign(values[second] - values[first]).sum()
    return float((score - np.sign(score)) / math.sqrt(n * (n - 1) * (2 * n + 5) / 18))
