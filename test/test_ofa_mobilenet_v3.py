"""The Once-for-All MobileNetV3 computes what the authors' code does, and its subnetworks never disturb each other."""

import json
import zlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.networks.ofa_mobilenet_v3 import OFAMobileNetV3
from dynamic_perception.networks.ofa_mobilenet_v3_space import STAGES, OFAMobileNetV3Space, OFASubnet

SMALL = OFAMobileNetV3Space(classes=5, width_multiplier=0.25, resolutions=(8, 12, 16), strides=(1, 1, 2, 2, 2, 1, 1))
AUTHORS = OFAMobileNetV3Space(classes=1000, resolutions=(96, 128, 160, 192, 224))

# What the authors' own code computes (https://github.com/mit-han-lab/once-for-all), in float64 and evaluation mode, for
# tensors filled as in `authors_filling` and images from RandomState(1234): the first five logits of the first image,
# the last three of the second, sum and norm of all; parameters; millions of multiply-accumulates by resolution.
REFERENCE = json.loads(Path(__file__).with_name("ofa_mobilenet_v3_w1.0_logits.json").read_text())


def authors_filling(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Values of a tensor drawn from its name."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("_matrix"):
        values = np.eye(shape[0]) + 0.05 * random.standard_normal(shape)
    elif name.endswith("running_var") or (name.endswith("weight") and "bn." in name):
        values = random.uniform(0.5, 1.5, shape) * (0.6 if "point_linear.bn" in name and "running" not in name else 1)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * random.standard_normal(shape)
    else:
        values = random.standard_normal(shape) * np.sqrt((2 if len(shape) == 4 else 1) / np.prod(shape[1:]))
    return torch.from_numpy(values)


def filled(space: OFAMobileNetV3Space) -> OFAMobileNetV3:
    network = OFAMobileNetV3(space).double()
    network.load_tensors({name: authors_filling(name, shape) for name, shape in space.tensor_shapes().items()})
    return network


@cache
def statistics_of_largest(space: OFAMobileNetV3Space) -> dict[str, torch.Tensor]:
    shapes = space.statistics_shapes(space.largest())
    return {name: authors_filling(name, shape) for name, shape in shapes.items()}


def filled_statistics(space: OFAMobileNetV3Space, subnet: OFASubnet) -> dict[str, torch.Tensor]:
    return space.subnet_statistics(subnet, statistics_of_largest(space))


def images_for(subnet: OFASubnet) -> torch.Tensor:
    generator = torch.Generator().manual_seed(subnet.resolution)
    return torch.randn(2, 3, subnet.resolution, subnet.resolution, generator=generator, dtype=torch.float64)


@torch.no_grad()
def answer(network: OFAMobileNetV3, subnet: OFASubnet, statistics=None) -> torch.Tensor:
    network.activate(subnet, filled_statistics(network.space, subnet) if statistics is None else statistics)
    return network(images_for(subnet))


@st.composite
def subnets(draw, space: OFAMobileNetV3Space = SMALL) -> OFASubnet:
    depths = [draw(st.sampled_from(space.depths)) for _ in range(STAGES)]

    def per_block(choices):
        return [[draw(st.sampled_from(choices)) for _ in range(depth)] for depth in depths]

    return space.subnet(
        {
            "resolution": draw(st.sampled_from(space.resolutions)),
            "depths": depths,
            "kernels": per_block(space.kernels),
            "expansions": per_block(space.expansions),
        }
    )


@pytest.fixture(scope="module")
def small_network() -> OFAMobileNetV3:
    return filled(SMALL)


@pytest.fixture(scope="module")
def authors_network() -> OFAMobileNetV3:
    return filled(AUTHORS)


@pytest.mark.parametrize("name", REFERENCE)
def test_logits_are_those_of_the_authors_code(authors_network, name):
    expected = REFERENCE[name]
    subnet = AUTHORS.subnet({**expected["cfg"], "r": 96})
    images = torch.from_numpy(np.random.RandomState(1234).standard_normal((2, 3, 96, 96)))
    authors_network.activate(subnet, filled_statistics(AUTHORS, subnet))
    with torch.no_grad():
        logits = authors_network(images)
    np.testing.assert_allclose(logits[0, :5], expected["logits_first"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(logits[1, -3:], expected["logits_last"], rtol=0, atol=1e-9)
    assert float(logits.sum()) == pytest.approx(expected["logits_sum"], rel=0, abs=1e-9)
    assert float(logits.norm()) == pytest.approx(expected["l2"], rel=0, abs=1e-9)


@pytest.mark.parametrize("name", REFERENCE)
def test_parameters_and_macs_are_those_of_the_authors_code(name):
    expected = REFERENCE[name]
    for resolution, millions in expected["mflops"].items():
        subnet = AUTHORS.subnet({**expected["cfg"], "r": int(resolution)})
        assert AUTHORS.parameters(subnet) == expected["params"]
        assert AUTHORS.macs(subnet) == round(millions * 1e6)


def test_widths_at_multiplier_1_2_are_those_of_the_paper():
    space = OFAMobileNetV3Space(classes=1000, width_multiplier=1.2)
    assert space.widths == (24, 24, 32, 48, 96, 136, 192)
    assert space.head_widths == (1152, 1536)


@settings(max_examples=25, deadline=None)
@given(subnet=subnets())
def test_the_activated_subnetwork_equals_the_extracted_one_exactly(small_network, subnet):
    static = small_network.extract(subnet, filled_statistics(SMALL, subnet))
    with torch.no_grad():
        assert torch.equal(answer(small_network, subnet), static(images_for(subnet)))


@settings(max_examples=10, deadline=None)
@given(first=subnets(), other=subnets())
def test_switching_there_and_back_gives_the_first_answer_bit_for_bit(small_network, first, other):
    before = answer(small_network, first)
    answer(small_network, other)
    assert torch.equal(answer(small_network, first), before)


@settings(max_examples=10, deadline=None)
@given(subnet=subnets(OFAMobileNetV3Space(5, 0.25, (9, 16), strides=(2, 2, 1, 2, 1, 2, 1))))
def test_counts_are_those_of_the_extracted_module(subnet):
    space = OFAMobileNetV3Space(5, 0.25, (9, 16), strides=(2, 2, 1, 2, 1, 2, 1))
    static = filled(space).extract(subnet, filled_statistics(space, subnet))
    macs = []

    def count(module, _, output):
        macs.append(output[0].numel() * module.weight[0].numel())

    for module in static.modules():
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
            module.register_forward_hook(count)
    static(images_for(subnet))
    assert space.macs(subnet) == sum(macs)
    assert space.parameters(subnet) == sum(parameter.numel() for parameter in static.parameters())


def test_an_extracted_module_shares_nothing_with_the_supernet(small_network):
    subnet = SMALL.largest()
    before = answer(small_network, subnet)
    static = small_network.extract(subnet, filled_statistics(SMALL, subnet))
    with torch.no_grad():
        for tensor in static.state_dict().values():
            tensor.zero_()
    small_network.forget_slices()
    assert torch.equal(answer(small_network, subnet), before)


def test_a_half_precision_supernet_extracts_to_one_type():
    network = filled(SMALL).bfloat16()
    static = network.extract(SMALL.smallest(), filled_statistics(SMALL, SMALL.smallest()))
    assert {tensor.dtype for tensor in static.state_dict().values() if tensor.is_floating_point()} == {torch.bfloat16}


def test_extracting_leaves_the_global_random_generator_alone(small_network):
    state = torch.get_rng_state()
    small_network.extract(SMALL.largest(), filled_statistics(SMALL, SMALL.largest()))
    assert torch.equal(torch.get_rng_state(), state)


@settings(max_examples=25, deadline=None)
@given(subnet=subnets(), seed=st.integers(0, 2**32 - 1))
def test_what_lies_beyond_the_active_depth_does_not_matter(subnet, seed):
    rng = np.random.default_rng(seed)
    deepest = SMALL.depths[-1]

    def authors_form(name, choices):
        chosen = [list(stage) for stage in getattr(subnet, name)]
        return [entry for stage in chosen for entry in [*stage, *rng.choice(choices, deepest - len(stage)).tolist()]]

    plain = {
        "ks": authors_form("kernels", SMALL.kernels),
        "e": authors_form("expansions", SMALL.expansions),
        "d": list(subnet.depths),
        "r": subnet.resolution,
    }
    assert SMALL.subnet(plain) == subnet and hash(SMALL.subnet(plain)) == hash(subnet)


@settings(max_examples=25, deadline=None)
@given(subnet=subnets())
def test_a_configuration_survives_plain_data(subnet):
    assert SMALL.subnet(json.loads(json.dumps(subnet.to_plain()))) == subnet


def test_a_space_survives_plain_data():
    assert OFAMobileNetV3Space.from_plain(json.loads(json.dumps(SMALL.to_plain()))) == SMALL


def test_a_random_subnetwork_is_in_the_space_and_every_choice_occurs():
    rng = np.random.default_rng(1)
    sampled = [SMALL.sample(rng) for _ in range(100)]
    assert all(SMALL.subnet(subnet.to_plain()) == subnet for subnet in sampled)
    assert {subnet.resolution for subnet in sampled} == set(SMALL.resolutions)
    assert {subnet.depths[4] for subnet in sampled} == set(SMALL.depths)
    assert {subnet.kernels[4][1] for subnet in sampled} == set(SMALL.kernels)
    assert {subnet.expansions[0][0] for subnet in sampled} == set(SMALL.expansions)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"e": [6] * 19 + [8]}, r"e\[19\] is 8: expected one of 3, 4, 6"),
        ({"ks": [9] + [7] * 19}, r"ks\[0\] is 9: expected one of 3, 5, 7"),
        ({"ks": [7.0] * 20}, r"ks\[0\] is 7.0: expected one of 3, 5, 7"),
        ({"d": [2, 3, 4, 9, 2]}, r"d\[3\] is 9: expected one of 2, 3, 4"),
        ({"d": [2, 3, 4, 2]}, r"d is \[2, 3, 4, 2\]: expected a list of 5"),
        ({"ks": 7}, "ks is 7: expected a list of 20"),
        ({"r": 17}, "r is 17: expected one of 8, 12, 16"),
        ({"w": 1}, "unknown key 'w': expected ks, e, d, r"),
    ],
)
def test_a_configuration_of_the_authors_form_outside_the_space_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SMALL.subnet({"ks": [7] * 20, "e": [6] * 20, "d": [4] * 5} | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": 48}, "resolution is 48: expected one of 8, 12, 16"),
        ({"depths": [1, 2, 2, 2, 2]}, r"depths\[0\] is 1: expected one of 2, 3, 4"),
        ({"kernels": [[3, 3]] * 4 + [[3, 4]]}, r"kernels\[4\]\[1\] is 4: expected one of 3, 5, 7"),
        ({"expansions": [[3, 3, 3]] + [[3, 3]] * 4}, r"expansions\[0\] is \[3, 3, 3\]: expected a list of 2"),
        ({"depth": 2}, "unknown key 'depth': expected resolution, depths, kernels, expansions"),
    ],
)
def test_a_configuration_outside_the_space_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        SMALL.subnet(SMALL.smallest().to_plain() | wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"classes": 1}, "classes is 1: expected an integer of at least 2"),
        ({"width_multiplier": 0}, "width_multiplier is 0: expected a positive number"),
        ({"width_multiplier": float("nan")}, "width_multiplier is nan: expected a positive number"),
        ({"kernels": [3, 4]}, "kernels is .*: expected odd numbers"),
        ({"expansions": [6, 3]}, r"expansions is \[6, 3\]: expected rising integers of at least 2"),
        ({"resolutions": []}, r"resolutions is \[\]: expected rising integers of at least 8"),
        ({"strides": [2, 1, 3, 2, 2, 1, 2]}, "strides is .*: expected 7 of 1 or 2"),
        ({"dropout": 0.1}, "unknown key 'dropout'"),
    ],
)
def test_wrong_settings_of_a_space_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        OFAMobileNetV3Space.from_plain(SMALL.to_plain() | wrong)


def test_the_same_slices_come_from_numpy_arrays(small_network):
    subnet = SMALL.middle()
    arrays = {name: tensor.detach().numpy() for name, tensor in small_network.tensors().items()}
    of_torch = SMALL.subnet_tensors(subnet, small_network.tensors())
    of_numpy = SMALL.subnet_tensors(subnet, arrays)
    assert {name: array.shape for name, array in of_numpy.items()} == SMALL.subnet_shapes(subnet)
    for name, array in of_numpy.items():
        np.testing.assert_allclose(array, of_torch[name].detach().numpy(), rtol=0, atol=1e-12)


def test_only_kernels_that_are_made_smaller_take_memory_of_their_own(small_network):
    views = SMALL.subnet_tensors(SMALL.uniform(16, 7, 3, 2), small_network.tensors())
    assert all(view.data_ptr() == small_network.tensors()[name].data_ptr() for name, view in views.items())


def test_gradients_reach_what_the_subnetwork_executes_and_nothing_else():
    network = filled(SMALL)
    subnet = SMALL.uniform(16, 5, 3, 2)
    network.train_step(images_for(subnet), subnet).square().sum().backward()
    reached = {name for name, tensor in network.tensors().items() if tensor.grad is not None and tensor.grad.any()}
    matrices = {block.matrix(7, 5) for block in SMALL.blocks(subnet)[1:]}
    assert reached == set(SMALL.subnet_shapes(subnet)) | matrices
    point_linear = network.tensors()["blocks.1.conv.point_linear.conv.conv.weight"]
    used = SMALL.subnet_shapes(subnet)["blocks.1.conv.point_linear.conv.conv.weight"][1]
    assert point_linear.grad[:, :used].any() and not point_linear.grad[:, used:].any()


def test_a_new_supernet_makes_smaller_kernels_of_the_centre_of_larger_ones():
    network = OFAMobileNetV3(SMALL, torch.Generator().manual_seed(3))
    largest = network.tensors()["blocks.1.conv.depth_conv.conv.conv.weight"]
    smaller = SMALL.subnet_tensors(SMALL.uniform(16, 3, 6, 2), network.tensors())
    assert torch.equal(smaller["blocks.1.conv.depth_conv.conv.conv.weight"], largest[:, :, 2:5, 2:5])


def test_initial_weights_come_from_the_given_generator_alone():
    state = torch.get_rng_state()
    first, second, other = (OFAMobileNetV3(SMALL, torch.Generator().manual_seed(seed)).tensors() for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["first_conv.conv.weight"], other["first_conv.conv.weight"])


def test_calibrating_one_subnetwork_leaves_every_other_bit_identical(small_network):
    rng = np.random.default_rng(2)
    others = [SMALL.sample(rng) for _ in range(4)]
    calibrated = {subnet: small_network.calibrate(subnet, [images_for(subnet)]) for subnet in others}
    before = [answer(small_network, subnet, calibrated[subnet]) for subnet in others]
    small_network.calibrate(SMALL.largest(), [images_for(SMALL.largest())])
    assert all(
        torch.equal(answer(small_network, subnet, calibrated[subnet]), first) for subnet, first in zip(others, before)
    )


def test_a_calibrated_subnetwork_computes_what_it_did_in_training(small_network):
    subnet = SMALL.middle()
    statistics = small_network.calibrate(subnet, [images_for(subnet)])
    with torch.no_grad():
        trained = small_network.train_step(images_for(subnet), subnet)
    torch.testing.assert_close(answer(small_network, subnet, statistics), trained, rtol=1e-9, atol=1e-9)


def test_statistics_of_another_subnetwork_are_refused(small_network):
    with pytest.raises(ValueError, match="calibrate it first"):
        small_network.activate(SMALL.largest(), filled_statistics(SMALL, SMALL.smallest()))


def sorted_pair(trained: tuple[int, ...]):
    """Answers of the uniform subnetwork of each trained expansion before and after sorting, and of all the others."""
    network = filled(SMALL)
    subnets_of = {e: SMALL.uniform(16, 5, e, 3) for e in SMALL.expansions}
    statistics = {subnet: filled_statistics(SMALL, subnet) for e, subnet in subnets_of.items() if e in trained}
    before = {e: answer(network, subnet) for e, subnet in subnets_of.items()}
    reordered = network.sort_channels(trained, statistics)
    after = {e: answer(network, subnet, reordered.get(subnet)) for e, subnet in subnets_of.items()}
    return before, after


@pytest.mark.parametrize("trained", [(6,), (6, 4), (6, 4, 3)])
def test_sorting_channels_leaves_the_trained_expansions_as_they_were(trained):
    before, after = sorted_pair(trained)
    for expansion in trained:
        scale = before[expansion].abs().max()
        torch.testing.assert_close(after[expansion] / scale, before[expansion] / scale, rtol=0, atol=1e-12)


def test_sorting_channels_changes_an_expansion_that_was_not_trained():
    before, after = sorted_pair((6, 4))
    assert (after[3] - before[3]).abs().max() > 1e-3


def test_sorted_channels_fall_in_importance_inside_each_trained_expansion():
    network = filled(SMALL)
    network.sort_channels((6, 3))
    for block in SMALL.blocks(SMALL.largest())[1:]:
        scores = network.tensors()[f"{block.convolution('point_linear')}.weight"].abs().sum((0, 2, 3))
        small = SMALL.mid_channels(block.input_channels, 3)
        for tier in (scores[:small], scores[small:]):
            assert (tier.diff() <= 0).all()


def test_a_given_importance_decides_the_order():
    network, last_first = filled(SMALL), {}
    for block in SMALL.blocks(SMALL.largest())[1:]:
        last_first[block.number] = torch.arange(block.mid_channels)
    before = {name: tensor.clone() for name, tensor in network.tensors().items()}
    network.sort_channels(importance=last_first)
    name = "blocks.9.conv.depth_conv.conv.conv.weight"
    assert torch.equal(network.tensors()[name], before[name].flip(0))


@pytest.mark.parametrize("trained", [(4,), (6, 5), ()])
def test_sorting_needs_the_largest_expansion_and_none_outside_the_space(small_network, trained):
    with pytest.raises(ValueError, match="trained_expansions is .*: expected 6 and none but 3, 4, 6"):
        small_network.sort_channels(trained)


def test_statistics_of_an_untrained_expansion_cannot_be_sorted(small_network):
    subnet = SMALL.smallest()
    with pytest.raises(ValueError, match="expansion 3: expected one of the trained 6, 4"):
        small_network.sort_channels((6, 4), {subnet: filled_statistics(SMALL, subnet)})
