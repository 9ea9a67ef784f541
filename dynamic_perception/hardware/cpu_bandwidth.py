"""Groups of processes whose CPU time the kernel limits, in control groups of version 1 or 2.

What the files mean: https://docs.kernel.org/scheduler/sched-bwc.html.
"""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from pathlib import Path

PREFIX = "dynamic_perception_emulated_"
MOUNTS = Path("/proc/mounts")
PERIOD = 5_000  # [us] short against an inference, so that it is slowed evenly and not stopped now and then
SHORTEST_QUOTA = 1_000  # [us] the kernel refuses less
BUSY_PAUSE, BUSY_LIMIT = 0.002, 0.5  # [s] between tries to remove a group, and of all of them
SHARES, WEIGHT, HIGHEST_WEIGHT = 1024, 100, 10_000  # of one process outside of groups, in version 1 and 2


class CpuBandwidth:
    """A control group with a limit, from its construction to `close`.

    Groups of processes that were killed are removed when they are found.

    Args:
        mounts: the list of mounted file systems.
        threads: how many busy threads the processes in it have; in competition with others the group counts as many.

    Raises:
        OSError: control groups are not there or cannot be written; says what is needed.
    """

    def __init__(self, mounts: Path = MOUNTS, threads: int = 1):
        parent, self._unified = _find_controller(mounts)
        self.folder = parent / f"{PREFIX}{os.getpid()}_{uuid.uuid4().hex[:8]}"
        try:
            _remove_stale(parent)
            self.folder.mkdir()
            self._set_weight(threads)
            self.set_limit(1.0, threads)
        except OSError as error:
            self.close()
            raise OSError(
                error.errno,
                f"cannot limit CPU time with control groups ({error}): this needs root and a "
                f"writable {parent}; in a container, --privileged",
            ) from None

    @property
    def members(self) -> Path:
        """The file that lists the processes in the group; a process whose number is written to it joins."""
        return self.folder / "cgroup.procs"

    def add(self, pid: int) -> None:
        """Put a process with all its threads into the group.

        Raises:
            OSError: there is no such process.
        """
        self.members.write_text(str(pid))

    def set_limit(self, speed: float, threads: int) -> None:
        """Give the group `speed` (0..1) of what so many threads can use.

        Raises:
            OSError: the kernel refuses it.
        """
        quota, period = quota_and_period(speed, threads)
        if self._unified:
            (self.folder / "cpu.max").write_text(f"{quota} {period}")
            return
        # The kernel checks every write against the other file, so the quota is taken away in between.
        (self.folder / "cpu.cfs_quota_us").write_text("-1")
        (self.folder / "cpu.cfs_period_us").write_text(str(period))
        (self.folder / "cpu.cfs_quota_us").write_text(str(quota))

    def _set_weight(self, threads: int) -> None:
        if self._unified:
            (self.folder / "cpu.weight").write_text(str(min(HIGHEST_WEIGHT, WEIGHT * threads)))
        else:
            (self.folder / "cpu.shares").write_text(str(SHARES * threads))

    def pids(self) -> list[int]:
        """The processes in the group."""
        return [int(word) for word in self.members.read_text().split()]

    def close(self) -> None:
        """Give the processes that are left back to where groups begin, and remove the group; again is harmless."""
        deadline = time.monotonic() + BUSY_LIMIT
        while self.folder.is_dir():
            for pid in self.pids():
                try:
                    (self.folder.parent / "cgroup.procs").write_text(str(pid))
                except ProcessLookupError:
                    pass  # it has ended meanwhile
            try:
                self.folder.rmdir()
            except OSError as error:  # just after the end of a process the group can be busy, though none is listed
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
                time.sleep(BUSY_PAUSE)


def quota_and_period(speed: float, threads: int) -> tuple[int, int]:
    """[us] CPU time in every period; the period is longer where the quota would be shorter than the kernel takes.

    Raises:
        ValueError: the speed is not above 0 and at most 1.
    """
    if not 0.0 < speed <= 1.0:
        raise ValueError(f"speed is {speed}: expected more than 0 and at most 1")
    period = max(PERIOD, round(SHORTEST_QUOTA / (speed * threads)))
    return max(SHORTEST_QUOTA, round(speed * threads * period)), period


def _find_controller(mounts: Path) -> tuple[Path, bool]:
    """Where groups with a CPU limit can be made, and whether that is version 2."""
    lines = [line.split() for line in mounts.read_text().splitlines()]
    for _, folder, kind, options, *_ in lines:
        if kind == "cgroup" and "cpu" in options.split(","):
            return Path(folder), False
    for _, folder, kind, *_ in lines:
        controllers = Path(folder) / "cgroup.controllers"
        if kind == "cgroup2" and controllers.is_file() and "cpu" in controllers.read_text().split():
            subtree = Path(folder) / "cgroup.subtree_control"
            if "cpu" not in subtree.read_text().split():
                subtree.write_text("+cpu")
            return Path(folder), True
    raise OSError(
        "cannot limit CPU time: no control group file system with the cpu controller is mounted (see "
        "/proc/mounts); in a container, --privileged"
    )


def _remove_stale(parent: Path) -> None:
    """Remove the empty groups of owners that are gone."""
    for folder in parent.glob(f"{PREFIX}*"):
        owner = re.match(r"\d+", folder.name.removeprefix(PREFIX))
        if owner and not Path(f"/proc/{owner[0]}").exists():
            try:
                folder.rmdir()
            except OSError:
                pass  # processes that the killed owner left still run in it
