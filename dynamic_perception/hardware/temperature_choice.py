"""Which temperature sensors tell how hot the processor is: the others are shown, and not used."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from dynamic_perception.hardware.sensors import TemperatureReading, scan_temperatures
from dynamic_perception.hardware.zone_kinds import counts_as_processor, measured_instead

HOTTEST_RUNNING = 125.0  # [°C] every processor shuts down before; an open input of a monitor chip says 127 or 127.5
BOARD_CHIP = re.compile(  # monitors of a board, which see the processor from outside, and often have open inputs
    r"(nct\d|it8\d|w83|f71|f75|sch\d|smsc|dme1737|adt7|asus|gigabyte|thinkpad|dell_smm|applesmc|hp[-_]|msi|cros_ec)",
    re.I,
)
FIRMWARE = re.compile(r"acpi|thermal_zone", re.I)  # what firmware makes up, often a constant
PACKAGE_ZONE = re.compile(r"x86_pkg_temp")
PACKAGE_AGAIN = re.compile(r"(TCPU|B0D4)", re.I)  # the processor of Intel's Dynamic Platform and Thermal Framework
CORETEMP = re.compile(r"coretemp_")
CORETEMP_PACKAGE = re.compile(r"coretemp_(Package|Physical)_id_", re.I)
# Channels of one chip that all measure one die, the best first: Tctl has an offset on some processors.
SEVERAL_OF_ONE_DIE = {
    re.compile(r"(k8temp|k10temp|zenpower)_"): ("Tdie", "Tctl", "temp1", "Tccd"),
    re.compile(r"(amdgpu|radeon|nouveau|i915|xe)_"): ("edge", "pkg", "temp1", "junction"),
}
ON_DIE, SEEN_FROM_OUTSIDE, UNKNOWN, MADE_UP = range(4)  # how good a sensor is; only the best that there are count


@dataclass(frozen=True)
class TemperatureChoice:
    """What a person says about sensors, by their names; "*" and "?" stand for any letters, and for one.

    Attributes:
        include: count whatever they are called, and whatever better there is.
        exclude: never count, before `include`.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def unknown(self, zones: Iterable[str]) -> tuple[str, ...]:
        """The names in it that fit no sensor."""
        zones = tuple(zones)
        return tuple(name for name in (*self.include, *self.exclude) if not any(fnmatchcase(z, name) for z in zones))

    def joined(self, other: TemperatureChoice) -> TemperatureChoice:
        """What both say."""
        return TemperatureChoice((*self.include, *other.include), (*self.exclude, *other.exclude))


@dataclass(frozen=True)
class Judgement:
    """Whether a sensor counts.

    Attributes:
        used: whether its reading tells how hot the processor is.
        reason: why it does not count, or why it cannot be read; empty when it counts.
        at_fault: whether it would count if it could be believed.
    """

    used: bool
    reason: str
    at_fault: bool = False


COUNTS = Judgement(True, "")


def read_processor_temperatures(sysfs_root: Path = Path("/sys")) -> dict[str, float]:
    """Zone name to temperature [°C], read now, only of sensors that count."""
    readings = scan_temperatures(sysfs_root)
    judged = judge(readings)
    return {reading.zone: reading.celsius for reading in readings if judged[reading.zone].used}


def judge(
    readings: Iterable[TemperatureReading],
    choice: TemperatureChoice = TemperatureChoice(),
    floating: Mapping[str, str] | None = None,
) -> dict[str, Judgement]:
    """Every sensor's name to whether it counts.

    What measures something else than a processor is left out, then what cannot be true of a running processor, then
    what measures a die again that is measured better.  Of the rest the best kind counts: sensors of a die; else
    what a board's monitor sees of it; else sensors whose names say nothing; else what the firmware makes up.

    Args:
        readings: of one scan.
        choice: what a person says.
        floating: sensors with open inputs, and how that is known: see `FloatingInputs`.
    """
    judged: dict[str, Judgement] = {}
    open_inputs = floating or {}
    candidates: list[TemperatureReading] = []
    for reading in readings:
        said = _said(reading, choice)
        if said is not None:
            judged[reading.zone] = said
        elif measured_instead(reading.zone):
            judged[reading.zone] = Judgement(False, f"not used: it measures {measured_instead(reading.zone)}")
        elif reading.fault:
            judged[reading.zone] = Judgement(False, reading.fault, at_fault=True)
        elif reading.celsius > HOTTEST_RUNNING or reading.zone in open_inputs:
            why = open_inputs.get(reading.zone) or f"no running processor has {reading.celsius:g} °C"
            judged[reading.zone] = Judgement(False, f"{reading.path}: {why}: its input seems to float", at_fault=True)
        else:
            candidates.append(reading)
    again = _measured_again(candidates)
    judged |= {zone: Judgement(False, f"not used: {better} measures the same") for zone, better in again.items()}
    candidates = [reading for reading in candidates if reading.zone not in again]
    best = min((_rank(reading.zone) for reading in candidates), default=ON_DIE)
    better = "what measures the processor is used" if best < UNKNOWN else "there is a better one"
    for reading in candidates:
        rank = _rank(reading.zone)
        judged[reading.zone] = COUNTS if rank == best else Judgement(False, f"not used: {better}")
    return judged


def _said(reading: TemperatureReading, choice: TemperatureChoice) -> Judgement | None:
    if any(fnmatchcase(reading.zone, name) for name in choice.exclude):
        return Judgement(False, "not used: excluded by name")
    if any(fnmatchcase(reading.zone, name) for name in choice.include):
        return Judgement(False, reading.fault, at_fault=True) if reading.fault else COUNTS
    return None


def _rank(zone: str) -> int:
    if FIRMWARE.match(zone):
        return MADE_UP
    if not counts_as_processor(zone):
        return UNKNOWN
    return SEEN_FROM_OUTSIDE if BOARD_CHIP.match(zone) else ON_DIE


def _measured_again(readings: list[TemperatureReading]) -> dict[str, str]:
    """Name of a sensor to that of the better one of its die."""
    again: dict[str, str] = {}
    chips: dict[tuple[re.Pattern[str], Path], list[TemperatureReading]] = {}
    for reading in readings:
        for pattern in SEVERAL_OF_ONE_DIE:
            if pattern.match(reading.zone):
                chips.setdefault((pattern, reading.path.parent), []).append(reading)
    for (pattern, _), channels in chips.items():
        labels = SEVERAL_OF_ONE_DIE[pattern]
        best = min(channels, key=partial(_place, labels))
        again |= {channel.zone: best.zone for channel in channels if channel is not best}
    return again | _packages_again(readings)


def _place(labels: tuple[str, ...], channel: TemperatureReading) -> int:
    label = channel.zone.partition("_")[2].lower()
    return next((place for place, wanted in enumerate(labels) if label.startswith(wanted.lower())), len(labels))


def _packages_again(readings: list[TemperatureReading]) -> dict[str, str]:
    """Intel's packages are told by zones of their own, by coretemp with every core, and by the platform's framework."""
    zones = [reading for reading in readings if PACKAGE_ZONE.match(reading.zone)]
    cores = [reading for reading in readings if CORETEMP.match(reading.zone)]
    packages = {r.path.parent: r for r in cores if CORETEMP_PACKAGE.match(r.zone)}
    again: dict[str, str] = {}
    if zones and len(zones) >= len({reading.path.parent for reading in cores}):
        again = {reading.zone: zones[0].zone for reading in cores}
    elif packages:
        first = next(iter(packages.values()))
        again = {
            reading.zone: packages[reading.path.parent].zone
            for reading in cores
            if packages.get(reading.path.parent, reading) is not reading
        }
        again |= {reading.zone: first.zone for reading in zones}
    best = [*zones, *packages.values()]
    if best:
        again |= {reading.zone: best[0].zone for reading in readings if PACKAGE_AGAIN.match(reading.zone)}
    return again
