"""The shipped bundles are what their model files say they are."""

import pytest

from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.training.commands import data_of
from dynamic_perception.training.evaluation import evaluate, read_test_data, score

# Least accuracy of the smallest and the largest subnetwork, and how many times the MACs of the one the other needs.
SHIPPED = {"group_cnn_cifar10": (0.78, 0.85, 4), "ofa_mobilenet_v3_gtsrb": (0.965, 0.985, 5),
           "segmenter_camvid": (0.45, 0.56, 8)}


@pytest.fixture(params=SHIPPED)
def bundle(request):
    return read_bundle(find_bundle(request.param))


def test_every_larger_subnetwork_is_more_accurate(bundle):
    accuracies = [s.accuracy for s in bundle.of_precision("float32")]
    least_of_smallest, least_of_largest, span = SHIPPED[bundle.name]
    assert accuracies[0] >= least_of_smallest and accuracies[-1] >= least_of_largest
    assert all(larger > smaller for smaller, larger in zip(accuracies, accuracies[1:]))
    in_int8 = [s.accuracy for s in bundle.of_precision("int8")]
    assert all(larger > smaller for smaller, larger in zip(in_int8, in_int8[1:]))
    assert bundle.subnetworks[-1].macs >= span * bundle.subnetworks[0].macs


def test_the_largest_segmenter_takes_at_most_3_gmacs():
    assert read_bundle(find_bundle("segmenter_camvid")).subnetworks[-1].macs <= 3e9


def test_the_folder_takes_a_few_megabytes_and_has_a_model_card(bundle):
    assert sum(path.stat().st_size for path in bundle.folder.iterdir()) < 10e6
    assert bundle.name in (bundle.folder / "README.md").read_text()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_model_file_has_the_accuracies_that_evaluate_measures(bundle, dataset):
    dataset(data_of(bundle)[0])  # or skip
    data = read_test_data(bundle, data_of(bundle)[0])
    measured = {name: score(bundle, data, answers) for name, answers in evaluate(bundle, data).items()}
    assert measured == {s.name: s.accuracy for s in bundle.subnetworks}
