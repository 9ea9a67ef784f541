"""Who may set the clocks, and what they were before: one lock and one file that outlive a killed process."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dynamic_perception.hardware.cpufreq import settings_fault

SCHEMA = 1
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ClocksInUse(OSError):
    """Another process sets the clocks."""


def default_state_file(sysfs_root: Path = Path("/sys")) -> Path:
    """$XDG_STATE_HOME/dynamic_perception/clocks.json of this user, with another name for another sysfs tree."""
    configured = Path(os.environ.get("XDG_STATE_HOME", ""))
    folder = configured if configured.is_absolute() else Path.home() / ".local" / "state"
    root = Path(sysfs_root).resolve()
    suffix = "" if root == Path("/sys") else "-" + hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
    return folder / "dynamic_perception" / f"clocks{suffix}.json"


def boot_id() -> str:
    """Changes with every start of the machine, which gives all clocks back to the kernel."""
    return BOOT_ID.read_text().strip()


class Ownership:
    """The right to set clocks under one state file, held until `release` or the end of the process.

    The lock is the kernel's, on a file beside the state file, so a killed owner cannot leave it behind and a number
    that was given to another process meanwhile cannot be mistaken for it.  The lock file itself stays: removing it
    would let two processes lock two files of the same name.

    Raises:
        ClocksInUse: another process, which is named, holds it.
        OSError: the folder or the file cannot be written.
    """

    def __init__(self, state_file: Path):
        state_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = state_file.with_name(state_file.name + ".lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError:
            owner = os.pread(self._descriptor, 32, 0).decode(errors="replace").strip()
            self.release()
            raise ClocksInUse(f"process {owner or '(number not known)'} sets the clocks already (it holds {path}): "
                              "stop it first") from None
        except OSError:
            self.release()
            raise

    def release(self) -> None:
        """Let others in; again is harmless."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


@dataclass(frozen=True)
class SavedClocks:
    """The settings to put back.

    Attributes:
        sysfs_root: the tree that they belong to.
        policies: policy name to `CpuPolicy.settings()`.
        boot_id: of the machine's start that they belong to.
        pid: the process that changed them.
    """

    sysfs_root: Path
    policies: dict[str, dict[str, str]]
    boot_id: str
    pid: int

    def write(self, state_file: Path) -> None:
        """Replace the file as a whole; when this returns, it survives a loss of power.

        Raises:
            OSError: the folder or the disk does not take it; the old file is still there.
        """
        content = {"schema": SCHEMA, "boot_id": self.boot_id, "pid": self.pid,
                   "sysfs_root": str(self.sysfs_root), "policies": self.policies}
        temporary = state_file.with_name(f"{state_file.name}.{os.getpid()}.tmp")
        try:
            with open(temporary, "w", encoding="utf-8", opener=_private) as file:
                json.dump(content, file, indent=2)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, state_file)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        folder = os.open(state_file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    @classmethod
    def read(cls, state_file: Path) -> SavedClocks:
        """Read and check.

        Raises:
            FileNotFoundError: there is none.
            ValueError: not such a file; names the file, the key and what was expected.
        """
        try:
            content = json.loads(state_file.read_bytes())
            fault = _fault(content)
        except ValueError as error:
            fault = str(error)
        if fault:
            raise ValueError(f"{state_file}: {fault}. Set the clocks by hand if need be, then delete the file")
        return cls(Path(content["sysfs_root"]), content["policies"], content["boot_id"], content["pid"])


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _fault(content: object) -> str:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        return f"schema: expected {SCHEMA}"
    for key, kind in (("boot_id", str), ("pid", int), ("sysfs_root", str), ("policies", dict)):
        if not isinstance(content.get(key), kind):
            return f"{key}: expected {kind.__name__}"
    for name, found in content["policies"].items():
        if not re.fullmatch(r"policy[0-9]+", name):
            return f"policies: '{name}' is no policy"
        if fault := settings_fault(found):
            return f"policies: {name}: {fault}"
    return ""
