"""Messages that no sane sender would send: random fields by the message definitions, spoiled bytes, damaged pictures.

What a field is comes from the definition itself (`get_fields_and_field_types`), so fields that are added later are
covered.  Every message follows from a seed, a topic and a number alone, and can be made again by itself.
"""

from __future__ import annotations

import math
import random
import re
import struct
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

import cv2
import numpy as np
from rclpy.serialization import serialize_message

FLOATS = (
    *(0.0, -0.0, 1.0, -1.0, 0.05, 1.1, 2.0, 60.0, 92.0, 149.0, -273.2, 1e-9, 5e-324, 1e9, 1e38, -1e38),
    *(1e154, 1e200, 1.7976931348623157e308, -1.7976931348623157e308, math.inf, -math.inf, math.nan),
)
GREATEST_FLOAT32 = 3.4028234663852886e38
WORDS = (
    "",
    " ",
    "/",
    "..",
    "%s%n",
    "\n",
    "\x1b[31m",
    "33%",
    "66%",
    "100%",
    "cpu:1",
    "cpu:2",
    "cpu:-1",
    "cpu:999999",
    "gpu",
)
HUGE = 100_000  # characters or elements
LENGTHS = (0, 1, 2, 3, 17, 100, 4097)
INTEGER = re.compile(r"(u?)int(\d+)")
SEQUENCE = re.compile(r"sequence<(.+?)(?:, (\d+))?>")
ARRAY = re.compile(r"(.+)\[(\d+)\]")
BOUNDED_TEXT = re.compile(r"string<(\d+)>")
SPOILED_SHARE = 0.15  # of the messages
DAMAGED_SHARE = 0.5  # of the long byte sequences: a few bytes changed, in place of random ones


class MessageSource:
    """Makes messages.

    Args:
        seed: of everything.
        sane: per topic a function that makes a sane message; most messages are one with few fields changed, since a
            message that is wrong everywhere is refused at the first field.
    """

    def __init__(self, seed: int, sane: dict[str, Callable[[random.Random], Any]]):
        self.seed = seed
        self._sane = sane

    def make(self, topic: str, kind: type, number: int) -> Any:
        """The message of that number on a topic; `bytes` where its serialized form was spoiled."""
        # A text seeds alike in every process, other than a tuple's hash.
        draw = random.Random(f"{self.seed} {topic} {number}")
        message = self._sane[topic](draw) if topic in self._sane else kind()
        share = draw.choice((0.0, 0.05, 0.2, 0.2, 1.0))
        _fill(draw, message, share)
        return spoil(draw, serialize_message(message)) if draw.random() < SPOILED_SHARE else message


def message_class(name: str) -> type:
    """The class of "package/msg/Kind"."""
    package, _, kind = name.split("/")
    return getattr(import_module(f"{package}.msg"), kind)


def spoil(draw: random.Random, data: bytes) -> bytes:
    """Serialized bytes that were cut, lengthened, flipped, or got a length that is not theirs."""
    damaged = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 5))):
        way = draw.randrange(5)
        if way == 0:
            del damaged[draw.randrange(len(damaged) + 1) :]
        elif way == 1:
            damaged += draw.randbytes(draw.choice((1, 3, 4, 100)))
        elif way == 2 and damaged:
            damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        elif way == 3 and len(damaged) >= 8:  # a length: CDR aligns them to 4 bytes
            place = 4 * draw.randrange(1, len(damaged) // 4)
            damaged[place : place + 4] = struct.pack("<I", draw.choice((0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1)))
        elif way == 4:
            damaged[:4] = draw.randbytes(4)  # byte order and options
    return bytes(damaged)


def png_bomb(width: int, height: int) -> bytes:
    """A valid PNG of one black colour: some bytes per million pixels, and three bytes per pixel once it is decoded."""
    rows = height * (1 + 3 * width)  # [byte], every one of them 0
    block = 2**20
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    start = compressor.compress(bytes(block)) + compressor.flush(zlib.Z_FULL_FLUSH)
    last = zlib.compressobj(9, zlib.DEFLATED, -15)
    end = last.compress(bytes(rows % block)) + last.flush()
    checksum = struct.pack(">I", (rows % 65521) << 16 | 1)  # Adler-32 of so many zeros
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", b"\x78\xda" + start * (rows // block) + end + checksum), (b"IEND", b""))
    framed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def picture(draw: random.Random, ending: str) -> bytes:
    """A small sane picture in the format of that file ending."""
    size = draw.choice((1, 16, 33, 64))
    pixels = np.frombuffer(draw.randbytes(size * size * 3), np.uint8).reshape(size, size, 3)
    return cv2.imencode(ending, pixels)[1].tobytes()


def _fill(draw: random.Random, message: Any, share: float) -> None:
    """Change that share of the fields, of messages inside too."""
    for name, kind in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        if hasattr(value, "get_fields_and_field_types"):
            _fill(draw, value, share)
        elif draw.random() < share:
            setattr(message, name, _value(draw, kind, value))


def _value(draw: random.Random, kind: str, before: Any = None) -> Any:
    """A random value of a field's type, as the definition writes it."""
    if sequence := SEQUENCE.fullmatch(kind):
        return _sequence(draw, sequence[1], int(sequence[2] or HUGE), before)
    if array := ARRAY.fullmatch(kind):
        return [_value(draw, array[1]) for _ in range(int(array[2]))]
    if integer := INTEGER.fullmatch(kind):
        bits = int(integer[2])
        least, greatest = (0, 2**bits - 1) if integer[1] else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        near = draw.choice(
            (0, 1, 2, 3, 7, 255, -1, least, least + 1, greatest, greatest - 1, draw.randint(least, greatest))
        )
        return min(max(near, least), greatest)
    if kind in ("double", "float"):
        value = draw.choice(FLOATS) if draw.random() < 0.7 else draw.choice((-1, 1)) * 10 ** draw.uniform(-12, 12)
        return (
            value
            if kind == "double" or not math.isfinite(value)
            else min(max(value, -GREATEST_FLOAT32), GREATEST_FLOAT32)
        )
    if kind == "boolean":
        return draw.random() < 0.5
    if kind == "octet":
        return draw.randbytes(1)
    if kind == "string" or BOUNDED_TEXT.fullmatch(kind):
        bound = BOUNDED_TEXT.fullmatch(kind)
        return _text(draw)[: int(bound[1]) if bound else None]
    if "/" in kind:
        package, name = kind.split("/")
        message = message_class(f"{package}/msg/{name}")()
        _fill(draw, message, 1.0)
        return message
    raise ValueError(f"a message has a field of type '{kind}': say here what is random for it")


def _sequence(draw: random.Random, kind: str, most: int, before: Any) -> Any:
    if kind == "uint8" and before is not None and len(before) and draw.random() < DAMAGED_SHARE:
        return _damage(draw, bytes(before))[:most]
    length = min(most, HUGE if draw.random() < 0.02 else draw.choice(LENGTHS))
    if kind == "uint8":
        return draw.randbytes(length)
    few = [_value(draw, kind) for _ in range(min(length, 20))]
    return (few * (length // len(few) + 1))[:length] if few else few


def _damage(draw: random.Random, data: bytes) -> bytes:
    """As a bad cable or a full disk damages a picture."""
    damaged = bytearray(data)
    for _ in range(draw.choice((1, 1, 3, 20))):
        damaged[draw.randrange(len(damaged))] = draw.randrange(256)
    start = draw.choice((0, 0, 0, 1))
    return bytes(damaged[start : draw.choice((len(damaged), len(damaged), draw.randrange(len(damaged) + 1)))])


def _text(draw: random.Random) -> str:
    if draw.random() < 0.5:
        return draw.choice(WORDS)
    length = HUGE if draw.random() < 0.05 else draw.choice((1, 3, 10, 40, 300))
    # Without surrogates, which are no text, and without NUL, where the C side ends a text.
    letters = (
        chr(draw.choice((draw.randrange(1, 128), draw.randrange(0xA0, 0xD7FF), 0x1F916)))
        for _ in range(min(length, 300))
    )
    few = "".join(letters)
    return (few * (length // len(few) + 1))[:length]
