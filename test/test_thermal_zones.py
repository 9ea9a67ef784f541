"""Thermal zones and the temperatures at which the kernel acts, on sysfs trees of real machines."""

import math

import pytest
from sysfs_trees import container, jetson_xavier_nx, odroid_xu3, raspberry_pi_5, write_files

from dynamic_perception.hardware.sensors import scan_temperatures
from dynamic_perception.hardware.thermal_zones import TripPoint, find_thermal_zones

ZONE0 = "class/thermal/thermal_zone0"


def test_trip_points_are_read_in_degrees_in_the_kernels_order(tmp_path):
    zone = find_thermal_zones(odroid_xu3(tmp_path))[0]
    assert zone.trips == (
        TripPoint("passive", 70.0, 10.0),
        TripPoint("passive", 85.0, 10.0),
        TripPoint("critical", 120.0, 10.0),
    )
    assert zone.path == tmp_path / ZONE0 / "temp" and zone.faults == ()


def test_zones_have_the_names_of_their_temperatures(tmp_path):
    assert [zone.name for zone in find_thermal_zones(jetson_xavier_nx(tmp_path))] == [
        reading.zone for reading in scan_temperatures(tmp_path)
    ]


def test_every_kind_of_trip_point_is_told(tmp_path):
    kinds = {
        trip.kind
        for root in (raspberry_pi_5(tmp_path / "pi"), jetson_xavier_nx(tmp_path / "nx"))
        for zone in find_thermal_zones(root)
        for trip in zone.trips
    }
    assert kinds == {"active", "passive", "hot", "critical"}


@pytest.mark.parametrize(
    "value, complaint",
    [
        (-274_000, "says -274 °C: the trip point is not set"),
        (0, "says 0 °C: the trip point is not set"),
        (10**6, "says 1000 °C: the trip point is not set"),
        ("", "holds ''"),
        ("9" * 70_000, "holds '9999"),
    ],
)
def test_a_trip_point_that_cannot_be_true_is_left_out_and_named(tmp_path, value, complaint):
    write_files(odroid_xu3(tmp_path) / ZONE0, {"trip_point_1_temp": value})
    zone = find_thermal_zones(tmp_path)[0]
    (fault,) = zone.faults
    assert [trip.celsius for trip in zone.trips] == [70.0, 120.0]
    assert f"{tmp_path / ZONE0 / 'trip_point_1_temp'} {complaint}" in fault.text and len(fault.text) < 300


def test_a_trip_point_of_an_unknown_kind_is_left_out_and_named(tmp_path):
    write_files(odroid_xu3(tmp_path) / ZONE0, {"trip_point_0_type": "melting"})
    (fault,) = find_thermal_zones(tmp_path)[0].faults
    assert "is of the kind 'melting': expected one of active, passive, hot, critical" in fault.text


@pytest.mark.parametrize("value", ["", -1, 10**6])
def test_a_hysteresis_that_cannot_be_true_is_unknown(tmp_path, value):
    write_files(odroid_xu3(tmp_path) / ZONE0, {"trip_point_0_hyst": value})
    trip = find_thermal_zones(tmp_path)[0].trips[0]
    assert trip.celsius == 70.0 and math.isnan(trip.hysteresis)


def test_a_container_has_no_zone(tmp_path):
    assert find_thermal_zones(container(tmp_path)) == ()
