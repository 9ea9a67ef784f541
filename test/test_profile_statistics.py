"""What the turns of a point say: confidence, drift and throttling."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dynamic_perception.profiling.statistics import Turn, precision, summarise


def turns(medians, temperatures, clock: float = 1e9) -> list[Turn]:
    """A turn of three inferences around every median, the temperature rising or falling from turn to turn."""
    return [
        Turn((0.99 * m, m, 1.02 * m), (clock, clock), (before, after))
        for m, before, after in zip(medians, temperatures, [*temperatures[1:], temperatures[-1]])
    ]


@pytest.mark.parametrize("quantile", [0.5, 0.95])
def test_the_interval_is_as_wide_as_the_estimate_scatters(quantile):
    """95 % of normal estimates lie within 1.96 standard deviations."""
    samples = np.random.default_rng(1).exponential(size=(500, 400))
    scatter = 1.96 * np.std([np.quantile(sample, quantile) for sample in samples]) / -math.log(1 - quantile)
    assert np.mean([precision(sample, quantile) for sample in samples]) == pytest.approx(scatter, rel=0.2)


def test_more_runs_make_the_interval_narrower():
    random = np.random.default_rng(1)
    assert precision(random.normal(1, 0.1, 1600)) < 0.5 * precision(random.normal(1, 0.1, 100))


@pytest.mark.parametrize("quantile, too_few, enough", [(0.95, 100, 150), (0.99, 400, 600)])
def test_the_interval_of_a_high_quantile_needs_many_runs(quantile, too_few, enough):
    durations = np.random.default_rng(1).normal(1, 0.1, enough)
    assert math.isinf(precision(durations[:too_few], quantile))
    assert precision(durations, quantile) < 0.2


def test_heat_that_slows_a_point_down_marks_it():
    medians = np.linspace(10e-3, 12e-3, 12)
    mark = summarise(turns(medians, np.linspace(60, 90, 12)), 0.0).mark
    assert mark.startswith("throttled: 1") and "the temperature rose by 30 K" in mark


@pytest.mark.parametrize(
    "medians, temperatures",
    [
        (np.linspace(10e-3, 12e-3, 12), np.full(12, 60.0)),  # slower, but no warmer
        (np.full(12, 10e-3), np.linspace(60, 90, 12)),  # warmer, but no slower
        (np.linspace(10e-3, 12e-3, 12), np.full(12, math.nan)),  # no sensor
        (np.tile([10e-3, 12e-3], 6), np.linspace(60, 90, 12)),  # to and fro: another program
        (np.linspace(10e-3, 10.1e-3, 12), np.linspace(60, 90, 12)),  # by a hair
    ],
)
def test_anything_else_does_not(medians, temperatures):
    assert summarise(turns(medians, temperatures), 0.0).mark == ""


def test_a_few_turns_at_another_clock_are_left_out():
    mixed = turns([10e-3] * 9, [60.0] * 9) + turns([20e-3] * 2, [60.0] * 2, clock=0.5e9)
    summary = summarise(mixed, 1e9)
    assert (summary.left_out, summary.mark, summary.durations.max()) == (2, "", pytest.approx(10.2e-3))


def test_a_clock_that_nobody_asked_for_cannot_drift():
    mixed = turns([10e-3] * 2, [60.0] * 2) + turns([20e-3] * 5, [60.0] * 5, clock=0.5e9)
    assert summarise(mixed, 0.0).left_out == 0


def test_energy_is_that_of_all_spans_together():
    measured = [
        Turn((1e-3,), energy=2.0, energy_time=0.5, energy_runs=100),
        Turn((1e-3,)),
        Turn((1e-3,), energy=4.0, energy_time=0.5, energy_runs=200),
    ]
    summary = summarise(measured, 0.0)
    assert (summary.power, summary.energy) == (pytest.approx(6.0), pytest.approx(0.02))


def test_less_than_idle_is_not_a_power():
    summary = summarise([Turn((1e-3,), energy=-0.1, energy_time=0.5, energy_runs=100)], 0.0)
    assert math.isnan(summary.power) and math.isnan(summary.energy)
