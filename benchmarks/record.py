"""Whether recording raw frames loses any, and what it costs perception.

    .venv/bin/python benchmarks/record.py [--duration S] [--bundle NAME]

The camera node (synthetic, 640x480 bgr8 at 30 Hz), the perception node, and in the turns that are recorded
`dynamic-perception record`, each in a process of its own, over the DDS of this machine.  Perception has one thread and
the largest subnetwork, in int8 where there is one.  Turns with and without the recorder alternate, so that a machine
that gets slower meanwhile does not decide.

Definitions, so that nobody can misread them:
    lost_messages                   messages that were published while the recorder listened and are not in the bag, by
                                    the gaps in the numbers that DDS gives them, those that were dropped included; or,
                                    if that is more, frames that perception reported and that are not in the bag
    perception_latency_over_without median end-to-end duration in the reports, with the recorder over without
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from dynamic_perception.msg import InferenceReport
from node import node_program, spin_until  # the benchmark beside this one
from rclpy.executors import SingleThreadedExecutor
from rich.console import Console
from rich.table import Table

from dynamic_perception.demo.session import isolate
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.bundle import INT8, ModelBundle, find_bundle, read_bundle
from dynamic_perception.nodes import qos
from dynamic_perception.replay.bag import Bag
from dynamic_perception.report.progress import progress_bar

WIDTH, HEIGHT, RATE = 640, 480, 30.0
TURNS = 4  # with and without the recorder, alternating
WARM_UP_REPORTS = 60
START_TIMEOUT = 30.0  # [s]
COMMAND = "import sys; from dynamic_perception.cli import main; sys.exit(main(sys.argv[1:]))"


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--duration", type=float, default=60.0, metavar="S", help="with the recorder, and without (default: 60)"
    )
    parser.add_argument("--bundle", default="segmenter_camvid", help="(default: %(default)s)")
    arguments = parser.parse_args()
    bundle = read_bundle(find_bundle(arguments.bundle))
    latencies: dict[bool, list[float]] = {False: [], True: []}
    lost, frames, size = 0, 0, 0
    with tempfile.TemporaryDirectory() as folder:
        isolate(Path(folder))
        rclpy.init()
        with progress_bar() as bar:
            for turn in bar.track(range(2 * TURNS), description="turns"):
                recorded = turn % 2 == 1
                path = Path(folder) / f"run_{turn}.mcap"
                latencies[recorded] += watch(bundle, arguments.duration / TURNS, path if recorded else None)
                if recorded:
                    lost_here, frames_here = count_lost(path)
                    lost, frames, size = lost + lost_here, frames + frames_here, size + path.stat().st_size
                    path.unlink()
        rclpy.try_shutdown()
    table = Table(title=f"{bundle.name}, {WIDTH}x{HEIGHT} bgr8 at {RATE:g} Hz, {arguments.duration:g} s each")
    for heading in ("", "reports", "latency p50 [ms]", "p95", "p99"):
        table.add_column(heading, justify="right" if heading else "left")
    for recorded, name in ((False, "without recorder"), (True, "with recorder")):
        table.add_row(
            name,
            str(len(latencies[recorded])),
            *(f"{1e3 * np.quantile(latencies[recorded], q):.2f}" for q in (0.5, 0.95, 0.99)),
        )
    Console().print(table)
    print(f"{frames} frames recorded, {1e-6 * size:.0f} MB")
    print(
        json.dumps(
            {
                "lost_messages": lost,
                "perception_latency_over_without": float(np.median(latencies[True]) / np.median(latencies[False])),
            }
        )
    )


def watch(bundle: ModelBundle, duration: float, path: Path | None) -> list[float]:
    """End-to-end durations [s] of the frames of `duration` [s], recorded into `path` if there is one."""
    element = discover_elements()[0].name
    subnetwork = (bundle.of_precision(INT8) or bundle.subnetworks)[-1].name
    node = rclpy.create_node("benchmark")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    reports: list[InferenceReport] = []
    node.create_subscription(InferenceReport, "inference_report", reports.append, qos.RESULTS)
    processes = [
        subprocess.Popen(command, stdout=subprocess.DEVNULL)
        for command in (
            node_command("camera", source="synthetic", scene="objects", width=WIDTH, height=HEIGHT, frame_rate=RATE),
            node_command(
                "perception",
                model=bundle.folder,
                start_element=element,
                start_subnetwork=subnetwork,
                command_timeout=0.0,
            ),
        )
    ]
    recorder = None
    try:
        if path is not None:
            recorder = subprocess.Popen(
                [sys.executable, "-c", COMMAND, "record", "--out", str(path)],
                cwd=path.parent,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            spin_until(executor, lambda: path.exists() and path.stat().st_size > 2**20, START_TIMEOUT, "the recorder")
        spin_until(executor, lambda: len(reports) > WARM_UP_REPORTS, START_TIMEOUT, "reports")
        reports.clear()
        end = time.monotonic() + duration
        while time.monotonic() < end:
            executor.spin_once(timeout_sec=0.1)
        if recorder is not None:
            recorder.send_signal(signal.SIGINT)
            output, _ = recorder.communicate(timeout=30)
            path.with_suffix(".txt").write_text(output)
    finally:
        for process in [*processes, *([recorder] if recorder else [])]:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(30)
        executor.shutdown()
        node.destroy_node()
    return [report.end_to_end_duration for report in reports]


def count_lost(path: Path) -> tuple[int, int]:
    """Messages that the recorder lost or dropped, and frames that it has."""
    output = path.with_suffix(".txt").read_text()
    lost = sum(int(count) for count in re.findall(r": (\d+) messages (?:lost|dropped)", output))
    with Bag(path) as bag:
        if bag.lost:
            raise SystemExit(f"error: {bag.lost[0]}")
        stamps = {stamp_of(m.message) for m in bag.messages(["/image"])}
        reported = {stamp_of(m.message) for m in bag.messages(["/inference_report"])}
    missing = [stamp for stamp in reported - stamps if min(stamps) < stamp < max(stamps)]
    return max(lost, len(missing)), len(stamps)


def stamp_of(message: object) -> int:
    """A header's stamp as one number."""
    return 10**9 * message.header.stamp.sec + message.header.stamp.nanosec


def node_command(name: str, **parameters: object) -> list[str]:
    """Command of a node."""
    options = [text for key, value in parameters.items() for text in ("-p", f"{key}:={value}")]
    return [node_program(name), "--ros-args", "--log-level", "warn", *options]


if __name__ == "__main__":
    main()
