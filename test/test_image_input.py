"""Which image topic is subscribed to, and how."""

import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from dynamic_perception.nodes.image_input import ImageInput

NEITHER = {"image": "publishers 0, not subscribed", "image/compressed": "publishers 0, not subscribed"}


@pytest.fixture
def frames():
    return []


@pytest.fixture
def follow(ros_node, spin_until, frames):
    """Follow the publishers until the input says what is expected."""
    images = ImageInput(ros_node, frames.append, "auto")

    def until(expected):
        def follows():
            images.follow_publishers()
            return images.describe() == expected

        spin_until(follows, f"{expected}")

    yield until
    images.destroy()


def test_without_a_publisher_nothing_is_subscribed_to(follow):
    follow(NEITHER)


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT])
def test_the_reliability_is_that_of_the_publisher(ros_node, follow, reliability):
    ros_node.create_publisher(Image, "image", QoSProfile(depth=1, reliability=reliability))
    follow({**NEITHER, "image": f"publishers 1, {reliability.name.lower()}"})


def test_frames_that_are_published_raw_and_compressed_are_heard_once_raw(ros_node, follow, spin_until, frames):
    compressed = ros_node.create_publisher(CompressedImage, "image/compressed", 1)
    raw = ros_node.create_publisher(Image, "image", 1)
    follow({"image": "publishers 1, reliable", "image/compressed": "publishers 1, not subscribed"})
    compressed.publish(CompressedImage())
    raw.publish(Image())
    spin_until(lambda: frames, "a frame")
    assert [type(frame) for frame in frames] == [Image]


def test_compressed_frames_are_heard_where_nobody_publishes_raw_ones_any_more(ros_node, follow, spin_until, frames):
    compressed = ros_node.create_publisher(CompressedImage, "image/compressed", 1)
    raw = ros_node.create_publisher(Image, "image", 1)
    follow({"image": "publishers 1, reliable", "image/compressed": "publishers 1, not subscribed"})
    ros_node.destroy_publisher(raw)
    follow({"image": "publishers 0, not subscribed", "image/compressed": "publishers 1, reliable"})
    spin_until(lambda: compressed.get_subscription_count() == 1, "the subscription")
    compressed.publish(CompressedImage())
    spin_until(lambda: frames, "a frame")
