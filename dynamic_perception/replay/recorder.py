"""The recorder: raw subscriptions, as topics appear, into a bag."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import rclpy
import yaml
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor
from rclpy.expand_topic_name import expand_topic_name
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rclpy.validate_full_topic_name import validate_full_topic_name
from rich.console import Console

from dynamic_perception.replay.bag_writer import BagWriter
from dynamic_perception.replay.definitions import DefinitionRefused

# What a replay needs: all that the resource manager hears, what it says, and the frames.
DEFAULT_TOPICS = (
    "image",
    "image/compressed",
    "inference_report",
    "operating_point/command",
    "operating_point/state",
    "battery_state",
    "temperature",
    "power",
    "deadline",
    "target",
    "classification",
)
POLL_PERIOD = 0.2  # [s] how soon a new publisher is noticed
STATUS_PERIOD = 1.0  # [s]
NICENESS = 10  # that is added: where CPUs are short, perception goes first, and the queues of DDS and writer bridge it
DEPTH = 100  # messages that may arrive while another one is taken
# [s] between two looks at what has come.  A recorder that took every message at once would do so while perception works
# on the same frame.  DDS notes when a message came.
GATHER_PERIOD = 0.02


class Recorder(Node):
    """Subscribes to topics as soon as somebody publishes them.

    Args:
        topics: names, relative ones in the node's namespace.
        writer: that gets the messages.
        namespace: of the node.

    Attributes:
        lost: messages per topic that were published and did not arrive, by the numbers that their publishers gave them.
    """

    def __init__(self, topics: Sequence[str], writer: BagWriter, namespace: str = "", **options: Any):
        super().__init__("recorder", namespace=namespace, **options)
        self._writer = writer
        self._wanted = [self.resolve_topic_name(topic) for topic in topics]
        self._recorded: dict[str, Any] = {}
        self._refused: set[str] = set()
        self._numbers: dict[tuple[str, bytes], int] = {}
        self.lost: Counter[str] = Counter()
        self._callbacks = 0  # so far
        self.follow_publishers()

    def take_all(self, executor: Executor) -> None:
        """Let the executor work until there is nothing left to do."""
        before = -1
        while self._callbacks != before:
            before = self._callbacks
            executor.spin_once(timeout_sec=0.0)

    @property
    def recorded_topics(self) -> list[str]:
        """Topics that somebody publishes."""
        return list(self._recorded)

    @property
    def missing_topics(self) -> list[str]:
        """Topics that nobody has published so far."""
        return [topic for topic in self._wanted if topic not in self._recorded]

    def follow_publishers(self) -> None:
        """Look who publishes now; to be called again and again."""
        self._callbacks += 1
        for topic in self._wanted:
            if topic not in self._recorded and topic not in self._refused:
                publishers = self.get_publishers_info_by_topic(topic)
                if publishers:
                    self._subscribe(topic, publishers)

    def _subscribe(self, topic: str, publishers: list[TopicEndpointInfo]) -> None:
        msgtype = publishers[0].topic_type
        try:
            package, _, name = msgtype.split("/")
            kind = getattr(import_module(f"{package}.msg"), name)
            self._writer.add_topic(topic, msgtype, _describe_qos(publishers), _hash_of(publishers[0]))
        except (ImportError, AttributeError, DefinitionRefused) as error:
            self._refused.add(topic)
            self.get_logger().error(f"'{topic}' is not recorded: {msgtype} is not installed here ({error})")
            return

        def on_message(data: bytes, information: Any) -> None:
            self._callbacks += 1
            self._count_lost(topic, information)
            received = information["received_timestamp"] or time.time_ns()
            self._writer.offer(topic, received, information["source_timestamp"] or received, data)

        self._recorded[topic] = self.create_subscription(kind, topic, on_message, _reader_qos(publishers), raw=True)
        self.get_logger().info(f"recording '{topic}' ({msgtype})")

    def _count_lost(self, topic: str, information: Any) -> None:
        """Gaps in the numbers of each publisher's messages; middleware that does not number them gives none."""
        number = information["publication_sequence_number"]
        publisher = information["publisher_gid"]
        if not number or publisher is None:
            return
        key = topic, bytes(publisher["data"])
        before = self._numbers.get(key, number - 1)
        self.lost[topic] += max(0, number - before - 1)
        self._numbers[key] = max(before, number)


def record(
    path: Path, topics: Sequence[str], namespace: str = "", duration: float | None = None, compression: str = "none"
) -> int:
    """Record until SIGINT, SIGTERM or the end of `duration` [s]; the exit code.

    Raises:
        ValueError, OSError: the bag cannot be written, or a name is wrong; nothing was recorded.
    """
    _check_names(topics, namespace)
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stopping.append(received))
    os.nice(NICENESS)  # before DDS starts its threads, which inherit it
    rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
    try:
        writer = BagWriter(path, compression)
        try:
            lost, missing = _record_into(writer, topics, namespace, duration, stopping)
        finally:
            writer.close()
    finally:
        rclpy.try_shutdown()
    return _report(path, writer, lost, missing)


def _check_names(topics: Sequence[str], namespace: str) -> None:
    try:
        for topic in topics:
            validate_full_topic_name(expand_topic_name(topic, "recorder", "/" + namespace.strip("/")))
    except (ValueError, rclpy.exceptions.NameValidationException) as error:
        raise ValueError(f"a topic or the namespace has no valid name: {error}") from None


def _record_into(
    writer: BagWriter, topics: Sequence[str], namespace: str, duration: float | None, stopping: list[int]
) -> tuple[Counter[str], list[str]]:
    """What was lost on the way, and which topics nobody published."""
    recorder = Recorder(topics, writer, namespace)
    executor = SingleThreadedExecutor()  # Kilted's events executor fails on raw messages with their information
    executor.add_node(recorder)
    recorder.create_timer(POLL_PERIOD, recorder.follow_publishers)
    console = Console(stderr=True)
    end = time.monotonic() + duration if duration else float("inf")
    next_status = time.monotonic()
    try:
        with console.status("recording") as status:
            while not stopping and not writer.failure and rclpy.ok() and time.monotonic() < end:
                time.sleep(min(GATHER_PERIOD, max(0.0, end - time.monotonic())))
                recorder.take_all(executor)
                if time.monotonic() >= next_status:
                    next_status += STATUS_PERIOD
                    status.update(f"recording {len(recorder.recorded_topics)} topics: {_describe_counts(writer)}")
    except ExternalShutdownException:
        pass  # the context was shut down from outside: the same end
    else:
        recorder.take_all(executor)
    finally:
        executor.shutdown()
        recorder.destroy_node()
    return recorder.lost, recorder.missing_topics


def _report(path: Path, writer: BagWriter, lost: Counter[str], missing: list[str]) -> int:
    print(f"{path}: {_describe_counts(writer)}, {1e-6 * path.stat().st_size:.1f} MB")
    for what, counts in (("dropped, because the disk was too slow", writer.dropped), ("lost on the way here", lost)):
        for topic, count in sorted((+counts).items()):
            print(f"  {topic}: {count} messages {what}")
    if missing:
        print(f"  nobody published {', '.join(missing)}")
    if writer.failure:
        print(f"error: {path} is not complete: {writer.failure}", file=sys.stderr)
        return 1
    return 0


def _describe_counts(writer: BagWriter) -> str:
    dropped = sum(writer.dropped.values())
    text = f"{sum(writer.written.values())} messages of {len(writer.written)} topics"
    return f"{text}, {dropped} dropped" if dropped else text


def _reader_qos(publishers: list[TopicEndpointInfo]) -> QoSProfile:
    """What hears all of these publishers, and of latched ones what they said before."""
    offered = [publisher.qos_profile for publisher in publishers]
    reliable = all(profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered)
    latched = all(profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for profile in offered)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=DEPTH,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )


def _describe_qos(publishers: list[TopicEndpointInfo]) -> str:
    """The offered profiles as `ros2 bag` of every release since Humble reads them."""
    return yaml.safe_dump(
        [
            {
                "history": profile.history.value,
                "depth": profile.depth,
                "reliability": profile.reliability.value,
                "durability": profile.durability.value,
                "deadline": _split(profile.deadline),
                "lifespan": _split(profile.lifespan),
                "liveliness": profile.liveliness.value,
                "liveliness_lease_duration": _split(profile.liveliness_lease_duration),
                "avoid_ros_namespace_conventions": profile.avoid_ros_namespace_conventions,
            }
            for profile in (publisher.qos_profile for publisher in publishers)
        ],
        sort_keys=False,
    )


def _split(duration: Any) -> dict[str, int]:
    return dict(zip(("sec", "nsec"), divmod(duration.nanoseconds, 10**9)))


def _hash_of(publisher: TopicEndpointInfo) -> str:
    """As text; empty where the middleware does not tell it (Humble)."""
    return str(getattr(publisher, "topic_type_hash", "") or "")
