"""A segmenter's answers as images: the class of every pixel, and a picture of it for people."""

from __future__ import annotations

import cv2
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dynamic_perception.engines.scaling import scale_labels
from dynamic_perception.networks.bundle import Colour, ModelBundle
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.image_messages import to_message
from dynamic_perception.nodes.managed_node import ManagedNode
from dynamic_perception.nodes.vision_output import LabelInfo

OPACITY = 0.5  # of the classes' colours over the frame


class SegmentationOutput:
    """Publishes class numbers on `segmentation` and the frame under the classes' colours on `overlay`.

    Both have the frame's size and header.  The overlay is only drawn while somebody subscribes to it.

    Args:
        node: that publishes.
        bundle: whose classes and colours they are.
    """

    def __init__(self, node: ManagedNode, bundle: ModelBundle):
        self._node = node
        self._segmentations = node.create_publisher(Image, "segmentation", qos.RESULTS)
        self._overlays = node.create_publisher(Image, "overlay", qos.IMAGE)
        self._info = LabelInfo.create(node, bundle.labels)
        self._colours = colour_table(bundle.palette or distinct_colours(len(bundle.labels)))

    @property
    def draws(self) -> bool:
        """Whether the frame's pixels are needed at its own size, because somebody subscribes to the overlay."""
        return self._overlays.get_subscription_count() > 0

    def publish(
        self, header: Header, labels: np.ndarray, size: tuple[int, int], pixels: np.ndarray, to_rgb: int | None
    ) -> None:
        """Publish an answer.

        Args:
            header: of the frame.
            labels: class numbers, uint8, at the size of the network's input.
            size: height and width [pixel] of the frame.
            pixels: of the frame; smaller than it if nobody wanted an overlay when it was decoded.
            to_rgb: OpenCV code that makes them RGB; None if they are.
        """
        labels = scale_labels(labels, size)
        self._segmentations.publish(to_message(labels, "mono8", header))
        if self.draws and pixels.shape[:2] == size:
            colours = cv2.applyColorMap(labels, self._colours)
            overlay = cv2.addWeighted(_bgr(pixels, to_rgb), 1 - OPACITY, colours, OPACITY, 0)
            self._overlays.publish(to_message(overlay, "bgr8", header))

    def destroy(self) -> None:
        """Take the topics back."""
        self._node.destroy_publisher(self._segmentations)
        self._node.destroy_publisher(self._overlays)
        if self._info is not None:
            self._info.destroy()


def distinct_colours(count: int) -> list[Colour]:
    """`count` RGB colours of evenly spaced hues, for classes that have none of their own."""
    hues = np.arange(count) * 180 // count  # OpenCV counts hues in steps of two degrees
    hsv = np.stack([hues, np.full(count, 200), np.full(count, 230)], axis=-1).astype(np.uint8)
    return [tuple(colour) for colour in cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0].tolist()]


def colour_table(palette: tuple[Colour, ...] | list[Colour]) -> np.ndarray:
    """BGR colours by class number, uint8 [256, 1, 3], as OpenCV takes a colour map; black beyond the palette."""
    table = np.zeros((256, 1, 3), np.uint8)
    table[: len(palette), 0] = np.array(palette)[:, ::-1]
    return table


def _bgr(pixels: np.ndarray, to_rgb: int | None) -> np.ndarray:
    if to_rgb == cv2.COLOR_BGR2RGB:
        return pixels
    return cv2.cvtColor(pixels if to_rgb is None else cv2.cvtColor(pixels, to_rgb), cv2.COLOR_RGB2BGR)
