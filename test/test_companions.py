"""Nodes that do the same job twice, or not for the same network, say so while it lasts, and only then."""

import time

import pytest
from bundles import make_bundle, make_profile
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from dynamic_perception.msg import OperatingPoint, OperatingPointCommand, OperatingPointState

from dynamic_perception.nodes import qos
from dynamic_perception.nodes.companions import differs

NOTICED_WITHIN = 2.0  # [s]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Two networks whose subnetworks have the same names: parameters of perception, and of a manager."""
    folder = tmp_path_factory.mktemp("models")
    bundles = [make_bundle(folder / name, seed=seed) for seed, name in enumerate(("front", "rear"))]
    return [
        ({"model": str(bundle.folder)}, {"model": str(bundle.folder), "profile": str(make_profile(path, bundle))})
        for bundle, path in zip(bundles, (folder / "front.yaml", folder / "rear.yaml"))
    ]


@pytest.fixture
def diagnosed(ros_node, spin_until):
    """Wait until the two newest diagnostics of nodes of a name are of a level and say all of some words."""
    heard: list[DiagnosticStatus] = []
    ros_node.create_subscription(DiagnosticArray, "/diagnostics", lambda message: heard.extend(message.status), 10)

    def wait(name, level, *words):
        heard.clear()

        def said():
            place = f"{ros_node.get_namespace().lstrip('/')}/{name}"
            newest = [status for status in heard if status.name.split(":")[0] == place][-2:]
            return len(newest) == 2 and all(
                status.level == level and all(word in status.message for word in words) for status in newest
            )

        try:
            spin_until(said, f"{name} at {level} with {words}")
        except pytest.fail.Exception:
            pytest.fail(f"{name} was not at {level} with {words}, but {heard[-4:]}")

    return wait


def publishers(node, topic):
    return len(node.get_publishers_info_by_topic(f"{node.get_namespace()}/{topic}"))


@pytest.mark.parametrize(
    "name, topic, what",
    [
        ("resource_manager", "operating_point/command", "2 managers publish"),
        ("perception", "operating_point/state", "2 perception nodes publish"),
    ],
)
def test_two_of_a_kind_are_an_error_of_all_nodes_until_one_goes(
    start_node, ros_node, spin_until, diagnosed, models, name, topic, what
):
    parameters = dict(zip(("perception", "resource_manager"), models[0]))
    for node in parameters:
        start_node(node, parameters[node])
    diagnosed("resource_manager", DiagnosticStatus.OK)
    second = start_node(name, parameters[name])
    spin_until(lambda: publishers(ros_node, topic) == 2, "the second node")
    there = time.monotonic()
    for node in parameters:
        diagnosed(node, DiagnosticStatus.ERROR, what, topic)
    assert time.monotonic() - there < NOTICED_WITHIN + 4.0  # two diagnostics of each node, once a second
    second.stop()
    diagnosed("resource_manager", DiagnosticStatus.OK)


def test_another_network_is_an_error_of_both_nodes_and_its_commands_are_rejected(
    start_node, ros_node, spin_until, diagnosed, models
):
    states = []
    ros_node.create_subscription(OperatingPointState, "operating_point/state", states.append, qos.LATCHED_STATE)
    start_node("perception", models[0][0])
    manager = start_node("resource_manager", models[1][1])
    diagnosed("resource_manager", DiagnosticStatus.ERROR, "perception runs front (", "this manager decides over rear (")
    diagnosed("perception", DiagnosticStatus.ERROR, "the manager decides over rear (", "perception runs front (")
    spin_until(lambda: any(s.result == OperatingPointState.RESULT_REJECTED for s in states), "a rejected command")
    assert "rejected:" not in manager.output()  # it does not try its whole table
    manager.stop()
    diagnosed("perception", DiagnosticStatus.WARN, "no frames")  # and nothing of another network any more


def test_a_command_that_names_no_network_is_taken(start_node, ros_node, spin_until, models):
    states = []
    ros_node.create_subscription(OperatingPointState, "operating_point/state", states.append, qos.LATCHED_STATE)
    commands = ros_node.create_publisher(OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND)
    start_node("perception", models[0][0])
    spin_until(commands.get_subscription_count, "perception")
    commands.publish(OperatingPointCommand(sequence=7, operating_point=OperatingPoint(subnetwork="33%")))
    spin_until(lambda: any(s.sequence == 7 for s in states), "the answer")
    answer = next(s for s in states if s.sequence == 7)
    assert answer.result != OperatingPointState.RESULT_REJECTED
    assert answer.model == "front" and len(answer.weights_sha256) == 64


@pytest.mark.parametrize(
    "told, own, other",
    [
        (("a", "1"), ("a", "1"), False),
        (("b", "1"), ("a", "1"), False),  # a copy under another name
        (("a", "2"), ("a", "1"), True),
        (("", ""), ("a", "1"), False),
        (("b", ""), ("a", "1"), True),
    ],
)
def test_networks_are_told_apart_by_their_weights_and_without_them_by_name(told, own, other):
    assert differs(*told, *own) == other
