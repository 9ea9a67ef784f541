"""What every engine can do: run one subnetwork on one compute element, and switch between prepared ones."""

from __future__ import annotations

from typing import Protocol, Sequence

import numpy as np

from dynamic_perception.hardware.compute_element import ComputeElement


class Engine(Protocol):
    """Runs the subnetworks of one bundle.  Used from one thread only."""

    name: str
    version: str

    def prepare(self, subnetworks: Sequence[str], elements: Sequence[ComputeElement], warm_up_runs: int) -> None:
        """Make every combination ready to run and warm it up, so that activating one is only a switch."""

    def activate(self, subnetwork: str, element: ComputeElement) -> None:
        """Run that subnetwork on that element from now on; ValueError if the combination was not prepared."""

    def run(self, image: np.ndarray) -> np.ndarray:
        """The active subnetwork's answer to an RGB image, uint8 [H, W, 3] of its input size, C-contiguous.

        Returns:
            Of a classifier logits, float32 [classes]; of a segmenter the class numbers of the pixels, uint8 [H, W].
        """

    def close(self) -> None:
        """Free everything."""
