"""Setting clocks and putting them back, on sysfs trees of real machines in temporary folders."""

import errno
import json
import math
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from clock_helper_process import HelperProcess
from hypothesis import given, settings
from hypothesis import strategies as st
from sysfs_trees import CPUFREQ, XU3_BIG, XU3_LITTLE, container, laptop, odroid_xu3, policy_files

from dynamic_perception.cli import main
from dynamic_perception.hardware import clock_files, clock_places
from dynamic_perception.hardware.clocks import (
    ClockControl,
    ClocksInUse,
    FrequencyRange,
    default_state_folder,
    restore_saved,
)

LITTLE, BIG = range(4), range(4, 8)
NOBODY = 65534

OWNER = """
import sys, time
from pathlib import Path
from dynamic_perception.hardware.clocks import ClockControl
clocks = ClockControl(Path(sys.argv[1]), Path(sys.argv[2]), cpus=range(4, 8))
clocks.open()
result = clocks.set_cpu_frequency(range(4, 8), 1.5e9)
print(result.message or result.actual, flush=True)
time.sleep(600)
"""


@pytest.fixture
def xu3(tmp_path):
    return odroid_xu3(tmp_path / "sys")


@pytest.fixture
def state_folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def state_file(state_folder):
    """Of the big cluster's clock."""
    return state_folder / "cpufreq-policy4.json"


@pytest.fixture
def clocks(xu3, state_folder):
    control = ClockControl(xu3, state_folder)
    control.open()
    yield control
    control.restore()


@pytest.fixture
def killed_owner(xu3, state_folder):
    """A process that set the big cluster to 1.5 GHz, and a function that kills it."""
    process = subprocess.Popen([sys.executable, "-c", OWNER, xu3, state_folder], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "1500000000.0\n"

    def kill():
        process.send_signal(signal.SIGKILL)
        process.wait()

    yield process, kill
    kill()
    process.stdout.close()


def read(root, policy, name):
    return (root / CPUFREQ / policy / name).read_text().strip()


def limits(root, policy):
    return int(read(root, policy, "scaling_min_freq")), int(read(root, policy, "scaling_max_freq"))


@contextmanager
def strict_kernel():
    """Refuse what a kernel refuses and a plain file takes; gives the list of what was written."""
    written = []
    write_file = clock_files.write_once

    def write(path, text):
        folder, value = path.parent, text.strip()
        number = int(value) if value.isdecimal() else None
        low, high = (int((folder / name).read_text()) for name in ("scaling_min_freq", "scaling_max_freq"))
        userspace = (folder / "scaling_governor").read_text().strip() == "userspace"
        if (
            (path.name == "scaling_min_freq" and number > high)
            or (path.name == "scaling_max_freq" and number < low)
            or (path.name == "scaling_setspeed" and not userspace)
        ):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), str(path))
        write_file(path, text)
        written.append((path, number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock_files, "write_once", write)
        yield written


# Setting -----------------------------------------------------------------------------------------------------------


def test_the_userspace_governor_is_told_the_speed(xu3, clocks):
    result = clocks.set_cpu_frequency(LITTLE, 1.0e9)
    assert (result.actual, result.message) == (1.0e9, "")
    assert read(xu3, "policy0", "scaling_setspeed") == "1000000"
    assert limits(xu3, "policy0") == (200_000, 1_400_000)


def test_userspace_limits_are_widened_only_as_far_as_needed(xu3, clocks):
    (xu3 / CPUFREQ / "policy0/scaling_max_freq").write_text("800000\n")
    clocks.set_cpu_frequency(LITTLE, 1.0e9)
    assert limits(xu3, "policy0") == (200_000, 1_000_000)


def test_other_governors_are_held_between_equal_limits(xu3, clocks):
    result = clocks.set_cpu_frequency(BIG, 1.5e9)
    assert (result.actual, result.message) == (1.5e9, "")
    assert limits(xu3, "policy4") == (1_500_000, 1_500_000)
    assert read(xu3, "policy4", "scaling_governor") == "ondemand"


def test_only_the_named_cluster_is_touched(xu3, clocks):
    before = policy_files(xu3)
    clocks.set_cpu_frequency(BIG, 1.5e9)
    assert {name for name, content in policy_files(xu3).items() if content != before[name]} == {
        f"{CPUFREQ}/policy4/scaling_min_freq",
        f"{CPUFREQ}/policy4/scaling_max_freq",
    }


@pytest.mark.parametrize("asked, taken", [(1.04e9, 1.0e9), (1.06e9, 1.1e9), (5e9, 2.0e9), (1.0, 0.2e9)])
def test_an_unknown_frequency_becomes_the_nearest_and_the_message_says_so(clocks, asked, taken):
    result = clocks.set_cpu_frequency(BIG, asked)
    assert result.actual == taken
    assert f"took {taken / 1e6:g} MHz, the nearest" in result.message


def test_the_configured_limits_hold(xu3, state_folder):
    clocks = ClockControl(xu3, state_folder, FrequencyRange(0.75e9, 1.25e9))
    clocks.open()
    assert clocks.available(BIG) == (0.8e9, 0.9e9, 1.0e9, 1.1e9, 1.2e9)
    assert clocks.set_cpu_frequency(BIG, 2.0e9).actual == 1.2e9
    assert clocks.set_cpu_frequency(BIG, 0.2e9).actual == 0.8e9


def test_limits_between_two_steps_leave_nothing_to_set(xu3, state_folder):
    clocks = ClockControl(xu3, state_folder, FrequencyRange(1.01e9, 1.09e9))
    clocks.open()
    before = policy_files(xu3)
    assert "has no frequency within 1010 MHz to 1090 MHz" in clocks.set_cpu_frequency(BIG, 1.0e9).message
    assert policy_files(xu3) == before and clocks.available(BIG) == ()


@pytest.mark.parametrize("minimum, maximum", [(-1.0, 0.0), (math.nan, 0.0), (0.0, math.inf), (2e9, 1e9)])
def test_impossible_limits_are_refused(minimum, maximum):
    with pytest.raises(ValueError, match="frequency is"):
        FrequencyRange(minimum, maximum)


def test_a_machine_without_steps_takes_any_frequency_of_its_range(tmp_path, state_folder):
    root = laptop(tmp_path / "sys")
    clocks = ClockControl(root, state_folder, FrequencyRange(highest=2.5e9))
    clocks.open()
    assert clocks.available(range(8)) == (0.4e9, 2.5e9)
    result = clocks.set_cpu_frequency(range(8), 1.234567e9)
    assert (result.actual, result.message) == (1.234567e9, "")
    assert all(limits(root, f"policy{cpu}") == (1_234_567, 1_234_567) for cpu in range(8))
    assert clocks.set_cpu_frequency(range(8), 3.4e9).actual == 2.5e9


def test_nan_changes_nothing_and_reads_the_clock(xu3, clocks):
    before = policy_files(xu3)
    result = clocks.set_cpu_frequency(LITTLE, math.nan)
    assert (result.actual, result.message) == (0.6e9, "")
    assert policy_files(xu3) == before


def test_zero_puts_this_cluster_back_and_keeps_the_other(xu3, clocks):
    before = policy_files(xu3)
    clocks.set_cpu_frequency(LITTLE, 1.0e9)
    clocks.set_cpu_frequency(BIG, 1.0e9)
    assert clocks.set_cpu_frequency(LITTLE, 0.0).message == ""
    changed = {name for name, content in policy_files(xu3).items() if content != before[name]}
    assert all("policy4" in name for name in changed) and changed


@pytest.mark.parametrize("hertz", [-1.0, math.inf, -math.inf])
def test_what_is_no_frequency_changes_nothing(xu3, clocks, hertz):
    before = policy_files(xu3)
    assert "is not a frequency" in clocks.set_cpu_frequency(BIG, hertz).message
    assert policy_files(xu3) == before


def test_a_clock_that_the_kernel_does_not_follow_is_reported_as_it_is(xu3, clocks):
    write_file = clock_files.write_once

    def throttled(path, text):
        write_file(path, f"{min(int(text), 1_200_000)}\n")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(clock_files, "write_once", throttled)
        result = clocks.set_cpu_frequency(BIG, 1.8e9)
    assert result.actual == 1.2e9
    assert "was set to 1800 MHz but runs at 1200 MHz" in result.message


def test_limits_move_in_an_order_that_the_kernel_takes(clocks):
    with strict_kernel() as written:
        messages = [clocks.set_cpu_frequency(BIG, hertz).message for hertz in (0.2e9, 2.0e9, 0.3e9, 0.0, 1.9e9)]
    assert messages == [""] * 5 and len(written) == 10


def test_a_change_after_restore_is_refused(xu3, state_folder):
    clocks = ClockControl(xu3, state_folder)
    clocks.open()
    clocks.restore()
    before = policy_files(xu3)
    assert "not open" in clocks.set_cpu_frequency(BIG, 1.0e9).message
    assert policy_files(xu3) == before


# Refusals of the kernel ----------------------------------------------------------------------------------------------


def test_a_machine_without_clock_control_gives_a_message(tmp_path, state_folder):
    clocks = ClockControl(container(tmp_path / "sys"), state_folder)
    assert clocks.open() == ()
    result = clocks.set_cpu_frequency([0, 1], 1e9)
    assert math.isnan(result.actual) and "no policy for these CPUs" in result.message
    assert clocks.available([0, 1]) == () and clocks.restore() == ()


def test_a_missing_file_gives_a_message_and_changes_nothing(xu3, clocks):
    (xu3 / CPUFREQ / "policy4/scaling_min_freq").unlink()
    before = policy_files(xu3)
    assert "scaling_min_freq does not exist" in clocks.set_cpu_frequency(BIG, 1e9).message
    assert policy_files(xu3) == before


def test_a_file_that_cannot_be_read_is_never_changed(xu3, clocks):
    file = xu3 / CPUFREQ / "policy4/scaling_max_freq"
    file.unlink()
    file.symlink_to("/proc/self/mem")  # reading address 0 is a true EIO
    assert "what cannot be read cannot be put back" in clocks.set_cpu_frequency(BIG, 1e9).message
    assert read(xu3, "policy4", "scaling_min_freq") == "200000"


def test_a_setting_without_permission_gives_the_fix_and_leaves_nothing_behind():
    folder = Path(tempfile.mkdtemp())
    try:
        root = odroid_xu3(folder / "sys")
        (folder / "state").mkdir()
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o444)
        (folder / "state").chmod(0o777)
        before = policy_files(root)
        clocks = ClockControl(root, folder / "state")
        if os.geteuid() == 0:
            os.seteuid(NOBODY)  # root may write everything
        try:
            clocks.open()
            message = clocks.set_cpu_frequency(BIG, 1e9).message
            faults = clocks.restore()
        finally:
            if os.getuid() == 0:
                os.seteuid(0)
        assert "no permission for" in message and "sudo chown $USER" in message
        assert faults == () and policy_files(root) == before
        assert not any((folder / "state").glob("*.json"))
    finally:
        shutil.rmtree(folder)


def test_a_busy_file_is_tried_three_times(xu3, clocks, monkeypatch):
    tries = []
    write_file = clock_files.write_once

    def write(path, text):
        tries.append(path.name)
        if len(tries) < 3:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))
        write_file(path, text)

    monkeypatch.setattr(clock_files, "write_once", write)
    monkeypatch.setattr(clock_files.time, "sleep", lambda pause: None)
    assert clocks.set_cpu_frequency(LITTLE, 1e9).message == ""
    assert tries == ["scaling_setspeed"] * 3


def test_files_that_stay_busy_cost_at_most_50_ms_of_waiting(tmp_path, monkeypatch, state_folder):
    pauses = []
    clocks = ClockControl(laptop(tmp_path / "sys"), state_folder)
    clocks.open()
    sleep = time.sleep

    def write(path, text):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

    monkeypatch.setattr(clock_files, "write_once", write)
    monkeypatch.setattr(clock_files.time, "sleep", lambda pause: (pauses.append(pause), sleep(pause)))
    result = clocks.set_cpu_frequency(range(8), 1e9)
    assert "is busy" in result.message and "(and 7 more like it)" in result.message
    assert 0 < sum(pauses) <= 0.050


def test_nothing_is_changed_when_what_was_found_cannot_be_saved(xu3, clocks, state_folder):
    shutil.rmtree(state_folder)
    state_folder.touch()
    before = policy_files(xu3)
    assert "cannot be saved" in clocks.set_cpu_frequency(BIG, 1e9).message
    assert policy_files(xu3) == before


# Putting back ----------------------------------------------------------------------------------------------------


def test_what_was_found_is_on_disk_before_the_first_change(xu3, state_file, clocks, monkeypatch):
    seen = []
    monkeypatch.setattr(clock_files, "write_once", lambda path, text: seen.append(json.loads(state_file.read_text())))
    clocks.set_cpu_frequency(BIG, 1.5e9)
    assert seen[0]["found"] == {
        "scaling_governor": "ondemand\n",
        "scaling_min_freq": "200000\n",
        "scaling_max_freq": "2000000\n",
    }
    assert seen[0]["pid"] == os.getpid()
    assert seen[0]["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def test_restore_undoes_everything_and_again_is_harmless(xu3, state_file, clocks):
    before = policy_files(xu3)
    clocks.set_cpu_frequency(BIG, 1.5e9)
    clocks.set_cpu_frequency(LITTLE, 0.3e9)
    assert clocks.restore() == ()
    assert policy_files(xu3) == before and not state_file.exists()
    (xu3 / CPUFREQ / "policy4/scaling_max_freq").write_text("1000000\n")  # the user's, later
    assert clocks.restore() == ()
    assert limits(xu3, "policy4") == (200_000, 1_000_000)


def test_restore_brings_the_governor_back_that_somebody_changed(xu3, clocks):
    before = policy_files(xu3)
    clocks.set_cpu_frequency(LITTLE, 1.0e9)
    (xu3 / CPUFREQ / "policy0/scaling_governor").write_text("performance\n")
    assert clocks.restore() == ()
    assert policy_files(xu3) == before


def test_what_cannot_be_put_back_stays_saved_and_is_put_back_later(xu3, state_file, clocks, state_folder):
    before = policy_files(xu3)
    clocks.set_cpu_frequency(BIG, 1.5e9)
    file = xu3 / CPUFREQ / "policy4/scaling_max_freq"
    file.rename(file.with_suffix(".away"))
    file.mkdir()
    faults = clocks.restore()
    assert len(faults) == 1 and str(file) in faults[0] and state_file.exists()
    file.rmdir()
    file.with_suffix(".away").rename(file)
    assert restore_saved(state_folder, xu3).complete
    assert policy_files(xu3) == before


@pytest.mark.parametrize("hertz", [math.nan, 0.7e9])
def test_the_next_owner_keeps_what_could_not_be_put_back(xu3, clocks, hertz, state_folder):
    before = policy_files(xu3)
    clocks.set_cpu_frequency(BIG, 1.5e9)
    file = xu3 / CPUFREQ / "policy4/scaling_max_freq"
    file.rename(file.with_suffix(".away"))
    file.mkdir()
    clocks.restore()
    following = ClockControl(xu3, state_folder)
    assert "not put back" in following.open()[0]
    file.rmdir()
    file.with_suffix(".away").rename(file)
    following.set_cpu_frequency(BIG, hertz)
    assert following.restore() == () and policy_files(xu3) == before


REQUESTS = st.tuples(
    st.sampled_from([LITTLE, BIG, range(8)]),
    st.one_of(
        st.sampled_from([0.0, math.nan, math.inf, -1.0]),
        st.floats(1.0, 5e9),
        st.sampled_from([1000.0 * step for step in XU3_BIG]),
    ),
)


@pytest.fixture(scope="module")
def shared_xu3(tmp_path_factory):
    """One tree for all examples: writing a hundred files for each would take the longest."""
    return odroid_xu3(tmp_path_factory.mktemp("shared"))


@settings(max_examples=40, deadline=None)
@given(
    requests=st.lists(REQUESTS, max_size=8),
    low=st.sampled_from([0.0, 0.45e9]),
    high=st.sampled_from([0.0, 1.6e9]),
    found=st.tuples(st.sampled_from(XU3_LITTLE), st.sampled_from(XU3_LITTLE)),
    governors=st.tuples(*[st.sampled_from(["userspace", "ondemand", "performance"])] * 2),
)
def test_any_requests_stay_inside_and_are_undone_to_the_byte(shared_xu3, requests, low, high, found, governors):
    root = shared_xu3
    with strict_kernel() as written:
        for policy, governor in zip(("policy0", "policy4"), governors):
            files = root / CPUFREQ / policy
            (files / "scaling_governor").write_text(f"{governor}\n")
            (files / "scaling_setspeed").write_text("600000\n" if governor == "userspace" else "<unsupported>\n")
            (files / "scaling_min_freq").write_text(f"{min(found)}\n")
            (files / "scaling_max_freq").write_text(f"{max(found)}")  # without a line end: to the byte
        before = policy_files(root)
        clocks = ClockControl(root, root / "state", FrequencyRange(low, high))
        clocks.open()
        steps = {"policy0": XU3_LITTLE, "policy4": XU3_BIG}
        for cpus, hertz in requests:
            written.clear()
            result = clocks.set_cpu_frequency(cpus, hertz)
            assert "refuses" not in result.message
            if hertz != 0.0:
                for path, kilohertz in written:
                    assert kilohertz in steps[path.parent.name]
                    assert low <= 1000.0 * kilohertz <= (high or math.inf)
        assert clocks.restore() == ()
        assert policy_files(root) == before


# Owners ----------------------------------------------------------------------------------------------------------


def test_clocks_of_a_killed_process_are_put_back(xu3, state_file, killed_owner, state_folder):
    _process, kill = killed_owner
    assert limits(xu3, "policy4") == (1_500_000, 1_500_000)
    kill()
    result = restore_saved(state_folder, xu3)
    assert result.complete and "scaling_max_freq 2000000" in result.lines[0]
    assert limits(xu3, "policy4") == (200_000, 2_000_000) and not state_file.exists()


def test_the_next_start_puts_back_what_a_killed_process_left(xu3, killed_owner, state_folder):
    killed_owner[1]()
    clocks = ClockControl(xu3, state_folder)
    assert clocks.open()[0].startswith("put back")
    assert limits(xu3, "policy4") == (200_000, 2_000_000)


def test_putting_back_is_refused_while_the_owner_lives(xu3, state_file, killed_owner, state_folder):
    process, _ = killed_owner
    result = restore_saved(state_folder, xu3)
    assert not result.complete and f"process {process.pid} " in result.lines[0]
    assert limits(xu3, "policy4") == (1_500_000, 1_500_000) and state_file.exists()


def test_a_second_owner_is_refused_with_the_number_of_the_first(xu3, killed_owner, state_folder):
    process, _ = killed_owner
    with pytest.raises(ClocksInUse, match=f"process {process.pid} sets the clock .*policy. already"):
        ClockControl(xu3, state_folder).open()


def test_a_second_owner_in_the_same_process_is_refused_until_the_first_is_done(xu3, clocks, state_folder):
    second = ClockControl(xu3, state_folder)
    with pytest.raises(ClocksInUse, match=f"process {os.getpid()} "):
        second.open()
    clocks.restore()
    assert second.open() == ()


def test_a_saved_state_from_before_the_last_start_is_only_removed(xu3, state_file, killed_owner, state_folder):
    killed_owner[1]()
    state_file.write_text(re.sub(r'"boot_id": "[^"]*"', '"boot_id": "another"', state_file.read_text()))
    result = restore_saved(state_folder, xu3)
    assert result.complete and "before the last start of the machine" in result.lines[0]
    assert limits(xu3, "policy4") == (1_500_000, 1_500_000) and not state_file.exists()


def test_owners_of_different_clocks_coexist(xu3, state_folder, killed_owner):
    with pytest.raises(ClocksInUse):
        ClockControl(xu3, state_folder).open()
    other = ClockControl(xu3, state_folder, cpus=LITTLE)
    other.open()
    assert other.set_cpu_frequency(LITTLE, 1.0e9).message == ""
    assert "no policy for these CPUs" in other.set_cpu_frequency(BIG, 1.0e9).message
    assert other.restore() == () and limits(xu3, "policy4") == (1_500_000, 1_500_000)


def test_a_clock_is_owned_once_wherever_the_state_is_kept_and_however_it_is_named(xu3, tmp_path, killed_owner):
    (tmp_path / "link").symlink_to(xu3)
    with pytest.raises(ClocksInUse, match=f"process {killed_owner[0].pid} "):
        ClockControl(tmp_path / "link", tmp_path / "another user's").open()


def test_a_refused_owner_holds_none_of_the_clocks(xu3, state_folder, killed_owner):
    with pytest.raises(ClocksInUse):
        ClockControl(xu3, state_folder).open()
    ClockControl(xu3, state_folder, cpus=LITTLE).open()


def test_nothing_saved_is_nothing_to_put_back(xu3, state_folder):
    result = restore_saved(state_folder, xu3)
    assert result.complete and "nothing to put back" in result.lines[0]
    assert not state_folder.exists()


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"schema": 1}, "schema: expected 2"),
        ({"pid": "7"}, "pid: expected int"),
        ({"kind": "gpufreq"}, "kind is 'gpufreq': expected one of cpufreq, devfreq, nvml"),
        ({"name": "../policy0"}, "'../policy0' is no name of a cpufreq clock"),
        ({"kind": "devfreq", "name": ".."}, "'..' is no name of a devfreq clock"),
        ({"kind": "nvml"}, "'policy4' is no name of a nvml clock"),
        ({"found": {"scaling_governor": "a", "scaling_min_freq": "1"}}, "found: expected"),
        (
            {"found": {"scaling_governor": "a b", "scaling_min_freq": "1", "scaling_max_freq": "2"}},
            "scaling_governor is 'a b': expected a name",
        ),
        (
            {"found": {"scaling_governor": "a", "scaling_min_freq": "-1", "scaling_max_freq": "2"}},
            "scaling_min_freq is '-1': expected a frequency",
        ),
    ],
)
def test_a_saved_state_that_is_not_one_is_named_and_kept(
    xu3, state_folder, state_file, killed_owner, change, complaint
):
    killed_owner[1]()
    state_file.write_text(json.dumps({**json.loads(state_file.read_text()), **change}))
    before = policy_files(xu3)
    result = restore_saved(state_folder, xu3)
    assert not result.complete and complaint in result.lines[0] and str(state_file) in result.lines[0]
    with pytest.raises(ValueError, match=re.escape(complaint)):
        ClockControl(xu3, state_folder).open()
    assert state_file.exists() and policy_files(xu3) == before


def test_the_state_does_not_depend_on_who_asks_from_where(monkeypatch, tmp_path):
    before = default_state_folder(tmp_path / "host" / "sys"), default_state_folder()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (default_state_folder(tmp_path / "host" / "sys"), default_state_folder()) == before


def test_trees_of_files_hold_their_own_state_and_others_have_a_name_each(xu3, tmp_path):
    assert default_state_folder(xu3).parent == xu3
    first, second = default_state_folder(tmp_path / "a"), default_state_folder(tmp_path / "b")
    assert first != second != default_state_folder() and first.parent == default_state_folder().parent


def test_where_the_machines_place_cannot_be_written_the_state_is_in_the_users_home(monkeypatch, tmp_path):
    (tmp_path / "run").write_text("no folder")
    monkeypatch.setattr(clock_places, "MACHINE_FOLDER", tmp_path / "run")
    home = Path(pwd.getpwuid(os.geteuid()).pw_dir)
    assert default_state_folder() == home / ".local/state/dynamic_perception/clocks"


@pytest.mark.parametrize("following", ["node", "restore", "helper"])
def test_what_a_killed_node_of_another_home_left_is_found(xu3, tmp_path, following):
    environment = {**os.environ, "HOME": str(tmp_path / "a"), "XDG_STATE_HOME": str(tmp_path / "a")}
    program = OWNER.replace("Path(sys.argv[2])", "None")
    process = subprocess.Popen([sys.executable, "-c", program, xu3], stdout=subprocess.PIPE, text=True, env=environment)
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    assert limits(xu3, "policy4") == (1_500_000, 1_500_000)
    if following == "node":
        clocks = ClockControl(xu3)
        assert clocks.open()[0].startswith("put back")
        clocks.restore()
    elif following == "restore":
        assert main(["restore", "--sysfs-root", str(xu3)]) == 0
    else:
        helper = HelperProcess(tmp_path, shared_state=True)
        helper.close()
    assert limits(xu3, "policy4") == (200_000, 2_000_000)
    assert not list(default_state_folder(xu3).glob("*.json"))


def test_restore_says_what_differs_while_a_node_holds_the_clock(xu3, state_folder, killed_owner):
    process, _ = killed_owner
    (line,) = restore_saved(state_folder, xu3).lines
    assert f"process {process.pid} sets the clock" in line
    assert "scaling_max_freq was 2000000, is 1500000" in line


@contextmanager
def lock_of_a_stranger(folder: Path, kind: str, user: int):
    """Another user's process that holds a lock on a folder."""
    program = (
        f"import fcntl, os, sys\nos.setuid({user})\ndescriptor = os.open(sys.argv[1], os.O_RDONLY)\n"
        f"fcntl.flock(descriptor, fcntl.{kind})\nprint('held', flush=True)\nsys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program, folder], **pipes) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.stdin.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a process of another user")
@pytest.mark.parametrize("kind", ["LOCK_SH", "LOCK_EX"])
def test_the_lock_of_a_user_who_may_not_set_the_clock_does_not_count(tmp_path, kind):
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are for their user alone
        os.chmod(folder, 0o755)
        root = odroid_xu3(Path(folder) / "sys")
        with lock_of_a_stranger(root / CPUFREQ / "policy4", kind, NOBODY):
            clocks = ClockControl(root, tmp_path / "state")
            clocks.open()
            assert clocks.set_cpu_frequency(BIG, 1.0e9).message == ""
            with pytest.raises(ClocksInUse):
                ClockControl(root, tmp_path / "state").open()
            clocks.restore()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a process of another user")
def test_the_lock_of_a_user_who_may_set_the_clock_counts(tmp_path):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = odroid_xu3(Path(folder) / "sys")
        os.chown(root / CPUFREQ / "policy4" / "scaling_max_freq", NOBODY, -1)
        with lock_of_a_stranger(root / CPUFREQ / "policy4", "LOCK_EX", NOBODY), pytest.raises(ClocksInUse):
            ClockControl(root, tmp_path / "state").open()


def link_elsewhere(file, tmp_path):
    (tmp_path / "elsewhere.json").write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(tmp_path / "elsewhere.json")


def another_tree(file, tmp_path):
    """A tree of the stranger's own, whose clock file is a link to a file that only root may write."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    folder = tmp_path / "own" / CPUFREQ / "policy4"
    folder.mkdir(parents=True)
    for name in ("scaling_governor", "scaling_min_freq"):
        (folder / name).write_text("performance" if "governor" in name else "1")
    (folder / "scaling_max_freq").symlink_to(precious)
    for path in (folder, *folder.iterdir()):
        os.chown(path, NOBODY, -1, follow_symlinks=False)
    file.write_text(file.read_text().replace(str(tmp_path / "sys"), str(tmp_path / "own")))


def pipe(file, tmp_path):
    file.unlink()
    os.mkfifo(file)


SPOILS = {"other limits": lambda file, _: file.write_text(file.read_text().replace("2000000", "300000"))}
SPOILS |= {"link": link_elsewhere, "another tree": another_tree, "pipe": pipe}
SPOILS |= {"nonsense": lambda file, _: file.write_text("{"), "huge": lambda file, _: file.write_bytes(bytes(1 << 20))}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_what_a_stranger_wrote_is_not_used_and_keeps_nobody_from_the_clock(
    xu3, state_file, killed_owner, state_folder, tmp_path, spoil
):
    killed_owner[1]()
    spoil(state_file, tmp_path)
    os.chown(state_file, NOBODY, -1, follow_symlinks=False)
    result = restore_saved(state_folder, xu3)
    assert result.complete and ("not used" in result.lines[0] or "not put back" in result.lines[0])
    assert limits(xu3, "policy4") == (1_500_000, 1_500_000)
    assert not (tmp_path / "precious").exists() or (tmp_path / "precious").read_text() == "precious"
    ClockControl(xu3, tmp_path / "own state").open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_root_puts_back_what_a_user_who_may_set_the_clock_left(xu3, state_file, killed_owner, state_folder):
    killed_owner[1]()
    for path in (state_file, xu3 / CPUFREQ / "policy4" / "scaling_max_freq"):
        os.chown(path, NOBODY, -1)
    assert not default_state_folder(xu3).exists()  # root has set no clock yet
    result = restore_saved(state_folder, xu3)
    assert result.complete and result.lines[0].startswith("put back")
    assert limits(xu3, "policy4") == (200_000, 2_000_000) and not state_file.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes a process of another user")
def test_a_lock_that_outlives_its_stranger_does_not_count(tmp_path):
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        root = odroid_xu3(Path(folder) / "sys")
        program = (
            f"import fcntl, os, sys\nos.setuid({NOBODY})\ndescriptor = os.open(sys.argv[1], os.O_RDONLY)\n"
            "fcntl.flock(descriptor, fcntl.LOCK_EX)\n"
            "if os.fork():\n    os._exit(0)\nprint('held', flush=True)\nsys.stdin.read()"
        )
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", program, root / CPUFREQ / "policy4"], **pipes) as process:
            assert process.stdout.readline() == b"held\n"
            process.wait()
            ClockControl(root, tmp_path / "state").open()


def test_a_file_that_was_cut_off_by_a_kill_is_removed_at_the_next_start(xu3, state_file, clocks):
    left = state_file.with_name(f"{state_file.name}.{2**22 + 1}.partial")
    left.write_text("{")
    assert clocks.set_cpu_frequency(BIG, 1.0e9).message == ""
    assert not left.exists()


def test_a_state_folder_that_cannot_be_made_is_refused_at_once(xu3, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        ClockControl(xu3, tmp_path / "file" / "clocks").open()
