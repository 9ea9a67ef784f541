"""Measuring operating points: how long every subnetwork takes on every compute element of this machine, at every clock.

The points are measured in turn, a few inferences each, over and over, so that a disturbance of the machine falls on
all of them, until the median of every point is known well enough.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dynamic_perception.engines.engine import Engine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.hardware.emulated_cpufreq import busy_power
from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.profiling.profiled_machine import ProfiledMachine
from dynamic_perception.profiling.statistics import Summary, Turn, gave_up, precision, summarise

PROVENANCE = {"latency": "measured", "power": "modelled", "energy": "modelled", "accuracy": "measured"}
POWER_MEASURED = {**PROVENANCE, "power": "measured", "energy": "measured"}
ENERGY_TURNS = 3  # of a point, after which its energy was measured often enough


@dataclass(frozen=True)
class ProfileSettings:
    """How to measure.

    Attributes:
        runs_per_turn: inferences of one point before the next has its turn; the first is not counted.
        least_runs, most_runs: counted inferences per point; an interval of the p95 needs 150, one of the p99 needs 600.
        precision: half-width of the 95 % confidence interval of the median, relative to it, to reach.
        core_power: [W] assumed for one busy CPU core above idle where there is no power sensor: power and energy are
            modelled then, as threads x core_power, and that times the latency.  Not under an emulated clock, whose
            model knows better.
        seed: of the random order of the points in a turn.
        pause: [s] before every inference, as there is between the frames of a camera: threads fall asleep and caches
            cool meanwhile, which makes an inference of 1 ms up to twice as long as one right after another.  A table
            without would show the manager a machine that is slowed whenever a small subnetwork runs.
    """

    runs_per_turn: int = 10
    least_runs: int = 150
    most_runs: int = 600
    precision: float = 0.02
    core_power: float = 3.0
    seed: int = 1
    pause: float = 5e-3


@dataclass(frozen=True)
class Planned:
    """A point to measure; `clock` in Hz, 0: left to the governor."""

    subnetwork: str
    element: ComputeElement
    clock: float = 0.0


def measure(
    bundle: ModelBundle,
    engine: Engine,
    points: Sequence[Planned],
    settings: ProfileSettings,
    on_share: Callable[[float], None] = lambda share: None,
    machine: ProfiledMachine = ProfiledMachine(),
    kept: Sequence[tuple[int, Turn]] = (),
    on_turn: Callable[[int, Turn], None] = lambda point, turn: None,
) -> list[Summary]:
    """Measure every point until it is known well enough.

    An engine whose element works by itself, such as a GPU, gives an answer when it is there, so that no waiting for the
    element is needed here.

    Args:
        on_share: called after every round of turns with the share [0..1] of the work that is done.
        machine: whose clocks are set, and whose temperature and power are read.
        kept: turns of an interrupted profile, with the number of their point.
        on_turn: called with every new turn and the number of its point.
    """
    elements = {point.element.name: point.element for point in points}
    engine.prepare([s.name for s in engine.subnetworks], list(elements.values()), warm_up_runs=3)
    turns: list[list[Turn]] = [[] for _ in points]
    for index, turn in kept:
        turns[index].append(turn)
    random = np.random.default_rng(settings.seed)
    images = {s.name: random.integers(0, 256, (*s.input_size, 3), np.uint8) for s in engine.subnetworks}
    shares = [_share(of_one, point.clock, settings) for of_one, point in zip(turns, points)]
    while open_points := [index for index, share in enumerate(shares) if share < 1]:
        for index in random.permutation(open_points):
            point = points[index]
            with_energy = machine.sensor is not None and len(turns[index]) < ENERGY_TURNS
            turn = _take_turn(engine, point, images[point.subnetwork], settings, machine, with_energy)
            turns[index].append(turn)
            on_turn(int(index), turn)
            shares[index] = _share(turns[index], point.clock, settings)
        on_share(float(np.mean(shares)))
    return [summarise(of_one, point.clock) for of_one, point in zip(turns, points)]


def make_table(
    bundle: ModelBundle,
    points: Sequence[Planned],
    summaries: Sequence[Summary],
    settings: ProfileSettings,
    power_measured: bool = False,
    emulated: bool = False,
) -> OperatingPointTable:
    """The table of the points that are not marked.

    Args:
        power_measured: there was a sensor.
        emulated: the clock was, and its model gives the power.

    Raises:
        ValueError: all are.
    """
    rows = [
        _row(bundle, point, summary, settings, power_measured, emulated)
        for point, summary in zip(points, summaries)
        if not summary.mark
    ]
    if not rows:
        raise ValueError(
            f"no operating point could be measured: {points[0].subnetwork} on {points[0].element.name} "
            f"{summaries[0].mark}, and the others alike: cool the machine, or ask for lower --clocks"
        )
    return OperatingPointTable.from_points(rows, POWER_MEASURED if power_measured else PROVENANCE)


def _take_turn(
    engine: Engine,
    point: Planned,
    image: np.ndarray,
    settings: ProfileSettings,
    machine: ProfiledMachine,
    with_energy: bool,
) -> Turn:
    machine.set_clock(point.element, point.clock)
    engine.activate(point.subnetwork, point.element)
    engine.run(image)
    clock, temperature = machine.clock(point.element), machine.temperature()
    durations = tuple(_duration(engine, image, settings.pause) for _ in range(settings.runs_per_turn - 1))
    joules, seconds, energy_runs = math.nan, 0.0, 0
    if with_energy:  # by itself, since reading a sensor takes time from the inferences
        joules, seconds, energy_runs = machine.measure_energy(lambda: engine.run(image))
    return Turn(
        durations,
        (clock, machine.clock(point.element)),
        (temperature, machine.temperature()),
        joules,
        seconds,
        energy_runs,
    )


def _duration(engine: Engine, image: np.ndarray, pause: float) -> float:
    time.sleep(pause)
    started = time.perf_counter()
    engine.run(image)
    return time.perf_counter() - started


def _share(turns: Sequence[Turn], clock: float, settings: ProfileSettings) -> float:
    """How much of a point's work is done [0..1]: its interval becomes narrower with the root of the number of runs."""
    durations = [duration for turn in turns if not turn.drifted(clock) for duration in turn.durations]
    runs = len(durations)
    if gave_up(turns, clock) or runs >= settings.most_runs:
        return 1.0
    if runs < min(settings.least_runs, 3 * settings.runs_per_turn):  # too few to tell how many are needed
        return runs / settings.least_runs
    reached = precision(durations)
    if runs >= settings.least_runs and reached <= settings.precision:
        return 1.0
    needed = max(settings.least_runs, runs * (reached / settings.precision) ** 2)
    return min(0.99, runs / min(needed, settings.most_runs))


def _row(
    bundle: ModelBundle,
    point: Planned,
    summary: Summary,
    settings: ProfileSettings,
    power_measured: bool,
    emulated: bool,
) -> OperatingPoint:
    latency = float(np.median(summary.durations))
    power, energy = summary.power, summary.energy
    if not power_measured:
        threads = point.element.threads
        power = busy_power(point.clock, threads) if emulated else threads * settings.core_power
        energy = power * latency
    return OperatingPoint(
        point.subnetwork,
        point.element.name,
        cpu_frequency=point.clock,
        gpu_frequency=math.nan,
        latency=latency,
        latency_p95=float(np.quantile(summary.durations, 0.95)),
        latency_p99=float(np.quantile(summary.durations, 0.99)),
        power=power,
        energy=energy,
        accuracy=bundle.subnetwork(point.subnetwork).accuracy,
    )
