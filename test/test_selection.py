"""What every operating point is predicted to do, and whether that meets the limits."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import board, point, table

from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.selection import Prediction, Selector, Situation
from dynamic_perception.management.settings import RELAXABLE
from dynamic_perception.management.target import Objective, Target

NO_ROWS = np.array([], dtype=int)


def situation(
    points: OperatingPointTable,
    mean: float | tuple = 1.0,
    variance: float = 1e-3,
    overhead: tuple[float, float] = (2e-3, 1e-7),
    deadline: float = math.inf,
    target: Target = Target(),
    sharing: float | None = None,
) -> Situation:
    count = len(points.elements)
    return Situation(
        target=target,
        deadline=deadline,
        thermal_cap=math.inf,
        battery_cap=math.inf,
        battery_ignored=False,
        fallback=False,
        slow_down=(np.broadcast_to(mean, count).astype(float), np.full(count, variance)),
        overhead=overhead,
        available=np.ones(len(points), dtype=bool),
        sharing=None if sharing is None else np.full(count, sharing),
    )


def probabilities(points: OperatingPointTable, now: Situation, asked: float = 0.95) -> list[float]:
    """Of every point to meet the deadline."""
    selector = Selector(points, RELAXABLE, asked, NO_ROWS)
    prediction = selector.predict(now)
    return [selector.within_deadline(now, prediction, row) for row in range(len(points))]


@pytest.mark.parametrize("asked", [0.5, 0.95])
def test_the_probability_is_that_of_the_sum_of_both_distributions(asked):
    points = table([point(latency=10e-3)])
    exact = NormalDist(10e-3 * 1.2 + 2e-3, math.sqrt(10e-3**2 * 0.01 + 1e-6)).cdf(15e-3)
    now = situation(points, 1.2, 0.01, (2e-3, 1e-6), 15e-3)
    assert probabilities(points, now, asked) == pytest.approx([exact], abs=1e-9)


def test_each_row_uses_the_slow_down_of_its_own_element():
    slow_first = probabilities(board(), situation(board(), (3.0, 1.0), 0.01, (0.0, 1e-8), 9e-3))
    slow_second = probabilities(board(), situation(board(), (1.0, 3.0), 0.01, (0.0, 1e-8), 9e-3))
    assert slow_first[0] < 0.05 < 0.95 < slow_second[0]  # 25 % on cpu:1
    assert slow_second[6] < 0.05 < 0.95 < slow_first[6]  # 75 % on cpu:2


@settings(deadline=None)
@given(st.floats(1e-4, 0.1), st.floats(1e-4, 0.1), st.floats(0.5, 3.0), st.floats(1e-6, 0.2))
def test_more_time_never_lowers_the_probability(first, second, mean, variance):
    tight, loose = (
        probabilities(board(), situation(board(), mean, variance, deadline=deadline))
        for deadline in sorted((first, second))
    )
    assert all(more >= less - 1e-12 for less, more in zip(tight, loose))


@settings(deadline=None)
@given(st.floats(0.51, 0.9999), st.booleans())
def test_the_assured_latency_is_kept_with_the_asked_probability(asked, shared):
    selector = Selector(board(), RELAXABLE, asked, NO_ROWS)
    for row in range(8):
        now = situation(board(), (1.1, 1.4), 0.02, sharing=1.5 if shared else None)
        latency = selector.predict(now).assured[row]
        now = situation(board(), (1.1, 1.4), 0.02, sharing=1.5 if shared else None, deadline=float(latency))
        assert selector.within_deadline(now, selector.predict(now), row) == pytest.approx(asked, abs=1e-9)


def test_no_deadline_is_always_met():
    assert probabilities(board(), situation(board())) == [1.0] * 8


def test_the_spread_of_the_profile_is_the_least_that_is_assumed():
    points = table([point(latency=10e-3, latency_p95=13e-3), point(latency=10e-3, latency_p95=10.1e-3)])
    prediction = Selector(points, RELAXABLE, 0.95, NO_ROWS).predict(situation(points, 1.0, 0.02**2, (0.0, 1e-12)))
    assert prediction.assured[0] == pytest.approx(13e-3, rel=1e-3)
    assert prediction.assured[1] == pytest.approx(10e-3 * (1 + 1.645 * 0.02), rel=1e-3)


def test_who_shares_is_slower_and_draws_power_for_its_turns_alone():
    selector = Selector(board(), RELAXABLE, 0.95, NO_ROWS)
    alone, shared = (selector.predict(situation(board(), sharing=sharing)) for sharing in (None, 2.0))
    assert shared.inference == pytest.approx(2 * alone.inference)
    assert shared.power == pytest.approx(alone.power / 2)
    assert shared.energy == pytest.approx(alone.energy)


def test_a_prediction_that_is_written_over_is_as_good_as_a_new_one():
    selector, room = Selector(board(), RELAXABLE, 0.95, NO_ROWS), Prediction(8)
    for mean in (1.0, 2.0):
        again, new = selector.predict(situation(board(), mean), room), selector.predict(situation(board(), mean))
        assert again is room
        for column in ("inference", "assured", "power", "energy"):
            assert (getattr(again, column) == getattr(new, column)).all()


@pytest.mark.parametrize("rate, expected", [(50.0, "100%"), (100.0, "75%"), (150.0, "50%")])
def test_a_point_whose_mean_latency_does_not_allow_the_rate_is_out(rate, expected):
    now = situation(board(), target=Target(min_rate=rate))
    selector = Selector(board(), RELAXABLE, 0.95, NO_ROWS)
    prediction = selector.predict(now)
    chosen = selector.select(now, prediction)
    assert board()[chosen.index].subnetwork == expected
    assert 1.0 / (prediction.inference[chosen.index] + 2e-3) >= rate


def test_a_rate_that_nothing_reaches_is_reported_with_what_is_reached():
    now = situation(board(), target=Target(min_rate=400.0))
    selector = Selector(board(), ("rate",), 0.95, NO_ROWS)
    prediction = selector.predict(now)
    chosen = selector.select(now, prediction)
    assert str(board()[chosen.index]) == "25% on cpu:2" and chosen.given_up == ("rate",)
    assert str(selector.missed(now, prediction, chosen.index)[0]) == "rate 250 Hz instead of 400 Hz"


limits = st.builds(
    Target,
    max_energy=st.floats(1e-3, 0.1),
    max_power=st.floats(1.0, 4.0),
    min_accuracy=st.floats(0.7, 0.9),
    objective=st.sampled_from(Objective),
    min_rate=st.floats(20, 500),
)


@settings(deadline=None)
@given(limits, st.floats(2e-3, 40e-3), st.integers(0, 7))
def test_a_point_is_admitted_exactly_when_it_misses_nothing(target, deadline, row):
    now = situation(board(), deadline=deadline, target=target)
    selector = Selector(board(), RELAXABLE, 0.95, NO_ROWS)
    prediction = selector.predict(now)
    assert selector.admits(now, prediction, row) == (not selector.missed(now, prediction, row))
    if selector.admits(now, prediction, row):
        assert selector.select(now, prediction).kept[row]
