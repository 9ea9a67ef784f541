"""Accuracy of every subnetwork of a bundle on a test split, by the engine that also runs on the robot."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.report.progress import progress_bar
from dynamic_perception.training.images import LabelledImages


def evaluate(bundle: ModelBundle, data: LabelledImages) -> dict[str, np.ndarray]:
    """Predicted class numbers, int64 [N], of every subnetwork by its name.

    Raises:
        ValueError: the classes of the data are not the labels of the bundle.
    """
    if data.classes != bundle.labels:
        raise ValueError(
            f"the data has classes {', '.join(data.classes)}: expected those of {bundle.name}, "
            f"{', '.join(bundle.labels)}"
        )
    element = discover_elements()[0]
    engine = OnnxRuntimeEngine(bundle)
    engine.prepare([s.name for s in bundle.subnetworks], [element], warm_up_runs=1)
    predictions = {}
    with progress_bar() as bar:
        for subnetwork in bundle.subnetworks:
            engine.activate(subnetwork.name, element)
            predictions[subnetwork.name] = np.array(
                [
                    engine.run(image).argmax()
                    for image in bar.track(data.images, description=f"subnetwork {subnetwork.name}")
                ]
            )
    engine.close()
    return predictions


def with_accuracies(
    bundle: ModelBundle, data: LabelledImages, predictions: dict[str, np.ndarray], source: str
) -> ModelBundle:
    """The bundle with the top-1 accuracy of `predictions` written to its subnetworks."""
    return replace(
        bundle,
        subnetworks=tuple(
            replace(s, accuracy=float(np.mean(predictions[s.name] == data.labels)), accuracy_source=source)
            for s in bundle.subnetworks
        ),
    )
