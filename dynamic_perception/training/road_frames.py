"""Frames of synthetic streets as training and test data."""

from __future__ import annotations

from dynamic_perception.report.progress import progress_bar
from dynamic_perception.scenes.road_scene import LABELS, RoadScene
from dynamic_perception.training.images import LabelledFrames, allocate

ROAD_SCENE = "road_scene"  # its name among data sets
SIZE = (360, 480)  # height and width [pixel], those of CamVid's frames here
STREETS = {"train": range(1000, 1012), "test": range(2000, 2004)}  # seeds: no test street is trained on
# Fewer to train on than CamVid has, so that real frames keep the upper hand.
FRAMES_PER_STREET = {"train": 12, "test": 25}
STREET_LENGTH = 1500  # frames of the drive that they are spread over: 500 m


def render_road_frames(split: str) -> LabelledFrames:
    """Frames of the streets of that split, "train" or "test"."""
    indices = range(0, STREET_LENGTH, STREET_LENGTH // FRAMES_PER_STREET[split])
    count = len(STREETS[split]) * len(indices)
    images, labels = allocate((count, *SIZE, 3)), allocate((count, *SIZE))
    row = 0
    with progress_bar() as bar:
        for street in bar.track(STREETS[split], description=f"rendering {split} streets"):
            scene = RoadScene(*SIZE[::-1], seed=street)
            for index in indices:
                images[row], labels[row] = scene.frame(index)[..., ::-1], scene.truth(index)
                row += 1
    return LabelledFrames(images, labels, LABELS)
