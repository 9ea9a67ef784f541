"""The demo's child processes: nodes and CPU load, each in a session of its own, none of which outlives the demo."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dynamic_perception.installation import PACKAGE, share_folder

if TYPE_CHECKING:
    from dynamic_perception.demo.emulated_clock import EmulatedClock

PR_SET_PDEATHSIG = 1  # linux/prctl.h
LOG_END = 15  # lines of a log that a message shows
TRACEBACK = "Traceback (most recent call last)"
POLL_PERIOD = 0.01  # [s]

_libc = ctypes.CDLL(None, use_errno=True)  # loaded before any fork: nothing is allowed to be loaded after it


class ProcessFault(RuntimeError):
    """A process that did not do its part; the message names it and shows the end of its log."""


def child_of_this() -> Callable[[], None]:
    """What a child has to do between fork and exec to die with this process."""
    parent = os.getpid()

    def die_with_the_parent() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return die_with_the_parent


class Process:
    """One child process with its log file."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path):
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=child_of_this(),
            )

    @property
    def identifier(self) -> int:
        """The process's number in the system."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def wait(self) -> None:
        """Until it has ended."""
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and everything that it started."""
        if self.running:
            try:
                os.killpg(self._process.pid, number)
            except ProcessLookupError:
                pass  # it ended between the two lines

    def fault(self) -> str:
        """What went wrong, in a sentence with the end of its log; empty when nothing did.  Only after it has ended."""
        if self.exit_code != 0:
            return self.describe(self._how_it_ended())
        return self.describe("left a traceback") if TRACEBACK in self.log.read_text(errors="replace") else ""

    def _how_it_ended(self) -> str:
        code = self.exit_code
        return f"ended with exit code {code}" if code >= 0 else f"was ended by {signal.Signals(-code).name}"

    def check(self) -> None:
        """ProcessFault if it has ended."""
        if not self.running:
            raise ProcessFault(self.describe(self._how_it_ended()))

    def describe(self, what: str) -> str:
        """A sentence about the process, and the end of its log."""
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_END:]
        return "\n    ".join([f"{self.name} {what}; the end of {self.log}:", *(lines or ["(empty)"])])


class ProcessGroup:
    """Starts nodes and CPU load, and ends them.

    Args:
        logs: folder of the log files.
        environment: of the processes.
    """

    def __init__(self, logs: Path, environment: Mapping[str, str]):
        self._logs = logs
        self._environment = environment
        self.nodes: list[Process] = []
        self._load: list[Process] = []

    def start_node(
        self,
        name: str,
        label: str,
        namespace: str,
        parameters: Mapping[str, object],
        clock: EmulatedClock | None = None,
    ) -> None:
        """Start a node of this package by the executable that is installed for it; `label` names its log.

        With a `clock`, it runs under it and sets it.
        """
        executable = share_folder().parent.parent / "lib" / PACKAGE / f"{name}_node"
        command, environment = [str(executable), "--ros-args", "-r", f"__ns:={namespace}"], self._environment
        if clock is not None:
            parameters = {**parameters, "sysfs_root": str(clock.root), "clocks_enabled": True}
        for key, value in parameters.items():
            command += ["-p", f"{key}:={_to_yaml(value)}"]
        self.nodes.append(
            Process(
                name, command if clock is None else clock.command(command), environment, self._logs / f"{label}.log"
            )
        )

    def start_load(self, count: int) -> None:
        """Start `count` processes that take all of the CPU they can get."""
        command = [sys.executable, "-I", "-S", "-c", "while True: pass"]
        for number in range(count):
            self._load.append(Process("CPU load", command, self._environment, self._logs / f"cpu_load_{number}.log"))

    def stop_load(self) -> None:
        """End the CPU load."""
        for process in self._load:
            process.send(signal.SIGKILL)
        for process in self._load:
            process.wait()
            process.log.unlink(missing_ok=True)
        self._load = []

    def node(self, name: str) -> Process:
        """The node of that name."""
        return next(process for process in self.nodes if process.name == name)

    def check(self) -> None:
        """ProcessFault if a node has ended."""
        for process in self.nodes:
            process.check()

    def signal_all(self, number: signal.Signals) -> None:
        """Send the nodes a signal, and end the load at once: it has nothing to clean up, and slows down the others."""
        for process in list(self._load):
            process.send(signal.SIGKILL)
        for process in list(self.nodes):
            process.send(number)

    def stop_nodes(self, timeout: float) -> list[str]:
        """End all nodes, the ones that take longer than `timeout` s by SIGKILL; what each did wrong, in sentences."""
        self.signal_all(signal.SIGTERM)
        end = time.monotonic() + timeout
        while any(process.running for process in self.nodes) and time.monotonic() < end:
            time.sleep(POLL_PERIOD)
        self.signal_all(signal.SIGKILL)
        for process in self.nodes:
            process.wait()
        faults = [fault for process in self.nodes if (fault := process.fault())]
        self.nodes = []
        return faults


def _to_yaml(value: object) -> str:
    """A parameter value as the ROS command line wants it."""
    if isinstance(value, bool):
        return str(value).lower()
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else str(value)
