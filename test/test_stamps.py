"""Stamps that no clock gives: none is lost for them, and none ends a node."""

import numpy as np
import pytest
from builtin_interfaces.msg import Time
from bundles import make_bundle
from dynamic_perception.msg import InferenceReport
from perception_client import PerceptionClient
from sensor_msgs.msg import Image

from dynamic_perception.nodes import qos
from dynamic_perception.nodes.stamps import nanoseconds, seconds

IMPOSSIBLE = [Time(sec=-1), Time(sec=-(2**31), nanosec=2**32 - 1), Time(sec=2**31 - 1, nanosec=2**32 - 1)]


@pytest.mark.parametrize("stamp", [*IMPOSSIBLE, Time(), Time(sec=1, nanosec=5 * 10**8)], ids=str)
def test_every_stamp_that_a_message_can_hold_is_a_number(stamp):
    assert nanoseconds(stamp) == 10**9 * stamp.sec + stamp.nanosec
    assert seconds(stamp) == pytest.approx(stamp.sec + 1e-9 * stamp.nanosec)


def test_a_lossless_camera_goes_on_after_reports_with_impossible_stamps(start_node, ros_node, spin_until):
    frames = []
    ros_node.create_subscription(Image, "image", frames.append, qos.IMAGE)
    reports = ros_node.create_publisher(InferenceReport, "inference_report", qos.RESULTS)
    camera = start_node("camera", {"source": "synthetic", "width": 64, "height": 48, "lossless": True})
    spin_until(lambda: frames, "the first frame")
    for stamp in IMPOSSIBLE:
        report = InferenceReport()
        report.header.stamp = stamp
        reports.publish(report)
    for number in range(1, 4):
        report = InferenceReport(header=frames[-1].header)
        reports.publish(report)
        spin_until(lambda number=number: len(frames) > number, "the next frame")
    assert camera.stop() == 0
    assert "Traceback" not in camera.output()


def test_a_frame_with_a_negative_stamp_is_answered_and_said_in_a_sentence(start_node, ros_node, spin_until, tmp_path):
    perception = start_node("perception", {"model": str(make_bundle(tmp_path / "tiny").folder)})
    client = PerceptionClient(ros_node, spin_until).connect()
    client.send(np.zeros((32, 32, 3), np.uint8), header=_header(Time(sec=-7)))
    spin_until(lambda: -7 in client.answers and -7 in client.reports, "the answer")
    assert 0.0 <= client.reports[-7].age_at_start < 1.0  # since its arrival
    spin_until(lambda: client.diagnosed("last fault", "stamped 7 s before 1970"), "diagnostics that name the stamp")
    client.ask(np.zeros((32, 32, 3), np.uint8))
    assert perception.stop() == 0
    assert "Traceback" not in perception.output()


def _header(stamp):
    header = Image().header
    header.stamp = stamp
    return header
