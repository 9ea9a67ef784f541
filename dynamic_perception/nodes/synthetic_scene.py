"""A moving scene to look at where there is no camera: one drawn object of a known class after the other.

It tells what it draws (`truth`); whether a network recognises the drawing is another question.
"""

from __future__ import annotations

import cv2
import numpy as np

from dynamic_perception.nodes.scene_backdrops import paint_backdrop
from dynamic_perception.nodes.scene_objects import OBJECTS
from dynamic_perception.nodes.sketch import HEIGHT as SKETCH_HEIGHT
from dynamic_perception.nodes.sketch import WIDTH as SKETCH_WIDTH
from dynamic_perception.nodes.sketch import Sketch

FRAMES_PER_OBJECT = 90  # 3 s at 30 Hz
OBJECT_SHARE = 0.84  # of the frame that the 100 x 75 units of a drawing take; most objects fill 90 % of them
CANVAS_MIN, CANVAS_MAX = 320, 640  # [pixel] longest side that is rendered; other frames are scaled from it
PANORAMA = (1.15, 1.4)  # height and width of a backdrop, in frames: what the camera pans over
PORTRAITS = ("cat", "dog")  # are cut off below and stand on the frame's lower edge
SENSOR_NOISE = 2.5  # standard deviation, in grey levels
NOISE_MARGIN = 64  # [pixel] the noise is moved about by up to this much


class SyntheticScene:
    """Frames of a scene that repeats nothing but its ten objects.

    Args:
        width, height: of the frames [pixel].
        seed: of everything that is random; the same seed and index give the same frame.
    """

    def __init__(self, width: int, height: int, seed: int):
        self._size = (width, height)
        self._seed = seed
        longest = max(width, height)
        scale = min(max(longest, CANVAS_MIN), CANVAS_MAX) / longest
        self._canvas = (max(16, round(width * scale)), max(16, round(height * scale)))
        columns, rows = self._canvas
        self._units = OBJECT_SHARE * min(columns / SKETCH_WIDTH, rows / SKETCH_HEIGHT)  # pixels per unit
        panorama = (round(PANORAMA[0] * rows), round(PANORAMA[1] * columns))
        self._drawings, self._backdrops = {}, {}
        for number, (name, draw) in enumerate(OBJECTS.items()):
            rng = np.random.default_rng((seed, number))
            sketch = Sketch(self._units, rng)
            draw(sketch, rng)
            self._drawings[name] = sketch.image()
            self._backdrops[name] = paint_backdrop(name, panorama, rng)
        noise = SENSOR_NOISE * np.random.default_rng(seed).standard_normal(
            (rows + NOISE_MARGIN, columns + NOISE_MARGIN, 3), np.float32
        )
        self._brighter, self._darker = (np.clip(part + 0.5, 0, 255).astype(np.uint8) for part in (noise, -noise))

    def truth(self, index: int) -> str:
        """The class that frame `index` shows."""
        turn, place = divmod(index // FRAMES_PER_OBJECT, len(OBJECTS))
        order = np.random.default_rng((self._seed, turn)).permutation(len(OBJECTS))
        return list(OBJECTS)[order[place]]

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` (0, 1, ...), uint8 BGR [height, width, 3]."""
        name = self.truth(index)
        columns, rows = self._canvas
        appearance, position = divmod(index, FRAMES_PER_OBJECT)
        share = position / FRAMES_PER_OBJECT  # of this object's time that has passed
        flipped = bool(appearance % 2)

        backdrop = self._backdrops[name]
        along = share if flipped else 1 - share  # objects face left; the backdrop passes to the other side
        left = round(along * (backdrop.shape[1] - columns))
        top = round((0.5 + 0.4 * np.sin(2 * np.pi * share)) * (backdrop.shape[0] - rows))
        picture = backdrop[top : top + rows, left : left + columns].copy()
        self._lay_over(picture, self._drawings[name], self._placement(share, flipped, name in PORTRAITS))

        shift = np.random.default_rng((self._seed, index)).integers(NOISE_MARGIN, size=2)
        noise = np.s_[shift[0] : shift[0] + rows, shift[1] : shift[1] + columns]
        cv2.add(picture, self._brighter[noise], picture)
        cv2.subtract(picture, self._darker[noise], picture)
        if self._size != self._canvas:
            smaller = self._size[0] < columns
            picture = cv2.resize(picture, self._size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
        return picture

    def _placement(self, share: float, flipped: bool, portrait: bool) -> np.ndarray:
        """Affine map [2, 3] from drawing to canvas: the object rocks, comes nearer and sways while its time passes."""
        size = (1.2 if portrait else 1.0) * (0.93 + 0.07 * np.sin(2 * np.pi * share - 0.5 * np.pi))
        angle = np.radians(2.0 * np.sin(4 * np.pi * share))
        turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if flipped:
            turn[:, 0] *= -1
        from_centre = self._units * np.array([SKETCH_WIDTH / 2, SKETCH_HEIGHT / 2])
        sway = 0.03 * np.array([np.sin(2 * np.pi * share), np.cos(4 * np.pi * share)])
        to_centre = np.array(self._canvas) * (0.5 + sway)
        if portrait:
            to_centre[1] = (1.02 + abs(sway[1])) * self._canvas[1] - size * from_centre[1]
        return np.column_stack([turn, to_centre - turn @ from_centre])

    def _lay_over(self, picture: np.ndarray, drawing: np.ndarray, placement: np.ndarray) -> None:
        layer = cv2.warpAffine(drawing, placement, self._canvas, flags=cv2.INTER_LINEAR)
        see_through = cv2.merge([cv2.bitwise_not(cv2.extractChannel(layer, 3))] * 3)
        cv2.multiply(picture, see_through, picture, scale=1 / 255)
        cv2.add(picture, cv2.cvtColor(layer, cv2.COLOR_BGRA2BGR), picture)
