"""A modelled Odroid XU3 (Samsung Exynos 5422: four Cortex-A15, four Cortex-A7): operating points without the board.

Clocks, supply voltages, and the power and temperature of the A15 cluster come from a log of this board: 70 operating
points of 2.5 s and longer, work on the A15 cluster, every rail measured (PRiME project, 2017).  The rest is assumed,
and every assumption is a constant below.  With one thread the shipped classifier spans 10.6x in energy and 74x in time;
10.6x and 41.6x are published, of the authors' network on this board and a Jetson Nano (MLCAD 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable

if TYPE_CHECKING:  # the simulation takes this board without the packages that reading a bundle needs
    from dynamic_perception.networks.bundle import Subnetwork

PLATFORM = {"architecture": "armv7l", "cpu_model": "Hardkernel Odroid XU3", "cpu_count": 8}
PROVENANCE = {"latency": "modelled", "power": "modelled", "energy": "modelled", "accuracy": "measured"}
STEP = 100_000_000  # [Hz] between clocks, of both clusters

# Measured.
A15_VOLTAGE = (
    *[0.91375] * 7,
    0.92125,
    0.95,
    0.975,
    1.0,
    1.025,
    1.0375,
    1.05875,
    1.09375,
    1.13125,
    1.17,
    1.22125,
    1.2975,
)  # [V] at 200, 300, ... 2000 MHz
A7_VOLTAGE = (
    *[0.91375] * 4,
    0.925,
    0.9625,
    1.0,
    1.0375,
    1.0725,
    1.10875,
    1.15,
    1.19875,
    1.2475,
)  # [V] at 200, 300, ... 1400 MHz
A15_CAPACITANCE = 1.85e-9  # [W / (Hz V^2)] of four busy cores; within 9 % of the log
A7_LOGGING = 0.137e-9  # [W / (Hz V^2)] of the A7 rail, while these cores only logged; within 21 % of the log
OTHER_RAILS = 0.12  # [W] memory and graphics, the median over the clocks that do not heat the chip
A7_RESTING = 0.028  # [W] the A7 rail at 200 MHz
RESTING_TEMPERATURE, THERMAL_RESISTANCE = 45.5, 7.0  # [°C], [K/W]: hottest core over the power of all rails
PASSIVE_TRIP = 85.0  # [°C] of the second trip point, from which the kernel takes 3 to 11 steps from the A15
THROTTLED_AS = 1_800_000_000  # [Hz] a throttled 2 GHz does 3.15 to 3.3 of the log's units of work, this does 3.18

# Assumed.
CORES = 4
SHARED = 1.0  # cores' worth of power that a cluster takes besides its busy cores: second-level cache, buses
A7_LOGGING_CORES = 1.0  # the logging kept one core busy
A15_RATE = 0.30  # [MAC/cycle] of one core, so that the talk's budgets (100 mJ, 400 ms and 200 mJ, 200 ms) part
A7_RATE = 0.163  # [MAC/cycle] in proportion to the Dhrystone MIPS/MHz that Arm gives, 1.9 against 3.5
PARALLEL_GAIN = 0.75  # of one core's speed, that every further thread adds
DIGITS = 6  # that are written, so that the last bit of a machine's arithmetic does not show

ASSUMPTIONS = {
    "single_core_power": "n busy cores take (n + 1) / 5 of the power of four: what they share counts as one more",
    "a7_power": "the A7 rail of the log is that of one busy core; the other cluster rests: A15 off, A7 at 200 MHz",
    "work": f"MACs over {A15_RATE} (A15) or {A7_RATE} (A7) MAC per cycle and core, {PARALLEL_GAIN} of a core's "
    "speed more for every further thread, in proportion to the clock, the same for every subnetwork",
    "throttling": f"where {RESTING_TEMPERATURE} °C + {THERMAL_RESISTANCE} K/W would pass {PASSIVE_TRIP} °C, an A15 is "
    f"as slow as at {THROTTLED_AS / 1e6:.0f} MHz, at the power of its clock, as measured at 2000 MHz",
    "power": "of all rails while an inference runs",
}


@dataclass(frozen=True)
class Cluster:
    """Four cores with one clock.

    Attributes:
        name: of its compute elements, before the colon.
        voltages: [V] at 200 MHz and every 100 MHz from there.
        capacitance: [W / (Hz V^2)] of four busy cores and what they share.
        rate: [MAC/cycle] of one core.
        others: [W] that the rest of the chip takes meanwhile.
    """

    name: str
    voltages: tuple[float, ...]
    capacitance: float
    rate: float
    others: float

    @property
    def clocks(self) -> tuple[int, ...]:
        """[Hz] rising."""
        return tuple(2 * STEP + STEP * index for index in range(len(self.voltages)))

    def power(self, clock: int, threads: int) -> float:
        """[W] of all rails with this many busy cores."""
        voltage = self.voltages[self.clocks.index(clock)]
        share = (threads + SHARED) / (CORES + SHARED)
        return self.others + self.capacitance * clock * voltage**2 * share

    def throttles(self, clock: int, threads: int) -> bool:
        """Whether heat slows this down when it goes on for long."""
        return RESTING_TEMPERATURE + THERMAL_RESISTANCE * self.power(clock, threads) > PASSIVE_TRIP

    def latency(self, macs: int, clock: int, threads: int) -> float:
        """[s] of an inference of so many multiply-accumulates, once the temperature has settled."""
        speed = self.rate * (1 + PARALLEL_GAIN * (threads - 1))
        return macs / (speed * (min(clock, THROTTLED_AS) if self.throttles(clock, threads) else clock))


A15 = Cluster("a15", A15_VOLTAGE, A15_CAPACITANCE, A15_RATE, OTHER_RAILS + A7_RESTING)
A7 = Cluster("a7", A7_VOLTAGE, A7_LOGGING * (CORES + SHARED) / (A7_LOGGING_CORES + SHARED), A7_RATE, OTHER_RAILS)


def modelled_table(subnetworks: Sequence[Subnetwork]) -> OperatingPointTable:
    """Every subnetwork on every thread count of both clusters at every clock."""
    points = [
        _point(subnetwork, cluster, clock, threads)
        for cluster in (A15, A7)
        for threads in range(1, CORES + 1)
        for subnetwork in subnetworks
        for clock in cluster.clocks
    ]
    return OperatingPointTable.from_points(points, PROVENANCE)


def _point(subnetwork: Subnetwork, cluster: Cluster, clock: int, threads: int) -> OperatingPoint:
    latency, power = cluster.latency(subnetwork.macs, clock, threads), cluster.power(clock, threads)
    latency, power, energy = (float(f"{value:.{DIGITS}g}") for value in (latency, power, latency * power))
    return OperatingPoint(
        subnetwork.name,
        f"{cluster.name}:{threads}",
        float(clock),
        math.nan,
        latency,
        math.nan,
        math.nan,
        power,
        energy,
        subnetwork.accuracy,
    )
