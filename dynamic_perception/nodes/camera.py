"""The camera node: frames from a device, a video, a folder of images or a synthetic scene, stamped and published.

The way of a frame: `_read` (the one thread that touches the source) grabs it, waits for its turn and sends it.  Its
turn comes with time, or, in lossless mode, with `_on_report`, which is all that the executor's thread does.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.publisher import Publisher
from rclpy.subscription import Subscription
from rclpy.time import Time
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dynamic_perception.msg import InferenceReport
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.image_messages import to_message
from dynamic_perception.nodes.image_sources import ImageSource, UnreadableImage, open_source
from dynamic_perception.nodes.managed_node import ManagedNode, run
from dynamic_perception.nodes.stamps import nanoseconds

REPORT_TIMEOUT = 5.0  # [s] without a report the same frame is sent again
REOPEN_PERIOD = 1.0  # [s] between attempts to open a device that stopped giving frames
STANDSTILL = 10**9  # [ns] by which a clock may stand still or fall before its time is taken to be another
PEER_POLL_PERIOD = 0.05  # [s] how soon the first reader of frames and writer of reports is noticed
FAULTS = ("unreadable image", "device", "resent")
LabelledFrame = tuple[np.ndarray, np.ndarray | None]  # uint8 BGR, and the labels of its pixels (None: not known)


class Pace:
    """When frames are due, on the steady clock.

    Due times are a period apart however late a frame was, so that the rate does not drift; a frame that is late by
    more than a period starts a new count, so that none are sent in a burst to catch up.
    """

    def __init__(self) -> None:
        self._last = float("-inf")  # [s] when the last frame was due

    def time_left(self, rate: float, now: float) -> float:
        """Time [s] from `now` until the next frame is due at `rate` [Hz], 0: as fast as possible; negative: late."""
        return self._last + 1 / rate - now if rate else 0.0

    def take(self, rate: float, now: float) -> None:
        """The next frame is taken at the time `now` [s]."""
        late = -self.time_left(rate, now)
        self._last = now - late if rate and late < 1 / rate else now

    def take_live(self, rate: float, now: float, live_rate: float) -> bool:
        """Take a frame that came by itself at the time `now` [s], if it is due.

        Of frames that come at `live_rate` [Hz] (0: not known) one that is early by less than half of their period is
        due, or else jitter would cost every second one of a device that runs at just the wanted rate.
        """
        due = self.time_left(rate, now) <= (0.5 / live_rate if live_rate else 0.0)
        if due:
            self.take(rate, now)
        return due


class CameraNode(ManagedNode):
    """Publishes frames."""

    def __init__(self) -> None:
        super().__init__("camera")
        # From the beginning, because the reader's thread counts faults while diagnostics walk over them.
        self.fault_counts.update(dict.fromkeys(FAULTS, 0))
        self._source: ImageSource | None = None
        self._images: Publisher | None = None
        self._truths: Publisher | None = None
        self._reports: Subscription | None = None
        self._reader: threading.Thread | None = None
        self._turn = threading.Condition()  # guards the two fields below
        self._stopping = False
        self._awaited: int | None = None  # [ns] stamp of the frame that was sent and not reported yet

    # Lifecycle -------------------------------------------------------------------------------------------------

    def configure(self) -> None:
        self._source = open_source(
            self.value("source"),
            self.value("width"),
            self.value("height"),
            self.value("frame_rate"),
            self.value("seed"),
            self.value("scene"),
        )
        self.get_logger().info(f"source: {self._source.name}")
        self._lossless = self.value("lossless")
        self._begin()
        # Before the publisher, so that whoever gets the first frame has most likely found the reader of its report.
        if self._lossless:
            self._reports = self.create_subscription(InferenceReport, "inference_report", self._on_report, qos.RESULTS)
        self._images = self.create_publisher(Image, "image", qos.IMAGE)
        if self._source.labelled:
            self._truths = self.create_publisher(Image, "truth", qos.IMAGE)

    def activate(self) -> None:
        if self._finished:
            self._source.rewind()
            self._begin()
        self._pace, self._failure = Pace(), ""
        self._stopping, self._awaited = False, None
        self._shown = (time.monotonic(), self._frames)
        self._reader = self.start_thread("reader", self._read, lambda: self._stopping)

    def deactivate(self) -> None:
        if self._reader is not None:
            with self._turn:
                self._stopping = True
                self._turn.notify()
            self._reader.join()
            self._reader = None

    def cleanup(self) -> None:
        if self._source is not None:
            self._source.close()
        for publisher in (self._images, self._truths):
            if publisher is not None:
                self.destroy_publisher(publisher)
        if self._reports is not None:
            self.destroy_subscription(self._reports)
        self._source, self._images, self._truths, self._reports = None, None, None, None

    def parameters_changed(self, parameters: list) -> None:
        with self._turn:
            self._turn.notify()  # a frame_rate that changed changes how long to wait

    def diagnose(self) -> tuple[bytes, str, dict[str, Any]]:
        now, frames = time.monotonic(), self._frames
        rate = (frames - self._shown[1]) / max(now - self._shown[0], 1e-3)
        self._shown = now, frames
        values = {
            "source": self._source.name,
            "frames": frames,
            "measured frame rate [Hz]": f"{rate:.1f}",
            "subscribers": self._images.get_subscription_count(),
            "showing": self._source.showing(),
        }
        if self._failure:
            return DiagnosticStatus.ERROR, self._failure, values
        if self._finished:
            level = DiagnosticStatus.OK if frames else DiagnosticStatus.WARN
            return level, f"finished after {frames} frames", values
        if self._lossless and not frames:
            return DiagnosticStatus.OK, "waiting for a subscriber of image and a publisher of inference_report", values
        return DiagnosticStatus.OK, f"{self._source.name}: {rate:.1f} Hz", values

    # Input: executor thread ------------------------------------------------------------------------------------

    def _on_report(self, report: InferenceReport) -> None:
        with self._turn:
            if nanoseconds(report.header.stamp) == self._awaited:
                self._awaited = None
                self._turn.notify()

    # The reader thread: the only one that touches the source while the node is active --------------------------

    def _begin(self) -> None:
        self._frames = 0  # that were read and sent
        self._frames_at_rewind = 0
        self._finished = False
        self._last_stamp = 0  # [ns]

    def _read(self) -> None:
        try:
            self._send_frames()
        except Exception as error:
            self._failure = f"reading failed, and is tried again: {error}"  # until a frame is sent
            raise

    def _send_frames(self) -> None:
        """Every frame, from source to topic."""
        with self._turn:
            self._awaited = None
        if self._lossless:
            self._wait_for_peers()
        frame = None
        while self._grab():
            captured = self.get_clock().now().nanoseconds
            if self._source.live and not self._lossless and not self._take_live():
                continue
            try:
                following = self._source.retrieve(), self._source.truth()
            except UnreadableImage as error:
                self.report_fault("unreadable image", str(error))
                continue
            if not self._wait_for_turn(frame):
                return
            frame = following
            self._send(frame, captured if self._source.live else self.get_clock().now().nanoseconds)
            self._frames, self._failure = self._frames + 1, ""
        if not self._stopping and self._wait_for_turn(frame):
            self._finished = True
            self.get_logger().info(f"finished after {self._frames} frames")

    def _grab(self) -> bool:
        """Go to the next frame, beginning again if wanted; False: the end, or the node stops."""
        while not self._stopping:
            if self._source.grab():
                return True
            if self._source.live:
                self._reopen()
            elif self.value("loop") and self._frames > self._frames_at_rewind:
                self._source.rewind()
                self._frames_at_rewind = self._frames
            else:
                return False
        return False

    def _reopen(self) -> None:
        self.report_fault("device", f"{self._source.name} gives no frames; it is opened again")
        with self._turn:
            self._turn.wait_for(lambda: self._stopping, REOPEN_PERIOD)
        try:
            self._source.rewind()
        except OSError as error:
            self.report_fault("device", str(error))

    def _take_live(self) -> bool:
        return self._pace.take_live(self.value("frame_rate"), time.monotonic(), self._source.frame_rate)

    def _wait_for_turn(self, last: LabelledFrame | None) -> bool:
        """Wait until the next frame may be sent, after `last` (None: it is the first); False: the node stops."""
        if self._lossless:
            return self._wait_for_report(last)
        if self._source.live:
            return True
        with self._turn:
            while not self._stopping:
                now, rate = time.monotonic(), self.value("frame_rate") or self._source.frame_rate
                left = self._pace.time_left(rate, now)
                if left <= 0:
                    self._pace.take(rate, now)
                    return True
                self._turn.wait(left)
        return False

    def _wait_for_report(self, last: LabelledFrame | None) -> bool:
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._stopping or self._awaited is None, REPORT_TIMEOUT)
                if self._stopping or self._awaited is None:
                    return not self._stopping
            self.report_fault(
                "resent", f"no inference_report for frame {self._frames} within {REPORT_TIMEOUT:g} s: it is sent again"
            )
            self._send(last, self.get_clock().now().nanoseconds)

    def _wait_for_peers(self) -> None:
        """Until the first frame will be seen and its report heard."""
        while not (self._images.get_subscription_count() and self.count_publishers(self._reports.topic_name)):
            if self._stopping:
                return
            with self._turn:
                self._turn.wait_for(lambda: self._stopping, PEER_POLL_PERIOD)

    def _send(self, frame: LabelledFrame, stamp: int) -> None:
        """Publish `frame`, and its labels if somebody wants them, with the ROS time `stamp` [ns]."""
        image, truth = frame
        if self._lossless:
            if 0 <= self._last_stamp - stamp < STANDSTILL:  # a report is told from the others by its stamp alone
                stamp = self._last_stamp + 1
            with self._turn:
                self._awaited = self._last_stamp = stamp
        header = Header(stamp=Time(nanoseconds=stamp).to_msg(), frame_id=self.value("frame_id"))
        self._images.publish(to_message(image, "bgr8", header))
        if truth is not None and self._truths.get_subscription_count():
            self._truths.publish(to_message(truth, "mono8", header))


def main() -> None:
    run(CameraNode)
