"""Sensors of electrical power, and the energy that one of them saw over a span of time."""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HIGHEST_POWER = 5000.0  # [W] beyond what one machine of this kind draws
STILL = 0.5  # [s] for which the counter of something that always draws power cannot stand still
LONGEST_GAP = 1.0  # [s] between readings of a gauge over which its power is interpolated
COVERED = 0.9  # of a span that has to be measured, else its energy is not known


@dataclass(frozen=True)
class Piece:
    """What was drawn in a piece of time; nothing in no time where there is a fault.

    Attributes:
        joules: [J]
        seconds: [s]
        fault: why the sensor could not be believed; empty when it could.
    """

    joules: float
    seconds: float
    fault: str = ""


class PowerSensor(ABC):
    """One rail.

    Rails overlap on many machines, a total beside its parts: do not add them up.

    Attributes:
        name: of the rail, different from that of every other sensor of the machine.
        source: "rapl", "hwmon", "battery" or "nvml".
        path: the file, or folder, that is read; None for "nvml".
        energy_counter: whether the sensor counts energy, rather than showing the present power.
        fault: why the last reading is NaN; empty when it is a number.
        window: [s] that the last reading is the mean of; 0: a reading as the sensor gave it.
    """

    energy_counter: bool

    def __init__(self, name: str, source: str, path: Path | None):
        self.name, self.source, self.path = name, source, path
        self.fault, self.window = "", 0.0

    @property
    def ready(self) -> bool:
        """Whether enough time has passed since the last reading for another one."""
        return True

    @abstractmethod
    def read(self) -> float:
        """[W] the present power, or the mean since the last `read` of an energy counter; NaN: see `fault`."""

    @abstractmethod
    def pieces(self) -> Callable[[], Piece]:
        """A function whose every call gives what was drawn since its last call, or since now."""


class Gauge(PowerSensor):
    """Shows the present power.

    Args:
        watts: gives [W], or NaN and the reason.
        always_draws: whether 0 W can only mean that the sensor is dead.
    """

    energy_counter = False

    def __init__(
        self,
        name: str,
        source: str,
        path: Path | None,
        watts: Callable[[], tuple[float, str]],
        always_draws: bool = False,
    ):
        super().__init__(name, source, path)
        self._watts, self._always_draws = watts, always_draws

    def read(self) -> float:
        power, self.fault = self._believable()
        return power

    def pieces(self) -> Callable[[], Piece]:
        last_power, last_time = self._believable()[0], time.monotonic()

        def advance() -> Piece:
            nonlocal last_power, last_time
            power, fault = self._believable()
            if fault:
                return Piece(0.0, 0.0, fault)
            now = time.monotonic()
            mean, seconds = (last_power + power) / 2.0, now - last_time
            last_power, last_time = power, now
            if math.isnan(mean) or seconds > LONGEST_GAP:
                return Piece(0.0, 0.0, f"{self.name}: no reading for {seconds:.1f} s")
            return Piece(mean * seconds, seconds)

        return advance

    def _believable(self) -> tuple[float, str]:
        power, fault = self._watts()
        if fault:
            return math.nan, fault
        if not 0.0 <= power <= HIGHEST_POWER or (self._always_draws and power == 0.0):
            return math.nan, f"{self.path or self.name} says {power:g} W: the sensor seems to be dead"
        return power, ""


class EnergyCounter(PowerSensor):
    """Counts energy; the power is the mean between two readings, the first of which is when the sensor is made.

    Args:
        microjoules: gives the count [µJ], or None and the reason.
        wraps_at: [µJ] after which the count begins at 0 again; 0: never, then a count that falls is a fault.
        always_draws: whether a count that stands still for `STILL` can only mean that the sensor is dead.
        shortest: [s] between two readings; the counter's own steps make the mean of less meaningless.
    """

    energy_counter = True

    def __init__(
        self,
        name: str,
        source: str,
        path: Path | None,
        microjoules: Callable[[], tuple[int | None, str]],
        wraps_at: int = 0,
        always_draws: bool = False,
        shortest: float = 0.005,
    ):
        super().__init__(name, source, path)
        self._microjoules, self._wraps_at, self._always_draws = microjoules, wraps_at, always_draws
        self._shortest = shortest
        self._advance, self._last_read = self.pieces(), time.monotonic()

    @property
    def ready(self) -> bool:
        return time.monotonic() - self._last_read >= self._shortest

    def read(self) -> float:
        self.window = 0.0
        if not self.ready:
            self.fault = f"{self.name}: read again within {self._shortest:g} s"
            return math.nan
        piece = self._advance()
        self._last_read = time.monotonic()
        self.fault, self.window = piece.fault, piece.seconds
        return math.nan if piece.fault else piece.joules / piece.seconds

    def pieces(self) -> Callable[[], Piece]:
        last_count, last_time = self._believable()[0], time.monotonic()

        def advance() -> Piece:
            nonlocal last_count, last_time
            count, fault = self._believable()
            if count is None:  # what is drawn meanwhile is in the next count that can be read
                return Piece(0.0, 0.0, fault)
            now, before = time.monotonic(), last_count
            seconds = now - last_time
            last_count, last_time = count, now
            return self._difference(before, count, seconds)

        return advance

    def _difference(self, before: int | None, count: int, seconds: float) -> Piece:
        where = self.path or self.name
        if before is None:
            return Piece(0.0, 0.0, f"{where}: the first reading of a counter tells no power")
        if count < before and not self._wraps_at:
            return Piece(0.0, 0.0, f"{where} fell from {before} to {count}: it was set back")
        joules = (count - before + (self._wraps_at if count < before else 0)) / 1e6
        if joules > HIGHEST_POWER * max(seconds, self._shortest):  # a counter that was set back looks like a wrap
            return Piece(0.0, 0.0, f"{where} counted {joules:g} J in {seconds:.3g} s: it was set back, or is dead")
        if self._always_draws and joules == 0.0 and seconds > STILL:
            return Piece(0.0, 0.0, f"{where} stands still at {count}: the sensor seems to be dead")
        return Piece(joules, seconds) if seconds > 0.0 else Piece(0.0, 0.0, f"{where}: no time between two readings")

    def _believable(self) -> tuple[int | None, str]:
        count, fault = self._microjoules()
        if count is not None and (count < 0 or 0 < self._wraps_at < count):
            return None, f"{self.path or self.name} says {count}: expected 0 to {self._wraps_at or 'any'} µJ"
        return count, fault


class EnergyMeter:
    """The energy that a sensor saw between `start` and `stop`; can be used again and again.

    A thread reads the sensor meanwhile: a gauge to integrate its power, a counter so that no wrap-around is missed.
    Neither disturbs `sensor.read`.

    Args:
        sensor: what to read.
        period: [s] between readings; None: 20 ms for a gauge, 5 s for a counter.

    Attributes:
        fault: why the last measurement gave NaN; empty when it gave a number.
    """

    def __init__(self, sensor: PowerSensor, period: float | None = None):
        self.sensor, self.fault = sensor, ""
        self._period = period or (5.0 if sensor.energy_counter else 0.02)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to measure.

        Raises:
            RuntimeError: it measures already.
        """
        if self._thread is not None:
            raise RuntimeError(f"the energy of {self.sensor.name} is measured already")
        self._joules = self._covered = 0.0
        self._fault, self._ended = "", threading.Event()
        self._advance, self._started = self.sensor.pieces(), time.monotonic()
        self._thread = threading.Thread(target=self._measure, name=f"energy of {self.sensor.name}", daemon=True)
        self._thread.start()

    def stop(self) -> tuple[float, float]:
        """End the measurement: ([J] drawn, NaN where it is not known, see `fault`; [s] that it took).

        Raises:
            RuntimeError: nothing is measured.
        """
        if self._thread is None:
            raise RuntimeError(f"the energy of {self.sensor.name} is not measured")
        self._ended.set()
        self._thread.join()
        self._thread = None
        self._add(self._advance())
        seconds = time.monotonic() - self._started
        if self._covered < COVERED * seconds or self._covered == 0.0:
            self.fault = self._fault or f"{self.sensor.name}: only {self._covered:.3g} of {seconds:.3g} s were measured"
            return math.nan, seconds
        self.fault = ""
        return self._joules * seconds / self._covered, seconds

    def _measure(self) -> None:
        while not self._ended.wait(self._period):
            self._add(self._advance())

    def _add(self, piece: Piece) -> None:
        self._joules += piece.joules
        self._covered += piece.seconds
        self._fault = piece.fault or self._fault
