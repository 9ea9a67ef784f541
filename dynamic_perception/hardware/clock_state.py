"""Who may set a clock, and what it was before: one lock and one file for each clock, which outlive a killed process."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.clock_files import Clock
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


def default_state_folder(sysfs_root: Path = Path("/sys")) -> Path:
    """$XDG_STATE_HOME/dynamic_perception/clocks of this user, with another name for another sysfs tree."""
    configured = Path(os.environ.get("XDG_STATE_HOME", ""))
    folder = configured if configured.is_absolute() else Path.home() / ".local" / "state"
    root = Path(sysfs_root).resolve()
    suffix = "" if root == Path("/sys") else "-" + hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    return folder / "dynamic_perception" / f"clocks{suffix}"


def state_file(folder: Path, clock: Clock) -> Path:
    """Where what was found of this clock is saved."""
    return folder / f"{clock.kind}-{clock.name}.json"


def boot_id() -> str:
    """Changes with every start of the machine, which gives all clocks back to the kernel."""
    return BOOT_ID.read_text().strip()


class Ownership:
    """The right to set one clock, held until `release` or the end of the process.

    The lock is the kernel's, on the folder in which the kernel shows the clock.  So it holds between the processes of
    all users, however they name the clock and wherever they save its state; it needs no right to write; a killed owner
    cannot leave it behind; and there is no file of ours to clean up.

    Raises:
        ClocksInUse: another process, which is named, holds it.
        OSError: there is no such clock.
    """

    def __init__(self, clock: Clock):
        self._descriptor = os.open(clock.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = _holder(self._descriptor)
            self.release()
            raise ClocksInUse(
                f"process {owner or '(number not known)'} sets the clock {clock.folder} already: stop it first"
            ) from None
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Let others in; again is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


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
        temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="utf-8", opener=_private) as stream:
                json.dump(content, stream, indent=2)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @classmethod
    def read(cls, file: Path) -> SavedClock:
        """Read and check.

        Raises:
            FileNotFoundError: there is none.
            ValueError: not such a file; names the file, the key and what was expected.
        """
        try:
            content = json.loads(file.read_bytes())
            fault = _fault(content)
        except ValueError as error:
            fault = str(error)
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

    def clock(self) -> Clock:
        """The clock itself.

        Raises:
            OSError: NVML, or the GPU, is not there any more.
        """
        if self.kind == CpuPolicy.kind:
            return CpuPolicy.find(self.sysfs_root, self.name)
        if self.kind == DevfreqClock.kind:
            return DevfreqClock.find(self.sysfs_root, self.name)
        return NvmlClock(load_nvml(), self.name, self.sysfs_root)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


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
