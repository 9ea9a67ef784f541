"""From a command to a slower inference: the whole chain of a clock, on a machine that need not have one.

    sudo .venv/bin/python benchmarks/clock_chain.py [--commands N] [--bundle NAME] [--subnetwork NAME]

The clock is emulated (`dynamic_perception/hardware/emulated_cpufreq.py`): the files of one CPU's policy, which really
slow the perception node by a CPU bandwidth limit of the kernel.  The perception node, a process of its own, sets them;
this process sends the next frame as soon as the last one's report has come, and commands for half and full the clock in
turns.

Definitions, so that nobody can misread them:
    command_to_effect_p95_ms  from the moment at which a command is published to the moment at which this process has
                              the report of the first inference at the new speed: the first one with the command's
                              sequence whose duration is nearer (by ratio) to the new clock's median than to the old
                              one's; 95th percentile of all commands
    latency_ratio_half_clock  median inference duration at half the clock over that at the full clock, without the first
                              report of each command
    restored                  after SIGKILL of the node at half the clock, its next start put the policy's files back to
                              the byte, and after another SIGKILL so did `dynamic-perception restore`
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

import numpy as np
import rclpy
from dynamic_perception.msg import InferenceReport, OperatingPoint, OperatingPointCommand, OperatingPointState
from rclpy.executors import SingleThreadedExecutor
from rich.console import Console
from rich.table import Table
from sensor_msgs.msg import Image

from dynamic_perception.demo.session import isolate
from dynamic_perception.hardware.emulated_cpufreq import EmulatedCpufreq
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes import qos
from dynamic_perception.report.progress import progress_bar

WIDTH, HEIGHT = 640, 480
FULL, HALF = 2.0e9, 1.0e9  # [Hz] of the emulated policy
REPORTS_PER_COMMAND = 12
TIMEOUT = 60.0  # [s] for anything
LOST_AFTER = 0.5  # [s] without a report, after which another frame is sent
LAST_COMMAND = 1_000_000  # its sequence number


@dataclass
class Heard:
    """Reports of one command, in their order: when they came [s, steady] and how long inference took [s]."""

    published: float
    hertz: float
    times: list[float] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)


class Client:
    """A perception node in the emulated clock's group, and in this process everything around it, until `kill`.

    A node that starts later has a client of its own, which has no last command to give it.

    Args:
        parameters: of the node.
        emulated: slows it down.
    """

    def __init__(self, parameters: dict[str, object], emulated: EmulatedCpufreq):
        self._node = rclpy.create_node("benchmark")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        self._images = self._node.create_publisher(Image, "image", qos.IMAGE)
        self._commands = self._node.create_publisher(
            OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND
        )
        self._node.create_subscription(InferenceReport, "inference_report", self._on_report, qos.RESULTS)
        self._node.create_subscription(OperatingPointState, "operating_point/state", self._on_state, qos.LATCHED_STATE)
        self._heard: dict[int, Heard] = {}
        self._states = 0
        self._frame = Image(
            width=WIDTH, height=HEIGHT, step=3 * WIDTH, encoding="bgr8", data=array("B", bytes(3 * WIDTH * HEIGHT))
        )
        self._sent = 0.0  # [s] steady time of the last frame
        arguments = [text for name, value in parameters.items() for text in ("-p", f"{name}:={value}")]
        program = [
            str(Path(sys.prefix) / "lib" / "dynamic_perception" / "perception_node"),
            "--ros-args",
            "--log-level",
            "error",
            *arguments,
        ]
        self._process = subprocess.Popen(emulated.command(program), stdout=subprocess.DEVNULL)
        self._spin_until(
            lambda: self._states and self._images.get_subscription_count() and self._commands.get_subscription_count(),
            "the perception node",
        )

    def command(self, sequence: int, hertz: float) -> Heard:
        """Publish a command for a clock, and hear its reports; frames go on all the time."""
        point = OperatingPoint(cpu_frequency=hertz, gpu_frequency=math.nan)
        command = OperatingPointCommand(sequence=sequence, operating_point=point)
        command.header.stamp = self._node.get_clock().now().to_msg()
        heard = self._heard[sequence] = Heard(time.monotonic(), hertz)
        self._commands.publish(command)
        self._spin_until(lambda: len(heard.times) >= REPORTS_PER_COMMAND, f"the reports of command {sequence}", True)
        return heard

    def kill(self) -> None:
        """End the node as nothing that could clean up notices; again is harmless."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._executor.shutdown()
            self._node.destroy_node()

    def _spin_until(self, condition: Callable[[], object], what: str, frames: bool = False) -> None:
        end = time.monotonic() + TIMEOUT
        while not condition():
            if time.monotonic() > end or self._process.poll() is not None:
                self.kill()
                raise SystemExit(f"error: waited for {what}")
            if frames and time.monotonic() - self._sent > LOST_AFTER:
                self._send_frame()
            self._executor.spin_once(timeout_sec=0.02)

    def _send_frame(self) -> None:
        self._sent = time.monotonic()
        self._frame.header.stamp = self._node.get_clock().now().to_msg()
        self._images.publish(self._frame)

    def _on_report(self, report: InferenceReport) -> None:
        if report.sequence in self._heard:
            self._heard[report.sequence].times.append(time.monotonic())
            self._heard[report.sequence].durations.append(report.inference_duration)
        self._send_frame()

    def _on_state(self, state: OperatingPointState) -> None:
        self._states += 1
        if state.result != OperatingPointState.RESULT_APPLIED:
            raise SystemExit(f"error: command {state.sequence} was not applied to the letter: {state.message}")


def main() -> None:
    """Measure, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=60, metavar="N", help="default: %(default)s")
    parser.add_argument("--bundle", default="segmenter_camvid", help="default: %(default)s")
    parser.add_argument(
        "--subnetwork",
        default="1146M",
        help="its inference has to be some times longer than the 5 ms in "
        "which the kernel counts CPU time (default: %(default)s)",
    )
    arguments = parser.parse_args()
    cpu = max(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        isolate(Path(folder))
        try:
            emulated = EmulatedCpufreq(Path(folder) / "sys", frozenset([cpu]))
        except OSError as error:
            raise SystemExit(f"error: {error}") from None
        bundle = read_bundle(find_bundle(arguments.bundle))
        parameters = {
            "model": bundle.folder,
            "sysfs_root": emulated.root,
            "clocks_enabled": "true",
            "clocks.helper_socket": "''",
            "command_timeout": 0.0,
            "start_element": "cpu:1",
            "start_subnetwork": f"'{bundle.subnetwork(arguments.subnetwork).name}'",
        }
        rclpy.init()
        try:
            heard, restored = measure(parameters, emulated, arguments.commands)
        finally:
            emulated.close()
            rclpy.try_shutdown()
    show(heard, restored, f"{bundle.name}, {arguments.subnetwork} on one thread, {arguments.commands} commands")


def measure(parameters: dict[str, object], emulated: EmulatedCpufreq, commands: int) -> tuple[list[Heard], bool]:
    """The reports of every command, and whether the files were put back both times."""
    found = read_files(emulated)
    client = Client(parameters, emulated)
    try:
        with progress_bar() as bar:
            heard = [
                client.command(sequence, HALF if sequence % 2 else FULL)
                for sequence in bar.track(range(1, commands + 1), description="commands")
            ]
        left_changed = [leave_at_half(client, emulated, found)]
        client = Client(parameters, emulated)
        put_back = [read_files(emulated) == found]
        left_changed.append(leave_at_half(client, emulated, found))
        program = [sys.executable, "-c", "import sys; from dynamic_perception.cli import main; sys.exit(main())"]
        subprocess.run([*program, "restore", "--sysfs-root", emulated.root], stdout=subprocess.DEVNULL, check=True)
        put_back.append(read_files(emulated) == found)
        return heard, all(left_changed) and all(put_back)
    finally:
        client.kill()


def leave_at_half(client: Client, emulated: EmulatedCpufreq, found: dict[str, bytes]) -> bool:
    """Kill a node that has halved the clock; whether the files are other than they were found."""
    client.command(LAST_COMMAND, HALF)
    client.kill()
    return read_files(emulated) != found


def show(heard: list[Heard], restored: bool, title: str) -> None:
    """Print the table and the JSON line."""
    medians = {
        hertz: float(np.median(np.concatenate([np.array(h.durations[1:]) for h in heard if h.hertz == hertz])))
        for hertz in (FULL, HALF)
    }
    effects = {hertz: [effect(h, medians) for h in heard if h.hertz == hertz] for hertz in (FULL, HALF)}
    table = Table(title=title)
    for heading in ("clock", "inference p50 \\[ms]", "command to effect p50 \\[ms]", "p95", "highest"):
        table.add_column(heading, justify="right")
    for hertz, times in effects.items():
        table.add_row(
            f"{hertz / 1e6:g} MHz",
            f"{1e3 * medians[hertz]:.2f}",
            *(f"{1e3 * quantile(times, q):.1f}" for q in (0.5, 0.95, 1.0)),
        )
    Console().print(table)
    all_times = [time for times in effects.values() for time in times]
    if math.isinf(quantile(all_times, 0.95)):
        raise SystemExit("error: more than 5 % of the commands had no effect")
    print(
        json.dumps(
            {
                "command_to_effect_p95_ms": 1e3 * quantile(all_times, 0.95),
                "latency_ratio_half_clock": medians[HALF] / medians[FULL],
                "restored": restored,
            }
        )
    )


def quantile(times: list[float], share: float) -> float:
    """One of the times, so that it is defined with infinite ones among them."""
    return float(np.quantile(times, share, method="higher"))


def effect(heard: Heard, medians: dict[float, float]) -> float:
    """[s] from a command to its first inference at the new speed; infinite: it had no effect, for example because
    others took the CPU while its reports were heard."""
    between = math.sqrt(medians[FULL] * medians[HALF])
    for came, duration in zip(heard.times, heard.durations):
        if (duration > between) == (heard.hertz == HALF):
            return came - heard.published
    return math.inf


def read_files(emulated: EmulatedCpufreq) -> dict[str, bytes]:
    """What a node can change in the policy, to the byte."""
    names = ("scaling_governor", "scaling_min_freq", "scaling_max_freq", "scaling_setspeed")
    return {name: (emulated.policy.path / name).read_bytes() for name in names}


if __name__ == "__main__":
    main()
