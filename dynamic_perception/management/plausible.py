"""What values from outside can be: one range for every quantity, and why.

Sensors, drivers and messages can say anything that a float can.  Each value is compared once, where it enters the
manager; behind that, no filter needs to mind numbers that nothing real has.  The ranges are wide: what lies outside is
a mistake (a wrong unit, a field left out, a broken driver), never an unusual machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """The values that a quantity can have, `least` and `most` among them."""

    least: float
    most: float
    unit: str
    reason: str  # why not less and not more

    def __contains__(self, value: float) -> bool:
        return self.least <= value <= self.most  # never for NaN

    def check(self, name: str, value: float, but_for: str = "") -> float:
        """The value; ValueError with a sentence if it lies outside.  `but_for`: what else would have been accepted."""
        if value not in self:
            unit = f" {self.unit}" if self.unit else ""
            expected = f"{self.least:g} to {self.most:g}{unit}"
            raise ValueError(f"{name} is {value:g}{unit}: expected {expected}{but_for}")
        return value

    def bound(self, value: float) -> float:
        """The nearest value within the range."""
        return min(max(value, self.least), self.most)


OR_NONE = ", or NaN or 0 for none"  # how messages leave a limit out
OR_UNKNOWN = ", or NaN or 0 for not known"

INFERENCE = Range(1e-6, 1e3, "s", "no network is done within a microsecond; what takes minutes hangs")
OVERHEAD = Range(0.0, 1e3, "s", "frames that are older than minutes have a stamp of another clock")
SLOW_DOWN = Range(
    1e-2, 1e3, "", "a machine 100 times faster than its profile is another one; 1000 times slower, it hangs"
)
DEADLINE = Range(1e-9, 1e6, "s", "a Duration counts nanoseconds; who waits for a week has no deadline")
ENERGY = Range(1e-9, 1e6, "J", "of one inference: from a microcontroller's to that of minutes on a server")
POWER = Range(1e-6, 1e5, "W", "from a microcontroller asleep to a rack")
RATE = Range(1e-6, 1e9, "Hz", "the inverse of what a deadline can be, in the same spirit")
SHARE = Range(0.0, 1.0, "", "accuracies and charges are shares; drivers that say percent are not guessed at")
CLOCK = Range(1e6, 1e11, "Hz", "kHz or MHz taken for Hz lie below, as do clocks that nothing computes at")
TEMPERATURE = Range(-40.0, 150.0, "C", "what silicon is specified for; dead sensors say -256, or exactly 0")
MISSION = Range(1e-3, 1e8, "s", "three years; a battery that lasts longer needs no manager")
CAPACITY = Range(1.0, 1e12, "J", "of a battery, from a button cell's to a power plant's")
PAUSE = Range(1e-3, 86400.0, "s", "for which a point is left out: for a day at most, as nothing else would end it")
TIME = Range(-1e11, 1e11, "s", "3000 years around 1970: beyond, floats do not tell microseconds apart")

FULLEST = 1.2  # a gauge that was calibrated on an older battery says up to this of a full one


def possible_temperature(celsius: float) -> bool:
    """Whether a working sensor can report this; exactly 0 is what dead ones report."""
    return celsius in TEMPERATURE and celsius != 0.0


def possible_charge(percentage: float) -> bool:
    """Whether a battery's gauge can say this."""
    return not math.isnan(charge_of(percentage))


def charge_of(percentage: float) -> float:
    """[0..1] of what a battery's gauge says; NaN if it says nothing that can be.  Slightly over 1 is full."""
    if 1.0 < percentage <= FULLEST:
        return 1.0
    return percentage if percentage in SHARE else math.nan


def check_clock(name: str, hertz: float) -> float:
    """The clock [Hz], or NaN where it is not known (NaN, 0); ValueError if nothing runs at it."""
    if math.isnan(hertz) or hertz == 0:
        return math.nan
    return CLOCK.check(name, hertz, OR_UNKNOWN)
