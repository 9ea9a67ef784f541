"""The perception node: frames in, answers and reports out, commands between frames, wrong input loses nothing."""

import math
import sys
from array import array
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Duration
from bundles import make_bundle
from dynamic_perception.msg import Classification, OperatingPoint, OperatingPointCommand
from perception_client import PerceptionClient
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.networks.graph_files import cached_graph, keep_graph
from dynamic_perception.nodes import qos

APPLIED, PARTIAL, REJECTED, SUPERSEDED = range(4)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture
def expected(bundle):
    """Best label of an RGB image by subnetwork name, from an engine of the test's own."""
    element = discover_elements()[0]
    engine = OnnxRuntimeEngine(bundle)
    engine.prepare([s.name for s in bundle.subnetworks], [element], 1)

    def best(image: np.ndarray) -> dict[str, str]:
        labels = {}
        for subnetwork in bundle.subnetworks:
            engine.activate(subnetwork.name, element)
            labels[subnetwork.name] = bundle.labels[engine.run(image).classes[0]]
        return labels

    yield best
    engine.close()


@pytest.fixture
def client(start_node, ros_node, spin_until, bundle) -> PerceptionClient:
    node = start_node("perception", {"model": str(bundle.folder), "command_timeout": 0.0})
    client = PerceptionClient(ros_node, spin_until).connect()
    client.process = node
    return client


@pytest.fixture
def image(bundle) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (*bundle.input_size("100%"), 3), np.uint8)


def different_answers(expected, shape) -> np.ndarray:
    """An image to which the smallest and the largest subnetwork give different answers."""
    random = np.random.default_rng(0)
    while True:
        image = random.integers(0, 256, shape, np.uint8)
        answers = expected(image)
        if answers["33%"] != answers["100%"]:
            return image


def test_the_answer_is_the_networks_and_carries_the_frames_header(client, expected, image):
    answer = client.ask(image)
    assert answer.labels[0] == expected(image)["100%"]
    assert answer.header.frame_id == "test_camera"
    assert list(answer.scores) == sorted(answer.scores, reverse=True) and len(answer.labels) == len(answer.scores) == 3


def test_a_report_says_what_ran_and_how_long_it_took(client, image):
    client.ask(image)
    report = client.reports[client.stamps]
    assert (report.subnetwork, report.sequence) == ("100%", 0)
    parts = report.preprocess_duration, report.inference_duration, report.postprocess_duration
    assert all(part > 0 for part in parts)
    assert report.end_to_end_duration == pytest.approx(report.age_at_start + sum(parts))


def test_a_command_switches_the_subnetwork_and_the_element(client, expected, bundle):
    image = different_answers(expected, (*bundle.input_size("100%"), 3))
    element = discover_elements()[0].name
    state = client.command(7, subnetwork="33%", compute_element=element)
    assert (state.result, state.actual.subnetwork, state.actual.compute_element) == (APPLIED, "33%", element)
    assert 0 <= state.switch_duration < 1
    assert client.ask(image).labels[0] == expected(image)["33%"]
    report = client.reports[client.stamps]
    assert (report.subnetwork, report.sequence) == ("33%", 7)
    assert report.energy == pytest.approx(6.0 * report.inference_duration)


@pytest.mark.parametrize(
    "point, message",
    [
        ({"subnetwork": "51%"}, "subnetwork '51%' is not in tiny: expected one of 33%, 66%, 100%"),
        ({"compute_element": "npu:1"}, "npu:1"),
    ],
)
def test_an_unknown_point_is_rejected_and_the_old_one_stays(client, image, point, message):
    state = client.command(3, **point)
    assert state.result == REJECTED and message in state.message
    assert state.actual.subnetwork == "100%"
    client.ask(image)
    assert client.reports[client.stamps].subnetwork == "100%"


def test_a_clock_that_may_not_be_set_is_a_partial_result_with_the_fix(client):
    state = client.command(4, subnetwork="66%", cpu_frequency=1.2e9)
    assert (state.result, state.actual.subnetwork) == (PARTIAL, "66%")
    assert "clocks_enabled" in state.message and math.isnan(state.actual.cpu_frequency)


def test_a_repeated_command_is_not_applied_again(client):
    command = OperatingPointCommand(sequence=9, operating_point=OperatingPoint(subnetwork="33%"))
    command.header.stamp = client.node.get_clock().now().to_msg()
    client.commands.publish(command)
    client.spin_until(lambda: client.state(9), "the first answer")
    first = client.state(9).switch_duration
    for _ in range(3):
        client.commands.publish(command)
    client.command(10, subnetwork="66%")
    assert all(s.switch_duration == first for s in client.states if s.sequence == 9)


def test_a_restarted_manager_that_counts_from_one_again_is_obeyed(client):
    client.command(1, subnetwork="33%")
    client.states.clear()
    assert client.command(1, subnetwork="66%").actual.subnetwork == "66%"


def test_the_state_is_repeated_every_second(client):
    before = len(client.states)
    client.spin_until(lambda: len(client.states) >= before + 2, "two repeated states")
    stamps = [s.header.stamp.sec + 1e-9 * s.header.stamp.nanosec for s in client.states[-2:]]
    assert stamps[1] - stamps[0] == pytest.approx(1.0, abs=0.5)


def test_frames_that_came_while_one_was_processed_are_counted_as_skipped(client, image):
    sent = [client.send(image) for _ in range(50)]
    last = sent[-1]
    client.spin_until(lambda: last in client.reports, "the newest frame's report")
    processed = len(client.reports)
    # Depth 1 may also drop frames before the node sees them; those nobody can count.
    assert processed + sum(r.skipped_frames for r in client.reports.values()) <= len(sent)
    assert max(client.reports) == last


def test_the_deadline_topic_decides_what_counts_as_met(client, image):
    stamp = client.ask(image).header.stamp.sec
    assert client.reports[stamp].deadline_met  # none is set
    client.deadlines.publish(Duration(nanosec=1000))

    def missed():
        client.ask(image)
        return not client.reports[client.stamps].deadline_met

    client.spin_until(missed, "a missed deadline of one microsecond")


def test_a_negative_deadline_is_refused_and_counted(client):
    client.deadlines.publish(Duration(sec=-1))
    client.spin_until(
        lambda: (
            client.diagnosed("last fault", "deadline is -1.0 s: expected") and client.diagnosed("faults: deadline", "1")
        ),
        "the refused deadline in diagnostics",
    )


@pytest.mark.parametrize(
    "fields, fault",
    [
        ({"encoding": "yuv9"}, "yuv9"),
        ({"step": 1}, "step"),
        ({"data": array("B", b"12")}, "2"),
        ({"height": 0, "width": 0, "step": 0, "data": array("B")}, "0"),
    ],
)
def test_a_wrong_image_is_named_and_counted_and_the_next_one_is_answered(client, image, fields, fault):
    client.send(image, **fields)
    client.process.wait_for_output("frame refused")
    assert fault in client.process.output().split("frame refused")[1].splitlines()[0]
    client.ask(image)
    client.spin_until(lambda: client.diagnosed("faults: image", "1"), "the fault in diagnostics")


def test_a_compressed_image_is_answered_too(client, ros_node, expected, bundle):
    import cv2

    image = np.full((*bundle.input_size("100%"), 3), (200, 40, 10), np.uint8)
    client.node.destroy_publisher(client.images)  # of frames that come both ways only the raw ones would be heard
    publisher = ros_node.create_publisher(CompressedImage, "image/compressed", qos.IMAGE)
    client.spin_until(publisher.get_subscription_count, "the node to notice the publisher")
    message = CompressedImage(format="png", data=array("B", cv2.imencode(".png", image[:, :, ::-1])[1].tobytes()))
    message.header.stamp.sec = 4711
    publisher.publish(message)
    client.spin_until(lambda: 4711 in client.answers, "the answer")
    assert client.answers[4711].labels[0] == expected(image)["100%"]


@pytest.mark.parametrize(
    "reliability", [ReliabilityPolicy.RELIABLE, ReliabilityPolicy.BEST_EFFORT], ids=lambda r: r.name
)
def test_the_publishers_reliability_is_copied(start_node, ros_node, spin_until, bundle, image, reliability):
    start_node("perception", {"model": str(bundle.folder)})
    answers = []
    publisher = ros_node.create_publisher(Image, "image", QoSProfile(depth=1, reliability=reliability))
    ros_node.create_subscription(Classification, "classification", answers.append, qos.RESULTS)
    height, width = image.shape[:2]
    message = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=array("B", image.tobytes()))

    def answered():
        publisher.publish(message)
        return answers

    spin_until(answered, "an answer")
    (subscriber,) = ros_node.get_subscriptions_info_by_topic(publisher.topic_name)
    assert subscriber.qos_profile.reliability == reliability


def test_without_commands_the_fallback_point_is_taken_and_a_command_ends_it(start_node, ros_node, spin_until, bundle):
    start_node("perception", {"model": str(bundle.folder), "command_timeout": 0.5, "fallback_subnetwork": "66%"})
    client = PerceptionClient(ros_node, spin_until).connect()
    spin_until(lambda: client.states[-1].actual.subnetwork == "66%", "the fallback point")
    assert "no command for 0.5 s" in client.states[-1].message
    assert client.command(1, subnetwork="100%").actual.subnetwork == "100%"


def test_a_repeated_command_ends_the_fallback_too(start_node, ros_node, spin_until, bundle):
    start_node("perception", {"model": str(bundle.folder), "command_timeout": 0.5})
    client = PerceptionClient(ros_node, spin_until).connect()
    command = OperatingPointCommand(sequence=1, operating_point=OperatingPoint(subnetwork="100%"))
    client.commands.publish(command)
    spin_until(
        lambda: client.states[-1].sequence == 1 and client.states[-1].actual.subnetwork == "33%", "the fallback point"
    )
    client.commands.publish(command)
    spin_until(lambda: client.states[-1].actual.subnetwork == "100%", "the commanded point again")


@pytest.fixture
def client_without_memory(start_node, ros_node, spin_until, bundle) -> PerceptionClient:
    """Of a node that has room for no more points than it must have."""
    parameters = {"model": str(bundle.folder), "command_timeout": 0.0, "engine.memory_budget": 0}
    client = PerceptionClient(ros_node, spin_until)
    client.process = start_node("perception", parameters)
    return client


def test_a_point_that_is_not_ready_is_built_while_frames_go_on(client_without_memory, expected, bundle):
    client = client_without_memory.connect()
    image = different_answers(expected, (*bundle.input_size("100%"), 3))
    for sequence, subnetwork in enumerate(["66%", "33%", "100%", "66%"], start=1):
        stamp = client.send(image)
        state = client.command(sequence, subnetwork=subnetwork)
        assert (state.result, state.actual.subnetwork) == (APPLIED, subnetwork)
        client.spin_until(lambda: stamp in client.answers, "the answer to the frame")
        assert client.ask(image).labels[0] == expected(image)[subnetwork]


def test_a_point_that_cannot_be_built_is_rejected_and_left_alone_for_a_while(client_without_memory, image, bundle):
    graph = cached_graph(bundle, "66%")
    keep_graph(graph, b"no graph")
    try:
        client = client_without_memory.connect()
        assert client.command(1, subnetwork="66%").result == REJECTED
        assert "'66%' on" in client.state(1).message and "cannot open" in client.state(1).message
        assert (
            client.command(2, subnetwork="66%").result == REJECTED and "not tried again for" in client.state(2).message
        )
        client.ask(image)
        assert client.reports[client.stamps].subnetwork == "100%"
        client.spin_until(lambda: client.diagnosed("failed points", "66% on"), "the failed point in diagnostics")
    finally:
        graph.unlink()


def test_a_point_that_fails_is_left_for_the_fallback_point_until_it_works_again(
    start_node, ros_node, spin_until, bundle, image, tmp_path, monkeypatch
):
    monkeypatch.setenv("FAILING", "100%")
    monkeypatch.setenv("WHILE", str(tmp_path / "broken"))
    program = [sys.executable, str(Path(__file__).parent / "perception_with_failing_engine.py")]
    start_node("perception", {"model": str(bundle.folder), "command_timeout": 0.0}, program=program)
    client = PerceptionClient(ros_node, spin_until).connect()
    assert client.command(1, subnetwork="100%").result == APPLIED
    (tmp_path / "broken").touch()
    client.ask(image)  # the frame is not lost
    assert client.reports[client.stamps].subnetwork == "33%"
    spin_until(lambda: client.state(1).result == REJECTED, "the state that takes the point back")
    assert "out of memory" in client.state(1).message and client.state(1).actual.subnetwork == "33%"
    spin_until(lambda: client.diagnosed("faults: engine", "1"), "the fault in diagnostics")
    (tmp_path / "broken").unlink()
    again = iter(range(2, 1000))
    spin_until(lambda: client.command(next(again), subnetwork="100%").result == APPLIED, "the point to be tried again")
    client.ask(image)
    assert client.reports[client.stamps].subnetwork == "100%"


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"model": "/nowhere"}, "no model bundle at '/nowhere'"),
        ({"start_subnetwork": "1%"}, "subnetwork '1%' is not in tiny"),
        ({"fallback_element": "npu:1"}, "npu:1"),
        (
            {"image_reliability": "perfect"},
            "'image_reliability' is 'perfect': expected one of auto, reliable, best_effort",
        ),
        ({"top_k": 0}, "top_k"),
        ({"engine": "tflite"}, "engine is 'tflite': expected one of auto, onnxruntime, openvino, pytorch"),
    ],
)
def test_a_wrong_parameter_ends_the_node_with_one_sentence(start_node, bundle, parameters, message):
    node = start_node("perception", {"model": str(bundle.folder), **parameters})
    assert node.process.wait(20) == 1
    assert message in node.output() and "Traceback" not in node.output()


def test_a_running_node_has_not_loaded_torch(client, image):
    client.ask(image)
    maps = Path(f"/proc/{client.process.process.pid}/maps").read_text()
    assert "onnxruntime" in maps and "libtorch" not in maps


def test_a_thousand_commands_at_50_hz_are_all_answered_between_whole_frames(client, expected, bundle):
    """Every command is answered; every frame's answer is that of one of the two subnetworks, and the one reported."""
    image = different_answers(expected, (*bundle.input_size("100%"), 3))
    labels = expected(image)
    count, clock = 1000, client.node.get_clock()
    progress = SimpleNamespace(sent=0)

    def send_command():
        if progress.sent < count:
            progress.sent += 1
            name = ("33%", "100%")[progress.sent % 2]
            command = OperatingPointCommand(
                sequence=progress.sent,
                operating_point=OperatingPoint(subnetwork=name, cpu_frequency=math.nan, gpu_frequency=math.nan),
            )
            command.header.stamp = clock.now().to_msg()
            client.commands.publish(command)

    timers = [
        client.node.create_timer(1 / 50, send_command),
        client.node.create_timer(1 / 30, lambda: client.send(image)),
    ]
    client.spin_until(
        lambda: {s.sequence for s in client.states} >= set(range(1, count + 1)), "every answer", timeout=60
    )
    for timer in timers:
        client.node.destroy_timer(timer)
    assert {s.result for s in client.states} <= {APPLIED, SUPERSEDED}
    assert len(client.reports) > 300
    for stamp, report in client.reports.items():
        if stamp in client.answers:
            assert client.answers[stamp].labels[0] == labels[report.subnetwork]
    assert {r.subnetwork for r in client.reports.values()} == {"33%", "100%"}
