"""Int8 graphs from float32 ones: static quantisation after training, with ONNX Runtime's quantiser.

Weights are symmetric int8 per output channel, activations uint8 per tensor, over the range that they had on calibration
images (Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference",
CVPR 2018).  The graph says so with QuantizeLinear and DequantizeLinear around every operator, which ONNX Runtime and
OpenVINO replace by integer operators.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

Ranges = Mapping[str, tuple[float, float]]  # least and greatest value by the name of a value of the float32 graph

OPERATORS = ["Conv", "Gemm", "Add", "Relu", "MaxPool", "GlobalAveragePool", "Concat"]


def measure_ranges(graph: bytes, images: Iterable[np.ndarray]) -> dict[str, tuple[float, float]]:
    """The range of every value that `quantise` needs, on images uint8 [H, W, 3] of the graph's input size."""
    from onnxruntime.quantization.calibrate import CalibrationDataReader, CalibrationMethod, create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._images: Iterator[np.ndarray] = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self._images, None)
            return None if image is None else {"image": image}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.onnx"
        path.write_bytes(graph)
        calibrator = create_calibrator(path, OPERATORS, str(Path(folder) / "augmented.onnx"), CalibrationMethod.MinMax)
        calibrator.collect_data(Reader())
        found = calibrator.compute_data()
    return {name: (found[name].lowest.item(), found[name].highest.item()) for name in found.keys()}


def quantise(graph: bytes, ranges: Ranges) -> bytes:
    """The graph in int8, with activations that are exact within `ranges`."""
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    model = onnx.shape_inference.infer_shapes(onnx.load_model_from_string(graph))
    data = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in ranges.items()}
    quantiser = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=True,  # 7 bits: without VNNI instructions, x86 adds products of 8 bits in 16, which overflow
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=[],
        op_types_to_quantize=OPERATORS,
        extra_options={},
    )
    quantiser.quantize_model()
    quantised = quantiser.model.model
    return quantised.SerializeToString()
