"""The operating-point table: every way to run one network on one machine, as columns.

A decision compares all operating points at once, so the table is stored by column (numpy arrays of length n) and only
the chosen row is ever turned into an :class:`OperatingPoint`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType

import numpy as np

from dynamic_perception.management import plausible

PROVENANCES = ("measured", "modelled", "published")
TEXT_COLUMNS = ("subnetwork", "compute_element")
UNITS: Mapping[str, str] = MappingProxyType(
    {
        "cpu_frequency": "Hz",
        "gpu_frequency": "Hz",
        "latency": "s",
        "latency_p95": "s",
        "latency_p99": "s",
        "power": "W",
        "energy": "J",
        "accuracy": "0..1",
    }
)
COLUMNS = (*TEXT_COLUMNS, *UNITS)
PLAUSIBLE: Mapping[str, plausible.Range] = MappingProxyType(
    {
        "latency": plausible.INFERENCE,
        "latency_p95": plausible.INFERENCE,
        "latency_p99": plausible.INFERENCE,
        "power": plausible.POWER,
        "energy": plausible.ENERGY,
    }
)
PROVENANCE_REQUIRED = ("latency", "power", "energy", "accuracy")
FREQUENCY_TOLERANCE = 1e-3  # kernels list clocks rounded to kHz or MHz: nearer than this is the same clock
_NO_ROWS = np.empty(0, dtype=np.intp)
Z_95 = 1.6448536269514722  # 95 % quantile of the standard normal distribution


class OperatingPointError(ValueError):
    """One wrong value of a table: `column`, `row` (0-based), and `reason` in words."""

    def __init__(self, column: str, row: int, reason: str):
        super().__init__(f"operating points: {column}, row {row}: {reason}")
        self.column = column
        self.row = row
        self.reason = reason


@dataclass(frozen=True)
class OperatingPoint:
    """One row of the table.  NaN: not set (clocks) or not known (the rest); a clock of 0 Hz is left to its governor."""

    subnetwork: str
    compute_element: str
    cpu_frequency: float  # [Hz]
    gpu_frequency: float  # [Hz]
    latency: float  # [s] median of one inference, without the work around it
    latency_p95: float  # [s]
    latency_p99: float  # [s]
    power: float  # [W] while an inference runs
    energy: float  # [J] of one inference
    accuracy: float  # [0..1]

    def __str__(self) -> str:
        clocks = [
            f"{kind} {frequency / 1e6:.0f} MHz"
            for kind, frequency in (("cpu", self.cpu_frequency), ("gpu", self.gpu_frequency))
            if frequency > 0
        ]
        return f"{self.subnetwork} on {self.compute_element}" + (f" at {', '.join(clocks)}" if clocks else "")


@dataclass(frozen=True, eq=False)
class OperatingPointTable:
    """n >= 1 operating points as columns; the units are those of :class:`OperatingPoint`.

    Latencies are positive and p95, p99 (NaN: not known) not below the median; accuracy is within 0..1; power and energy
    are positive or NaN; clocks are >= 0 or NaN; all are within PLAUSIBLE.  `provenance` says of every column with
    numbers in it whether they are measured, modelled or published; the percentiles share latency's unless named.

    Raises OperatingPointError, a ValueError, naming column, row and value.
    """

    subnetwork: tuple[str, ...]
    compute_element: tuple[str, ...]
    cpu_frequency: np.ndarray
    gpu_frequency: np.ndarray
    latency: np.ndarray
    latency_p95: np.ndarray
    latency_p99: np.ndarray
    power: np.ndarray
    energy: np.ndarray
    accuracy: np.ndarray
    provenance: Mapping[str, str]

    def __post_init__(self):
        for name in TEXT_COLUMNS:
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in UNITS:
            column = np.array(getattr(self, name), dtype=np.float64)  # a copy: the caller's array stays writable
            column.setflags(write=False)
            object.__setattr__(self, name, column)
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        self._check_lengths()
        self._check_values()
        self._check_provenance()

    @classmethod
    def from_points(cls, points: Sequence[OperatingPoint], provenance: Mapping[str, str]) -> OperatingPointTable:
        """The table whose rows are `points`, in their order."""
        columns = {field.name: [getattr(point, field.name) for point in points] for field in fields(OperatingPoint)}
        return cls(**columns, provenance=provenance)

    def __len__(self) -> int:
        return len(self.subnetwork)

    def __getitem__(self, index: int) -> OperatingPoint:
        """Row `index`; IndexError outside the table."""
        texts = {name: getattr(self, name)[index] for name in TEXT_COLUMNS}
        return OperatingPoint(**texts, **{name: float(getattr(self, name)[index]) for name in UNITS})

    @cached_property
    def elements(self) -> tuple[str, ...]:
        """The compute elements of the table, each once, in the order of their first row."""
        return tuple(dict.fromkeys(self.compute_element))

    @cached_property
    def element_index(self) -> np.ndarray:
        """[n] position in `elements` of every row's compute element."""
        position = {element: index for index, element in enumerate(self.elements)}
        return np.array([position[element] for element in self.compute_element], dtype=np.intp)

    @cached_property
    def spread(self) -> np.ndarray:
        """[n] standard deviation of the profiled latency over its median, from the p95; 0 where there is no p95."""
        return np.nan_to_num((self.latency_p95 / self.latency - 1.0) / Z_95, nan=0.0)

    @cached_property
    def _rows(self) -> dict[tuple[str, str], np.ndarray]:
        """(subnetwork, compute element) -> indices of its rows."""
        rows: dict[tuple[str, str], list[int]] = {}
        for row, pair in enumerate(zip(self.subnetwork, self.compute_element)):
            rows.setdefault(pair, []).append(row)
        return {pair: np.array(indices, dtype=np.intp) for pair, indices in rows.items()}

    def has(self, subnetwork: str, compute_element: str) -> bool:
        """Whether there is a row of this subnetwork on this element."""
        return (subnetwork, compute_element) in self._rows

    def matching(
        self, subnetwork: str, compute_element: str, cpu_frequency: float = np.nan, gpu_frequency: float = np.nan
    ) -> np.ndarray:
        """Indices of the rows that these values can mean, best match first.

        A clock of NaN matches every row.  A given clock matches rows with this clock, and after them rows that leave
        the clock alone (0 or NaN): under a governor it reads back as anything.
        """
        rows = self._rows.get((subnetwork, compute_element), _NO_ROWS)
        exact = np.zeros(len(rows), dtype=int)
        possible = np.ones(len(rows), dtype=bool)
        for column, wanted in ((self.cpu_frequency, cpu_frequency), (self.gpu_frequency, gpu_frequency)):
            if not math.isnan(wanted):
                clocks = column[rows]
                same = np.isclose(clocks, wanted, rtol=FREQUENCY_TOLERANCE, atol=0.0)
                possible &= same | np.isnan(clocks) | (clocks == 0)
                exact += same
        rows, exact = rows[possible], exact[possible]
        return rows[np.argsort(-exact, kind="stable")] if exact.any() else rows

    def latency_at(
        self,
        subnetwork: str,
        compute_element: str,
        cpu_frequency: float = np.nan,
        gpu_frequency: float = np.nan,
        running: int | None = None,
    ) -> float:
        """Profiled latency [s] at these actual clocks [Hz]; NaN: there is no such subnetwork on this element.

        That of row `running` where the clocks can mean it, else that of another row with these clocks, else between the
        rows with the next clocks: linear in the clock's period, as work of a fixed number of cycles beside memory
        accesses of fixed time is; beyond the rows, along the last two, or in proportion to the period if there is one.
        """
        if running is not None and self._can_mean(running, subnetwork, compute_element, cpu_frequency, gpu_frequency):
            return self.latency.item(running)
        rows = self._rows.get((subnetwork, compute_element), _NO_ROWS)
        if math.isnan(cpu_frequency) and math.isnan(gpu_frequency):
            return self._latency_of(rows, running)
        matching = self.matching(subnetwork, compute_element, cpu_frequency, gpu_frequency)
        if running is None and len(matching):
            return self._latency_of(matching, running)
        for column, actual in ((self.gpu_frequency, gpu_frequency), (self.cpu_frequency, cpu_frequency)):
            clocked = rows[column[rows] > 0]
            if actual > 0 and len(clocked):
                return _along_period(1.0 / column[clocked], self.latency[clocked], 1.0 / actual)
        return self._latency_of(rows, running)

    def _can_mean(
        self, row: int, subnetwork: str, compute_element: str, cpu_frequency: float, gpu_frequency: float
    ) -> bool:
        """Whether `row` is among those of :meth:`matching`, without looking at the others."""
        if self.subnetwork[row] != subnetwork or self.compute_element[row] != compute_element:
            return False
        for column, wanted in ((self.cpu_frequency, cpu_frequency), (self.gpu_frequency, gpu_frequency)):
            clock = column.item(row)
            if clock > 0 and abs(clock - wanted) > FREQUENCY_TOLERANCE * abs(wanted):  # never, where one is NaN
                return False
        return True

    def _latency_of(self, rows: np.ndarray, running: int | None) -> float:
        if running is not None and running in rows:
            return float(self.latency[running])
        return float(self.latency[rows[0]]) if len(rows) else math.nan

    def find(
        self, subnetwork: str, compute_element: str, cpu_frequency: float = np.nan, gpu_frequency: float = np.nan
    ) -> int | None:
        """The first row of :meth:`matching`, or None."""
        indices = self.matching(subnetwork, compute_element, cpu_frequency, gpu_frequency)
        return int(indices[0]) if len(indices) else None

    def _check_lengths(self) -> None:
        n = len(self.subnetwork)
        if n == 0:
            raise ValueError("operating points: the table has no rows: expected at least one")
        for name in COLUMNS[1:]:
            column = getattr(self, name)
            shape = (len(column),) if name in TEXT_COLUMNS else column.shape
            if shape != (n,):
                raise ValueError(f"operating points: {name} has shape {shape}: expected ({n},) like subnetwork")

    def _check_values(self) -> None:
        for name in TEXT_COLUMNS:
            for row, value in enumerate(getattr(self, name)):
                if not isinstance(value, str) or not value:
                    raise OperatingPointError(name, row, f"is {value!r}: expected a name")
        for name in ("cpu_frequency", "gpu_frequency"):
            column = getattr(self, name)
            self._refuse(
                name, ~np.isnan(column) & ~((column >= 0) & np.isfinite(column)), "0 or more Hz, or NaN for not set"
            )
        self._refuse("latency", ~((self.latency > 0) & np.isfinite(self.latency)), "more than 0 s")
        for name in ("latency_p95", "latency_p99"):
            column = getattr(self, name)
            wrong = ~np.isnan(column) & ~((column >= self.latency) & np.isfinite(column))
            self._refuse(name, wrong, "at least the median latency, or NaN for not known")
        for name in ("power", "energy"):
            column = getattr(self, name)
            self._refuse(
                name,
                ~np.isnan(column) & ~((column > 0) & np.isfinite(column)),
                f"more than 0 {UNITS[name]}, or NaN for not known",
            )
        for name, values in PLAUSIBLE.items():
            column = getattr(self, name)
            wrong = ~np.isnan(column) & ~((column >= values.least) & (column <= values.most))
            self._refuse(name, wrong, f"{values.least:g} to {values.most:g} {values.unit}")
        self._refuse("accuracy", ~((self.accuracy >= 0) & (self.accuracy <= 1)), "within 0..1")

    def _refuse(self, name: str, wrong: np.ndarray, expected: str) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            raise OperatingPointError(name, row, f"is {getattr(self, name)[row]:g}: expected {expected}")

    def _check_provenance(self) -> None:
        for name, value in self.provenance.items():
            if name not in UNITS or value not in PROVENANCES:
                raise ValueError(
                    f"operating points: provenance of {name} is {value!r}: expected one of "
                    f"{', '.join(PROVENANCES)} for one of {', '.join(UNITS)}"
                )
        for name in PROVENANCE_REQUIRED:
            if name not in self.provenance and not np.isnan(getattr(self, name)).all():
                raise ValueError(f"operating points: {name} has no provenance: expected {' or '.join(PROVENANCES)}")


def _along_period(periods: np.ndarray, latencies: np.ndarray, period: float) -> float:
    """Latency [s] at `period` [s] on the line through the two nearest of these points; one point: in proportion."""
    periods, first = np.unique(periods, return_index=True)
    latencies = latencies[first]
    if len(periods) == 1:
        return float(latencies[0] * period / periods[0])
    right = min(max(int(np.searchsorted(periods, period)), 1), len(periods) - 1)
    share = (period - periods[right - 1]) / (periods[right] - periods[right - 1])
    latency = latencies[right - 1] + share * (latencies[right] - latencies[right - 1])
    return float(max(latency, latencies.min() * min(1.0, period / periods[0])))
