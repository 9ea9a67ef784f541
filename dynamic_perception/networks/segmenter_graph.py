"""ONNX graph of one subnetwork of the segmenter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from dynamic_perception.networks.graph_builder import GraphBuilder
from dynamic_perception.networks.segmenter_space import halved

if TYPE_CHECKING:
    from dynamic_perception.networks.bundle import ModelBundle, Subnetwork


def make_graph(bundle: ModelBundle, subnetwork: Subnetwork) -> onnx.ModelProto:
    """`image` uint8 [H, W, 3] in RGB -> `labels` uint8 [H, W], the best class of every pixel, and `logits`.

    As in training the logits, [1, classes, H/4, W/4], are enlarged before the best one is taken.
    """
    graph, space = GraphBuilder(bundle, subnetwork), bundle.space
    convolutions = {c.name: c for c in space.convolutions(subnetwork.config)}

    def layer(name: str, x: str) -> str:
        c = convolutions[name]
        return graph.convolution(x, f"{name}.conv", f"{name}.bn" if c.normalised else None, c.stride, c.dilation)

    size = tuple(map(halved, subnetwork.input_size))
    x, stages, sizes = graph.relu(layer("stem", graph.image())), [], []
    for stage, dilations in enumerate(space.dilations, start=1):
        x = graph.relu(layer(f"stage{stage}.down", x))
        for block in range(len(dilations)):
            name = f"stage{stage}.block{block}"
            inner = graph.relu(layer(f"{name}.first", x))
            x = graph.relu(graph.add(x, layer(f"{name}.second", inner)))
        size = tuple(map(halved, size))
        stages.append(x)
        sizes.append(size)
    quarter, eighth, sixteenth = stages

    channels = convolutions["decoder.top"].outputs
    x = graph.add(sixteenth, layer("context", graph.mean(sixteenth)))
    x = graph.enlarge(layer("decoder.top", x), channels, sizes[1])
    x = graph.relu(graph.add(x, layer("decoder.lateral8", eighth)))
    x = graph.relu(layer("decoder.fuse8", x))
    x = graph.enlarge(x, channels, sizes[0])
    x = graph.relu(graph.add(x, layer("decoder.lateral4", quarter)))
    logits = layer("classifier", graph.relu(layer("decoder.fuse4", x)))
    return graph.labels(logits, (space.classes, *sizes[0]))
