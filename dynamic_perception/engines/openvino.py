"""OpenVINO: one compiled model per point.  An optional extra: `pip install dynamic_perception[openvino]`."""

from __future__ import annotations

import numpy as np
import openvino
from openvino import opset13 as opset

from dynamic_perception.engines.affinity import Affinity
from dynamic_perception.engines.engine import MEMORY_BUDGET, Engine, EngineError, Ready, ready_graph
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.networks.graph_files import read_graph

FLOAT32 = "f32"  # by default it would compute in bfloat16 where the processor can, and answer otherwise than others do


class OpenVinoEngine(Engine):
    """Runs the graphs of a bundle on CPUs in float32."""

    name = "openvino"
    version = openvino.__version__.partition("-")[0]

    def __init__(self, bundle: ModelBundle, memory_budget: int = MEMORY_BUDGET):
        super().__init__(bundle, memory_budget)
        self._core = openvino.Core()
        _start_threads(self._core)
        self._affinity = Affinity()

    def build(self, subnetwork: str, element: ComputeElement) -> Ready:
        settings = {
            "INFERENCE_NUM_THREADS": element.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_PRECISION_HINT": FLOAT32,
        }
        graph = read_graph(self.bundle, subnetwork)
        with self._affinity.on(element):  # inside every inference, OpenVINO keeps its threads there
            try:
                model = self._core.compile_model(self._core.read_model(graph), "CPU", settings)
                request = model.create_infer_request()
                request.infer([np.zeros((*self.bundle.input_size(subnetwork), 3), np.uint8)])  # starts its threads
            except RuntimeError as error:
                raise EngineError(f"OpenVINO cannot open '{subnetwork}': {error}") from error

        def infer(image: np.ndarray, *names: str) -> list[np.ndarray]:
            request.infer([image], share_inputs=True)
            return [request.get_tensor(name).data.copy() for name in names]  # the next frame overwrites them

        return ready_graph(self.bundle.task, infer)

    def enter(self, element: ComputeElement) -> None:
        self._affinity.enter(element)

    def close(self) -> None:
        super().close()
        self._affinity.leave()


def _start_threads(core: openvino.Core) -> None:
    """Use the library once while this thread may run on every CPU.

    Its pool never gets more threads than there were CPUs at the first use, so that after a first element of one CPU all
    others would run on one thread too.
    """
    image = opset.parameter([1, 8], np.float32)
    model = openvino.Model([opset.relu(image)], [image])
    core.compile_model(model, "CPU").create_infer_request().infer([np.zeros((1, 8), np.float32)])
