"""Shapes that look round: filled outlines, lit from the upper left as if they were blown up from behind."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np

Point = tuple[float, float]
Colour = tuple[float, float, float]  # RGB, 0..255

WIDTH, HEIGHT = 100.0, 75.0  # of the paper, in the units that all coordinates are given in; y points down
LIGHT = np.array([-0.42, -0.72, 0.55], np.float32)  # direction to the light, about unit length
AMBIENT, DIFFUSE = 0.55, 0.62  # shares of the light; flat faces get AMBIENT + 0.55 * DIFFUSE, about 0.9
SUBPIXEL_BITS = 4  # fixed-point bits of OpenCV's anti-aliased drawing
CURVE_STEPS = 12  # line pieces between two points of a curve


class Sketch:
    """Transparent paper to draw shaded shapes on, back to front.

    Args:
        scale: pixels per unit.
        rng: where textures come from.
    """

    def __init__(self, scale: float, rng: np.random.Generator):
        self._scale = scale
        shape = (round(HEIGHT * scale), round(WIDTH * scale))
        self._colour = np.zeros((*shape, 3), np.float32)  # multiplied by alpha
        self._alpha = np.zeros(shape, np.float32)
        self._grain = cv2.GaussianBlur(rng.standard_normal(shape, np.float32), (0, 0), 0.16 * scale)
        self._grain /= np.abs(self._grain).max()

    def image(self) -> np.ndarray:
        """What was drawn, uint8 BGRA [H, W, 4] with colours multiplied by alpha."""
        picture = np.dstack([self._colour[..., ::-1], 255 * self._alpha])
        return np.clip(picture + 0.5, 0, 255).astype(np.uint8)

    def polygon(self, points: Sequence[Point], colour: Colour, **look: float) -> None:
        """A filled shape with corners."""
        self._fill(np.array(points, np.float64), colour, **look)

    def curve(self, points: Sequence[Point], colour: Colour, **look: float) -> None:
        """A filled shape with a smooth outline through `points`."""
        self._fill(_smooth(np.array(points, np.float64), closed=True), colour, **look)

    def ellipse(self, centre: Point, radii: Point, colour: Colour, angle: float = 0.0, **look: float) -> None:
        """A filled ellipse, turned clockwise by `angle` [degree]."""
        turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
        along, across = radii[0] * np.cos(turn), radii[1] * np.sin(turn)
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        self._fill(
            np.column_stack([centre[0] + along * cosine - across * sine, centre[1] + along * sine + across * cosine]),
            colour,
            **look,
        )

    def limb(self, points: Sequence[tuple[float, float, float]], colour: Colour, **look: float) -> None:
        """A smooth band through (x, y, thickness), with round ends: a leg, a tail, a branch."""
        mask = np.zeros(self._alpha.shape, np.uint8)
        path = _smooth(np.array(points, np.float64), closed=False)
        for x, y, thickness in path:
            centre = (self._fixed(x), self._fixed(y))
            cv2.circle(mask, centre, self._fixed(thickness / 2), 255, -1, cv2.LINE_AA, SUBPIXEL_BITS)
        for (x0, y0, thickness0), (x1, y1, thickness1) in itertools.pairwise(path):
            across = np.array([y0 - y1, x1 - x0]) / (2 * max(np.hypot(x1 - x0, y1 - y0), 1e-6))
            sides = [
                (x0, y0) + across * thickness0,
                (x1, y1) + across * thickness1,
                (x1, y1) - across * thickness1,
                (x0, y0) - across * thickness0,
            ]
            corners = np.round(np.array(sides) * self._scale * 2**SUBPIXEL_BITS).astype(np.int32)
            cv2.fillConvexPoly(mask, corners, 255, cv2.LINE_AA, SUBPIXEL_BITS)
        self._paint(mask, colour, **look)

    def shadow(self, centre: Point, radii: Point, strength: float = 0.45) -> None:
        """A soft dark patch on the ground."""
        mask = np.zeros(self._alpha.shape, np.uint8)
        size = (self._fixed(radii[0]), self._fixed(radii[1]))
        cv2.ellipse(
            mask, (self._fixed(centre[0]), self._fixed(centre[1])), size, 0, 0, 360, 255, -1, cv2.LINE_AA, SUBPIXEL_BITS
        )
        soft = cv2.GaussianBlur(mask, (0, 0), radii[1] * self._scale * 0.5).astype(np.float32) * (strength / 255)
        self._blend(np.s_[:, :], soft, np.zeros((*soft.shape, 3), np.float32))

    def _fixed(self, units: float) -> int:
        return round(units * self._scale * 2**SUBPIXEL_BITS)

    def _fill(self, outline: np.ndarray, colour: Colour, **look: float) -> None:
        mask = np.zeros(self._alpha.shape, np.uint8)
        points = np.round(outline * self._scale * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(mask, [points], 255, cv2.LINE_AA, SUBPIXEL_BITS)
        self._paint(mask, colour, **look)

    def _paint(
        self, mask: np.ndarray, colour: Colour, roundness: float = 3.0, grain: float = 0.0, opacity: float = 1.0
    ) -> None:
        """Paint where `mask` is.

        Args:
            roundness: [unit] width of the edge that bends away; 0: a flat face.
            grain: [0..1] depth of the texture.
            opacity: [0..1].
        """
        x, y, width, height = cv2.boundingRect(mask)
        if not width or not height:
            return
        box = np.s_[y : y + height, x : x + width]
        cover = mask[box]
        light = _light(cover, roundness * self._scale) if roundness else AMBIENT + DIFFUSE * LIGHT[2]
        light = light * (1 + grain * self._grain[box])
        self._blend(box, cover.astype(np.float32) * (opacity / 255), light[..., None] * np.array(colour, np.float32))

    def _blend(self, box: tuple, alpha: np.ndarray, colour: np.ndarray) -> None:
        self._colour[box] += alpha[..., None] * (colour - self._colour[box])
        self._alpha[box] += alpha * (1 - self._alpha[box])


def _light(cover: np.ndarray, edge: float) -> np.ndarray:
    """Lambert's law on a surface that rises like a quarter circle within `edge` [pixel] of the outline."""
    inside = cv2.copyMakeBorder((cover > 127).astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    distance = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
    height = edge * np.sqrt(1 - (1 - np.minimum(distance / edge, 1)) ** 2)
    height = cv2.GaussianBlur(height, (0, 0), max(1.0, 0.25 * edge))
    slope_x = cv2.Sobel(height, cv2.CV_32F, 1, 0, scale=1 / 8)
    slope_y = cv2.Sobel(height, cv2.CV_32F, 0, 1, scale=1 / 8)
    facing = (LIGHT[2] - LIGHT[0] * slope_x - LIGHT[1] * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
    return AMBIENT + DIFFUSE * np.maximum(facing, 0)


def _smooth(points: np.ndarray, closed: bool) -> np.ndarray:
    """Catmull-Rom spline through [N, D] points, uniform knots."""
    ends = (points[-1:], points[:2]) if closed else (points[:1], points[-1:])
    p = np.concatenate([ends[0], points, ends[1]])
    t = np.linspace(0, 1, CURVE_STEPS, endpoint=False)[:, None, None]
    before, start, end, after = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    curve = curve.transpose(1, 0, 2).reshape(-1, points.shape[1])
    return curve if closed else np.concatenate([curve, points[-1:]])
