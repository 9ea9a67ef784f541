"""Bundles: written whole, read back equal, and a damaged one is refused with file, key and what was expected."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import yaml
from bundles import TINY, make_bundle
from safetensors.numpy import load_file, save_file

from dynamic_perception.networks.bundle import BundleError, find_bundle, read_bundle, write_bundle, write_model_file


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "tiny")


def damage(bundle, change) -> None:
    path = bundle.folder / "model.yaml"
    plain = yaml.safe_load(path.read_text())
    change(plain)
    path.write_text(yaml.safe_dump(plain))


def test_a_bundle_is_read_back_as_it_was_written(bundle):
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
        (lambda p: p.update(schema_version=2), "schema_version is 2: expected 1"),
        (lambda p: p.pop("labels"), "labels is missing: expected list"),
        (lambda p: p["labels"].pop(), "labels has 3 entries: expected 4"),
        (lambda p: p["architecture"].update(family="vgg"), "architecture.family is 'vgg': expected 'group_cnn'"),
        (lambda p: p["architecture"].update(channels=[8]), "architecture: pool_after has 2 entries"),
        (lambda p: p["normalisation"].update(mean=[0.5]), "normalisation.mean is .*: expected three numbers"),
        (lambda p: p["subnetworks"][1].pop("macs"), r"subnetworks\[1\].macs is missing: expected int"),
        (lambda p: p["subnetworks"][1].update(macs=1), r"subnetworks\[1\].macs is 1: expected \d+ by the architecture"),
        (lambda p: p["subnetworks"][0].update(groups=9), r"subnetworks\[0\].groups is 9: expected 1 to 3"),
        (lambda p: p["subnetworks"][0].update(accuracy=81.0), r"subnetworks\[0\].accuracy is 81.0: expected 0 to 1"),
        (
            lambda p: p["subnetworks"][0].update(graph="../x.onnx"),
            r"subnetworks\[0\].graph is '../x.onnx': expected a file name",
        ),
        (
            lambda p: p["subnetworks"][0].update(graph="x.onnx"),
            "graph 'x.onnx' of subnetwork '33%' is not in the folder",
        ),
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


def test_the_first_groups_of_every_subnetwork_are_named_by_their_share():
    assert TINY.subnetworks() == {"33%": 1, "66%": 2, "100%": 3}
