"""`dynamic-perception record` and `replay`."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_record(commands: argparse._SubParsersAction) -> None:
    """Add the `record` command."""
    parser = commands.add_parser(
        "record",
        help="record what the nodes hear and say into a bag",
        description="Record topics into one MCAP file with the message definitions inside, which ros2 bag, Foxglove, "
        "PlotJuggler and `dynamic-perception replay` read, until Ctrl-C or SIGTERM.",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.mcap", help="file to write; must not exist")
    parser.add_argument("--topics", nargs="+", metavar="TOPIC",
                        help="what to record (default: frames, and all that the resource manager hears and says)")
    parser.add_argument("--namespace", default="", help="of relative topic names (default: none)")
    parser.add_argument("--duration", type=float, metavar="S", help="stop after so long (default: when told to)")
    parser.add_argument("--compression", choices=("none", "lz4", "zstd"), default="none",
                        help="of the file (default: %(default)s, which takes the least time)")
    parser.set_defaults(run_command=run_record)


def run_record(arguments: argparse.Namespace) -> int:
    """Record; exit code 1 if the file could not be written to its end."""
    if arguments.out.suffix != ".mcap":
        raise ValueError(f"--out is {arguments.out}: expected a name that ends in .mcap, by which ros2 bag knows the format")
    if arguments.duration is not None and not arguments.duration > 0:
        raise ValueError(f"--duration is {arguments.duration:g} s: expected more than 0")
    # Only now: every other command starts without ROS.
    from dynamic_perception.replay.recorder import DEFAULT_TOPICS, record

    return record(arguments.out, arguments.topics or DEFAULT_TOPICS, arguments.namespace, arguments.duration,
                  arguments.compression)
