"""Search space of the segmenter: an encoder-decoder whose width and input resolution are chosen at run time.

Torch-free.  A subnetwork of width w/8 executes the first w/8 of every layer's channels, so its weights are a block of
the supernet's (J. Yu, T. Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
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

EIGHTHS = 8  # widths are multiples of one eighth
STEPS_DOWN = 4  # the encoder halves the image four times
IMAGE_CHANNELS = 3


@dataclass(frozen=True)
class SegmenterSubnet(SubnetConfig):
    """One subnetwork.

    Attributes:
        width: channels that it executes, in eighths of the supernet's.
        resolution: height and width of its input [pixel].
    """

    width: int
    resolution: tuple[int, int]


@dataclass(frozen=True)
class Convolution:
    """One convolution of a subnetwork, with what follows it.

    Attributes:
        name: of its tensors: `<name>.conv.weight`, and `<name>.bn.*` or, if it is not normalised, `<name>.conv.bias`.
        inputs, outputs: channels.
        size: height and width of the kernel.
        stride, dilation: as usual; the padding keeps the size, divided by the stride and rounded up.
        pixels: of its output.
        normalised: whether a batch normalisation follows.
    """

    name: str
    inputs: int
    outputs: int
    size: int
    stride: int
    dilation: int
    pixels: int
    normalised: bool = True


@dataclass(frozen=True)
class SegmenterSpace(SearchSpace):
    """Subnetworks of one segmenter.

    Attributes:
        classes: number of classes, at least 2.
        resolutions: heights and widths of the input [pixel] that a subnetwork may have, in rising size.
        smallest_width: in eighths, 1 to 8; every width from there to 8 is a subnetwork.
        stem, channels: of the stem at 1/2 of the input's size, and of the stages at 1/4, 1/8 and 1/16.
        dilations: per stage, the dilation of each residual block.
        decoder: channels at 1/8 and at 1/4 of the input's size.
        batch_norm_epsilon: added to the variance in batch normalisation.
    """

    classes: int
    resolutions: tuple[tuple[int, int], ...] = ((180, 240), (240, 320), (300, 400), (360, 480))
    smallest_width: int = 3
    stem: int = 24
    channels: tuple[int, int, int] = (48, 96, 144)
    dilations: tuple[tuple[int, ...], ...] = ((1,), (1, 1), (1, 2, 4))
    decoder: tuple[int, int] = (64, 48)
    batch_norm_epsilon: float = 1e-5

    family: ClassVar[str] = "segmenter"
    task: ClassVar[str] = "segmentation"
    supernet: ClassVar[str] = "dynamic_perception.networks.segmenter:Segmenter"
    graph: ClassVar[str] = "dynamic_perception.networks.segmenter_graph:make_graph"

    def __post_init__(self) -> None:
        for name in ("resolutions", "channels", "dilations", "decoder"):
            object.__setattr__(self, name, _frozen(getattr(self, name)))
        _check_integer("classes", self.classes, 2)
        check_choice("smallest_width", self.smallest_width, tuple(range(1, EIGHTHS + 1)))
        for name, count in (("channels", 3), ("decoder", 2), ("dilations", 3)):
            if not isinstance(getattr(self, name), tuple) or len(getattr(self, name)) != count:
                raise ValueError(f"{name} is {getattr(self, name)!r}: expected a list of {count}")
        for name, value in (
            ("stem", self.stem),
            *(("channels", c) for c in self.channels),
            *(("decoder", c) for c in self.decoder),
        ):
            _check_integer(name, value, EIGHTHS)
            if value % EIGHTHS:
                raise ValueError(f"{name} is {value}: expected a multiple of {EIGHTHS}")
        for stage in self.dilations:
            if not isinstance(stage, tuple):
                raise ValueError(f"dilations is {self.dilations!r}: expected a list of three lists")
            for dilation in stage:
                _check_integer("dilations", dilation, 1)
        if not isinstance(self.resolutions, tuple) or not self.resolutions:
            raise ValueError(f"resolutions is {self.resolutions!r}: expected a list of [height, width]")
        for resolution in self.resolutions:
            if not isinstance(resolution, tuple) or len(resolution) != 2:
                raise ValueError(f"resolutions has {resolution!r}: expected [height, width]")
            for side in resolution:
                _check_integer("resolutions", side, 2**STEPS_DOWN)
        if list(self.resolutions) != sorted(set(self.resolutions), key=lambda r: r[0] * r[1]):
            raise ValueError(f"resolutions is {self.resolutions}: expected rising sizes")

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> SegmenterSpace:
        check_keys("segmenter", plain, ("classes",), tuple(cls.__dataclass_fields__))
        return cls(**plain)

    def to_plain(self) -> dict[str, Any]:
        return {key: _thawed(value) for key, value in asdict(self).items()}

    def subnet(self, plain: Mapping[str, Any]) -> SegmenterSubnet:
        check_keys("segmenter subnetwork", plain, ("width", "resolution"))
        check_choice("width", plain["width"], tuple(range(self.smallest_width, EIGHTHS + 1)))
        check_choice("resolution", _frozen(plain["resolution"]), self.resolutions)
        return SegmenterSubnet(plain["width"], _frozen(plain["resolution"]))

    def smallest(self) -> SegmenterSubnet:
        return SegmenterSubnet(self.smallest_width, self.resolutions[0])

    def largest(self) -> SegmenterSubnet:
        return SegmenterSubnet(EIGHTHS, self.resolutions[-1])

    def sample(self, rng: np.random.Generator) -> SegmenterSubnet:
        return SegmenterSubnet(
            int(rng.integers(self.smallest_width, EIGHTHS + 1)), self.resolutions[rng.integers(len(self.resolutions))]
        )

    def genes(self) -> tuple[tuple, ...]:
        return tuple(range(self.smallest_width, EIGHTHS + 1)), self.resolutions

    def from_genes(self, values: Sequence[Any]) -> SegmenterSubnet:
        return SegmenterSubnet(*values)

    def ladder(self, count: int) -> tuple[SegmenterSubnet, ...]:
        return tuple(SegmenterSubnet(*rung) for rung in rungs(count, *self.genes()))

    def progressive_phases(self) -> tuple[SegmenterSpace, ...]:
        middle = (self.smallest_width + EIGHTHS) // 2
        return (replace(self, smallest_width=EIGHTHS), replace(self, smallest_width=middle), self)

    def input_size(self, subnet: SegmenterSubnet) -> tuple[int, int]:
        return subnet.resolution

    def convolutions(self, subnet: SegmenterSubnet) -> Iterator[Convolution]:
        """Every convolution of the subnetwork, in the order of execution."""
        width = subnet.width

        def share(channels: int) -> int:
            return channels * width // EIGHTHS

        height, columns = (halved(side) for side in subnet.resolution)
        yield Convolution("stem", IMAGE_CHANNELS, share(self.stem), 3, 2, 1, height * columns)
        before, pixels = share(self.stem), []
        for stage, (channels, dilations) in enumerate(zip(map(share, self.channels), self.dilations), start=1):
            height, columns = halved(height), halved(columns)
            pixels.append(height * columns)
            yield Convolution(f"stage{stage}.down", before, channels, 3, 2, 1, pixels[-1])
            for block, dilation in enumerate(dilations):
                for half in ("first", "second"):
                    name = f"stage{stage}.block{block}.{half}"
                    yield Convolution(name, channels, channels, 3, 1, dilation, pixels[-1])
            before = channels
        eighth, quarter = map(share, self.decoder)
        yield Convolution("context", before, before, 1, 1, 1, 1, normalised=False)
        yield Convolution("decoder.top", before, eighth, 1, 1, 1, pixels[2])
        yield Convolution("decoder.lateral8", share(self.channels[1]), eighth, 1, 1, 1, pixels[1])
        yield Convolution("decoder.fuse8", eighth, eighth, 3, 1, 1, pixels[1])
        yield Convolution("decoder.lateral4", share(self.channels[0]), eighth, 1, 1, 1, pixels[0])
        yield Convolution("decoder.fuse4", eighth, quarter, 3, 1, 1, pixels[0])
        yield Convolution("classifier", quarter, self.classes, 1, 1, 1, pixels[0], normalised=False)

    def tensor_shapes(self) -> dict[str, Shape]:
        return self._shapes(self.largest())

    def subnet_tensors(self, subnet: SegmenterSubnet, tensors: Mapping[str, Array]) -> dict[str, Array]:
        return {
            name: tensors[name][tuple(slice(extent) for extent in shape)]
            for name, shape in self._shapes(subnet).items()
        }

    def statistics_shapes(self, subnet: SegmenterSubnet) -> dict[str, Shape]:
        return {
            f"{convolution.name}.bn.{part}": (convolution.outputs,)
            for convolution in self.convolutions(subnet)
            if convolution.normalised
            for part in ("running_mean", "running_var")
        }

    def parameters(self, subnet: SegmenterSubnet) -> int:
        return sum(int(np.prod(shape)) for shape in self._shapes(subnet).values())

    def macs(self, subnet: SegmenterSubnet) -> int:
        return sum(c.inputs * c.outputs * c.size**2 * c.pixels for c in self.convolutions(subnet))

    def _shapes(self, subnet: SegmenterSubnet) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {}
        for c in self.convolutions(subnet):
            shapes[f"{c.name}.conv.weight"] = (c.outputs, c.inputs, c.size, c.size)
            if c.normalised:
                shapes |= {f"{c.name}.bn.weight": (c.outputs,), f"{c.name}.bn.bias": (c.outputs,)}
            else:
                shapes[f"{c.name}.conv.bias"] = (c.outputs,)
        return shapes


def halved(side: int) -> int:
    """What a convolution of stride 2 leaves of a side [pixel]."""
    return (side + 1) // 2


def _check_integer(name: str, value: Any, least: int) -> None:
    if type(value) is not int or value < least:
        raise ValueError(f"{name} is {value!r}: expected an integer of at least {least}")


def _frozen(value: Any) -> Any:
    return tuple(_frozen(entry) for entry in value) if isinstance(value, (list, tuple)) else value


def _thawed(value: Any) -> Any:
    return [_thawed(entry) for entry in value] if isinstance(value, (list, tuple)) else value
