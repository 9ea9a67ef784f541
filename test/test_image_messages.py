"""Image messages as arrays: every encoding, with and without padding, and everything that must be refused."""

import array
import io
import random

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Header

from dynamic_perception.nodes.image_messages import (
    ENCODINGS,
    ImageRefused,
    compressed_size,
    decode_compressed,
    decode_image,
    to_message,
)

HEIGHT, WIDTH = 12, 16
PADDING = (0, 1, 5)  # [bytes] behind every row; odd ones so that 16-bit values lie unaligned


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def picture() -> np.ndarray:
    """RGB with smooth gradients, which survive colour subsampling and mosaics."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.dstack([60 + 8 * columns, 200 - 9 * rows, 40 + 4 * columns + 6 * rows]).astype(np.uint8)


def message(
    rows: np.ndarray, encoding: str, height: int | None = None, padding: int = 0, big_endian: bool = False
) -> Image:
    """A message with `rows` (uint8 or uint16, [R, W] or [R, W, C]), garbage as padding, as a driver would send it."""
    if rows.dtype == np.uint16:
        rows = rows.astype(">u2" if big_endian else "<u2")
    data = np.ascontiguousarray(rows).view(np.uint8).reshape(len(rows), -1)
    data = np.hstack([data, noise(len(rows), padding)])
    return Image(
        height=len(rows) if height is None else height,
        width=rows.shape[1],
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=data.shape[1],
        data=array.array("B", data.tobytes()),
    )


def decode_rgb(image: Image | CompressedImage) -> np.ndarray:
    pixels, to_rgb = (decode_image if isinstance(image, Image) else decode_compressed)(image)
    assert pixels.dtype == np.uint8
    return pixels if to_rgb is None else cv2.cvtColor(pixels, to_rgb)


def mosaic(rgb: np.ndarray, pattern: str) -> np.ndarray:
    """What a sensor behind a colour filter sees: `pattern` names the first two pixels of the first two rows."""
    seen = np.empty(rgb.shape[:2], rgb.dtype)
    for place, colour in enumerate(pattern):
        row, column = divmod(place, 2)
        seen[row::2, column::2] = rgb[row::2, column::2, "rgb".index(colour)]
    return seen


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize(
    "encoding, from_rgb",
    [
        ("rgb8", None),
        ("bgr8", cv2.COLOR_RGB2BGR),
        ("8UC3", cv2.COLOR_RGB2BGR),
        ("rgba8", cv2.COLOR_RGB2RGBA),
        ("bgra8", cv2.COLOR_RGB2BGRA),
    ],
)
def test_colour_encodings_give_the_picture_back(encoding, from_rgb, padding):
    rgb = noise(HEIGHT, WIDTH, 3)
    sent = rgb if from_rgb is None else cv2.cvtColor(rgb, from_rgb)
    assert np.array_equal(decode_rgb(message(sent, encoding, padding=padding)), rgb)


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("encoding", ["mono8", "8UC1"])
def test_grey_becomes_three_equal_channels(encoding, padding):
    grey = noise(HEIGHT, WIDTH)
    assert np.array_equal(decode_rgb(message(grey, encoding, padding=padding)), np.dstack([grey] * 3))


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", PADDING)
def test_sixteen_bit_grey_keeps_the_high_byte(padding, big_endian):
    grey = np.random.default_rng(2).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    sent = message(grey, "mono16", padding=padding, big_endian=big_endian)
    assert np.array_equal(decode_rgb(sent)[..., 0], (grey >> 8).astype(np.uint8))


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize(
    "encoding, to_rgb",
    [
        ("yuv422_yuy2", cv2.COLOR_YUV2RGB_YUYV),
        ("yuyv", cv2.COLOR_YUV2RGB_YUYV),
        ("yuv422", cv2.COLOR_YUV2RGB_UYVY),
        ("uyvy", cv2.COLOR_YUV2RGB_UYVY),
    ],
)
def test_packed_yuv_is_what_opencv_makes_of_it(encoding, to_rgb, padding):
    packed = noise(HEIGHT, WIDTH, 2)
    assert np.array_equal(decode_rgb(message(packed, encoding, padding=padding)), cv2.cvtColor(packed, to_rgb))


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("encoding, to_rgb", [("nv12", cv2.COLOR_YUV2RGB_NV12), ("nv21", cv2.COLOR_YUV2RGB_NV21)])
def test_planar_yuv_is_what_opencv_makes_of_it(encoding, to_rgb, padding):
    planes = noise(HEIGHT * 3 // 2, WIDTH)
    sent = message(planes, encoding, height=HEIGHT, padding=padding)
    assert np.array_equal(decode_rgb(sent), cv2.cvtColor(planes, to_rgb))


def test_yuv_colours_are_the_ones_that_were_seen():
    red = np.full((HEIGHT, WIDTH, 3), (200, 30, 30), np.uint8)
    y, u, v = cv2.cvtColor(red, cv2.COLOR_RGB2YUV_I420).reshape(-1)[[0, HEIGHT * WIDTH, -1]]
    rows = {"yuyv": [[y, u, y, v]], "uyvy": [[u, y, v, y]]}
    sent = [
        message(np.tile(np.array(row, np.uint8), (HEIGHT, WIDTH // 2)).reshape(HEIGHT, WIDTH, 2), encoding)
        for encoding, row in rows.items()
    ]
    for encoding, colours in {"nv12": [u, v], "nv21": [v, u]}.items():
        brightness = np.full((HEIGHT, WIDTH), y, np.uint8)
        colour = np.tile(np.array(colours, np.uint8), (HEIGHT // 2, WIDTH // 2))
        sent.append(message(np.vstack([brightness, colour]), encoding, height=HEIGHT))
    for image in sent:
        assert np.abs(decode_rgb(image).astype(int) - red).max() <= 3, image.encoding


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_of_known_colours_gives_these_colours(pattern, padding):
    rgb = picture()
    decoded = decode_rgb(message(mosaic(rgb, pattern), f"bayer_{pattern}8", padding=padding))
    inner = np.s_[2:-2, 2:-2]  # at the border OpenCV repeats the neighbours
    assert np.abs(decoded[inner].astype(int) - rgb[inner]).max() <= 1


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_sixteen_bit_mosaic_gives_the_colours_of_its_high_bytes(pattern, padding, big_endian):
    seen = mosaic(picture(), pattern)
    low = noise(HEIGHT, WIDTH)
    sent = message(seen.astype(np.uint16) << 8 | low, f"bayer_{pattern}16", padding=padding, big_endian=big_endian)
    assert np.array_equal(decode_rgb(sent), decode_rgb(message(seen, f"bayer_{pattern}8")))


@pytest.mark.parametrize("encoding, channels", [("rgb8", 3), ("bgra8", 4), ("mono8", 1)])
def test_encodings_that_need_no_conversion_first_are_views_of_the_message(encoding, channels):
    sent = message(np.zeros((HEIGHT, WIDTH, channels), np.uint8), encoding)
    pixels, _ = decode_image(sent)
    sent.data[0] = 77
    assert pixels.flat[0] == 77


def test_scaling_before_conversion_equals_scaling_after_it():
    grey = np.random.default_rng(3).integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
    for sent in (message(noise(HEIGHT, WIDTH, 4), "bgra8", padding=5), message(grey, "mono16", padding=5)):
        pixels, to_rgb = decode_image(sent)
        size = (WIDTH // 4, HEIGHT // 4)
        first = cv2.cvtColor(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), to_rgb)
        after = cv2.resize(cv2.cvtColor(pixels, to_rgb), size, interpolation=cv2.INTER_AREA)
        assert np.array_equal(first, after)


def test_an_unknown_encoding_is_refused_with_the_list_of_known_ones():
    with pytest.raises(ImageRefused, match="'32FC1'.*rgb8.*nv12.*bayer_grbg16") as refusal:
        decode_image(message(noise(HEIGHT, WIDTH, 4), "32FC1"))
    assert refusal.value.kind == "encoding"


@pytest.mark.parametrize(
    "kind, text, change",
    [
        ("empty", "16 x 12 pixels with 0 bytes", {"data": array.array("B")}),
        ("empty", "0 x 12 pixels", {"width": 0}),
        ("empty", "16 x 0 pixels", {"height": 0}),
        ("step", "step is 47 bytes: expected at least 48", {"step": 47}),
        ("step", "step is 0 bytes: expected at least 48", {"step": 0}),
        ("truncated", "data has 576 bytes: expected 624, 13 rows of 48 bytes", {"height": 13}),
        ("truncated", "data has 576 bytes: expected 588, 12 rows of 49 bytes", {"step": 49}),
        ("surplus", "data has 576 bytes: expected 528, 11 rows of 48 bytes", {"height": 11}),
        ("step", "expected at least 4294967295", {"width": 2**32 - 1, "encoding": "mono8"}),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(kind, text, change):
    sent = message(noise(HEIGHT, WIDTH, 3), "rgb8")
    for name, value in change.items():
        setattr(sent, name, value)
    with pytest.raises(ImageRefused, match=text) as refusal:
        decode_image(sent)
    assert refusal.value.kind == kind


@pytest.mark.parametrize(
    "encoding, width, height, text",
    [
        ("yuyv", 15, 12, "15 x 12 pixels: yuyv expects an even width$"),
        ("nv12", 15, 12, "15 x 12 pixels: nv12 expects an even width and height$"),
        ("nv12", 16, 11, "16 x 11 pixels: nv12 expects an even width and height$"),
        ("bayer_rggb8", 2, 12, "2 x 12 pixels: bayer_rggb8 expects at least 3 x 3$"),
    ],
)
def test_sizes_that_an_encoding_cannot_have_are_refused(encoding, width, height, text):
    step = 2 * width
    sent = Image(width=width, height=height, encoding=encoding, step=step, data=array.array("B", bytes(step * height)))
    with pytest.raises(ImageRefused, match=text) as refusal:
        decode_image(sent)
    assert refusal.value.kind == "size"


IMAGES = st.builds(
    lambda data, **fields: Image(data=array.array("B", data), **fields),
    encoding=st.sampled_from([*ENCODINGS, "", "RGB8", "nv24", "32FC1"]) | st.text(max_size=8),
    width=st.integers(0, 8) | st.integers(0, 2**32 - 1),
    height=st.integers(0, 8) | st.integers(0, 2**32 - 1),
    step=st.integers(0, 32) | st.integers(0, 2**32 - 1),
    is_bigendian=st.integers(0, 255),
    data=st.binary(max_size=64),
)


@given(IMAGES)
@settings(max_examples=300, deadline=None)
def test_any_fields_decode_or_are_refused(sent):
    try:
        pixels = decode_rgb(sent)
    except ImageRefused as refusal:
        assert refusal.kind and str(refusal)
    else:
        assert pixels.shape == (sent.height, sent.width, 3)


@given(
    st.sampled_from([*ENCODINGS]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(0, 3),
    st.randoms(use_true_random=False),
)
@settings(max_examples=300, deadline=None)
def test_consistent_fields_decode_unless_the_size_is_impossible(
    encoding, width, height, padding, source: random.Random
):
    facts = ENCODINGS[encoding]
    step = width * facts.channels * facts.sample_bytes + padding
    rows = height * 3 // 2 if facts.colour_plane else height
    sent = Image(
        encoding=encoding, width=width, height=height, step=step, data=array.array("B", source.randbytes(step * rows))
    )
    try:
        assert decode_rgb(sent).shape == (height, width, 3)
    except ImageRefused as refusal:
        assert refusal.kind == "size" and (facts.even or min(width, height) < facts.smallest)


def compressed(pixels: np.ndarray, ending: str, image_format: str) -> CompressedImage:
    return CompressedImage(format=image_format, data=array.array("B", cv2.imencode(ending, pixels)[1].tobytes()))


@pytest.mark.parametrize("image_format", ["png", "", "rgb8; png compressed bgr8", "bgr8; png compressed bgr8"])
def test_compressed_colours_come_back(image_format):
    rgb = noise(HEIGHT, WIDTH, 3)
    sent = compressed(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), ".png", image_format)
    assert np.array_equal(decode_rgb(sent), rgb)


def test_colours_that_were_compressed_in_rgb_order_come_back():
    rgb = noise(HEIGHT, WIDTH, 3)
    assert np.array_equal(decode_rgb(compressed(rgb, ".png", "rgb8; png compressed rgb8")), rgb)


def test_a_jpeg_is_decoded_as_opencv_does():
    bgr = cv2.cvtColor(picture(), cv2.COLOR_RGB2BGR)
    sent = compressed(bgr, ".jpg", "bgr8; jpeg compressed bgr8")
    expected = cv2.imdecode(np.frombuffer(sent.data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decode_rgb(sent), expected[..., ::-1])


@pytest.mark.parametrize(
    ("least", "decoded"),
    [
        (None, (480, 640)),
        ((480, 640), (480, 640)),
        ((241, 1), (480, 640)),
        ((240, 320), (240, 320)),
        ((32, 32), (60, 80)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_jpeg_is_decoded_no_larger_than_needed(least, decoded, channels):
    seen = cv2.resize(picture(), (640, 480))
    seen = seen if channels == 3 else seen[..., 0]
    message = compressed(seen, ".jpg", "jpeg")
    pixels, _to_rgb = decode_compressed(message, least)
    assert pixels.shape[:2] == decoded and pixels.ndim == (3 if channels == 3 else 2)
    assert compressed_size(message) == (480, 640)
    expected = cv2.resize(decode_compressed(message)[0], decoded[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(pixels.astype(int) - expected).mean() < 2


def test_a_png_or_a_broken_jpeg_has_no_size_that_could_be_used(tmp_path):
    assert compressed_size(compressed(picture(), ".png", "png")) is None
    assert compressed_size(CompressedImage(format="jpeg", data=array.array("B", b"\xff\xd8\xff\xc0broken"))) is None


def test_a_jpeg_that_lies_on_its_side_is_as_large_as_it_is_decoded():
    buffer = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.fromarray(cv2.resize(picture(), (640, 480))).save(buffer, "JPEG", exif=exif)
    message = CompressedImage(format="jpeg", data=array.array("B", buffer.getvalue()))
    assert compressed_size(message) == decode_compressed(message)[0].shape[:2] == (640, 480)
    assert decode_compressed(message, (300, 200))[0].shape[:2] == (320, 240)


def test_compressed_grey_stays_one_channel():
    grey = noise(HEIGHT, WIDTH)
    pixels, to_rgb = decode_compressed(compressed(grey, ".png", "mono8; png compressed "))
    assert to_rgb == cv2.COLOR_GRAY2RGB and np.array_equal(pixels, grey)


def test_a_compressed_mosaic_gets_its_colours():
    seen = mosaic(picture(), "grbg")
    sent = compressed(seen, ".png", "bayer_grbg8; png compressed bayer_grbg8")
    assert np.array_equal(decode_rgb(sent), decode_rgb(message(seen, "bayer_grbg8")))


@pytest.mark.parametrize(
    "kind, image_format, data",
    [
        ("empty", "jpeg", b""),
        ("corrupt", "jpeg", b"this is no picture"),
        ("corrupt", "png", cv2.imencode(".png", picture())[1].tobytes()[:60]),
        ("corrupt", "svg", b"<svg/>"),
        ("encoding", "16UC1; png compressed ", cv2.imencode(".png", picture())[1].tobytes()),
        ("encoding", "32FC1; tiff compressed ", cv2.imencode(".png", picture())[1].tobytes()),
        ("encoding", "16UC1; compressedDepth png", cv2.imencode(".png", picture())[1].tobytes()),
        (
            "size",
            "bayer_rggb8; png compressed bayer_rggb8",
            cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes(),
        ),
    ],
)
def test_compressed_data_that_is_no_picture_is_refused(kind, image_format, data):
    with pytest.raises(ImageRefused, match="expect") as refusal:
        decode_compressed(CompressedImage(format=image_format, data=array.array("B", data)))
    assert refusal.value.kind == kind


@given(
    st.sampled_from([b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"GIF89a", b"P5 9 9 255\n"]),
    st.binary(max_size=64),
    st.text(max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_any_compressed_bytes_decode_or_are_refused(start, rest, image_format):
    try:
        pixels = decode_rgb(CompressedImage(format=image_format, data=array.array("B", start + rest)))
    except ImageRefused as refusal:
        assert refusal.kind and str(refusal)
    else:
        assert pixels.ndim == 3


@pytest.mark.parametrize("encoding, shape", [("bgr8", (HEIGHT, WIDTH, 3)), ("mono8", (HEIGHT, WIDTH))])
def test_a_message_that_was_made_here_decodes_to_the_same_pixels(encoding, shape):
    pixels = noise(*shape)
    header = Header(frame_id="front")
    sent = to_message(pixels, encoding, header)
    decoded, _ = decode_image(sent)
    assert np.array_equal(decoded, pixels) and sent.header == header


def test_a_message_can_be_made_of_a_cut_out():
    pixels = noise(HEIGHT, WIDTH, 3)
    decoded, _ = decode_image(to_message(pixels[2:7, 3:9], "bgr8", Header()))
    assert np.array_equal(decoded, pixels[2:7, 3:9])
