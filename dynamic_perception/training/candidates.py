"""What a subnetwork is worth: calibrated accuracy on held-out images, and latency as measured on this machine."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynamic_perception.documents import parse_json
from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import ComputeElement
from dynamic_perception.networks.bundle import ModelBundle, Subnetwork
from dynamic_perception.networks.families import make_graph
from dynamic_perception.networks.search_space import SearchSpace, SubnetConfig
from dynamic_perception.networks.supernet import Supernet
from dynamic_perception.profiling.profiler import Planned, ProfileSettings, measure
from dynamic_perception.training.pareto import Point
from dynamic_perception.training.tasks import Task

STAGES = SEARCHED, SCORED, TIMED = "searched", "scored again", "timed again"
Statistics = dict[str, np.ndarray]


@dataclass(frozen=True)
class MeasurementSettings:
    """How subnetworks are measured during a search.

    Attributes:
        images: held-out images to score with, at the most.
        calibration_images: training images to calibrate with, at the most.
        frames: counted inferences for a latency.
        seed: of which images are taken.
    """

    images: int
    calibration_images: int
    frames: int
    seed: int


class CandidateMeter:
    """Measures subnetworks of a supernet.

    Args:
        bundle: of the supernet.
        network: the supernet with the bundle's weights.
        task: its images.
        element: to run on.
        settings: how to measure.
    """

    def __init__(
        self, bundle: ModelBundle, network: Supernet, task: Task, element: ComputeElement, settings: MeasurementSettings
    ):
        self._bundle, self._network, self._task = bundle, network, task
        self._element, self._settings = element, settings
        self._device = next(network.parameters()).device
        self._tensors = bundle.tensors()
        self._statistics: dict[SubnetConfig, Statistics] = {}

    def measure(self, config: SubnetConfig) -> Point:
        """Calibrate the subnetwork, score it and time it."""
        accuracy = self._score(config, self._settings.images)
        frames = self._settings.frames
        once = ProfileSettings(runs_per_turn=frames + 1, least_runs=frames, most_runs=frames, pause=0.0)
        (latency,) = self._latencies([config], [accuracy], once, lambda share: None)
        return Point(config, latency, accuracy)

    def score_again(self, point: Point) -> Point:
        """The point scored with all held-out images: chance decides too much of what a few find best."""
        if self._settings.images >= self._task.held_out:
            return point
        return replace(point, accuracy=self._score(point.config, self._task.held_out))

    def time_again(self, points: Sequence[Point], on_turn: Callable[[float], None]) -> list[Point]:
        """The points timed in turns until every median is known well, as `profile` does it.

        Args:
            points: to time.
            on_turn: called with the share [0..1] of the work that is done for sure.
        """
        configs, accuracies = [p.config for p in points], [p.accuracy for p in points]
        latencies = self._latencies(configs, accuracies, ProfileSettings(), on_turn)
        return [replace(point, latency=latency) for point, latency in zip(points, latencies)]

    def _calibrated(self, config: SubnetConfig) -> Statistics:
        if config not in self._statistics:
            images = self._task.calibration_images(
                self._bundle.space.input_size(config), self._settings.calibration_images, self._settings.seed
            )
            measured = self._network.calibrate(config, (x.to(self._device) for x in images))
            self._statistics[config] = {name: tensor.cpu().numpy() for name, tensor in measured.items()}
        return self._statistics[config]

    @torch.no_grad()
    def _score(self, config: SubnetConfig, images: int) -> float:
        statistics = {
            name: torch.from_numpy(array).to(self._device) for name, array in self._calibrated(config).items()
        }
        self._network.activate(config, statistics)
        held_out = self._task.held_out_images(self._bundle.space.input_size(config), images, self._settings.seed)
        return self._task.score((self._network(x.to(self._device)).cpu(), labels) for x, labels in held_out)

    def _latencies(
        self,
        configs: Sequence[SubnetConfig],
        accuracies: Sequence[float],
        settings: ProfileSettings,
        on_turn: Callable[[float], None],
    ) -> list[float]:
        """Median latency [s] of each."""
        names = [str(number) for number in range(len(configs))]
        space = self._bundle.space
        subnetworks = tuple(
            replace(Subnetwork.of(space, name, config), accuracy=accuracy)
            for name, config, accuracy in zip(names, configs, accuracies)
        )
        candidates = _CandidateBundle(
            **{**vars(self._bundle), "subnetworks": subnetworks},
            learned=self._tensors,
            measured={name: self._calibrated(config) for name, config in zip(names, configs)},
        )
        engine = OnnxRuntimeEngine(candidates, graph_of=make_graph)  # no file holds their weights
        try:
            points = [Planned(name, self._element) for name in names]
            return [
                float(np.median(measured.durations))
                for measured in measure(candidates, engine, points, settings, on_turn)
            ]
        finally:
            engine.close()


@dataclass(frozen=True)
class _CandidateBundle(ModelBundle):
    """Subnetworks that no file holds yet.

    Attributes:
        learned: the supernet's tensors by name.
        measured: batch-normalisation statistics by the subnetwork's name.
    """

    learned: Mapping[str, np.ndarray] | None = None
    measured: Mapping[str, Statistics] | None = None

    def tensors(self) -> dict[str, np.ndarray]:
        return dict(self.learned)

    def statistics(self, name: str) -> Statistics:
        return self.measured[name]


class MeasurementLog:
    """The measurements of a search in a file, one a line, so that an interrupted search goes on where it was.

    Args:
        path: of the file, which is made if it does not exist.
        space: of the subnetworks.
        identity: plain data; what must be the same for old measurements to be worth as much as new ones.

    Attributes:
        points: by stage, then by subnetwork.

    Raises:
        ValueError: the file is of another identity.
    """

    def __init__(self, path: Path, space: SearchSpace, identity: Mapping[str, Any]):
        self._path = path
        self.points: dict[str, dict[SubnetConfig, Point]] = {stage: {} for stage in STAGES}
        whole = path.read_bytes() if path.exists() else b""
        whole = whole[: whole.rfind(b"\n") + 1]  # the last line of an interrupted run may be a part of one
        if not whole:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(identity) + "\n")
            return
        os.truncate(path, len(whole))
        head, *lines = (parse_json(line, str(path)) for line in whole.splitlines())
        for key, value in json.loads(json.dumps(identity)).items():
            if head.get(key) != value:
                raise ValueError(
                    f"{path} was made with {key} {head.get(key)}, now {value}: give the same settings, or "
                    "another --run folder to start anew"
                )
        for line in lines:
            config = space.subnet(line["config"])
            self.points[line["stage"]][config] = Point(config, line["latency"], line["accuracy"])

    def add(self, stage: str, points: Sequence[Point]) -> None:
        """Keep measurements that belong together."""
        self.points[stage].update({point.config: point for point in points})
        lines = [{"stage": stage, **asdict(p), "config": p.config.to_plain()} for p in points]
        with self._path.open("a") as file:
            file.write("".join(json.dumps(line) + "\n" for line in lines))
