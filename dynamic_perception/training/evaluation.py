"""Accuracy of every subnetwork of a bundle on a test split, by the engine that also runs on the robot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.engines.scaling import scale_image, scale_labels
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.report.progress import progress_bar
from dynamic_perception.training.images import LabelledFrames, LabelledImages, find_dataset, read_frames, read_split
from dynamic_perception.training.road_frames import ROAD_SCENE, render_road_frames
from dynamic_perception.training.segmentation_score import count_confusion, mean_iou


def read_test_data(bundle: ModelBundle, data: str) -> LabelledImages | LabelledFrames:
    """The test split of the data set of that name or path, in its own size.

    Raises:
        ValueError: it cannot be read, or its classes are not the labels of the bundle.
    """
    if bundle.task == "segmentation":
        if data == ROAD_SCENE:
            return render_road_frames("test")
        return read_frames(dataset_folder(data), "test", bundle.labels)
    images = read_split(dataset_folder(data), "test")
    if images.classes != bundle.labels:
        raise ValueError(
            f"the data has classes {', '.join(images.classes)}: expected those of {bundle.name}, "
            f"{', '.join(bundle.labels)}"
        )
    return images


def evaluate(bundle: ModelBundle, data: LabelledImages | LabelledFrames) -> dict[str, list[np.ndarray]]:
    """What every subnetwork, by its name, answers to each image: a class number, or labels uint8 [H, W] of its size."""
    element = discover_elements()[0]
    engine = OnnxRuntimeEngine(bundle)
    answers = {}
    with progress_bar() as bar:
        for subnetwork in bundle.subnetworks:
            engine.make_ready(subnetwork.name, element)
            engine.activate(subnetwork.name, element)
            images = bar.track(data.images, len(data.labels), description=f"subnetwork {subnetwork.name}")
            outputs = (engine.run(np.ascontiguousarray(scale_image(image, subnetwork.input_size))) for image in images)
            if bundle.task == "segmentation":
                answers[subnetwork.name] = [scale_labels(output, data.labels.shape[1:]) for output in outputs]
            else:
                answers[subnetwork.name] = [output.classes[0] for output in outputs]
    engine.close()
    return answers


def score(bundle: ModelBundle, data: LabelledImages | LabelledFrames, answers: list[np.ndarray]) -> float:
    """The bundle's metric, [0..1], of one subnetwork's answers."""
    if bundle.task == "segmentation":
        return mean_iou(confusion(bundle, data, answers))
    return float(np.mean(np.array(answers) == data.labels))


def confusion(bundle: ModelBundle, data: LabelledFrames, answers: list[np.ndarray]) -> np.ndarray:
    """Pixels by true and predicted class, int64 [classes, classes]."""
    classes = len(bundle.labels)
    return sum(count_confusion(truth, answer, classes) for truth, answer in zip(data.labels, answers))


def with_accuracies(bundle: ModelBundle, accuracies: Mapping[str, float], source: str) -> ModelBundle:
    """The bundle with the measured accuracies of its subnetworks, by their names."""
    return replace(
        bundle,
        subnetworks=tuple(replace(s, accuracy=accuracies[s.name], accuracy_source=source) for s in bundle.subnetworks),
    )


def dataset_folder(name_or_path: str) -> Path:
    """A data folder by its path or by its name under $DYNAMIC_PERCEPTION_DATA; ValueError if there is none."""
    if not name_or_path:
        found = None
    elif any((Path(name_or_path) / split).is_dir() for split in ("train", "test")):
        found = Path(name_or_path)
    else:  # a folder of that name here need not be the data: a run may be called so
        found = find_dataset(name_or_path)
    if found is None:
        raise ValueError(
            f"no data at '{name_or_path}': expected a folder with {{train,test}}/<class>/<image> (for segmentation "
            "{train,test}/{images,labels}/<frame>), or the name of one (or of its .tar archive) under "
            "$DYNAMIC_PERCEPTION_DATA"
        )
    return found
