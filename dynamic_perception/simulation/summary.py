"""What runs of several managers over the same trace amount to."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dynamic_perception.simulation.virtual_machine import Run

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Summary:
    """Of one run; rates are shares (0..1) of all frames, the rest are means over answered frames.

    Attributes:
        miss_rate: not answered, or after the deadline.
        floor_rate: answered in time, but by a network below the floor (objective energy).
        overspent_rate: answered in time, but with more energy than the budget (objective accuracy).
        board_power: [W] of all rails, resting included.
    """

    manager: str
    energy: float
    accuracy: float
    latency: float
    miss_rate: float
    floor_rate: float
    overspent_rate: float
    hottest: float
    board_power: float
    moves: int


def keeps_limits(run: Run, objective: str) -> np.ndarray:
    """[n] bool: in time, and at the floor (objective energy) or within the budget (objective accuracy)."""
    if objective == "energy":
        return run.met & (np.nan_to_num(run.accuracy) >= run.trace.min_accuracy - TOLERANCE)
    return run.met & ~(run.energy > run.trace.max_energy * (1 + TOLERANCE))


def summarise(run: Run) -> Summary:
    """The numbers of one run."""
    answered, met = run.answered, run.met
    if not answered.any():
        raise ValueError(f"{run.manager} answered no frame")
    energy = run.energy[answered]
    return Summary(
        run.manager,
        float(energy.mean()),
        float(run.accuracy[answered].mean()),
        float(run.latency[answered].mean()),
        float(1.0 - met.mean()),
        float((met & ~keeps_limits(run, "energy")).mean()),
        float((met & ~keeps_limits(run, "accuracy")).mean()),
        float(np.nanmax(run.temperature)),
        float((energy.sum() + run.resting_energy) / run.seconds),
        max(0, len(run.events) - 1),
    )


def energy_ratio(run: Run, reference: Run) -> float:
    """Energy over the reference's, of the frames in which both are in time and at the floor; NaN: there are none."""
    both = keeps_limits(run, "energy") & keeps_limits(reference, "energy")
    return _ratio(run.energy[both].sum(), reference.energy[both].sum())


def error_ratio(run: Run, reference: Run) -> float:
    """Mean error (1 - accuracy) over the reference's, of the frames in which both are in time and within the budget."""
    both = keeps_limits(run, "accuracy") & keeps_limits(reference, "accuracy")
    return _ratio((1.0 - run.accuracy[both]).sum(), (1.0 - reference.accuracy[both]).sum())


def _ratio(value: float, reference: float) -> float:
    return float(value / reference) if reference > 0 else math.nan
