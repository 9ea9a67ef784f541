"""What is known about the machine that every network on it shares: its speed, its heat, its battery."""

from __future__ import annotations

import math
from typing import NamedTuple

from dynamic_perception.management import plausible
from dynamic_perception.management.batteries import Batteries
from dynamic_perception.management.budgets import BatteryBudget, BatteryCondition, MissionBudget, PowerCap
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.slow_downs import SlowDowns
from dynamic_perception.management.strangers import clipped
from dynamic_perception.management.temperatures import Temperatures
from dynamic_perception.management.watchdog import Watchdog

RETRY = 2.0  # [s] after which a throttled clock is tried again while deadlines are missed


class ClockOf(NamedTuple):
    """One clock that points of a cluster ask for."""

    cluster: str
    clock: str  # "cpu" or "gpu"

    def __str__(self) -> str:
        """For people: "cpu0" has a CPU's clock and "gpu" has a GPU's, which goes without saying."""
        plain = self.cluster.startswith("gpu") == (self.clock == "gpu")
        return self.cluster if plain else f"{self.cluster} {self.clock}"


class Machine:
    """Thermal and battery budgets, clock ceilings, and the slow-down of every compute element.

    Times are seconds of any one clock, rising; :class:`ResourceManager` sees to that.
    """

    def __init__(self, settings: ManagerSettings, greatest_power: float):
        """`greatest_power` [W] that all networks together can take; NaN: not known; 0: there is none yet."""
        self.settings = settings
        self.slow_downs = SlowDowns((), settings.environment.slow_down)
        self.watchdog = Watchdog()
        self.batteries = Batteries(settings.battery_timeout)
        self.battery = BatteryBudget(settings.battery, greatest_power, settings.battery_hysteresis)
        self.mission = MissionBudget(settings.battery_capacity, settings.battery_reserve, settings.other_load)
        self.ceilings: dict[ClockOf, tuple[float, float]] = {}  # -> ([Hz] that it does not exceed, until [s])
        self._started = False
        self._greatest_power = greatest_power
        self.temperatures = Temperatures(
            settings.thermal,
            settings.temperature_zones,
            settings.temperature_timeout,
            self.watchdog,
            self._ceiling_of_budgets,
        )

    def start(self, now: float) -> None:
        """Begin to expect the inputs that are configured; once."""
        if self._started:
            return
        self._started = True
        if self._uses_battery:
            self.watchdog.expect("battery", now, self.settings.battery_timeout)
        self.temperatures.start(now)

    def set_greatest_power(self, watts: float) -> None:
        """Networks came or went: all together can take so much [W] now."""
        self._greatest_power = watts
        self.battery.set_greatest_power(watts)
        self.temperatures.set_greatest_power(self._ceiling_of_budgets)

    def observe_battery(self, now: float, percentage: float, present: bool, name: str = "") -> bool:
        """Take a state of charge (0..1); not `present`: mains power.  False if it cannot be used.

        Of several batteries, told apart by `name`, the lowest one counts.
        """
        usable = self.batteries.observe(now, name, percentage, present)
        lowest = self.batteries.lowest
        self.battery.observe(lowest.percentage, lowest.present, lowest.name if self.batteries.several else "")
        empty = self.battery.condition is BatteryCondition.UNKNOWN
        self.mission.observe(now, 0.0 if empty else lowest.percentage, lowest.present)
        if self._uses_battery and usable:
            self.watchdog.heard("battery", now, self.settings.battery_timeout)
        elif self._uses_battery and empty:
            self.watchdog.lost("battery", now)
        return usable

    def observe_temperature(self, now: float, zone: str, celsius: float) -> bool:
        """Take the temperature of a zone.  False if it has no use: see `temperatures`."""
        return self.temperatures.observe(now, zone, celsius)

    @property
    def faults(self) -> dict[str, str]:
        """Input -> why its last value could not be used."""
        faults = {f"temperature {zone}": fault for zone, fault in self.temperatures.faults.items()}
        return faults | ({"battery": self.batteries.fault} if self.batteries.fault else {})

    def end_silent(self, now: float) -> None:
        """Let end what is not heard of any more at this time."""
        self.temperatures.end_silent(now)

    def observe_clock(self, now: float, cluster: str, asked: float, actual: float, clock: str = "cpu") -> None:
        """Clock [Hz] that a cluster was asked for and has: one that stays below is throttled, and learnt as that.

        `clock`: "cpu" or "gpu".  NaN, 0: not known.  ValueError for a cluster that there is not, or a clock that cannot
        be.
        """
        if cluster not in self.slow_downs.clusters:
            raise ValueError(f"clock of {clipped(cluster)}: there is no such cluster")
        asked = plausible.check_clock(f"clock asked of {cluster}", asked)
        actual = plausible.check_clock(f"clock of {cluster}", actual)
        which = ClockOf(cluster, clock)
        if asked > 0 and actual > 0:
            if actual < asked * (1.0 - self.settings.clock_tolerance):
                self.ceilings[which] = (actual, now + self.settings.throttle_hold)
            elif which in self.ceilings and asked > self.ceilings[which][0]:
                del self.ceilings[which]

    def retry_clocks_soon(self, now: float) -> None:
        """Deadlines are missed at the clocks that there are: to ask for more loses nothing then."""
        for which, (hertz, until) in self.ceilings.items():
            self.ceilings[which] = hertz, min(until, now + RETRY)

    def end_ceilings(self, now: float) -> None:
        """Let the clocks be tried again that were last seen throttled long ago."""
        for which in [which for which, (_, until) in self.ceilings.items() if now >= until]:
            del self.ceilings[which]

    @property
    def thermal_watts(self) -> float:
        """[W] the tightest thermal cap; inf: none."""
        return self.temperatures.watts

    @property
    def thermal_cap(self) -> PowerCap | None:
        """The tightest thermal cap in force."""
        return self.temperatures.cap

    @property
    def battery_watts(self) -> float:
        """[W] the cap of thresholds and mission; inf: none."""
        return min(self.battery.watts, self.mission.watts)

    @property
    def battery_text(self) -> str:
        """What the battery says, in words."""
        return self.mission.cap.text if self.mission.watts < self.battery.watts else str(self.battery)

    @property
    def caps(self) -> list[PowerCap]:
        """Every cap in force."""
        caps = [*self.temperatures.caps, self.battery.cap, self.mission.cap]
        return [cap for cap in caps if cap]

    def falls_back(self, name: str) -> bool:
        """Whether this stale input calls for the fallback point."""
        kind, _, zone = name.partition(" ")
        policy = getattr(self.settings, f"{kind}_stale_policy")
        return policy == "fallback" or (policy == "keep" and self.temperatures.never_heard(zone))

    def ignores(self, name: str) -> bool:
        """Whether this stale input is ignored; the policies allow that for the battery alone."""
        return name == "battery" and self.settings.battery_stale_policy == "ignore"

    @property
    def _uses_battery(self) -> bool:
        return bool(self.settings.battery) or not math.isnan(self.settings.battery_capacity)

    @property
    def _ceiling_of_budgets(self) -> float:
        # With the margin, or the most demanding point could never come back while the budget is at its ceiling.
        greatest = self._greatest_power * (1.0 + self.settings.margin)
        return greatest if greatest > 0 else math.inf
