"""Subscriptions to frames: raw or compressed, with the reliability of whoever publishes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

IMAGE_TOPICS = {"image": Image, "image/compressed": CompressedImage}


class ImageInput:
    """Subscribes to the image topic that somebody publishes, and again when that or the reliability changes.

    Drivers with image_transport publish the same frames raw and compressed, so only one of them is subscribed to: raw
    ones where there are any, as these need no decoding.

    Args:
        node: that subscribes.
        on_image: called with every message.
        reliability: "reliable", "best_effort", or "auto" for that of the publishers.
    """

    def __init__(self, node: Node, on_image: Callable[[Image | CompressedImage], None], reliability: str):
        self._node = node
        self._on_image = on_image
        self._asked = reliability
        self._current: tuple[str, ReliabilityPolicy] | None = None
        self._subscription: Any = None

    def follow_publishers(self) -> None:
        """Look who publishes now; to be called again and again."""
        for topic, kind in IMAGE_TOPICS.items():
            publishers = self._node.get_publishers_info_by_topic(topic)
            if publishers:
                self._subscribe(topic, kind, self._reliability([info.qos_profile for info in publishers]))
                return

    def _subscribe(self, topic: str, kind: type, reliability: ReliabilityPolicy) -> None:
        if self._current == (topic, reliability):
            return
        self.destroy()
        self._current = topic, reliability
        self._subscription = self._node.create_subscription(
            kind, topic, self._on_image, QoSProfile(depth=1, reliability=reliability)
        )
        self._node.get_logger().info(f"receiving '{self._node.resolve_topic_name(topic)}', {reliability.name.lower()}")

    def describe(self) -> dict[str, str]:
        """Per topic, for people: how many publish, and how it is received."""
        received = {self._current[0]: self._current[1].name.lower()} if self._current else {}
        return {
            topic: f"publishers {len(self._node.get_publishers_info_by_topic(topic))}, "
            f"{received.get(topic, 'not subscribed')}"
            for topic in IMAGE_TOPICS
        }

    def destroy(self) -> None:
        """End the subscription."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
        self._current, self._subscription = None, None

    def _reliability(self, offered: list[QoSProfile]) -> ReliabilityPolicy:
        asked = self._asked
        if asked == "auto":  # best effort also hears reliable publishers, but not the other way round
            asked = "reliable" if all(p.reliability == ReliabilityPolicy.RELIABLE for p in offered) else "best_effort"
        return ReliabilityPolicy.RELIABLE if asked == "reliable" else ReliabilityPolicy.BEST_EFFORT
