"""SIGKILL at random moments while clocks are set: whether they are as they were found afterwards, and how soon.

    sudo .venv/bin/python benchmarks/kill.py [--rounds N] [--seed N] [--bundle NAME]

A perception node, a process of its own, is sent commands for one clock after the other, 20 a second.  The clock is
emulated (`dynamic_perception/hardware/emulated_cpufreq.py`).  In half of the rounds the node writes it, in the others
it may not, and a clock helper does.  At a random moment the node or the helper is killed with SIGKILL.  Whatever comes
afterwards has another HOME and XDG_STATE_HOME than what was killed.

Definitions, so that nobody can misread them:
    clocks_left_changed_after_restart  of the rounds in which the killed program was started again: how often the
                                       policy's files were not as found, to the byte, when the node had been started,
                                       commanded to leave the clock alone, and ended with SIGINT
    clocks_left_changed_after_restore  of the others: how often they were not as found, or the exit code was not 0,
                                       after all else was killed as well and `dynamic-perception restore` had run
    recovery_p95_s                     from the start of the program that puts back to the moment at which the files
                                       were as found (or, where the node lives on and wants its clock, as it wants
                                       them); 95th percentile of all rounds; null: never
"""

from __future__ import annotations

import argparse
import grp
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import rclpy
from dynamic_perception.msg import OperatingPoint, OperatingPointCommand, OperatingPointState
from rclpy.executors import SingleThreadedExecutor
from rich.console import Console
from rich.table import Table

from dynamic_perception.demo.session import isolate
from dynamic_perception.hardware.cpufreq import find_policies
from dynamic_perception.hardware.emulated_cpufreq import EmulatedCpufreq
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes import qos
from dynamic_perception.report.progress import progress_bar

CLOCKS = (0.8e9, 1.0e9, 1.2e9, 1.6e9)  # [Hz] none is the one that is found
COMMAND_PERIOD = 0.05  # [s]
LONGEST = 1.5  # [s] until the kill
TIMEOUT = 20.0  # [s] for anything
NOBODY = 65534
CLI = [sys.executable, "-c", "import sys; from dynamic_perception.cli import main; sys.exit(main())"]


class Robot:
    """The emulated policy, what runs on it, and in this process whoever commands it."""

    def __init__(self, folder: Path, cpufreq: EmulatedCpufreq, root: Path, model: str):
        self._folder, self._cpufreq, self._root, self._model = folder, cpufreq, root, model
        (self._policy,) = find_policies(root)
        self.found = self._policy.settings()
        self._homes = 0
        self._sequence = 0
        self._states: list[OperatingPointState] = []
        self.node: subprocess.Popen | None = None
        self.helper: subprocess.Popen | None = None
        self._ros = rclpy.create_node("benchmark")
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._ros)
        self._commands = self._ros.create_publisher(
            OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND
        )
        self._ros.create_subscription(
            OperatingPointState, "operating_point/state", self._states.append, qos.LATCHED_STATE
        )

    @property
    def as_found(self) -> bool:
        return self._policy.settings() == self.found

    @property
    def held(self) -> bool:
        """Whether the clock is held at one of those that are commanded."""
        return self._policy.current() in CLOCKS and not self.as_found

    def start_node(self, through_helper: bool) -> None:
        """Start the node, and wait until it answers; without rights where it is to use the helper."""
        self._allow(not through_helper)
        program = [
            str(Path(sys.prefix) / "lib" / "dynamic_perception" / "perception_node"),
            *("--ros-args", "--log-level", "error"),
            *("-p", f"model:={self._model}", "-p", f"sysfs_root:={self._root}", "-p", "clocks_enabled:=true"),
            *("-p", "command_timeout:=0.0", "-p", f"clocks.helper_socket:={self._folder / 'clocks.sock'}"),
        ]
        if through_helper:
            program = ["setpriv", "--bounding-set=-dac_override", *program]
        self._states.clear()
        self.node = self._start(self._cpufreq.command(program))
        self._spin_until(lambda: self._states and self._commands.get_subscription_count(), "the perception node")

    def start_helper(self) -> None:
        """Start the helper, and wait until it serves."""
        group = grp.getgrgid(os.getgid()).gr_name
        socket = self._folder / "clocks.sock"
        options = ["--socket", str(socket), "--group", group, "--sysfs-root", str(self._root), "--rate", "1000"]
        before = socket.stat().st_ctime_ns if socket.exists() else None
        self.helper = self._start([*CLI, "clock-helper", *options])
        self._spin_until(lambda: socket.exists() and socket.stat().st_ctime_ns != before, "the clock helper")

    def restore(self) -> int:
        """Exit code of `dynamic-perception restore`."""
        return self._start([*CLI, "restore", "--sysfs-root", str(self._root)]).wait(TIMEOUT)

    def command_for(self, seconds: float, random_clocks: random.Random) -> None:
        """Command one clock after the other."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.command(random_clocks.choice(CLOCKS))
            self._spin(COMMAND_PERIOD)

    def command(self, hertz: float) -> int:
        """Publish a command; gives its number."""
        self._sequence += 1
        point = OperatingPoint(cpu_frequency=hertz, gpu_frequency=math.nan)
        command = OperatingPointCommand(sequence=self._sequence, operating_point=point)
        command.header.stamp = self._ros.get_clock().now().to_msg()
        self._commands.publish(command)
        return self._sequence

    def give_back(self) -> None:
        """Have the node put the clock back, and end it."""
        number = self.command(0.0)
        self._spin_until(lambda: any(state.sequence == number for state in self._states), "the answer to a command")
        self.stop(self.node, signal.SIGINT)

    def wait(self, condition, since: float) -> float:
        """[s] since then until the condition holds; infinite: it does not."""
        while not condition():
            if time.monotonic() - since > TIMEOUT:
                return math.inf
            self._spin(0.01)
        return time.monotonic() - since

    def repeat_until(self, condition, since: float) -> float:
        """As `wait`, with commands meanwhile, as a manager sends them."""

        def commanded() -> bool:
            self.command(CLOCKS[0])
            self._spin(COMMAND_PERIOD)
            return condition()

        return self.wait(commanded, since)

    @staticmethod
    def stop(process: subprocess.Popen | None, number: signal.Signals) -> None:
        """End a process; again is harmless."""
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.wait(TIMEOUT)

    def close(self) -> None:
        for process in (self.node, self.helper):
            self.stop(process, signal.SIGKILL)
        self._executor.shutdown()
        self._ros.destroy_node()

    def _start(self, program: list[str]) -> subprocess.Popen:
        self._homes += 1
        home = self._folder / f"home{self._homes}"
        home.mkdir()
        cache = {"XDG_CACHE_HOME": str(self._folder / "cache")}
        environment = {**os.environ, "HOME": str(home), "XDG_STATE_HOME": str(home / "state"), **cache}
        return subprocess.Popen(program, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def _allow(self, root: bool) -> None:
        for path in self._policy.path.iterdir():
            os.chown(path, 0 if root else NOBODY, 0 if root else NOBODY)

    def _spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def _spin_until(self, condition, what: str) -> None:
        if self.wait(condition, time.monotonic()) == math.inf:
            raise SystemExit(f"error: waited {TIMEOUT:g} s for {what}")


def play(robot: Robot, dice: random.Random, through_helper: bool, restart: bool) -> tuple[str, bool, float]:
    """One round: who was killed, whether a clock was left changed, and the time to recover [s]."""
    if through_helper:
        robot.start_helper()
    robot.start_node(through_helper)
    robot.command_for(0.1 + dice.uniform(0.0, LONGEST), dice)
    killed = dice.choice(("node", "helper")) if through_helper else "node"
    robot.stop(getattr(robot, killed), signal.SIGKILL)
    if not restart:
        robot.stop(robot.node, signal.SIGKILL)
        robot.stop(robot.helper, signal.SIGKILL)
        began = time.monotonic()
        code = robot.restore()
        return killed, code != 0 or not robot.as_found, time.monotonic() - began
    began = time.monotonic()
    if killed == "helper":
        robot.start_helper()
        recovered = robot.repeat_until(lambda: robot.held, began)
    else:
        robot.command(0.0)  # latched: or the node would be commanded to a clock again as soon as it is there
        robot.start_node(through_helper)
        recovered = robot.wait(lambda: robot.as_found, began)
    robot.give_back()
    robot.stop(robot.helper, signal.SIGTERM)
    return killed, not robot.as_found, recovered


def main() -> None:
    """Play the rounds and print the table and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=50, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--bundle", default="group_cnn_cifar10", help="default: %(default)s")
    arguments = parser.parse_args()
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        raise SystemExit("error: only root, with setpriv (package util-linux), makes a process without its rights")
    dice, rows = random.Random(arguments.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        isolate(folder)
        try:
            cpufreq = EmulatedCpufreq(folder / "sys", frozenset([max(os.sched_getaffinity(0))]))
        except OSError as error:
            raise SystemExit(f"error: {error}") from None
        rclpy.init()
        robot = Robot(folder, cpufreq, folder / "sys", str(read_bundle(find_bundle(arguments.bundle)).folder))
        try:
            with progress_bar() as bar:
                for number in bar.track(range(arguments.rounds), description="rounds"):
                    through_helper, restart = number % 2 == 1, number % 4 < 2
                    rows.append((through_helper, restart, *play(robot, dice, through_helper, restart)))
        finally:
            robot.close()
            cpufreq.close()
            rclpy.try_shutdown()
    report(rows)


def report(rows: list[tuple[bool, bool, str, bool, float]]) -> None:
    """Print what came of the rounds."""
    table = Table(title="SIGKILL while clocks are set")
    for heading in ("the clock is set by", "killed", "then", "rounds", "left changed", "recovery p50 [s]", "p95 [s]"):
        table.add_column(heading)
    for kind in sorted({row[:3] for row in rows}):
        of_kind = [row for row in rows if row[:3] == kind]
        times = [row[4] for row in of_kind]
        table.add_row(
            "the helper" if kind[0] else "the node",
            f"the {kind[2]}",
            "started again" if kind[1] else "restore",
            str(len(of_kind)),
            str(sum(row[3] for row in of_kind)),
            *(f"{np.percentile(times, p, method='higher'):.2f}" for p in (50, 95)),
        )
    Console().print(table)
    slowest = float(np.percentile([row[4] for row in rows], 95, method="higher"))
    result = {
        "rounds": len(rows),
        "clocks_left_changed_after_restart": sum(row[3] for row in rows if row[1]),
        "clocks_left_changed_after_restore": sum(row[3] for row in rows if not row[1]),
        "recovery_p95_s": round(slowest, 3) if math.isfinite(slowest) else None,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
