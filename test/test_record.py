"""Recording and playing over real DDS, with real processes."""

import itertools
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from bags import BagMaker, make_drive, noise
from conftest import STOP_TIMEOUT, NodeProcess, wait_for
from dynamic_perception.msg import InferenceReport, OperatingPoint, OperatingPointCommand
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.rosbag2 import Reader
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dynamic_perception.nodes import qos
from dynamic_perception.nodes.image_messages import to_message
from dynamic_perception.replay.bag import Bag
from dynamic_perception.replay.bag_writer import BagWriter

REPORT = "dynamic_perception/msg/InferenceReport"


@pytest.fixture
def start_command(tmp_path):
    """`dynamic-perception` as a process."""
    started = []

    def start(*arguments):
        program = "import sys; from dynamic_perception.cli import main; sys.exit(main(sys.argv[1:]))"
        started.append(
            subprocess.Popen(  # away from the source tree, whose package has no messages
                [sys.executable, "-c", program, *map(str, arguments)],
                cwd=tmp_path,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def robot(ros_node, spin_until):
    """Publishes frames and reports; `send(n)` until the recorder listens, then n of each."""

    class Robot:
        images = ros_node.create_publisher(Image, "image", qos.IMAGE)
        reports = ros_node.create_publisher(InferenceReport, "inference_report", qos.RESULTS)
        commands = ros_node.create_publisher(OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND)
        sent = 0

        def wait_for_recorder(self):
            publishers = (self.images, self.reports, self.commands)
            spin_until(lambda: all(p.get_subscription_count() for p in publishers), "the recorder")

        def send(self, count):
            for _ in range(count):
                header = Header(frame_id=str(self.sent))
                self.images.publish(to_message(noise(self.sent, (120, 160)), "bgr8", header))
                self.reports.publish(InferenceReport(header=header, inference_duration=1e-3 * self.sent))
                self.sent += 1
                end = time.monotonic() + 0.02
                spin_until(lambda: time.monotonic() > end, "a fiftieth of a second")

    return Robot()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recording_is_whole_when_it_is_ended(start_command, namespace, robot, tmp_path, number):
    path = tmp_path / "run.mcap"
    robot.commands.publish(OperatingPointCommand(sequence=7, operating_point=OperatingPoint(subnetwork="50%")))
    recorder = start_command("record", "--out", path, "--namespace", namespace)
    robot.wait_for_recorder()
    robot.send(50)
    recorder.send_signal(number)
    output, _ = recorder.communicate(timeout=STOP_TIMEOUT)
    assert recorder.returncode == 0 and "Traceback" not in output, output
    assert "101 messages of 3 topics" in output and "dropped" not in output and "lost" not in output

    with Bag(path) as bag:
        assert bag.lost == []
        reports = [m.message for m in bag.messages([f"{namespace}/inference_report"])]
        frames = [m.message for m in bag.messages([f"{namespace}/image"])]
        commands = [m.message for m in bag.messages([f"{namespace}/operating_point/command"])]
    assert [report.header.frame_id for report in reports] == [str(number) for number in range(50)]
    assert [report.inference_duration for report in reports] == [1e-3 * number for number in range(50)]
    assert np.array_equal(np.reshape(frames[49].data, (120, 160, 3)), noise(49, (120, 160)))
    assert [command.sequence for command in commands] == [7]  # latched, from before the recorder started


def test_the_rosbags_library_reads_a_recording_with_its_definitions(start_command, namespace, robot, tmp_path):
    path = tmp_path / "run.mcap"
    recorder = start_command("record", "--out", path, "--namespace", namespace)
    robot.wait_for_recorder()
    robot.send(5)
    recorder.send_signal(signal.SIGINT)
    recorder.communicate(timeout=STOP_TIMEOUT)
    with Reader(path) as reader:
        topic = reader.topics[f"{namespace}/inference_report"]
        profile = topic.connections[0].ext.offered_qos_profiles[0]
        assert (topic.msgtype, topic.msgcount, profile.reliability.name) == (REPORT, 5, "RELIABLE")
        assert "float64 inference_duration" in topic.msgdef.data and "MSG: std_msgs/Header" in topic.msgdef.data
        latched = reader.topics.get(f"{namespace}/operating_point/command")
        assert latched is None or latched.msgcount == 0
        assert reader.message_count == 10


def test_after_sigkill_all_but_the_last_second_is_there(start_command, namespace, robot, tmp_path):
    path = tmp_path / "run.mcap"
    recorder = start_command("record", "--out", path, "--namespace", namespace)
    robot.wait_for_recorder()
    robot.send(20)
    size = path.stat().st_size
    wait_for(lambda: path.stat().st_size > size or path.stat().st_size > 20 * 57600, "the chunk to be closed")
    robot.send(5)
    recorder.kill()
    recorder.wait()
    with Bag(path) as bag:
        reports = [m.message.header.frame_id for m in bag.messages([f"{namespace}/inference_report"])]
        assert bag.lost == [] or "was not closed" in bag.lost[0]
    assert len(reports) >= 20 and reports == [str(number) for number in range(len(reports))]


def test_a_recording_ends_after_its_duration_and_says_what_nobody_published(start_command, namespace, tmp_path):
    path = tmp_path / "run.mcap"
    recorder = start_command("record", "--out", path, "--duration", "0.3", "--topics", f"{namespace}/silence")
    output, _ = recorder.communicate(timeout=20)
    assert recorder.returncode == 0 and f"nobody published {namespace}/silence" in output


def test_a_recording_never_replaces_another_one(start_command, namespace, tmp_path):
    path = tmp_path / "run.mcap"
    path.write_text("precious")
    recorder = start_command("record", "--out", path)
    output, _ = recorder.communicate(timeout=20)
    assert recorder.returncode == 2 and "exists already" in output
    assert path.read_text() == "precious"


@pytest.mark.parametrize("options", [["--topics", "im age"], ["--namespace", "1st robot"]])
def test_a_name_that_cannot_be_is_refused_before_there_is_a_file(start_command, tmp_path, options):
    path = tmp_path / "run.mcap"
    recorder = start_command("record", "--out", path, *options)
    output, _ = recorder.communicate(timeout=20)
    assert recorder.returncode == 2 and "no valid name" in output and not path.exists(), output


def test_a_writer_that_is_too_slow_drops_and_counts_and_never_blocks(tmp_path):
    writer = BagWriter(tmp_path / "run.mcap", queue_bytes=1000)
    writer.add_topic("/image", "sensor_msgs/msg/Image", "", "")
    started = time.monotonic()
    accepted = [writer.offer("/image", number, number, bytes(600)) for number in range(1000)]
    assert time.monotonic() - started < 1.0
    writer.close()
    assert writer.written["/image"] + writer.dropped["/image"] == 1000
    assert writer.written["/image"] == sum(accepted) and writer.dropped["/image"] > 0 and not writer.failure


def test_a_disk_that_takes_no_more_is_reported_and_ends_the_recording(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    writer = BagWriter(tmp_path / "run.mcap")
    writer.add_topic("/image", "sensor_msgs/msg/Image", "", "")
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, hard))  # no file may grow beyond it
    try:
        writer.offer("/image", 1, 1, bytes(2**22))
        wait_for(lambda: writer.failure, "the failure")
        assert not writer.offer("/image", 2, 2, bytes(1))
        writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in writer.failure


# Playing ------------------------------------------------------------------------------------------------------------


class Audience:
    """Hears what a player says."""

    def __init__(self, node, namespace=""):
        self.frames, self.reports, self.clocks, self.latched = [], [], [], []
        node.create_subscription(
            Image, "/image", lambda m: self.frames.append((time.monotonic(), m)), QoSProfile(depth=100)
        )
        node.create_subscription(InferenceReport, "/inference_report", self.reports.append, QoSProfile(depth=100))
        node.create_subscription(Clock, "/clock", self.clocks.append, QoSProfile(depth=100))
        node.create_subscription(
            OperatingPointCommand,
            "/operating_point/command",
            self.latched.append,
            QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL),
        )


def test_a_bag_is_played_at_its_rate_with_its_clock(start_command, ros_node, spin_until, namespace, tmp_path):
    bag = make_drive(90).write_file(tmp_path / "bag")
    audience = Audience(ros_node)
    player = start_command("replay", bag, "--live", "--rate", "2")
    spin_until(lambda: player.poll() is not None, "the end")
    assert player.returncode == 0, player.stdout.read()
    spin_until(lambda: len(audience.frames) == 90, "all frames")
    arrived = [when for when, _ in audience.frames]
    stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for _, m in audience.frames]
    assert stamps == sorted(stamps)
    # From the first frame that was heard on, because a reader that is discovered late misses those before.
    assert (stamps[-1] - stamps[0]) / (arrived[-1] - arrived[0]) == pytest.approx(2, rel=0.15)
    clocks = [c.clock.sec + 1e-9 * c.clock.nanosec for c in audience.clocks]
    assert clocks == sorted(clocks) and len(clocks) > 20 and clocks[-1] >= stamps[-1]
    assert len(audience.reports) > 60 and audience.reports[-1].subnetwork == "100%"


def test_it_loops_from_an_offset_with_what_was_latched_before_until_it_is_told_to_end(
    start_command, ros_node, spin_until, namespace, tmp_path
):
    maker = make_drive(60)
    maker.add_command(0.1, 5, "50%", "cpu:2")
    audience = Audience(ros_node)
    bag = write_latched(maker, tmp_path / "bag.mcap")
    player = start_command(
        "replay", bag, "--live", "--start-offset", "1.5", "--loop", "--topics", "image", "operating_point/command"
    )

    def begun_again():
        stamps = [m.header.stamp.sec + 1e-9 * m.header.stamp.nanosec for _, m in audience.frames]
        return any(later < earlier for earlier, later in itertools.pairwise(stamps)) and audience.latched

    spin_until(begun_again, "the second round, with the latched command")
    player.send_signal(signal.SIGINT)
    output, _ = player.communicate(timeout=STOP_TIMEOUT)
    assert player.returncode == 0 and "Traceback" not in output
    assert audience.latched[0].sequence == 5 and not audience.reports


def write_latched(maker: BagMaker, path: Path) -> Path:
    """A file whose commands were published latched."""
    import yaml

    writer = BagWriter(path)
    topics = set()
    endless = {"sec": 9223372036, "nsec": 854775807}
    for when, topic, kind, data in sorted(maker.messages, key=lambda message: message[0]):
        if topic not in topics:
            topics.add(topic)
            profile = {
                "history": 1,
                "depth": 1,
                "reliability": 1,
                "durability": 1 if "command" in topic else 2,
                "deadline": endless,
                "lifespan": endless,
                "liveliness": 1,
                "liveliness_lease_duration": endless,
                "avoid_ros_namespace_conventions": False,
            }
            writer.add_topic(topic, kind, yaml.safe_dump([profile]), "")
        writer.offer(topic, when, when, data)
    writer.close()
    return path


@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["--rate", "0"], "--rate is 0: expected more than 0"),
        (["--start-offset", "99"], "expected less than the bag's"),
        (["--topics", "/nothing"], "the bag has no topic '/nothing': it has"),
    ],
)
def test_a_wrong_option_is_refused_before_anything_is_played(start_command, tmp_path, arguments, fault):
    bag = make_drive(3).write_file(tmp_path / "bag")
    player = start_command("replay", bag, "--live", *arguments)
    output, _ = player.communicate(timeout=20)
    assert player.returncode == 2 and fault in output


def test_the_manager_gives_the_commands_of_a_played_bag_that_its_replay_gives(
    start_node, start_command, ros_node, spin_until, namespace, tmp_path
):
    from bundles import make_bundle, make_profile

    from dynamic_perception.replay.testing import replay_bag

    bundle = make_bundle(tmp_path / "tiny")
    model = {"model": str(bundle.folder), "profile": str(make_profile(tmp_path / "profile.yaml", bundle)), "dwell": 0.2}
    maker = make_drive(120, deadlines=((1.51, 0.020), (2.6, 0.0)))
    bag = maker.write_file(tmp_path / "bag")
    commands = []
    ros_node.create_subscription(OperatingPointCommand, "/operating_point/command", commands.append, qos.COMMAND_INPUT)
    manager = NodeProcess("resource_manager", "/", {**model, "use_sim_time": True}, {})
    try:
        spin_until(lambda: commands, "the manager")
        player = start_command(
            "replay", bag, "--live", "--topics", "inference_report", "deadline", "battery_state", "temperature"
        )
        spin_until(lambda: player.poll() is not None, "the end of the bag")
        spin_until(lambda: commands[-1].sequence >= 3, f"three commands; there are {commands}")
    finally:
        assert manager.stop() == 0
        manager.close()
    points = dict.fromkeys(
        (c.sequence, c.operating_point.subnetwork, c.operating_point.compute_element) for c in commands
    )
    replayed = replay_bag(bag, parameters=model, frames=False).result.commands
    assert [point[1:] for point in points] == [(c.subnetwork, c.compute_element) for c in replayed]
