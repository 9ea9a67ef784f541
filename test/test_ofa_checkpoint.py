"""Checkpoints of the Once-for-All authors are read in every spelling, strictly, and never executed."""

import argparse
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from dynamic_perception.networks.bundle import read_bundle
from dynamic_perception.networks.commands import add_import_ofa
from dynamic_perception.networks.families import make_supernet
from dynamic_perception.networks.ofa_checkpoint import read_checkpoint
from dynamic_perception.networks.ofa_mobilenet_v3_space import OFAMobileNetV3Space

SPACE = OFAMobileNetV3Space(classes=6, width_multiplier=0.25)


def state_dict(space: OFAMobileNetV3Space = SPACE, block: str = "conv", prefix: str = "", counters: bool = True):
    """A supernet's state as the authors' code writes it, with random numbers."""
    generator = torch.Generator().manual_seed(5)
    shapes = space.tensor_shapes() | space.statistics_shapes(space.largest())
    state = {
        name: torch.randn(shape, generator=generator) * math.prod(shape[1:]) ** -0.5 for name, shape in shapes.items()
    }
    state |= {name: tensor.abs() + 0.5 for name, tensor in state.items() if name.endswith("running_var")}
    if counters:
        state |= {
            name.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
            for name in shapes
            if name.endswith("running_mean")
        }
    return {
        prefix + name.replace(".conv.", f".{block}.", 1) if name.startswith("blocks.") else prefix + name: tensor
        for name, tensor in state.items()
    }


def import_ofa(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_import_ofa(parser.add_subparsers())
    chosen = parser.parse_args(["import-ofa", *arguments])
    return chosen.run_command(chosen)


def saved(path: Path, content) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("counters", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("block", ["conv", "mobile_inverted_conv"])
def test_every_spelling_gives_the_same_tensors(tmp_path, block, wrapped, prefix, counters):
    state = state_dict(block=block, prefix=prefix, counters=counters)
    checkpoint = read_checkpoint(saved(tmp_path / "supernet", {"state_dict": state} if wrapped else state))
    expected = state_dict()
    assert checkpoint.space == SPACE
    assert checkpoint.tensors.keys() == SPACE.tensor_shapes().keys()
    assert checkpoint.statistics.keys() == SPACE.statistics_shapes(SPACE.largest()).keys()
    for name, array in (checkpoint.tensors | checkpoint.statistics).items():
        np.testing.assert_array_equal(array, expected[name])


@pytest.mark.parametrize("multiplier", [0.25, 0.5, 0.75, 1.0, 1.2])
def test_the_width_is_read_off_the_file(tmp_path, multiplier):
    space = OFAMobileNetV3Space(classes=3, width_multiplier=multiplier)
    path = saved(tmp_path / "supernet", state_dict(space))
    assert read_checkpoint(path).space == space


def test_a_width_that_is_given_must_be_that_of_the_file(tmp_path):
    path = saved(tmp_path / "supernet", state_dict())
    with pytest.raises(
        ValueError,
        match=r"first_conv.conv.weight has shape \(8, 3, 3, 3\) .*"
        r"expected shape \(16, 3, 3, 3\) .* width multiplier 1",
    ):
        read_checkpoint(path, width_multiplier=1.0)


@pytest.mark.parametrize(
    "missing",
    [
        "blocks.3.mobile_inverted_conv.depth_conv.conv.7to5_matrix",
        "blocks.0.mobile_inverted_conv.depth_conv.bn.running_var",
        "blocks.9.mobile_inverted_conv.depth_conv.bn.bn.num_batches_tracked",
        "feature_mix_layer.conv.weight",
    ],
)
def test_a_missing_tensor_is_named_as_the_file_would_spell_it(tmp_path, missing):
    state = state_dict(block="mobile_inverted_conv")
    del state[missing]
    with pytest.raises(ValueError, match=f"missing {missing}; not in it nothing"):
        read_checkpoint(saved(tmp_path / "supernet", state))


def test_extra_tensors_are_named(tmp_path):
    state = state_dict() | {"first_conv.conv.bias": torch.zeros(8), "blocks.21.conv.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match="missing nothing; not in it blocks.21.conv.weight, first_conv.conv.bias"):
        read_checkpoint(saved(tmp_path / "supernet", state))


def test_a_mixture_of_both_generations_is_refused(tmp_path):
    state = state_dict()
    name = "blocks.2.conv.point_linear.bn.bn.weight"
    state[name.replace(".conv.", ".mobile_inverted_conv.")] = state.pop(name)
    with pytest.raises(ValueError, match="not a checkpoint of this supernet"):
        read_checkpoint(saved(tmp_path / "supernet", state))


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("blocks.4.conv.depth_conv.conv.conv.weight", torch.zeros(1, 1, 5, 5), r"shape \(1, 1, 5, 5\)"),
        ("classifier.linear.bias", torch.zeros(6, dtype=torch.long), "type torch.int64"),
        ("classifier.linear.weight", torch.tensor(1.0), r"shape \(\)"),
    ],
)
def test_a_tensor_of_the_wrong_shape_or_type_is_named(tmp_path, name, tensor, message):
    with pytest.raises(ValueError, match=f"{name} has .*{message}"):
        read_checkpoint(saved(tmp_path / "supernet", state_dict() | {name: tensor}))


class CreatesAFile:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    state = state_dict() | {"extra": CreatesAFile(tmp_path / "executed")}
    with pytest.raises(ValueError, match="is refused: expected a checkpoint of tensors and plain data alone"):
        read_checkpoint(saved(tmp_path / "supernet", state))
    assert not (tmp_path / "executed").exists()
    pickle.loads(pickle.dumps(CreatesAFile(tmp_path / "executed")))
    assert (tmp_path / "executed").exists(), "the trap itself does nothing, so the test proves nothing"


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04"])
def test_a_file_of_another_kind_is_refused(tmp_path, content):
    (tmp_path / "supernet").write_bytes(content)
    with pytest.raises(ValueError, match="supernet is not a torch checkpoint|supernet is refused"):
        read_checkpoint(tmp_path / "supernet")


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"state_dict": {1: torch.zeros(1)}}, {"epoch": 3}])
def test_what_is_not_tensors_by_name_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match="expected tensors by name"):
        read_checkpoint(saved(tmp_path / "supernet", content))


def test_import_ofa_writes_a_bundle_that_answers_like_the_checkpoint(tmp_path):
    state = state_dict()
    code = import_ofa(
        str(saved(tmp_path / "supernet.pth", state)), "--out", str(tmp_path / "bundle"), "--resolutions", "32", "48"
    )
    bundle = read_bundle(tmp_path / "bundle")
    assert code == 0
    assert [(s.name, s.input_size) for s in bundle.subnetworks] == [
        ("min", (32, 32)),
        ("mid", (48, 48)),
        ("max", (48, 48)),
    ]
    assert all(math.isnan(s.accuracy) and s.accuracy_source.startswith("not measured") for s in bundle.subnetworks)
    network = make_supernet(bundle.space)
    network.load_tensors({name: torch.from_numpy(array) for name, array in bundle.tensors().items()})
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    smallest = bundle.subnetwork("min").config
    with torch.no_grad():
        network.activate(smallest, {name: torch.from_numpy(array) for name, array in bundle.statistics("min").items()})
        answer = network(image)
        network.load_tensors({name: state[name] for name in bundle.space.tensor_shapes()})
        network.activate(smallest, bundle.space.subnet_statistics(smallest, state))
        assert torch.equal(network(image), answer) and answer.isfinite().all()


def test_import_ofa_does_not_replace_a_folder_that_is_no_bundle(tmp_path):
    (tmp_path / "precious").mkdir()
    checkpoint = saved(tmp_path / "supernet.pth", state_dict())
    with pytest.raises(ValueError, match="precious exists: expected a new folder, or a bundle to replace"):
        import_ofa(str(checkpoint), "--out", str(tmp_path / "precious"))
