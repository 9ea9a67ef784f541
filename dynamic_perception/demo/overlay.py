"""One frame of the demo beside its truth and the answers of the largest and the smallest subnetwork that were used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.engines.scaling import scale_image, scale_labels
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.nodes.segmentation_output import distinct_colours
from dynamic_perception.report.answers import segmentation_figure
from dynamic_perception.report.live_table import percent
from dynamic_perception.report.recorded_run import Picture, RecordedRun
from dynamic_perception.training.segmentation_score import count_confusion, mean_iou


def draw_overlay(path: Path, bundle: ModelBundle, runs: Sequence[RecordedRun]) -> bool:
    """Draw that picture as a PNG to `path`; False: no frame was kept, or the network gives no label for every pixel."""
    pictures = [picture for run in runs for picture in run.pictures]
    if bundle.task != "segmentation" or not pictures:
        return False
    picture = max(pictures, key=_classes_shown)
    used = {frame.subnetwork for run in runs for frame in run.frames}
    names = [subnetwork.name for subnetwork in bundle.subnetworks if subnetwork.name in used]
    chosen = dict.fromkeys([names[-1], names[0]])
    maps = {} if picture.truth is None else {"truth": picture.truth}
    for name, labels in _answers(bundle, list(chosen), picture.image).items():
        maps[_title(name, labels, picture.truth, len(bundle.labels))] = labels
    coloured = bundle if bundle.palette else replace(bundle, palette=tuple(distinct_colours(len(bundle.labels))))
    FigureCanvasAgg(segmentation_figure(coloured, picture.image, maps)).print_png(str(path))
    return True


def _classes_shown(picture: Picture) -> int:
    return 0 if picture.truth is None else len(np.unique(picture.truth))


def _answers(bundle: ModelBundle, names: list[str], image: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of `image` (uint8 RGB [H, W, 3]) by subnetworks, at its size; as the perception node finds them."""
    element = discover_elements()[0]
    engine = OnnxRuntimeEngine(bundle)
    engine.prepare(names, [element], warm_up_runs=1)
    answers = {}
    for name in names:
        engine.activate(name, element)
        scaled = np.ascontiguousarray(scale_image(image, bundle.input_size(name)))
        answers[name] = scale_labels(engine.run(scaled), image.shape[:2])
    engine.close()
    return answers


def _title(name: str, labels: np.ndarray, truth: np.ndarray | None, classes: int) -> str:
    if truth is None:
        return name
    return f"{name}: mean IoU of this frame {percent(mean_iou(count_confusion(truth, labels, classes)))}"
