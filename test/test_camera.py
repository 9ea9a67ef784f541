"""The camera node as a real process, seen by a subscriber over DDS, and its sources and pace alone."""

import os
import signal
import time
from collections import deque
from pathlib import Path

import cv2
import numpy as np
import pytest
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from dynamic_perception.msg import InferenceReport
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from rclpy.time import Time
from sensor_msgs.msg import Image

from dynamic_perception.nodes import camera, image_sources, qos
from dynamic_perception.nodes.camera import Pace
from dynamic_perception.nodes.image_messages import decode_image
from dynamic_perception.nodes.image_sources import ImageSource, UnreadableImage, find_images, open_source
from dynamic_perception.scenes.road_scene import RoadScene
from dynamic_perception.training.images import IMAGE_ENDINGS

SIZE = 24  # [pixel]
DRAWN = {"source": "synthetic", "scene": "objects", "width": 64, "height": 48}  # starts sooner than a road


def write_images(folder: Path, number: int, start: int = 0) -> list[Path]:
    """Write images whose grey level is their number, and give their paths in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{start + index:04d}.png" for index in range(number)]
    for index, path in enumerate(paths):
        cv2.imwrite(str(path), np.full((SIZE, SIZE, 3), start + index, np.uint8))
    return paths


def write_video(path: Path, number: int) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 25, (64, 48))
    for index in range(number):
        writer.write(np.full((48, 64, 3), 20 * index, np.uint8))
    writer.release()
    return path


class Viewer:
    """Receives frames, and, if it `answers`, sends a report for each but the one that it is `deaf_to`."""

    def __init__(self, node, answers: bool = False, deaf_to: int | None = None):
        self.messages: list[Image] = []
        self._answers, self._deaf_to = answers, deaf_to
        # Unlimited, so that every frame the camera sends is seen: what is tested is what it sends.
        node.create_subscription(Image, "image", self._on_image, 1000)
        self._reports = node.create_publisher(InferenceReport, "inference_report", qos.RESULTS) if answers else None

    def _on_image(self, message: Image) -> None:
        self.messages.append(message)
        if self._answers and len(self.messages) - 1 != self._deaf_to:
            self._reports.publish(InferenceReport(header=message.header))

    def levels(self) -> list[int]:
        """The number that each frame shows."""
        return [int(decode_image(message)[0][0, 0, 0]) for message in self.messages]

    def stamps(self) -> list[int]:
        return [Time.from_msg(message.header.stamp).nanoseconds for message in self.messages]


class Diagnostics:
    """The newest diagnostics of the camera in this namespace."""

    def __init__(self, node):
        self.message, self.values, self.level = "", {}, b""
        self._name = f"{node.get_namespace()}/camera".lstrip("/")
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)

    def _on_diagnostics(self, array: DiagnosticArray) -> None:
        for status in array.status:
            if status.name == self._name:
                self.message, self.level = status.message, status.level
                self.values = {pair.key: pair.value for pair in status.values}


def test_a_folder_is_sent_in_order_of_paths_and_again_with_loop(tmp_path, start_node, ros_node, spin_until):
    write_images(tmp_path / "b", 2, start=10)
    write_images(tmp_path / "a", 3)
    viewer = Viewer(ros_node)
    start_node("camera", {"source": str(tmp_path), "frame_rate": 50.0, "frame_id": "front"})
    spin_until(lambda: len(viewer.messages) >= 12, "12 frames")
    cycle = deque([0, 1, 2, 10, 11])
    cycle.rotate(-cycle.index(viewer.levels()[0]))  # the first frames may pass before the subscriber is found
    assert viewer.levels()[:10] == [*cycle] * 2
    first = viewer.messages[0]
    assert (first.encoding, first.width, first.height, first.header.frame_id) == ("bgr8", SIZE, SIZE, "front")


def test_stamps_are_the_time_of_capture(start_node, ros_node, spin_until):
    viewer = Viewer(ros_node)
    before = ros_node.get_clock().now().nanoseconds
    start_node("camera", DRAWN)
    spin_until(lambda: len(viewer.messages) >= 3, "3 frames")
    stamps = viewer.stamps()
    assert stamps == sorted(set(stamps))
    assert before < stamps[0] and stamps[-1] < ros_node.get_clock().now().nanoseconds


def test_without_loop_it_says_when_the_source_has_ended(tmp_path, start_node, ros_node, spin_until):
    write_images(tmp_path, 4)
    diagnostics = Diagnostics(ros_node)
    start_node("camera", {"source": str(tmp_path), "frame_rate": 0.0, "loop": False})
    spin_until(lambda: diagnostics.message == "finished after 4 frames", "the end in diagnostics")
    assert diagnostics.values["frames"] == "4"


def test_lossless_sends_every_frame_once_and_waits_for_each_report(tmp_path, start_node, ros_node, spin_until):
    write_images(tmp_path, 200)
    viewer, diagnostics = Viewer(ros_node, answers=True), Diagnostics(ros_node)
    start_node("camera", {"source": str(tmp_path), "loop": False, "lossless": True, "frame_rate": 1.0})
    spin_until(lambda: diagnostics.message == "finished after 200 frames", "the end in diagnostics")
    assert viewer.levels() == list(range(200))
    assert viewer.stamps() == sorted(set(viewer.stamps()))
    assert diagnostics.values["faults: resent"] == "0"


def test_lossless_sends_a_frame_again_when_its_report_stays_away(tmp_path, start_node, ros_node, spin_until):
    write_images(tmp_path, 3)
    viewer, diagnostics = Viewer(ros_node, answers=True, deaf_to=2), Diagnostics(ros_node)
    start_node("camera", {"source": str(tmp_path), "loop": False, "lossless": True})
    spin_until(lambda: diagnostics.message.startswith("finished"), "the end in diagnostics")
    assert viewer.levels() == [0, 1, 2, 2]  # not even the last frame may be lost
    assert viewer.stamps() == sorted(set(viewer.stamps()))
    assert diagnostics.values["faults: resent"] == "1" and diagnostics.values["frames"] == "3"


def test_lossless_waits_for_somebody_who_reports(tmp_path, start_node, ros_node, spin_until):
    write_images(tmp_path, 3)
    silent, diagnostics = Viewer(ros_node), Diagnostics(ros_node)
    start_node("camera", {"source": str(tmp_path), "lossless": True, "loop": False})
    spin_until(lambda: diagnostics.values.get("subscribers") == "1", "the viewer to be found")
    assert not silent.messages and diagnostics.message.startswith("waiting for a subscriber of image and a publisher")
    answering = Viewer(ros_node, answers=True)
    spin_until(lambda: len(answering.messages) == 3, "every frame")


def test_a_broken_image_is_skipped_named_and_counted(tmp_path, start_node, ros_node, spin_until):
    paths = write_images(tmp_path, 4)
    paths[1].write_bytes(b"no image")
    paths[2].write_bytes(b"")
    viewer, diagnostics = Viewer(ros_node, answers=True), Diagnostics(ros_node)
    node = start_node("camera", {"source": str(tmp_path), "loop": False, "lossless": True})
    spin_until(lambda: "finished after 2 frames" in node.output(), "the end of the folder")
    spin_until(lambda: diagnostics.values.get("frames") == "2", "diagnostics")
    assert viewer.levels() == [0, 3]
    assert diagnostics.values["faults: unreadable image"] == "2"
    node.wait_for_output(f"{paths[1]} is not an image that OpenCV can read and is skipped")


def test_a_folder_of_broken_images_ends_instead_of_looping(tmp_path, start_node, ros_node, spin_until):
    (tmp_path / "a.png").write_bytes(b"no image")
    diagnostics = Diagnostics(ros_node)
    node = start_node("camera", {"source": str(tmp_path), "loop": True})
    node.wait_for_output("finished after 0 frames")
    spin_until(lambda: diagnostics.values.get("faults: unreadable image") == "1", "the fault in diagnostics")


def test_the_frame_rate_can_be_changed_while_it_runs(start_node, ros_node, spin_until, call_service):
    viewer = Viewer(ros_node)
    start_node("camera", {**DRAWN, "frame_rate": 0.01})
    change = Parameter("frame_rate", value=100.0).to_parameter_msg()
    answer = call_service(SetParameters, "camera/set_parameters", SetParameters.Request(parameters=[change]))
    assert answer.results[0].successful
    spin_until(lambda: len(viewer.messages) > 20, "frames at the new rate, not after 100 s")


def test_a_video_is_sent_frame_by_frame(tmp_path, start_node, ros_node, spin_until):
    video = write_video(tmp_path / "clip.avi", 8)
    viewer = Viewer(ros_node, answers=True)
    node = start_node("camera", {"source": str(video), "lossless": True, "loop": False})
    spin_until(lambda: "finished after 8 frames" in node.output(), "the end of the video")
    assert np.allclose(viewer.levels(), 20 * np.arange(8), atol=6)  # the video is compressed


@pytest.mark.parametrize(
    "source, text",
    [
        ("/nowhere/to/be/found", "source '/nowhere/to/be/found' does not exist: expected auto, synthetic"),
        ("", "source '' does not exist"),
        ("{folder}", "holds no images: known endings are .bmp"),
        ("{folder}/text.txt", "is not a video that OpenCV can read"),
        ("/dev/null", "/dev/null gives no frames: expected a V4L2 camera"),
    ],
)
def test_a_wrong_source_ends_the_node_with_one_clear_sentence(tmp_path, start_node, source, text):
    (tmp_path / "text.txt").write_text("no video")
    node = start_node("camera", {"source": source.format(folder=tmp_path)})
    assert node.process.wait(20) == 1
    assert text in node.output() and "Traceback" not in node.output()
    assert node.output().count("configure failed") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_while_frames_flow(start_node, ros_node, spin_until, number):
    viewer = Viewer(ros_node)
    node = start_node("camera", DRAWN)
    spin_until(lambda: viewer.messages, "a frame")
    assert node.stop(number) == 0
    assert "Traceback" not in node.output() and "terminate called" not in node.output()


def test_the_truth_of_a_road_has_the_stamp_and_the_pixels_of_its_frame(start_node, ros_node, spin_until):
    viewer, truths = Viewer(ros_node, answers=True), {}
    ros_node.create_subscription(
        Image, "truth", lambda message: truths.update({Time.from_msg(message.header.stamp).nanoseconds: message}), 1000
    )
    start_node("camera", {"source": "synthetic", "width": 96, "height": 72, "lossless": True, "seed": 4})
    spin_until(lambda: len(truths) >= 3, "3 labelled frames")
    scene = RoadScene(96, 72, seed=4)
    for index, (stamp, image) in enumerate(zip(viewer.stamps(), viewer.messages)):
        if stamp in truths:
            assert truths[stamp].encoding == "mono8" and truths[stamp].header == image.header
            assert np.array_equal(decode_image(truths[stamp])[0], scene.truth(index))
            assert np.array_equal(decode_image(image)[0], scene.frame(index))


def test_nothing_but_a_road_has_a_truth(tmp_path):
    folder = write_images(tmp_path, 1)[0].parent
    for source in (open_source("synthetic", 64, 48, 30.0, 1, "objects"), open_source(str(folder), 64, 48, 30.0, 1)):
        assert source.grab() and not source.labelled and source.truth() is None


def test_a_road_passes_as_fast_at_a_lower_rate():
    slow, fast = (open_source("synthetic", 64, 48, rate, 1, "road") for rate in (10.0, 30.0))
    for source, frames in ((slow, 3), (fast, 7)):
        assert all(source.grab() for _ in range(frames))
    assert np.array_equal(slow.retrieve(), fast.retrieve()) and np.array_equal(slow.truth(), fast.truth())


def test_a_signal_ends_it_while_it_waits(start_node, ros_node, spin_until):
    diagnostics = Diagnostics(ros_node)
    node = start_node("camera", {**DRAWN, "lossless": True})
    spin_until(lambda: diagnostics.message.startswith("waiting for"), "it to wait")
    assert node.stop(signal.SIGINT) == 0
    assert "Traceback" not in node.output() and "terminate called" not in node.output()


@pytest.mark.skipif(any(Path("/dev").glob("video*")), reason="this machine has a camera")
def test_auto_says_that_it_found_no_camera(start_node, ros_node, spin_until):
    diagnostics = Diagnostics(ros_node)
    node = start_node("camera", {"width": 64, "height": 48})
    expected = "synthetic road, 64 x 48, because no V4L2 device gives frames"
    spin_until(lambda: diagnostics.values.get("source") == expected, f"'{expected}' in diagnostics")
    node.wait_for_output(expected)


class Camera(ImageSource):
    """A live source that stops giving frames after the third until it is opened again, as if it had been unplugged."""

    name, live = "camera", True

    def __init__(self):
        self._taken = 0

    def grab(self) -> bool:
        time.sleep(0.01)  # a device makes its reader wait for the next frame
        self._taken += 1
        return self._taken <= 3

    def retrieve(self) -> np.ndarray:
        return np.full((SIZE, SIZE, 3), self._taken, np.uint8)

    def rewind(self) -> None:
        self._taken = 0


def test_a_device_that_stops_is_opened_again(monkeypatch, namespace, ros_node, spin_until):
    monkeypatch.setattr(camera, "open_source", lambda *_: Camera())
    monkeypatch.setattr(camera, "REOPEN_PERIOD", 0.05)
    viewer = Viewer(ros_node)
    rclpy.init(
        args=["--ros-args", "-r", f"__ns:={namespace}", "-p", "frame_rate:=0.0"],
        signal_handler_options=SignalHandlerOptions.NO,
    )
    node = camera.CameraNode()
    try:
        node.trigger_configure()
        node.trigger_activate()
        spin_until(lambda: len(viewer.messages) >= 10, "frames after the device was opened again")
    finally:
        node.release()
        faults = node.fault_counts["device"]
        node.destroy_node()
        rclpy.try_shutdown()
    assert set(viewer.levels()) == {1, 2, 3} and faults >= 2


def test_after_the_end_it_begins_again_when_it_is_activated_again(tmp_path, start_node, spin_until, change_state):
    write_images(tmp_path, 3)
    node = start_node("camera", {"source": str(tmp_path), "loop": False, "frame_rate": 0.0})
    again = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_ACTIVATE)
    anew = (
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
        Transition.TRANSITION_CONFIGURE,
        Transition.TRANSITION_ACTIVATE,
    )
    for rounds, transitions in enumerate(((), again, anew), start=1):
        for number in transitions:
            assert change_state("camera", number)
        spin_until(lambda: node.output().count("finished after 3 frames") == rounds, f"the end of round {rounds}")


def test_frames_do_not_drift_when_single_ones_are_late():
    pace, now, taken = Pace(), 100.0, []
    for index in range(50):
        now += max(0.0, pace.time_left(10.0, now)) + (0.04 if index % 3 else 0.0)  # every third wakes up in time
        pace.take(10.0, now)
        taken.append(now)
    assert np.abs(np.array(taken) - (100.0 + 0.1 * np.arange(50))).max() < 0.05


def test_after_a_long_stop_no_frames_are_sent_in_a_burst():
    pace = Pace()
    pace.take(10.0, 5.0)
    pace.take(10.0, 9.0)  # 3.9 s late
    assert pace.time_left(10.0, 9.0) == pytest.approx(0.1)


@pytest.mark.parametrize("rate, taken", [(0.0, 300), (60.0, 300), (30.0, 300), (15.0, 150), (10.0, 100), (1.0, 10)])
def test_of_live_frames_as_many_are_taken_as_wanted(rate, taken):
    pace, jitter = Pace(), np.random.default_rng(1).uniform(-0.004, 0.004, 300)
    assert sum(pace.take_live(rate, index / 30 + jitter[index], 30.0) for index in range(300)) == taken


def test_rate_0_never_waits():
    pace = Pace()
    pace.take(0.0, 5.0)
    assert pace.time_left(0.0, 5.0) <= 0


def test_images_are_found_in_the_order_in_which_they_are_evaluated(tmp_path):
    later, first = write_images(tmp_path / "test" / "dog", 2), write_images(tmp_path / "test" / "cat", 2)
    (tmp_path / "test" / "cat" / "notes.txt").write_text("no image")
    assert find_images(tmp_path) == first + later
    assert image_sources.IMAGE_ENDINGS == IMAGE_ENDINGS


def test_a_single_image_is_a_source(tmp_path):
    source = open_source(str(write_images(tmp_path, 1, start=9)[0]), 64, 48, 0.0, 1)
    assert source.grab() and (source.retrieve() == 9).all() and not source.grab()


def test_a_video_has_its_own_rate_and_can_start_again(tmp_path):
    source = open_source(str(write_video(tmp_path / "clip.avi", 3)), 64, 48, 0.0, 1)
    assert source.frame_rate == pytest.approx(25.0)
    counts = []
    for _ in range(2):
        counts.append(0)
        while source.grab():
            counts[-1] += source.retrieve().shape == (48, 64, 3)
        source.rewind()
    assert counts == [3, 3]


def test_an_image_that_vanished_is_unreadable_not_fatal(tmp_path):
    path = write_images(tmp_path, 1)[0]
    source = open_source(str(tmp_path), 64, 48, 0.0, 1)
    path.unlink()
    assert source.grab()
    with pytest.raises(UnreadableImage, match=str(path)):
        source.retrieve()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_an_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(OSError, match="closed"):
        find_images(tmp_path)
