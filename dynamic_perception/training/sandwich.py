"""Training all subnetworks of a supernet at once: the sandwich rule with in-place distillation.

In every step the largest subnetwork learns from the labels, and the smallest and some random ones from the largest's
answers; the gradients of all add up.  With progressive shrinking, the choices open one after the other.

Sources: J. Yu, T. Huang, "Universally Slimmable Networks and Improved Training Techniques", ICCV 2019 (sandwich rule,
in-place distillation); H. Cai et al., "Once-for-All", ICLR 2020 (progressive shrinking).
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from dynamic_perception.file_writing import replacing
from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig
from dynamic_perception.networks.supernet import Supernet
from dynamic_perception.training import distributed
from dynamic_perception.training.tasks import Task

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"
ORDER, BATCH, SUBNETS = range(3)  # what a random number is for: every use has its own stream


@dataclass(frozen=True)
class SandwichTraining:
    """Settings of a training.

    Attributes:
        epochs: passes over the training images.
        batch_size: images per step, over all processes.
        learning_rate: its peak; it rises linearly, then falls as a cosine to 0.
        warm_up: share of the steps in which it rises.
        momentum: of Nesterov's gradient descent.
        weight_decay: of convolutions and linear layers, where the gradient is not zero.
        random_subnetworks: how many random ones are trained per step, besides the largest and the smallest.
        largest_alone: share of the epochs, at the beginning, in which only the largest subnetwork is trained.
        progressive: whether the remaining epochs open the choices of the space one after the other.
        clip: greatest norm of the gradient.
        seed: of everything that is random.
        precision: "float32" or "bfloat16" (multiplications only).
    """

    epochs: int
    batch_size: int
    learning_rate: float
    warm_up: float = 0.05
    momentum: float = 0.9
    weight_decay: float = 5e-4
    random_subnetworks: int = 2
    largest_alone: float = 0.0
    progressive: bool = False
    clip: float = 5.0
    seed: int = 1
    precision: str = "float32"


@dataclass(frozen=True)
class EpochResult:
    """One line of the log.

    Attributes:
        epoch: counted from 1.
        learning_rate: at its end.
        loss: mean of the largest subnetwork's loss.
        distance: mean distance of the smaller ones' answers from it.
        largest, smallest: held-out scores, NaN where they were not measured.
        seconds: it took.
    """

    epoch: int
    learning_rate: float
    loss: float
    distance: float
    largest: float
    smallest: float
    seconds: float


class SandwichTrainer:
    """Trains a supernet; interrupted at any time, it goes on after the last whole epoch with the same result.

    Args:
        network: with its initial weights.
        task: what to learn.
        settings: how.
        folder: for the checkpoint and the log.
        score_every: epochs between two held-out scores; by default a tenth of the training.
    """

    def __init__(
        self, network: Supernet, task: Task, settings: SandwichTraining, folder: Path, score_every: int | None = None
    ):
        self.network, self.task, self.settings, self.folder = network, task, settings, folder
        self.epoch = 0
        self.steps_per_epoch = math.ceil(len(task) / settings.batch_size)
        self._score_every = score_every or max(1, settings.epochs // 10)
        self._device = next(network.parameters()).device
        tensors = network.tensors()
        decayed = [t for name, t in tensors.items() if t.dim() > 1]
        plain = [t for name, t in tensors.items() if t.dim() == 1]
        self._optimiser = torch.optim.SGD(
            [{"params": decayed}, {"params": plain}], lr=0.0, momentum=settings.momentum, nesterov=True
        )
        self._decayed = decayed
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / CHECKPOINT).exists():
            self._resume()

    def run(self, on_step: Callable[[int], None], on_epoch: Callable[[EpochResult], None]) -> Supernet:
        """Train what is left; `on_step` gets the epoch (from 0) after each step, `on_epoch` each result."""
        while self.epoch < self.settings.epochs:
            result = self._run_epoch(on_step)
            self.epoch += 1
            if distributed.rank() == 0:
                self._log(result)
                self._save()
            on_epoch(result)
        self.network.forget_slices()
        return self.network

    def phase(self, epoch: int) -> SearchSpace | None:
        """What subnetworks are drawn from in `epoch` (from 0); None: only the largest is trained."""
        alone = round(self.settings.largest_alone * self.settings.epochs)
        if epoch < alone:
            return None
        if not self.settings.progressive:
            return self.network.space
        phases = self.network.space.progressive_phases()
        return phases[(epoch - alone) * len(phases) // (self.settings.epochs - alone)]

    def subnetworks(self, epoch: int, step: int) -> list[SubnetConfig]:
        """What is trained in that step: the largest first."""
        space = self.phase(epoch)
        if space is None:
            return [self.network.space.largest()]
        rng = self._random(SUBNETS, epoch, step)
        return [
            space.largest(),
            space.smallest(),
            *(space.sample(rng) for _ in range(self.settings.random_subnetworks)),
        ]

    def _run_epoch(self, on_step: Callable[[int], None]) -> EpochResult:
        started, settings = time.monotonic(), self.settings
        order = self._random(ORDER, self.epoch).permutation(len(self.task))
        loss_sum = distance_sum = torch.zeros((), device=self._device)
        rate = 0.0
        for step in range(self.steps_per_epoch):
            rate = self._learning_rate(self.epoch * self.steps_per_epoch + step)
            for group in self._optimiser.param_groups:
                group["lr"] = rate
            batch = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            share = np.array_split(batch, distributed.processes())[distributed.rank()]
            seed = int(self._random(BATCH, self.epoch, step, distributed.rank()).integers(2**62))
            images, labels = (tensor.to(self._device) for tensor in self.task.batch(share, seed))
            loss, distance = self._step(images, labels, self.subnetworks(self.epoch, step))
            loss_sum, distance_sum = loss_sum + loss, distance_sum + distance
            on_step(self.epoch)
        means = [loss_sum / self.steps_per_epoch, distance_sum / self.steps_per_epoch]
        distributed.average(means)
        if not math.isfinite(float(means[0])):
            raise ValueError(
                f"the loss is {float(means[0])} in epoch {self.epoch + 1}: the learning rate "
                f"{settings.learning_rate:g} is too high; the checkpoint before it is kept"
            )
        scores = self._scores() if self._is_scored(self.epoch + 1) else (math.nan, math.nan)
        return EpochResult(self.epoch + 1, rate, float(means[0]), float(means[1]), *scores, time.monotonic() - started)

    def _step(self, images: Tensor, labels: Tensor, subnets: list[SubnetConfig]) -> tuple[Tensor, Tensor]:
        """One update by all `subnets`; loss of the first, mean distance of the others from it."""
        self._optimiser.zero_grad(set_to_none=True)
        logits = self._answer(images, subnets[0])
        loss = self.task.loss(logits, labels)
        loss.backward()
        taught, distance = logits.detach(), torch.zeros((), device=self._device)
        for subnet in subnets[1:]:
            far = self.task.distance(self._answer(self._scaled(images, subnet), subnet), taught)
            far.backward()
            distance = distance + far.detach() / len(subnets[1:])
        gradients = [p.grad for p in self.network.parameters() if p.grad is not None]
        distributed.average(gradients)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip)
        self._decay()
        self._optimiser.step()
        return loss.detach(), distance

    def _answer(self, images: Tensor, subnet: SubnetConfig) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"):
            return self.network.train_step(images, subnet).float()

    def _scaled(self, images: Tensor, subnet: SubnetConfig) -> Tensor:
        """The images at the share of their size that the subnetwork's input has of the largest's."""
        space = self.network.space
        height, width = space.input_size(subnet)
        full_height, full_width = space.input_size(space.largest())
        if (height, width) == (full_height, full_width):
            return images
        size = round(images.shape[2] * height / full_height), round(images.shape[3] * width / full_width)
        return F.interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=True)

    @torch.no_grad()
    def _decay(self) -> None:
        """Weight decay as part of the gradient, but only where there is one: what no subnetwork used stays."""
        for tensor in self._decayed:
            if tensor.grad is not None:
                tensor.grad += self.settings.weight_decay * tensor * (tensor.grad != 0)

    def _learning_rate(self, step: int) -> float:
        steps = self.settings.epochs * self.steps_per_epoch
        rising = max(1, round(self.settings.warm_up * steps))
        if step < rising:
            return self.settings.learning_rate * (step + 1) / rising
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))

    def _is_scored(self, epoch: int) -> bool:
        return epoch % self._score_every == 0 or epoch == self.settings.epochs

    def _scores(self) -> tuple[float, float]:
        """Held-out scores of the largest and the smallest subnetwork, calibrated."""
        self.network.forget_slices()
        space, scores = self.network.space, []
        for subnet in (space.largest(), space.smallest()):
            scores.append(held_out_score(self.network, self.task, subnet, self.settings.seed))
        self.network.forget_slices()
        return scores[0], scores[1]

    def _random(self, *use: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, *use))

    def _log(self, result: EpochResult) -> None:
        path = self.folder / LOG
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, tuple(EpochResult.__dataclass_fields__))
            if new:
                writer.writeheader()
            writer.writerow({key: f"{value:.6g}" for key, value in asdict(result).items()})

    def _identity(self) -> dict[str, object]:
        """What must be the same for a resumed run to give the weights of an uninterrupted one."""
        return json.loads(
            json.dumps(
                {
                    "family": self.network.space.family,
                    "space": self.network.space.to_plain(),
                    "settings": asdict(self.settings),
                    "images": len(self.task),
                }
            )
        )

    def _save(self) -> None:
        tensors = {f"network/{name}": tensor for name, tensor in self.network.tensors().items()}
        tensors |= {
            f"momentum/{name}": self._optimiser.state[tensor]["momentum_buffer"]
            for name, tensor in self.network.tensors().items()
            if tensor in self._optimiser.state
        }
        with replacing(self.folder / CHECKPOINT) as partial:
            save_file(
                {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
                partial,
                metadata={"state": json.dumps({"epoch": self.epoch, **self._identity()})},
            )

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        for key, value in self._identity().items():
            if state[key] != value:
                raise ValueError(
                    f"{path} was made with {key} {state[key]}, now {value}: give the same settings, or "
                    "another --run folder to start anew"
                )
        self.network.load_tensors(_below("network/", tensors))
        for name, buffer in _below("momentum/", tensors).items():
            self._optimiser.state[self.network.tensors()[name]]["momentum_buffer"] = buffer.to(self._device)
        self.epoch = state["epoch"]


@torch.no_grad()
def held_out_score(network: Supernet, task: Task, subnet: SubnetConfig, seed: int, images: int = 256) -> float:
    """Score [0..1] of `subnet` on the held-out images after calibrating it on up to `images` training images."""
    size, device = network.space.input_size(subnet), next(network.parameters()).device
    statistics = network.calibrate(subnet, (x.to(device) for x in task.calibration_images(size, images, seed)))
    network.activate(subnet, statistics)
    return task.score((network(x.to(device)).cpu(), labels) for x, labels in task.held_out_images(size))


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
