"""Who may set a clock, and what it was before: one lock and one file for each clock, which outlive a killed process."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.file_writing import remove_partial, write_atomically
from dynamic_perception.hardware.clock_files import Clock
from dynamic_perception.hardware.clock_places import may_set, read_trusted
from dynamic_perception.hardware.cpufreq import CpuPolicy
from dynamic_perception.hardware.devfreq import DevfreqClock
from dynamic_perception.hardware.nvml import load_nvml
from dynamic_perception.hardware.nvml_clocks import NvmlClock

SCHEMA = 2
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
LOCKS = Path("/proc/locks")
KINDS = {kind.kind: kind for kind in (CpuPolicy, DevfreqClock, NvmlClock)}


class ClocksInUse(OSError):
    """Another process sets the clock."""


def state_file(folder: Path, clock: Clock) -> Path:
    """Where what was found of this clock is saved."""
    return folder / f"{clock.kind}-{clock.name}.json"


def boot_id() -> str:
    """Changes with every start of the machine, which gives all clocks back to the kernel."""
    return BOOT_ID.read_text().strip()


class Ownership:
    """The right to set one clock, held until `release` or the end of the process.

    Two locks of the kernel, which a killed owner cannot leave behind.  The one on the folder in which the kernel shows
    the clock holds between the processes of all users, however they name the clock and wherever they save its state,
    and needs no right to write.  So any stranger can take it: it counts only if its holder might set the clock.  The
    one on a file beside the saved state no stranger can take; it holds where the other one does not count.

    Args:
        clock: to own.
        folder: where its state is saved; made where there is none.

    Raises:
        ClocksInUse: another process, which is named, holds it.
        OSError: there is no such clock, or the folder cannot be written.
    """

    def __init__(self, clock: Clock, folder: Path):
        self._descriptors: list[int] = []
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        try:
            lock = folder / f"{clock.kind}-{clock.name}.lock"
            self._lock(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600), clock)
            kernels = os.open(clock.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._lock(kernels, clock)
            except ClocksInUse:
                if _holder_may_set(_holder(kernels), clock):
                    raise
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Let others in; again is harmless."""
        while self._descriptors:
            os.close(self._descriptors.pop())

    def _lock(self, descriptor: int, clock: Clock) -> None:
        self._descriptors.append(descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ClocksInUse(
                f"process {_holder(descriptor) or '(number not known)'} sets the clock {clock.folder} already: "
                "stop it first"
            ) from None


def _holder_may_set(pid: str, clock: Clock) -> bool:
    """Whether a process runs as a user who may set the clock; True where that cannot be told."""
    if not pid.isdecimal():
        return True
    try:
        user = Path("/proc", pid).stat().st_uid
    except OSError:
        return False  # it has ended, and a child that it left behind holds the lock; no owner of a clock forks
    return may_set(user, clock.folder)


@dataclass(frozen=True)
class SavedClock:
    """The settings of one clock to put back.

    Attributes:
        sysfs_root: the tree that it belongs to.
        kind, name: as `Clock` has them.
        found: as `Clock.settings()` gave it.
        boot_id: of the machine's start that the settings belong to.
        pid: the process that changed them.
    """

    sysfs_root: Path
    kind: str
    name: str
    found: dict[str, str]
    boot_id: str
    pid: int

    def write(self, file: Path) -> None:
        """Replace the file as a whole; when this returns, it survives a loss of power.

        Raises:
            OSError: the folder or the disk does not take it; the old file is still there.
        """
        content = {
            "schema": SCHEMA,
            "boot_id": self.boot_id,
            "pid": self.pid,
            "sysfs_root": str(self.sysfs_root),
            "kind": self.kind,
            "name": self.name,
            "found": self.found,
        }
        remove_partial(file)  # of a process that was killed while it wrote
        write_atomically(file, json.dumps(content, indent=2), mode=0o644)

    @classmethod
    def read(cls, file: Path, clock: Clock) -> SavedClock:
        """Read and check the state of this clock.

        Raises:
            FileNotFoundError: there is none.
            NotTrusted: somebody wrote it who may not set the clock.
            ValueError: not such a file, or of another clock; names the file, the key and what was expected.
        """
        raw = read_trusted(file, clock.folder if clock.folder.is_dir() else None)
        try:
            content = json.loads(raw)
            fault = _fault(content)
        except (ValueError, RecursionError) as error:
            fault = str(error)
        if not fault and (content["kind"], content["name"]) != (clock.kind, clock.name):
            fault = f"name: expected {clock.kind}-{clock.name}"
        if fault:
            raise ValueError(f"{file}: {fault}. Set the clock by hand if need be, then delete the file")
        return cls(
            Path(content["sysfs_root"]),
            content["kind"],
            content["name"],
            content["found"],
            content["boot_id"],
            content["pid"],
        )


def clock_of_state(file: Path, sysfs_root: Path) -> Clock:
    """The clock whose state a file of this name holds, in the tree `sysfs_root`, whatever is in the file.

    Raises:
        ValueError: it is no name of a state file.
        OSError: there is no such clock, or NVML is not there any more.
    """
    kind, _, name = file.name.removesuffix(".json").partition("-")
    if kind not in KINDS or not KINDS[kind].is_name(name):
        raise ValueError(f"{file} is not used: expected <kind>-<clock>.json with one of {', '.join(KINDS)}")
    if kind == CpuPolicy.kind:
        return CpuPolicy.find(sysfs_root, name)
    if kind == DevfreqClock.kind:
        return DevfreqClock.find(sysfs_root, name)
    return NvmlClock(load_nvml(), name, sysfs_root)


def _holder(descriptor: int) -> str:
    """Number of the process that holds the lock on an open file; empty where the kernel does not tell."""
    status = os.fstat(descriptor)
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    try:
        fields = [line.split() for line in LOCKS.read_text().splitlines()]
    except OSError:
        return ""
    return next((line[4] for line in fields if len(line) > 5 and line[1] == "FLOCK" and line[5] == place), "")


def _fault(content: object) -> str:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return f"schema: expected {SCHEMA}"
    for key, kind in (
        ("boot_id", str),
        ("pid", int),
        ("sysfs_root", str),
        ("kind", str),
        ("name", str),
        ("found", dict),
    ):
        if not isinstance(content.get(key), kind):
            return f"{key}: expected {kind.__name__}"
    kind, name = content["kind"], content["name"]
    if kind not in KINDS:
        return f"kind is '{kind}': expected one of {', '.join(KINDS)}"
    if not KINDS[kind].is_name(name):
        return f"name: '{name}' is no name of a {kind} clock"
    fault = KINDS[kind].settings_fault(content["found"])
    return f"found: {fault}" if fault else ""
