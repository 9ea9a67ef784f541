"""The modelled board behaves as its equations say, whatever the step."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamic_perception.simulation.platform_model import PlatformModel, PlatformSettings, Surroundings

SETTINGS = PlatformSettings(thermal_resistance=20.0, time_constant=4.0, battery_capacity=100.0)
CALM = Surroundings(ambient=30.0, other_load=0.0, charger=0.0)


def make_model(temperature: float = 30.0, charge: float = 0.5) -> PlatformModel:
    return PlatformModel(SETTINGS, temperature, charge)


def test_temperature_settles_at_ambient_plus_resistance_times_power():
    model = make_model()
    model.advance(100.0, 2.0, CALM)
    assert model.temperature == pytest.approx(30.0 + 20.0 * 2.0)


def test_after_one_time_constant_63_percent_of_a_change_has_happened():
    model = make_model()
    model.advance(4.0, 1.0, CALM)
    assert model.temperature == pytest.approx(30.0 + 20.0 * (1 - 1 / math.e))


def test_a_hotter_ambient_heats_a_resting_board():
    model = make_model()
    model.advance(100.0, 0.0, Surroundings(ambient=60.0, other_load=0.0, charger=0.0))
    assert model.temperature == pytest.approx(60.0)


@given(
    steps=st.lists(st.floats(0.01, 5.0), min_size=1, max_size=20), power=st.floats(0.0, 3.0), load=st.floats(0.0, 1.0)
)
def test_many_small_steps_are_one_large_step(steps, power, load):
    surroundings = Surroundings(ambient=40.0, other_load=load, charger=0.1)
    fine, coarse = make_model(), make_model()
    for step in steps:
        fine.advance(step, power, surroundings)
    coarse.advance(sum(steps), power, surroundings)
    assert fine.temperature == pytest.approx(coarse.temperature)
    if 0.0 < coarse.charge < 1.0:
        assert fine.charge == pytest.approx(coarse.charge)


def test_the_battery_loses_the_energy_that_everything_takes_and_the_charger_does_not_give():
    model = make_model(charge=0.5)
    model.advance(10.0, 2.0, Surroundings(ambient=30.0, other_load=1.0, charger=0.5))
    assert model.charge == pytest.approx(0.5 - 10.0 * (2.0 + 1.0 - 0.5) / 100.0)


@pytest.mark.parametrize(("load", "charger", "end"), [(1000.0, 0.0, 0.0), (0.0, 1000.0, 1.0)])
def test_the_charge_stays_between_empty_and_full(load, charger, end):
    model = make_model()
    model.advance(10.0, 0.0, Surroundings(30.0, load, charger))
    assert model.charge == end


@pytest.mark.parametrize("name", ["thermal_resistance", "time_constant", "battery_capacity"])
def test_a_number_that_is_not_positive_is_refused_by_name(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        PlatformSettings(**{"thermal_resistance": 1.0, "time_constant": 1.0, "battery_capacity": 1.0, name: 0.0})


def test_an_impossible_charge_is_refused():
    with pytest.raises(ValueError, match="charge is 50: expected 0 to 1"):
        PlatformModel(SETTINGS, 30.0, 50.0)
