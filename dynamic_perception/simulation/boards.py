"""The boards that can be simulated: their operating points, and what is known or assumed of the machine around them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from dynamic_perception import extensions
from dynamic_perception.management.budgets import BatteryThreshold, ThermalZone
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.slow_downs import cluster_of, threads_of
from dynamic_perception.simulation.temperature import LumpedTemperature, OdroidXu3Temperature, Temperature, TripPoint

ZONE = "hottest"
SHIPPED = {
    "odroid_xu3": "odroid_xu3/group_cnn_cifar10",
    "jetson_xavier_nx": "jetson_xavier_nx/ofa_mobilenet_v3_imagenet",
}

# A battery that limits perception: half of the greatest power below 20 %, a quarter below 10 %.  A policy, nothing
# measured.
BATTERY_POLICY = (BatteryThreshold(0.2, max_power_fraction=0.5), BatteryThreshold(0.1, max_power_fraction=0.25))


# Linux's default gains, 0.87 W/K and up here, are for a board that takes minutes: with a core that settles 7.7 K/W
# within 2 s and a sensor that is read every second, they make the cap swing between nothing and everything.
XU3_GAINS = {"overshoot_gain": 0.12, "undershoot_gain": 0.12, "integral_gain": 0.05, "integral_cutoff": 10.0}


@dataclass(frozen=True, eq=False)
class Board:
    """A machine: its table, and what surrounds it.

    Attributes:
        table: operating points; provenance is the table's own.
        resting_power: [W] that the table's rails take while no inference runs.
        other_core_power: [W] that other work adds per busy core (GPU: for all of it).
        temperature: makes the temperature model, at rest.
        trips: where the kernel throttles, rising.
        zone: how a manager that minds the temperature keeps below that; None: it need not.
        battery_capacity: [J].
        sources: what the numbers of this description come from.
    """

    name: str
    table: OperatingPointTable
    resting_power: float
    other_core_power: float
    temperature: Callable[[], Temperature]
    trips: tuple[TripPoint, ...] = ()
    zone: ThermalZone | None = None
    battery_capacity: float = 20_000.0
    sources: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def clusters(self) -> tuple[str, ...]:
        """Each once, in the order of the table."""
        return tuple(dict.fromkeys(cluster_of(element) for element in self.table.elements))

    @cached_property
    def element_cluster(self) -> np.ndarray:
        """[elements] position of its cluster."""
        return np.array([self.clusters.index(cluster_of(element)) for element in self.table.elements])

    @cached_property
    def threads(self) -> np.ndarray:
        """[elements]."""
        return np.array([threads_of(element) for element in self.table.elements])

    @cached_property
    def cores(self) -> np.ndarray:
        """[clusters] the greatest thread count of its elements."""
        return np.array([self.threads[self.element_cluster == c].max() for c in range(len(self.clusters))])

    @cached_property
    def clock(self) -> np.ndarray:
        """[n] the clock [Hz] that a row sets: the GPU's where there is one; 0: none."""
        gpu, cpu = np.nan_to_num(self.table.gpu_frequency), np.nan_to_num(self.table.cpu_frequency)
        return np.where(gpu > 0, gpu, cpu)

    def ladder(self, row: int) -> np.ndarray:
        """The rows of the same subnetwork and element, the clock rising."""
        rows = self.table.matching(self.table.subnetwork[row], self.table.compute_element[row])
        return rows[np.argsort(self.clock[rows], kind="stable")]

    @cached_property
    def full_clock(self) -> np.ndarray:
        """Rows at the highest clock of their element."""
        return np.array(sorted({int(self.ladder(row)[-1]) for row in range(len(self.table))}))

    @cached_property
    def default_element(self) -> str:
        """The fastest one at full clock: where a network runs if nobody decides."""
        return self.table.compute_element[self.full_clock[np.argmin(self.table.latency[self.full_clock])]]

    @cached_property
    def throttled(self) -> list[list[int]]:
        """[n][steps] the row that runs instead when the cluster is so many clock steps below its highest."""
        found: dict[int, list[int]] = {}
        for cluster in range(len(self.clusters)):
            of_cluster = np.flatnonzero(self.element_cluster[self.table.element_index] == cluster)
            clocks = np.unique(self.clock[of_cluster])
            for row in of_cluster:
                ladder = self.ladder(row)
                found[int(row)] = [self._at_most(ladder, int(row), top) for top in clocks[::-1]]
        return [found[row] for row in range(len(self.table))]

    def _at_most(self, ladder: np.ndarray, row: int, top: float) -> int:
        if self.clock[row] <= top:
            return row
        slower = ladder[self.clock[ladder] <= top]
        return int(slower[-1] if len(slower) else ladder[0])


def odroid_xu3(table: OperatingPointTable) -> Board:
    """The modelled Odroid XU3; `table`: `config/profiles/odroid_xu3`."""
    return Board(
        "odroid_xu3",
        table,
        resting_power=OdroidXu3Temperature.RESTING,
        other_core_power=0.6,
        temperature=OdroidXu3Temperature,
        trips=(
            TripPoint(70.0, 10.0, {"a15": (0, 2), "a7": (0, 2)}),
            TripPoint(85.0, 10.0, {"a15": (3, 11), "a7": (3, 7)}),
        ),
        zone=ThermalZone(ZONE, sustainable_power=5.2, switch_on=76.0, control=82.0, critical=92.0, **XU3_GAINS),
        sources={
            "temperature": "predictor fitted on the board (PRiME project, 2017)",
            "trip points": "kernel's device tree: 70, 85 °C, hysteresis 10 K, every 250 ms",
            "other work": "assumed: 0.6 W per busy core, an A15 at 1.2 GHz in the modelled table",
            "sustainable power": "where the predictor settles at 82 °C",
            "battery": "assumed: 20 kJ",
        },
    )


def jetson_xavier_nx(table: OperatingPointTable) -> Board:
    """The modelled Jetson Xavier NX; `table`: `config/profiles/jetson_xavier_nx`."""
    return Board(
        "jetson_xavier_nx",
        table,
        resting_power=4.0,
        other_core_power=3.0,
        temperature=lambda: LumpedTemperature(27.0, 4.0, 40.0, 4.0),
        trips=(TripPoint(85.0, 3.0, {"gpu": (1, 8)}),),
        zone=ThermalZone(ZONE, sustainable_power=10.0, switch_on=76.0, control=82.0, critical=95.0),
        sources={
            "temperature": "assumed: 27 °C without power, 4 K/W, 40 s",
            "trip points": "assumed: throttled one clock step at a time from 85 °C, hysteresis 3 K",
            "other work": "assumed: a GPU that other work fills takes 3 W more",
            "resting power": "the modelled table's",
            "battery": "assumed: 20 kJ",
        },
    )


def measured_board(name: str, table: OperatingPointTable) -> Board:
    """Any machine that was profiled: the table is what is known, the rest is assumed and does not limit anything."""
    least = 0.0 if np.isnan(table.power).all() else 0.5 * float(np.nanmin(table.power))
    return Board(
        name,
        table,
        resting_power=least,
        other_core_power=0.0,
        temperature=lambda: LumpedTemperature(40.0, 1.0, 30.0, least),
        sources={
            "operating points": f"profile, latency {table.provenance['latency']}",
            "temperature": "assumed: 40 °C and 1 K/W, 30 s; nothing throttles",
            "resting power": "assumed: half of the table's least, or 0 where no power is known",
        },
    )


def find_board(name: str) -> Board:
    """A board by its name, of this package or of another, or the machine of a profile by the file's path.

    Raises:
        ValueError: there is neither; says what there is.
    """
    from dynamic_perception.profiling.table_choice import find_shipped  # reads YAML, which only this needs
    from dynamic_perception.profiling.table_file import read_table

    makers = {"odroid_xu3": odroid_xu3, "jetson_xavier_nx": jetson_xavier_nx}
    if name in makers:
        return makers[name](read_table(find_shipped(SHIPPED[name])).table)
    added = extensions.find_extension(extensions.BOARDS, name)
    if added is not None:
        return added()
    path = Path(name).expanduser()
    if not path.is_file():
        known = extensions.with_extensions(extensions.BOARDS, makers)
        raise ValueError(f"no platform '{name}': expected one of {', '.join(known)}, or the file of a profile")
    return measured_board(path.stem, read_table(path).table)


def knows_energy(board: Board) -> bool:
    """Whether every operating point has an energy."""
    return not math.isnan(float(board.table.energy.sum()))
