"""How much power the battery and the temperatures allow."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.management.budgets import (
    BatteryBudget,
    BatteryCondition,
    BatteryThreshold,
    MissionBudget,
    ThermalBudget,
    ThermalZone,
    possible_temperature,
    share_power,
)

THRESHOLDS = (BatteryThreshold(0.5, max_power_fraction=0.8), BatteryThreshold(0.2, max_power=2.1))
ZONE = ThermalZone("cpu", sustainable_power=2.5, switch_on=60.0, control=75.0, critical=100.0)  # Linux's worked example


def battery() -> BatteryBudget:
    return BatteryBudget(THRESHOLDS, greatest_power=5.0, hysteresis=0.02)


# ---- battery


@pytest.mark.parametrize(
    "percentage, watts", [(1.0, None), (0.5, None), (0.49, 4.0), (0.2, 4.0), (0.19, 2.1), (0.0, 2.1)]
)
def test_the_tightest_threshold_above_the_charge_caps_the_power(percentage, watts):
    budget = battery()
    assert budget.observe(percentage, present=True)
    assert (budget.cap.watts if budget.cap else None) == watts


def test_the_order_of_the_thresholds_does_not_matter():
    budget = BatteryBudget(THRESHOLDS[::-1], greatest_power=5.0)
    budget.observe(0.19, True)
    assert budget.cap.watts == 2.1


def test_a_cap_says_where_it_comes_from():
    budget = battery()
    budget.observe(0.18, True)
    assert budget.cap.source == "battery"
    assert budget.cap.text == "battery 0.18 < 0.20: cap 2.1 W"


def test_a_cap_is_only_lifted_well_above_its_threshold():
    budget = battery()
    watts = []
    for percentage in (0.21, 0.19, 0.21, 0.19, 0.21, 0.22):
        budget.observe(percentage, True)
        watts.append(budget.cap.watts)
    assert watts == [4.0, 2.1, 2.1, 2.1, 2.1, 4.0]


def test_a_full_battery_lifts_even_a_threshold_at_the_top():
    budget = BatteryBudget([BatteryThreshold(0.99, max_power=1.0)], hysteresis=0.05)
    budget.observe(0.5, True)
    budget.observe(1.0, True)
    assert budget.cap is None


def test_mains_power_is_no_cap():
    budget = battery()
    budget.observe(0.1, True)
    assert budget.observe(0.1, present=False)
    assert budget.condition is BatteryCondition.MAINS
    assert budget.cap is None


def test_a_battery_that_nobody_has_heard_of_is_no_cap():
    assert battery().condition is BatteryCondition.NOT_HEARD
    assert battery().cap is None


impossible_charges = st.one_of(
    st.floats(max_value=0.0, exclude_max=True), st.floats(min_value=1.0, exclude_min=True), st.just(math.nan)
)


@settings(deadline=None)
@given(impossible_charges)
def test_an_unknown_charge_from_the_start_counts_as_empty(percentage):
    budget = battery()
    assert not budget.observe(percentage, True)
    assert budget.condition is BatteryCondition.UNKNOWN
    assert budget.cap.watts == 2.1
    assert "percentage" in budget.fault


@settings(deadline=None)
@given(impossible_charges)
def test_an_unknown_charge_after_mains_power_counts_as_empty(percentage):
    budget = battery()
    budget.observe(math.nan, present=False)
    budget.observe(percentage, present=True)
    assert budget.cap.watts == 2.1


@settings(deadline=None)
@given(st.floats(0, 1), impossible_charges)
def test_an_unknown_charge_never_lifts_a_known_cap(known, unknown):
    budget = battery()
    budget.observe(known, True)
    before = budget.cap
    assert not budget.observe(unknown, True)
    assert budget.cap == before


@settings(deadline=None)
@given(impossible_charges, st.floats(0, 1))
def test_a_known_charge_ends_being_unknown(unknown, known):
    budget, fresh = battery(), battery()
    budget.observe(unknown, True)
    budget.observe(known, True)
    fresh.observe(known, True)
    assert budget.cap == fresh.cap and not budget.fault


@pytest.mark.parametrize(
    "settings, named",
    [
        ({"below": 0.0, "max_power": 1.0}, "below is 0"),
        ({"below": 20.0, "max_power": 1.0}, "below is 20"),
        ({"below": math.nan, "max_power": 1.0}, "below is nan"),
        ({"below": 0.2}, "exactly one"),
        ({"below": 0.2, "max_power": 1.0, "max_power_fraction": 0.5}, "exactly one"),
        ({"below": 0.2, "max_power": 0.0}, "max_power is 0"),
        ({"below": 0.2, "max_power_fraction": -1.0}, "max_power_fraction is -1"),
    ],
)
def test_a_threshold_that_makes_no_sense_is_refused(settings, named):
    with pytest.raises(ValueError, match=named):
        BatteryThreshold(**settings)


def test_a_fraction_of_an_unknown_power_is_refused():
    with pytest.raises(ValueError, match="the table knows no power"):
        BatteryBudget([BatteryThreshold(0.2, max_power_fraction=0.5)])


# ---- a mission


def mission(percentage: float = 0.5, seconds: float = 3600.0) -> MissionBudget:
    """10 Wh of battery, of which 10 % are to be left, and 1 W for everything else."""
    budget = MissionBudget(capacity=36_000.0, reserve=0.1, other_load=1.0)
    budget.set_end(0.0, seconds)
    budget.observe(0.0, percentage, present=True)
    return budget


def test_the_energy_that_is_left_is_spread_over_the_mission():
    budget = mission()
    assert budget.watts == pytest.approx(0.4 * 36_000 / 3600 - 1.0)
    assert budget.cap.text == "battery 0.50 for 60 min of mission: cap 3 W"


def test_who_draws_the_cap_still_has_the_same_cap_later():
    budget = mission()
    budget.observe(900.0, 0.5 - (3.0 + 1.0) * 900 / 36_000, present=True)
    assert budget.watts == pytest.approx(3.0)


def test_a_battery_at_its_reserve_leaves_nothing():
    assert mission(percentage=0.05).watts == 0.0


@pytest.mark.parametrize(
    "end",
    [
        lambda b: b.set_end(0.0, 0.0),
        lambda b: b.set_end(0.0, math.nan),
        lambda b: b.observe(4000.0, 0.5, True),
        lambda b: b.observe(0.0, 0.5, False),
    ],
)
def test_without_a_mission_or_after_it_or_on_mains_power_there_is_no_cap(end):
    budget = mission()
    end(budget)
    assert budget.cap is None


def test_an_unknown_charge_keeps_the_last_one():
    budget = mission()
    budget.observe(0.0, math.nan, present=True)
    assert budget.watts == pytest.approx(3.0)


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda: MissionBudget(capacity=0.0), "capacity is 0"),
        (lambda: MissionBudget(reserve=1.0), "reserve is 1"),
        (lambda: MissionBudget(other_load=-1.0), "other_load is -1"),
        (lambda: mission().set_end(0.0, -1.0), "mission is -1"),
        (lambda: MissionBudget().set_end(0.0, 60.0), "set battery_capacity"),
    ],
)
def test_a_mission_that_makes_no_sense_is_refused(call, named):
    with pytest.raises(ValueError, match=named):
        call()


# ---- temperature


def test_linux_worked_example():
    budget = ThermalBudget(ZONE)
    assert budget.observe(0.0, 80.0)
    assert budget.watts == pytest.approx(1.5)
    assert budget.cap.source == "temperature cpu"
    assert budget.cap.text == "cpu 80.0 C, 75 C wanted: cap 1.5 W"


def test_the_default_gains_are_those_of_linux():
    assert ZONE.overshoot_gain == pytest.approx(2.5 / 15)
    assert ZONE.undershoot_gain == pytest.approx(5.0 / 15)
    assert ZONE.integral_gain == pytest.approx(0.5 / 15)


@pytest.mark.parametrize("celsius, watts", [(60.0, 7.5), (70.0, 2.5 + 5 / 3), (75.0, 2.5), (90.0, 0.0)])
def test_the_budget_falls_with_the_temperature(celsius, watts):
    budget = ThermalBudget(ZONE)
    budget.observe(0.0, celsius)
    assert budget.watts == pytest.approx(watts)


def test_below_switch_on_there_is_no_cap_and_the_past_is_forgotten():
    budget = ThermalBudget(ZONE)
    for time in range(10):
        budget.observe(float(time), 78.0)
    budget.observe(10.0, 59.9)
    assert budget.cap is None
    budget.observe(11.0, 80.0)
    assert budget.watts == pytest.approx(1.5)


@settings(deadline=None)
@given(st.lists(st.floats(-40, 150), min_size=1, max_size=50), st.floats(0.1, 20))
def test_the_budget_stays_within_what_can_be_used(temperatures, greatest):
    budget = ThermalBudget(ZONE, greatest)
    for time, celsius in enumerate(temperatures):
        budget.observe(float(time), celsius)
        assert budget.watts == math.inf or 0 <= budget.watts <= greatest


def test_heat_that_stays_lowers_the_budget_at_the_same_pace_whatever_the_sensors_rate():
    slow, fast = ThermalBudget(ZONE), ThermalBudget(ZONE)
    drops, first = [], math.nan
    for budget, rate in ((slow, 1), (fast, 10)):
        for sample in range(5 * rate + 1):
            budget.observe(sample / rate, 77.0)
            first = budget.watts if sample == 0 else first
        drops.append(first - budget.watts)
    assert drops[0] > 0
    assert drops[0] == pytest.approx(drops[1])


def test_the_same_message_twice_counts_once():
    budget = ThermalBudget(ZONE)
    budget.observe(1.0, 78.0)
    once = budget.watts
    budget.observe(1.0, 78.0)
    budget.observe(0.0, 78.0)
    assert budget.watts == once


def test_long_heat_is_forgotten_as_fast_as_short_heat():
    short, long = ThermalBudget(ZONE), ThermalBudget(ZONE)
    for budget, seconds in ((short, 20), (long, 5000)):
        for time in range(seconds):
            budget.observe(float(time), 80.0)
        assert budget.watts == 0.0
        budget.observe(float(seconds), 74.0)
    assert long.watts == short.watts > 0


def test_long_cold_is_forgotten_too_when_the_integral_may_rise():
    zone = dataclasses.replace(ZONE, integral_cutoff=20.0)
    budget = ThermalBudget(zone, greatest_power=3.0)
    for time in range(5000):
        budget.observe(float(time), 65.0)
    budget.observe(5000.0, 85.0)
    assert budget.watts < 2.5


def test_the_derivative_acts_on_the_rise_per_period():
    budget = ThermalBudget(dataclasses.replace(ZONE, integral_gain=0.0, derivative_gain=0.1))
    budget.observe(0.0, 70.0)
    budget.observe(2.0, 74.0)
    assert budget.watts == pytest.approx(2.5 + 5 / 15 - 0.1 * 2.0)


def test_a_board_that_uses_its_whole_budget_settles_at_the_control_temperature():
    budget, celsius, temperatures = ThermalBudget(ZONE, greatest_power=6.0), 40.0, []
    for second in range(1200):  # a board of 30 s time constant and 20 C/W in a room of 25 C: 75 C at 2.5 W
        budget.observe(float(second), celsius)
        power = min(budget.watts, 6.0)
        celsius += (25.0 + 20.0 * power - celsius) / 30.0
        temperatures.append(celsius)
    assert max(temperatures) < 85.0
    assert np.mean(temperatures[-300:]) == pytest.approx(75.0, abs=3.0)


def test_from_the_critical_temperature_on_only_the_coolest_point_is_left():
    budget = ThermalBudget(ZONE)
    budget.observe(0.0, 99.9)
    assert not budget.critical
    budget.observe(1.0, 100.0)
    assert budget.critical and budget.cap.watts == 0.0
    assert "only the coolest point" in budget.cap.text


@pytest.mark.parametrize("celsius", [-256.0, 0.0, -40.1, 150.1, math.nan, math.inf, -math.inf])
def test_an_impossible_temperature_is_refused_and_the_last_one_stays(celsius):
    budget = ThermalBudget(ZONE)
    budget.observe(0.0, 80.0)
    assert not budget.observe(1.0, celsius)
    assert (budget.celsius, budget.watts) == (80.0, pytest.approx(1.5))
    assert "not a possible temperature" in budget.fault


@pytest.mark.parametrize("celsius", [-40.0, -0.1, 0.1, 25.0, 150.0])
def test_frost_and_heat_are_possible(celsius):
    assert possible_temperature(celsius)


@pytest.mark.parametrize(
    "changes, named",
    [
        ({"name": ""}, "name is empty"),
        ({"switch_on": 80.0}, "switch_on 80"),
        ({"critical": 75.0}, "critical 75"),
        ({"critical": 200.0}, "critical 200"),
        ({"sustainable_power": 0.0}, "sustainable_power is 0"),
        ({"period": math.nan}, "period is nan"),
        ({"integral_gain": -1.0}, "integral_gain is -1"),
    ],
)
def test_a_zone_that_makes_no_sense_is_refused(changes, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(ZONE, **changes)


# ---- sharing


def test_linux_worked_sharing():
    shares = share_power([2000, 2000, 1000], [800, 2000, 1000], 3000)
    assert shares == pytest.approx([800, 1466.67, 733.33], abs=0.01)


def test_without_caps_the_shares_are_in_proportion():
    assert share_power([1, 3], [10, 10], 8) == pytest.approx([2, 6])


def test_who_asks_for_nothing_among_nobody_gets_nothing():
    assert share_power([0, 0], [1, 1], 1).tolist() == [0, 0]


users = st.lists(st.tuples(st.floats(0.01, 1e3), st.floats(0, 1e3)), min_size=1, max_size=8)


@settings(deadline=None)
@given(users, st.floats(0, 1e4))
def test_everything_is_shared_that_somebody_can_use_and_nobody_gets_too_much(users, total):
    requests, maxima = np.array(users).T
    shares = share_power(requests, maxima, total)
    assert (shares <= maxima * (1 + 1e-9) + 1e-9).all()
    assert shares.sum() == pytest.approx(min(total, maxima.sum()), rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(users, st.floats(0, 1e4), st.randoms())
def test_the_order_of_the_users_does_not_matter(users, total, random):
    order = list(range(len(users)))
    random.shuffle(order)
    requests, maxima = np.array(users).T
    assert share_power(requests[order], maxima[order], total) == pytest.approx(
        share_power(requests, maxima, total)[order], rel=1e-6, abs=1e-9
    )


@pytest.mark.parametrize(
    "requests, maxima, total", [([-1], [1], 1), ([1], [-1], 1), ([1], [1], -1), ([math.nan], [1], 1), ([1, 2], [1], 1)]
)
def test_impossible_shares_are_refused(requests, maxima, total):
    with pytest.raises(ValueError, match="share_power"):
        share_power(requests, maxima, total)
