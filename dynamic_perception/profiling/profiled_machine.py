"""The machine while it is profiled: its clocks are held, its temperature and power are read."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from dynamic_perception.hardware.clocks import ClockControl
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.hardware.emulated_cpufreq import is_emulated
from dynamic_perception.hardware.gpus import SYSFS
from dynamic_perception.hardware.power import WHOLE_MACHINE, EnergyMeter, PowerSensor, find_power_sensors
from dynamic_perception.hardware.temperature_choice import read_processor_temperatures
from dynamic_perception.profiling.statistics import CLOCK_TOLERANCE

AUTO, NONE = "auto", "none"
IDLE_TIME = 3.0  # [s] over which the power at rest is measured
SPANS = {"rapl": 0.25, "hwmon": 0.5, "battery": 5.0}  # [s] of inferences that a sensor needs to tell their power


class Energy(NamedTuple):
    """Of a span: [J] above idle, [s], inferences."""

    joules: float
    seconds: float
    runs: int


class ProfiledMachine:
    """What is set before a turn and read around it.

    Args:
        sysfs_root: where the kernel's view of the hardware is mounted.
        clocks: an open control; None: the clocks are left to the governor.
        sensor: of the power; None: it is modelled.
        idle_power: [W] that the sensor shows at rest.
    """

    def __init__(
        self,
        sysfs_root: Path = SYSFS,
        clocks: ClockControl | None = None,
        sensor: PowerSensor | None = None,
        idle_power: float = math.nan,
    ):
        self.sysfs_root = sysfs_root
        self.sensor, self.idle_power = sensor, idle_power
        self._clocks = clocks
        self._meter = EnergyMeter(sensor) if sensor else None
        self._emulated = is_emulated(sysfs_root)

    def set_clock(self, element: ComputeElement, hertz: float) -> None:
        """Hold the element's clock there; 0: leave it alone."""
        if hertz > 0:
            self._clocks.set_cpu_frequency(element.cpus, hertz)

    def clock(self, element: ComputeElement) -> float:
        """[Hz] as read back; NaN: not told, or not held."""
        return self._clocks.set_cpu_frequency(element.cpus, math.nan).actual if self._clocks else math.nan

    def temperature(self) -> float:
        """[°C] of the hottest sensor of a processor; NaN: there is none, or its clock and heat are emulated."""
        if self._emulated:
            return math.nan
        return max(read_processor_temperatures(self.sysfs_root).values(), default=math.nan)

    def measure_energy(self, run: Callable[[], object]) -> Energy:
        """Call `run` again and again for as long as the sensor needs."""
        self._meter.start()
        started, runs = time.monotonic(), 0
        try:
            while time.monotonic() - started < SPANS[self.sensor.source]:
                run()
                runs += 1
        finally:
            joules, seconds = self._meter.stop()
        return Energy(joules - self.idle_power * seconds, seconds, runs)


def choose_sensor(name: str, sysfs_root: Path = SYSFS) -> tuple[PowerSensor | None, float]:
    """The sensor to measure the CPUs' power with, and the power at rest [W], which is measured now; (None, NaN): none.

    Args:
        name: of a sensor; "auto": the best that can be believed, if there is one; "none".

    Raises:
        ValueError: there is no such sensor, or it cannot be believed; names those that there are.
    """
    if name == NONE:
        return None, math.nan
    for sensor in _ranked(_real_sensors(sysfs_root)) if name == AUTO else [find_sensor(name, sysfs_root)]:
        meter = EnergyMeter(sensor)
        meter.start()
        time.sleep(max(IDLE_TIME, SPANS[sensor.source]))
        joules, seconds = meter.stop()
        if not math.isnan(joules):
            return sensor, joules / seconds
        if name != AUTO:
            raise ValueError(f"power sensor '{name}' cannot be believed: {meter.fault}")
    return None, math.nan


def find_sensor(name: str, sysfs_root: Path = SYSFS) -> PowerSensor:
    """The sensor of that name; ValueError: there is none, names those that there are."""
    sensors = {sensor.name: sensor for sensor in _real_sensors(sysfs_root) if sensor.source in SPANS}
    if name not in sensors:
        raise ValueError(
            f"power sensor '{name}' does not exist here: expected auto, none, or one of "
            f"{', '.join(sensors) or '(there is none)'}"
        )
    return sensors[name]


def _real_sensors(sysfs_root: Path) -> tuple[PowerSensor, ...]:
    """None under an emulated clock: what its sensors show is modelled."""
    return () if is_emulated(sysfs_root) else find_power_sensors(sysfs_root)


def _ranked(sensors: Sequence[PowerSensor]) -> list[PowerSensor]:
    """The sensors that see all that the CPUs draw, the best first.

    The counter of the only package; that of the whole platform; the rail that feeds the board; the battery.  Rails of
    parts are taken only by name: which of them feed the CPUs differs from board to board.
    """
    counters = [s for s in sensors if s.source == "rapl" and "_" not in s.name]
    packages = [s for s in counters if s.name.startswith("package")]
    return [
        *(packages if len(packages) == 1 else ()),
        *(s for s in counters if s.name.startswith("psys")),
        *(s for s in sensors if s.name in WHOLE_MACHINE),
        *(s for s in sensors if s.source == "battery"),
    ]


def clocks_of(control: ClockControl, element: ComputeElement, asked: Sequence[float]) -> list[float]:
    """[Hz] rising: the clocks to measure an element at; it is left at the lowest.

    Args:
        control: that is open.
        asked: [Hz], of which the nearest available are taken; empty: all that are available.

    Raises:
        ValueError: this element's clock cannot be set, or not to that.
        OSError: it cannot be set by this user; says how to mend that.
    """
    available = control.available(element.cpus)
    if not available:
        raise ValueError(f"--clocks: the clock of {element.name} cannot be set on this machine: leave --clocks out")
    for hertz in asked:
        if not 0.99 * available[0] <= hertz <= 1.01 * available[-1]:
            raise ValueError(
                f"--clocks {hertz / 1e6:g}: expected {available[0] / 1e6:g} to {available[-1] / 1e6:g} "
                f"MHz for {element.name}"
            )
    nearest = [hertz if len(available) == 2 else min(available, key=lambda step: abs(step - hertz)) for hertz in asked]
    clocks = sorted(set(nearest)) or list(available)
    lowest = control.set_cpu_frequency(element.cpus, clocks[0])
    if not abs(lowest.actual / clocks[0] - 1) <= CLOCK_TOLERANCE:
        raise OSError(f"--clocks: {element.name}: {lowest.message}")
    return clocks
