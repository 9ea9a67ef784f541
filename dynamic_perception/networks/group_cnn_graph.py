"""ONNX graph of one subnetwork of the group CNN."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx

from dynamic_perception.networks.graph_builder import GraphBuilder

if TYPE_CHECKING:
    from dynamic_perception.networks.bundle import ModelBundle, Subnetwork


def make_graph(bundle: ModelBundle, subnetwork: Subnetwork) -> onnx.ModelProto:
    """`image` uint8 [H, W, 3] in RGB -> `classes`, `scores` and `logits`, each [classes]."""
    graph, space = GraphBuilder(bundle, subnetwork), bundle.space
    x = graph.image()
    for layer in range(1, space.layers + 1):
        # Every group reads the whole image, and from then on only itself.
        groups = 1 if layer == 1 else subnetwork.config.groups
        x = graph.relu(graph.convolution(x, f"conv{layer}", f"bn{layer}", groups=groups))
        if space.pool_after[layer - 1]:
            x = graph.halve(x)
    logits = graph.summed_linear(graph.flatten(graph.mean(x)), "classifier")
    return graph.ranking(logits, space.classes)
