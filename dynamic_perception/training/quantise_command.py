"""`dynamic-perception quantise`: int8 subnetworks where they pay."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from dynamic_perception.engines.engine import Engine
from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.engines.scaling import scale_image
from dynamic_perception.hardware.compute_element import ComputeElement, discover_elements
from dynamic_perception.networks.bundle import (
    FLOAT32,
    INT8,
    ModelBundle,
    Subnetwork,
    find_bundle,
    read_bundle,
    write_bundle,
)
from dynamic_perception.networks.families import make_graph
from dynamic_perception.networks.quantisation import measure_ranges
from dynamic_perception.report.progress import progress_bar
from dynamic_perception.training import evaluation
from dynamic_perception.training.commands import data_of
from dynamic_perception.training.images import read_frames, read_split

RUNS = 60  # inferences per subnetwork, in turns


def add_quantise(commands: argparse._SubParsersAction) -> None:
    """Add the `quantise` command."""
    parser = commands.add_parser(
        "quantise",
        help="add int8 subnetworks to a bundle where they pay",
        description="Quantise every subnetwork of a bundle after training: measure the range of its activations on "
        "training images, and its time and its accuracy in 8 bits. The bundle gets those that pay on this machine: no "
        "float32 subnetwork is as fast and as accurate. Earlier int8 subnetworks are replaced.",
    )
    parser.add_argument("bundle", help="name of a shipped bundle, or its folder")
    parser.add_argument(
        "--data",
        metavar="DIR",
        help="data folder, or name of a data set under $DYNAMIC_PERCEPTION_DATA (default: the first that "
        "the bundle was trained on)",
    )
    parser.add_argument("--images", type=int, default=100, help="training images to calibrate with (default: 100)")
    parser.add_argument("--seed", type=int, default=1, help="which ones")
    parser.set_defaults(run_command=run_quantise)


def run_quantise(arguments: argparse.Namespace) -> int:
    """Measure all int8 subnetworks in a copy of the bundle, and write those that pay into it."""
    if arguments.images < 1:
        raise ValueError(f"--images is {arguments.images}: expected at least 1")
    bundle = read_bundle(find_bundle(arguments.bundle))
    data = arguments.data or data_of(bundle)[0]
    tested = evaluation.read_test_data(bundle, data)
    ranges = calibrate(bundle, training_images(bundle, data, arguments.images, arguments.seed))
    with tempfile.TemporaryDirectory() as folder:
        candidate = write_quantised(bundle, ranges, folder=Path(folder) / bundle.folder.name)
        element = discover_elements()[-1]
        latencies = measure_latencies(candidate, element)
        answers = evaluation.evaluate(candidate, tested)
        scores = {name: evaluation.score(candidate, tested, answer) for name, answer in answers.items()}
        paying = [s.name for s in candidate.of_precision(INT8) if pays(candidate, s, latencies, scores)]
    write_quantised(bundle, {name: ranges[name] for name in paying}, scores)
    print_table(bundle, element, latencies, scores, paying)
    return 0


def training_images(bundle: ModelBundle, data: str, count: int, seed: int) -> list[np.ndarray]:
    """Up to `count` random images of the training split, uint8 RGB [H, W, 3] in their own size."""
    folder = evaluation.dataset_folder(data)
    if bundle.task == "segmentation":
        images = read_frames(folder, "train", bundle.labels).images
    else:
        images = read_split(folder, "train").images
    return [images[i] for i in np.random.default_rng(seed).permutation(len(images))[:count]]


def calibrate(bundle: ModelBundle, images: list[np.ndarray]) -> dict[str, dict[str, tuple[float, float]]]:
    """The ranges of an int8 subnetwork, by its name, for every float32 one."""
    ranges = {}
    with progress_bar() as bar:
        for subnetwork in bar.track(bundle.of_precision(FLOAT32), description="calibrating"):
            scaled = (np.ascontiguousarray(scale_image(image, subnetwork.input_size)) for image in images)
            ranges[int8_name(subnetwork)] = measure_ranges(make_graph(bundle, subnetwork.name), scaled)
    return ranges


def int8_name(subnetwork: Subnetwork) -> str:
    """What the int8 subnetwork of a float32 one is called."""
    return f"{subnetwork.name} {INT8}"


def write_quantised(
    bundle: ModelBundle,
    ranges: Mapping[str, Mapping[str, tuple[float, float]]],
    scores: Mapping[str, float] | None = None,
    folder: Path | None = None,
) -> ModelBundle:
    """Write the bundle with just the int8 subnetworks of `ranges`.

    Args:
        scores: their accuracies on the test split, measured as the float32 ones' were; None: not measured.
        folder: where to; None: where the bundle lies.
    """
    subnetworks: list[Subnetwork] = []
    for subnetwork in bundle.of_precision(FLOAT32):
        name = int8_name(subnetwork)
        if name in ranges:
            accuracy, source = (
                (float("nan"), "not measured") if scores is None else (scores[name], subnetwork.accuracy_source)
            )
            subnetworks.append(
                replace(subnetwork, name=name, precision=INT8, accuracy=accuracy, accuracy_source=source)
            )
        subnetworks.append(subnetwork)
    statistics = None
    if not bundle.space.shares_statistics:
        statistics = {s.name: bundle.statistics(s.name) for s in bundle.of_precision(FLOAT32)}
    written = replace(bundle, folder=folder or bundle.folder, subnetworks=tuple(subnetworks))
    return write_bundle(written, bundle.tensors(), statistics, ranges)


def measure_latencies(bundle: ModelBundle, element: ComputeElement) -> dict[str, float]:
    """Median duration [s] of one inference by subnetwork, all in turns."""
    engine: Engine = OnnxRuntimeEngine(bundle, memory_budget=2**40)
    engine.prepare([s.name for s in bundle.subnetworks], [element], warm_up_runs=3)
    durations: dict[str, list[float]] = {s.name: [] for s in bundle.subnetworks}
    with progress_bar() as bar:
        for name, image in bar.track(_turns(bundle), RUNS * len(durations), description=f"timing on {element.name}"):
            engine.activate(name, element)
            engine.run(image)
            started = time.perf_counter()
            engine.run(image)
            durations[name].append(time.perf_counter() - started)
    engine.close()
    return {name: float(np.median(of_one)) for name, of_one in durations.items()}


def _turns(bundle: ModelBundle) -> Iterator[tuple[str, np.ndarray]]:
    random = np.random.default_rng(1)
    images = {s.name: random.integers(0, 256, (*s.input_size, 3), np.uint8) for s in bundle.subnetworks}
    for _ in range(RUNS):
        yield from images.items()


def pays(bundle: ModelBundle, chosen: Subnetwork, latencies: dict[str, float], scores: dict[str, float]) -> bool:
    """Whether no float32 subnetwork is both as fast and as accurate as an int8 one."""
    return not any(
        latencies[other.name] <= latencies[chosen.name] and scores[other.name] >= scores[chosen.name]
        for other in bundle.of_precision(FLOAT32)
    )


def print_table(
    bundle: ModelBundle,
    element: ComputeElement,
    latencies: dict[str, float],
    scores: dict[str, float],
    paying: list[str],
) -> None:
    """What was measured, float32 beside int8."""
    table = Table(title=f"{bundle.name} on {element.name}, {OnnxRuntimeEngine.name} {OnnxRuntimeEngine.version}")
    for heading in (
        "subnetwork",
        f"{FLOAT32} \\[ms]",
        f"{INT8} \\[ms]",
        "times as fast",
        f"{FLOAT32} {bundle.metric}",
        f"{INT8} {bundle.metric}",
        f"{INT8} is",
    ):
        table.add_column(heading, justify="left" if heading == "subnetwork" else "right")
    for subnetwork in bundle.of_precision(FLOAT32):
        name = int8_name(subnetwork)
        before, after = latencies[subnetwork.name], latencies[name]
        table.add_row(
            subnetwork.name,
            f"{1e3 * before:.3f}",
            f"{1e3 * after:.3f}",
            f"{before / after:.2f}",
            f"{scores[subnetwork.name]:.4f}",
            f"{scores[name]:.4f}",
            "kept" if name in paying else "dropped",
        )
    Console().print(table)
