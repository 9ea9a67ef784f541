"""The shipped bundle is what its model file says it is."""

import pytest

from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.training.evaluation import evaluate, with_accuracies
from dynamic_perception.training.images import read_split


@pytest.fixture(scope="module")
def bundle():
    return read_bundle(find_bundle("group_cnn_cifar10"))


def test_every_larger_subnetwork_is_at_least_a_point_better(bundle):
    accuracies = [s.accuracy for s in bundle.subnetworks]
    assert [s.name for s in bundle.subnetworks] == ["25%", "50%", "75%", "100%"]
    assert accuracies[0] >= 0.78 and accuracies[-1] >= 0.85
    assert all(larger >= smaller + 0.01 for smaller, larger in zip(accuracies, accuracies[1:]))


def test_the_model_file_has_the_accuracies_that_evaluate_measures(bundle, dataset):
    data = read_split(dataset("cifar10"), "test", bundle.input_size[0])
    measured = with_accuracies(bundle, data, evaluate(bundle, data), "")
    assert [s.accuracy for s in measured.subnetworks] == [s.accuracy for s in bundle.subnetworks]
