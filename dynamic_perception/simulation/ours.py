"""The resource manager of this package, as the simulated machine drives it."""

from __future__ import annotations

import math
from dataclasses import replace

from dynamic_perception.management.environment import EnvironmentSettings
from dynamic_perception.management.kalman import KalmanSettings
from dynamic_perception.management.manager import ManagerSettings, ResourceManager
from dynamic_perception.management.target import Target
from dynamic_perception.simulation.boards import BATTERY_POLICY, ZONE, Board
from dynamic_perception.simulation.manager import Manager

# Tuned by random search on seeds 0 to 23 of all families on the modelled Odroid XU3, for little energy and error at
# about 1 % of missed deadlines.  Against the defaults: quicker up, as a switch costs next to nothing in these runs, and
# a machine that is believed to be as profiled where nothing was heard yet.
TUNED = ManagerSettings(
    deadline_probability=0.94,
    dwell=0.15,
    longest_dwell=0.7,
    most_up=30,
    margin=0.01,
    environment=EnvironmentSettings(
        slow_down=KalmanSettings(
            mean=1.0,
            deviation=0.01,
            noise=0.02,
            noise_floor=0.0065,
            fade_time=1.7,
            grace=0.3,
            process_ratio=0.024,
            alpha=0.9,
            gate=4.0,
            confirmation=8,
            noise_rate=0.035,
        )
    ),
)


class Ours(Manager):
    """ResourceManager with the board's thermal zone and the battery's policy; `settings`: the rest."""

    def __init__(self, board: Board, settings: ManagerSettings = TUNED, name: str = "ours", budgets: bool = True):
        """Without `budgets` it minds neither heat nor battery, like the managers that know of neither."""
        super().__init__(board)
        self.name = name
        thermal = (board.zone,) if budgets and board.zone is not None else ()
        battery = BATTERY_POLICY if budgets and not math.isnan(board.table.power.sum()) else ()
        self._manager = ResourceManager(board.table, replace(settings, thermal=thermal, battery=battery))
        table = board.table
        self._names = list(
            zip(table.subnetwork, table.compute_element, table.cpu_frequency.tolist(), table.gpu_frequency.tolist())
        )
        self._detail = ""
        self._manager.observe_temperature(0.0, ZONE, board.temperature().celsius)

    def set_target(self, time: float, target: Target) -> None:
        self._manager.set_target(time, target)

    def decide(self, time: float, frame: int) -> int:
        decision = self._manager.decide(time)
        if decision.changed:
            self._detail = f"{decision.reason.name.lower().replace('_', ' ')}: {decision.detail}"
        return decision.index

    def report(self, time: float, row: int, ran: int, inference: float, overhead: float, waited: float) -> None:
        """As the node does: subnetwork and element that were asked for, clocks as they were."""
        subnetwork, element, _, _ = self._names[row]
        _, _, cpu, gpu = self._names[ran]
        self._manager.observe_report(time, subnetwork, element, inference, overhead + waited, cpu, gpu)

    def hear(self, time: float, celsius: float, charge: float) -> None:
        self._manager.observe_temperature(time, ZONE, celsius)
        self._manager.observe_battery(time, charge, True)

    def explanation(self) -> str:
        return self._detail
