"""The kernel's CPU frequency policies: sets of CPUs that share one clock, as files in kHz.

What the files mean: https://docs.kernel.org/admin-guide/pm/cpufreq.html.
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.sysfs import numbered_entries, read_integer, read_text

CPUFREQ = Path("devices/system/cpu/cpufreq")
GOVERNOR, MINIMUM, MAXIMUM, SETSPEED = "scaling_governor", "scaling_min_freq", "scaling_max_freq", "scaling_setspeed"
BUSY_PAUSES = (0.010, 0.020)  # [s] before the second and the third try
BUSY_LIMIT = 0.050  # [s] of trying for all the writes of one request together


@dataclass(frozen=True)
class CpuPolicy:
    """One policy.

    Attributes:
        path: its folder, named `policy<number>`.
        cpus: every CPU that it clocks, also those that are offline.
    """

    path: Path
    cpus: frozenset[int]

    @property
    def name(self) -> str:
        return self.path.name

    def frequencies(self) -> tuple[int, ...]:
        """[kHz] rising: the steps that the hardware lists, or the two ends of its range where it lists none.

        Empty where the kernel tells neither.  Boost steps are left out: they are not sustainable.
        """
        low, high = read_integer(self.path / "cpuinfo_min_freq"), read_integer(self.path / "cpuinfo_max_freq")
        steps = self._steps()
        if steps:
            return tuple(step for step in steps if (low is None or step >= low) and (high is None or step <= high))
        return () if low is None or high is None else tuple(sorted({low, high}))

    def nearest(self, kilohertz: float, lowest: float, highest: float) -> int | None:
        """[kHz] The settable frequency nearest to `kilohertz` within `lowest` to `highest`; None: there is none."""
        frequencies = self.frequencies()
        if not frequencies:
            return None
        if self._steps():
            allowed = [step for step in frequencies if lowest <= step <= highest]
            return min(allowed, key=lambda step: (abs(step - kilohertz), step), default=None)
        low, high = math.ceil(max(frequencies[0], lowest)), math.floor(min(frequencies[-1], highest))
        return None if low > high else round(min(max(kilohertz, low), high))

    def current(self) -> float:
        """[Hz] The clock in force, NaN where the kernel does not tell.

        A policy that is held at one frequency is read from what holds it: `scaling_cur_freq` lags behind a change,
        and on x86 is measured over a time in which the CPU may have slept.
        """
        low, high = read_integer(self.path / MINIMUM), read_integer(self.path / MAXIMUM)
        if low is not None and low == high:
            return 1000.0 * low
        for name in (SETSPEED, "scaling_cur_freq"):  # without the userspace governor, the first is no number
            kilohertz = read_integer(self.path / name)
            if kilohertz is not None:
                return 1000.0 * kilohertz
        return math.nan

    def settings(self) -> dict[str, str]:
        """What `put_back` needs: file name to content, to the byte.

        The kernel shows the limits in force, not who asked for them: while heat or firmware lowers the maximum,
        the lowered one is what is found.

        Raises:
            OSError: a file is missing or cannot be read.
            ValueError: a file holds no frequency.
        """
        found = {name: (self.path / name).read_bytes().decode() for name in (GOVERNOR, MINIMUM, MAXIMUM)}
        if found[GOVERNOR].strip() == "userspace":
            found[SETSPEED] = (self.path / SETSPEED).read_bytes().decode()
        fault = settings_fault(found)
        if fault:
            raise ValueError(f"{self.path}: {fault}")
        return found

    def hold(self, kilohertz: int, deadline: float) -> None:
        """Run at one frequency, as `nearest` gives it, until told otherwise.

        Under the userspace governor the limits are only widened, as far as this frequency needs it.

        Args:
            deadline: [s] steady time until which a busy file is tried again.

        Raises:
            OSError: as `write`.
        """
        text = f"{kilohertz}\n"
        if read_text(self.path / GOVERNOR) == "userspace":
            low, high = read_integer(self.path / MINIMUM), read_integer(self.path / MAXIMUM)
            names = [MAXIMUM] * (high is None or kilohertz > high) + [MINIMUM] * (low is None or kilohertz < low)
            names.append(SETSPEED)
        else:
            names = [name for name, _ in self._limits_in_order(text, text)]
        for name in names:
            write(self.path / name, text, deadline)

    def put_back(self, found: dict[str, str], deadline: float) -> list[str]:
        """Write the found settings; gives what could not be written, each with the way to mend it."""
        files = [(GOVERNOR, found[GOVERNOR])] if self._differs(GOVERNOR, found[GOVERNOR]) else []
        # The limits are always written: a hot machine can show the found value while a higher one is requested.
        files += self._limits_in_order(found[MINIMUM], found[MAXIMUM])
        files += [(SETSPEED, found[SETSPEED])] if SETSPEED in found else []
        faults = []
        for name, text in files:
            try:
                write(self.path / name, text, deadline)
            except OSError as error:
                if self._differs(name, text):  # where nothing could be written before either, nothing is wrong
                    faults.append(explain(error))
        return faults

    def _steps(self) -> tuple[int, ...]:
        try:
            words = read_text(self.path / "scaling_available_frequencies").split()
        except OSError:
            return ()
        return tuple(sorted({int(word) for word in words if word.isdecimal()}))

    def _differs(self, name: str, content: str) -> bool:
        try:
            return read_text(self.path / name) != content.strip()
        except OSError:
            return True

    def _limits_in_order(self, low: str, high: str) -> list[tuple[str, str]]:
        """The kernel may refuse a minimum above the maximum, so going up begins with the maximum."""
        present = read_integer(self.path / MAXIMUM)
        downwards = present is not None and int(high) <= present
        return [(MINIMUM, low), (MAXIMUM, high)] if downwards else [(MAXIMUM, high), (MINIMUM, low)]


def find_policies(sysfs_root: Path) -> tuple[CpuPolicy, ...]:
    """Every policy, in the order of their numbers; none in most containers and virtual machines."""
    policies = []
    for path in numbered_entries(sysfs_root / CPUFREQ, "policy"):
        try:
            cpus = frozenset(int(word) for word in read_text(path / "related_cpus").split())
        except (OSError, ValueError):
            continue  # a policy whose CPUs are not known cannot be asked for
        policies.append(CpuPolicy(path, cpus))
    return tuple(policies)


def settings_fault(found: object) -> str:
    """What keeps a value from being the settings of a policy; empty: nothing."""
    required = {GOVERNOR, MINIMUM, MAXIMUM}
    if not isinstance(found, dict) or not required <= set(found) <= required | {SETSPEED}:
        return f"expected {', '.join(sorted(required))} and at most {SETSPEED}"
    for name, content in found.items():
        expected = r"[\w-]+\s*" if name == GOVERNOR else r"[0-9]+\s*"
        if not isinstance(content, str) or not re.fullmatch(expected, content):
            return f"{name} is {content!r}: expected {'a name' if name == GOVERNOR else 'a number of kHz'}"
    return ""


def write(path: Path, text: str, deadline: float) -> None:
    """Write a kernel file, again where it is busy, at most three times and not after `deadline` [s, steady time].

    Raises:
        OSError: with the path; nothing was written.
    """
    for pause in (*BUSY_PAUSES, math.inf):
        try:
            return write_once(path, text)
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
    """What a failed read or write of a clock means, and the way to mend it."""
    path = error.filename
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"no permission for {path}: run as root, or let this user write it (sudo chown $USER {path})"
    if error.errno == errno.EROFS:
        return f"{path} is read-only (a container?): start the container with --privileged, or mount /sys writable"
    if error.errno == errno.ENOENT:
        return f"{path} does not exist: this kernel does not offer this control"
    if error.errno == errno.EBUSY:
        return f"{path} is busy: a CPU of this policy is offline, or the system still starts; try again later"
    if error.errno == errno.EINVAL:
        return f"{path}: the kernel refuses the value; see the other files in this folder for what it allows"
    return f"{path}: {error.strerror}"
