"""How fast a bag is replayed, and whether it gives the same every time.

    .venv/bin/python benchmarks/replay.py [--frames N] [--bundle NAME] [--subnetwork NAME] [--bag FILE]

Without --bag, a bag is made first: 640x480 bgr8 frames at 30 Hz with a report for each, deadlines that change, battery
and temperature, written by the package's own writer.

Definitions, so that nobody can misread them:
    frames_per_second       frames of the bag over the time that their replay takes, one subnetwork on one thread
    realtime_factor         duration of the bag over that time
    identical_over_10_runs  whether the manager gives the same commands, times and reasons included, in ten replays
    of_engine_rate          frames_per_second over the rate at which the engine alone runs the same subnetwork on one
                            prepared frame, measured before and after the replay
    inference_share         time inside the network over the time of the replay; what is missing to 1 is what the
                            network waited for reading and preparing
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from builtin_interfaces.msg import Duration, Time
from dynamic_perception.msg import InferenceReport
from rclpy.serialization import serialize_message
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import BatteryState, Temperature
from std_msgs.msg import Header

from dynamic_perception.engines.selection import open_engine
from dynamic_perception.hardware.compute_element import discover_elements, platform_fingerprint
from dynamic_perception.management.operating_points import OperatingPoint, OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle, find_bundle, read_bundle
from dynamic_perception.nodes.image_messages import to_message
from dynamic_perception.profiling.table_file import ProfileFile, write_table
from dynamic_perception.replay.bag_writer import BagWriter
from dynamic_perception.replay.testing import replay_bag
from dynamic_perception.replay.topics import MANAGER_TOPICS
from dynamic_perception.report.progress import progress_bar

RATE = 30.0  # [Hz]
WIDTH, HEIGHT = 640, 480
PICTURES = 30  # different ones, in turns
START = 1_700_000_000_000_000_000  # [ns]
RUNS = 10
ENGINE_SECONDS = 5.0  # that the engine alone is measured for, twice


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=1000, metavar="N")
    parser.add_argument("--bundle", default="segmenter_camvid", help="(default: %(default)s)")
    parser.add_argument("--subnetwork", default="", metavar="NAME", help="(default: the largest)")
    parser.add_argument("--bag", type=Path, help="replay this one")
    arguments = parser.parse_args()
    bundle = read_bundle(find_bundle(arguments.bundle))
    subnetwork = arguments.subnetwork or bundle.subnetworks[-1].name

    with tempfile.TemporaryDirectory() as folder:
        profile = make_profile(Path(folder) / "profile.yaml", bundle)
        bag = arguments.bag or make_bag(Path(folder) / "bag.mcap", arguments.frames, bundle)
        parameters = {"model": arguments.bundle, "engine": "onnxruntime", "profile": str(profile)}
        before = engine_rate(bundle, subnetwork)
        run = replay_bag(bag, parameters=parameters, subnetwork=subnetwork, element=discover_elements()[0].name).result
        after = engine_rate(bundle, subnetwork)
        replays = [replay_bag(bag, parameters=parameters, frames=False).result for _ in range(RUNS)]

    rate = len(run.frames) / run.wall_time
    alone = (before + after) / 2
    table = Table(title=f"{bundle.name}, {subnetwork}, {WIDTH}x{HEIGHT} bgr8, one thread")
    for heading in ("frames", "engine alone [1/s]", "replay [1/s]", "of engine rate", "commands"):
        table.add_column(heading, justify="right")
    table.add_row(
        str(len(run.frames)),
        f"{before:.1f}, {after:.1f}",
        f"{rate:.1f}",
        f"{rate / alone:.3f}",
        str(len(replays[0].commands)),
    )
    Console().print(table)
    print(
        json.dumps(
            {
                "frames_per_second": rate,
                "realtime_factor": run.duration / run.wall_time,
                "identical_over_10_runs": len({repr(replay.commands) for replay in replays})
                == 1,  # NaN is not equal to itself
                "of_engine_rate": rate / alone,
                "inference_share": sum(frame.inference_duration for frame in run.frames) / run.wall_time,
            }
        )
    )


def engine_rate(bundle: ModelBundle, subnetwork: str) -> float:
    """Inferences per second of the engine alone."""
    element = discover_elements()[0]
    engine = open_engine("onnxruntime", bundle)
    engine.make_ready(subnetwork, element, warm_up_runs=3)
    engine.activate(subnetwork, element)
    image = np.random.default_rng(1).integers(0, 256, (*bundle.input_size(subnetwork), 3), np.uint8)
    runs, began = 0, time.perf_counter()
    while time.perf_counter() - began < ENGINE_SECONDS:
        engine.run(image)
        runs += 1
    rate = runs / (time.perf_counter() - began)
    engine.close()
    return rate


def make_profile(path: Path, bundle: ModelBundle) -> Path:
    """A table with made-up latencies in rising size: what is decided does not matter here, only that it repeats."""
    element = discover_elements()[0].name
    points = [
        OperatingPoint(
            s.name, element, 0.0, float("nan"), 0.010 * rank, 0.011 * rank, 0.012 * rank, 3.0, 0.03 * rank, s.accuracy
        )
        for rank, s in enumerate(bundle.subnetworks, start=1)
    ]
    provenance = dict.fromkeys(("latency", "power", "energy", "accuracy"), "modelled")
    write_table(
        path,
        ProfileFile(
            OperatingPointTable.from_points(points, provenance),
            bundle.name,
            bundle.weights_sha256,
            "onnxruntime",
            "1",
            platform_fingerprint(),
            {},
        ),
    )
    return path


def make_bag(path: Path, frames: int, bundle: ModelBundle) -> Path:
    """A made-up drive."""
    random = np.random.default_rng(1)
    pictures = [random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(PICTURES)]
    element = discover_elements()[0].name
    writer = BagWriter(path, queue_bytes=2**40)
    for name, kind in {"image": "sensor_msgs/msg/Image", **MANAGER_TOPICS}.items():
        writer.add_topic(f"/{name}", kind, "", "")

    def add(topic: str, message: object, moment: int) -> None:
        writer.offer(f"/{topic}", moment, moment, serialize_message(message))

    with progress_bar() as bar:
        for number in bar.track(range(frames), description="making a bag"):
            moment = START + round(1e9 * number / RATE)
            header = Header(stamp=Time(sec=moment // 10**9, nanosec=moment % 10**9), frame_id="camera")
            add("image", to_message(pictures[number % PICTURES], "bgr8", header), moment)
            inference = 0.012 * (1.0 + 0.1 * random.standard_normal())
            add(
                "inference_report",
                InferenceReport(
                    header=header,
                    subnetwork=bundle.subnetworks[0].name,
                    compute_element=element,
                    inference_duration=inference,
                    end_to_end_duration=inference + 0.003,
                    deadline_met=True,
                ),
                moment + 10**7,
            )
            if number % 150 == 75:
                add("deadline", Duration(nanosec=int(1e6 * random.integers(15, 80))), moment)
            if number % 30 == 0:
                add("battery_state", BatteryState(percentage=1.0 - number / frames, present=True), moment)
                add("temperature", Temperature(header=header, temperature=50.0 + 30.0 * number / frames), moment)
    writer.close()
    if writer.failure:
        raise SystemExit(f"error: {path} cannot be written: {writer.failure}")
    return path


if __name__ == "__main__":
    main()
