"""The operating-point table: columns, rows, look-up, and what it refuses."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from tables import PROVENANCE, board, point, table

from dynamic_perception.management.operating_points import COLUMNS, UNITS, OperatingPointError, OperatingPointTable


def columns_of(points: OperatingPointTable, **changes) -> dict:
    return {**{name: getattr(points, name) for name in COLUMNS}, "provenance": points.provenance, **changes}


def test_a_row_has_the_values_of_its_columns():
    row = board()[6]
    assert (row.subnetwork, row.compute_element) == ("75%", "cpu:2")
    assert (row.latency, row.power, row.accuracy) == (7e-3, 2.5, 0.835)
    assert math.isnan(row.cpu_frequency)


def test_a_table_of_points_gives_the_points_back():
    points = [point(latency_p95=3e-3, cpu_frequency=1e9, gpu_frequency=0.0), point("50%", latency=4e-3)]
    assert [repr(row) for row in table(points)] == [repr(row) for row in points]


def test_columns_cannot_be_changed_and_are_copies_of_the_callers():
    latency = np.array([1e-3])
    points = OperatingPointTable(**columns_of(table([point()]), latency=latency))
    latency[0] = 5.0
    assert points.latency[0] == 1e-3
    with pytest.raises(ValueError, match="read-only"):
        points.latency[0] = 5.0


@pytest.mark.parametrize(
    "column, value",
    [
        ("latency", 0.0),
        ("latency", -1e-3),
        ("latency", math.nan),
        ("latency", math.inf),
        ("latency_p95", 1e-3),
        ("latency_p99", math.inf),
        ("power", 0.0),
        ("power", math.inf),
        ("energy", -1.0),
        ("accuracy", 1.01),
        ("accuracy", -0.1),
        ("accuracy", math.nan),
        ("cpu_frequency", -1.0),
        ("gpu_frequency", math.inf),
    ],
)
def test_an_impossible_value_is_refused_with_column_row_and_value(column, value):
    wrong = dataclasses.replace(point(), **{column: value})
    with pytest.raises(OperatingPointError, match=rf"{column}, row 1: is {value:g}"):
        table([point(), wrong])


@pytest.mark.parametrize("column", ["subnetwork", "compute_element"])
def test_an_empty_name_is_refused(column):
    with pytest.raises(OperatingPointError, match=f"{column}, row 0"):
        table([dataclasses.replace(point(), **{column: ""})])


@pytest.mark.parametrize("column", ["power", "energy", "latency_p95", "latency_p99", "cpu_frequency", "gpu_frequency"])
def test_what_is_not_known_or_not_set_may_be_nan(column):
    points = table([dataclasses.replace(point(), **{column: math.nan})])
    assert math.isnan(getattr(points[0], column))


@pytest.mark.parametrize("name", [*UNITS, "compute_element"])
def test_a_column_of_another_length_is_refused_by_name(name):
    columns = columns_of(board())
    with pytest.raises(ValueError, match=rf"{name} has shape \(7,\): expected \(8,\)"):
        OperatingPointTable(**{**columns, name: columns[name][:-1]})


def test_a_table_without_rows_is_refused():
    with pytest.raises(ValueError, match="no rows"):
        table([])


@pytest.mark.parametrize("name", ["latency", "power", "energy", "accuracy"])
def test_numbers_without_provenance_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} has no provenance"):
        OperatingPointTable.from_points([point()], {key: value for key, value in PROVENANCE.items() if key != name})


def test_a_column_that_is_not_known_at_all_needs_no_provenance():
    unknown = dataclasses.replace(point(), power=math.nan, energy=math.nan)
    points = OperatingPointTable.from_points([unknown], {"latency": "measured", "accuracy": "measured"})
    assert np.isnan(points.power).all()


@pytest.mark.parametrize("name, value", [("latency", "guessed"), ("speed", "measured")])
def test_an_unknown_provenance_is_refused(name, value):
    with pytest.raises(ValueError, match=f"provenance of {name} is '{value}'"):
        OperatingPointTable.from_points([point()], {**PROVENANCE, name: value})


def test_every_row_names_its_element_by_position():
    points = table([point(compute_element=element) for element in ("cpu:2", "cpu:1", "cpu:2")])
    assert points.elements == ("cpu:2", "cpu:1")
    assert points.element_index.tolist() == [0, 1, 0]


def test_find_gives_the_row_or_none():
    assert board().find("50%", "cpu:2") == 5
    assert board().find("50%", "gpu") is None
    assert board().find("60%", "cpu:2") is None


def test_find_prefers_the_row_with_the_given_clock():
    points = table([point(cpu_frequency=0.0), point(cpu_frequency=1.0e9), point(cpu_frequency=1.5e9)])
    assert points.find("25%", "cpu:2", cpu_frequency=1.5e9) == 2
    assert points.find("25%", "cpu:2") == 0


def test_find_takes_a_clock_that_the_kernel_rounds_for_the_same():
    points = table([point(cpu_frequency=1.0e9), point(cpu_frequency=1.5e9)])
    assert points.find("25%", "cpu:2", cpu_frequency=1.4999e9) == 1
    assert points.find("25%", "cpu:2", cpu_frequency=1.4e9) is None


def test_any_clock_can_be_read_back_where_the_governor_sets_it():
    points = table([point(cpu_frequency=1.0e9), point(cpu_frequency=0.0)])
    assert points.find("25%", "cpu:2", cpu_frequency=1.234e9) == 1


def test_both_clocks_count():
    points = table([point(cpu_frequency=1e9, gpu_frequency=4e8), point(cpu_frequency=1e9, gpu_frequency=6e8)])
    assert points.find("25%", "cpu:2", 1e9, 6e8) == 1


CLOCKED = [
    point(latency=latency, cpu_frequency=clock) for latency, clock in ((9e-3, 0.5e9), (5e-3, 1.0e9), (3e-3, 2.0e9))
]  # 1 ms + 4e6 cycles


@pytest.mark.parametrize("clock, latency", [(1.0e9, 5e-3), (0.8e9, 6e-3), (1.6e9, 3.5e-3), (0.4e9, 11e-3), (4e9, 2e-3)])
def test_the_latency_at_a_clock_between_two_rows_follows_from_the_clocks_period(clock, latency):
    assert table(CLOCKED).latency_at("25%", "cpu:2", cpu_frequency=clock) == pytest.approx(latency)


def test_the_latency_at_another_clock_than_the_only_one_is_in_proportion():
    assert table(CLOCKED[1:2]).latency_at("25%", "cpu:2", cpu_frequency=0.5e9) == pytest.approx(10e-3)


def test_the_latency_without_clocks_is_that_of_the_running_row():
    points = table(CLOCKED)
    assert points.latency_at("25%", "cpu:2", running=2) == 3e-3
    assert points.latency_at("25%", "cpu:2") == 9e-3
    assert math.isnan(points.latency_at("25%", "gpu"))


def test_a_clock_that_reads_back_while_a_governor_sets_it_is_that_of_the_governors_row():
    points = table([point(latency=2e-3, cpu_frequency=0.0), *CLOCKED])
    assert points.latency_at("25%", "cpu:2", cpu_frequency=0.7e9, running=0) == 2e-3
    assert points.latency_at("25%", "cpu:2", cpu_frequency=0.8e9, running=2) == pytest.approx(6e-3)


def test_spread_is_the_standard_deviation_that_explains_the_p95():
    points = table([point(latency=10e-3, latency_p95=11.6448536e-3), point()])
    assert points.spread[0] == pytest.approx(0.1, rel=1e-6)
    assert points.spread[1] == 0.0


def test_a_point_is_written_with_the_clocks_that_are_set():
    assert str(point()) == "25% on cpu:2"
    assert str(point(cpu_frequency=1.8e9, gpu_frequency=0.0)) == "25% on cpu:2 at cpu 1800 MHz"
