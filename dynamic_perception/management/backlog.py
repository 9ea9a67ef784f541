"""How long frames have waited for a machine that has just become slower."""

from __future__ import annotations

import math

GROWTH = 1.02  # per frame: the period is the least gap of late, as frames are skipped
LONGEST = 10   # [frames] after a step: who still waits then has a camera that is faster than the network


class Backlog:
    """How long the next frame will have waited when the machine gets to it.

    Frames come at a period, and the newest one replaces the one that waits.  So after a frame that was answered at an
    age of more than a period, the next one has waited for the remainder of that age over the period.

    This counts from a step of the slow-down until a frame did not wait, and for LONGEST frames at most.  Where frames
    wait all the time, because the camera is faster than the network, that is overhead like any other.

    After a single slow inference, frames wait as well, and that is no overhead either.  But it is not counted upon, as
    nothing is done about one outlier.
    """

    def __init__(self) -> None:
        self.waiting = 0.0          # [s] of the next frame; 0: there is no backlog
        self._time = -math.inf      # [s] when the last frame was answered
        self._stamp = math.nan      # [s] when it was taken
        self._period = math.inf     # [s]
        self._left = 0              # [frames] that may still count
        self._aftermath = 0         # [frames] that may still wait because of an outlier

    @property
    def disturbed(self) -> bool:
        """Whether the next frame's overhead is none that lasts."""
        return self.waiting > 0.0 or self._aftermath > 0

    def observe(self, time: float, age: float, stepped: bool, outlier: bool = False) -> None:
        """A frame was answered at `time` [s], `age` s after it was taken.

        `stepped`: the slow-down made a step.  `outlier`: the inference was slow, which does not count yet.
        """
        if time <= self._time:  # a machine that does one after the other has not answered two at once
            return
        gap, self._time, self._stamp = time - age - self._stamp, time, time - age
        if gap > 0.0:
            self._period = min(gap, GROWTH * self._period)
        self._left = LONGEST if stepped else self._left - 1
        self._aftermath = LONGEST if outlier else self._aftermath - 1
        if age < self._period:
            self._left = self._aftermath = 0
        self.waiting = age % self._period if self._left > 0 else 0.0
