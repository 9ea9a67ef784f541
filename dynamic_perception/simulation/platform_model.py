"""A board that is not there: the temperature and the battery that a network's power would lead to.

Temperature is one lumped thermal resistance and capacity, as in the compact models that thermal governors are designed
with (Huang et al., "HotSpot: a compact thermal modeling methodology", IEEE TVLSI 14(5), 2006, with one node); the
battery counts energy.  Both are solved exactly for power that is constant over a step.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Surroundings:
    """What acts on the board from outside.

    Attributes:
        ambient: [°C] temperature that the board settles at when the network rests.
        other_load: [W] that everything but the network takes from the battery.
        charger: [W] that flows into the battery.
    """

    ambient: float
    other_load: float
    charger: float


@dataclass(frozen=True)
class PlatformSettings:
    """The board itself; ValueError names a number that is not positive.

    Attributes:
        thermal_resistance: [K/W] steady rise over ambient per watt of the network's mean power.
        time_constant: [s] after which 63 % of a change of temperature has happened.
        battery_capacity: [J] of the full battery.
    """

    thermal_resistance: float
    time_constant: float
    battery_capacity: float

    def __post_init__(self):
        for name in ("thermal_resistance", "time_constant", "battery_capacity"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"platform model: {name} is {getattr(self, name):g}: expected more than 0")


class PlatformModel:
    """Temperature [°C] and state of charge [0..1], advanced step by step.

    Args:
        settings: of the board.
        temperature: [°C] at the start.
        charge: [0..1] at the start.
    """

    def __init__(self, settings: PlatformSettings, temperature: float, charge: float):
        if not 0 <= charge <= 1:
            raise ValueError(f"platform model: charge is {charge:g}: expected 0 to 1")
        self.settings = settings
        self.temperature = temperature
        self.charge = charge

    def advance(self, duration: float, power: float, surroundings: Surroundings) -> None:
        """Let `duration` s pass with this mean power [W] of the network."""
        settled = surroundings.ambient + self.settings.thermal_resistance * power
        remaining = math.exp(-duration / self.settings.time_constant)
        self.temperature = settled + (self.temperature - settled) * remaining
        drawn = (power + surroundings.other_load - surroundings.charger) * duration
        self.charge = min(1.0, max(0.0, self.charge - drawn / self.settings.battery_capacity))
