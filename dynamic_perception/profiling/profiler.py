"""Measuring operating points: how long every subnetwork takes on every compute element of this machine.

The points are measured in turn, a few inferences each, over and over, so that a disturbance of the machine falls on
all of them, until the median of every point is known well enough.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Callable, Sequence

import numpy as np

from dynamic_perception.engines.engine import Engine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle

PROVENANCE = {"latency": "measured", "power": "modelled", "energy": "modelled", "accuracy": "measured"}
Z_95 = 1.959963984540054  # two-sided 95 % of the standard normal distribution


@dataclass(frozen=True)
class ProfileSettings:
    """How to measure.

    Attributes:
        runs_per_turn: inferences of one point before the next has its turn; the first is not counted.
        least_runs, most_runs: counted inferences per point.
        precision: half-width of the 95 % confidence interval of the median, relative to it, to reach.
        core_power: [W] assumed for one busy CPU core above idle; this version has no power sensor, so power and energy
            are modelled: threads x core_power, times the latency.
        seed: of the random order of the points in a turn.
    """

    runs_per_turn: int = 10
    least_runs: int = 100
    most_runs: int = 600
    precision: float = 0.02
    core_power: float = 3.0
    seed: int = 1


def profile(
    bundle: ModelBundle,
    engine: Engine,
    elements: Sequence[ComputeElement],
    settings: ProfileSettings,
    on_turn: Callable[[float], None],
) -> OperatingPointTable:
    """Measure every subnetwork on every element with the machine's clocks left alone.

    Args:
        on_turn: called after every turn with the share [0..1] of the work that is done for sure.
    """
    engine.prepare([s.name for s in engine.subnetworks], elements, warm_up_runs=3)
    points = [(subnetwork, element) for element in elements for subnetwork in engine.subnetworks]
    durations: list[list[float]] = [[] for _ in points]
    random = np.random.default_rng(settings.seed)
    images = {s.name: random.integers(0, 256, (*s.input_size, 3), np.uint8) for s in engine.subnetworks}
    open_points = list(range(len(points)))
    while open_points:
        for index in random.permutation(open_points):
            subnetwork, element = points[index]
            image = images[subnetwork.name]
            engine.activate(subnetwork.name, element)
            engine.run(image)
            durations[index] += [_duration(engine, image) for _ in range(settings.runs_per_turn - 1)]
        open_points = [
            i
            for i in open_points
            if len(durations[i]) < settings.most_runs
            and (len(durations[i]) < settings.least_runs or median_precision(durations[i]) > settings.precision)
        ]
        on_turn(1 - len(open_points) / len(points))
    rows = [
        _point(bundle, subnetwork.name, element, np.array(measured), settings)
        for (subnetwork, element), measured in zip(points, durations)
    ]
    return OperatingPointTable.from_points(rows, PROVENANCE)


def median_precision(durations: Sequence[float]) -> float:
    """Half-width of the 95 % confidence interval of the median, relative to it.

    The interval's ends are order statistics, at n/2 -+ z sqrt(n)/2 (binomial distribution), whatever the distribution
    of the durations.
    """
    ordered = np.sort(durations)
    n = len(ordered)
    reach = Z_95 * math.sqrt(n) / 2
    low, high = max(0, math.floor(n / 2 - reach)), min(n - 1, math.ceil(n / 2 + reach))
    return float((ordered[high] - ordered[low]) / 2 / np.median(ordered))


def _duration(engine: Engine, image: np.ndarray) -> float:
    started = time.perf_counter()
    engine.run(image)
    return time.perf_counter() - started


def _point(
    bundle: ModelBundle, subnetwork: str, element: ComputeElement, durations: np.ndarray, settings: ProfileSettings
) -> OperatingPoint:
    latency = float(np.median(durations))
    power = element.threads * settings.core_power
    return OperatingPoint(
        subnetwork,
        element.name,
        cpu_frequency=0.0,
        gpu_frequency=math.nan,
        latency=latency,
        latency_p95=float(np.quantile(durations, 0.95)),
        latency_p99=float(np.quantile(durations, 0.99)),
        power=power,
        energy=power * latency,
        accuracy=bundle.subnetwork(subnetwork).accuracy,
    )
