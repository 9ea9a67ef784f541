"""Which points failed lately, and for how long each is left alone."""

from __future__ import annotations

import time
from dataclasses import dataclass

from dynamic_perception.engines.engine import Point

FIRST_PAUSE, LONGEST_PAUSE = 5.0, 60.0  # [s] before a point that failed is tried again


@dataclass(frozen=True)
class Failure:
    """Why a point failed the last time, and when it may be tried again: after `pause` [s], at `retry_at` (steady)."""

    text: str
    pause: float
    retry_at: float


class FailedPoints:
    """Remembers failures; a point that fails again is left alone for twice as long as before.

    Args:
        first_pause: [s] after the first failure.
    """

    def __init__(self, first_pause: float = FIRST_PAUSE):
        self._first_pause = first_pause
        self._failures: dict[Point, Failure] = {}

    def add(self, point: Point, error: BaseException) -> float:
        """Note that a point failed; the pause [s] until it may be tried again."""
        before = self._failures.get(point)
        pause = self._first_pause if before is None else min(2 * before.pause, LONGEST_PAUSE)
        self._failures[point] = Failure(str(error), pause, time.monotonic() + pause)
        return pause

    def forget(self, point: Point) -> None:
        """The point works."""
        self._failures.pop(point, None)

    def why_not(self, point: Point) -> str:
        """Why the point is not tried now; empty: it may be."""
        failure = self._failures.get(point)
        left = 0.0 if failure is None else failure.retry_at - time.monotonic()
        return f"it failed, and is not tried again for {left:.1f} s: {failure.text}" if left > 0 else ""

    def __str__(self) -> str:
        return "; ".join(f"{subnetwork} on {element}" for subnetwork, element in self._failures) or "none"
