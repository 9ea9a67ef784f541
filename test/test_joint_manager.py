"""Several applications on one machine, in virtual time."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from tables import board, point, table

from dynamic_perception.management.budgets import BatteryThreshold, ThermalZone
from dynamic_perception.management.joint import JointManager
from dynamic_perception.management.manager import Decision, ManagerSettings, Reason, ResourceManager
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.slow_downs import cluster_of, threads_of
from dynamic_perception.management.target import Target

FRAME = 1 / 30  # [s]
CORES = {"cpu": 4, "gpu": 1}
ZONE = ThermalZone("soc", sustainable_power=4.0, switch_on=60.0, control=75.0, critical=95.0)
QUIET = ManagerSettings(
    report_timeout=math.inf,
    temperature_timeout=math.inf,
    battery_timeout=math.inf,
    thermal=(ZONE,),
    battery=(BatteryThreshold(0.2, max_power=3.0),),
)
SUBNETWORKS = (("25%", 0.25, 0.70), ("50%", 0.5, 0.76), ("75%", 0.75, 0.79), ("100%", 1.0, 0.81))


def soc() -> OperatingPointTable:
    """A GPU that is five times as fast as four cores."""
    return table(
        [
            point(name, element, latency * share, power * (0.5 + 0.5 * share), accuracy)
            for element, latency, power in (("gpu", 12e-3, 5.0), ("cpu:4", 60e-3, 4.0), ("cpu:2", 100e-3, 2.2))
            for name, share, accuracy in SUBNETWORKS
        ]
    )


class Robot:
    """Applications that run what a joint manager decides on a machine on which they slow each other down."""

    def __init__(self, settings: ManagerSettings = QUIET, noise: float = 0.01, seed: int = 1):
        self.manager = JointManager(settings, CORES)
        self.time = 0.0
        self.slow_down: dict[str, float] = {}
        self.decisions: dict[str, Decision] = {}
        self.changes: list[tuple[float, str, Decision]] = []
        self._noise, self._random = noise, np.random.default_rng(seed)

    def run(self, seconds: float) -> dict[str, Decision]:
        for _ in range(round(seconds / FRAME)):
            self.decide()
            for name in self.decisions:
                self.report(name)
            self.time += FRAME
        return self.decisions

    def decide(self) -> dict[str, Decision]:
        self.decisions = self.manager.decide(self.time)
        self.changes += [(self.time, name, decision) for name, decision in self.decisions.items() if decision.changed]
        return self.decisions

    def report(self, name: str) -> None:
        running = self.decisions[name].point
        factor = self.slow_down.get(running.compute_element, 1.0) * (1 + self._noise * self._random.standard_normal())
        self.manager.observe_report(
            self.time,
            name,
            running.subnetwork,
            running.compute_element,
            running.latency * factor * self.sharing(running.compute_element),
            2e-3,
        )

    def sharing(self, element: str) -> float:
        cluster = cluster_of(element)
        elements = [decision.point.compute_element for decision in self.decisions.values()]
        threads = sum(threads_of(other) for other in elements if cluster_of(other) == cluster)
        return max(1.0, threads / CORES[cluster])

    def add(self, name: str, target: Target = Target(), points=None, weight: float = 1.0) -> None:
        self.manager.add_application(self.time, name, soc() if points is None else points, target, weight)

    def at(self, name: str) -> str:
        return str(self.decisions[name].point)


def test_one_dnn_gives_way_to_another_both_shrink_in_the_heat_and_the_first_grows_back():
    robot = Robot()
    robot.add("front", Target(max_latency=70e-3))
    robot.run(10.0)
    assert robot.at("front") == "100% on gpu"

    robot.add("rear", Target(max_latency=16e-3))  # tighter: only the GPU is fast enough
    robot.run(2.0)
    assert robot.at("rear") == "100% on gpu"
    assert robot.decisions["front"].point.compute_element == "cpu:4"
    moved = [(name, decision) for time, name, decision in robot.changes if time > 9.0]
    assert {name for name, _ in moved} == {"front", "rear"}
    assert dict(moved)["front"].detail.startswith("rear arrived: ")
    cool = {name: robot.at(name) for name in robot.decisions}

    robot.manager.observe_temperature(robot.time, "soc", 75.0)  # 4 W for both; 8.5 W flow
    robot.decide()
    assert sum(decision.expected_power for decision in robot.decisions.values()) <= 4.0
    assert all(decision.feasible for decision in robot.decisions.values())
    assert all(
        decision.point.accuracy < soc()[soc().find(*cool[name].split(" on "))].accuracy
        for name, decision in robot.decisions.items()
    )
    assert any(
        decision.reason is Reason.THERMAL and "soc 75.0 C" in decision.detail for decision in robot.decisions.values()
    )
    hot = robot.at("front")

    robot.manager.observe_temperature(robot.time, "soc", 50.0)
    robot.manager.remove_application(robot.time, "rear")
    robot.run(2.0)
    assert robot.at("front") == hot  # up only after the dwell
    robot.run(5.0)
    assert robot.at("front") == "100% on gpu"
    assert set(robot.decisions) == {"front"}


def test_one_application_is_decided_for_as_by_a_manager_of_its_own():
    alone, together = ResourceManager(board(), QUIET), JointManager(QUIET, CORES)
    together.add_application(0.0, "front", board(), Target(max_latency=20e-3))
    alone.set_target(0.0, Target(max_latency=20e-3))
    random = np.random.default_rng(3)
    for frame in range(900):
        time = frame * FRAME
        factor = (1.0 + 0.05 * random.standard_normal()) * (2.0 if 300 < frame < 500 else 1.0)
        single, joint = alone.decide(time), together.decide(time)["front"]
        assert repr(single) == repr(joint)
        point = single.point
        alone.observe_report(time, point.subnetwork, point.compute_element, point.latency * factor, 1e-3)
        together.observe_report(time, "front", point.subnetwork, point.compute_element, point.latency * factor, 1e-3)
        if frame == 600:
            alone.observe_battery(time, 0.1, True)
            together.observe_battery(time, 0.1, True)


def two_on_a_board(**targets: Target) -> Robot:
    robot = Robot()
    for name, target in targets.items():
        robot.add(name, target)
    robot.run(8.0)
    return robot


def test_what_others_on_the_same_cores_slow_is_not_taken_for_other_work():
    robot = Robot()
    cpu_only = table([point("a", "cpu:4", latency=20e-3), point("b", "cpu:4", latency=10e-3, accuracy=0.7)])
    for name in ("front", "rear"):
        robot.add(name, points=cpu_only)
    robot.run(3.0)
    assert robot.sharing("cpu:4") == 2.0
    for status in robot.manager.status(robot.time).values():
        assert status["slow_down"]["cpu:4"][0] == pytest.approx(1.0, abs=0.02)
    assert robot.decisions["front"].expected_latency == pytest.approx(40e-3, rel=0.03)


def test_what_one_application_learns_about_an_element_counts_for_all():
    robot = two_on_a_board(front=Target(max_latency=70e-3), rear=Target(max_latency=16e-3))
    robot.slow_down = {"gpu": 1.8}
    robot.run(1.0)
    front = robot.manager.status(robot.time)["front"]
    assert front["slow_down"]["gpu"][0] == pytest.approx(1.8, abs=0.1)  # although it is not there
    assert robot.decisions["rear"].reason is Reason.CONTENTION
    assert robot.decisions["rear"].detail.startswith("rear: gpu slowed 1.")


def test_a_low_battery_is_shared_and_named():
    robot = two_on_a_board(front=Target(), rear=Target())
    robot.manager.observe_battery(robot.time, 0.18, True)
    robot.decide()
    assert sum(decision.expected_power for decision in robot.decisions.values()) <= 3.0
    assert any(decision.detail.startswith("battery 0.18 < 0.20: cap 3 W") for decision in robot.decisions.values())
    assert all(decision.feasible for decision in robot.decisions.values())


def test_above_critical_only_the_coolest_points_run():
    robot = two_on_a_board(front=Target(max_latency=16e-3), rear=Target(max_latency=16e-3))
    robot.manager.observe_temperature(robot.time, "soc", 96.0)
    decisions = robot.decide().values()
    assert [decision.point.subnetwork for decision in decisions] == ["25%"] * 2
    assert sum(decision.expected_power for decision in decisions) <= 2 * 1.375  # both on cpu:2
    assert not any(decision.feasible for decision in decisions)


def test_a_tighter_deadline_of_one_takes_effect_with_the_next_decision_and_others_are_told_whose_it_is():
    robot = two_on_a_board(front=Target(), rear=Target(max_latency=200e-3))
    robot.manager.set_deadline(robot.time, "rear", 16e-3)
    robot.decide()
    assert robot.decisions["rear"].expected_end_to_end < 16e-3
    changed = [decision for time, name, decision in robot.changes if time == robot.time]
    assert changed and all(decision.reason is Reason.DEADLINE for decision in changed)
    assert all(decision.detail.startswith("rear: deadline 200 ms -> 16 ms") for decision in changed)


def test_more_weight_wins_the_faster_element():
    for weights, winner in (((1.0, 5.0), "rear"), ((5.0, 1.0), "front")):
        robot = Robot()
        for name, weight in zip(("front", "rear"), weights):
            robot.add(name, Target(max_latency=14.8e-3), weight=weight)
        robot.run(1.0)
        by_accuracy = sorted(robot.decisions, key=lambda name: robot.decisions[name].deadline_probability)
        assert robot.decisions[winner].deadline_probability >= robot.decisions[by_accuracy[0]].deadline_probability
        assert robot.decisions[winner].feasible


@pytest.mark.parametrize("deadline, correlation", [(16.2e-3, 0.0), (15.5e-3, 0.9)])
def test_a_noisy_hour_at_the_edge_is_no_ping_pong(deadline, correlation):
    manager, random = JointManager(QUIET, CORES), np.random.default_rng(1)
    manager.add_application(0.0, "front", soc(), Target(max_latency=deadline))
    manager.add_application(0.0, "rear", soc(), Target(max_latency=90e-3))
    noise, switches = 0.0, []
    for time in np.arange(0.0, 3600.0, 2.0):
        decisions = manager.decide(time)
        if time > 0 and decisions["front"].changed:
            switches.append(time)
        noise = correlation * noise + math.sqrt(1 - correlation**2) * 0.1 * random.standard_normal()
        for name, decision in decisions.items():
            running = decision.point
            manager.observe_report(
                time,
                name,
                running.subnetwork,
                running.compute_element,
                running.latency * (1 + noise * (name == "front")),
                1e-3,
            )
    per_minute = np.searchsorted(switches, np.array(switches) + 60.0) - np.arange(len(switches))
    assert len(switches) > 0 and per_minute.max() <= 6


def test_an_application_that_comes_and_goes_between_two_decisions_leaves_no_trace():
    robot = two_on_a_board(front=Target(max_latency=70e-3), rear=Target(max_latency=16e-3))
    robot.manager.remove_application(robot.time, "rear")
    robot.run(8.0)
    before = robot.at("front")
    robot.add("side", points=board())
    robot.manager.remove_application(robot.time, "side")
    robot.run(1.0)
    assert robot.at("front") == before and set(robot.decisions) == {"front"}


def test_the_same_calls_give_the_same_decisions():
    def play() -> str:
        robot = Robot(noise=0.05)
        robot.add("front", Target(max_latency=70e-3))
        robot.run(2.0)
        robot.add("rear", Target(max_latency=16e-3))
        robot.slow_down = {"gpu": 1.5}
        robot.run(3.0)
        return repr(robot.changes)

    assert play() == play()


def test_a_rejected_point_is_left_out():
    robot = two_on_a_board(front=Target(max_latency=70e-3), rear=Target(max_latency=16e-3))
    rejected = robot.decisions["rear"]
    robot.manager.reject(robot.time, "rear", rejected.index, 10.0)
    assert robot.decide()["rear"].index != rejected.index
    assert "was rejected" in robot.decisions["rear"].detail


def test_reports_that_stay_away_lead_that_application_to_its_fallback_point():
    settings = dataclasses.replace(QUIET, report_timeout=2.0, report_stale_policy="fallback", fallback=("25%", "cpu:2"))
    robot = Robot(settings)
    robot.add("front")
    robot.add("rear")
    robot.run(1.0)
    for _ in range(100):
        robot.decide()
        robot.report("front")
        robot.time += FRAME
    assert robot.at("rear") == "25% on cpu:2" and robot.at("front") != "25% on cpu:2"
    assert robot.decisions["rear"].reason is Reason.STALE_INPUT


@pytest.mark.parametrize(
    "call, named",
    [
        (lambda m: m.add_application(0.0, "front", board()), "'front' is there already"),
        (lambda m: m.add_application(0.0, "rear", board(), weight=0.0), "weight is 0"),
        (lambda m: m.set_target(0.0, "rear", Target()), "'rear' is not known: expected one of front"),
        (lambda m: m.remove_application(0.0, "rear"), "'rear' is not known"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name_and_changes_nothing(call, named):
    manager = JointManager(QUIET, CORES)
    manager.add_application(0.0, "front", board())
    with pytest.raises(ValueError, match=named):
        call(manager)
    assert manager.applications == ("front",)


def test_without_applications_there_is_nothing_to_decide():
    manager = JointManager(QUIET, CORES)
    manager.add_application(0.0, "front", board())
    manager.remove_application(1.0, "front")
    assert manager.decide(2.0) == {}
