"""Clocks that are set while nodes run: durations go on, and a simulation that begins again is decided anew."""

from __future__ import annotations

import ast
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from builtin_interfaces.msg import Time
from bundles import make_bundle, make_profile
from dynamic_perception.msg import OperatingPointCommand, OperatingPointState
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Temperature
from test_resource_manager_node import Robot, milliseconds

import dynamic_perception

HOUR = 3600
START = 1000  # [s] of the simulated clock

PARAMETERS = {"dwell": 0.5, "report_timeout": 0.0, "temperature_timeout": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    bundle = make_bundle(folder / "tiny")
    return {"model": str(bundle.folder), "profile": str(make_profile(folder / "profile.yaml", bundle))}


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory) -> Path:
    """The library that lets a test set the system clock of a process."""
    library = tmp_path_factory.mktemp("clock") / "stepped_system_clock.so"
    source = Path(__file__).parent / "stepped_system_clock.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


class SystemClock:
    """The system clock of one node, which the test sets."""

    def __init__(self, file: Path):
        self.file = file
        self.set_ahead(0)

    def set_ahead(self, seconds: int) -> None:
        with self.file.open("r+b" if self.file.exists() else "wb") as file:  # in place: the node has it mapped
            file.write(struct.pack("q", seconds))


def heat(robot, celsius: float) -> None:
    message = Temperature(temperature=celsius)
    message.header.frame_id = "cpu_thermal"
    robot.temperature.publish(message)


def newest(robot, key: str) -> str:
    return next((v.value for s in reversed(robot.diagnostics) for v in s.values if v.key == key), "")


@pytest.fixture
def stepped(start_node, ros_node, spin_until, model, preloaded, tmp_path):
    """A robot whose manager's system clock can be set."""
    clock = SystemClock(tmp_path / "offset")
    node = Path(sys.prefix) / "lib" / "dynamic_perception" / "resource_manager_node"
    program = ["env", f"LD_PRELOAD={preloaded}", f"SYSTEM_CLOCK_OFFSET={clock.file}", str(node)]
    process = start_node("resource_manager", {**model, **PARAMETERS}, program=program)
    robot = Robot(ros_node, spin_until).connect()
    robot.process, robot.clock = process, clock
    return robot


@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["back", "ahead"])
def test_a_dwell_ends_while_the_system_clock_is_another(stepped, step):
    stepped.deadline.publish(milliseconds(20))
    stepped.wait_for(lambda c: c.operating_point.subnetwork != "100%", "a smaller subnetwork")
    stepped.clock.set_ahead(step)
    stepped.deadline.publish(milliseconds(0))
    command = stepped.wait_for(lambda c: c.operating_point.subnetwork == "100%", "the largest subnetwork again")
    assert abs(command.header.stamp.sec - stepped.node.get_clock().now().nanoseconds * 1e-9 - step) < 60  # it was set


@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["back", "ahead"])
def test_a_silent_sensor_is_noticed_while_the_system_clock_is_another_and_no_other(stepped, step):
    heat(stepped, 95.0)
    stepped.wait_for(lambda c: c.reason == OperatingPointCommand.REASON_THERMAL, "a command because of heat")
    stepped.clock.set_ahead(step)
    stepped.diagnostics.clear()
    stepped.spin_until(lambda: "temperature" in newest(stepped, "stale"), "the silent sensor")
    silent_for = float(newest(stepped, "stale").split("(for ")[1].split(" s)")[0])
    assert silent_for < 60.0


def test_an_answer_is_an_answer_whatever_its_clock_says(stepped):
    rejected = stepped.commands[-1]
    state = OperatingPointState(
        sequence=rejected.sequence, result=OperatingPointState.RESULT_REJECTED, command_stamp=rejected.header.stamp
    )
    state.header.stamp = Time(sec=rejected.header.stamp.sec - HOUR)
    stepped.states.publish(state)
    command = stepped.wait_for(lambda c: c.sequence > rejected.sequence, "another point")
    assert command.operating_point != rejected.operating_point


def test_an_answer_to_another_managers_command_is_none(stepped):
    first = stepped.commands[-1]
    other = Time(sec=first.header.stamp.sec - HOUR)
    state = OperatingPointState(
        sequence=first.sequence, result=OperatingPointState.RESULT_REJECTED, command_stamp=other
    )
    state.header.stamp = Time(sec=first.header.stamp.sec + HOUR)
    stepped.states.publish(state)
    stepped.spin_until(lambda: stepped.diagnosed("last fault", "has no answer on"), "the missing answer")
    assert stepped.commands[-1].sequence == first.sequence


class Simulation:
    """A /clock that the test sets, and that runs at the machine's pace."""

    def __init__(self, node):
        self._node, self._publisher = node, node.create_publisher(Clock, "/clock", 1)
        self.set(START)
        node.create_timer(0.02, self._publish)

    def set(self, seconds: float) -> None:
        self._offset = seconds - self._machine()

    def _machine(self) -> float:
        return 1e-9 * self._node.get_clock().now().nanoseconds

    def _publish(self) -> None:
        now = self._machine() + self._offset
        self._publisher.publish(Clock(clock=Time(sec=int(now), nanosec=int(1e9 * (now % 1.0)))))


@pytest.fixture
def simulated(start_node, ros_node, spin_until, model):
    """A robot whose manager lives in simulated time."""
    simulation = Simulation(ros_node)
    process = start_node("resource_manager", {**model, **PARAMETERS, "use_sim_time": True})
    robot = Robot(ros_node, spin_until).connect()
    robot.process, robot.simulation = process, simulation
    robot.spin_until(
        lambda: robot.diagnostics and "stand still" not in robot.diagnostics[-1].message, "the simulated time"
    )
    return robot


@pytest.mark.parametrize("to, words", [(START - 900, "/clock stepped back by 9"), (START + HOUR, "stepped ahead by 3")])
def test_a_step_of_the_simulations_clock_starts_anew_and_says_so(simulated, to, words):
    heat(simulated, 95.0)
    hot = simulated.wait_for(lambda c: c.reason == OperatingPointCommand.REASON_THERMAL, "a command because of heat")
    simulated.simulation.set(to)
    command = simulated.wait_for(lambda c: c.sequence > hot.sequence, "a command in the new time")
    assert command.reason == OperatingPointCommand.REASON_STARTUP and command.operating_point.subnetwork == "100%"
    assert abs(command.header.stamp.sec - to) < 2
    simulated.spin_until(lambda: simulated.diagnosed("last fault", words), "the step in diagnostics")
    assert words in simulated.process.output()


def test_what_the_user_asked_for_holds_after_a_step(simulated):
    simulated.deadline.publish(milliseconds(20))
    simulated.wait_for(lambda c: c.operating_point.subnetwork != "100%", "a smaller subnetwork")
    before = len(simulated.commands)
    simulated.simulation.set(START - 900)
    simulated.spin_until(lambda: simulated.diagnosed("last fault", "stepped back"), "the step in diagnostics")
    assert all(command.operating_point.subnetwork != "100%" for command in simulated.commands[before:])


def test_dwells_and_timeouts_go_on_after_a_step_back(simulated):
    simulated.deadline.publish(milliseconds(20))
    simulated.wait_for(lambda c: c.operating_point.subnetwork != "100%", "a smaller subnetwork")
    simulated.simulation.set(START - 900)
    simulated.spin_until(lambda: simulated.diagnosed("last fault", "stepped back"), "the step in diagnostics")
    simulated.deadline.publish(milliseconds(0))
    simulated.wait_for(lambda c: c.operating_point.subnetwork == "100%", "the largest subnetwork again")
    heat(simulated, 40.0)
    simulated.spin_until(lambda: "temperature" in newest(simulated, "stale"), "the silent sensor")


def test_the_first_clock_is_no_step(simulated):
    simulated.spin_until(lambda: newest(simulated, "state") == "active", "diagnostics")
    assert "stepped" not in simulated.process.output()


def test_without_a_clock_diagnostics_say_why_nothing_moves(start_node, ros_node, spin_until, model):
    start_node("resource_manager", {**model, "use_sim_time": True})
    robot = Robot(ros_node, spin_until)
    spin_until(lambda: any("nothing was heard on /clock" in s.message for s in robot.diagnostics), "the missing clock")


# Which clock is read where ------------------------------------------------------------------------------------------

READERS = {  # files that read the ROS clock for anything but the stamp of a message, and why
    "nodes/camera.py": "when a frame was captured",
    "nodes/hardware_monitor.py": "one stamp for several messages",
    "nodes/observer.py": "a recording's time axis",
    "nodes/perception.py": "how old a frame is",
    "nodes/resource_manager.py": "hands it to DecisionClock",
}
PACKAGE = Path(dynamic_perception.__file__).parent


def calls(tree: ast.AST, name: str) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name
    ]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_the_system_clock_is_read_for_stamps_and_ages_alone(path):
    tree = ast.parse(path.read_text())
    for clock in ("time.time", "time.time_ns", "datetime.now", "datetime.utcnow"):
        module, name = clock.split(".")
        read = [c for c in calls(tree, name) if isinstance(c.func.value, ast.Name) and c.func.value.id == module]
        assert not read or path.parts[-2] not in ("nodes", "management", "hardware", "engines"), f"{clock} in {path}"
    stamps = [c for c in calls(tree, "to_msg") if calls(c.func.value, "get_clock")]
    others = len(calls(tree, "get_clock")) - len(stamps)
    assert others == 0 or str(path.relative_to(PACKAGE)) in READERS
