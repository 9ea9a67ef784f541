"""Profiling measures every subnetwork of any family on every compute element, and says which points to disbelieve."""

import math
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest
from bundles import TINY_SPACES, make_bundle
from conftest import wait_for
from sysfs_trees import CPUFREQ, container, odroid_xu3, policy_files, write_files
from test_emulated_cpufreq import needs_groups

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.clocks import ClockControl
from dynamic_perception.hardware.compute_element import discover_elements, platform_fingerprint
from dynamic_perception.hardware.emulated_cpufreq import EmulatedCpufreq, busy_power
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.profiling import profiled_machine
from dynamic_perception.profiling.commands import ProfileRequest, profile_to
from dynamic_perception.profiling.profiled_machine import ProfiledMachine, choose_sensor, clocks_of
from dynamic_perception.profiling.profiler import Planned, ProfileSettings, make_table, measure
from dynamic_perception.profiling.statistics import Turn
from dynamic_perception.profiling.table_file import read_table
from dynamic_perception.profiling.turn_log import AnotherRun, TurnLog

BRIEF = ProfileSettings(runs_per_turn=3, least_runs=2, most_runs=2)
TURNS = ProfileSettings(runs_per_turn=3, least_runs=20, most_runs=20)  # ten turns of two


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def engine(bundle):
    engine = OnnxRuntimeEngine(bundle)
    yield engine
    engine.close()


@pytest.fixture
def board(tmp_path):
    """The sysfs tree of a board, and an open control of its clocks."""
    root = odroid_xu3(tmp_path / "sys")
    control = ClockControl(root, tmp_path / "clocks")
    control.open()
    yield root, control
    control.restore()


def big_core(root):
    return next(e for e in discover_elements(root, range(8)) if e.name == "cpu4:1")


@pytest.mark.parametrize("space", TINY_SPACES, ids=lambda space: space.family)
def test_every_subnetwork_is_measured_on_every_element(tmp_path, space):
    bundle, elements = make_bundle(tmp_path / "tiny", space), discover_elements()
    engine, progress = OnnxRuntimeEngine(bundle), []
    planned = [Planned(s.name, element) for element in elements for s in bundle.subnetworks]
    table = make_table(bundle, planned, measure(bundle, engine, planned, BRIEF, progress.append), BRIEF)
    engine.close()
    points = [table[i] for i in range(len(table))]
    assert [(p.subnetwork, p.compute_element, p.accuracy) for p in points] == [
        (s.name, element.name, s.accuracy) for element in elements for s in bundle.subnetworks
    ]
    assert all(0 < p.latency <= p.latency_p95 for p in points)
    assert progress == [1.0]


def test_a_point_is_measured_at_each_clock_that_is_asked_for(bundle, engine, board):
    root, control = board
    element = big_core(root)
    planned = [Planned("33%", element, clock) for clock in clocks_of(control, element, [0.61e9, 1.2e9])]
    summaries = measure(bundle, engine, planned, BRIEF, machine=ProfiledMachine(root, control))
    table = make_table(bundle, planned, summaries, BRIEF)
    assert table.cpu_frequency.tolist() == [0.6e9, 1.2e9]
    assert [summary.left_out for summary in summaries] == [0, 0]


@needs_groups
def test_under_an_emulated_clock_power_is_that_of_its_model_and_never_called_measured(bundle, tmp_path):
    cpu = min(os.sched_getaffinity(0))
    request = ProfileRequest(
        replace(BRIEF, least_runs=60, most_runs=60), "onnxruntime", clocks=(1e9, 2e9), sysfs_root=tmp_path / "sys"
    )
    with EmulatedCpufreq(request.sysfs_root, frozenset([cpu])):
        file = profile_to(tmp_path / "table.yaml", bundle, request)
    table = file.table
    assert table.power.tolist() == [busy_power(clock, 1) for clock in table.cpu_frequency]
    assert len(set(table.power)) == 2 and table.energy == pytest.approx(table.power * table.latency)
    assert (table.provenance["power"], table.provenance["energy"]) == ("modelled", "modelled")
    assert file.conditions["power_sensor"] == "none" and "temperature" not in file.conditions
    assert file.platform == platform_fingerprint()


def test_without_a_value_every_clock_is_measured(board):
    root, control = board
    assert len(clocks_of(control, big_core(root), [])) == 19


def test_a_clock_beyond_the_hardwares_is_refused_by_value(board):
    root, control = board
    with pytest.raises(ValueError, match="--clocks 2500: expected 200 to 2000 MHz for cpu4:1"):
        clocks_of(control, big_core(root), [2.5e9])


def test_a_machine_whose_clocks_cannot_be_set_says_so(tmp_path):
    root = container(tmp_path / "sys")
    with pytest.raises(ValueError, match="cannot be set on this machine"):
        clocks_of(ClockControl(root, tmp_path / "clocks"), discover_elements(root)[0], [])


def test_a_turn_at_another_clock_is_left_out(bundle, engine, board):
    root, control = board
    planned, count = [Planned("33%", big_core(root), 1.2e9)], 0

    class Cooled(ProfiledMachine):
        """Firmware lowers the clock in the second turn."""

        def clock(self, element):
            nonlocal count
            count += 1
            if count == 4:
                write_files(root / CPUFREQ / "policy4", {"scaling_min_freq": 900_000, "scaling_max_freq": 900_000})
            return super().clock(element)

    (summary,) = measure(bundle, engine, planned, TURNS, machine=Cooled(root, control))
    assert (summary.left_out, summary.mark) == (1, "")
    assert len(summary.durations) == 20


def test_a_clock_that_is_never_reached_marks_the_point_and_keeps_it_from_the_table(bundle, engine, board):
    root, control = board
    element = big_core(root)
    planned = [Planned("33%", element, clock) for clock in (0.6e9, 2.0e9)]

    class Weak(ProfiledMachine):
        """Firmware holds the highest clock down."""

        def clock(self, element):
            path = root / CPUFREQ / "policy4"
            if path.joinpath("scaling_max_freq").read_text() == "2000000\n":
                write_files(path, {"scaling_min_freq": 1_800_000, "scaling_max_freq": 1_800_000})
            return super().clock(element)

    summaries = measure(bundle, engine, planned, TURNS, machine=Weak(root, control))
    assert summaries[1].mark == "drifted: ran at 1800 MHz in 4 of 4 turns"
    assert make_table(bundle, planned, summaries, TURNS).cpu_frequency.tolist() == [0.6e9]
    with pytest.raises(ValueError, match="no operating point could be measured: 33% on cpu4:1 drifted"):
        make_table(bundle, planned[1:], summaries[1:], TURNS)


def test_the_temperature_before_and_after_is_kept(bundle, engine, tmp_path):
    root = odroid_xu3(tmp_path / "sys")

    def warm(index, turn):
        write_files(root / "class/thermal/thermal_zone1", {"temp": 70_000})

    planned = [Planned("33%", discover_elements()[0])]
    (summary,) = measure(bundle, engine, planned, TURNS, machine=ProfiledMachine(root), on_turn=warm)
    assert summary.temperatures == (55.0, 70.0)


def test_the_energy_counter_gives_power_above_idle(bundle, engine, tmp_path, monkeypatch):
    """4 W at rest, 9 W while inferences run, as a counter of microjoules in a file."""
    monkeypatch.setattr(profiled_machine, "IDLE_TIME", 0.6)
    zone = tmp_path / "sys" / "class" / "powercap" / "intel-rapl:0"
    write_files(zone, {"name": "package-0", "energy_uj": 1, "max_energy_range_uj": 262_143_328_850})
    watts, ended = [4.0], threading.Event()

    def count():
        joules, last = 0.0, time.monotonic()
        while not ended.is_set():
            now = time.monotonic()
            joules, last = joules + watts[0] * (now - last), now
            (zone / "new").write_text(f"{round(1e6 * joules)}\n")
            os.replace(zone / "new", zone / "energy_uj")
            time.sleep(0.001)

    counter = threading.Thread(target=count)
    counter.start()
    try:
        sensor, idle = choose_sensor("auto", tmp_path / "sys")
        watts[0] = 9.0
        planned = [Planned("33%", discover_elements()[0])]
        machine = ProfiledMachine(tmp_path / "sys", None, sensor, idle)
        summaries = measure(bundle, engine, planned, TURNS, machine=machine)
    finally:
        ended.set()
        counter.join()
    assert (sensor.name, idle) == ("package-0", pytest.approx(4.0, rel=0.2))
    table = make_table(bundle, planned, summaries, TURNS, power_measured=True)
    assert table.power[0] == pytest.approx(5.0, rel=0.25)
    assert table.energy[0] > 0
    assert table.provenance["power"] == table.provenance["energy"] == "measured"


def test_without_a_sensor_power_is_modelled_and_says_so(bundle, tmp_path):
    profile_to(
        tmp_path / "table.yaml", bundle, ProfileRequest(BRIEF, "onnxruntime", sysfs_root=container(tmp_path / "sys"))
    )
    file = read_table(tmp_path / "table.yaml")
    assert file.table.provenance["power"] == "modelled" and file.conditions["power_sensor"] == "none"
    assert file.table.power[0] == 3.0


def test_a_sensor_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(ValueError, match="power sensor 'psys' does not exist here: expected auto, none"):
        choose_sensor("psys", container(tmp_path / "sys"))


def test_only_the_elements_that_are_asked_for_are_measured(bundle, tmp_path):
    request = ProfileRequest(BRIEF, "onnxruntime", elements=("cpu:1",), sysfs_root=container(tmp_path / "sys"))
    assert profile_to(tmp_path / "table.yaml", bundle, request).table.elements == ("cpu:1",)


RUN = "import sys; from dynamic_perception.cli import main; sys.exit(main(sys.argv[1:]))"


def profile_command(path, *options):
    """The command as a process of its own."""
    command = [
        sys.executable,
        "-c",
        RUN,
        "profile",
        "group_cnn_cifar10",
        "--out",
        str(path),
        "--engine",
        "onnxruntime",
        "--elements",
        "cpu:1",
        *options,
    ]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def test_an_interrupted_profile_goes_on_where_it_was_and_not_with_other_settings(tmp_path):
    path = tmp_path / "table.yaml"
    kept = tmp_path / "table.yaml.turns.partial"
    interrupted = profile_command(path)
    wait_for(lambda: interrupted.poll() is not None or (kept.exists() and kept.read_text().count("\n") > 5), "turns")
    interrupted.send_signal(signal.SIGINT)
    assert "the same command goes on from there" in interrupted.communicate()[1]
    assert interrupted.returncode == 130 and not path.exists()

    other = profile_command(path, "--most-runs", "500")
    assert "another settings: most_runs 600, now 500" in other.communicate()[1]
    assert other.returncode == 2

    resumed = profile_command(path)
    assert "going on with the profile of" in resumed.communicate()[1]
    assert resumed.returncode == 0
    subnetworks = read_bundle(find_bundle("group_cnn_cifar10")).subnetworks
    assert len(read_table(path).table) == len(subnetworks) and not kept.exists()


def test_kept_turns_count(bundle, engine):
    turns = []
    planned = [Planned("33%", discover_elements()[0])]
    measure(bundle, engine, planned, TURNS, on_turn=lambda *turn: turns.append(turn))
    again = []
    (summary,) = measure(bundle, engine, planned, TURNS, kept=turns[:9], on_turn=lambda *turn: again.append(turn))
    assert len(again) == 1 and len(summary.durations) == 20


@pytest.fixture
def log(tmp_path):
    """A log with one turn, whose process was killed while it wrote the second."""
    log = TurnLog(tmp_path / "log", {"model": "tiny", "settings": {"seed": 1}})
    log.begin({"idle_power": math.nan})
    log.add(3, Turn((0.1, 0.2), (1e9, 1e9)))
    log.close()
    with open(log.path, "a") as file:
        file.write('{"point": 4, "dura')
    return log


def test_a_turn_that_was_cut_off_is_left_out(log):
    found = TurnLog(log.path, {"model": "tiny", "settings": {"seed": 1}})
    assert found.resumed and math.isnan(found.header["idle_power"])
    ((point, turn),) = found.turns
    assert (point, turn.durations, turn.clocks) == (3, (0.1, 0.2), (1e9, 1e9))
    found.begin({})
    found.add(5, turn)
    found.close()
    assert [point for point, _ in TurnLog(log.path, {"model": "tiny"}).turns] == [3, 5]


def test_turns_of_another_bundle_are_refused_and_name_it(log):
    with pytest.raises(AnotherRun, match="another model: 'tiny', now 'large'.*--restart"):
        TurnLog(log.path, {"model": "large", "settings": {"seed": 1}})


def test_a_restart_throws_the_turns_away(log):
    assert not TurnLog(log.path, {"model": "large"}, restart=True).resumed


@pytest.fixture
def clocked(tmp_path):
    """A board's sysfs tree with its files, and a request for two clocks of its first element."""
    root = odroid_xu3(tmp_path / "sys")
    element = discover_elements(root)[0].name
    return (
        root,
        policy_files(root),
        ProfileRequest(BRIEF, "onnxruntime", (element,), (0.8e9, 1.0e9), "none", sysfs_root=root),
    )


def test_the_clocks_are_put_back_when_the_profile_ends(bundle, tmp_path, clocked):
    root, before, request = clocked
    profile_to(tmp_path / "table.yaml", bundle, request)
    assert sorted(set(read_table(tmp_path / "table.yaml").table.cpu_frequency)) == [0.8e9, 1.0e9]
    assert policy_files(root) == before


def test_ctrl_c_puts_the_clocks_back_and_keeps_the_turns(bundle, tmp_path, clocked, monkeypatch):
    root, before, request = clocked
    add = TurnLog.add

    def press_ctrl_c(self, point, turn):
        add(self, point, turn)
        assert policy_files(root) != before
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(TurnLog, "add", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        profile_to(tmp_path / "table.yaml", bundle, request)
    assert policy_files(root) == before
    assert (tmp_path / "table.yaml.turns.partial").read_text().count("\n") == 2


def test_where_no_point_can_be_measured_nothing_is_kept(bundle, tmp_path, clocked, monkeypatch):
    root, _, request = clocked
    clock = ProfiledMachine.clock

    def held_down(self, element):
        write_files(root / CPUFREQ / f"policy{min(element.cpus) // 4 * 4}", {"scaling_setspeed": 300_000})
        return clock(self, element)

    monkeypatch.setattr(ProfiledMachine, "clock", held_down)
    with pytest.raises(ValueError, match="no operating point could be measured: .* drifted: ran at 300 MHz"):
        profile_to(tmp_path / "table.yaml", bundle, request)
    assert not list(tmp_path.glob("table.yaml*"))
