"""What moves along a street: cars, people on foot and on bicycles, in endless rows, each as a function of the time."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from dynamic_perception.scenes import cars, road_objects
from dynamic_perception.scenes.road_layout import Car, Picture
from dynamic_perception.scenes.street import Street


def list_traffic(street: Street, s: float, sight: float, time: float) -> list[Car | Picture]:
    """Everything that moves and is less than `sight` [m] ahead of s [m], where it is at `time` [s]."""
    things: list[Car | Picture] = []
    road = street.half_road
    for dice, place in _stream(street.seed, 10, s, sight, time, -9.0, 34.0):
        if dice[1] < 0.75:
            things.append(
                Car(
                    _pick(cars.SHAPES, dice[2]),
                    0.30 * road + 0.3 * (dice[3] - 0.5),
                    place,
                    False,
                    _pick(cars.PAINTS, dice[4]),
                )
            )
    cycle, share = divmod(time / 41.0 + street.phases[3], 1.0)
    lead = s + 14 + 60 * (1 + np.cos(2 * np.pi * share))  # out of sight when it becomes another one
    dice = _throw(street.seed, 20, int(cycle))
    things.append(Car(_pick(cars.SHAPES, dice[0]), street.lane, lead, True, _pick(cars.PAINTS, dice[1])))
    for flow, (speed, spacing, x) in enumerate(((4.6, 42.0, 2.15 - road), (-4.6, 62.0, road - 2.15))):
        for dice, place in _stream(street.seed, 30 + flow, s, sight, time, speed, spacing):
            things.append(
                _moving(
                    _pick(street.stock.cyclists, dice[1]),
                    x + 0.4 * (dice[2] - 0.5),
                    place,
                    time * 1.1 + dice[3],
                    dice[4] < 0.5,
                )
            )
    for flow, (speed, side) in enumerate(((1.3, -1), (-1.2, -1), (1.2, 1), (-1.3, 1))):
        for dice, place in _stream(street.seed, 50 + flow, s, sight, time, speed, 14.0):
            if dice[1] < 0.8:
                things.append(
                    _moving(
                        _pick(street.stock.people, dice[2]),
                        side * (road + 0.55 + dice[3]),
                        place,
                        time * 0.9 + dice[4],
                        speed < 0,
                    )
                )
    return things


@lru_cache(maxsize=8192)
def _throw(seed: int, name: int, number: int) -> tuple[float, ...]:
    """Five random numbers in [0, 1) that belong to member `number` of a row."""
    return tuple(np.random.default_rng((seed, name, number % 2**32)).random(5).tolist())


def _pick(things: tuple | list, die: float):
    return things[int(die * len(things))]


def _stream(
    seed: int, name: int, s: float, sight: float, time: float, speed: float, spacing: float
) -> list[tuple[tuple[float, ...], float]]:
    """(random numbers, place [m]) of those in an endless row, moving at `speed` [m/s], that are in sight."""
    first = int(np.floor((s - 8 - speed * time) / spacing)) - 1
    last = int(np.ceil((s + sight - speed * time) / spacing))
    dice = [(_throw(seed, name, number), number) for number in range(first, last + 1)]
    return [(die, (number + 0.6 * die[0]) * spacing + speed * time) for die, number in dice]


def _moving(person: road_objects.Person, x: float, s: float, strides: float, flipped: bool) -> Picture:
    phase = int(strides * road_objects.STRIDE_PHASES) % road_objects.STRIDE_PHASES
    return Picture(person.strides[phase], x, s, person.size, 0.0, flipped)
