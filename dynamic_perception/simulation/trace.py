"""A trace: everything that happens to a machine while it processes n frames, whatever its manager does.

As a file (`.npz`, or `.yaml` for people) it holds these names; a column is n numbers, or one that holds for all frames:

    arrival        [n] s, rising                      required
    deadline       [n] s from arrival to answer        required
    min_accuracy   [n] 0..1, the floor of the user    default 0: none
    max_energy     [n] J per inference                 default inf: none
    slow_down      [n] inference over profiled, every element alike, noise included    default 1
    noise          [n] factor of slow_down that is chance, which nobody foresees    default 1
    other_threads  {cluster: [n]} busy threads of other work (GPU: its share, 0..1 and more)    default none
    overhead       [n] s around inference              default 0.002
    ambient        [n] K above the surroundings in which the board was profiled    default 0
    other_load     [n] W that the rest of the robot takes from the battery    default 0
    charge         0..1 at the start                   default 1
    family, seed   what it was made by; for a recording, its name and 0

So a recording needs arrival, deadline and slow_down: measured latency of every frame over the profiled one of its
point.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from dynamic_perception.documents import InvalidDocument, read_yaml
from dynamic_perception.file_writing import replacing

COLUMNS = {
    "deadline": None,
    "min_accuracy": 0.0,
    "max_energy": math.inf,
    "slow_down": 1.0,
    "noise": 1.0,
    "overhead": 2e-3,
    "ambient": 0.0,
    "other_load": 0.0,
}
OTHER_THREADS = "other_threads"

# Beyond these no machine answers at all, and virtual time would lose its digits.
SLOWEST = 1000.0  # a thousandfold; [s] of overhead
MOST_LOAD = 1e5  # [W]
MOST_THREADS = 1e4


@dataclass(frozen=True, eq=False)
class Trace:
    """n frames; the columns are those of the module's text.  ValueError names what cannot be."""

    arrival: np.ndarray
    deadline: np.ndarray
    min_accuracy: np.ndarray = 0.0
    max_energy: np.ndarray = math.inf
    slow_down: np.ndarray = 1.0
    overhead: np.ndarray = 2e-3
    ambient: np.ndarray = 0.0
    other_load: np.ndarray = 0.0
    other_threads: Mapping[str, np.ndarray] = field(default_factory=dict)
    charge: float = 1.0
    family: str = "hand-made"
    seed: int = 0
    noise: np.ndarray = 1.0

    def __post_init__(self):
        arrival = np.asarray(self.arrival, dtype=float)
        if arrival.ndim != 1 or not len(arrival):
            raise ValueError(f"trace: arrival has shape {arrival.shape}: expected (n,) with at least one frame")
        if not np.isfinite(arrival).all() or (np.diff(arrival) <= 0).any() or arrival[0] < 0:
            raise ValueError("trace: arrival does not rise: expected seconds from 0 on, each later than the one before")
        object.__setattr__(self, "arrival", arrival)
        for name in COLUMNS:
            object.__setattr__(self, name, self._column(name, getattr(self, name)))
        object.__setattr__(
            self,
            OTHER_THREADS,
            {
                cluster: self._column(f"{OTHER_THREADS} of {cluster}", values)
                for cluster, values in dict(self.other_threads).items()
            },
        )
        self._refuse("deadline", ~(self.deadline > 0), "more than 0 s")
        for name in ("slow_down", "noise"):
            column = getattr(self, name)
            self._refuse(name, ~((column > 0) & (column <= SLOWEST)), f"more than 0, at most {SLOWEST:g}")
        self._refuse("max_energy", ~(self.max_energy > 0), "more than 0 J, or inf for none")
        self._refuse("min_accuracy", ~((self.min_accuracy >= 0) & (self.min_accuracy <= 1)), "0 to 1")
        for name, most in (("overhead", SLOWEST), ("other_load", MOST_LOAD)):
            column = getattr(self, name)
            self._refuse(name, ~((column >= 0) & (column <= most)), f"0 to {most:g}")
        for cluster, values in self.other_threads.items():
            possible = (values >= 0) & (values <= MOST_THREADS)
            if not possible.all():
                raise ValueError(
                    f"trace: {OTHER_THREADS} of {cluster}, frame {np.argmin(possible)}: expected 0 to {MOST_THREADS:g}"
                )
        if not 0 <= self.charge <= 1:
            raise ValueError(f"trace: charge is {self.charge:g}: expected 0 to 1")

    def _column(self, name: str, values: Any) -> np.ndarray:
        values = np.asarray(values, dtype=float)
        if values.shape not in ((), self.arrival.shape):
            raise ValueError(f"trace: {name} has shape {values.shape}: expected one number, or {self.arrival.shape}")
        return np.broadcast_to(values, self.arrival.shape).copy()

    def _refuse(self, name: str, wrong: np.ndarray, expected: str) -> None:
        if wrong.any():
            frame = int(np.argmax(wrong))
            raise ValueError(f"trace: {name}, frame {frame}: {getattr(self, name)[frame]:g}: expected {expected}")

    def __len__(self) -> int:
        return len(self.arrival)

    def save(self, path: str | os.PathLike) -> None:
        """Write an .npz file, whole or not at all."""
        path = Path(path)
        columns = {name: getattr(self, name) for name in ("arrival", *COLUMNS)}
        threads = {f"{OTHER_THREADS}/{cluster}": values for cluster, values in self.other_threads.items()}
        with replacing(path) as partial, open(partial, "wb") as file:
            np.savez_compressed(file, **columns, **threads, charge=self.charge, family=self.family, seed=self.seed)


def load_trace(path: str | os.PathLike) -> Trace:
    """Read a trace from an .npz or .yaml file; ValueError says what is wrong with it."""
    path = Path(path)
    try:
        content = _read_yaml(path) if path.suffix in (".yaml", ".yml") else _read_npz(path)
        return _from_plain(content)
    except InvalidDocument:  # names the file itself
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        content: dict[str, Any] = {OTHER_THREADS: {}}
        for name in file.files:
            value = file[name] if file[name].ndim else file[name].item()
            if name.startswith(f"{OTHER_THREADS}/"):
                content[OTHER_THREADS][name.partition("/")[2]] = value
            else:
                content[name] = value
        return content


def _read_yaml(path: Path) -> dict[str, Any]:
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise ValueError(f"holds {type(content).__name__}: expected names and columns")
    return content


def _from_plain(content: dict[str, Any]) -> Trace:
    known = [entry.name for entry in fields(Trace)]
    for name in content:
        if name not in known:
            raise ValueError(f"unknown name {name!r}: expected {', '.join(known)}")
    for name in ("arrival", "deadline"):
        if name not in content:
            raise ValueError(f"{name} is missing")
    return Trace(**content)


def slow_downs(
    trace: Trace, clusters: tuple[str, ...], element_cluster: np.ndarray, threads: np.ndarray, cores: np.ndarray
) -> np.ndarray:
    """[n, elements] inference over profiled latency of every frame on every element.

    Threads that are more than the cores take turns, as :class:`JointSelector` has it: threads / cores, at least 1.
    ValueError for a cluster that the board has not.
    """
    other = np.zeros((len(trace), len(clusters)))
    for cluster, values in trace.other_threads.items():
        if cluster not in clusters:
            raise ValueError(f"trace: {OTHER_THREADS} of cluster {cluster!r}: the platform has {', '.join(clusters)}")
        other[:, clusters.index(cluster)] = values
    turns = np.maximum(1.0, (threads + other[:, element_cluster]) / cores[element_cluster])
    return trace.slow_down[:, None] * turns
