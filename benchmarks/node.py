"""What the perception node adds to inference, against the node that people write without it.

    .venv/bin/python benchmarks/node.py [--duration S] [--rate HZ] [--bundle NAME]

The camera node (synthetic, 640x480 bgr8) in one process, perception in a second one, and this process, which hears the
answers, over the DDS of this machine.  In turns with it a peer in perception's place: a plain rclpy node that converts
the message with numpy, scales it, normalises it, infers in the image callback with a plain ONNX Runtime session on the
same subnetwork and threads, and publishes the same messages.

Definitions, so that nobody can misread them:
    inference_p50_ms      of the report
    overhead_p50_ms, overhead_p99_ms
                          from the frame's stamp to the moment at which this process has the answer, less inference
    age_p95_ms            age of a frame when its processing began, of the report
    lost_commands         of those sent at 10 Hz, each for another subnetwork, to a node whose network takes at least
                          100 ms: how many no state answered
    cpu_percent_overhead  CPU time of the perception process per time, less what inference takes: its duration in the
                          reports times the threads; per cent of one core
    peer_overhead_p50_ms  as overhead_p50_ms, of the peer
    start_to_first_result_s
                          from the start of the perception process, while the camera is publishing, to the moment at
                          which this process has the first answer; the greatest of three, with exported graphs
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import rclpy
from builtin_interfaces.msg import Time
from dynamic_perception.msg import (
    Classification,
    InferenceReport,
    OperatingPoint,
    OperatingPointCommand,
    OperatingPointState,
)
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import Image

from dynamic_perception.demo.session import isolate
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import ModelBundle, Subnetwork, find_bundle, read_bundle, write_bundle
from dynamic_perception.networks.families import make_graph
from dynamic_perception.networks.graph_files import read_graph
from dynamic_perception.networks.segmenter_space import SegmenterSpace
from dynamic_perception.nodes import qos
from dynamic_perception.report.progress import progress_bar

WIDTH, HEIGHT = 640, 480
TURNS = 2  # of each of the two, alternating
SLOW = 0.1  # [s] that inference takes at least while commands are sent
COMMANDS, COMMAND_RATE = 100, 10.0  # [Hz]
WARM_UP_FRAMES = 60
STARTS = 3
START_TIMEOUT = 30.0  # [s]


@dataclass
class Observed:
    """What this process heard, by the frame's stamp [ns]."""

    received: dict[int, int] = field(default_factory=dict)
    reports: dict[int, InferenceReport] = field(default_factory=dict)
    cpu_time: float = 0.0  # [s] of the process under test
    wall_time: float = 0.0  # [s]

    def overheads(self) -> list[float]:
        """[s] of every frame of which both messages came."""
        return [
            1e-9 * (self.received[stamp] - stamp) - report.inference_duration
            for stamp, report in self.reports.items()
            if stamp in self.received
        ]


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=60.0, metavar="S", help="of each of the two (default: 60)")
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ")
    parser.add_argument("--bundle", default="group_cnn_cifar10", help="a classifier (default: %(default)s)")
    parser.add_argument("--peer", metavar="FOLDER", help=argparse.SUPPRESS)  # this script as the peer's process
    arguments = parser.parse_args()
    if arguments.peer:
        return run_peer(Path(arguments.peer))

    with tempfile.TemporaryDirectory() as folder:
        isolate(Path(folder))
        os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(share_folder() / "config" / "fastdds.xml")  # as on a robot
        bundle = read_bundle(find_bundle(arguments.bundle))
        (Path(folder) / "graph.onnx").write_bytes(make_graph(bundle, bundle.subnetworks[-1].name))
        (Path(folder) / "labels.json").write_text(json.dumps(bundle.labels))
        rclpy.init()
        ours, peer = Observed(), Observed()
        programs = [
            (
                ours,
                [
                    node_program("perception"),
                    "--ros-args",
                    "--log-level",
                    "warn",
                    "-p",
                    f"model:={bundle.folder}",
                    "-p",
                    "command_timeout:=0.0",
                ],
            ),
            (peer, [sys.executable, __file__, "--peer", folder]),
        ]
        with progress_bar() as bar:
            progress = bar.add_task("frames", total=2 * TURNS)
            for _ in range(TURNS):
                for observed, program in programs:
                    watch(program, observed, arguments.duration / TURNS, arguments.rate)
                    bar.update(progress, advance=1)
        for subnetwork in bundle.subnetworks:
            read_graph(bundle, subnetwork.name)  # as `dynamic-perception export` does
        first = max(start_to_first_result(programs[0][1], arguments.rate) for _ in range(STARTS))
        lost = COMMANDS - answered_commands(Path(folder))
        rclpy.try_shutdown()

    table = Table(title=f"{bundle.name}, {WIDTH}x{HEIGHT} bgr8 at {arguments.rate:g} Hz, {arguments.duration:g} s each")
    for heading in ("", "frames", "inference p50 \\[ms]", "overhead p50 \\[ms]", "p95", "p99"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, observed in (("perception node", ours), ("plain node", peer)):
        overheads = observed.overheads()
        inference = np.median([report.inference_duration for report in observed.reports.values()])
        table.add_row(
            name,
            str(len(overheads)),
            f"{1e3 * inference:.2f}",
            *(f"{1e3 * np.quantile(overheads, q):.2f}" for q in (0.5, 0.95, 0.99)),
        )
    Console().print(table)
    reports = list(ours.reports.values())
    threads = max(element.threads for element in discover_elements())
    busy = threads * sum(report.inference_duration for report in reports)
    overheads = ours.overheads()
    print(
        json.dumps(
            {
                "inference_p50_ms": 1e3 * float(np.median([report.inference_duration for report in reports])),
                "overhead_p50_ms": 1e3 * float(np.quantile(overheads, 0.5)),
                "overhead_p99_ms": 1e3 * float(np.quantile(overheads, 0.99)),
                "age_p95_ms": 1e3 * float(np.quantile([report.age_at_start for report in reports], 0.95)),
                "lost_commands": lost,
                "cpu_percent_overhead": 100 * (ours.cpu_time - busy) / ours.wall_time,
                "peer_overhead_p50_ms": 1e3 * float(np.quantile(peer.overheads(), 0.5)),
                "start_to_first_result_s": first,
            }
        )
    )


def watch(program: list[str], observed: Observed, duration: float, rate: float) -> None:
    """Let camera and `program` run for `duration` [s] from the first answer on, and note what comes."""
    node = rclpy.create_node("benchmark")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    answered = 0

    def on_answer(message: Classification) -> None:
        nonlocal answered
        answered += 1
        if answered > WARM_UP_FRAMES:
            observed.received[nanoseconds(message.header.stamp)] = time.time_ns()

    def on_report(message: InferenceReport) -> None:
        if answered > WARM_UP_FRAMES:
            observed.reports[nanoseconds(message.header.stamp)] = message

    node.create_subscription(Classification, "classification", on_answer, qos.RESULTS)
    node.create_subscription(InferenceReport, "inference_report", on_report, qos.RESULTS)
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in (camera(rate), program)]
    try:
        spin_until(executor, lambda: answered > WARM_UP_FRAMES, START_TIMEOUT, "answers")
        started, cpu = time.monotonic(), cpu_time(processes[1].pid)
        while time.monotonic() - started < duration:
            executor.spin_once(timeout_sec=0.1)
        observed.cpu_time += cpu_time(processes[1].pid) - cpu
        observed.wall_time += time.monotonic() - started
    finally:
        stop(processes)
        executor.shutdown()
        node.destroy_node()


def camera(rate: float) -> list[str]:
    """Command of the camera node."""
    return [
        node_program("camera"),
        "--ros-args",
        "--log-level",
        "warn",
        "-p",
        "source:=synthetic",
        "-p",
        f"width:={WIDTH}",
        "-p",
        f"height:={HEIGHT}",
        "-p",
        f"frame_rate:={rate}",
        "-p",
        "scene:=objects",
    ]


def start_to_first_result(program: list[str], rate: float) -> float:
    """[s] from the start of perception to its first answer here."""
    node = rclpy.create_node("benchmark")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    frames, answers = [], []
    node.create_subscription(Classification, "classification", answers.append, qos.RESULTS)
    subscription = node.create_subscription(Image, "image", lambda _: frames.append(time.monotonic()), qos.IMAGE)
    processes = [subprocess.Popen(camera(rate), stdout=subprocess.DEVNULL)]
    try:
        spin_until(executor, lambda: frames, START_TIMEOUT, "frames")
        node.destroy_subscription(subscription)
        started = time.monotonic()
        processes.append(subprocess.Popen(program, stdout=subprocess.DEVNULL))
        spin_until(executor, lambda: answers, START_TIMEOUT, "the first answer")
        return time.monotonic() - started
    finally:
        stop(processes)
        executor.shutdown()
        node.destroy_node()


def answered_commands(folder: Path) -> int:
    """How many of the commands to a slow node are answered."""
    bundle = slow_bundle(folder / "slow")
    node = rclpy.create_node("benchmark")
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    states, reports = set(), []
    node.create_subscription(
        OperatingPointState, "operating_point/state", lambda m: states.add(m.sequence), qos.LATCHED_STATE
    )
    node.create_subscription(InferenceReport, "inference_report", reports.append, qos.RESULTS)
    commands = node.create_publisher(OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND)
    images = node.create_publisher(Image, "image", qos.IMAGE)
    frame = Image(
        width=WIDTH, height=HEIGHT, step=3 * WIDTH, encoding="bgr8", data=array("B", bytes(3 * WIDTH * HEIGHT))
    )
    program = [
        node_program("perception"),
        "--ros-args",
        "--log-level",
        "warn",
        "-p",
        f"model:={bundle.folder}",
        "-p",
        "command_timeout:=0.0",
    ]
    processes = [subprocess.Popen(program, stdout=subprocess.DEVNULL)]
    try:
        spin_until(executor, lambda: states and images.get_subscription_count(), START_TIMEOUT, "the slow node")
        for sequence in range(1, COMMANDS + 1):
            frame.header.stamp = node.get_clock().now().to_msg()
            images.publish(frame)
            name = bundle.subnetworks[sequence % len(bundle.subnetworks)].name
            point = OperatingPoint(subnetwork=name, cpu_frequency=math.nan, gpu_frequency=math.nan)
            command = OperatingPointCommand(sequence=sequence, operating_point=point)
            command.header.stamp = frame.header.stamp
            commands.publish(command)
            end = time.monotonic() + 1 / COMMAND_RATE
            while time.monotonic() < end:
                executor.spin_once(timeout_sec=0.01)
        spin_until(executor, lambda: COMMANDS in states, START_TIMEOUT, "the last command's answer")
    finally:
        stop(processes)
        executor.shutdown()
        node.destroy_node()
    duration = np.median([report.inference_duration for report in reports])
    if duration < SLOW:
        raise SystemExit(
            f"error: inference took {duration:.3f} s: expected at least {SLOW} s, to show that no command is lost"
        )
    return len(states & set(range(1, COMMANDS + 1)))


def slow_bundle(folder: Path) -> ModelBundle:
    """A segmenter on large frames, with random weights."""
    space = SegmenterSpace(classes=11, resolutions=((900, 1200),), smallest_width=7)
    random = np.random.default_rng(1)
    configs = {"narrow": space.smallest(), "wide": space.largest()}
    tensors = {
        name: (0.02 * random.standard_normal(shape)).astype(np.float32) for name, shape in space.tensor_shapes().items()
    }
    statistics = {
        name: {
            key: np.full(shape, float(key.endswith("var")), np.float32)
            for key, shape in space.statistics_shapes(config).items()
        }
        for name, config in configs.items()
    }
    return write_bundle(
        ModelBundle(
            folder,
            "slow",
            space,
            (0.5,) * 3,
            (0.25,) * 3,
            tuple(map(str, range(11))),
            tuple(Subnetwork.of(space, *item) for item in configs.items()),
            "",
            {"method": "random weights"},
        ),
        tensors,
        statistics,
    )


class PlainNode(Node):
    """What people write: everything in the image callback."""

    def __init__(self, folder: Path):
        super().__init__("perception")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(element.threads for element in discover_elements())
        self._session = onnxruntime.InferenceSession(folder / "graph.onnx", options, providers=["CPUExecutionProvider"])
        self._size = self._session.get_inputs()[0].shape[:2]
        self._labels = json.loads((folder / "labels.json").read_text())
        self._answers = self.create_publisher(Classification, "classification", 10)
        self._reports = self.create_publisher(InferenceReport, "inference_report", 10)
        self.create_subscription(Image, "image", self._on_image, 10)

    def _on_image(self, message: Image) -> None:
        image = np.frombuffer(message.data, np.uint8).reshape(message.height, message.width, 3)
        image = cv2.cvtColor(cv2.resize(image, tuple(self._size[::-1])), cv2.COLOR_BGR2RGB)
        started = time.monotonic()
        classes, scores = self._session.run(["classes", "scores"], {"image": image})
        duration = time.monotonic() - started
        self._answers.publish(
            Classification(
                header=message.header, labels=[self._labels[i] for i in classes[:3]], scores=scores[:3].tolist()
            )
        )
        self._reports.publish(InferenceReport(header=message.header, inference_duration=duration))


def run_peer(folder: Path) -> None:
    """This process as the plain node, until SIGINT."""
    rclpy.init()
    node = PlainNode(folder)
    try:
        rclpy.spin(node)
    except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        pass
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def node_program(name: str) -> str:
    """Path of a node's executable."""
    return str(Path(sys.prefix) / "lib" / "dynamic_perception" / f"{name}_node")


def spin_until(executor: SingleThreadedExecutor, condition: Callable[[], object], timeout: float, what: str) -> None:
    """Spin until the condition holds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"error: waited {timeout:g} s for {what}")
        executor.spin_once(timeout_sec=0.02)


def stop(processes: list[subprocess.Popen]) -> None:
    """End them in order."""
    for process in processes:
        process.send_signal(signal.SIGINT)
    for process in processes:
        process.wait(10)


def cpu_time(pid: int) -> float:
    """CPU time [s] that a process took so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def nanoseconds(stamp: Time) -> int:
    """A stamp as one number."""
    return 10**9 * stamp.sec + stamp.nanosec


if __name__ == "__main__":
    main()
