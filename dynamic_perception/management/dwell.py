"""When a more demanding operating point may be taken, so that the manager does not ping-pong."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable

import numpy as np

GROWTH = 4.0  # 5, 20, 45 s: the third wait already ends most ping-pong within its first minute
TRIAL = 1 / 3  # [longest dwells] a step up that lasts less has failed
WINDOW = 60.0  # [s]


class Dwell:
    """A point must stay possible for `seconds` before it is taken: GROWTH times as long after every step up that fails.

    A step up has failed when it is soon taken back for the very cause that it was made for: that input is at the edge
    between two points.  A step down for another cause is news, and says nothing about that.  Whatever the causes, there
    are at most `most_up` steps up within WINDOW, but for those that the user asks for.
    """

    def __init__(self, shortest: float, longest: float, most_up: int):
        """The waits [s] lie between `shortest` and `longest`, which counts if it is the longer one."""
        self.seconds = shortest
        self._shortest = shortest
        self._longest = max(shortest, longest)
        self._possible_since: np.ndarray | float = math.inf
        self._up_at = -math.inf
        self._up_cause: Hashable = None
        self._ups: deque[float] = deque([-math.inf] * most_up, most_up)

    def waited(self, time: float, possible: np.ndarray) -> np.ndarray:
        """[n] bool: possible at every call for `seconds`; `possible` ([n] bool): possible now."""
        self._possible_since = np.where(possible, np.minimum(self._possible_since, time), math.inf)
        return time - self._possible_since >= self.seconds

    def may_step_up(self, time: float) -> bool:
        """Whether there is one left of the `most_up` within WINDOW."""
        return time - self._ups[0] >= WINDOW

    def stop_waiting(self) -> None:
        """No better point is possible now, or the point was left because the user wanted something else."""
        self._possible_since = math.inf

    def step_up(self, time: float, cause: Hashable, asked: bool = False) -> None:
        """A more demanding point was taken because of `cause`; `asked`: by the user.  Others go on waiting."""
        self._up_at, self._up_cause = time, cause
        if not asked:
            self._ups.append(time)

    def step_down(self, time: float, cause: Hashable) -> None:
        """The point was left because of `cause`."""
        self.stop_waiting()
        if cause != self._up_cause:
            return
        failed = time - self._up_at < TRIAL * self._longest
        seconds = self.seconds * GROWTH if failed else self.seconds / GROWTH
        self.seconds = min(max(seconds, self._shortest), self._longest)
        self._up_cause = None  # one step up fails at most once, however many points down it leads
