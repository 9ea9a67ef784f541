"""A supernet in PyTorch: one set of learned tensors of which any subnetwork can be executed.

Batch-normalisation statistics never live in it: training uses those of the batch, calibration measures those of one
subnetwork, and `activate` binds what was measured.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig

CACHE_BYTES = 64 * 2**20
KNOWN_SHAPES = 256  # subnetworks whose statistics' shapes are remembered
Normalise = Callable[[str, Tensor, Mapping[str, Tensor]], Tensor]  # name of the batch norm, input, tensors -> output


class Supernet(nn.Module):
    """Base of all families: holds the learned tensors, slices, activates and calibrates.

    A family adds `execute`, which runs a subnetwork on its own tensors, `extract` and `initialise`.

    Args:
        space: of the subnetworks.
        cache_bytes: what slices of subnetworks that were used may take; the least recently used are dropped.
    """

    def __init__(self, space: SearchSpace, cache_bytes: int = CACHE_BYTES):
        super().__init__()
        self.space = space
        self._names = {name: name.replace(".", "_") for name in space.tensor_shapes()}
        for name, shape in space.tensor_shapes().items():
            self.register_parameter(self._names[name], nn.Parameter(torch.zeros(shape)))
        self._shapes_of = lru_cache(KNOWN_SHAPES)(space.statistics_shapes)  # made anew they would take most of a switch
        self._cache: OrderedDict[SubnetConfig, dict[str, Tensor]] = OrderedDict()
        self._cache_bytes = cache_bytes
        self.active: SubnetConfig | None = None
        self._active_tensors: dict[str, Tensor] = {}
        self._normalise: Normalise | None = None

    @abstractmethod
    def initialise(self, generator: torch.Generator) -> None:
        """Draw the weights that a training starts from."""

    @abstractmethod
    def execute(
        self, images: Tensor, subnet: SubnetConfig, tensors: Mapping[str, Tensor], normalise: Normalise
    ) -> Tensor:
        """Logits of normalised `images` [N, 3, H, W] by `subnet`, whose own tensors are `tensors`."""

    @abstractmethod
    def extract(self, subnet: SubnetConfig, statistics: Mapping[str, Tensor]) -> nn.Module:
        """The subnetwork as an ordinary module with its own copy of the weights, in evaluation mode."""

    def tensors(self) -> dict[str, Tensor]:
        """Every learned tensor by its name in the weight file."""
        return {name: getattr(self, attribute) for name, attribute in self._names.items()}

    @torch.no_grad()
    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the named tensors in; ValueError unless names and shapes are exactly those of the space."""
        mine = self.tensors()
        if set(tensors) != set(mine):
            missing, extra = sorted(set(mine) - set(tensors)), sorted(set(tensors) - set(mine))
            raise ValueError(f"tensors do not fit the search space: missing {missing}, not in it {extra}")
        for name, tensor in mine.items():
            if tensor.shape != tensors[name].shape:
                raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}: expected {tuple(tensor.shape)}")
        for name, tensor in mine.items():
            tensor.copy_(tensors[name])
        self.forget_slices()

    def train_step(self, images: Tensor, subnet: SubnetConfig) -> Tensor:
        """Logits of `subnet` with the batch's own statistics; gradients reach the shared tensors."""
        return self.execute(images, subnet, self.space.subnet_tensors(subnet, self.tensors()), self._by_batch)

    def prepare(self, subnet: SubnetConfig) -> None:
        """Slice the subnetwork's tensors into the cache, so that activating it later is only a look-up."""
        self._sliced(subnet)

    def activate(self, subnet: SubnetConfig, statistics: Mapping[str, Tensor]) -> None:
        """Execute `subnet` with its `statistics` from now on.

        Raises:
            ValueError: the statistics are not those of the subnetwork.
        """
        shapes = self._shapes_of(subnet)
        if statistics.keys() != shapes.keys() or any(statistics[name].shape != shapes[name] for name in shapes):
            raise ValueError(f"the statistics are not those of {subnet}: calibrate it first")
        self._active_tensors = self._sliced(subnet)
        self._normalise = self._by_statistics(statistics)
        self.active = subnet

    def forward(self, images: Tensor) -> Tensor:
        """Logits of normalised `images` [N, 3, H, W] by the active subnetwork."""
        if self.active is None:
            raise RuntimeError("no subnetwork is active: call activate first")
        return self.execute(images, self.active, self._active_tensors, self._normalise)

    @torch.no_grad()
    def calibrate(self, subnet: SubnetConfig, batches: Iterable[Tensor]) -> dict[str, Tensor]:
        """Measure the subnetwork's batch-normalisation statistics on batches of normalised images [N, 3, H, W].

        Mean and variance of each channel over everything that passes, pooled over the batches: the variance is the
        mean of the batches' variances plus the variance of their means.  It is the population's (divided by n, not
        n - 1), because that is what normalises the batch in training.
        """
        means: dict[str, list[Tensor]] = {}
        variances: dict[str, list[Tensor]] = {}

        def record(name: str, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
            variance, mean = torch.var_mean(x.float() if x.dtype == torch.bfloat16 else x, dim=(0, 2, 3), correction=0)
            means.setdefault(name, []).append(mean)
            variances.setdefault(name, []).append(variance)
            return self._by_batch(name, x, tensors)

        tensors = self._sliced(subnet)
        for images in batches:
            self.execute(images, subnet, tensors, record)
        if not means:
            raise ValueError("no images to calibrate with")
        statistics = {}
        for name in means:
            of_batches = torch.stack(means[name])
            statistics[f"{name}.running_mean"] = of_batches.mean(0)
            statistics[f"{name}.running_var"] = torch.stack(variances[name]).mean(0) + of_batches.var(0, correction=0)
        kind = next(self.parameters()).dtype  # batch normalisation takes its input and statistics in one type
        return {name: statistics[name].to(kind) for name in self.space.statistics_shapes(subnet)}

    def forget_slices(self) -> None:
        """Drop cached slices, which are copies, after the learned tensors changed."""
        self._cache.clear()

    @property
    def cached_bytes(self) -> int:
        """Memory that cached slices take beside the shared tensors."""
        return sum(map(self._own_bytes, self._cache.values()))

    def _sliced(self, subnet: SubnetConfig) -> dict[str, Tensor]:
        """The subnetwork's tensors, contiguous: kernels of a strided view would be copied at every inference."""
        if subnet in self._cache:
            self._cache.move_to_end(subnet)
            return self._cache[subnet]
        with torch.no_grad():
            sliced = {
                name: tensor.detach().contiguous()
                for name, tensor in self.space.subnet_tensors(subnet, self.tensors()).items()
            }
        self._cache[subnet] = sliced
        while self.cached_bytes > self._cache_bytes:
            self._cache.popitem(last=False)
        return sliced

    def _own_bytes(self, sliced: Mapping[str, Tensor]) -> int:
        shared = {tensor.untyped_storage().data_ptr() for tensor in self.parameters()}
        return sum(tensor.nbytes for tensor in sliced.values() if tensor.untyped_storage().data_ptr() not in shared)

    def _by_batch(self, name: str, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        return F.batch_norm(
            x, None, None, tensors[f"{name}.weight"], tensors[f"{name}.bias"], True, 0.0, self.space.batch_norm_epsilon
        )

    def _by_statistics(self, statistics: Mapping[str, Tensor]) -> Normalise:
        epsilon = self.space.batch_norm_epsilon

        def normalise(name: str, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
            return F.batch_norm(
                x,
                statistics[f"{name}.running_mean"],
                statistics[f"{name}.running_var"],
                tensors[f"{name}.weight"],
                tensors[f"{name}.bias"],
                False,
                0.0,
                epsilon,
            )

        return normalise


def draw_weights(tensors: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """He initialisation (fan-out of a convolution, fan-in of a linear layer); batch normalisation starts as identity.

    Source: K. He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    with torch.no_grad():
        for name, tensor in tensors.items():
            if tensor.dim() == 4:
                fan_out = tensor.shape[0] * tensor.shape[2] * tensor.shape[3] / groups_of(tensor)
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * math.sqrt(2 / fan_out))
            elif tensor.dim() == 2:
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / math.sqrt(tensor.shape[1]))
            elif name.endswith(".weight"):
                tensor.fill_(1.0)
            else:
                tensor.zero_()


def groups_of(weight: Tensor) -> int:
    """Groups of a convolution by its weight: all of them if it is depthwise, else one."""
    return weight.shape[0] if weight.shape[1] == 1 else 1
