"""A classifier's answers as messages: the best classes of a frame and their scores."""

from __future__ import annotations

import numpy as np
from std_msgs.msg import Header

from dynamic_perception.engines.engine import Ranking
from dynamic_perception.msg import Classification
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.managed_node import ManagedNode
from dynamic_perception.nodes.vision_output import VisionClassification


class ClassificationOutput:
    """Publishes on `classification`, and as `vision_msgs` where they are installed.

    Args:
        node: that publishes; its parameter `top_k` says how many classes an answer has.
        bundle: whose classes they are.
    """

    def __init__(self, node: ManagedNode, bundle: ModelBundle):
        self._node = node
        self._labels = bundle.labels
        self._answers = node.create_publisher(Classification, "classification", qos.RESULTS)
        self._vision = VisionClassification.create(node, bundle.labels)

    draws = False  # no pixels of the frame are needed

    def publish(
        self, header: Header, answer: Ranking, size: tuple[int, int], pixels: np.ndarray, to_rgb: int | None
    ) -> None:
        """Publish the best classes by softmax score, in falling order."""
        count = self._node.value("top_k")
        labels = [self._labels[i] for i in answer.classes[:count]]
        message = Classification(header=header, labels=labels, scores=answer.scores[:count].tolist())
        self._answers.publish(message)
        if self._vision is not None:
            self._vision.publish(message)

    def destroy(self) -> None:
        """Take the topics back."""
        self._node.destroy_publisher(self._answers)
        if self._vision is not None:
            self._vision.destroy()
