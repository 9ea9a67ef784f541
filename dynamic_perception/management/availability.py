"""Which operating points may be chosen at all: not rejected lately, and the clock not throttled."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from dynamic_perception.management.machine import Machine
from dynamic_perception.management.operating_points import FREQUENCY_TOLERANCE, OperatingPointTable
from dynamic_perception.management.slow_downs import cluster_of


class Availability:
    """Of the rows of one table on one machine."""

    def __init__(self, table: OperatingPointTable, machine: Machine):
        self._table, self._machine = table, machine
        self._all = np.ones(len(table), dtype=bool)
        self._rejections: dict[int, float] = {}  # row -> until when [s]

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
        ceiling = self._machine.ceilings.get(cluster)
        if available or ceiling is None or not point.cpu_frequency > ceiling[0]:
            return f"{point} {'is available again' if available else 'was rejected'}"
        return f"{cluster} clock throttled to {ceiling[0] / 1e6:.0f} MHz ({point.cpu_frequency / 1e6:.0f} MHz asked)"

    def _throttled(self) -> np.ndarray:
        """[n] bool: asks for a clock that its cluster did not reach when it was last asked for that much."""
        ceilings = [self._machine.ceilings.get(cluster_of(element), (math.inf,))[0] for element in self._table.elements]
        most = np.array(ceilings)[self._table.element_index] * (1.0 + FREQUENCY_TOLERANCE)
        return self._table.cpu_frequency > most
