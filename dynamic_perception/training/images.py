"""Labelled images as arrays, and where to find the data sets.

For classification `{train,test}/<class>/*`; for segmentation `{train,val,test}/images/*` with `labels/*.png` beside.

Everything decodes with OpenCV, as the camera and perception nodes do, so that an accuracy measured here is the
accuracy of the running node to the last image.
"""

from __future__ import annotations

import math
import os
import re
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dynamic_perception.engines.scaling import scale_image, scale_labels
from dynamic_perception.installation import cache_folder
from dynamic_perception.pictures import NoPicture, decode_picture, picture_size
from dynamic_perception.report.progress import progress_bar

DATA_VARIABLE = "DYNAMIC_PERCEPTION_DATA"
ARCHIVE_ENDINGS = (".tar", ".tar.xz", ".tar.gz")
IN_MEMORY = 2**31  # [byte] larger arrays are mapped from a file
IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    Attributes:
        images: uint8 RGB, [N, H, W, 3], or a tuple of [H, W, 3] of any size.
        labels: int64 class numbers, [N].
        classes: class names, in the order of their numbers.
    """

    images: np.ndarray | tuple[np.ndarray, ...]
    labels: np.ndarray
    classes: tuple[str, ...]


@dataclass(frozen=True)
class LabelledFrames:
    """Frames with a label per pixel.

    Attributes:
        images: uint8 RGB, [N, H, W, 3].
        labels: uint8 class numbers, [N, H, W]; numbers beyond the classes are void.
        classes: class names, in the order of their numbers.
    """

    images: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]


def find_dataset(name: str) -> Path | None:
    """Folder of the data set `name` under `$DYNAMIC_PERCEPTION_DATA`, or None.

    A folder of that name is taken as it is; an archive `name.tar[.xz|.gz]` is unpacked once into the cache.
    """
    root = os.environ.get(DATA_VARIABLE)
    if not root:
        return None
    if (Path(root) / name).is_dir():
        return Path(root) / name
    for ending in ARCHIVE_ENDINGS:
        archive = Path(root) / f"{name}{ending}"
        if archive.is_file():
            return unpack(archive)
    return None


def unpack(archive: Path) -> Path:
    """Unpack a data set archive into the cache, unless that was done before, and return its single top folder."""
    stamp = archive.stat()
    target = cache_folder() / "data" / f"{archive.name}-{stamp.st_size}-{int(stamp.st_mtime)}"
    if not target.is_dir():
        partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
        partial.mkdir(parents=True)
        with progress_bar() as bar, tarfile.open(archive) as tar:
            bar.add_task(f"unpacking {archive.name} once", total=None)
            tar.extractall(partial, filter="data")
        try:
            partial.rename(target)
        except OSError:  # another process unpacked the same archive meanwhile
            if not target.is_dir():
                raise
    folders = [entry for entry in target.iterdir() if entry.is_dir()]
    return folders[0] if len(folders) == 1 else target


def read_split(data: Path, split: str, size: int | None = None) -> LabelledImages:
    """Read `data/split/<class>/*` in the order of class and file names.

    Args:
        data, split: where.
        size: scale the images to `size` x `size` pixels, unless all of them are alike and smaller: scaling those is
            left to whoever knows the size that is wanted.  None: leave all as they are, as a tuple.

    Raises:
        ValueError: the folder does not have that layout, or a file in it is no image; the message names it.
    """
    folder = data / split
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist: expected {data}/{{train,test}}/<class>/<image>")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    files = [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).iterdir())
        if path.suffix.lower() in IMAGE_ENDINGS
    ]
    if not files:
        raise ValueError(f"{folder} holds no <class>/<image>: known image endings are {' '.join(IMAGE_ENDINGS)}")
    labels = np.array([label for _, label in files])
    with progress_bar() as bar:
        decoded = (read_image(path) for path, _ in bar.track(files, description=f"reading {split} images"))
        if size is None:
            return LabelledImages(tuple(decoded), labels, tuple(classes))
        stored = _common_size([path for path, _ in files])
        if stored is None or max(stored) > size:
            stored = (size, size)
        images = allocate((len(files), *stored, 3))
        for row, image in enumerate(decoded):
            images[row] = scale_image(image, stored)
    return LabelledImages(images, labels, tuple(classes))


def read_tracks(data: Path, split: str) -> np.ndarray | None:
    """Number of the track that each image of `read_split` belongs to, int64 [N]; None if they have no tracks.

    Images named `<track>_<frame>` are frames of one drive past the same object, near-duplicates of each other.
    """
    names = [
        f"{folder.name}/{path.stem}"
        for folder in sorted((data / split).iterdir())
        if folder.is_dir()
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_ENDINGS
    ]
    if not all(re.fullmatch(r".*/\d+_\d+", name) for name in names):
        return None
    return np.unique([name.rsplit("_", 1)[0] for name in names], return_inverse=True)[1]


def read_frames(
    data: Path, split: str, classes: tuple[str, ...], size: tuple[int, int] | None = None
) -> LabelledFrames:
    """Read `data/split/images/*` and the label image of the same name in `data/split/labels`, in the order of names.

    Args:
        data, split: where.
        classes: names of the classes.
        size: height and width [pixel] to scale to; by default those of the first frame.

    Raises:
        ValueError: the folder does not have that layout, or a file in it cannot be read; the message names it.
    """
    folder = data / split / "images"
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGE_ENDINGS)
    if not files:
        raise ValueError(f"{folder} holds no frames: expected {data}/{{train,test}}/{{images,labels}}/<frame>")
    if size is None:
        size = read_image(files[0]).shape[:2]
    images, labels = allocate((len(files), *size, 3)), allocate((len(files), *size))
    with progress_bar() as bar:
        for row, path in enumerate(bar.track(files, description=f"reading {split} frames")):
            image = read_image(path)
            label = _decode(data / split / "labels" / f"{path.stem}.png", cv2.IMREAD_GRAYSCALE)
            if label.shape != image.shape[:2]:
                raise ValueError(
                    f"the labels of {path} are {label.shape[1]}x{label.shape[0]} pixels: expected "
                    f"{image.shape[1]}x{image.shape[0]}"
                )
            images[row], labels[row] = scale_image(image, size), scale_labels(label, size)
    return LabelledFrames(images, labels, classes)


def allocate(shape: tuple[int, ...]) -> np.ndarray:
    """An empty uint8 array; in a file without a name if it is large, so that data may be larger than the memory."""
    if math.prod(shape) < IN_MEMORY:
        return np.empty(shape, np.uint8)
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.truncate(math.prod(shape))
        return np.memmap(file, np.uint8, "r+", shape=shape)


def read_image(path: Path) -> np.ndarray:
    """Read one image file as uint8 RGB [H, W, 3]."""
    return cv2.cvtColor(_decode(path, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def _common_size(paths: Sequence[Path]) -> tuple[int, int] | None:
    """Height and width [pixel] of all the images, from their headers; None if they differ."""
    sizes = set()
    for path in paths:
        try:
            sizes.add(picture_size(path.read_bytes()))
        except NoPicture as error:
            raise ValueError(f"{path} is not an image that can be read: {error}") from None
        if len(sizes) > 1:
            return None
    return sizes.pop()


def _decode(path: Path, mode: int) -> np.ndarray:
    try:
        return decode_picture(path.read_bytes(), mode)
    except NoPicture as error:
        raise ValueError(f"{path} is not an image that can be read: {error}") from None
