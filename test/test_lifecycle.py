"""Every node in every lifecycle state: SIGINT and SIGTERM end it cleanly, every transition works and can be undone."""

import signal
from pathlib import Path

import pytest
from bundles import make_bundle, make_profile
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import GetState

NODES = ("perception", "resource_manager", "hardware_monitor", "camera")
TO_STATE = {
    "unconfigured": (),
    "inactive": (Transition.TRANSITION_CONFIGURE,),
    "active": (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE),
    "finalized": (Transition.TRANSITION_UNCONFIGURED_SHUTDOWN,),
}


@pytest.fixture(scope="module")
def parameters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lifecycle")
    bundle = make_bundle(folder / "tiny")
    profile = make_profile(folder / "profile.yaml", bundle)
    (folder / "sys").mkdir()
    return {
        "perception": {"model": str(bundle.folder)},
        "resource_manager": {"model": str(bundle.folder), "profile": str(profile)},
        "hardware_monitor": {"sysfs_root": str(folder / "sys")},
        "camera": {"source": "synthetic"},
    }


@pytest.fixture
def start(start_node, call_service, change_state, parameters):
    """Start a node without autostart; returns it with functions that make a transition and tell the state."""

    def start(name):
        process = start_node(name, {**parameters[name], "autostart": False})

        def current():
            return call_service(GetState, f"{name}/get_state", GetState.Request()).current_state.label

        return process, lambda number: change_state(name, number), current

    return start


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda n: n.name)
@pytest.mark.parametrize("state", TO_STATE)
@pytest.mark.parametrize("name", NODES)
def test_a_signal_ends_the_node_with_code_0_and_no_traceback(start, name, state, number):
    process, transition, current = start(name)
    for step in TO_STATE[state]:
        assert transition(step)
    assert current() == state
    assert process.stop(number) == 0
    assert "Traceback" not in process.output() and "terminate called" not in process.output()


@pytest.mark.parametrize("name", NODES)
def test_a_node_can_go_round_its_states_twice(start, name):
    process, transition, current = start(name)
    for _ in range(2):
        for step, state in (
            (Transition.TRANSITION_CONFIGURE, "inactive"),
            (Transition.TRANSITION_ACTIVATE, "active"),
            (Transition.TRANSITION_DEACTIVATE, "inactive"),
            (Transition.TRANSITION_CLEANUP, "unconfigured"),
        ):
            assert transition(step)
            assert current() == state
    assert process.stop() == 0
    assert "Traceback" not in process.output()


def test_a_transition_that_fails_says_why_and_can_be_tried_again(start, parameters, tmp_path):
    missing = tmp_path / "profile.yaml"
    parameters["resource_manager"]["profile"], kept = str(missing), parameters["resource_manager"]["profile"]
    process, transition, current = start("resource_manager")
    parameters["resource_manager"]["profile"] = kept
    assert not transition(Transition.TRANSITION_CONFIGURE)
    assert current() == "unconfigured"
    process.wait_for_output(f"configure failed: no operating-point table at {missing}")
    missing.write_bytes(Path(kept).read_bytes())
    assert transition(Transition.TRANSITION_CONFIGURE)
    assert current() == "inactive"


def test_a_parameter_nobody_knows_is_warned_about(start_node, parameters):
    process = start_node("hardware_monitor", {**parameters["hardware_monitor"], "sysfs_rot": "/sys"})
    process.wait_for_output("parameter 'sysfs_rot' is set but no node of this package knows it")
