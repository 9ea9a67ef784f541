"""Which of several batteries counts: the one that is lowest.

Batteries are told apart by name.  Those that have said that they are not there, or that never said how full they are,
do not count beside others; nor does one that was not heard of for its timeout while others are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from dynamic_perception.management import plausible
from dynamic_perception.management.strangers import MOST_NAMES, clipped


@dataclass(frozen=True)
class Charge:
    """What is known of one battery.

    Attributes:
        name: "" where there is one battery.
        percentage: [0..1] its last charge; NaN: not known.
        present: false: mains power.
        heard_at: [s]
    """

    name: str
    percentage: float
    present: bool
    heard_at: float


class Batteries:
    """The batteries of one machine, at most MOST_NAMES."""

    def __init__(self, timeout: float):
        """`timeout` [s] after which a silent battery does not count beside others."""
        self.fault = ""  # why the last reading could not be used
        self.contradiction = ""  # what is contradictory in the last reading; the first time only
        self._timeout = timeout
        self._known: dict[str, Charge] = {}
        self._contradictory: set[str] = set()

    def observe(self, now: float, name: str, percentage: float, present: bool) -> bool:
        """Take a reading; False, and a `fault`, if it has no use.

        `percentage`: 0..1, up to FULLEST of a full battery.  Not `present`: mains power, unless there is a percentage
        above 0: then the driver has forgotten to set the field.
        """
        name = clipped(name)
        self.fault = self.contradiction = ""
        self._known = {other: charge for other, charge in self._known.items() if self._counts(charge, now)}
        if name not in self._known and len(self._known) >= MOST_NAMES:
            self.fault = f"{MOST_NAMES} batteries are heard already"
            return False
        if not present and percentage > 0:
            present = True
            if name not in self._contradictory and len(self._contradictory) < MOST_NAMES:
                self._contradictory.add(name)
                self.contradiction = f"says that it is not present beside a percentage of {percentage:g}"
        charge = plausible.charge_of(percentage) if present else math.nan
        usable = not present or not math.isnan(charge)
        if not usable:
            self.fault = f"percentage {percentage:g} is not within 0..1"
            before = self._known.get(name)
            charge = before.percentage if before is not None else math.nan
        self._known[name] = Charge(name, charge, present, now)
        return usable

    @property
    def lowest(self) -> Charge:
        """The one that counts; there was one."""
        charges = list(self._known.values())
        known = [charge for charge in charges if not math.isnan(charge.percentage)]
        if known:
            return min(known, key=lambda charge: charge.percentage)
        return next((charge for charge in charges if charge.present), charges[-1])

    @property
    def several(self) -> bool:
        """Whether there is more than one, so that the one that counts has to be named."""
        return len(self._known) > 1

    def _counts(self, charge: Charge, now: float) -> bool:
        return now - charge.heard_at < self._timeout
