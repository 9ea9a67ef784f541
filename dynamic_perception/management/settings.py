"""What can be configured about deciding."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from dynamic_perception.management.budgets import BatteryThreshold, ThermalZone
from dynamic_perception.management.environment import EnvironmentSettings
from dynamic_perception.management.strangers import MOST_NAMES

RELAXABLE = ("accuracy", "energy", "power", "battery", "rate", "deadline")

# A temperature that is not heard of any more cannot be ignored: the thermal limit is never relaxed.
# Reports have nothing to ignore: without them the slow-down fades back to "as profiled" anyway.
STALE_POLICIES = {
    "battery": ("keep", "fallback", "ignore"),
    "temperature": ("keep", "fallback"),
    "report": ("keep", "fallback"),
}


@dataclass(frozen=True)
class ManagerSettings:
    """Settings of the resource manager; ValueError names a field that makes no sense.

    Stale policies, for an input without a usable value for its timeout: "keep" its last value in force ("fallback"
    for a zone that has settings by name and never had one), go to the "fallback" point until it is heard again, or
    "ignore" it.  A temperature is never kept for ever: see temperatures.py.
    """

    deadline_probability: float = 0.95  # a point is kept if it meets the deadline with at least this probability
    dwell: float = 5.0  # [s] that a more demanding point must stay possible before it is taken ...
    longest_dwell: float = 45.0  # [s] ... which grows up to this while steps up are soon taken back;
    margin: float = 0.1  # and it must stay possible with latency, power and energy this much worse
    most_up: int = 3  # steps up within a minute, at most, but for those that the user asks for

    battery_timeout: float = 30.0  # [s]
    temperature_timeout: float = 5.0  # [s]
    report_timeout: float = 5.0  # [s]
    battery_stale_policy: str = "keep"
    temperature_stale_policy: str = "fallback"
    report_stale_policy: str = "keep"

    # Given up in this order when no point meets every limit; one not named here ("power", the user's cap) never is.
    relax: tuple[str, ...] = ("accuracy", "energy", "battery", "rate", "deadline")
    fallback: tuple[str, str] | None = None  # (subnetwork, compute element); None: the point of least power

    thermal: tuple[ThermalZone, ...] = ()  # no zones: temperatures do not limit anything
    temperature_zones: tuple[str, ...] = ()  # that count as zone "*"; none: all but what measures no processor
    battery: tuple[BatteryThreshold, ...] = ()  # no thresholds: the battery does not limit anything
    battery_hysteresis: float = 0.02  # [0..1] a threshold is lifted this far above itself
    battery_capacity: float = math.nan  # [J] of the full battery, for missions; NaN: not known
    battery_reserve: float = 0.05  # [0..1] charge that is to be left when a mission ends
    other_load: float = 0.0  # [W] that everything but the networks takes from the battery
    clock_tolerance: float = 0.01  # [share] below what was asked for, from which a clock is throttled
    throttle_hold: float = 10.0  # [s] after which a clock that was throttled is tried again
    environment: EnvironmentSettings = field(default_factory=EnvironmentSettings)

    def __post_init__(self):
        for name in ("relax", "thermal", "temperature_zones", "battery"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not 0.5 <= self.deadline_probability < 1:
            raise ValueError(f"manager: deadline_probability is {self.deadline_probability:g}: expected 0.5 to below 1")
        for name in ("dwell", "longest_dwell"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"manager: {name} is {getattr(self, name):g} s: expected 0 or more")
        if not self.most_up >= 1:
            raise ValueError(f"manager: most_up is {self.most_up}: expected 1 or more")
        if not self.throttle_hold > 0:
            raise ValueError(f"manager: throttle_hold is {self.throttle_hold:g} s: expected more than 0")
        for name in ("margin", "clock_tolerance"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"manager: {name} is {getattr(self, name):g}: expected 0 to below 1")
        for name, accepted in STALE_POLICIES.items():
            timeout, policy = getattr(self, f"{name}_timeout"), getattr(self, f"{name}_stale_policy")
            if not timeout > 0:
                raise ValueError(f"manager: {name}_timeout is {timeout:g} s: expected more than 0")
            if policy not in accepted:
                raise ValueError(f"manager: {name}_stale_policy is {policy!r}: expected one of {', '.join(accepted)}")
        if len(set(self.relax)) < len(self.relax) or not set(self.relax) <= set(RELAXABLE):
            raise ValueError(f"manager: relax is {self.relax}: expected each at most once of {', '.join(RELAXABLE)}")
        if len(self.temperature_zones) > MOST_NAMES:
            raise ValueError(
                f"manager: temperature_zones are {len(self.temperature_zones)}: expected {MOST_NAMES} or less"
            )
        names = [zone.name for zone in self.thermal]
        if len(set(names)) < len(names):
            raise ValueError(f"manager: thermal zones are {names}: expected every name once")
