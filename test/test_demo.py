"""The demo as a user starts it, and the parts of it that decide what it does."""

import json
import math
import os
import re
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from bundles import TINY, TINY_SEGMENTER, make_bundle
from conftest import wait_for
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from tables import board
from test_emulated_cpufreq import GROUPS, needs_groups

from dynamic_perception.demo.emulated_clock import CLOCKS
from dynamic_perception.demo.preparation import choose_camera, describe_truth
from dynamic_perception.demo.processes import Process
from dynamic_perception.demo.results import check_run
from dynamic_perception.demo.scenario import (
    FRAME_RATES,
    PHASES,
    Deadlines,
    Scenario,
    choose_frame_rate,
    compute_deadlines,
    reference_power,
)
from dynamic_perception.hardware.cpu_bandwidth import PREFIX
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.networks.bundle import ModelBundle, read_bundle, write_model_file
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.image_messages import to_message
from dynamic_perception.nodes.observer import Observer
from dynamic_perception.profiling.table_file import read_table
from dynamic_perception.report.recorded_run import Answer, Command, Frame, RecordedRun
from dynamic_perception.scenes.road_scene import LABELS
from dynamic_perception.simulation.platform_model import PlatformModel

COMMAND = Path(sys.executable).with_name("dynamic-perception")
ENDS_WITHIN = 2.0  # [s] after a signal
MARK = "DYNAMIC_PERCEPTION_DEMO_TEST"
FRAME_RATE = 30.0  # [Hz]


class Demo:
    """A demo in a process of its own, whose children can be found by a mark in their environment."""

    def __init__(self, folder: Path, *arguments: str):
        self.out = folder / "out"
        self._mark = uuid.uuid4().hex
        self._log = folder / "demo.log"
        environment = {**os.environ, "XDG_DATA_HOME": str(folder / "data"), MARK: self._mark}
        with self._log.open("wb") as output:
            self.process = subprocess.Popen(
                [COMMAND, "demo", "--headless", "--out", self.out, *arguments],
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def groups(self) -> list[Path]:
        """Control groups that it left behind."""
        return list(GROUPS.glob(f"{PREFIX}{self.process.pid}_*"))

    def output(self) -> str:
        return self._log.read_text()

    def processes(self) -> dict[int, str]:
        """Number and command of every process that the demo started, and of itself, that still runs."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self._mark}".encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
            except OSError:
                pass  # it ended meanwhile
        return found

    def wait_for_output(self, text: str) -> None:
        wait_for(lambda: text in self.output() or self.process.poll() is not None, f"'{text}'", timeout=60.0)
        assert text in self.output(), self.output()


def make_road_segmenter(folder: Path) -> ModelBundle:
    """A segmenter with random weights and the classes of the synthetic road."""
    bundle = make_bundle(folder, replace(TINY_SEGMENTER, classes=len(LABELS)))
    write_model_file(replace(bundle, labels=LABELS))
    return read_bundle(folder)


@pytest.fixture
def start_demo(tmp_path):
    """Start demos that are ended with the test."""
    started = []

    def start(*arguments: str, make_model=make_bundle) -> Demo:
        started.append(Demo(tmp_path, "--model", str(make_model(tmp_path / "bundle").folder), *arguments))
        return started[-1]

    yield start
    for demo in started:
        demo.process.kill()
        demo.process.wait()


@pytest.mark.parametrize(
    ("make_model", "largest"),
    [(make_road_segmenter, "large"), pytest.param(make_bundle, "100%", marks=pytest.mark.slow)],
)
def test_a_short_demo_plays_both_runs_and_leaves_its_results(start_demo, make_model, largest):
    demo = start_demo("--duration", "10", "--machine-clock", make_model=make_model)
    assert demo.process.wait(120) == 0, demo.output()
    assert demo.processes() == {}
    assert "run 1 of 2: with the manager" in demo.output() and "run 2 of 2: fixed largest subnetwork" in demo.output()
    results = json.loads((demo.out / "results.json").read_text())
    managed, fixed = results["runs"]
    assert min(len(run["frames"]["time_s"]) for run in (managed, fixed)) > 30
    assert set(managed["commands"]["sequence"][:-1]) <= set(managed["answers"]["sequence"])
    assert "applied" in managed["answers"]["result"]
    assert fixed["commands"]["time_s"] == [] and set(fixed["frames"]["subnetwork"]) == {largest}
    assert managed["deadlines"]["deadline_s"] == fixed["deadlines"]["deadline_s"]
    assert len(managed["deadlines"]["deadline_s"]) == len(PHASES)
    assert cv2.imread(str(demo.out / "timeline.png")) is not None
    page = re.sub(r"<script>.*?</script>", "", (demo.out / "index.html").read_text(), flags=re.DOTALL)
    assert re.findall(r"https?://|(?:src|href)=\"(?!data:)|url\(|@import|<script|<link", page) == []
    assert managed["temperature_source"] in page and managed["clock_source"] == ""
    segments = make_model is make_road_segmenter
    assert (demo.out / "overlay.png").exists() == segments
    for run in (managed, fixed):
        assert bool(run["iou_source"]) == segments
        assert len(run["mean_iou"]["time_s"]) > 0.9 * segments * len(run["frames"]["time_s"]) - 1
        assert all(0 <= value <= 1 for value in run["mean_iou"]["mean_iou"])


@needs_groups
def test_a_short_demo_emulates_a_clock_that_the_manager_sets(start_demo, tmp_path):
    demo = start_demo("--duration", "10", make_model=make_road_segmenter)
    assert demo.process.wait(120) == 0, demo.output()
    assert demo.processes() == {} and demo.groups() == []
    assert "clock: emulated by a CPU bandwidth quota" in demo.output()
    managed, fixed = json.loads((demo.out / "results.json").read_text())["runs"]
    assert managed["clock_source"] == fixed["clock_source"] == "emulated by a CPU bandwidth quota"
    assert set(managed["commands"]["cpu_frequency_Hz"]) <= set(CLOCKS)
    read_back = set(managed["frames"]["cpu_frequency_Hz"]) - {None}  # not known before the first state is heard
    assert read_back and read_back <= set(managed["commands"]["cpu_frequency_Hz"])
    assert len(managed["frames"]["time_s"]) > 30
    assert set(fixed["frames"]["cpu_frequency_Hz"]) == {max(CLOCKS)}
    assert "emulated by a CPU bandwidth quota" in (demo.out / "index.html").read_text()
    (table,) = (tmp_path / "data").rglob("*.yaml")  # and none for a robot to decide over
    assert "profiles_emulated" in table.parts
    provenance = read_table(table).table.provenance
    assert (provenance["latency"], provenance["power"], provenance["energy"]) == ("measured", "modelled", "modelled")


@needs_groups
def test_who_may_not_limit_cpu_time_is_told_why_and_goes_on_without_a_clock():
    code = (
        "import os\nfrom rich.console import Console\n"
        "from dynamic_perception.demo.emulated_clock import start_clock\n"
        "os.setuid(65534)\nprint(start_clock(Console()))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert re.fullmatch("clock: left to the machine, because cannot limit CPU time .*needs root.*", said[0])
    assert said[1:] == ["None"]


def test_the_slow_down_counts_from_the_latency_at_the_clock_of_the_frame():
    points = [
        replace(
            board()[0],
            subnetwork=name,
            compute_element="cpu:2",
            cpu_frequency=clock,
            latency=latency,
            latency_p95=latency,
            latency_p99=latency,
        )
        for name, fastest in (("25%", 2e-3), ("100%", 10e-3))
        for clock, latency in ((1e9, 2 * fastest), (2e9, fastest))
    ]
    table = OperatingPointTable.from_points(points, board().provenance)
    frames = [Frame(0.0, 25e-3, 22e-3, "100%", "cpu:2", True, 0, 0.01, 0.85, 1e9)]
    assert compute_deadlines(frames, table, "100%", FRAME_RATE).slow_down == pytest.approx(1.1)


def test_answers_are_compared_with_the_truth_of_the_same_stamp(tmp_path, ros_node, namespace):
    run = make_run(managed=False, iou_source="measured")
    bundle = make_road_segmenter(tmp_path / "bundle")
    observer = Observer(ros_node.context, namespace, run, board(), bundle)
    truths, answers = (ros_node.create_publisher(Image, topic, qos.RESULTS) for topic in ("truth", "segmentation"))
    executor = SingleThreadedExecutor(context=ros_node.context)
    executor.add_node(observer)

    def spin(condition, what):
        wait_for(lambda: executor.spin_once(timeout_sec=0.01) or condition(), what)

    try:
        spin(lambda: truths.get_subscription_count() and answers.get_subscription_count(), "the observer to be found")
        observer.begin()
        first, second, third = (ros_node.get_clock().now().to_msg() for _ in range(3))
        truth = np.full((8, 8), 3, np.uint8)
        truth[:, 4:] = len(LABELS)  # void
        right, wrong = np.full((8, 8), 3, np.uint8), np.full((8, 8), 4, np.uint8)
        for publisher, labels, stamp in (
            (truths, truth, first),
            (truths, truth, second),
            (answers, wrong, second),
            (answers, right, third),
            (truths, truth, third),
        ):
            publisher.publish(to_message(labels, "mono8", Header(stamp=stamp)))
        spin(lambda: len(run.scores) == 2, "two scores")
    finally:
        executor.shutdown()
        observer.destroy_node()
    assert [np.argwhere(score.confusion).tolist() for score in run.scores] == [[[3, 4]], [[3, 3]]]
    assert all(score.confusion.sum() == 2 for score in run.scores)  # every fourth pixel of every fourth row, but void


def test_a_segmenter_sees_the_road_and_a_classifier_objects_unless_there_are_frames(tmp_path):
    segmenter, other = make_road_segmenter(tmp_path / "road"), make_bundle(tmp_path / "other", TINY_SEGMENTER)
    classifier = make_bundle(tmp_path / "classifier", TINY)
    assert choose_camera("synthetic", segmenter) == {
        "source": "synthetic",
        "scene": "road",
        "width": 480,
        "height": 360,
    }
    assert choose_camera("synthetic", classifier)["scene"] == "objects"
    assert choose_camera("/frames", segmenter) == {"source": "/frames"}
    known = [
        (source, bundle.name)
        for source in ("synthetic", "/frames")
        for bundle in (segmenter, other, classifier)
        if describe_truth(source, bundle)
    ]
    assert known == [("synthetic", "road")]


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, "measuring them once"), (signal.SIGTERM, "starting the nodes"), (signal.SIGINT, "phase calm")],
)
def test_a_signal_ends_every_process_within_two_seconds(start_demo, number, moment):
    demo = start_demo("--duration", "30")
    demo.wait_for_output(moment)
    assert demo.processes()
    sent = time.monotonic()
    demo.process.send_signal(number)
    assert demo.process.wait(10 * ENDS_WITHIN) == 130
    assert time.monotonic() - sent < ENDS_WITHIN
    assert demo.processes() == {} and demo.groups() == []
    assert "Traceback" not in demo.output()


def test_a_node_that_dies_ends_the_demo_with_its_name_and_log(start_demo):
    demo = start_demo("--duration", "30")
    demo.wait_for_output("phase calm")
    (perception,) = (number for number, command in demo.processes().items() if "perception_node" in command)
    os.kill(perception, signal.SIGKILL)
    assert demo.process.wait(30) == 1
    log = demo.out / "logs" / "managed_perception.log"
    assert f"error: perception was ended by SIGKILL; the end of {log}:" in demo.output()
    assert demo.processes() == {}


@pytest.mark.parametrize("option", ["--images", "--video"])
def test_a_wrong_path_is_told_before_anything_starts(start_demo, option):
    demo = start_demo(option, "/nowhere")
    assert demo.process.wait(60) == 2
    assert f"error: {option} /nowhere: expected a" in demo.output()
    assert not demo.out.exists()


def test_a_process_does_not_outlive_a_demo_that_was_killed(tmp_path):
    code = (
        "import os, pathlib, time\nfrom dynamic_perception.demo.processes import Process\n"
        f"p = Process('sleeper', ['sleep', '600'], os.environ, pathlib.Path({str(tmp_path / 'log')!r}))\n"
        "print(p.identifier, flush=True)\ntime.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    child = Path("/proc") / parent.stdout.readline().strip()
    assert "sleep" in (child / "cmdline").read_text()
    parent.kill()
    parent.wait()
    wait_for(lambda: not child.exists() or "Z" in (child / "stat").read_text().split()[2], "the end of the child")


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 3", "ended with exit code 3"),
        ("kill -9 $$", "was ended by SIGKILL"),
        ("echo 'Traceback (most recent call last)'; echo KeyError", "left a traceback"),
    ],
)
def test_what_a_process_did_wrong_is_told_with_the_end_of_its_log(tmp_path, script, said):
    process = Process("perception", ["sh", "-c", script], os.environ, tmp_path / "perception.log")
    process.wait()
    assert process.fault().startswith(f"perception {said}; the end of {tmp_path / 'perception.log'}:")


def test_a_process_that_ends_well_has_no_fault(tmp_path):
    process = Process("camera", ["true"], os.environ, tmp_path / "camera.log")
    process.wait()
    assert process.fault() == ""


def compute_for_board(slow_down: float = 1.0) -> Deadlines:
    """Deadlines after 2 to 4 ms of overhead on `board`, where 25 % takes 2 ms, 100 % 11 ms, and on one thread 22 ms."""
    frames = [
        Frame(0.0, overhead + slow_down * 11e-3, slow_down * 11e-3, "100%", "cpu:2", True, 0, 0.01, 0.85)
        for overhead in np.linspace(2e-3, 4e-3, 101)
    ]
    return compute_deadlines(frames, board(), "100%", FRAME_RATE)


def test_the_overhead_is_what_is_left_of_a_frame_without_its_inference():
    deadlines = compute_for_board(slow_down=1.5)
    assert (deadlines.overhead_median, deadlines.overhead_p90) == pytest.approx((3e-3, 3.8e-3))
    assert deadlines.slow_down == pytest.approx(1.5)


@pytest.mark.parametrize("slow_down", [1.0, 1.5])
def test_the_largest_subnetwork_misses_the_tight_deadline_and_a_smaller_one_keeps_it(slow_down):
    deadlines = compute_for_board(slow_down)
    assert slow_down * 2e-3 < deadlines.tight - deadlines.overhead_p90 < slow_down * 11e-3


@pytest.mark.parametrize("slow_down", [1.0, 1.5])
def test_the_largest_subnetwork_keeps_the_economy_deadline_only_with_all_threads(slow_down):
    deadlines = compute_for_board(slow_down)
    assert slow_down * 11e-3 < deadlines.economy - deadlines.overhead_p90 < slow_down * 22e-3


@pytest.mark.parametrize("slow_down", [1.0, 1.5, 4.0])
def test_no_deadline_but_the_tight_one_is_ever_longer_than_a_frame_period(slow_down):
    deadlines = compute_for_board(slow_down)
    assert max(deadlines.calm, deadlines.roomy, deadlines.economy) <= 1 / FRAME_RATE


@pytest.mark.parametrize("latency", [1e-3, 5e-3, 11e-3, 30e-3, 60e-3, 0.4])
def test_the_largest_subnetwork_fits_twice_between_frames(latency):
    table = board()
    table = replace(table, latency=table.latency * latency / 11e-3)
    rate = choose_frame_rate(table, "100%")
    assert 2 * latency <= 1 / rate
    assert all(2 * latency > 1 / faster for faster in FRAME_RATES if faster > rate)


def play_board(scenario: Scenario, power: float) -> dict[str, PlatformModel]:
    """The modelled board at the end of every phase, at a constant power [W]."""
    model = PlatformModel(scenario.board, scenario.start_temperature, charge=0.62)
    ends = {}
    for span in scenario.spans:
        for step in range(200):
            now = span.start + (step + 0.5) / 200 * (span.end - span.start)
            model.advance((span.end - span.start) / 200, power, scenario.surroundings(now))
        ends[span.name] = PlatformModel(scenario.board, model.temperature, model.charge)
    return ends


@pytest.mark.parametrize("duration", [10.0, 60.0, 600.0])
def test_the_modelled_board_only_overheats_in_the_heat_and_only_at_high_power(duration):
    largest = reference_power(board(), "100%", FRAME_RATE)
    scenario = Scenario(duration, FRAME_RATE, largest)
    assert play_board(scenario, largest)["heat"].temperature > 85.0
    assert play_board(scenario, largest / 4)["heat"].temperature < 75.0
    assert all(play_board(scenario, largest)[name].temperature < 60.0 for name in ("calm", "CPU load", "recovery"))


def test_the_modelled_battery_falls_below_both_thresholds_and_recovers():
    largest = reference_power(board(), "100%", FRAME_RATE)
    ends = play_board(Scenario(60.0, FRAME_RATE, largest), largest / 2)
    assert ends["heat"].charge > 0.30 and 0.0 < ends["battery"].charge < 0.15 and ends["recovery"].charge > 0.30


def test_the_reference_power_is_the_energy_of_the_largest_subnetwork_at_the_frame_rate():
    slower_and_thirstier = 1.5 * 22e-3  # [J] on one thread
    assert math.isclose(reference_power(board(), "100%", 7.5), slower_and_thirstier * 7.5)


def make_run(managed: bool = True, iou_source: str = "") -> RecordedRun:
    """A run in which everything went well."""
    run = RecordedRun("run 1 of 2", managed, Scenario(60.0, FRAME_RATE, 1.0).spans, "modelled", "modelled", iou_source)
    run.frames = [Frame(float(time), 0.01, 0.005, "100%", "cpu:2", True, 0, 0.01, 0.85) for time in range(60)]
    if managed:
        run.commands = [Command(5.0, 1, "50%", "cpu:2", "deadline", True, "")]
        run.answers = [Answer(5.0, 1, "applied", "", 1e-4)]
    return run


@pytest.mark.parametrize("managed", [True, False])
def test_a_run_in_which_everything_went_well_passes(managed):
    assert check_run(make_run(managed)) == []


def test_a_phase_without_frames_fails():
    run = make_run()
    run.frames = [frame for frame in run.frames if run.phase_at(frame.time).name != "heat"]
    assert check_run(run) == ["run 1 of 2: no frame was answered in the phase 'heat'"]


def test_a_command_that_was_replaced_before_perception_was_there_is_no_fault():
    run = make_run()
    run.commands.insert(0, Command(0.0, 0, "25%", "cpu:2", "startup", True, ""))
    assert check_run(run) == []


def test_a_command_that_was_never_answered_fails():
    run = make_run()
    run.commands.append(Command(20.0, 2, "25%", "cpu:2", "contention", True, ""))
    assert check_run(run) == ["run 1 of 2: command 2 (contention) was never answered"]


def test_a_rejected_command_fails():
    run = make_run()
    run.commands.append(Command(20.0, 2, "33%", "cpu:2", "manual", True, ""))
    run.answers.append(Answer(20.0, 2, "rejected", "subnetwork '33%' is unknown", math.nan))
    assert check_run(run) == ["run 1 of 2: command 2 (manual) was rejected: subnetwork '33%' is unknown"]


def test_a_run_whose_answers_never_met_the_truth_fails():
    assert check_run(make_run(iou_source="measured")) == ["run 1 of 2: no answer could be compared with the truth"]


def test_a_managed_run_without_an_applied_command_fails():
    run = make_run()
    run.commands, run.answers = [], []
    assert check_run(run) == ["run 1 of 2: no command was applied"]
