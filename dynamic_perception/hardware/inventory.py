"""The machine for people, as tables, and as a platform file to begin with."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from typing import Any

import yaml
from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from dynamic_perception.hardware.discovery import Machine, MachineElement
from dynamic_perception.hardware.platform_file import SCHEMA, Platform
from dynamic_perception.hardware.power import PowerSensor
from dynamic_perception.hardware.sensors import BatteryReading, TemperatureReading, main_battery
from dynamic_perception.hardware.temperature_choice import judge

WINDOW = 0.5  # [s] over which energy counters are read for the table
UNKNOWN = "-"
HEADER = """\
# {board}, as `dynamic-perception hardware --yaml` found it. Change what you know better under `elements` and give the
# file to --platform; frequencies are in Hz, and what is left out is as the machine tells it.
"""


def machine_tables(
    machine: Machine, temperatures: Iterable[TemperatureReading], sensors: Iterable[PowerSensor]
) -> Group:
    """What there is and what it reads now; waits for `WINDOW` where energy is counted."""
    sensors = tuple(sensors)
    if any(sensor.energy_counter for sensor in sensors):
        time.sleep(WINDOW)
    return Group(
        _elements_table(machine),
        _rails_table(sensors),
        _zones_table(machine, temperatures),
        _batteries_table(machine.batteries),
    )


def machine_yaml(machine: Machine) -> str:
    """A platform file that changes nothing, with everything that was found under `found`."""
    elements = {element.found_as: _overridable(element, machine.platform) for element in machine.elements}
    choice = machine.platform.temperatures
    temperatures = {"include": list(choice.include), "exclude": list(choice.exclude)}
    content = {
        "schema": SCHEMA,
        "elements": elements,
        **({"temperatures": temperatures} if any(temperatures.values()) else {}),
        "found": {
            "board": machine.board,
            "elements": {element.found_as: _facts(element) for element in machine.elements},
            "power_rails": {
                rail.name: {"source": rail.source, "energy_counter": rail.energy_counter} for rail in machine.rails
            },
            "thermal_zones": {
                zone.name: [
                    {
                        "kind": trip.kind,
                        "celsius": trip.celsius,
                        "hysteresis": None if math.isnan(trip.hysteresis) else trip.hysteresis,
                    }
                    for trip in zone.trips
                ]
                for zone in machine.zones
            },
            "batteries": [battery.name for battery in machine.batteries],
        },
    }
    body = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return HEADER.format(board=machine.board) + body


def _overridable(element: MachineElement, platform: Platform) -> dict[str, Any]:
    said: dict[str, Any] = {"name": element.name}
    if platform.of(element.found_as).cpus:
        said["cpus"] = list(element.cpus)
    said["threads"] = list(element.threads)
    if element.frequencies:
        said["frequency_range"] = [element.frequencies[0], element.frequencies[-1]]
    if element.power_rail:
        said["power_rail"] = element.power_rail
    return said


def _facts(element: MachineElement) -> dict[str, Any]:
    return {
        "cpus": list(element.cpus),
        "capacity": element.capacity,
        "driver": element.driver,
        "governor": element.governor,
        "frequencies": list(element.frequencies),
        "stepped": element.stepped,
    }


def _elements_table(machine: Machine) -> Group:
    table = _table("element", "CPUs", "capacity", "threads", "clocks [MHz]", "set by", "power rail")
    for element in machine.elements:
        name = element.name if element.name == element.found_as else f"{element.name} ({element.found_as})"
        set_by = ", ".join(part for part in (element.driver, element.governor) if part)
        table.add_row(
            name,
            _ranges(element.cpus),
            str(element.capacity or UNKNOWN),
            " ".join(map(str, element.threads)),
            _clocks(element),
            set_by or UNKNOWN,
            element.power_rail or UNKNOWN,
        )
    return _titled(f"Compute elements of {machine.board}", table)


def _rails_table(sensors: tuple[PowerSensor, ...]) -> Group:
    table = _table("rail", "from", "now [W]", "")
    for sensor in sensors:
        power = sensor.read()
        note = sensor.fault or (f"mean of {sensor.window:.2f} s" if sensor.window else "")
        table.add_row(sensor.name, sensor.source, _number(power), note)
    return _titled("Power", table)


def _zones_table(machine: Machine, temperatures: Iterable[TemperatureReading]) -> Group:
    temperatures = tuple(temperatures)
    now = {reading.zone: reading for reading in temperatures}
    judged = judge(temperatures, machine.platform.temperatures)
    table = _table("zone", "now [°C]", "used", "the kernel acts at [°C]", "")
    for zone in machine.zones:
        trips = ", ".join(f"{trip.kind} {trip.celsius:g}" for trip in zone.trips)
        reading = now.get(zone.name)
        table.add_row(
            zone.name,
            _number(reading.celsius if reading else math.nan),
            "yes" if reading and judged[zone.name].used else "no",
            trips or UNKNOWN,
            judged[zone.name].reason if reading else "",
        )
    return _titled("Temperatures", table)


def _batteries_table(batteries: tuple[BatteryReading, ...]) -> Group:
    table = _table("battery", "status", "charge [%]", "voltage [V]", "power [W]", "")
    together = main_battery(batteries)
    for battery in (*batteries, *(() if together is None or together in batteries else (together,))):
        table.add_row(
            battery.name,
            battery.status if battery.present else "not present",
            _number(100.0 * battery.percentage),
            _number(battery.voltage),
            _number(battery.power),
            "; ".join(fault.text for fault in battery.faults),
        )
    return _titled("Batteries", table)


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _titled(title: str, table: Table) -> Group:
    return Group(Text(title, style="bold"), table if table.row_count else Text("  none found\n"))


def _clocks(element: MachineElement) -> str:
    clocks = [f"{frequency / 1e6:g}" for frequency in element.frequencies]
    if not clocks:
        return UNKNOWN
    return f"{clocks[0]}-{clocks[-1]}, " + (f"{len(clocks)} steps" if element.stepped else "any between")


def _ranges(cpus: tuple[int, ...]) -> str:
    """ "0-3 6" for (0, 1, 2, 3, 6)."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or UNKNOWN


def _number(value: float) -> str:
    return UNKNOWN if math.isnan(value) else f"{value:.4g}"
