"""What stands and moves on a street: people and cyclists as drawings, poles and signs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from dynamic_perception.scenes.road_view import EYE_HEIGHT, Colour, RoadView
from dynamic_perception.scenes.textures import TRANSPARENT, Sprite

POLE, SIGN, PEDESTRIAN, BICYCLIST = 2, 6, 9, 10
FIGURE_SCALE = 90  # [pixel / m] of the drawings of people
STRIDE_PHASES = 8  # drawings of one stride
CLOTHES: tuple[Colour, ...] = (
    (30, 28, 30),
    (52, 40, 34),
    (90, 60, 30),
    (40, 40, 110),
    (60, 70, 60),
    (120, 120, 126),
    (36, 34, 60),
    (110, 90, 60),
    (170, 170, 175),
    (30, 60, 120),
)
FRAMES: tuple[Colour, ...] = ((40, 38, 36), (160, 160, 158), (120, 50, 26), (30, 26, 130), (70, 90, 40))
BOARDS: tuple[Colour, ...] = ((110, 60, 20), (60, 90, 20), (225, 228, 230), (30, 140, 190), (40, 40, 150), (40, 40, 44))
SKINS: tuple[Colour, ...] = ((150, 176, 214), (120, 150, 196), (70, 96, 140))


class _Figure:
    """Paper to draw on, in m, y up from its lower edge; twice as fine as the sprite that it becomes."""

    def __init__(self, width: float, height: float):
        self._scale = 2 * FIGURE_SCALE
        self._size = (round(width * FIGURE_SCALE), round(height * FIGURE_SCALE))
        self._middle, self._ground = width / 2, height
        self._paper = np.zeros((2 * self._size[1], 2 * self._size[0], 4), np.uint8)

    def _pixel(self, point: tuple[float, float]) -> tuple[int, int]:
        return (round((point[0] + self._middle) * self._scale), round((self._ground - point[1]) * self._scale))

    def limb(self, points: list[tuple[float, float]], thickness: float, colour: Colour) -> None:
        for start, end in itertools.pairwise(points):
            cv2.line(
                self._paper,
                self._pixel(start),
                self._pixel(end),
                (*colour, 255),
                max(1, round(thickness * self._scale)),
                cv2.LINE_AA,
            )

    def shape(self, points: list[tuple[float, float]], colour: Colour) -> None:
        cv2.fillPoly(self._paper, [np.array([self._pixel(point) for point in points])], (*colour, 255), cv2.LINE_AA)

    def disc(self, centre: tuple[float, float], radii: tuple[float, float], colour: Colour) -> None:
        axes = (round(radii[0] * self._scale), round(radii[1] * self._scale))
        cv2.ellipse(self._paper, self._pixel(centre), axes, 0, 0, 360, (*colour, 255), -1, cv2.LINE_AA)

    def ring(self, centre: tuple[float, float], radii: tuple[float, float], thickness: float, colour: Colour) -> None:
        axes = (round(radii[0] * self._scale), round(radii[1] * self._scale))
        cv2.ellipse(
            self._paper,
            self._pixel(centre),
            axes,
            0,
            0,
            360,
            (*colour, 255),
            round(thickness * self._scale),
            cv2.LINE_AA,
        )

    def sprite(self, label: int, filled: bool = False) -> Sprite:
        """Args: filled: gaps, as those between spokes, are labelled too."""
        # Drawing with soft edges on empty paper has multiplied the colours by the opacity already.
        picture = cv2.resize(self._paper, self._size, interpolation=cv2.INTER_AREA)
        gloss = np.linspace(1.12, 0.82, picture.shape[1], dtype=np.float32)[None, :, None]
        picture[..., :3] = np.minimum(picture[..., :3] * gloss, picture[..., 3:]).astype(np.uint8)
        cover = np.ascontiguousarray(picture[..., 3])
        if filled:
            cover = cv2.morphologyEx(cover, cv2.MORPH_CLOSE, np.ones((13, 13), np.uint8))
        return Sprite(picture, np.where(cover > 127, np.uint8(label), np.uint8(TRANSPARENT)))


def _shaded(colour: Colour, factor: float) -> Colour:
    return tuple(min(255.0, factor * part) for part in colour)


@dataclass(frozen=True)
class Person:
    """One stride of one person, seen from the front or from behind."""

    strides: tuple[Sprite, ...]
    size: tuple[float, float]  # width and height of the drawings [m]


def draw_pedestrian(rng: np.random.Generator) -> Person:
    coat, trousers, shoes = (CLOTHES[rng.integers(len(CLOTHES))] for _ in range(3))
    skin, hair = SKINS[rng.integers(len(SKINS))], _shaded((40, 60, 90), rng.uniform(0.3, 1.6))
    long_coat, bag, away = rng.random() < 0.35, rng.random() < 0.4, rng.random() < 0.5
    broad, sideways = rng.uniform(0.19, 0.25), rng.random() < 0.3
    strides = []
    for phase in range(STRIDE_PHASES):
        swing = np.sin(2 * np.pi * phase / STRIDE_PHASES)
        figure = _Figure(0.9, 1.8)
        for side in (1, -1):
            lift = 0.10 * max(0.0, side * swing)
            reach = 0.26 * side * swing if sideways else 0.0
            hip = 0.0 if sideways else side * 0.09
            dark = _shaded(trousers, 0.75 if side > 0 else 1.0)
            figure.limb(
                [(hip, 0.86), (hip + 0.55 * reach + 0.02 * side, 0.46 + lift / 2), (hip + reach, 0.09 + lift)],
                0.15,
                dark,
            )
            toe = hip + reach + (0.12 if sideways else 0.02)
            figure.limb([(hip + reach - 0.02, 0.05 + lift), (toe, 0.05 + lift)], 0.09, _shaded(shoes, 0.6))
            arm = -0.24 * side * swing if sideways else 0.0
            shoulder = 0.0 if sideways else side * broad
            figure.limb(
                [
                    (shoulder, 1.40),
                    (shoulder + 0.4 * arm + 0.04 * side, 1.12),
                    (shoulder + arm + 0.05 * side, 0.86 + 0.05 * side * swing),
                ],
                0.11,
                _shaded(coat, 0.8),
            )
            figure.disc((shoulder + arm + 0.05 * side, 0.82 + 0.05 * side * swing), (0.045, 0.055), skin)
        width = 0.15 if sideways else broad
        low = 0.62 if long_coat else 0.82
        figure.shape([(-width, 1.46), (width, 1.46), (width + 0.02, low), (-width - 0.02, low)], coat)
        figure.disc((0, 1.45), (width, 0.06), coat)
        if bag:
            figure.shape([(0.1, 1.35), (0.3, 1.3), (0.32, 0.98), (0.12, 0.95)], (40, 44, 60))
        figure.limb([(0, 1.48), (0, 1.56)], 0.1, skin)
        figure.disc((0.02 if sideways else 0, 1.655), (0.088, 0.12), hair if away else skin)
        figure.disc((0, 1.71), (0.094, 0.085), hair)
        strides.append(figure.sprite(PEDESTRIAN))
    return Person(tuple(strides), (0.9, 1.8))


def draw_cyclist(rng: np.random.Generator) -> Person:
    """A person on a bicycle, a little from the side."""
    coat, trousers = (CLOTHES[rng.integers(len(CLOTHES))] for _ in range(2))
    if rng.random() < 0.35:
        coat = (40, 220, 220)
    skin, frame = SKINS[rng.integers(len(SKINS))], FRAMES[rng.integers(len(FRAMES))]
    helmet = _shaded((200, 200, 210), rng.uniform(0.2, 1.1))
    squeeze = rng.uniform(0.25, 0.6)  # of the bicycle's length, by perspective
    strides = []
    for phase in range(STRIDE_PHASES):
        turn = 2 * np.pi * phase / STRIDE_PHASES
        figure = _Figure(1.3, 1.8)
        for x in (-0.52, 0.52):
            figure.ring((squeeze * x, 0.34), (max(0.05, 0.33 * squeeze), 0.33), 0.045, (22, 22, 24))
            figure.limb([(squeeze * x, 0.34), (squeeze * x, 0.66)], 0.03, frame)
        figure.limb(
            [(-0.5 * squeeze, 0.34), (0, 0.3), (0.4 * squeeze, 0.84), (-0.15 * squeeze, 0.86), (0, 0.3)], 0.045, frame
        )
        figure.limb([(0.44 * squeeze - 0.2, 1.02), (0.44 * squeeze + 0.2, 1.02)], 0.04, (30, 30, 32))
        for side in (1, -1):
            pedal = (
                squeeze * 0.17 * np.cos(turn + side * np.pi / 2) + 0.07 * side,
                0.30 + 0.17 * np.sin(turn + side * np.pi / 2),
            )
            knee = (0.24 * squeeze + 0.11 * side, 0.5 * (pedal[1] + 0.95) + 0.12)
            figure.limb(
                [(0.09 * side - 0.1 * squeeze, 0.95), knee, pedal], 0.14, _shaded(trousers, 0.75 if side > 0 else 1)
            )
            figure.limb([pedal, (pedal[0] + 0.08, pedal[1] - 0.03)], 0.08, (26, 26, 28))
        lean = 0.3 * squeeze
        for side in (1, -1):
            hand = (0.44 * squeeze + 0.18 * side, 1.04)
            figure.limb([(lean + 0.19 * side, 1.42), (lean + 0.26 * side, 1.2), hand], 0.1, _shaded(coat, 0.8))
        seat = -0.1 * squeeze
        figure.shape([(seat - 0.16, 0.9), (seat + 0.16, 0.9), (lean + 0.22, 1.46), (lean - 0.22, 1.46)], coat)
        figure.disc((lean, 1.45), (0.21, 0.07), coat)
        figure.disc((lean + 0.03, 1.62), (0.088, 0.115), skin)
        figure.disc((lean + 0.02, 1.68), (0.105, 0.085), helmet)
        strides.append(figure.sprite(BICYCLIST, filled=True))
    return Person(tuple(strides), (1.3, 1.8))


def paint_pole(
    view: RoadView, x: float, s: float, height: float, thickness: float, colour: Colour, arm: float = 0.0
) -> None:
    """A pole, with an arm of that length [m] to the right and a lamp at its end."""
    distance = s - view.s
    if distance < 1.0:
        return
    scale = view.focal / distance
    foot = view.centre[0] + (x + view.sideways(float(s))) * scale
    ground = view.centre[1] + EYE_HEIGHT * scale
    if not -2 * scale < foot < view.width + 2 * scale:
        return
    half, top = max(0.6, 0.5 * thickness * scale), ground - height * scale
    left, right = foot - 0.7 * half, foot + 0.7 * half
    paint = view.hazy(colour, distance)
    view.polygon(((foot - half, ground), (foot + half, ground), (right, top), (left, top)), paint, POLE)
    if half > 1.5:
        dark = view.hazy(colour, distance, 0.65)
        corners = ((foot + 0.2 * half, ground), (foot + half, ground), (right, top), (foot + 0.1 * half, top))
        view.polygon(corners, dark, POLE)
    if arm:
        end, tip, thin = foot + arm * scale, top - 0.12 * abs(arm) * scale, max(0.5, 0.7 * half)
        view.polygon(((foot, top - thin), (end, tip - thin), (end, tip + thin), (foot, top + thin)), paint, POLE)
        long, thick = 0.35 * scale, max(0.7, 0.07 * scale)
        lamp = (
            (end - long, tip - thick),
            (end + long, tip - thick),
            (end + long, tip + thick),
            (end - long, tip + thick),
        )
        view.polygon(lamp, view.hazy((190, 190, 186), distance), POLE)


def draw_sign(rng: np.random.Generator, kind: str) -> tuple[Sprite, tuple[float, float]]:
    """A sign board and its size [m]: "round", "triangle", "board" or "lights"."""
    size = {
        "round": (0.75, 0.75),
        "triangle": (0.85, 0.78),
        "board": (rng.uniform(0.9, 1.8), rng.uniform(0.6, 1.3)),
        "lights": (0.42, 1.05),
    }[kind]
    figure = _Figure(*size)
    wide, high = size
    if kind == "round":
        rim, face = (((36, 30, 190), (235, 235, 235)), ((150, 70, 20), (170, 90, 30)))[rng.integers(2)]
        figure.disc((0, high / 2), (wide / 2, high / 2), rim)
        figure.disc((0, high / 2), (0.36 * wide, 0.36 * high), face)
        ink = (30, 30, 30) if face[0] > 200 else (235, 235, 235)
        figure.limb([(-0.1, 0.3 * high), (-0.1, 0.68 * high)], 0.07, ink)
        figure.limb([(0.1, 0.3 * high), (0.1, 0.68 * high)], 0.1, ink)
    elif kind == "triangle":
        figure.shape([(-wide / 2, 0.02), (wide / 2, 0.02), (0, high)], (36, 30, 190))
        figure.shape([(-0.3 * wide, 0.12 * high), (0.3 * wide, 0.12 * high), (0, 0.76 * high)], (235, 235, 235))
        figure.limb([(0, 0.2 * high), (0, 0.52 * high)], 0.08, (30, 30, 30))
    elif kind == "board":
        base = BOARDS[rng.integers(len(BOARDS))]
        ink = (30, 30, 30) if sum(base) > 400 else (232, 235, 236)
        for margin, colour in ((0.0, _shaded(ink, 0.9)), (0.04, base)):
            edge = wide / 2 - margin
            figure.shape([(-edge, margin), (edge, margin), (edge, high - margin), (-edge, high - margin)], colour)
        for y in np.arange(0.16, high - 0.12, 0.2):
            figure.limb([(0.14 - wide / 2, y), (rng.uniform(0, 0.4) * wide, y)], 0.07, ink)
    else:
        figure.shape([(-wide / 2, 0), (wide / 2, 0), (wide / 2, high), (-wide / 2, high)], (26, 26, 26))
        lit = int(rng.integers(3))
        for number, colour in enumerate(((70, 220, 60), (40, 180, 250), (50, 50, 240))):
            figure.disc((0, 0.19 + 0.335 * number), (0.12, 0.12), colour if number == lit else _shaded(colour, 0.2))
    return figure.sprite(SIGN), size
