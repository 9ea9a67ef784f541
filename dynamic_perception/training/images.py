"""Image folders `{train,test}/<class>/*` as arrays, and where to find the data sets.

Everything decodes with OpenCV, as the camera and perception nodes do, so that an accuracy measured here is the
accuracy of the running node to the last image.
"""

from __future__ import annotations

import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from dynamic_perception.installation import cache_folder
from dynamic_perception.report.progress import progress_bar

DATA_VARIABLE = "DYNAMIC_PERCEPTION_DATA"
ARCHIVE_ENDINGS = (".tar", ".tar.xz", ".tar.gz")
IMAGE_ENDINGS = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".webp")


@dataclass(frozen=True)
class LabelledImages:
    """Images with labels.

    Attributes:
        images: uint8 RGB, [N, size, size, 3].
        labels: int64 class numbers, [N].
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


def read_split(data: Path, split: str, size: int) -> LabelledImages:
    """Read `data/split/<class>/*` in the order of class and file names, scaled to `size` x `size` pixels.

    Raises:
        ValueError: the folder does not have that layout, or a file in it is no image; the message names it.
    """
    folder = data / split
    if not folder.is_dir():
        raise ValueError(f"{folder} does not exist: expected {data}/{{train,test}}/<class>/<image>")
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    files = [(path, label) for label, name in enumerate(classes) for path in sorted((folder / name).iterdir())
             if path.suffix.lower() in IMAGE_ENDINGS]
    if not files:
        raise ValueError(f"{folder} holds no <class>/<image>: known image endings are {' '.join(IMAGE_ENDINGS)}")
    images = np.empty((len(files), size, size, 3), np.uint8)
    with progress_bar() as bar:
        for row, (path, _) in enumerate(bar.track(files, description=f"reading {split} images")):
            images[row] = read_image(path, size)
    return LabelledImages(images, np.array([label for _, label in files]), tuple(classes))


def read_image(path: Path, size: int) -> np.ndarray:
    """Read one image file as uint8 RGB [size, size, 3]."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError(f"{path} is not an image that OpenCV can read")
    if image.shape[:2] != (size, size):
        image = cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
