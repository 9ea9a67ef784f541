"""Frames that wait because the machine has just become slower, and those that wait at other times."""

from __future__ import annotations

import math

import pytest
from tables import point, table

from dynamic_perception.management.backlog import Backlog
from dynamic_perception.management.manager import Decision, ManagerSettings, ResourceManager

PERIOD = 33e-3  # [s] between two frames
AROUND = 2e-3  # [s] overhead of a frame that has not waited
POINTS = table(
    [
        point("small", latency=12e-3, accuracy=0.7),
        point("middle", latency=18e-3, accuracy=0.8),
        point("large", latency=25e-3, accuracy=0.9),
    ]
)


class Perception:
    """Takes the newest frame of a camera whenever it is free, and asks before each what to run."""

    def __init__(self, deadline: float = 32e-3):
        self.manager = ResourceManager(POINTS, ManagerSettings(dwell=1.0))
        self.manager.set_deadline(0.0, deadline)
        self.slow_down = 1.0
        self.free_at = 0.0
        self.frame = 0
        self.waited = 0.0  # [s] of the last frame
        self.age = 0.0  # [s] at which the last one was answered

    def run(self, frames: int = 1) -> Decision:
        for _ in range(frames):
            self.frame = max(self.frame + 1, int(self.free_at / PERIOD))
            stamp = self.frame * PERIOD
            start = max(stamp, self.free_at)
            self.decision = self.manager.decide(start)
            running = self.decision.point
            inference = self.slow_down * running.latency
            self.free_at, self.waited = start + inference + AROUND, start - stamp
            self.age = self.free_at - stamp
            self.manager.observe_report(
                self.free_at, running.subnetwork, running.compute_element, inference, self.waited + AROUND
            )
        return self.decision

    def overhead(self) -> float:
        """[s] expected of the next frame."""
        return self.manager.situation().overhead[0]


def test_the_frame_after_a_step_is_in_time_although_it_has_waited():
    perception = Perception()
    assert perception.run(60).point.subnetwork == "large"
    perception.slow_down = 1.36
    perception.run()
    assert perception.age > 32e-3
    for _ in range(10):  # the first of them waits, and is taken to be as slow as the one before
        perception.run()
        assert perception.age < 32e-3


def slow_once(perception: Perception, factor: float) -> None:
    """One inference takes `factor` times as long."""
    perception.slow_down = factor
    perception.run()
    perception.slow_down = 1.0


def test_frames_that_wait_behind_a_single_slow_inference_are_in_time_and_the_point_is_back_at_once():
    perception = Perception()
    before = perception.run(60).index
    slow_once(perception, 1.8)
    assert perception.run().index != before
    assert perception.waited > 5e-3
    assert perception.age < 32e-3
    perception.run()
    assert perception.run().index == before


def test_that_frames_wait_behind_a_single_slow_inference_is_not_learnt_as_overhead():
    perception = Perception()
    perception.run(60)
    deviation = math.sqrt(perception.manager.situation().overhead[1])
    slow_once(perception, 1.8)
    perception.run(10)
    assert perception.overhead() == pytest.approx(AROUND, abs=1e-4)
    assert math.sqrt(perception.manager.situation().overhead[1]) == pytest.approx(deviation, rel=0.2)


def test_slow_inferences_that_come_again_and_again_do_not_move_the_point_for_each_of_them():
    perception, moves = Perception(), 0
    perception.run(60)
    for _ in range(36):  # in 59 s
        before = perception.decision.index
        slow_once(perception, 1.8)
        for _ in range(49):
            moves += perception.run().index != before
            before = perception.decision.index
    assert moves <= 7


def test_a_single_slow_inference_behind_which_no_frame_waits_moves_nothing():
    perception = Perception()
    before = perception.run(60).index
    slow_once(perception, 1.2)
    assert all(perception.run().index == before for _ in range(10))


def test_the_wait_is_that_of_the_next_frame_and_ends_with_the_backlog():
    perception = Perception()
    perception.run(60)
    perception.slow_down = 1.36
    perception.run(2)
    expected = perception.overhead()
    perception.run()
    assert expected == pytest.approx(perception.waited + AROUND, abs=0.2e-3)
    perception.run(3)
    assert perception.waited == 0.0
    assert perception.overhead() == pytest.approx(AROUND, abs=0.2e-3)


def test_frames_that_wait_all_the_time_because_the_camera_is_faster_are_no_backlog_for_long():
    backlog = Backlog()
    for frame in range(40):
        backlog.observe(frame * PERIOD, 1.4 * PERIOD, slow=frame == 20)
        assert backlog.waiting == pytest.approx(0.4 * PERIOD if 20 <= frame < 30 else 0.0)
