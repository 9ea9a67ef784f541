"""From labelled images to a bundle by the commands that users give."""

import shutil

import cv2
import numpy as np
import pytest

from dynamic_perception.cli import main
from dynamic_perception.networks.bundle import read_bundle
from dynamic_perception.training.recipes import prepare_segmentation

CLASSES = ("dark", "middle", "bright")
FRAMES = {"train": 8, "val": 2, "test": 3}


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """Frames with three grey areas and the label of every pixel; label 255 is void."""
    folder = tmp_path_factory.mktemp("frames")
    (folder / "classes.txt").write_text("\n".join(CLASSES) + "\n")
    random = np.random.default_rng(0)
    for split, count in FRAMES.items():
        for part in ("images", "labels"):
            (folder / split / part).mkdir(parents=True)
        for number in range(count):
            labels = random.integers(0, 3, (3, 4)).astype(np.uint8).repeat(16, axis=0).repeat(16, axis=1)
            image = 100 * labels[..., None] + random.integers(0, 50, (48, 64, 3)).astype(np.uint8)
            labels[0] = 255
            cv2.imwrite(str(folder / split / "images" / f"{number}.jpg"), image)
            cv2.imwrite(str(folder / split / "labels" / f"{number}.png"), labels)
    return folder


@pytest.fixture(scope="module")
def segmenter(frames, tmp_path_factory):
    folder = tmp_path_factory.mktemp("segmenter")
    assert (
        main(
            [
                "train",
                "--architecture",
                "segmenter",
                "--data",
                str(frames),
                "--epochs",
                "2",
                "--batch-size",
                "2",
                "--subnetworks",
                "3",
                "--out",
                str(folder / "bundle"),
                "--run",
                str(folder / "run"),
            ]
        )
        == 0
    )
    return folder / "bundle"


def test_a_segmenter_is_trained_calibrated_measured_and_written(segmenter, frames):
    bundle = read_bundle(segmenter)
    assert bundle.labels == CLASSES and bundle.task == "segmentation"
    assert [s.input_size for s in bundle.subnetworks] == [(24, 32), (32, 43), (48, 64)]
    assert all(0 < s.accuracy < 1 and "3 test images" in s.accuracy_source for s in bundle.subnetworks)
    assert bundle.training["data"] == [frames.name]


def test_evaluate_prints_what_the_model_file_says(segmenter, frames, capsys):
    assert main(["evaluate", str(segmenter), "--data", str(frames)]) == 0
    printed = capsys.readouterr().out
    assert "in model.yaml: measured on the 3 test images" in printed
    for subnetwork in read_bundle(segmenter).subnetworks:
        assert printed.count(f"{subnetwork.accuracy:.4f}") >= 2  # measured now, and in the file
        assert f"{subnetwork.macs:,}" in printed and f"{subnetwork.parameters:,}" in printed


def test_evaluate_draws_frames_with_truth_and_answers(segmenter, frames, tmp_path):
    assert main(["evaluate", str(segmenter), "--data", str(frames), "--pictures", str(tmp_path / "pictures")]) == 0
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"accuracy_over_macs.png", "frame_00000.png", "frame_00001.png", "frame_00002.png"}
    assert all(cv2.imread(str(path)).std() > 10 for path in (tmp_path / "pictures").iterdir())


def test_calibrating_again_gives_the_same_statistics_and_accuracies(segmenter, frames):
    before = read_bundle(segmenter)
    assert main(["calibrate", str(segmenter), "--data", str(frames)]) == 0
    after = read_bundle(segmenter)
    assert after.subnetworks == before.subnetworks
    for subnetwork in before.subnetworks:
        for name, values in before.statistics(subnetwork.name).items():
            np.testing.assert_array_equal(after.statistics(subnetwork.name)[name], values)


def test_calibrate_takes_a_family_of_the_users_own(segmenter, frames, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(segmenter, folder)
    family = tmp_path / "family.yaml"
    family.write_text("- {width: 8, resolution: [24, 32]}\n- {width: 5, resolution: [24, 32]}\n")
    assert main(["calibrate", str(folder), "--data", str(frames), "--subnetworks", str(family)]) == 0
    assert [s.config.width for s in read_bundle(folder).subnetworks] == [5, 8]
    family.write_text("- {width: 9, resolution: [24, 32]}\n")
    assert main(["calibrate", str(folder), "--data", str(frames), "--subnetworks", str(family)]) == 2
    assert "entry 0: width is 9: expected one of" in capsys.readouterr().err


def test_quantise_keeps_what_pays_and_measures_its_accuracy(segmenter, frames, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(segmenter, folder)
    assert main(["quantise", str(folder), "--data", str(frames), "--images", "5"]) == 0
    printed, bundle = capsys.readouterr().out, read_bundle(folder)
    kept = bundle.of_precision("int8")
    assert printed.count("kept") == len(kept) and printed.count("dropped") == 3 - len(kept)
    assert all(0 < s.accuracy < 1 and "3 test images" in s.accuracy_source for s in kept)
    assert bundle.of_precision("float32") == read_bundle(segmenter).subnetworks
    assert main(["calibrate", str(folder), "--data", str(frames)]) == 0
    assert not read_bundle(folder).of_precision("int8")


def test_quantise_without_data_leaves_the_bundle_as_it_was(segmenter, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(segmenter, folder)
    assert main(["quantise", str(folder), "--data", str(tmp_path / "nowhere")]) == 2
    assert "no data at" in capsys.readouterr().err
    assert read_bundle(folder).subnetworks == read_bundle(segmenter).subnetworks


@pytest.mark.parametrize(("asked", "held_out"), [(None, 2), (0, 0), (1, 1), (5, 2)])
def test_frames_of_the_validation_split_that_are_not_held_out_are_trained_on(frames, asked, held_out):
    _, task, _ = prepare_segmentation([str(frames)], asked)
    assert (task.held_out, len(task)) == (held_out, FRAMES["train"] + FRAMES["val"] - held_out)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--architecture", "segmenter", "--data", "/nowhere"], "no data at '/nowhere'"),
        (["calibrate", "group_cnn_cifar10"], "nothing to calibrate"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_sentence(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_frames_and_labels_of_different_sizes_are_named(frames, tmp_path, capsys):
    for part in ("images", "labels"):
        (tmp_path / "train" / part).mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "train" / "images" / "0.png"), np.zeros((48, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "train" / "labels" / "0.png"), np.zeros((48, 60), np.uint8))
    assert main(["train", "--architecture", "segmenter", "--data", str(tmp_path)]) == 2
    assert "60x48 pixels: expected 64x48" in capsys.readouterr().err
