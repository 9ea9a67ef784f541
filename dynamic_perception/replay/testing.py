"""A bag as a regression test, for pytest or anything else that counts an AssertionError as a failure.

    from dynamic_perception.replay.testing import replay_bag

    def test_the_drive_through_the_tunnel():
        run = replay_bag("tunnel.mcap", params_file="robot.yaml")
        run.assert_deadlines_met(missed_at_most=0.01)
        run.assert_points_within(subnetworks=("w50_r100", "w75_r100"), min_accuracy=0.5)
        run.assert_commands("tunnel_commands.yaml")

`dynamic-perception replay tunnel.mcap --params-file robot.yaml --write-expected tunnel_commands.yaml` writes the file.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dynamic_perception.networks.bundle import ModelBundle, find_bundle, read_bundle
from dynamic_perception.replay.expected import first_difference, read_expected
from dynamic_perception.replay.offline import OnAnswer, Replay, ReplayOptions, replay
from dynamic_perception.replay.parameters import read_parameters


@dataclass(frozen=True)
class CheckedReplay:
    """A replay and what can be demanded of it; every method raises AssertionError with what was found.

    Attributes:
        result: the replay.
        bundle: the network.
    """

    result: Replay
    bundle: ModelBundle

    def assert_deadlines_met(self, missed_at_most: float = 0.0) -> None:
        """That decoding, scaling and inference took longer than the deadline for at most this share [0..1] of frames.

        It is the machine that runs the test whose time counts, and the commanded points.  There have to be frames.
        """
        frames = self.result.frames
        assert frames, f"{self.result.bag} gave no frames to judge deadlines by"
        missed = [frame for frame in frames if not frame.deadline_met]
        assert self.result.missed <= missed_at_most, (
            f"{len(missed)} of {len(frames)} frames ({100 * self.result.missed:.2f} %) took longer than their "
            f"deadline, the first at {missed[0].time:.3f} s with {missed[0].subnetwork} on "
            f"{missed[0].compute_element}: expected at most {100 * missed_at_most:.2f} %"
        )

    def assert_recorded_deadlines_met(self, missed_at_most: float = 0.0) -> None:
        """That at most this share [0..1] of the reports in the bag, of the robot itself, tells of a missed deadline."""
        result = self.result
        assert result.reports, f"{result.bag} holds no inference_report"
        share = result.reports_missed / result.reports
        assert share <= missed_at_most, (
            f"{result.reports_missed} of {result.reports} reports ({100 * share:.2f} %) tell of a missed deadline: "
            f"expected at most {100 * missed_at_most:.2f} %"
        )

    def assert_points_within(
        self,
        subnetworks: Collection[str] | None = None,
        elements: Collection[str] | None = None,
        min_accuracy: float = 0.0,
        feasible: bool = False,
    ) -> None:
        """That every command is for one of these subnetworks and compute elements (None: any), and good enough.

        Args:
            subnetworks, elements: names.
            min_accuracy: [0..1] that the bundle says of the subnetwork.
            feasible: whether every command also has to meet all limits.
        """
        commands = self.result.commands
        assert commands, f"{self.result.bag} gave no commands"
        for command in commands:
            where = f"at {command.time:.3f} s {command.point} was commanded ({command.detail})"
            assert subnetworks is None or command.subnetwork in subnetworks, (
                f"{where}: expected one of {', '.join(subnetworks)}"
            )
            assert elements is None or command.compute_element in elements, (
                f"{where}: expected one of {', '.join(elements)}"
            )
            accuracy = self.bundle.subnetwork(command.subnetwork).accuracy
            assert not accuracy < min_accuracy, (
                f"{where}, of accuracy {accuracy:.3f}: expected at least {min_accuracy:.3f}"
            )
            assert command.feasible or not feasible, f"{where}: expected all limits to be met"

    def assert_commands(self, expected: str | os.PathLike) -> None:
        """That the commands are those of a file that `replay --write-expected` wrote."""
        path = Path(expected)
        assert path.exists(), (
            f"there is no {path} yet: `dynamic-perception replay {self.result.bag} --write-expected "
            f"{path}`, with the same parameters, writes it"
        )
        difference = first_difference(read_expected(path), self.result.commands, self.result.inputs_at)
        assert not difference, f"other commands than in {path}: {difference}"


def replay_bag(
    bag: str | os.PathLike,
    params_file: str | os.PathLike | None = None,
    parameters: Mapping[str, Any] | None = None,
    damaged: bool = False,
    on_answer: OnAnswer | None = None,
    **options: Any,
) -> CheckedReplay:
    """Replay a bag offline.

    Args:
        bag: its path.
        params_file: ROS parameter file of the robot.
        parameters: of the perception and resource-manager node, by name; they win.
        damaged: whether a bag of which a part cannot be read will do.
        on_answer: gets every frame and its answer.
        options: further fields of `ReplayOptions`.

    Raises:
        ValueError: the bag or a parameter is wrong; says what was expected.
        AssertionError: a part of the bag cannot be read.
    """
    settings = [f"{name}:={_to_yaml(value)}" for name, value in (parameters or {}).items()]
    values = read_parameters(Path(params_file) if params_file is not None else None, settings)
    result = replay(Path(bag), ReplayOptions(values, **options), on_answer)
    assert damaged or not result.lost, f"{bag} is damaged: {'; '.join(result.lost)}"
    return CheckedReplay(result, read_bundle(find_bundle(values["model"])))


def _to_yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True).removesuffix("...\n").strip()
