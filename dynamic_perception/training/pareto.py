"""Measured subnetworks against each other: which of them are worth having, and which a user's limits allow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig


@dataclass(frozen=True)
class Point:
    """A subnetwork with what was measured.

    Attributes:
        config: the subnetwork.
        latency: [s], median.
        accuracy: on held-out images by the task's metric, [0..1].
    """

    config: SubnetConfig
    latency: float
    accuracy: float


@dataclass(frozen=True)
class Limits:
    """What a subnetwork must keep to.

    Attributes:
        max_latency: [s], positive.
        min_accuracy: [0..1].
    """

    max_latency: float = math.inf
    min_accuracy: float = 0.0

    def __post_init__(self) -> None:
        if not self.max_latency > 0:
            raise ValueError(f"max_latency is {self.max_latency}: expected a positive number of seconds")
        if not 0 <= self.min_accuracy <= 1:
            raise ValueError(f"min_accuracy is {self.min_accuracy}: expected 0 to 1")

    def excess(self, point: Point) -> tuple[float, float]:
        """By how much the point breaks the limits, 0 if it keeps them: logarithm of the latency's ratio, accuracy."""
        return math.log(max(1.0, point.latency / self.max_latency)), max(0.0, self.min_accuracy - point.accuracy)

    def admit(self, point: Point) -> bool:
        """Whether the point keeps to them."""
        return self.excess(point) == (0.0, 0.0)

    def __str__(self) -> str:
        parts = [f"takes at most {1e3 * self.max_latency:g} ms"] if self.max_latency < math.inf else []
        parts += [f"has an accuracy of at least {self.min_accuracy:g}"] if self.min_accuracy > 0 else []
        return " and ".join(parts)


class InfeasibleError(ValueError):
    """No subnetwork keeps to the limits; the message lists the closest ones."""

    def __init__(self, space: SearchSpace, limits: Limits, points: Sequence[Point]):
        self.points = closest(points, limits)
        found = "; ".join(
            f"{describe(space, p.config)} with {1e3 * p.latency:.3g} ms and an accuracy of {p.accuracy:.4f}"
            for p in self.points
        )
        super().__init__(f"no subnetwork {limits}: the closest of {len(points)} measured ones are {found}")


def describe(space: SearchSpace, config: SubnetConfig) -> str:
    """A subnetwork in a few words."""
    height, width = space.input_size(config)
    return f"{space.macs(config) / 1e6:.3g} MMACs at {width}x{height} pixels"


def front(points: Iterable[Point]) -> list[Point]:
    """Those than which no other is both as fast and as accurate: strictly rising in latency and in accuracy."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency, -p.accuracy)):
        if not kept or point.accuracy > kept[-1].accuracy:
            kept.append(point)
    return kept


def closest(points: Iterable[Point], limits: Limits) -> list[Point]:
    """Those than which no other breaks both limits by less, from the one that is nearest to the latency."""
    kept: list[Point] = []
    for point in sorted(points, key=lambda p: (*limits.excess(p), p.latency, -p.accuracy)):
        if not kept or limits.excess(point)[1] < limits.excess(kept[-1])[1]:
            kept.append(point)
    return kept


def spread(values: Sequence[float], count: int) -> list[int]:
    """Rising positions of up to `count` of the rising `values`, as evenly apart as there are some.

    The first and the last are always among them; the last is the one of a `count` of 1.
    """
    count = min(count, len(values))
    if count == 1:
        return [len(values) - 1]
    chosen: list[int] = []
    for taken, wanted in enumerate(np.linspace(values[0], values[-1], count)):
        first = chosen[-1] + 1 if chosen else 0
        left = count - 1 - taken  # to be chosen after this one
        chosen.append(min(range(first, len(values) - left), key=lambda i: abs(values[i] - wanted)))
    return chosen


def spread_points(points: Sequence[Point], count: int) -> list[Point]:
    """Up to `count` points of a front at even ratios of their latencies, as in `spread`."""
    return [points[i] for i in spread([math.log(p.latency) for p in points], count)]
