"""A message that the middleware cannot read does not vanish without a word, and what strangers write stays one line."""

import struct

import pytest
from diagnostic_msgs.msg import DiagnosticArray
from dynamic_perception.msg import InferenceReport
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from dynamic_perception.nodes import qos
from dynamic_perception.nodes.managed_node import printable

CAMERA = {"source": "synthetic", "scene": "objects", "width": 64, "height": 48, "lossless": True}
COUNT = 30


def unreadable() -> bytes:
    """A report whose first text is longer than the message."""
    data = bytearray(serialize_message(InferenceReport()))
    data[12:16] = struct.pack("<I", 2**31 - 1)  # behind 4 bytes for the byte order, and 8 of the stamp
    return bytes(data)


def test_a_message_that_cannot_be_read_is_named_and_the_next_one_is_heard(start_node, ros_node, spin_until):
    frames, diagnosed = [], {}
    ros_node.create_subscription(Image, "image", frames.append, qos.IMAGE)
    ros_node.create_subscription(
        DiagnosticArray,
        "/diagnostics",
        lambda array: diagnosed.update({p.key: p.value for s in array.status for p in s.values}),
        10,
    )
    reports = ros_node.create_publisher(InferenceReport, "inference_report", qos.RESULTS)
    camera = start_node("camera", CAMERA)
    spin_until(lambda: frames and reports.get_subscription_count(), "the first frame")
    for _ in range(COUNT):
        reports.publish(unreadable())
    spin_until(lambda: "faults: message not read" in diagnosed, "the count in diagnostics")
    assert "InferenceReport" in diagnosed["last fault"]
    reports.publish(InferenceReport(header=frames[-1].header))
    known = len(frames)
    spin_until(lambda: len(frames) > known, "the next frame")
    assert "This error state is being overwritten" not in camera.output()
    assert camera.output().count("a message was not read") == 1


@pytest.mark.parametrize("text", ["a\nb", "\x1b[31mred", "\x00", "\u2028", "\ud800", "a\rb"])
def test_what_strangers_write_is_printed_as_one_line_that_moves_no_cursor(text):
    assert printable(text).isprintable() and printable(text).encode()


def test_letters_of_any_language_stay_as_they_are():
    assert printable("Größe 22 °C, 温度") == "Größe 22 °C, 温度"
