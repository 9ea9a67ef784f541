"""The observer: sees what the nodes publish and records it, and plays the user and the missing sensors.

It is the demo's own node and runs in the demo's process.  Whoever owns it spins it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from builtin_interfaces.msg import Duration as DurationMessage
from builtin_interfaces.msg import Time as TimeMessage
from rclpy.context import Context
from rclpy.node import Node
from sensor_msgs.msg import BatteryState, Image, Temperature

from dynamic_perception.management.manager import Reason
from dynamic_perception.management.operating_points import OperatingPointTable
from dynamic_perception.management.plausible import charge_of
from dynamic_perception.msg import Classification, InferenceReport, OperatingPointCommand, OperatingPointState, Power
from dynamic_perception.networks.bundle import ModelBundle
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.image_messages import decode_image
from dynamic_perception.nodes.stamps import nanoseconds, seconds
from dynamic_perception.report.recorded_run import (
    Answer,
    Command,
    DeadlineChange,
    Frame,
    Picture,
    Reading,
    RecordedRun,
    Score,
)
from dynamic_perception.training.segmentation_score import count_confusion, mean_iou

MODELLED_ZONE = "modelled_soc"
RESULTS = {
    OperatingPointState.RESULT_APPLIED: "applied",
    OperatingPointState.RESULT_PARTIAL: "partial",
    OperatingPointState.RESULT_REJECTED: "rejected",
    OperatingPointState.RESULT_SUPERSEDED: "superseded",
}
KEPT = 30  # frames and answers that wait for their counterpart
SCORED = np.s_[::4, ::4]  # pixels that are compared with the truth: their neighbours say nearly the same


class Observer(Node):
    """Records one run.

    Args:
        context: of rclpy.
        namespace: of the observed nodes.
        run: that everything is added to; answers are compared with the camera's truth if it has an `iou_source`.
        table: gives the energy of an executed operating point.
        bundle: the network.
    """

    def __init__(
        self, context: Context, namespace: str, run: RecordedRun, table: OperatingPointTable, bundle: ModelBundle
    ):
        super().__init__("observer", namespace=namespace, context=context)
        self.recorded = run
        self.reports_heard = 0
        self.answers_compared = 0  # with the truth
        self.energy = 0.0  # [J] of all frames since the start
        self._table = table
        self._accuracies = {s.name: s.accuracy for s in bundle.subnetworks}
        self._classes = len(bundle.labels)
        self._start = math.nan  # [s] ROS time; what was before it is not recorded
        self._answered: set[tuple[int, str]] = set()
        self._commanded: set[int] = set()
        self._clocks: dict[int, float] = {}  # [Hz] commanded, then as read back, by the command's sequence
        self._truths: OrderedDict[int, np.ndarray] = OrderedDict()  # these two by stamp [ns], until they meet
        self._segmentations: OrderedDict[int, np.ndarray] = OrderedDict()
        # What makes a picture: parts of it by their names, each by stamp [ns].
        self._parts: dict[str, OrderedDict[int, Any]] = {"frame": OrderedDict(), "image": OrderedDict()}
        self._picture_topics = ["image"]
        self._picture_subscriptions: list[Any] = []
        self.create_subscription(InferenceReport, "inference_report", self._on_report, qos.RESULTS)
        if bundle.task == "classification":
            self._parts["classification"] = OrderedDict()
            self.create_subscription(Classification, "classification", self._on_classification, qos.RESULTS)
        else:
            self._parts["overlay"] = OrderedDict()
            self._picture_topics.append("overlay")
        if run.iou_source:
            self._parts["score"] = OrderedDict()
            self.create_subscription(Image, "truth", self._on_truth, qos.RESULTS)
            self.create_subscription(Image, "segmentation", self._on_segmentation, qos.RESULTS)
        self.create_subscription(OperatingPointCommand, "operating_point/command", self._on_command, qos.COMMAND_INPUT)
        self.create_subscription(OperatingPointState, "operating_point/state", self._on_state, qos.LATCHED_STATE)
        self.create_subscription(Temperature, "temperature", self._on_temperature, qos.SENSOR_DATA)
        self.create_subscription(BatteryState, "battery_state", self._on_battery, qos.SENSOR_DATA)
        self.create_subscription(Power, "power", self._on_power, qos.SENSOR_DATA)
        self._deadlines = self.create_publisher(DurationMessage, "deadline", qos.USER_INPUT)
        self._temperatures = self.create_publisher(Temperature, "temperature", qos.SENSOR_DATA)
        self._batteries = self.create_publisher(BatteryState, "battery_state", qos.SENSOR_DATA)

    # The user and the missing sensors ----------------------------------------------------------------------------

    def begin(self) -> None:
        """From now on frames are recorded; now is the time 0 of the run."""
        self._start = 1e-9 * self.get_clock().now().nanoseconds

    def deadline_readers(self) -> int:
        """How many nodes hear the deadline."""
        return self._deadlines.get_subscription_count()

    def publish_deadline(self, seconds: float) -> None:
        """Ask for this deadline, as a user would."""
        whole = math.floor(seconds)
        self._deadlines.publish(DurationMessage(sec=whole, nanosec=round(1e9 * (seconds - whole))))
        self.recorded.deadlines.append(DeadlineChange(_not_before_start(self._now()), seconds))

    def publish_temperature(self, celsius: float) -> None:
        """Stand in for a temperature sensor."""
        message = Temperature(temperature=celsius)
        message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), MODELLED_ZONE
        self._temperatures.publish(message)

    def publish_charge(self, charge: float) -> None:
        """Stand in for a battery driver."""
        message = BatteryState(percentage=charge, present=True, voltage=math.nan, current=math.nan)
        message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), MODELLED_ZONE
        message.power_supply_status = BatteryState.POWER_SUPPLY_STATUS_DISCHARGING
        self._batteries.publish(message)

    # A picture now and then ---------------------------------------------------------------------------------------

    def begin_picture(self) -> None:
        """Look at whole frames until there is one with its answer; every reader of them costs time."""
        if not self._picture_subscriptions:
            self._picture_subscriptions = [
                self.create_subscription(
                    Image,
                    topic,
                    lambda message, topic=topic: self._keep_part(topic, message.header.stamp, message),
                    qos.IMAGE,
                )
                for topic in self._picture_topics
            ]

    def end_picture(self) -> None:
        """Stop looking."""
        for subscription in self._picture_subscriptions:
            self.destroy_subscription(subscription)
        self._picture_subscriptions = []
        for topic in self._picture_topics:
            self._parts[topic].clear()

    def _on_classification(self, message: Classification) -> None:
        self._keep_part("classification", message.header.stamp, message)

    def _keep_part(self, name: str, stamp: TimeMessage, part: Any) -> None:
        _keep(self._parts[name], stamp, part)
        complete = set.intersection(*(set(parts) for parts in self._parts.values()))
        if complete:
            stamp = min(complete)
            self.recorded.pictures.append(_make_picture({name: parts[stamp] for name, parts in self._parts.items()}))
            self.end_picture()

    # How good the answers are --------------------------------------------------------------------------------------

    def _on_truth(self, message: Image) -> None:
        _keep(self._truths, message.header.stamp, decode_image(message)[0])
        self._score(message.header.stamp)

    def _on_segmentation(self, message: Image) -> None:
        _keep(self._segmentations, message.header.stamp, decode_image(message)[0])
        self._score(message.header.stamp)

    def _score(self, stamp: TimeMessage) -> None:
        key, time = nanoseconds(stamp), self._since_start(stamp)
        if key in self._truths and key in self._segmentations:
            truth, answer = self._truths.pop(key), self._segmentations.pop(key)
            self.answers_compared += 1
            if time >= 0:
                confusion = count_confusion(truth[SCORED], answer[SCORED], self._classes)
                self.recorded.scores.append(Score(time, confusion))
                self._keep_part("score", stamp, (truth, mean_iou(confusion)))

    # What the nodes publish ---------------------------------------------------------------------------------------

    def _on_report(self, report: InferenceReport) -> None:
        self.reports_heard += 1
        time = self._since_start(report.header.stamp)
        if not time >= 0:
            return
        clock = self._clocks.get(report.sequence, math.nan)
        row = self._table.find(report.subnetwork, report.compute_element, clock)
        energy = math.nan if row is None else float(self._table.energy[row])
        self.energy += 0.0 if math.isnan(energy) else energy
        frame = Frame(
            time,
            report.end_to_end_duration,
            report.inference_duration,
            report.subnetwork,
            report.compute_element,
            report.deadline_met,
            report.skipped_frames,
            energy,
            self._accuracies.get(report.subnetwork, math.nan),
            clock,
        )
        self.recorded.frames.append(frame)
        self._keep_part("frame", report.header.stamp, frame)

    def _on_command(self, message: OperatingPointCommand) -> None:
        if message.sequence in self._commanded:
            return  # it is repeated every second
        self._commanded.add(message.sequence)
        self._clocks.setdefault(message.sequence, message.operating_point.cpu_frequency)
        point, time = message.operating_point, _not_before_start(self._since_start(message.header.stamp))
        self.recorded.commands.append(
            Command(
                time,
                message.sequence,
                point.subnetwork,
                point.compute_element,
                Reason(message.reason).name.lower().replace("_", " "),
                message.feasible,
                message.detail,
                point.cpu_frequency,
                point.gpu_frequency,
            )
        )

    def _on_state(self, message: OperatingPointState) -> None:
        result = RESULTS[message.result]
        self._clocks[message.sequence] = message.actual.cpu_frequency
        if message.sequence and (message.sequence, result) not in self._answered:
            self._answered.add((message.sequence, result))
            time = _not_before_start(self._since_start(message.header.stamp))
            self.recorded.answers.append(
                Answer(
                    time,
                    message.sequence,
                    result,
                    message.message,
                    message.switch_duration,
                    message.actual.cpu_frequency,
                    message.actual.gpu_frequency,
                )
            )

    def _on_temperature(self, message: Temperature) -> None:
        self._add(self.recorded.temperatures, Reading(self._now(), message.header.frame_id, message.temperature))

    def _on_battery(self, message: BatteryState) -> None:
        value = charge_of(message.percentage) if message.present or message.percentage > 0 else math.nan
        self._add(self.recorded.charges, Reading(self._now(), message.header.frame_id, value))

    def _on_power(self, message: Power) -> None:
        self._add(self.recorded.powers, Reading(self._now(), message.header.frame_id, message.power))

    def _add(self, readings: list[Reading], reading: Reading) -> None:
        if reading.time >= 0:
            readings.append(reading)

    def _now(self) -> float:
        """[s] since the start; NaN before it."""
        return 1e-9 * self.get_clock().now().nanoseconds - self._start

    def _since_start(self, stamp: TimeMessage) -> float:
        return seconds(stamp) - self._start


def _not_before_start(time: float) -> float:
    """[s] what was said before the start (NaN or less than 0) holds from the start on."""
    return time if time > 0 else 0.0


def _keep(kept: OrderedDict[int, Any], stamp: TimeMessage, message: Any) -> None:
    kept[nanoseconds(stamp)] = message
    while len(kept) > KEPT:
        kept.popitem(last=False)


def _make_picture(parts: Mapping[str, Any]) -> Picture:
    """The picture of one frame and its answer, from what was heard of it."""
    frame, answer = parts["frame"], parts.get("classification")
    truth, iou = parts.get("score", (None, math.nan))
    return Picture(
        frame.time,
        _to_rgb(parts["image"]),
        frame.subnetwork,
        labels=tuple(answer.labels) if answer else (),
        scores=tuple(answer.scores) if answer else (),
        overlay=_to_rgb(parts["overlay"]) if "overlay" in parts else None,
        truth=truth,
        mean_iou=iou,
    )


def _to_rgb(message: Image) -> np.ndarray:
    pixels, to_rgb = decode_image(message)
    return pixels if to_rgb is None else cv2.cvtColor(pixels, to_rgb)
