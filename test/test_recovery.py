"""After a phase of contention the manager is soon back at the point that it had before."""

from __future__ import annotations

import itertools
import math

import pytest
from tables import point, table
from virtual_robot import FRAME, Robot, name

from dynamic_perception.management.manager import ManagerSettings

CONTENTION = 20.0  # [s]
FEW_SECONDS = 6.5  # the dwell of 5 s, and what it takes to notice


def seconds_to_return(robot: Robot, before: str, limit: float = 120.0) -> float:
    """How long the robot runs until it is at the point `before` again, or a better one [s]; inf after `limit`."""
    start, table = robot.time, robot.manager.table
    accuracy = max(row.accuracy for row in table if str(row).startswith(before))
    while robot.time - start < limit:
        if robot.run(FRAME).point.accuracy >= accuracy:
            return robot.time - start
    return math.inf


def contended(
    slow_down: dict[str, float], deadline: float = 15e-3, points=None, noise: float = 0.02, seconds: float = CONTENTION
) -> tuple[Robot, str]:
    """A robot whose elements were slowed by other work, which has just ended, and its point before that."""
    robot = Robot(ManagerSettings(report_timeout=math.inf), points=points, noise=noise)
    robot.manager.set_deadline(0.0, deadline)
    before = name(robot.run(10.0))
    robot.slow_down = slow_down
    assert name(robot.run(seconds)) != before
    robot.slow_down = {}
    return robot, before


@pytest.mark.parametrize("deadline", [14.5e-3, 15e-3, 20e-3, 28e-3])
@pytest.mark.parametrize("noise", [0.0, 0.02, 0.05])
def test_when_a_whole_cluster_was_slowed_the_earlier_point_is_back_within_seconds(deadline, noise):
    robot, before = contended({"cpu:1": 3.0, "cpu:2": 3.0}, deadline, noise=noise)
    assert seconds_to_return(robot, before) < FEW_SECONDS


def test_while_a_whole_cluster_is_slowed_nothing_is_tried_that_cannot_work():
    robot, _ = contended({"cpu:1": 3.0, "cpu:2": 3.0}, seconds=300.0)
    moves = [change for change in robot.changes if "was" in change.detail]
    assert len(moves) <= 6


def test_when_one_element_was_slowed_it_is_tried_again_about_as_long_after_as_the_contention_lasted():
    robot, before = contended({"cpu:2": 3.0})
    assert seconds_to_return(robot, before) < 0.75 * CONTENTION


def test_a_single_element_that_recovers_is_back_within_seconds():
    points = table(
        [
            point(subnetwork, "cpu:2", latency, accuracy=accuracy)
            for subnetwork, latency, accuracy in (("25%", 2e-3, 0.78), ("50%", 4e-3, 0.81), ("100%", 11e-3, 0.85))
        ]
    )
    robot, before = contended({"cpu:2": 3.0}, deadline=18e-3, points=points)
    assert before == "100% on cpu:2"
    assert seconds_to_return(robot, before) < FEW_SECONDS


def test_an_element_that_stays_slow_is_tried_less_and_less_often():
    robot, _ = contended({"cpu:2": 3.0}, seconds=600.0)
    tried = [time for change, time in zip(robot.changes, robot.times) if "on cpu:2" in name(change)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(tried) if later - earlier > 1.0]
    assert 2 <= len(gaps) <= 16
    assert min(gaps[-3:]) > 2 * max(gaps[:3])


def test_when_everything_is_slowed_alike_the_other_elements_are_not_tried_one_by_one():
    points = table(
        [
            point(subnetwork, element, latency * factor, accuracy=accuracy)
            for element, factor in (("cpu:4", 1.0), ("cpu:3", 1.1), ("cpu:2", 1.3), ("cpu:1", 1.9))
            for subnetwork, latency, accuracy in (("50%", 5e-3, 0.81), ("100%", 10e-3, 0.85))
        ]
    )
    robot = Robot(ManagerSettings(), points=points, noise=0.02)
    robot.manager.set_deadline(0.0, 16e-3)
    assert name(robot.run(10.0)) == "100% on cpu:4"
    robot.slow_down = dict.fromkeys(points.elements, 1.6)
    robot.run(3 * FRAME)
    late = 0
    for _ in range(60):
        decision = robot.run(FRAME)
        late += 1.6 * decision.point.latency + robot.overhead > 16e-3
    assert late == 0 and len(robot.changes) == 2


def test_where_one_element_stays_slowed_another_is_found():
    robot = Robot(noise=0.02)
    robot.manager.set_deadline(0.0, 30e-3)
    assert name(robot.run(10.0)) == "100% on cpu:2"
    robot.slow_down = {"cpu:2": 2.4}
    assert name(robot.run(1.0)) != "100% on cpu:1"
    assert name(robot.run(90.0)) == "100% on cpu:1"
