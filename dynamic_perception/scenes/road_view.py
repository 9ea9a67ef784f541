"""A pinhole camera over a flat street that paints shapes and their labels, back to front.

Street coordinates [m]: x to the right of the road's centre line, y up from the ground, s along the street.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from dynamic_perception.scenes.textures import Sprite, Texture

EYE_HEIGHT = 1.35  # [m] of the camera over the ground
FOCAL_LENGTH = 0.95  # of the width of a 4:3 frame
HORIZON = 0.5  # of the frame's height
VOID = 11  # the label of pixels on which nothing was painted
NEAR = 0.5  # [m] nearer points are moved to here; exact for everything that runs along the street
SUBPIXEL_BITS = 4  # fixed-point bits of OpenCV's anti-aliased drawing
OUTSIDE = 20000  # [pixel] coordinates stay within this, for OpenCV's fixed-point arithmetic

Colour = tuple[float, float, float]  # BGR, 0..255


@dataclass(frozen=True)
class Bend:
    """The centre line of the street, a sum of sines: sideways position [m] at a distance `s` [m] along it."""

    amplitudes: tuple[float, ...]  # [m]
    wave_numbers: tuple[float, ...]  # [rad / m]
    phases: tuple[float, ...]  # [rad]

    def position(self, s: np.ndarray | float) -> np.ndarray | float:
        sine = math.sin if isinstance(s, float) else np.sin
        return sum(a * sine(s * w + p) for a, w, p in zip(self.amplitudes, self.wave_numbers, self.phases))

    def slope(self, s: float) -> float:
        return sum(a * w * math.cos(s * w + p) for a, w, p in zip(self.amplitudes, self.wave_numbers, self.phases))


@dataclass(frozen=True)
class Haze:
    """What the air adds: colours fade to `colour` by half every `half` [m]."""

    colour: Colour
    half: float

    def clear(self, distance: float) -> float:
        return 0.5 ** (max(distance, 0.0) / self.half)


class RoadView:
    """What one camera sees from one place: an image and a label image to paint on.

    Args:
        width, height: of the frame [pixel].
        bend: of the street.
        x, s: of the camera [m].
        pitch: [share of the focal length] by which the horizon lies below its place.
        haze: of this moment.
    """

    def __init__(self, width: int, height: int, bend: Bend, x: float, s: float, pitch: float, haze: Haze):
        self.width, self.height = width, height
        self.focal = FOCAL_LENGTH * max(width, height * 4 / 3)
        self.centre = (0.5 * width, HORIZON * height + pitch * self.focal)
        self.s, self.haze = s, haze
        self._bend = bend
        self._origin = x + bend.position(s)
        self.slope = bend.slope(s)
        self.image = np.zeros((height, width, 3), np.uint8)
        self.labels = np.full((height, width), VOID, np.uint8)

    def to_camera(self, points: np.ndarray) -> np.ndarray:
        """Street coordinates [N, 3] as (right, up, ahead) of the camera [N, 3]."""
        camera = points - (0, EYE_HEIGHT, self.s)
        camera[:, 0] += self.sideways(points[:, 2])
        return camera

    def sideways(self, s: np.ndarray | float) -> np.ndarray | float:
        """How far right of the camera's axis the centre line is at `s` [m]."""
        return self._bend.position(s) - self._origin - self.slope * (s - self.s)

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels [N, 2] of street coordinates [N, 3]."""
        return self._on_screen(self.to_camera(points))

    def _on_screen(self, camera: np.ndarray) -> np.ndarray:
        scale = self.focal / np.maximum(camera[:, 2:], NEAR)
        return self.centre + scale * camera[:, :2] * (1, -1)

    def polygon(self, points: np.ndarray | Sequence[tuple[float, float]], colour: Colour, label: int) -> None:
        """Fill pixels [N, 2], their labels too."""
        corners = np.round(np.clip(points, -OUTSIDE, OUTSIDE) * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(self.image, [corners], colour, cv2.LINE_AA, SUBPIXEL_BITS)
        cv2.fillPoly(self.labels, [corners], label, cv2.LINE_8, SUBPIXEL_BITS)

    def hazy(self, colour: Colour, distance: float, light: float = 1.0) -> Colour:
        """How a colour looks through the air from `distance` [m]; `light`: factor on it."""
        clear = self.haze.clear(distance)
        bright, mist = clear * light, 1 - clear
        blue, green, red = self.haze.colour
        return (bright * colour[0] + mist * blue, bright * colour[1] + mist * green, bright * colour[2] + mist * red)

    def shade(self, points: np.ndarray, strength: float) -> None:
        """Darken the pixels inside a polygon [N, 2]: a shadow on what is there already."""
        box = self._box(points)
        if box is None:
            return
        (left, top), roi = box
        cover = np.zeros(roi.shape[:2], np.uint8)
        corners = np.round((np.clip(points, -OUTSIDE, OUTSIDE) - (left, top)) * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(cover, [corners], 255 * strength, cv2.LINE_AA, SUBPIXEL_BITS)
        reach = max(1, int(0.12 * roi.shape[0])) * 2 + 1
        cover = cv2.bitwise_not(cv2.blur(cover, (reach, reach)))
        cv2.multiply(roi, cv2.merge([cover] * 3), roi, scale=1 / 255)

    def face(
        self, texture: Texture, corner: np.ndarray, across: np.ndarray, up: np.ndarray, light: Colour, label: int
    ) -> None:
        """A rectangle with a texture, as street coordinates: its lower left corner and its two edges from there.

        Args:
            light: factor on the texture's colours.
        """
        corners = np.stack([corner, corner + across, corner + across + up, corner + up])
        ends = self.to_camera(corners)
        pixels = self._on_screen(ends)
        box = self._box(pixels)
        if box is None:
            return
        (left, top), roi = box
        origin, edge, rise = ends[0], ends[1] - ends[0], ends[3] - ends[0]
        far = max(ends[:, 2].max(), 1.0)
        near = max(ends[:, 2].min(), self.focal * min(abs(ends[0, 0]), abs(ends[1, 0])) / self.width, 1.0)
        middle = math.sqrt(near * far)
        wide = self.focal * math.hypot(edge[0], edge[2] * abs(origin[0]) / middle) / middle
        high = self.focal * math.hypot(*rise) / middle
        picture = texture.reduced(wide, high)
        rows, columns = picture.shape[:2]
        to_plane = np.column_stack([edge / columns, -rise / rows, origin + rise])
        lens = np.array([[self.focal, 0, self.centre[0] - left], [0, -self.focal, self.centre[1] - top], [0, 0, 1]])
        patch = cv2.warpPerspective(
            picture, lens @ to_plane, roi.shape[1::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        clear = self.haze.clear(middle)
        cover = np.zeros(roi.shape[:2], np.uint8)
        edges = np.round((np.clip(pixels, -OUTSIDE, OUTSIDE) - (left, top)) * 2**SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(cover, [edges], 255, cv2.LINE_8, SUBPIXEL_BITS)
        under = self.labels[top : top + roi.shape[0], left : left + roi.shape[1]]
        cv2.fillPoly(under, [edges], label, cv2.LINE_8, SUBPIXEL_BITS)
        if texture.transparent:
            cover = cv2.bitwise_and(cover, cv2.extractChannel(patch, 3))
            patch = cv2.cvtColor(patch, cv2.COLOR_BGRA2BGR)
            cover = cv2.compare(cover, 100, cv2.CMP_GT)
        cv2.multiply(patch, (*(clear * part for part in light), 0), patch)
        cv2.add(patch, (*((1 - clear) * part for part in self.haze.colour), 0), patch)
        cv2.copyTo(patch, cover, roi)

    def billboard(
        self,
        sprite: Sprite,
        x: float,
        s: float,
        size: tuple[float, float],
        light: float,
        y: float = 0.0,
        flipped: bool = False,
    ) -> None:
        """A picture that faces the camera, centred at x.

        Args:
            size: width and height [m].
            y: [m] of its lower edge.
        """
        ahead = s - self.s
        if ahead < NEAR:
            return
        right, up = x + self.sideways(float(s)), y - EYE_HEIGHT
        scale = self.focal / ahead
        wide, high = size[0] * scale, size[1] * scale
        left, bottom = self.centre[0] + right * scale - 0.5 * wide, self.centre[1] - up * scale
        box = self._box(np.array([[left, bottom - high], [left + wide, bottom]]))
        if box is None or high < 2:
            return
        (first, top), roi = box
        picture, labels = sprite.reduced(wide, high)
        rows, columns = labels.shape
        grow_x, grow_y = wide / columns, high / rows
        placement = np.array(
            [
                [-grow_x if flipped else grow_x, 0, left - first + (wide if flipped else 0)],
                [0, grow_y, bottom - high - top],
            ]
        )
        layer = cv2.warpAffine(picture, placement, roi.shape[1::-1], flags=cv2.INTER_LINEAR)
        clear = self.haze.clear(ahead)
        cover = cv2.extractChannel(layer, 3)
        colour = cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR)
        cover = cv2.merge([cover] * 3)
        cv2.multiply(colour, (*[clear * light] * 3, 0), colour)
        if clear < 0.97:
            cv2.add(colour, cv2.multiply(cover, (*((1 - clear) / 255 * part for part in self.haze.colour), 0)), colour)
        cv2.multiply(roi, cv2.bitwise_not(cover), roi, scale=1 / 255)
        cv2.add(roi, colour, roi)
        marks = cv2.warpAffine(labels, placement, roi.shape[1::-1], flags=cv2.INTER_NEAREST, borderValue=255)
        under = self.labels[top : top + roi.shape[0], first : first + roi.shape[1]]
        cv2.copyTo(marks, cv2.compare(marks, 255, cv2.CMP_NE), under)

    def _box(self, pixels: np.ndarray) -> tuple[tuple[int, int], np.ndarray] | None:
        """Upper left pixel and the part of the image that `pixels` [N, 2] span; None: nothing of it is visible."""
        low, high = pixels.min(0), pixels.max(0)
        left, top = max(0, math.floor(low[0])), max(0, math.floor(low[1]))
        right, bottom = min(self.width, math.ceil(high[0]) + 1), min(self.height, math.ceil(high[1]) + 1)
        if left >= right or top >= bottom:
            return None
        return (left, top), self.image[top:bottom, left:right]
