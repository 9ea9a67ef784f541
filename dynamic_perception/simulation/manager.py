"""What every manager in a comparison looks like to the machine: ours, published ones, governors, the oracle."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dynamic_perception.management.target import Objective, Target
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.trace import Trace


class Manager:
    """Chooses a row of the board's table for every frame; hears what a real one would hear.

    Attributes:
        name: in tables and pictures.
        sees_future: it is told the coming frame's slow-down (`foresee`) and the true charge: oracles alone.
        is_throttled: heat slows it down.
        governs: the clock is not the row's, but what `govern` does while the inference runs.
    """

    name = ""
    sees_future = False
    is_throttled = True
    governs = False

    def __init__(self, board: Board):
        self.board = board

    def set_target(self, time: float, target: Target) -> None:
        """The user wants this from now on [s]."""

    def decide(self, time: float, frame: int) -> int:
        """The row that frame number `frame`, which starts at `time` [s], is to run at."""
        raise NotImplementedError

    def report(self, time: float, row: int, ran: int, inference: float, overhead: float, waited: float) -> None:
        """A frame ended at `time`: asked for `row`, it ran as row `ran` (another where the clock was throttled).

        It took `inference` s and `overhead` s around that, after it had `waited` s for the frame before to end.
        """

    def throttle(self, steps: Sequence[int]) -> None:
        """[clusters] by how many steps the kernel keeps the clock down from now on; only if it `sees_future`."""

    def hear(self, time: float, celsius: float, charge: float) -> None:
        """Sensors, as read: late, rounded and noisy."""

    def foresee(self, trace: Trace, slow_downs: np.ndarray, target: Target) -> None:
        """[n, elements] slow-downs of all frames; only if it `sees_future`."""

    def govern(self, time: float, row: int, slow_down: float, steps: int, other: float) -> tuple[float, float, int]:
        """Run an inference: (seconds, mean power [W], last row); only if it `governs`.

        `steps`: how far the cluster's clock is throttled; `other`: threads of other work on the cluster.
        """
        raise NotImplementedError

    def explanation(self) -> str:
        """Why the last choice differs from the one before; empty: it says nothing."""
        return ""


def target_of(objective: str, deadline: float, min_accuracy: float, max_energy: float) -> Target:
    """What the user of a trace wants: least energy above the floor, or most accuracy within the budget."""
    if objective == "energy":
        return Target(
            max_latency=deadline,
            min_accuracy=min_accuracy if min_accuracy > 0 else math.nan,
            objective=Objective.MIN_ENERGY,
        )
    if objective == "accuracy":
        return Target(
            max_latency=deadline,
            max_energy=max_energy if max_energy < math.inf else math.nan,
            objective=Objective.MAX_ACCURACY,
        )
    raise ValueError(f"objective is {objective!r}: expected energy or accuracy")
