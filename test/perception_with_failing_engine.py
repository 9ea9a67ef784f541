"""The perception node on the real engine; the subnetwork that $FAILING names fails while the file $WHILE exists."""

import os
from functools import partial

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.nodes import perception
from dynamic_perception.nodes.failed_points import FailedPoints


class FailingEngine(OnnxRuntimeEngine):
    def run(self, image):
        if self._active[0] == os.environ["FAILING"] and os.path.exists(os.environ["WHILE"]):
            raise RuntimeError("out of memory")
        return super().run(image)


perception.open_engine = lambda name, bundle, memory_budget: FailingEngine(bundle, memory_budget)
perception.FailedPoints = partial(FailedPoints, 0.5)
perception.main()
