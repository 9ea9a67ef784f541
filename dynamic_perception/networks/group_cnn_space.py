"""Search space of the group CNN: which tensors it has and which prefix of them a subnetwork uses.

Torch-free; the network itself is in :mod:`dynamic_perception.networks.group_cnn`.

Source: L. Xun, L. Tran-Thanh, B. M. Al-Hashimi, G. V. Merrett, "Incremental Training and Group Convolution
Pruning for Runtime DNN Performance Scaling on Heterogeneous Embedded Platforms", MLCAD 2019.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from dynamic_perception.networks.search_space import (
    Array,
    SearchSpace,
    Shape,
    SubnetConfig,
    check_choice,
    check_keys,
    rungs,
)

STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class GroupCNNSubnet(SubnetConfig):
    """The subnetwork of the first `groups` channel groups, at least 1."""

    groups: int


@dataclass(frozen=True)
class GroupCNNSpace(SearchSpace):
    """Settings of a group CNN.

    Each group has its own batch normalisation, which reads nothing else.  So its statistics are the same in every
    subnetwork, and lie in the weight file with the learned tensors.

    Attributes:
        classes: number of classes, at least 2.
        groups: number of channel groups; subnetwork k executes the first k of them.
        channels: output channels *of one group*, one entry per convolution.
        pool_after: per convolution, whether a 2x2 max-pooling follows.
        kernel_size: odd kernel size of every convolution (stride 1, same padding).
        resolution: height and width of the square input in pixels.
        batch_norm_epsilon: added to the variance in batch normalisation.
    """

    classes: int
    groups: int = 4
    channels: tuple[int, ...] = (32, 64, 96, 96, 64)
    pool_after: tuple[bool, ...] = (True, False, True, False, True)
    kernel_size: int = 3
    resolution: int = 32
    batch_norm_epsilon: float = 1e-5

    family: ClassVar[str] = "group_cnn"
    task: ClassVar[str] = "classification"
    supernet: ClassVar[str] = "dynamic_perception.networks.group_cnn:GroupCNN"
    graph: ClassVar[str] = "dynamic_perception.networks.group_cnn_graph:make_graph"
    shares_statistics: ClassVar[bool] = True
    input_channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        for name, allowed in (("channels", int), ("pool_after", bool)):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(type(v) is allowed for v in value):
                raise ValueError(f"{name} is {value!r}: expected a list of {allowed.__name__}")
            object.__setattr__(self, name, tuple(value))
        for name, least in (("classes", 2), ("groups", 1), ("kernel_size", 1), ("resolution", 4)):
            value = getattr(self, name)
            if type(value) is not int or value < least:
                raise ValueError(f"{name} is {value!r}: expected an integer of at least {least}")
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size is {self.kernel_size}: expected an odd number")
        if not self.channels or min(self.channels) < 1:
            raise ValueError(f"channels is {self.channels}: expected at least one layer of at least one channel")
        if len(self.pool_after) != len(self.channels):
            raise ValueError(
                f"pool_after has {len(self.pool_after)} entries: expected one per layer, {len(self.channels)}"
            )
        if self.resolution % 2 ** sum(self.pool_after):
            raise ValueError(
                f"resolution is {self.resolution}: expected a multiple of {2 ** sum(self.pool_after)}, "
                f"because {sum(self.pool_after)} poolings halve it"
            )

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> GroupCNNSpace:
        check_keys("group CNN", plain, ("classes",), tuple(cls.__dataclass_fields__))
        return cls(**plain)

    def to_plain(self) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    def subnet(self, plain: Mapping[str, Any]) -> GroupCNNSubnet:
        check_keys("group CNN subnetwork", plain, ("groups",))
        check_choice("groups", plain["groups"], tuple(range(1, self.groups + 1)))
        return GroupCNNSubnet(plain["groups"])

    def smallest(self) -> GroupCNNSubnet:
        return GroupCNNSubnet(1)

    def largest(self) -> GroupCNNSubnet:
        return GroupCNNSubnet(self.groups)

    def sample(self, rng: np.random.Generator) -> GroupCNNSubnet:
        return GroupCNNSubnet(int(rng.integers(1, self.groups + 1)))

    def genes(self) -> tuple[tuple[int, ...]]:
        return (tuple(range(1, self.groups + 1)),)

    def from_genes(self, values: Sequence[int]) -> GroupCNNSubnet:
        return GroupCNNSubnet(*values)

    def ladder(self, count: int) -> tuple[GroupCNNSubnet, ...]:
        return tuple(GroupCNNSubnet(*rung) for rung in rungs(count, *self.genes()))

    def progressive_phases(self) -> tuple[GroupCNNSpace, ...]:
        return (self,)  # its own training adds group by group

    def subnetworks(self) -> dict[str, GroupCNNSubnet]:
        """Every subnetwork by its name, the share of the groups that it executes, in rising size."""
        return {f"{100 * k // self.groups}%": GroupCNNSubnet(k) for k in range(1, self.groups + 1)}

    def input_size(self, subnet: GroupCNNSubnet) -> tuple[int, int]:
        return self.resolution, self.resolution

    @property
    def layers(self) -> int:
        return len(self.channels)

    @property
    def features(self) -> int:
        """Features that one group gives to the classifier."""
        return self.channels[-1]

    def input_channels_of(self, layer: int) -> int:
        """Channels that each filter of `layer` (0-based) reads: the image, or its own group of the layer before."""
        return self.input_channels if layer == 0 else self.channels[layer - 1]

    def prefix_shapes(self, groups: int) -> dict[str, Shape]:
        """Shape of every tensor, statistics among them, of the first `groups` groups.

        Every one is a contiguous prefix, along its first axis, of the full network's tensor of that name.
        """
        shapes: dict[str, Shape] = {}
        for layer, channels in enumerate(self.channels):
            size = (self.kernel_size, self.kernel_size)
            shapes[f"conv{layer + 1}.weight"] = (groups * channels, self.input_channels_of(layer), *size)
            for part in ("weight", "bias", *STATISTICS):
                shapes[f"bn{layer + 1}.{part}"] = (groups * channels,)
        shapes["classifier.weight"] = (groups * self.features, self.classes)
        shapes["classifier.bias"] = (groups, self.classes)
        return shapes

    def tensor_shapes(self) -> dict[str, Shape]:
        return self._learned_shapes(self.groups)

    def subnet_tensors(self, subnet: GroupCNNSubnet, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return {name: tensors[name][: shape[0]] for name, shape in self._learned_shapes(subnet.groups).items()}

    def statistics_shapes(self, subnet: GroupCNNSubnet) -> dict[str, Shape]:
        shapes = self.prefix_shapes(subnet.groups)
        return {name: shape for name, shape in shapes.items() if name.endswith(STATISTICS)}

    def parameters(self, subnet: GroupCNNSubnet) -> int:
        return sum(map(math.prod, self._learned_shapes(subnet.groups).values()))

    def macs(self, subnet: GroupCNNSubnet) -> int:
        groups = subnet.groups
        total, side = groups * self.features * self.classes, self.resolution
        for layer, channels in enumerate(self.channels):
            total += groups * channels * self.input_channels_of(layer) * self.kernel_size**2 * side**2
            if self.pool_after[layer]:
                side //= 2
        return total

    def _learned_shapes(self, groups: int) -> dict[str, Shape]:
        return {name: shape for name, shape in self.prefix_shapes(groups).items() if not name.endswith(STATISTICS)}
