"""Small bundles and operating-point tables for tests: real files with random weights and made-up latencies."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from dynamic_perception.hardware.compute_element import platform_fingerprint
from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle, Subnetwork, write_bundle
from dynamic_perception.networks.group_cnn_space import GroupCNNSpace
from dynamic_perception.networks.ofa_mobilenet_v3_space import OFAMobileNetV3Space
from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig
from dynamic_perception.networks.segmenter_space import SegmenterSpace
from dynamic_perception.profiling.profiler import PROVENANCE
from dynamic_perception.profiling.table_file import ProfileFile, write_table

TINY = GroupCNNSpace(classes=4, groups=3, channels=(8, 8), pool_after=(True, True), resolution=16)
TINY_OFA = OFAMobileNetV3Space(classes=5, width_multiplier=0.25, resolutions=(32, 48), depths=(1, 2), kernels=(3, 5))
TINY_SEGMENTER = SegmenterSpace(
    classes=4,
    resolutions=((24, 32), (48, 64)),
    smallest_width=4,
    stem=8,
    channels=(8, 16, 24),
    dilations=((1,), (1,), (1, 2)),
    decoder=(16, 8),
)
TINY_SPACES = (TINY, TINY_OFA, TINY_SEGMENTER)


def make_bundle(
    folder: Path, space: SearchSpace = TINY, seed: int = 0, configs: dict[str, SubnetConfig] | None = None
) -> ModelBundle:
    """Write a bundle with random weights into `folder`; every subnetwork answers differently.

    Without `configs` it has every subnetwork of a group CNN, or the smallest and the largest of another family.
    """
    random = np.random.default_rng(seed)
    if configs is None and isinstance(space, GroupCNNSpace):
        configs = space.subnetworks()
    elif configs is None:
        configs = {"small": space.smallest(), "large": space.largest()}

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name.endswith("running_var"):
            return random.uniform(0.5, 1.5, shape)
        # Convolutions keep the size of what passes, so that deep networks still tell images apart.
        return random.normal(0, math.sqrt(2 / math.prod(shape[1:])) if len(shape) == 4 else 0.5, shape)

    tensors = {name: draw(name, shape) for name, shape in space.tensor_shapes().items()}
    statistics = {
        name: {key: draw(key, shape) for key, shape in space.statistics_shapes(config).items()}
        for name, config in configs.items()
    }
    if space.shares_statistics:
        tensors |= statistics.popitem()[1]  # the largest subnetwork's, of which the others have a part
        statistics = {}
    subnetworks = (Subnetwork.of(space, name, config) for name, config in configs.items())
    made_up = tuple(
        replace(s, accuracy=0.5 + 0.1 * rank, accuracy_source="made up for a test")
        for rank, s in enumerate(subnetworks, start=1)
    )
    bundle = ModelBundle(
        folder,
        folder.name,
        space,
        (0.5, 0.5, 0.4),
        (0.25, 0.2, 0.25),
        tuple(f"class {i}" for i in range(space.classes)),
        made_up,
        "",
        {"method": "random"},
        tuple((20 * i, 255 - 20 * i, 128) for i in range(space.classes)) if space.task == "segmentation" else (),
    )
    return write_bundle(bundle, tensors, statistics)


def make_profile(path: Path, bundle: ModelBundle, elements: tuple[str, ...] = ("cpu:1", "cpu:2")) -> Path:
    """Write an operating-point table of `bundle`: 10 ms per rank on one thread, 6 ms on two, 3 W a thread."""
    points = []
    for element in elements:
        threads = int(element.split(":")[1])
        for rank, subnetwork in enumerate(bundle.subnetworks, start=1):
            latency = rank * {1: 0.010, 2: 0.006}[threads]
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
    write_table(
        path, ProfileFile(table, bundle.name, bundle.weights_sha256, "onnxruntime", "1", platform_fingerprint(), {})
    )
    return path
