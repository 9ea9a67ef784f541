"""The time that decisions count in: steady on a robot, /clock in simulation, and a step of it is told."""

from __future__ import annotations

import time

import pytest
from rclpy.clock import Clock, ClockType, ROSClock
from rclpy.time import Time

from dynamic_perception.nodes.decision_clock import STEP_AHEAD, STEP_BACK, DecisionClock


class Watched:
    """A decision clock whose /clock the test sets, and what it told."""

    def __init__(self, simulated: bool = True):
        self.ros, self.told = ROSClock(), []
        self.ros._set_ros_time_is_active(simulated)
        self.clock = DecisionClock(self.ros, Clock(clock_type=ClockType.STEADY_TIME), self.told.append)

    def set(self, *seconds: float) -> Watched:
        for value in seconds:
            self.ros.set_ros_time_override(Time(nanoseconds=round(1e9 * value), clock_type=ClockType.ROS_TIME))
        return self


def test_on_a_robot_it_is_the_steady_clock():
    watched = Watched(simulated=False)
    assert watched.clock.seconds == pytest.approx(time.monotonic(), abs=1.0)
    assert watched.clock.fault == ""


def test_in_simulation_it_is_that_of_the_simulation():
    watched = Watched().set(100.0, 100.5)
    assert watched.clock.seconds == pytest.approx(100.5)


def test_without_a_clock_time_stands_still_and_that_is_said():
    watched = Watched()
    assert watched.clock.seconds == 0.0 and "nothing was heard on /clock" in watched.clock.fault
    assert watched.set(1.0).clock.fault == ""


@pytest.mark.parametrize("first", [3.0, 1.7e9])
def test_the_first_clock_begins_anew_without_blame(first):
    assert Watched().set(first).told == [""]


@pytest.mark.parametrize(
    "second, words",
    [
        (1000.0 - 1.01 * STEP_BACK, "/clock stepped back by 0.505 s"),
        (1.0, "/clock stepped back by 999 s"),
        (1001.0 + STEP_AHEAD, "/clock stepped ahead by 61 s"),
    ],
)
def test_a_step_is_told_once_with_its_size(second, words):
    watched = Watched().set(1000.0, second, second + 0.1, second + 0.2)
    assert watched.told == ["", words]


def test_time_that_only_passes_or_trembles_is_no_step():
    watched = Watched().set(1000.0, 1000.1, 1000.1 - 0.9 * STEP_BACK, 1010.0, 1000.0 + STEP_AHEAD)
    assert watched.told == [""]


def test_falling_bit_by_bit_is_a_step_too():
    watched = Watched().set(1000.0, *(1000.0 - 0.2 * STEP_BACK * n for n in range(1, 7)))
    assert watched.told == ["", "/clock stepped back by 0.5 s"]


def test_switching_the_simulation_on_and_off_begins_anew():
    watched = Watched(simulated=False)
    watched.ros._set_ros_time_is_active(True)
    watched.set(5.0)
    watched.ros._set_ros_time_is_active(False)
    assert watched.told == ["", "", "use_sim_time was switched off"]
    assert watched.clock.seconds == pytest.approx(time.monotonic(), abs=1.0)


def test_after_its_end_nothing_is_told():
    watched = Watched().set(1000.0)
    watched.clock.close()
    assert watched.set(1.0).told == [""]
