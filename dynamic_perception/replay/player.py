"""A bag over DDS, with /clock, for machines without `ros2 bag`.

Messages go out as they lie in the bag; only those of this package that an older version recorded are written anew.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Collection, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock

from dynamic_perception.documents import parse_yaml
from dynamic_perception.replay.bag import Bag
from dynamic_perception.replay.mcap_file import RawMessage
from dynamic_perception.report.progress import progress_bar

CLOCK = "/clock"
CLOCK_PERIOD = 0.02  # [s] of wall time between messages on /clock
DEPTH = 10
LAST_SENT_WITHIN = 1.0  # [s] to wait for readers to acknowledge what was sent last
OTHERS_WITHIN = 0.5  # [s] after the first reader for the others to be found
LONGEST_SLEEP = 0.1  # [s] until a signal is noticed


class Player(Node):
    """Publishes the messages of a bag."""

    def __init__(self, bag: Bag, topics: Collection[str]):
        super().__init__("player")
        self._bag = bag
        self._clock_publisher = self.create_publisher(Clock, CLOCK, DEPTH)
        self._outputs = {topic: publisher for topic in topics if (publisher := self._advertise(topic)) is not None}

    @property
    def topics(self) -> list[str]:
        """That can be published."""
        return list(self._outputs)

    def send(self, message: RawMessage) -> None:
        """Publish one message; one that cannot be read is left out, with a warning."""
        try:
            self._outputs[message.topic].publish(self._bag.decoder(message.topic).to_current(message.data))
        except ValueError as error:
            self.get_logger().warning(f"'{message.topic}': {error}", throttle_duration_sec=10.0)

    def send_clock(self, nanoseconds: int) -> None:
        """Publish the bag's time."""
        seconds, rest = divmod(nanoseconds, 10**9)
        self._clock_publisher.publish(Clock(clock=Time(sec=seconds, nanosec=rest)))

    def is_latched(self, topic: str) -> bool:
        """Whether its newest message is for readers that come later."""
        return self._outputs[topic].qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL

    def has_reader(self) -> bool:
        """Whether somebody reads one of the topics."""
        return any(publisher.get_subscription_count() for publisher in self._outputs.values())

    def wait_until_sent(self) -> None:
        """Until readers have what was sent last, but not long."""
        for publisher in self._outputs.values():
            publisher.wait_for_all_acked(rclpy.duration.Duration(seconds=LAST_SENT_WITHIN))

    def _advertise(self, topic: str) -> Publisher | None:
        stored = self._bag.topics[topic]
        try:
            self._bag.decoder(topic)  # refuses what this version cannot say
            package, _, name = stored.msgtype.split("/")
            kind = getattr(import_module(f"{package}.msg"), name)
            return self.create_publisher(kind, topic, _publisher_qos(stored.qos))
        except (ValueError, ImportError, AttributeError) as error:
            self.get_logger().error(f"'{topic}' is not published: {stored.msgtype}: {error}")
            return None


def play(
    path: Path,
    rate: float,
    start_offset: float = 0.0,
    loop: bool = False,
    topics: Sequence[str] | None = None,
    delay: float = 0.0,
) -> list[str]:
    """Play a bag to its end, or until SIGINT or SIGTERM; what of it cannot be read, in sentences.

    Args:
        path: of the bag.
        rate: times as fast as it was recorded.
        start_offset: [s] to leave out; the newest latched messages from before are sent all the same.
        loop: begin again at the end.
        topics: to publish; None: all.
        delay: [s] to wait at most until somebody reads a topic; /clock stands still meanwhile.

    Raises:
        ValueError: the bag cannot be read, or has not what is asked for.
    """
    stopping: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: stopping.append(received))
    with Bag(path) as bag:
        chosen = _choose(bag, topics)
        start = bag.start + round(1e9 * start_offset)
        if start > bag.end:
            raise ValueError(
                f"--start-offset is {start_offset:g} s: expected less than the bag's {1e-9 * (bag.end - bag.start):g} s"
            )
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        try:
            player = Player(bag, chosen)
            _wait(player, start, delay, stopping)
            while not stopping:
                _play_once(player, bag, start, rate, stopping)
                if not loop:
                    break
            player.wait_until_sent()
            player.destroy_node()
        finally:
            rclpy.try_shutdown()
        return list(dict.fromkeys(bag.lost))


def _wait(player: Player, start: int, delay: float, stopping: list[int]) -> None:
    end = time.monotonic() + delay
    found = False
    while not stopping and time.monotonic() < end:
        player.send_clock(start)
        time.sleep(CLOCK_PERIOD)
        if not found and player.has_reader():
            found, end = True, min(end, time.monotonic() + OTHERS_WITHIN)


def _play_once(player: Player, bag: Bag, start: int, rate: float, stopping: list[int]) -> None:
    """From `start` [ns] to the end of the bag."""
    began, next_clock = time.monotonic(), 0.0
    with progress_bar() as bar:
        task = bar.add_task("playing [s]", total=round(1e-9 * (bag.end - start), 1))
        for message in _from(player, bag, start):
            due = began + 1e-9 * (message.time - start) / rate
            while (now := time.monotonic()) < due or next_clock <= now:
                if stopping:
                    return
                if next_clock <= now:
                    elapsed = min(rate * (now - began), 1e-9 * (message.time - start))  # never beyond what was sent
                    player.send_clock(start + round(1e9 * elapsed))
                    next_clock = now + CLOCK_PERIOD
                    bar.update(task, completed=round(elapsed, 1))
                time.sleep(max(0.0, min(due - now, next_clock - now, LONGEST_SLEEP)))
            player.send(message)
    player.send_clock(bag.end)


def _from(player: Player, bag: Bag, start: int) -> Iterator[RawMessage]:
    """Messages from `start` [ns] on, after the newest latched ones from before."""
    latched: dict[str, RawMessage] = {}
    started = False
    for message in bag.raw_messages(player.topics):
        if message.time < start:
            if player.is_latched(message.topic):
                latched[message.topic] = message
            continue
        if not started:
            yield from (old._replace(time=start) for old in latched.values())
            started = True
        yield message


def _choose(bag: Bag, topics: Sequence[str] | None) -> list[str]:
    if topics is None:
        return [topic for topic in bag.topics if topic != CLOCK]
    chosen = ["/" + topic.lstrip("/") for topic in topics]
    missing = [topic for topic in chosen if topic not in bag.topics]
    if missing:
        raise ValueError(f"the bag has no topic '{missing[0]}': it has {', '.join(bag.topics)}")
    return chosen


def _publisher_qos(offered: str) -> QoSProfile:
    """Reliability and durability as they were offered; bags say so in numbers or, since Jazzy, in words."""
    profiles = parse_yaml(offered, "the offered QoS of a topic") if offered else None
    profile: dict[str, Any] = profiles[0] if isinstance(profiles, list) and profiles else {}
    best_effort = profile.get("reliability") in (ReliabilityPolicy.BEST_EFFORT.value, "best_effort")
    latched = profile.get("durability") in (DurabilityPolicy.TRANSIENT_LOCAL.value, "transient_local")
    return QoSProfile(
        depth=max(DEPTH, int(profile.get("depth") or 0)),
        reliability=ReliabilityPolicy.BEST_EFFORT if best_effort else ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
    )
