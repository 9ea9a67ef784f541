"""Runs as they are shown: each with a name and a colour of its own, and what was in force at each of its frames."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dynamic_perception.report.recorded_run import Answer, Reading, RecordedRun
from dynamic_perception.report.results_file import Results

# Okabe and Ito's palette, which colour-blind people can tell apart; yellow is too light for lines on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot")  # from the seventh run on another dash
NUMBERED = re.compile(r"run \d+ of \d+: ")


@dataclass(frozen=True, eq=False)
class ShownRun:
    """A run with its label, unlike that of every other, its colour and its dash."""

    run: RecordedRun
    results: Results
    label: str
    colour: str
    dash: str = "solid"

    @cached_property
    def times(self) -> np.ndarray:
        """[frames] [s]."""
        return np.array([frame.time for frame in self.run.frames])

    @cached_property
    def deadlines(self) -> np.ndarray:
        """[frames] deadline in force [s]; NaN: none."""
        return self.at_frames(
            [change.time for change in self.run.deadlines], [change.deadline for change in self.run.deadlines]
        )

    @cached_property
    def clocks(self) -> dict[str, np.ndarray]:
        """[frames] clock in force [Hz] by "cpu" and "gpu", as far as one was ever set or read."""
        answers = [answer for answer in self.run.answers if answer.result in ("applied", "partial")]
        found = {}
        for kind in ("cpu", "gpu"):
            values = [clock_of(answer, kind) for answer in answers]
            if any(value > 0 for value in values):
                found[kind] = self.at_frames([answer.time for answer in answers], values)
        of_frames = np.array([frame.cpu_frequency for frame in self.run.frames])
        if (of_frames > 0).any():  # also of a run without commands
            found["cpu"] = of_frames
        return found

    @cached_property
    def points(self) -> list[str]:
        """[frames] the operating point of every frame in words."""
        clocks = [(kind, values) for kind, values in self.clocks.items()]
        return [
            f"{frame.subnetwork} on {frame.element}"
            + "".join(f", {kind} {values[number] / 1e6:.0f} MHz" for kind, values in clocks if values[number] > 0)
            for number, frame in enumerate(self.run.frames)
        ]

    @property
    def end(self) -> float:
        """[s] of the run."""
        return self.run.phases[-1].end

    def at_frames(self, times: Sequence[float], values: Sequence[float]) -> np.ndarray:
        """[frames] the last of `values` at or before each frame; NaN before the first."""
        if not len(times):
            return np.full(len(self.times), math.nan)
        order = np.argsort(times, kind="stable")
        index = np.searchsorted(np.array(times)[order], self.times, side="right") - 1
        return np.where(index >= 0, np.array(values, dtype=float)[order][np.maximum(index, 0)], math.nan)

    def readings_at_frames(self, readings: Sequence[Reading]) -> np.ndarray:
        """[frames] the newest reading of any zone; NaN before the first."""
        return self.at_frames([reading.time for reading in readings], [reading.value for reading in readings])


def clock_of(answer: Answer, kind: str) -> float:
    """[Hz] as read back."""
    return answer.cpu_frequency if kind == "cpu" else answer.gpu_frequency


def show_runs(all_results: Sequence[Results]) -> list[ShownRun]:
    """Every run of all results, named so that no two have the same label."""
    pairs = [(results, run) for results in all_results for run in results.runs]
    labels = [NUMBERED.sub("", run.title) for _, run in pairs]
    if len(set(labels)) < len(labels):
        labels = [f"{results.name}: {label}" for (results, _), label in zip(pairs, labels)]
    numbered: dict[str, int] = {}
    for place, label in enumerate(labels):
        numbered[label] = numbered.get(label, 0) + 1
        if labels.count(label) > 1:
            labels[place] = f"{label} ({numbered[label]})"
    return [
        ShownRun(run, results, label, COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)])
        for place, ((results, run), label) in enumerate(zip(pairs, labels))
    ]


def list_subnetworks(shown: Sequence[ShownRun]) -> list[str]:
    """Every subnetwork of the tables, in their order, and those that ran besides, by median inference and accuracy."""
    listed = [name for one in shown if one.results.table is not None for name in one.results.table.subnetwork]
    durations: dict[str, list[float]] = {}
    accuracies: dict[str, float] = {}
    for one in shown:
        for frame in one.run.frames:
            durations.setdefault(frame.subnetwork, []).append(frame.inference)
            accuracies[frame.subnetwork] = frame.accuracy
    used = sorted(durations, key=lambda name: (float(np.median(durations[name])), accuracies[name]))
    return list(dict.fromkeys([*listed, *used]))


def list_elements(shown: Sequence[ShownRun]) -> list[str]:
    """Every compute element of the tables, in their order, and those that were used besides."""
    listed = [name for one in shown if one.results.table is not None for name in one.results.table.elements]
    used = sorted({frame.element for one in shown for frame in one.run.frames})
    return list(dict.fromkeys([*listed, *used]))


def used_rows(one: ShownRun) -> dict[int, float]:
    """Rows of the results' table that frames ran at, and their share [0..1] of the run's frames."""
    table = one.results.table
    if table is None or not one.run.frames:
        return {}
    shares: dict[int, float] = {}
    cpu, gpu = (one.clocks.get(kind, np.full(len(one.times), math.nan)) for kind in ("cpu", "gpu"))
    for number, frame in enumerate(one.run.frames):
        row = table.find(frame.subnetwork, frame.element, float(cpu[number]), float(gpu[number]))
        if row is not None:
            shares[row] = shares.get(row, 0.0) + 1.0 / len(one.run.frames)
    return shares
