"""Test images sent through camera, DDS and perception node are answered just as `evaluate` answers them, none lost."""

import os
from pathlib import Path

import numpy as np
import pytest
from dynamic_perception.msg import Classification

from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes import qos
from dynamic_perception.training.evaluation import evaluate
from dynamic_perception.training.images import find_dataset, read_split

SUBNETWORKS = ("25%", "50%", "75%", "100%")


class Expected:
    """A folder of test images and what `evaluate` answers to them."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.bundle = read_bundle(find_bundle("group_cnn_cifar10"))
        data = read_split(folder, "test")
        self.truth = data.labels
        self.answers = {
            name: [self.bundle.labels[i] for i in predicted] for name, predicted in evaluate(self.bundle, data).items()
        }


@pytest.fixture(scope="module")
def whole() -> Expected:
    """All 10,000 test images."""
    return Expected(cifar10())


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Expected:
    """Every 50th test image, linked into a folder of the same layout."""
    folder = tmp_path_factory.mktemp("sample")
    for path in sorted((cifar10() / "test").glob("*/*"))[::50]:
        (folder / "test" / path.parent.name).mkdir(parents=True, exist_ok=True)
        os.symlink(path, folder / "test" / path.parent.name / path.name)
    return Expected(folder)


def cifar10() -> Path:
    data = find_dataset("cifar10")
    if data is None:
        pytest.skip("$DYNAMIC_PERCEPTION_DATA does not hold the data set 'cifar10'")
    return data


@pytest.fixture
def answer_online(start_node, ros_node, spin_until):
    """The labels that the nodes give, in the order in which the frames were sent."""

    def answer(expected: Expected, subnetwork: str, timeout: float) -> list[str]:
        answers: dict[int, str] = {}

        def keep(message: Classification) -> None:
            answers[message.header.stamp.sec * 10**9 + message.header.stamp.nanosec] = message.labels[0]

        # The camera only waits for the node's report, so this reader may fall behind, and must not lose any for that.
        count = len(expected.truth)
        profile = type(qos.RESULTS)(depth=count, reliability=qos.RESULTS.reliability)
        results = ros_node.create_subscription(Classification, "classification", keep, profile)
        start_node("perception", {"start_subnetwork": subnetwork, "command_timeout": 0.0})
        spin_until(results.get_publisher_count, "the perception node")
        source = {"source": str(expected.folder / "test"), "lossless": True, "loop": False}
        camera = start_node("camera", source)
        spin_until(lambda: len(answers) == count or camera.process.poll() is not None, "every answer", timeout)
        return [answers[stamp] for stamp in sorted(answers)]

    return answer


@pytest.mark.parametrize("subnetwork", SUBNETWORKS)
def test_answers_over_dds_are_those_of_evaluate(sample, answer_online, subnetwork):
    assert answer_online(sample, subnetwork, timeout=60) == sample.answers[subnetwork]


@pytest.mark.slow
@pytest.mark.parametrize("subnetwork", SUBNETWORKS)
def test_the_whole_test_split_over_dds_has_the_accuracy_of_the_model_file(whole, answer_online, subnetwork):
    online = answer_online(whole, subnetwork, timeout=200)
    assert online == whole.answers[subnetwork]
    right = [label == whole.bundle.labels[truth] for label, truth in zip(online, whole.truth)]
    assert np.mean(right) == whole.bundle.subnetwork(subnetwork).accuracy
