"""A clock that stays below what was asked for is learnt as that, and not as other work."""

from __future__ import annotations

import math

import pytest
from tables import point, table
from virtual_robot import FRAME

from dynamic_perception.management.manager import ManagerSettings, Reason, ResourceManager
from dynamic_perception.management.target import Objective, Target

FAST, SLOW = 2.0e9, 1.0e9
NO_TIMEOUT = ManagerSettings(report_timeout=math.inf)


def board():
    """Two subnetworks on one cluster at two clocks: 2e7 and 4e7 cycles."""
    return table(
        [
            point(name, "cpu:4", cycles / clock, power, accuracy, cpu_frequency=clock)
            for name, cycles, accuracy in (("small", 2e7, 0.7), ("large", 4e7, 0.8))
            for clock, power in ((SLOW, 2.0), (FAST, 5.0))
        ]
    )


class Robot:
    """A robot whose cluster does not go beyond `ceiling` [Hz], and says so or not."""

    def __init__(self, deadline: float):
        self.manager = ResourceManager(board(), NO_TIMEOUT)
        self.manager.set_deadline(0.0, deadline)
        self.time, self.ceiling, self.tells = 0.0, math.inf, True

    def run(self, seconds: float):
        for _ in range(round(seconds / FRAME)):
            decision = self.manager.decide(self.time)
            asked = decision.point.cpu_frequency
            actual = min(asked, self.ceiling)
            self.manager.observe_report(
                self.time,
                decision.point.subnetwork,
                "cpu:4",
                decision.point.latency * asked / actual,
                2e-3,
                cpu_frequency=actual if self.tells else math.nan,
            )
            self.time += FRAME
        return decision


def test_a_throttled_clock_is_no_contention():
    robot = Robot(deadline=27e-3)
    assert str(robot.run(6.0).point) == "large on cpu:4 at cpu 2000 MHz"
    robot.ceiling = 1.4e9
    decision = robot.run(1.0)
    status = robot.manager.status(robot.time)
    assert status["slow_down"]["cpu:4"][0] == pytest.approx(1.0, abs=0.02)
    assert status["throttled"] == {"cpu": 1.4e9}
    assert str(decision.point) == "small on cpu:4 at cpu 1000 MHz"
    assert decision.detail.startswith("cpu clock throttled to 1400 MHz (2000 MHz asked): ")


def test_without_being_told_it_can_only_look_like_other_work():
    robot = Robot(deadline=27e-3)
    robot.run(6.0)
    robot.ceiling, robot.tells = 1.4e9, False
    decision = robot.run(1.0)
    assert decision.reason is Reason.CONTENTION
    assert robot.manager.status(robot.time)["slow_down"]["cpu:4"][0] == pytest.approx(2.0 / 1.4, abs=0.05)


def test_a_clock_that_recovers_is_tried_again():
    robot = Robot(deadline=27e-3)
    robot.run(6.0)
    robot.ceiling = 1.4e9
    robot.run(3.0)
    robot.ceiling = math.inf
    assert str(robot.run(20.0).point) == "large on cpu:4 at cpu 2000 MHz"
    assert robot.manager.status(robot.time)["throttled"] == {}


def test_while_deadlines_are_missed_a_clock_that_recovers_is_used_at_once():
    robot = Robot(deadline=15e-3)
    assert str(robot.run(6.0).point) == "small on cpu:4 at cpu 2000 MHz"
    robot.ceiling = 1.2e9
    assert robot.run(1.0).relaxed
    robot.ceiling = math.inf
    decision = robot.run(2.5)
    assert str(decision.point) == "small on cpu:4 at cpu 2000 MHz" and decision.feasible


def test_a_frame_that_was_under_way_when_the_clock_changed_is_not_throttled():
    manager = ResourceManager(board(), NO_TIMEOUT)
    manager.set_deadline(0.0, 27e-3)
    assert manager.decide(0.0).point.cpu_frequency == FAST
    manager.observe_report(0.1, "large", "cpu:4", 40e-3, 2e-3, cpu_frequency=SLOW)
    assert manager.status(0.1)["throttled"] == {}


def test_the_first_frame_on_another_element_tells_already():
    points = [
        point("large", "a:4", 20e-3, 5.0, 0.8, cpu_frequency=FAST),
        point("large", "b:4", 25e-3, 2.0, 0.8, cpu_frequency=FAST),
    ]
    manager = ResourceManager(table(points), NO_TIMEOUT)
    manager.set_target(0.0, Target(max_latency=40e-3, objective=Objective.MIN_ENERGY))
    assert manager.decide(0.0).point.compute_element == "b:4"
    manager.set_deadline(0.0, 25e-3)
    assert manager.decide(0.0).point.compute_element == "a:4"
    manager.observe_report(0.1, "large", "a:4", 40e-3, 2e-3, cpu_frequency=SLOW)
    assert manager.status(0.1)["throttled"] == {"a": SLOW}


def test_a_state_tells_it_too():
    manager = ResourceManager(board(), NO_TIMEOUT)
    manager.set_deadline(0.0, 27e-3)
    assert manager.decide(0.0).point.cpu_frequency == FAST
    manager.observe_clock(0.1, "cpu:4", FAST, 1.4e9)
    assert manager.decide(0.1).point.cpu_frequency == SLOW


def test_where_every_point_asks_for_more_they_may_all_run():
    manager = ResourceManager(board(), NO_TIMEOUT)
    manager.observe_clock(0.0, "cpu:4", SLOW, 0.5e9)
    assert manager.decide(0.0).point.subnetwork == "large"


@pytest.mark.parametrize("asked, actual", [(FAST, FAST * 0.995), (math.nan, 1e9), (0.0, 1e9), (FAST, math.nan)])
def test_a_clock_that_is_reached_or_not_known_is_not_throttled(asked, actual):
    manager = ResourceManager(board(), NO_TIMEOUT)
    manager.observe_clock(0.0, "cpu:4", asked, actual)
    assert manager.status(0.0)["throttled"] == {}


# The GPU's clock ----------------------------------------------------------------------------------------------------


def gpu_board(clocks=(SLOW, FAST), more=()):
    """Two subnetworks on a GPU at each of its clocks, as in `board`, whose CPU has one clock."""
    return table(
        [
            point(name, "gpu:1", cycles / clock, 2.5 * clock / 1e9, accuracy, cpu_frequency=3e9, gpu_frequency=clock)
            for name, cycles, accuracy in (("small", 2e7, 0.7), ("large", 4e7, 0.8))
            for clock in clocks
        ]
        + list(more)
    )


class GpuRobot:
    """A robot whose GPU does not go beyond `ceiling` [Hz], and whose reports say so."""

    def __init__(self, operating_points, deadline: float):
        self.manager = ResourceManager(operating_points, NO_TIMEOUT)
        self.manager.set_deadline(0.0, deadline)
        self.time, self.ceiling, self.missed, self.deadline = 0.0, math.inf, 0, deadline

    def run(self, seconds: float):
        self.missed = 0
        for _ in range(round(seconds / FRAME)):
            decision = self.manager.decide(self.time)
            point = decision.point
            asked, has_gpu = point.gpu_frequency, point.gpu_frequency > 0
            actual = min(asked, self.ceiling) if has_gpu else math.nan
            latency = point.latency * (asked / actual if has_gpu else 1.0)
            self.missed += latency + 2e-3 > self.deadline
            self.manager.observe_report(
                self.time, point.subnetwork, point.compute_element, latency, 2e-3, point.cpu_frequency, actual
            )
            self.time += FRAME
        return decision


def test_a_throttled_gpu_is_known_as_such():
    robot = GpuRobot(gpu_board(), deadline=27e-3)
    assert str(robot.run(6.0).point) == "large on gpu:1 at cpu 3000 MHz, gpu 2000 MHz"
    robot.ceiling = 1.4e9
    decision = robot.run(1.0)
    status = robot.manager.status(robot.time)
    assert status["slow_down"]["gpu:1"][0] == pytest.approx(1.0, abs=0.02)
    assert status["throttled"] == {"gpu": 1.4e9}
    assert (decision.point.subnetwork, decision.point.gpu_frequency) == ("small", SLOW)
    assert decision.detail.startswith("gpu clock throttled to 1400 MHz (2000 MHz asked): ")
    assert robot.missed <= 3


def test_a_gpu_that_recovers_is_tried_again():
    robot = GpuRobot(gpu_board(), deadline=27e-3)
    robot.run(6.0)
    robot.ceiling = 1.4e9
    robot.run(3.0)
    robot.ceiling = math.inf
    decision = robot.run(20.0)
    assert (decision.point.subnetwork, decision.point.gpu_frequency) == ("large", FAST)
    assert robot.manager.status(robot.time)["throttled"] == {}


def test_a_gpu_with_one_clock_is_slower_than_profiled_while_it_is_throttled_and_no_deadline_is_missed_in_silence():
    robot = GpuRobot(gpu_board(clocks=(FAST,)), deadline=27e-3)
    robot.run(6.0)
    robot.ceiling = 1.4e9
    decision = robot.run(2.0)
    assert decision.point.subnetwork == "small" and decision.feasible
    robot.ceiling = 0.5e9
    decision = robot.run(2.0)
    assert decision.relaxed and not decision.feasible


def test_a_throttled_gpu_that_is_fast_enough_is_not_left_for_the_cpu():
    cpu = point("small", "cpu:4", 25e-3, 8.0, 0.7, cpu_frequency=3e9)
    robot = GpuRobot(gpu_board(clocks=(FAST,), more=[cpu]), deadline=27e-3)
    robot.run(6.0)
    robot.ceiling = 1.9e9
    decision = robot.run(2.0)
    assert str(decision.point.compute_element) == "gpu:1" and decision.point.subnetwork == "large"


def test_the_clock_of_a_gpu_and_that_of_the_cpu_beside_it_are_two():
    manager = ResourceManager(gpu_board(), NO_TIMEOUT)
    manager.observe_clock(0.0, "gpu:1", 3e9, 2e9, "cpu")
    manager.observe_clock(0.0, "gpu:1", FAST, 1.4e9, "gpu")
    assert manager.status(0.0)["throttled"] == {"gpu cpu": 2e9, "gpu": 1.4e9}
