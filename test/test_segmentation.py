"""The perception node with a segmenter: label images of the frame's size, and an overlay only for whoever looks."""

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from bundles import TINY_SEGMENTER, make_bundle
from perception_client import PerceptionClient
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from dynamic_perception.engines.onnx_runtime import OnnxRuntimeEngine
from dynamic_perception.engines.scaling import scale_image, scale_labels
from dynamic_perception.hardware.compute_element import discover_elements
from dynamic_perception.nodes import qos
from dynamic_perception.nodes.image_messages import decode_image, to_message
from dynamic_perception.nodes.segmentation_output import SegmentationOutput, colour_table, distinct_colours

SIZE = (90, 121)  # larger than every input, of another aspect, and odd


@pytest.fixture(scope="module")
def frame() -> np.ndarray:
    """Blobs of colour, so that there is something to tell apart."""
    coarse = np.random.default_rng(3).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_CUBIC)


@pytest.fixture(scope="module")
def offline(tmp_path_factory, frame):
    """A bundle whose subnetworks answer differently, and their answers by an engine of the test's own."""
    folder = tmp_path_factory.mktemp("bundles")
    for seed in range(50):
        bundle = make_bundle(folder / f"seed{seed}", TINY_SEGMENTER, seed)
        labels = {s.name: answer(bundle, s.name, frame) for s in bundle.subnetworks}
        if all(len(np.unique(map_)) > 2 for map_ in labels.values()) and not np.array_equal(*labels.values()):
            return SimpleNamespace(bundle=bundle, labels=labels)
    pytest.fail("no random network tells anything apart")


def answer(bundle, name: str, frame: np.ndarray) -> np.ndarray:
    element = discover_elements()[0]
    engine = OnnxRuntimeEngine(bundle)
    engine.prepare([name], [element], 1)
    engine.activate(name, element)
    labels = engine.run(scale_image(frame, bundle.input_size(name)))
    engine.close()
    return scale_labels(labels, frame.shape[:2])


@pytest.fixture
def client(start_node, ros_node, spin_until, offline) -> PerceptionClient:
    node = start_node("perception", {"model": str(offline.bundle.folder), "command_timeout": 0.0})
    client = PerceptionClient(ros_node, spin_until, "segmentation", Image).connect()
    client.process = node
    return client


def pixels_of(message: Image) -> np.ndarray:
    pixels = np.frombuffer(message.data, np.uint8).reshape(message.height, message.step)
    return pixels if message.encoding == "mono8" else pixels.reshape(message.height, message.width, 3)


def test_the_label_image_is_the_engines_answer_at_the_frames_size(client, offline, frame):
    message = client.ask(frame)
    assert (message.encoding, message.height, message.width, message.step) == ("mono8", *SIZE, SIZE[1])
    assert message.header.frame_id == "test_camera"
    assert np.array_equal(pixels_of(message), offline.labels["large"])


def test_a_command_switches_to_a_subnetwork_of_another_resolution_and_back(client, offline, frame):
    for sequence, name in enumerate(("small", "large", "small"), start=1):
        client.command(sequence, subnetwork=name)
        assert np.array_equal(pixels_of(client.ask(frame)), offline.labels[name])
        assert client.reports[client.stamps].subnetwork == name


def test_frames_of_any_size_follow_each_other(client, frame):
    for size in ((24, 32), (200, 100), (48, 64), (1, 1)):
        image = np.ascontiguousarray(cv2.resize(frame, size[::-1]))
        assert pixels_of(client.ask(image)).shape == size


def test_the_overlay_is_the_frame_under_the_colours(client, offline, frame):
    overlays = []
    client.node.create_subscription(Image, "overlay", overlays.append, qos.IMAGE)
    client.spin_until(lambda: client.ask(frame) and overlays, "an overlay")
    overlay = overlays[-1]
    assert (overlay.encoding, overlay.header.frame_id) == ("bgr8", "test_camera")
    colours = np.array(offline.bundle.palette)[offline.labels["large"]]  # RGB
    expected = (frame.astype(int) + colours) / 2
    assert np.abs(pixels_of(overlay)[:, :, ::-1] - expected).max() <= 1


def test_only_the_topics_of_the_task_are_there(client, ros_node, frame):
    client.ask(frame)
    names = {
        name.rsplit("/", 1)[1]
        for name, _ in ros_node.get_publisher_names_and_types_by_node("perception", ros_node.get_namespace())
    }
    assert {"segmentation", "overlay"} <= names and "classification" not in names


def test_a_running_segmenter_has_not_loaded_torch(client, frame):
    client.ask(frame)
    maps = Path(f"/proc/{client.process.process.pid}/maps").read_text()
    assert "onnxruntime" in maps and "libtorch" not in maps


@pytest.mark.parametrize(
    "encoding, colour",
    [("rgb8", (200, 100, 40)), ("bgr8", (40, 100, 200)), ("rgba8", (200, 100, 40, 9)), ("bgra8", (40, 100, 200, 9))],
)
def test_the_overlay_has_the_frames_colours_in_any_encoding(ros_node, spin_until, offline, encoding, colour):
    output, overlays = SegmentationOutput(ros_node, offline.bundle), []
    ros_node.create_subscription(Image, "overlay", overlays.append, qos.IMAGE)
    pixels, to_rgb = decode_image(to_message(np.full((4, 6, len(colour)), colour, np.uint8), encoding, Header()))

    def drawn():
        output.publish(Header(), np.zeros((4, 6), np.uint8), (4, 6), pixels, to_rgb)
        return overlays

    spin_until(drawn, "an overlay")
    expected = (np.array((200, 100, 40)) + offline.bundle.palette[0]) / 2
    assert np.abs(pixels_of(overlays[0])[0, 0, ::-1] - expected).max() <= 1
    output.destroy()


def test_the_overlay_is_only_drawn_while_somebody_subscribes(ros_node, spin_until, offline, frame):
    output, no_code = SegmentationOutput(ros_node, offline.bundle), 10**6  # OpenCV refuses to draw with that

    def draws() -> bool:
        try:
            output.publish(Header(), offline.labels["small"], frame.shape[:2], frame, no_code)
        except cv2.error:
            return True
        return False

    assert not draws()
    subscription = ros_node.create_subscription(Image, "overlay", lambda _: None, qos.IMAGE)
    spin_until(draws, "an attempt to draw")
    ros_node.destroy_subscription(subscription)
    spin_until(lambda: not draws(), "the end of drawing")
    output.destroy()


def test_classes_without_colours_get_distinct_ones():
    colours = distinct_colours(11)
    assert len(set(colours)) == 11
    table = colour_table(colours)
    assert tuple(table[10, 0, ::-1]) == colours[10] and not table[11:].any()
