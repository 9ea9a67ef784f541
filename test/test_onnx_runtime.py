"""The ONNX Runtime engine answers as the torch network does, shares one weight file, and switches without a trace."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from bundles import make_bundle

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.group_cnn import GroupCNN

ONE = ComputeElement("cpu:1", "cpu", tuple(sorted(os.sched_getaffinity(0))), 1)
TWO = ComputeElement("cpu:2", "cpu", tuple(sorted(os.sched_getaffinity(0))), 2)


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    bundle = make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")
    engine = OnnxRuntimeEngine(bundle)
    engine.prepare([s.name for s in bundle.subnetworks], [ONE, TWO], warm_up_runs=1)
    images = np.random.default_rng(1).integers(0, 256, (20, *bundle.input_size("100%"), 3), np.uint8)
    yield SimpleNamespace(bundle=bundle, engine=engine, images=images)
    engine.close()


@pytest.mark.parametrize("element", [ONE, TWO], ids=lambda e: e.name)
def test_logits_are_those_of_the_torch_network(ready, element):
    network = GroupCNN(ready.bundle.space)
    network.load_tensors({name: torch.from_numpy(t) for name, t in ready.bundle.tensors().items()})
    mean = 255 * torch.tensor(ready.bundle.mean)
    deviation = 255 * torch.tensor(ready.bundle.standard_deviation)
    normalised = ((torch.from_numpy(ready.images).float() - mean) / deviation).permute(0, 3, 1, 2)
    for subnetwork in ready.bundle.subnetworks:
        network.activate(subnetwork.config, network.statistics(subnetwork.config))
        ready.engine.activate(subnetwork.name, element)
        logits = np.array([ready.engine.logits(image) for image in ready.images])
        np.testing.assert_allclose(logits, network(normalised).numpy(), rtol=1e-4, atol=1e-4)


def test_switching_there_and_back_gives_the_first_answer_bit_for_bit(ready):
    ready.engine.activate("33%", ONE)
    first = ready.engine.logits(ready.images[0])
    ready.engine.activate("100%", ONE)
    assert not np.array_equal(ready.engine.logits(ready.images[0]), first)
    ready.engine.activate("33%", ONE)
    assert np.array_equal(ready.engine.logits(ready.images[0]), first)


def test_an_answer_is_the_ranking_of_the_logits(ready):
    ready.engine.activate("66%", ONE)
    for image in ready.images:
        logits, answer = ready.engine.logits(image), ready.engine.run(image)
        np.testing.assert_array_equal(answer.classes, np.argsort(-logits, kind="stable"))
        np.testing.assert_allclose(answer.scores, np.sort(np.exp(logits) / np.exp(logits).sum())[::-1], rtol=1e-5)


def test_a_combination_that_was_not_prepared_is_refused(ready):
    with pytest.raises(ValueError, match="subnetwork '33%' on 'cpu:64' was not prepared"):
        ready.engine.activate("33%", ComputeElement("cpu:64", "cpu", (0,), 64))


def test_threads_stay_on_the_cpus_of_the_element(tmp_path):
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        pytest.skip("this machine offers one CPU, so no element is smaller than it")
    small = ComputeElement("cpu0:2", "cpu0", (allowed[0],), 2)
    before = set(os.listdir("/proc/self/task"))
    engine = OnnxRuntimeEngine(make_bundle(tmp_path / "tiny"))
    engine.prepare(["100%"], [small], warm_up_runs=1)
    new = set(os.listdir("/proc/self/task")) - before
    assert new, "the session of two threads started no thread of its own"
    assert all(os.sched_getaffinity(int(task)) == {allowed[0]} for task in new)
    engine.activate("100%", small)
    assert os.sched_getaffinity(0) == {allowed[0]}
    engine.close()
    assert os.sched_getaffinity(0) == set(allowed)
