"""Incremental training: what is frozen stays bit-identical, a resumed run gives the same weights, faults are named."""

import csv

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dynamic_perception.cli import main
from dynamic_perception.networks.bundle import read_bundle
from dynamic_perception.networks.group_cnn_space import GroupCNNSpace
from dynamic_perception.training.images import LabelledImages, read_split
from dynamic_perception.training.incremental import CHECKPOINT, LOG, IncrementalTrainer, IncrementalTraining

SMALL = GroupCNNSpace(classes=3, groups=3, channels=(4, 6), pool_after=(True, True), resolution=8)
SETTINGS = IncrementalTraining(epochs=(2, 2, 2), batch_size=16, validation=0.1)


@pytest.fixture(scope="module")
def data() -> LabelledImages:
    """Three classes that differ in colour, with noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 160)
    images = random.integers(0, 120, (160, 8, 8, 3))
    images[np.arange(160), :, :, labels] += 100
    return LabelledImages(images.astype(np.uint8), labels, ("red", "green", "blue"))


class Interrupted(Exception):
    """Stops a run in the middle, as Ctrl-C does."""


def nothing(*_):
    pass


def test_training_a_group_leaves_every_smaller_subnetwork_bit_identical(data, tmp_path):
    probe = torch.rand(5, 3, 8, 8)
    trainer = IncrementalTrainer(SMALL, SETTINGS, data, tmp_path)
    seen = {}

    def check(result):
        if result.epoch < 2:
            return
        for groups in range(1, result.group + 1):
            subnet = trainer.network.space.subnet({"groups": groups})
            trainer.network.activate(subnet, trainer.network.statistics(subnet))
            logits = trainer.network(probe)
            assert torch.equal(logits, seen.setdefault(groups, logits))

    trainer.run(nothing, check)
    assert set(seen) == {1, 2, 3}


def test_a_group_that_counts_too_little_in_the_sum_is_given_more_weight(data, tmp_path):
    trainer = IncrementalTrainer(SMALL, SETTINGS, data, tmp_path)
    trainer.run(nothing, nothing)
    classifiers = [trainer.network.group(group)["classifier.weight"] for group in range(3)]
    before = [classifier.clone() for classifier in classifiers]
    classifiers[1].mul_(0.25)
    trainer.network.group(1)["classifier.bias"].mul_(0.25)
    trainer._weigh_groups()
    torch.testing.assert_close(classifiers[0], before[0], rtol=0, atol=0)
    assert 0.5 < (classifiers[1] / before[1]).mean() < 2


def test_a_new_group_is_really_trained(data, tmp_path):
    trainer = IncrementalTrainer(SMALL, SETTINGS, data, tmp_path)
    before = {name: tensor.clone() for name, tensor in trainer.network.tensors().items()}
    trainer.run(nothing, nothing)
    for name, tensor in trainer.network.tensors().items():
        rows = len(tensor) // 3
        for group in range(3):
            assert not torch.equal(
                tensor[group * rows : (group + 1) * rows], before[name][group * rows : (group + 1) * rows]
            ), name


def test_the_network_learns(data, tmp_path):
    results = []
    IncrementalTrainer(SMALL, SETTINGS, data, tmp_path).run(nothing, results.append)
    assert results[-1].train_accuracy > 0.9


@pytest.mark.parametrize("stop_at", [5, 17, 40])
def test_an_interrupted_run_goes_on_to_the_weights_of_an_uninterrupted_one(data, tmp_path, stop_at):
    IncrementalTrainer(SMALL, SETTINGS, data, tmp_path / "whole").run(nothing, nothing)
    steps = []

    def interrupt(group, epoch):
        steps.append(epoch)
        if len(steps) == stop_at:
            raise Interrupted

    with pytest.raises(Interrupted):
        IncrementalTrainer(SMALL, SETTINGS, data, tmp_path / "parts").run(interrupt, nothing)
    IncrementalTrainer(SMALL, SETTINGS, data, tmp_path / "parts").run(nothing, nothing)
    whole, parts = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_checkpoint_of_other_settings_is_not_continued(data, tmp_path):
    IncrementalTrainer(SMALL, SETTINGS, data, tmp_path).run(nothing, nothing)
    with pytest.raises(ValueError, match="was made with settings .* another --run folder"):
        IncrementalTrainer(SMALL, IncrementalTraining(epochs=(3, 2, 2)), data, tmp_path)


def test_the_log_has_one_line_per_epoch(data, tmp_path):
    IncrementalTrainer(SMALL, SETTINGS, data, tmp_path).run(nothing, nothing)
    rows = list(csv.DictReader((tmp_path / LOG).open()))
    assert [(row["group"], row["epoch"]) for row in rows] == [(g, e) for g in "123" for e in "12"]


def write_images(folder, classes=("a", "b"), count=12) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for shade, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(count):
                image = random.integers(0, 100, (32, 32, 3)) + 150 * shade
                cv2.imwrite(str(folder / split / name / f"{i:02}.png"), image.astype(np.uint8))


def test_train_and_evaluate_commands_make_a_bundle_from_a_folder_of_images(tmp_path, capsys):
    write_images(tmp_path / "shades")
    arguments = [
        "--data",
        str(tmp_path / "shades"),
        "--out",
        str(tmp_path / "bundle"),
        "--run",
        str(tmp_path / "run"),
        "--epochs",
        "1",
        "1",
        "1",
        "1",
        "--channels",
        "4",
        "4",
        "4",
        "4",
        "4",
        "--batch-size",
        "4",
    ]
    assert main(["train", *arguments]) == 0
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.labels == ("a", "b")
    assert all("24 test images of shades" in s.accuracy_source for s in bundle.subnetworks)
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "bundle"), "--data", str(tmp_path / "shades")]) == 0
    printed = capsys.readouterr().out
    assert all(f"{s.accuracy:.4f}" in printed for s in bundle.subnetworks)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "--data", "/nowhere"], "no data at '/nowhere': expected a folder with"),
        (["evaluate", "/nowhere"], "no model bundle at '/nowhere'"),
    ],
)
def test_a_wrong_path_is_one_sentence_and_exit_code_2(arguments, message, capsys):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_a_file_that_is_no_image_is_named(tmp_path):
    write_images(tmp_path / "shades")
    (tmp_path / "shades" / "train" / "a" / "99.png").write_text("not an image")
    with pytest.raises(ValueError, match="99.png is not an image that can be read"):
        read_split(tmp_path / "shades", "train", 32)


def test_a_folder_without_classes_is_refused(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match="holds no <class>/<image>"):
        read_split(tmp_path, "train", 32)
