"""How fast the engines run subnetworks, against the supernet in eager PyTorch and against a static engine by hand.

    .venv/bin/python benchmarks/engines.py [--threads N] [--rounds N] [--engine NAME]

Networks: Once-for-All MobileNetV3 of width 1.0 at 224 px (smallest, middle and largest choice everywhere, 1000 classes,
random weights, on which time does not depend), and every subnetwork of the shipped bundles.

Three ways, in turns and in random order, with the same number of threads: a pause of 33 ms, as between the frames of a
camera, in which the threads of the way before stop spinning; one inference, which answers that frame (`paced`); and
right after it, with threads awake and caches warm, several, of which the median counts (`steady`).
    eager   the supernet's own forward pass in PyTorch, in float32, prepared, from the normalised image to the logits
    static  the same subnetwork, extracted, exported by `torch.onnx.export` together with what is before and after it
            (from the uint8 image to the ranking or the label map), in a plain ONNX Runtime session; of an int8
            subnetwork this package's graph in such a session
    engine  this package's engine, with what is before and after it

Definitions, so that nobody can misread them:
    speedup_over_eager_min, speedup_over_eager_max
        duration of eager over that of the engine in the same round, both steady, which is kinder to eager; the median
        of each subnetwork's rounds, and of these the least and the greatest
    ratio_to_static_max
        duration of the engine over that of static in the same round, both steady; the median of each subnetwork's
        rounds, and of these the greatest
    paced_speedup_over_eager_min, paced_speedup_over_eager_max, paced_ratio_to_static_max
        the same of the paced inferences
    engine
        which engine ran: the one asked for, or for each network the fastest of those that are installed
"""

from __future__ import annotations

import sys

sys.path.pop(0)  # this folder, whose profile.py would hide the standard library's from torch

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from dynamic_perception.engines.pytorch import FromImage
from dynamic_perception.engines.selection import AUTO, candidates, compare_engines, open_engine
from dynamic_perception.hardware.compute_element import ComputeElement, discover_elements
from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import INT8, MODEL_FILE, ModelBundle, Subnetwork, read_bundle, write_bundle
from dynamic_perception.networks.families import make_graph, make_supernet
from dynamic_perception.networks.ofa_mobilenet_v3_space import OFAMobileNetV3Space
from dynamic_perception.networks.supernet import Supernet
from dynamic_perception.report.progress import progress_bar

WARM_UP_ROUNDS = 5
PAUSE = 33e-3  # [s]
ENGINE = 2  # the third way
PACES = ("paced", "steady")
PACED, STEADY = range(2)
STEADY_RUNS = 9
OPSET = 17


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--engine", default=AUTO)
    arguments = parser.parse_args()
    elements = discover_elements()
    threads = arguments.threads or max(element.threads for element in elements)
    element = next(element for element in elements if element.threads == threads)
    torch.set_num_threads(threads)

    table = Table(
        title=f"medians of {arguments.rounds} rounds, {threads} threads, PyTorch {torch.__version__}, "
        f"ONNX Runtime {onnxruntime.__version__}"
    )
    for heading in ("network", "subnetwork", "engine"):
        table.add_column(heading)
    for pace in PACES:
        for heading in ("eager \\[ms]", "static \\[ms]", "engine \\[ms]", "eager / engine", "engine / static"):
            table.add_column(f"{pace}\n{heading}", justify="right")
    speedups, ratios, used = [], [], set()  # the first two: [subnetworks, paces]
    with tempfile.TemporaryDirectory() as folder:
        shipped = sorted(path.parent for path in (share_folder() / "models").glob(f"*/{MODEL_FILE}"))
        for bundle in (imagenet_bundle(Path(folder) / "ofa_w1.0_224px"), *map(read_bundle, shipped)):
            name = arguments.engine
            if name == AUTO:
                name = next(iter(compare_engines(bundle, element, candidates())))
            used.add(name)
            for subnetwork, durations in measure(bundle, name, element, arguments.rounds):
                eager, static, engine = durations
                speedups.append(np.median(eager / engine, axis=0))
                ratios.append(np.median(engine / static, axis=0))
                cells = [
                    cell
                    for pace in range(len(PACES))
                    for cell in (
                        *(f"{1e3 * np.median(of_one[:, pace]):.3f}" for of_one in durations),
                        f"{speedups[-1][pace]:.2f}",
                        f"{ratios[-1][pace]:.3f}",
                    )
                ]
                table.add_row(bundle.name, subnetwork, name, *cells)
    Console(width=200).print(table)
    result = {}
    for pace, prefix in ((STEADY, ""), (PACED, "paced_")):
        result[f"{prefix}speedup_over_eager_min"] = float(np.min(speedups, axis=0)[pace])
        result[f"{prefix}speedup_over_eager_max"] = float(np.max(speedups, axis=0)[pace])
        result[f"{prefix}ratio_to_static_max"] = float(np.max(ratios, axis=0)[pace])
    print(json.dumps({**result, "engine": ", ".join(sorted(used))}))


def imagenet_bundle(folder: Path) -> ModelBundle:
    """Once-for-All MobileNetV3 1.0 at 224 px with random weights."""
    space = OFAMobileNetV3Space(classes=1000, resolutions=(224,))
    random = np.random.default_rng(1)
    configs = {"min": space.smallest(), "mid": space.middle(), "max": space.largest()}
    tensors = {
        name: (0.05 * random.standard_normal(shape)).astype(np.float32) for name, shape in space.tensor_shapes().items()
    }
    statistics = {
        name: {
            key: np.full(shape, float(key.endswith("var")), np.float32)
            for key, shape in space.statistics_shapes(config).items()
        }
        for name, config in configs.items()
    }
    bundle = ModelBundle(
        folder,
        folder.name,
        space,
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
        tuple(map(str, range(1000))),
        tuple(replace(Subnetwork.of(space, *item), accuracy_source="random weights") for item in configs.items()),
        "",
        {"method": "random weights"},
    )
    return write_bundle(bundle, tensors, statistics)


def measure(
    bundle: ModelBundle, engine_name: str, element: ComputeElement, rounds: int
) -> list[tuple[str, np.ndarray]]:
    """Durations [s] by subnetwork: float64 [3 ways, rounds, 2 paces], the ways eager, static and engine."""
    network = make_supernet(bundle.space)
    network.load_tensors({name: torch.from_numpy(array) for name, array in bundle.tensors().items()})
    engine = open_engine(engine_name, bundle)
    engine.prepare([s.name for s in bundle.subnetworks], [element], warm_up_runs=3)
    results = []
    random = np.random.default_rng(1)
    with progress_bar() as bar, torch.inference_mode():
        for subnetwork in bar.track(bundle.subnetworks, description=bundle.name):
            image = np.random.default_rng(1).integers(0, 256, (*subnetwork.input_size, 3), np.uint8)
            ways = [
                eager(bundle, network, subnetwork, image),
                static(bundle, network, subnetwork, image, element.threads),
                lambda: engine.run(image),
            ]
            everywhere = os.sched_getaffinity(0)
            engine.activate(subnetwork.name, element)
            own = os.sched_getaffinity(
                0
            )  # where the engine put this thread, which the other ways are not to be held to
            durations = np.empty((len(ways), WARM_UP_ROUNDS + rounds, len(PACES)))
            for turn in range(WARM_UP_ROUNDS + rounds):
                for chosen in random.permutation(len(ways)):
                    os.sched_setaffinity(0, own if chosen == ENGINE else everywhere)
                    time.sleep(PAUSE)
                    durations[chosen, turn, PACED] = duration_of(ways[chosen])
                    durations[chosen, turn, STEADY] = np.median([duration_of(ways[chosen]) for _ in range(STEADY_RUNS)])
            results.append((subnetwork.name, durations[:, WARM_UP_ROUNDS:]))
            os.sched_setaffinity(0, everywhere)
    engine.close()
    return results


def duration_of(run: Callable[[], object]) -> float:
    """[s]"""
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def eager(bundle: ModelBundle, network: Supernet, subnetwork: Subnetwork, image: np.ndarray) -> Callable[[], object]:
    """The supernet's forward pass."""
    statistics = {name: torch.from_numpy(array) for name, array in bundle.statistics(subnetwork.name).items()}
    network.activate(subnetwork.config, statistics)
    normalised = FromImage(bundle, nn.Identity())(torch.from_numpy(image)).contiguous()
    return lambda: network(normalised)


def static(
    bundle: ModelBundle, network: Supernet, subnetwork: Subnetwork, image: np.ndarray, threads: int
) -> Callable[[], object]:
    """A plain session on what PyTorch exports, or on this package's graph of an int8 subnetwork."""
    if subnetwork.precision == INT8:
        graph = make_graph(bundle, subnetwork.name)
    else:
        statistics = {name: torch.from_numpy(array) for name, array in bundle.statistics(subnetwork.name).items()}
        whole = Answering(bundle, network.extract(subnetwork.config, statistics), subnetwork.input_size).eval()
        file = io.BytesIO()
        with torch.inference_mode(False), torch.no_grad():
            torch.onnx.export(
                whole, (torch.from_numpy(image.copy()),), file, input_names=["image"], opset_version=OPSET, dynamo=False
            )
        graph = file.getvalue()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"image": image})


class Answering(FromImage):
    """A network from the image to the answer that the engine gives."""

    def __init__(self, bundle: ModelBundle, network: nn.Module, size: tuple[int, int]):
        super().__init__(bundle, network)
        self.size, self.classifies = size, bundle.task == "classification"

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Scores and classes, or labels."""
        logits = super().forward(image)
        if self.classifies:
            return tuple(logits[0].softmax(dim=0).topk(logits.shape[1]))
        full = F.interpolate(logits, size=self.size, mode="bilinear", align_corners=False)
        return (full[0].argmax(dim=0).to(torch.uint8),)


if __name__ == "__main__":
    main()
