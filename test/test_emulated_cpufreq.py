"""The emulated CPU clock: files as the kernel has them, and processes that are really slower."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from clock_helper_process import PROGRAM
from conftest import wait_for
from hypothesis import given
from hypothesis import strategies as st

from dynamic_perception.hardware.clocks import ClockControl
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.hardware.cpu_bandwidth import PREFIX, SHORTEST_QUOTA, CpuBandwidth, quota_and_period
from dynamic_perception.hardware.emulated_cpufreq import CAPACITANCE, IDLE_POWER, VOLTAGES, EmulatedCpufreq, core_power
from dynamic_perception.hardware.sensors import read_battery, read_temperatures

BUSY = [sys.executable, "-I", "-S", "-c", "while True: pass"]
WINDOW = 0.6  # [s] in which CPU time is counted


def why_not() -> str:
    """Why control groups cannot be used here; empty: they can."""
    try:
        CpuBandwidth().close()
    except OSError as error:
        return str(error)
    return ""


GROUPS = Path("/sys/fs/cgroup/cpu") if Path("/sys/fs/cgroup/cpu").is_dir() else Path("/sys/fs/cgroup")
WHY_NOT = why_not()
needs_groups = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


@pytest.fixture
def cpu():
    return min(os.sched_getaffinity(0))


@pytest.fixture
def emulated(tmp_path, cpu):
    with EmulatedCpufreq(tmp_path / "sys", frozenset([cpu])) as policy:
        yield policy


@pytest.fixture
def busy():
    """A process that takes all the CPU time it gets."""
    process = subprocess.Popen(BUSY)
    yield process.pid
    process.kill()
    process.wait()


@pytest.fixture
def clocks(emulated, tmp_path):
    control = ClockControl(emulated.root, tmp_path / "state")
    control.open()
    yield control
    control.restore()


def groups():
    return {path.name for path in GROUPS.glob(f"{PREFIX}*")}


def cpu_time(pid):
    """[s] as the scheduler counts it, without ticks."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def share(pid):
    """Of one CPU, that a process takes."""
    started, used = time.monotonic(), cpu_time(pid)
    time.sleep(WINDOW)  # a share is over a time
    return (cpu_time(pid) - used) / (time.monotonic() - started)


# Slowing down --------------------------------------------------------------------------------------------------------


@needs_groups
def test_half_the_clock_gives_a_busy_process_half_the_time(emulated, clocks, cpu, busy):
    emulated.add(busy)
    assert clocks.set_cpu_frequency([cpu], 1.0e9).message == ""
    wait_for(lambda: (emulated.policy.path / "scaling_cur_freq").read_text() == "1000000\n", "the clock")
    # Others on this machine can take more from the process, but nobody can give it more.
    assert 0.25 < share(busy) < 0.55


@needs_groups
def test_a_quarter_of_the_clock_is_slower_than_half(emulated, clocks, cpu, busy):
    emulated.add(busy)
    clocks.set_cpu_frequency([cpu], 0.4e9)
    wait_for(lambda: (emulated.policy.path / "scaling_cur_freq").read_text() == "400000\n", "the clock")
    assert 0.1 < share(busy) < 0.25


@needs_groups
def test_at_the_end_processes_run_freely_and_the_group_is_gone(tmp_path, cpu, busy):
    before = groups()
    with EmulatedCpufreq(tmp_path / "sys", frozenset([cpu])) as emulated:
        emulated.add(busy)
        assert len(groups() - before) == 1
    assert groups() == before and os.kill(busy, 0) is None


@needs_groups
def test_a_clock_is_put_back_like_a_real_one(emulated, tmp_path, cpu):
    before = {path.name: path.read_bytes() for path in emulated.policy.path.iterdir()}
    clocks = ClockControl(emulated.root, tmp_path / "state")
    clocks.open()
    clocks.set_cpu_frequency([cpu], 1.0e9)
    wait_for(lambda: (emulated.policy.path / "scaling_cur_freq").read_text() == "1000000\n", "the clock")
    assert clocks.restore() == ()
    wait_for(lambda: (emulated.policy.path / "scaling_cur_freq").read_text() == "2000000\n", "the old clock")
    assert {path.name: path.read_bytes() for path in emulated.policy.path.iterdir()} == before


@needs_groups
def test_the_userspace_governor_is_followed(emulated, clocks, cpu):
    (emulated.policy.path / "scaling_governor").write_text("userspace\n")
    (emulated.policy.path / "scaling_setspeed").write_text("2000000\n")
    assert clocks.set_cpu_frequency([cpu], 1.2e9).actual == 1.2e9
    wait_for(lambda: (emulated.policy.path / "scaling_cur_freq").read_text() == "1200000\n", "the clock")
    assert (emulated.policy.path / "scaling_max_freq").read_text() == "2000000\n"


@needs_groups
@pytest.mark.parametrize("content", ["", "fast\n", "-5\n", "99999999999999\n"])
def test_nonsense_in_a_file_does_not_end_the_emulation(emulated, clocks, cpu, content):
    (emulated.policy.path / "scaling_max_freq").write_text(content)
    time.sleep(0.02)  # some looks at it
    (emulated.policy.path / "scaling_max_freq").write_text("2000000\n")
    clocks.set_cpu_frequency([cpu], 1.0e9)
    wait_for(lambda: (emulated.policy.path / "scaling_cur_freq").read_text() == "1000000\n", "the clock")


@needs_groups
def test_the_tree_has_an_element_a_temperature_and_a_battery(emulated, cpu):
    assert [element.cpus for element in discover_elements(emulated.root, [cpu])] == [(cpu,)]
    assert read_temperatures(emulated.root) == {"cpu-thermal": pytest.approx(45.5, abs=0.5)}
    battery = read_battery(emulated.root)
    assert battery.percentage == 0.8 and battery.power > 2.0 and battery.faults == ()


@needs_groups
def test_a_busy_process_takes_power_and_heats(emulated, busy):
    idle = int((emulated.root / "class/hwmon/hwmon0/power1_input").read_text())
    cool = read_temperatures(emulated.root)["cpu-thermal"]
    emulated.add(busy)
    wait_for(lambda: int((emulated.root / "class/hwmon/hwmon0/power1_input").read_text()) > idle + 500_000, "the power")
    wait_for(lambda: read_temperatures(emulated.root)["cpu-thermal"] > cool + 0.05, "the heat")


# The command ---------------------------------------------------------------------------------------------------------


@needs_groups
def test_a_command_runs_under_the_clock_and_its_exit_code_is_passed_on(tmp_path, cpu):
    command = [
        *PROGRAM,
        "emulate-cpufreq",
        "--root",
        tmp_path / "sys",
        "--cpus",
        str(cpu),
        "--",
        "/bin/sh",
        "-c",
        "cat /proc/self/cgroup; exit 7",
    ]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 7 and PREFIX in ended.stdout, ended.stderr
    assert (tmp_path / "sys" / f"devices/system/cpu/cpufreq/policy{cpu}/scaling_max_freq").exists()


@needs_groups
def test_after_sigkill_the_next_start_removes_the_empty_group(tmp_path, cpu):
    before = groups()
    process = subprocess.Popen([*PROGRAM, "emulate-cpufreq", "--root", tmp_path / "sys", "--", "/bin/sleep", "60"])
    wait_for(
        lambda: any((GROUPS / name / "cgroup.procs").read_text() for name in groups() - before), "the command to run"
    )
    name = next(iter(groups() - before))
    child = int((GROUPS / name / "cgroup.procs").read_text())
    process.kill()
    process.wait()
    CpuBandwidth().close()
    assert name in groups()  # something runs in it
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: not (GROUPS / name / "cgroup.procs").read_text(), "the command to end")
    CpuBandwidth().close()
    assert name not in groups()


@needs_groups
def test_a_signal_is_passed_on_to_the_command(tmp_path):
    before = groups()
    process = subprocess.Popen([*PROGRAM, "emulate-cpufreq", "--root", tmp_path / "sys", "--", "/bin/sleep", "60"])
    wait_for(
        lambda: any((GROUPS / name / "cgroup.procs").read_text() for name in groups() - before), "the command to run"
    )
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 128 + signal.SIGTERM and groups() == before


# Without a kernel ----------------------------------------------------------------------------------------------------


@given(speed=st.floats(0.001, 1.0), threads=st.integers(1, 64))
def test_the_quota_is_what_the_kernel_takes_and_has_the_right_share(speed, threads):
    quota, period = quota_and_period(speed, threads)
    assert quota >= SHORTEST_QUOTA and 5_000 <= period <= 1_000_000
    assert quota / period == pytest.approx(speed * threads, rel=2e-3)


@pytest.mark.parametrize("speed", [0.0, -1.0, 1.1, float("nan")])
def test_an_impossible_speed_is_refused(speed):
    with pytest.raises(ValueError, match="speed is"):
        quota_and_period(speed, 1)


def test_version_2_of_control_groups_has_one_file(tmp_path):
    """On plain files: a kernel with version 2 of the controller was not there."""
    root = tmp_path / "unified"
    root.mkdir()
    (root / "cgroup.controllers").write_text("cpuset cpu io\n")
    (root / "cgroup.subtree_control").write_text("\n")
    (tmp_path / "mounts").write_text(f"proc /proc proc rw 0 0\ncgroup2 {root} cgroup2 rw 0 0\n")
    group = CpuBandwidth(tmp_path / "mounts", threads=2)
    assert (group.folder / "cpu.max").read_text() == "10000 5000"  # nobody is slowed before the first limit
    group.set_limit(0.5, 2)
    assert (group.folder / "cpu.max").read_text() == "5000 5000"
    assert (group.folder / "cpu.weight").read_text() == "200"
    assert (root / "cgroup.subtree_control").read_text() == "+cpu"
    group.add(7)
    assert (group.folder / "cgroup.procs").read_text() == "7"


def test_without_control_groups_the_error_says_what_is_needed(tmp_path):
    (tmp_path / "mounts").write_text("proc /proc proc rw 0 0\n")
    with pytest.raises(OSError, match="no control group file system with the cpu controller"):
        CpuBandwidth(tmp_path / "mounts")


def test_groups_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "mounts").write_text(f"cgroup {tmp_path / 'gone'} cgroup rw,cpu 0 0\n")
    with pytest.raises(OSError, match="needs root and a writable .*gone"):
        CpuBandwidth(tmp_path / "mounts")


def test_power_follows_frequency_and_the_square_of_the_voltage():
    assert core_power(2_000_000, 1.0, 4) - IDLE_POWER == pytest.approx(CAPACITANCE * 2.0 * VOLTAGES[2_000_000] ** 2)
    assert core_power(1_000_000, 0.0, 4) == IDLE_POWER
    assert core_power(1_000_000, 9.0, 2) == core_power(1_000_000, 2.0, 2)


def test_more_threads_than_cpus_are_refused(tmp_path):
    with pytest.raises(ValueError, match="threads is 3: expected 1 to 2"):
        EmulatedCpufreq(tmp_path, frozenset([0, 1]), threads=3)
