"""Incremental training of the group CNN: train group 1, freeze it, add group 2, train only what is new, and so on.

The earlier groups are frozen in the strict sense: they run in evaluation mode and nothing of them is written, so
every smaller subnetwork gives bit-identical logits afterwards.

A group that is trained from its start to improve the sum learns little: the groups before it already fit most training
images, so most of the gradient is gone (tried: 79.5 % alone after 12 epochs, and one point more in the sum).  So a new
group first learns the task by itself, and only in its last epochs also the mean of all groups' logits, which asks it
for what the others miss.  Each group gets more epochs than the one before, because the easy part is already done.
At the end each new group's logits are given the weight in the sum that suits held-out images best.

Source: MLCAD 2019 (see `networks/group_cnn_space.py`) for the scheme; the two phases and the weighing are ours.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from dynamic_perception.file_writing import replacing
from dynamic_perception.networks.group_cnn import GroupCNN, execute
from dynamic_perception.networks.group_cnn_space import GroupCNNSpace
from dynamic_perception.training.images import LabelledImages

CHECKPOINT = "checkpoint.safetensors"
LOG = "log.csv"
GROUP_WEIGHTS = tuple(np.geomspace(0.25, 8, 61).tolist())
TEMPERATURES = tuple(np.geomspace(0.05, 1.5, 25).tolist())  # that a sum of logits is multiplied with
LOG_COLUMNS = ("group", "epoch", "learning_rate", "loss", "train_accuracy", "validation_accuracy", "seconds")


@dataclass(frozen=True)
class IncrementalTraining:
    """Settings of a training run.

    Attributes:
        epochs: passes over the training images, one entry per group.
        batch_size: images per step.
        learning_rate: peak of the schedule (linear warm-up, then cosine to zero, once per group).
        momentum: of Nesterov's stochastic gradient descent.
        weight_decay: on convolution and classifier weights only.
        joint: share of a group's epochs, at their end, in which the cross-entropy of all groups' mean logits is added.
        warm_up: share of a group's steps in which the learning rate rises.
        validation: share of the training images held out to watch progress; the test split is never touched.
        seed: of everything random.
        precision: float32 or bfloat16 (automatic mixed precision).
    """

    epochs: tuple[int, ...] = (8, 14, 22, 32)
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 5e-4
    joint: float = 0.4
    warm_up: float = 0.2
    validation: float = 0.04
    seed: int = 1
    precision: str = "float32"


@dataclass(frozen=True)
class EpochResult:
    """What one epoch gave; the columns of the log."""

    group: int
    epoch: int
    learning_rate: float
    loss: float
    train_accuracy: float
    validation_accuracy: float
    seconds: float


class IncrementalTrainer:
    """Trains a group CNN group by group and can be resumed after any finished epoch with the same result.

    Args:
        space: of the network.
        settings: of the run.
        data: training images.
        folder: where checkpoint and log are kept.
    """

    def __init__(self, space: GroupCNNSpace, settings: IncrementalTraining, data: LabelledImages, folder: Path):
        if len(settings.epochs) != space.groups:
            raise ValueError(f"epochs has {len(settings.epochs)} entries: expected one per group, {space.groups}")
        self.settings = settings
        self.folder = folder
        self.network = GroupCNN(space)
        self.network.initialise(torch.Generator().manual_seed(settings.seed))
        order = np.random.default_rng(settings.seed).permutation(len(data.labels))
        held_out = order[: round(len(order) * settings.validation)]
        kept = np.sort(order[len(held_out) :])
        self.mean = data.images[kept].mean(axis=(0, 1, 2), dtype=np.float64) / 255
        self.standard_deviation = data.images[kept].std(axis=(0, 1, 2), dtype=np.float64) / 255
        self._train = torch.from_numpy(data.images[kept]), torch.from_numpy(data.labels[kept])
        self._validation = torch.from_numpy(data.images[held_out]), torch.from_numpy(data.labels[held_out])
        self._momentum: dict[str, Tensor] = {}
        self.group, self.epoch = 0, 0  # the next epoch to run
        if (folder / CHECKPOINT).exists():
            self._resume()

    @property
    def steps_per_epoch(self) -> int:
        return len(self._train[1]) // self.settings.batch_size

    def run(self, on_step: Callable[[int, int], None], on_epoch: Callable[[EpochResult], None]) -> GroupCNN:
        """Train what is left and return the network.

        Args:
            on_step: called with (group, epoch) after every step; what it raises ends the run, which can be resumed.
            on_epoch: called with the result of every epoch, after it was saved.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        while self.group < self.network.space.groups:
            while self.epoch < self.settings.epochs[self.group]:
                result = self._run_epoch(on_step)
                self.epoch += 1
                self._log(result)
                self._save()
                on_epoch(result)
            self.group, self.epoch, self._momentum = self.group + 1, 0, {}
        self._weigh_groups()
        return self.network

    @torch.no_grad()
    def _weigh_groups(self) -> None:
        """Scale the logits of each group but the first, so that the sum up to it fits the held-out images best.

        The groups' logits differ in how sure they are, so their plain sum is not the best one.  Every sum is judged by
        its cross-entropy at the temperature that is best for it: how sure the sum itself is does not matter.
        """
        images, labels = self._validation
        if not len(labels):
            return
        network = self.network
        alone = [
            torch.cat([execute(network.space, self._normalise(x), network.group(group), 1) for x in images.split(500)])
            for group in range(network.space.groups)
        ]
        total = alone[0]
        for group, logits in enumerate(alone[1:], start=1):
            losses = {
                weight: min(
                    float(F.cross_entropy(temperature * (total + weight * logits), labels))
                    for temperature in TEMPERATURES
                )
                for weight in GROUP_WEIGHTS
            }
            best = min(losses, key=losses.get)
            total = total + best * logits
            learned = network.group(group)
            learned["classifier.weight"].mul_(best)
            learned["classifier.bias"].mul_(best)

    def _run_epoch(self, on_step: Callable[[int, int], None]) -> EpochResult:
        started, group, settings = time.monotonic(), self.group, self.settings
        seeds = np.random.SeedSequence((settings.seed, group, self.epoch))  # any epoch can be the first after a resume
        generator = torch.Generator().manual_seed(int(seeds.generate_state(1)[0]))
        learned = {
            name: tensor if "running" in name else tensor.detach().requires_grad_()
            for name, tensor in self.network.group(group).items()
        }  # leaves that share the network's memory
        epochs = settings.epochs[group]
        joint = group > 0 and self.epoch >= epochs - round(settings.joint * epochs)
        frozen = self.network.prefix(group)
        optimiser = self._optimiser(learned)
        images, labels = self._train
        loss_sum, right, seen, rate = 0.0, 0, 0, 0.0
        order = torch.randperm(len(labels), generator=generator)
        for step in range(self.steps_per_epoch):
            rate = self._learning_rate(self.epoch * self.steps_per_epoch + step)
            for parameters in optimiser.param_groups:
                parameters["lr"] = rate
            batch = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            x, y = self._normalise(augment(images[batch], generator)), labels[batch]
            with torch.autocast("cpu", torch.bfloat16, enabled=settings.precision == "bfloat16"):
                logits = execute(self.network.space, x, learned, 1, training=True).float()
                loss = F.cross_entropy(logits, y)
                if joint:
                    with torch.no_grad():
                        before = execute(self.network.space, x, frozen, group).float()
                    logits = before + logits
                    # The mean, not the sum: the sum of k good groups is k times too sure of itself.
                    loss = loss + F.cross_entropy(logits / (group + 1), y)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            loss_sum += float(loss.detach()) * len(y)
            right += int((logits.argmax(dim=1) == y).sum())
            seen += len(y)
            on_step(group, self.epoch)
        for name, tensor in learned.items():
            if tensor.requires_grad:
                self._momentum[name] = optimiser.state[tensor]["momentum_buffer"]
        return EpochResult(
            group + 1,
            self.epoch + 1,
            rate,
            loss_sum / seen,
            right / seen,
            self._validation_accuracy(group + 1),
            time.monotonic() - started,
        )

    def _optimiser(self, learned: dict[str, Tensor]) -> torch.optim.SGD:
        decayed = [t for name, t in learned.items() if name.startswith(("conv", "classifier.weight"))]
        plain = [
            t for name, t in learned.items() if t.requires_grad and not name.startswith(("conv", "classifier.weight"))
        ]
        optimiser = torch.optim.SGD(
            [{"params": decayed, "weight_decay": self.settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
            lr=0.0,
            momentum=self.settings.momentum,
            nesterov=True,
        )
        for name, buffer in self._momentum.items():
            optimiser.state[learned[name]]["momentum_buffer"] = buffer
        return optimiser

    def _learning_rate(self, step: int) -> float:
        steps = self.settings.epochs[self.group] * self.steps_per_epoch
        rising = max(1, round(self.settings.warm_up * steps))
        if step < rising:
            return self.settings.learning_rate * (step + 1) / rising
        return self.settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / (steps - rising)))

    def _normalise(self, images: Tensor) -> Tensor:
        mean, deviation = torch.tensor(self.mean * 255), torch.tensor(self.standard_deviation * 255)
        # [N, H, W, 3] viewed as [N, 3, H, W] is already in torch's channels-last layout, the fast one on CPUs.
        return ((images - mean.float()) / deviation.float()).permute(0, 3, 1, 2)

    @torch.no_grad()
    def _validation_accuracy(self, groups: int) -> float:
        images, labels = self._validation
        if not len(labels):
            return math.nan
        tensors = self.network.prefix(groups)
        right = sum(
            int((execute(self.network.space, self._normalise(x), tensors, groups).argmax(1) == y).sum())
            for x, y in zip(images.split(500), labels.split(500))
        )
        return right / len(labels)

    def _log(self, result: EpochResult) -> None:
        path = self.folder / LOG
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, LOG_COLUMNS)
            if new:
                writer.writeheader()
            writer.writerow({key: f"{value:.6g}" for key, value in asdict(result).items()})

    def _identity(self) -> dict[str, object]:
        """What must be the same for a resumed run to give the weights of an uninterrupted one."""
        return json.loads(
            json.dumps(
                {
                    "architecture": self.network.space.to_plain(),
                    "settings": asdict(self.settings),
                    "images": len(self._train[1]),
                }
            )
        )

    def _save(self) -> None:
        tensors = {f"network/{name}": tensor for name, tensor in self.network.tensors().items()}
        tensors |= {f"momentum/{name}": tensor.contiguous() for name, tensor in self._momentum.items()}
        state = {"group": self.group, "epoch": self.epoch, **self._identity()}
        with replacing(self.folder / CHECKPOINT) as partial:
            save_file(tensors, partial, metadata={"state": json.dumps(state)})

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        for key, value in self._identity().items():
            if state[key] != value:
                raise ValueError(
                    f"{path} was made with {key} {state[key]}, now {value}: "
                    "give the same settings, or another --run folder to start anew"
                )
        self.network.load_tensors(
            {name.removeprefix("network/"): t for name, t in tensors.items() if name.startswith("network/")}
        )
        self._momentum = {
            name.removeprefix("momentum/"): t for name, t in tensors.items() if name.startswith("momentum/")
        }
        self.group, self.epoch = state["group"], state["epoch"]


def augment(images: Tensor, generator: torch.Generator, shift: int = 4) -> Tensor:
    """Random shift by up to `shift` pixels (the border repeats) and random horizontal flip of [N, H, W, 3] images."""
    count, height, width, _ = images.shape
    across = torch.randint(-shift, shift + 1, (count, 1), generator=generator) + torch.arange(width)
    down = torch.randint(-shift, shift + 1, (count, 1), generator=generator) + torch.arange(height)
    flip = torch.rand((count, 1), generator=generator) < 0.5
    across = torch.where(flip, across.flip(1), across).clamp(0, width - 1)
    down = down.clamp(0, height - 1)
    return images[torch.arange(count)[:, None, None], down[:, :, None], across[:, None, :]]
