"""Graphs made from weights answer as the torch networks do, for any subnetwork of a family."""

import os

import numpy as np
import onnx
import pytest
import torch
from bundles import TINY_OFA, TINY_SEGMENTER, make_bundle
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import ModelBundle, write_bundle
from dynamic_perception.networks.families import graph_of, make_supernet
from dynamic_perception.networks.ofa_mobilenet_v3_space import OFAMobileNetV3Space
from dynamic_perception.networks.search_space import SearchSpace
from dynamic_perception.networks.segmenter_space import SegmenterSpace

ELEMENT = ComputeElement("cpu:1", "cpu", tuple(sorted(os.sched_getaffinity(0))), 1)
# Sizes that no halving divides, both ways round.
ODD_SEGMENTER = SegmenterSpace(
    classes=3, resolutions=((50, 35), (37, 51)), smallest_width=2, stem=8, channels=(8, 16, 8), decoder=(16, 8)
)
STRIDED_OFA = OFAMobileNetV3Space(
    classes=3,
    width_multiplier=0.5,
    resolutions=(33, 40),
    kernels=(3, 5, 7),
    depths=(1, 2),
    strides=(1, 2, 1, 2, 1, 2, 1),
)
seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def bundle_of_one(folder, space: SearchSpace, seed: int) -> ModelBundle:
    return make_bundle(folder / f"seed{seed}", space, seed, {"any": space.sample(np.random.default_rng(seed))})


def answer_of_engine(bundle: ModelBundle, image: np.ndarray) -> np.ndarray:
    engine = OnnxRuntimeEngine(bundle)
    engine.prepare(["any"], [ELEMENT], warm_up_runs=1)
    engine.activate("any", ELEMENT)
    answer = engine.run(image)
    engine.close()
    return answer


@torch.no_grad()
def logits_of_supernet(bundle: ModelBundle, image: np.ndarray) -> torch.Tensor:
    network = make_supernet(bundle.space)
    network.load_tensors({name: torch.from_numpy(array) for name, array in bundle.tensors().items()})
    statistics = {name: torch.from_numpy(array) for name, array in bundle.statistics("any").items()}
    network.activate(bundle.subnetwork("any").config, statistics)
    mean, deviation = (255 * torch.tensor(values) for values in (bundle.mean, bundle.standard_deviation))
    return network(((torch.from_numpy(image).float() - mean) / deviation).permute(2, 0, 1)[None])


def with_balanced_classes(bundle: ModelBundle, image: np.ndarray) -> ModelBundle:
    """The segmenter with the classifier's bias such that no class has the best logits of every pixel."""
    tensors = bundle.tensors()
    tensors["classifier.conv.bias"] -= logits_of_supernet(bundle, image).mean(dim=(0, 2, 3)).numpy()
    return write_bundle(bundle, tensors, {"any": bundle.statistics("any")})


def random_image(bundle: ModelBundle, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*bundle.input_size("any"), 3), np.uint8)


@pytest.mark.parametrize("space", [TINY_OFA, STRIDED_OFA], ids=["tiny", "strided"])
@few
@given(seed=seeds)
def test_logits_of_a_made_graph_are_those_of_the_supernet(tmp_path, space, seed):
    bundle = bundle_of_one(tmp_path, space, seed)
    image = random_image(bundle, seed)
    logits, expected = answer_of_engine(bundle, image), logits_of_supernet(bundle, image)[0].numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("space", [TINY_SEGMENTER, ODD_SEGMENTER], ids=["tiny", "odd"])
@few
@given(seed=seeds)
def test_labels_of_a_made_graph_are_those_of_the_supernet(tmp_path, space, seed):
    bundle = bundle_of_one(tmp_path, space, seed)
    image, size = random_image(bundle, seed), bundle.input_size("any")
    bundle = with_balanced_classes(bundle, image)
    logits = logits_of_supernet(bundle, image)
    expected = F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[0].argmax(dim=0).numpy()
    assume(len(np.unique(expected)) > 1)  # a few narrow networks are dead: anything would agree with them
    labels = answer_of_engine(bundle, image)
    assert labels.shape == size and labels.dtype == np.uint8
    assert np.mean(labels == expected) >= 0.999


@pytest.mark.parametrize("space", [TINY_OFA, TINY_SEGMENTER], ids=lambda space: space.family)
def test_a_made_graph_is_valid_and_normalises_nothing_at_run_time(tmp_path, space):
    bundle = bundle_of_one(tmp_path, space, 1)
    model = onnx.load_from_string(graph_of(bundle, "any"))
    onnx.checker.check_model(model, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


def test_a_group_cnns_graph_is_a_file_of_its_bundle(tmp_path):
    bundle = make_bundle(tmp_path / "tiny")
    assert graph_of(bundle, "33%") == str(bundle.folder / "subnetwork_33.onnx")
