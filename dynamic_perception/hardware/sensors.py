"""Temperatures and the battery, as the kernel shows them, without the readings that cannot be true."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.sysfs import (
    NOT_TOLD,
    excerpt,
    numbered_entries,
    parse_integer,
    read_integer,
    read_text,
    text_or,
)

THERMAL_ZONES = Path("class/thermal")
HARDWARE_MONITORS = Path("class/hwmon")
PMIC, PMIC_AT_REST = "pmic", 100.0  # [°C] such chips of Jetson boards only know alarms, and say this without one
POWER_SUPPLIES = Path("class/power_supply")
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = -40.0, 150.0  # [°C] beyond what silicon is specified for, a sensor is dead
LOWEST_VOLTAGE = 500_000  # [µV] below the empty cell of any chemistry
FULLEST = 1.25  # of what a battery holds when full: fresh or badly learnt packs tell more than 100 %, broken ones 255
SAME_CHARGE = 0.05  # by which a driver's percentage and its energy differ at most, else the percentage is taken
HIGHEST = 10**10  # millionths of a V, A, W, Ah or Wh: ten thousand of them, more than any battery of a robot has


@dataclass(frozen=True)
class TemperatureReading:
    """One sensor.

    Attributes:
        zone: name, different from that of every other sensor of the scan.
        path: the file that it was read from.
        celsius: [°C]; NaN where there is a fault.
        fault: why the reading cannot be used, with path and value; empty when it can.
    """

    zone: str
    path: Path
    celsius: float
    fault: str


@dataclass(frozen=True)
class SensorFault:
    """What is wrong with the file at `path`; the text names path and value."""

    path: Path
    text: str


@dataclass(frozen=True)
class BatteryReading:
    """One battery.  NaN means that the kernel does not tell, or tells what cannot be true.

    Attributes:
        name: as the kernel calls it, for example "BAT0".
        path: its folder.
        present: false for an empty bay.
        percentage: [0..1] state of charge; what the driver tells beyond 100 % is full.
        voltage: [V]
        current: [A], negative while discharging.
        charge: [Ah] left.
        power: [W] magnitude, drawn or charged.
        energy: [Wh] left.
        energy_full: [Wh] that it holds when full.
        status: "Charging", "Discharging", "Not charging", "Full" or "Unknown".
        faults: readings that failed or cannot be true.
    """

    name: str
    path: Path
    present: bool
    percentage: float
    voltage: float
    current: float
    charge: float
    power: float
    energy: float
    energy_full: float
    status: str
    faults: tuple[SensorFault, ...]


def read_temperatures(sysfs_root: Path = Path("/sys")) -> dict[str, float]:
    """Zone name to temperature [°C], only of sensors that can be believed."""
    return {reading.zone: reading.celsius for reading in scan_temperatures(sysfs_root) if not reading.fault}


def scan_temperatures(sysfs_root: Path = Path("/sys")) -> tuple[TemperatureReading, ...]:
    """Every temperature sensor, read now."""
    return tuple(_read_temperature(zone, file) for zone, file in find_temperatures(sysfs_root))


def find_temperatures(sysfs_root: Path = Path("/sys")) -> tuple[tuple[str, Path], ...]:
    """(zone, file) of the thermal zones, then of the hardware monitors that are not thermal zones once more.

    A zone is called by its type; those of the same type are told apart by the number that the kernel gave each.
    """
    zones = numbered_entries(sysfs_root / THERMAL_ZONES, "thermal_zone")
    sensors = [
        (text_or(zone / "type", "thermal_zone"), zone.name.removeprefix("thermal_zone"), zone / "temp")
        for zone in zones
    ]
    types = {_plain(name) for name, _, _ in sensors}
    sensors += [
        (_monitor_name(monitor, file), f"{monitor.name}_{file.name.removesuffix('_input')}", file)
        for monitor in numbered_entries(sysfs_root / HARDWARE_MONITORS, "hwmon")
        if not _shows_a_zone(monitor, types)
        for file in numbered_entries(monitor, "temp", "_input")
    ]
    names = Counter(name for name, _, _ in sensors)
    return tuple((name if names[name] == 1 else f"{name}_{number}", file) for name, number, file in sensors)


def _shows_a_zone(monitor: Path, types: set[str]) -> bool:
    """Whether a hardware monitor is how the kernel shows a thermal zone once more: of its type, or below it."""
    device = monitor / "device"
    below = device.is_dir() and device.resolve().name.startswith("thermal_zone")
    return below or _plain(text_or(monitor / "name", "")) in types


def _plain(name: str) -> str:
    """A name as the kernel gives it to a hardware monitor, which may not have every sign in it."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def read_battery(sysfs_root: Path = Path("/sys")) -> BatteryReading | None:
    """The battery that the machine runs from, of several packs what they are together; None: none.

    Batteries of attached devices, such as a mouse, are left out.
    """
    return main_battery(read_batteries(sysfs_root))


def main_battery(batteries: Iterable[BatteryReading]) -> BatteryReading | None:
    """What the machine runs from, as for `read_battery`."""
    batteries = tuple(batteries)
    packs = tuple(b for b in batteries if b.present and not math.isnan(b.percentage))
    if len(packs) > 1:
        return _together(packs)
    return packs[0] if packs else max(batteries, key=_size, default=None)


def read_batteries(sysfs_root: Path = Path("/sys")) -> tuple[BatteryReading, ...]:
    """Every battery of the machine itself, in the order of their names."""
    return tuple(read_battery_at(supply) for supply in find_batteries(sysfs_root))


def find_batteries(sysfs_root: Path = Path("/sys")) -> tuple[Path, ...]:
    """The folder of every battery of the machine itself, in the order of their names."""
    try:
        supplies = sorted((sysfs_root / POWER_SUPPLIES).iterdir())
    except OSError:
        return ()
    return tuple(
        supply
        for supply in supplies
        if text_or(supply / "type", "") == "Battery" and text_or(supply / "scope", "") != "Device"
    )


def _read_temperature(zone: str, path: Path) -> TemperatureReading:
    try:
        text = read_text(path)
    except OSError as error:
        return TemperatureReading(zone, path, math.nan, f"{path}: {error.strerror}")
    thousandths = parse_integer(text)
    if thousandths is None:
        return TemperatureReading(
            zone, path, math.nan, f"{path} holds '{excerpt(text)}': expected thousandths of a degree"
        )
    celsius = thousandths / 1000.0
    if celsius == 0.0 or not LOWEST_TEMPERATURE <= celsius <= HIGHEST_TEMPERATURE:  # dead ones give 0 or -256
        return TemperatureReading(zone, path, math.nan, f"{path} says {celsius:g} °C: the sensor seems to be dead")
    if zone.lower().startswith(PMIC) and celsius == PMIC_AT_REST:
        return TemperatureReading(zone, path, math.nan, f"{path} says {celsius:g} °C: it knows no other but alarms")
    return TemperatureReading(zone, path, celsius, "")


def _monitor_name(monitor: Path, file: Path) -> str:
    sensor = file.name.removesuffix("_input")
    label = text_or(monitor / f"{sensor}_label", sensor)
    return f"{text_or(monitor / 'name', monitor.name)}_{label}".replace(" ", "_")


def read_battery_at(supply: Path) -> BatteryReading:
    """The battery in that folder, whatever the folder holds."""
    faults: list[SensorFault] = []
    name, status = supply.name, text_or(supply / "status", "Unknown")
    if read_integer(supply / "present") == 0:
        percentage = _percentage(supply, status, [])
        if not percentage > 0.0:
            nan = math.nan
            return BatteryReading(name, supply, False, nan, nan, nan, nan, nan, nan, nan, status, ())
        text = f"{supply / 'present'} says 0 beside a charge of {100.0 * percentage:g} %: the charge is believed"
        faults.append(SensorFault(supply / "present", text))
    voltage = _micro(supply / "voltage_now", faults, smallest=LOWEST_VOLTAGE)
    current = _micro(supply / "current_now", faults)
    power = abs(_micro(supply / "power_now", faults))
    if math.isnan(power):
        power = _derived(abs(voltage * current), supply, "voltage times current", faults)
    elif math.isnan(current):
        current = _derived(power / voltage, supply, "power over voltage", faults)
    if status in ("Charging", "Discharging"):  # the sign of current_now differs from driver to driver
        current = math.copysign(current, 1.0 if status == "Charging" else -1.0)
    charge = _micro(supply / "charge_now", faults, smallest=0)
    nominal_voltage = _micro(supply / "voltage_min_design", faults, smallest=LOWEST_VOLTAGE)
    energy = _micro(supply / "energy_now", faults if math.isnan(charge) else [], smallest=0)
    if math.isnan(charge):
        charge = _derived(energy / nominal_voltage, supply, "energy over voltage", faults)
    percentage = _percentage(supply, status, faults)
    energy_full = _energy_full(supply, voltage if math.isnan(nominal_voltage) else nominal_voltage)
    if not abs(energy / energy_full - percentage) <= SAME_CHARGE:  # one of them stands still, or is not told
        energy = percentage * energy_full
    energy = min(energy, energy_full)
    quantities = (percentage, voltage, current, charge, power, energy, energy_full)
    return BatteryReading(name, supply, True, *quantities, status, tuple(faults))


def _percentage(supply: Path, status: str, faults: list[SensorFault]) -> float:
    capacity = _told(supply / "capacity", faults)
    if capacity is not None:
        if 0 <= capacity <= 100.0 * FULLEST:
            return min(1.0, capacity / 100.0)
        path = supply / "capacity"
        faults.append(SensorFault(path, f"{path} says {capacity}: expected 0 to 100 %"))
        return math.nan
    for quantity in ("energy", "charge"):
        now, full = read_integer(supply / f"{quantity}_now"), read_integer(supply / f"{quantity}_full")
        if now is not None and full is not None and full > 0 and 0 <= now <= FULLEST * full:
            return min(1.0, now / full)
    return 1.0 if status == "Full" else math.nan


def _together(packs: tuple[BatteryReading, ...]) -> BatteryReading:
    """Several packs as one: charge by energy; of packs that do not tell how much they hold, the lowest charge.

    Voltage, current and charge of packs do not add up, as their circuit is not known.
    """
    energy, full = (math.fsum(values) for values in zip(*((p.energy, p.energy_full) for p in packs), strict=True))
    percentage = energy / full if full > 0.0 else min(pack.percentage for pack in packs)
    feeding = [pack for pack in packs if pack.status == "Discharging"]
    charging = [pack for pack in packs if pack.status == "Charging"]
    same = {pack.status for pack in packs}
    status = "Discharging" if feeding else "Charging" if charging else same.pop() if len(same) == 1 else "Not charging"
    power = math.fsum(pack.power for pack in feeding or charging) if feeding or charging else math.nan
    name, folder = "+".join(pack.name for pack in packs), packs[0].path.parent
    nothing = (math.nan, math.nan, math.nan)
    return BatteryReading(name, folder, True, percentage, *nothing, power, energy, full, status, ())


def _size(battery: BatteryReading) -> tuple[bool, float]:
    """Energy when full [Wh], behind whether there is a battery in the bay at all."""
    return battery.present, 0.0 if math.isnan(battery.energy_full) else battery.energy_full


def _energy_full(supply: Path, voltage: float) -> float:
    """[Wh] of a full battery, by its energy or else its charge at `voltage` [V]; NaN: not told, or not to believe."""
    energy, charge = (_micro(supply / name, [], smallest=0) for name in ("energy_full", "charge_full"))
    if math.isnan(energy):
        energy = _derived(charge * voltage, supply, "charge times voltage", [])
    return energy if energy > 0.0 else math.nan


def _micro(path: Path, faults: list[SensorFault], smallest: int = -HIGHEST) -> float:
    """A file in millionths of a unit, in that unit; beyond `smallest` to `HIGHEST` millionths it cannot be true."""
    value = _told(path, faults)
    if value is None:
        return math.nan
    if not smallest <= value <= HIGHEST:
        faults.append(SensorFault(path, f"{path} says {value}: expected {smallest} to {HIGHEST}"))
        return math.nan
    return value / 1e6


def _derived(value: float, supply: Path, what: str, faults: list[SensorFault]) -> float:
    """What was computed from two readings, each of which can be true, unless together they cannot."""
    if value * 1e6 > HIGHEST:
        text = f"{supply}: {what} is {value:g}: expected at most {HIGHEST / 1e6:g}"
        faults.append(SensorFault(supply, text))
        return math.nan
    return value


def _told(path: Path, faults: list[SensorFault]) -> int | None:
    """The integer in a file; None where the kernel does not tell, which is no fault, or cannot tell, which is one."""
    try:
        text = read_text(path)
    except OSError as error:
        if error.errno not in NOT_TOLD:
            faults.append(SensorFault(path, f"{path}: {error.strerror}"))
        return None
    value = parse_integer(text)
    if value is None:
        faults.append(SensorFault(path, f"{path} holds '{excerpt(text)}': expected a number"))
    return value
