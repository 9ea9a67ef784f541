"""Several networks on one machine: applications come and go, and their operating points are chosen together.

Every application is a :class:`ResourceManager` that shares the :class:`Machine`: the slow-down of every element, heat
and battery are heard once for all; table, target, overhead and rejected points are its own.  While there is one
application, its manager decides alone.  With several, :class:`JointSelector` chooses, and what holds for one holds for
all: down at once, up after a dwell and with a margin, and every decision says why.

No clock is read and no random number drawn: the same calls with the same times give the same decisions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dynamic_perception.management.decision import CAUSES, USER_REASONS, Decision, Reason
from dynamic_perception.management.dwell import Dwell
from dynamic_perception.management.joint_selection import Combination, JointSelector, Network, miss_of
from dynamic_perception.management.machine import Machine
from dynamic_perception.management.manager import ResourceManager
from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.management.selection import Situation
from dynamic_perception.management.settings import ManagerSettings
from dynamic_perception.management.slow_downs import cluster_of
from dynamic_perception.management.steady_time import SteadyTime
from dynamic_perception.management.strangers import clipped
from dynamic_perception.management.target import Target

REVIEW_PERIOD = 0.5  # [s] at which something better is looked for; what is not possible any more is left at once
TOLERANCE = 2e-3  # of the weights: worth that is not looked for any further
MOST_KNAPSACKS = 8  # that are looked into in one choice, so that it takes milliseconds
FOR_ALL = ("thermal_cap", "battery_cap", "battery_ignored")  # fields of the situation that are the machine's


class JointManager:
    """Decides which operating points several applications should run.

    Times are as in :class:`ResourceManager`.  `settings` are those of the machine, and of every application that brings
    none of its own; `cores`: cluster -> number of cores, see :class:`JointSelector`.
    """

    def __init__(self, settings: ManagerSettings = ManagerSettings(), cores: Mapping[str, int] | None = None):
        self.settings = settings
        self.machine = Machine(settings, 0.0)
        self._cores = dict(cores or {})
        self._managers: dict[str, ResourceManager] = {}
        self._networks: dict[str, Network] = {}
        self._selector: JointSelector | None = None  # made when it is needed
        self._dwell = Dwell(settings.dwell, settings.longest_dwell, settings.most_up)
        self._time = SteadyTime()
        self._events: list[str] = []  # who came and who went since the last choice that settled
        self._reviewed_at = -math.inf
        self._accepted_penalty = 0.0  # of the current combination, that nothing better was found for
        self._wanted: tuple[int, ...] = ()  # rows that are waited for
        self._settled: dict[str, Situation] = {}  # of every application, when the current combination was the right one

    # ---- applications

    @property
    def applications(self) -> tuple[str, ...]:
        """Their names, in the order in which they came."""
        return tuple(self._managers)

    def add_application(
        self,
        time: float,
        application: str,
        table: OperatingPointTable,
        target: Target = Target(),
        weight: float = 1.0,
        settings: ManagerSettings | None = None,
    ) -> None:
        """Let an application take part; `weight`: how much it counts; `settings`: its own, but for the machine's.

        ValueError for a name that is taken or a weight that is not positive.
        """
        if application in self._managers:
            raise ValueError(f"application {application!r} is there already")
        if not 0 < weight < math.inf:
            raise ValueError(f"application {application!r}: weight is {weight:g}: expected more than 0")
        settings = settings or self.settings
        manager = ResourceManager(table, settings, self.machine)
        network = Network(table, settings, weight)
        self.machine.set_greatest_power(self._greatest_power() + manager.greatest_power)
        self._advance(time)
        manager.set_target(self._now, target)
        self._managers[application], self._networks[application] = manager, network
        self._changed(f"{application} arrived")

    def remove_application(self, time: float, application: str) -> None:
        """Let an application go; the others may have what it leaves."""
        self._manager(application)
        self._advance(time)
        del self._managers[application], self._networks[application]
        self._settled.pop(application, None)
        self.machine.set_greatest_power(self._greatest_power())
        self._changed(f"{application} left")

    def _greatest_power(self) -> float:
        return sum(manager.greatest_power for manager in self._managers.values())

    def _changed(self, event: str) -> None:
        """Another set of applications: nothing that was waited for counts, and what each is slowed by is not known."""
        self._events.append(event)
        self._selector, self._wanted, self._reviewed_at, self._accepted_penalty = None, (), -math.inf, 0.0
        self._dwell.stop_waiting()
        for manager in self._managers.values():
            manager.sharing = {}

    def _manager(self, application: str) -> ResourceManager:
        if application not in self._managers:
            known = ", ".join(self._managers) or "none"
            raise ValueError(f"application {clipped(application)!r} is not known: expected one of {known}")
        return self._managers[application]

    # ---- what is heard; each as in ResourceManager

    def set_target(self, time: float, application: str, target: Target) -> None:
        """Replace the whole target of an application."""
        self._hear(time, application).set_target(self._now, target)

    def set_deadline(self, time: float, application: str, seconds: float) -> None:
        """Let this deadline stand instead of the target's max_latency; NaN or 0: the target's again."""
        self._hear(time, application).set_deadline(self._now, seconds)

    def observe_report(
        self,
        time: float,
        application: str,
        subnetwork: str,
        compute_element: str,
        inference: float,
        overhead: float,
        cpu_frequency: float = math.nan,
        gpu_frequency: float = math.nan,
    ) -> None:
        """Take one processed frame of an application; what other applications slow it by is allowed for."""
        self._hear(time, application).observe_report(
            self._now, subnetwork, compute_element, inference, overhead, cpu_frequency, gpu_frequency
        )

    def observe_clock(self, time: float, compute_element: str, asked: float, actual: float, clock: str = "cpu") -> None:
        """Take a clock [Hz], "cpu" or "gpu", that was asked for on the element's cluster and the one that it has."""
        self._advance(time)
        self.machine.observe_clock(self._now, cluster_of(compute_element), asked, actual, clock)

    def observe_battery(self, time: float, percentage: float, present: bool, name: str = "") -> bool:
        """Take a state of charge (0..1) of the battery `name`; not `present`: mains power.  False if it has no use."""
        self._advance(time)
        return self.machine.observe_battery(self._now, percentage, present, name)

    def observe_temperature(self, time: float, zone: str, celsius: float) -> bool:
        """Take the temperature of a zone.  False if it has no use."""
        self._advance(time)
        return self.machine.observe_temperature(self._now, zone, celsius)

    def set_mission(self, time: float, seconds: float) -> None:
        """Let the battery last for so long (NaN or 0: no mission)."""
        self._advance(time)
        self.machine.mission.set_end(self._now, seconds)

    def reject(self, time: float, application: str, point: int | OperatingPoint, for_seconds: float) -> None:
        """Leave a point of an application out for a while, because a command for it was rejected."""
        self._hear(time, application).reject(self._now, point, for_seconds)

    def status(self, time: float) -> dict[str, dict[str, Any]]:
        """Application -> its status, as of ResourceManager."""
        self._advance(time)
        return {name: manager.status(self._now) for name, manager in self._managers.items()}

    def _hear(self, time: float, application: str) -> ResourceManager:
        manager = self._manager(application)
        self._advance(time)
        return manager

    @property
    def _now(self) -> float:
        return self._time.now

    def _advance(self, time: float) -> None:
        self._time.advance(time)
        self.machine.start(self._now)

    # ---- what is decided

    def decide(self, time: float) -> dict[str, Decision]:
        """The point that every application is to run at `time` [s]."""
        self._advance(time)
        if len(self._managers) == 1 and (not self._settled or not self._events):
            self._events.clear()
            self._settled.clear()
            return {name: manager.decide(self._now) for name, manager in self._managers.items()}
        if not self._managers:
            return {}
        return self._decide_together(list(self._managers.values()))

    def _decide_together(self, managers: list[ResourceManager]) -> dict[str, Decision]:
        if self._selector is None:
            self._selector = JointSelector(list(self._networks.values()), self._cores)
        for manager in managers:
            manager.advance(self._now)
        situations = [manager.situation() for manager in managers]
        before = [manager.current for manager in managers]
        if None in before:
            self._move(situations, self._solve(situations).rows, Reason.TARGET, self._explain_events())
            self._events.clear()
        else:
            self._reconsider(situations, tuple(before))
        return self._describe(situations, before)

    def _reconsider(self, situations: list[Situation], current: tuple[int, ...]) -> None:
        """Leave the current combination: at once if it is not possible any more, up only after the dwell."""
        now = self._net(situations, self._evaluate(situations, current))
        impossible = now.worth == -math.inf or not now.is_within(self.machine.thermal_watts)
        if impossible or now.penalty > self._accepted_penalty * (1.0 + 1e-6) + 1e-9:
            best = self._solve(situations)
            if best.rows != current and (impossible or best.penalty < now.penalty):
                return self._move(situations, best.rows, *self._cause(situations, current, best.rows, forced=True))
            self._accepted_penalty = now.penalty
        if self._wanted:
            self._wait(situations, now)
        elif self._now - self._reviewed_at >= REVIEW_PERIOD:
            self._review(situations, now)

    def _review(self, situations: list[Situation], now: Combination) -> None:
        """Look for something clearly better."""
        self._reviewed_at, self._accepted_penalty = self._now, now.penalty
        best = self._solve(situations, now.rows)
        if best.rows == now.rows:
            self._settle(situations)
        elif self._is_down(situations, best.rows, now):
            self._move(situations, best.rows, *self._cause(situations, now.rows, best.rows, forced=False))
        else:
            self._wanted = best.rows
            self._wait(situations, now)

    def _wait(self, situations: list[Situation], now: Combination) -> None:
        """Take the wanted combination when it has been clearly better for long enough."""
        wanted = self._net(situations, self._evaluate(situations, self._wanted, now.rows, self.settings.margin))
        if not wanted.is_within(self.machine.thermal_watts) or wanted.worth <= now.worth:
            self._wanted = ()
            return self._dwell.stop_waiting()
        if not self._dwell.waited(self._now, np.ones(1, dtype=bool))[0]:
            return
        reason, cause = self._cause(situations, now.rows, self._wanted, forced=False)
        asked = reason in USER_REASONS
        if asked or self._dwell.may_step_up(self._now):
            self._take(situations, self._wanted, reason, cause)
            self._dwell.step_up(self._now, self._edge(reason), asked)
        else:
            self._wanted = ()
        self._dwell.stop_waiting()

    def _is_down(self, situations: list[Situation], rows: Sequence[int], now: Combination) -> bool:
        """Cheaper, and slower for nobody: nothing to wait for."""
        if self._evaluate(situations, rows).power > now.power:
            return False
        return all(self._latency(a, rows) <= self._latency(a, now.rows) for a in range(len(rows)))

    def _latency(self, a: int, rows: Sequence[int]) -> float:
        table = self._selector.networks[a].table
        return table.latency[rows[a]] * self._selector.sharing(rows, a)[table.element_index[rows[a]]]

    def _settle(self, situations: list[Situation]) -> None:
        self._settled, self._wanted = dict(zip(self._managers, situations)), ()
        self._events.clear()
        self._dwell.stop_waiting()
        for manager, situation in zip(self._managers.values(), situations):
            manager.stay(situation)

    def _move(self, situations: list[Situation], rows: Sequence[int], reason: Reason, cause: str) -> None:
        """Take a combination at once."""
        self._take(situations, rows, reason, cause)
        if reason in USER_REASONS:
            self._dwell.stop_waiting()
        else:
            self._dwell.step_down(self._now, self._edge(reason))

    def _take(self, situations: list[Situation], rows: Sequence[int], reason: Reason, cause: str) -> None:
        for manager, situation, row in zip(self._managers.values(), situations, rows):
            if manager.current is None:
                manager.adopt(row, Reason.STARTUP, "start: ", situation)
            elif manager.current != row:
                manager.adopt(row, reason, cause, situation)
        self._settled, self._wanted, self._reviewed_at = dict(zip(self._managers, situations)), (), self._now
        self._accepted_penalty = self._net(situations, self._evaluate(situations, rows)).penalty

    def _edge(self, reason: Reason) -> tuple[Reason, int]:
        return reason, self.machine.slow_downs.regime if reason is Reason.CONTENTION else 0

    # ---- power that all share

    def _solve(self, situations: list[Situation], current: Sequence[int] = ()) -> Combination:
        """The best combination under the thermal cap, and the battery's unless giving that up saves more."""
        thermal, battery, possible = self.machine.thermal_watts, _battery_cap(situations), self._possible(situations)

        def solve(cap: float) -> Combination:
            margin = self.settings.margin if current else 0.0
            found = self._selector.solve(possible, cap, current, margin, TOLERANCE, MOST_KNAPSACKS)
            return self._net(situations, found)

        best = solve(min(thermal, battery))
        if battery < thermal and best.penalty > 0.0:
            wider = solve(thermal)
            return wider if wider.worth > best.worth else best
        return best

    def _evaluate(
        self, situations: list[Situation], rows: Sequence[int], current: Sequence[int] = (), margin: float = 0.0
    ) -> Combination:
        return self._selector.evaluate(self._possible(situations), rows, current, margin)

    def _possible(self, situations: list[Situation]) -> list[Situation]:
        """With nothing but the fallback point available to whom it is asked for."""
        return [
            situation._replace(available=manager.possible(situation)) if situation.fallback else situation
            for manager, situation in zip(self._managers.values(), situations)
        ]

    def _net(self, situations: list[Situation], combination: Combination) -> Combination:
        """With the penalty for missing the battery's cap, which is everybody's."""
        battery = _battery_cap(situations)
        if combination.is_within(battery):
            return combination
        networks = self._selector.networks
        miss = miss_of(combination.power / battery - 1.0 if battery > 0 else math.inf)
        penalty = miss * sum(network.weight * network.penalty_of("battery") for network in networks)
        return replace(combination, worth=combination.worth - penalty, penalty=combination.penalty + penalty)

    # ---- why

    def _explain_events(self) -> str:
        return f"{', '.join(self._events)}: "

    def _cause(
        self, situations: list[Situation], current: Sequence[int], rows: Sequence[int], forced: bool
    ) -> tuple[Reason, str]:
        """Which input moves the points: bring the new ones into the settled situations one by one until one does."""
        managers = list(self._managers.items())
        trial = [self._settled.get(name, situation) for (name, _), situation in zip(managers, situations)]
        if self._events and self._moves(trial, current, rows, forced):
            return Reason.TARGET, self._explain_events()
        for reason, fields in CAUSES:
            groups = [range(len(trial))] if fields[0] in FOR_ALL else [[a] for a in range(len(trial))]
            for group in groups:
                for a in group:
                    trial[a] = trial[a]._replace(**{field: getattr(situations[a], field) for field in fields})
                if self._moves(trial, current, rows, forced):
                    name, manager = managers[group[0]]
                    row = (current if forced else rows)[group[0]]
                    text = manager.explain(fields[0], situations[group[0]], row)
                    return reason, text if len(group) > 1 or len(managers) == 1 else f"{name}: {text}"
        return Reason.CONTENTION, "another combination is better: "

    def _moves(self, trial: list[Situation], current: Sequence[int], rows: Sequence[int], forced: bool) -> bool:
        now = self._net(trial, self._evaluate(trial, current))
        if not self._within_heat(trial, current):
            return forced
        if forced:
            return now.worth == -math.inf or now.penalty > self._accepted_penalty * (1.0 + 1e-6) + 1e-9
        wanted = self._evaluate(trial, rows, current, self.settings.margin)
        return self._within_heat(trial, rows) and self._net(trial, wanted).worth > now.worth

    def _within_heat(self, situations: list[Situation], rows: Sequence[int]) -> bool:
        return self._evaluate(situations, rows).is_within(situations[0].thermal_cap)

    def _describe(self, situations: list[Situation], before: list[int | None]) -> dict[str, Decision]:
        """Every application's decision, as it stands among the others."""
        rows = [manager.current for manager in self._managers.values()]
        power = [
            network.power[row] / self._selector.sharing(rows, a)[network.table.element_index[row]]
            for a, (network, row) in enumerate(zip(self._selector.networks, rows))
        ]
        decisions = {}
        for a, (name, manager) in enumerate(self._managers.items()):
            sharing, others = self._selector.sharing(rows, a), sum(power) - power[a]
            manager.sharing = dict(zip(manager.table.elements, sharing.tolist()))
            among = situations[a]._replace(
                sharing=sharing,
                thermal_cap=_left(situations[a].thermal_cap, others),
                battery_cap=_left(situations[a].battery_cap, others),
            )
            decisions[name] = manager.describe(among, rows[a] != before[a])
        return decisions


def _battery_cap(situations: list[Situation]) -> float:
    """[W] the battery's cap on all together; inf: none."""
    return math.inf if situations[0].battery_ignored else situations[0].battery_cap


def _left(cap: float, others: float) -> float:
    """[W] of a cap that others leave over; rounding leaves nobody out."""
    return max(0.0, cap - others) + 1e-9 if cap < math.inf else cap
