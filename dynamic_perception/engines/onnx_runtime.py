"""ONNX Runtime: one session per point, so that a switch is one assignment."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import onnxruntime

from dynamic_perception.engines.affinity import Affinity
from dynamic_perception.engines.engine import MEMORY_BUDGET, Engine, EngineError, Ready, on_gpu, ready_graph
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.installation import cache_folder
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.networks.graph_files import read_graph

SPIN = ("session.intra_op.spin_duration_us", "200")
SPIN_SINCE = (1, 26)
NO_SPIN_AFTER_A_RUN = ("session.force_spinning_stop", "1")
VERSION = tuple(int(number) for number in onnxruntime.__version__.split(".")[:2])


class OnnxRuntimeEngine(Engine):
    """Runs the graphs of a bundle on CPUs, and on GPUs through TensorRT or CUDA where the installed runtime has them.

    Args:
        bundle, memory_budget: as of every engine.
        graph_of: where graphs come from.
    """

    name = "onnxruntime"
    version = onnxruntime.__version__

    def __init__(
        self,
        bundle: ModelBundle,
        memory_budget: int = MEMORY_BUDGET,
        graph_of: Callable[[ModelBundle, str], bytes] = read_graph,
    ):
        super().__init__(bundle, memory_budget)
        self._graph_of = graph_of
        self._affinity = Affinity()

    def build(self, subnetwork: str, element: ComputeElement) -> Ready:
        _share_memory()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = element.threads
        options.inter_op_num_threads = 1
        # Threads spin for as long as most operators of one thread take: waking them takes longer than many operators.
        # More would take the cores from the robot's other nodes between frames, and heat the board.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry(*(SPIN if VERSION >= SPIN_SINCE else NO_SPIN_AFTER_A_RUN))
        workers = self._affinity.shares(element)[1:]
        if workers:  # ONNX Runtime counts CPUs from 1
            options.add_session_config_entry(
                "session.intra_op_thread_affinities",
                ";".join(",".join(str(cpu + 1) for cpu in sorted(cpus)) for cpus in workers),
            )
        # One at a time runs, so all sessions work in the memory that the largest needs.
        if not on_gpu(element):
            options.add_session_config_entry("session.use_env_allocators", "1")
        graph = self._graph_of(self.bundle, subnetwork)
        with self._affinity.on(element):
            try:
                session = onnxruntime.InferenceSession(graph, options, providers=_providers(element))
            except Exception as error:  # the runtime has no common base for its exceptions
                raise EngineError(f"ONNX Runtime cannot open '{subnetwork}': {error}") from error

        return ready_graph(self.bundle.task, lambda image, *names: session.run(names, {"image": image}))

    def enter(self, element: ComputeElement) -> None:
        self._affinity.enter(element)

    def close(self) -> None:
        super().close()
        self._affinity.leave()


def _providers(element: ComputeElement) -> list[str | tuple[str, dict[str, str]]]:
    """What runs the operators, the best first; EngineError for a GPU that this runtime cannot use."""
    if not on_gpu(element):
        return ["CPUExecutionProvider"]
    built = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(cache_folder() / "tensorrt")}
    found = [
        provider
        for provider in (("TensorrtExecutionProvider", built), ("CUDAExecutionProvider", {}))
        if provider[0] in onnxruntime.get_available_providers()
    ]
    if not found:
        raise EngineError(
            f"ONNX Runtime {onnxruntime.__version__} has no provider for '{element.name}': install "
            "onnxruntime-gpu in place of onnxruntime, or take the engine 'pytorch'"
        )
    return [*found, "CPUExecutionProvider"]  # for operators that a GPU provider does not have


@cache
def _share_memory() -> None:
    """Give the sessions of this process one arena for what they compute."""
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo(
            "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
        ),
        None,
    )
