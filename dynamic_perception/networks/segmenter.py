"""The segmenter: a residual encoder down to 1/16 of the frame, and a decoder up to 1/4 of it, of elastic width.

Dense 3x3 convolutions are what CPUs and GPUs run best, and the blocks at 1/16 are dilated and joined by the image's
mean, so that every pixel sees the whole frame.  All of it is trained from scratch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamic_perception.networks.search_space import SubnetConfig
from dynamic_perception.networks.segmenter_space import Convolution, SegmenterSpace, SegmenterSubnet
from dynamic_perception.networks.supernet import Normalise, Supernet, draw_weights


class Segmenter(Supernet):
    """Supernet of a :class:`SegmenterSpace`."""

    space: SegmenterSpace

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        draw_weights(self.tensors(), generator)
        for name, tensor in self.tensors().items():
            # Every block begins as the identity (P. Goyal et al., arXiv 1706.02677).
            if name.endswith("second.bn.weight"):
                tensor.zero_()

    def execute(
        self, images: Tensor, subnet: SubnetConfig, tensors: Mapping[str, Tensor], normalise: Normalise
    ) -> Tensor:
        """Logits [N, classes, H/4, W/4] (rounded up) of normalised `images` [N, 3, H, W]."""
        layer = partial(_convolve, tensors=tensors, normalise=normalise)
        x = F.relu(layer("stem", images, stride=2))  # [N, stem, H/2, W/2]
        stages = []
        for stage, dilations in enumerate(self.space.dilations, start=1):
            x = F.relu(layer(f"stage{stage}.down", x, stride=2))
            for block, dilation in enumerate(dilations):
                name = f"stage{stage}.block{block}"
                inner = F.relu(layer(f"{name}.first", x, dilation=dilation))
                x = F.relu(x + layer(f"{name}.second", inner, dilation=dilation))
            stages.append(x)
        quarter, eighth, sixteenth = stages  # [N, channels, H/4, W/4], ... H/8, ... H/16

        mean = sixteenth.mean(dim=(2, 3), keepdim=True)
        x = sixteenth + F.conv2d(mean, tensors["context.conv.weight"], tensors["context.conv.bias"])
        x = _enlarge(layer("decoder.top", x), eighth)
        x = F.relu(x + layer("decoder.lateral8", eighth))
        x = F.relu(layer("decoder.fuse8", x))
        x = F.relu(_enlarge(x, quarter) + layer("decoder.lateral4", quarter))
        x = F.relu(layer("decoder.fuse4", x))  # [N, decoder, H/4, W/4]
        return F.conv2d(x, tensors["classifier.conv.weight"], tensors["classifier.conv.bias"])

    def extract(self, subnet: SegmenterSubnet, statistics: Mapping[str, Tensor]) -> nn.Module:
        static = StaticSegmenter(self.space, subnet).to(next(self.parameters()))
        static.load_state_dict({**self.space.subnet_tensors(subnet, self.tensors()), **statistics})
        return static.eval()


class StaticSegmenter(nn.Module):
    """One subnetwork of the segmenter as an ordinary network.

    Args:
        space: of the supernet.
        subnet: which subnetwork.
    """

    def __init__(self, space: SegmenterSpace, subnet: SegmenterSubnet):
        super().__init__()
        convolutions = {c.name: c for c in space.convolutions(subnet)}

        def layer(name: str) -> nn.Sequential:
            return convolution_with_norm(convolutions[name], space.batch_norm_epsilon)

        self.stem = layer("stem")
        for stage, dilations in enumerate(space.dilations, start=1):
            blocks = {
                f"block{block}": ResidualBlock(
                    layer(f"stage{stage}.block{block}.first"), layer(f"stage{stage}.block{block}.second")
                )
                for block in range(len(dilations))
            }
            self.add_module(
                f"stage{stage}",
                nn.Sequential(
                    OrderedDict(
                        down=nn.Sequential(OrderedDict(**layer(f"stage{stage}.down")._modules, relu=nn.ReLU())),
                        **blocks,
                    )
                ),
            )
        self.context = layer("context")
        self.decoder = nn.ModuleDict(
            {part: layer(f"decoder.{part}") for part in ("top", "lateral8", "fuse8", "lateral4", "fuse4")}
        )
        self.classifier = layer("classifier")

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes, H/4, W/4] (rounded up) of normalised `images` [N, 3, H, W]."""
        quarter = self.stage1(F.relu(self.stem(images)))
        eighth = self.stage2(quarter)
        sixteenth = self.stage3(eighth)
        x = sixteenth + self.context(sixteenth.mean(dim=(2, 3), keepdim=True))
        x = F.relu(_enlarge(self.decoder["top"](x), eighth) + self.decoder["lateral8"](eighth))
        x = F.relu(self.decoder["fuse8"](x))
        x = F.relu(_enlarge(x, quarter) + self.decoder["lateral4"](quarter))
        return self.classifier(F.relu(self.decoder["fuse4"](x)))


class ResidualBlock(nn.Module):
    """relu(x + second(relu(first(x))))."""

    def __init__(self, first: nn.Module, second: nn.Module):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(F.relu(self.first(x))))


def convolution_with_norm(c: Convolution, epsilon: float) -> nn.Sequential:
    """The convolution `conv` and, where there is one, its batch normalisation `bn`."""
    conv = nn.Conv2d(
        c.inputs, c.outputs, c.size, c.stride, c.dilation * (c.size // 2), c.dilation, bias=not c.normalised
    )
    norm = {"bn": nn.BatchNorm2d(c.outputs, eps=epsilon)} if c.normalised else {}
    return nn.Sequential(OrderedDict(conv=conv, **norm))


def _convolve(
    name: str, x: Tensor, tensors: Mapping[str, Tensor], normalise: Normalise, stride: int = 1, dilation: int = 1
) -> Tensor:
    weight = tensors[f"{name}.conv.weight"]
    x = F.conv2d(x, weight, stride=stride, padding=dilation * (weight.shape[2] // 2), dilation=dilation)
    return normalise(f"{name}.bn", x, tensors)


def _enlarge(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)
