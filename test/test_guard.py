"""No callback or thread of a node ends it by an exception: it is counted and named in diagnostics; the node goes on."""

import ast
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rclpy
from bundles import make_bundle
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from dynamic_perception.msg import InferenceReport
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from perception_client import PerceptionClient
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

import dynamic_perception.nodes
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.executor import make_executor
from dynamic_perception.nodes.guarded_node import is_guarded
from dynamic_perception.nodes.managed_node import FAULT_KINDS, LONGEST_FAULT, ManagedNode

NODE_MODULES = sorted(Path(dynamic_perception.nodes.__file__).parent.glob("*.py"))


def fail(*_):
    raise LookupError("nobody expected this")


@pytest.fixture
def node(namespace):
    rclpy.init(args=["--ros-args", "-r", f"__ns:={namespace}"], signal_handler_options=SignalHandlerOptions.NO)
    node = ManagedNode("hardware_monitor")
    yield node
    node.destroy_node()
    rclpy.try_shutdown()


@pytest.fixture(params=[make_executor, SingleThreadedExecutor], ids=["executor", "older executor"])
def spin(request, node):
    """Let the node's callbacks run until a condition holds."""
    executor = request.param()
    if request.node.callspec.params.get("register") is guard_condition and request.param is make_executor:
        pytest.skip("the newer executor has no guard conditions")
    executor.add_node(node)

    def spin(condition, what):
        end = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < end, f"waited for {what}; faults: {dict(node.fault_counts)}"
            executor.spin_once(timeout_sec=0.05)

    yield spin
    executor.shutdown()


def subscription(node):
    node.create_subscription(String, "words", fail, 10)
    publisher = node.create_publisher(String, "words", 10)
    return "subscription words", lambda: publisher.publish(String(data="a"))


def timer(node):
    node.create_timer(0.01, fail)
    return "timer fail", lambda: None


def service(node):
    node.create_service(Trigger, "ask", fail)
    client = node.create_client(Trigger, "ask")
    return "service ask", lambda: client.call_async(Trigger.Request())


def answer_to_a_client(node):
    node.create_service(Trigger, "ask", lambda request, response: response)
    client = node.create_client(Trigger, "ask")
    return "answer of ask", lambda: client.call_async(Trigger.Request()).add_done_callback(fail)


def guard_condition(node):
    condition = node.create_guard_condition(fail)
    return "guard condition fail", condition.trigger


def event_of_a_subscription(node):
    node.create_subscription(
        String, "words", lambda message: None, 10, event_callbacks=SubscriptionEventCallbacks(matched=fail)
    )
    return "matched event of words", lambda: node.create_publisher(String, "words", 10)


def event_of_a_publisher(node):
    node.create_publisher(String, "words", 10, event_callbacks=PublisherEventCallbacks(matched=fail))
    return "matched event of words", lambda: node.create_subscription(String, "words", lambda message: None, 10)


def parameters_before(node):
    node.add_pre_set_parameters_callback(fail)
    return "parameters", lambda: node.set_parameters_atomically([])


def parameters_while(node):
    node.add_on_set_parameters_callback(fail)
    return "parameters", lambda: node.set_parameters_atomically([rclpy.Parameter("use_sim_time", value=False)])


def parameters_after(node):
    node.add_post_set_parameters_callback(fail)
    return "parameters", lambda: node.set_parameters_atomically([rclpy.Parameter("use_sim_time", value=False)])


def thread(node):
    return "thread worker", lambda: node.start_thread("worker", fail, lambda: bool(node.fault_counts)).join()


def diagnosis(node):
    node.diagnose = fail
    node.trigger_configure()
    node.trigger_activate()
    return "diagnose", lambda: None


KINDS = (
    subscription, timer, service, answer_to_a_client, guard_condition, event_of_a_subscription, event_of_a_publisher,
    parameters_before, parameters_while, parameters_after, thread, diagnosis,
)  # fmt: skip


@pytest.mark.parametrize("register", KINDS, ids=lambda kind: kind.__name__)
def test_a_callback_that_raises_is_counted_and_named_in_diagnostics_and_the_node_goes_on(node, spin, register):
    heard = []
    node.create_subscription(DiagnosticArray, "/diagnostics", lambda array: heard.extend(array.status), 10)
    kind, provoke = register(node)

    def counted():
        provoke()
        return node.fault_counts[kind]

    spin(counted, f"a fault '{kind}'")
    name = node.get_fully_qualified_name().lstrip("/")
    spin(
        lambda: any(
            status.name == name and status.level != DiagnosticStatus.OK and f"faults: {kind}" in keys
            for status in heard
            for keys in [[value.key for value in status.values]]
        ),
        "diagnostics that name it",
    )
    assert any("LookupError: nobody expected this" in value.value for status in heard for value in status.values)


def test_what_rclpy_registers_for_itself_is_guarded_too(node):
    assert {service.srv_name.rpartition("/")[2] for service in node.services} >= {"change_state", "set_parameters"}
    assert all(is_guarded(service.callback) for service in node.services)
    node.set_parameters([rclpy.Parameter("use_sim_time", value=True)])  # subscribes to /clock
    entities = [*node.subscriptions, *node.timers]
    assert any(entity.topic_name == "/clock" for entity in node.subscriptions)
    assert all(is_guarded(entity.callback) for entity in entities)


def test_a_coroutine_is_refused_as_callback(node):
    async def callback(message):
        pass

    with pytest.raises(TypeError, match="plain function"):
        node.create_subscription(String, "words", callback, 10)


@pytest.mark.parametrize(
    ("kind", "name", "request_"),
    [
        (ChangeState, "change_state", ChangeState.Request(transition=Transition(id=255, label="nonsense"))),
        (
            SetParameters,
            "set_parameters",
            SetParameters.Request(
                parameters=[
                    ParameterMessage(
                        name="publish_rate", value=ParameterValue(type=ParameterType.PARAMETER_STRING_ARRAY + 90)
                    )
                ]
            ),
        ),
    ],
    ids=["transition", "parameter type"],
)
def test_nonsense_that_is_asked_of_a_service_of_rclpy_is_answered(node, spin, kind, name, request_):
    client = node.create_client(kind, f"{node.get_fully_qualified_name()}/{name}")
    spin(client.service_is_ready, "the service")
    answer = client.call_async(request_)
    spin(answer.done, "an answer")
    assert answer.result() is not None


def test_a_thread_begins_again_after_an_exception_and_ends_when_its_work_is_done(node):
    calls = []

    def work():
        calls.append(None)
        if len(calls) < 3:
            fail()

    node.start_thread("worker", work, lambda: False).join(20)
    assert len(calls) == 3
    assert node.fault_counts["thread worker"] == 2


FAILING = """
import pathlib, sys
from dynamic_perception.nodes import {module}
def failing(self, act={module}.{kind}.{method}):
    if pathlib.Path("{switch}").exists():
        raise LookupError("nobody expected this")
    return act(self)
{module}.{kind}.{method} = failing
{module}.main()
"""


@pytest.fixture
def start_failing(start_node, tmp_path):
    """Start a node one of whose methods raises while the file that is returned exists."""

    def start(module, kind, method, parameters):
        switch, program = tmp_path / "switch", tmp_path / "failing_node.py"
        program.write_text(FAILING.format(module=module, kind=kind, method=method, switch=switch))
        return start_node(module, parameters, program=[sys.executable, str(program)]), switch

    return start


def test_frames_and_commands_go_on_after_the_inference_thread_failed(start_failing, ros_node, spin_until, tmp_path):
    bundle = make_bundle(tmp_path / "tiny")
    node, switch = start_failing("perception", "PerceptionNode", "_until_fallback", {"model": str(bundle.folder)})
    client, frame = PerceptionClient(ros_node, spin_until).connect(), np.zeros((32, 32, 3), np.uint8)
    client.ask(frame)
    switch.touch()
    client.send(frame)
    spin_until(lambda: client.diagnosed("faults: thread inference", ""), "diagnostics that name the thread")
    switch.unlink()
    client.ask(frame)
    assert client.command(1, subnetwork=bundle.subnetworks[0].name).actual.subnetwork == bundle.subnetworks[0].name
    assert node.stop() == 0


@pytest.mark.parametrize("lossless", [False, True])
def test_frames_go_on_after_the_camera_thread_failed(start_failing, ros_node, spin_until, lossless):
    frames, told = [], []
    reports = ros_node.create_publisher(InferenceReport, "inference_report", qos.RESULTS)

    def on_frame(frame):
        frames.append(frame)
        reports.publish(InferenceReport(header=frame.header))

    ros_node.create_subscription(Image, "image", on_frame, qos.IMAGE)
    ros_node.create_subscription(DiagnosticArray, "/diagnostics", lambda array: told.extend(array.status), 10)
    parameters = {"source": "synthetic", "width": 64, "height": 48, "lossless": lossless}
    node, switch = start_failing("camera", "CameraNode", "_grab", parameters)
    spin_until(lambda: frames, "the first frame")
    switch.touch()
    spin_until(
        lambda: any(s.level == DiagnosticStatus.ERROR and "is tried again" in s.message for s in told),
        "diagnostics that say so",
    )
    switch.unlink()
    before = len(frames)
    spin_until(lambda: len(frames) > before + 3, "more frames")
    assert node.stop() == 0


def test_a_thread_that_always_fails_does_not_hold_up_the_end(start_failing):
    node, switch = start_failing("camera", "CameraNode", "_grab", {"source": "synthetic", "width": 64, "height": 48})
    switch.touch()
    node.wait_for_output(
        "thread reader failed and goes on: LookupError: nobody expected this (failing_node.py, line 6)"
    )
    assert node.stop() == 0


def test_faults_of_strangers_do_not_make_diagnostics_grow_for_ever(node, spin):
    heard = []
    node.create_subscription(DiagnosticArray, "/diagnostics", heard.append, 10)
    for number in range(10 * FAULT_KINDS):
        node.report_fault(f"zone {number} \ud800" + 1000 * "x", f"{number} \ud800" + 100_000 * "y")
    assert len(node.fault_counts) <= FAULT_KINDS + 1
    assert sum(node.fault_counts.values()) == 10 * FAULT_KINDS
    spin(lambda: heard, "diagnostics")
    assert all(len(value.value) <= LONGEST_FAULT for status in heard[0].status for value in status.values)


@pytest.mark.parametrize("module", NODE_MODULES, ids=lambda path: path.stem)
def test_no_module_of_a_node_registers_a_callback_past_the_guard(module):
    tree = ast.parse(module.read_text())
    imported = {
        alias.name
        for found in ast.walk(tree)
        if isinstance(found, (ast.Import, ast.ImportFrom))
        for alias in found.names
    }
    past = {"Subscription", "Timer", "Service", "GuardCondition", "ActionServer", "ActionClient", "Waitable"}
    # A Subscription may be named as a type; made it must not be.
    called = {
        found.func.attr if isinstance(found.func, ast.Attribute) else getattr(found.func, "id", "")
        for found in ast.walk(tree)
        if isinstance(found, ast.Call)
    }
    assert not past & called
    assert "add_waitable" not in called
    if module.stem != "guarded_node":
        assert not {"Thread", "Timer"} & called, "a thread is started by start_thread"
        assert not {"LifecycleNode", "ActionServer", "ActionClient"} & imported, "a node is a ManagedNode"
        assert "from_msg" not in called, "a stamp is read by nodes/stamps.py, which never raises"
