"""A client of the perception node: sends frames and commands, and keeps what comes back."""

import math
from array import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray
from dynamic_perception.msg import (
    Classification,
    InferenceReport,
    OperatingPoint,
    OperatingPointCommand,
    OperatingPointState,
)
from sensor_msgs.msg import Image

from dynamic_perception.nodes import qos


class PerceptionClient:
    """Everything around the perception node, in the test's process.

    Args:
        node, spin_until: the fixtures `ros_node` and `spin_until`.
        topic, kind: where the answers are published.
    """

    def __init__(self, node, spin_until, topic: str = "classification", kind: type = Classification):
        self.node, self.spin_until = node, spin_until
        self.answers, self.reports, self.states, self.diagnostics = {}, {}, [], []
        self.images = node.create_publisher(Image, "image", qos.IMAGE)
        self.commands = node.create_publisher(OperatingPointCommand, "operating_point/command", qos.LATCHED_COMMAND)
        self.deadlines = node.create_publisher(Duration, "deadline", qos.USER_INPUT)
        node.create_subscription(kind, topic, lambda m: self.answers.update({stamp_of(m): m}), qos.RESULTS)
        node.create_subscription(
            InferenceReport, "inference_report", lambda m: self.reports.update({stamp_of(m): m}), qos.RESULTS
        )
        node.create_subscription(OperatingPointState, "operating_point/state", self.states.append, qos.LATCHED_STATE)
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        self.stamps = 0

    def _on_diagnostics(self, message):
        self.diagnostics += [s for s in message.status if s.name.startswith(self.node.get_namespace().lstrip("/"))]

    def diagnosed(self, key: str, value: str) -> bool:
        """Whether diagnostics ever had a value that contains `value` under a key that begins with `key`."""
        return any(v.key.startswith(key) and value in v.value for s in self.diagnostics for v in s.values)

    def connect(self) -> "PerceptionClient":
        self.spin_until(
            lambda: (
                self.images.get_subscription_count()
                and self.commands.get_subscription_count()
                and self.deadlines.get_subscription_count()
                and self.states
            ),
            "the perception node to be active",
        )
        return self

    def send(self, image: np.ndarray, **fields) -> int:
        """Send an RGB image and return its stamp."""
        self.stamps += 1
        height, width = image.shape[:2]
        message = Image(height=height, width=width, encoding="rgb8", step=3 * width, data=array("B", image.tobytes()))
        message.header.stamp = Time(sec=self.stamps)
        message.header.frame_id = "test_camera"
        for name, value in fields.items():
            setattr(message, name, value)
        self.images.publish(message)
        return self.stamps

    def ask(self, image: np.ndarray):
        """Send an image and wait for its answer and report."""
        stamp = self.send(image)
        self.spin_until(lambda: stamp in self.answers and stamp in self.reports, f"the answer to frame {stamp}")
        return self.answers[stamp]

    def command(self, sequence: int, **point) -> OperatingPointState:
        """Send a command and wait for the state that answers it."""
        numbers = {"cpu_frequency": math.nan, "gpu_frequency": math.nan, "expected_power": 6.0}
        command = OperatingPointCommand(sequence=sequence, operating_point=OperatingPoint(**{**numbers, **point}))
        command.header.stamp = self.node.get_clock().now().to_msg()
        self.commands.publish(command)
        self.spin_until(lambda: self.state(sequence), f"the state that answers command {sequence}")
        return self.state(sequence)

    def state(self, sequence: int) -> OperatingPointState | None:
        return next((s for s in reversed(self.states) if s.sequence == sequence), None)


def stamp_of(message) -> int:
    return message.header.stamp.sec
