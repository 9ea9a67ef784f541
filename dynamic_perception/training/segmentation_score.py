"""Mean intersection over union of label maps."""

from __future__ import annotations

import numpy as np


def count_confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by true (row) and predicted (column) class, int64 [classes, classes]; truths >= `classes` do not count."""
    counted = truth < classes
    pairs = classes * truth[counted].astype(np.int64) + predicted[counted]
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_ious(confusion: np.ndarray) -> np.ndarray:
    """Intersection over union per class, float64 [classes]; NaN for a class that is neither there nor predicted."""
    right = np.diag(confusion).astype(np.float64)
    union = confusion.sum(axis=0) + confusion.sum(axis=1) - right
    with np.errstate(invalid="ignore"):
        return right / union


def mean_iou(confusion: np.ndarray) -> float:
    """Mean of the classes' intersections over unions, pixels of all images counted together."""
    return float(np.nanmean(class_ious(confusion)))
