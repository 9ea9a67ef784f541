"""The synthetic scene: the same for the same seed, moving, and always of the class that it says."""

import cv2
import numpy as np
import pytest

from dynamic_perception.nodes.scene_objects import OBJECTS
from dynamic_perception.nodes.sketch import Sketch
from dynamic_perception.nodes.synthetic_scene import FRAMES_PER_OBJECT, OBJECT_SHARE, SyntheticScene

CIFAR10 = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"}


@pytest.fixture(scope="module")
def scene() -> SyntheticScene:
    return SyntheticScene(320, 240, seed=1)


def colours(frame: np.ndarray) -> np.ndarray:
    """Coarse look of a frame: what stays when noise and small movements are averaged away."""
    return cv2.resize(frame, (8, 6), interpolation=cv2.INTER_AREA).astype(int)


def test_a_frame_depends_on_seed_and_index_alone(scene):
    forwards = [scene.frame(index) for index in (0, 1, 100)]
    again = SyntheticScene(320, 240, seed=1)
    for index, frame in ((100, forwards[2]), (1, forwards[1]), (0, forwards[0])):
        assert np.array_equal(again.frame(index), frame)


def test_another_seed_gives_another_scene(scene):
    other = SyntheticScene(320, 240, seed=2)
    starts = range(0, 10 * FRAMES_PER_OBJECT, FRAMES_PER_OBJECT)
    assert [other.truth(index) for index in starts] != [scene.truth(index) for index in starts]


@pytest.mark.parametrize("width, height", [(640, 480), (32, 32), (16, 1000), (1000, 16), (801, 333)])
def test_frames_have_the_asked_size(width, height):
    frame = SyntheticScene(width, height, seed=1).frame(5)
    assert frame.shape == (height, width, 3) and frame.dtype == np.uint8


def test_every_class_is_shown_once_in_ten_objects(scene):
    for turn in range(3):
        shown = [scene.truth(FRAMES_PER_OBJECT * (10 * turn + place)) for place in range(10)]
        assert set(shown) == CIFAR10


def test_the_class_stays_while_an_object_is_shown(scene):
    assert len({scene.truth(index) for index in range(FRAMES_PER_OBJECT)}) == 1


def test_the_scene_moves_a_little_from_frame_to_frame(scene):
    for index in (0, 45, 5 * FRAMES_PER_OBJECT + 10):
        change = np.abs(colours(scene.frame(index)) - colours(scene.frame(index + 10))).mean()
        assert 0.5 < change < 25


def test_each_class_looks_like_itself_more_than_like_the_others(scene):
    first, second = {}, {}
    for place in range(20):  # each class twice
        index = place * FRAMES_PER_OBJECT + FRAMES_PER_OBJECT // 2
        (first if place < 10 else second)[scene.truth(index)] = colours(scene.frame(index))
    for name, look in second.items():

        def distance(other: str) -> float:
            # Objects turn round between appearances; either way round may be the same one.
            return min(np.abs(look - first[other]).mean(), np.abs(look[:, ::-1] - first[other]).mean())

        assert min(first, key=distance) == name


@pytest.mark.parametrize("name", sorted(CIFAR10))
def test_the_object_fills_most_of_the_frame(name):
    sketch = Sketch(2.0, np.random.default_rng(1))
    OBJECTS[name](sketch, np.random.default_rng(1))
    opaque = (sketch.image()[..., 3] > 200).astype(np.uint8)  # without its shadow
    rows, columns = opaque.shape
    _, _, width, height = cv2.boundingRect(opaque)
    assert OBJECT_SHARE * max(width / columns, height / rows) >= 0.6
