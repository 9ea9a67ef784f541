"""Training a supernet: what is drawn, what decays, and that resuming and several processes change nothing."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dynamic_perception.networks.ofa_mobilenet_v3 import OFAMobileNetV3
from dynamic_perception.networks.ofa_mobilenet_v3_space import OFAMobileNetV3Space
from dynamic_perception.training.images import LabelledFrames, LabelledImages
from dynamic_perception.training.recipes import choose_held_out, read_initial
from dynamic_perception.training.sandwich import CHECKPOINT, LOG, SandwichTrainer, SandwichTraining
from dynamic_perception.training.tasks import ClassificationTask, SegmentationTask

SPACE = OFAMobileNetV3Space(classes=3, width_multiplier=0.25, resolutions=(16, 24), kernels=(3, 5), depths=(1, 2))
SETTINGS = SandwichTraining(epochs=3, batch_size=16, learning_rate=0.05)


@pytest.fixture(scope="module")
def data() -> LabelledImages:
    """Three classes that differ in colour, with noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 52)
    images = random.integers(0, 120, (52, 20, 20, 3))
    images[np.arange(52), :, :, labels] += 100
    return LabelledImages(images.astype(np.uint8), labels, ("red", "green", "blue"))


def make_trainer(data, folder, settings=SETTINGS, score_every=3) -> SandwichTrainer:
    network = OFAMobileNetV3(SPACE)
    network.initialise(torch.Generator().manual_seed(settings.seed))
    return SandwichTrainer(
        network, ClassificationTask(data, range(4), (24, 24), mirrored=True), settings, folder, score_every
    )


class Interrupted(Exception):
    """Stops a run in the middle, as Ctrl-C does."""


def nothing(*_):
    pass


def test_an_interrupted_run_goes_on_to_the_weights_of_an_uninterrupted_one(data, tmp_path):
    make_trainer(data, tmp_path / "whole").run(nothing, nothing)
    steps = []

    def interrupt(epoch):
        steps.append(epoch)
        if len(steps) == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        make_trainer(data, tmp_path / "parts").run(interrupt, nothing)
    make_trainer(data, tmp_path / "parts").run(nothing, nothing)
    whole, parts = (load_file(tmp_path / name / CHECKPOINT) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name in whole:
        assert torch.equal(whole[name], parts[name]), name


def test_the_network_learns(data, tmp_path):
    results = []
    make_trainer(data, tmp_path, replace(SETTINGS, epochs=6), score_every=6).run(nothing, results.append)
    assert results[-1].loss < 0.8 * results[0].loss


def test_the_global_random_generator_is_left_alone(data, tmp_path):
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    make_trainer(data, tmp_path, replace(SETTINGS, epochs=1)).run(nothing, nothing)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_step_trains_the_largest_the_smallest_and_two_random_subnetworks(data, tmp_path):
    trainer = make_trainer(data, tmp_path)
    first, second = trainer.subnetworks(0, 0), trainer.subnetworks(0, 1)
    assert first[:2] == [SPACE.largest(), SPACE.smallest()]
    assert len(first) == 4 and first[2:] != second[2:]


def test_at_first_only_the_largest_is_trained_if_asked_for(data, tmp_path):
    trainer = make_trainer(data, tmp_path, replace(SETTINGS, epochs=4, largest_alone=0.5))
    assert [len(trainer.subnetworks(epoch, 0)) for epoch in range(4)] == [1, 1, 4, 4]


def test_progressive_shrinking_opens_kernels_then_depths_then_expansions(data, tmp_path):
    trainer = make_trainer(data, tmp_path, replace(SETTINGS, epochs=30, progressive=True))
    seen = [
        [
            subnet
            for epoch in range(start, start + 10)
            for step in range(6)
            for subnet in trainer.subnetworks(epoch, step)
        ]
        for start in (0, 10, 20)
    ]

    def choices(subnets, name):
        return {
            value
            for subnet in subnets
            for stage in getattr(subnet, name)
            for value in (stage if isinstance(stage, tuple) else (stage,))
        }

    assert [len(choices(subnets, "kernels")) for subnets in seen] == [2, 2, 2]
    assert [len(choices(subnets, "depths")) for subnets in seen] == [1, 2, 2]
    assert [len(choices(subnets, "expansions")) for subnets in seen] == [1, 1, 3]


def test_a_weight_without_gradient_does_not_decay(data, tmp_path):
    # Kernel matrices to 3x3 are used by no subnetwork while only the largest is trained.
    trainer = make_trainer(data, tmp_path, replace(SETTINGS, epochs=1, largest_alone=1.0, weight_decay=0.1))
    matrices = {name: tensor for name, tensor in trainer.network.tensors().items() if "matrix" in name}
    with torch.no_grad():
        for tensor in matrices.values():
            tensor.fill_(0.5)
    trainer.run(nothing, nothing)
    assert matrices
    for name, tensor in matrices.items():
        assert (tensor == 0.5).all(), name


def test_decay_pulls_only_where_a_subnetwork_was_used(data, tmp_path):
    trainer = make_trainer(data, tmp_path, replace(SETTINGS, weight_decay=0.5))
    weight = trainer.network.tensors()["classifier.linear.weight"]
    weight.grad = torch.zeros_like(weight)
    weight.grad[0] = 1e-3
    before = weight.detach().clone()
    trainer._decay()
    assert torch.equal(weight.grad[1:], torch.zeros_like(weight.grad[1:]))
    torch.testing.assert_close(weight.grad[0], 1e-3 + 0.5 * before[0])


def test_other_settings_do_not_continue_a_run(data, tmp_path):
    make_trainer(data, tmp_path, replace(SETTINGS, epochs=1)).run(nothing, nothing)
    with pytest.raises(ValueError, match="was made with settings .* give the same settings"):
        make_trainer(data, tmp_path, replace(SETTINGS, epochs=2))


def test_the_log_has_one_line_per_epoch(data, tmp_path):
    make_trainer(data, tmp_path).run(nothing, nothing)
    with (tmp_path / LOG).open() as file:
        lines = list(csv.DictReader(file))
    assert [line["epoch"] for line in lines] == ["1", "2", "3"]
    assert float(lines[2]["largest"]) >= 0 and np.isnan(float(lines[0]["largest"]))


def test_a_loss_that_is_not_a_number_ends_the_run_and_keeps_the_checkpoint(data, tmp_path):
    trainer = make_trainer(data, tmp_path)

    def break_it(epoch):
        if epoch == 1:
            with torch.no_grad():
                trainer.network.tensors()["classifier.linear.bias"].fill_(np.nan)

    with pytest.raises(ValueError, match="in epoch 2"):
        trainer.run(break_it, nothing)
    assert make_trainer(data, tmp_path).epoch == 1


WORKER = """
import sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_sandwich import COMMON, make_images, make_trainer, nothing
from dynamic_perception.training import distributed
distributed.join_processes()
assert distributed.processes() == 2
make_trainer(make_images(), Path(sys.argv[1]), COMMON, score_every=99).run(nothing, nothing)
distributed.leave_processes()
"""
COMMON = replace(SETTINGS, epochs=2, batch_size=32)


def make_images() -> LabelledImages:
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 100)
    images = random.integers(0, 120, (100, 24, 24, 3))
    images[np.arange(100), :, :, labels] += 100
    return LabelledImages(images.astype(np.uint8), labels, ("red", "green", "blue"))


def losses(folder: Path) -> list[float]:
    with (folder / LOG).open() as file:
        return [float(line["loss"]) for line in csv.DictReader(file)]


def test_two_processes_learn_as_one_with_the_whole_batch(tmp_path):
    script = tmp_path / "worker.py"
    script.write_text(WORKER.format(tests=str(Path(__file__).parent)))
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            str(script),
            str(tmp_path / "two"),
        ],
        check=True,
        timeout=300,
    )
    make_trainer(make_images(), tmp_path / "one", COMMON, score_every=99).run(nothing, nothing)
    # Not equal: each process normalises its half of a batch with that half's statistics, and varies its own images.
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=0.15)


def test_validation_takes_whole_tracks(data):
    tracks = np.arange(52) // 4
    held_out = choose_held_out(data, tracks)
    assert 0 < len(held_out) < 52
    assert not set(tracks[held_out]) & set(np.delete(tracks, held_out))


def test_a_batch_depends_on_its_seed_alone(data):
    task = ClassificationTask(data, (), (24, 24), mirrored=True)
    first, again, other = (task.batch(np.arange(4), seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_labels_of_pixels_move_with_the_pixels():
    random = np.random.default_rng(0)
    blocks = random.integers(0, 3, (2, 6, 8)).astype(np.uint8)
    labels = blocks.repeat(16, axis=1).repeat(16, axis=2)
    frames = LabelledFrames(np.array([0, 110, 220], np.uint8)[labels][..., None].repeat(3, 3), labels, tuple("abc"))
    task = SegmentationTask(frames, (), (64, 80))
    task._tint = torch.nn.Identity()  # colours tell the class here
    images, moved = task.batch(np.arange(2), seed=3)
    grey = images[:, 0] * 255 * task.deviation[0] + 255 * task.mean[0]
    truth = torch.tensor([0.0, 110, 220])[moved.clamp(max=2).long()]
    inside = torch.nn.functional.max_pool2d(truth, 5, 1, 2) == -torch.nn.functional.max_pool2d(-truth, 5, 1, 2)
    assert inside.float().mean() > 0.3
    # A label image that was mirrored or shifted against its frame would be wrong at two thirds of the pixels.
    assert ((grey - truth)[inside & (moved < 3)].abs() < 40).float().mean() > 0.97


def test_weights_to_start_from_are_those_of_a_run(data, tmp_path):
    trainer = make_trainer(data, tmp_path, replace(SETTINGS, epochs=1))
    trainer.run(nothing, nothing)
    for name, tensor in read_initial(tmp_path).items():
        assert torch.equal(tensor, trainer.network.tensors()[name])


def test_a_folder_without_weights_to_start_from_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"no weights in '{tmp_path}'"):
        read_initial(tmp_path)


def test_the_share_of_the_class_weights_that_spoils_the_score_is_undone():
    random = np.random.default_rng(0)
    labels = (random.random((4, 32, 32)) < 0.1).astype(np.uint8)  # of two classes one is rare
    frames = LabelledFrames(random.integers(0, 256, (4, 32, 32, 3), np.uint8), labels, ("common", "rare"))
    task = SegmentationTask(frames, [0], (16, 16))
    truth = torch.from_numpy(labels).long()
    fair = torch.stack([1.0 - 2 * truth, 2 * truth - 1.0], dim=1) * 0.2  # right by a small margin everywhere
    weights = torch.from_numpy(np.sqrt(np.median(shares := np.bincount(labels[1:].ravel()) / labels[1:].size) / shares))
    skewed = fair + weights.log()[None, :, None, None]
    assert task.score([(skewed, truth)]) < 0.6
    corrected = skewed + task.bias_correction([(skewed, truth)])[None, :, None, None]
    assert task.score([(corrected, truth)]) == 1.0
    assert not task.bias_correction([(fair, truth)]).any()  # nothing to undo
