"""The group CNN's subnetworks as ONNX graphs that share one weight file.

Every tensor of a subnetwork is a contiguous prefix of the full tensor, and ONNX lets an initialiser be a byte range
of another file.  So a graph holds no weights: its initialisers start where the full tensor starts in
`weights.safetensors` and end earlier.  Normalisation and layout change are inside: the input is the camera's image.
"""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnx import TensorProto, helper

from dynamic_perception.networks.graph_builder import IR_VERSION, OPSET
from dynamic_perception.networks.group_cnn_space import GroupCNNSpace

if TYPE_CHECKING:
    from dynamic_perception.networks.bundle import ModelBundle


def write_graphs(folder: Path, bundle: "ModelBundle", weights: Path) -> None:
    """Write one graph per subnetwork of `bundle` into `folder`, which holds the weight file."""
    offsets = tensor_offsets(weights)
    for subnetwork in bundle.subnetworks:
        model = make_graph(bundle.space, subnetwork.config.groups, bundle.mean, bundle.standard_deviation,
                           weights.name, offsets)
        onnx.save(model, folder / subnetwork.graph)
        onnx.checker.check_model(folder / subnetwork.graph)


def tensor_offsets(weights: Path) -> dict[str, int]:
    """Byte offset of every tensor in a safetensors file (an 8-byte header length, a JSON header, then the data)."""
    with weights.open("rb") as file:
        length = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(length))
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in header.items() if name != "__metadata__"}


def make_graph(space: GroupCNNSpace, groups: int, mean: tuple[float, ...],
               standard_deviation: tuple[float, ...], weights_file: str, offsets: dict[str, int]) -> onnx.ModelProto:
    """Graph of the first `groups` groups: `image` uint8 [H, W, 3] in RGB -> `logits` float32 [1, classes]."""
    size = space.resolution
    initialisers = [_prefix(name, shape, weights_file, offsets[name])
                    for name, shape in space.prefix_shapes(groups).items()]
    initialisers += [
        helper.make_tensor("mean", TensorProto.FLOAT, [3], [255 * value for value in mean]),
        helper.make_tensor("deviation", TensorProto.FLOAT, [3], [255 * value for value in standard_deviation]),
        helper.make_tensor("first_axis", TensorProto.INT64, [1], [0]),
    ]
    nodes = [
        helper.make_node("Cast", ["image"], ["image_float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["image_float", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["normalised"]),
        helper.make_node("Transpose", ["normalised"], ["planes"], perm=[2, 0, 1]),
        helper.make_node("Unsqueeze", ["planes", "first_axis"], ["x0"]),
    ]
    value = "x0"
    for layer in range(1, space.layers + 1):
        pad = space.kernel_size // 2
        nodes.append(helper.make_node("Conv", [value, f"conv{layer}.weight"], [f"conv{layer}"],
                                      kernel_shape=[space.kernel_size] * 2, pads=[pad] * 4,
                                      group=1 if layer == 1 else groups))
        parts = [f"bn{layer}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        nodes.append(helper.make_node("BatchNormalization", [f"conv{layer}", *parts], [f"bn{layer}"],
                                      epsilon=space.batch_norm_epsilon))
        nodes.append(helper.make_node("Relu", [f"bn{layer}"], [f"x{layer}"]))
        value = f"x{layer}"
        if space.pool_after[layer - 1]:
            nodes.append(helper.make_node("MaxPool", [value], [f"pool{layer}"], kernel_shape=[2, 2], strides=[2, 2]))
            value = f"pool{layer}"
    nodes += [
        helper.make_node("GlobalAveragePool", [value], ["pixels_mean"]),
        helper.make_node("Flatten", ["pixels_mean"], ["features"]),
        helper.make_node("MatMul", ["features", "classifier.weight"], ["products"]),
        helper.make_node("ReduceSum", ["classifier.bias", "first_axis"], ["bias"], keepdims=0),
        helper.make_node("Add", ["products", "bias"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes, f"group_cnn_{groups}_of_{space.groups}",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [size, size, 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, space.classes])], initialisers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION,
                             producer_name="dynamic_perception")


def _prefix(name: str, shape: tuple[int, ...], weights_file: str, offset: int) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in (("location", weights_file), ("offset", offset), ("length", 4 * math.prod(shape))):
        tensor.external_data.add(key=key, value=str(value))
    return tensor
