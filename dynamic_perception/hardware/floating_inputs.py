"""Sensors whose inputs are open: their readings stand still while the machine warms up and cools down."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

STILL = 120.0  # [s] for which no sensor of a processor stands still while another one moves by `MOVED`
MOVED = 15.0  # [°C]
SAMPLES = 60  # that are kept of `STILL`


class FloatingInputs:
    """Knows the sensors that stand still, from one reading of all sensors after the other.

    A sensor is believed again with the first reading that differs from the one at which it stood still.
    """

    def __init__(self) -> None:
        self._history: deque[tuple[float, dict[str, float]]] = deque()
        self._stuck: dict[str, float] = {}  # zone to where it stands still [°C]

    def update(self, celsius: Mapping[str, float], now: float) -> dict[str, str]:
        """Name of every sensor that seems to float to how that is known.

        Args:
            celsius: [°C] of every processor's sensor that can be read.
            now: [s] steady.
        """
        self._stuck = {zone: value for zone, value in self._stuck.items() if celsius.get(zone) == value}
        if not self._history or now - self._history[-1][0] >= STILL / SAMPLES:
            self._history.append((now, dict(celsius)))
            self._find()
            while now - self._history[0][0] >= STILL:
                self._history.popleft()
        return {
            zone: f"it says {value:g} °C all the time while others change by {MOVED:g} °C"
            for zone, value in self._stuck.items()
        }

    def _find(self) -> None:
        (begin, first), (end, last) = self._history[0], self._history[-1]
        if end - begin < STILL:
            return
        seen = {zone: [sample.get(zone) for _, sample in self._history] for zone in last if zone in first}
        known = {zone: [v for v in values if v is not None] for zone, values in seen.items()}
        moved = {zone for zone, values in known.items() if max(values) - min(values) >= MOVED}
        if moved:
            self._stuck |= {
                zone: last[zone]
                for zone, values in known.items()
                if len(values) == len(seen[zone]) and len(set(values)) == 1
            }
