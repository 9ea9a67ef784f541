"""Cars: side views that are extruded across their width, each face painted if it looks at the camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from dynamic_perception.scenes.road_view import OUTSIDE, SUBPIXEL_BITS, Colour, RoadView

CAR = 8
DETAILED = 45.0  # [m] from which on lamps, plates and wheels are left out
PAINTS: tuple[Colour, ...] = (
    (40, 38, 36),
    (60, 58, 56),
    (160, 160, 158),
    (200, 204, 206),
    (120, 50, 26),
    (30, 26, 130),
    (70, 90, 40),
    (150, 140, 120),
    (90, 60, 30),
    (26, 24, 24),
    (30, 40, 170),
)
MATERIALS: dict[str, Colour] = {
    "glass": (66, 60, 54),
    "sheen": (136, 126, 114),
    "rubber": (26, 26, 28),
    "hub": (128, 130, 132),
    "dark": (30, 30, 32),
    "tail lamp": (36, 30, 180),
    "head lamp": (222, 228, 232),
    "rear plate": (60, 195, 220),
    "front plate": (210, 215, 218),
}


@dataclass(frozen=True)
class CarShape:
    """A side view (s, y) [m], from the rear bumper over the roof to the front bumper, and what runs across it."""

    width: float
    profile: tuple[tuple[float, float], ...]
    glazed: tuple[int, ...]  # which pieces of the profile are windows
    windows: tuple[tuple[tuple[float, float], ...], ...]  # in the side
    wheels: tuple[float, float]
    wheel_radius: float = 0.32

    @property
    def length(self) -> float:
        return self.profile[-1][0]


HATCHBACK = CarShape(
    1.7,
    (
        (0, 0.3),
        (0.0, 0.62),
        (0.12, 0.95),
        (0.5, 1.42),
        (1.1, 1.5),
        (2.1, 1.44),
        (3.0, 0.98),
        (3.75, 0.8),
        (3.95, 0.55),
        (3.95, 0.28),
    ),
    (2, 5),
    (((0.5, 1.0), (0.68, 1.36), (1.3, 1.4), (1.3, 0.98)), ((1.38, 0.98), (1.38, 1.4), (2.05, 1.36), (2.75, 0.98))),
    (0.72, 3.15),
)
SALOON = CarShape(
    1.78,
    (
        (0, 0.32),
        (0.0, 0.7),
        (0.1, 0.96),
        (0.75, 1.0),
        (1.35, 1.4),
        (1.9, 1.45),
        (2.6, 1.4),
        (3.4, 0.95),
        (4.35, 0.78),
        (4.5, 0.55),
        (4.5, 0.3),
    ),
    (3, 6),
    (((1.0, 1.0), (1.45, 1.34), (1.95, 1.37), (1.95, 0.97)), ((2.03, 0.97), (2.03, 1.37), (2.55, 1.33), (3.1, 0.95))),
    (0.85, 3.6),
)
ESTATE = CarShape(
    1.78,
    (
        (0, 0.32),
        (0.0, 0.8),
        (0.15, 1.0),
        (0.4, 1.44),
        (1.5, 1.5),
        (2.5, 1.44),
        (3.3, 0.97),
        (4.2, 0.8),
        (4.4, 0.55),
        (4.4, 0.3),
    ),
    (2, 5),
    (((0.5, 1.02), (0.62, 1.38), (1.5, 1.42), (1.5, 1.0)), ((1.58, 1.0), (1.58, 1.42), (2.42, 1.36), (3.05, 0.97))),
    (0.8, 3.5),
)
VAN = CarShape(
    2.0,
    ((0, 0.35), (0.0, 1.1), (0.05, 1.7), (0.12, 2.1), (3.4, 2.15), (4.1, 1.2), (4.8, 1.0), (5.0, 0.6), (5.0, 0.32)),
    (1, 4),
    (((3.0, 1.2), (3.0, 1.85), (3.4, 1.85), (3.95, 1.2)),),
    (0.9, 4.1),
    0.35,
)
BUS = CarShape(
    2.5,
    ((0, 0.35), (0.0, 1.1), (0.0, 2.5), (0.1, 3.0), (9.8, 3.0), (10.0, 2.7), (10.1, 1.1), (10.1, 0.35)),
    (1, 5),
    (((0.5, 1.2), (0.5, 2.4), (4.6, 2.4), (4.6, 1.2)), ((4.8, 1.2), (4.8, 2.4), (9.6, 2.4), (9.6, 1.2))),
    (2.4, 7.6),
    0.48,
)
SHAPES = (HATCHBACK, HATCHBACK, HATCHBACK, SALOON, SALOON, ESTATE, ESTATE, VAN, BUS)
PARKED_SHAPES = SHAPES[:-1]


@dataclass(frozen=True)
class _Face:
    """A polygon of a car's model: points `start` to `stop` of it."""

    start: int
    stop: int
    material: str  # of MATERIALS, or "paint"
    shade: float  # share of the light that it gets
    side: int  # -1, 1: belongs to the left or right side; 0: to none
    tested: bool  # whether its winding tells if it looks at the camera


class _Model:
    """All faces of one shape, in the order in which they are painted, with its nearest part at s = 0."""

    def __init__(self, shape: CarShape, forwards: bool, detailed: bool):
        self._shape, self._forwards = shape, forwards
        self._points: list[np.ndarray] = []
        self.faces: list[_Face] = []
        self._build(detailed)
        self.points = np.concatenate(self._points)

    def _build(self, detailed: bool) -> None:
        shape, half = self._shape, self._shape.width / 2
        self._across(-0.94, 0.94, 0.15, 0.5, "dark", 0.02)
        for axle in shape.wheels if detailed else ():
            for side in (-1, 1):
                inner, outer = sorted((side * (1 - 0.22 / half), side))
                self._across(inner, outer, 0.0, 0.4, "rubber", self._along(axle) - 0.9 * shape.wheel_radius)
        pieces = range(len(shape.profile) - 1)
        for number in reversed(pieces) if self._forwards else pieces:
            self._add_piece(number, detailed)
        for side in (-1, 1):
            self._add_side(side, detailed)
        if detailed:
            self._add_end()

    def _along(self, place: np.ndarray | float) -> np.ndarray | float:
        return place if self._forwards else self._shape.length - place

    def _lean(self, y: np.ndarray) -> np.ndarray:
        """Half the width at the height `y`: cars are narrower at the roof, vans and buses are not."""
        low = self._shape.profile[3][1] < 1.8
        return self._shape.width / 2 * (1 - 0.16 * low * np.clip((np.asarray(y) - 0.95) / 0.5, 0, 1))

    def _add(self, points: np.ndarray, material: str, shade: float = 1.0, side: int = 0, tested: bool = False) -> None:
        start = sum(map(len, self._points))
        self._points.append(points)
        self.faces.append(_Face(start, start + len(points), material, shade, side, tested))

    def _across(
        self, left: float, right: float, low: float, high: float, material: str, s: float = -0.01, shade: float = 1.0
    ) -> None:
        half = self._shape.width / 2
        left, right = left * half, right * half
        self._add(np.array([(left, low, s), (right, low, s), (right, high, s), (left, high, s)]), material, shade)

    def _add_piece(self, number: int, detailed: bool) -> None:
        """The strip between two points of the profile, from the left side to the right one."""
        ends = np.array(self._shape.profile[number : number + 2])
        if not self._forwards:
            ends = ends[::-1]  # so that the winding is the same
        (near, far), (low, high) = self._along(ends[:, 0]), ends[:, 1]
        (below, above) = self._lean(ends[:, 1])
        quad = np.array([(-below, low, near), (below, low, near), (above, high, far), (-above, high, far)])
        run, rise = abs(far - near), abs(high - low)
        upwards = run / max(run + rise, 1e-6)
        self._add(quad, "paint", 0.74 + 0.42 * upwards, tested=True)
        if number in self._shape.glazed:
            pane = quad.mean(0) + (quad - quad.mean(0)) * 0.87
            self._add(pane, "glass", 0.75 + 0.8 * upwards, tested=True)
            if detailed:
                lower = 0.45 * pane[:2] + 0.55 * pane[:1:-1]
                self._add(np.concatenate([lower, pane[2:]]), "sheen", 0.8, tested=True)

    def _add_side(self, side: int, detailed: bool) -> None:
        shape, half = self._shape, self._shape.width / 2

        def place(outline: np.ndarray) -> np.ndarray:
            return np.column_stack([side * self._lean(outline[:, 1]), outline[:, 1], self._along(outline[:, 0])])

        self._add(place(np.array(shape.profile)), "paint", 0.84 if side > 0 else 0.72, side)
        for window in shape.windows:
            self._add(place(np.array(window)), "glass", 0.9, side)
        turn = np.linspace(0, 2 * np.pi, 12 if detailed else 6, endpoint=False)
        if detailed:
            length = shape.length
            sill = ((0.03 * length, 0.28), (0.97 * length, 0.28), (0.97 * length, 0.42), (0.03 * length, 0.42))
            self._add(place(np.array(sill)), "dark", 1.0, side)
        for axle in shape.wheels:
            for radius, material in ((1.2, "dark"), (1.0, "rubber"), (0.6, "hub"))[0 if detailed else 1 :]:
                r = radius * shape.wheel_radius
                rim = np.column_stack([axle + r * np.cos(turn), np.maximum(shape.wheel_radius + r * np.sin(turn), 0)])
                upright = np.column_stack([np.full(len(rim), side * half), rim[:, 1], self._along(rim[:, 0])])
                self._add(upright, material, 1.0, side)

    def _add_end(self) -> None:
        """Lamps, number plate and bumper of the end that the camera sees."""
        self._across(-0.97, 0.97, 0.3, 0.43, "dark")
        for side in (-1, 1):
            inner, outer = sorted((side * 0.66, side * 0.96))
            if self._forwards:
                self._across(inner, outer, 0.58, 0.76, "tail lamp")
            else:
                self._across(inner, outer, 0.50, 0.64, "head lamp")
        if self._forwards:
            self._across(-0.3, 0.3, 0.46, 0.56, "rear plate")
        else:
            self._across(-0.56, 0.56, 0.50, 0.60, "dark")
            self._across(-0.28, 0.28, 0.37, 0.46, "front plate")


_model = lru_cache(maxsize=None)(_Model)


def paint_car(view: RoadView, shape: CarShape, x: float, s: float, forwards: bool, colour: Colour) -> None:
    """A car centred at x whose nearest part, as seen by the camera, is at s; `forwards`: it shows its rear."""
    distance = max(s - view.s, 1.0)
    half = shape.width / 2
    left, right, far = x - 1.06 * half, x + 1.06 * half, s + shape.length + 0.2
    ground = np.array([(left, 0, s - 0.3), (right, 0, s - 0.3), (right, 0, far), (left, 0, far)])
    view.shade(view.project(ground), 0.62)
    model = _model(shape, forwards, distance < DETAILED)
    pixels = view.project(model.points + np.array((x, 0, s)))
    corners = np.rint(np.clip(pixels, -OUTSIDE, OUTSIDE) * 2**SUBPIXEL_BITS).astype(np.int32)
    aside = x + view.sideways(float(s))
    visible = {0: True, 1: aside + half < 0, -1: aside - half > 0}
    for face in model.faces:
        if not visible[face.side]:
            continue
        outline = corners[face.start : face.stop]
        if face.tested:
            (x0, y0), (x1, y1), (x2, y2) = outline[:3].tolist()
            if (x1 - x0) * (y2 - y0) - (y1 - y0) * (x2 - x0) >= 0:  # y points down in images
                continue
        paint = view.hazy(colour if face.material == "paint" else MATERIALS[face.material], distance, face.shade)
        cv2.fillPoly(view.image, [outline], paint, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.fillPoly(view.labels, [outline], CAR, cv2.LINE_8, SUBPIXEL_BITS)
