"""Bags for tests: made-up drives and runs, written by the `rosbags` library as `ros2 bag record` would have."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

DEFINITIONS = Path(__file__).parents[1] / "msg"
OWN = "dynamic_perception/msg/"
START = 1_700_000_000_000_000_000  # [ns]
SECOND = 10**9


def make_store(changed: Mapping[str, str] | None = None) -> Any:
    """Every type of ROS 2 and of this package; `changed`: message name -> another definition text."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    own: dict[str, Any] = {}
    for path in sorted(DEFINITIONS.glob("*.msg")):
        own |= get_types_from_msg((changed or {}).get(path.stem) or path.read_text(), f"{OWN}{path.stem}")
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

    def new(self, kind: str, stamp: float | None = None, frame_id: str = "", **values: Any) -> Any:
        """A message, for example new("sensor_msgs/msg/Temperature", ...); what is not given is 0, NaN or empty.

        Args:
            stamp: [s] after the start, of its header.
            frame_id: of its header.
        """
        if stamp is not None:
            values["header"] = self.header(stamp, frame_id)
        fields = dict(self.store.fielddefs[kind][1])
        return self.store.types[kind](
            **{name: values[name] if name in values else self._empty(*field) for name, field in fields.items()}
        )

    def header(self, time: float, frame_id: str = "") -> Any:
        """A header with a stamp `time` [s] after the start."""
        seconds, rest = divmod(START + round(time * SECOND), SECOND)
        stamp = self.new("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)
        return self.store.types["std_msgs/msg/Header"](stamp, frame_id)

    def add(self, time: float, topic: str, message: Any) -> None:
        """Add a message that was recorded `time` [s] after the start."""
        kind = message.__msgtype__
        data = bytes(self.store.serialize_cdr(message, kind))
        self.messages.append((START + round(time * SECOND), topic, kind, data))

    def add_frame(self, time: float, pixels: np.ndarray, topic: str = "/image", encoding: str = "bgr8") -> None:
        """Add an image, uint8 [H, W] or [H, W, C]."""
        height, width = pixels.shape[:2]
        self.add(
            time,
            topic,
            self.new(
                "sensor_msgs/msg/Image",
                stamp=time,
                frame_id="camera",
                height=height,
                width=width,
                encoding=encoding,
                step=pixels.size // height,
                data=np.ascontiguousarray(pixels).reshape(-1),
            ),
        )

    def add_report(
        self,
        time: float,
        subnetwork: str,
        element: str,
        inference: float,
        overhead: float = 2e-3,
        met: bool = True,
        topic: str = "/inference_report",
        **more: Any,
    ) -> None:
        """Add an inference report."""
        self.add(
            time,
            topic,
            self.new(
                f"{OWN}InferenceReport",
                stamp=time,
                subnetwork=subnetwork,
                compute_element=element,
                inference_duration=inference,
                end_to_end_duration=inference + overhead,
                deadline_met=met,
                **more,
            ),
        )

    def add_deadline(self, time: float, seconds: float) -> None:
        """Add a deadline."""
        self.add(time, "/deadline", self.new("builtin_interfaces/msg/Duration", sec=0, nanosec=round(seconds * SECOND)))

    def add_battery(self, time: float, percentage: float) -> None:
        """Add a state of charge."""
        self.add(time, "/battery_state", self.new("sensor_msgs/msg/BatteryState", percentage=percentage, present=True))

    def add_temperature(self, time: float, celsius: float, zone: str = "soc") -> None:
        """Add a temperature."""
        self.add(
            time,
            "/temperature",
            self.new("sensor_msgs/msg/Temperature", stamp=time, frame_id=zone, temperature=celsius),
        )

    def add_command(self, time: float, sequence: int, subnetwork: str, element: str) -> None:
        """Add a recorded command."""
        point = self.new(f"{OWN}OperatingPoint", subnetwork=subnetwork, compute_element=element, cpu_frequency=0.0)
        self.add(
            time,
            "/operating_point/command",
            self.new(
                f"{OWN}OperatingPointCommand", stamp=time, sequence=sequence, operating_point=point, feasible=True
            ),
        )

    def add_state(self, time: float, sequence: int, result: int, **more: Any) -> None:
        """Add a recorded answer to a command."""
        self.add(
            time,
            "/operating_point/state",
            self.new(f"{OWN}OperatingPointState", stamp=time, sequence=sequence, result=result, **more),
        )

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
        (of_element, described), count = detail
        if of_element.name != "BASE" or described[0] == "string":
            return []
        return np.zeros(count if kind.name == "ARRAY" else 0, described[0])


def noise(seed: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """A random frame, uint8 [H, W, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def make_drive(
    frames: int = 60,
    rate: float = 30.0,
    deadlines: Iterable[tuple[float, float]] = ((0.51, 0.020), (1.2, 0.0)),
    changed: Mapping[str, str] | None = None,
) -> BagMaker:
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


def write_run(
    folder: Path,
    prefix: str = "/",
    frames: int = 60,
    with_images: bool = False,
    more: Callable[[BagMaker], None] = lambda bag: None,
) -> Path:
    """Six seconds: 10 frames a second, of which every tenth is late; the subnetwork changes at 3 s; a bag's folder."""
    bag = BagMaker()
    bag.add_deadline(0.0, 0.020)
    _add_commands(bag, prefix)
    for number in range(frames):
        stamp, late = 0.1 * number + 0.05, number % 10 == 9
        latency = 0.03 if late else 0.01
        if with_images:
            bag.add_frame(stamp, np.full((6, 8, 3), number, np.uint8), "/camera/image_raw", "rgb8")
            bag.add(
                stamp + latency,
                f"{prefix}classification",
                bag.new(f"{OWN}Classification", stamp, labels=["ship"], scores=np.array([0.5], np.float32)),
            )
        bag.add(
            stamp + latency,
            f"{prefix}inference_report",
            bag.new(
                f"{OWN}InferenceReport",
                stamp,
                sequence=1 + (stamp >= 3.0),
                subnetwork="100%" if stamp < 3.0 else "25%",
                compute_element="cpu:2",
                age_at_start=0.001,
                preprocess_duration=0.001,
                inference_duration=latency / 2,
                postprocess_duration=0.001,
                end_to_end_duration=latency,
                deadline_met=not late,
                skipped_frames=int(late),
            ),
        )
        bag.add_temperature(stamp, 50.0 + number, "modelled_soc")
        bag.add(stamp, "/power", bag.new(f"{OWN}Power", stamp, "VDD_CPU", power=2.5))
    more(bag)
    return bag.write(folder)


def _add_commands(bag: BagMaker, prefix: str) -> None:
    """100% from the start, 25% from 3 s on; each command is repeated, and answered once."""
    points = [
        bag.new(
            f"{OWN}OperatingPoint",
            subnetwork=name,
            compute_element="cpu:2",
            cpu_frequency=clock,
            expected_accuracy=accuracy,
        )
        for name, clock, accuracy in (("100%", 1.4e9, 0.85), ("25%", 8e8, 0.78))
    ]
    for number, (time, reason) in enumerate([(0.0, 0), (3.0, 3)], start=1):
        point = points[number - 1]
        command = bag.new(
            f"{OWN}OperatingPointCommand",
            time,
            sequence=number,
            operating_point=point,
            reason=reason,
            feasible=number == 1,
            detail="hot" if number == 2 else "start",
        )
        for repeated in (0.0, 1.0):
            bag.add(time + repeated, f"{prefix}operating_point/command", command)
        bag.add(
            time + 0.002,
            f"{prefix}operating_point/state",
            bag.new(
                f"{OWN}OperatingPointState",
                time + 0.001,
                sequence=number,
                requested=point,
                actual=point,
                switch_duration=1e-3,
            ),
        )
