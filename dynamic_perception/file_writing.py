"""Files that are written whole or not at all: under another name first, onto the disk, then renamed."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write_atomically(path: Path, content: bytes | str, mode: int | None = None) -> None:
    """Write `content` (text as UTF-8): a reader finds the old file or the whole new one, also after a power cut.

    Args:
        mode: permission bits; None: as the process makes files.

    Raises:
        OSError: names the file and the reason; nothing is left behind, and the old file is as it was.
    """
    with replacing(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)
        if mode is not None:
            partial.chmod(mode)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The name to write the new file under; `path` becomes that file when the block ends without an exception.

    For libraries that write a file by its name.  The folder of `path` is made where there is none.

    Raises:
        OSError: as of `write_atomically`.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        _sync(partial)
        os.replace(partial, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno is None:
            raise
        raise type(error)(error.errno, f"{path} cannot be written: {error.strerror}") from error
    finally:
        with suppress(OSError):
            partial.unlink()


def remove_partial(path: Path) -> None:
    """Remove what processes that were killed while they wrote `path` left beside it."""
    for left in path.parent.glob(f"{glob.escape(path.name)}.*.partial"):
        writer = left.name.removeprefix(f"{path.name}.").removesuffix(".partial")
        if writer.isdecimal() and not Path("/proc", writer).exists():
            left.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Have the disk hold what was written: a rename may reach it before the contents do."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
