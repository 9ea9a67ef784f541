"""Searching a supernet for the subnetworks that are Pareto-optimal in measured latency and held-out accuracy."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig
from dynamic_perception.training.pareto import InfeasibleError, Limits, Point

RUNGS = 5  # subnetworks from the smallest to the largest that tell early whether the limits can be kept


def search(
    space: SearchSpace, measure: Callable[[SubnetConfig], Point], limits: Limits, evaluations: int, seed: int
) -> list[Point]:
    """Measure subnetworks: all, if there are no more than `evaluations`, else those that evolution arrives at.

    The same arguments and measurements give the same points in the same order.

    Args:
        space: of the subnetworks.
        measure: one subnetwork; called once for each.
        limits: subnetworks that keep to them are looked for first.
        evaluations: subnetworks to measure at the most, at least `RUNGS`.
        seed: of everything that is random.

    Raises:
        InfeasibleError: no subnetwork keeps to the limits; as soon as that is known.
    """
    points: dict[SubnetConfig, Point] = {}

    def visit(config: SubnetConfig) -> Point:
        if config not in points:
            points[config] = measure(config)
        return points[config]

    def check(possible: bool) -> None:
        if not possible:
            raise InfeasibleError(space, limits, list(points.values()))

    smallest, largest = visit(space.smallest()), visit(space.largest())
    check(smallest.latency <= limits.max_latency)
    if largest.accuracy < limits.min_accuracy:  # on few images a smaller one may happen to be a little better
        check(any(visit(config).accuracy >= limits.min_accuracy for config in space.ladder(RUNGS)))
    genes = space.genes()
    if math.prod(map(len, genes)) <= evaluations:
        for config in map(space.from_genes, itertools.product(*genes)):
            visit(config)
    else:
        from dynamic_perception.training.evolution import Evolution  # pymoo takes seconds to import

        evolution = Evolution(space, limits, seed)
        while len(points) < evaluations and (configs := evolution.ask()):
            evolution.tell([visit(config) for config in configs[: evaluations - len(points)]])
    check(any(map(limits.admit, points.values())))
    return list(points.values())
