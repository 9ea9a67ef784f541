"""Writing the ONNX graph of one subnetwork, operator by operator, with its weights inside.

Batch normalisation is folded into the convolution before it.  Normalisation and layout change of the image are in the
graph: its input is the camera's image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    from dynamic_perception.networks.bundle import ModelBundle, Subnetwork

OPSET = 17
IR_VERSION = 8  # the oldest that has what the graphs use, so that older runtimes on robots read them


class GraphBuilder:
    """A graph that grows by one operator with every call.  Methods take and return names of values.

    Args:
        bundle: whose weights to use.
        subnetwork: that the graph executes.
    """

    def __init__(self, bundle: ModelBundle, subnetwork: Subnetwork):
        self._name = f"{bundle.name} {subnetwork.name}"
        self._mean, self._deviation = bundle.mean, bundle.standard_deviation
        self._size = subnetwork.input_size
        self._epsilon = bundle.space.batch_norm_epsilon
        self._tensors = bundle.space.subnet_tensors(subnetwork.config, bundle.tensors())
        self._statistics = bundle.statistics(subnetwork.name)
        self._nodes: list[onnx.NodeProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: list[onnx.TensorProto] = []

    def image(self) -> str:
        """The graph's input, uint8 [H, W, 3] in RGB, normalised: float32 [1, 3, H, W]."""
        planes = self._add("Transpose", "image", perm=[2, 0, 1])  # as bytes, a quarter of what it is afterwards
        planes = self._add("Cast", planes, to=TensorProto.FLOAT)
        mean, deviation = (
            self._constant(np.reshape(255 * np.array(value), (1, 3, 1, 1)).astype(np.float32))
            for value in (self._mean, self._deviation)
        )
        # The constants are [1, 3, 1, 1], so this also makes a batch of one.
        return self._add("Div", self._add("Sub", planes, mean), deviation)

    def convolution(
        self, x: str, name: str, norm: str | None = None, stride: int = 1, dilation: int = 1, groups: int = 1
    ) -> str:
        """Convolution `name` with half its kernel as padding, and the batch normalisation `norm`, if there is one."""
        weight = self._tensors[f"{name}.weight"].astype(np.float64)  # [out, in, k, k]
        bias = self._tensors.get(f"{name}.bias")
        if norm is not None:
            scale = self._tensors[f"{norm}.weight"] / np.sqrt(
                self._statistics[f"{norm}.running_var"].astype(np.float64) + self._epsilon
            )
            weight = weight * scale[:, None, None, None]
            bias = self._tensors[f"{norm}.bias"] - scale * self._statistics[f"{norm}.running_mean"]
        inputs = [self._constant(value.astype(np.float32)) for value in (weight, bias) if value is not None]
        size = weight.shape[2]
        return self._add(
            "Conv",
            x,
            *inputs,
            kernel_shape=[size, size],
            strides=[stride] * 2,
            dilations=[dilation] * 2,
            pads=[dilation * (size // 2)] * 4,
            group=groups,
        )

    def linear(self, x: str, name: str) -> str:
        """Linear layer `name`: [N, in] to [N, out]."""
        weight, bias = (self._constant(self._tensors[f"{name}.{part}"]) for part in ("weight", "bias"))
        return self._add("Gemm", x, weight, bias, transB=1)

    def summed_linear(self, x: str, name: str) -> str:
        """The sum of the linear layers of all groups: weight [in, out], one bias per group [groups, out]."""
        weight = self._constant(np.ascontiguousarray(self._tensors[f"{name}.weight"].T))
        bias = self._constant(self._tensors[f"{name}.bias"].sum(axis=0))
        return self._add("Gemm", x, weight, bias, transB=1)

    def halve(self, x: str) -> str:
        """The greatest of each 2x2 pixels."""
        return self._add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])

    def relu(self, x: str) -> str:
        """max(0, x)."""
        return self._add("Relu", x)

    def hard_sigmoid(self, x: str) -> str:
        """min(max(0, x / 6 + 1 / 2), 1)."""
        return self._add("HardSigmoid", x, alpha=1 / 6, beta=0.5)

    def hard_swish(self, x: str) -> str:
        """x times its hard sigmoid."""
        return self.multiply(x, self.hard_sigmoid(x))

    def add(self, x: str, y: str) -> str:
        """x + y, [N, C, H, W] each, or [N, C, 1, 1]."""
        return self._add("Add", x, y)

    def multiply(self, x: str, y: str) -> str:
        """x times y, [N, C, H, W] each, or [N, C, 1, 1]."""
        return self._add("Mul", x, y)

    def mean(self, x: str) -> str:
        """Mean over the pixels: [N, C, 1, 1]."""
        return self._add("GlobalAveragePool", x)

    def flatten(self, x: str) -> str:
        """[N, C, 1, 1] to [N, C]."""
        return self._add("Flatten", x)

    def enlarge(self, x: str, channels: int, size: tuple[int, int]) -> str:
        """Bilinear interpolation of [1, channels, ...] to height and width `size`; pixels are areas, not corners."""
        sizes = self._constant(np.array([1, channels, *size], np.int64))
        return self._add("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")

    def labels(self, logits: str, shape: tuple[int, int, int]) -> onnx.ModelProto:
        """The finished model of a segmenter: the best class of every pixel after interpolation.

        Its `logits` are [1, *shape], with shape (classes, h, w).  Outputs `labels`, uint8 [H, W] of the input's size,
        and these logits, float32.
        """
        # With the classes last, each pixel's values lie together: on two threads 2.6 times as fast as with them first.
        x = self._add("Transpose", logits, perm=[0, 2, 3, 1])
        sizes = self._constant(np.array([1, *self._size, shape[0]], np.int64))
        x = self._add("Resize", x, "", "", sizes, mode="linear", coordinate_transformation_mode="half_pixel")
        best = self._add("Cast", self._add("ArgMax", x, axis=3, keepdims=0), to=TensorProto.UINT8)
        self._output("labels", self._reshape(best, list(self._size)), TensorProto.UINT8, list(self._size))
        self._output("logits", logits, TensorProto.FLOAT, [1, *shape])
        return self._model()

    def ranking(self, logits: str, classes: int) -> onnx.ModelProto:
        """The finished model of a classifier of [1, classes] logits.

        Outputs `classes`, int64 [classes], the class numbers by falling score; `scores`, float32 [classes], their
        softmax; and `logits`, float32 [classes], by class number.
        """
        flat = self._reshape(logits, [classes])
        count = self._constant(np.array([classes], np.int64))
        names = ["ranked", "classes"]
        self._nodes.append(helper.make_node("TopK", [self._add("Softmax", flat, axis=0), count], names, axis=0))
        self._output("logits", flat, TensorProto.FLOAT, [classes])
        self._output("scores", names[0], TensorProto.FLOAT, [classes])
        self._outputs.append(helper.make_tensor_value_info("classes", TensorProto.INT64, [classes]))
        return self._model()

    def _reshape(self, x: str, shape: list[int]) -> str:
        return self._add("Reshape", x, self._constant(np.array(shape, np.int64)))

    def _output(self, name: str, value: str, element_type: int, shape: list[int]) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, element_type, shape))

    def _model(self) -> onnx.ModelProto:
        image = helper.make_tensor_value_info("image", TensorProto.UINT8, [*self._size, 3])
        graph = helper.make_graph(self._nodes, self._name, [image], self._outputs, self._constants)
        return helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="dynamic_perception",
        )

    def _add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator.lower()}{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def _constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name
