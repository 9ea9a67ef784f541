"""Frames that wait because the machine has just become slower, and those that wait at other times."""

from __future__ import annotations

import pytest

from dynamic_perception.management.backlog import Backlog
from dynamic_perception.management.manager import Decision, ManagerSettings, ResourceManager
from tables import point, table

PERIOD = 33e-3  # [s] between two frames
AROUND = 2e-3   # [s] overhead of a frame that has not waited
POINTS = table([point("small", latency=12e-3, accuracy=0.7), point("middle", latency=18e-3, accuracy=0.8),
                point("large", latency=25e-3, accuracy=0.9)])


class Perception:
    """Takes the newest frame of a camera whenever it is free, and asks before each what to run."""

    def __init__(self, deadline: float = 32e-3):
        self.manager = ResourceManager(POINTS, ManagerSettings(dwell=1.0))
        self.manager.set_deadline(0.0, deadline)
        self.slow_down = 1.0
        self.free_at = 0.0
        self.frame = 0
        self.waited = 0.0  # [s] of the last frame
        self.age = 0.0     # [s] at which the last one was answered

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
            self.manager.observe_report(self.free_at, running.subnetwork, running.compute_element, inference,
                                        self.waited + AROUND)
        return self.decision

    def overhead(self) -> float:
        """[s] expected of the next frame."""
        return self.manager.situation().overhead[0]


def test_the_frame_after_a_step_is_in_time_although_it_has_waited():
    perception = Perception()
    assert perception.run(60).point.subnetwork == "large"
    perception.slow_down = 1.36
    perception.run(2)
    assert perception.age > 32e-3
    perception.run()
    assert perception.waited > 5e-3
    assert perception.age < 32e-3


def test_frames_that_wait_behind_a_single_slow_inference_are_no_overhead_and_move_nothing():
    perception = Perception()
    before = perception.run(60).index
    perception.slow_down = 1.8
    perception.run()
    perception.slow_down = 1.0
    waits = []
    for _ in range(10):
        assert perception.run().index == before
        waits.append(perception.waited)
        assert perception.overhead() == pytest.approx(AROUND, abs=1e-3)
    assert max(waits) > 5e-3


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


def test_one_late_frame_makes_no_backlog():
    perception = Perception()
    perception.run(60)
    before = perception.overhead()
    perception.slow_down = 1.6
    perception.run()
    perception.slow_down = 1.0
    assert perception.overhead() == before
    assert not perception.run().changed


def test_frames_that_wait_all_the_time_because_the_camera_is_faster_are_no_backlog_for_long():
    backlog = Backlog()
    for frame in range(40):
        backlog.observe(frame * PERIOD, 1.4 * PERIOD, stepped=frame == 20)
        assert backlog.waiting == pytest.approx(0.4 * PERIOD if 20 <= frame < 30 else 0.0)
