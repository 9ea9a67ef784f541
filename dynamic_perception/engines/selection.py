"""Which engines there are, which of them are installed, and which is the fastest here."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec

import numpy as np

from dynamic_perception import extensions
from dynamic_perception.engines.engine import MEMORY_BUDGET, Engine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import ModelBundle, Subnetwork

AUTO, DEFAULT = "auto", "onnxruntime"
# Module, class, the package that it needs, and what pip calls that.
ENGINES = {
    "onnxruntime": ("onnx_runtime", "OnnxRuntimeEngine", "onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "OpenVinoEngine", "openvino", "dynamic_perception[openvino]"),
    "pytorch": ("pytorch", "PyTorchEngine", "torch", "torch"),
}
TURNS, RUNS_PER_TURN = 15, 4  # inferences that an engine is judged by, in turns with the others


def installed_engines() -> list[str]:
    """Names of this package's engines whose own packages are there."""
    return [name for name, (_, _, package, _) in ENGINES.items() if find_spec(package) is not None]


def installed_version(name: str) -> str:
    """Of an engine that is installed; ValueError as `open_engine`."""
    return _engine_class(name).version


def open_engine(name: str, bundle: ModelBundle, memory_budget: int = MEMORY_BUDGET) -> Engine:
    """The engine of that name.

    Raises:
        ValueError: there is none of that name, or its package is not installed; says how to install it.
    """
    return _engine_class(name)(bundle, memory_budget)


def _engine_class(name: str) -> type[Engine]:
    if name not in ENGINES:
        added = extensions.find_extension(extensions.ENGINES, name)
        if added is None:
            known = extensions.with_extensions(extensions.ENGINES, (AUTO, *ENGINES))
            raise ValueError(f"engine is '{name}': expected one of {', '.join(known)}")
        return added
    module, kind, package, requirement = ENGINES[name]
    if find_spec(package) is None:
        raise ValueError(f"engine '{name}' is not installed: pip install '{requirement}'")
    return getattr(import_module(f"dynamic_perception.engines.{module}"), kind)


def subnetworks_for(name: str, bundle: ModelBundle) -> tuple[Subnetwork, ...]:
    """The bundle's subnetworks that the engine of that name can run; "auto" takes one that runs them all."""
    if name == AUTO:
        return bundle.subnetworks
    return tuple(s for s in bundle.subnetworks if s.precision in _engine_class(name).precisions)


def runs_on_gpus() -> bool:
    """Whether an installed engine can run on a GPU of CUDA; PyTorch is only asked where another part imported it."""
    with suppress(ImportError):
        import onnxruntime

        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            return True
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda.is_available()


def candidates() -> list[str]:
    """Names of the installed engines that are worth comparing on CPUs: there PyTorch is slower, and slow to start."""
    return [name for name in installed_engines() if name != "pytorch"]


def compare_engines(bundle: ModelBundle, element: ComputeElement, names: Sequence[str]) -> dict[str, float]:
    """Time [s] that each engine takes for one inference of every subnetwork on `element`, the fastest first."""
    random = np.random.default_rng(1)
    images = {s.name: random.integers(0, 256, (*s.input_size, 3), np.uint8) for s in bundle.subnetworks}
    engines = {name: open_engine(name, bundle) for name in names}
    durations: dict[str, dict[str, list[float]]] = {name: {image: [] for image in images} for name in engines}
    try:
        for engine in engines.values():
            engine.prepare(list(images), [element], warm_up_runs=3)
        for _ in range(TURNS):
            for name, engine in engines.items():
                for subnetwork, image in images.items():
                    engine.activate(subnetwork, element)
                    for _ in range(RUNS_PER_TURN):
                        started = time.perf_counter()
                        engine.run(image)
                        durations[name][subnetwork].append(time.perf_counter() - started)
    finally:
        for engine in engines.values():
            engine.close()
    totals = {name: float(sum(map(np.median, of_one.values()))) for name, of_one in durations.items()}
    return dict(sorted(totals.items(), key=lambda item: item[1]))
