"""Power sensors and energy over a span, on sysfs trees of real machines, with the lies that real sensors tell."""

import math
import time

import pytest
from conftest import wait_for
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sysfs_trees import (
    RAPL_RANGE,
    container,
    i2c_monitor,
    jetson_agx_orin,
    jetson_orin_nx,
    jetson_xavier_nx,
    laptop,
    laptop_rails,
    odroid_xu3,
    odroid_xu3_rails,
    raspberry_pi_5,
    write_files,
)

from dynamic_perception.hardware.power import EnergyMeter, find_power_sensors
from dynamic_perception.hardware.power_sensor import HIGHEST_POWER, STILL, EnergyCounter, Gauge

PACKAGE = "class/powercap/intel-rapl:0"
BATTERY = "class/power_supply/BAT0"


def sensor_of(root, name):
    """The one of that name."""
    return {sensor.name: sensor for sensor in find_power_sensors(root)}[name]


def read_all(root):
    """Rail to power, of the gauges."""
    return {sensor.name: sensor.read() for sensor in find_power_sensors(root) if not sensor.energy_counter}


def counts(*values):
    """A counter's count, one after the other, the last for ever."""
    left = list(values)
    return lambda: (left.pop(0) if len(left) > 1 else left[0], "")


# What there is -------------------------------------------------------------------------------------------------------


def test_rails_of_a_jetson_are_voltage_times_current_under_the_boards_labels(tmp_path):
    assert read_all(jetson_xavier_nx(tmp_path)) == {
        "VDD_IN": pytest.approx(5.032 * 1.240),
        "VDD_CPU_GPU_CV": pytest.approx(5.024 * 0.320),
        "VDD_SOC": pytest.approx(5.024 * 0.280),
    }


def test_rails_of_several_chips_are_all_found(tmp_path):
    assert set(read_all(jetson_agx_orin(tmp_path))) == {"VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"}


def test_the_sum_of_currents_is_not_multiplied_with_a_shunt_voltage(tmp_path):
    assert len(find_power_sensors(jetson_orin_nx(tmp_path))) == 3


def test_unused_and_disabled_channels_are_no_rails(tmp_path):
    chip = jetson_xavier_nx(tmp_path) / "class/hwmon/hwmon1"
    write_files(chip, {"in2_label": "NC", "in3_enable": 0})
    assert list(read_all(tmp_path)) == ["VDD_IN"]


def test_chips_without_labels_are_told_apart_by_their_bus_address(tmp_path):
    assert read_all(odroid_xu3_rails(odroid_xu3(tmp_path))) == {
        "ina231_power1_0-0040": 2.45,
        "ina231_power1_0-0041": 0.12,
        "ina231_power1_0-0044": 0.09,
        "ina231_power1_0-0045": 0.06,
    }


def test_rails_of_one_label_on_one_chip_are_told_apart_by_a_number(tmp_path):
    write_files(jetson_xavier_nx(tmp_path) / "class/hwmon/hwmon1", {"in2_label": "VDD_SOC"})
    assert list(read_all(tmp_path)) == ["VDD_IN", "VDD_SOC_1-0040", "VDD_SOC_1-0040_2"]


def test_a_chip_that_measures_power_itself_is_one_rail(tmp_path):
    i2c_monitor(
        tmp_path,
        0,
        "1-0045",
        {"name": "ina238", "in0_input": 3, "in1_input": 12_000, "curr1_input": 990, "power1_input": 11_900_000},
    )
    assert read_all(tmp_path) == {"ina238_power1": 11.9}


def test_a_chip_that_only_tells_a_mean_is_read_too(tmp_path):
    i2c_monitor(tmp_path, 0, "1-0045", {"name": "amdgpu", "power1_average": 31_000_000, "power1_label": "slow PPT"})
    assert read_all(tmp_path) == {"slow_PPT": 31.0}


def test_a_laptop_counts_energy_and_its_battery_is_not_counted_twice(tmp_path):
    sensors = find_power_sensors(laptop_rails(laptop(tmp_path)))
    assert [(sensor.name, sensor.source, sensor.energy_counter) for sensor in sensors] == [
        ("package-0", "rapl", True),
        ("package-0_core", "rapl", True),
        ("package-0_uncore", "rapl", True),
        ("BAT0", "battery", False),
    ]


def test_several_batteries_are_several_rails(tmp_path):
    write_files(
        laptop(tmp_path) / "class/power_supply/BAT1",
        {"type": "Battery", "status": "Discharging", "voltage_now": 12_000_000, "current_now": -500_000},
    )
    assert read_all(tmp_path) == {"BAT0": 9.12, "BAT1": 6.0}


@pytest.mark.parametrize("tree", [container, raspberry_pi_5])
def test_a_machine_without_a_power_sensor_has_none(tmp_path, tree):
    assert find_power_sensors(tree(tmp_path)) == ()


# Readings ------------------------------------------------------------------------------------------------------------


def test_a_counter_gives_the_mean_power_since_the_last_reading(tmp_path):
    package = sensor_of(laptop_rails(laptop(tmp_path)), "package-0")
    for begin, joules in ((100, 2.0), (102, 0.5)):
        started = time.monotonic()
        write_files(tmp_path / PACKAGE, {"energy_uj": int((begin + joules) * 1e6)})
        wait_for(lambda: package.ready, "the counter to be readable again")
        power = package.read()
        assert power * package.window == pytest.approx(joules) and package.fault == ""
        assert package.window <= time.monotonic() - started + 0.1


def test_a_counter_that_wraps_around_goes_on(tmp_path):
    write_files(laptop_rails(laptop(tmp_path)) / PACKAGE, {"energy_uj": RAPL_RANGE - 300_000})
    package = sensor_of(tmp_path, "package-0")
    write_files(tmp_path / PACKAGE, {"energy_uj": 200_000})
    wait_for(lambda: package.ready, "the counter to be readable again")
    assert package.read() * package.window == pytest.approx(0.5)


def test_a_counter_that_was_set_back_is_unknown_with_the_reason(tmp_path):
    package = sensor_of(laptop_rails(laptop(tmp_path)), "package-0")
    write_files(tmp_path / PACKAGE, {"energy_uj": 0})  # from 100 J: not a wrap at 262 kJ
    wait_for(lambda: package.ready, "the counter to be readable again")
    assert math.isnan(package.read()) and "it was set back, or is dead" in package.fault


def test_a_counter_without_a_range_that_falls_is_unknown_with_the_reason(tmp_path):
    (laptop_rails(laptop(tmp_path)) / PACKAGE / "max_energy_range_uj").unlink()
    package = sensor_of(tmp_path, "package-0")
    write_files(tmp_path / PACKAGE, {"energy_uj": 99_000_000})
    wait_for(lambda: package.ready, "the counter to be readable again")
    assert math.isnan(package.read()) and package.fault.endswith("fell from 100000000 to 99000000: it was set back")


def test_a_package_whose_counter_stands_still_is_dead_but_unused_graphics_are_not(tmp_path):
    package, graphics = (
        sensor_of(laptop_rails(laptop(tmp_path)) if name == "package-0" else tmp_path, name)
        for name in ("package-0", "package-0_uncore")
    )
    end = time.monotonic() + 1.1 * STILL
    wait_for(lambda: time.monotonic() > end, "time to pass")
    assert math.isnan(package.read()) and "stands still at 100000000" in package.fault
    assert graphics.read() == 0.0 and graphics.fault == ""


def test_a_counter_is_not_read_again_before_it_can_have_moved():
    counter = EnergyCounter("gpu", "nvml", None, counts(1, 2), shortest=60.0)
    assert not counter.ready
    assert math.isnan(counter.read()) and counter.fault == "gpu: read again within 60 s"


def test_a_counter_beyond_its_range_is_unknown_with_the_reason(tmp_path):
    write_files(laptop_rails(laptop(tmp_path)) / PACKAGE, {"energy_uj": RAPL_RANGE + 1})
    package = sensor_of(tmp_path, "package-0")
    wait_for(lambda: package.ready, "the counter to be readable")
    assert math.isnan(package.read()) and f"expected 0 to {RAPL_RANGE} µJ" in package.fault


@pytest.mark.parametrize(
    "file, value, complaint",
    [
        ("curr1_input", -256, "says -1.28"),
        ("curr1_input", 10**6, "says 5032 W"),
        ("curr1_input", "", "holds ''"),
        ("curr1_input", 0, "says 0 W"),
        ("in1_input", 0, "the rail is off, or the sensor is dead"),
        ("in1_input", "9" * 100_000, "holds '" + "9" * 60 + "...'"),
        ("in1_input", "१२", "holds '१२'"),
    ],
)
def test_a_rail_that_lies_is_unknown_with_path_and_reason(tmp_path, file, value, complaint):
    write_files(jetson_xavier_nx(tmp_path) / "class/hwmon/hwmon1", {file: value})
    rail = sensor_of(tmp_path, "VDD_IN")
    assert math.isnan(rail.read()) and complaint in rail.fault and str(tmp_path) in rail.fault


def test_a_rail_with_an_input_output_error_is_unknown_and_comes_back(tmp_path):
    file = jetson_xavier_nx(tmp_path) / "class/hwmon/hwmon1/curr1_input"
    rail = sensor_of(tmp_path, "VDD_IN")
    file.unlink()
    file.symlink_to("/proc/self/mem")  # reading address 0 is a true EIO
    assert math.isnan(rail.read()) and rail.fault == f"{file}: Input/output error"
    file.unlink()
    write_files(file.parent, {"curr1_input": 1000})
    assert rail.read() == 5.032 and rail.fault == ""


def test_a_rail_whose_folder_vanishes_is_unknown(tmp_path):
    rail = sensor_of(jetson_xavier_nx(tmp_path), "VDD_IN")
    (tmp_path / "class/hwmon/hwmon1").unlink()
    assert math.isnan(rail.read()) and "No such file or directory" in rail.fault


@pytest.mark.parametrize(
    "changed, complaint",
    [
        ({"status": "Charging"}, "is charging: it does not feed the machine"),
        ({"present": 0, "capacity": 0}, "no battery in the bay"),
        ({"power_now": 0}, "says 0 W: the sensor seems to be dead"),
        ({"power_now": "x"}, "holds 'x'"),
    ],
)
def test_a_battery_that_does_not_tell_what_the_machine_draws_is_unknown(tmp_path, changed, complaint):
    write_files(laptop(tmp_path) / BATTERY, changed)
    battery = sensor_of(tmp_path, "BAT0")
    assert math.isnan(battery.read()) and complaint in battery.fault


# Energy --------------------------------------------------------------------------------------------------------------


def test_the_energy_of_a_counter_is_its_difference_over_a_wrap_around(tmp_path):
    write_files(laptop_rails(laptop(tmp_path)) / PACKAGE, {"energy_uj": RAPL_RANGE - 1_000_000})
    meter = EnergyMeter(sensor_of(tmp_path, "package-0"))
    meter.start()
    write_files(tmp_path / PACKAGE, {"energy_uj": 2_000_000})
    joules, seconds = meter.stop()
    assert joules == pytest.approx(3.0, rel=0.2) and 0.0 < seconds < 20.0 and meter.fault == ""


def test_the_energy_of_a_gauge_follows_its_power():
    power = [10.0]
    meter = EnergyMeter(Gauge("rail", "hwmon", None, lambda: (power[0], "")), period=0.002)
    meter.start()
    started = time.monotonic()
    wait_for(lambda: time.monotonic() - started > 0.1, "a tenth of a second at 10 W")
    changed, power[0] = time.monotonic(), 30.0
    wait_for(lambda: time.monotonic() - changed > 0.1, "a tenth of a second at 30 W")
    joules, seconds = meter.stop()
    low = changed - started
    assert joules == pytest.approx(10.0 * low + 30.0 * (seconds - low), rel=0.1)


def test_a_gauge_that_fails_for_the_whole_span_gives_no_energy():
    meter = EnergyMeter(Gauge("rail", "hwmon", None, lambda: (math.nan, "rail: Input/output error")))
    meter.start()
    joules, seconds = meter.stop()
    assert math.isnan(joules) and seconds > 0.0 and meter.fault == "rail: Input/output error"


def test_a_counter_that_was_set_back_meanwhile_gives_no_energy():
    meter = EnergyMeter(EnergyCounter("rail", "rapl", None, counts(9, 9, 5, 6)))
    meter.start()
    assert math.isnan(meter.stop()[0]) and meter.fault == "rail fell from 9 to 5: it was set back"


def test_a_meter_measures_again_and_does_not_disturb_the_sensor(tmp_path):
    package = sensor_of(laptop_rails(laptop(tmp_path)), "package-0")
    meter = EnergyMeter(package)
    for end in (101_000_000, 102_000_000):
        meter.start()
        write_files(tmp_path / PACKAGE, {"energy_uj": end})
        assert meter.stop()[0] == pytest.approx(1.0, rel=0.2)
    wait_for(lambda: package.ready, "the counter to be readable again")
    assert package.read() * package.window == pytest.approx(2.0)


def test_a_meter_is_started_and_stopped_in_turn():
    meter = EnergyMeter(Gauge("rail", "hwmon", None, lambda: (1.0, "")))
    with pytest.raises(RuntimeError, match="the energy of rail is not measured"):
        meter.stop()
    meter.start()
    with pytest.raises(RuntimeError, match="the energy of rail is measured already"):
        meter.start()
    meter.stop()


# Whatever the files hold ---------------------------------------------------------------------------------------------

CONTENT = st.one_of(
    st.binary(max_size=40),
    st.integers(-(10**25), 10**25).map(lambda n: str(n).encode()),
    st.sampled_from([b"", b"-256", b"1000000", b"nan", b"inf", b"1e9", b"1_000", b"9" * 70_000]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_content_of_a_power_file_raises_or_gives_an_impossible_power(tmp_path, data):
    if not (tmp_path / "class").exists():
        laptop_rails(laptop(jetson_xavier_nx(tmp_path)))
        write_files(tmp_path / "class/hwmon/hwmon7", {"name": "ina238", "power1_input": 1})
    files = [
        tmp_path / name
        for name in (
            f"{PACKAGE}/energy_uj",
            f"{PACKAGE}/max_energy_range_uj",
            f"{PACKAGE}/name",
            "class/hwmon/hwmon1/in1_input",
            "class/hwmon/hwmon1/curr1_input",
            "class/hwmon/hwmon1/in1_label",
            "class/hwmon/hwmon7/power1_input",
            f"{BATTERY}/power_now",
            f"{BATTERY}/voltage_now",
            f"{BATTERY}/current_now",
            f"{BATTERY}/status",
        )
    ]
    for file in files:
        file.write_bytes(data.draw(CONTENT, label=file.name))
    sensors = find_power_sensors(tmp_path)
    meters = [EnergyMeter(sensor) for sensor in sensors]
    for meter in meters:
        meter.start()
    files[0].write_bytes(data.draw(CONTENT, label="energy_uj later"))
    for sensor, meter in zip(sensors, meters, strict=True):
        power, (joules, seconds) = sensor.read(), meter.stop()
        assert math.isnan(power) == bool(sensor.fault) and (math.isnan(power) or 0.0 <= power <= HIGHEST_POWER)
        assert math.isnan(joules) == bool(meter.fault)
        assert math.isnan(joules) or 0.0 <= joules <= 1.2 * HIGHEST_POWER * max(seconds, 0.005)
    assert len({sensor.name for sensor in sensors}) == len(sensors)
