"""One resource manager for two perception nodes, over DDS: a namespace for each, one machine and battery for both."""

import pytest
from builtin_interfaces.msg import Duration
from bundles import make_bundle, make_profile
from diagnostic_msgs.msg import DiagnosticArray
from dynamic_perception.msg import InferenceReport, OperatingPointCommand, OperatingPointState, PerformanceTarget
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import BatteryState

from dynamic_perception.nodes import qos


class Perception:
    """A perception node as the manager sees it: runs what it is told, and answers, unless it is silent."""

    def __init__(self, node, name, silent=False):
        self.node, self.silent = node, silent
        self.commands = []
        publish = node.create_publisher
        self.deadline = publish(Duration, f"{name}/deadline", qos.USER_INPUT)
        self.target = publish(PerformanceTarget, f"{name}/target", qos.USER_INPUT)
        self.reports = publish(InferenceReport, f"{name}/inference_report", qos.RESULTS)
        self.states = publish(OperatingPointState, f"{name}/operating_point/state", qos.LATCHED_STATE)
        node.create_subscription(
            OperatingPointCommand, f"{name}/operating_point/command", self._on_command, qos.COMMAND_INPUT
        )

    def _on_command(self, command):
        self.commands.append(command)
        if not self.silent:
            self.answer(command, OperatingPointState.RESULT_APPLIED)

    def answer(self, command, result):
        point = command.operating_point
        state = OperatingPointState(sequence=command.sequence, result=result, requested=point, actual=point)
        state.header.stamp = self.node.get_clock().now().to_msg()
        self.states.publish(state)

    def is_connected(self):
        publishers = (self.deadline, self.target, self.reports, self.states)
        return self.commands and all(publisher.get_subscription_count() for publisher in publishers)

    @property
    def point(self):
        return self.commands[-1].operating_point

    @property
    def place(self):
        return self.point.subnetwork, self.point.compute_element


class Robot:
    """Two perception nodes, a battery, and the diagnostics."""

    def __init__(self, node, spin_until, silent):
        self.node, self.spin_until = node, spin_until
        self.front, self.rear = Perception(node, "front"), Perception(node, "rear", "rear" in silent)
        self.battery = node.create_publisher(BatteryState, "battery_state", qos.SENSOR_DATA)
        self.diagnostics = []
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, message):
        self.diagnostics += [s for s in message.status if s.name.startswith(self.node.get_namespace().lstrip("/"))]

    def diagnosed(self, key, value):
        return any(v.key == key and value in v.value for s in self.diagnostics for v in s.values)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    bundle = make_bundle(folder / "tiny")
    return bundle, make_profile(folder / "profile.yaml", bundle)


@pytest.fixture
def parameters(model):
    bundle, profile = model
    return {
        "namespaces": ["front", "rear"],
        "model": str(bundle.folder),
        "profile": str(profile),
        "dwell": 0.2,
        "report_timeout": 0.0,
        "temperature_timeout": 0.0,
    }


@pytest.fixture
def start_robot(start_node, ros_node, spin_until, parameters):
    def start(silent=(), **more):
        process = start_node("resource_manager", {**parameters, **more})
        robot = Robot(ros_node, spin_until, silent)
        robot.process = process
        spin_until(lambda: robot.front.is_connected() and robot.rear.is_connected(), "commands for both networks")
        return robot

    return start


def test_each_network_is_commanded_in_its_namespace(start_robot):
    robot = start_robot()
    for perception in (robot.front, robot.rear):
        first = perception.commands[0]
        assert (first.sequence, first.reason) == (1, OperatingPointCommand.REASON_STARTUP)
        assert perception.point.subnetwork == "100%"


def test_two_networks_do_not_crowd_the_same_cores_where_that_breaks_a_deadline(start_robot):
    robot = start_robot()
    robot.rear.deadline.publish(Duration(nanosec=22_000_000))  # 100 % takes 18 ms on both threads, undisturbed
    robot.spin_until(
        lambda: robot.rear.commands[-1].reason == OperatingPointCommand.REASON_DEADLINE, "another point for rear"
    )
    command = robot.rear.commands[-1]
    assert command.feasible and command.operating_point.expected_latency < 0.022
    assert command.detail.startswith("rear: deadline none -> 22 ms: ")


def test_a_low_battery_limits_both_together(start_robot):
    robot = start_robot(battery_thresholds=[0.3], battery_power_caps=[0.5])  # of 12 W
    robot.battery.publish(BatteryState(percentage=0.10, present=True))

    def low():
        return robot.front.point.expected_power + robot.rear.point.expected_power <= 6.0 + 1e-6

    robot.spin_until(low, "less power than 6 W for both")


def test_a_rejection_by_one_leaves_the_point_out_for_that_one(start_robot):
    robot = start_robot(silent=("rear",))
    rejected, of_front = robot.rear.commands[-1], robot.front.place
    robot.rear.answer(rejected, OperatingPointState.RESULT_REJECTED)
    robot.spin_until(lambda: robot.rear.commands[-1].sequence > rejected.sequence, "another point for rear")
    assert robot.rear.place != (rejected.operating_point.subnetwork, rejected.operating_point.compute_element)
    assert robot.front.place[0] == of_front[0]


def test_a_command_that_nobody_answers_is_repeated_and_reported_by_network(start_robot):
    robot = start_robot(silent=("rear",))
    robot.spin_until(lambda: robot.diagnosed("last fault", "rear/operating_point/state"), "the missing answer")
    assert len([c for c in robot.rear.commands if c.sequence == robot.rear.commands[-1].sequence]) > 1
    assert not robot.diagnosed("faults: front no answer", "")


def test_a_parameter_of_one_network_is_that_networks_alone(start_robot, call_service):
    robot = start_robot(**{"front.objective": "min_energy"})
    assert (robot.front.point.subnetwork, robot.rear.point.subnetwork) == ("33%", "100%")
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="min_energy")
    request = SetParameters.Request(parameters=[Parameter(name="rear.objective", value=value)])
    assert call_service(SetParameters, "resource_manager/set_parameters", request).results[0].successful
    robot.spin_until(lambda: robot.rear.point.subnetwork == "33%", "the thriftiest point for rear")


def test_other_work_is_learnt_from_either_network(start_robot):
    robot = start_robot()

    def learnt():
        point = robot.rear.point
        robot.rear.reports.publish(
            InferenceReport(
                subnetwork=point.subnetwork,
                compute_element=point.compute_element,
                inference_duration=2.0 * point.expected_latency,
                end_to_end_duration=0.1,
            )
        )
        return any(
            "slow-down" in v.key and float(v.value.split()[0]) > 1.5 for s in robot.diagnostics[-3:] for v in s.values
        )

    robot.spin_until(learnt, "the slow-down in diagnostics")


@pytest.mark.parametrize("namespaces", [["front", "front"], ["front", ""], ["/front", "rear"]])
def test_namespaces_that_cannot_be_told_apart_are_refused(start_node, parameters, namespaces):
    node = start_node("resource_manager", {**parameters, "namespaces": namespaces})
    assert node.process.wait(20) == 1
    assert f"parameter 'namespaces' is {namespaces}: expected different relative namespaces" in node.output()
