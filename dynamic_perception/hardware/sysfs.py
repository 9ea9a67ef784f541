"""Reading the small text files through which the kernel shows the machine."""

from __future__ import annotations

import re
from pathlib import Path


def read_text(path: Path) -> str:
    """The file's text without the white space around it.

    Raises:
        OSError: as the kernel gave it; a driver may answer any read with EIO, EBUSY, ENODATA or ENODEV.
    """
    return path.read_text(errors="replace").strip()


def read_integer(path: Path) -> int | None:
    """The integer in the file; None where it is missing, cannot be read, or holds something else."""
    try:
        return int(read_text(path))
    except (OSError, ValueError):
        return None


def numbered_entries(directory: Path, prefix: str, suffix: str = "") -> tuple[Path, ...]:
    """Entries `<prefix><number><suffix>` of a directory in the order of their numbers; none where it is missing."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)" + re.escape(suffix))
    try:
        matches = [(int(match[1]), path) for path in directory.iterdir() if (match := pattern.fullmatch(path.name))]
    except OSError:
        return ()
    return tuple(path for _, path in sorted(matches))
