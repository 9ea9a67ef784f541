"""Reading the small text files through which the kernel shows the machine."""

from __future__ import annotations

import errno
import re
from pathlib import Path

LONGEST = 65536  # [bytes] of a file that are read: the kernel's files are at most a page, or a few in /proc
NOT_TOLD = (errno.ENOENT, errno.ENODATA, errno.ENODEV)  # how drivers say that they do not know a property
CPU_RANGE = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?")
MOST_CPUS = 8192  # that Linux can be built for
INTEGER = re.compile(r"[+-]?[0-9]{1,19}")  # the kernel prints 64 bits at most


def read_text(path: Path) -> str:
    """The file's text, at most its first `LONGEST` bytes, without the white space around it.

    Raises:
        OSError: as the kernel gave it; a driver may answer any read with EIO, EBUSY, ENODATA or ENODEV.
    """
    with open(path, "rb") as file:
        return file.read(LONGEST).decode(errors="replace").strip()


def parse_integer(text: str) -> int | None:
    """The integer that the kernel printed; None where it is something else, Python's own spellings included."""
    return int(text) if INTEGER.fullmatch(text) else None


def read_integer(path: Path) -> int | None:
    """The integer in the file; None where it is missing, cannot be read, or holds something else."""
    try:
        return parse_integer(read_text(path))
    except OSError:
        return None


def read_number(path: Path) -> tuple[int | None, str]:
    """The integer in a file and "", or None and why there is none, with path and content."""
    try:
        text = read_text(path)
    except OSError as error:
        hint = ": run as root, or let this user read it" if error.errno in (errno.EACCES, errno.EPERM) else ""
        return None, f"{path}: {error.strerror}{hint}"
    value = parse_integer(text)
    return value, "" if value is not None else f"{path} holds '{excerpt(text)}': expected a number"


def text_or(path: Path, otherwise: str) -> str:
    """The first printable line of the file; `otherwise` where it cannot be read or is empty."""
    try:
        lines = read_text(path).splitlines() or [""]
    except OSError:
        return otherwise
    return excerpt("".join(letter for letter in lines[0] if letter.isprintable()).strip()) or otherwise


def excerpt(text: str) -> str:
    """A text that a broken driver may have made long, short enough for a message."""
    return text if len(text) <= 60 else f"{text[:60]}..."


def numbered_entries(directory: Path, prefix: str, suffix: str = "") -> tuple[Path, ...]:
    """Entries `<prefix><number><suffix>` of a directory in the order of their numbers; none where it is missing."""
    pattern = re.compile(re.escape(prefix) + r"([0-9]{1,9})" + re.escape(suffix))
    try:
        matches = [(int(match[1]), path) for path in directory.iterdir() if (match := pattern.fullmatch(path.name))]
    except OSError:
        return ()
    return tuple(path for _, path in sorted(matches))


def read_cpu_list(path: Path) -> frozenset[int] | None:
    """The CPUs of a list such as "0-3,8" or "0 1 2 3"; None where it cannot be read or holds something else."""
    try:
        words = re.split(r"[,\s]+", read_text(path))
    except OSError:
        return None
    cpus: set[int] = set()
    for word in words:
        match = CPU_RANGE.fullmatch(word)
        if match:
            cpus |= set(range(int(match[1]), min(int(match[2] or match[1]), MOST_CPUS) + 1))
        elif word:
            return None
    return frozenset(cpus)
