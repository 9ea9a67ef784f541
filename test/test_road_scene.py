"""The road scene: the same for the same seed, moving, and with labels that fit what is painted."""

import itertools

import cv2
import numpy as np
import pytest

from dynamic_perception.scenes.road_scene import LABELS, RoadScene

SKY, ROAD = LABELS.index("sky"), LABELS.index("road")


@pytest.fixture(scope="module")
def scene() -> RoadScene:
    return RoadScene(240, 180, seed=1)


def coarse(frame: np.ndarray) -> np.ndarray:
    """What stays of a frame when noise and details are averaged away."""
    return cv2.resize(frame, (12, 9), interpolation=cv2.INTER_AREA).astype(int)


def test_frame_and_truth_depend_on_seed_and_index_alone(scene):
    forwards = [(scene.frame(index), scene.truth(index)) for index in (0, 1, 700)]
    again = RoadScene(240, 180, seed=1)
    for index, (frame, truth) in ((700, forwards[2]), (1, forwards[1]), (0, forwards[0])):
        assert np.array_equal(again.truth(index), truth)
        assert np.array_equal(again.frame(index), frame)


def test_what_a_caller_does_to_a_frame_does_not_change_the_scene(scene):
    first = scene.frame(5)
    expected = first.copy()
    first[:] = 0
    scene.truth(5)[:] = 0
    assert np.array_equal(scene.frame(5), expected)
    assert scene.truth(5).any()


def test_every_class_and_nothing_else_is_seen_in_ten_seconds(scene):
    for start in (0, 3000):
        pixels = sum(np.bincount(scene.truth(index).ravel(), minlength=256) for index in range(start, start + 300, 20))
        assert (pixels[: len(LABELS)] >= 100).all(), dict(zip(LABELS, pixels))
        assert pixels[len(LABELS) :].sum() == 0


def test_the_sky_is_above_the_road(scene):
    for index in range(0, 1500, 150):
        truth = scene.truth(index)
        assert not (truth[:70] == ROAD).any()
        assert not (truth[110:] == SKY).any()
        assert (truth[-20:] == ROAD).mean() > 0.3


def test_labels_fit_the_image(scene):
    """Across the edge of a label the image changes more than elsewhere."""
    for index in (20, 400, 900, 1300):
        frame, truth = cv2.GaussianBlur(scene.frame(index), (3, 3), 0).astype(int), scene.truth(index).astype(int)
        step = np.abs(np.diff(frame, axis=1)).sum(2)
        edge = np.diff(truth, axis=1) != 0
        shifted = np.roll(edge, 12, axis=1) & ~edge
        assert step[edge].mean() > 1.5 * step[shifted].mean()


def test_classes_differ_in_colour(scene):
    sums, pixels = np.zeros((len(LABELS), 3)), np.zeros(len(LABELS))
    for index in range(0, 3600, 240):
        frame, truth = scene.frame(index).reshape(-1, 3), scene.truth(index).ravel()
        for label in range(len(LABELS)):
            sums[label] += frame[truth == label].sum(0)
            pixels[label] += (truth == label).sum()
    mean = sums / pixels[:, None]
    assert mean[SKY].min() > mean[1:].max() + 30  # brighter than everything else
    assert np.ptp(mean[ROAD]) < 15  # grey
    assert mean[LABELS.index("tree"), 1] > mean[LABELS.index("tree"), 0] + 5  # more green than blue


def test_the_camera_moves_smoothly(scene):
    for start in (0, 500, 1000):
        looks = [coarse(scene.frame(index)) for index in range(start, start + 6)]
        steps = [np.abs(b - a).mean() for a, b in itertools.pairwise(looks)]
        assert max(steps) < 8
        assert np.abs(coarse(scene.frame(start + 60)) - looks[0]).mean() > 3


def test_another_seed_gives_another_street(scene):
    other = RoadScene(240, 180, seed=2)
    for index in (0, 900):
        assert (other.truth(index) != scene.truth(index)).mean() > 0.1


def test_the_look_changes_along_the_street(scene):
    looks = np.array([coarse(scene.frame(index)) for index in range(100, 4000, 400)])
    differences = [np.abs(a - b).mean() for number, a in enumerate(looks) for b in looks[:number]]
    assert np.mean(differences) > 12


@pytest.mark.parametrize("width, height", [(320, 100), (48, 201)])
def test_frames_have_the_asked_size(width, height):
    scene = RoadScene(width, height, seed=3)
    frame, truth = scene.frame(5), scene.truth(5)
    assert frame.shape == (height, width, 3) and frame.dtype == np.uint8
    assert truth.shape == (height, width) and truth.dtype == np.uint8
    assert {SKY, ROAD} <= set(np.unique(truth)) and truth.max() < len(LABELS)


def test_a_larger_frame_shows_the_same_street(scene):
    large = RoadScene(480, 360, seed=1).truth(300)
    small = scene.truth(300)
    assert (large[::2, ::2] == small).mean() > 0.9
