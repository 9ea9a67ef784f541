"""A modelled Jetson Xavier NX: six published subnetworks of Dynamic-OFA on its GPU, at the GPU's clocks.

Accuracies, and latencies at one clock, are those that the authors published (Lou, Xun et al., "Dynamic-OFA: runtime DNN
architecture switching for performance scaling on heterogeneous embedded platforms", CVPR workshops 2021: six GPU
subnetworks of the once-for-all MobileNetV3 of width 1.2 on ImageNet, one image at a time).  They published neither the
clock nor power: these are assumed, and every assumption is a constant below.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable

MODEL, WEIGHTS = "ofa_mobilenet_v3_imagenet", "the authors' weights, of which no hash was published"
PLATFORM = {"architecture": "aarch64", "cpu_model": "NVIDIA Jetson Xavier NX Developer Kit", "cpu_count": 6}
PROVENANCE = {"latency": "modelled", "power": "modelled", "energy": "modelled", "accuracy": "published"}
ELEMENT = "gpu:1"  # as discovery calls the only GPU


class Published(NamedTuple):
    """One subnetwork: side of its input [pixel], blocks of its stages, top-1 [%], latency [ms], work [10^6 MACs]."""

    resolution: int
    depths: tuple[int, ...]
    top1: float
    latency: float
    macs: float

    @property
    def name(self) -> str:
        """Its work, as the shipped once-for-all networks name their subnetworks."""
        return f"{self.macs:.3g}M"


PUBLISHED = (
    Published(176, (3, 2, 3, 2, 2), 74.202, 41.159, 235.467),
    Published(176, (3, 2, 3, 3, 2), 74.968, 45.421, 254.004),
    Published(192, (3, 3, 3, 3, 3), 76.134, 49.436, 288.759),
    Published(208, (2, 3, 3, 3, 4), 77.540, 51.079, 375.541),
    Published(224, (2, 4, 4, 4, 3), 78.346, 56.747, 522.104),
    Published(224, (4, 4, 4, 4, 4), 79.030, 61.735, 731.124),
)

# Assumed.
CLOCKS = (204.0, 306.0, 408.0, 510.0, 599.25, 701.25, 803.25, 905.25, 1007.25, 1109.25)  # [MHz]; measured at the last
FIXED_SHARE = 0.4  # of the latency at the highest clock, that no clock shortens: starting kernels, memory
RESTING_POWER = 4.0  # [W] of the whole board
GPU_POWER = 6.0  # [W] more with the largest subnetwork at the highest clock: together the board's 10 W mode
IDLE_SHARE = 0.5  # of the GPU's power, that its clock takes without any work
VOLTAGE = (0.6, 0.9)  # [V] at the lowest and at the highest clock, linear between
DIGITS = 6  # that are written

ASSUMPTIONS = {
    "latency": f"as published at {CLOCKS[-1]} MHz, the highest clock (the authors do not tell theirs); at others "
    f"{FIXED_SHARE} of it stays and the rest grows as the clock falls",
    "power": f"of the board: {RESTING_POWER} W, and up to {GPU_POWER} W in proportion to f V^2 and to {IDLE_SHARE} + "
    f"{1 - IDLE_SHARE} x MACs per second over those of the largest subnetwork; {VOLTAGE[0]} to {VOLTAGE[1]} V",
}


def latency(subnetwork: Published, clock: float) -> float:
    """[s] of an inference at a clock [MHz]."""
    return 1e-3 * subnetwork.latency * (FIXED_SHARE + (1 - FIXED_SHARE) * CLOCKS[-1] / clock)


def power(subnetwork: Published, clock: float) -> float:
    """[W] of the board during an inference at a clock [MHz]: more work in the same time takes more."""
    low, high = VOLTAGE
    voltage = low + (high - low) * (clock - CLOCKS[0]) / (CLOCKS[-1] - CLOCKS[0])
    largest = PUBLISHED[-1]
    rate = subnetwork.macs / latency(subnetwork, clock) / (largest.macs / latency(largest, clock))
    activity = IDLE_SHARE + (1 - IDLE_SHARE) * rate
    return RESTING_POWER + GPU_POWER * clock / CLOCKS[-1] * (voltage / high) ** 2 * activity


def modelled_table() -> OperatingPointTable:
    """Every published subnetwork at every clock."""
    return OperatingPointTable.from_points([_point(s, clock) for s in PUBLISHED for clock in CLOCKS], PROVENANCE)


def _point(subnetwork: Published, clock: float) -> OperatingPoint:
    seconds, watts = latency(subnetwork, clock), power(subnetwork, clock)
    seconds, watts, joules = (float(f"{value:.{DIGITS}g}") for value in (seconds, watts, seconds * watts))
    return OperatingPoint(
        subnetwork.name,
        ELEMENT,
        math.nan,
        1e6 * clock,
        seconds,
        math.nan,
        math.nan,
        watts,
        joules,
        subnetwork.top1 / 100,
    )
