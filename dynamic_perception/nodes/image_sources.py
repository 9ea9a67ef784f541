"""Where the camera node takes frames from: a V4L2 device, a video, a folder of images, or a synthetic scene."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from pathlib import Path

import cv2
import numpy as np

from dynamic_perception.nodes.synthetic_scene import SyntheticScene
from dynamic_perception.pictures import NoPicture, decode_picture
from dynamic_perception.scenes import road_scene

IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")
EXPECTED = "auto, synthetic, a V4L2 device such as /dev/video0 or '0', a video file, an image, or a folder of images"
# OpenCV waits 10 s for a frame by default; a node has to end, and to notice that a camera was unplugged, sooner.
DEVICE_TIMEOUT = 1  # [s]


class UnreadableImage(ValueError):
    """One frame cannot be read; those after it may."""


class ImageSource(ABC):
    """Frames one after the other: `grab` goes to the next, `retrieve` gives it.

    Attributes:
        name: what it is, for people.
        frame_rate: [Hz] its own; 0: it has none and gives frames as fast as they are taken.
        live: whether frames come when they want, and are lost if not taken.
        labelled: whether it knows the `truth` of its frames.
    """

    name: str
    frame_rate = 0.0
    live = False
    labelled = False

    @abstractmethod
    def grab(self) -> bool:
        """Go to the next frame, waiting for it if the source is live; False at the end, or if a device gives none."""

    @abstractmethod
    def retrieve(self) -> np.ndarray:
        """The frame that was grabbed, uint8 BGR [H, W, 3].

        Raises:
            UnreadableImage: it cannot be decoded; the message names it.
        """

    @abstractmethod
    def rewind(self) -> None:
        """Start again before the first frame; of a device: open it again, which may raise OSError."""

    def close(self) -> None:
        """Give devices and files back."""

    def showing(self) -> str:
        """What the grabbed frame shows, as far as the source knows; empty: it does not."""
        return ""

    def truth(self) -> np.ndarray | None:
        """The label of every pixel of the grabbed frame, uint8 [H, W]; None: the source is not `labelled`."""
        return None


class ImageFolder(ImageSource):
    """Image files, in the order given.

    Args:
        name: for people.
        paths: at least one.
    """

    def __init__(self, name: str, paths: list[Path]):
        self.name = name
        self._paths = paths
        self._position = -1

    def grab(self) -> bool:
        self._position = min(self._position + 1, len(self._paths))
        return self._position < len(self._paths)

    def retrieve(self) -> np.ndarray:
        path = self._paths[self._position]
        try:
            return decode_picture(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        except OSError as error:
            raise UnreadableImage(f"{path} cannot be read and is skipped: {error}") from error
        except NoPicture as error:
            raise UnreadableImage(f"{path} is not an image that OpenCV can read and is skipped: {error}") from error

    def rewind(self) -> None:
        self._position = -1

    def showing(self) -> str:
        return str(self._paths[self._position]) if 0 <= self._position < len(self._paths) else ""


class VideoFile(ImageSource):
    """A video file.

    Raises:
        ValueError: OpenCV cannot read it.
    """

    def __init__(self, path: Path):
        self._path = path
        self.rewind()
        self.frame_rate = max(0.0, self._capture.get(cv2.CAP_PROP_FPS))
        self.name = f"video {path} at {self.frame_rate:g} Hz"

    def grab(self) -> bool:
        return self._capture.grab()

    def retrieve(self) -> np.ndarray:
        complete, image = self._capture.retrieve()
        if not complete:
            raise UnreadableImage(f"a frame of {self._path} cannot be decoded and is skipped")
        return image

    def rewind(self) -> None:
        # Opening again works for every format; setting the position does not.
        self._capture = cv2.VideoCapture(str(self._path))
        if not self._capture.isOpened():
            raise ValueError(f"{self._path} is not a video that OpenCV can read")

    def close(self) -> None:
        self._capture.release()


class Device(ImageSource):
    """A V4L2 device, asked for a size and a rate, which it may not have.

    Raises:
        OSError: it does not open or gives no frame within `DEVICE_TIMEOUT`.
    """

    live = True

    def __init__(self, path: str, width: int, height: int, frame_rate: float):
        self._path = path
        self._wanted = {cv2.CAP_PROP_FRAME_WIDTH: width, cv2.CAP_PROP_FRAME_HEIGHT: height}
        if frame_rate > 0:
            self._wanted[cv2.CAP_PROP_FPS] = frame_rate
        os.environ.setdefault("OPENCV_VIDEOIO_V4L_SELECT_TIMEOUT", str(DEVICE_TIMEOUT))
        self._capture = cv2.VideoCapture()
        self.rewind()
        size = (int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)))
        self.frame_rate = max(0.0, self._capture.get(cv2.CAP_PROP_FPS))
        self.name = f"device {path}, {size[0]} x {size[1]} at {self.frame_rate:g} Hz"

    def grab(self) -> bool:
        return self._capture.grab()

    def retrieve(self) -> np.ndarray:
        complete, image = self._capture.retrieve()
        if not complete:
            raise UnreadableImage(f"a frame of {self._path} cannot be decoded and is skipped")
        return image

    def rewind(self) -> None:
        self._capture.release()
        if not os.access(self._path, os.R_OK | os.W_OK):
            raise OSError(f"{self._path} may not be read: is it plugged in, and is this user in the group 'video'?")
        opened = self._capture.open(self._path, cv2.CAP_V4L2)
        for key, value in self._wanted.items():
            self._capture.set(key, value)
        if not opened or not self._capture.grab():
            self._capture.release()
            raise OSError(f"{self._path} gives no frames: expected a V4L2 camera that no other program uses")

    def close(self) -> None:
        self._capture.release()


class Synthetic(ImageSource):
    """A scene that is drawn, endless.

    Args:
        scene: gives frame `index` as `frame(index)`.
        stride: indices from frame to frame.
        name: what it is, for people.
    """

    def __init__(self, scene: SyntheticScene | road_scene.RoadScene, stride: int, name: str):
        self.name = name
        self._scene = scene
        self._stride = stride
        self.rewind()

    def grab(self) -> bool:
        self._index += self._stride
        return True

    def retrieve(self) -> np.ndarray:
        return self._scene.frame(self._index)

    def rewind(self) -> None:
        self._index = -self._stride


class SyntheticObjects(Synthetic):
    """Drawings of the ten classes of CIFAR-10."""

    def showing(self) -> str:
        return f"a drawing of: {self._scene.truth(self._index)}" if self._index >= 0 else ""


class SyntheticRoad(Synthetic):
    """A street, with the label of every pixel."""

    labelled = True

    def truth(self) -> np.ndarray:
        return self._scene.truth(self._index)


def open_source(source: str, width: int, height: int, frame_rate: float, seed: int, scene: str = "road") -> ImageSource:
    """Open what the parameter `source` names.

    Args:
        source: see `EXPECTED`.
        width, height: [pixel] of a synthetic scene, and asked of a device.
        frame_rate: [Hz] asked of a device, 0: its own; a synthetic scene moves as fast as if seen at this rate.
        seed: of the synthetic scene.
        scene: which synthetic scene, "road" or "objects".

    Raises:
        ValueError: there is no such source, or it holds no images.
        OSError: it cannot be opened.
    """
    if source == "synthetic":
        return _open_scene(scene, width, height, frame_rate, seed)
    if source == "auto":
        device = _open_any_device(width, height, frame_rate)
        because = ", because no V4L2 device gives frames"
        return device or _open_scene(scene, width, height, frame_rate, seed, because)
    path = Path(f"/dev/video{source}" if source.isdecimal() else source).expanduser()
    if not source or not path.exists():
        raise ValueError(f"source '{source}' does not exist: expected {EXPECTED}")
    if path.is_char_device():
        return Device(str(path), width, height, frame_rate)
    if path.is_dir():
        paths = find_images(path)
        if not paths:
            raise ValueError(f"source '{source}' holds no images: known endings are {' '.join(IMAGE_ENDINGS)}")
        return ImageFolder(f"folder {path} with {len(paths)} images", paths)
    if path.suffix.lower() in IMAGE_ENDINGS:
        return ImageFolder(f"image {path}", [path])
    return VideoFile(path)


def find_images(folder: Path) -> list[Path]:
    """Every image file in `folder` and below, sorted by path.

    Raises:
        OSError: a folder may not be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    return sorted(
        Path(place) / name
        for place, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if Path(name).suffix.lower() in IMAGE_ENDINGS
    )


def _open_scene(scene: str, width: int, height: int, frame_rate: float, seed: int, because: str = "") -> Synthetic:
    """The synthetic scene of that name; `because`: why there is nothing else, for people."""
    name = f"synthetic {scene}, {width} x {height}{because}"
    # A street at 10 Hz passes as fast as at 30 Hz, in longer steps.
    stride = max(1, round(road_scene.FRAME_RATE / frame_rate)) if frame_rate else 1
    if scene == "road":
        return SyntheticRoad(road_scene.RoadScene(width, height, seed), stride, name)
    return SyntheticObjects(SyntheticScene(width, height, seed), stride, name)


def _open_any_device(width: int, height: int, frame_rate: float) -> Device | None:
    """The first V4L2 device that really gives frames, or None."""
    numbered = {int(path.name[5:]): path for path in Path("/dev").glob("video*") if path.name[5:].isdecimal()}
    for number in sorted(numbered):
        try:
            return Device(str(numbered[number]), width, height, frame_rate)
        except OSError:
            continue  # many cameras have a second device for metadata, which opens but gives no frames
    return None
