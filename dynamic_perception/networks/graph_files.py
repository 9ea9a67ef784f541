"""ONNX graphs of a bundle as files: made once from the weights, then only read.

Making one takes the `onnx` package and up to a tenth of a second, which is time that a robot waits for its first
answer.  So the first process that needs a graph keeps it in the cache, and `dynamic-perception export` does so for all
of a bundle in advance.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_perception.file_writing import write_atomically
from dynamic_perception.installation import cache_folder
from dynamic_perception.networks.families import make_graph

if TYPE_CHECKING:
    from dynamic_perception.networks.bundle import ModelBundle

FORMAT = 2  # of the graphs; raised when the same weights give another graph than before
TRAILER, DIGEST = b"\0sha256\0", 32  # a file ends with these and the digest of what is before
END = len(TRAILER) + DIGEST
NOT_SAFE = "%s can be written by other users: graphs are not kept there; make it writable for its owner alone"

logger = logging.getLogger(__name__)


def read_graph(bundle: ModelBundle, subnetwork: str) -> bytes:
    """The graph of a subnetwork (see `make_graph`), from the cache, or made and kept there.

    What the cache holds is used only if it is whole and nobody else can have written it; else there is a warning, and
    the graph is made anew.
    """
    path = cached_graph(bundle, subnetwork)
    if not others_may_write(path):
        with suppress(OSError):
            graph = _whole(path.read_bytes())
            if graph is not None:
                return graph
            logger.warning("%s is damaged: it is made anew", path)
    graph = make_graph(bundle, subnetwork)
    with suppress(OSError):  # a robot's disk may be read-only or full: it makes its graphs at every start
        keep_graph(path, graph)
    return graph


def keep_graph(path: Path, graph: bytes) -> None:
    """Write a graph into the cache, whole or not at all, with its digest behind it.

    Raises:
        OSError: it cannot be written, or others may write the folder.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if culprit := others_may_write(path):
        logger.warning(NOT_SAFE, culprit)
        raise PermissionError(NOT_SAFE % culprit)
    write_atomically(path, graph + TRAILER + hashlib.sha256(graph).digest())


def _whole(content: bytes) -> bytes | None:
    """The graph in a cached file; None if it is not the one that was written."""
    graph, trailer, digest = content[:-END], content[-END:-DIGEST], content[-DIGEST:]
    return graph if trailer == TRAILER and hashlib.sha256(graph).digest() == digest else None


def others_may_write(path: Path) -> Path | None:
    """The file, or a folder on the way to it, that another user may write.

    A graph is as good as code: whoever can put one here decides what the robot sees.  Folders above the cache are
    looked at as well, as who may rename one may put another in its place; in a sticky one, such as /tmp, nobody can.
    """
    for place in (path, *path.parents):
        try:
            found = place.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        if found.st_uid not in (0, os.geteuid()):
            return place
        sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky and not _own_group(found):
            return place
    return None


def _own_group(found: os.stat_result) -> bool:
    """Whether a mode lets only the group write, and that is this user's own group, as many distributions have it."""
    return not found.st_mode & stat.S_IWOTH and found.st_gid == found.st_uid == os.geteuid()


def cached_graph(bundle: ModelBundle, subnetwork: str) -> Path:
    """Where the graph of a subnetwork is kept; the name tells everything apart that the graph depends on."""
    chosen = bundle.subnetwork(subnetwork)
    content = [
        FORMAT,
        bundle.weights_sha256,
        bundle.space.family,
        bundle.space.to_plain(),
        bundle.mean,
        bundle.standard_deviation,
        chosen.name,
        chosen.precision,
        chosen.config.to_plain(),
    ]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]
    return cache_folder() / "graphs" / bundle.name / f"{file_stem(subnetwork)}-{digest}.graph"


def file_stem(subnetwork: str) -> str:
    """A subnetwork's name as part of a file name."""
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in subnetwork)
