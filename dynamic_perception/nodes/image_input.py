"""Subscriptions to frames: raw or compressed, with the reliability of whoever publishes them."""

from __future__ import annotations

from typing import Any, Callable

from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

IMAGE_TOPICS = {"image": Image, "image/compressed": CompressedImage}


class ImageInput:
    """Subscribes to every image topic that somebody publishes, and again when its publishers' reliability changes.

    Args:
        node: that subscribes.
        on_image: called with every message.
        reliability: "reliable", "best_effort", or "auto" for that of the publishers.
    """

    def __init__(self, node: Node, on_image: Callable[[Image | CompressedImage], None], reliability: str):
        self._node = node
        self._on_image = on_image
        self._asked = reliability
        self._subscriptions: dict[str, tuple[ReliabilityPolicy, Any]] = {}

    def follow_publishers(self) -> None:
        """Look who publishes now; to be called again and again."""
        for topic, kind in IMAGE_TOPICS.items():
            publishers = self._node.get_publishers_info_by_topic(topic)
            if not publishers:
                continue
            reliability = self._reliability([info.qos_profile for info in publishers])
            current = self._subscriptions.get(topic)
            if current is not None and current[0] == reliability:
                continue
            if current is not None:
                self._node.destroy_subscription(current[1])
            profile = QoSProfile(depth=1, reliability=reliability)
            subscription = self._node.create_subscription(kind, topic, self._on_image, profile)
            self._subscriptions[topic] = reliability, subscription
            self._node.get_logger().info(
                f"receiving '{self._node.resolve_topic_name(topic)}', {reliability.name.lower()}"
            )

    def describe(self) -> dict[str, str]:
        """Per topic, for people: how many publish, and how it is received."""
        texts = {}
        for topic in IMAGE_TOPICS:
            current = self._subscriptions.get(topic)
            received = current[0].name.lower() if current else "not subscribed"
            texts[topic] = f"publishers {len(self._node.get_publishers_info_by_topic(topic))}, {received}"
        return texts

    def destroy(self) -> None:
        """End all subscriptions."""
        for _, subscription in self._subscriptions.values():
            self._node.destroy_subscription(subscription)
        self._subscriptions = {}

    def _reliability(self, offered: list[QoSProfile]) -> ReliabilityPolicy:
        asked = self._asked
        if asked == "auto":  # best effort also hears reliable publishers, but not the other way round
            asked = "reliable" if all(p.reliability == ReliabilityPolicy.RELIABLE for p in offered) else "best_effort"
        return ReliabilityPolicy.RELIABLE if asked == "reliable" else ReliabilityPolicy.BEST_EFFORT
