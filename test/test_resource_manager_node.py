"""The resource-manager node: what is heard on topics becomes commands, and wrong input changes nothing but a count."""

import math

import pytest
from builtin_interfaces.msg import Duration
from bundles import make_bundle, make_profile
from diagnostic_msgs.msg import DiagnosticArray
from dynamic_perception.msg import InferenceReport, OperatingPointCommand, OperatingPointState, PerformanceTarget
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import BatteryState, Temperature

from dynamic_perception.nodes import qos


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    bundle = make_bundle(folder / "tiny")
    return bundle, make_profile(folder / "profile.yaml", bundle)


class Robot:
    """Everything around the resource manager, in the test's process."""

    def __init__(self, node, spin_until):
        self.node, self.spin_until = node, spin_until
        self.commands, self.diagnostics = [], []
        node.create_subscription(OperatingPointCommand, "operating_point/command", self._on_command, qos.COMMAND_INPUT)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        publish = node.create_publisher
        self.battery = publish(BatteryState, "battery_state", qos.SENSOR_DATA)
        self.temperature = publish(Temperature, "temperature", qos.SENSOR_DATA)
        self.deadline = publish(Duration, "deadline", qos.USER_INPUT)
        self.target = publish(PerformanceTarget, "target", qos.USER_INPUT)
        self.reports = publish(InferenceReport, "inference_report", qos.RESULTS)
        self.states = publish(OperatingPointState, "operating_point/state", qos.LATCHED_STATE)

    def _on_command(self, message):
        self.commands.append(message)

    def _on_diagnostics(self, message):
        self.diagnostics += [s for s in message.status if s.name.startswith(self.node.get_namespace().lstrip("/"))]

    def connect(self) -> "Robot":
        publishers = (self.battery, self.temperature, self.deadline, self.target, self.reports, self.states)
        self.spin_until(
            lambda: self.commands and all(p.get_subscription_count() for p in publishers), "the resource manager"
        )
        return self

    @property
    def point(self):
        return self.commands[-1].operating_point

    def wait_for(self, condition, what):
        """Wait until the newest command satisfies `condition`."""
        self.spin_until(lambda: condition(self.commands[-1]), f"{what}; the last command was {self.commands[-1:]}")
        return self.commands[-1]

    def diagnosed(self, key, value):
        return any(v.key == key and value in v.value for s in self.diagnostics for v in s.values)


@pytest.fixture
def robot(start_node, ros_node, spin_until, model):
    bundle, profile = model
    process = start_node(
        "resource_manager",
        {
            "model": str(bundle.folder),
            "profile": str(profile),
            "dwell": 0.2,
            "report_timeout": 0.0,
            "temperature_timeout": 0.0,
        },
    )
    robot = Robot(ros_node, spin_until).connect()
    robot.process = process
    return robot


def milliseconds(value: float) -> Duration:
    return Duration(nanosec=int(1e6 * value))


def demand_two_threads(robot) -> None:
    """A deadline that the largest subnetwork only meets on two threads."""
    robot.deadline.publish(milliseconds(28))
    robot.wait_for(lambda c: c.operating_point.compute_element == "cpu:2", "the faster element")
    assert robot.point.subnetwork == "100%"


def test_it_starts_with_the_most_accurate_point_and_says_so(robot):
    first = robot.commands[0]
    assert (first.sequence, first.reason, first.feasible) == (1, OperatingPointCommand.REASON_STARTUP, True)
    assert first.operating_point.subnetwork == "100%"
    assert first.operating_point.expected_accuracy == pytest.approx(0.8)


def test_a_tighter_deadline_makes_it_smaller_and_a_lifted_one_larger_again(robot):
    robot.deadline.publish(milliseconds(20))
    command = robot.wait_for(lambda c: c.operating_point.subnetwork != "100%", "a smaller subnetwork")
    assert command.reason == OperatingPointCommand.REASON_DEADLINE and command.feasible
    assert command.operating_point.expected_latency < 0.020
    robot.deadline.publish(milliseconds(0))
    robot.wait_for(lambda c: c.operating_point.subnetwork == "100%", "the largest subnetwork again")


def test_an_impossible_deadline_is_commanded_as_infeasible_with_the_reason(robot):
    robot.deadline.publish(milliseconds(1))
    command = robot.wait_for(lambda c: not c.feasible, "an infeasible command")
    assert (command.operating_point.subnetwork, command.operating_point.compute_element) == ("33%", "cpu:2")
    assert "deadline" in command.detail


def test_a_low_battery_caps_the_power(robot):
    demand_two_threads(robot)
    robot.battery.publish(BatteryState(percentage=0.10, present=True))
    command = robot.wait_for(lambda c: c.operating_point.compute_element == "cpu:1", "the element of less power")
    assert command.reason == OperatingPointCommand.REASON_BATTERY and "0.10" in command.detail


@pytest.mark.parametrize("percentage", [math.nan, 55.0, -0.01])
def test_a_percentage_that_cannot_be_is_unknown_and_counted(robot, percentage):
    robot.battery.publish(BatteryState(percentage=percentage, present=True))
    robot.spin_until(lambda: robot.diagnosed("faults: battery_state", "1"), "the fault in diagnostics")
    assert "battery_state.percentage is" in robot.process.output()


def test_mains_power_does_not_cap_anything(robot):
    robot.battery.publish(BatteryState(percentage=0.10, present=True))
    robot.battery.publish(BatteryState(percentage=math.nan, present=False))
    robot.spin_until(lambda: robot.diagnosed("caps", "none"), "diagnostics without a cap")
    demand_two_threads(robot)


def test_heat_above_critical_leaves_only_the_coolest_point(robot):
    message = Temperature(temperature=95.0)
    message.header.frame_id = "cpu_thermal"
    robot.temperature.publish(message)
    command = robot.wait_for(lambda c: c.reason == OperatingPointCommand.REASON_THERMAL, "a command because of heat")
    assert (command.operating_point.subnetwork, command.operating_point.compute_element) == ("33%", "cpu:1")


@pytest.mark.parametrize("celsius", [-256.0, 1e6, math.nan])
def test_a_temperature_that_cannot_be_is_refused_and_counted(robot, celsius):
    message = Temperature(temperature=celsius)
    message.header.frame_id = "dead"
    robot.temperature.publish(message)
    robot.spin_until(lambda: robot.diagnosed("faults: temperature dead", "1"), "the fault in diagnostics")
    assert robot.point.subnetwork == "100%"


def test_other_work_on_the_cores_is_noticed_in_the_reports(robot):
    demand_two_threads(robot)
    slowed = InferenceReport(
        subnetwork="100%", compute_element="cpu:2", inference_duration=0.05, end_to_end_duration=0.052
    )

    def smaller():
        robot.reports.publish(slowed)
        return robot.point.subnetwork != "100%"

    robot.spin_until(smaller, "a smaller subnetwork")
    assert robot.commands[-1].reason == OperatingPointCommand.REASON_CONTENTION
    assert "slowed" in robot.commands[-1].detail


@pytest.mark.parametrize("before", [[], [OperatingPointState.RESULT_APPLIED]], ids=["at once", "after it was applied"])
def test_a_rejected_point_is_replaced_by_another(robot, before):
    rejected = robot.commands[-1]
    for result in [*before, OperatingPointState.RESULT_REJECTED]:
        state = OperatingPointState(sequence=rejected.sequence, result=result, message="no")
        state.header.stamp = robot.node.get_clock().now().to_msg()
        robot.states.publish(state)
    command = robot.wait_for(lambda c: c.sequence > rejected.sequence, "another point")
    assert command.operating_point != rejected.operating_point


def test_a_target_of_negative_power_is_refused_and_the_old_one_stays(robot):
    robot.target.publish(PerformanceTarget(max_power=-1.0))
    robot.spin_until(lambda: robot.diagnosed("last fault", "target refused: target: max_power is -1"), "the fault")
    assert robot.point.subnetwork == "100%"


def test_the_objective_of_a_target_is_followed(robot):
    robot.target.publish(PerformanceTarget(objective=PerformanceTarget.OBJECTIVE_MIN_LATENCY))
    robot.wait_for(
        lambda c: (c.operating_point.subnetwork, c.operating_point.compute_element) == ("33%", "cpu:2"),
        "the fastest point",
    )


def test_the_command_is_repeated_with_its_number_every_second(robot):
    count = len(robot.commands)
    robot.spin_until(lambda: len(robot.commands) >= count + 2, "two repetitions")
    last, before = robot.commands[-1], robot.commands[-2]
    assert (last.sequence, last.header) == (before.sequence, before.header)


def test_parameters_that_are_changed_take_effect(robot, call_service):
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value="min_energy")
    request = SetParameters.Request(parameters=[Parameter(name="objective", value=value)])
    assert call_service(SetParameters, "resource_manager/set_parameters", request).results[0].successful
    robot.wait_for(lambda c: c.operating_point.subnetwork == "33%", "the point of least energy")


def test_a_silent_perception_node_is_reported(robot):
    robot.spin_until(lambda: robot.diagnosed("last fault", "has no answer on"), "the missing answer in diagnostics")


def test_a_profile_of_other_weights_is_refused(start_node, model, tmp_path):
    _, profile = model
    other = make_bundle(tmp_path / "tiny", seed=5)
    node = start_node("resource_manager", {"model": str(other.folder), "profile": str(profile)})
    assert node.process.wait(20) == 1
    assert "was measured with other weights" in node.output() and "dynamic-perception profile" in node.output()


def test_a_profile_of_another_machine_is_refused_unless_forced(start_node, model, tmp_path):
    bundle, profile = model
    other = tmp_path / "profile.yaml"
    other.write_text(profile.read_text().replace("cpu_count: ", "cpu_count: 9"))
    values = {"model": str(bundle.folder), "profile": str(other)}
    node = start_node("resource_manager", values)
    assert node.process.wait(20) == 1
    assert "was measured on another machine (cpu_count 9" in node.output()
    forced = start_node("resource_manager", {**values, "force_profile": True})
    forced.wait_for_output("taken because of force_profile")


@pytest.mark.parametrize(
    "setting, sentence",
    [
        (
            {"battery_thresholds": [0.3, 0.2, 0.1]},
            "battery_power_caps has 2 entries: expected one per battery_thresholds, 3",
        ),
        (
            {"thermal_gains": [0.1]},
            "thermal_gains has 1 entries: expected overshoot_gain, undershoot_gain, integral_gain",
        ),
        ({"thermal_gains": [0.1, -0.1, 0.0]}, "undershoot_gain is -0.1: expected 0 or more"),
    ],
)
def test_a_bad_setting_ends_the_node_with_one_sentence(start_node, model, setting, sentence):
    bundle, profile = model
    node = start_node("resource_manager", {"model": str(bundle.folder), "profile": str(profile), **setting})
    assert node.process.wait(20) == 1
    assert sentence in node.output()
