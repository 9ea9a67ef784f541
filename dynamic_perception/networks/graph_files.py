"""ONNX graphs of a bundle as files: made once from the weights, then only read.

Making one takes the `onnx` package and up to a tenth of a second, which is time that a robot waits for its first
answer.  So the first process that needs a graph keeps it in the cache, and `dynamic-perception export` does so for all
of a bundle in advance.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_perception.installation import cache_folder
from dynamic_perception.networks.families import make_graph

if TYPE_CHECKING:
    from dynamic_perception.networks.bundle import ModelBundle

FORMAT = 1  # of the graphs; raised when the same weights give another graph than before


def read_graph(bundle: ModelBundle, subnetwork: str) -> bytes:
    """The graph of a subnetwork (see `make_graph`), from the cache, or made and kept there."""
    path = cached_graph(bundle, subnetwork)
    with suppress(OSError):
        return path.read_bytes()
    graph = make_graph(bundle, subnetwork)
    with suppress(OSError):  # a robot's disk may be read-only or full: it makes its graphs at every start
        write_graph(path, graph)
    return graph


def write_graph(path: Path, graph: bytes) -> None:
    """Write a graph whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        partial.write_bytes(graph)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


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
    return cache_folder() / "graphs" / bundle.name / f"{file_stem(subnetwork)}-{digest}.onnx"


def file_stem(subnetwork: str) -> str:
    """A subnetwork's name as part of a file name."""
    return "".join(character if character.isalnum() or character in "._-" else "_" for character in subnetwork)
