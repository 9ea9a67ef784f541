"""Graphs made from weights answer as the torch networks do, for any subnetwork of a family."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from bundles import TINY_OFA, TINY_SEGMENTER, TINY_SPACES, make_bundle
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from dynamic_perception.cli import main
from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import ModelBundle, write_bundle
from dynamic_perception.networks.families import make_graph, make_supernet
from dynamic_perception.networks.graph_files import cached_graph, keep_graph, read_graph
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


def logits_of_engine(bundle: ModelBundle, image: np.ndarray) -> np.ndarray:
    with ready_engine(bundle) as engine:
        return engine.logits(image)


def answer_of_engine(bundle: ModelBundle, image: np.ndarray) -> np.ndarray:
    with ready_engine(bundle) as engine:
        return engine.run(image)


@contextmanager
def ready_engine(bundle: ModelBundle) -> Iterator[OnnxRuntimeEngine]:
    engine = OnnxRuntimeEngine(bundle)
    engine.prepare(["any"], [ELEMENT], warm_up_runs=1)
    engine.activate("any", ELEMENT)
    yield engine
    engine.close()


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
    logits, expected = logits_of_engine(bundle, image), logits_of_supernet(bundle, image)[0].numpy()
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


@pytest.mark.parametrize("space", TINY_SPACES, ids=lambda space: space.family)
def test_a_made_graph_is_valid_and_normalises_nothing_at_run_time(tmp_path, space):
    bundle = make_bundle(tmp_path / "tiny", space)
    model = onnx.load_from_string(make_graph(bundle, bundle.subnetworks[-1].name))
    onnx.checker.check_model(model, full_check=True)
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_graph_is_made_once_and_then_read(tmp_path, cache):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    graph = read_graph(bundle, "small")
    path = cached_graph(bundle, "small")
    assert path.is_relative_to(cache) and path.read_bytes().startswith(graph) and graph == make_graph(bundle, "small")
    keep_graph(path, b"as it was kept")
    assert read_graph(bundle, "small") == b"as it was kept"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"",
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: bytes(len(content)),
        lambda content: content[:100] + bytes(4096) + content[4196:],
        lambda content: content + b"more",
        lambda content: b"written by an older version",
    ],
    ids=["emptied", "cut", "without its last byte", "zeroed", "a page zeroed", "longer", "of another form"],
)
def test_a_damaged_graph_is_made_anew_with_one_warning(tmp_path, cache, caplog, spoil):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    graph, path = read_graph(bundle, "small"), cached_graph(bundle, "small")
    path.write_bytes(spoil(path.read_bytes()))
    assert read_graph(bundle, "small") == graph
    assert read_graph(bundle, "small") == graph
    assert [record.getMessage() for record in caplog.records] == [f"{path} is damaged: it is made anew"]


@pytest.mark.parametrize("place", ["", "dynamic_perception", "dynamic_perception/graphs/tiny"])
def test_a_cache_that_others_may_write_is_not_used(tmp_path, cache, caplog, place):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    path = cached_graph(bundle, "small")
    keep_graph(path, b"put there by somebody else")
    (cache / place).chmod(0o777)
    assert read_graph(bundle, "small") == make_graph(bundle, "small")
    assert path.read_bytes().startswith(b"put there by somebody else")
    assert str(cache / place) in caplog.text


def test_a_cache_in_a_sticky_folder_is_used(tmp_path, cache):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    keep_graph(cached_graph(bundle, "small"), b"as it was kept")
    cache.chmod(0o1777)
    assert read_graph(bundle, "small") == b"as it was kept"


@pytest.mark.parametrize(
    "changed", [{"weights_sha256": "0" * 64}, {"mean": (0.5, 0.5, 0.5)}, {"standard_deviation": (0.2, 0.2, 0.2)}]
)
def test_other_weights_or_images_have_another_graph_in_the_cache(tmp_path, changed):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    assert cached_graph(replace(bundle, **changed), "small") != cached_graph(bundle, "small")


def test_without_a_place_to_keep_it_a_graph_is_made_every_time(tmp_path, cache):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    cache.write_text("a file where the folder should be")
    assert read_graph(bundle, "small") == make_graph(bundle, "small")


def test_export_writes_a_graph_per_subnetwork_that_runs_on_its_own(tmp_path, capsys):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    assert main(["export", str(bundle.folder), "--out", str(tmp_path / "graphs")]) == 0
    assert "small.onnx" in capsys.readouterr().out.replace("\n", "")
    image = np.zeros((*bundle.input_size("large"), 3), np.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "graphs" / "large.onnx", providers=["CPUExecutionProvider"])
    (classes,) = session.run(["classes"], {"image": image})
    assert sorted(classes) == list(range(TINY_OFA.classes))


def test_export_puts_graphs_where_engines_find_them(tmp_path, cache):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    assert main(["export", str(bundle.folder)]) == 0
    assert all(cached_graph(bundle, s.name).is_file() for s in bundle.subnetworks)
