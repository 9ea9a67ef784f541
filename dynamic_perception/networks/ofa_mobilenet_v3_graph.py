"""ONNX graph of one subnetwork of the Once-for-All MobileNetV3."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from dynamic_perception.networks.graph_builder import GraphBuilder
from dynamic_perception.networks.ofa_mobilenet_v3_space import CLASSIFIER, HEAD, MIX, STEM, Block

if TYPE_CHECKING:
    from dynamic_perception.networks.bundle import ModelBundle, Subnetwork


def make_graph(bundle: ModelBundle, subnetwork: Subnetwork) -> onnx.ModelProto:
    """`image` uint8 [H, W, 3] in RGB -> `classes`, `scores` and `logits`, each [classes]."""
    graph, space = GraphBuilder(bundle, subnetwork), bundle.space
    x = graph.convolution(graph.image(), f"{STEM}.conv", f"{STEM}.bn", stride=space.strides[0])
    x = graph.hard_swish(x)
    for block in space.blocks(subnetwork.config):
        x = _block(graph, x, block)
    x = graph.hard_swish(graph.convolution(x, f"{HEAD}.conv", f"{HEAD}.bn"))
    x = graph.hard_swish(graph.convolution(graph.mean(x), MIX))
    logits = graph.linear(graph.flatten(x), CLASSIFIER)
    return graph.ranking(logits, space.classes)


def _block(graph: GraphBuilder, x: str, block: Block) -> str:
    before, activation = x, graph.hard_swish if block.hard_swish else graph.relu
    if block.number:
        x = graph.convolution(x, block.convolution("inverted_bottleneck"), block.norm("inverted_bottleneck"))
        x = activation(x)
    x = graph.convolution(
        x, block.convolution("depth_conv"), block.norm("depth_conv"), block.stride, groups=block.mid_channels
    )
    x = activation(x)
    if block.squeeze_channels:
        hidden = graph.relu(graph.convolution(graph.mean(x), block.squeeze_excite("reduce")))
        x = graph.multiply(x, graph.hard_sigmoid(graph.convolution(hidden, block.squeeze_excite("expand"))))
    x = graph.convolution(x, block.convolution("point_linear"), block.norm("point_linear"))
    return graph.add(x, before) if block.residual else x
