"""The answers once more as `vision_msgs`, for tools that know those, where that package is installed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rclpy.node import Node

from dynamic_perception.msg import Classification
from dynamic_perception.nodes import qos


class LabelInfo:
    """Publishes the names of the classes by their numbers, latched, on `label_info`."""

    def __init__(self, node: Node, labels: Sequence[str], messages: Any):
        self._node = node
        self._messages = messages
        self._info = node.create_publisher(messages.LabelInfo, "label_info", qos.LATCHED_COMMAND)
        info = messages.LabelInfo(
            class_map=[messages.VisionClass(class_id=i, class_name=label) for i, label in enumerate(labels)]
        )
        info.header.stamp = node.get_clock().now().to_msg()
        self._info.publish(info)

    @classmethod
    def create(cls, node: Node, labels: Sequence[str]) -> LabelInfo | None:
        """The output, or None where `vision_msgs` is not installed."""
        try:
            from vision_msgs import msg
        except ImportError:
            return None
        return cls(node, labels, msg)

    def destroy(self) -> None:
        """Take the topic back."""
        self._node.destroy_publisher(self._info)


class VisionClassification(LabelInfo):
    """Publishes `vision_msgs/Classification` on `vision_classification` as well."""

    def __init__(self, node: Node, labels: Sequence[str], messages: Any):
        super().__init__(node, labels, messages)
        self._answers = node.create_publisher(messages.Classification, "vision_classification", qos.RESULTS)

    def publish(self, answer: Classification) -> None:
        """Publish an answer with one hypothesis per label."""
        self._answers.publish(
            self._messages.Classification(
                header=answer.header,
                results=[
                    self._messages.ObjectHypothesis(class_id=label, score=float(score))
                    for label, score in zip(answer.labels, answer.scores)
                ],
            )
        )

    def destroy(self) -> None:
        super().destroy()
        self._node.destroy_publisher(self._answers)
