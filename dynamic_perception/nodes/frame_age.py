"""How old a frame is, whether its stamp can be believed, and whose fault it is that it is old.

A driver's clock may differ from this machine's, count from the machine's start, or not be used at all.  From the age of
one frame nobody can tell a clock that is behind from a frame that is late on its way, so the rule is:

- more than AHEAD in the future, more than BEHIND in the past, no stamp, one before 1970: the stamp cannot be.  The age
  counts from the frame's arrival, and so does the deadline.
- else the stamp is believed, and the deadline counts from it.  What arrives older than LATE and than the deadline
  misses it at every operating point.  That is told, and is not held against the machine: a manager that took it for
  overhead would give up the best subnetworks for nothing.

Times are in seconds.
"""

from __future__ import annotations

from typing import NamedTuple

AHEAD = 0.05  # [s] two clocks on one machine, or kept together by PTP or NTP, differ by less
BEHIND = 10.0  # [s] no camera and no network holds a frame for so long
LATE = 1.0  # [s]
SETTLED = 3  # [frames] in a row that are plausible, after which the stamps are
OF_OUR_TIME = 1e9  # [s] since 1970 that a clock which was ever set shows, and one that counts from a start does not

FROM_ARRIVAL = "the deadline counts from their arrival until that ends; set the clock of the camera's driver"


class Judgement(NamedTuple):
    """What is wrong with one stamp; both are empty where nothing is."""

    kind: str  # in one or two words
    text: str  # for people


PLAUSIBLE = Judgement("", "")


def judge(stamp: float, now: float) -> Judgement:
    """Whether a frame can have been stamped at `stamp` if it is `now`; 0: there is no stamp, or no clock yet."""
    age = now - stamp
    if now <= 0.0:
        return Judgement("no clock", "nothing was heard on /clock yet: the deadline counts from the frames' arrival")
    if stamp == 0.0:
        return Judgement("missing", "frames carry no stamp: the deadline counts from their arrival")
    if stamp < 0.0:
        return Judgement("before 1970", f"frames are stamped {-stamp:.4g} s before 1970: {FROM_ARRIVAL}")
    if age < -AHEAD:
        text = f"frames are stamped {-age:.4g} s ahead of this machine's clock: {FROM_ARRIVAL}"
        return Judgement("ahead", text)
    if age > BEHIND and stamp < OF_OUR_TIME < now:
        text = (
            f"frames are stamped {stamp:.4g} s since a start, {age:.4g} s behind this machine's clock: {FROM_ARRIVAL}"
        )
        return Judgement("since start", text)
    if age > BEHIND:
        return Judgement("behind", f"frames are stamped {age:.4g} s behind this machine's clock: {FROM_ARRIVAL}")
    return PLAUSIBLE


def age_of_machine(age: float, deadline: float) -> float:
    """The part of a frame's age that counts as overhead; `deadline`: NaN or 0: none."""
    bound = max(LATE, deadline) if deadline > 0.0 else LATE
    return age if 0.0 < age <= bound else 0.0


class FrameAges:
    """The ages of one camera's frames.

    Attributes:
        state: what is wrong with the stamps at present.
    """

    def __init__(self) -> None:
        self.state = PLAUSIBLE
        self._plausible = 0  # frames in a row
        self._told = PLAUSIBLE

    def take(self, stamp: float, now: float, waited: float, deadline: float) -> float:
        """Age of a frame, never less than the `waited` s since it arrived.

        Args:
            now: by the clock that stamps are compared with.
            deadline: NaN or 0: none.
        """
        found = judge(stamp, now)
        age = waited if found.kind else max(now - stamp, waited)
        if not found.kind and age_of_machine(age - waited, deadline) == 0.0 < age - waited:
            text = (
                f"frames arrive {age - waited:.4g} s after their stamp, too late at any operating point: the clock of "
                "the camera's driver is behind, or they are late on their way"
            )
            found = Judgement("late", text)
        self._plausible = 0 if found.kind else self._plausible + 1
        if found.kind or self._plausible >= SETTLED:
            self.state = found
        return age

    def news(self) -> Judgement | None:
        """The state, if it is of another kind than when this was asked last."""
        if self.state.kind == self._told.kind:
            return None
        self._told = self.state
        return self.state
