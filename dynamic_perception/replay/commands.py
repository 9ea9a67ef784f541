"""`dynamic-perception record` and `replay`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynamic_perception.replay.offline import Replay

DIFFERENT, DAMAGED = 1, 3  # exit codes


def add_record(commands: argparse._SubParsersAction) -> None:
    """Add the `record` command."""
    parser = commands.add_parser(
        "record",
        help="record what the nodes hear and say into a bag",
        description="Record topics into one MCAP file with the message definitions inside, which ros2 bag, Foxglove, "
        "PlotJuggler and `dynamic-perception replay` read, until Ctrl-C or SIGTERM.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.mcap", help="file to write; must not exist")
    parser.add_argument(
        "--topics",
        nargs="+",
        metavar="TOPIC",
        help="what to record (default: frames, and all that the resource manager hears and says)",
    )
    parser.add_argument("--namespace", default="", help="of relative topic names (default: none)")
    parser.add_argument("--duration", type=float, metavar="S", help="stop after so long (default: when told to)")
    parser.add_argument(
        "--compression",
        choices=("none", "lz4", "zstd"),
        default="none",
        help="of the file (default: %(default)s, which takes the least time)",
    )
    parser.set_defaults(run_command=run_record)


def run_record(arguments: argparse.Namespace) -> int:
    """Record; exit code 1 if the file could not be written to its end."""
    if arguments.out.suffix != ".mcap":
        raise ValueError(
            f"--out is {arguments.out}: expected a name that ends in .mcap, by which ros2 bag knows the format"
        )
    if arguments.duration is not None and not arguments.duration > 0:
        raise ValueError(f"--duration is {arguments.duration:g} s: expected more than 0")
    # Only now: every other command starts without ROS.
    from dynamic_perception.replay.recorder import DEFAULT_TOPICS, record

    return record(
        arguments.out,
        arguments.topics or DEFAULT_TOPICS,
        arguments.namespace,
        arguments.duration,
        arguments.compression,
    )


def add_replay(commands: argparse._SubParsersAction) -> None:
    """Add the `replay` command."""
    parser = commands.add_parser(
        "replay",
        help="replay a bag through the resource manager and the network, or over DDS",
        description="Replay a bag (.mcap, .db3, or a folder of ros2 bag) without DDS and as fast as the machine "
        "allows. What the resource manager heard gives its commands again, and every frame runs at the point that is "
        "commanded at its time. The same bag gives the same commands every time. Exit code 1: other commands than "
        "expected; 3: the bag is damaged, and what can be read was used.",
    )
    parser.add_argument("bag", type=Path)
    parser.add_argument("--namespace", default="", help="of the perception node, for bags of several")
    settings = parser.add_argument_group("offline")
    settings.add_argument("--params-file", type=Path, metavar="FILE", help="ROS parameter file of the robot")
    settings.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="parameter of the perception or resource-manager node, such as model:=segmenter_camvid",
    )
    settings.add_argument("--image-topic", metavar="TOPIC", help="of the frames (default: the bag's 'image')")
    settings.add_argument("--subnetwork", default="", metavar="NAME", help="run every frame with it, and no manager")
    settings.add_argument("--element", default="", metavar="NAME", help="run every frame on it, for example cpu:1")
    settings.add_argument("--no-frames", action="store_true", help="replay the manager alone")
    settings.add_argument("--expect", type=Path, metavar="FILE.yaml", help="fail at the first command that differs")
    settings.add_argument("--write-expected", type=Path, metavar="FILE.yaml", help="write the commands to such a file")
    live = parser.add_argument_group("over DDS")
    live.add_argument(
        "--live", action="store_true", help="publish the bag's messages and /clock, for nodes with use_sim_time"
    )
    live.add_argument("--rate", type=float, default=1.0, help="times as fast (default: %(default)g)")
    live.add_argument("--start-offset", type=float, default=0.0, metavar="S", help="leave out the first seconds")
    live.add_argument("--loop", action="store_true", help="begin again at the end, until Ctrl-C")
    live.add_argument(
        "--delay",
        type=float,
        default=5.0,
        metavar="S",
        help="wait at most so long until somebody reads a topic (default: %(default)g)",
    )
    live.add_argument("--topics", nargs="+", metavar="TOPIC", help="publish only these (default: all)")
    parser.set_defaults(run_command=run_replay)


def run_replay(arguments: argparse.Namespace) -> int:
    """Replay; the exit code."""
    if arguments.live:
        return _run_live(arguments)
    # Only now: every other command starts without these.
    from dynamic_perception.replay.expected import compare_recorded, first_difference, read_expected, write_expected
    from dynamic_perception.replay.offline import ReplayOptions, replay
    from dynamic_perception.replay.parameters import read_parameters

    parameters = read_parameters(arguments.params_file, arguments.param)
    expected = read_expected(arguments.expect) if arguments.expect else None
    options = ReplayOptions(
        parameters,
        arguments.namespace,
        arguments.image_topic,
        arguments.subnetwork,
        arguments.element,
        not arguments.no_frames,
    )
    result = replay(arguments.bag, options)
    if (expected is not None or arguments.write_expected) and not result.commands:
        raise ValueError(
            "no commands were replayed, because --subnetwork was given or the bag has no messages for the "
            "resource manager: there is nothing to expect"
        )
    _print_result(result)
    if result.recorded and result.commands:
        print(f"against the recording: {compare_recorded(result.recorded, result.commands, result.inputs_at)}")
    if arguments.write_expected:
        write_expected(arguments.write_expected, result.commands, arguments.bag.name)
        print(f"{arguments.write_expected}: {len(result.commands)} commands")
    difference = first_difference(expected, result.commands, result.inputs_at) if expected is not None else ""
    if difference:
        print(f"error: other commands than in {arguments.expect}: {difference}", file=sys.stderr)
    elif expected is not None:
        print(f"the {len(expected)} commands of {arguments.expect}")
    for text in result.lost:
        print(f"error: lost: {text}", file=sys.stderr)
    return DIFFERENT if difference else DAMAGED if result.lost else 0


def _print_result(result: Replay) -> None:
    for command in result.commands:
        reason = command.reason if command.feasible else f"{command.reason}, not feasible"
        print(f"{command.time:10.3f} s  {command.point}  ({reason}): {command.detail}")
    if result.frames:
        rate = len(result.frames) / result.wall_time
        print(
            f"{len(result.frames)} frames of {result.duration:.1f} s in {result.wall_time:.1f} s: {rate:.1f} per "
            f"second, {100 * result.missed:.2f} % longer than their deadline here"
        )
    if result.reports:
        share = result.reports_missed / result.reports
        print(f"recorded: {result.reports} reports, {100 * share:.2f} % of a missed deadline")
    if result.mean_iou == result.mean_iou:
        print(f"mean IoU against truth: {100 * result.mean_iou:.4f} %")
    for note in result.notes:
        print(f"note: {note}")
    for text, number in result.refused.items():
        print(f"refused {number} times: {text}")


def _run_live(arguments: argparse.Namespace) -> int:
    if not arguments.rate > 0:
        raise ValueError(f"--rate is {arguments.rate:g}: expected more than 0")
    for name in ("start_offset", "delay"):
        if not getattr(arguments, name) >= 0:
            raise ValueError(f"--{name.replace('_', '-')} is {getattr(arguments, name):g} s: expected 0 or more")
    from dynamic_perception.replay.player import play

    lost = play(
        arguments.bag, arguments.rate, arguments.start_offset, arguments.loop, arguments.topics, arguments.delay
    )
    for text in lost:
        print(f"error: lost: {text}", file=sys.stderr)
    return DAMAGED if lost else 0
