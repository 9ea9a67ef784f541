"""Which temperatures count, and the tightest cap on power that they set.

A temperature that is not heard of any more does not hold the machine for ever.  After the timeout

* a critical temperature ends, as does a cap below the zone's sustainable power: that much the zone bears for ever,
  however hot it was;
* a zone without settings by name is forgotten after it was silent for the timeout and as long again as it was heard,
  a minute at most: what was heard once is gone with its timeout.

Zones with settings by name are never forgotten.  Diagnostics say all along what is not heard of.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from dynamic_perception.hardware.zone_kinds import counts_as_processor
from dynamic_perception.management.budgets import PowerCap, ThermalBudget, ThermalZone
from dynamic_perception.management.strangers import MOST_NAMES, clipped
from dynamic_perception.management.watchdog import Watchdog

ANY_ZONE = "*"
LONGEST_KEPT = 60.0  # [s] after its timeout


@dataclass
class _Zone:
    """One zone that counts."""

    budget: ThermalBudget
    first_heard: float  # [s]
    last_heard: float  # [s]
    named: bool  # it has settings of its own


class Temperatures:
    """The zones of one machine; at most MOST_NAMES that have no settings by name."""

    def __init__(
        self,
        settings: Sequence[ThermalZone],
        counted: Sequence[str],
        timeout: float,
        watchdog: Watchdog,
        greatest_power: float,
    ):
        """`counted`: the zones that count where settings are for all; none: all but those that measure no processor.

        `timeout` [s] after which a silent zone is stale; `greatest_power` [W] that anything to be limited can take.
        """
        self.watts = math.inf  # [W] tightest cap; inf: none
        self.refused = ""  # why the last reading could not be used; "" too for one that is not meant to count
        self.aside: dict[str, float] = {}  # zone that does not count -> its last temperature [Celsius]
        self._timeout = timeout
        self._watchdog = watchdog
        self._greatest_power = greatest_power
        self._counted = frozenset(map(clipped, counted))
        self._any_zone = next((zone for zone in settings if zone.name == ANY_ZONE), None)
        self._zones = {
            zone.name: _Zone(ThermalBudget(zone, greatest_power), math.inf, math.inf, named=True)
            for zone in settings
            if zone.name != ANY_ZONE
        }
        self._next_end = math.inf  # [s] when the next zone becomes stale or is forgotten

    def start(self, now: float) -> None:
        """Begin to expect what is configured."""
        for name in self._zones:
            self._watchdog.expect(f"temperature {name}", now, self._timeout)
        if self._any_zone is not None:
            self._watchdog.expect("temperature", now, self._timeout)

    def set_greatest_power(self, watts: float) -> None:
        """[W] that anything to be limited can take from now on."""
        self._greatest_power = watts
        for zone in self._zones.values():
            zone.budget.greatest = watts

    def observe(self, now: float, name: str, celsius: float) -> bool:
        """Take the temperature of a zone; False if it has no use: impossible, one too many, or not one that counts."""
        self.refused = ""
        name = clipped(name)
        zone = self._zones.get(name)
        if zone is None and not self._counts(name):
            if name in self.aside or len(self.aside) < MOST_NAMES:
                self.aside[name] = celsius
            return False
        budget = self._new_budget(name) if zone is None else zone.budget
        if not budget.observe(now, celsius):
            self.refused = budget.fault
            return False
        if zone is None:
            if not self._make_room(now):
                self.refused = f"{MOST_NAMES} zones are heard already"
                return False
            zone = self._zones[name] = _Zone(budget, now, now, named=False)
            self._watchdog.forget("temperature")
        zone.last_heard = now
        self._watchdog.heard(f"temperature {name}", now, self._timeout)
        self._next_end = min(self._next_end, now + self._timeout)
        self._update()
        return True

    def end_silent(self, now: float) -> None:
        """Let what is not heard of any more end, as it says above."""
        if now < self._next_end:
            return
        self._next_end = math.inf
        for name, zone in list(self._zones.items()):
            stale_from = zone.last_heard + self._timeout
            if now < stale_from:
                self._next_end = min(self._next_end, stale_from)
                continue
            if not math.isnan(zone.budget.celsius):
                zone.budget.lose_sight()
            if not zone.named:
                forgotten_from = stale_from + min(zone.last_heard - zone.first_heard, LONGEST_KEPT)
                if now >= forgotten_from:
                    self._forget(name)
                else:
                    self._next_end = min(self._next_end, forgotten_from)
        self._update()

    def _forget(self, name: str) -> None:
        last_heard = self._zones.pop(name).last_heard
        self._watchdog.forget(f"temperature {name}")
        if all(zone.named for zone in self._zones.values()):
            self._watchdog.heard("temperature", last_heard, self._timeout)

    def never_heard(self, name: str) -> bool:
        """Whether the zone of these settings never gave a temperature."""
        return name in self._zones and math.isnan(self._zones[name].budget.celsius)

    @property
    def faults(self) -> dict[str, str]:
        """Zone -> why its last reading could not be used."""
        return {name: zone.budget.fault for name, zone in self._zones.items() if zone.budget.fault}

    @property
    def caps(self) -> list[PowerCap]:
        """Every cap in force."""
        return [cap for zone in self._zones.values() if (cap := zone.budget.cap)]

    @property
    def cap(self) -> PowerCap | None:
        """The tightest cap in force."""
        return min(self.caps, key=lambda cap: cap.watts, default=None)

    def _counts(self, name: str) -> bool:
        if self._any_zone is None:
            return False
        return name in self._counted if self._counted else counts_as_processor(name) is not False

    def _new_budget(self, name: str) -> ThermalBudget:
        assert self._any_zone is not None  # or the zone would not count
        return ThermalBudget(replace(self._any_zone, name=name), self._greatest_power)

    def _make_room(self, now: float) -> bool:
        """Whether there is room for one more zone; the one that was silent for longest makes way if it is stale."""
        zones = {name: zone for name, zone in self._zones.items() if not zone.named}
        if len(zones) < MOST_NAMES:
            return True
        oldest = min(zones, key=lambda name: zones[name].last_heard)
        if now < zones[oldest].last_heard + self._timeout:
            return False
        self._forget(oldest)
        return True

    def _update(self) -> None:
        self.watts = min((zone.budget.cap_watts for zone in self._zones.values()), default=math.inf)
