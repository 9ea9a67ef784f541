"""Bundles: written whole, read back equal, and a damaged one is refused with file, key and what was expected."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from bundles import TINY, TINY_OFA, TINY_SEGMENTER, TINY_SPACES, make_bundle
from safetensors.numpy import load_file, save_file

from dynamic_perception.networks.bundle import BundleError, find_bundle, read_bundle, write_bundle, write_model_file


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "tiny")


@pytest.fixture
def segmenter(tmp_path):
    return make_bundle(tmp_path / "tiny", TINY_SEGMENTER)


def damage(bundle, change) -> None:
    path = bundle.folder / "model.yaml"
    plain = yaml.safe_load(path.read_text())
    change(plain)
    path.write_text(yaml.safe_dump(plain))


@pytest.mark.parametrize("space", TINY_SPACES, ids=lambda space: space.family)
def test_a_bundle_is_read_back_as_it_was_written(tmp_path, space):
    bundle = make_bundle(tmp_path / "tiny", space)
    assert bundle.space == space
    assert read_bundle(bundle.folder) == bundle


def test_nothing_but_the_bundle_is_left_in_the_folder_above(bundle):
    write_bundle(bundle, bundle.tensors())
    assert os.listdir(bundle.folder.parent) == ["tiny"]


def test_writing_again_keeps_a_model_card(bundle):
    (bundle.folder / "README.md").write_text("card")
    write_bundle(bundle, bundle.tensors())
    assert (bundle.folder / "README.md").read_text() == "card"


def test_a_bundle_that_cannot_be_written_leaves_the_old_one(bundle):
    tensors = bundle.tensors()
    del tensors["conv1.weight"]
    with pytest.raises((BundleError, KeyError)):
        write_bundle(bundle, tensors)
    assert read_bundle(bundle.folder) == bundle
    assert os.listdir(bundle.folder.parent) == ["tiny"]


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda p: p.update(schema_version=1), "schema_version is 1: expected 2, .* another version"),
        (lambda p: p.pop("labels"), "labels is missing: expected list"),
        (lambda p: p["labels"].pop(), "labels has 3 entries: expected 4"),
        (lambda p: p["architecture"].update(family="vgg"), "architecture.family is 'vgg': expected one of group_cnn"),
        (lambda p: p["architecture"].update(channels=[8]), "architecture: pool_after has 2 entries"),
        (lambda p: p["normalisation"].update(mean=[0.5]), "normalisation.mean is .*: expected three numbers"),
        (lambda p: p["subnetworks"][1].pop("macs"), r"subnetworks\[1\].macs is missing: expected int"),
        (lambda p: p["subnetworks"][1].update(macs=1), r"subnetworks\[1\].macs is 1: expected \d+ by the architecture"),
        (
            lambda p: p["subnetworks"][0].update(config={"groups": 9}),
            r"subnetworks\[0\].config: groups is 9: expected one of 1, 2, 3",
        ),
        (
            lambda p: p["subnetworks"][0].update(input_size=[16, 17]),
            r"subnetworks\[0\].input_size is \[16, 17\]: expected \[16, 16\]",
        ),
        (lambda p: p["subnetworks"].reverse(), r"subnetworks have macs .*: expected rising"),
        (lambda p: p.update(metric="mean IoU"), "metric is 'mean IoU': expected 'top-1' for classification"),
        (lambda p: p.update(palette=[[0, 0, 0]]), "palette is .*: expected 4 colours"),
        (lambda p: p.update(palette=5), "palette is 5: expected 4 colours"),
        (lambda p: p.update(palette=[[0, 0, 256]] * 4), "palette is .*: expected 4 colours"),
        (lambda p: p["subnetworks"][0].update(accuracy=81.0), r"subnetworks\[0\].accuracy is 81.0: expected 0 to 1"),
        (lambda p: p["subnetworks"][1].update(name="33%"), "expected at least one, all different"),
        (lambda p: p.update(subnetworks=[]), "expected at least one"),
    ],
)
def test_a_wrong_model_file_is_refused_by_key(bundle, change, message):
    damage(bundle, change)
    with pytest.raises(BundleError, match=f"model.yaml: .*{message}"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("text", ["", "[1, 2", "- 1", "\x00"])
def test_a_model_file_that_is_no_mapping_is_refused(bundle, text):
    (bundle.folder / "model.yaml").write_text(text)
    with pytest.raises(BundleError, match="model.yaml"):
        read_bundle(bundle.folder)


def test_a_missing_tensor_is_named_with_its_shape(bundle):
    tensors = load_file(bundle.folder / "weights.safetensors")
    del tensors["bn2.bias"]
    save_file(tensors, bundle.folder / "weights.safetensors")
    with pytest.raises(BundleError, match=r"weights.safetensors: tensor 'bn2.bias' is missing: expected shape \(24,\)"):
        read_bundle(bundle.folder)


def test_a_wrong_shape_is_named_with_the_right_one(bundle):
    tensors = load_file(bundle.folder / "weights.safetensors")
    tensors["bn2.bias"] = np.zeros(7, np.float32)
    save_file(tensors, bundle.folder / "weights.safetensors")
    with pytest.raises(BundleError, match=r"'bn2.bias' has shape \(7,\) and type F32: expected shape \(24,\)"):
        read_bundle(bundle.folder)


def test_other_weights_than_the_model_file_says_are_refused(bundle):
    tensors = load_file(bundle.folder / "weights.safetensors")
    tensors["bn2.bias"] += 1
    save_file(tensors, bundle.folder / "weights.safetensors")
    with pytest.raises(BundleError, match="sha256 is .*: expected weights_sha256"):
        read_bundle(bundle.folder)


@pytest.mark.parametrize("length", [0, 5, 1000])
def test_a_truncated_weight_file_is_refused(bundle, length):
    path = bundle.folder / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(BundleError, match="weights.safetensors is not a readable safetensors file"):
        read_bundle(bundle.folder)


def test_statistics_belong_to_a_subnetwork(segmenter):
    small, large = (segmenter.statistics(name) for name in ("small", "large"))
    assert {key: array.shape for key, array in small.items()} == TINY_SEGMENTER.statistics_shapes(
        TINY_SEGMENTER.smallest()
    )
    key = "stem.bn.running_mean"
    assert not np.array_equal(small[key], large[key][: len(small[key])])


def test_a_group_takes_its_statistics_into_every_subnetwork(bundle):
    assert np.array_equal(bundle.statistics("33%")["bn1.running_var"], bundle.tensors()["bn1.running_var"][:8])
    assert not (bundle.folder / "statistics.safetensors").exists()


def test_changed_statistics_are_other_weights(segmenter):
    statistics = {s.name: segmenter.statistics(s.name) for s in segmenter.subnetworks}
    statistics["small"]["stem.bn.running_mean"] += 1
    assert write_bundle(segmenter, segmenter.tensors(), statistics).weights_sha256 != segmenter.weights_sha256


def test_statistics_of_other_weights_than_the_model_file_says_are_refused(segmenter):
    statistics = load_file(segmenter.folder / "statistics.safetensors")
    statistics["small/stem.bn.running_mean"] += 1
    save_file(statistics, segmenter.folder / "statistics.safetensors")
    with pytest.raises(BundleError, match="sha256 .*: expected weights_sha256"):
        read_bundle(segmenter.folder)


def test_missing_statistics_are_named_with_their_subnetwork(segmenter):
    statistics = {"large": segmenter.statistics("large")}
    with pytest.raises(BundleError, match="statistics.safetensors: tensor 'small/stem.bn.running_mean' is missing"):
        write_bundle(segmenter, segmenter.tensors(), statistics)
    assert read_bundle(segmenter.folder) == segmenter


def test_a_folder_holds_weights_statistics_and_the_model_file_alone(segmenter):
    assert sorted(os.listdir(segmenter.folder)) == ["model.yaml", "statistics.safetensors", "weights.safetensors"]


def test_no_statistics_are_left_of_a_bundle_of_another_family(segmenter):
    bundle = make_bundle(segmenter.folder, TINY)
    assert not (bundle.folder / "statistics.safetensors").exists()


def test_an_unknown_subnetwork_is_answered_with_the_known_ones(bundle):
    with pytest.raises(ValueError, match="subnetwork '51%' is not in tiny: expected one of 33%, 66%, 100%"):
        bundle.subnetwork("51%")


def test_a_wrong_name_is_answered_with_the_shipped_bundles():
    with pytest.raises(BundleError, match="no model bundle at 'nowhere': .*group_cnn_cifar10"):
        find_bundle("nowhere")


def test_the_model_file_alone_can_be_written_again(bundle):
    write_model_file(bundle)
    assert read_bundle(bundle.folder) == bundle


def test_a_process_that_is_killed_while_writing_leaves_the_old_bundle(bundle):
    script = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[2])\n"
        "from dynamic_perception.networks.bundle import read_bundle, write_bundle\n"
        "bundle = read_bundle(pathlib.Path(sys.argv[1]))\n"
        "print('ready', flush=True)\n"
        "while True: write_bundle(bundle, bundle.tensors())\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(bundle.folder), os.path.dirname(__file__)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    candidates = [bundle.folder, *bundle.folder.parent.glob("tiny.replaced-*")]
    assert any(
        (c / "model.yaml").exists() and read_bundle(c).weights_sha256 == bundle.weights_sha256 for c in candidates
    )


def test_reading_a_bundle_imports_neither_torch_nor_onnx(tmp_path):
    bundle = make_bundle(tmp_path / "tiny", TINY_OFA)
    script = (
        "import sys, pathlib\n"
        "from dynamic_perception.networks.bundle import read_bundle\n"
        "read_bundle(pathlib.Path(sys.argv[1]))\n"
        "print(sorted({'torch', 'onnx'} & set(sys.modules)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script, str(bundle.folder)], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr
