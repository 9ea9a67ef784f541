"""Comparisons that match what is not compared: the same accuracy, the same latency, the same energy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.families import OVERHEAD
from dynamic_perception.simulation.governors import LargestThatFits
from dynamic_perception.simulation.ours import TUNED, Ours
from dynamic_perception.simulation.summary import summarise
from dynamic_perception.simulation.trace import Trace
from dynamic_perception.simulation.two_networks import SharedBoard, SharedTrace
from dynamic_perception.simulation.virtual_machine import Run, VirtualMachine

STEPS = 6  # of the search for the deadline that gives the same latency
FACTORS = 0.3, 1.0  # of the trace's deadline, between which is searched
SETTLED = 5  # frames in a row that are in time: recovered
STEP_AT, STEP_FRAMES = 60, 160


@dataclass(frozen=True)
class Matched:
    """Ours over the other: energy per frame, mean latency, board power; differences of accuracy and miss rate."""

    energy: float
    latency: float
    board_power: float
    accuracy_gain: float
    miss_gain: float


def keep_accuracy(settings: ManagerSettings) -> ManagerSettings:
    """The floor is never given up."""
    return replace(settings, relax=tuple(limit for limit in settings.relax if limit != "accuracy"))


def against_governor(
    board: Board, trace: Trace, governor: LargestThatFits, seed: int, settings: ManagerSettings = TUNED
) -> Matched:
    """Least energy at the governor's accuracy and at no more mean latency than its.

    Ours gets the accuracy of the governor's network as a floor that is never given up, and the longest deadline, as one
    factor of the trace's, with which its mean latency is no more than the governor's: what a user would set who wants
    to keep exactly what the governor gave.  It minds neither heat nor battery, as little as the governor; the kernel
    throttles both.  Both are judged by the trace's own deadlines.
    """
    other = VirtualMachine(board, trace, seed).run(governor)
    theirs = summarise(other)
    floor = np.nan_to_num(other.accuracy, nan=float(np.nanmin(other.accuracy)))

    def run(factor: float) -> tuple[Run, bool]:
        asked = replace(trace, deadline=trace.deadline * factor, min_accuracy=floor)
        mine = VirtualMachine(board, asked, seed).run(Ours(board, keep_accuracy(settings), budgets=False))
        return replace(mine, trace=trace), summarise(mine).latency <= theirs.latency

    mine = _longest(run)
    ours = summarise(mine)
    return Matched(
        ours.energy / theirs.energy,
        ours.latency / theirs.latency,
        ours.board_power / theirs.board_power,
        ours.accuracy - theirs.accuracy,
        ours.miss_rate - theirs.miss_rate,
    )


def _longest(run: Callable[[float], tuple[Any, bool]]) -> Any:
    """The result at the greatest factor that is accepted, by bisection; at the least one if none is."""
    low, high = FACTORS
    result, accepted = run(high)
    if accepted:
        return result
    best, _ = run(low)
    for _ in range(STEPS):
        middle = (low + high) / 2
        result, accepted = run(middle)
        if accepted:
            best, low = result, middle
        else:
            high = middle
    return best


def against_shared_governor(board: Board, shared: SharedTrace, settings: ManagerSettings = TUNED) -> Matched:
    """The same for two networks on one board; energy and latency of both together."""
    machine = SharedBoard(board)
    theirs = machine.run_schedutil(shared)
    table = board.table
    floors = tuple(float(table.accuracy[row]) for row in machine.largest_that_fit(shared.deadlines))
    latency = float(np.nanmean(theirs.latency))

    def run(factor: float):
        asked = replace(shared, deadlines=tuple(factor * deadline for deadline in shared.deadlines))
        mine = replace(machine.run_joint(asked, floors, keep_accuracy(settings)), shared=shared)
        return mine, float(np.nanmean(mine.latency)) <= latency

    mine = _longest(run)
    return Matched(
        float(np.nanmean(mine.energy) / np.nanmean(theirs.energy)),
        float(np.nanmean(mine.latency)) / latency,
        math.nan,
        float(np.nanmean(mine.accuracy) - np.nanmean(theirs.accuracy)),
        mine.miss_rate - theirs.miss_rate,
    )


def step_trace(board: Board, seed: int, frames: int = STEP_FRAMES) -> Trace:
    """A machine that is slowed 1.3 to 2 times at frame STEP_AT and stays so; noise of 2 %.

    By even seeds every element alike, by odd ones by work on all cores of the fastest cluster.
    """
    random = np.random.default_rng([seed, 200])
    table = board.table
    unit = float(table.latency[table.accuracy == table.accuracy.max()].min())
    deadline = random.uniform(1.5, 2.5) * unit + OVERHEAD
    arrival = 1.1 * deadline * (1.0 + np.arange(frames))
    after = np.arange(frames) >= STEP_AT
    factor = random.uniform(1.3, 2.0)
    slow_down = 1.0 + 0.02 * random.standard_normal(frames)
    if seed % 2 == 0:
        slow_down[after] *= factor
    fastest = board.default_element.partition(":")[0]
    cores = float(board.cores[board.clusters.index(fastest)])
    threads = {fastest: np.where(after, cores * (factor - 1.0), 0.0)} if seed % 2 else {}
    return Trace(
        arrival, deadline, slow_down=slow_down, overhead=OVERHEAD, other_threads=threads, family="step", seed=seed
    )


def recovery_frames(run: Run, step: int = STEP_AT) -> int:
    """The frame of the step is number 1: the number of the first one from which SETTLED in a row are in time."""
    met = run.met[step:]
    for frame in range(len(met) - SETTLED + 1):
        if met[frame : frame + SETTLED].all():
            return frame + 1
    return len(met)
