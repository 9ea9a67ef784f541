"""Group CNN: an AlexNet-like classifier whose first k channel groups are a network of their own.

Group g of a layer reads only group g of the layer before, each group has its own batch normalisation, and the
classifier adds up the groups in use.  The groups never exchange anything before that sum, so training a later
group cannot change an earlier one, and the subnetwork of k groups uses the first rows of every tensor: a view,
not a copy, with nothing to recalibrate.

    image [N, 3, 32, 32] -> (conv, batch norm, ReLU, [max-pool]) x layers -> mean over pixels -> sum over groups

Source: MLCAD 2019, see :mod:`dynamic_perception.networks.group_cnn_space`.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynamic_perception.networks.group_cnn_space import STATISTICS, GroupCNNSpace, GroupCNNSubnet
from dynamic_perception.networks.supernet import Normalise, Supernet

BATCH_NORM_MOMENTUM = 0.1  # torch's default: share of the newest batch in the running statistics


class GroupCNN(Supernet):
    """Supernet of a :class:`GroupCNNSpace`.

    It is trained group by group: no gradient ever reaches its parameters, but the leaves that `group` is made into.
    Other than in the other families its running statistics live in it, because a group takes them along.
    """

    space: GroupCNNSpace

    def __init__(self, space: GroupCNNSpace):
        super().__init__(space)
        self.requires_grad_(False)
        for name, shape in space.prefix_shapes(space.groups).items():
            if name not in self._names:
                self._names[name] = name.replace(".", "_")
                self.register_buffer(self._names[name], torch.zeros(shape))
        for name, tensor in self.tensors().items():
            if name.endswith("running_var") or (name.startswith("bn") and name.endswith("weight")):
                tensor.fill_(1.0)

    def initialise(self, generator: torch.Generator) -> None:
        """Draw the convolutions by He's rule (arXiv 1502.01852); a classifier of zeros lets a new group add nothing."""
        for name, tensor in self.tensors().items():
            if name.startswith("conv"):
                deviation = (2.0 / tensor[0].numel()) ** 0.5
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)

    def statistics(self, subnet: GroupCNNSubnet) -> dict[str, Tensor]:
        """The running statistics of the subnetwork's groups, as views: what `activate` takes."""
        tensors = self.tensors()
        return {name: tensors[name][: shape[0]] for name, shape in self.space.statistics_shapes(subnet).items()}

    def prefix(self, groups: int) -> dict[str, Tensor]:
        """The first `groups` groups of every tensor, statistics among them, as views of the full tensors."""
        shapes = self.space.prefix_shapes(groups)
        return {name: tensor[: shapes[name][0]] for name, tensor in self.tensors().items()}

    def group(self, index: int) -> dict[str, Tensor]:
        """Group `index` (0-based) alone, as views of the full tensors: what incremental training writes to."""
        one = self.space.prefix_shapes(1)
        return {
            name: tensor[index * one[name][0] : (index + 1) * one[name][0]] for name, tensor in self.tensors().items()
        }

    def execute(
        self, images: Tensor, subnet: GroupCNNSubnet, tensors: Mapping[str, Tensor], normalise: Normalise
    ) -> Tensor:
        """Logits [N, classes] of normalised images [N, 3, resolution, resolution]."""
        return _execute(self.space, images, tensors, subnet.groups, normalise)

    def extract(self, subnet: GroupCNNSubnet, statistics: Mapping[str, Tensor]) -> nn.Module:
        space, groups, tensors = self.space, subnet.groups, self.space.subnet_tensors(subnet, self.tensors())
        dtype, layers, channels = tensors["conv1.weight"].dtype, [], space.input_channels
        for layer, of_one_group in enumerate(space.channels):
            conv = nn.Conv2d(
                channels,
                groups * of_one_group,
                space.kernel_size,
                padding=space.kernel_size // 2,
                groups=1 if layer == 0 else groups,
                bias=False,
                dtype=dtype,
            )
            channels = conv.out_channels
            norm = nn.BatchNorm2d(channels, eps=space.batch_norm_epsilon, dtype=dtype)
            conv.load_state_dict({"weight": tensors[f"conv{layer + 1}.weight"]})
            of_norm = {part: tensors[f"bn{layer + 1}.{part}"] for part in ("weight", "bias")}
            of_norm |= {part: statistics[f"bn{layer + 1}.{part}"] for part in STATISTICS}
            norm.load_state_dict(of_norm, strict=False)  # it also counts batches, which nothing here reads
            layers += [conv, norm, nn.ReLU(), *([nn.MaxPool2d(2)] if space.pool_after[layer] else [])]
        classifier = GroupClassifier(tensors["classifier.weight"].clone(), tensors["classifier.bias"].clone())
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), classifier).eval()


class GroupClassifier(nn.Module):
    """The sum of the groups' linear classifiers: weight [groups * features, classes], bias [groups, classes]."""

    def __init__(self, weight: Tensor, bias: Tensor):
        super().__init__()
        self.weight, self.bias = nn.Parameter(weight), nn.Parameter(bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits [N, classes] of `features` [N, groups * features]."""
        return features @ self.weight + self.bias.sum(dim=0)


def execute(
    space: GroupCNNSpace, images: Tensor, tensors: Mapping[str, Tensor], groups: int, training: bool = False
) -> Tensor:
    """Logits [N, classes] of `images` [N, 3, H, W] through `groups` neighbouring groups held in `tensors`.

    With `training`, batch normalisation uses the batch's statistics and updates the running ones in place.
    """

    def normalise(name: str, x: Tensor, tensors: Mapping[str, Tensor]) -> Tensor:
        return F.batch_norm(
            x,
            tensors[f"{name}.running_mean"],
            tensors[f"{name}.running_var"],
            tensors[f"{name}.weight"],
            tensors[f"{name}.bias"],
            training,
            BATCH_NORM_MOMENTUM,
            space.batch_norm_epsilon,
        )

    return _execute(space, images, tensors, groups, normalise)


def _execute(
    space: GroupCNNSpace, images: Tensor, tensors: Mapping[str, Tensor], groups: int, normalise: Normalise
) -> Tensor:
    x = images
    for layer in range(space.layers):
        # Every group reads the whole image, and from then on only itself.
        of_input = 1 if layer == 0 else groups
        x = F.conv2d(x, tensors[f"conv{layer + 1}.weight"], padding=space.kernel_size // 2, groups=of_input)
        x = F.relu(normalise(f"bn{layer + 1}", x, tensors))
        if space.pool_after[layer]:
            x = F.max_pool2d(x, 2)
    features = x.mean(dim=(2, 3))  # [N, groups * features]
    return features @ tensors["classifier.weight"] + tensors["classifier.bias"].sum(dim=0)
