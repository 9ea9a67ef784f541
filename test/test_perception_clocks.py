"""Commands set clocks only when enabled and within limits, and every end of the node puts them back as found."""

import math
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from bundles import make_bundle
from clock_helper_process import HelperProcess
from conftest import wait_for
from dynamic_perception.msg import OperatingPoint, OperatingPointCommand, OperatingPointState
from perception_client import PerceptionClient
from sysfs_trees import CPUFREQ, odroid_xu3, policy_files

from dynamic_perception.cli import main
from dynamic_perception.nodes import qos

PARTIAL, APPLIED = OperatingPointState.RESULT_PARTIAL, OperatingPointState.RESULT_APPLIED
NOBODY = 65534
needs_setpriv = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None,
    reason="only root, with setpriv, makes a process that may not write all files",
)
ENDS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


@pytest.fixture
def board(tmp_path):
    """An Odroid XU3's files; CPUs 0 to 3 are its A7 cluster, at 200 to 1400 MHz in steps of 100."""
    return odroid_xu3(tmp_path / "sys")


@pytest.fixture
def start_perception(start_node, board, tmp_path):
    bundle = make_bundle(tmp_path / "tiny")

    def start(**parameters):
        return start_node(
            "perception",
            {
                "model": str(bundle.folder),
                "sysfs_root": str(board),
                "clocks_enabled": True,
                "command_timeout": 0.0,
                **parameters,
            },
        )

    return start


@pytest.fixture
def command(ros_node, spin_until):
    """Send a command for a clock and return the state that answers it."""
    publisher = ros_node.create_publisher(OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND)
    states = []
    ros_node.create_subscription(OperatingPointState, "operating_point/state", states.append, qos.LATCHED_STATE)

    def send(sequence, megahertz, gpu_megahertz=math.nan):
        spin_until(publisher.get_subscription_count, "the perception node")
        point = OperatingPoint(subnetwork="33%", cpu_frequency=1e6 * megahertz, gpu_frequency=1e6 * gpu_megahertz)
        publisher.publish(OperatingPointCommand(sequence=sequence, operating_point=point))
        spin_until(lambda: any(s.sequence == sequence for s in states), f"the answer to command {sequence}")
        return next(s for s in reversed(states) if s.sequence == sequence)

    return send


def clock(board) -> int:
    """[MHz] that the A7 cluster is set to."""
    return int((board / CPUFREQ / "policy0" / "scaling_setspeed").read_text()) // 1000


@pytest.mark.parametrize("end", ENDS)
def test_a_commanded_clock_is_set_and_put_back_at_the_end(start_perception, command, board, end):
    found = policy_files(board)
    node = start_perception()
    state = command(1, 800)
    assert (state.result, state.actual.cpu_frequency, clock(board)) == (APPLIED, 800e6, 800)
    assert node.stop(ENDS[end]) == 0
    assert policy_files(board) == found


def test_a_commanded_gpu_clock_is_set_and_put_back_at_the_end(start_perception, command, board):
    gpu = board / "class/devfreq/11800000.gpu"
    found = {path.name: path.read_text() for path in gpu.iterdir() if path.is_file()}
    node = start_perception(gpu_frequency_max=500e6)
    state = command(1, math.nan, 350)
    assert (state.result, state.actual.gpu_frequency) == (APPLIED, 350e6)
    state = command(2, math.nan, 600)
    assert (state.result, state.actual.gpu_frequency) == (PARTIAL, 480e6)
    assert node.stop(signal.SIGTERM) == 0
    assert {path.name: path.read_text() for path in gpu.iterdir() if path.is_file()} == found


def test_a_report_says_the_clocks_that_are_read_back_for_each_inference(
    start_perception, ros_node, spin_until, command, board
):
    start_perception()
    client = PerceptionClient(ros_node, spin_until).connect()
    command(1, 800, 350)
    image = np.zeros((32, 32, 3), np.uint8)
    client.ask(image)
    report = client.reports[client.stamps]
    assert (report.sequence, report.cpu_frequency, report.gpu_frequency) == (1, 800e6, 350e6)
    for name in ("min_freq", "max_freq", "cur_freq"):  # as a kernel does that has to cool the GPU
        (board / "class/devfreq/11800000.gpu" / name).write_text("177000000")
    client.ask(image)
    assert client.reports[client.stamps].gpu_frequency == 177e6


def test_a_clock_between_two_steps_is_partial_and_actual_says_the_step(start_perception, command, board):
    start_perception()
    state = command(1, 830)
    assert (state.result, state.actual.cpu_frequency, clock(board)) == (PARTIAL, 800e6, 800)
    assert "830" in state.message


def test_a_clock_beyond_the_allowed_range_is_not_set(start_perception, command, board):
    start_perception(cpu_frequency_max=1.0e9)
    state = command(1, 1400)
    assert (state.result, state.actual.cpu_frequency, clock(board)) == (PARTIAL, 1000e6, 1000)


def test_zero_gives_the_clock_back_to_its_governor(start_perception, command, board):
    found = policy_files(board)
    start_perception()
    command(1, 800)
    assert command(2, 0).result == APPLIED
    assert policy_files(board) == found


def test_without_permission_nothing_is_touched(start_perception, command, board):
    found = policy_files(board)
    start_perception(clocks_enabled=False)
    assert command(1, 800).result == PARTIAL
    assert policy_files(board) == found


def test_what_a_killed_node_left_is_put_back_by_the_restore_command(start_perception, command, board, capsys):
    found = policy_files(board)
    node = start_perception()
    command(1, 800)
    node.process.kill()
    node.process.wait()
    assert policy_files(board) != found
    assert main(["restore", "--sysfs-root", str(board)]) == 0
    assert policy_files(board) == found
    assert capsys.readouterr().out


def test_what_a_killed_node_left_is_put_back_by_the_next_start(start_perception, command, board):
    found = policy_files(board)
    node = start_perception()
    command(1, 800)
    node.process.kill()
    node.process.wait()
    start_perception()
    wait_for(lambda: policy_files(board) == found, "the clocks to be put back")


def test_a_second_node_is_refused_with_the_pid_of_the_first(start_perception, command):
    first = start_perception()
    command(1, 800)
    second = start_perception()
    assert second.process.wait(20) == 1
    assert str(first.process.pid) in second.output()


@pytest.fixture
def start_without_rights(start_node, board, tmp_path):
    """Start the node as a process that may read all files, but write only its own: not the clocks'."""
    for path in (board, *board.rglob("*")):
        os.chown(path, NOBODY, NOBODY)
    bundle = make_bundle(tmp_path / "tiny")
    node = Path(sys.prefix) / "lib" / "dynamic_perception" / "perception_node"

    def start(helper_socket):
        parameters = {
            "model": str(bundle.folder),
            "sysfs_root": str(board),
            "clocks_enabled": True,
            "clocks.helper_socket": str(helper_socket),
            "command_timeout": 0.0,
        }
        return start_node("perception", parameters, program=["setpriv", "--bounding-set=-dac_override", str(node)])

    return start


@needs_setpriv
def test_a_node_without_rights_sets_the_clock_through_the_helper(start_without_rights, command, board, tmp_path):
    found = policy_files(board)
    helper = HelperProcess(tmp_path)
    try:
        node = start_without_rights(helper.socket)
        state = command(1, 800)
        assert (state.result, state.actual.cpu_frequency, clock(board)) == (APPLIED, 800e6, 800), state.message
        assert "through the clock helper" in node.output()
        node.process.kill()
        wait_for(lambda: policy_files(board) == found, "the helper to put the clock back")
    finally:
        helper.close()


@needs_setpriv
def test_a_node_without_rights_and_helper_says_how_to_get_them(start_without_rights, command, board, tmp_path):
    found = policy_files(board)
    start_without_rights(tmp_path / "no.sock")
    state = command(1, 800)
    assert state.result == PARTIAL and "no permission for" in state.message and "clock-helper" in state.message
    assert policy_files(board) == found


@pytest.fixture
def repeat_until(command, ros_node, spin_until):
    """Repeat the last command, as the manager does, until what the node answers satisfies a condition."""
    states = []
    ros_node.create_subscription(OperatingPointState, "operating_point/state", states.append, qos.LATCHED_STATE)

    def wait(condition, what, sequence=1, megahertz=800):
        def said():
            command(sequence, megahertz)
            return bool(states) and condition(states[-1])

        spin_until(said, what)

    return wait


@needs_setpriv
def test_a_helper_that_is_started_later_is_found(start_without_rights, command, repeat_until, board, tmp_path):
    start_without_rights(tmp_path / "run" / "clocks.sock")
    assert command(1, 800).result == PARTIAL
    helper = HelperProcess(tmp_path)
    try:
        repeat_until(lambda state: state.result == APPLIED and state.actual.cpu_frequency == 800e6, "the clock")
        assert clock(board) == 800
    finally:
        helper.close()


@needs_setpriv
def test_a_clock_that_was_lost_with_its_helper_is_said_and_set_again(
    start_without_rights, command, repeat_until, board, tmp_path
):
    first = HelperProcess(tmp_path)
    try:
        start_without_rights(first.socket)
        assert command(1, 800).result == APPLIED
        first.stop(signal.SIGTERM)  # which puts the clock back
        (held,) = {clock(board)}
        assert held != 800
        repeat_until(
            lambda state: state.result == PARTIAL and state.actual.cpu_frequency != 800e6, "the state without the clock"
        )
    finally:
        first.close()
    second = HelperProcess(tmp_path)
    try:
        repeat_until(lambda state: state.result == APPLIED and state.actual.cpu_frequency == 800e6, "the clock again")
        assert clock(board) == 800
    finally:
        second.close()


def test_a_clock_that_somebody_else_changes_is_read_back(start_perception, command, repeat_until, board):
    start_perception()
    assert command(1, 800).result == APPLIED
    (board / CPUFREQ / "policy0" / "scaling_setspeed").write_text("500000\n")
    repeat_until(lambda state: state.result == PARTIAL and state.actual.cpu_frequency == 500e6, "the clock as it is")
