"""Whatever arrives on a topic, over real DDS at a real process: the node goes on, answers, and is modest.

Which input topics a node has is asked of the running node, and what their fields are of the message definitions, so new
ones are covered.  After one message on each topic the node must answer a service, so that none is overtaken unread and
the messages that end or stop a node are known.  `DYNAMIC_PERCEPTION_FUZZ_SEED` repeats a run.
"""

from __future__ import annotations

import math
import os
import random
import re
import signal
import time
from array import array
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from builtin_interfaces.msg import Duration, Time
from bundles import make_bundle, make_profile
from conftest import NodeProcess
from diagnostic_msgs.msg import DiagnosticArray
from documents import documents
from dynamic_perception.msg import (
    Classification,
    InferenceReport,
    OperatingPoint,
    OperatingPointCommand,
    OperatingPointState,
    PerformanceTarget,
)
from random_messages import MessageSource, message_class, picture, png_bomb
from rcl_interfaces.srv import GetParameters
from rclpy._rclpy_pybind11 import RCLError
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import BatteryState, CompressedImage, Image, Temperature

from dynamic_perception.nodes import qos
from dynamic_perception.nodes.image_input import IMAGE_TOPICS
from dynamic_perception.nodes.image_messages import ENCODINGS

SEED = int(os.environ.get("DYNAMIC_PERCEPTION_FUZZ_SEED", "1"))
FEW, MANY = (
    {"perception": 1500, "resource_manager": 2400, "camera": 300},
    {
        "perception": 40_000,
        "resource_manager": 55_000,
        "camera": 6_000,
    },
)
ANSWER_TIMEOUT = 20.0  # [s] for the answer to a service between two messages
RECOVERY_TIMEOUT = 120.0  # [s] until sane messages have their effect: a zone that fell silent may count for a minute
MOST_LINES_PER_SECOND = 10
LONGEST_LINE = 8_000  # [byte] in the log
# What decoders and the middleware print to stderr by themselves: it does not pass the node's log, and is not counted.
OF_LIBRARIES = re.compile(
    r"Corrupt JPEG|Premature end of JPEG|Invalid JPEG|Unsupported marker|libpng |\[ERROR:0@|\[ WARN:0@|"
    r"sequence size exceeds|string data is not|>>> \[rcutils|This error state|with this new|rcutils_reset|<<<|"
    r"  'Fast CDR"
)
MOST_DIAGNOSTICS = 20_000  # [byte] in a message
WARM_UP = 0.75  # share of the samples after which memory must be flat: compressed frames begin after half of them
# A robot's nodes hear some 100 messages a second, so 1 MB an hour is 3 byte a message.  Texts and arrays
# of all sizes up to 100 kB leave holes in the allocator's arenas, which fill up for as long as they are sent, so under
# attack only what a lost text or key would take is told; afterwards, with sane messages, single pages are.
MOST_GROWTH_ATTACKED = 200.0  # [byte] a message
MOST_GROWTH_AFTERWARDS = 5.0  # [byte] a message
SANE_ROUNDS = 6_000
BOMB = 30_000  # [pixel] width and height of a picture of 2.6 MB that takes 2.7 GB when it is decoded

PARAMETERS = {
    "perception": {"engine": "onnxruntime", "command_timeout": 0.0},
    "resource_manager": {
        "dwell": 0.2,
        "most_up": 1000,
        "temperature_timeout": 2.0,
        "battery_timeout": 2.0,
        "report_timeout": 2.0,
    },
    "camera": {"source": "synthetic", "scene": "objects", "width": 64, "height": 48, "lossless": True},
}


# Sane messages, of which most of the others are made ----------------------------------------------------------------


def stamped(message: Any, seconds: float | None = None, frame_id: str = "test") -> Any:
    """The message, stamped now or as asked."""
    now = time.time() if seconds is None else seconds
    message.header.stamp = Time(sec=math.floor(now), nanosec=int(1e9 * (now % 1)))
    message.header.frame_id = frame_id
    return message


def image(draw: random.Random, encoding: str = "") -> Image:
    """A noise image of 32x32."""
    data = array("B", draw.randbytes(32 * 32 * 4))
    return stamped(Image(height=32, width=32, encoding=encoding or draw.choice(sorted(ENCODINGS)), step=96, data=data))


def compressed(draw: random.Random) -> CompressedImage:
    """A JPEG, PNG or another picture."""
    ending = draw.choice((".jpg", ".png", ".bmp", ".webp", ".ppm"))
    format = draw.choice(
        (ending[1:], f"bgr8; {ending[1:]} compressed bgr8", "16UC1; png compressed ", "rgb8; jpeg compressed bgr8")
    )
    return stamped(CompressedImage(format=format, data=array("B", picture(draw, ending))))


def point(draw: random.Random) -> OperatingPoint:
    """A point of the test's bundle."""
    return OperatingPoint(
        subnetwork=draw.choice(("33%", "66%", "100%")),
        compute_element="cpu:1",
        cpu_frequency=math.nan,
        expected_power=3.0,
    )


def report(draw: random.Random, duration: float = 0.01) -> InferenceReport:
    """The report of a frame that went well."""
    message = InferenceReport(
        sequence=draw.randrange(4),
        subnetwork="33%",
        compute_element="cpu:1",
        age_at_start=0.001,
        preprocess_duration=0.001,
        inference_duration=duration,
        postprocess_duration=0.001,
        end_to_end_duration=duration + 0.003,
        energy=0.03,
        deadline_met=True,
    )
    return stamped(message)


SANE: dict[str, Callable[[random.Random], Any]] = {
    "image": image,
    "image/compressed": compressed,
    "operating_point/command": lambda draw: stamped(
        OperatingPointCommand(sequence=draw.randrange(1000), operating_point=point(draw))
    ),
    "operating_point/state": lambda draw: stamped(
        OperatingPointState(sequence=draw.randrange(20), requested=point(draw), actual=point(draw))
    ),
    "deadline": lambda draw: Duration(nanosec=draw.randrange(10**9)),
    "target": lambda draw: stamped(PerformanceTarget(max_latency=draw.random(), min_accuracy=draw.random())),
    "battery_state": lambda draw: stamped(
        BatteryState(percentage=draw.random(), present=draw.random() < 0.5, voltage=12.0)
    ),
    "temperature": lambda draw: stamped(
        Temperature(temperature=draw.uniform(20, 90)), frame_id=draw.choice(("cpu", "gpu"))
    ),
    "inference_report": report,
}

KILLERS: dict[
    str, list[Callable[[random.Random], Any]]
] = {  # found by hand before: each ended, stopped or fooled a node
    "image": [
        lambda draw: stamped(image(draw, "rgb8"), -1),
        lambda draw: stamped(image(draw, "rgb8"), time.time() + 2),
        lambda draw: stamped(image(draw, "rgb8"), time.time() - 5),
        lambda draw: Image(height=2**32 - 1, width=2**32 - 1, encoding="rgb8", step=2**32 - 1, data=array("B", b"x")),
        lambda draw: Image(encoding="rgb8"),
    ],
    "image/compressed": [
        lambda draw: CompressedImage(format="16UC1; png compressed ", data=array("B", picture(draw, ".png"))),
        lambda draw: CompressedImage(format="png", data=array("B", png_bomb(BOMB, BOMB))),
        lambda draw: CompressedImage(format="jpeg", data=array("B", picture(draw, ".jpg")[:-100])),
        lambda draw: CompressedImage(format="jpeg"),
    ],
    "operating_point/command": [lambda draw: stamped(SANE["operating_point/command"](draw), -1)],
    "operating_point/state": [lambda draw: stamped(SANE["operating_point/state"](draw), -1)],
    "inference_report": [
        lambda draw: stamped(report(draw), -1),
        *(lambda draw, duration=duration: _lasting(draw, duration) for duration in (60.0, 1e200, 1.0, 1e200, 1.0)),
        lambda draw: _lasting(draw, math.nan),
        lambda draw: _lasting(draw, 5e-324),
    ],
    "temperature": [
        lambda draw: stamped(Temperature(temperature=92.0), frame_id="iwlwifi_1"),
        lambda draw: stamped(Temperature(temperature=149.0), frame_id="unknown"),
        lambda draw: stamped(Temperature(temperature=1e308), frame_id="x" * 1_000_000),
    ],
    "battery_state": [
        lambda draw: stamped(BatteryState(percentage=0.05, present=False)),
        lambda draw: BatteryState(percentage=1.1),
    ],
    "target": [lambda draw: PerformanceTarget(max_latency=5e-324, max_power=-1.0, objective=255)],
    "deadline": [lambda draw: Duration(sec=-(2**31)), lambda draw: Duration(sec=2**31 - 1, nanosec=2**32 - 1)],
}


def _lasting(draw: random.Random, duration: float) -> InferenceReport:
    message = report(draw)
    message.subnetwork, message.inference_duration, message.end_to_end_duration = "100%", duration, duration
    return message


# The node and what is heard of it -----------------------------------------------------------------------------------


def inputs_of(name: str) -> set[str]:
    """The topics that the README says the node hears, but for frames, which it only hears while somebody sends them.

    Only to know when all of them were discovered: those that the node really has are attacked.
    """
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in documents()["README.md"].splitlines()]
    topics = {row[2] for row in rows if len(row) == 5 and row[:2] == [name, "in"]}
    assert topics, f"the README has no inputs of {name}"
    return topics - set(IMAGE_TOPICS)


@dataclass
class Memory:
    """Resident memory over the number of messages."""

    messages: list[int] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)

    def growth(self) -> float:
        """[byte] a message after warming up: the median of the slopes between all samples (Theil and Sen)."""
        start = int(WARM_UP * len(self.messages))
        x, y = np.array(self.messages[start:], float), np.array(self.bytes[start:], float)
        first, second = np.triu_indices(len(x), 1)
        return float(np.median((y[second] - y[first]) / (x[second] - x[first])))

    def assert_below(self, most: float, when: str) -> None:
        """Fail if it grew by more [byte a message]."""
        megabytes = [round(1e-6 * value, 1) for value in self.bytes[:: len(self.bytes) // 20]]
        assert self.growth() < most, f"{self.growth():.1f} byte a message {when}, seed {SEED}: {megabytes} MB"


class Fuzzed:
    """One node under test, in a namespace of its own."""

    def __init__(self, name: str, process: NodeProcess, node, spin_until):
        self.name, self.process, self.node, self.spin_until = name, process, node, spin_until
        self.started = time.monotonic()
        self.sent, self.memory, self.round, self.diagnostics, self.sizes = 0, Memory(), [], [], []
        self._barrier = node.create_client(GetParameters, f"{name}/get_parameters")
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        spin_until(lambda: self._barrier.service_is_ready(), f"{name}'s services")
        spin_until(lambda: inputs_of(name) <= set(self.topics()), f"{name}'s input topics")
        self.publishers: dict[str, Any] = {}

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        own = [
            status for status in message.status if status.name == f"{self.node.get_namespace()}/{self.name}".lstrip("/")
        ]
        if own:
            self.diagnostics.append(own[0])
            self.sizes.append(len(serialize_message(message)))

    def topics(self) -> dict[str, type]:
        """The topics that the node hears now, without those of ROS itself."""
        prefix = f"{self.node.get_namespace()}/"
        try:
            heard = self.node.get_subscriber_names_and_types_by_node(self.name, self.node.get_namespace())
        except Exception as error:  # rclpy has no public class for "the node is not there yet"
            assert "NodeNameNonExistentError" in type(error).__name__
            return {}
        return {name.removeprefix(prefix): message_class(kinds[0]) for name, kinds in heard if name.startswith(prefix)}

    def open(self, topic: str, kind: type) -> None:
        """A publisher that reaches the node."""
        if topic not in self.publishers:
            name = self.node.resolve_topic_name(topic)
            infos = [i for i in self.node.get_subscriptions_info_by_topic(name) if i.node_name == self.name]
            durability = infos[0].qos_profile.durability if infos else qos.IMAGE.durability
            profile = QoSProfile(depth=10, reliability=qos.RESULTS.reliability, durability=durability)
            self.publishers[topic] = self.node.create_publisher(kind, topic, profile)
        self.spin_until(lambda: self.publishers[topic].get_subscription_count(), f"{self.name} on {topic}")

    def send(self, messages: dict[str, Any]) -> None:
        """One message on each topic, and wait until all of them were taken."""
        self.round.append(messages)
        del self.round[:-3]
        for topic, message in messages.items():
            # The sender's own middleware refuses bytes that are longer than any message of a bounded kind.
            with suppress(RCLError) if isinstance(message, bytes) else nullcontext():
                self.publishers[topic].publish(message)
                self.sent += 1
        self.barrier()

    def barrier(self) -> None:
        """Wait until the node answers a service; what came before was taken then."""
        for _ in range(3):  # the first response can be lost before the ends have found each other
            future = self._barrier.call_async(GetParameters.Request(names=["autostart"]))
            end = time.monotonic() + ANSWER_TIMEOUT / 3
            self.spin_until(
                lambda: future.done() or self.ended() or time.monotonic() > end,
                self.after("an answer"),
                2 * ANSWER_TIMEOUT,
            )
            if future.done():
                return
            assert not self.ended(), self.after(f"the node ended with {self.process.process.returncode}")
        pytest.fail(self.after(f"no answer within {ANSWER_TIMEOUT:g} s"))

    def ended(self) -> bool:
        return self.process.process.poll() is not None

    def after(self, what: str) -> str:
        """For a failure: what happened after which messages."""
        last = "\n".join(
            f"{topic}: {str(message)[:500]}" for messages in self.round for topic, message in messages.items()
        )
        told = f"{what}, seed {SEED}, {self.sent} messages to {self.name}"
        return f"{told}; the last ones:\n{last}\nlog:\n{self.process.output()[-3000:]}"

    def sample(self) -> None:
        """Note the memory."""
        with open(f"/proc/{self.process.process.pid}/statm") as file:
            self.memory.bytes.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE"))
        self.memory.messages.append(self.sent)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    bundle = make_bundle(folder / "tiny")
    return {"model": str(bundle.folder), "profile": str(make_profile(folder / "profile.yaml", bundle))}


@pytest.fixture
def fuzzed(start_node, ros_node, spin_until, model):
    """Start a node to be fuzzed, by its name."""

    def start(name: str) -> Fuzzed:
        of_model = {key: model[key] for key in {"perception": ["model"], "resource_manager": model}.get(name, ())}
        if name == "camera":  # it sends its first frame when somebody looks on
            ros_node.create_subscription(Image, "image", lambda message: None, qos.IMAGE)
        return Fuzzed(name, start_node(name, of_model | PARAMETERS[name]), ros_node, spin_until)

    return start


# Attack -------------------------------------------------------------------------------------------------------------


def attack(target: Fuzzed, count: int) -> None:
    """Send the known killers, then so many random messages, on all topics; pictures first raw, then compressed."""
    print(f"{target.name}: seed {SEED}, {count} messages")
    source, number = MessageSource(SEED, SANE), 0
    raw_or_not = [("image",), ("image/compressed",)] if target.name == "perception" else [()]
    for part, images in enumerate(raw_or_not, start=1):
        for topic in IMAGE_TOPICS:
            if topic not in images and topic in target.publishers:
                target.node.destroy_publisher(target.publishers.pop(topic))
        kinds = {topic: kind for topic, kind in target.topics().items() if topic not in IMAGE_TOPICS}
        kinds |= {topic: IMAGE_TOPICS[topic] for topic in images}
        for topic, kind in kinds.items():
            target.open(topic, kind)
        draw = random.Random(SEED)
        for turn in range(max(len(KILLERS.get(topic, ())) for topic in kinds)):
            target.send({topic: KILLERS[topic][turn](draw) for topic in kinds if turn < len(KILLERS.get(topic, ()))})
        end, every = count * part // len(raw_or_not), max(1, count // 200)
        sampled = target.sent
        while target.sent < end:
            target.send({topic: source.make(topic, kind, number) for topic, kind in kinds.items()})
            number += 1
            if target.sent - sampled >= every:
                sampled = target.sent
                target.sample()


def speak_sanely(target: Fuzzed, rounds: int) -> None:
    """Send so many sane messages on each topic that is open."""
    draw = random.Random(SEED)
    for turn in range(rounds):
        target.send({topic: SANE[topic](draw) for topic in target.publishers})
        if turn % (rounds // 100) == 0:
            target.sample()


def expect_answers(target: Fuzzed) -> None:
    """What a sane user would expect, after all of it."""
    {"perception": perception_answers, "resource_manager": manager_answers, "camera": camera_answers}[target.name](
        target
    )
    known = len(target.diagnostics)
    target.spin_until(lambda: len(target.diagnostics) > known + 1, target.after("diagnostics"), 5.0)


def perception_answers(target: Fuzzed) -> None:
    answers, reports, states = {}, {}, []
    node, draw = target.node, random.Random(SEED)
    node.create_subscription(
        Classification, "classification", lambda m: answers.update({m.header.stamp.nanosec: m}), qos.RESULTS
    )
    node.create_subscription(
        InferenceReport, "inference_report", lambda m: reports.update({m.header.stamp.nanosec: m}), qos.RESULTS
    )
    node.create_subscription(OperatingPointState, "operating_point/state", states.append, qos.LATCHED_STATE)
    command = stamped(OperatingPointCommand(sequence=77_777, operating_point=point(draw)))
    target.publishers["operating_point/command"].publish(command)
    target.spin_until(lambda: [s for s in states if s.sequence == 77_777], target.after("the answer to a command"))
    (state, *_) = [s for s in states if s.sequence == 77_777]
    assert state.result in (OperatingPointState.RESULT_APPLIED, OperatingPointState.RESULT_PARTIAL), target.after(
        state.message
    )
    assert state.actual.subnetwork == command.operating_point.subnetwork
    target.publishers["target"].publish(stamped(PerformanceTarget(max_latency=10.0)))
    target.barrier()
    frame = stamped(compressed(draw))
    frame.format, frame.data = "png", array("B", picture(draw, ".png"))
    target.publishers["image/compressed"].publish(frame)
    stamp = frame.header.stamp.nanosec
    target.spin_until(lambda: stamp in answers and stamp in reports, target.after("the answer to a frame"))
    assert len(answers[stamp].labels) == 3 and reports[stamp].deadline_met


def manager_answers(target: Fuzzed) -> None:
    """After sane words the choice is that of a manager that never heard the nonsense."""
    commands: list[OperatingPointCommand] = []
    target.node.create_subscription(
        OperatingPointCommand, "operating_point/command", commands.append, qos.COMMAND_INPUT
    )

    def sanely(deadline: float) -> None:
        """A word of everything: no heat, a full battery, frames as profiled."""
        publish = target.publishers
        publish["target"].publish(stamped(PerformanceTarget(max_latency=deadline)))
        publish["temperature"].publish(stamped(Temperature(temperature=45.0), frame_id="cpu"))
        publish["battery_state"].publish(stamped(BatteryState(percentage=0.9, present=True)))
        if commands:
            chosen = commands[-1].operating_point
            message = report(random.Random(SEED), chosen.expected_latency)
            message.sequence, message.subnetwork = commands[-1].sequence, chosen.subnetwork
            message.compute_element = chosen.compute_element
            rank, threads = round(int(chosen.subnetwork.rstrip("%")) / 33.3), int(chosen.compute_element[-1])
            message.inference_duration = rank * {1: 0.010, 2: 0.006}[threads]
            message.end_to_end_duration = message.inference_duration + 0.001
            publish["inference_report"].publish(message)

    def settles(deadline: float, subnetwork: str) -> None:
        told = [0.0]

        def chosen() -> bool:
            if time.monotonic() - told[0] > 0.03:
                told[0] = time.monotonic()
                sanely(deadline)
            return bool(commands) and commands[-1].operating_point.subnetwork == subnetwork and commands[-1].feasible

        try:
            target.spin_until(chosen, f"'{subnetwork}'", RECOVERY_TIMEOUT)
        except pytest.fail.Exception:
            shown = {pair.key: pair.value[:300] for pair in target.diagnostics[-1].values[:20]}
            pytest.fail(target.after(f"'{subnetwork}' was not chosen, but {commands[-1:]}; {shown}"))

    settles(10.0, "100%")
    settles(0.012, "33%")
    assert math.isfinite(commands[-1].operating_point.expected_latency)


def camera_answers(target: Fuzzed) -> None:
    """The next frame comes after the report of the last one."""
    frames: list[Image] = []
    target.node.create_subscription(Image, "image", frames.append, qos.IMAGE)
    for _ in range(3):
        known = len(frames)
        target.spin_until(lambda: len(frames) > known, target.after("the next frame"))
        target.publishers["inference_report"].publish(InferenceReport(header=frames[-1].header))


def expect_modesty(target: Fuzzed) -> None:
    """Little is said, and what is said is no defect's trace."""
    seconds = time.monotonic() - target.started
    # Not with `splitlines`, which also splits at marks that no terminal takes for an end of line.
    lines = [line for line in target.process.output().split("\n") if line and not OF_LIBRARIES.match(line)]
    assert max(target.sizes) < MOST_DIAGNOSTICS, f"diagnostics of {max(target.sizes)} byte"
    assert len(lines) < 30 + MOST_LINES_PER_SECOND * seconds, f"{len(lines)} lines in {seconds:.0f} s: {lines[-20:]}"
    assert max(map(len, lines)) < LONGEST_LINE, max(lines, key=len)[:1000]
    traces = [number for number, line in enumerate(lines) if line.startswith("Traceback")]
    assert not traces, "\n".join(lines[traces[0] - 2 : traces[0] + 40])


def check(target: Fuzzed, count: int) -> None:
    attack(target, count)
    attacked, target.memory = target.memory, Memory()
    expect_answers(target)
    expect_modesty(target)
    if count == MANY[target.name]:
        attacked.assert_below(MOST_GROWTH_ATTACKED, "under attack")
        speak_sanely(target, SANE_ROUNDS)
        target.memory.assert_below(MOST_GROWTH_AFTERWARDS, "afterwards")
    assert target.process.stop(signal.SIGINT) == 0, target.process.output()[-3000:]


@pytest.mark.parametrize("name", FEW)
def test_a_node_goes_on_and_answers_after_messages_that_nobody_should_send(name, fuzzed):
    check(fuzzed(name), FEW[name])


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", MANY)
def test_a_node_goes_on_answers_and_does_not_grow_with_many_such_messages(name, fuzzed):
    check(fuzzed(name), MANY[name])


def test_every_field_type_of_every_input_has_random_values_and_a_seed_repeats_them():
    kinds = {topic: type(make(random.Random(1))) for topic, make in SANE.items()}
    for topic, kind in kinds.items():
        first, second = ([MessageSource(seed, {}).make(topic, kind, n) for n in range(50)] for seed in (1, 1))
        # Of serialized messages the length alone: what stands in the gaps between the fields is nobody's.
        told = [[len(m) if isinstance(m, bytes) else str(m) for m in messages] for messages in (first, second)]
        assert told[0] == told[1]
        whole = [m for m in first if not isinstance(m, bytes)]
        for name in kind.get_fields_and_field_types():
            assert len({str(getattr(m, name)) for m in whole}) > 1, f"{topic}.{name} never differs"
