"""Mean IoU, against its definition."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dynamic_perception.training.segmentation_score import class_ious, count_confusion, mean_iou

CLASSES = 4
TRUTHS = arrays(np.uint8, (6, 5), elements=st.integers(0, CLASSES))  # CLASSES itself is void
ANSWERS = arrays(np.uint8, (6, 5), elements=st.integers(0, CLASSES - 1))


@given(TRUTHS, ANSWERS)
def test_the_iou_of_a_class_is_the_intersection_over_the_union_outside_of_void(truth, answer):
    counted = truth < CLASSES
    for number, value in enumerate(class_ious(count_confusion(truth, answer, CLASSES))):
        is_there, is_found = (truth == number) & counted, (answer == number) & counted
        union = (is_there | is_found).sum()
        if union:
            assert value == (is_there & is_found).sum() / union
        else:
            assert np.isnan(value)


@given(TRUTHS, ANSWERS, TRUTHS, ANSWERS)
def test_images_are_counted_together(first, first_answer, second, second_answer):
    together = count_confusion(np.vstack([first, second]), np.vstack([first_answer, second_answer]), CLASSES)
    apart = count_confusion(first, first_answer, CLASSES) + count_confusion(second, second_answer, CLASSES)
    assert (together == apart).all()


def test_a_class_that_is_nowhere_does_not_count():
    truth, answer = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 1, 0]])
    assert mean_iou(count_confusion(truth, answer, CLASSES)) == pytest.approx((2 / 3 + 1 / 2) / 2)
