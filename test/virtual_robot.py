"""A robot in virtual time: a manager, and a perception that runs what it decides."""

from __future__ import annotations

import numpy as np
from tables import board

from dynamic_perception.management.manager import Decision, ManagerSettings, ResourceManager

FRAME = 1 / 30  # [s]


class Robot:
    """A manager and a perception that runs what it decides, frame by frame, on a machine that can be disturbed."""

    def __init__(self, settings: ManagerSettings = ManagerSettings(), points=None, noise: float = 0.0, seed: int = 1):
        self.manager = ResourceManager(board() if points is None else points, settings)
        self.time = 0.0
        self.slow_down: dict[str, float] = {}
        self.overhead = 2e-3
        self.decision: Decision | None = None
        self.changes: list[Decision] = []
        self.times: list[float] = []  # of the changes
        self._noise = noise
        self._random = np.random.default_rng(seed)

    def run(self, seconds: float, report: bool = True) -> Decision:
        for _ in range(round(seconds / FRAME)):
            self.decide()
            if report:
                self.report()
            self.time += FRAME
        return self.decision

    def decide(self) -> Decision:
        self.decision = self.manager.decide(self.time)
        if self.decision.changed:
            self.changes.append(self.decision)
            self.times.append(self.time)
        return self.decision

    def report(self, factor: float | None = None) -> None:
        running = self.decision.point
        if factor is None:
            noise = self._noise * self._random.standard_normal()
            factor = self.slow_down.get(running.compute_element, 1.0) * (1 + noise)
        self.manager.observe_report(
            self.time, running.subnetwork, running.compute_element, running.latency * factor, self.overhead
        )


def name(decision: Decision) -> str:
    return str(decision.point)
