"""Seconds that never go back, from times of a clock that may be set."""

from __future__ import annotations

import math

from dynamic_perception.management import plausible

TOGETHER = 1.0  # [s] inputs that are heard in another order than they were stamped are this far apart at most
LONGEST_GAP = 86400.0  # [s] after a day of silence everything is stale; more would only cost resolution


class SteadyTime:
    """The newest time heard.

    One that is older by up to TOGETHER counts as the newest.  By more, the clock was set back: no time has passed, and
    it goes on from there, so that a clock that is an hour behind does not stop everything for an hour.
    """

    def __init__(self) -> None:
        self.now = -math.inf  # [s]
        self._offset = 0.0  # [s] between the given clock and `now`

    @property
    def started(self) -> bool:
        """Whether there was a time yet."""
        return self.now > -math.inf

    def advance(self, time: float) -> float:
        """`now` after `time` [s] was heard; one that no clock can say counts as the newest."""
        if time not in plausible.TIME:
            self.now = self.now if self.started else 0.0
            return self.now
        if not self.started:
            self.now = time
            return time
        heard = time + self._offset
        if heard < self.now - TOGETHER:
            self._offset = self.now - time
        elif heard > self.now + LONGEST_GAP:
            self.now += LONGEST_GAP
            self._offset = self.now - time
        else:
            self.now = max(self.now, heard)
        return self.now
