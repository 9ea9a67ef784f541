"""What is trained: batches of augmented images, the loss, and how good a subnetwork is, per task.

Augmentations are torchvision's transforms v2.  Those draw from torch's global generator, so they run on a fork of it
that is seeded per batch: a batch depends on its seed alone, and the global generator is left as it was.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from dynamic_perception.engines.scaling import scale_image
from dynamic_perception.training.images import LabelledFrames, LabelledImages
from dynamic_perception.training.segmentation_score import count_confusion, mean_iou

CHUNK = 8  # images that share the random numbers of an augmentation, which makes small images much faster


class Task(ABC):
    """Labelled images of one task.

    Attributes:
        metric: name of the score.
        size: height and width [pixel] of the images that are trained on.
        mean, deviation: per RGB channel of the training images, [0..1].
    """

    metric: ClassVar[str]

    def __init__(self, images: np.ndarray, labels: np.ndarray, held_out: Sequence[int], size: tuple[int, int]):
        """Args: images: uint8 RGB [N, H, W, 3]; labels: [N, ...]; held_out: indices to validate on; size: as below."""
        self._images, self._labels, self.size = images, torch.from_numpy(labels), size
        self._held_out = np.array(sorted(held_out), np.int64)
        self._trained = np.setdiff1d(np.arange(len(images)), self._held_out)
        scaled = (scale_image(images[i], size) for i in self._trained)
        sums = [
            (image.mean(dtype=np.float64, axis=(0, 1)), np.square(image / 255.0).mean(axis=(0, 1))) for image in scaled
        ]
        self.mean = np.mean([mean for mean, _ in sums], axis=0) / 255
        self.deviation = np.sqrt(np.mean([square for _, square in sums], axis=0) - self.mean**2)

    def __len__(self) -> int:
        """Images to train on."""
        return len(self._trained)

    @property
    def held_out(self) -> int:
        """Images to validate on."""
        return len(self._held_out)

    def batch(self, numbers: np.ndarray, seed: int) -> tuple[Tensor, Tensor]:
        """Augmented, normalised images [N, 3, H, W] and labels of the training images `numbers` (0..len-1)."""
        chosen = self._trained[numbers]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            images, labels = self.augment(self._scaled(chosen, self.size), self._labels[torch.from_numpy(chosen)])
        return self.normalise(images), labels

    def calibration_images(
        self, size: tuple[int, int], count: int, seed: int, batch_size: int = 16
    ) -> Iterator[Tensor]:
        """Batches of up to `count` normalised training images as they come, without augmentation."""
        order = np.random.default_rng(seed).permutation(self._trained)[:count]
        for start in range(0, len(order), batch_size):
            yield self.normalise(self._scaled(order[start : start + batch_size], size))

    def held_out_images(
        self, size: tuple[int, int], count: int | None = None, seed: int = 1, batch_size: int = 16
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Normalised held-out images of that size, all or up to `count` random ones, and their labels."""
        chosen = np.sort(np.random.default_rng(seed).permutation(self._held_out)[:count])
        for start in range(0, len(chosen), batch_size):
            numbers = chosen[start : start + batch_size]
            yield self.normalise(self._scaled(numbers, size)), self._labels[torch.from_numpy(numbers)]

    def normalise(self, images: Tensor) -> Tensor:
        """Normalised float32 of uint8 images [N, 3, H, W], channels last in memory: the fast layout on CPUs."""
        mean, deviation = (
            torch.tensor(255 * value, dtype=torch.float32)[:, None, None] for value in (self.mean, self.deviation)
        )
        return ((images - mean) / deviation).contiguous(memory_format=torch.channels_last)

    def _scaled(self, numbers: np.ndarray, size: tuple[int, int]) -> Tensor:
        """Images scaled as the perception node does it, uint8 [N, 3, H, W]."""
        images = np.stack([scale_image(self._images[i], size) for i in numbers])
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    @abstractmethod
    def augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Random variations of uint8 images [N, 3, H, W] and their labels, by torch's global generator."""

    @abstractmethod
    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of logits against labels."""

    @abstractmethod
    def distance(self, logits: Tensor, taught: Tensor) -> Tensor:
        """Loss of a smaller subnetwork's logits against those of the largest (in-place distillation)."""

    @abstractmethod
    def score(self, answers: Iterator[tuple[Tensor, Tensor]]) -> float:
        """Score [0..1] of (logits, labels) pairs."""


class ClassificationTask(Task):
    """One label per image.

    Args:
        data: labelled images.
        held_out: indices to validate on.
        size: height and width [pixel] to train at.
        mirrored: whether a mirrored image keeps its label (traffic signs do not).
        label_smoothing: share of the label that is spread over all classes.
    """

    metric = "top-1"

    def __init__(
        self,
        data: LabelledImages,
        held_out: Sequence[int],
        size: tuple[int, int],
        mirrored: bool,
        label_smoothing: float = 0.05,
    ):
        super().__init__(data.images, data.labels, held_out, size)
        self._label_smoothing = label_smoothing
        self._vary = v2.Compose(
            [
                v2.RandomAffine(
                    12,
                    translate=(0.12, 0.12),
                    scale=(0.82, 1.2),
                    shear=6,
                    interpolation=v2.InterpolationMode.BILINEAR,
                    fill=128,
                ),
                v2.ColorJitter(0.4, 0.4, 0.3),
                *([v2.RandomHorizontalFlip()] if mirrored else []),
            ]
        )

    def augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        return torch.cat([self._vary(chunk) for chunk in images.split(CHUNK)]), labels

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing)

    def distance(self, logits: Tensor, taught: Tensor) -> Tensor:
        return F.cross_entropy(logits, taught.softmax(dim=1))

    def score(self, answers: Iterator[tuple[Tensor, Tensor]]) -> float:
        right = torch.cat([logits.argmax(dim=1) == labels for logits, labels in answers])
        return float(right.float().mean())


class SegmentationTask(Task):
    """One label per pixel.

    Args:
        data: labelled frames.
        held_out: indices to validate on.
        crop: height and width [pixel] of the random crops.
        rarity: exponent of the class weights: 0 weighs all pixels alike, 1 all classes.
    """

    metric = "mean IoU"

    def __init__(self, data: LabelledFrames, held_out: Sequence[int], crop: tuple[int, int], rarity: float = 0.5):
        self._classes = len(data.classes)
        # Whatever is no class becomes the number after the last one.
        labels = np.minimum(data.labels, self._classes)
        super().__init__(data.images, labels, held_out, data.images.shape[1:3])
        self._crop = crop
        counts = np.bincount(labels[self._trained].ravel(), minlength=self._classes)[: self._classes]
        shares = np.maximum(counts, 1) / counts.sum()
        self._weights = torch.tensor((np.median(shares) / shares) ** rarity, dtype=torch.float32)
        self._place = v2.Compose(
            [
                v2.RandomZoomOut({tv_tensors.Image: 128, tv_tensors.Mask: self._classes}, side_range=(1.0, 1.5), p=0.3),
                v2.RandomResizedCrop(crop, scale=(0.25, 1.0), ratio=(1.1, 1.6)),
                v2.RandomHorizontalFlip(),
            ]
        )
        self._tint = v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4)])

    def augment(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        pairs = [self._place(tv_tensors.Image(image), tv_tensors.Mask(label)) for image, label in zip(images, labels)]
        return torch.stack([self._tint(image) for image, _ in pairs]), torch.stack([label for _, label in pairs])

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        # At half the frame's size: every second pixel teaches nearly as much, in a quarter of the time.
        labels = labels[:, ::2, ::2]
        logits = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
        return F.cross_entropy(logits, labels.long(), self._weights, ignore_index=self._classes)

    def distance(self, logits: Tensor, taught: Tensor) -> Tensor:
        taught = F.interpolate(taught, size=logits.shape[2:], mode="bilinear", align_corners=False).softmax(dim=1)
        weights = (taught * self._weights[:, None, None]).sum(dim=1)
        losses = -(taught * logits.log_softmax(dim=1)).sum(dim=1)
        return (weights * losses).sum() / weights.sum()

    def bias_correction(self, answers: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """What to add to the logits of each class, so that (logits, labels) pairs score best.

        Class weights make rare classes learnt, and too likely: undone is the share of them, in the logits, that serves
        best (after A. Menon et al., "Long-tail learning via logit adjustment", ICLR 2021).
        """
        corrections = [-share * self._weights.log() for share in np.linspace(0, 1, 11)]
        scores = [self.score((logits + c[:, None, None], labels) for logits, labels in answers) for c in corrections]
        return corrections[int(np.argmax(scores))]

    def score(self, answers: Iterator[tuple[Tensor, Tensor]]) -> float:
        confusion = np.zeros((self._classes, self._classes), np.int64)
        for logits, labels in answers:
            full = F.interpolate(logits, size=labels.shape[1:], mode="bilinear", align_corners=False)
            confusion += count_confusion(labels.numpy(), full.argmax(dim=1).numpy(), self._classes)
        return mean_iou(confusion)
