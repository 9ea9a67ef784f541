"""Which inputs have not been heard of for too long."""

from __future__ import annotations

import math


class Watchdog:
    """For every input the time of its last usable value, and the time from which it is stale without another one."""

    def __init__(self):
        self._last_heard: dict[str, float] = {}
        self._stale_from: dict[str, float] = {}
        self._never: set[str] = set()  # expected, and not heard of so far
        self._first = math.inf  # [s] none is stale before it

    def heard(self, name: str, time: float, timeout: float) -> None:
        """A usable value came at `time`; also starts to expect the input."""
        self._never.discard(name)
        self._last_heard[name] = time
        self._stale_from[name] = time + timeout
        self._first = min(self._first, time + timeout)

    def expect(self, name: str, time: float, timeout: float) -> None:
        """Expect the input from `time` on, though nobody may ever send it."""
        self.heard(name, time, timeout)
        self._never.add(name)

    def lost(self, name: str, time: float) -> None:
        """The input says itself that it knows nothing: no need to wait for its timeout."""
        self._stale_from[name] = min(self._stale_from[name], time)
        self._first = min(self._first, time)

    def forget(self, name: str) -> None:
        """Do not expect the input any more."""
        self._stale_from.pop(name, None)
        self._last_heard.pop(name, None)
        self._never.discard(name)

    def stale(self, time: float) -> dict[str, float]:
        """Input -> for how long it has been stale [s]; the inputs that are not are left out."""
        if time < self._first:
            return {}
        self._first = min(self._stale_from.values(), default=math.inf)
        return {name: time - since for name, since in self._stale_from.items() if time >= since}

    def never_heard(self, name: str) -> bool:
        """Whether the input is expected, and there was none so far: a machine may have no such sensor."""
        return name in self._never

    def silence(self, name: str, time: float) -> float:
        """For how long there was no usable value [s]."""
        return time - self._last_heard[name]
