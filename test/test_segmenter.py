"""The segmenter: any multiple of an eighth of its channels, at any of its resolutions, is a network of its own."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.networks.segmenter import Segmenter
from dynamic_perception.networks.segmenter_space import SegmenterSpace

SPACE = SegmenterSpace(
    classes=5,
    resolutions=((33, 48), (50, 64), (64, 96)),
    smallest_width=2,
    stem=8,
    channels=(16, 24, 32),
    dilations=((1,), (), (1, 2)),
    decoder=(16, 8),
)
SUBNETS = st.builds(lambda seed: SPACE.sample(np.random.default_rng(seed)), st.integers(0, 10_000))


def make_network() -> Segmenter:
    network = Segmenter(SPACE).double()
    network.initialise(torch.Generator().manual_seed(3))
    with torch.no_grad():
        for name, tensor in network.tensors().items():
            if ".bn." in name:
                tensor.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(len(name))) + 0.5)
    return network


def make_images(subnet, seed: int = 0) -> torch.Tensor:
    return torch.randn(
        2, 3, *SPACE.input_size(subnet), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


NETWORK = make_network()


@settings(max_examples=20, deadline=None)
@given(SUBNETS)
def test_a_subnetwork_answers_exactly_as_the_static_network_extracted_from_it(subnet):
    images = make_images(subnet)
    statistics = NETWORK.calibrate(subnet, [make_images(subnet, 1)])
    NETWORK.activate(subnet, statistics)
    assert torch.equal(NETWORK(images), NETWORK.extract(subnet, statistics)(images))


@settings(max_examples=10, deadline=None)
@given(SUBNETS, SUBNETS)
def test_switching_there_and_back_gives_the_first_answer_bit_for_bit(a, b):
    statistics = {subnet: NETWORK.calibrate(subnet, [make_images(subnet, 1)]) for subnet in (a, b)}
    NETWORK.activate(a, statistics[a])
    first = NETWORK(make_images(a))
    NETWORK.activate(b, statistics[b])
    NETWORK(make_images(b))
    NETWORK.activate(a, statistics[a])
    assert torch.equal(NETWORK(make_images(a)), first)


def test_calibrating_one_subnetwork_leaves_the_answers_of_another_as_they_were():
    a, b = SPACE.smallest(), SPACE.largest()
    statistics = NETWORK.calibrate(a, [make_images(a, 1)])
    NETWORK.activate(a, statistics)
    before = NETWORK(make_images(a))
    NETWORK.calibrate(b, [make_images(b, 2)])
    NETWORK.activate(a, statistics)
    assert torch.equal(NETWORK(make_images(a)), before)


def test_a_subnetwork_is_normalised_by_the_mean_and_population_variance_of_all_that_calibrated_it():
    subnet = SPACE.largest()
    batches = [make_images(subnet, seed) for seed in (1, 2)]
    statistics = NETWORK.calibrate(subnet, batches)
    stem = torch.cat(
        [torch.nn.functional.conv2d(x, NETWORK.tensors()["stem.conv.weight"], stride=2, padding=1) for x in batches]
    )
    torch.testing.assert_close(statistics["stem.bn.running_mean"], stem.mean(dim=(0, 2, 3)))
    torch.testing.assert_close(statistics["stem.bn.running_var"], stem.var(dim=(0, 2, 3), correction=0))


@pytest.mark.parametrize("subnet", [SPACE.smallest(), *SPACE.ladder(3), SPACE.largest()])
def test_counts_are_those_of_the_static_network(subnet):
    statistics = NETWORK.calibrate(subnet, [make_images(subnet)])
    static, macs = NETWORK.extract(subnet, statistics), 0

    def count(module, inputs, output):
        nonlocal macs
        macs += module.weight.numel() * output.shape[2] * output.shape[3]

    for module in static.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_hook(count)
    static(make_images(subnet)[:1])
    assert SPACE.macs(subnet) == macs
    assert SPACE.parameters(subnet) == sum(parameter.numel() for parameter in static.parameters())


def test_a_slice_that_needs_no_copy_shares_the_memory_of_the_supernet():
    NETWORK.forget_slices()
    NETWORK.prepare(SPACE.largest())
    assert NETWORK.cached_bytes == 0


def test_the_cache_of_slices_keeps_its_byte_budget():
    network = Segmenter(SPACE, cache_bytes=100_000)
    for width in (2, 3, 4, 5, 6, 7):
        network.prepare(SPACE.subnet({"width": width, "resolution": [64, 96]}))
        assert network.cached_bytes <= 100_000


@pytest.mark.parametrize(
    ("plain", "said"),
    [
        ({"width": 9, "resolution": [64, 96]}, "width is 9: expected one of 2, 3, 4, 5, 6, 7, 8"),
        ({"width": 4.0, "resolution": [64, 96]}, "width is 4.0: expected"),
        ({"width": 4, "resolution": [64, 64]}, r"resolution is \(64, 64\): expected one of \(33, 48\)"),
        ({"width": 4}, "'resolution' is missing"),
        ({"width": 4, "resolution": [64, 96], "depth": 2}, "unknown key 'depth'"),
    ],
)
def test_what_is_outside_the_space_is_told_with_what_is_allowed(plain, said):
    with pytest.raises(ValueError, match=said):
        SPACE.subnet(plain)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"stem": 12}, "stem is 12: expected a multiple of 8"),
        ({"classes": 1}, "classes is 1"),
        ({"smallest_width": 0}, "smallest_width is 0"),
        ({"resolutions": [[64, 96], [33, 48]]}, "expected rising sizes"),
        ({"channels": [16, 24]}, "channels is .*expected a list of 3"),
        ({"dilations": [[1], [1], [0]]}, "dilations is 0"),
    ],
)
def test_a_wrong_setting_of_the_space_is_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        SegmenterSpace.from_plain({**SPACE.to_plain(), **wrong})


@settings(max_examples=30, deadline=None)
@given(SUBNETS)
def test_configurations_survive_plain_data(subnet):
    assert SPACE.subnet(subnet.to_plain()) == subnet
    assert hash(SPACE.subnet(subnet.to_plain())) == hash(subnet)


def test_activating_with_the_statistics_of_another_subnetwork_is_refused():
    small, large = SPACE.smallest(), SPACE.largest()
    statistics = NETWORK.calibrate(small, [make_images(small)])
    with pytest.raises(ValueError, match="calibrate"):
        NETWORK.activate(large, statistics)


def test_the_ladder_leads_from_the_smallest_to_the_largest_with_rising_macs():
    ladder = SPACE.ladder(4)
    macs = [SPACE.macs(subnet) for subnet in ladder]
    assert (ladder[0], ladder[-1], len(ladder)) == (SPACE.smallest(), SPACE.largest(), 4)
    assert macs == sorted(set(macs))
