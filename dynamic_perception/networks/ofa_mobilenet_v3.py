"""Once-for-All MobileNetV3 in PyTorch: the supernet, and any of its subnetworks as an ordinary module.

Which tensors a subnetwork takes, and how its kernels come from the largest ones, is in
:mod:`dynamic_perception.networks.ofa_mobilenet_v3_space`; here it is executed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.mobilenetv3 import InvertedResidual, InvertedResidualConfig
from torchvision.ops.misc import Conv2dNormActivation

from dynamic_perception.networks.ofa_mobilenet_v3_space import (
    CLASSIFIER,
    HEAD,
    INPUT_CHANNELS,
    MIX,
    STEM,
    STEM_KERNEL,
    Block,
    OFAMobileNetV3Space,
    OFASubnet,
)
from dynamic_perception.networks.supernet import CACHE_BYTES, Normalise, Supernet, draw_weights


class OFAMobileNetV3(Supernet):
    """Supernet of an :class:`OFAMobileNetV3Space`.

    Args:
        space: of the subnetworks.
        generator: of the initial weights; without it they are zero, to be loaded.
        cache_bytes: what slices of subnetworks that were used may take.
    """

    space: OFAMobileNetV3Space

    def __init__(
        self, space: OFAMobileNetV3Space, generator: torch.Generator | None = None, cache_bytes: int = CACHE_BYTES
    ):
        super().__init__(space, cache_bytes)
        if generator is not None:
            self.initialise(generator)

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> None:
        tensors = self.tensors()
        matrices = [tensors.pop(name) for name in list(tensors) if name.endswith("_matrix")]
        draw_weights(tensors, generator)
        for matrix in matrices:  # a smaller kernel begins as the centre of the larger one
            matrix.copy_(torch.eye(len(matrix)))
        for block in self.space.blocks(self.space.largest()):
            if block.residual:  # every such block begins as the identity (P. Goyal et al., arXiv 1706.02677)
                tensors[f"{block.norm('point_linear')}.weight"].zero_()

    def execute(self, images: Tensor, subnet: OFASubnet, tensors: Mapping[str, Tensor], normalise: Normalise) -> Tensor:
        def layer(x: Tensor, convolution: str, norm: str, stride: int = 1, groups: int = 1) -> Tensor:
            weight = tensors[f"{convolution}.weight"]
            x = F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=groups)
            return normalise(norm, x, tensors)

        x = _hard_swish(layer(images, f"{STEM}.conv", f"{STEM}.bn", self.space.strides[0]))  # [N, stem, H, W]
        for block in self.space.blocks(subnet):
            before = x  # [N, in, H, W]
            activation = _hard_swish if block.hard_swish else _relu
            if block.number:
                x = layer(x, block.convolution("inverted_bottleneck"), block.norm("inverted_bottleneck"))
                x = activation(x)  # [N, mid, H, W]
            x = layer(x, block.convolution("depth_conv"), block.norm("depth_conv"), block.stride, block.mid_channels)
            x = activation(x)  # [N, mid, H / stride, W / stride]
            if block.squeeze_channels:
                x = _gate(x, block, tensors) * x
            x = layer(x, block.convolution("point_linear"), block.norm("point_linear"))  # [N, out, H / stride, ...]
            if block.residual:
                x = x + before
        x = _hard_swish(layer(x, f"{HEAD}.conv", f"{HEAD}.bn"))  # [N, head, H, W]
        x = F.adaptive_avg_pool2d(x, 1)  # [N, head, 1, 1]
        x = _hard_swish(F.conv2d(x, tensors[f"{MIX}.weight"])).flatten(1)  # [N, mixed]
        return F.linear(x, tensors[f"{CLASSIFIER}.weight"], tensors[f"{CLASSIFIER}.bias"])  # [N, classes]

    @torch.no_grad()
    def extract(self, subnet: OFASubnet, statistics: Mapping[str, Tensor]) -> nn.Module:
        tensors = self.space.subnet_tensors(subnet, self.tensors())
        # All in the supernet's type and place, also where the statistics are kept in a longer one.
        like = tensors[f"{CLASSIFIER}.bias"]
        own = {
            name: torch.clone(tensor, memory_format=torch.contiguous_format).to(like)
            for name, tensor in (tensors | dict(statistics)).items()
        }
        with torch.device("meta"):  # no weights are drawn from the global generator only to be replaced
            network = _static_network(self.space, subnet)
        convolutions = [module for module in network.modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
        norms = iter([module for module in network.modules() if isinstance(module, nn.BatchNorm2d)])
        for layer, convolution in zip(self.space.layers(subnet), convolutions, strict=True):
            _fill(convolution, layer.name, own)
            if layer.norm:
                _fill(next(norms), layer.norm, own)
        return network.eval()

    @torch.no_grad()
    def sort_channels(
        self,
        trained_expansions: tuple[int, ...] | None = None,
        statistics: Mapping[OFASubnet, Mapping[str, Tensor]] | None = None,
        importance: Mapping[int, Tensor] | None = None,
    ) -> dict[OFASubnet, dict[str, Tensor]]:
        """Reorder the channels inside every elastic block, the most important ones first.

        A smaller expansion then keeps the channels that matter.  What was trained already is not disturbed: each
        channel stays in the smallest trained expansion it belongs to, so those subnetworks compute what they did.
        The hidden units of squeeze-excite keep their order, because narrower blocks use a prefix of them.

        Args:
            trained_expansions: that must keep their outputs; the largest alone by default.
            statistics: of calibrated subnetworks of trained expansions, to be reordered as well.
            importance: [mid] of each channel by block number; by default the L1 norm of the weights by which the
                block's last convolution reads it.

        Returns:
            The reordered `statistics`.

        Raises:
            ValueError: an expansion is not in the space, the largest is not among the trained ones, or `statistics`
                has a subnetwork of another expansion.
        """
        trained = (self.space.expansions[-1],) if trained_expansions is None else tuple(trained_expansions)
        if not set(trained) <= set(self.space.expansions) or self.space.expansions[-1] not in trained:
            raise ValueError(
                f"trained_expansions is {trained}: expected {self.space.expansions[-1]} and none but "
                f"{', '.join(map(str, self.space.expansions))}"
            )
        for subnet in statistics or {}:
            untrained = {expansion for stage in subnet.expansions for expansion in stage} - set(trained)
            if untrained:
                raise ValueError(
                    f"statistics has a subnetwork of expansion {min(untrained)}: expected one of the "
                    f"trained {', '.join(map(str, trained))}, others change and are calibrated anew"
                )
        tensors = self.tensors()
        reordered = {subnet: dict(values) for subnet, values in (statistics or {}).items()}
        for block in self.space.blocks(self.space.largest())[1:]:
            point_linear = tensors[f"{block.convolution('point_linear')}.weight"]
            scores = point_linear.abs().sum((0, 2, 3)) if importance is None else importance[block.number]
            tiers = sorted(self.space.mid_channels(block.input_channels, expansion) for expansion in trained)
            order = _descending_within(scores, tiers)
            for name, axis in _channel_axes(block):
                tensors[name].copy_(tensors[name].index_select(axis, order))
            for values in reordered.values():
                for norm in (block.norm("inverted_bottleneck"), block.norm("depth_conv")):
                    for name in (f"{norm}.running_mean", f"{norm}.running_var"):
                        if name in values:
                            values[name] = values[name][order[: len(values[name])]]
        self.forget_slices()
        return reordered


def _gate(x: Tensor, block: Block, tensors: Mapping[str, Tensor]) -> Tensor:
    """Squeeze-excite: a factor per channel [N, mid, 1, 1], from the channels' means."""
    reduce, expand = block.squeeze_excite("reduce"), block.squeeze_excite("expand")
    mean = F.adaptive_avg_pool2d(x, 1)  # [N, mid, 1, 1]
    hidden = _relu(F.conv2d(mean, tensors[f"{reduce}.weight"], tensors[f"{reduce}.bias"]))  # [N, squeeze, 1, 1]
    return F.hardsigmoid(F.conv2d(hidden, tensors[f"{expand}.weight"], tensors[f"{expand}.bias"]))


def _relu(x: Tensor) -> Tensor:
    return F.relu(x, inplace=not x.requires_grad)


def _hard_swish(x: Tensor) -> Tensor:
    # Its gradient needs the input, which autograd would copy before overwriting it.
    return F.hardswish(x, inplace=not x.requires_grad)


def _static_network(space: OFAMobileNetV3Space, subnet: OFASubnet) -> nn.Module:
    """The subnetwork of torchvision's blocks."""
    norm = partial(nn.BatchNorm2d, eps=space.batch_norm_epsilon)
    blocks = space.blocks(subnet)
    head, mixed = space.head_widths
    return nn.Sequential(
        OrderedDict(
            first_conv=Conv2dNormActivation(
                INPUT_CHANNELS,
                blocks[0].input_channels,
                STEM_KERNEL,
                space.strides[0],
                norm_layer=norm,
                activation_layer=nn.Hardswish,
            ),
            blocks=nn.Sequential(
                *(
                    InvertedResidual(
                        InvertedResidualConfig(
                            block.input_channels,
                            block.kernel,
                            block.mid_channels,
                            block.output_channels,
                            use_se=block.squeeze_channels > 0,
                            activation="HS" if block.hard_swish else "RE",
                            stride=block.stride,
                            dilation=1,
                            width_mult=1,
                        ),
                        norm,
                    )
                    for block in blocks
                )
            ),
            final_expand_layer=Conv2dNormActivation(
                blocks[-1].output_channels, head, 1, norm_layer=norm, activation_layer=nn.Hardswish
            ),
            pool=nn.AdaptiveAvgPool2d(1),
            feature_mix_layer=nn.Conv2d(head, mixed, 1, bias=False),
            activation=nn.Hardswish(inplace=True),
            flatten=nn.Flatten(),
            classifier=nn.Linear(mixed, space.classes),
        )
    )


def _fill(module: nn.Module, name: str, tensors: Mapping[str, Tensor]) -> None:
    """Make the tensors `name.*` the module's own."""
    own = {part: tensors.get(f"{name}.{part}") for part in module.state_dict()}
    if isinstance(module, nn.BatchNorm2d):
        own["num_batches_tracked"] = torch.zeros((), dtype=torch.long)  # counts training batches; there were none
    module.load_state_dict(own, assign=True)


def _descending_within(scores: Tensor, tiers: list[int]) -> Tensor:
    """Channel numbers by falling score, sorted inside each tier: up to the first of `tiers`, from there to the next."""
    order = []
    for start, stop in zip([0, *tiers], tiers):
        order.append(start + torch.argsort(scores[start:stop], descending=True, stable=True))
    return torch.cat(order)


def _channel_axes(block: Block) -> list[tuple[str, int]]:
    """Every tensor that has the block's expanded channels, with the axis they are on."""
    axes = [(f"{block.convolution(layer)}.weight", 0) for layer in ("inverted_bottleneck", "depth_conv")]
    axes += [
        (f"{block.norm(layer)}.{part}", 0)
        for layer in ("inverted_bottleneck", "depth_conv")
        for part in ("weight", "bias")
    ]
    axes.append((f"{block.convolution('point_linear')}.weight", 1))
    if block.squeeze_channels:
        axes += [
            (f"{block.squeeze_excite('reduce')}.weight", 1),
            (f"{block.squeeze_excite('expand')}.weight", 0),
            (f"{block.squeeze_excite('expand')}.bias", 0),
        ]
    return axes
