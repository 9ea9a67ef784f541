"""What every test shares: a ROS domain of its own, real node processes, and waiting for conditions, not for time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# Every pytest process has its own domain on this machine only, so that two runs, or a robot nearby, do not meet.
os.environ["ROS_DOMAIN_ID"] = str(1 + os.getpid() % 100)
os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
# Before torch is imported: its threads wait for each other, so on few cores several of them are slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Graphs of made-up networks stay out of the user's cache; data sets that were unpacked there are found all the same.
_cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dynamic_perception" / "data"
_own_cache = tempfile.TemporaryDirectory(prefix="dynamic_perception_cache_")
os.environ["XDG_CACHE_HOME"] = _own_cache.name
_cache.mkdir(parents=True, exist_ok=True)
(Path(_own_cache.name) / "dynamic_perception").mkdir()
(Path(_own_cache.name) / "dynamic_perception" / "data").symlink_to(_cache)

STOP_TIMEOUT = 10.0  # [s] for a node to end after SIGINT
SERVICE_TIMEOUT = 2.5  # [s] for a response, before it counts as lost
WAIT_TIMEOUT = 20.0  # [s] for anything else; generous, because a loaded machine is not a defect


def wait_for(condition: Callable[[], object], what: str, timeout: float = WAIT_TIMEOUT) -> None:
    """Poll `condition` until it holds; fail with `what` after `timeout` seconds."""
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {timeout:g} s for {what}")
        time.sleep(0.005)


class NodeProcess:
    """A node of this package as a real process with its own log.

    Args:
        name: perception, resource_manager, hardware_monitor or camera.
        namespace: ROS namespace.
        parameters: parameter overrides.
        remappings: topic remappings.
        program: what to start in place of the installed node.
    """

    def __init__(
        self,
        name: str,
        namespace: str,
        parameters: dict[str, object],
        remappings: dict[str, str],
        program: list[str] | None = None,
    ):
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (closed with the object)
        arguments = ["-r", f"__ns:={namespace}"]
        for key, value in parameters.items():
            text = (
                str(value).lower()
                if isinstance(value, bool)
                else f"'{value}'"
                if isinstance(value, str)
                else str(value)
            )
            arguments += ["-p", f"{key}:={text}"]
        for old, new in remappings.items():
            arguments += ["-r", f"{old}:={new}"]
        program = program or [str(Path(sys.prefix) / "lib" / "dynamic_perception" / f"{name}_node")]
        self.process = subprocess.Popen(
            [*program, "--ros-args", *arguments], stdout=self._log, stderr=subprocess.STDOUT
        )

    def output(self) -> str:
        """What the node has printed so far."""
        self._log.seek(0)
        return self._log.read()

    def wait_for_output(self, text: str) -> None:
        """Wait until the node has printed `text`."""
        wait_for(lambda: text in self.output() or self.process.poll() is not None, f"'{text}' in:\n{self.output()}")
        assert text in self.output(), f"the node ended with {self.process.returncode} before '{text}':\n{self.output()}"

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STOP_TIMEOUT)

    def close(self) -> None:
        """End the process whatever state it is in."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._log.close()


@pytest.fixture
def namespace() -> str:
    """A namespace that no other test uses."""
    return f"/test_{uuid.uuid4().hex[:12]}"


@pytest.fixture
def start_node(namespace: str) -> Iterator[Callable[..., NodeProcess]]:
    """Start nodes that are ended with the test: `start_node("perception", {"top_k": 1})`."""
    started: list[NodeProcess] = []

    def start(
        name: str,
        parameters: dict[str, object] | None = None,
        remappings: dict[str, str] | None = None,
        program: list[str] | None = None,
    ) -> NodeProcess:
        started.append(NodeProcess(name, namespace, parameters or {}, remappings or {}, program))
        return started[-1]

    yield start
    for node in started:
        node.close()


@pytest.fixture
def ros_node(namespace: str):
    """A plain rclpy node in this process and in the test's namespace; spin it with `spin_until`."""
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    context = rclpy.Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node = rclpy.create_node("tester", namespace=namespace, context=context)
    yield node
    node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.fixture
def spin_until(ros_node) -> Iterator[Callable[..., None]]:
    """Spin the test's node until a condition holds, or fail with what was waited for."""
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor(context=ros_node.context)
    executor.add_node(ros_node)

    def spin(condition: Callable[[], object], what: str, timeout: float = WAIT_TIMEOUT) -> None:
        end = time.monotonic() + timeout
        while not condition():
            if time.monotonic() > end:
                pytest.fail(f"waited {timeout:g} s for {what}")
            executor.spin_once(timeout_sec=0.02)

    yield spin
    executor.shutdown()


@pytest.fixture
def call_service(ros_node, spin_until) -> Callable[..., object]:
    """Call a service whose repetition does no harm, and return the response.

    A server may get the request before it has discovered the client's end for the response, which is then lost; so the
    request is sent again.  None if no response came to `attempts` requests.
    """

    def call(kind: type, name: str, request: object, attempts: int = 8) -> object:
        client = ros_node.create_client(kind, name)
        spin_until(client.service_is_ready, f"the service {name}")
        for _ in range(attempts):
            future = client.call_async(request)
            end = time.monotonic() + SERVICE_TIMEOUT
            spin_until(lambda: future.done() or time.monotonic() > end, f"{name}'s answer")
            if future.done():
                break
        ros_node.destroy_client(client)
        return future.result() if future.done() else None

    return call


@pytest.fixture
def change_state(call_service) -> Callable[[str, int], bool]:
    """Make a lifecycle transition of a node by its number; whether it succeeded."""
    from lifecycle_msgs.msg import Transition
    from lifecycle_msgs.srv import ChangeState, GetState

    leads_to = {
        Transition.TRANSITION_CONFIGURE: "inactive",
        Transition.TRANSITION_ACTIVATE: "active",
        Transition.TRANSITION_DEACTIVATE: "inactive",
        Transition.TRANSITION_CLEANUP: "unconfigured",
        Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: "finalized",
    }

    def change(name: str, number: int) -> bool:
        request = ChangeState.Request(transition=Transition(id=number))
        for _ in range(4):
            response = call_service(ChangeState, f"{name}/change_state", request, attempts=1)
            if response is not None:
                return response.success
            state = call_service(GetState, f"{name}/get_state", GetState.Request())
            if state.current_state.label == leads_to[number]:
                return True  # only the response was lost
        pytest.fail(f"{name} did not answer transition {number}")

    return change


@pytest.fixture
def dataset():
    """Folder of a data set by name, unpacked once; the test is skipped where it cannot be found."""
    from dynamic_perception.training.images import DATA_VARIABLE, find_dataset

    def find(name: str) -> Path:
        folder = find_dataset(name)
        if folder is None:
            pytest.skip(f"${DATA_VARIABLE} does not hold the data set '{name}'")
        return folder

    return find
