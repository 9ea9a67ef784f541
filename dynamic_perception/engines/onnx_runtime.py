"""ONNX Runtime on CPUs: one session per subnetwork and thread count, so that a switch is one assignment."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Collection, Iterator, Sequence

import numpy as np
import onnxruntime

from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.networks.families import graph_of


class OnnxRuntimeEngine:
    """Runs the graphs of a bundle.  `activate` and `run` belong to one thread, whose affinity they set.

    Args:
        bundle: whose graphs to run.
    """

    name = "onnxruntime"
    version = onnxruntime.__version__

    def __init__(self, bundle: ModelBundle):
        self._bundle = bundle
        self._classifies = bundle.task == "classification"  # one image at a time, but its logits are [1, classes]
        self._sessions: dict[tuple[str, str], onnxruntime.InferenceSession] = {}
        self._active: onnxruntime.InferenceSession | None = None
        self._allowed_cpus = frozenset(os.sched_getaffinity(0))

    def prepare(self, subnetworks: Sequence[str], elements: Sequence[ComputeElement], warm_up_runs: int) -> None:
        for name in subnetworks:
            graph = graph_of(self._bundle, name)
            image = np.zeros((*self._bundle.input_size(name), 3), np.uint8)
            for element in elements:
                with self._on(element):
                    session = self._open(graph, element)
                    for _ in range(warm_up_runs):
                        session.run(None, {"image": image})
                    self._sessions[name, element.name] = session

    def activate(self, subnetwork: str, element: ComputeElement) -> None:
        session = self._sessions.get((subnetwork, element.name))
        if session is None:
            raise ValueError(f"subnetwork '{subnetwork}' on '{element.name}' was not prepared")
        _pin(self._cpus_of(element))
        self._active = session

    def run(self, image: np.ndarray) -> np.ndarray:
        answer = self._active.run(None, {"image": image})[0]
        return answer[0] if self._classifies else answer

    def close(self) -> None:
        self._active = None
        self._sessions.clear()
        _pin(self._allowed_cpus)

    def _open(self, graph: str | bytes, element: ComputeElement) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = element.threads
        options.inter_op_num_threads = 1
        # Threads that spin between frames would take the cores from the robot's other nodes and heat the board.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    @contextmanager
    def _on(self, element: ComputeElement) -> Iterator[None]:
        """Threads inherit the affinity of the thread that creates them: so a session's pool lands on its cluster."""
        before = os.sched_getaffinity(0)
        _pin(self._cpus_of(element))
        try:
            yield
        finally:
            _pin(before)

    def _cpus_of(self, element: ComputeElement) -> frozenset[int]:
        return self._allowed_cpus & frozenset(element.cpus) or self._allowed_cpus


def _pin(cpus: Collection[int]) -> None:
    """Let the calling thread run on these CPUs only; the kernel is asked, since every thread has its own."""
    if os.sched_getaffinity(0) != cpus:
        os.sched_setaffinity(0, cpus)
