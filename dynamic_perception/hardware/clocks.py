"""Setting CPU clocks, and putting them back as they were found whatever happens.

The order of every change is: save what is found, change, report what the kernel says now.  Putting back needs
neither ROS nor a live owner: what a killed process left is put back by the next start, or by `restore_saved`.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from dynamic_perception.hardware.clock_state import (ClocksInUse, Ownership, SavedClocks, boot_id,
                                                     default_state_file)
from dynamic_perception.hardware.cpufreq import BUSY_LIMIT, CPUFREQ, CpuPolicy, explain, find_policies

__all__ = ["ClockControl", "ClockResult", "ClocksInUse", "RestoreResult", "default_state_file", "restore_saved"]

TOLERANCE = 1000.0  # [Hz] the kernel counts in kHz


@dataclass(frozen=True)
class ClockResult:
    """What became of a request.

    Attributes:
        actual: [Hz] the clock as read back, the slowest where the CPUs have several; NaN: the kernel does not tell.
        message: what differs from the request and how to mend it; empty when it was done to the letter.
    """

    actual: float
    message: str


@dataclass(frozen=True)
class RestoreResult:
    """What became of putting saved clocks back.

    Attributes:
        complete: nothing is left to put back.
        lines: what was done and what could not be done, for people.
    """

    complete: bool
    lines: tuple[str, ...]


class ClockControl:
    """The CPU clocks of one machine, owned from `open` to `restore`.  Its methods may be called from any thread.

    Only policies that a request named are touched, their governor is never changed, and no frequency is ever set that
    the hardware does not list or that lies outside the limits.

    Args:
        sysfs_root: where the kernel's view of the hardware is mounted.
        state_file: what was found is saved there until it is put back; None: `default_state_file(sysfs_root)`.
        minimum_frequency, maximum_frequency: [Hz] limits; 0: the hardware's own.

    Raises:
        ValueError: the limits are negative, not finite, or crossed.
    """

    def __init__(self, sysfs_root: Path = Path("/sys"), state_file: Path | None = None,
                 minimum_frequency: float = 0.0, maximum_frequency: float = 0.0):
        for name, limit in (("minimum_frequency", minimum_frequency), ("maximum_frequency", maximum_frequency)):
            if not 0.0 <= limit < math.inf:
                raise ValueError(f"{name} is {limit}: expected a number of Hz, or 0 for the hardware's own limit")
        if 0.0 < maximum_frequency < minimum_frequency:
            raise ValueError(f"minimum_frequency is {minimum_frequency}: expected at most maximum_frequency, "
                             f"{maximum_frequency}")
        self._sysfs_root = Path(sysfs_root)
        self._state_file = Path(state_file) if state_file else default_state_file(self._sysfs_root)
        self._lowest = minimum_frequency / 1000.0  # [kHz]
        self._highest = maximum_frequency / 1000.0 or math.inf  # [kHz]
        self._ownership: Ownership | None = None
        self._boot_id = ""
        self._found: dict[str, dict[str, str]] = {}  # as in the state file
        self._changed: set[str] = set()  # names of the policies that are not as they were found
        self._lock = threading.Lock()

    def open(self) -> tuple[str, ...]:
        """Become the owner, and put back what an owner that was killed left behind; again is harmless.

        Returns:
            What was put back and what could not be, for people; the latter is tried again by `restore`.

        Raises:
            ClocksInUse: another process is the owner; it is named.
            OSError: the state file's folder cannot be written.
            ValueError: the state file there is not one.
        """
        with self._lock:
            if self._ownership is not None:
                return ()
            ownership = Ownership(self._state_file)
            try:
                lines, left = _put_back_saved(self._state_file)
                if left and left.sysfs_root != self._sysfs_root.resolve():
                    raise ValueError(f"{self._state_file} is of {left.sysfs_root}, which could not be put back: "
                                     + "; ".join(lines))
                self._boot_id = boot_id()
            except BaseException:
                ownership.release()
                raise
            self._ownership = ownership
            self._found = left.policies if left else {}
            self._changed = set(self._found)
            return lines

    def available(self, cluster_cpus: Iterable[int]) -> tuple[float, ...]:
        """[Hz] rising: what these CPUs can be set to within the limits; none where there is no control.

        Where the hardware lists no steps, these are the two ends of its range, and everything between is allowed.
        """
        offers = [{allowed for step in policy.frequencies()
                   if (allowed := policy.nearest(step, self._lowest, self._highest)) is not None}
                  for policy in self._policies(cluster_cpus)]
        return tuple(1000.0 * step for step in sorted(set.intersection(*offers))) if offers else ()

    def set_cpu_frequency(self, cluster_cpus: Iterable[int], hertz: float) -> ClockResult:
        """Run these CPUs at the available frequency nearest to `hertz`.

        Args:
            cluster_cpus: numbers of CPUs; every policy that clocks one of them is set.
            hertz: 0: put the clock back as it was found; NaN: no change.
        """
        with self._lock:
            policies = self._policies(cluster_cpus)
            if math.isnan(hertz):
                return ClockResult(_slowest(policies), "")
            if hertz < 0.0 or math.isinf(hertz):
                return ClockResult(_slowest(policies), f"clock not changed: {hertz} Hz is not a frequency")
            if hertz == 0.0:
                faults = self._put_back([policy for policy in policies if policy.name in self._changed])
            elif self._ownership is None:
                faults = ["clock not changed: the clocks are not open"]
            elif not policies:
                faults = [f"clock not changed: {self._sysfs_root / CPUFREQ} has no policy for these CPUs (a container "
                          "or a virtual machine?)"]
            else:
                faults = self._hold(policies, hertz / 1000.0)
            more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
            return ClockResult(_slowest(policies), faults[0] + more if faults else "")

    def restore(self) -> tuple[str, ...]:
        """Put every clock back exactly as it was found and give up the ownership; again is harmless.

        Returns:
            What could not be put back, for people.  Then the state file stays, for the next start or `restore_saved`.
        """
        with self._lock:
            if self._ownership is None:
                return ()
            try:
                changed = [CpuPolicy(self._sysfs_root / CPUFREQ / name, frozenset()) for name in sorted(self._changed)]
                faults = self._put_back(changed)
                if not self._changed:
                    self._state_file.unlink(missing_ok=True)
            except OSError as error:
                faults = [f"cannot remove {self._state_file}: {error.strerror}"]
            finally:
                self._ownership.release()
                self._ownership, self._found, self._changed = None, {}, set()
            return tuple(faults)

    def _policies(self, cluster_cpus: Iterable[int]) -> list[CpuPolicy]:
        cpus = set(cluster_cpus)
        return [policy for policy in find_policies(self._sysfs_root) if policy.cpus & cpus]

    def _hold(self, policies: list[CpuPolicy], kilohertz: float) -> list[str]:
        targets = {policy: policy.nearest(kilohertz, self._lowest, self._highest) for policy in policies}
        faults = [f"clock not changed: {policy.path} has no frequency within {_megahertz(self._lowest)} to "
                  f"{_megahertz(self._highest)}" for policy, target in targets.items() if target is None]
        targets = {policy: target for policy, target in targets.items() if target is not None}
        fault = self._save([policy for policy in targets if policy.name not in self._found])
        if fault:
            return [fault]
        deadline = time.monotonic() + BUSY_LIMIT
        for policy, target in targets.items():
            self._changed.add(policy.name)
            try:
                policy.hold(target, deadline)
            except OSError as error:
                faults.append(explain(error))
                continue
            actual = policy.current() / 1000.0
            if abs(actual - target) * 1000.0 > TOLERANCE:
                faults.append(f"{policy.path} was set to {_megahertz(target)} but runs at {_megahertz(actual)}: "
                              "heat, power or firmware limits it")
            elif abs(target - kilohertz) * 1000.0 > TOLERANCE:
                faults.append(f"{_megahertz(kilohertz)} is not available: took {_megahertz(target)}, the nearest")
        return faults

    def _save(self, policies: list[CpuPolicy]) -> str:
        """Write down what is found before the first change; gives why that is not possible."""
        if not policies:
            return ""
        try:
            found = {**self._found, **{policy.name: policy.settings() for policy in policies}}
        except (OSError, ValueError) as error:
            why = explain(error) if isinstance(error, OSError) else error
            return f"clock not changed: what cannot be read cannot be put back: {why}"
        try:
            SavedClocks(self._sysfs_root.resolve(), found, self._boot_id, os.getpid()).write(self._state_file)
        except OSError as error:
            return (f"clock not changed: what was found cannot be saved ({error}): make room there, or point "
                    "XDG_STATE_HOME at a folder that can be written")
        self._found = found
        return ""

    def _put_back(self, policies: list[CpuPolicy]) -> list[str]:
        faults = []
        for policy in policies:
            faults_here = policy.put_back(self._found[policy.name], time.monotonic() + BUSY_LIMIT)
            if not faults_here:
                self._changed.discard(policy.name)
            faults += faults_here
        return faults


def restore_saved(state_file: Path | None = None) -> RestoreResult:
    """Put back the clocks that a killed process left changed.  Does not raise: what is wrong is in the lines.

    Refused while the owner lives.  Values from before the last start of the machine are not put back, but forgotten.

    Args:
        state_file: None: `default_state_file()`.
    """
    state_file = default_state_file() if state_file is None else Path(state_file)
    nothing = RestoreResult(True, (f"nothing to put back: there is no {state_file}",))
    try:
        if not state_file.exists():
            return nothing
        ownership = Ownership(state_file)
    except OSError as error:
        return RestoreResult(False, (f"not put back: {error}",))
    try:
        lines, left = _put_back_saved(state_file)
    except (OSError, ValueError) as error:
        return RestoreResult(False, (f"not put back: {error}",))
    finally:
        ownership.release()
    return RestoreResult(left is None, lines or nothing.lines)


def _put_back_saved(state_file: Path) -> tuple[tuple[str, ...], SavedClocks | None]:
    """As the owner: what was done in words, and what could not be put back."""
    try:
        saved = SavedClocks.read(state_file)
    except FileNotFoundError:
        return (), None
    if saved.boot_id != boot_id():
        state_file.unlink()
        return (f"nothing put back: {state_file} is from before the last start of the machine; removed",), None
    lines, left = [], {}
    for name, found in sorted(saved.policies.items()):
        policy = CpuPolicy(saved.sysfs_root / CPUFREQ / name, frozenset())
        faults = policy.put_back(found, time.monotonic() + BUSY_LIMIT)
        if faults:
            left[name] = found
        values = ", ".join(f"{file} {content.strip()}" for file, content in found.items())
        lines += [f"not put back: {fault}" for fault in faults] or [f"put back {policy.path}: {values}"]
    if not left:
        state_file.unlink()
        return tuple(lines), None
    return tuple(lines), replace(saved, policies=left)


def _slowest(policies: list[CpuPolicy]) -> float:
    return min((policy.current() for policy in policies), default=math.nan)


def _megahertz(kilohertz: float) -> str:
    return f"{kilohertz / 1000.0:g} MHz"
