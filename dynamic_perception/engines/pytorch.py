"""PyTorch: every subnetwork as a static module with folded batch normalisation; on a GPU each in a CUDA graph.

The engine for GPUs without TensorRT, and for CPUs on which nothing else runs.  It is the only one that imports torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from dynamic_perception.engines.affinity import Affinity
from dynamic_perception.engines.engine import MEMORY_BUDGET, Answer, Engine, EngineError, Ranking, Ready, on_gpu
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import FLOAT32, ModelBundle
from dynamic_perception.networks.families import make_supernet

PARALLEL = 2**16  # elements per thread that PyTorch surely divides between threads
GRAPH_WARM_UPS = 3  # runs before a CUDA graph is captured, in which libraries choose their kernels


class PyTorchEngine(Engine):
    """Runs the subnetworks as PyTorch modules, on CPUs, or on the first GPU for elements of a cluster "gpu..."."""

    name = "pytorch"
    version = torch.__version__
    precisions = (FLOAT32,)

    def __init__(self, bundle: ModelBundle, memory_budget: int = MEMORY_BUDGET):
        super().__init__(bundle, memory_budget)
        self._network = make_supernet(bundle.space)
        self._network.load_tensors(_from_numpy(bundle.tensors()))
        self._teams: dict[int, _Team] = {}  # by their number of threads

    def build(self, subnetwork: str, element: ComputeElement) -> Ready:
        if on_gpu(element) and not torch.cuda.is_available():
            raise EngineError(f"PyTorch {torch.__version__} sees no GPU for '{subnetwork}' on '{element.name}'")
        chosen = self.bundle.subnetwork(subnetwork)
        if chosen.precision not in self.precisions:
            raise EngineError(
                f"PyTorch runs '{subnetwork}' in {FLOAT32} only: take another engine for {chosen.precision}"
            )
        static = self._network.extract(chosen.config, _from_numpy(self.bundle.statistics(subnetwork)))
        model = FromImage(self.bundle, fold_batch_norm(static))
        model = model.to("cuda" if on_gpu(element) else "cpu", memory_format=torch.channels_last).eval()
        forward = _captured(model, chosen.input_size) if on_gpu(element) else _eager(model)

        def rank(image: np.ndarray) -> Answer:
            scores, classes = forward(image)[0].softmax(dim=0).sort(descending=True, stable=True)
            return Ranking(classes.cpu().numpy(), scores.cpu().numpy())

        def label(image: np.ndarray) -> Answer:
            full = F.interpolate(forward(image), size=chosen.input_size, mode="bilinear", align_corners=False)
            return full[0].argmax(dim=0).to(torch.uint8).cpu().numpy()

        def logits(image: np.ndarray) -> np.ndarray:
            output = forward(image)
            return (output[0] if self.bundle.task == "classification" else output).cpu().numpy()

        answers = [
            torch.inference_mode()(answer)
            for answer in (rank if self.bundle.task == "classification" else label, logits)
        ]
        return Ready(*answers if on_gpu(element) else map(self._team(element).calling, answers))

    def enter(self, element: ComputeElement) -> None:
        if not on_gpu(element):
            self._team(element).enter(element)

    def close(self) -> None:
        super().close()
        for team in self._teams.values():
            team.close()
        self._teams.clear()

    def _team(self, element: ComputeElement) -> _Team:
        if element.threads not in self._teams:
            self._teams[element.threads] = _Team(element.threads)
        return self._teams[element.threads]


class _Team:
    """A thread and the OpenMP threads that it works with.

    OpenMP has a pool for every thread that uses it.  Changing the size of one ends threads and makes new ones, which
    takes a millisecond, so each number of threads has a pool of its own.
    """

    def __init__(self, threads: int):
        self._leader = ThreadPoolExecutor(1, thread_name_prefix=f"pytorch-{threads}")
        self._affinity = Affinity()
        self._element: ComputeElement | None = None
        self._leader.submit(self._start, threads).result()

    def calling(self, function: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
        """The function as run by the team."""
        return lambda image: self._leader.submit(function, image).result()

    def enter(self, element: ComputeElement) -> None:
        """Move to that element."""
        if element != self._element:
            self._leader.submit(self._affinity.enter, element).result()
            self._element = element

    def close(self) -> None:
        """End the threads."""
        self._leader.shutdown()

    def _start(self, threads: int) -> None:
        torch.set_num_threads(threads)
        with self._affinity.watching():
            torch.ones(threads * PARALLEL).add_(1)


class FromImage(nn.Module):
    """A network with what is before it: from uint8 [H, W, 3] to logits [1, ...]."""

    def __init__(self, bundle: ModelBundle, network: nn.Module):
        super().__init__()
        self.network = network
        for name, values in (("mean", bundle.mean), ("deviation", bundle.standard_deviation)):
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None])

    def forward(self, image: Tensor) -> Tensor:
        planes = image.permute(2, 0, 1)[None].float()  # the image's own layout is channels last
        return self.network((planes - self.mean) / self.deviation)


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """The module in evaluation mode with every batch normalisation that follows a convolution folded into it."""
    for parent in module.modules():
        if isinstance(parent, nn.Sequential):
            for (before, conv), (name, norm) in zip(list(parent.named_children()), list(parent.named_children())[1:]):
                if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    setattr(parent, before, fuse_conv_bn_eval(conv, norm))
                    setattr(parent, name, nn.Identity())
    return module


def _from_numpy(arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _eager(model: FromImage) -> Callable[[np.ndarray], Tensor]:
    return lambda image: model(torch.from_numpy(image))


@torch.inference_mode()
def _captured(model: FromImage, size: Sequence[int]) -> Callable[[np.ndarray], Tensor]:
    """The model in a CUDA graph of its own: one launch per frame in place of one per operator."""
    held = torch.zeros((*size, 3), dtype=torch.uint8, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(GRAPH_WARM_UPS):
            model(held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the GPU meanwhile: points are built while another one runs.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        output = model(held)

    def forward(image: np.ndarray) -> Tensor:
        held.copy_(torch.from_numpy(image), non_blocking=True)
        graph.replay()
        return output

    return forward
