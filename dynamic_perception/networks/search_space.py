"""What a family of dynamic networks consists of: which subnetworks there are, and what each takes.

Torch-free, so that a robot can check a bundle, slice its weights and write graphs without importing torch.  A
family has a :class:`SearchSpace` here, and a :class:`~dynamic_perception.networks.supernet.Supernet` that runs it.

Tensors are named.  A batch normalisation `X` learns `X.weight` and `X.bias`, which all subnetworks share; its
statistics `X.running_mean` and `X.running_var` belong to one subnetwork and are kept apart from the supernet.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import numpy as np

Shape = tuple[int, ...]
Array = TypeVar("Array")  # numpy array or torch tensor: slicing, reshaping and `@` are all that is used


@dataclass(frozen=True)
class SubnetConfig:
    """Which part of a supernet runs.  Made and validated by `SearchSpace.subnet`, canonical, hashable.

    Two configurations are equal exactly if they execute the same: what lies beyond the active depth is not in them.
    """

    def to_plain(self) -> dict[str, Any]:
        """The configuration as plain data for YAML, which `SearchSpace.subnet` takes back."""
        return {field.name: _plain(getattr(self, field.name)) for field in fields(self)}


class SearchSpace(ABC):
    """The subnetworks of one family, and what each of them takes.

    Attributes:
        family: name of the family in `model.yaml`.
        task: "classification" (logits [N, classes]) or "segmentation" (logits [N, classes, H, W]).
        supernet: where its Supernet lies, "module:class"; imported only where torch is wanted.
        graph: where what writes its ONNX graphs lies, "module:function"; imported only where onnx is wanted.
        shares_statistics: whether every subnetwork's batch-normalisation statistics are the first entries of the
            largest one's, which then lie in the weight file.
        classes: number of classes.
        batch_norm_epsilon: added to the variance in batch normalisation.
    """

    family: ClassVar[str]
    task: ClassVar[str]
    supernet: ClassVar[str]
    graph: ClassVar[str]
    shares_statistics: ClassVar[bool] = False
    classes: int
    batch_norm_epsilon: float

    @classmethod
    @abstractmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> SearchSpace:
        """Read the space from plain data; ValueError that names the setting that is wrong, missing or unknown."""

    @abstractmethod
    def to_plain(self) -> dict[str, Any]:
        """The space as plain data that YAML can hold, without the family's name."""

    @abstractmethod
    def subnet(self, plain: Mapping[str, Any]) -> SubnetConfig:
        """The canonical configuration from plain data.

        Raises:
            ValueError: it is outside the space; names the field, its value and what is allowed.
        """

    @abstractmethod
    def smallest(self) -> SubnetConfig:
        """The subnetwork with the fewest multiply-accumulates."""

    @abstractmethod
    def largest(self) -> SubnetConfig:
        """The subnetwork that executes everything."""

    @abstractmethod
    def sample(self, rng: np.random.Generator) -> SubnetConfig:
        """A random subnetwork: every choice uniform and independent."""

    @abstractmethod
    def genes(self) -> tuple[tuple, ...]:
        """What an evolutionary search varies: the rising choices of each gene, which together give any subnetwork.

        All first choices give the smallest subnetwork, all last ones the largest.
        """

    @abstractmethod
    def from_genes(self, values: Sequence[Any]) -> SubnetConfig:
        """The subnetwork of one choice for each of the `genes`; different ones may give the same."""

    @abstractmethod
    def ladder(self, count: int) -> tuple[SubnetConfig, ...]:
        """Up to `count` different subnetworks from the smallest to the largest, in which all choices grow together."""

    @abstractmethod
    def progressive_phases(self) -> tuple[SearchSpace, ...]:
        """Growing parts of this space, the whole of it last: what progressive shrinking opens one after the other."""

    @abstractmethod
    def input_size(self, subnet: SubnetConfig) -> tuple[int, int]:
        """Height and width [pixel] of the subnetwork's input."""

    @abstractmethod
    def tensor_shapes(self) -> dict[str, Shape]:
        """Shape of every learned tensor of the supernet."""

    @abstractmethod
    def subnet_tensors(self, subnet: SubnetConfig, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """The learned tensors that the subnetwork executes, as views of the supernet's `tensors` where possible."""

    @abstractmethod
    def statistics_shapes(self, subnet: SubnetConfig) -> dict[str, Shape]:
        """Shape of every batch-normalisation statistic of the subnetwork."""

    @abstractmethod
    def parameters(self, subnet: SubnetConfig) -> int:
        """Learned numbers that the subnetwork executes."""

    @abstractmethod
    def macs(self, subnet: SubnetConfig) -> int:
        """Multiply-accumulates of one image through the convolutions and linear layers of the subnetwork."""


def check_choice(field: str, value: Any, allowed: tuple) -> None:
    """ValueError unless `value` is one of `allowed`, type included: 3.0 and True are not 3 and 1."""
    if not any(value == choice and type(value) is type(choice) for choice in allowed):
        raise ValueError(f"{field} is {value!r}: expected one of {', '.join(map(str, allowed))}")


def check_keys(what: str, plain: Any, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> None:
    """ValueError unless `plain` is a mapping with all the `required` keys and none but those and the `optional`."""
    if not isinstance(plain, Mapping):
        raise ValueError(f"{what} is {plain!r}: expected a mapping with {', '.join(required)}")
    for key in required:
        if key not in plain:
            raise ValueError(f"{what}: '{key}' is missing: expected {', '.join(required)}")
    for key in plain:
        if key not in required and key not in optional:
            raise ValueError(f"{what}: unknown key {key!r}: expected {', '.join((*required, *optional))}")


def rungs(count: int, *choices: tuple) -> list[tuple]:
    """Up to `count` combinations of one of each of the `choices`, taken evenly while they grow in turns."""
    steps = sorted(
        ((step + 0.5) / (len(choice) - 1), place)
        for place, choice in enumerate(choices)
        for step in range(len(choice) - 1)
    )
    way = [[0] * len(choices)]
    for _, place in steps:
        way.append([*way[-1][:place], way[-1][place] + 1, *way[-1][place + 1 :]])
    places = np.linspace(0, len(way) - 1, count) if count > 1 else [len(way) - 1]
    taken = dict.fromkeys(round(place) for place in places)
    return [tuple(choice[number] for choice, number in zip(choices, way[place])) for place in taken]


def make_divisible(value: float, divisor: int = 8) -> int:
    """`value` rounded to a multiple of `divisor`, never below 90 % of it (MobileNet's rule for channel numbers)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _plain(value: Any) -> Any:
    return [_plain(entry) for entry in value] if isinstance(value, tuple) else value
