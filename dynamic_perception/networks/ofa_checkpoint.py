"""The authors' supernet checkpoints of the Once-for-All MobileNetV3, read strictly.

There are two generations.  Newer ones spell a block's tensors `blocks.N.conv.*`, as the search space does; the
published files spell them `blocks.N.mobile_inverted_conv.*` and wrap everything in `{"state_dict": ...}`.  Their
batch-normalisation statistics are those of the largest subnetwork.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynamic_perception.networks.ofa_mobilenet_v3_space import BASE_HEAD_WIDTHS, CLASSIFIER, MIX, OFAMobileNetV3Space

OLDER_BLOCK = "mobile_inverted_conv"
DATA_PARALLEL = "module."  # what torch's DataParallel puts before every name
COUNTER = "num_batches_tracked"  # of training; nothing depends on it, and a file of an older torch has none
LISTED = 20  # names in an error message


@dataclass(frozen=True)
class OFACheckpoint:
    """What a checkpoint holds: the space, the learned tensors (float32), and the largest subnetwork's statistics."""

    space: OFAMobileNetV3Space
    tensors: dict[str, np.ndarray]
    statistics: dict[str, np.ndarray]


def read_checkpoint(
    path: Path, width_multiplier: float | None = None, resolutions: tuple[int, ...] | None = None
) -> OFACheckpoint:
    """Read a supernet with kernels 3 5 7, expansions 3 4 6 and depths 2 3 4, of any width and number of classes.

    Nothing in the file is executed: it may hold tensors and plain data only.

    Args:
        path: of the file.
        width_multiplier: of its channels; by default read off the head, to two decimals.
        resolutions: that the space shall have, which no tensor depends on.

    Raises:
        ValueError: not a checkpoint, a tensor that is missing, does not belong or has another shape; names it as the
            file spells it.
    """
    state = _load(path)
    chosen = {} if resolutions is None else {"resolutions": resolutions}
    # Which tensors there are depends neither on the width nor on the number of classes.
    spelled = _spelled(OFAMobileNetV3Space(classes=2), state)
    missing, extra = sorted(spelled.keys() - state.keys()), sorted(state.keys() - spelled.keys())
    if missing or extra:
        raise ValueError(
            f"{path} is not a checkpoint of this supernet: missing {_some(missing)}; not in it {_some(extra)}"
        )
    named = {spelled[name]: (name, tensor) for name, tensor in state.items()}
    if width_multiplier is None:
        width_multiplier = round(_outputs(path, *named[f"{MIX}.weight"]) / BASE_HEAD_WIDTHS[1], 2)
    space = OFAMobileNetV3Space(_outputs(path, *named[f"{CLASSIFIER}.weight"]), width_multiplier, **chosen)
    learned, statistics = space.tensor_shapes(), space.statistics_shapes(space.largest())
    for name, shape in (learned | statistics).items():
        spelling, tensor = named[name]
        if tensor.shape != shape or not tensor.is_floating_point():
            raise ValueError(
                f"{path}: {spelling} has shape {tuple(tensor.shape)} and type {tensor.dtype}: expected "
                f"shape {shape} of a floating-point type at width multiplier {width_multiplier:g}"
            )

    def arrays(names: Iterable[str]) -> dict[str, np.ndarray]:
        return {name: named[name][1].to(torch.float32).contiguous().numpy() for name in names}

    return OFACheckpoint(space, arrays(learned), arrays(statistics))


def _load(path: Path) -> dict[str, Tensor]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError:
        raise ValueError(f"{path} is refused: expected a checkpoint of tensors and plain data alone") from None
    except Exception as error:  # whatever torch's readers trip over in a file of another kind
        raise ValueError(f"{path} is not a torch checkpoint ({type(error).__name__})") from None
    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items()
    ):
        raise ValueError(f"{path} holds {type(content).__name__}: expected tensors by name")
    return dict(content)


def _spelled(space: OFAMobileNetV3Space, state: Mapping[str, Any]) -> dict[str, str]:
    """Our name of every tensor that belongs into the file, by its name there."""
    statistics = space.statistics_shapes(space.largest())
    names = [*space.tensor_shapes(), *statistics]
    if any(name.endswith(COUNTER) for name in state):
        names += [name.replace("running_mean", COUNTER) for name in statistics if name.endswith("running_mean")]
    prefix = DATA_PARALLEL if all(name.startswith(DATA_PARALLEL) for name in state) else ""
    block = OLDER_BLOCK if any(f".{OLDER_BLOCK}." in name for name in state) else "conv"
    return {prefix + re.sub(r"^(blocks\.\d+)\.conv\.", rf"\1.{block}.", name): name for name in names}


def _outputs(path: Path, name: str, weight: Tensor) -> int:
    if not weight.shape:
        raise ValueError(f"{path}: {name} has shape (): expected a weight")
    return weight.shape[0]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return (", ".join(names[:LISTED]) or "nothing") + more
