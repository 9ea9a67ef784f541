"""The group CNN: a subnetwork is a prefix, its counts are exact, and wrong settings are refused by name."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.networks.group_cnn import GroupCNN, execute
from dynamic_perception.networks.group_cnn_space import GroupCNNSpace, GroupCNNSubnet

SMALL = GroupCNNSpace(classes=3, groups=3, channels=(4, 6), pool_after=(True, True), resolution=8)


def random_network(space: GroupCNNSpace, seed: int = 0) -> GroupCNN:
    network = GroupCNN(space)
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in network.tensors().items():
        tensor.copy_(torch.rand(tensor.shape, generator=generator) + (0.5 if "var" in name else -0.5))
    return network


def activate(network: GroupCNN, groups: int) -> None:
    subnet = GroupCNNSubnet(groups)
    network.activate(subnet, network.statistics(subnet))


def test_every_tensor_of_a_subnetwork_is_a_contiguous_view_of_the_full_one():
    network = random_network(SMALL)
    for groups in (1, 2, 3):
        for name, part in network.prefix(groups).items():
            assert part.is_contiguous()
            assert part.data_ptr() == network.tensors()[name].data_ptr()


def test_logits_are_the_sum_of_the_groups_alone():
    network = random_network(SMALL).double()
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    alone = [execute(SMALL, images, network.group(g), 1) for g in range(3)]
    for groups in (1, 2, 3):
        activate(network, groups)
        torch.testing.assert_close(network(images), sum(alone[:groups]), rtol=1e-12, atol=1e-12)


def test_switching_there_and_back_gives_the_first_answer_bit_for_bit():
    network, images = random_network(SMALL), torch.rand(2, 3, 8, 8)
    activate(network, 1)
    first = network(images)
    activate(network, 3)
    network(images)
    activate(network, 1)
    assert torch.equal(network(images), first)


@pytest.mark.parametrize("groups", [1, 2, 3])
def test_an_extracted_subnetwork_answers_exactly_as_the_supernet_does(groups):
    network, images = random_network(SMALL).double(), torch.rand(2, 3, 8, 8, dtype=torch.float64)
    activate(network, groups)
    subnet = GroupCNNSubnet(groups)
    assert torch.equal(network.extract(subnet, network.statistics(subnet))(images), network(images))


def test_activating_copies_no_weights():
    network = random_network(SMALL)
    activate(network, 2)
    assert network.cached_bytes == 0


@pytest.mark.parametrize("groups", [0, 4, -1, 1.0, True])
def test_a_subnetwork_outside_the_network_is_refused(groups):
    with pytest.raises(ValueError, match=f"groups is {groups}: expected one of 1, 2, 3"):
        SMALL.subnet({"groups": groups})


def test_the_first_groups_of_every_subnetwork_are_named_by_their_share():
    assert SMALL.subnetworks() == {f"{share}%": GroupCNNSubnet(k) for share, k in ((33, 1), (66, 2), (100, 3))}


@settings(max_examples=25, deadline=None)
@given(
    groups=st.integers(1, 4), channels=st.lists(st.integers(1, 5), min_size=1, max_size=3), classes=st.integers(2, 5)
)
def test_macs_and_parameters_are_those_that_torch_counts(groups, channels, classes):
    space = GroupCNNSpace(classes, groups, tuple(channels), (True,) * len(channels), resolution=8)
    macs = []

    class Counter(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
            result = function(*arguments, **(keywords or {}))
            if function == torch.ops.aten.convolution.default:
                macs.append(result.numel() * arguments[1][0].numel())
            elif function == torch.ops.aten.mm.default:
                macs.append(result.numel() * arguments[0].shape[1])
            return result

    network = GroupCNN(space)
    activate(network, groups)
    with Counter():
        network(torch.zeros(1, 3, 8, 8))
    assert space.macs(space.largest()) == sum(macs)
    learned = [t for name, t in network.tensors().items() if "running" not in name]
    assert space.parameters(space.largest()) == sum(t.numel() for t in learned)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"channels": []}, "channels is \\(\\): expected at least one layer"),
        ({"channels": [4, "6"]}, "channels is .*: expected a list of int"),
        ({"kernel_size": 4}, "kernel_size is 4: expected an odd number"),
        ({"pool_after": [True]}, "pool_after has 1 entries: expected one per layer, 2"),
        ({"resolution": 10}, "resolution is 10: expected a multiple of 4"),
        ({"classes": 1}, "classes is 1: expected an integer of at least 2"),
        ({"width": 3}, "group CNN: unknown key 'width'"),
    ],
)
def test_a_wrong_setting_is_named_with_its_value(change, message):
    with pytest.raises(ValueError, match=message):
        GroupCNNSpace.from_plain({**SMALL.to_plain(), **change})


def test_settings_survive_plain_data():
    assert GroupCNNSpace.from_plain(SMALL.to_plain()) == SMALL
