"""Temperatures and the battery, on sysfs trees of real machines, with the lies that real sensors tell."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sysfs_trees import battery as pack
from sysfs_trees import container, jetson_xavier_nx, laptop, odroid_xu3, write_files

from dynamic_perception.hardware.sensors import read_batteries, read_battery, read_temperatures, scan_temperatures
from dynamic_perception.hardware.thermal_zones import find_thermal_zones

ZONE0 = "class/thermal/thermal_zone0"
BATTERY = "class/power_supply/BAT0"


def only_fault(root):
    """The fault of the one sensor that has one."""
    (fault,) = [reading.fault for reading in scan_temperatures(root) if reading.fault]
    return fault


def battery_with(root, **files):
    """The laptop's battery with some files changed; None removes one."""
    laptop(root)
    write_files(root / BATTERY, {name: content for name, content in files.items() if content is not None})
    for name in (name for name, content in files.items() if content is None):
        (root / BATTERY / name).unlink()
    return read_battery(root)


# Temperatures --------------------------------------------------------------------------------------------------------


def test_zones_are_read_in_degrees_by_their_type(tmp_path):
    assert read_temperatures(odroid_xu3(tmp_path)) == {
        "cpu0-thermal": 51.0,
        "cpu1-thermal": 55.0,
        "cpu2-thermal": 53.0,
        "cpu3-thermal": 49.0,
        "gpu-thermal": 47.0,
    }


def test_zones_of_the_same_type_are_told_apart(tmp_path):
    assert read_temperatures(laptop(tmp_path)) == {"acpitz_0": 27.8, "acpitz_1": 48.0, "x86_pkg_temp": 61.5}


def test_a_dead_zone_does_not_rename_its_twin(tmp_path):
    write_files(laptop(tmp_path) / ZONE0, {"temp": 0})
    assert read_temperatures(tmp_path) == {"acpitz_1": 48.0, "x86_pkg_temp": 61.5}


@pytest.mark.parametrize(
    "value, complaint",
    [
        (-256_000, "says -256 °C"),
        (0, "says 0 °C"),
        (-40_001, "says -40.001 °C"),
        (150_001, "says 150.001 °C"),
        ("", "holds ''"),
        ("N/A", "holds 'N/A'"),
    ],
)
def test_a_reading_that_cannot_be_true_is_left_out_and_named(tmp_path, value, complaint):
    write_files(odroid_xu3(tmp_path) / ZONE0, {"temp": value})
    assert "cpu0-thermal" not in read_temperatures(tmp_path)
    assert f"{tmp_path / ZONE0 / 'temp'} {complaint}" in only_fault(tmp_path)


@pytest.mark.parametrize("value", [-40_000, -1, 1, 150_000])
def test_extreme_but_possible_readings_are_kept(tmp_path, value):
    write_files(odroid_xu3(tmp_path) / ZONE0, {"temp": value})
    assert read_temperatures(tmp_path)["cpu0-thermal"] == value / 1000


def test_a_sensor_with_an_input_output_error_is_left_out_and_named(tmp_path):
    file = odroid_xu3(tmp_path) / ZONE0 / "temp"
    file.unlink()
    file.symlink_to("/proc/self/mem")  # reading address 0 is a true EIO
    assert only_fault(tmp_path) == f"{file}: Input/output error"


def test_a_zone_that_vanishes_while_it_is_read_is_left_out_and_named(tmp_path):
    file = odroid_xu3(tmp_path) / ZONE0 / "temp"
    file.unlink()
    assert only_fault(tmp_path) == f"{file}: No such file or directory"


def test_the_chip_that_always_says_100_degrees_is_left_out_until_it_raises_an_alarm(tmp_path):
    zone = jetson_xavier_nx(tmp_path) / "class/thermal/thermal_zone3"
    assert "PMIC-Die" not in read_temperatures(tmp_path)
    assert only_fault(tmp_path) == f"{zone / 'temp'} says 100 °C: it knows no other but alarms"
    write_files(zone, {"temp": 120_000})
    assert read_temperatures(tmp_path)["PMIC-Die"] == 120.0


def test_hardware_monitors_are_read_by_chip_and_label(tmp_path):
    write_files(tmp_path / "class/hwmon/hwmon0", {"name": "k10temp", "temp1_input": 45_000, "temp1_label": "Tctl"})
    write_files(tmp_path / "class/hwmon/hwmon1", {"name": "acpi", "temp1_input": 30_000, "temp2_input": 31_000})
    assert read_temperatures(tmp_path) == {"k10temp_Tctl": 45.0, "acpi_temp1": 30.0, "acpi_temp2": 31.0}


def test_hardware_monitors_of_the_same_name_are_told_apart(tmp_path):
    for number in (0, 3):
        write_files(
            tmp_path / f"class/hwmon/hwmon{number}",
            {"name": "nvme", "temp1_input": 40_000 + number, "temp1_label": "Composite"},
        )
    assert read_temperatures(tmp_path) == {"nvme_Composite_hwmon0_temp1": 40.0, "nvme_Composite_hwmon3_temp1": 40.003}


def test_hardware_monitors_are_not_counted_twice_beside_zones(tmp_path):
    write_files(laptop(tmp_path) / "class/hwmon/hwmon0", {"name": "acpitz", "temp1_input": 27_800})
    assert len(scan_temperatures(tmp_path)) == 3


def test_a_container_has_no_sensor(tmp_path):
    assert read_temperatures(container(tmp_path)) == {} and read_battery(tmp_path) is None


# Battery -------------------------------------------------------------------------------------------------------------


def test_a_battery_is_read_in_si_units(tmp_path):
    battery = read_battery(laptop(tmp_path))
    assert (battery.name, battery.present, battery.status, battery.faults) == ("BAT0", True, "Discharging", ())
    assert (battery.percentage, battery.voltage, battery.power) == (0.73, 11.4, 9.12)
    assert battery.current == pytest.approx(-9.12 / 11.4)
    assert battery.charge == pytest.approx(33.3 / 11.1)


def test_the_battery_of_a_mouse_is_not_the_robots(tmp_path):
    laptop(tmp_path)
    for file in (tmp_path / BATTERY).iterdir():
        file.unlink()
    (tmp_path / BATTERY).rmdir()
    assert read_battery(tmp_path) is None


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("status, expected", [("Discharging", -1.5), ("Charging", 1.5)])
def test_current_is_negative_while_discharging_whatever_the_driver_says(tmp_path, sign, status, expected):
    battery = battery_with(tmp_path, power_now=None, current_now=sign * 1_500_000, status=status)
    assert battery.current == expected and battery.power == pytest.approx(1.5 * 11.4)


def test_charge_that_the_driver_counts_is_taken_as_it_is(tmp_path):
    assert battery_with(tmp_path, charge_now=2_750_000).charge == 2.75


def test_percentage_comes_from_energy_where_the_driver_has_none(tmp_path):
    assert battery_with(tmp_path, capacity=None).percentage == pytest.approx(33.3 / 45.6)


@pytest.mark.parametrize("capacity", [100, 101, 110, 125])
def test_more_than_full_is_full(tmp_path, capacity):
    battery = battery_with(
        tmp_path, capacity=capacity, energy_now=55_000_000, energy_full=50_000_000, status="Charging"
    )
    assert (battery.percentage, battery.faults) == (1.0, ())


@pytest.mark.parametrize("energy, percentage", [(45_700_000, 1.0), (50_160_000, 1.0), (45_600_000, 1.0)])
def test_more_energy_than_when_full_is_full(tmp_path, energy, percentage):
    assert battery_with(tmp_path, capacity=None, energy_now=energy).percentage == percentage


def test_energy_that_is_no_charge_of_this_battery_is_unknown(tmp_path):
    assert math.isnan(battery_with(tmp_path, capacity=None, energy_now=456_000_000).percentage)


def test_a_driver_that_only_says_full_says_how_full(tmp_path):
    assert battery_with(tmp_path, capacity=None, energy_now=None, status="Full").percentage == 1.0


@pytest.mark.parametrize("capacity", [-1, 126, 255])
def test_an_impossible_percentage_is_unknown_and_named(tmp_path, capacity):
    battery = battery_with(tmp_path, capacity=capacity)
    (fault,) = battery.faults
    assert math.isnan(battery.percentage)
    assert fault.text == f"{tmp_path / BATTERY / 'capacity'} says {capacity}: expected 0 to 100 %"


def test_an_impossible_voltage_is_unknown_and_named(tmp_path):
    battery = battery_with(tmp_path, voltage_now=0)
    assert math.isnan(battery.voltage) and "voltage_now says 0" in battery.faults[0].text


def test_a_percentage_is_unknown_where_nothing_tells_it(tmp_path):
    battery = battery_with(tmp_path, capacity=None, energy_now=None)
    assert math.isnan(battery.percentage) and math.isnan(battery.charge) and battery.faults == ()


@pytest.mark.parametrize("capacity", [0, None])
def test_an_empty_bay_is_not_present_and_tells_nothing(tmp_path, capacity):
    battery = battery_with(tmp_path, present=0, capacity=capacity, energy_now=None)
    assert not battery.present and math.isnan(battery.percentage) and math.isnan(battery.voltage)


def test_a_charge_is_believed_before_a_driver_that_says_there_is_no_battery(tmp_path):
    battery = battery_with(tmp_path, present=0)
    (fault,) = battery.faults
    assert (battery.present, battery.percentage, battery.voltage) == (True, 0.73, 11.4)
    assert fault.text == f"{tmp_path / BATTERY / 'present'} says 0 beside a charge of 73 %: the charge is believed"


def test_a_driver_without_a_word_on_presence_has_a_battery(tmp_path):
    pack(tmp_path, "rpi", capacity=37, status="Discharging")
    assert (read_battery(tmp_path).present, read_battery(tmp_path).percentage) == (True, 0.37)


def test_a_charge_beside_a_voltage_alone_is_read(tmp_path):
    pack(tmp_path, "max17048", present=1, capacity=43, voltage_now=3_790_000)
    battery = read_battery(tmp_path)
    assert (battery.percentage, battery.voltage, battery.faults) == (0.43, 3.79, ())
    assert math.isnan(battery.power) and math.isnan(battery.energy_full)


# Several packs -------------------------------------------------------------------------------------------------------


def test_packs_add_up_by_energy(tmp_path):
    pack(tmp_path, "BAT0", capacity=100, energy_now=23_000_000, energy_full=23_000_000, power_now=0, status="Unknown")
    pack(
        tmp_path,
        "BAT1",
        capacity=4,
        energy_now=2_000_000,
        energy_full=47_000_000,
        power_now=9_000_000,
        status="Discharging",
    )
    battery = read_battery(tmp_path)
    assert battery.percentage == pytest.approx(25.0 / 70.0)
    assert (battery.name, battery.present, battery.status, battery.power) == ("BAT0+BAT1", True, "Discharging", 9.0)
    assert math.isnan(battery.voltage) and math.isnan(battery.current)


def test_packs_that_count_charge_add_up_by_its_energy(tmp_path):
    write_files(
        laptop(tmp_path) / "class/power_supply/BAT1",
        {"type": "Battery", "capacity": 20, "charge_full": 6_000_000, "voltage_min_design": 14_800_000},
    )
    assert read_battery(tmp_path).percentage == pytest.approx((33.3 + 0.2 * 88.8) / (45.6 + 88.8))


def test_a_pack_counts_at_most_as_full(tmp_path):
    pack(tmp_path, "BAT0", capacity=110, energy_now=22_000_000, energy_full=20_000_000)
    pack(tmp_path, "BAT1", capacity=50, energy_now=10_000_000, energy_full=20_000_000)
    assert read_battery(tmp_path).percentage == pytest.approx(0.75)


def test_an_energy_that_stands_still_is_not_believed_before_the_charge(tmp_path):
    for name in ("BAT0", "BAT1"):
        pack(tmp_path, name, capacity=30, energy_now=0, energy_full=20_000_000)
    assert read_battery(tmp_path).percentage == pytest.approx(0.3)


def test_the_lowest_charge_counts_where_a_pack_does_not_tell_how_much_it_holds(tmp_path):
    pack(tmp_path, "BAT0", capacity=90, energy_full=20_000_000)
    pack(tmp_path, "BAT1", capacity=15, voltage_now=12_000_000)
    assert read_battery(tmp_path).percentage == 0.15


@pytest.mark.parametrize(
    "statuses, together",
    [
        (("Full", "Charging"), "Charging"),
        (("Charging", "Discharging"), "Discharging"),
        (("Full", "Full"), "Full"),
        (("Full", "Unknown"), "Not charging"),
    ],
)
def test_packs_have_one_status(tmp_path, statuses, together):
    for name, status in zip(("BAT0", "BAT1"), statuses, strict=True):
        pack(tmp_path, name, capacity=50, energy_full=20_000_000, status=status)
    assert read_battery(tmp_path).status == together


def test_neither_an_empty_bay_nor_a_mouse_nor_a_silent_pack_is_one_of_several(tmp_path):
    pack(laptop(tmp_path), "BAT1", present=0, energy_full=90_000_000)
    pack(tmp_path, "BAT2", energy_full=90_000_000)
    assert (read_battery(tmp_path).name, read_battery(tmp_path).percentage) == ("BAT0", 0.73)


def test_a_battery_that_is_there_is_read_before_a_larger_bay_that_is_empty(tmp_path):
    write_files(
        laptop(tmp_path) / "class/power_supply/BAT1", {"type": "Battery", "present": 0, "energy_full": 90_000_000}
    )
    assert read_battery(tmp_path).name == "BAT0"


def test_a_broken_battery_file_is_named_and_the_rest_is_read(tmp_path):
    laptop(tmp_path)
    file = tmp_path / BATTERY / "voltage_now"
    file.unlink()
    file.symlink_to("/proc/self/mem")
    battery = read_battery(tmp_path)
    assert math.isnan(battery.voltage) and battery.percentage == 0.73
    assert battery.faults[0].text == f"{file}: Input/output error"


def test_every_battery_is_read_but_that_of_the_mouse(tmp_path):
    write_files(laptop(tmp_path) / "class/power_supply/BAT1", {"type": "Battery", "capacity": 20})
    assert {battery.name: battery.percentage for battery in read_batteries(tmp_path)} == {"BAT0": 0.73, "BAT1": 0.2}


# Whatever the files hold ---------------------------------------------------------------------------------------------

CONTENT = st.one_of(
    st.binary(max_size=40),
    st.integers(-(10**25), 10**25).map(lambda n: str(n).encode()),
    st.sampled_from([b"", b"-256000", b"1000000", b"nan", b"inf", b"1e9", b"1_000", b"9" * 70_000]),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_content_of_a_sensor_file_raises_or_gives_an_impossible_number(tmp_path, data):
    if not (tmp_path / "class").exists():
        odroid_xu3(tmp_path)
        laptop(tmp_path)
    files = [
        tmp_path / ZONE0 / name
        for name in ("temp", "type", "trip_point_0_temp", "trip_point_0_type", "trip_point_0_hyst")
    ]
    files += [
        tmp_path / BATTERY / name
        for name in (
            "type",
            "present",
            "status",
            "capacity",
            "voltage_now",
            "voltage_min_design",
            "power_now",
            "energy_now",
            "energy_full",
            "current_now",
            "charge_now",
        )
    ]
    for file in data.draw(st.sets(st.sampled_from(files)), label="changed"):
        file.write_bytes(data.draw(CONTENT, label=file.name))
    for reading in scan_temperatures(tmp_path):
        assert math.isnan(reading.celsius) == bool(reading.fault)
        assert reading.fault or -40.0 <= reading.celsius <= 150.0
        assert len(reading.fault) < 300
    for zone in find_thermal_zones(tmp_path):
        assert all(-40.0 <= trip.celsius <= 150.0 and not trip.hysteresis < 0.0 for trip in zone.trips)
    for battery in read_batteries(tmp_path):
        assert math.isnan(battery.percentage) or 0.0 <= battery.percentage <= 1.0
        assert not battery.voltage < 0.5 and not battery.power < 0.0 and not battery.charge < 0.0
        quantities = (
            battery.voltage,
            battery.current,
            battery.power,
            battery.charge,
            battery.energy,
            battery.energy_full,
        )
        assert all(not abs(value) > 1e4 for value in quantities)
