"""Pictures that the street is made of: facades, ground, sky, fences, trees. Colours are BGR, 0..255."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np

TRANSPARENT = 255  # in a sprite's labels
BUILDING, TREE, FENCE = 1, 5, 7
FACADE_SCALE = 24  # [pixel / m]


@dataclass(frozen=True, eq=False)
class Texture:
    """A picture uint8 [H, W, 3], or [H, W, 4] with opacity, and smaller copies of it against aliasing."""

    picture: np.ndarray
    _copies: dict = field(default_factory=dict)

    @property
    def mean(self) -> tuple[float, ...]:
        """Average colour."""
        return tuple(self.reduced(1, 1).reshape(-1, self.picture.shape[2])[:, :3].mean(0))

    @property
    def transparent(self) -> bool:
        return self.picture.shape[2] == 4

    def reduced(self, wide: float, high: float) -> np.ndarray:
        """A copy with at least `wide` x `high` pixels, or the whole picture, and fewer than four times as many."""
        rows, columns = self.picture.shape[:2]
        key = _halvings(columns, wide), _halvings(rows, high)
        if key not in self._copies:
            size = (max(1, columns >> key[0]), max(1, rows >> key[1]))
            self._copies[key] = cv2.resize(self.picture, size, interpolation=cv2.INTER_AREA)
        return self._copies[key]


@dataclass(frozen=True, eq=False)
class Sprite:
    """A cut-out: uint8 BGRA [H, W, 4] with colours multiplied by opacity, and labels uint8 [H, W]."""

    picture: np.ndarray
    labels: np.ndarray
    _copies: dict = field(default_factory=dict)

    def reduced(self, wide: float, high: float) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = self.labels.shape
        key = min(_halvings(columns, wide), _halvings(rows, high))
        if key not in self._copies:
            size = (max(1, columns >> key), max(1, rows >> key))
            self._copies[key] = (
                cv2.resize(self.picture, size, interpolation=cv2.INTER_AREA),
                cv2.resize(self.labels, size, interpolation=cv2.INTER_NEAREST),
            )
        return self._copies[key]


def _halvings(pixels: int, wanted: float) -> int:
    return max(0, min(6, math.floor(math.log2(max(1.0, pixels / max(wanted, 1.0))))))


def noise(shape: tuple[int, int], rng: np.random.Generator, coarse: float, octaves: int = 4) -> np.ndarray:
    """Smooth noise float32 of `shape`, about -1..1; `coarse`: size of its largest blobs [pixel]."""
    total = np.zeros(shape, np.float32)
    weight = 0.0
    for octave in range(octaves):
        cell = max(1.0, coarse / 2**octave)
        grid = (max(2, math.ceil(shape[0] / cell) + 1), max(2, math.ceil(shape[1] / cell) + 1))
        part = rng.uniform(-1, 1, grid).astype(np.float32)
        total += 0.6**octave * cv2.resize(part, shape[::-1], interpolation=cv2.INTER_CUBIC)
        weight += 0.6**octave
    return total / weight


def to_bytes(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


WALLS = (
    (104, 120, 150),
    (70, 88, 132),
    (120, 146, 168),
    (150, 172, 184),
    (196, 204, 208),
    (186, 186, 182),
    (90, 98, 110),
    (60, 72, 110),
    (140, 160, 190),
    (80, 100, 120),
)
SHOPS = ((40, 90, 30), (30, 30, 140), (120, 50, 20), (30, 30, 34), (60, 120, 170), (160, 160, 160), (110, 30, 90))


def facade(rng: np.random.Generator, shop: bool) -> Texture:
    """The front of a house, 6 to 14 m wide and two to four floors high, `FACADE_SCALE` pixels a metre."""
    floors, bays = int(rng.integers(3 if shop else 2, 5)), int(rng.integers(2, 6))
    floor, bay = rng.uniform(2.7, 3.3) * FACADE_SCALE, rng.uniform(2.0, 3.2) * FACADE_SCALE
    rows, columns = round(floors * floor + 0.8 * FACADE_SCALE), round(bays * bay)
    wall = np.array(WALLS[rng.integers(len(WALLS))], np.float32) * rng.uniform(0.75, 1.1)
    picture = np.broadcast_to(wall, (rows, columns, 3)).copy()
    if rng.random() < 0.6:
        _lay_bricks(picture, rng)
    picture *= 1 + 0.10 * noise((rows, columns), rng, 60)[..., None]
    picture *= np.linspace(1.06, 0.86, rows, dtype=np.float32)[:, None, None]
    trim = np.array((205, 212, 216), np.float32) * rng.uniform(0.6, 1.1)
    glass = np.array((70, 62, 56), np.float32) * rng.uniform(0.5, 1.4)
    wide, high = rng.uniform(0.38, 0.66) * bay, rng.uniform(0.48, 0.66) * floor
    panes = int(rng.integers(1, 4))
    for level in range(floors):
        base = rows - level * floor
        if shop and level == 0:
            _fit_shop(picture, rng, round(base - 0.95 * floor))
            continue
        for number in range(bays):
            x, y = round((number + 0.5) * bay - wide / 2), round(base - 0.24 * floor - high)
            if level == 0 and number == bays // 2:
                door = np.array(SHOPS[rng.integers(len(SHOPS))], np.float32)
                picture[round(base - 0.7 * floor) : rows, x : x + round(0.8 * wide)] = door
                continue
            _set_window(picture, rng, (x, y, round(wide), round(high)), glass, trim, panes)
    eaves = round(0.35 * FACADE_SCALE)
    picture[:eaves] = trim * 0.8
    picture[eaves : eaves + 4] *= 0.6
    if rng.random() < 0.4:
        for level in range(1, floors):
            y = round(rows - level * floor)
            picture[y : y + 3] = trim * 0.9
            picture[y + 3 : y + 5] *= 0.7
    return Texture(to_bytes(picture))


def _lay_bricks(picture: np.ndarray, rng: np.random.Generator) -> None:
    rows, columns = picture.shape[:2]
    bricks = rng.normal(1, 0.10, (rows // 3 + 1, columns // 7 + 1)).astype(np.float32)
    picture *= np.repeat(np.repeat(bricks, 3, 0)[:rows], 7, 1)[:, :columns, None]
    picture[::3] *= 1.08


def _set_window(
    picture: np.ndarray,
    rng: np.random.Generator,
    box: tuple[int, int, int, int],
    glass: np.ndarray,
    trim: np.ndarray,
    panes: int,
) -> None:
    x, y, wide, high = box
    picture[y - 3 : y + high + 3, x - 3 : x + wide + 3] = trim
    picture[y + high + 2 : y + high + 5, x - 5 : x + wide + 5] = trim * 0.75
    light = np.linspace(rng.uniform(1.0, 2.4), rng.uniform(0.5, 1.0), high, dtype=np.float32)[:, None, None]
    picture[y : y + high, x : x + wide] = glass * light
    if rng.random() < 0.35:
        drawn = round(high * rng.uniform(0.2, 0.7))
        picture[y : y + drawn, x : x + wide] = np.array((180, 190, 196), np.float32) * rng.uniform(0.5, 1.0)
    picture[y + high // 2 - 1 : y + high // 2 + 1, x : x + wide] = trim * 0.9
    for pane in range(1, panes):
        place = x + pane * wide // panes
        picture[y : y + high, place - 1 : place + 1] = trim * 0.9
    picture[y : y + 2, x : x + wide] *= 0.5


def _fit_shop(picture: np.ndarray, rng: np.random.Generator, top: int) -> None:
    rows, columns = picture.shape[:2]
    paint = np.array(SHOPS[rng.integers(len(SHOPS))], np.float32) * rng.uniform(0.7, 1.2)
    picture[top:] = paint
    sill = round(rows - rng.uniform(0.2, 0.6) * FACADE_SCALE)
    window = np.s_[top + 20 : sill, 6 : columns - 6]
    inside = picture[window]
    inside[:] = np.array((64, 62, 60), np.float32) * rng.uniform(0.5, 1.3)
    inside *= 1 + 0.9 * np.clip(noise(inside.shape[:2], rng, 16, 3), -0.6, 1)[..., None]
    for _ in range(8):
        x, y = int(rng.integers(max(1, inside.shape[1] - 12))), int(rng.integers(max(1, inside.shape[0] - 12)))
        inside[y : y + int(rng.integers(4, 18)), x : x + int(rng.integers(4, 16))] = rng.uniform(30, 220, 3)
    for x in range(0, columns, int(rng.integers(28, 60))):
        picture[top + 18 :, x : x + 4] = paint * 0.8
    letters = np.array((225, 230, 235), np.float32) if paint.mean() < 110 else np.array((40, 30, 30), np.float32)
    x = int(rng.integers(6, max(7, columns // 4)))
    while x < columns * rng.uniform(0.7, 0.95) - 8:
        wide = int(rng.integers(3, 8))
        picture[top + 5 : top + 14, x : x + wide] = letters
        x += wide + int(rng.choice((2, 2, 3, 8)))


def roof(rng: np.random.Generator) -> Texture:
    tiles = np.array(((60, 66, 84), (62, 60, 60), (58, 76, 118))[rng.integers(3)], np.float32)
    picture = tiles * (1 + 0.16 * noise((72, 256), rng, 24)[..., None])
    picture[::6] *= 0.8
    return Texture(to_bytes(picture))


def wall(rng: np.random.Generator) -> Texture:
    """The bare side of a house."""
    picture = np.broadcast_to(np.array(WALLS[rng.integers(len(WALLS))], np.float32) * 0.85, (192, 192, 3)).copy()
    _lay_bricks(picture, rng)
    picture *= 1 + 0.15 * noise((192, 192), rng, 60)[..., None]
    return Texture(to_bytes(picture))


def railing(rng: np.random.Generator) -> Texture:
    """A fence of bars, 8 m x 1.1 m; or of boards, or a wall of bricks."""
    rows, columns = 66, 480
    picture = np.zeros((rows, columns, 4), np.float32)
    kind = rng.integers(3)
    if kind == 0:
        picture[..., :3] = rng.uniform(20, 60, 3) if rng.random() < 0.6 else rng.uniform(120, 200)
        step = int(rng.integers(7, 11))
        for x in range(0, columns, step):
            picture[4:, x : x + 3, 3] = 255
        for y in (4, 12, rows - 12):
            picture[y : y + 4, :, 3] = 255
        picture[:, :6, 3] = 255
    elif kind == 1:
        boards = rng.normal(1, 0.12, columns // 8).astype(np.float32)
        picture[..., :3] = np.array((70, 96, 122), np.float32) * rng.uniform(0.5, 1.1)
        picture[..., :3] *= np.repeat(boards, 8)[None, :, None]
        picture[..., :3] *= 1 + 0.15 * noise((rows, columns), rng, 20)[..., None]
        picture[:, ::8, :3] *= 0.5
        picture[..., 3] = 255
    else:
        picture[..., :3] = np.array((96, 112, 136), np.float32) * rng.uniform(0.5, 1.0)
        _lay_bricks(picture[..., :3], rng)
        picture[:6, :, :3] = (150, 156, 160)
        picture[..., 3] = 255
    return Texture(to_bytes(picture))


def hedge(rng: np.random.Generator) -> Texture:
    grain = 1 + 0.8 * noise((64, 256), rng, 14)[..., None]
    picture = np.array((40, 74, 58), np.float32) * grain * rng.uniform(0.6, 1)
    picture *= np.linspace(1.25, 0.6, 64, dtype=np.float32)[:, None, None]
    return Texture(to_bytes(picture))


def leafy_tree(rng: np.random.Generator) -> Sprite:
    """A tree with leaves, as wide as high."""
    size = 256
    cover, colour = np.zeros((size, size), np.float32), np.zeros((size, size, 3), np.float32)
    bark = np.array((52, 62, 72), np.float32) * rng.uniform(0.5, 1.1)
    trunk = int(rng.integers(5, 9))
    cv2.fillPoly(
        cover,
        [
            np.array(
                [
                    (size // 2 - trunk, size),
                    (size // 2 - trunk // 2, size // 2),
                    (size // 2 + trunk // 2, size // 2),
                    (size // 2 + trunk, size),
                ]
            )
        ],
        1.0,
        cv2.LINE_AA,
    )
    colour[:] = bark * (1 + 0.3 * noise((size, size), rng, 12)[..., None])
    leaves = np.array(((34, 84, 62), (40, 96, 88), (46, 72, 50), (44, 92, 110))[rng.integers(4)], np.float32)
    top, spread = rng.uniform(0.26, 0.34), rng.uniform(0.26, 0.36)
    for _ in range(60):
        angle, far = rng.uniform(0, 2 * np.pi), np.sqrt(rng.random())
        x, y = size * (0.5 + spread * far * np.cos(angle)), size * (top + 0.06 + 0.27 * far * np.sin(angle))
        radius, centre = round(size * rng.uniform(0.05, 0.11)), (round(x), round(y))
        shade = 0.62 + 0.75 * (1 - y / (0.75 * size)) + rng.uniform(-0.18, 0.18)
        cv2.circle(colour, centre, radius, tuple(float(part) for part in leaves * shade), -1, cv2.LINE_AA)
        cv2.circle(cover, centre, radius, 1.0, -1, cv2.LINE_AA)
    rows, columns = np.mgrid[0:size, 0:size].astype(np.float32)
    crown = np.clip(12 - 0.1 * np.maximum(rows - 0.55 * size, 0), 1, 12)
    ragged = columns + crown * noise((size, size), rng, 10, 3), rows + crown * noise((size, size), rng, 10, 3)
    cover[:-4], colour = cv2.remap(cover, *ragged, cv2.INTER_LINEAR)[:-4], cv2.remap(colour, *ragged, cv2.INTER_LINEAR)
    colour *= 1 + 0.6 * noise((size, size), rng, 8, 3)[..., None]
    holes = noise((size, size), rng, 10, 2) > 0.52
    holes[int(0.62 * size) :] = False
    cover[holes] = 0
    return _cut_out(colour, cover, TREE)


def bare_tree(rng: np.random.Generator) -> Sprite:
    """A tree in winter; the sky between its twigs counts as tree, as people label it."""
    size = 320
    cover = np.zeros((size, size), np.uint8)

    def grow(x: float, y: float, angle: float, length: float, thick: float) -> None:
        x2, y2 = x + length * np.cos(angle), y - length * np.sin(angle)
        cv2.line(
            cover,
            (round(16 * x), round(16 * y)),
            (round(16 * x2), round(16 * y2)),
            int(255 * min(1, 0.35 + 0.25 * thick)),
            max(1, round(thick)),
            cv2.LINE_AA,
            4,
        )
        if length < 10:
            return
        for turn in (-0.5, 0.0, 0.5) if length > 20 else (-0.35, 0.35):
            grow(x2, y2, angle + turn + rng.normal(0, 0.2), length * rng.uniform(0.62, 0.82), thick * 0.66)

    grow(size / 2, size, np.pi / 2, size * 0.24, rng.uniform(9, 13))
    bark = np.array((58, 64, 70), np.float32) * rng.uniform(0.6, 1.2)
    colour = bark * (1 + 0.3 * noise((size, size), rng, 12)[..., None])
    return _cut_out(colour, cover.astype(np.float32) / 255, TREE, reach=2.0)


def bush(rng: np.random.Generator) -> Sprite:
    rows, columns = 96, 160
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    height = 1 - ((x / columns - 0.5) / 0.5) ** 4
    cover = ((rows - y) / rows < height * (0.8 + 0.5 * noise((1, columns), rng, 30))).astype(np.float32)
    colour = np.array((42, 80, 62), np.float32) * rng.uniform(0.6, 1.2)
    colour = colour * (1 + 0.7 * noise((rows, columns), rng, 14)[..., None])
    colour *= (1.2 - 0.6 * y / rows)[..., None]
    return _cut_out(colour, cover, TREE)


def _cut_out(colour: np.ndarray, cover: np.ndarray, label: int, reach: float = 0.0) -> Sprite:
    """Args: reach: [pixel] gaps up to about this width are labelled too."""
    opaque = cv2.GaussianBlur(cover, (0, 0), reach) > 0.16 if reach else cover > 0.5
    labels = np.where(opaque, np.uint8(label), np.uint8(TRANSPARENT))
    return Sprite(to_bytes(np.dstack([np.clip(colour, 0, 255) * cover[..., None], 255 * cover])), labels)


def sky(rng: np.random.Generator, weather: str) -> np.ndarray:
    """Sky uint8 [256, 1024, 3]: its lowest row is the horizon."""
    high, low = {
        "bright": ((244, 208, 164), (254, 250, 244)),
        "overcast": ((250, 248, 246), (254, 254, 254)),
        "dusk": ((205, 176, 156), (205, 222, 244)),
        "dull": ((228, 225, 220), (246, 246, 246)),
    }[weather]
    share = np.linspace(0, 1, 256, dtype=np.float32)[:, None, None]
    picture = np.array(high, np.float32) * (1 - share) + np.array(low, np.float32) * share
    picture = np.repeat(picture, 1024, 1)
    stretched = noise((256, 512), rng, 70, 5)
    clouds = cv2.resize(stretched, (1024, 256))
    amount = {"bright": 0.75, "overcast": 0.5, "dusk": 0.5, "dull": 0.6}[weather] * rng.uniform(0.4, 1.1)
    thick = np.clip((clouds + rng.uniform(-0.1, 0.25)) * 3, 0, 1)[..., None] * amount
    white = np.array(low, np.float32) * (1.0 + 0.12 * clouds[..., None])
    return to_bytes(picture * (1 - thick) + white * thick)


def skyline(rng: np.random.Generator) -> Sprite:
    """Trees and houses far away, 2048 pixels of the view all round and 64 high."""
    rows, columns = 64, 2048
    colour, labels = np.zeros((rows, columns, 3), np.float32), np.full((rows, columns), TRANSPARENT, np.uint8)
    height = 19 + 14 * noise((1, columns), rng, 90, 5)[0] + 5 * noise((1, columns), rng, 8, 2)[0]
    above = rows - np.arange(rows, dtype=np.float32)[:, None]
    trees = above < height
    colour[:] = np.array((62, 78, 72), np.float32) * (1 + 0.35 * noise((rows, columns), rng, 9)[..., None])
    labels[trees] = TREE
    x = 0
    while x < columns:
        wide, high = int(rng.integers(14, 60)), int(rng.integers(14, 34))
        if rng.random() < 0.45:
            colour[-high:, x : x + wide] = np.array(WALLS[rng.integers(len(WALLS))], np.float32) * rng.uniform(0.5, 0.9)
            colour[-high : -high + 4, x : x + wide] = (70, 72, 84)
            labels[-high:, x : x + wide] = BUILDING
            for window in range(x + 3, x + wide - 4, 7):
                colour[-high + 7 : -high + 11, window : window + 3] *= 0.5
        x += wide
    cover = np.where(labels == TRANSPARENT, 0.0, 1.0).astype(np.float32)
    return Sprite(to_bytes(np.dstack([np.clip(colour, 0, 255) * cover[..., None], 255 * cover])), labels)
