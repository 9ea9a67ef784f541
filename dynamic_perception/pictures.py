"""Pictures as files hold them: how large one is by its header, and decoding what is not too large.

A small file can say that it holds billions of pixels, so the size is asked of the header before anything is decoded.
"""

from __future__ import annotations

import io
import warnings
from typing import Any

import numpy as np

PIXEL_LIMIT = 64_000_000  # a camera of 64 megapixels; three bytes each while it is decoded
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")  # OpenCV and Pillow both know these
EXIF_ORIENTATION, SIDEWAYS = 0x0112, (5, 6, 7, 8)  # OpenCV turns a picture as its tag says; these exchange its sides


class NoPicture(ValueError):
    """Data that is no picture of a known format.

    Attributes:
        kind: "corrupt", or "size" for one of too many pixels.
    """

    def __init__(self, text: str, kind: str = "corrupt"):
        super().__init__(text)
        self.kind = kind


def picture_size(data: bytes | memoryview) -> tuple[int, int]:
    """Height and width [pixel] of an encoded picture as OpenCV will decode it, by its header alone.

    Raises:
        NoPicture: no format of `FORMATS`, or a broken header.
    """
    from PIL import Image as Picture  # only a robot with compressed images needs it

    warnings.filterwarnings("ignore", category=Picture.DecompressionBombWarning)  # sizes are judged here
    try:
        with Picture.open(io.BytesIO(data), formats=FORMATS) as picture:
            turned = picture.format == "JPEG" and picture.getexif().get(EXIF_ORIENTATION, 1) in SIDEWAYS
            return picture.size if turned else picture.size[::-1]
    except Picture.DecompressionBombError as error:
        raise NoPicture(f"a picture of too many pixels: {error}", "size") from None
    except Exception as error:  # Pillow's readers raise nearly everything for headers that are broken
        raise NoPicture(f"no picture: expected one of {', '.join(FORMATS)} with a whole header") from error


def check_size(size: tuple[int, int], most_pixels: int = PIXEL_LIMIT) -> None:
    """NoPicture for a picture of this height and width [pixel] that has more than `most_pixels`."""
    height, width = size
    if height * width > most_pixels:
        raise NoPicture(
            f"a picture of {width} x {height} pixels: expected at most {most_pixels / 1e6:g} megapixels", "size"
        )


def decode_picture(
    data: Any, flags: int, most_pixels: int = PIXEL_LIMIT, size: tuple[int, int] | None = None
) -> np.ndarray:
    """The pixels of an encoded picture, uint8 or as `flags` (`cv2.IMREAD_...`) say, [H, W] or [H, W, C].

    Args:
        data: the file: bytes, or an array of uint8.
        flags: of `cv2.imdecode`.
        most_pixels: a picture of more is not decoded.
        size: what `picture_size` said of it; None: the header is read here.

    Raises:
        NoPicture: it is none, is damaged, or has too many pixels; nothing was decoded in the last case.
    """
    import cv2  # nodes without pictures know the limit from here

    check_size(size or picture_size(memoryview(data)), most_pixels)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        raise NoPicture(f"a picture that OpenCV cannot decode: {error.err}") from error
    if pixels is None:
        raise NoPicture("a damaged picture that OpenCV cannot decode: expected a whole file")
    return pixels
