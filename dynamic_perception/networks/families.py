"""Which families of dynamic networks there are, and where the parts of each lie.

The spaces are light.  The network needs torch and the graph needs onnx, so those modules are imported when they are
asked for: a robot that runs a bundle never imports torch.
"""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING

from dynamic_perception import extensions
from dynamic_perception.networks.group_cnn_space import GroupCNNSpace
from dynamic_perception.networks.ofa_mobilenet_v3_space import OFAMobileNetV3Space
from dynamic_perception.networks.search_space import SearchSpace
from dynamic_perception.networks.segmenter_space import SegmenterSpace

if TYPE_CHECKING:
    from dynamic_perception.networks.bundle import ModelBundle
    from dynamic_perception.networks.supernet import Supernet

SPACES: dict[str, type[SearchSpace]] = {
    space.family: space for space in (GroupCNNSpace, OFAMobileNetV3Space, SegmenterSpace)
}


def find_space(family: str) -> type[SearchSpace]:
    """The space of a family, of this package or of another; ValueError for a name that there is not."""
    space = SPACES.get(family) or extensions.find_extension(extensions.FAMILIES, family)
    if space is None:
        known = extensions.with_extensions(extensions.FAMILIES, SPACES)
        raise ValueError(f"family is {family!r}: expected one of {', '.join(known)}")
    return space


def make_supernet(space: SearchSpace) -> Supernet:
    """The supernet of `space`, whose weights are still to be loaded or drawn."""
    return resolve_name(space.supernet)(space)


def make_graph(bundle: ModelBundle, subnetwork: str) -> bytes:
    """The ONNX graph of a subnetwork, made now from the weights.

    It takes `image`, uint8 [H, W, 3] in RGB of the subnetwork's input size.  Its outputs are, of a classifier,
    `classes`, int64 [classes] by falling score, `scores`, their softmax, and `logits`, float32 [classes] by class
    number; of a segmenter `labels`, uint8 [H, W], and `logits`, float32 [1, classes, h, w].
    """
    chosen = bundle.full_precision(subnetwork)
    graph = resolve_name(bundle.space.graph)(bundle, chosen).SerializeToString()
    if chosen.name == subnetwork:
        return graph
    from dynamic_perception.networks.quantisation import quantise

    return quantise(graph, bundle.ranges(subnetwork))
