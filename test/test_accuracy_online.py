"""Test images sent through camera, DDS and perception node are answered just as `evaluate` answers them, none lost."""

import os
from pathlib import Path

import numpy as np
import pytest

from dynamic_perception.msg import Classification
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes import qos
from dynamic_perception.training.evaluation import evaluate
from dynamic_perception.training.images import read_split

BUNDLE = "group_cnn_cifar10"
SUBNETWORKS = ("25%", "50%", "75%", "100%")


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """Every 50th test image, linked into a folder of the same layout."""
    from dynamic_perception.training.images import find_dataset

    data = find_dataset("cifar10")
    if data is None:
        pytest.skip("$DYNAMIC_PERCEPTION_DATA does not hold the data set 'cifar10'")
    folder = tmp_path_factory.mktemp("sample")
    for path in sorted((data / "test").glob("*/*"))[::50]:
        (folder / "test" / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.symlink(path, folder / "test" / path.parent.name / path.name)
    return folder


def assert_online_answers_are_those_of_evaluate(
    folder: Path, subnetwork: str, start_node, ros_node, spin_until, timeout
):
    bundle = read_bundle(find_bundle(BUNDLE))
    data = read_split(folder, "test", bundle.input_size[0])
    expected = [bundle.labels[i] for i in evaluate(bundle, data)[subnetwork]]
    answers: dict[int, str] = {}

    def keep(message):
        answers[message.header.stamp.sec * 10**9 + message.header.stamp.nanosec] = message.labels[0]

    results = ros_node.create_subscription(Classification, "classification", keep, qos.RESULTS)
    start_node("perception", {"start_subnetwork": subnetwork, "command_timeout": 0.0})
    spin_until(lambda: results.get_publisher_count(), "the perception node")
    camera = start_node("camera", {"source": str(folder / "test"), "lossless": True, "loop": False, "frame_rate": 0.0})
    spin_until(lambda: len(answers) >= len(expected) or camera.process.poll() is not None, "every answer", timeout)
    online = [answers[stamp] for stamp in sorted(answers)]
    assert online == expected
    accuracy = np.mean([label == bundle.labels[truth] for label, truth in zip(online, data.labels)])
    return accuracy, bundle.subnetwork(subnetwork).accuracy


@pytest.mark.parametrize("subnetwork", SUBNETWORKS)
def test_answers_over_dds_are_those_of_evaluate(sample, subnetwork, start_node, ros_node, spin_until):
    assert_online_answers_are_those_of_evaluate(sample, subnetwork, start_node, ros_node, spin_until, timeout=60)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("subnetwork", SUBNETWORKS)
def test_the_whole_test_split_over_dds_has_the_accuracy_of_the_model_file(
    dataset, subnetwork, start_node, ros_node, spin_until
):
    online, written = assert_online_answers_are_those_of_evaluate(
        dataset("cifar10"), subnetwork, start_node, ros_node, spin_until, timeout=600
    )
    assert online == written
