"""The perception node: camera frames in, answers out, at the operating point that was commanded.

The way of a frame: `_on_image` keeps the newest -> `_work` (the one thread that owns the engine) -> `_process`:
decode, scale, run, answer, report.  The way of a command: `_on_command` keeps the newest -> `_work` -> `_apply`,
always between two frames -> `operating_point/state`.  A point that is not ready is built in the background, and its
command waits in `_waiting` while frames go on at the old one.
"""

from __future__ import annotations

import math
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from builtin_interfaces.msg import Duration as DurationMessage
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CompressedImage, Image

from dynamic_perception.engines.engine import Engine, NotReady
from dynamic_perception.engines.selection import AUTO, DEFAULT, open_engine, runs_on_gpus
from dynamic_perception.hardware.compute_element import (
    ComputeElement,
    discover_elements,
    find_element,
    platform_fingerprint,
)
from dynamic_perception.msg import (
    InferenceReport,
    OperatingPoint,
    OperatingPointCommand,
    OperatingPointState,
    PerformanceTarget,
)
from dynamic_perception.networks.bundle import find_bundle, read_bundle
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.classification_output import ClassificationOutput
from dynamic_perception.nodes.commanded_clocks import CommandedClocks
from dynamic_perception.nodes.companions import Companions, PartnersNetwork
from dynamic_perception.nodes.failed_points import FailedPoints
from dynamic_perception.nodes.frame_age import FrameAges
from dynamic_perception.nodes.image_input import ImageInput
from dynamic_perception.nodes.image_messages import ImageRefused, prepare_frame
from dynamic_perception.nodes.managed_node import ManagedNode, run
from dynamic_perception.nodes.segmentation_output import SegmentationOutput
from dynamic_perception.nodes.stamps import seconds
from dynamic_perception.profiling.table_choice import measured_engine

PUBLISHER_POLL_PERIOD = 0.2  # [s] how soon a new image publisher is noticed
STATE_PERIOD = 1.0  # [s] between repeated states
NO_FRAMES_AFTER = 2.0  # [s] without a frame before diagnostics say so
OUTPUTS = {"classification": ClassificationOutput, "segmentation": SegmentationOutput}  # by the bundle's task


@dataclass(frozen=True)
class PointInForce:
    """What the engine runs now, and what to say of it."""

    subnetwork: str
    element: ComputeElement
    command: OperatingPointCommand = field(default_factory=OperatingPointCommand)  # of number 0: none yet
    power: float = math.nan  # [W] as expected by the command


@dataclass(frozen=True)
class WaitingCommand:
    """A command whose point is being built; `future` ends when it is."""

    command: OperatingPointCommand
    subnetwork: str
    element: ComputeElement
    future: Future


class PerceptionNode(ManagedNode):
    """Runs a dynamic DNN on the newest camera frame at the newest operating point."""

    def __init__(self) -> None:
        super().__init__("perception")
        self._engine: Engine | None = None
        self._clocks: CommandedClocks | None = None
        self._worker: threading.Thread | None = None
        self._changed = threading.Condition()  # guards the fields from here to _answered
        self._frame: Image | CompressedImage | None = None
        self._arrived = -math.inf  # [s] when `_frame` did, steady time
        self._command: OperatingPointCommand | None = None
        self._skipped = 0
        self._stopping = False
        self._answered: tuple[int, int, int] | None = None  # the newest command that was or is being answered
        self._waiting: WaitingCommand | None = None
        self._failed = FailedPoints()
        self._output: ClassificationOutput | SegmentationOutput | None = None
        self._publishers: list[Any] = []
        self._images: ImageInput | None = None
        self._inputs: list[Any] = []
        self._timers_active: list[Any] = []

    # Lifecycle -------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        self._bundle = read_bundle(find_bundle(self.value("model")))
        sysfs = Path(self.value("sysfs_root"))
        self._elements = {element.name: element for element in discover_elements(sysfs, gpus=runs_on_gpus())}
        self._engine = open_engine(self._engine_name(), self._bundle, self.value("engine.memory_budget"))
        self._start = self._point("start_subnetwork", "start_element", largest=True)
        self._fallback = self._point("fallback_subnetwork", "fallback_element", largest=False)
        names = [subnetwork.name for subnetwork in self._engine.subnetworks]
        self._engine.keep(self._fallback.subnetwork, self._fallback.element)
        self._engine.make_ready(self._start.subnetwork, self._start.element, self.value("warm_up_runs"))
        elements = sorted(self._elements.values(), key=lambda element: element != self._start.element)
        failures = self._engine.prepare(names, elements, self.value("warm_up_runs"))
        for (name, element), error in failures.items():
            self.get_logger().warning(f"'{name}' on '{element}' is not ready: {error}")
        self._clocks = CommandedClocks(self.value, self._elements.values())
        self._output = OUTPUTS[self._bundle.task](self, self._bundle)
        self._reports = self.create_publisher(InferenceReport, "inference_report", qos.RESULTS)
        self._states = self.create_publisher(OperatingPointState, "operating_point/state", qos.LATCHED_STATE)
        self._publishers = [self._reports, self._states]
        self.get_logger().info(
            f"model {self._bundle.name}: {', '.join(names)} on {', '.join(self._elements)}, engine "
            f"{self._engine.name} {self._engine.version}"
        )

    def activate(self) -> None:
        for line in self._clocks.open():  # a killed owner's clocks are put back first
            self.get_logger().warning(f"clocks: {line}")
        self._deadline = self.value("deadline")
        self._in_force = self._start
        self._last_command = time.monotonic()
        self._fell_back = False
        self._frames, self._misses, self._last_frame, self._ages = 0, 0, -math.inf, FrameAges()
        self._refused, self._last_refused, self._refusal = 0, -math.inf, ""
        self._frame, self._command, self._skipped, self._stopping, self._answered = None, None, 0, False, None
        self._waiting, self._failed, self._switched = None, FailedPoints(), False
        self._engine.make_ready(self._start.subnetwork, self._start.element)  # it may have been dropped meanwhile
        self._partner = PartnersNetwork(
            self._bundle.name,
            self._bundle.weights_sha256,
            lambda theirs, own: f"the manager decides over {theirs}, perception runs {own}",
        )
        self._state = self._make_state(
            OperatingPointState.RESULT_APPLIED, "start point", OperatingPoint(), math.nan, self._start.command
        )
        self._worker = self.start_thread("inference", self._work, lambda: self._stopping)
        self._inputs = [
            self.create_subscription(
                OperatingPointCommand, "operating_point/command", self._on_command, qos.COMMAND_INPUT
            ),
            self.create_subscription(DurationMessage, "deadline", self._on_deadline, qos.USER_INPUT),
            self.create_subscription(PerformanceTarget, "target", self._on_target, qos.USER_INPUT),
        ]
        self._companions = Companions(
            self, {"operating_point/command": "managers", "operating_point/state": "perception nodes"}
        )
        self._images = ImageInput(self, self._on_image, self.value("image_reliability"))
        self._timers_active = [
            self.create_timer(PUBLISHER_POLL_PERIOD, self._images.follow_publishers, clock=self.steady_clock),
            self.create_timer(STATE_PERIOD, self._repeat_state, clock=self.steady_clock),
        ]
        self._images.follow_publishers()
        self._states.publish(self._state)

    def deactivate(self) -> None:
        for timer in self._timers_active:
            self.destroy_timer(timer)
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        if self._images is not None:
            self._images.destroy()
            self._companions.destroy()
        self._timers_active, self._inputs, self._images = [], [], None
        if self._worker is not None:
            with self._changed:
                self._stopping = True
                self._changed.notify()
            self._worker.join()
            self._worker = None
        for fault in self._clocks.restore() if self._clocks is not None else ():
            self.get_logger().error(f"clocks: {fault}")

    def cleanup(self) -> None:
        self._clocks = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        if self._output is not None:
            self._output.destroy()
            self._output = None
        for publisher in self._publishers:
            self.destroy_publisher(publisher)
        self._publishers = []

    def _engine_name(self) -> str:
        """The engine that is asked for; for "auto" the one that was the fastest here."""
        asked = self.value("engine")
        if asked != AUTO:
            return asked
        try:
            return measured_engine(self._bundle, platform_fingerprint())
        except (OSError, ValueError) as error:
            self.get_logger().warning(f"engine {DEFAULT}, because the profile cannot be read: {error}")
            return DEFAULT

    def _point(self, subnetwork_parameter: str, element_parameter: str, largest: bool) -> PointInForce:
        subnetworks = self._engine.subnetworks
        name = self.value(subnetwork_parameter) or subnetworks[-1 if largest else 0].name
        first_cluster = next(iter(self._elements.values())).cluster
        default = [element for element in self._elements.values() if element.cluster == first_cluster][-1]
        element = self.value(element_parameter) or self.value("start_element") or default.name
        return PointInForce(self._bundle.subnetwork(name).name, find_element(self._elements.values(), element))

    # Input: executor thread, which only stores ------------------------------------------------------------------

    def _on_image(self, message: Image | CompressedImage) -> None:
        with self._changed:
            self._skipped += self._frame is not None
            self._frame, self._arrived = message, time.monotonic()
            self._changed.notify()

    def _on_command(self, message: OperatingPointCommand) -> None:
        self._partner.heard(message.model, message.weights_sha256)
        with self._changed:
            superseded, self._command = self._command, message
            unanswered = superseded is not None and _identity(superseded) not in (_identity(message), self._answered)
            self._changed.notify()
        if unanswered:
            self._supersede(superseded, message)

    def _supersede(self, superseded: OperatingPointCommand, by: OperatingPointCommand) -> None:
        text = f"replaced by command {by.sequence} before it took effect"
        self._states.publish(
            self._make_state(
                OperatingPointState.RESULT_SUPERSEDED, text, superseded.operating_point, math.nan, superseded
            )
        )

    def _on_deadline(self, message: DurationMessage) -> None:
        self._set_deadline(message.sec + 1e-9 * message.nanosec, "deadline")

    def _on_target(self, message: PerformanceTarget) -> None:
        self._set_deadline(message.max_latency, "target.max_latency")

    def _set_deadline(self, seconds: float, name: str) -> None:
        if seconds < 0 or math.isinf(seconds):
            self.report_fault(
                name,
                f"{name} is {seconds} s: expected a positive time, or 0 for none; {self._deadline} s stays in force",
            )
        else:
            self._deadline = 0.0 if math.isnan(seconds) else seconds

    def parameters_changed(self, parameters: list) -> None:
        for parameter in parameters:
            if parameter.name == "deadline":
                self._deadline = parameter.value

    # The worker thread: the only one that touches the engine and the clocks -------------------------------------

    def _work(self) -> None:
        self._activate_point(self._start)
        self._answered = None  # after an exception the repeated command is one to apply, not only a sign of life
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, self._until_fallback())
                if self._stopping:
                    return
                frame, command, skipped, arrived = self._frame, self._command, self._skipped, self._arrived
                self._frame, self._command = None, None
                if frame is not None:
                    self._skipped = 0
                # The manager repeats its command every second: a sign of life, nothing to apply again,
                # unless the fallback point was taken meanwhile.
                repeated = command is not None and _identity(command) == self._answered and not self._fell_back
                if command is not None:
                    self._answered = _identity(command)
            try:
                if command is not None:
                    self._last_command, self._fell_back = time.monotonic(), False
                if command is not None and not repeated:
                    self._apply(command)
                elif repeated:
                    self._check_clocks()
                if self._waiting is not None and self._waiting.future.done():
                    self._apply_waiting()
                elif self._until_fallback() == 0.0:
                    self._fall_back()
                if frame is not None:
                    self._process(frame, arrived, skipped)
                elif self._switched and self._frame is None:
                    self._refresh()
            except ImageRefused as refusal:
                self._refused, self._last_refused, self._refusal = self._refused + 1, time.monotonic(), str(refusal)
                self.report_fault(f"image {refusal.kind}", f"frame refused: {refusal}")
            except Exception as error:
                self.report_exception("processing", error)

    def _has_work(self) -> bool:
        waiting = self._waiting
        return (
            self._stopping
            or self._frame is not None
            or self._command is not None
            or (waiting is not None and waiting.future.done())
        )

    def _until_fallback(self) -> float | None:
        """Time [s] until commands count as lost; None for never."""
        timeout = self.value("command_timeout")
        if timeout == 0 or self._fell_back:
            return None
        return max(0.0, self._last_command + timeout - time.monotonic())

    def _activate_point(self, point: PointInForce) -> None:
        self._engine.activate(point.subnetwork, point.element)
        self._in_force, self._switched = point, True

    def _refresh(self) -> None:
        """Use the time until the next frame to bring the new point's weights into the caches."""
        self._switched = False
        with suppress(Exception):  # if it fails, so will the next frame, which knows what to do
            self._engine.refresh()

    def _apply(self, command: OperatingPointCommand) -> None:
        """Bring a command into force, as soon as its point is ready, and answer it; a wrong one changes nothing."""
        if self._waiting is not None:
            superseded, self._waiting = self._waiting.command, None
            self._supersede(superseded, command)
        requested = command.operating_point
        if not self._partner.heard(command.model, command.weights_sha256):
            return self._reject(command, self._partner.fault)
        try:
            subnetwork = self._bundle.subnetwork(requested.subnetwork or self._in_force.subnetwork).name
            element = find_element(self._elements.values(), requested.compute_element or self._in_force.element.name)
        except ValueError as error:
            return self._reject(command, str(error))
        why_not = self._failed.why_not((subnetwork, element.name))
        if why_not:
            return self._reject(command, f"'{subnetwork}' on '{element.name}': {why_not}")
        self._switch(command, subnetwork, element)

    def _switch(self, command: OperatingPointCommand, subnetwork: str, element: ComputeElement) -> None:
        """Now if the point is ready, else as soon as it is."""
        try:
            self._bring_into_force(command, subnetwork, element)
        except NotReady:
            future = self._engine.request(subnetwork, element)
            self._waiting = WaitingCommand(command, subnetwork, element, future)
            future.add_done_callback(self._on_ready)

    def _on_ready(self, _: Future) -> None:
        with self._changed:
            self._changed.notify()

    def _apply_waiting(self) -> None:
        """The point of the waiting command was built, or could not be."""
        waiting, self._waiting = self._waiting, None
        error = waiting.future.exception()
        if error is None:
            self._switch(waiting.command, waiting.subnetwork, waiting.element)
        else:
            self._failed.add((waiting.subnetwork, waiting.element.name), error)
            self._reject(waiting.command, f"'{waiting.subnetwork}' on '{waiting.element.name}' failed: {error}")

    def _bring_into_force(self, command: OperatingPointCommand, subnetwork: str, element: ComputeElement) -> None:
        started, requested = time.monotonic(), command.operating_point
        left = self._in_force.element
        self._activate_point(PointInForce(subnetwork, element, command, requested.expected_power))
        if left.cpus != element.cpus:
            self._clocks.leave(left)
        message = self._clocks.set(element, requested.cpu_frequency, requested.gpu_frequency)
        result = OperatingPointState.RESULT_PARTIAL if message else OperatingPointState.RESULT_APPLIED
        if message:
            self.report_fault("clock", f"command {command.sequence} applied in part: {message}")
        self._answer(result, message, requested, time.monotonic() - started, command)

    def _check_clocks(self) -> None:
        """With every repeated command: a clock that was lost, with its helper or to somebody else, is said and set."""
        message, state = self._clocks.check(), self._state
        if message is None or state.result not in (
            OperatingPointState.RESULT_APPLIED,
            OperatingPointState.RESULT_PARTIAL,
        ):
            return
        result = OperatingPointState.RESULT_PARTIAL if message else OperatingPointState.RESULT_APPLIED
        if (result, message) != (state.result, state.message):
            if message:
                self.report_fault("clock", f"command {state.sequence} is in force in part: {message}")
            self._answer(result, message, state.requested, math.nan, self._in_force.command)

    def _reject(self, command: OperatingPointCommand, why: str) -> None:
        self.report_fault("command", f"command {command.sequence} rejected: {why}")
        self._answer(OperatingPointState.RESULT_REJECTED, why, command.operating_point, math.nan, command)

    def _leave_failed_point(self, error: Exception) -> None:
        """The engine failed at the point in force: go on at the fallback point, and say so."""
        failed = self._in_force
        pause = self._failed.add((failed.subnetwork, failed.element.name), error)
        self._engine.drop(failed.subnetwork, failed.element)
        self._clocks.leave(failed.element)
        self._activate_point(replace(self._fallback, command=failed.command))
        text = (
            f"'{failed.subnetwork}' on '{failed.element.name}' failed: {error}; fallback point; tried again when "
            f"it is commanded after {pause:g} s"
        )
        self.report_fault("engine", text)
        requested = OperatingPoint(subnetwork=failed.subnetwork, compute_element=failed.element.name)
        self._answer(OperatingPointState.RESULT_REJECTED, text, requested, math.nan, failed.command)

    def _fall_back(self) -> None:
        self._fell_back = True
        self._clocks.leave(self._in_force.element)
        self._activate_point(replace(self._fallback, command=self._in_force.command))
        text = f"no command for {self.value('command_timeout'):g} s: fallback point"
        self.report_fault("command timeout", text)
        self._answer(OperatingPointState.RESULT_APPLIED, text, OperatingPoint(), math.nan, self._in_force.command)

    def _process(self, message: Image | CompressedImage, arrived: float, skipped: int) -> None:
        """One frame, from message to answer and report."""
        started, deadline = time.monotonic(), self._deadline
        age, point, self._switched = self._age(message, started - arrived, deadline), self._in_force, False
        frame = prepare_frame(
            message,
            self._bundle.input_size(point.subnetwork),
            whole=self._output.draws,
            most_pixels=self.value("image_pixel_limit"),
        )
        prepared = time.monotonic()
        try:
            answer = self._engine.run(frame.image)
        except Exception as error:  # every library has exceptions of its own
            if (point.subnetwork, point.element) == (self._fallback.subnetwork, self._fallback.element):
                raise
            self._leave_failed_point(error)
            return self._process(message, arrived, skipped)
        inferred = time.monotonic()
        cpu_frequency, gpu_frequency = self._clocks.actual(point.element)
        self._failed.forget((point.subnetwork, point.element.name))
        self._output.publish(message.header, answer, frame.size, frame.pixels, frame.to_rgb)
        ended = time.monotonic()
        end_to_end = age + ended - started
        met = deadline == 0 or end_to_end <= deadline
        self._reports.publish(
            InferenceReport(
                header=message.header,
                sequence=point.command.sequence,
                subnetwork=point.subnetwork,
                compute_element=point.element.name,
                age_at_start=age,
                preprocess_duration=prepared - started,
                inference_duration=inferred - prepared,
                postprocess_duration=ended - inferred,
                end_to_end_duration=end_to_end,
                energy=point.power * (inferred - prepared),
                deadline_met=met,
                skipped_frames=skipped,
                cpu_frequency=cpu_frequency,
                gpu_frequency=gpu_frequency,
                deadline=deadline or math.nan,
            )
        )
        self._frames += 1
        self._misses += not met
        self._last_frame = ended

    def _age(self, message: Image | CompressedImage, waited: float, deadline: float) -> float:
        """ROS time [s] since the frame was stamped, or steady time since it arrived where its stamp cannot be."""
        now = 1e-9 * self.get_clock().now().nanoseconds
        age, news = self._ages.take(seconds(message.header.stamp), now, waited, deadline), self._ages.news()
        if news is not None and news.kind:
            self.report_fault(f"frame stamps {news.kind}", news.text)
        elif news is not None:
            self.get_logger().info("stamps of frames are plausible again: the deadline counts from them")
        return age

    # State -------------------------------------------------------------------------------------------------------

    def _answer(
        self, result: int, message: str, requested: OperatingPoint, duration: float, command: OperatingPointCommand
    ) -> None:
        self._state = self._make_state(result, message, requested, duration, command)
        self._states.publish(self._state)

    def _make_state(
        self, result: int, message: str, requested: OperatingPoint, duration: float, command: OperatingPointCommand
    ) -> OperatingPointState:
        point = self._in_force
        cpu_frequency, gpu_frequency = self._clocks.actual(point.element)
        state = OperatingPointState(
            sequence=command.sequence,
            command_stamp=command.header.stamp,
            result=result,
            message=message,
            model=self._bundle.name,
            weights_sha256=self._bundle.weights_sha256,
            requested=requested,
            switch_duration=duration,
            actual=OperatingPoint(
                subnetwork=point.subnetwork,
                compute_element=point.element.name,
                cpu_frequency=cpu_frequency,
                gpu_frequency=gpu_frequency,
                expected_latency=math.nan,
                expected_power=point.power,
                expected_energy=math.nan,
                expected_accuracy=self._bundle.subnetwork(point.subnetwork).accuracy,
            ),
        )
        state.header.stamp = self.get_clock().now().to_msg()
        return state

    def _repeat_state(self) -> None:
        state = self._state
        point = self._in_force
        state.actual.cpu_frequency, state.actual.gpu_frequency = self._clocks.actual(point.element)
        state.header.stamp = self.get_clock().now().to_msg()
        self._states.publish(state)

    def diagnose(self) -> tuple[bytes, str, dict[str, Any]]:
        images = self._images.describe()
        values = {
            "model": self._bundle.name,
            "subnetwork": self._in_force.subnetwork,
            "compute_element": self._in_force.element.name,
            "engine": f"{self._engine.name} {self._engine.version}",
            "engine memory [MB]": round(1e-6 * self._engine.held_bytes, 1),
            "failed points": self._failed,
            "frames": self._frames,
            "frames refused": self._refused,
            "deadline misses": self._misses,
            "deadline [s]": self._deadline or "none",
            "frame stamps": self._ages.state.text or "plausible",
        }
        values |= images
        faults = "; ".join(filter(None, [self._partner.fault, self._companions.fault]))
        if faults:
            return DiagnosticStatus.ERROR, faults, values
        now = time.monotonic()
        if now - self._last_frame > NO_FRAMES_AFTER >= now - self._last_refused:
            return DiagnosticStatus.WARN, f"every frame is refused, {self._refused} so far: {self._refusal}", values
        if now - self._last_frame > NO_FRAMES_AFTER:
            text = "; ".join(f"'{self.resolve_topic_name(topic)}': {images[topic]}" for topic in images)
            return DiagnosticStatus.WARN, f"no frames: {text}", values
        if self._fell_back:
            return DiagnosticStatus.WARN, self._state.message, values
        if self._ages.state.kind:
            return DiagnosticStatus.WARN, self._ages.state.text, values
        return DiagnosticStatus.OK, f"{self._in_force.subnetwork} on {self._in_force.element.name}", values


def _identity(command: OperatingPointCommand) -> tuple[int, int, int]:
    """Tells a new command from a repeated one, also when a restarted manager counts from one again."""
    return command.sequence, command.header.stamp.sec, command.header.stamp.nanosec


def main() -> None:
    """Run the node until it is stopped."""
    run(PerceptionNode)
