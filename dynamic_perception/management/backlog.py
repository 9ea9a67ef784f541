"""How long frames have waited for a machine that has just become slower."""

from __future__ import annotations

import math

GROWTH = 1.02  # per frame: the period is the least gap of late, as frames are skipped
LONGEST = 10  # [frames] after a slow inference: who still waits then has a camera that is faster than the network


class Backlog:
    """How long the next frame will have waited when the machine gets to it.

    Frames come at a period, and the newest one replaces the one that waits.  So after a frame that was answered at an
    age of more than a period, the next one has waited for the remainder of that age over the period.

    This counts from a slow inference, be it an outlier or a step of the slow-down, until a frame did not wait, and for
    LONGEST frames at most.  Where frames wait all the time, because the camera is faster than the network, that is
    overhead like any other.
    """

    def __init__(self) -> None:
        self.waiting = 0.0  # [s] of the next frame; 0: there is no backlog
        self._time = -math.inf  # [s] when the last frame was answered
        self._stamp = math.nan  # [s] when it was taken
        self._period = math.inf  # [s]
        self._left = 0  # [frames] that may still count

    def observe(self, time: float, age: float, slow: bool) -> None:
        """A frame was answered at `time` [s], `age` s after it was taken; `slow`: its inference, for that machine."""
        if time <= self._time:  # a machine that does one after the other has not answered two at once
            return
        gap, self._time, self._stamp = time - age - self._stamp, time, time - age
        if gap > 0.0:
            self._period = min(gap, GROWTH * self._period)
        self._left = LONGEST if slow else self._left - 1
        if age < self._period:
            self._left = 0
        self.waiting = age % self._period if self._left > 0 else 0.0
