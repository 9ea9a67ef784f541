"""What the user wants from perception."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

from dynamic_perception.management import plausible

RANGES = {
    "max_latency": plausible.DEADLINE,
    "max_energy": plausible.ENERGY,
    "max_power": plausible.POWER,
    "min_accuracy": plausible.SHARE,
    "min_rate": plausible.RATE,
}


class Objective(IntEnum):
    """What is best among the points that meet every limit; the values are those of PerformanceTarget.msg."""

    MAX_ACCURACY = 0
    MIN_ENERGY = 1
    MIN_LATENCY = 2


@dataclass(frozen=True)
class Target:
    """Limits and an objective; NaN: no such limit.  ValueError names a field that is not a possible limit."""

    max_latency: float = math.nan  # [s] deadline from the frame's stamp to the answer
    max_energy: float = math.nan  # [J] per inference
    max_power: float = math.nan  # [W] while an inference runs
    min_accuracy: float = math.nan  # [0..1]
    objective: Objective = Objective.MAX_ACCURACY
    min_rate: float = math.nan  # [Hz] answers per second that the network could give, from mean latency

    def __post_init__(self):
        for name, plausible_values in RANGES.items():
            value = getattr(self, name)
            if not math.isnan(value):
                plausible_values.check(f"target: {name}", value, ", or NaN for none")
        try:
            object.__setattr__(self, "objective", Objective(self.objective))
        except ValueError:
            accepted = ", ".join(f"{objective.value} ({objective.name})" for objective in Objective)
            raise ValueError(f"target: objective is {self.objective!r}: expected one of {accepted}") from None

    def __str__(self) -> str:
        limits = [
            f"{label} {value:.3g} {unit}".rstrip()
            for label, value, unit in (
                ("deadline", self.max_latency * 1e3, "ms"),
                ("energy up to", self.max_energy, "J"),
                ("power up to", self.max_power, "W"),
                ("accuracy from", self.min_accuracy, ""),
                ("rate from", self.min_rate, "Hz"),
            )
            if not math.isnan(value)
        ]
        return ", ".join([self.objective.name.lower().replace("_", " "), *limits])
