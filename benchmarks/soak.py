"""Perception, manager, monitor and camera for as long as you like, while everything around them changes at random.

    .venv/bin/python benchmarks/soak.py [--minutes N] [--seed N] [--bundle NAME]

The four nodes are real processes over the DDS of this machine, the camera (synthetic, 320x240) at 30 Hz.  At random
times the target changes (deadline, objective), other work takes cores and leaves them, a node is ended (SIGINT or
SIGTERM) and started again, and a node is stopped for up to 2 s (SIGSTOP, SIGCONT).  A node that ends otherwise, or not
with code 0 and without a traceback, ends the benchmark with an error.  Restarts are rarer the longer it runs, so that
memory can be watched for longer between them.

Definitions, so that nobody can misread them:
    frames                reports that were heard
    lost_commands         commands of the manager that no state answered within 5 s, although both nodes ran all the
                          time
    unexplained_misses    reports with a missed deadline that came outside all of these times: 3 s after other work
                          began or ended; 2 s after a target; 0.5 s before to 1 s after the state that told of a
                          switch; from the stop of a node to 2 s after it goes on; from the end of a node to 5 s after
                          all nodes are heard again. Work that goes on explains nothing: the manager has to choose a
                          point for it
    rss_slope_mb_per_hour_max
                          resident memory: the greatest over the nodes of the median slope between samples at least 30 s
                          apart in the same process, after its first minute; null: no process lived for so long.  Memory
                          comes in pages of 4 kB, so minutes resolve some MB an hour, and hours some 10 kB an hour
    fd_growth, thread_growth
                          open files, threads: the greatest growth of any process after its first minute
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import rclpy
from dynamic_perception.msg import InferenceReport, OperatingPointCommand, OperatingPointState, PerformanceTarget
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rich.console import Console
from rich.table import Table

from dynamic_perception.demo.processes import Process
from dynamic_perception.demo.session import isolate
from dynamic_perception.installation import share_folder
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes import qos
from dynamic_perception.profiling.table_choice import shipped_tables
from dynamic_perception.report.progress import progress_bar

NODES = ("perception", "resource_manager", "hardware_monitor", "camera")
PLATFORM = "amd_epyc_2cpu_x86_64"  # whose table is taken; the manager learns how this machine differs
FRAME_RATE = 30.0  # [Hz]
DEADLINES = (0.03, 0.2)  # [s] of a random target
TARGET_EVERY, LOAD_EVERY, PAUSE_EVERY = 12.0, 15.0, 25.0  # [s] on average
RESTART_EVERY, RESTARTS = 30.0, 20  # [s] at least, on average, and how many of them there are in a longer run
LONGEST_PAUSE, LOAD_LASTS = 2.0, (3.0, 12.0)  # [s]
AFTER_LOAD, AFTER_TARGET, AROUND_SWITCH, AFTER_PAUSE, AFTER_RESTART = 3.0, 2.0, (0.5, 1.0), 2.0, 5.0  # [s] explained
ANSWER_TIMEOUT = 5.0  # [s]
WARM_UP, LEAST_SPAN = 60.0, 30.0  # [s] a process that reads sensors still takes pages after a minute
SAMPLE_PERIOD = 1.0  # [s]
START_TIMEOUT, STOP_TIMEOUT = 60.0, 15.0  # [s]


@dataclass
class Life:
    """What was seen of one process of a node."""

    times: list[float] = field(default_factory=list)  # [s] since its start
    resident: list[int] = field(default_factory=list)  # [byte]
    files: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def sample(self, process: int, age: float) -> None:
        """Look at /proc."""
        folder = Path("/proc") / str(process)
        self.times.append(age)
        self.resident.append(int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        self.files.append(len(os.listdir(folder / "fd")))
        self.threads.append(len(os.listdir(folder / "task")))

    def slopes(self) -> np.ndarray:
        """[byte/s] between all samples far enough from each other (Theil and Sen)."""
        times, resident = (np.array(values, float) for values in (self.times, self.resident))
        times, resident = times[times > WARM_UP], resident[np.array(self.times) > WARM_UP]
        first, second = np.triu_indices(len(times), 1)
        far = times[second] - times[first] >= LEAST_SPAN
        return ((resident[second] - resident[first])[far]) / (times[second] - times[first])[far]

    def growth(self, values: list[int]) -> int:
        """From the end of warming up to the last sample."""
        warm = [value for age, value in zip(self.times, values, strict=True) if age > WARM_UP]
        return warm[-1] - warm[0] if warm else 0


@dataclass
class Commanded:
    """A command that was seen, and whether it was answered."""

    time: float  # [s]
    answered: bool = False


class Robot(Node):
    """This process: hears what the nodes say, and asks for this and that."""

    def __init__(self) -> None:
        super().__init__("soak")
        self.frames = 0
        self.misses: list[float] = []  # [s]
        self.switches: list[float] = []
        self.commands: dict[tuple[int, int, int], Commanded] = {}  # by sequence and stamp
        self.heard = dict.fromkeys(("report", "command", "state"), -math.inf)  # [s] when last
        self._target = self.create_publisher(PerformanceTarget, "target", qos.USER_INPUT)
        self.create_subscription(InferenceReport, "inference_report", self._on_report, qos.RESULTS)
        self.create_subscription(OperatingPointCommand, "operating_point/command", self._on_command, qos.COMMAND_INPUT)
        self.create_subscription(OperatingPointState, "operating_point/state", self._on_state, qos.LATCHED_STATE)

    def ask(self, deadline: float, objective: int) -> None:
        """Send a target."""
        message = PerformanceTarget(max_latency=deadline, objective=objective)
        message.header.stamp = self.get_clock().now().to_msg()
        self._target.publish(message)

    def _on_report(self, message: InferenceReport) -> None:
        self.heard["report"] = time.monotonic()
        self.frames += 1
        if not message.deadline_met:
            self.misses.append(time.monotonic())

    def _on_command(self, message: OperatingPointCommand) -> None:
        self.heard["command"] = time.monotonic()
        stamp = message.header.stamp
        self.commands.setdefault((message.sequence, stamp.sec, stamp.nanosec), Commanded(time.monotonic()))

    def _on_state(self, message: OperatingPointState) -> None:
        now = self.heard["state"] = time.monotonic()
        stamp = message.header.stamp.sec, message.header.stamp.nanosec
        for (sequence, *commanded), command in self.commands.items():
            if sequence == message.sequence and tuple(commanded) <= stamp and not command.answered:
                command.answered = True
                self.switches.append(now)


class Soak:
    """The nodes, what is done to them, and when.

    Args:
        robot: hears them.
        executor: that spins it.
        logs: folder of the nodes' logs.
        bundle, seed: of the options.
    """

    def __init__(self, robot: Robot, executor: SingleThreadedExecutor, logs: Path, bundle: str, seed: int):
        self._robot, self._executor, self._logs, self._bundle = robot, executor, logs, bundle
        self._random = random.Random(seed)
        self._processes: dict[str, Process] = {}
        self._started: dict[str, float] = {}
        self._load: list[Process] = []
        self._number = 0
        self.lives: dict[str, list[Life]] = {name: [] for name in NODES}
        self.explained: list[tuple[float, float]] = []  # [s] from, to
        self.away: list[tuple[float, float]] = []  # [s] when a node was ended or stopped, and heard again
        self.events: dict[str, int] = dict.fromkeys(("target", "load", "pause", "restart"), 0)

    def run(self, duration: float) -> None:
        """Play for that long [s]."""
        for name in NODES:
            self._start(name)
        self._wait_until_heard()
        begin = time.monotonic()
        self.explained.append((0.0, begin + AFTER_RESTART))
        every = {
            self._new_target: TARGET_EVERY,
            self._change_load: LOAD_EVERY,
            self._pause: PAUSE_EVERY,
            self._restart: max(RESTART_EVERY, duration / RESTARTS),
        }
        due = {act: begin + self._random.expovariate(1 / mean) for act, mean in every.items()}
        sample = begin
        with progress_bar() as bar:
            task = bar.add_task("seconds", total=round(duration))
            while time.monotonic() < begin + duration:
                self._spin(0.05)
                for process in self._processes.values():
                    process.check()
                if time.monotonic() >= sample:
                    sample = time.monotonic() + SAMPLE_PERIOD
                    self._sample()
                    bar.update(task, completed=round(time.monotonic() - begin))
                for act, when in due.items():
                    if time.monotonic() >= when:
                        act()
                        due[act] = time.monotonic() + self._random.expovariate(1 / every[act])
        self._spin(ANSWER_TIMEOUT)  # for the answers to the last commands

    def close(self) -> None:
        """End everything."""
        for process in self._load:
            process.send(signal.SIGKILL)
        for process in self._processes.values():
            process.send(signal.SIGCONT)
            process.send(signal.SIGINT)
        end = time.monotonic() + STOP_TIMEOUT
        for process in self._processes.values():
            while process.running and time.monotonic() < end:
                time.sleep(0.02)
            process.send(signal.SIGKILL)
            process.wait()

    # What happens to them ----------------------------------------------------------------------------------------

    def _new_target(self) -> None:
        deadline = math.exp(self._random.uniform(*map(math.log, DEADLINES)))
        self._robot.ask(deadline, self._random.randrange(3))
        self._explain("target", AFTER_TARGET)

    def _change_load(self) -> None:
        """Begin with other work, or end it."""
        if self._load:
            for process in self._load:
                process.send(signal.SIGKILL)
                process.wait()
            self._load = []
        else:
            command = [sys.executable, "-c", "while True: pass"]
            count = self._random.randint(1, os.cpu_count() or 1)
            self._load = [self._process("load", command) for _ in range(count)]
        self._explain("load", AFTER_LOAD)

    def _pause(self) -> None:
        process = self._processes[self._random.choice(NODES)]
        begin = time.monotonic()
        process.send(signal.SIGSTOP)
        self._spin(self._random.uniform(0.1, LONGEST_PAUSE))
        process.send(signal.SIGCONT)
        self.away.append((begin, time.monotonic() + AFTER_PAUSE))
        self._explain("pause", AFTER_PAUSE, begin)

    def _restart(self) -> None:
        name, begin = self._random.choice(NODES), time.monotonic()
        process = self._processes[name]
        number = self._random.choice((signal.SIGINT, signal.SIGTERM))
        process.send(number)
        while process.running:
            if time.monotonic() > begin + STOP_TIMEOUT:
                raise SystemExit(
                    f"error: {process.describe(f'did not end within {STOP_TIMEOUT:g} s of {number.name}')}"
                )
            self._spin(0.05)
        if process.fault():
            raise SystemExit(f"error: after {number.name}: {process.fault()}")
        self._start(name)
        self._wait_until_heard()
        self.away.append((begin, time.monotonic() + AFTER_RESTART))
        self._explain("restart", AFTER_RESTART, begin)

    def _explain(self, kind: str, after: float, begin: float | None = None) -> None:
        now = time.monotonic()
        self.events[kind] += 1
        self.explained.append((now if begin is None else begin, now + after))

    # Processes ---------------------------------------------------------------------------------------------------

    def _start(self, name: str) -> None:
        parameters: dict[str, object] = {
            "perception": {"model": self._bundle},
            "resource_manager": {
                "model": self._bundle,
                "profile": shipped_tables()[f"{PLATFORM}/{self._bundle}"],
                "force_profile": "true",
            },
            "hardware_monitor": {},
            "camera": {
                "source": "synthetic",
                "scene": "road" if read_bundle(find_bundle(self._bundle)).task == "segmentation" else "objects",
                "width": 320,
                "height": 240,
                "frame_rate": FRAME_RATE,
            },
        }[name]
        words = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
        program = str(Path(sys.prefix) / "lib" / "dynamic_perception" / f"{name}_node")
        self._processes[name] = self._process(name, [program, "--ros-args", *words])
        self._started[name] = time.monotonic()
        self.lives[name].append(Life())

    def _process(self, name: str, command: list[str]) -> Process:
        self._number += 1
        return Process(name, command, os.environ, self._logs / f"{self._number:05d}_{name}.log")

    def _wait_until_heard(self) -> None:
        """Until reports, commands and states have come since the last start."""
        since = max(self._started.values())
        end = since + START_TIMEOUT
        while min(self._robot.heard.values()) < since:
            for process in self._processes.values():
                process.check()
            if time.monotonic() > end:
                silent = [what for what, when in self._robot.heard.items() if when < since]
                raise SystemExit(f"error: no {', no '.join(silent)} within {START_TIMEOUT:g} s of a start")
            self._spin(0.05)

    def _sample(self) -> None:
        for name, process in self._processes.items():
            self.lives[name][-1].sample(process.identifier, time.monotonic() - self._started[name])

    def _spin(self, duration: float) -> None:
        end = time.monotonic() + duration
        while (left := end - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)


def unexplained(misses: list[float], times: list[tuple[float, float]]) -> int:
    """How many of the misses lie in none of the times [s]."""
    return sum(not any(begin <= miss <= end for begin, end in times) for miss in misses)


def main() -> None:
    """Run, print a table for people, and one JSON object as the last line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=30.0, metavar="N", help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, metavar="N", help="of all that happens (default: %(default)s)")
    parser.add_argument("--bundle", default="group_cnn_cifar10", help="(default: %(default)s)")
    arguments = parser.parse_args()
    if not 0 < arguments.minutes < math.inf:
        parser.error(f"--minutes is {arguments.minutes}: expected a positive number")
    with tempfile.TemporaryDirectory() as folder:
        isolate(Path(folder))
        os.environ["FASTDDS_DEFAULT_PROFILES_FILE"] = str(share_folder() / "config" / "fastdds.xml")  # as on a robot
        rclpy.init()
        robot, executor = Robot(), SingleThreadedExecutor()
        executor.add_node(robot)
        soak = Soak(robot, executor, Path(folder), arguments.bundle, arguments.seed)
        try:
            soak.run(60 * arguments.minutes)
        finally:
            soak.close()
            executor.shutdown()
            robot.destroy_node()
            rclpy.try_shutdown()
    report(robot, soak, arguments)


def report(robot: Robot, soak: Soak, arguments: argparse.Namespace) -> None:
    """Print."""
    table = Table(title=f"{arguments.minutes:g} minutes of {arguments.bundle}, seed {arguments.seed}")
    for heading in ("node", "processes", "memory \\[MB]", "slope \\[MB/h]", "open files grew by", "threads grew by"):
        table.add_column(heading, justify="left" if heading == "node" else "right")
    slopes, files, threads = [], [], []
    for name, lives in soak.lives.items():
        lives = [life for life in lives if life.times]
        between = np.concatenate([life.slopes() for life in lives] or [np.empty(0)])
        slope = float(np.median(between)) * 3600e-6 if len(between) else math.nan
        slopes.append(slope)
        files.append(max((life.growth(life.files) for life in lives), default=0))
        threads.append(max((life.growth(life.threads) for life in lives), default=0))
        memory = 1e-6 * lives[-1].resident[-1] if lives else math.nan
        row = (name, len(soak.lives[name]), f"{memory:.1f}", f"{slope:.2f}", files[-1], threads[-1])
        table.add_row(*map(str, row))
    console = Console(width=120)
    console.print(table)
    before, after = AROUND_SWITCH
    times = soak.explained + [(switch - before, switch + after) for switch in robot.switches]
    lost = [
        command
        for command in robot.commands.values()
        if not command.answered
        and not any(begin <= command.time + ANSWER_TIMEOUT and command.time <= end for begin, end in soak.away)
    ]
    told = ", ".join(f"{count} x {kind}" for kind, count in soak.events.items())
    console.print(
        f"{told}; {len(robot.commands)} commands, {len(robot.switches)} answered; {len(robot.misses)} deadlines missed",
        highlight=False,
    )
    known = [slope for slope in slopes if not math.isnan(slope)]
    print(
        json.dumps(
            {
                "minutes": arguments.minutes,
                "frames": robot.frames,
                "lost_commands": len(lost),
                "unexplained_misses": unexplained(robot.misses, times),
                "rss_slope_mb_per_hour_max": round(max(known), 3) if known else None,
                "fd_growth": max(files),
                "thread_growth": max(threads),
            }
        )
    )


if __name__ == "__main__":
    main()
