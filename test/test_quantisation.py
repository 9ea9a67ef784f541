"""Int8 subnetworks: made from the float32 ones, nearly as accurate, and only offered where they pay."""

import shutil

import numpy as np
import pytest
from bundles import TINY, TINY_SEGMENTER, TINY_SPACES, make_bundle

from dynamic_perception.engines.engine import EngineError, Ranking
from dynamic_perception.engines.selection import installed_engines, open_engine
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.bundle import BundleError, find_bundle, read_bundle
from dynamic_perception.training.quantise_command import calibrate, int8_name, pays, write_quantised

ELEMENT = discover_elements()[0]


def images_of(bundle, count=20):
    random = np.random.default_rng(3)
    height, width = bundle.subnetworks[-1].input_size
    return [random.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


@pytest.fixture
def quantised(tmp_path):
    bundle = make_bundle(tmp_path / "tiny", TINY_SEGMENTER)
    return write_quantised(bundle, calibrate(bundle, images_of(bundle)))


def logits_of(engine, name, images):
    engine.prepare([name], [ELEMENT])
    engine.activate(name, ELEMENT)
    return np.array([engine.logits(image) for image in images])


@pytest.mark.parametrize("engine_name", [name for name in installed_engines() if name != "pytorch"])
@pytest.mark.parametrize("space", TINY_SPACES, ids=lambda space: space.family)
def test_int8_logits_are_close_to_those_of_float32(tmp_path, space, engine_name):
    bundle = make_bundle(tmp_path / "tiny", space)
    bundle = write_quantised(bundle, calibrate(bundle, images_of(bundle)))
    largest = bundle.subnetworks[-1]
    images = images_of(bundle)
    engine = open_engine(engine_name, bundle)
    expected = logits_of(engine, largest.name, images)
    found = logits_of(engine, int8_name(largest), images)
    engine.close()
    error = np.sqrt(np.mean((found - expected) ** 2)) / expected.std()
    assert 1e-6 < error < 0.15


def test_the_graph_of_an_int8_subnetwork_is_a_quarter_as_large():
    bundle = read_bundle(find_bundle("segmenter_camvid"))
    from dynamic_perception.networks.families import make_graph

    assert len(make_graph(bundle, "2914M int8")) < 0.3 * len(make_graph(bundle, "2914M"))


def test_it_stands_right_before_its_float32_subnetwork_and_shares_its_weights(quantised):
    assert [s.name for s in quantised.subnetworks] == ["small int8", "small", "large int8", "large"]
    assert quantised.full_precision("large int8").name == quantised.full_precision("large").name == "large"
    for key, values in quantised.statistics("large").items():
        np.testing.assert_array_equal(quantised.statistics("large int8")[key], values)


def test_a_classifier_answers_with_a_ranking(tmp_path):
    bundle = make_bundle(tmp_path / "tiny", TINY)
    bundle = write_quantised(bundle, calibrate(bundle, images_of(bundle)))
    engine = open_engine("onnxruntime", bundle)
    engine.prepare(["100% int8"], [ELEMENT])
    engine.activate("100% int8", ELEMENT)
    answer = engine.run(images_of(bundle)[0])
    engine.close()
    assert isinstance(answer, Ranking) and sorted(answer.classes) == list(range(len(bundle.labels)))


def test_pytorch_leaves_int8_subnetworks_out_and_says_so(quantised):
    engine = open_engine("pytorch", quantised)
    assert [s.name for s in engine.subnetworks] == ["small", "large"]
    with pytest.raises(EngineError, match="'large int8' in float32 only"):
        engine.make_ready("large int8", ELEMENT)


def test_it_holds_a_quarter_of_the_memory(quantised):
    engine = open_engine("onnxruntime", quantised)
    assert 4 * engine.bytes_of("large int8") == engine.bytes_of("large")


def test_it_pays_unless_a_float32_subnetwork_is_as_fast_and_as_accurate(quantised):
    scores = {"small": 0.5, "large": 0.6, "large int8": 0.59}
    chosen = quantised.subnetwork("large int8")
    assert pays(quantised, chosen, {"small": 1.0, "large": 3.0, "large int8": 2.0}, scores)
    assert not pays(quantised, chosen, {"small": 1.0, "large": 3.0, "large int8": 3.5}, scores)
    assert not pays(quantised, chosen, {"small": 1.0, "large": 3.0, "large int8": 2.0}, scores | {"large int8": 0.49})


def test_ranges_are_other_weights(quantised):
    ranges = {name: quantised.ranges(name) for name in ("small int8", "large int8")}
    ranges["small int8"] = {key: (2 * low, 2 * high) for key, (low, high) in ranges["small int8"].items()}
    assert write_quantised(quantised, ranges).weights_sha256 != quantised.weights_sha256


def test_missing_ranges_are_named_with_their_subnetwork(quantised):
    (quantised.folder / "ranges.safetensors").unlink()
    with pytest.raises(BundleError, match="ranges.safetensors"):
        read_bundle(quantised.folder)


def test_an_int8_subnetwork_without_its_float32_one_is_refused(quantised):
    path = quantised.folder / "model.yaml"
    path.write_text(path.read_text().replace("name: large\n", "name: large b\n  precision: int8\n"))
    with pytest.raises(BundleError, match="subnetwork large int8 is int8: expected the float32 one"):
        read_bundle(quantised.folder)


def test_an_unknown_precision_is_refused(quantised):
    path = quantised.folder / "model.yaml"
    path.write_text(path.read_text().replace("precision: int8", "precision: int4"))
    with pytest.raises(BundleError, match="precision is 'int4': expected float32 or int8"):
        read_bundle(quantised.folder)


def test_replacing_them_leaves_no_ranges_behind(quantised):
    bundle = write_quantised(quantised, {})
    assert [s.name for s in bundle.subnetworks] == ["small", "large"]
    assert not (bundle.folder / "ranges.safetensors").exists()


def test_the_int8_subnetworks_of_a_copy_run_like_the_original(quantised, tmp_path):
    shutil.copytree(quantised.folder, tmp_path / "copy")
    images = images_of(quantised, 3)
    answers = []
    for bundle in (quantised, read_bundle(tmp_path / "copy")):
        engine = open_engine("onnxruntime", bundle)
        answers.append(logits_of(engine, "large int8", images))
        engine.close()
    np.testing.assert_array_equal(*answers)
