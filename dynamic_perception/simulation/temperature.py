"""How hot a board gets, and what its kernel does about it: temperatures and throttled clocks in virtual time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

POLL = 0.25  # [s] the kernel looks at the temperatures so often (Odroid XU3's device tree)
POLLS_PER_STEP = 4  # of one second: the step of the Odroid's predictor


class Temperature(Protocol):
    """The hottest place of a board."""

    celsius: float

    def advance(self, power: float, ambient: float) -> None:
        """Let POLL seconds pass with this mean power [W] and the surroundings `ambient` K above the usual ones."""


class OdroidXu3Temperature:
    """The hottest core of an Odroid XU3, by the one-second predictor that was fitted on the board (PRiME, 2017):

        T' = 24.776 + 0.2862 T + 0.1354 T_previous + 4.4316 P_big + 6.2712 P_mem

    Between two seconds the temperature goes straight to what is predicted.  The predictor has two rails, this model one
    power: the memory's, about which the predictor is told MEMORY_POWER (the log's median), is part of RESTING.  The
    constant holds the room in which it was fitted; a warmer one shifts the settled temperature by as much.
    """

    CONSTANT, NOW, BEFORE, PER_BIG, PER_MEMORY = 24.776, 0.2862, 0.1354, 4.4316, 6.2712
    MEMORY_POWER = 0.03  # [W] median of the log's memory rail
    RESTING = 0.148  # [W] memory, graphics and the resting A7; what is above it counts as the A15 rail's

    def __init__(self) -> None:
        self.celsius = self._before = self._start = self.settled(self.RESTING)
        self._poll, self._sum = 0, 0.0

    def settled(self, power: float, ambient: float = 0.0) -> float:
        """[°C] where the predictor stays with this power of all rails [W]."""
        gain = 1.0 - self.NOW - self.BEFORE
        return (self.CONSTANT + self._heat(power)) / gain + ambient

    def predict(self, now: float, before: float, power: float, ambient: float = 0.0) -> float:
        """[°C] one second later."""
        room = ambient * (1.0 - self.NOW - self.BEFORE)
        return self.CONSTANT + room + self.NOW * now + self.BEFORE * before + self._heat(power)

    def _heat(self, power: float) -> float:
        return self.PER_BIG * max(0.0, power - self.RESTING) + self.PER_MEMORY * self.MEMORY_POWER

    def advance(self, power: float, ambient: float) -> None:
        """Let POLL seconds pass."""
        self._poll += 1
        self._sum += power
        predicted = self.predict(self._start, self._before, self._sum / self._poll, ambient)
        self.celsius = self._start + (predicted - self._start) * self._poll / POLLS_PER_STEP
        if self._poll == POLLS_PER_STEP:
            self._before, self._start = self._start, predicted
            self._poll, self._sum = 0, 0.0


class LumpedTemperature:
    """One thermal resistance [K/W] and time constant [s], as in `platform_model.py`: where no more is known."""

    def __init__(self, usual: float, resistance: float, time_constant: float, resting_power: float):
        """`usual` [°C]: where a board without any power settles."""
        self._usual, self._resistance = usual, resistance
        self._kept = math.exp(-POLL / time_constant)
        self.celsius = self.settled(resting_power)

    def settled(self, power: float, ambient: float = 0.0) -> float:
        """[°C] where this power [W] leads to."""
        return self._usual + ambient + self._resistance * power

    def advance(self, power: float, ambient: float) -> None:
        """Let POLL seconds pass."""
        settled = self.settled(power, ambient)
        self.celsius = settled + (self.celsius - settled) * self._kept


@dataclass(frozen=True)
class TripPoint:
    """From `celsius` on, the clocks of a cluster are lowered by `least` to `most` steps: cluster -> (least, most)."""

    celsius: float
    hysteresis: float
    steps: Mapping[str, tuple[int, int]]


class StepWise:
    """Linux's governor `step_wise` (drivers/thermal/gov_step_wise.c): one step at every poll while it gets hotter.

    Above a trip point and getting hotter: one step more, within the point's least and most.  Below the point less its
    hysteresis and getting colder: one step less, and from the least to none.  Otherwise the steps stay.  A cluster is
    slowed by the most that any of the points asks for.
    """

    def __init__(self, trips: Sequence[TripPoint], clusters: Sequence[str]):
        self.steps = [0] * len(clusters)  # of every cluster
        self._trips = [(trip, [trip.steps.get(cluster, (0, 0)) for cluster in clusters]) for trip in trips]
        self._hot = [False] * len(trips)
        self._asked = [[0] * len(clusters) for _ in trips]
        self._last = math.nan

    def poll(self, celsius: float) -> bool:
        """Look at the temperature; True if the steps of a cluster changed."""
        rising, falling = celsius > self._last, celsius < self._last
        self._last = celsius
        idle = not any(self._hot) and not any(map(any, self._asked))
        if idle and (not self._trips or celsius < self._trips[0][0].celsius):
            return False
        before = list(self.steps)
        for number, (trip, bounds) in enumerate(self._trips):
            self._hot[number] = celsius >= trip.celsius - (trip.hysteresis if self._hot[number] else 0.0)
            asked = self._asked[number]
            for cluster, (least, most) in enumerate(bounds):
                if self._hot[number] and (rising or asked[cluster] == 0):
                    asked[cluster] = min(max(before[cluster] + 1, least), most)
                elif not self._hot[number] and falling:
                    asked[cluster] = 0 if asked[cluster] <= least else min(before[cluster] - 1, most)
        self.steps[:] = [max(column) for column in zip(*self._asked)]
        return self.steps != before
