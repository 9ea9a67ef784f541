"""How much power the battery and the temperatures allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np

from dynamic_perception.management import plausible
from dynamic_perception.management.plausible import possible_temperature

COLDEST, HOTTEST = plausible.TEMPERATURE.least, plausible.TEMPERATURE.most  # [Celsius]
LONGEST_STEP = 10.0  # [periods] a silent sensor does not fill the integral with what nobody measured


@dataclass(frozen=True)
class PowerCap:
    """A limit on power and who set it."""

    source: str  # for example "battery", "temperature cpu_thermal", "target"
    watts: float
    text: str  # in words


@dataclass(frozen=True)
class BatteryThreshold:
    """Below the state of charge `below` (0..1) at most this power: [W], or a fraction of the table's greatest."""

    below: float
    max_power: float = math.nan
    max_power_fraction: float = math.nan

    def __post_init__(self):
        if not 0 < self.below <= 1:
            raise ValueError(f"battery threshold: below is {self.below:g}: expected more than 0 and at most 1")
        if math.isnan(self.max_power) == math.isnan(self.max_power_fraction):
            raise ValueError(
                f"battery threshold at {self.below:g}: max_power is {self.max_power:g} and "
                f"max_power_fraction is {self.max_power_fraction:g}: expected exactly one of them"
            )
        for name in ("max_power", "max_power_fraction"):
            value = getattr(self, name)
            if value <= 0 or math.isinf(value):
                raise ValueError(f"battery threshold at {self.below:g}: {name} is {value:g}: expected more than 0")


class BatteryCondition(Enum):
    """What is known about the battery."""

    NOT_HEARD = "not heard of"
    MAINS = "on mains power"
    DISCHARGING = "state of charge known"
    UNKNOWN = "state of charge unknown"


class BatteryBudget:
    """The power cap of the tightest threshold above the state of charge, with hysteresis.

    A threshold that took effect is only lifted `hysteresis` above itself.  An unknown state of charge keeps the last
    known cap; where nothing is known since the battery was attached, it counts as empty: unknown is never "not low".
    """

    def __init__(
        self, thresholds: Sequence[BatteryThreshold], greatest_power: float = math.nan, hysteresis: float = 0.02
    ):
        """`greatest_power` [W] of the table, which the fractions are fractions of."""
        if not 0 <= hysteresis < 1:
            raise ValueError(f"battery: hysteresis is {hysteresis:g}: expected 0 to below 1")
        self._below = np.array([threshold.below for threshold in thresholds])
        self._lift = np.minimum(self._below + hysteresis, 1.0)
        self._thresholds = tuple(thresholds)
        self._active = np.zeros(len(self._below), dtype=bool)
        self.watts = math.inf  # cap in force; inf: none
        self.set_greatest_power(greatest_power)
        self.percentage = math.nan
        self.condition = BatteryCondition.NOT_HEARD
        self.name = "battery"  # with its name, where there are several
        self.fault = ""  # why the last reading could not be used

    def set_greatest_power(self, greatest_power: float) -> None:
        """[W] that the fractions are fractions of; ValueError for NaN where there are some."""
        if math.isnan(greatest_power) and any(math.isnan(threshold.max_power) for threshold in self._thresholds):
            raise ValueError("battery: a threshold is a fraction of the greatest power, but the table knows no power")
        self._watts = np.array(
            [
                greatest_power * threshold.max_power_fraction
                if math.isnan(threshold.max_power)
                else threshold.max_power
                for threshold in self._thresholds
            ]
        )
        self._update()

    def observe(self, percentage: float, present: bool, name: str = "") -> bool:
        """Take a state of charge (0..1); not `present` means mains power.  False, and a `fault`, if it has no use.

        `name` of the battery, where there are several.
        """
        self.name = f"battery {name}".rstrip()
        usable = self._take(percentage, present)
        self._update()
        return usable

    def _update(self) -> None:
        self.watts = float(self._watts[self._active].min(initial=math.inf))

    def _take(self, percentage: float, present: bool) -> bool:
        self.fault = ""
        if not present:
            self.condition, self.percentage = BatteryCondition.MAINS, math.nan
            self._active[:] = False
            return True
        if percentage not in plausible.SHARE:
            self.fault = f"percentage {percentage:g} is not within 0..1"
            if self.condition is not BatteryCondition.DISCHARGING:
                self.condition = BatteryCondition.UNKNOWN
                self._active[:] = True
            return False
        if self.condition is not BatteryCondition.DISCHARGING:
            self._active[:] = False
        self.condition, self.percentage = BatteryCondition.DISCHARGING, percentage
        self._active = percentage < np.where(self._active, self._lift, self._below)
        return True

    @property
    def cap(self) -> PowerCap | None:
        """The cap in force; None: the battery does not limit the power."""
        if not self._active.any():
            return None
        tightest = int(np.argmin(np.where(self._active, self._watts, np.inf)))
        watts = self.watts
        if self.condition is BatteryCondition.UNKNOWN:
            return PowerCap("battery", watts, f"{self.name} unknown, taken as empty: cap {watts:.3g} W")
        fallen = self.percentage < self._below[tightest]
        bound = self._below[tightest] if fallen else self._lift[tightest]
        return PowerCap("battery", watts, f"{self.name} {self.percentage:.2f} < {bound:.2f}: cap {watts:.3g} W")

    def __str__(self) -> str:
        charge = f"{self.percentage:.2f}" if self.condition is BatteryCondition.DISCHARGING else self.condition.value
        return self.cap.text if self.cap else f"{self.name} {charge}: no cap"


class MissionBudget:
    """The power that empties the battery, down to a reserve, just when the mission ends.

        cap = (charge - reserve) x capacity / time left - other load

    The cap is that of the newest reading; between two readings the energy used and the time gone by agree with it.
    """

    def __init__(self, capacity: float = math.nan, reserve: float = 0.0, other_load: float = 0.0):
        """`capacity` [J] of the full battery, NaN: not known, no cap; `reserve` [0..1] that is to be left at the end;
        `other_load` [W] that everything but the networks takes."""
        if not math.isnan(capacity):
            plausible.CAPACITY.check("battery: capacity", capacity, ", or NaN for not known")
        if not 0 <= reserve < 1:
            raise ValueError(f"battery: reserve is {reserve:g}: expected 0 to below 1")
        if not 0 <= other_load < math.inf:
            raise ValueError(f"battery: other_load is {other_load:g} W: expected 0 or more")
        self._capacity, self._reserve, self._other_load = capacity, reserve, other_load
        self._end = math.nan  # [s]
        self._percentage = math.nan  # of a battery that is in use
        self._left = math.nan  # [s] of the mission, when the cap was computed
        self.watts = math.inf  # cap in force; inf: none

    def set_end(self, now: float, seconds: float) -> None:
        """The mission ends in so many seconds; NaN or 0: there is none."""
        if not math.isnan(seconds) and seconds != 0:
            plausible.MISSION.check("mission", seconds, plausible.OR_NONE)
        if seconds > 0 and math.isnan(self._capacity):
            raise ValueError("mission: the battery's capacity is not known: set battery_capacity [J]")
        self._end = now + seconds if seconds > 0 else math.nan
        self._update(now)

    def observe(self, now: float, percentage: float, present: bool) -> None:
        """Take a state of charge (0..1; NaN: unknown, the last one stays); not `present`: mains power."""
        if not present:
            self._percentage = math.nan
        elif not math.isnan(percentage):
            self._percentage = percentage
        self._update(now)

    def _update(self, now: float) -> None:
        self._left = self._end - now
        if not self._left > 0 or math.isnan(self._percentage):
            self.watts = math.inf
            return
        energy = (self._percentage - self._reserve) * self._capacity
        self.watts = max(0.0, energy / self._left - self._other_load)

    @property
    def cap(self) -> PowerCap | None:
        """The cap in force; None: the mission does not limit the power."""
        if math.isinf(self.watts):
            return None
        text = f"battery {self._percentage:.2f} for {self._left / 60:.0f} min of mission: cap {self.watts:.3g} W"
        return PowerCap("mission", self.watts, text)


@dataclass(frozen=True)
class ThermalZone:
    """Settings of the power allocator for one temperature zone; gains of NaN take Linux's defaults.

    `sustainable_power` must count the same watts as the operating-point table, since it is compared with them.
    """

    name: str  # Temperature.header.frame_id; "*": every zone without settings of its own
    sustainable_power: float  # [W] at which the zone stays at `control`
    switch_on: float  # [Celsius] no limit below
    control: float  # [Celsius] to settle at
    critical: float  # [Celsius] from here on only the coolest point
    overshoot_gain: float = math.nan  # k_po [W/K] above control; sustainable / (control - switch_on)
    undershoot_gain: float = math.nan  # k_pu [W/K] below control; twice that
    integral_gain: float = math.nan  # k_i [W/K per period]; k_pu / 10
    derivative_gain: float = 0.0  # k_d [W per K/period]
    integral_cutoff: float = 0.0  # [K] the integral only accumulates while control - temperature is less
    period: float = 1.0  # [s] that k_i and k_d count in, whatever the sensor's rate

    def __post_init__(self):
        if not self.name:
            raise ValueError("thermal zone: name is empty: expected the zone's frame_id, or * for every other zone")
        if not COLDEST <= self.switch_on < self.control < self.critical <= HOTTEST:
            raise ValueError(
                f"thermal zone {self.name}: switch_on {self.switch_on:g}, control {self.control:g}, "
                f"critical {self.critical:g}: expected rising temperatures in {COLDEST:g}..{HOTTEST:g} C"
            )
        for name in ("sustainable_power", "period"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"thermal zone {self.name}: {name} is {getattr(self, name):g}: expected more than 0")
        default = self.sustainable_power / (self.control - self.switch_on)
        for name, gain in (("overshoot_gain", default), ("undershoot_gain", 2.0 * default)):
            if math.isnan(getattr(self, name)):
                object.__setattr__(self, name, gain)
        if math.isnan(self.integral_gain):
            object.__setattr__(self, "integral_gain", self.undershoot_gain / 10.0)
        for name in ("overshoot_gain", "undershoot_gain", "integral_gain", "derivative_gain", "integral_cutoff"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"thermal zone {self.name}: {name} is {getattr(self, name):g}: expected 0 or more")


class ThermalBudget:
    """Linux's power allocator (drivers/thermal/gov_power_allocator.c) for one zone: a PID controller of its power.

        e = control - temperature;  power = sustainable + k_p e + k_i sum(e) + k_d de, within 0..greatest_power

    Anti-windup: the integral waits while the budget is at the end that it would push further.
    """

    def __init__(self, zone: ThermalZone, greatest_power: float = math.inf):
        """`greatest_power` [W] that anything to be limited can take."""
        self.zone = zone
        self.celsius = math.nan  # last temperature that can be true
        self.watts = math.inf  # budget; inf below switch_on
        self.fault = ""  # why the last reading could not be used
        self.greatest = greatest_power
        self._silent = False  # not heard of any more
        self._reset()

    def observe(self, time: float, celsius: float) -> bool:
        """Take a temperature at `time` [s].  False if no working sensor reports such a value: `fault` says why."""
        if not possible_temperature(celsius):
            self.fault = f"{celsius:g} C is not a possible temperature"
            return False
        self.fault, self._silent = "", False
        self.celsius = celsius
        if celsius < self.zone.switch_on:
            self._reset()
            self.watts = math.inf
        else:
            self.watts = self._control(time, self.zone.control - celsius)
        return True

    def lose_sight(self) -> None:
        """The zone is not heard of any more: whatever it said last, it bears its sustainable power for ever."""
        if not self._silent:
            self._silent = True
            self.watts = max(self.watts, self.zone.sustainable_power)
            self._reset()

    @property
    def critical(self) -> bool:
        """Too hot for anything but the coolest operating point."""
        return self.celsius >= self.zone.critical and not self._silent

    @property
    def cap_watts(self) -> float:
        """[W] the cap in force; inf: none."""
        return 0.0 if self.critical else self.watts

    @property
    def cap(self) -> PowerCap | None:
        """The cap in force; None: the zone does not limit the power."""
        source = f"temperature {self.zone.name}"
        if self.critical:
            return PowerCap(
                source,
                0.0,
                f"{self.zone.name} {self.celsius:.1f} C, critical from "
                f"{self.zone.critical:g} C: only the coolest point",
            )
        if math.isinf(self.watts):
            return None
        if self._silent:
            text = f"{self.zone.name} silent since {self.celsius:.1f} C: cap {self.watts:.3g} W"
            return PowerCap(source, self.watts, text)
        return PowerCap(
            source,
            self.watts,
            f"{self.zone.name} {self.celsius:.1f} C, {self.zone.control:g} C wanted: cap {self.watts:.3g} W",
        )

    def __str__(self) -> str:
        return self.cap.text if self.cap else f"{self.zone.name} {self.celsius:.1f} C: no cap"

    def _reset(self) -> None:
        self._integral = 0.0  # [K periods]
        self._last_error = math.nan  # [K]
        self._last_time = math.nan  # [s]

    def _control(self, time: float, error: float) -> float:
        zone = self.zone
        first = math.isnan(self._last_time)
        periods = 1.0 if first else min(max(0.0, (time - self._last_time) / zone.period), LONGEST_STEP)
        slope = 0.0 if first or periods == 0 else (error - self._last_error) / periods
        gain = zone.overshoot_gain if error < 0 else zone.undershoot_gain
        without_integral = zone.sustainable_power + gain * error + zone.derivative_gain * slope
        before = without_integral + zone.integral_gain * self._integral
        saturated = (before <= 0 and error < 0) or (before >= self.greatest and error > 0)
        if error < zone.integral_cutoff and not saturated:
            self._integral += error * periods
        self._last_error = error
        self._last_time = time if first else max(time, self._last_time)
        return min(max(0.0, without_integral + zone.integral_gain * self._integral), self.greatest)


def share_power(requests: Sequence[float], maxima: Sequence[float], total: float) -> np.ndarray:
    """[n] shares [W] of `total` for n users with these `requests` and `maxima` [W], by Linux's power allocator.

    In proportion to the requests, capped at each one's maximum; what the caps leave over is shared in proportion to the
    room left below the maxima.  All together get at most `total`; ValueError for a negative number.
    """
    requests, maxima = np.asarray(requests, dtype=float), np.asarray(maxima, dtype=float)
    if requests.shape != maxima.shape or requests.ndim != 1:
        raise ValueError(f"share_power: {requests.shape} requests, {maxima.shape} maxima: expected one each per user")
    for name, values in (("requests", requests), ("maxima", maxima), ("total", np.array(total))):
        if not (np.isfinite(values) & (values >= 0)).all():
            raise ValueError(f"share_power: {name} are {values}: expected 0 or more watts")
    requested = requests.sum()
    if requested == 0:
        return np.zeros_like(requests)
    wanted = requests * (total / requested)
    shares = np.minimum(wanted, maxima)
    room = maxima - shares
    surplus = min((wanted - shares).sum(), room.sum())
    return shares + room * (surplus / room.sum()) if surplus > 0 else shares
