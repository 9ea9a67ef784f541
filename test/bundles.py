"""Small bundles for tests: real files with random weights."""

from pathlib import Path

import numpy as np

from dynamic_perception.networks.bundle import ModelBundle, Subnetwork, write_bundle
from dynamic_perception.networks.group_cnn_architecture import GroupCNNArchitecture

TINY = GroupCNNArchitecture(classes=4, groups=3, channels=(8, 8), pool_after=(True, True), input_size=16)


def make_bundle(folder: Path, architecture: GroupCNNArchitecture = TINY, seed: int = 0) -> ModelBundle:
    """Write a bundle with random weights into `folder`; every subnetwork answers differently."""
    random = np.random.default_rng(seed)
    tensors = {name: random.uniform(0.5, 1.5, shape) if name.endswith("running_var") else random.normal(0, 0.5, shape)
               for name, shape in architecture.tensor_shapes().items()}
    subnetworks = tuple(Subnetwork(name, k, f"subnetwork_{name.rstrip('%')}.onnx", architecture.parameters(k),
                                   architecture.macs(k), 0.5 + 0.1 * k, "made up for a test")
                        for name, k in architecture.subnetworks().items())
    bundle = ModelBundle(folder, folder.name, architecture, (0.5, 0.5, 0.4), (0.25, 0.2, 0.25),
                         tuple(f"class {i}" for i in range(architecture.classes)), subnetworks, "", {"method": "random"})
    return write_bundle(bundle, tensors)
