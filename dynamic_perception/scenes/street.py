"""A street as its seed makes it: its bends, its segments, and the pictures that it is put together from."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dynamic_perception.scenes import textures
from dynamic_perception.scenes.ground import STYLES, Ground
from dynamic_perception.scenes.road_layout import KINDS, WEATHERS, Segment, Stock, lay_out
from dynamic_perception.scenes.road_view import Bend

KEPT_SEGMENTS = 8


class Street:
    """Everything about a street that does not depend on the camera.

    Attributes:
        seed: that made it.
        half_road: half the width of the carriageway [m].
        lane: where the camera and the cars before it drive [m], negative: on the left.
        bend: of the centre line.
        phases: four random numbers in [0, 1) for what swings.
        stock, grounds, skies, skyline: its pictures.
    """

    def __init__(self, seed: int):
        rng = np.random.default_rng((seed, 0))
        self.seed = seed
        self.half_road = rng.uniform(4.4, 5.1)
        self.lane = -0.30 * self.half_road
        self.bend = Bend(
            (rng.uniform(4, 14), rng.uniform(0.5, 2.0)),
            (rng.uniform(0.008, 0.012), rng.uniform(0.016, 0.024)),
            tuple(rng.uniform(0, 2 * np.pi, 2).tolist()),
        )
        self.phases = rng.uniform(0, 1, 4).tolist()
        self.stock = Stock(rng)
        self.grounds = [Ground(rng, STYLES[kind], self.half_road) for kind in KINDS for _ in range(2)]
        self.skies = [textures.sky(rng, weather) for weather in WEATHERS for _ in range(2)]
        self.skyline = textures.skyline(rng)
        self._segments: dict[int, Segment] = {}

    def segment(self, number: int) -> Segment:
        """Segment `number`; the latest ones are kept."""
        if number not in self._segments:
            if len(self._segments) >= KEPT_SEGMENTS:
                self._segments.pop(next(iter(self._segments)))
            self._segments[number] = lay_out(self.seed, number, self.stock, self.half_road)
        return self._segments[number]


# One second of drawing; scenes of other sizes on the same street share it.
build_street = lru_cache(maxsize=1)(Street)
