"""The shipped bundles are what their model files say they are."""

import itertools

import numpy as np
import pytest

from dynamic_perception.engines.engine import Ranking
from dynamic_perception.engines.scaling import scale_image
from dynamic_perception.engines.selection import open_engine
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.training.commands import data_of
from dynamic_perception.training.evaluation import evaluate, read_test_data, score

# Least accuracy of the smallest and the largest subnetwork, and how many times the MACs of the one the other needs.
SHIPPED = {
    "group_cnn_cifar10": (0.78, 0.85, 4),
    "ofa_mobilenet_v3_gtsrb": (0.965, 0.985, 5),
    "segmenter_camvid": (0.45, 0.56, 8),
}


@pytest.fixture(params=SHIPPED)
def bundle(request):
    return read_bundle(find_bundle(request.param))


def test_every_larger_subnetwork_is_more_accurate(bundle):
    accuracies = [s.accuracy for s in bundle.of_precision("float32")]
    least_of_smallest, least_of_largest, span = SHIPPED[bundle.name]
    assert accuracies[0] >= least_of_smallest and accuracies[-1] >= least_of_largest
    assert all(larger > smaller for smaller, larger in itertools.pairwise(accuracies))
    in_int8 = [s.accuracy for s in bundle.of_precision("int8")]
    assert all(larger > smaller for smaller, larger in itertools.pairwise(in_int8))
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


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_engines_answer_as_pytorch_on_the_test_split(bundle, dataset):
    dataset(data_of(bundle)[0])  # or skip
    data, element = read_test_data(bundle, data_of(bundle)[0]), discover_elements()[0]
    engines = {name: open_engine(name, bundle) for name in ("pytorch", "onnxruntime", "openvino")}
    for subnetwork in bundle.of_precision("float32"):
        same, compared = dict.fromkeys(engines, 0), 0
        for engine in engines.values():
            engine.make_ready(subnetwork.name, element)
        for image in data.images:
            image = np.ascontiguousarray(scale_image(image, subnetwork.input_size))
            answers, logits = {}, {}
            for name, engine in engines.items():
                engine.activate(subnetwork.name, element)
                answer = engine.run(image)
                answers[name] = answer.classes[0] if isinstance(answer, Ranking) else answer
                logits[name] = engine.logits(image)
            compared += answers["pytorch"].size
            for name in engines:
                same[name] += np.count_nonzero(answers[name] == answers["pytorch"])
                error = np.abs(logits[name] - logits["pytorch"]).max()
                assert error <= 1e-3 * np.abs(logits["pytorch"]).max(), (subnetwork.name, name)
        assert all(count >= 0.999 * compared for count in same.values()), subnetwork.name
    for engine in engines.values():
        engine.close()
