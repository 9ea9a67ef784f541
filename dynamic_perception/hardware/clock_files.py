"""Clocks that the kernel shows as a folder of files: who governs, the limits, and the speed where the user governs.

CPU policies and devfreq devices are such folders; they differ in the names of the files and in the unit.  A clock of
any kind has what `Clock` lists.
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

from dynamic_perception.hardware.sysfs import read_integer, read_text

BUSY_PAUSES = (0.010, 0.020)  # [s] before the second and the third try
BUSY_LIMIT = 0.050  # [s] of trying for all the writes of one request together


class Clock(Protocol):
    """What can be run at a frequency and put back.  Numbers are in its own `unit`.

    Attributes:
        kind: which of the kernel's controls it is; with `name` it names the state file.
        unit: [Hz] of one.
        folder: the kernel's own for this clock; whoever sets the clock holds a lock on it.
    """

    kind: ClassVar[str]
    unit: ClassVar[float]

    @property
    def name(self) -> str: ...

    @property
    def folder(self) -> Path: ...

    def nearest(self, frequency: float, lowest: float, highest: float) -> int | None: ...

    def current(self) -> float: ...

    def settings(self) -> dict[str, str]: ...

    def hold(self, frequency: int, deadline: float) -> None: ...

    def put_back(self, found: dict[str, str], deadline: float) -> list[str]: ...

    @classmethod
    def settings_fault(cls, found: dict[str, object]) -> str: ...

    @classmethod
    def is_name(cls, name: str) -> bool: ...

    def explain(self, error: OSError) -> str: ...


@dataclass(frozen=True)
class ClockFiles:
    """One folder.

    Attributes:
        path: the folder.
    """

    path: Path

    kind: ClassVar[str]
    unit: ClassVar[float]  # [Hz] that the files count in
    GOVERNOR: ClassVar[str]
    MINIMUM: ClassVar[str]
    MAXIMUM: ClassVar[str]
    SPEED: ClassVar[str]  # there, or a number, only under the userspace governor
    CURRENT: ClassVar[str]
    STEPS: ClassVar[str]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def folder(self) -> Path:
        return self.path

    def frequencies(self) -> tuple[int, ...]:
        """Rising: the steps that the hardware lists; empty where it lists none."""
        try:
            words = read_text(self.path / self.STEPS).split()
        except OSError:
            return ()
        return tuple(sorted({int(word) for word in words if word.isdecimal()}))

    def nearest(self, frequency: float, lowest: float, highest: float) -> int | None:
        """The settable frequency nearest to `frequency` within `lowest` to `highest`; None: there is none."""
        allowed = [step for step in self.frequencies() if lowest <= step <= highest]
        return min(allowed, key=lambda step: (abs(step - frequency), step), default=None)

    def current(self) -> float:
        """[Hz] The clock in force, NaN where the kernel does not tell.

        A clock that is held at one frequency is read from what holds it: the measured one lags behind a change, and
        may have been measured over a time in which the hardware slept.
        """
        low, high = read_integer(self.path / self.MINIMUM), read_integer(self.path / self.MAXIMUM)
        if low is not None and low == high:
            return self.unit * low
        for name in (self.SPEED, self.CURRENT):
            value = read_integer(self.path / name)
            if value is not None:
                return self.unit * value
        return math.nan

    def settings(self) -> dict[str, str]:
        """What `put_back` needs: file name to content, to the byte.

        The kernel shows the limits in force, not who asked for them: while heat or firmware lowers the maximum,
        the lowered one is what is found.

        Raises:
            OSError: a file is missing or cannot be read.
            ValueError: a file holds no frequency.
        """
        found = {name: (self.path / name).read_bytes().decode() for name in (self.GOVERNOR, self.MINIMUM, self.MAXIMUM)}
        if self._speed_is_told():
            found[self.SPEED] = (self.path / self.SPEED).read_bytes().decode()
        fault = self.settings_fault(found)
        if fault:
            raise ValueError(f"{self.path}: {fault}")
        return found

    def hold(self, frequency: int, deadline: float) -> None:
        """Run at one frequency, as `nearest` gives it, until told otherwise.

        Under the userspace governor the limits are only widened, as far as this frequency needs it.  A userspace
        governor that was never told a speed could not be put back to that, so there the limits hold the frequency.

        Args:
            deadline: [s] steady time until which a busy file is tried again.

        Raises:
            OSError: as `write`.
        """
        text = f"{frequency}\n"
        if self._speed_is_told():
            low, high = read_integer(self.path / self.MINIMUM), read_integer(self.path / self.MAXIMUM)
            names = [self.MAXIMUM] * (high is None or frequency > high)
            names += [self.MINIMUM] * (low is None or frequency < low)
            names.append(self.SPEED)
        else:
            names = [name for name, _ in self._limits_in_order(text, text)]
        for name in names:
            write(self.path / name, text, deadline)

    def put_back(self, found: dict[str, str], deadline: float) -> list[str]:
        """Write the found settings; gives what could not be written, each with the way to mend it."""
        files = [(self.GOVERNOR, found[self.GOVERNOR])] if self._differs(self.GOVERNOR, found[self.GOVERNOR]) else []
        # The limits are always written: a hot machine can show the found value while a higher one is requested.
        files += self._limits_in_order(found[self.MINIMUM], found[self.MAXIMUM])
        files += [(self.SPEED, found[self.SPEED])] if self.SPEED in found else []
        faults = []
        for name, text in files:
            try:
                write(self.path / name, text, deadline)
            except OSError as error:
                if self._differs(name, text):  # where nothing could be written before either, nothing is wrong
                    faults.append(self.explain(error))
        return faults

    def writable(self) -> bool:
        """Whether this process may write all that `hold` can need."""
        names = [self.MINIMUM, self.MAXIMUM] + [self.SPEED] * self._speed_is_told()
        return all(os.access(self.path / name, os.W_OK, effective_ids=True) for name in names)

    @classmethod
    def settings_fault(cls, found: dict[str, object]) -> str:
        """What keeps file contents from being the settings of such a clock; empty: nothing."""
        required = {cls.GOVERNOR, cls.MINIMUM, cls.MAXIMUM}
        if not required <= set(found) <= required | {cls.SPEED}:
            return f"expected {', '.join(sorted(required))} and at most {cls.SPEED}"
        for name, content in found.items():
            expected = r"[\w-]+\s*" if name == cls.GOVERNOR else r"[0-9]+\s*"
            if not isinstance(content, str) or not re.fullmatch(expected, content):
                return f"{name} is {content!r}: expected {'a name' if name == cls.GOVERNOR else 'a frequency'}"
        return ""

    def explain(self, error: OSError) -> str:
        """What a failed read or write means, and the way to mend it."""
        return explain(error)

    def _speed_is_told(self) -> bool:
        try:
            return (
                read_text(self.path / self.GOVERNOR) == "userspace" and read_integer(self.path / self.SPEED) is not None
            )
        except OSError:
            return False

    def _differs(self, name: str, content: str) -> bool:
        try:
            return read_text(self.path / name) != content.strip()
        except OSError:
            return True

    def _limits_in_order(self, low: str, high: str) -> list[tuple[str, str]]:
        """The kernel may refuse a minimum above the maximum, so going up begins with the maximum."""
        present = read_integer(self.path / self.MAXIMUM)
        downwards = present is not None and int(high) <= present
        return [(self.MINIMUM, low), (self.MAXIMUM, high)] if downwards else [(self.MAXIMUM, high), (self.MINIMUM, low)]


def write(path: Path, text: str, deadline: float) -> None:
    """Write a kernel file, again where it is busy.

    Raises:
        OSError: with the path; nothing was written.
    """
    retry_while_busy(lambda: write_once(path, text), deadline)


def retry_while_busy(action: Callable[[], None], deadline: float) -> None:
    """Do it, again where it fails with EBUSY: three times at most, with growing pauses, not after `deadline` [s].

    Raises:
        OSError: of the last try.
    """
    for pause in (*BUSY_PAUSES, math.inf):
        try:
            return action()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)


def write_once(path: Path, text: str) -> None:
    """One write, as the kernel needs it, to a file that is there already.

    Raises:
        OSError: with the path.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def explain(error: OSError) -> str:
    """What a failed read or write of a clock's file means, and the way to mend it."""
    path = error.filename
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"no permission for {path}: start `dynamic-perception clock-helper` as root, or let this user write it "
            f"(sudo chown $USER {path})"
        )
    if error.errno == errno.EROFS:
        return f"{path} is read-only (a container?): start the container with --privileged, or mount /sys writable"
    if error.errno == errno.ENOENT:
        return f"{path} does not exist: this kernel does not offer this control"
    if error.errno == errno.EBUSY:
        return f"{path} is busy: a CPU of this policy is offline, or the system still starts; try again later"
    if error.errno == errno.EINVAL:
        return f"{path}: the kernel refuses the value; see the other files in this folder for what it allows"
    return f"{path}: {error.strerror}"
