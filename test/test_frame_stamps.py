"""Stamps of real frames: what cannot be is named, the deadline counts from the arrival, and is never met by luck."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builtin_interfaces.msg import Duration, Time
from bundles import make_bundle
from conftest import wait_for
from diagnostic_msgs.msg import DiagnosticStatus
from dynamic_perception.msg import InferenceReport
from perception_client import PerceptionClient
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from dynamic_perception.nodes import qos
from dynamic_perception.nodes.frame_age import SETTLED

NANOSECONDS = 10**9


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


class Driver(PerceptionClient):
    """A camera's driver whose clock is off."""

    def __init__(self, node, spin_until, bundle):
        super().__init__(node, spin_until)
        self.image = np.zeros((*bundle.input_size("100%"), 3), np.uint8)
        self.frames, self.made = 0, []
        node.create_subscription(InferenceReport, "inference_report", self.made.append, qos.RESULTS)

    def ask_at(self, stamp: Time) -> InferenceReport:
        """The report of a frame of this stamp."""
        self.frames += 1
        name = f"frame {self.frames}"
        self.send(self.image, header=Header(stamp=stamp, frame_id=name))
        self.spin_until(lambda: any(r.header.frame_id == name for r in self.made), f"the report of {name}")
        return self.made[-1]

    def ask_behind(self, seconds: float) -> InferenceReport:
        """The report of a frame that is stamped so many seconds ago."""
        stamp = self.node.get_clock().now().nanoseconds - round(NANOSECONDS * seconds)
        return self.ask_at(Time(sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS))

    def diagnose(self, text: str, level: bytes = DiagnosticStatus.WARN) -> None:
        """Wait until diagnostics say this."""
        self.diagnostics.clear()
        self.spin_until(
            lambda: any(text in s.message and s.level == level for s in self.diagnostics), f"'{text}' in diagnostics"
        )


@pytest.fixture
def driver(start_node, ros_node, spin_until, bundle) -> Driver:
    node = start_node("perception", {"model": str(bundle.folder), "command_timeout": 0.0, "deadline": 1.0})
    driver = Driver(ros_node, spin_until, bundle).connect()
    driver.process = node
    return driver


@pytest.mark.parametrize(
    "stamp, words",
    [
        (Time(sec=-1), "stamped 1 s before 1970"),
        (Time(), "carry no stamp"),
        (Time(sec=1234), "stamped 1234 s since a start"),
        (Time(sec=2**31 - 1), "ahead of this machine's clock"),
    ],
    ids=["negative", "none", "since start", "far ahead"],
)
def test_a_frame_of_a_stamp_that_cannot_be_is_answered_and_its_deadline_counts_from_its_arrival(driver, stamp, words):
    report = driver.ask_at(stamp)
    parts = report.preprocess_duration + report.inference_duration + report.postprocess_duration
    assert 0.0 <= report.age_at_start < 0.5
    assert report.end_to_end_duration == pytest.approx(report.age_at_start + parts)
    assert report.deadline_met and report.deadline == 1.0
    driver.diagnose(words)
    assert words in driver.process.output() and "Traceback" not in driver.process.output()


@pytest.mark.parametrize("behind, words", [(-2.0, "s ahead of this machine"), (3600.0, "stamped 3600 s behind")])
def test_a_drivers_clock_that_is_off_is_told_once_with_by_how_much_until_it_is_right(driver, behind, words):
    for _ in range(3):
        assert 0.0 <= driver.ask_behind(behind).age_at_start < 0.5
    driver.diagnose(words)
    for _ in range(SETTLED):
        driver.ask_behind(0.0)
    driver.spin_until(lambda: "plausible again" in driver.process.output(), "the end in the log")
    driver.diagnostics.clear()
    driver.spin_until(
        lambda: driver.ask_behind(0.0) and any(s.level == DiagnosticStatus.OK for s in driver.diagnostics),
        "diagnostics without a fault while frames go on",
    )
    assert driver.process.output().count("this machine's clock") == 1


def test_a_deadline_is_not_met_because_the_drivers_clock_is_ahead(driver):
    driver.deadlines.publish(Duration(nanosec=1000))
    driver.spin_until(lambda: driver.ask_behind(0.0).deadline == pytest.approx(1e-6), "the deadline of one microsecond")
    for behind in (-2.0, -0.04, -3600.0, 3600.0):
        report = driver.ask_behind(behind)
        assert not report.deadline_met and report.end_to_end_duration > 0.0


def test_frames_that_come_seconds_late_miss_the_deadline_and_diagnostics_say_that_no_point_helps(driver):
    report = driver.ask_behind(5.0)
    assert report.age_at_start == pytest.approx(5.0, abs=0.5) and not report.deadline_met
    driver.diagnose("too late at any operating point")


def test_without_a_deadline_reports_say_so(start_node, ros_node, spin_until, bundle):
    start_node("perception", {"model": str(bundle.folder), "command_timeout": 0.0})
    report = Driver(ros_node, spin_until, bundle).connect().ask_behind(0.0)
    assert math.isnan(report.deadline) and report.deadline_met


def test_while_there_is_no_simulated_clock_the_deadline_counts_from_the_arrival(
    start_node, ros_node, spin_until, bundle
):
    node = start_node("perception", {"model": str(bundle.folder), "command_timeout": 0.0, "use_sim_time": True})
    driver = Driver(ros_node, spin_until, bundle).connect()
    assert 0.0 <= driver.ask_at(Time(sec=100)).age_at_start < 0.5
    wait_for(lambda: "nothing was heard on /clock yet" in node.output(), "the missing clock in the log")
    clock = ros_node.create_publisher(Clock, "/clock", 1)

    def follows():
        clock.publish(Clock(clock=Time(sec=100, nanosec=500_000_000)))
        return driver.ask_at(Time(sec=100)).age_at_start == pytest.approx(0.5)

    spin_until(follows, "an age by the simulated clock")
