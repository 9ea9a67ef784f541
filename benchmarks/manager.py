"""What the resource-manager node costs while two networks run at 30 Hz.

    .venv/bin/python benchmarks/manager.py [--duration S] [--rate HZ]

The node decides in a process of its own, over DDS, with the tables of two shipped networks in two namespaces.  This
process stands in for everything else: it answers commands as perception nodes do, reports a frame of each network RATE
times a second (the commanded point's latency with 3 % noise, and 1.5 times that in every fourth second, as from other
work), and sends battery and temperature once a second.  In turns with it a peer in the manager's place: a plain rclpy
node that subscribes the same topics and does nothing.

Definitions, so that nobody can misread them:
    cpu_percent_two_networks  CPU time of the manager's process over time, per cent of one core
    cpu_percent_peer          the same of the peer: what hearing costs
    commands                  that the manager sent in that time, repeats not counted
"""

from __future__ import annotations

import argparse
import json
import math
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from builtin_interfaces.msg import Duration
from dynamic_perception.msg import InferenceReport, OperatingPointCommand, OperatingPointState
from node import cpu_time, node_program, spin_until  # the benchmark beside this one
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import BatteryState, Temperature

from dynamic_perception.demo.session import isolate
from dynamic_perception.nodes import qos
from dynamic_perception.profiling.table_choice import shipped_tables
from dynamic_perception.profiling.table_file import read_table
from dynamic_perception.report.progress import progress_bar

NETWORKS = {"front": ("segmenter_camvid", 22e-3), "sign": ("group_cnn_cifar10", 5e-3)}  # model, deadline [s]
PLATFORM = "amd_epyc_2cpu_x86_64"
TURNS = 2  # of each of the two, alternating
NOISE = 0.03  # of an inference
OTHER_WORK = 1.5  # slow-down ...
OTHER_WORK_PERIOD = 4.0  # [s] ... in the last second of which there is other work
START_TIMEOUT = 30.0  # [s]


class Robot(Node):
    """Perception nodes, battery and thermal sensor of the manager under test."""

    def __init__(self, rate: float):
        super().__init__("robot")
        self.sequences: dict[str, set[int]] = {name: set() for name in NETWORKS}
        self._points: dict[str, tuple[str, str]] = {}
        self._latencies: dict[str, dict[tuple[str, str], float]] = {}  # [s] as profiled, by subnetwork and element
        for name, (model, _) in NETWORKS.items():
            table = read_table(table_of(model)).table
            points = zip(table.subnetwork, table.compute_element)
            self._latencies[name] = dict(zip(points, table.latency.tolist()))
        self._random = np.random.default_rng(1)
        self._reports = {
            name: self.create_publisher(InferenceReport, f"{name}/inference_report", qos.RESULTS) for name in NETWORKS
        }
        self._states = {
            name: self.create_publisher(OperatingPointState, f"{name}/operating_point/state", qos.LATCHED_STATE)
            for name in NETWORKS
        }
        self._battery = self.create_publisher(BatteryState, "battery_state", qos.SENSOR_DATA)
        self._temperature = self.create_publisher(Temperature, "temperature", qos.SENSOR_DATA)
        for name in NETWORKS:
            self.create_subscription(
                OperatingPointCommand,
                f"{name}/operating_point/command",
                lambda message, name=name: self._obey(name, message),
                qos.COMMAND_INPUT,
            )
            self.create_timer(1 / rate, lambda name=name: self._report(name))
        self.create_timer(1.0, self._sense)

    def heard(self) -> bool:
        """Whether somebody hears the reports of every network."""
        return all(publisher.get_subscription_count() for publisher in self._reports.values())

    def commands(self) -> int:
        """How many have come."""
        return sum(map(len, self.sequences.values()))

    def _obey(self, name: str, command: OperatingPointCommand) -> None:
        if command.sequence in self.sequences[name]:
            return
        self.sequences[name].add(command.sequence)
        point = command.operating_point
        self._points[name] = point.subnetwork, point.compute_element
        state = OperatingPointState(
            sequence=command.sequence,
            result=OperatingPointState.RESULT_APPLIED,
            requested=point,
            actual=point,
            switch_duration=1e-4,
        )
        state.header.stamp = self.get_clock().now().to_msg()
        self._states[name].publish(state)

    def _report(self, name: str) -> None:
        subnetwork, element = self._points.get(name, next(iter(self._latencies[name])))
        latency = self._latencies[name][subnetwork, element] * (1.0 + NOISE * float(self._random.standard_normal()))
        if time.monotonic() % OTHER_WORK_PERIOD > OTHER_WORK_PERIOD - 1.0:
            latency *= OTHER_WORK
        report = InferenceReport(
            sequence=max(self.sequences[name], default=0),
            subnetwork=subnetwork,
            compute_element=element,
            age_at_start=2e-3,
            preprocess_duration=5e-4,
            inference_duration=latency,
            postprocess_duration=5e-4,
            end_to_end_duration=latency + 3e-3,
            energy=math.nan,
            deadline_met=True,
        )
        report.header.stamp = self.get_clock().now().to_msg()
        self._reports[name].publish(report)

    def _sense(self) -> None:
        battery = BatteryState(percentage=0.8, present=True)
        temperature = Temperature(temperature=55.0)
        temperature.header.frame_id = "cpu"
        for message, publisher in ((battery, self._battery), (temperature, self._temperature)):
            message.header.stamp = self.get_clock().now().to_msg()
            publisher.publish(message)


class Listener(Node):
    """The peer: hears what the manager hears."""

    def __init__(self) -> None:
        super().__init__("resource_manager")
        for name in NETWORKS:
            for kind, topic, profile in (
                (InferenceReport, "inference_report", qos.RESULTS),
                (OperatingPointState, "operating_point/state", qos.LATCHED_STATE),
                (Duration, "deadline", qos.USER_INPUT),
            ):
                self.create_subscription(kind, f"{name}/{topic}", lambda message: None, profile)
        for kind, topic in ((BatteryState, "battery_state"), (Temperature, "temperature")):
            self.create_subscription(kind, topic, lambda message: None, qos.SENSOR_DATA)


def table_of(model: str) -> Path:
    """The shipped table of that network."""
    return shipped_tables()[f"{PLATFORM}/{model}"]


def run_listener() -> None:
    """This process as the peer, until SIGINT."""
    rclpy.init()
    try:
        rclpy.spin(Listener())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        rclpy.try_shutdown()


def manager_program() -> list[str]:
    """Command of the node under test."""
    parameters = {"namespaces": json.dumps(list(NETWORKS)), "force_profile": "true", "autostart": "true"}
    for name, (model, deadline) in NETWORKS.items():
        parameters |= {
            f"{name}.model": model,
            f"{name}.profile": str(table_of(model)),
            f"{name}.max_latency": str(deadline),
        }
    return [
        node_program("resource_manager"),
        "--ros-args",
        "--log-level",
        "warn",
        *(word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")),
    ]


def watch(program: list[str], duration: float, rate: float) -> tuple[float, int]:
    """CPU time [s] of `program` in `duration` [s], and the commands that it sent."""
    robot = Robot(rate)
    executor = SingleThreadedExecutor()
    executor.add_node(robot)
    process = subprocess.Popen(program, stdout=subprocess.DEVNULL)
    try:
        spin_until(executor, lambda: robot.heard() or process.poll() is not None, START_TIMEOUT, program[0])
        if process.poll() is not None:
            raise SystemExit(f"error: {program[0]} ended with {process.returncode}")
        spin(executor, 2.0)  # what starting takes is not counted
        before, cpu = robot.commands(), cpu_time(process.pid)
        spin(executor, duration)
        return cpu_time(process.pid) - cpu, robot.commands() - before
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(10)
        executor.shutdown()
        robot.destroy_node()


def spin(executor: SingleThreadedExecutor, duration: float) -> None:
    """For that long [s]."""
    end = time.monotonic() + duration
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.02)


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", type=float, default=60.0, metavar="S", help="of each of the two (default: 60)")
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="of each network (default: 30)")
    parser.add_argument("--listen", action="store_true", help=argparse.SUPPRESS)  # this script as the peer's process
    arguments = parser.parse_args()
    if arguments.listen:
        return run_listener()

    programs = {"resource manager": manager_program(), "plain listener": [sys.executable, __file__, "--listen"]}
    found = {name: np.zeros(2) for name in programs}
    with tempfile.TemporaryDirectory() as folder:
        isolate(Path(folder))
        rclpy.init()
        with progress_bar() as bar:
            for _ in bar.track(range(TURNS), description="measuring"):
                for name, program in programs.items():
                    found[name] += watch(program, arguments.duration / TURNS, arguments.rate)
        rclpy.try_shutdown()
    table = Table(title=f"two networks at {arguments.rate:g} Hz, {arguments.duration:g} s each")
    for heading in ("", "CPU \\[% of a core]", "commands"):
        table.add_column(heading, justify="right" if heading else "left")
    percent = {name: 100 * cpu / arguments.duration for name, (cpu, _) in found.items()}
    for name, (_, commands) in found.items():
        table.add_row(name, f"{percent[name]:.2f}", f"{commands:.0f}")
    Console().print(table)
    print(
        json.dumps(
            {
                "cpu_percent_two_networks": round(percent["resource manager"], 3),
                "cpu_percent_peer": round(percent["plain listener"], 3),
                "commands": int(found["resource manager"][1]),
            }
        )
    )


if __name__ == "__main__":
    main()
