"""Bags for tests: what the nodes publish, written without ROS by the package's own message definitions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Callable

import numpy as np
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

SOURCE = Path(__file__).parents[1]
START = 1_700_000_000_000_000_000  # [ns]


def make_typestore() -> Any:
    """Every message of ROS 2 and of this package."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    types: dict[str, Any] = {}
    for path in sorted((SOURCE / "msg").glob("*.msg")):
        types |= get_types_from_msg(path.read_text(), f"dynamic_perception/msg/{path.stem}")
    store.register(types)
    return store


class BagWriter:
    """Writes messages by keyword; `header` may be a stamp [s] since START, `frame_id` beside it."""

    def __init__(self, folder: Path):
        self._store = make_typestore()
        self._writer = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        self._connections: dict[str, Any] = {}
        self._writer.open()

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self._writer.close()

    def write(self, topic: str, kind: str, time: float, **values: Any) -> None:
        """A message, recorded at `time` [s] since START."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(topic, kind, typestore=self._store)
        data = self._store.serialize_cdr(self.make(kind, **values), kind)
        self._writer.write(self._connections[topic], START + round(1e9 * time), data)

    def make(self, kind: str, stamp: float | None = None, frame_id: str = "", **values: Any) -> Any:
        """A message whose other fields are zero, empty or NaN."""
        fields = {}
        for name, (node, described) in self._store.fielddefs[kind][1]:
            if name == "header":
                time = START + round(1e9 * stamp)
                of_header = self._store.types["std_msgs/msg/Header"]
                of_time = self._store.types["builtin_interfaces/msg/Time"]
                fields[name] = of_header(of_time(time // 10**9, time % 10**9), frame_id)
            elif name in values:
                fields[name] = values[name]
            else:
                fields[name] = self._default(int(node), described)
        return self._store.types[kind](**fields)

    def _default(self, node: int, described: Any) -> Any:
        if node == 1:
            name = described[0]
            return "" if name == "string" else math.nan if "float" in name else False if name == "bool" else 0
        if node == 2:
            return self.make(described)
        return np.zeros(0, np.float32) if described[0][0] == 1 and "float" in str(described[0][1]) else []


def write_run(folder: Path, prefix: str = "/", frames: int = 60, with_images: bool = False,
              more: Callable[[BagWriter], None] = lambda bag: None) -> Path:
    """Six seconds: 10 frames a second, of which every tenth is late; the subnetwork changes at 3 s; a bag's folder."""
    kind = "dynamic_perception/msg/"
    with BagWriter(folder) as bag:
        points = [bag.make(f"{kind}OperatingPoint", subnetwork=name, compute_element="cpu:2", cpu_frequency=clock,
                           gpu_frequency=math.nan, expected_accuracy=accuracy)
                  for name, clock, accuracy in (("100%", 1.4e9, 0.85), ("25%", 8e8, 0.78))]
        bag.write("/deadline", "builtin_interfaces/msg/Duration", 0.0, sec=0, nanosec=20_000_000)
        for number, (time, reason) in enumerate([(0.0, 0), (3.0, 3)], start=1):
            for repeated in (0.0, 1.0):
                bag.write(f"{prefix}operating_point/command", f"{kind}OperatingPointCommand", time + repeated,
                          stamp=time, sequence=number, operating_point=points[number - 1], reason=reason,
                          feasible=number == 1, detail="hot" if number == 2 else "start")
            bag.write(f"{prefix}operating_point/state", f"{kind}OperatingPointState", time + 0.002, stamp=time + 0.001,
                      sequence=number, result=0, message="", requested=points[number - 1], actual=points[number - 1],
                      switch_duration=1e-3)
        for number in range(frames):
            stamp, late = 0.1 * number + 0.05, number % 10 == 9
            latency = 0.03 if late else 0.01
            name = "100%" if stamp < 3.0 else "25%"
            if with_images:
                pixels = np.full((6, 8, 3), number, np.uint8)
                bag.write("/camera/image_raw", "sensor_msgs/msg/Image", stamp, stamp=stamp, height=6, width=8,
                          encoding="rgb8", is_bigendian=0, step=24, data=pixels.reshape(-1))
                bag.write(f"{prefix}classification", f"{kind}Classification", stamp + latency, stamp=stamp,
                          labels=["ship"], scores=np.array([0.5], np.float32))
            bag.write(f"{prefix}inference_report", f"{kind}InferenceReport", stamp + latency, stamp=stamp,
                      sequence=1 + (stamp >= 3.0), subnetwork=name, compute_element="cpu:2", age_at_start=0.001,
                      preprocess_duration=0.001, inference_duration=latency / 2, postprocess_duration=0.001,
                      end_to_end_duration=latency, energy=math.nan, deadline_met=not late, skipped_frames=int(late))
            bag.write("/temperature", "sensor_msgs/msg/Temperature", stamp, stamp=stamp, frame_id="modelled_soc",
                      temperature=50.0 + number, variance=0.0)
            bag.write("/power", f"{kind}Power", stamp, stamp=stamp, frame_id="VDD_CPU", power=2.5, window=0.0)
        more(bag)
    return folder
