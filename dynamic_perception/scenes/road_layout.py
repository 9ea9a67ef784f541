"""Where things stand along one stretch of the street, drawn at random from the seed and the stretch's number."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dynamic_perception.scenes import cars, road_objects, textures
from dynamic_perception.scenes.ground import STYLES

SEGMENT_LENGTH = 120.0  # [m]
KINDS = ("high street", "residential", "open road")
WEATHERS = ("bright", "overcast", "dull", "dusk")
HOUSES, SHOPS, TREES, PEOPLE, CYCLISTS, SIGNS = 10, 10, 6, 12, 8, 4


class Stock:
    """The pictures that one street is put together from."""

    def __init__(self, rng: np.random.Generator):
        self.houses = [textures.facade(rng, shop=False) for _ in range(HOUSES)]
        self.shops = [textures.facade(rng, shop=True) for _ in range(SHOPS)]
        self.roofs = [textures.roof(rng) for _ in range(3)]
        self.walls = [textures.wall(rng) for _ in range(4)]
        self.fences = [textures.railing(rng) for _ in range(7)]
        self.hedges = [textures.hedge(rng) for _ in range(3)]
        self.leafy = [textures.leafy_tree(rng) for _ in range(TREES)]
        self.bare = [textures.bare_tree(rng) for _ in range(TREES)]
        self.bushes = [textures.bush(rng) for _ in range(4)]
        self.people = [road_objects.draw_pedestrian(rng) for _ in range(PEOPLE)]
        self.cyclists = [road_objects.draw_cyclist(rng) for _ in range(CYCLISTS)]
        self.signs = {
            kind: [road_objects.draw_sign(rng, kind) for _ in range(SIGNS)]
            for kind in ("round", "triangle", "board", "lights")
        }


@dataclass(frozen=True)
class House:
    side: int
    front: float  # distance of its front from the centre line [m]
    start: float  # s [m]
    length: float
    height: float
    texture: textures.Texture
    wall: textures.Texture
    roof: textures.Texture | None
    exposed: bool  # whether its side towards the camera can be seen
    tint: tuple[float, float, float]


@dataclass(frozen=True)
class Strip:
    """A fence or a hedge along the street."""

    side: int
    x: float
    start: float
    length: float
    height: float
    texture: textures.Texture
    label: int


@dataclass(frozen=True)
class Picture:
    """A sprite that stands at a place."""

    sprite: textures.Sprite
    x: float
    s: float
    size: tuple[float, float]
    y: float = 0.0
    flipped: bool = False


@dataclass(frozen=True)
class Pole:
    x: float
    s: float
    height: float
    thickness: float
    colour: tuple[float, float, float]
    arm: float = 0.0


@dataclass(frozen=True)
class Car:
    """A car, parked or driving."""

    shape: cars.CarShape
    x: float
    s: float
    forwards: bool
    colour: tuple[float, float, float]


@dataclass(frozen=True)
class Light:
    """What the weather does to colours."""

    weather: str
    gain: tuple[float, float, float]  # on the finished image, BGR
    gamma: float  # above 1: the ground is dark before a bright sky
    sunshine: float  # 0..1, how dark shadows of houses are
    sunny_side: int  # -1, 1: the houses on the other side throw them
    sides: tuple[float, float]  # brightness of what stands left and right of the street
    haze: tuple[float, float, float]
    half_distance: float  # [m]


@dataclass(frozen=True)
class Segment:
    start: float  # s [m]
    ground: int  # which of the street's ground pictures
    light: Light
    sky: int
    houses: tuple[House, ...]
    strips: tuple[Strip, ...]
    pictures: tuple[Picture, ...]
    poles: tuple[Pole, ...]
    cars: tuple[Car, ...]

    @cached_property
    def things(self) -> list[tuple[float, House | Strip | Picture | Pole | Car]]:
        """Everything that stands here, with the place [m] of its far end, or of its near one if it is short."""
        long = [(thing.start + thing.length, thing) for thing in (*self.houses, *self.strips)]
        return long + [(thing.s, thing) for thing in (*self.pictures, *self.poles, *self.cars)]


def lay_out(seed: int, number: int, stock: Stock, half_road: float) -> Segment:
    """Segment `number` (any integer) of a street whose carriageway is 2 `half_road` [m] wide."""
    rng = np.random.default_rng((seed, 1, number % 2**32))
    turn = np.random.default_rng((seed, 2, (number // 3) % 2**32)).permutation(3)
    kind = KINDS[turn[number % 3]]
    plan = _Plan(rng, number * SEGMENT_LENGTH, kind, stock, half_road)
    plan.build()
    light = _light(rng)
    return Segment(
        number * SEGMENT_LENGTH,
        2 * KINDS.index(kind) + int(rng.integers(2)),
        light,
        2 * WEATHERS.index(light.weather) + int(rng.integers(2)),
        tuple(plan.houses),
        tuple(plan.strips),
        tuple(plan.pictures),
        tuple(plan.poles),
        tuple(plan.cars),
    )


def _light(rng: np.random.Generator) -> Light:
    weather = WEATHERS[rng.choice(4, p=(0.35, 0.35, 0.15, 0.15))]
    gain, gamma, contrast, haze, half = {
        "bright": ((0.98, 1.0, 1.04), 1.25, 0.30, (238, 230, 220), 280.0),
        "overcast": ((1.0, 1.0, 0.99), 1.3, 0.06, (232, 232, 230), 220.0),
        "dull": ((0.95, 0.93, 0.91), 1.45, 0.05, (215, 212, 208), 180.0),
        "dusk": ((0.90, 0.91, 0.95), 1.65, 0.20, (196, 206, 222), 260.0),
    }[weather]
    sunny = 1 if rng.random() < 0.5 else -1
    sides = (1 - sunny * contrast / 2, 1 + sunny * contrast / 2)
    sunshine = rng.uniform(0.25, 0.5) if weather == "bright" else 0.0
    tinted = rng.uniform(0.93, 1.04) * rng.uniform(0.98, 1.02, 3) * gain
    return Light(
        weather,
        tuple(tinted.tolist()),
        gamma * rng.uniform(0.8, 1.2),
        sunshine,
        sunny,
        sides,
        haze,
        half * rng.uniform(0.7, 1.3),
    )


class _Plan:
    """One segment while it is being laid out."""

    def __init__(self, rng: np.random.Generator, start: float, kind: str, stock: Stock, half_road: float):
        self._rng, self._start, self._kind, self._stock, self._road = rng, start, kind, stock, half_road
        self._style = STYLES[kind]
        self._leafy = rng.random() < 0.55
        self.houses, self.strips, self.pictures, self.poles, self.cars = [], [], [], [], []

    def build(self) -> None:
        for side in (-1, 1):
            self._build_houses(side)
            self._plant(side)
            self._fence(side)
            self._park(side)
        self._put_up_poles()
        self._put_up_signs()

    def _any(self, things):
        return things[self._rng.integers(len(things))]

    def _build_houses(self, side: int) -> None:
        rng, kind = self._rng, self._kind
        depth = {"high street": 0.0, "residential": rng.uniform(2.0, 4.5), "open road": rng.uniform(7, 13)}[kind]
        front = self._road + self._style.pavement + self._style.verge + depth
        terrace = kind == "residential" and rng.random() < 0.5
        same, tint = self._any(self._stock.houses), self._tint()
        s, gap, beside = self._start + rng.uniform(0, 4), 1.0, 0.0  # `beside`: height of the house before
        while s < self._start + SEGMENT_LENGTH - 5:
            texture = same if terrace else self._any(self._stock.shops if kind == "high street" else self._stock.houses)
            rows, columns = texture.picture.shape[:2]
            length, height = columns / textures.FACADE_SCALE, rows / textures.FACADE_SCALE
            if kind == "open road":
                length, height = 1.6 * length, 0.75 * height
            pitched = rng.random() < (0.3 if kind == "high street" else 0.85)
            if kind != "open road" or rng.random() < 0.7:
                set_back = rng.uniform(0, 0.5) if gap > 0 else 0.0
                wall, roof = self._any(self._stock.walls), self._any(self._stock.roofs) if pitched else None
                self.houses.append(
                    House(
                        side,
                        front + set_back,
                        s,
                        length,
                        height,
                        texture,
                        wall,
                        roof,
                        gap > 0 or height > beside,
                        tint if terrace else self._tint(),
                    )
                )
            gap = {
                "high street": 0.0 if rng.random() < 0.75 else rng.uniform(2, 9),
                "residential": rng.uniform(1.5, 7),
                "open road": rng.uniform(4, 16),
            }[kind]
            gap, beside = 0.0 if terrace and rng.random() < 0.8 else gap, height
            s += length + gap

    def _tint(self) -> tuple[float, float, float]:
        return tuple(self._rng.uniform(0.72, 1.12) * self._rng.uniform(0.92, 1.08, 3))

    def _plant(self, side: int) -> None:
        rng = self._rng
        spacing = {"high street": 44, "residential": 13, "open road": 9}[self._kind]
        s = self._start + rng.uniform(0, spacing)
        while s < self._start + SEGMENT_LENGTH:
            leafy = rng.random() < (0.85 if self._leafy else 0.15)
            size = rng.uniform(5, 10) if self._kind != "high street" else rng.uniform(4.5, 7.5)
            inside = self._road + self._style.pavement
            x = {
                "high street": self._road + 0.8,
                "residential": inside + rng.uniform(0.8, 3.0),
                "open road": inside + self._style.verge + rng.uniform(0.5, 8),
            }[self._kind]
            sprite = self._any(self._stock.leafy if leafy else self._stock.bare)
            self.pictures.append(
                Picture(sprite, side * x, s, (size, size * rng.uniform(0.9, 1.15)), flipped=rng.random() < 0.5)
            )
            if self._kind != "high street" and rng.random() < 0.4:
                self.pictures.append(
                    Picture(
                        self._any(self._stock.bushes),
                        side * (x + rng.uniform(0, 1)),
                        s + 2,
                        (rng.uniform(1.5, 3), rng.uniform(0.9, 1.8)),
                    )
                )
            s += spacing * rng.uniform(0.6, 1.5)

    def _fence(self, side: int) -> None:
        rng, kind = self._rng, self._kind
        pavement = self._road + self._style.pavement
        s = self._start + rng.uniform(2, 20)
        while s < self._start + SEGMENT_LENGTH - 4:
            if kind == "high street":
                length, x, gap = 8.0 * rng.integers(1, 4), self._road + 0.35, rng.uniform(25, 60)
            else:
                length, x, gap = 8.0 * rng.integers(1, 4), pavement + self._style.verge + 0.1, rng.uniform(3, 9)
            hedged = kind != "high street" and rng.random() < 0.3
            texture = self._any(self._stock.hedges if hedged else self._stock.fences)
            height = rng.uniform(0.9, 1.2) if kind == "high street" or not hedged else rng.uniform(1.2, 2.0)
            for piece in np.arange(0, length, 8.0):
                self.strips.append(
                    Strip(side, side * x, s + piece, 8.0, height, texture, textures.TREE if hedged else textures.FENCE)
                )
            s += length + gap

    def _park(self, side: int) -> None:
        rng = self._rng
        likely = {"high street": 0.45, "residential": 0.6, "open road": 0.18}[self._kind] * rng.choice((0.15, 1.0))
        s = self._start + rng.uniform(0, 6)
        while s < self._start + SEGMENT_LENGTH:
            shape = self._any(cars.PARKED_SHAPES)
            if rng.random() < likely:
                self.cars.append(
                    Car(
                        shape,
                        side * (self._road - 0.15 - shape.width / 2),
                        s,
                        (side < 0) == (rng.random() < 0.8),
                        self._any(cars.PAINTS),
                    )
                )
            s += shape.length + rng.uniform(0.7, 2.5)

    def _put_up_poles(self) -> None:
        rng = self._rng
        colour = tuple(rng.uniform(50, 150) * np.ones(3))
        height, thickness, spacing = rng.uniform(6, 9), rng.uniform(0.12, 0.2), rng.uniform(20, 30)
        s, side = self._start + rng.uniform(2, 12), 1
        while s < self._start + SEGMENT_LENGTH:
            arm = -side * rng.uniform(1.0, 1.8)
            self.poles.append(Pole(side * (self._road + 0.45), s, height, thickness, colour, arm))
            s, side = s + spacing / 2, -side
        for s in self._start + rng.uniform(0, SEGMENT_LENGTH, rng.integers(4, 12)):
            side = rng.choice((-1, 1))
            self.poles.append(Pole(side * (self._road + 0.3), s, rng.uniform(0.9, 1.1), 0.12, (60, 60, 62)))

    def _put_up_signs(self) -> None:
        rng = self._rng
        s = self._start + rng.uniform(3, 10)
        while s < self._start + SEGMENT_LENGTH:
            kind = rng.choice(("round", "triangle", "board", "lights"), p=(0.3, 0.2, 0.25, 0.25))
            side = rng.choice((-1, 1), p=(0.6, 0.4))
            sprite, size = self._any(self._stock.signs[kind])
            x, y = side * (self._road + 0.6), rng.uniform(2.0, 2.5)
            scale = rng.uniform(0.9, 1.25)
            size = (size[0] * scale, size[1] * scale)
            self.poles.append(Pole(x, s + 0.02, y + 0.6 * size[1], 0.09, (110, 110, 108)))
            self.pictures.append(Picture(sprite, x, s, size, y))
            s += rng.uniform(10, 22)
        if self._kind == "high street":
            for house in self.houses[::2]:
                sprite, size = self._any(self._stock.signs["board"])
                self.pictures.append(
                    Picture(
                        sprite,
                        house.side * (house.front - 0.5 * size[0] - 0.05),
                        house.start + 1,
                        size,
                        rng.uniform(2.8, 3.4),
                    )
                )
