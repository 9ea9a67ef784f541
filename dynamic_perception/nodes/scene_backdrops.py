"""What the drawn objects stand in front of: sky, sea, road, meadow, forest, leaves, a room, a lawn, wet ground."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

Colour = tuple[float, float, float]  # RGB, 0..255
HORIZON = 0.44  # of the height
HOUSES = 11  # along the road


def _noise(
    shape: tuple[int, int], rng: np.random.Generator, across: float, down: float, octaves: int = 4
) -> np.ndarray:
    """Fractal value noise, [H, W] in 0..1, of lumps that are `across` and `down` the frame's height long."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        lumps = (max(2, round(2**octave / down)), max(2, round(2**octave * shape[1] / (across * shape[0]))))
        lumps = (min(lumps[0], shape[0]), min(lumps[1], shape[1]))
        total += 0.55**octave * cv2.resize(rng.random(lumps, np.float32), shape[::-1], interpolation=cv2.INTER_CUBIC)
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def _step(values: np.ndarray, start: float, end: float) -> np.ndarray:
    """0 below `start`, 1 above `end`, smooth between."""
    t = np.clip((values - start) / (end - start), 0, 1)
    return t * t * (3 - 2 * t)


def _gradient(shape: tuple[int, int], top: Colour, bottom: Colour) -> np.ndarray:
    share = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None, None]
    column = (1 - share) * np.array(top, np.float32) + share * np.array(bottom, np.float32)
    return np.broadcast_to(column, (*shape, 3)).copy()


def _mix(picture: np.ndarray, colour: Colour, share: np.ndarray) -> np.ndarray:
    return picture + share[..., None] * (np.array(colour, np.float32) - picture)


def _ground_from(picture: np.ndarray, ground: np.ndarray, edge: np.ndarray) -> np.ndarray:
    """`ground` below the row numbers `edge` [W], a little blurred there."""
    below = np.clip(np.arange(len(picture), dtype=np.float32)[:, None] - edge[None, :], 0, 2) / 2
    return picture + below[..., None] * (ground - picture)


def _ridge(shape: tuple[int, int], rng: np.random.Generator, at: float, depth: float, lump: float) -> np.ndarray:
    """Row numbers [W] of an uneven line at the height `at`."""
    return shape[0] * (at + depth * (_noise(shape, rng, lump, 1.0)[0] - 0.5))


def sky(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    picture = _gradient(shape, (62, 122, 196), (186, 214, 238))
    clouds = _step(_noise(shape, rng, 0.7, 0.3, 5), 0.5, 0.8)
    return _mix(picture, (246, 248, 252), 0.8 * clouds)


def sea(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    air = _mix(
        _gradient(shape, (112, 160, 208), (222, 230, 236)),
        (244, 246, 250),
        0.6 * _step(_noise(shape, rng, 0.9, 0.2), 0.5, 0.9),
    )
    water = _gradient(shape, (92, 140, 166), (22, 66, 100))
    near = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    waves = (1 - near) * _noise(shape, rng, 0.2, 0.015, 3) + near * _noise(shape, rng, 0.35, 0.05, 4)
    water *= 0.72 + 0.56 * waves[..., None]
    water = _mix(water, (226, 236, 242), 0.5 * _step(waves, 0.74, 0.92))
    return _ground_from(air, water, np.full(shape[1], HORIZON * shape[0]))


def road(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    picture = _gradient(shape, (150, 186, 220), (226, 232, 236))
    house = np.arange(shape[1]) * HOUSES // shape[1]  # [W] which house each column belongs to
    houses = _gradient(shape, (168, 150, 134), (128, 118, 110)) * rng.uniform(0.7, 1.25, HOUSES)[house, None]
    picture = _ground_from(picture, houses, shape[0] * rng.uniform(0.06, 0.34, HOUSES)[house])
    bushes = _gradient(shape, (74, 104, 52), (48, 74, 38)) * (0.6 + 0.8 * _noise(shape, rng, 0.1, 0.1)[..., None])
    picture = _ground_from(picture, bushes, _ridge(shape, rng, 0.4, 0.12, 0.2))
    asphalt = _gradient(shape, (132, 130, 128), (86, 86, 90))
    asphalt *= 0.9 + 0.2 * _noise(shape, rng, 0.02, 0.02, 2)[..., None]
    picture = _ground_from(picture, asphalt, np.full(shape[1], 0.56 * shape[0]))
    rows = np.arange(shape[0]) / shape[0]
    picture[(rows > 0.57) & (rows < 0.585)] = (206, 204, 198)
    picture[(rows > 0.93) & (rows < 0.955)] = (214, 210, 196)
    # Seen from a camera that follows the vehicle, all that stands still is blurred along the way.
    return cv2.blur(picture, (max(1, shape[0] // 12), 1))


def meadow(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    picture = _mix(
        _gradient(shape, (120, 168, 214), (224, 232, 236)),
        (248, 248, 250),
        0.7 * _step(_noise(shape, rng, 0.8, 0.25), 0.5, 0.85),
    )
    trees = _gradient(shape, (62, 92, 58), (40, 62, 36)) * (0.55 + 0.9 * _noise(shape, rng, 0.08, 0.1)[..., None])
    trees = cv2.GaussianBlur(trees, (0, 0), shape[0] / 240)
    picture = _ground_from(picture, trees, _ridge(shape, rng, 0.34, 0.16, 0.25))
    return _ground_from(picture, _grass(shape, rng), _ridge(shape, rng, 0.47, 0.03, 0.8))


def _grass(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    grass = _gradient(shape, (152, 168, 84), (76, 112, 40))
    patches, blades = _noise(shape, rng, 0.3, 0.12), _noise(shape, rng, 0.012, 0.05, 3)
    grass *= (0.74 + 0.32 * patches + 0.26 * blades)[..., None]
    return _mix(grass, (196, 186, 112), 0.35 * _step(_noise(shape, rng, 0.4, 0.08), 0.55, 0.9))


def forest(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    picture = _gradient(shape, (86, 110, 62), (58, 76, 44))
    picture *= 0.35 + 1.2 * _noise(shape, rng, 0.12, 0.14, 5)[..., None]
    trunks = _step(np.repeat(_noise((1, shape[1]), rng, 30.0, 1.0, 3), shape[0], 0), 0.62, 0.7)
    picture = cv2.GaussianBlur(_mix(picture, (62, 50, 40), 0.85 * trunks), (0, 0), shape[0] / 130)
    return _ground_from(picture, 0.82 * _grass(shape, rng), _ridge(shape, rng, 0.56, 0.06, 0.4))


def leaves(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    picture = _gradient(shape, (150, 178, 120), (92, 124, 72)) * (0.6 + 0.7 * _noise(shape, rng, 0.5, 0.4)[..., None])
    spots = np.zeros((*shape, 3), np.float32)
    for _ in range(70):
        centre = (int(rng.integers(shape[1])), int(rng.integers(shape[0])))
        radius, green = int(shape[0] * rng.uniform(0.02, 0.08)), float(rng.uniform(20, 62))
        cv2.circle(spots, centre, radius, (0.75 * green, green, 0.3 * green), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture + spots, (0, 0), shape[0] / 60)


def room(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    picture = _gradient(shape, (190, 174, 152), (166, 146, 124)) * (0.9 + 0.2 * _noise(shape, rng, 0.8, 0.8)[..., None])
    window = np.s_[: shape[0] // 2, int(0.62 * shape[1]) : int(0.9 * shape[1])]
    picture[window] = (226, 232, 236)
    shelf = np.s_[shape[0] // 6 : shape[0] // 2, : int(0.34 * shape[1])]
    picture[shelf] = np.array((112, 78, 54), np.float32) * (0.8 + 0.5 * rng.random((1, 1, 3), np.float32))
    blanket = _gradient(shape, (134, 96, 92), (106, 70, 70))
    blanket *= 0.82 + 0.36 * _noise(shape, rng, 0.03, 0.03, 3)[..., None]
    picture = _ground_from(picture, blanket, _ridge(shape, rng, 0.72, 0.05, 0.8))
    return cv2.GaussianBlur(picture, (0, 0), shape[0] / 70)


def lawn(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    hedge = _gradient(shape, (84, 116, 62), (54, 84, 40)) * (0.6 + 0.8 * _noise(shape, rng, 0.09, 0.09)[..., None])
    picture = _ground_from(hedge, _grass(shape, rng), _ridge(shape, rng, 0.3, 0.05, 0.4))
    return cv2.GaussianBlur(picture, (0, 0), shape[0] / 160)


def wet_ground(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    picture = _gradient(shape, (92, 84, 62), (124, 110, 84)) * (0.5 + 0.9 * _noise(shape, rng, 0.16, 0.1, 5)[..., None])
    picture = _mix(picture, (86, 112, 44), 0.75 * _step(_noise(shape, rng, 0.35, 0.2, 5), 0.5, 0.7))
    return _mix(picture, (176, 150, 104), 0.5 * _step(_noise(shape, rng, 0.12, 0.06, 3), 0.72, 0.86))


BACKDROPS: dict[str, Callable[[tuple[int, int], np.random.Generator], np.ndarray]] = {
    "airplane": sky,
    "automobile": road,
    "bird": leaves,
    "cat": room,
    "deer": forest,
    "dog": lawn,
    "frog": wet_ground,
    "horse": meadow,
    "ship": sea,
    "truck": road,
}


def paint_backdrop(name: str, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The backdrop of the class `name`, uint8 BGR of `shape` (rows, columns)."""
    return np.clip(BACKDROPS[name](shape, rng)[..., ::-1] + 0.5, 0, 255).astype(np.uint8)
