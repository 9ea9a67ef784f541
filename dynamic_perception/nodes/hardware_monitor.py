"""The hardware monitor node: temperatures, battery and power from the kernel, as topics.

Where a machine lacks a sensor, its topic stays silent and diagnostics say so.  Temperatures are published only of
sensors that tell how hot the processor is; diagnostics show the others too, and why they do not count.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.time import Time
from sensor_msgs.msg import BatteryState, Temperature

from dynamic_perception.hardware.discovery import load_platform
from dynamic_perception.hardware.floating_inputs import FloatingInputs
from dynamic_perception.hardware.platform_file import find_platform_file
from dynamic_perception.hardware.power import PowerSensor, find_power_sensors
from dynamic_perception.hardware.sensors import (
    BatteryReading,
    TemperatureReading,
    main_battery,
    read_batteries,
    scan_temperatures,
)
from dynamic_perception.hardware.temperature_choice import Judgement, TemperatureChoice, judge
from dynamic_perception.hardware.zone_kinds import counts_as_processor
from dynamic_perception.msg import Power
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.managed_node import ManagedNode, run

BATTERY_STATUS = {
    "Charging": BatteryState.POWER_SUPPLY_STATUS_CHARGING,
    "Discharging": BatteryState.POWER_SUPPLY_STATUS_DISCHARGING,
    "Not charging": BatteryState.POWER_SUPPLY_STATUS_NOT_CHARGING,
    "Full": BatteryState.POWER_SUPPLY_STATUS_FULL,
}


class HardwareMonitorNode(ManagedNode):
    """Reads the sensors at `publish_rate`.  A read blocks, but only for the kernel's few ms, so a timer does it."""

    def __init__(self) -> None:
        super().__init__("hardware_monitor")
        self._outputs: list[Any] = []
        self._timer: Any = None
        self._temperatures: tuple[TemperatureReading, ...] = ()
        self._judged: dict[str, Judgement] = {}  # by zone, whether it counts
        self._floating = FloatingInputs()
        self._battery: BatteryReading | None = None  # that the machine runs from
        self._batteries: tuple[BatteryReading, ...] = ()
        self._rails: tuple[PowerSensor, ...] = ()  # without batteries, which may come and go
        self._powers: dict[str, float] = {}  # [W] rail to its last reading
        self._known: dict[Path, str] = {}  # where a sensor was seen, and its name
        self._at_fault: frozenset[Path] = frozenset()  # what was told about already

    # Lifecycle -------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        self._sysfs_root = Path(self.value("sysfs_root"))
        self._choice = self._choose_temperatures()
        self._temperature_output = self.create_publisher(Temperature, "temperature", qos.SENSOR_DATA)
        self._battery_output = self.create_publisher(BatteryState, "battery_state", qos.SENSOR_DATA)
        self._power_output = self.create_publisher(Power, "power", qos.SENSOR_DATA)
        self._outputs = [self._temperature_output, self._battery_output, self._power_output]

    def activate(self) -> None:
        self._known, self._at_fault, self._powers = {}, frozenset(), {}
        self._floating = FloatingInputs()
        self._rails = tuple(s for s in find_power_sensors(self._sysfs_root) if s.source != "battery")
        self._read()
        self.get_logger().info(f"{self._sysfs_root}: {self._inventory()}")
        for name in self._choice.unknown(self._judged):
            self.get_logger().warning(
                f"no temperature sensor is called '{name}': expected some of {', '.join(self._judged) or 'none'} in "
                "temperature_include and temperature_exclude"
            )
        self._timer = self.create_timer(
            1.0 / self.value("publish_rate"), self._read_and_publish, clock=self.steady_clock
        )

    def deactivate(self) -> None:
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None

    def cleanup(self) -> None:
        for output in self._outputs:
            self.destroy_publisher(output)
        self._outputs = []

    def diagnose(self) -> tuple[bytes, str, dict[str, Any]]:
        values: dict[str, Any] = {
            f"{reading.zone} [°C]": _told(reading, self._judged[reading.zone]) for reading in self._temperatures
        }
        battery = self._battery
        if battery is not None:
            values[f"{battery.name} [%]"] = f"{100.0 * battery.percentage:g}" if battery.present else "not present"
            values[f"{battery.name} status"] = battery.status
        for rail in self._rails:
            values[f"{rail.name} [W]"] = rail.fault or f"{self._powers.get(rail.name, math.nan):.4g}"
        return DiagnosticStatus.OK, self._inventory(), values

    # Which temperatures count ------------------------------------------------------------------------------------

    def _choose_temperatures(self) -> TemperatureChoice:
        include, exclude = (
            tuple(name for name in self.value(f"temperature_{what}") if name) for what in ("include", "exclude")
        )
        choice, platform = TemperatureChoice(include, exclude), self.value("platform")
        if platform:
            choice = choice.joined(load_platform(find_platform_file(Path(platform)), self._sysfs_root).temperatures)
        return choice

    def _judge_temperatures(self) -> None:
        processors = {
            reading.zone: reading.celsius
            for reading in self._temperatures
            if not reading.fault and counts_as_processor(reading.zone) is not False
        }
        floating = self._floating.update(processors, time.monotonic())
        self._judged = judge(self._temperatures, self._choice, floating)

    # Reading and publishing --------------------------------------------------------------------------------------

    def _read_and_publish(self) -> None:
        # Here and not in `_read`: an energy counter gives the mean since the last time, which is a period ago.
        rails = [rail for rail in self._rails if rail.ready]
        self._powers |= {rail.name: rail.read() for rail in rails}
        self._read()
        now = self.get_clock().now()
        # Hottest last: a reader that keeps only a few messages of a burst must not lose the one that matters.
        used = (reading for reading in self._temperatures if self._judged[reading.zone].used)
        for reading in sorted(used, key=lambda r: r.celsius):
            self._temperature_output.publish(_temperature_message(reading, now))
        if self._battery is not None:
            self._battery_output.publish(_battery_message(self._battery, now))
        for battery in self._batteries:
            if battery.status == "Discharging" and battery.power > 0.0:  # none at all cannot be, and NaN is not known
                self._power_output.publish(_power_message(battery.name, battery.power, 0.0, now))
        for rail in rails:
            if not rail.fault:
                self._power_output.publish(_power_message(rail.name, self._powers[rail.name], rail.window, now))

    def _read(self) -> None:
        self._temperatures = scan_temperatures(self._sysfs_root)
        self._judge_temperatures()
        self._batteries = read_batteries(self._sysfs_root)
        self._battery = main_battery(self._batteries)
        seen = {reading.path: reading.zone for reading in self._temperatures}
        faults = {
            reading.path: (reading.zone, self._judged[reading.zone].reason)
            for reading in self._temperatures
            if self._judged[reading.zone].at_fault
        }
        for battery in self._batteries:
            seen[battery.path] = battery.name
            faults |= {fault.path: (battery.name, fault.text) for fault in battery.faults}
        self._known |= seen
        faults |= {
            path: (sensor, f"{path} is no longer there")
            for path, sensor in self._known.items()
            if path not in seen and not path.exists()
        }
        faults |= {rail.path or Path(rail.name): (rail.name, rail.fault) for rail in self._rails if rail.fault}
        for path, (sensor, text) in faults.items():
            if path not in self._at_fault:
                self.report_fault(sensor, f"sensor {sensor}: {text}")
        self._at_fault = frozenset(faults)

    def _inventory(self) -> str:
        used = sum(judgement.used for judgement in self._judged.values())
        unused = sum(not judgement.used and not judgement.at_fault for judgement in self._judged.values())
        others = f" ({unused} shown, not used)" if unused else ""
        temperatures = f"{used or 'no'} temperature sensor{'s' if used > 1 else ''}{others}"
        present = self._battery is not None and self._battery.present
        battery = f"battery {self._battery.name}" if present else "no battery"
        rails = f", {len(self._rails)} power rail{'s' if len(self._rails) > 1 else ''}" if self._rails else ""
        faults = f"; {len(self._at_fault)} at fault" if self._at_fault else ""
        return f"{temperatures}, {battery}{rails}{faults}"


def _told(reading: TemperatureReading, judgement: Judgement) -> str:
    """A temperature for diagnostics: a number where it counts, else why it does not, behind the number if any."""
    if judgement.used:
        return f"{reading.celsius:g}"
    return judgement.reason if math.isnan(reading.celsius) else f"{reading.celsius:g}, {judgement.reason}"


def _temperature_message(reading: TemperatureReading, now: Time) -> Temperature:
    message = Temperature(temperature=reading.celsius, variance=0.0)  # a variance of 0: not known
    message.header.stamp = now.to_msg()
    message.header.frame_id = reading.zone
    return message


def _battery_message(reading: BatteryReading, now: Time) -> BatteryState:
    message = BatteryState(
        voltage=reading.voltage,
        temperature=math.nan,
        current=reading.current,
        charge=reading.charge,
        capacity=math.nan,
        design_capacity=math.nan,
        percentage=reading.percentage,
        present=reading.present,
        power_supply_status=BATTERY_STATUS.get(reading.status, BatteryState.POWER_SUPPLY_STATUS_UNKNOWN),
        location=reading.name,
    )
    message.header.stamp = now.to_msg()
    message.header.frame_id = reading.name
    return message


def _power_message(rail: str, power: float, window: float, now: Time) -> Power:
    message = Power(power=power, window=window)
    message.header.stamp = now.to_msg()
    message.header.frame_id = rail
    return message


def main() -> None:
    """Run the node until it is told to stop."""
    run(HardwareMonitorNode)
