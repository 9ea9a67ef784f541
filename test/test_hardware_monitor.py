"""The hardware monitor: a real process that reads a machine's sysfs tree, heard over DDS."""

import math
import shutil
from functools import partial

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from dynamic_perception.msg import Power
from lifecycle_msgs.msg import Transition
from sensor_msgs.msg import BatteryState, Temperature
from sysfs_trees import (
    RAPL_RANGE,
    battery,
    container,
    jetson_xavier_nx,
    laptop,
    laptop_rails,
    monitor,
    odroid_xu3,
    write_files,
    zones,
)

from dynamic_perception.nodes import qos

BATTERY = "class/power_supply/BAT0"
CORES = "class/powercap/intel-rapl:0:0"


class Listener:
    """The newest message of every topic and sensor, and every state that diagnostics told."""

    def __init__(self, node, spin_until):
        self.node, self.spin_until = node, spin_until
        self.temperatures, self.batteries, self.powers, self.diagnostics = {}, {}, {}, []
        for kind, topic, newest in (
            (Temperature, "temperature", self.temperatures),
            (BatteryState, "battery_state", self.batteries),
            (Power, "power", self.powers),
        ):
            node.create_subscription(kind, topic, partial(self._keep, newest), qos.SENSOR_DATA)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    @staticmethod
    def _keep(newest, message):
        newest[message.header.frame_id] = message

    def _on_diagnostics(self, message):
        self.diagnostics += [s for s in message.status if s.name.startswith(self.node.get_namespace().lstrip("/"))]

    def wait_for_diagnostics(self):
        """The next status, told once a second."""
        self.diagnostics.clear()
        self.spin_until(lambda: self.diagnostics, "diagnostics")
        return self.diagnostics[-1]


def stamp_of(message):
    return message.header.stamp.sec * 10**9 + message.header.stamp.nanosec


def values_of(status):
    return {value.key: value.value for value in status.values}


@pytest.fixture
def listener(ros_node, spin_until):
    return Listener(ros_node, spin_until)


@pytest.fixture
def start_monitor(start_node):
    """The node on a sysfs tree, fast enough for a test."""

    def start(root, **values):
        return start_node("hardware_monitor", {"sysfs_root": str(root), "publish_rate": 20.0, **values})

    return start


def test_every_zone_is_published_in_celsius_as_it_changes(tmp_path, start_monitor, listener, spin_until):
    start_monitor(odroid_xu3(tmp_path))
    spin_until(lambda: len(listener.temperatures) == 5, "all five zones")
    assert {zone: message.temperature for zone, message in listener.temperatures.items()} == {
        "cpu0-thermal": 51.0,
        "cpu1-thermal": 55.0,
        "cpu2-thermal": 53.0,
        "cpu3-thermal": 49.0,
        "gpu-thermal": 47.0,
    }
    assert all(message.header.stamp.sec > 0 for message in listener.temperatures.values())
    write_files(tmp_path / "class/thermal/thermal_zone4", {"temp": 83_500})
    spin_until(lambda: listener.temperatures["gpu-thermal"].temperature == 83.5, "the new temperature")


def test_only_what_tells_how_hot_the_processor_is_is_published_and_the_rest_is_shown(
    tmp_path, start_monitor, listener, spin_until
):
    zones(tmp_path, {"acpitz": 16_800, "iwlwifi_1": 92_000})
    monitor(tmp_path, 1, "k10temp", {"Tctl": 88_500})
    monitor(tmp_path, 2, "nvme", {"Composite": 45_850})
    start_monitor(tmp_path)
    spin_until(lambda: listener.temperatures, "a temperature")
    status = listener.wait_for_diagnostics()
    assert {zone: message.temperature for zone, message in listener.temperatures.items()} == {"k10temp_Tctl": 88.5}
    values = values_of(status)
    assert (status.level, values["k10temp_Tctl [°C]"]) == (DiagnosticStatus.OK, "88.5")
    assert values["iwlwifi_1 [°C]"] == "92, not used: it measures a wireless card"
    assert values["acpitz [°C]"].startswith("16.8, not used") and values["nvme_Composite [°C]"].startswith("45.85, not")


def test_parameters_and_a_platform_file_say_which_temperatures_count(tmp_path, start_monitor, listener, spin_until):
    root = zones(tmp_path / "sys", {"SEN1": 70_000, "SEN2": 71_000, "cpu-thermal": 50_000, "gpu-thermal": 60_000})
    (tmp_path / "robot.yaml").write_text("schema: 1\ntemperatures: {include: [SEN2]}\n")
    node = start_monitor(
        root,
        platform=str(tmp_path / "robot.yaml"),
        temperature_include=["SEN1"],
        temperature_exclude=["cpu*", "iwlwifi_1"],
    )
    spin_until(lambda: listener.temperatures, "a temperature")
    listener.wait_for_diagnostics()
    assert set(listener.temperatures) == {"SEN1", "SEN2", "gpu-thermal"}
    node.wait_for_output("no temperature sensor is called 'iwlwifi_1'")


def test_an_input_that_no_running_processor_can_have_is_named_and_not_published(
    tmp_path, start_monitor, listener, spin_until
):
    node = start_monitor(zones(tmp_path, {"cpu0-thermal": 127_500, "cpu1-thermal": 50_000}))
    path = tmp_path / "class/thermal/thermal_zone0/temp"
    node.wait_for_output(f"sensor cpu0-thermal: {path}: no running processor has 127.5 °C: its input seems to float")
    spin_until(lambda: listener.temperatures, "a temperature")
    listener.wait_for_diagnostics()
    assert list(listener.temperatures) == ["cpu1-thermal"]


def test_two_packs_are_published_as_one_battery(tmp_path, start_monitor, listener, spin_until):
    battery(tmp_path, "BAT0", capacity=100, energy_now=23_000_000, energy_full=23_000_000, status="Unknown")
    battery(tmp_path, "BAT1", capacity=4, energy_now=2_000_000, energy_full=47_000_000, status="Discharging")
    start_monitor(tmp_path)
    spin_until(lambda: listener.batteries, "the battery")
    listener.wait_for_diagnostics()
    assert list(listener.batteries) == ["BAT0+BAT1"]
    assert listener.batteries["BAT0+BAT1"].percentage == pytest.approx(25.0 / 70.0)


def test_a_charge_without_a_battery_is_believed_and_told_about_once(tmp_path, start_monitor, listener, spin_until):
    node = start_monitor(battery(tmp_path, "BAT0", present=0, capacity=37, status="Discharging"))
    node.wait_for_output("present says 0 beside a charge of 37 %: the charge is believed")
    spin_until(lambda: listener.batteries, "the battery")
    listener.wait_for_diagnostics()
    assert values_of(listener.wait_for_diagnostics())["faults: BAT0"] == "1"  # twenty readings later
    state = listener.batteries["BAT0"]
    assert state.present and state.percentage == pytest.approx(0.37)


def test_the_battery_is_published_in_si_units_and_the_rest_is_not_set(tmp_path, start_monitor, listener, spin_until):
    start_monitor(laptop(tmp_path))
    spin_until(lambda: listener.batteries, "the battery")
    state = listener.batteries["BAT0"]
    assert state.present and state.percentage == pytest.approx(0.73) and state.voltage == pytest.approx(11.4)
    assert state.current == pytest.approx(-0.8) and state.charge == pytest.approx(3.0)
    assert state.power_supply_status == BatteryState.POWER_SUPPLY_STATUS_DISCHARGING
    assert all(math.isnan(value) for value in (state.temperature, state.capacity, state.design_capacity))
    status = listener.wait_for_diagnostics()
    values = values_of(status)
    assert (status.level, status.message) == (
        DiagnosticStatus.OK,
        "1 temperature sensor (2 shown, not used), battery BAT0",
    )
    assert values["x86_pkg_temp [°C]"] == "61.5" and values["BAT0 [%]"] == "73"


def test_power_is_published_with_rail_and_window_while_the_battery_gives_it(
    tmp_path, start_monitor, listener, spin_until
):
    start_monitor(laptop(tmp_path))
    spin_until(lambda: listener.powers, "the power")
    assert (listener.powers["BAT0"].power, listener.powers["BAT0"].window) == (9.12, 0.0)
    write_files(tmp_path / BATTERY, {"status": "Charging"})
    charging = BatteryState.POWER_SUPPLY_STATUS_CHARGING
    spin_until(lambda: listener.batteries["BAT0"].power_supply_status == charging, "the battery to be charged")
    charged_at = stamp_of(listener.batteries["BAT0"])
    listener.wait_for_diagnostics()  # about a second of messages
    assert stamp_of(listener.powers["BAT0"]) < charged_at < stamp_of(listener.batteries["BAT0"])


def test_every_rail_that_can_be_believed_is_published(tmp_path, start_monitor, listener, spin_until):
    write_files(jetson_xavier_nx(tmp_path) / "class/hwmon/hwmon1", {"curr3_input": -256})
    node = start_monitor(tmp_path)
    spin_until(lambda: len(listener.powers) == 2, "two rails")
    assert {rail: (message.power, message.window) for rail, message in listener.powers.items()} == {
        "VDD_IN": (pytest.approx(6.23968), 0.0),
        "VDD_CPU_GPU_CV": (pytest.approx(1.60768), 0.0),
    }
    node.wait_for_output(f"sensor VDD_SOC: {tmp_path / 'class/hwmon/hwmon1/curr3_input'} says -1.28614 W")
    assert "3 temperature sensors (1 shown, not used), no battery, 3 power rails" in node.output()
    values = values_of(listener.wait_for_diagnostics())
    assert values["VDD_IN [W]"] == "6.24" and "the sensor seems to be dead" in values["VDD_SOC [W]"]


def test_counted_energy_is_published_as_the_mean_power_of_its_window(tmp_path, start_monitor, listener, spin_until):
    start_monitor(laptop_rails(laptop(tmp_path)))
    spin_until(lambda: "package-0_core" in listener.powers, "a window")
    count = 100_000_000

    def counted():
        nonlocal count
        count += 900_000
        write_files(tmp_path / CORES, {"energy_uj": count})
        return listener.powers["package-0_core"].power > 0.0

    spin_until(counted, "a window in which energy was counted")
    message = listener.powers["package-0_core"]
    steps = message.power * message.window / 0.9
    assert steps >= 0.99 and steps == pytest.approx(round(steps))
    write_files(tmp_path / CORES, {"energy_uj": RAPL_RANGE + 1})
    spin_until(lambda: any("expected 0 to" in status.message for status in listener.diagnostics), "the fault")


def test_the_batteries_that_feed_the_machine_are_all_published_as_rails(tmp_path, start_monitor, listener, spin_until):
    write_files(
        laptop(tmp_path) / "class/power_supply/BAT1",
        {"type": "Battery", "status": "Discharging", "voltage_now": 12_000_000, "current_now": 500_000},
    )
    start_monitor(tmp_path)
    spin_until(lambda: len(listener.powers) == 2, "both batteries")
    assert {rail: message.power for rail, message in listener.powers.items()} == {"BAT0": 9.12, "BAT1": 6.0}
    assert list(listener.batteries) == ["BAT0"]


def test_a_container_publishes_nothing_and_is_well(tmp_path, start_monitor, listener):
    start_monitor(container(tmp_path))
    listener.spin_until(
        lambda: any(
            s.message == "no temperature sensor, no battery" and s.level == DiagnosticStatus.OK
            for s in listener.diagnostics
        ),
        "diagnostics that name what is missing",
    )
    assert not listener.temperatures and not listener.batteries and not listener.powers


def test_a_sensor_that_lies_is_told_about_once_with_path_and_value(tmp_path, start_monitor, listener, spin_until):
    write_files(odroid_xu3(tmp_path) / "class/thermal/thermal_zone0", {"temp": -256_000})
    node = start_monitor(tmp_path)
    path = tmp_path / "class/thermal/thermal_zone0/temp"
    node.wait_for_output(f"sensor cpu0-thermal: {path} says -256 °C")
    node.wait_for_output("4 temperature sensors, no battery; 1 at fault")
    spin_until(lambda: listener.temperatures, "a temperature")
    listener.wait_for_diagnostics()
    assert values_of(listener.wait_for_diagnostics())["faults: cpu0-thermal"] == "1"  # twenty readings later
    assert "cpu0-thermal" not in listener.temperatures and len(listener.temperatures) == 4


def test_a_battery_that_vanishes_is_told_about_and_the_node_goes_on(tmp_path, start_monitor, listener, spin_until):
    node = start_monitor(laptop(tmp_path))
    spin_until(lambda: listener.batteries, "the battery")
    shutil.rmtree(tmp_path / BATTERY)
    node.wait_for_output(f"sensor BAT0: {tmp_path / BATTERY} is no longer there")
    listener.temperatures.clear()
    spin_until(lambda: listener.temperatures, "the temperatures to go on")


def test_an_inactive_monitor_is_silent(tmp_path, start_monitor, listener, ros_node, spin_until, change_state):
    start_monitor(laptop(tmp_path))
    spin_until(lambda: listener.temperatures, "a temperature")
    assert change_state("hardware_monitor", Transition.TRANSITION_DEACTIVATE)
    deactivated_at = ros_node.get_clock().now().nanoseconds
    listener.wait_for_diagnostics()
    assert listener.wait_for_diagnostics().message == "inactive"  # a second later
    assert all(stamp_of(message) < deactivated_at for message in listener.temperatures.values())
