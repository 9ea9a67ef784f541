"""Small bundles and operating-point tables for tests: real files with random weights and made-up latencies."""

import math
from pathlib import Path

import numpy as np

from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle, Subnetwork, write_bundle
from dynamic_perception.networks.group_cnn_architecture import GroupCNNArchitecture
from dynamic_perception.profiling.profiler import PROVENANCE
from dynamic_perception.profiling.table_file import ProfileFile, write_table

TINY = GroupCNNArchitecture(classes=4, groups=3, channels=(8, 8), pool_after=(True, True), input_size=16)


def make_bundle(folder: Path, architecture: GroupCNNArchitecture = TINY, seed: int = 0) -> ModelBundle:
    """Write a bundle with random weights into `folder`; every subnetwork answers differently."""
    random = np.random.default_rng(seed)
    tensors = {
        name: random.uniform(0.5, 1.5, shape) if name.endswith("running_var") else random.normal(0, 0.5, shape)
        for name, shape in architecture.tensor_shapes().items()
    }
    subnetworks = tuple(
        Subnetwork(
            name,
            k,
            f"subnetwork_{name.rstrip('%')}.onnx",
            architecture.parameters(k),
            architecture.macs(k),
            0.5 + 0.1 * k,
            "made up for a test",
        )
        for name, k in architecture.subnetworks().items()
    )
    bundle = ModelBundle(
        folder,
        folder.name,
        architecture,
        (0.5, 0.5, 0.4),
        (0.25, 0.2, 0.25),
        tuple(f"class {i}" for i in range(architecture.classes)),
        subnetworks,
        "",
        {"method": "random"},
    )
    return write_bundle(bundle, tensors)


def make_profile(path: Path, bundle: ModelBundle, elements: tuple[str, ...] = ("cpu:1", "cpu:2")) -> Path:
    """Write an operating-point table of `bundle`: 10 ms per group on one thread, 6 ms on two, 3 W per thread."""
    points = []
    for element in elements:
        threads = int(element.split(":")[1])
        for subnetwork in bundle.subnetworks:
            latency = subnetwork.groups * {1: 0.010, 2: 0.006}[threads]
            points.append(
                OperatingPoint(
                    subnetwork.name,
                    element,
                    0.0,
                    math.nan,
                    latency,
                    1.05 * latency,
                    1.1 * latency,
                    3.0 * threads,
                    3.0 * threads * latency,
                    subnetwork.accuracy,
                )
            )
    table = OperatingPointTable.from_points(points, PROVENANCE)
    write_table(path, ProfileFile(table, bundle.name, bundle.weights_sha256, "onnxruntime", "1", {"cpus": 2}, {}))
    return path
