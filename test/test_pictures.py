"""Pictures from outside: their size is known and limited before anything is decoded."""

import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamic_perception.pictures import NoPicture, decode_picture, picture_size

ENDINGS = (".png", ".jpg", ".bmp", ".webp", ".tiff", ".ppm", ".jp2")


def picture(ending: str, height: int = 48, width: int = 64) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(ending, pixels)[1].tobytes()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def bomb(width: int, height: int) -> bytes:
    """A whole black PNG of that size, a thousandth of it in bytes."""
    compressor = zlib.compressobj(9)
    rows = b"".join(compressor.compress(bytes(1 + width)) for _ in range(height))
    return png(width, height, rows + compressor.flush())


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_size_is_read_from_the_header(ending):
    assert picture_size(picture(ending)) == (48, 64)
    assert decode_picture(picture(ending), cv2.IMREAD_COLOR).shape == (48, 64, 3)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_picture_above_the_limit_is_refused_whatever_its_format(ending):
    with pytest.raises(NoPicture, match="64 x 48 pixels: expected at most 0.003071 megapixels") as refusal:
        decode_picture(picture(ending), cv2.IMREAD_COLOR, most_pixels=48 * 64 - 1)
    assert refusal.value.kind == "size"


@pytest.mark.parametrize("size", [(8001, 8001), (14000, 14000), (30000, 30000), (2**31 - 1, 2**31 - 1)])
def test_a_header_of_too_many_pixels_is_enough_to_refuse(size):
    with pytest.raises(NoPicture, match="pixels") as refusal:
        decode_picture(png(*size, b""), cv2.IMREAD_COLOR)
    assert refusal.value.kind == "size"


def test_a_format_whose_size_cannot_be_known_first_is_refused():
    with pytest.raises(NoPicture, match="expected one of BMP, GIF, JPEG"):
        decode_picture(picture(".hdr"), cv2.IMREAD_COLOR)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ENDINGS), st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=6))
def test_a_damaged_picture_is_refused_or_decoded_within_the_limit(ending, changes):
    data = bytearray(picture(ending))
    for place, value in changes:
        data[place % len(data)] = value
    try:
        assert decode_picture(bytes(data), cv2.IMREAD_COLOR, most_pixels=1_000_000).size <= 3_000_000
    except NoPicture:
        pass


def test_memory_stays_small_whatever_a_header_says():
    program = (
        "import resource, struct, sys, cv2\n"
        "from dynamic_perception.pictures import NoPicture, decode_picture\n"
        "data = sys.stdin.buffer.read()\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    decode_picture(data, cv2.IMREAD_COLOR)\n"
        "except NoPicture:\n    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], input=bomb(9000, 9000), capture_output=True, check=True)
    assert int(done.stdout) < 50_000  # KiB; decoded it would be 243 MB
