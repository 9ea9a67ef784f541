"""Setting the clocks of CPUs and of a GPU, and putting them back as they were found whatever happens.

The order of every change is: save what is found, change, report what the kernel says now.  Putting back needs
neither ROS nor a live owner: what a killed process left is put back by the next start, or by `restore_saved`.
"""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.clock_files import BUSY_LIMIT, Clock, ClockFiles
from dynamic_perception.hardware.clock_owner import ClockOwner, ClockSetter, FrequencyRange, put_back_saved
from dynamic_perception.hardware.clock_places import NotTrusted, state_folders
from dynamic_perception.hardware.clock_places import state_folder as default_state_folder
from dynamic_perception.hardware.clock_state import ClocksInUse, Ownership, SavedClock, clock_of_state
from dynamic_perception.hardware.cpufreq import CPUFREQ, find_policies
from dynamic_perception.hardware.devfreq import DevfreqClock
from dynamic_perception.hardware.gpus import find_gpus
from dynamic_perception.hardware.helper_client import HelperClock, HelperConnection
from dynamic_perception.hardware.nvml import load_nvml
from dynamic_perception.hardware.nvml_clocks import NvmlClock

__all__ = [
    "ClockControl",
    "ClockResult",
    "ClocksInUse",
    "FrequencyRange",
    "RestoreResult",
    "default_state_folder",
    "restore_saved",
]


@dataclass(frozen=True)
class ClockResult:
    """What became of a request.

    Attributes:
        actual: [Hz] the clock as read back, the slowest where there are several; NaN: the kernel does not tell.
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
    """Clocks of one machine, owned from `open` to `restore`.  Its methods may be called from any thread.

    Only clocks that a request named are touched, their governor is never changed, and no frequency is ever set that
    the hardware does not list or that lies outside what is allowed.  All are owned from `open` on, so that a second
    process is refused at its start and not while it drives; a process that may not run on the same CPUs is not.

    Args:
        sysfs_root: where the kernel's view of the hardware is mounted.
        state_folder: what was found is saved there until it is put back; None: `default_state_folder(sysfs_root)`.
        allowed: of CPU clocks.
        cpus: numbers of the CPUs whose clocks to own; None: all.
        gpu: the GPU's clock to own; None: none.
        gpu_allowed: of the GPU's clock.
        helper_socket: of the clock helper, which sets the clocks that this process may not write, if it is there;
            None: no helper.
    """

    def __init__(
        self,
        sysfs_root: Path = Path("/sys"),
        state_folder: Path | None = None,
        allowed: FrequencyRange = FrequencyRange(),
        cpus: Iterable[int] | None = None,
        gpu: Clock | None = None,
        gpu_allowed: FrequencyRange = FrequencyRange(),
        helper_socket: Path | None = None,
    ):
        self._sysfs_root = Path(sysfs_root)
        self._state_folder = Path(state_folder) if state_folder else default_state_folder(self._sysfs_root)
        self._others = () if state_folder else state_folders(self._sysfs_root)
        self._helper = HelperConnection(helper_socket) if helper_socket else None
        wanted = None if cpus is None else frozenset(cpus)
        self._cpus = {
            policy.cpus: self._setter(policy, allowed)
            for policy in find_policies(self._sysfs_root)
            if wanted is None or policy.cpus & wanted
        }
        self._gpu = self._setter(gpu, gpu_allowed) if gpu else None
        self._lock = threading.Lock()

    def open(self) -> tuple[str, ...]:
        """Become the owner of every clock, or of none; puts back what an owner that was killed left behind.

        Returns:
            What was put back and what could not be, for people; the latter is tried again by `restore`.

        Raises:
            ClocksInUse: another process is the owner of one of them; it is named.
            OSError: the state folder cannot be written.
            ValueError: a state file there is not one.
        """
        lines: list[str] = []
        with self._lock:
            try:
                for setter in self._setters():
                    lines += setter.open()
            except BaseException:
                for setter in self._setters():
                    setter.restore()
                raise
        return tuple(lines)

    def available(self, cluster_cpus: Iterable[int]) -> tuple[float, ...]:
        """[Hz] rising: what these CPUs can be set to within the limits; none where there is no control.

        Where the hardware lists no steps, these are the two ends of its range, and everything between is allowed.
        """
        offers = [set(setter.available()) for setter in self._setters_of(cluster_cpus)]
        return tuple(sorted(set.intersection(*offers))) if offers else ()

    def available_gpu(self) -> tuple[float, ...]:
        """[Hz] rising: what the GPU can be set to within its limits; none where there is no control."""
        return self._gpu.available() if self._gpu else ()

    def set_cpu_frequency(self, cluster_cpus: Iterable[int], hertz: float) -> ClockResult:
        """Run these CPUs at the available frequency nearest to `hertz`.

        Args:
            cluster_cpus: numbers of CPUs; every policy that clocks one of them is set.
            hertz: 0: put the clock back as it was found; NaN: no change.
        """
        return self._set(
            self._setters_of(cluster_cpus),
            hertz,
            f"{self._sysfs_root / CPUFREQ} has no policy for these CPUs (a container or a virtual machine?)",
        )

    def set_gpu_frequency(self, hertz: float) -> ClockResult:
        """As `set_cpu_frequency`, of the GPU."""
        return self._set([self._gpu] if self._gpu else [], hertz, "there is no GPU whose clock can be set")

    def check(self) -> str | None:
        """Read all clocks back that were set, and set again what was lost.

        Returns:
            What differs from the last requests, for people, empty where nothing does; None: no clock is held.
        """
        with self._lock:
            deadline = time.monotonic() + BUSY_LIMIT
            of_cpus = [setter.check(deadline) for setter in self._cpus.values()]
            of_gpu = self._gpu.check(deadline) if self._gpu else None
        if of_gpu is None and all(faults is None for faults in of_cpus):
            return None
        faults = [fault for faults in of_cpus if faults for fault in faults]
        return "; ".join(filter(None, [_first_of(faults), _first_of(of_gpu or [])]))

    def restore(self) -> tuple[str, ...]:
        """Put every clock back exactly as it was found and give up the ownership; again is harmless.

        Returns:
            What could not be put back, for people.  Then its state file stays, for the next start or `restore_saved`.
        """
        with self._lock:
            return tuple(fault for setter in self._setters() for fault in setter.restore())

    def _setter(self, clock: Clock, allowed: FrequencyRange) -> ClockSetter:
        written_by_others = isinstance(clock, ClockFiles) and not clock.writable()
        if written_by_others and self._helper:  # also one that is not there yet: it may be started later
            return HelperClock(clock, self._helper, allowed)
        return ClockOwner(clock, self._state_folder, self._sysfs_root, allowed, self._others)

    def _setters(self) -> list[ClockSetter]:
        return [*self._cpus.values(), *([self._gpu] if self._gpu else [])]

    def _setters_of(self, cluster_cpus: Iterable[int]) -> list[ClockSetter]:
        cpus = set(cluster_cpus)
        return [setter for own_cpus, setter in self._cpus.items() if own_cpus & cpus]

    def _set(self, setters: list[ClockSetter], hertz: float, none: str) -> ClockResult:
        with self._lock:
            if math.isnan(hertz):
                faults = []
            elif hertz < 0.0 or math.isinf(hertz):
                faults = [f"clock not changed: {hertz} Hz is not a frequency"]
            elif not setters and hertz > 0.0:
                faults = [f"clock not changed: {none}"]
            else:
                deadline = time.monotonic() + BUSY_LIMIT
                faults = [fault for setter in setters for fault in setter.set(hertz, deadline)]
            actual = min((setter.clock.current() for setter in setters), default=math.nan)
        return ClockResult(actual, _first_of(faults))


def _first_of(faults: list[str]) -> str:
    """The first one, and how many there are; empty for none."""
    more = f" (and {len(faults) - 1} more like it)" if len(faults) > 1 else ""
    return faults[0] + more if faults else ""


def find_gpu_clock(sysfs_root: Path = Path("/sys")) -> Clock | None:
    """The clock of the first GPU; None: there is none that can be set."""
    for device in find_gpus(sysfs_root):
        if device.kind == "devfreq":
            return DevfreqClock(device.path)
        with suppress(OSError):  # its driver or library has gone since
            return NvmlClock(load_nvml(), device.index, sysfs_root)
    return None


def restore_saved(folders: Path | Iterable[Path] | None = None, sysfs_root: Path = Path("/sys")) -> RestoreResult:
    """Put back the clocks that killed processes left changed.  Does not raise: what is wrong is in the lines.

    Refused for a clock whose owner lives; the line says what was found and what is in force.  Values from before the
    last start of the machine are not put back, but forgotten.

    Args:
        folders: where states are saved; None: every place of the machine that this process may read.
        sysfs_root: the tree whose places are meant.
    """
    if folders is None:
        folders = state_folders(sysfs_root)
    folders = [Path(folders)] if isinstance(folders, (str, Path)) else list(folders)
    results = [_restore_file(file, sysfs_root) for folder in folders for file in sorted(folder.glob("*.json"))]
    lines = tuple(line for _, file_lines in results for line in file_lines)
    nothing = f"nothing to put back in {', '.join(map(str, folders)) or default_state_folder(sysfs_root)}"
    return RestoreResult(all(complete for complete, _ in results), lines or (nothing,))


def _restore_file(file: Path, sysfs_root: Path) -> tuple[bool, tuple[str, ...]]:
    """Whether the clock is as this file says that it was found, and what was done."""
    try:
        clock = clock_of_state(file, sysfs_root)
        saved = SavedClock.read(file, clock)
        ownership = Ownership(clock, default_state_folder(sysfs_root) if _is_of_others(file) else file.parent)
    except FileNotFoundError as error:
        return not file.exists(), (f"not put back: {error}",) if file.exists() else ()
    except NotTrusted as error:
        return True, (str(error),)
    except ClocksInUse as error:
        return False, (f"not put back: {error}; {_difference(saved, clock)}",)
    except (OSError, ValueError) as error:
        return _is_of_others(file), (f"not put back: {error}",)
    try:
        lines, left = put_back_saved(file, clock)
    except (OSError, ValueError) as error:
        return False, (f"not put back: {error}",)
    finally:
        ownership.release()
    if left is not None:
        lines = (*lines, _difference(saved, clock))
    return left is None, lines


def _is_of_others(file: Path) -> bool:
    """Whether neither root nor this user owns a file: nothing in it can keep `restore` from being complete."""
    try:
        return file.lstat().st_uid not in (0, os.geteuid())
    except OSError:
        return False


def _difference(saved: SavedClock, clock: Clock) -> str:
    """What was found of a clock and what is in force, where they differ."""
    try:
        now = clock.settings()
    except (OSError, ValueError) as error:
        return f"what is in force cannot be read: {error}"
    differences = [
        f"{name} was {content.strip()}, is {now[name].strip() if name in now else 'not there'}"
        for name, content in saved.found.items()
        if now.get(name, "").strip() != content.strip()
    ]
    return f"{clock.folder}: {', '.join(differences) or 'is as it was found'}"
