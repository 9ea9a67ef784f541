"""Commands set clocks only when enabled and within limits, and every end of the node puts them back as found."""

import math
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest
from bundles import make_bundle
from clock_helper_process import HelperProcess
from conftest import wait_for
from sysfs_trees import CPUFREQ, odroid_xu3, policy_files

from dynamic_perception.cli import main
from dynamic_perception.msg import OperatingPoint, OperatingPointCommand, OperatingPointState
from dynamic_perception.nodes import qos

PARTIAL, APPLIED = OperatingPointState.RESULT_PARTIAL, OperatingPointState.RESULT_APPLIED
NOBODY = 65534
ENDS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


@pytest.fixture
def board(tmp_path, monkeypatch):
    """An Odroid XU3's files; CPUs 0 to 3 are its A7 cluster, at 200 to 1400 MHz in steps of 100."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
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

    def send(sequence, megahertz):
        spin_until(publisher.get_subscription_count, "the perception node")
        point = OperatingPoint(subnetwork="33%", cpu_frequency=1e6 * megahertz, gpu_frequency=math.nan)
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
def transport_between_users(monkeypatch):
    """Fast DDS's shared memory is closed to other users."""
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None,
                    reason="starting a node as another user takes root and setpriv")
def test_a_node_without_rights_sets_the_clock_through_the_helper(transport_between_users, start_node, command,
                                                                 monkeypatch):
    folder = Path(tempfile.mkdtemp())  # pytest's own folders are closed to other users
    folder.chmod(0o755)
    helper = None
    try:
        for name in ("home", "cache"):
            (folder / name).mkdir()
            (folder / name).chmod(0o777)
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.setenv("ROS_LOG_DIR", str(folder / "home"))
        monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        board = odroid_xu3(folder / "sys")
        found = policy_files(board)
        helper = HelperProcess(folder, group=NOBODY)
        node = start_node(
            "perception",
            {
                "model": str(make_bundle(folder / "tiny").folder),
                "sysfs_root": str(board),
                "clocks_enabled": True,
                "clocks.helper_socket": str(helper.socket),
                "command_timeout": 0.0,
            },
            program=[
                *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
                str(Path(sys.prefix) / "lib" / "dynamic_perception" / "perception_node"),
            ],
        )
        state = command(1, 800)
        assert (state.result, state.actual.cpu_frequency, clock(board)) == (APPLIED, 800e6, 800), node.output()
        node.process.kill()
        wait_for(lambda: policy_files(board) == found, "the helper to put the clock back")
    finally:
        if helper:
            helper.close()
        shutil.rmtree(folder)
