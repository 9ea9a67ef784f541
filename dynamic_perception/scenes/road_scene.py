"""A dashboard camera's view of a street that never ends, with the label of every pixel.

The street is made up, the labels are exact: everything is painted into the image and into the label image at once.
"""

from __future__ import annotations

import cv2
import numpy as np

from dynamic_perception.scenes import cars, road_objects, textures
from dynamic_perception.scenes.ground import paint_ground
from dynamic_perception.scenes.road_layout import SEGMENT_LENGTH, Car, House, Pole, Segment, Strip
from dynamic_perception.scenes.road_view import EYE_HEIGHT, Haze, RoadView
from dynamic_perception.scenes.street import build_street
from dynamic_perception.scenes.traffic import list_traffic

LABELS = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "pedestrian", "bicyclist")

FRAME_RATE = 30.0  # [Hz] that the speeds are meant for
SPEED = 10.0  # [m/s] of the camera
SIGHT = 130.0  # [m] how far things are painted
FLAT = 85.0  # [m] houses farther away have no windows
CHANGE = 30.0  # [m] over which the light changes from one segment's to the next one's
SKY_PIXELS = 456.0  # pixels of the sky's pictures per unit of the view's slope
SENSOR_NOISE = 3.0  # standard deviation, in grey levels
NOISE_MARGIN = 64  # [pixel] the noise is moved about by up to this much


class RoadScene:
    """Frames of a drive and what they show, both functions of the arguments and the index alone.

    Args:
        width, height: of the frames [pixel].
        seed: of everything that is random, at least 0.
    """

    def __init__(self, width: int, height: int, seed: int):
        self._size, self._street = (width, height), build_street(seed)
        rng = np.random.default_rng((seed, 3))
        noise = SENSOR_NOISE * rng.standard_normal((height + NOISE_MARGIN, width + NOISE_MARGIN, 3), np.float32)
        noise = cv2.GaussianBlur(noise, (0, 0), 0.6) * 1.5
        self._brighter, self._darker = (np.clip(part + 0.5, 0, 255).astype(np.uint8) for part in (noise, -noise))
        across, down = np.meshgrid(np.linspace(-1, 1, width), np.linspace(-1, 1, height))
        self._vignette = textures.to_bytes(255 * (1 - 0.12 * (across**2 + down**2) / 2))[..., None].repeat(3, 2)
        self._last: tuple[int, np.ndarray, np.ndarray] | None = None

    def frame(self, index: int) -> np.ndarray:
        """Frame `index` (0, 1, ...), uint8 BGR [height, width, 3]."""
        return self._rendered(index)[0].copy()

    def truth(self, index: int) -> np.ndarray:
        """The label of each pixel of frame `index`, uint8 [height, width]; its place in `LABELS`, or 11 (void)."""
        return self._rendered(index)[1].copy()

    def _rendered(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if self._last is None or self._last[0] != index:
            self._last = (index, *self._render(index))
        return self._last[1:]

    def _render(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        street, time = self._street, index / FRAME_RATE
        s = SPEED * time
        number = int(s // SEGMENT_LENGTH)
        segments = [street.segment(number + step) for step in range(3)]
        change = np.clip((s - segments[1].start) / CHANGE + 1, 0, 1)
        light, following = segments[0].light, segments[1].light
        haze = Haze(
            _between(light.haze, following.haze, change),
            (1 - change) * light.half_distance + change * following.half_distance,
        )
        sides = _between(light.sides, following.sides, change)
        sway = 0.25 * np.sin(2 * np.pi * (time / 17 + street.phases[0]))
        nod, swell = (np.sin(2 * np.pi * (time / period + phase)) for period, phase in zip((1.9, 7), street.phases[1:]))
        pitch = 0.006 * nod * swell
        view = RoadView(*self._size, street.bend, street.lane + sway, s, pitch, haze)
        self._paint_sky(view, segments[0].sky, segments[1].sky, float(change))
        self._paint_ground(view, segments)
        self._paint_things(view, segments, time, sides)
        tone = _between((*light.gain, light.gamma), (*following.gain, following.gamma), change)
        return self._expose(view.image, tone, index), view.labels

    def _paint_sky(self, view: RoadView, sky: int, following: int, change: float) -> None:
        scale = view.focal / SKY_PIXELS
        horizon = int(np.clip(np.ceil(view.centre[1]) + 1, 1, view.height))
        picture = self._street.skies[sky]
        if change > 0:
            picture = cv2.addWeighted(picture, 1 - change, self._street.skies[following], change, 0)
        rows, columns = picture.shape[:2]
        placement = np.array(
            [
                [scale, 0, view.centre[0] - scale * (columns / 2 + SKY_PIXELS * view.slope)],
                [0, scale, view.centre[1] - scale * rows],
            ]
        )
        view.image[:horizon] = cv2.warpAffine(
            picture, placement, (view.width, horizon), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        view.labels[:horizon] = 0
        rows, columns = self._street.skyline.labels.shape
        ahead = 0.8 * SIGHT
        x = -view.sideways(view.s + ahead) - view.slope * ahead
        size = (columns * ahead / SKY_PIXELS, rows * ahead / SKY_PIXELS)
        view.billboard(self._street.skyline, x, view.s + ahead, size, 0.9, y=-0.5)

    def _paint_ground(self, view: RoadView, segments: list[Segment]) -> None:
        first = int(np.clip(np.floor(view.centre[1]) + 1, 0, view.height))
        rows = np.arange(first, view.height)
        ahead = view.focal * EYE_HEIGHT / (rows - view.centre[1] + 0.01)
        s = view.s + ahead
        inside = view.sideways(np.minimum(s, view.s + 400))
        columns = (np.arange(view.width) - view.centre[0]) / view.focal
        x = (ahead[:, None] * columns - inside[:, None]).astype(np.float32)
        for number, segment in enumerate(segments):
            from_here = s >= segment.start if number else np.ones(len(s), bool)
            until = s < segments[number + 1].start if number + 1 < len(segments) else np.ones(len(s), bool)
            here = np.flatnonzero(from_here & until)
            if here.size:
                ground = self._street.grounds[segment.ground]
                paint_ground(view.image, view.labels, ground, rows[here], ahead[here], s[here], x[here])
        self._cast_shadows(view, segments, rows, s, x)
        mist = np.flatnonzero(ahead > 20)
        if mist.size:
            clear = (0.5 ** (np.minimum(ahead[mist], 400) / view.haze.half))[:, None, None]
            part = view.image[rows[mist]]
            view.image[rows[mist]] = (part * clear + np.array(view.haze.colour) * (1 - clear)).astype(np.uint8)

    def _cast_shadows(
        self, view: RoadView, segments: list[Segment], rows: np.ndarray, s: np.ndarray, x: np.ndarray
    ) -> None:
        """Shadows that the houses on one side throw across the street."""
        for segment in segments:
            here = np.flatnonzero((s >= segment.start) & (s < segment.start + SEGMENT_LENGTH))
            if not segment.light.sunshine or not here.size:
                continue
            steps = np.random.default_rng((self._street.seed, 80, int(segment.start) % 2**32)).normal(0, 1.4, 17)
            place = (s[here] - segment.start) / 8
            reach = 0.3 * self._street.half_road + steps[place.astype(int)] + 1.5 * (place % 1)
            depth = np.clip((-segment.light.sunny_side * x[here] + reach[:, None]) * 4, 0, 1)
            keep = textures.to_bytes(255 - 255 * segment.light.sunshine * depth)
            part = np.s_[rows[here[0]] : rows[here[-1]] + 1]
            view.image[part] = cv2.multiply(view.image[part], cv2.merge([keep] * 3), scale=1 / 255)

    def _paint_things(self, view: RoadView, segments: list[Segment], time: float, sides: tuple[float, float]) -> None:
        things = [(thing.s, thing) for thing in list_traffic(self._street, view.s, SIGHT, time)]
        for segment in segments:
            things += segment.things
        here = [item for item in things if view.s - 12 < item[0] < view.s + SIGHT]
        for far, thing in sorted(here, key=lambda item: -item[0]):
            if isinstance(thing, House):
                _paint_house(view, thing, sides[int(thing.side > 0)])
            elif isinstance(thing, Strip):
                if view.s + 1 < far < view.s + 90:
                    light = sides[int(thing.side > 0)]
                    view.face(
                        thing.texture,
                        np.array([thing.x, 0, thing.start]),
                        np.array([0, 0, thing.length]),
                        np.array([0, thing.height, 0]),
                        (light,) * 3,
                        thing.label,
                    )
            elif isinstance(thing, Pole):
                road_objects.paint_pole(view, thing.x, thing.s, thing.height, thing.thickness, thing.colour, thing.arm)
            elif isinstance(thing, Car):
                if view.s + 1 - thing.shape.length < thing.s < view.s + 100:
                    cars.paint_car(view, thing.shape, thing.x, thing.s, thing.forwards, thing.colour)
            else:
                view.billboard(
                    thing.sprite, thing.x, thing.s, thing.size, sides[int(thing.x > 0)], thing.y, thing.flipped
                )

    def _expose(self, image: np.ndarray, tone: tuple[float, ...], index: int) -> np.ndarray:
        """What a camera makes of it: exposure, a lens that is darker at the edges and a little soft, sensor noise."""
        image = cv2.multiply(cv2.GaussianBlur(image, (3, 3), 0.6), self._vignette, scale=1 / 255)
        grey = np.linspace(0, 1, 256)[:, None] ** tone[3]
        cv2.LUT(image, textures.to_bytes(255 * grey * tone[:3])[None], image)
        shift = np.random.default_rng((self._street.seed, 70, index)).integers(NOISE_MARGIN, size=2)
        noise = np.s_[shift[0] : shift[0] + image.shape[0], shift[1] : shift[1] + image.shape[1]]
        cv2.add(image, self._brighter[noise], image)
        return cv2.subtract(image, self._darker[noise], image)


def _between(first: tuple, second: tuple, share: float) -> tuple:
    return tuple(float((1 - share) * a + share * b) for a, b in zip(first, second))


def _paint_house(view: RoadView, house: House, light: float) -> None:
    tint = tuple(light * part for part in house.tint)
    x = house.side * house.front
    end = house.start + house.length
    if house.roof is not None and house.start < view.s + FLAT:
        slope = np.array([house.side * 3.5, 2.4, 0])
        view.face(
            house.roof,
            np.array([x, house.height, house.start]),
            np.array([0, 0, house.length]),
            slope,
            (light,) * 3,
            textures.BUILDING,
        )
    if house.exposed and view.s + 2 < house.start < view.s + FLAT:
        outwards = np.array([house.side * 9.0, 0, 0])
        view.face(
            house.wall,
            np.array([x, 0, house.start]),
            outwards,
            np.array([0, house.height, 0]),
            tuple(0.9 * part for part in tint),
            textures.BUILDING,
        )
        if house.roof is not None:
            ridge = (x + house.side * 3.5, house.height + 2.4, house.start)
            gable = view.project(
                np.array([(x, house.height, house.start), ridge, (x + house.side * 9, house.height, house.start)])
            )
            view.polygon(gable, view.hazy((90, 104, 124), house.start - view.s, light), textures.BUILDING)
    if house.start > view.s + FLAT:
        front = view.project(
            np.array(
                [(x, y, s) for y, s in ((0, house.start), (0, end), (house.height, end), (house.height, house.start))]
            )
        )
        view.polygon(
            front,
            view.hazy(tuple(t * c for t, c in zip(tint, house.texture.mean)), house.start - view.s),
            textures.BUILDING,
        )
    elif end > view.s + 2:
        view.face(
            house.texture,
            np.array([x, 0, house.start]),
            np.array([0, 0, house.length]),
            np.array([0, house.height, 0]),
            tint,
            textures.BUILDING,
        )
