"""Operating-point tables for tests: 25 to 100 % of one network on one or two threads, modelled on a small board."""

from __future__ import annotations

import math
from collections.abc import Sequence

from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable

PROVENANCE = {"latency": "modelled", "power": "modelled", "energy": "modelled", "accuracy": "modelled"}
SUBNETWORKS = (("25%", 2e-3, 0.78), ("50%", 4e-3, 0.81), ("75%", 7e-3, 0.835), ("100%", 11e-3, 0.85))
ELEMENTS = (("cpu:1", 2.0, 1.5), ("cpu:2", 1.0, 2.5))  # name, latency factor, power [W]


def point(
    subnetwork: str = "25%",
    compute_element: str = "cpu:2",
    latency: float = 2e-3,
    power: float = 2.5,
    accuracy: float = 0.78,
    cpu_frequency: float = math.nan,
    gpu_frequency: float = math.nan,
    latency_p95: float = math.nan,
) -> OperatingPoint:
    """A point whose energy is its power times its latency."""
    return OperatingPoint(
        subnetwork,
        compute_element,
        cpu_frequency,
        gpu_frequency,
        latency,
        latency_p95,
        math.nan,
        power,
        power * latency,
        accuracy,
    )


def table(points: Sequence[OperatingPoint]) -> OperatingPointTable:
    """A table of modelled points."""
    return OperatingPointTable.from_points(points, PROVENANCE)


def board() -> OperatingPointTable:
    """Eight points: rows 0 to 3 are 25 to 100 % on cpu:1 (1.5 W), rows 4 to 7 on cpu:2 (2.5 W, twice as fast)."""
    return table(
        [
            point(subnetwork, element, latency * factor, power, accuracy)
            for element, factor, power in ELEMENTS
            for subnetwork, latency, accuracy in SUBNETWORKS
        ]
    )
