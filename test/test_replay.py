"""Replaying a bag: the same commands every time, differences explained, frames at the commanded points."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from bags import BagMaker, make_drive, noise
from bundles import TINY_SEGMENTER, make_bundle, make_profile
from dynamic_perception.msg import OperatingPointState
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.cli import main
from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.engines.scaling import scale_image, scale_labels
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.profiling.table_file import read_table, write_table
from dynamic_perception.replay.expected import first_difference, read_expected, write_expected
from dynamic_perception.replay.manager_replay import Command
from dynamic_perception.replay.offline import ReplayOptions, replay
from dynamic_perception.replay.parameters import read_parameters
from dynamic_perception.replay.testing import replay_bag
from dynamic_perception.training.segmentation_score import count_confusion, mean_iou


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> dict[str, object]:
    """Parameters of a tiny classifier with a table."""
    folder = tmp_path_factory.mktemp("model")
    bundle = make_bundle(folder / "tiny")
    return {
        "model": str(bundle.folder),
        "profile": str(make_profile(folder / "profile.yaml", bundle)),
        "dwell": 0.2,
        "engine": "onnxruntime",
    }


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> Path:
    return make_drive().write_file(tmp_path_factory.mktemp("drive") / "drive")


def arguments(bag: Path, model: dict[str, object], *more: str) -> list[str]:
    return ["replay", str(bag), *(text for name, value in model.items() for text in ("-p", f"{name}:={value}")), *more]


def points(run) -> list[tuple[str, str]]:
    return [(command.subnetwork, command.compute_element) for command in run.result.commands]


# Commands ----------------------------------------------------------------------------------------------------------


def test_a_deadline_in_the_bag_makes_the_point_smaller_and_its_end_larger_again(drive, model):
    commands = replay_bag(drive, parameters=model, frames=False).result.commands
    assert [command.reason for command in commands] == ["startup", "deadline", "deadline"]
    assert [command.subnetwork == "100%" for command in commands] == [True, False, True]
    assert commands[1].time == pytest.approx(0.51, abs=1e-6)
    assert commands[2].time == pytest.approx(1.2, abs=0.4)  # after the dwell


def test_ten_runs_give_identical_commands(drive, model):
    runs = [replay_bag(drive, parameters=model, frames=number == 0).result.commands for number in range(10)]
    assert len(runs[0]) == 3 and {repr(run) for run in runs} == {repr(runs[0])}  # NaN is not equal to itself


def test_parameters_are_those_of_the_node(drive, model, tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "/**": {"ros__parameters": {**model, "max_latency": 0.02}},
                "/robot/resource_manager": {"ros__parameters": {"objective": "min_energy"}},
                "some_other_node": {"ros__parameters": {"speed": 3}},
            }
        )
    )
    run = replay_bag(drive, file, frames=False)
    assert run.result.commands[0].subnetwork == "33%"


@pytest.mark.parametrize(
    "setting, fault",
    [
        ("dwel:=1.0", "expected <name>:=<value> with one of .*dwell"),
        ("dwell:=soon", "'dwell' is 'soon': expected a value of type float"),
        ("dwell:=-1.0", "expected 0 to inf"),
        ("min_accuracy:=2.0", "expected 0 to 1"),
        ("objective:=fun", "expected one of max_accuracy"),
        ("battery_thresholds:=0.3", "expected a list"),
        ("dwell:=.nan", "expected a finite number"),
    ],
)
def test_a_wrong_parameter_is_refused_by_name(setting, fault):
    with pytest.raises(ValueError, match=fault):
        read_parameters(None, [setting])


def test_a_table_of_another_machine_is_refused_unless_it_is_forced_and_then_that_is_said(drive, model, tmp_path):
    file = read_table(Path(model["profile"]))
    path = tmp_path / "elsewhere.yaml"
    write_table(path, replace(file, platform={**file.platform, "cpu_model": "another"}))
    with pytest.raises(ValueError, match="was measured on another machine .*cpu_model another there"):
        replay_bag(drive, parameters={**model, "profile": str(path)}, frames=False)
    forced = replay_bag(drive, parameters={**model, "profile": str(path), "force_profile": True}, frames=False)
    (note,) = forced.result.notes
    assert "another machine" in note and "force_profile" in note and len(forced.result.commands) == 3


def test_what_is_decided_for_several_networks_is_refused_and_their_frames_are_not(drive, model, tmp_path):
    file = tmp_path / "robot.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "/**": {
                    "ros__parameters": {
                        **model,
                        "namespaces": ["front", "rear"],
                        "front": {"weight": 2.0},
                        "rear": {"model": "other"},
                    }
                }
            }
        )
    )
    with pytest.raises(ValueError, match="'namespaces' is .'front', 'rear'.: .* cannot be replayed offline"):
        replay_bag(drive, file, frames=False)
    assert len(replay_bag(drive, file, subnetwork="33%").result.frames) == 60


def test_a_rejected_point_is_left_out_as_in_the_node(model, tmp_path):
    maker = BagMaker()
    maker.add_command(0.1, 1, "100%", "cpu:1")
    maker.add_state(0.2, 1, OperatingPointState.RESULT_REJECTED)
    maker.add_state(1.2, 1, OperatingPointState.RESULT_REJECTED)  # repeated, no news
    maker.add_deadline(2.0, 0.0)
    run = replay_bag(maker.write_file(tmp_path / "bag"), parameters=model, frames=False)
    assert points(run)[0] == ("100%", "cpu:1") and points(run)[1] != ("100%", "cpu:1")
    assert run.result.commands[1].time == pytest.approx(0.2, abs=0.11)
    assert "rejected" in run.result.commands[1].detail


def test_the_rate_of_the_parameters_stays_when_a_target_comes_as_in_the_node(model, tmp_path):
    maker = BagMaker()
    maker.add(1.0, "/target", maker.new("dynamic_perception/msg/PerformanceTarget", min_accuracy=0.1))
    maker.add_temperature(2.0, 45.0)
    bag = maker.write_file(tmp_path / "bag")
    free, bound = (
        replay_bag(bag, parameters={**model, "min_rate": rate}, frames=False).result.commands[-1]
        for rate in (0.0, 90.0)
    )
    assert (free.subnetwork, bound.subnetwork) == ("100%", "33%")


def test_a_clock_that_the_machine_did_not_give_is_heard_as_in_the_node(model, tmp_path):
    file = read_table(Path(model["profile"]))
    fast = [replace(point, cpu_frequency=2e9) for point in file.table]
    slow = [
        replace(
            point,
            cpu_frequency=1e9,
            latency=2 * point.latency,
            latency_p95=2 * point.latency_p95,
            latency_p99=2 * point.latency_p99,
        )
        for point in file.table
    ]
    table = OperatingPointTable.from_points(fast + slow, file.table.provenance)
    write_table(tmp_path / "clocks.yaml", replace(file, table=table))
    maker = BagMaker()
    maker.add_command(0.1, 1, "100%", "cpu:1")
    requested, actual = (
        maker.new(
            "dynamic_perception/msg/OperatingPoint", subnetwork="100%", compute_element="cpu:1", cpu_frequency=clock
        )
        for clock in (2e9, 1.4e9)
    )
    maker.add_state(0.2, 1, OperatingPointState.RESULT_PARTIAL, requested=requested, actual=actual)
    maker.add_report(0.4, "100%", "cpu:1", 0.040, sequence=1)
    maker.add_temperature(2.0, 45.0)
    run = replay_bag(
        maker.write_file(tmp_path / "bag"),
        frames=False,
        parameters={**model, "profile": str(tmp_path / "clocks.yaml"), "objective": "min_latency"},
    )
    first, second, *_ = run.result.commands
    assert first.cpu_frequency == 2e9 and second.cpu_frequency == 1e9
    assert second.detail.startswith("cpu clock throttled to 1400 MHz (2000 MHz asked): ")


def test_an_answer_to_an_older_command_changes_nothing(model, tmp_path):
    maker = BagMaker()
    maker.add_command(0.1, 2, "100%", "cpu:1")
    maker.add_state(0.2, 1, OperatingPointState.RESULT_REJECTED)
    run = replay_bag(maker.write_file(tmp_path / "bag"), parameters=model, frames=False)
    assert points(run) == [("100%", "cpu:1")]


def test_wrong_input_is_refused_and_counted_as_in_the_node(model, tmp_path):
    maker = BagMaker()
    maker.add_battery(0.0, 55.0)
    maker.add_temperature(0.1, -256.0)
    maker.add_report(0.2, "unknown", "cpu:1", 0.01)
    refused = replay_bag(maker.write_file(tmp_path / "bag"), parameters=model, frames=False).result.refused
    assert len(refused) == 3 and any("percentage is 55" in text for text in refused)


def test_the_replayed_commands_are_compared_with_the_recorded_ones(model, tmp_path, capsys):
    for element, text in (("cpu:1", "the 1 points that were recorded"), ("cpu:2", "other points than recorded")):
        maker = BagMaker()
        maker.add_command(0.1, 1, "100%", element)
        bag = maker.write_file(tmp_path / f"bag_{element[-1]}")
        assert main(arguments(bag, model)) == 0
        assert text in capsys.readouterr().out


# What is expected --------------------------------------------------------------------------------------------------


def test_the_commands_of_last_time_pass(drive, model, tmp_path, capsys):
    file = tmp_path / "commands.yaml"
    assert main(arguments(drive, model, "--no-frames", "--write-expected", str(file))) == 0
    assert main(arguments(drive, model, "--no-frames", "--expect", str(file))) == 0
    assert f"the 3 commands of {file}" in capsys.readouterr().out


def test_the_first_difference_is_explained(drive, model, tmp_path, capsys):
    file = tmp_path / "commands.yaml"
    main(arguments(drive, model, "--no-frames", "--write-expected", str(file)))
    capsys.readouterr()
    assert (
        main(
            arguments(
                drive, {**model, "deadline_probability": 0.5, "max_power": 3.0}, "--no-frames", "--expect", str(file)
            )
        )
        == 1
    )
    error = capsys.readouterr().err
    assert "command 2 differs at 0.5" in error
    for part in (
        "expected: ",
        "got:      ",
        "deadline 0.02 s (0.510 s)",
        "battery_state 0.6",
        "temperature soc 45 C",
        "inference_report 100% on cpu:1",
    ):
        assert part in error, error


def test_a_missing_and_a_surplus_command_are_differences():
    first = Command(0.0, "50%", "cpu:1", 0.0, math.nan, "startup", True, "start")
    second = replace(first, time=1.0, subnetwork="100%")
    assert first_difference([first], [first], str) == ""
    assert "expected: 100% on cpu:1" in first_difference([first, second], [first], str)
    assert "expected: no command" in first_difference([first], [first, second], str)


names = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=8)
numbers = st.floats(allow_infinity=False, width=64)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.builds(Command, st.floats(0, 1e6), names, names, numbers, numbers, names, st.booleans(), names)))
def test_what_is_written_is_read_again(commands):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "commands.yaml"
        write_expected(path, commands, "bag")
        again = read_expected(path)
    assert first_difference(commands, again, str) == ""
    assert [command.detail for command in again] == [command.detail for command in commands]


@pytest.mark.parametrize(
    "text, fault",
    [
        ("commands: []", "expected schema_version 1"),
        ("schema_version: 1\ncommands: [{time: 0.0}]", "command 1: expected exactly time, subnetwork"),
        ("schema_version: 1\ncommands: 3", "commands: expected a list"),
        ("[", "no valid YAML"),
    ],
)
def test_a_file_that_is_no_such_file_is_refused(tmp_path, text, fault):
    (tmp_path / "commands.yaml").write_text(text)
    with pytest.raises(ValueError, match=fault):
        read_expected(tmp_path / "commands.yaml")


# Frames ------------------------------------------------------------------------------------------------------------


def test_every_frame_runs_at_the_point_that_is_commanded_at_its_time(drive, model):
    elements = {element.name for element in discover_elements()}
    answers = []
    run = replay_bag(drive, parameters=model, on_answer=lambda frame, answer: answers.append(answer.classes[0]))
    result = run.result
    assert len(result.frames) == len(answers) == 60 and not result.lost and not result.refused
    for frame in result.frames:
        command = [command for command in result.commands if command.time <= frame.time][-1]
        assert frame.subnetwork == command.subnetwork
        assert frame.compute_element == command.compute_element or command.compute_element not in elements
    assert {frame.deadline for frame in result.frames} == {0.0, 0.02}


def test_the_answers_are_those_of_the_engine_on_the_frames(drive, model):
    answers = []
    run = replay_bag(
        drive,
        parameters=model,
        subnetwork="66%",
        element="cpu:1",
        on_answer=lambda frame, answer: answers.append(answer.scores),
    )
    element = discover_elements()[0]
    engine = OnnxRuntimeEngine(run.bundle)
    engine.make_ready("66%", element)
    engine.activate("66%", element)
    for number in (0, 17, 59):
        image = np.ascontiguousarray(scale_image(noise(number), run.bundle.input_size("66%"))[..., ::-1])
        assert np.array_equal(engine.run(image).scores, answers[number])
    engine.close()
    assert run.result.commands == []


@pytest.mark.parametrize("order", ["truth after its frame", "truth before its frame"])
def test_label_maps_are_scored_against_the_truth_in_the_bag(tmp_path, order):
    bundle = make_bundle(tmp_path / "tiny", TINY_SEGMENTER)
    maker, random = BagMaker(), np.random.default_rng(2)
    truths = [random.integers(0, 5, (60, 80), np.uint8) for _ in range(4)]  # 4: void
    for number, truth in enumerate(truths):
        maker.add_frame(0.1 * number + (0.01 if order.startswith("truth before") else 0.0), noise(number, (60, 80)))
        maker.add_frame(0.1 * number, truth, "/truth", "mono8")
        for topic in (-1, -2):  # stamped alike, recorded one after the other
            time, name, kind, data = maker.messages[topic]
            message = maker.store.deserialize_cdr(data, kind)
            message.header = maker.header(0.1 * number, "camera")
            maker.messages[topic] = time, name, kind, bytes(maker.store.serialize_cdr(message, kind))
    labels = []
    run = replay_bag(
        maker.write_file(tmp_path / "bag"),
        parameters={"model": str(bundle.folder)},
        subnetwork="large",
        on_answer=lambda frame, answer: labels.append(scale_labels(answer, frame.size)),
    )
    expected = mean_iou(sum(count_confusion(truth, answer, 4) for truth, answer in zip(truths, labels)))
    assert run.result.mean_iou == pytest.approx(expected, abs=1e-12)


def test_compressed_images_are_replayed(model, tmp_path):
    import cv2

    maker = BagMaker()
    for number in range(3):
        data = cv2.imencode(".png", noise(number))[1].reshape(-1)
        maker.add(
            0.1 * number,
            "/camera/image/compressed",
            maker.new(
                "sensor_msgs/msg/CompressedImage",
                header=maker.header(0.1 * number),
                data=data,
                format="bgr8; png compressed bgr8",
            ),
        )
        maker.add_frame(0.1 * number + 0.01, noise(number), "/camera/raw")
    bag = maker.write_file(tmp_path / "bag")
    answers = {}
    for topic in ("/camera/image/compressed", "/camera/raw"):
        answers[topic] = []
        replay_bag(
            bag,
            parameters=model,
            subnetwork="100%",
            image_topic=topic,
            on_answer=lambda frame, answer: answers[topic].append(answer.scores),
        )
    assert np.array_equal(*answers.values()) and len(answers["/camera/raw"]) == 3


def test_a_frame_that_cannot_be_decoded_is_counted_and_the_others_run(model, tmp_path):
    maker = make_drive(3)
    maker.add_frame(0.01, noise(1), encoding="32FC1")
    run = replay_bag(maker.write_file(tmp_path / "bag"), parameters=model)
    assert len(run.result.frames) == 3
    assert any("encoding is '32FC1'" in text for text in run.result.refused)


def test_a_bag_of_two_robots_is_replayed_for_the_one_that_is_named(model, tmp_path):
    maker = make_drive(3)
    maker.messages = [
        (time, f"/{robot}{topic}", kind, data)
        for time, topic, kind, data in maker.messages
        for robot in ("left", "right")
    ]
    bag = maker.write_file(tmp_path / "bag")
    with pytest.raises(ValueError, match="several topics.*--namespace"):
        replay(bag, ReplayOptions(read_parameters()))
    assert len(replay_bag(bag, parameters=model, namespace="/left").result.frames) == 3


# Damage, and other versions ------------------------------------------------------------------------------------------


def test_a_damaged_bag_is_used_as_far_as_it_goes_and_ends_with_code_3(model, tmp_path, capsys):
    bag = make_drive(300).write_file(tmp_path / "bag")
    bag.write_bytes(bag.read_bytes()[: int(0.7 * bag.stat().st_size)])
    assert main(arguments(bag, model, "--no-frames")) == 3
    output = capsys.readouterr()
    assert "startup" in output.out and "lost: bag.mcap: it was not closed or is damaged" in output.err


def test_messages_that_fit_no_definition_are_a_loss(model, tmp_path, capsys):
    from rosbags.rosbag2 import StoragePlugin
    from test_bags import as_humble, without

    maker = make_drive(3, changed=without("InferenceReport", "inference_duration", "energy"))
    assert main(arguments(as_humble(maker.write_file(tmp_path / "bag", StoragePlugin.SQLITE3)), model)) == 3
    assert "lost: 3 messages: /inference_report: " in capsys.readouterr().err


def test_fields_that_are_not_known_are_said(model, tmp_path, capsys):
    from test_bags import without

    bag = make_drive(3, changed=without("InferenceReport", "energy")).write_file(tmp_path / "bag")
    assert main(arguments(bag, model, "--no-frames")) == 0
    assert "was recorded by an older version; not known: InferenceReport.energy" in capsys.readouterr().out


def test_a_bag_of_nothing_that_matters_is_refused_with_what_it_has(tmp_path, model, capsys):
    maker = BagMaker()
    maker.add(0.0, "/odom", maker.new("std_msgs/msg/Header"))
    assert main(arguments(maker.write_file(tmp_path / "bag"), model)) == 2
    assert "it has /odom" in capsys.readouterr().err


# In a user's own test ----------------------------------------------------------------------------------------------


def test_five_lines_make_a_bag_a_regression_test(drive, model, tmp_path):
    commands = tmp_path / "commands.yaml"
    main(arguments(drive, model, "--no-frames", "--write-expected", str(commands)))

    run = replay_bag(drive, parameters=model)
    run.assert_deadlines_met(missed_at_most=0.5)
    run.assert_points_within(subnetworks=("33%", "66%", "100%"), elements=("cpu:1", "cpu:2"), min_accuracy=0.5)
    run.assert_recorded_deadlines_met(missed_at_most=0.1)
    run.assert_commands(commands)


def test_what_is_not_as_demanded_fails_with_what_was_found(drive, model, tmp_path):
    run = replay_bag(drive, parameters={**model, "deadline": 1e-6})
    with pytest.raises(AssertionError, match=r"16 of 60 frames .* longer than their deadline, the first at 0.000 s"):
        run.assert_deadlines_met()
    with pytest.raises(AssertionError, match="6 of 60 reports .10.00 %. tell of a missed deadline"):
        run.assert_recorded_deadlines_met(0.05)
    with pytest.raises(AssertionError, match="100% on cpu:1 was commanded .*: expected one of 33%"):
        run.assert_points_within(subnetworks=("33%",))
    with pytest.raises(AssertionError, match="expected at least 0.900"):
        run.assert_points_within(min_accuracy=0.9)
    with pytest.raises(AssertionError, match="--write-expected"):
        run.assert_commands(tmp_path / "missing.yaml")


def test_a_damaged_bag_fails_unless_that_is_allowed(model, tmp_path):
    bag = make_drive(300).write_file(tmp_path / "bag")
    bag.write_bytes(bag.read_bytes()[: int(0.7 * bag.stat().st_size)])
    with pytest.raises(AssertionError, match="is damaged"):
        replay_bag(bag, parameters=model, frames=False)
    assert replay_bag(bag, parameters=model, frames=False, damaged=True).result.commands


# As accurate as `evaluate` -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_camvid_test_frames_give_the_mean_iou_of_evaluate(dataset, tmp_path):
    from dynamic_perception.networks.bundle import FLOAT32, find_bundle, read_bundle
    from dynamic_perception.training import evaluation

    bundle = read_bundle(find_bundle("segmenter_camvid"))
    bundle = replace(bundle, subnetworks=tuple(bundle.of_precision(FLOAT32))[:1])  # one is enough
    data = evaluation.read_test_data(bundle, str(dataset("camvid")))
    expected = evaluation.score(bundle, data, evaluation.evaluate(bundle, data)[bundle.subnetworks[0].name])
    maker = BagMaker()
    for number, (image, labels) in enumerate(zip(data.images, data.labels)):
        maker.add_frame(number / 30, image[..., ::-1])
        maker.add_frame(number / 30, labels, "/truth", "mono8")
    run = replay_bag(
        maker.write_file(tmp_path / "bag"),
        subnetwork=bundle.subnetworks[0].name,
        parameters={"model": "segmenter_camvid", "engine": "onnxruntime"},
    )
    assert len(run.result.frames) == len(data.images) == 233
    assert run.result.mean_iou == pytest.approx(expected, abs=1e-6)
