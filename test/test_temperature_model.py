"""Simulated boards get as hot as their formulas say, and throttle as their kernel does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_perception.simulation.temperature import POLL, LumpedTemperature, OdroidXu3Temperature, StepWise, TripPoint

TRIPS = (TripPoint(70.0, 10.0, {"a15": (0, 2)}), TripPoint(85.0, 10.0, {"a15": (3, 11), "a7": (3, 7)}))


def second(model, power: float, ambient: float = 0.0) -> float:
    for _ in range(round(1 / POLL)):
        model.advance(power, ambient)
    return model.celsius


@given(powers=st.lists(st.floats(0.2, 7.0), min_size=2, max_size=10))
def test_every_second_the_odroid_is_as_hot_as_the_fitted_predictor_says(powers):
    """T' = 24.776 + 0.2862 T + 0.1354 T_previous + 4.4316 P_big + 6.2712 P_mem."""
    model = OdroidXu3Temperature()
    now = before = model.celsius
    for power in powers:
        expected = 24.776 + 0.2862 * now + 0.1354 * before + 4.4316 * max(0.0, power - 0.148) + 6.2712 * 0.03
        before, now = now, second(model, power)
        assert now == pytest.approx(expected)


def test_power_that_changes_within_a_second_counts_by_its_mean():
    steady, changing = OdroidXu3Temperature(), OdroidXu3Temperature()
    second(steady, 3.0)
    for power in (1.0, 2.0, 4.0, 5.0):
        changing.advance(power, 0.0)
    assert changing.celsius == pytest.approx(steady.celsius)


@pytest.mark.parametrize("watts", [1.0, 3.0, 5.26])
def test_the_odroid_settles_near_the_logs_line(watts):
    """45.5 °C + 7.0 K/W was fitted to points of 2.5 s: the predictor is within 5 K of it."""
    model = OdroidXu3Temperature()
    for _ in range(30):
        second(model, watts)
    assert model.celsius == pytest.approx(model.settled(watts))
    assert model.celsius == pytest.approx(45.5 + 7.0 * watts, abs=5.0)


@pytest.mark.parametrize("model", [OdroidXu3Temperature, lambda: LumpedTemperature(27.0, 4.0, 5.0, 4.0)])
def test_hotter_surroundings_heat_a_board_by_as_much_in_the_end(model):
    cool, hot = model(), model()
    for _ in range(60):
        second(cool, 4.0), second(hot, 4.0, ambient=15.0)
    assert hot.celsius - cool.celsius == pytest.approx(15.0, abs=0.01)


def heat(throttle: StepWise, *temperatures: float) -> list[tuple[int, ...]]:
    found = []
    for celsius in temperatures:
        throttle.poll(celsius)
        found.append(tuple(throttle.steps))
    return found


def test_below_the_trip_points_nothing_is_throttled():
    assert heat(StepWise(TRIPS, ("a15", "a7")), 40.0, 60.0, 69.9) == [(0, 0)] * 3


def test_from_70_degrees_the_clock_falls_a_step_at_a_time_by_two_at_most():
    assert heat(StepWise(TRIPS, ("a15", "a7")), 65.0, 71.0, 72.0, 73.0, 74.0)[1:] == [(1, 0), (2, 0), (2, 0), (2, 0)]


def test_from_85_degrees_it_falls_by_three_steps_at_once_and_to_eleven_and_seven_at_most():
    steps = heat(StepWise(TRIPS, ("a15", "a7")), *(84.0 + 0.5 * poll for poll in range(30)))
    assert (3, 3) in steps
    assert steps[-1] == (11, 7)


def test_while_it_is_hot_but_gets_no_hotter_the_steps_stay():
    assert heat(StepWise(TRIPS, ("a15", "a7")), 71.0, 71.0, 71.0)[-1] == (1, 0)


def test_the_steps_are_only_taken_back_below_the_hysteresis():
    throttle = StepWise(TRIPS, ("a15", "a7"))
    heat(throttle, 71.0, 72.0)
    assert heat(throttle, 68.0, 61.0) == [(2, 0), (2, 0)]
    assert heat(throttle, 59.0, 58.0, 57.0)[-1] == (0, 0)


@given(temperatures=st.lists(st.floats(30.0, 119.0), min_size=1, max_size=60))
def test_steps_stay_within_what_the_trip_points_allow(temperatures):
    for a15, a7 in heat(StepWise(TRIPS, ("a15", "a7")), *temperatures):
        assert 0 <= a15 <= 11 and a7 in (0, 3, 4, 5, 6, 7)
