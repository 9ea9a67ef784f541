"""The ground of a street: pictures of it from above and what each strip of it is."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from dynamic_perception.scenes.textures import TREE, noise, to_bytes

ROAD, PAVEMENT = 3, 4
HALF_WIDTH = 22.0  # [m] that are pictured on each side of the centre line; farther out the edge goes on
ACROSS, ALONG = 24, 12  # [pixel / m]
PERIOD = 32.0  # [m] after which the picture repeats
KERB = 0.18  # [m]
# Smaller pictures against aliasing: from this distance [m] on, by how much across, by how much along.
REDUCTIONS = ((0.0, 1, 1), (7.0, 1, 4), (14.0, 2, 16), (32.0, 4, 64))


@dataclass(frozen=True)
class GroundStyle:
    pavement: float  # width [m]
    verge: float  # of grass beside it [m]
    beyond: str  # "paving" or "grass"


STYLES = {
    "high street": GroundStyle(3.8, 0.0, "paving"),
    "residential": GroundStyle(2.8, 0.4, "grass"),
    "open road": GroundStyle(2.4, 1.5, "grass"),
}


class Ground:
    """One kind of ground, ready to be looked at from a camera."""

    def __init__(self, rng: np.random.Generator, style: GroundStyle, half_road: float):
        columns, rows = round(2 * HALF_WIDTH * ACROSS), round(PERIOD * ALONG)
        x = np.abs(np.arange(columns) / ACROSS - HALF_WIDTH)
        self.labels = np.full(columns, PAVEMENT if style.beyond == "paving" else TREE, np.uint8)
        self.labels[x < half_road + style.pavement] = PAVEMENT
        self.labels[x < half_road] = ROAD
        picture = _paint(rng, style, half_road, (rows, columns), x, self.labels)
        self.pictures = [
            cv2.resize(picture, (columns // across, max(1, rows // along)), interpolation=cv2.INTER_AREA)
            for _, across, along in REDUCTIONS
        ]


def _paint(
    rng: np.random.Generator,
    style: GroundStyle,
    half_road: float,
    shape: tuple[int, int],
    x: np.ndarray,
    labels: np.ndarray,
) -> np.ndarray:
    grain = rng.standard_normal(shape, np.float32)
    patches = noise(shape, rng, 120, 4)
    picture = np.empty((*shape, 3), np.float32)
    asphalt = np.array((1.0, 0.985, 0.97), np.float32) * rng.uniform(82, 128)
    worn = np.exp(-(((x - half_road * 0.25) / 0.35) ** 2)) + np.exp(-(((x - half_road * 0.55) / 0.35) ** 2))
    picture[:] = asphalt * (1 + 0.05 * worn[None, :, None]) * (1 + 0.05 * grain + 0.10 * patches)[..., None]
    for _ in range(3):  # mended places
        y = int(rng.integers(shape[0] - 40))
        left = int((HALF_WIDTH + rng.uniform(-half_road, half_road - 1.5)) * ACROSS)
        picture[y : y + int(rng.integers(12, 40)), left : left + int(rng.integers(16, 40))] *= rng.uniform(0.82, 1.1)

    slabs = np.array((0.97, 1.0, 1.02), np.float32) * rng.uniform(118, 165)
    paving = slabs * (1 + 0.05 * grain + 0.09 * patches)[..., None]
    paving[::ALONG] *= 0.84
    paving[:, :: round(0.75 * ACROSS)] *= 0.84
    on_pavement = labels == PAVEMENT
    picture[:, on_pavement] = paving[:, on_pavement]
    grass = np.array(((52, 98, 78), (48, 88, 84), (60, 104, 100))[rng.integers(3)], np.float32)
    on_grass = labels == TREE
    picture[:, on_grass] = (grass * (1 + 0.16 * grain + 0.30 * patches)[..., None])[:, on_grass]
    kerb = (x >= half_road) & (x < half_road + KERB)
    picture[:, kerb] = 1.12 * slabs * (1 + 0.05 * grain[:, kerb])[..., None]
    picture[:, (x < half_road) & (x > half_road - 0.3)] *= 0.80

    paint = np.array((214, 220, 222), np.float32) * rng.uniform(0.85, 1.05)
    s = np.arange(shape[0]) / ALONG
    dashed = (s % 8) < rng.choice((2.0, 4.0, 6.0))
    picture[np.ix_(dashed, x < 0.07)] = paint
    if rng.random() < 0.6:
        yellow = np.array((70, 190, 205), np.float32) * rng.uniform(0.7, 1.0)
        for place in (0.45, 0.7):
            picture[:, np.abs(x - half_road + place) < 0.05] = yellow if style.beyond == "paving" else paint
    if rng.random() < 0.5:
        picture[np.ix_((s % 8) < 1.5, np.abs(x - half_road + 2.1) < 0.06)] = paint
    return to_bytes(picture)


def paint_ground(
    image: np.ndarray,
    labels: np.ndarray,
    ground: Ground,
    rows: np.ndarray,
    ahead: np.ndarray,
    s: np.ndarray,
    x: np.ndarray,
) -> None:
    """Paint rows of an image that look at one kind of ground.

    Args:
        rows: which, from the horizon down.
        ahead, s: [m] distance from the camera and place along the street of each row.
        x: [row, column] distance right of the centre line [m].
    """
    inside = np.clip(x + HALF_WIDTH, 0, 2 * HALF_WIDTH - 0.5) * np.float32(ACROSS)
    labels[rows] = ground.labels[inside.astype(np.int32)]
    limits = [start for start, _, _ in REDUCTIONS] + [np.inf]
    for number, (start, across, along) in enumerate(REDUCTIONS):
        here = np.flatnonzero((ahead >= start) & (ahead < limits[number + 1]))
        if not here.size:
            continue
        columns = inside[here] * np.float32(1 / across)
        lines = np.repeat(((s[here] % PERIOD) * (ALONG / along))[:, None].astype(np.float32), x.shape[1], 1)
        patch = cv2.remap(ground.pictures[number], columns, lines, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        image[rows[here[0]] : rows[here[-1]] + 1] = patch
