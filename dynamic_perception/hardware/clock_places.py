"""Where the state of changed clocks is kept, so that every process of the machine finds what another one left.

A clock belongs to the machine, so its state does too: below /run, which a restart of the machine empties as it gives
the clocks back.  Only root makes folders there; other users keep the state in their home folder, as the user database
names it, since HOME and XDG_STATE_HOME differ between a shell, sudo and a service.  A sysfs tree of ordinary files, as
an emulated clock is, holds its state itself, which goes with it.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

MACHINE_FOLDER = Path("/run/dynamic_perception")
IN_HOME = Path(".local/state/dynamic_perception")
IN_TREE = ".dynamic_perception_clocks"
SYSFS = Path("/sys")
LARGEST_STATE = 65536  # [byte]


class NotTrusted(PermissionError):
    """A state file that somebody wrote who may not set the clock."""


def state_folder(sysfs_root: Path = SYSFS) -> Path:
    """Where this process keeps the state of the clocks of a sysfs tree: the machine's place, or its user's."""
    name = _name(sysfs_root)
    machine = Path(sysfs_root).resolve() / IN_TREE if _is_ordinary(sysfs_root) else MACHINE_FOLDER / name
    for place in (machine, *machine.parents):
        if place.exists():
            if os.access(place, os.W_OK | os.X_OK, effective_ids=True):
                return machine
            break
    return _home(os.geteuid()) / IN_HOME / name


def state_folders(sysfs_root: Path = SYSFS) -> tuple[Path, ...]:
    """Every place where the state of a clock of this tree may be and that this process may read, its own first."""
    name = _name(sysfs_root)
    places = [state_folder(sysfs_root), MACHINE_FOLDER / name, *(home / IN_HOME / name for home in _homes())]
    return tuple(place for place in dict.fromkeys(places) if os.access(place, os.R_OK | os.X_OK, effective_ids=True))


def may_write(uid: int, path: Path) -> bool:
    """Whether a user may write a file, by its mode."""
    found = path.stat()
    return bool(
        uid == 0
        or (found.st_uid == uid and found.st_mode & stat.S_IWUSR)
        or (found.st_gid in _groups(uid) and found.st_mode & stat.S_IWGRP)
        or found.st_mode & stat.S_IWOTH
    )


def may_set(uid: int, clock_folder: Path) -> bool:
    """Whether a user may set the clock that the kernel shows in a folder: root, and who may write a file of it."""
    return uid == 0 or any(may_write(uid, path) for path in clock_folder.iterdir() if path.is_file())


def read_trusted(file: Path, clock_folder: Path | None) -> bytes:
    """A state file's content, if who wrote it might have set the clock anyway: root, this user, or who may write it.

    Without this, any user could have root write settings of his choice by leaving them in his home folder.  What is
    judged is what was opened: no link is followed, and only an ordinary file of a sensible size is read.

    Args:
        clock_folder: of the clock in the tree of the process that asks, never as the file names it; None: it has no
            files, and only root and this user are trusted.

    Raises:
        FileNotFoundError: there is no such file.
        NotTrusted: somebody else wrote it.
        OSError: it is a link, or cannot be read.
    """
    descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST_STATE:
            raise NotTrusted(f"{file} is not used: expected an ordinary file of at most {LARGEST_STATE} bytes")
        writer = found.st_uid
        if writer not in (0, os.geteuid()) and not (clock_folder and may_set(writer, clock_folder)):
            raise NotTrusted(
                f"{file} is not used: its owner, user {writer}, may not set {clock_folder or 'this clock'}"
            )
        return os.read(descriptor, LARGEST_STATE)
    finally:
        os.close(descriptor)


def _is_ordinary(sysfs_root: Path) -> bool:
    """Whether the tree is made of files on a disk, and not the kernel's own, wherever that is mounted."""
    return Path(sysfs_root).is_dir() and Path(sysfs_root).stat().st_dev != SYSFS.stat().st_dev


def _name(sysfs_root: Path) -> str:
    root = Path(sysfs_root).resolve()
    return "clocks" if root == SYSFS else "clocks-" + hashlib.sha256(os.fsencode(root)).hexdigest()[:16]


def _homes() -> Iterator[Path]:
    for entry in pwd.getpwall():
        if os.path.isabs(entry.pw_dir):
            yield Path(entry.pw_dir)


def _home(uid: int) -> Path:
    try:
        return Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:  # a user of a container that its database does not know
        return Path.home()


def _groups(uid: int) -> list[int]:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return []
    return os.getgrouplist(entry.pw_name, entry.pw_gid)
