"""PyTorch: every subnetwork as a static module with folded batch normalisation; on a GPU each in a CUDA graph.

The engine for GPUs without TensorRT, and for CPUs on which nothing else runs.  It is the only one that imports torch.
"""

from __future__ import annotations

from typing import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_eval

from dynamic_perception.engines.affinity import Affinity
from dynamic_perception.engines.engine import MEMORY_BUDGET, Answer, Engine, EngineError, Ranking, Ready
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import FLOAT32, ModelBundle
from dynamic_perception.networks.families import make_supernet

GPU = "gpu"  # how the names of such clusters begin
PARALLEL = 2**16  # elements per thread that PyTorch surely divides between threads
GRAPH_WARM_UPS = 3  # runs before a CUDA graph is captured, in which libraries choose their kernels

_POOL: set[int] = set()  # the kernel's numbers of the library's threads, which all engines of a process share


class PyTorchEngine(Engine):
    """Runs the subnetworks as PyTorch modules, on CPUs, or on the first GPU for elements of a cluster "gpu...".

    The thread count of PyTorch belongs to the process: activating a point sets it, and pins every thread.
    """

    name = "pytorch"
    version = torch.__version__
    precisions = (FLOAT32,)

    def __init__(self, bundle: ModelBundle, memory_budget: int = MEMORY_BUDGET):
        super().__init__(bundle, memory_budget)
        self._network = make_supernet(bundle.space)
        self._network.load_tensors(_from_numpy(bundle.tensors()))
        self._affinity = Affinity(_POOL)
        self._threads_before = self._threads = torch.get_num_threads()

    def build(self, subnetwork: str, element: ComputeElement) -> Ready:
        on_gpu = element.cluster.startswith(GPU)
        if on_gpu and not torch.cuda.is_available():
            raise EngineError(f"PyTorch {torch.__version__} sees no GPU for '{subnetwork}' on '{element.name}'")
        chosen = self.bundle.subnetwork(subnetwork)
        if chosen.precision not in self.precisions:
            raise EngineError(f"PyTorch runs '{subnetwork}' in {FLOAT32} only: take another engine for {chosen.precision}")
        static = self._network.extract(chosen.config, _from_numpy(self.bundle.statistics(subnetwork)))
        model = FromImage(self.bundle, fold_batch_norm(static))
        model = model.to("cuda" if on_gpu else "cpu", memory_format=torch.channels_last).eval()
        forward = _captured(model, chosen.input_size) if on_gpu else _eager(model)

        def rank(image: np.ndarray) -> Answer:
            scores, classes = forward(image)[0].softmax(dim=0).sort(descending=True, stable=True)
            return Ranking(classes.cpu().numpy(), scores.cpu().numpy())

        def label(image: np.ndarray) -> Answer:
            full = F.interpolate(forward(image), size=chosen.input_size, mode="bilinear", align_corners=False)
            return full[0].argmax(dim=0).to(torch.uint8).cpu().numpy()

        def logits(image: np.ndarray) -> np.ndarray:
            output = forward(image)
            return (output[0] if self.bundle.task == "classification" else output).cpu().numpy()

        answer = rank if self.bundle.task == "classification" else label
        return Ready(torch.inference_mode()(answer), torch.inference_mode()(logits))

    def enter(self, element: ComputeElement) -> None:
        self._use_threads(element.threads)
        self._affinity.enter(element)

    def close(self) -> None:
        super().close()
        self._use_threads(self._threads_before)
        self._affinity.leave()

    def _use_threads(self, count: int) -> None:
        if count > self._threads:
            with self._affinity.watching():
                torch.set_num_threads(count)
                torch.ones(count * PARALLEL).add_(1)  # starts those that are missing
        elif count < self._threads:
            torch.set_num_threads(count)
        self._threads = count


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
    with torch.cuda.graph(graph):
        output = model(held)

    def forward(image: np.ndarray) -> Tensor:
        held.copy_(torch.from_numpy(image), non_blocking=True)
        graph.replay()
        return output

    return forward

