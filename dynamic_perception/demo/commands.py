"""`dynamic-perception demo`: the closed loop to watch, on this machine, with and without the manager."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dynamic_perception.demo.interruption import Interruption

SHORTEST_DURATION = 10.0  # [s] below it a phase is shorter than the manager needs to answer it


def add_demo(commands: argparse._SubParsersAction) -> None:
    """Add the `demo` command."""
    parser = commands.add_parser(
        "demo",
        help="watch the manager keep perception inside its limits",
        description="Start a camera on a synthetic road, where the truth is known, or on your own frames, the "
        "perception node, the resource manager and the hardware monitor as separate "
        "processes, and trouble them: a calm start, a tight deadline, CPU load, heat, a draining battery, "
        "recovery. Then play the same again without the manager, at the fixed largest subnetwork. Where "
        "the machine has no temperature or battery sensor, a model stands in and says so. Where it has "
        "no CPU clock that can be set, one is emulated, as root. At the end there "
        "are a page and a picture of both runs. Ctrl-C ends everything.",
        epilog="Exit code: 0 if frames flowed, commands were applied and every process ended well; 1 with a sentence "
        "otherwise; 2 for a wrong option; 130 when interrupted.",
    )
    parser.add_argument("--duration", type=_duration, default=60.0, metavar="S", help="seconds per run (default: 60)")
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--images", type=Path, metavar="DIR", help="show the images of a folder, not a synthetic scene")
    source.add_argument("--video", type=Path, metavar="FILE", help="show a video, not a synthetic scene")
    parser.add_argument("--headless", action="store_true", help="print a line per event instead of the live table")
    parser.add_argument(
        "--machine-clock",
        action="store_true",
        help="leave the clock to the machine, also where one could be emulated (as root, on a machine "
        "without one that can be set)",
    )
    parser.add_argument(
        "--model",
        default="segmenter_camvid",
        metavar="NAME_OR_PATH",
        help="name of a shipped model bundle, or its folder (default: %(default)s)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="folder for the results (default: demo_results/<date-time>)"
    )
    parser.set_defaults(run_command=run_demo)


def _duration(text: str) -> float:
    seconds = float(text)
    if not SHORTEST_DURATION <= seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text} s: expected at least {SHORTEST_DURATION:g} s")
    return seconds


def run_demo(arguments: argparse.Namespace) -> int:
    """Prepare, play both runs, report; the exit code of the epilog above."""
    interruption = Interruption()
    interruption.listen()
    # All that takes long to import comes after the first moment in which Ctrl-C ends the demo as promised.
    from dynamic_perception.demo.session import DemoOptions, run_session

    return run_session(
        DemoOptions(
            arguments.duration,
            arguments.images,
            arguments.video,
            arguments.headless,
            arguments.machine_clock,
            arguments.model,
            arguments.out,
        ),
        interruption,
    )
