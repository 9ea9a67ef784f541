"""Bags for tests: made-up drives, written by the `rosbags` library as `ros2 bag record` would have."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Iterable, Mapping

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from dynamic_perception.replay.definitions import definition_text

OWN = ("InferenceReport", "OperatingPoint", "OperatingPointCommand", "OperatingPointState", "PerformanceTarget")
START = 1_700_000_000_000_000_000  # [ns]
SECOND = 10**9


def make_store(changed: Mapping[str, str] | None = None):
    """Types of ROS 2 and of this package; `changed`: message name -> another definition text."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    own: dict[str, Any] = {}
    for name in OWN:
        text = (changed or {}).get(name) or definition_text(f"dynamic_perception/msg/{name}").split("=" * 80)[0]
        own |= get_types_from_msg(text, f"dynamic_perception/msg/{name}")
    store.register(own)
    return store


class BagMaker:
    """Collects messages and writes them.

    Args:
        changed: message name -> another definition text, as an older version of this package had it.
    """

    def __init__(self, changed: Mapping[str, str] | None = None):
        self.store = make_store(changed)
        self.messages: list[tuple[int, str, str, bytes]] = []

    def new(self, kind: str, **values: Any) -> Any:
        """A message, for example new("sensor_msgs/msg/Temperature", ...); what is not given is 0, NaN or empty."""
        fields = dict(self.store.fielddefs[kind][1])
        return self.store.types[kind](**{
            name: values[name] if name in values else self._empty(*field) for name, field in fields.items()})

    def header(self, time: float, frame_id: str = "") -> Any:
        """A header with a stamp `time` [s] after the start."""
        seconds, rest = divmod(START + round(time * SECOND), SECOND)
        stamp = self.new("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)
        return self.new("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def add(self, time: float, topic: str, message: Any) -> None:
        """Add a message that was recorded `time` [s] after the start."""
        kind = message.__msgtype__
        data = bytes(self.store.serialize_cdr(message, kind))
        self.messages.append((START + round(time * SECOND), topic, kind, data))

    def add_frame(self, time: float, pixels: np.ndarray, topic: str = "/image", encoding: str = "bgr8") -> None:
        """Add an image, uint8 [H, W] or [H, W, C]."""
        height, width = pixels.shape[:2]
        self.add(time, topic, self.new(
            "sensor_msgs/msg/Image", header=self.header(time, "camera"), height=height, width=width, encoding=encoding,
            step=pixels.size // height, data=np.ascontiguousarray(pixels).reshape(-1)))

    def add_report(self, time: float, subnetwork: str, element: str, inference: float, overhead: float = 2e-3,
                   met: bool = True, **more: Any) -> None:
        """Add an inference report."""
        self.add(time, "/inference_report", self.new(
            "dynamic_perception/msg/InferenceReport", header=self.header(time), subnetwork=subnetwork,
            compute_element=element, inference_duration=inference, end_to_end_duration=inference + overhead,
            deadline_met=met, **more))

    def add_deadline(self, time: float, seconds: float) -> None:
        """Add a deadline."""
        self.add(time, "/deadline", self.new("builtin_interfaces/msg/Duration", sec=0, nanosec=round(seconds * SECOND)))

    def add_battery(self, time: float, percentage: float) -> None:
        """Add a state of charge."""
        self.add(time, "/battery_state", self.new("sensor_msgs/msg/BatteryState", percentage=percentage, present=True))

    def add_temperature(self, time: float, celsius: float, zone: str = "soc") -> None:
        """Add a temperature."""
        self.add(time, "/temperature", self.new("sensor_msgs/msg/Temperature", header=self.header(time, zone),
                                                temperature=celsius))

    def add_command(self, time: float, sequence: int, subnetwork: str, element: str) -> None:
        """Add a recorded command."""
        point = self.new("dynamic_perception/msg/OperatingPoint", subnetwork=subnetwork, compute_element=element,
                         cpu_frequency=0.0)
        self.add(time, "/operating_point/command", self.new(
            "dynamic_perception/msg/OperatingPointCommand", header=self.header(time), sequence=sequence,
            operating_point=point, feasible=True))

    def add_state(self, time: float, sequence: int, result: int) -> None:
        """Add a recorded answer to a command."""
        self.add(time, "/operating_point/state", self.new(
            "dynamic_perception/msg/OperatingPointState", header=self.header(time), sequence=sequence, result=result))

    def write(self, folder: Path, plugin: StoragePlugin = StoragePlugin.MCAP, **options: Any) -> Path:
        """Write a folder with metadata.yaml."""
        writer = Writer(folder, version=9, storage_plugin=plugin)
        if options.get("compression"):
            writer.set_compression(*options["compression"])
        with writer:
            connections = {}
            for time, topic, kind, data in sorted(self.messages, key=lambda message: message[0]):
                if topic not in connections:
                    connections[topic] = writer.add_connection(topic, kind, typestore=self.store)
                writer.write(connections[topic], time, data)
        return folder

    def write_file(self, folder: Path, plugin: StoragePlugin = StoragePlugin.MCAP) -> Path:
        """Write a single .mcap or .db3 file."""
        ending = ".mcap" if plugin == StoragePlugin.MCAP else ".db3"
        return next(self.write(folder, plugin).glob(f"*{ending}"))

    def _empty(self, kind: Any, detail: Any) -> Any:
        if kind.name == "NAME":
            return self.new(detail)
        if kind.name == "BASE":
            name = detail[0]
            return math.nan if name.startswith("float") else "" if name == "string" else False if name == "bool" else 0
        (_, (name, _)), count = detail
        return np.zeros(count if kind.name == "ARRAY" else 0, name)


def noise(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A random frame, uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def make_drive(frames: int = 60, rate: float = 30.0,
               deadlines: Iterable[tuple[float, float]] = ((0.51, 0.020), (1.2, 0.0)),
               changed: Mapping[str, str] | None = None) -> BagMaker:
    """Frames with reports, a deadline that gets tight and is lifted again, a falling battery, an even temperature."""
    bag = BagMaker(changed)
    for number in range(frames):
        time = number / rate
        bag.add_frame(time, noise(number))
        bag.add_report(time + 0.012, "100%", "cpu:1", 0.030 + 1e-4 * (number % 7), met=number % 10 != 0)
        if number % 30 == 0:
            bag.add_battery(time + 0.001, 0.6 - 0.001 * number)
            bag.add_temperature(time + 0.002, 45.0)
    for time, seconds in deadlines:
        bag.add_deadline(time, seconds)
    return bag
