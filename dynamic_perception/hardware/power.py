"""The power sensors of this machine: energy counters of x86, rails of boards, batteries, NVIDIA's cards.

What the files mean: https://docs.kernel.org/power/powercap/powercap.html and
https://docs.kernel.org/hwmon/sysfs-interface.html.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain, count
from pathlib import Path

from dynamic_perception.hardware.gpus import SYSFS, find_gpus
from dynamic_perception.hardware.nvml import NvmlGpu
from dynamic_perception.hardware.power_sensor import EnergyCounter, EnergyMeter, Gauge, PowerSensor
from dynamic_perception.hardware.sensors import HARDWARE_MONITORS, POWER_SUPPLIES, find_batteries, read_battery_at
from dynamic_perception.hardware.sysfs import numbered_entries, read_integer, read_number, text_or

__all__ = ["EnergyMeter", "PowerSensor", "find_power_sensors"]

POWERCAP = Path("class/powercap")
MIRROR = "-mmio"  # a second view of the same counters
NOT_CONNECTED = ("NC", "NOT_CONNECTED")  # how device trees call the unused channels of a chip
WHOLE_MACHINE = ("VDD_IN", "POM_5V_IN")  # rails of Jetson boards that cannot be without current
NVML_STEP = 0.1  # [s] in which the cards' counters move on


@dataclass(frozen=True)
class _Rail:
    """A sensor that still needs a name of its own: `name`, and more where it is not the only one."""

    name: str
    place: str
    make: Callable[[str], PowerSensor]


def find_power_sensors(sysfs_root: Path = SYSFS) -> tuple[PowerSensor, ...]:
    """Every power sensor, also those that are dead or must not be read: their readings are NaN with the reason.

    A rail is called as the board labels it, else after its chip; those of the same name are told apart by the bus
    address of their chips, which does not change from start to start, and on one chip by a number.
    """
    root = Path(sysfs_root)
    rails = [*_counters(root), *_board_rails(root), *_batteries(root), *_cards(root)]
    return tuple(rail.make(name) for rail, name in zip(rails, _own_names(rails)))


def _own_names(rails: list[_Rail]) -> list[str]:
    names = Counter(rail.name for rail in rails)
    own: list[str] = []
    for rail in rails:
        stem = rail.name if names[rail.name] == 1 else f"{rail.name}_{rail.place}"
        candidates = chain([stem], (f"{stem}_{number}" for number in count(2)))
        own.append(next(name for name in candidates if name not in own))
    return own


# Energy counters (RAPL) ----------------------------------------------------------------------------------------------


def _counters(root: Path) -> list[_Rail]:
    try:
        zones = sorted(path for path in (root / POWERCAP).iterdir() if (path / "energy_uj").exists())
    except OSError:
        return []
    named = {zone: _zone_name(zone) for zone in zones}
    own = {name for zone, name in named.items() if MIRROR not in zone.name}
    return [
        _Rail(name, zone.name, partial(_make_counter, zone))
        for zone, name in named.items()
        if MIRROR not in zone.name or name not in own
    ]


def _zone_name(zone: Path) -> str:
    """ "package-0", and "package-0_core" for a part of it."""
    name, (parent, _, part) = text_or(zone / "name", zone.name), zone.name.rpartition(":")
    whole = zone.with_name(parent)
    return f"{text_or(whole / 'name', parent)}_{name}" if ":" in parent and part and whole.is_dir() else name


def _make_counter(zone: Path, name: str) -> PowerSensor:
    file = zone / "energy_uj"
    # The whole package, or system, always draws power; an unused part of it, such as its graphics, need not.
    return EnergyCounter(
        name,
        "rapl",
        file,
        partial(read_number, file),
        wraps_at=max(0, read_integer(zone / "max_energy_range_uj") or 0),
        always_draws=name.startswith(("package", "psys")) and "_" not in name,
    )


# Hardware monitors ---------------------------------------------------------------------------------------------------


def _board_rails(root: Path) -> list[_Rail]:
    try:
        supplies = {path.name.replace("-", "_") for path in (root / POWER_SUPPLIES).iterdir()}
    except OSError:
        supplies = set()
    rails = []
    for monitor in numbered_entries(root / HARDWARE_MONITORS, "hwmon"):
        chip = text_or(monitor / "name", monitor.name)
        if chip not in supplies:  # batteries show themselves here once more
            rails += _power_channels(monitor, chip) or _voltage_and_current(monitor, chip)
    return [rail for rail in rails if rail.name.upper() not in NOT_CONNECTED]


def _power_channels(monitor: Path, chip: str) -> list[_Rail]:
    files = {
        file.name.partition("_")[0]: file
        for suffix in ("_average", "_input")
        for file in numbered_entries(monitor, "power", suffix)
    }
    return [
        _Rail(
            _label(monitor, channel, f"{chip}_{channel}"),
            _place(monitor),
            lambda name, file=file: Gauge(name, "hwmon", file, partial(_watts, file), name in WHOLE_MACHINE),
        )
        for channel, file in files.items()
    ]


def _voltage_and_current(monitor: Path, chip: str) -> list[_Rail]:
    """Channels of one number, where a label says that they belong together: on an INA3221 without one they do not."""
    rails = []
    for current in numbered_entries(monitor, "curr", "_input"):
        number = re.sub(r"\D", "", current.name)
        voltage = monitor / f"in{number}_input"
        label = _label(monitor, f"in{number}", "") or _label(monitor, f"curr{number}", "")
        if label and voltage.exists() and read_integer(monitor / f"in{number}_enable") != 0:
            rails.append(
                _Rail(
                    label,
                    _place(monitor),
                    lambda name, voltage=voltage, current=current: Gauge(
                        name, "hwmon", current, partial(_volts_times_amperes, voltage, current), name in WHOLE_MACHINE
                    ),
                )
            )
    return rails


def _label(monitor: Path, channel: str, otherwise: str) -> str:
    return text_or(monitor / f"{channel}_label", otherwise).replace(" ", "_")


def _place(monitor: Path) -> str:
    device = monitor / "device"
    return device.resolve().name if device.is_dir() else monitor.name


def _watts(file: Path) -> tuple[float, str]:
    microwatts, fault = read_number(file)
    return (math.nan, fault) if microwatts is None else (microwatts / 1e6, "")


def _volts_times_amperes(voltage: Path, current: Path) -> tuple[float, str]:
    (millivolts, fault), (milliamperes, other_fault) = read_number(voltage), read_number(current)
    if millivolts is None or milliamperes is None:
        return math.nan, fault or other_fault
    if millivolts <= 0:
        return math.nan, f"{voltage} says {millivolts} mV: the rail is off, or the sensor is dead"
    return millivolts * milliamperes / 1e6, ""


# Batteries and cards -------------------------------------------------------------------------------------------------


def _batteries(root: Path) -> list[_Rail]:
    return [
        _Rail(
            supply.name,
            "battery",
            lambda name, supply=supply: Gauge(name, "battery", supply, partial(_discharge, supply), always_draws=True),
        )
        for supply in find_batteries(root)
    ]


def _discharge(supply: Path) -> tuple[float, str]:
    battery = read_battery_at(supply)
    if not battery.present:
        return math.nan, f"{supply}: there is no battery in the bay"
    if battery.status != "Discharging":
        return math.nan, f"{supply} is {battery.status.lower()}: it does not feed the machine"
    if math.isnan(battery.power):
        return math.nan, battery.faults[0].text if battery.faults else f"{supply} does not tell its power"
    return battery.power, ""


def _cards(root: Path) -> list[_Rail]:
    return [_Rail(gpu.name, gpu.uuid, partial(_make_card, gpu.nvml)) for gpu in find_gpus(root) if gpu.nvml]


def _make_card(card: NvmlGpu, name: str) -> PowerSensor:
    if card.energy()[0] is None:  # before Volta, cards count no energy
        return Gauge(name, "nvml", None, card.power, always_draws=True)
    return EnergyCounter(name, "nvml", None, card.energy, always_draws=True, shortest=NVML_STEP)
