"""How frames become the input of a network, and label maps the size of a frame: one way for training and running.

An accuracy that is measured offline is that of the running node only if both scale alike, to the last bit.
"""

from __future__ import annotations

import cv2
import numpy as np


def scale_image(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`image` [H, W, 3] at `size` = (height, width) [pixel]; the image itself if it has that size."""
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)


def scale_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Label map [H, W] at `size` = (height, width) [pixel] by nearest neighbour, which invents no label."""
    # INTER_NEAREST would measure from the pixels' corners, and so shift the map by up to half a pixel.
    return labels if labels.shape == size else cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
