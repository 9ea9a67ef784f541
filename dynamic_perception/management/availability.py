"""Which operating points may be chosen at all: not rejected lately, and the clock not throttled."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dynamic_perception.management.machine import ClockOf, Machine
from dynamic_perception.management.operating_points import FREQUENCY_TOLERANCE, OperatingPointTable
from dynamic_perception.management.slow_downs import cluster_of


class Availability:
    """Of the rows of one table on one machine.

    Attributes:
        stuck: clusters of which every row asks for more than a throttled clock gives: none is left out for that.
    """

    def __init__(self, table: OperatingPointTable, machine: Machine):
        self._table, self._machine = table, machine
        self._all = np.ones(len(table), dtype=bool)
        self._rejections: dict[int, float] = {}  # row -> until when [s]
        self.stuck: frozenset[str] = frozenset()
        self._clusters = np.array([cluster_of(element) for element in table.elements])[table.element_index]  # by row

    def reject(self, row: int, until: float) -> None:
        """Leave a row out until then [s]."""
        self._rejections[row] = until

    @property
    def rejected(self) -> Mapping[int, float]:
        """Row -> until when [s], of those that were left out when :meth:`rows` was last asked."""
        return self._rejections

    def rows(self, now: float) -> np.ndarray:
        """[n] bool, never empty: may be chosen at this time."""
        if self._rejections:
            for row in [row for row, until in self._rejections.items() if now >= until]:
                del self._rejections[row]
        if self._machine.ceilings:
            self._machine.end_ceilings(now)
        self.stuck = frozenset()
        if not self._rejections and not self._machine.ceilings:
            return self._all
        accepted = self._all.copy()
        accepted[list(self._rejections)] = False
        if not accepted.any():
            accepted[:] = True
        available = accepted & ~self._throttled()
        return available if available.any() else accepted

    def explain(self, row: int, available: bool) -> str:
        """Why a row has come or gone."""
        point = self._table[row]
        cluster = cluster_of(point.compute_element)
        for clock, asked in (("gpu", point.gpu_frequency), ("cpu", point.cpu_frequency)):
            which = ClockOf(cluster, clock)
            hertz = self._machine.ceilings.get(which, (math.inf,))[0]
            if not available and asked > hertz:
                return f"{which} clock throttled to {hertz / 1e6:.0f} MHz ({asked / 1e6:.0f} MHz asked)"
        return f"{point} {'is available again' if available else 'was rejected'}"

    def _throttled(self) -> np.ndarray:
        """[n] bool: asks for a clock that its cluster did not reach when it was last asked for that much."""
        throttled = np.zeros(len(self._table), dtype=bool)
        for (cluster, clock), (hertz, _) in self._machine.ceilings.items():
            asked = self._table.gpu_frequency if clock == "gpu" else self._table.cpu_frequency
            throttled |= (self._clusters == cluster) & (asked > hertz * (1.0 + FREQUENCY_TOLERANCE))
        for cluster in {cluster for cluster, _ in self._machine.ceilings}:
            rows = self._clusters == cluster
            if rows.any() and throttled[rows].all():
                throttled[rows] = False
                self.stuck |= {cluster}
        return throttled
