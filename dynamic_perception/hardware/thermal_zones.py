"""The thermal zones of this machine with the temperatures at which the kernel acts.

What the files mean: https://docs.kernel.org/driver-api/thermal/sysfs-api.html.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.sensors import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE, SensorFault, find_temperatures
from dynamic_perception.hardware.sysfs import numbered_entries, read_number, text_or

KINDS = ("active", "passive", "hot", "critical")
WIDEST_HYSTERESIS = 50.0  # [°C]


@dataclass(frozen=True)
class TripPoint:
    """A temperature at which the kernel acts.

    Attributes:
        kind: "active" (a fan starts), "passive" (clocks are lowered), "hot" (drivers are told) or "critical" (the
            machine is shut down).
        celsius: [°C]
        hysteresis: [°C] by which the zone has to cool down again until the kernel stops; NaN: not known.
    """

    kind: str
    celsius: float
    hysteresis: float


@dataclass(frozen=True)
class ThermalZone:
    """One temperature sensor.

    Attributes:
        name: as in `scan_temperatures`.
        path: the file with the temperature.
        trips: in the order of the kernel's numbers; none where the sensor is no thermal zone.
        faults: trip points that cannot be true, or are not set, and are left out.
    """

    name: str
    path: Path
    trips: tuple[TripPoint, ...]
    faults: tuple[SensorFault, ...]


def find_thermal_zones(sysfs_root: Path = Path("/sys")) -> tuple[ThermalZone, ...]:
    """Every temperature sensor, also those that are dead."""
    return tuple(_zone(name, file) for name, file in find_temperatures(sysfs_root))


def _zone(name: str, file: Path) -> ThermalZone:
    trips, faults = [], []
    for path in numbered_entries(file.parent, "trip_point_", "_temp"):
        trip = _trip(path)
        (faults if isinstance(trip, SensorFault) else trips).append(trip)
    return ThermalZone(name, file, tuple(trips), tuple(faults))


def _trip(path: Path) -> TripPoint | SensorFault:
    stem = path.name.removesuffix("_temp")
    kind = text_or(path.with_name(f"{stem}_type"), "unknown")
    thousandths, fault = read_number(path)
    if thousandths is None:
        return SensorFault(path, fault)
    celsius = thousandths / 1000.0
    if celsius == 0.0 or not LOWEST_TEMPERATURE <= celsius <= HIGHEST_TEMPERATURE:
        return SensorFault(path, f"{path} says {celsius:g} °C: the trip point is not set")
    if kind not in KINDS:
        return SensorFault(path, f"{path} is of the kind '{kind}': expected one of {', '.join(KINDS)}")
    hysteresis = read_number(path.with_name(f"{stem}_hyst"))[0]
    known = hysteresis is not None and 0.0 <= hysteresis / 1000.0 <= WIDEST_HYSTERESIS
    return TripPoint(kind, celsius, hysteresis / 1000.0 if known else math.nan)
