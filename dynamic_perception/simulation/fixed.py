"""Managers that move nothing, or the network alone."""

from __future__ import annotations

from collections import deque

import numpy as np

from dynamic_perception.management.target import Target
from dynamic_perception.simulation.boards import Board
from dynamic_perception.simulation.manager import Manager


def networks_of(board: Board, element: str, full_clock: bool = True) -> np.ndarray:
    """Rows of an element, one per subnetwork, the accuracy rising; at its highest clock, or its lowest."""
    rows = [
        int(board.ladder(row)[-1 if full_clock else 0])
        for row in board.full_clock
        if board.table.compute_element[row] == element
    ]
    return np.array(sorted(rows, key=lambda row: (board.table.accuracy[row], board.table.latency[row])))


class FixedNetwork(Manager):
    """One subnetwork at full clock on the fastest element, whatever happens."""

    def __init__(self, board: Board, largest: bool):
        super().__init__(board)
        self.name = "fixed largest" if largest else "fixed smallest"
        self._row = int(networks_of(board, board.default_element)[-1 if largest else 0])

    def decide(self, time: float, frame: int) -> int:
        return self._row


class NetworkOnly(Manager):
    """Dynamic-OFA's rule (CVPR workshops 2021): the mean of 20 latencies against the deadline, one step at a time.

    Above the deadline: the next smaller subnetwork.  Below: the next larger one, if the ratio of the profiled latencies
    says that it would fit.  (That condition is not published; without it the rule would move up and down for ever.)
    After a step the mean starts anew.  On the fastest element at full clock.
    """

    WINDOW = 20  # [frames]

    def __init__(self, board: Board):
        super().__init__(board)
        self.name = "network only"
        self._networks = networks_of(board, board.default_element)
        self._level = len(self._networks) - 1
        self._recent: deque[float] = deque(maxlen=self.WINDOW)
        self._deadline = float("inf")
        self._why = ""

    def set_target(self, time: float, target: Target) -> None:
        self._deadline = target.max_latency

    def report(self, time: float, row: int, ran: int, inference: float, overhead: float, waited: float) -> None:
        self._recent.append(inference + overhead + waited)

    def decide(self, time: float, frame: int) -> int:
        if len(self._recent) == self.WINDOW:
            mean, latency = sum(self._recent) / self.WINDOW, self.board.table.latency
            here = self._networks[self._level]
            if mean > self._deadline and self._level > 0:
                self._step(-1, mean)
            elif (
                self._level + 1 < len(self._networks)
                and mean * latency[self._networks[self._level + 1]] / latency[here] <= self._deadline
            ):
                self._step(1, mean)
        return int(self._networks[self._level])

    def _step(self, by: int, mean: float) -> None:
        self._level += by
        self._recent.clear()
        self._why = f"mean of {self.WINDOW} frames {1e3 * mean:.0f} ms, deadline {1e3 * self._deadline:.0f} ms"

    def explanation(self) -> str:
        return self._why
