"""Search space of the Once-for-All MobileNetV3: elastic kernel, expansion, depth and input resolution.

    stem                  3x3 convolution, h-swish
    block 0               depthwise separable, not elastic
    5 stages              of at most max(depths) inverted residual blocks each: 1x1 expand, k x k depthwise,
                          squeeze-excite in stages 2, 4 and 5, 1x1 project; ReLU in the first two stages, then h-swish
    head                  1x1 convolution, mean over pixels, 1x1 convolution, linear classifier

A smaller expansion is a prefix of the channels, a smaller depth a prefix of a stage's blocks, and a smaller kernel the
centre of the larger one times a learned matrix.  Tensors are named as in the authors' checkpoints; block N keeps its
number in every subnetwork.

Source: H. Cai, C. Gan, T. Wang, Z. Zhang, S. Han, "Once-for-All: Train One Network and Specialize it for Efficient
Deployment", ICLR 2020, and its code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from dynamic_perception.networks.search_space import (
    Array,
    SearchSpace,
    Shape,
    SubnetConfig,
    check_choice,
    check_keys,
    make_divisible,
    rungs,
)

STAGES = 5  # elastic ones; the stem and block 0 come before them
BASE_WIDTHS = (16, 16, 24, 40, 80, 112, 160)  # stem, block 0, stages; at width multiplier 1
BASE_HEAD_WIDTHS = (960, 1280)  # before and after the mean over pixels
SQUEEZE_EXCITE = (False, True, False, True, True)  # per stage
HARD_SWISH = (False, False, True, True, True)  # per stage; ReLU otherwise
SQUEEZE_REDUCTION = 4
INPUT_CHANNELS = 3
STEM_KERNEL = 3  # of block 0 as well
STEM, HEAD, MIX, CLASSIFIER = "first_conv", "final_expand_layer", "feature_mix_layer.conv", "classifier.linear"


@dataclass(frozen=True)
class OFASubnet(SubnetConfig):
    """A subnetwork, of which only active blocks are described.

    Attributes:
        resolution: height and width of the input [pixel].
        depths: number of active blocks per stage.
        kernels: per stage, the depthwise kernel size of each active block.
        expansions: per stage, the channel expansion of each active block.
    """

    resolution: int
    depths: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    expansions: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Block:
    """One active inverted residual block.  `squeeze_channels` is 0 without squeeze-excite."""

    number: int
    input_channels: int
    mid_channels: int
    output_channels: int
    squeeze_channels: int
    kernel: int
    stride: int
    hard_swish: bool

    @property
    def residual(self) -> bool:
        """Whether the input is added to the output."""
        return self.stride == 1 and self.input_channels == self.output_channels

    def convolution(self, layer: str) -> str:
        """Name of the convolution in "inverted_bottleneck", "depth_conv" or "point_linear"."""
        return f"blocks.{self.number}.conv.{layer}.conv" + (".conv" if self.number else "")

    def norm(self, layer: str) -> str:
        """Name of the batch normalisation behind that convolution."""
        return f"blocks.{self.number}.conv.{layer}.bn" + (".bn" if self.number else "")

    def squeeze_excite(self, layer: str) -> str:
        """Name of the squeeze-excite convolution "reduce" or "expand"."""
        return f"blocks.{self.number}.conv.depth_conv.se.fc.{layer}"

    def matrix(self, larger: int, smaller: int) -> str:
        """Name of the matrix that makes the smaller depthwise kernel of the larger one's centre."""
        return f"blocks.{self.number}.conv.depth_conv.conv.{larger}to{smaller}_matrix"


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer of a subnetwork: its weight, where it is applied, and what follows it."""

    name: str
    shape: Shape  # of the weight: output channels first
    pixels: int  # of the output
    norm: str = ""  # name of the batch normalisation, if one follows
    bias: bool = False


@dataclass(frozen=True)
class OFAMobileNetV3Space(SearchSpace):
    """Settings of a supernet.

    Attributes:
        classes: number of classes, at least 2.
        width_multiplier: scales every channel number, which is then made divisible by 8.
        resolutions: input sizes [pixel] that a subnetwork may have, rising.
        kernels: odd sizes that a depthwise kernel may have, rising.
        expansions: of a block's input channels, at least 2, rising.
        depths: numbers of active blocks that a stage may have, rising.
        strides: of the stem, block 0 and the stages, 1 or 2; small images want fewer 2s.
        batch_norm_epsilon: added to the variance in batch normalisation.
    """

    family: ClassVar[str] = "ofa_mobilenet_v3"
    task: ClassVar[str] = "classification"
    supernet: ClassVar[str] = "dynamic_perception.networks.ofa_mobilenet_v3:OFAMobileNetV3"
    graph: ClassVar[str] = "dynamic_perception.networks.ofa_mobilenet_v3_graph:make_graph"

    classes: int
    width_multiplier: float = 1.0
    resolutions: tuple[int, ...] = (128, 160, 192, 224)
    kernels: tuple[int, ...] = (3, 5, 7)
    expansions: tuple[int, ...] = (3, 4, 6)
    depths: tuple[int, ...] = (2, 3, 4)
    strides: tuple[int, ...] = (2, 1, 2, 2, 2, 1, 2)
    batch_norm_epsilon: float = 1e-5

    def __post_init__(self) -> None:
        if type(self.classes) is not int or self.classes < 2:
            raise ValueError(f"classes is {self.classes!r}: expected an integer of at least 2")
        for name in ("width_multiplier", "batch_norm_epsilon"):
            value = getattr(self, name)
            if type(value) not in (int, float) or not 0 < value < math.inf:
                raise ValueError(f"{name} is {value!r}: expected a positive number")
            object.__setattr__(self, name, float(value))
        for name, least in (("resolutions", 8), ("kernels", 1), ("expansions", 2), ("depths", 1)):
            value = getattr(self, name)
            if not _integers(value) or list(value) != sorted(set(value)) or min(value, default=0) < least:
                raise ValueError(f"{name} is {value!r}: expected rising integers of at least {least}")
            object.__setattr__(self, name, tuple(value))
        if any(kernel % 2 == 0 for kernel in self.kernels):
            raise ValueError(f"kernels is {self.kernels}: expected odd numbers")
        if not _integers(self.strides) or len(self.strides) != len(BASE_WIDTHS) or not set(self.strides) <= {1, 2}:
            raise ValueError(f"strides is {self.strides!r}: expected {len(BASE_WIDTHS)} of 1 or 2")
        object.__setattr__(self, "strides", tuple(self.strides))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> OFAMobileNetV3Space:
        check_keys("search space", plain, ("classes",), tuple(cls.__dataclass_fields__))
        return cls(**plain)

    def to_plain(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    def subnet(self, plain: Mapping[str, Any]) -> OFASubnet:
        """The canonical configuration from the fields of `OFASubnet`, or from the authors' form.

        The authors give `ks` and `e` for every block of the supernet (what is beyond the active depth is checked and
        then dropped), `d` for every stage and, here optionally, `r`: the largest resolution by default.
        """
        if isinstance(plain, Mapping) and plain.keys() & {"ks", "e", "d"}:
            plain = self._from_authors(plain)
        check_keys("subnetwork", plain, ("resolution", "depths", "kernels", "expansions"))
        check_choice("resolution", plain["resolution"], self.resolutions)
        depths = _choices("depths", plain["depths"], STAGES, self.depths)
        kernels, expansions = (
            tuple(
                _choices(f"{name}[{stage}]", per_stage, depth, getattr(self, name))
                for stage, (per_stage, depth) in enumerate(zip(_list(name, plain[name], STAGES), depths))
            )
            for name in ("kernels", "expansions")
        )
        return OFASubnet(plain["resolution"], depths, kernels, expansions)

    def _from_authors(self, plain: Mapping[str, Any]) -> dict[str, Any]:
        check_keys("subnetwork", plain, ("ks", "e", "d"), ("r",))
        deepest = self.depths[-1]
        depths = _choices("d", plain["d"], STAGES, self.depths)
        kernels = _choices("ks", plain["ks"], STAGES * deepest, self.kernels)
        expansions = _choices("e", plain["e"], STAGES * deepest, self.expansions)
        resolution = plain.get("r", self.resolutions[-1])
        check_choice("r", resolution, self.resolutions)
        starts = [stage * deepest for stage in range(STAGES)]
        return {
            "resolution": resolution,
            "depths": depths,
            "kernels": [kernels[start : start + depth] for start, depth in zip(starts, depths)],
            "expansions": [expansions[start : start + depth] for start, depth in zip(starts, depths)],
        }

    def uniform(self, resolution: int, kernel: int, expansion: int, depth: int) -> OFASubnet:
        """The subnetwork that makes the same choice everywhere; ValueError outside the space."""
        return self.subnet(
            {
                "resolution": resolution,
                "depths": [depth] * STAGES,
                "kernels": [[kernel] * depth] * STAGES,
                "expansions": [[expansion] * depth] * STAGES,
            }
        )

    def smallest(self) -> OFASubnet:
        return self.uniform(self.resolutions[0], self.kernels[0], self.expansions[0], self.depths[0])

    def largest(self) -> OFASubnet:
        return self.uniform(self.resolutions[-1], self.kernels[-1], self.expansions[-1], self.depths[-1])

    def middle(self) -> OFASubnet:
        """The subnetwork of the middle choices, of the larger one where their number is even."""
        return self.uniform(
            *(choices[len(choices) // 2] for choices in (self.resolutions, self.kernels, self.expansions, self.depths))
        )

    def sample(self, rng: np.random.Generator) -> OFASubnet:
        def one(choices: tuple[int, ...]) -> int:
            return choices[rng.integers(len(choices))]

        depths = tuple(one(self.depths) for _ in range(STAGES))
        return OFASubnet(
            one(self.resolutions),
            depths,
            tuple(tuple(one(self.kernels) for _ in range(depth)) for depth in depths),
            tuple(tuple(one(self.expansions) for _ in range(depth)) for depth in depths),
        )

    def genes(self) -> tuple[tuple[int, ...], ...]:
        """Choices of the resolution, of every stage's depth, and of every block's kernel and then expansion."""
        blocks = STAGES * self.depths[-1]
        return self.resolutions, *STAGES * (self.depths,), *blocks * (self.kernels,), *blocks * (self.expansions,)

    def from_genes(self, values: Sequence[int]) -> OFASubnet:
        deepest = self.depths[-1]
        depths = tuple(values[1 : 1 + STAGES])
        kernels, expansions = (
            tuple(tuple(values[start + stage * deepest :][:depth]) for stage, depth in enumerate(depths))
            for start in (1 + STAGES, 1 + STAGES * (1 + deepest))
        )
        return OFASubnet(values[0], depths, kernels, expansions)

    def ladder(self, count: int) -> tuple[OFASubnet, ...]:
        return tuple(
            self.uniform(*rung) for rung in rungs(count, self.resolutions, self.kernels, self.expansions, self.depths)
        )

    def progressive_phases(self) -> tuple[OFAMobileNetV3Space, ...]:
        """Elastic kernels, then depth as well, then expansion as well, each with elastic resolution."""
        full_depth = replace(self, depths=self.depths[-1:], expansions=self.expansions[-1:])
        return full_depth, replace(self, expansions=self.expansions[-1:]), self

    def input_size(self, subnet: OFASubnet) -> tuple[int, int]:
        return subnet.resolution, subnet.resolution

    @property
    def widths(self) -> tuple[int, ...]:
        """Output channels of the stem, block 0 and the stages."""
        return tuple(make_divisible(width * self.width_multiplier) for width in BASE_WIDTHS)

    @property
    def head_widths(self) -> tuple[int, int]:
        """Channels of the head before and after the mean over pixels."""
        before, after = (make_divisible(width * self.width_multiplier) for width in BASE_HEAD_WIDTHS)
        return before, after

    def mid_channels(self, input_channels: int, expansion: int) -> int:
        """Channels between the first and the last convolution of a block."""
        return make_divisible(round(input_channels * expansion))

    def blocks(self, subnet: OFASubnet) -> tuple[Block, ...]:
        """The active blocks from input to output, block 0 included."""
        return _blocks(self, subnet)

    def layers(self, subnet: OFASubnet) -> tuple[Layer, ...]:
        """All its convolutions and the classifier, in the order they are executed."""
        return _layers(self, subnet)

    def subnet_shapes(self, subnet: OFASubnet) -> dict[str, Shape]:
        """Shape of every learned tensor that the subnetwork executes."""
        shapes: dict[str, Shape] = {}
        for layer in self.layers(subnet):
            shapes[f"{layer.name}.weight"] = layer.shape
            if layer.bias:
                shapes[f"{layer.name}.bias"] = layer.shape[:1]
            if layer.norm:
                shapes[f"{layer.norm}.weight"] = shapes[f"{layer.norm}.bias"] = layer.shape[:1]
        return shapes

    def tensor_shapes(self) -> dict[str, Shape]:
        shapes = self.subnet_shapes(self.largest())
        for block in self.blocks(self.largest())[1:]:
            for larger, smaller in zip(self.kernels[:0:-1], self.kernels[-2::-1]):
                shapes[block.matrix(larger, smaller)] = (smaller**2, smaller**2)
        return shapes

    def subnet_tensors(self, subnet: OFASubnet, tensors: Mapping[str, Array]) -> dict[str, Array]:
        own = {}
        for name, shape in self.subnet_shapes(subnet).items():
            own[name] = tensors[name][tuple(map(slice, shape[:2]))]
        for block in self.blocks(subnet)[1:]:
            name = f"{block.convolution('depth_conv')}.weight"
            own[name] = self._smaller_kernel(own[name], block, tensors)
        return own

    def _smaller_kernel(self, kernel: Array, block: Block, tensors: Mapping[str, Array]) -> Array:
        """The block's kernel [mid, 1, k, k] of the largest one: each size by its matrix from the next larger."""
        for larger, smaller in zip(self.kernels[:0:-1], self.kernels[-2::-1]):
            if larger <= block.kernel:
                break
            edge = (larger - smaller) // 2
            centre = kernel[:, :, edge : edge + smaller, edge : edge + smaller]  # [mid, 1, smaller, smaller]
            flat = centre.reshape(len(centre), smaller**2) @ tensors[block.matrix(larger, smaller)].T
            kernel = flat.reshape(centre.shape)
        return kernel

    def statistics_shapes(self, subnet: OFASubnet) -> dict[str, Shape]:
        return dict(_statistics_shapes(self, subnet))

    def subnet_statistics(self, subnet: OFASubnet, of_largest: Mapping[str, Array]) -> dict[str, Array]:
        """The subnetwork's share of the largest one's statistics: what it starts with before it is calibrated."""
        return {name: of_largest[name][: shape[0]] for name, shape in self.statistics_shapes(subnet).items()}

    def parameters(self, subnet: OFASubnet) -> int:
        return sum(map(math.prod, self.subnet_shapes(subnet).values()))

    def macs(self, subnet: OFASubnet) -> int:
        return sum(math.prod(layer.shape) * layer.pixels for layer in self.layers(subnet))


def _integers(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(type(entry) is int for entry in value)


def _list(field: str, value: Any, length: int) -> Any:
    if not isinstance(value, (list, tuple)) or len(value) != length:
        raise ValueError(f"{field} is {value!r}: expected a list of {length}")
    return value


def _choices(field: str, value: Any, length: int, allowed: tuple[int, ...]) -> tuple[int, ...]:
    for position, entry in enumerate(_list(field, value, length)):
        check_choice(f"{field}[{position}]", entry, allowed)
    return tuple(value)


@lru_cache(maxsize=1024)  # the active subnetwork's are asked for at every inference
def _blocks(space: OFAMobileNetV3Space, subnet: OFASubnet) -> tuple[Block, ...]:
    stem, channels, *widths = space.widths
    blocks = [Block(0, stem, stem, channels, 0, STEM_KERNEL, space.strides[1], False)]
    for stage, width in enumerate(widths):
        for layer in range(subnet.depths[stage]):
            mid = space.mid_channels(channels, subnet.expansions[stage][layer])
            blocks.append(
                Block(
                    number=1 + stage * space.depths[-1] + layer,
                    input_channels=channels,
                    mid_channels=mid,
                    output_channels=width,
                    squeeze_channels=make_divisible(mid / SQUEEZE_REDUCTION) if SQUEEZE_EXCITE[stage] else 0,
                    kernel=subnet.kernels[stage][layer],
                    stride=space.strides[2 + stage] if layer == 0 else 1,
                    hard_swish=HARD_SWISH[stage],
                )
            )
            channels = width
    return tuple(blocks)


@lru_cache(maxsize=1024)
def _layers(space: OFAMobileNetV3Space, subnet: OFASubnet) -> tuple[Layer, ...]:
    blocks = space.blocks(subnet)
    head, mixed = space.head_widths
    side = _strided(subnet.resolution, space.strides[0])
    layers = [Layer(f"{STEM}.conv", (space.widths[0], INPUT_CHANNELS, STEM_KERNEL, STEM_KERNEL), side**2, f"{STEM}.bn")]
    for block in blocks:
        mid = block.mid_channels
        if block.number:
            layers.append(
                Layer(
                    block.convolution("inverted_bottleneck"),
                    (mid, block.input_channels, 1, 1),
                    side**2,
                    block.norm("inverted_bottleneck"),
                )
            )
        side = _strided(side, block.stride)
        layers.append(
            Layer(
                block.convolution("depth_conv"), (mid, 1, block.kernel, block.kernel), side**2, block.norm("depth_conv")
            )
        )
        if block.squeeze_channels:
            layers.append(Layer(block.squeeze_excite("reduce"), (block.squeeze_channels, mid, 1, 1), 1, bias=True))
            layers.append(Layer(block.squeeze_excite("expand"), (mid, block.squeeze_channels, 1, 1), 1, bias=True))
        layers.append(
            Layer(
                block.convolution("point_linear"),
                (block.output_channels, mid, 1, 1),
                side**2,
                block.norm("point_linear"),
            )
        )
    layers.append(Layer(f"{HEAD}.conv", (head, blocks[-1].output_channels, 1, 1), side**2, f"{HEAD}.bn"))
    layers.append(Layer(MIX, (mixed, head, 1, 1), 1))
    layers.append(Layer(CLASSIFIER, (space.classes, mixed), 1, bias=True))
    return tuple(layers)


@lru_cache(maxsize=1024)  # asked for at every switch
def _statistics_shapes(space: OFAMobileNetV3Space, subnet: OFASubnet) -> tuple[tuple[str, Shape], ...]:
    return tuple(
        (f"{layer.norm}.{part}", layer.shape[:1])
        for layer in space.layers(subnet)
        if layer.norm
        for part in ("running_mean", "running_var")
    )


def _strided(side: int, stride: int) -> int:
    """Output side of a convolution with half its odd kernel as padding."""
    return (side - 1) // stride + 1
