"""Shape of the group CNN: which tensors it has and which prefix of them a subnetwork uses.

Plain data without torch, so that a bundle can be validated and a graph written on a robot that never
imports it.  The network itself is in :mod:`dynamic_perception.networks.group_cnn`.

Source: L. Xun, L. Tran-Thanh, B. M. Al-Hashimi, G. V. Merrett, "Incremental Training and Group Convolution
Pruning for Runtime DNN Performance Scaling on Heterogeneous Embedded Platforms", MLCAD 2019.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Mapping


@dataclass(frozen=True)
class GroupCNNArchitecture:
    """Settings of a group CNN.

    Attributes:
        classes: number of classes, at least 2.
        groups: number of channel groups; subnetwork k executes the first k of them.
        channels: output channels *of one group*, one entry per convolution.
        pool_after: per convolution, whether a 2x2 max-pooling follows.
        kernel_size: odd kernel size of every convolution (stride 1, same padding).
        input_size: height and width of the square input in pixels.
        batch_norm_epsilon: added to the variance in batch normalisation.
    """

    classes: int
    groups: int = 4
    channels: tuple[int, ...] = (32, 64, 96, 96, 64)
    pool_after: tuple[bool, ...] = (True, False, True, False, True)
    kernel_size: int = 3
    input_size: int = 32
    batch_norm_epsilon: float = 1e-5

    input_channels = 3

    def __post_init__(self) -> None:
        for name, allowed in (("channels", int), ("pool_after", bool)):
            value = getattr(self, name)
            if not isinstance(value, (list, tuple)) or not all(type(v) is allowed for v in value):
                raise ValueError(f"{name} is {value!r}: expected a list of {allowed.__name__}")
            object.__setattr__(self, name, tuple(value))
        for name, least in (("classes", 2), ("groups", 1), ("kernel_size", 1), ("input_size", 4)):
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
        if self.input_size % 2 ** sum(self.pool_after):
            raise ValueError(
                f"input_size is {self.input_size}: expected a multiple of {2 ** sum(self.pool_after)}, "
                f"because {sum(self.pool_after)} poolings halve it"
            )

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> "GroupCNNArchitecture":
        """Read the settings from plain data; an unknown or missing key is a ValueError that names it."""
        unknown = sorted(set(plain) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"unknown architecture setting {unknown[0]!r}: expected {sorted(cls.__dataclass_fields__)}"
            )
        if "classes" not in plain:
            raise ValueError("architecture setting 'classes' is missing")
        return cls(**plain)

    def to_plain(self) -> dict[str, Any]:
        """The settings as plain data that YAML can hold."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @property
    def layers(self) -> int:
        return len(self.channels)

    @property
    def features(self) -> int:
        """Features that one group gives to the classifier."""
        return self.channels[-1]

    def subnetworks(self) -> dict[str, int]:
        """Names of the subnetworks, in rising size, and the number of groups each executes."""
        return {f"{100 * k // self.groups}%": k for k in range(1, self.groups + 1)}

    def input_channels_of(self, layer: int) -> int:
        """Channels that each filter of `layer` (0-based) reads: the image, or its own group of the layer before."""
        return self.input_channels if layer == 0 else self.channels[layer - 1]

    def tensor_shapes(self, groups: int | None = None) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor of the subnetwork with `groups` groups (all of them by default).

        Every one is a contiguous prefix, along its first axis, of the full network's tensor of that name.
        """
        k = self.groups if groups is None else groups
        shapes: dict[str, tuple[int, ...]] = {}
        for layer, channels in enumerate(self.channels):
            size = (self.kernel_size, self.kernel_size)
            shapes[f"conv{layer + 1}.weight"] = (k * channels, self.input_channels_of(layer), *size)
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"bn{layer + 1}.{part}"] = (k * channels,)
        shapes["classifier.weight"] = (k * self.features, self.classes)
        shapes["classifier.bias"] = (k, self.classes)
        return shapes

    def parameters(self, groups: int) -> int:
        """Learned numbers of the subnetwork (running statistics are not learned)."""
        total = 0
        for name, shape in self.tensor_shapes(groups).items():
            if "running" not in name:
                size = 1
                for extent in shape:
                    size *= extent
                total += size
        return total

    def macs(self, groups: int) -> int:
        """Multiply-accumulates of one image through the convolutions and the classifier of the subnetwork."""
        total, side = groups * self.features * self.classes, self.input_size
        for layer, channels in enumerate(self.channels):
            total += groups * channels * self.input_channels_of(layer) * self.kernel_size**2 * side**2
            if self.pool_after[layer]:
                side //= 2
        return total
