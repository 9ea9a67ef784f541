"""Group CNN: an AlexNet-like classifier whose first k channel groups are a network of their own.

Group g of a layer reads only group g of the layer before, each group has its own batch normalisation, and the
classifier adds up the groups in use.  The groups never exchange anything before that sum, so training a later
group cannot change an earlier one, and the subnetwork of k groups uses the first rows of every tensor: a view,
not a copy, with nothing to recalibrate.

    image [N, 3, 32, 32] -> (conv, batch norm, ReLU, [max-pool]) x layers -> mean over pixels -> sum over groups

Source: MLCAD 2019, see :mod:`dynamic_perception.networks.group_cnn_architecture`.
"""

from __future__ import annotations

from typing import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynamic_perception.networks.group_cnn_architecture import GroupCNNArchitecture

BATCH_NORM_MOMENTUM = 0.1  # torch's default: share of the newest batch in the running statistics


class GroupCNN(nn.Module):
    """The supernet.  `activate(k)` chooses the subnetwork of the first k groups; `forward` executes it."""

    def __init__(self, architecture: GroupCNNArchitecture):
        super().__init__()
        self.architecture = architecture
        self.active_groups = architecture.groups
        # Buffers with flat names: the state dict is the weight file, and no gradient is ever kept for a frozen group.
        self._names = {name: name.replace(".", "_") for name in architecture.tensor_shapes()}
        for name, shape in architecture.tensor_shapes().items():
            ones = name.endswith("running_var") or (name.startswith("bn") and name.endswith("weight"))
            self.register_buffer(self._names[name], torch.ones(shape) if ones else torch.zeros(shape))

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the convolutions by He's rule (arXiv 1502.01852); a classifier of zeros lets a new group add nothing."""
        for name, tensor in self.tensors().items():
            if name.startswith("conv"):
                deviation = (2.0 / tensor[0].numel()) ** 0.5
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor of the full network by its name in the weight file."""
        return {name: getattr(self, attribute) for name, attribute in self._names.items()}

    def load_tensors(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the named tensors in; names and shapes must be exactly those of the architecture."""
        mine = self.tensors()
        if set(tensors) != set(mine):
            raise ValueError(f"tensors differ from the architecture's: {sorted(set(tensors) ^ set(mine))}")
        for name, tensor in mine.items():
            if tensor.shape != tensors[name].shape:
                raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}: expected {tuple(tensor.shape)}")
            tensor.copy_(tensors[name])

    def activate(self, groups: int) -> None:
        """Execute only the first `groups` groups from now on; ValueError outside 1..groups."""
        if not 1 <= groups <= self.architecture.groups:
            raise ValueError(f"groups is {groups}: expected 1 to {self.architecture.groups}")
        self.active_groups = groups

    def prefix(self, groups: int) -> dict[str, Tensor]:
        """The first `groups` groups of every tensor, as views of the full tensors."""
        shapes = self.architecture.tensor_shapes(groups)
        return {name: tensor[: shapes[name][0]] for name, tensor in self.tensors().items()}

    def group(self, index: int) -> dict[str, Tensor]:
        """Group `index` (0-based) alone, as views of the full tensors: what incremental training writes to."""
        one = self.architecture.tensor_shapes(1)
        return {
            name: tensor[index * one[name][0] : (index + 1) * one[name][0]] for name, tensor in self.tensors().items()
        }

    def forward(self, images: Tensor) -> Tensor:
        """Logits [N, classes] of normalised images [N, 3, input_size, input_size], by the active subnetwork."""
        return execute(self.architecture, images, self.prefix(self.active_groups), self.active_groups)


def execute(
    architecture: GroupCNNArchitecture,
    images: Tensor,
    tensors: Mapping[str, Tensor],
    groups: int,
    training: bool = False,
) -> Tensor:
    """Logits [N, classes] of `images` [N, 3, H, W] through `groups` neighbouring groups held in `tensors`.

    With `training`, batch normalisation uses the batch's statistics and updates the running ones in place.
    """
    x = images
    for layer in range(architecture.layers):
        bn = f"bn{layer + 1}"
        # Every group reads the whole image, and from then on only itself.
        x = F.conv2d(
            x,
            tensors[f"conv{layer + 1}.weight"],
            padding=architecture.kernel_size // 2,
            groups=1 if layer == 0 else groups,
        )
        x = F.batch_norm(
            x,
            tensors[f"{bn}.running_mean"],
            tensors[f"{bn}.running_var"],
            tensors[f"{bn}.weight"],
            tensors[f"{bn}.bias"],
            training,
            BATCH_NORM_MOMENTUM,
            architecture.batch_norm_epsilon,
        )
        x = F.relu(x)
        if architecture.pool_after[layer]:
            x = F.max_pool2d(x, 2)
    features = x.mean(dim=(2, 3))  # [N, groups * features]
    return features @ tensors["classifier.weight"] + tensors["classifier.bias"].sum(dim=0)
