"""The time that decisions count in: dwells, timeouts, missions.

On a robot it is the machine's steady clock, which nobody sets: a system clock that is set back by NTP would stop every
dwell and every timeout for as long as it was set back.  With `use_sim_time` it is `/clock`, so that decisions over a
bag depend on the bag alone.  That clock may step; then what was measured by it means nothing, and its user is told.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from rclpy.clock import Clock, JumpThreshold, ROSClock, TimeJump
from rclpy.duration import Duration

STEP_BACK = (
    0.5  # [s] by less /clock may fall, as when two publishers alternate: time stands still until it is caught up
)
STEP_AHEAD = 60.0  # [s] by more than this between two messages no simulation advances: /clock was set


class DecisionClock:
    """Reads the clock, and tells when its time cannot be compared with the time before.

    Args:
        ros: clock of the node, which follows `/clock` if `use_sim_time` is set.
        steady: clock that counts otherwise.
        on_step: called with what happened, for people, or an empty text where nothing was wrong: `/clock` was heard
            for the first time.  The new time holds already.  It runs in the executor's thread, before the callback of
            any message that came later.
    """

    def __init__(self, ros: ROSClock, steady: Clock, on_step: Callable[[str], None]):
        self._ros, self._steady, self._on_step = ros, steady, on_step
        self._greatest = -math.inf  # [s] of /clock since the last step
        every_message = JumpThreshold(min_forward=Duration(nanoseconds=1), min_backward=Duration(nanoseconds=-1))
        self._watch = ros.create_jump_callback(every_message, post_callback=self._on_jump)

    @property
    def simulated(self) -> bool:
        """Whether time comes from `/clock`."""
        return self._ros.ros_time_is_active

    @property
    def seconds(self) -> float:
        """[s] since some moment; simulated and not heard of yet: 0."""
        return 1e-9 * (self._ros if self.simulated else self._steady).now().nanoseconds

    @property
    def fault(self) -> str:
        """Why time stands still, or an empty text."""
        if self.simulated and self.seconds == 0.0:
            return "use_sim_time is set but nothing was heard on /clock: dwells and timeouts stand still"
        return ""

    def close(self) -> None:
        """Watch no longer."""
        self._watch.unregister()

    def _on_jump(self, jump: TimeJump) -> None:
        now, before = self.seconds, self._greatest
        self._greatest = now if self.simulated else -math.inf
        step = now - before
        if before <= 0.0 or not self.simulated:  # there was no /clock before, or there is none now
            self._on_step("" if self.simulated else "use_sim_time was switched off")
        elif step <= -STEP_BACK:
            self._on_step(f"/clock stepped back by {-step:.3g} s")
        elif step > STEP_AHEAD:
            self._on_step(f"/clock stepped ahead by {step:.3g} s")
        else:
            self._greatest = max(now, before)
