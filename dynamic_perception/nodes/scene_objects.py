"""The ten CIFAR-10 classes as drawings: large, simple, side or front view, in natural colours.

Every drawing takes a `Sketch` of 100 x 75 units and a random generator for what may differ, mostly the colour.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dynamic_perception.nodes.sketch import Colour, Sketch

BLACK: Colour = (25, 23, 24)
GLASS: Colour = (62, 84, 104)
RUBBER: Colour = (38, 37, 40)
STEEL: Colour = (176, 180, 186)
PAINTS: tuple[Colour, ...] = ((188, 32, 30), (32, 74, 160), (206, 208, 212), (222, 170, 30), (28, 104, 72))
COATS: tuple[Colour, ...] = ((142, 84, 46), (112, 66, 40), (168, 112, 66))
FURS: tuple[Colour, ...] = ((186, 124, 68), (132, 122, 112), (206, 178, 140))


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Colour:
    return colours[rng.integers(len(colours))]


def _shade(colour: Colour, factor: float) -> Colour:
    return tuple(min(255.0, factor * channel) for channel in colour)


def airplane(sketch: Sketch, rng: np.random.Generator) -> None:
    stripe = _pick(rng, PAINTS)
    white: Colour = (236, 238, 242)
    sketch.polygon([(55, 36), (72, 20), (78, 20), (67, 37)], _shade(white, 0.72), roundness=1)  # far wing
    sketch.polygon([(76, 36), (86, 12), (94, 11), (92, 36)], stripe, roundness=1.5)  # fin
    sketch.curve(
        [
            (5, 41),
            (9, 36),
            (18, 32.5),
            (40, 31.5),
            (70, 31.5),
            (86, 33),
            (95, 35),
            (94, 37),
            (84, 41),
            (70, 45),
            (40, 47.5),
            (18, 47),
            (8, 45),
        ],
        white,
        roundness=8,
    )
    sketch.polygon(
        [(9, 41.5), (40, 40.6), (72, 39.8), (92, 36.5), (84, 40.4), (70, 43), (40, 43.6), (12, 43.6)],
        stripe,
        roundness=0,
    )
    for x in np.arange(22, 80, 3.2):
        sketch.ellipse((x, 37.4 - 0.02 * x), (0.8, 1.1), GLASS, roundness=0)
    sketch.polygon([(9.5, 37.6), (13, 35.4), (16, 35.2), (15.5, 38)], GLASS, roundness=0)
    sketch.polygon([(84, 36), (95, 40), (99, 40), (93, 34.5)], _shade(white, 0.9), roundness=0.8)  # tailplane
    sketch.polygon([(38, 42), (55, 41.5), (74, 62), (66, 62.5)], _shade(white, 0.86), roundness=1.5)  # near wing
    sketch.ellipse((47, 51.5), (7, 3.4), STEEL, roundness=3)
    sketch.ellipse((40.8, 51.5), (1.2, 3.1), BLACK, roundness=0)


def automobile(sketch: Sketch, rng: np.random.Generator) -> None:
    paint = _pick(rng, PAINTS)
    sketch.shadow((50, 64), (46, 4.5), 0.65)
    sketch.curve([(22, 38), (34, 22), (44, 19), (60, 19), (70, 22), (82, 37), (78, 42), (28, 42)], paint, roundness=4)
    sketch.polygon([(29, 37), (37, 24.5), (48, 22.5), (48, 37)], GLASS, roundness=1)
    sketch.polygon([(50.5, 22.5), (60, 22.5), (66, 24.5), (75, 36.5), (50.5, 37)], GLASS, roundness=1)
    sketch.polygon([(33, 35), (39, 25.5), (43, 24.6), (37, 35.4)], (150, 172, 190), roundness=0, opacity=0.6)
    sketch.curve(
        [
            (5, 48),
            (8, 42),
            (22, 37.5),
            (50, 36.5),
            (82, 36.5),
            (93, 40),
            (96, 47),
            (95, 56),
            (80, 59),
            (20, 59),
            (6, 56),
        ],
        paint,
        roundness=6,
    )
    sketch.polygon([(6, 54), (95, 54), (94, 58.5), (8, 58.5)], _shade(paint, 0.55), roundness=1)
    sketch.limb([(49.4, 38, 0.5), (49.4, 54, 0.5)], _shade(paint, 0.5), roundness=0)
    sketch.limb([(53, 42, 1.1), (58, 42, 1.1)], STEEL, roundness=0.5)
    sketch.ellipse((8.5, 46), (2.6, 2.3), (252, 244, 206), roundness=1)
    sketch.ellipse((94, 45), (1.8, 2.6), (200, 40, 36), roundness=1)
    _wheels(sketch, [(23, 57), (77, 57)], 9.5)


def truck(sketch: Sketch, rng: np.random.Generator) -> None:
    paint = _pick(rng, PAINTS)
    box: Colour = (226, 226, 222)
    sketch.shadow((50, 66), (47, 4), 0.65)
    sketch.polygon([(5, 55), (95, 55), (95, 60), (5, 60)], (52, 52, 56), roundness=1.5)
    sketch.polygon([(32, 9), (96, 9), (96, 55), (32, 55)], box, roundness=1.5)
    for x in np.arange(40, 96, 8):
        sketch.limb([(x, 11, 0.4), (x, 53, 0.4)], _shade(box, 0.82), roundness=0)
    sketch.polygon([(33, 30), (95, 30), (95, 36), (33, 36)], paint, roundness=0)
    sketch.curve(
        [(4, 56), (4, 40), (7, 36), (10, 24), (14, 19), (22, 17.5), (30, 17.5), (31, 40), (30, 57), (14, 58)],
        paint,
        roundness=4,
    )
    sketch.polygon([(10, 36), (13, 24), (20, 23), (20, 36)], GLASS, roundness=1)
    sketch.polygon([(22, 23), (28, 23), (28, 36), (22, 36)], GLASS, roundness=1)
    sketch.limb([(21, 38, 0.5), (21, 54, 0.5)], _shade(paint, 0.5), roundness=0)
    sketch.ellipse((6.2, 48), (1.7, 2.4), (252, 244, 206), roundness=1)
    sketch.polygon([(3, 53), (16, 53), (16, 58), (3, 58)], STEEL, roundness=1.2)
    _wheels(sketch, [(20, 60), (66, 60), (84, 60)], 8)


def _wheels(sketch: Sketch, centres: list[tuple[float, float]], radius: float) -> None:
    for centre in centres:
        sketch.ellipse(centre, (1.12 * radius, 1.12 * radius), BLACK, roundness=0)
        sketch.ellipse(centre, (radius, radius), RUBBER, roundness=2)
        sketch.ellipse(centre, (0.6 * radius, 0.6 * radius), STEEL, roundness=2)
        sketch.ellipse(centre, (0.2 * radius, 0.2 * radius), (90, 92, 96), roundness=1)


def ship(sketch: Sketch, rng: np.random.Generator) -> None:
    hull = _pick(rng, ((34, 46, 74), (40, 40, 44), (146, 34, 30)))
    white: Colour = (238, 238, 234)
    sketch.polygon([(58, 25), (59, 8), (69, 8), (70, 25)], (196, 72, 36), roundness=3)
    sketch.polygon([(58.8, 11), (59, 8), (69, 8), (69.2, 11)], BLACK, roundness=2)
    sketch.polygon([(30, 47), (33, 24), (84, 24), (86, 47)], white, roundness=1.5)
    sketch.polygon([(36, 25), (38, 15), (54, 15), (55, 25)], white, roundness=1.2)
    sketch.limb([(46, 16, 1), (46, 2, 0.6)], (120, 120, 122), roundness=0.5)
    sketch.limb([(40, 6, 0.5), (52, 6, 0.5)], (120, 120, 122), roundness=0)
    sketch.polygon([(38.5, 17.5), (53.5, 17.5), (53.8, 20.5), (38.1, 20.5)], GLASS, roundness=0)
    for y in (29, 35, 41):
        sketch.limb([(32, y + 2.6, 0.5), (85, y + 2.6, 0.5)], _shade(white, 0.78), roundness=0)
        for x in np.arange(36, 84, 4):
            sketch.ellipse((x, y), (1, 1.2), GLASS, roundness=0)
    sketch.curve(
        [
            (2, 39),
            (6, 41),
            (24, 45),
            (50, 46),
            (80, 45),
            (96, 43),
            (95, 55),
            (91, 65),
            (60, 66),
            (20, 66),
            (12, 62),
            (7, 52),
        ],
        hull,
        roundness=5,
    )
    sketch.polygon([(11.5, 60), (93, 60), (91, 66), (16, 66)], (150, 44, 36), roundness=0, opacity=0.85)
    sketch.limb([(4, 40.5, 0.8), (24, 45, 0.9), (60, 46, 0.9), (95, 43.6, 0.8)], white, roundness=0)
    sketch.limb(
        [(5, 67, 1.5), (20, 65.5, 3.5), (50, 67, 2.5), (80, 66, 3), (96, 67.5, 1.5)],
        (222, 234, 240),
        roundness=1,
        grain=0.3,
        opacity=0.85,
    )


def bird(sketch: Sketch, rng: np.random.Generator) -> None:
    back = _pick(rng, ((104, 82, 60), (92, 100, 112), (52, 92, 150)))
    breast = _pick(rng, ((204, 104, 46), (222, 190, 90), (214, 206, 194)))
    sketch.limb([(2, 66, 4), (30, 63, 4.6), (60, 65, 4), (98, 60, 3)], (94, 72, 52), grain=0.5)
    sketch.curve(
        [(66, 38), (80, 47), (97, 58), (94, 62), (80, 57), (64, 50)], _shade(back, 0.75), roundness=2, grain=0.2
    )
    for x in (43, 50):
        sketch.limb([(x, 54, 1.6), (x + 1, 62, 1.2), (x - 2, 63, 1)], (96, 70, 48), roundness=0.6)
    sketch.curve(
        [
            (20, 28),
            (25, 20),
            (34, 17),
            (43, 20),
            (54, 28),
            (68, 38),
            (72, 46),
            (64, 54),
            (50, 58),
            (36, 56),
            (26, 48),
            (20, 38),
        ],
        back,
        roundness=11,
        grain=0.15,
    )
    sketch.curve(
        [(20, 31), (28, 33), (36, 40), (44, 50), (54, 56.5), (42, 57.5), (31, 53), (23, 44), (19.5, 36)],
        breast,
        roundness=7,
        grain=0.15,
    )
    sketch.curve(
        [(38, 31), (50, 31), (64, 40), (80, 50), (66, 50), (50, 47), (41, 40)],
        _shade(back, 0.7),
        roundness=4,
        grain=0.2,
    )
    for drop in (0, 3, 6):
        sketch.limb(
            [(46, 37 + drop, 0.4), (60, 42 + drop * 0.8, 0.6), (70, 47 + drop * 0.4, 0.3)],
            _shade(back, 1.35),
            roundness=0,
            opacity=0.7,
        )
    sketch.polygon([(21.5, 25), (9, 29.5), (21, 31)], (66, 56, 44), roundness=1)
    sketch.ellipse((27, 25.5), (2.1, 2.1), BLACK, roundness=1)
    sketch.ellipse((26.4, 24.8), (0.6, 0.6), (250, 250, 250), roundness=0)


def horse(sketch: Sketch, rng: np.random.Generator) -> None:
    coat = _pick(rng, COATS)
    hair = _shade(coat, 0.35)
    sketch.shadow((54, 70.5), (36, 3))
    far = _shade(coat, 0.62)
    sketch.limb([(38, 42, 8), (40, 53, 5), (39, 59, 4), (42, 67, 3.2), (41, 69.5, 4.2)], far, roundness=2)
    sketch.limb([(70, 38, 10), (66, 51, 6), (69, 58, 4.2), (65, 66, 3.3), (64, 69.5, 4.4)], far, roundness=2)
    sketch.limb([(79, 29, 3.5), (86, 36, 5.5), (86, 50, 5), (83, 61, 1.2)], hair, roundness=2, grain=0.4)
    sketch.curve(
        [(27, 34), (36, 24.5), (52, 27), (70, 24.5), (79, 30), (80.5, 40), (72, 46), (52, 48), (34, 46.5), (28, 42)],
        coat,
        roundness=10,
        grain=0.08,
    )
    sketch.limb([(33, 42, 9), (32.5, 53, 5.4), (31.5, 59, 4.3), (32, 67, 3.4), (31, 70.5, 4.8)], coat, roundness=2.4)
    sketch.limb([(73, 38, 13), (72, 49, 7.5), (76, 57, 4.8), (73.5, 67, 3.6), (72.5, 70.5, 4.9)], coat, roundness=2.4)
    for x in (31, 72.5):
        sketch.ellipse((x, 70.5), (2.6, 1.6), BLACK, roundness=1)
    sketch.curve(
        [(40, 27), (31, 16), (23, 8.5), (17, 10), (18.5, 21), (24, 34), (30, 43), (36, 38)],
        coat,
        roundness=6,
        grain=0.08,
    )
    sketch.limb([(19.5, 6, 2), (26, 10, 4.5), (33, 18, 5), (39, 25.5, 3)], hair, roundness=1.5, grain=0.4)
    sketch.polygon([(18.6, 9.5), (19.4, 2.5), (23, 8)], coat, roundness=1)
    sketch.curve(
        [(22.5, 8), (17, 8.2), (10.5, 15.5), (5, 23), (4.6, 27), (8.5, 28.6), (14.5, 24), (21.5, 20.5), (25, 14.5)],
        coat,
        roundness=4,
    )
    sketch.curve([(6.8, 21.5), (4.4, 25), (4.8, 28), (8.5, 29), (11.5, 26)], _shade(coat, 0.5), roundness=2)
    sketch.ellipse((14.6, 15), (1.2, 1), BLACK, roundness=0)


def deer(sketch: Sketch, rng: np.random.Generator) -> None:
    coat = _pick(rng, ((170, 112, 66), (148, 100, 62), (182, 126, 78)))
    pale: Colour = (228, 210, 184)
    horn: Colour = (214, 192, 154)
    sketch.shadow((56, 72), (30, 2.4))
    for shift, bone in ((3.5, _shade(horn, 0.75)), (0, horn)):  # far antler, near antler
        sketch.limb(
            [(27 + shift, 15, 1.7), (31 + shift, 8, 1.5), (38 + shift, 4, 1.2), (40 + shift, 0.8, 0.7)],
            bone,
            roundness=0.6,
        )
        sketch.limb([(29 + shift, 11, 1.2), (24 + shift, 6, 1), (23.5 + shift, 1.5, 0.6)], bone, roundness=0.5)
        sketch.limb([(33 + shift, 6.6, 1.1), (31.5 + shift, 3, 0.9), (32 + shift, 0.6, 0.5)], bone, roundness=0.5)
    far = _shade(coat, 0.62)
    sketch.limb([(46, 47, 6), (47, 57, 3.4), (45, 62, 2.7), (46, 71, 2)], far, roundness=1.5)
    sketch.limb([(72, 44, 8), (69, 55, 4), (72, 61, 2.8), (69, 71, 2)], far, roundness=1.5)
    sketch.limb([(80, 34, 4), (84, 38, 4.5), (83, 43, 2)], pale, roundness=1.5)
    sketch.curve(
        [(37, 40), (44, 33), (58, 34), (72, 31.5), (80, 34.5), (82, 43), (75, 49), (58, 51), (43, 51), (38, 47)],
        coat,
        roundness=9,
        grain=0.12,
    )
    sketch.limb([(46, 50, 1.5), (58, 50.5, 2.2), (70, 49, 1.5)], pale, roundness=1, opacity=0.75)
    sketch.limb([(42, 46, 7.5), (41.5, 56, 4), (42, 62, 3), (41, 72, 2.2)], coat, roundness=1.8)
    sketch.limb([(76, 42, 10.5), (75, 53, 5), (79, 60, 3.2), (76.5, 72, 2.3)], coat, roundness=1.8)
    sketch.curve(
        [(46, 35), (39, 27), (34.5, 17), (28, 16), (28.5, 26), (32, 36), (37, 46), (43, 45)],
        coat,
        roundness=5,
        grain=0.12,
    )
    sketch.polygon([(31, 17), (38, 11.5), (39.5, 14.5), (35, 20)], _shade(coat, 0.9), roundness=1.2)
    sketch.curve(
        [(33.5, 15.5), (28, 14), (22, 19), (16.5, 23.5), (16.2, 26.6), (20, 28), (26, 26), (33, 24.5), (35.5, 19)],
        coat,
        roundness=3.5,
    )
    sketch.ellipse((17, 24.6), (1.5, 1.5), BLACK, roundness=0.8)
    sketch.curve([(19, 26.4), (25, 25), (30, 27), (31, 33), (27, 28), (21, 28.2)], pale, roundness=1, opacity=0.8)
    sketch.ellipse((26, 19), (1.3, 1.1), BLACK, roundness=0.6)


def cat(sketch: Sketch, rng: np.random.Generator) -> None:
    fur = _pick(rng, FURS)
    dark, pale = _shade(fur, 0.55), _shade(fur, 1.32)
    sketch.limb([(76, 68, 9), (90, 60, 7), (92, 46, 6), (88, 38, 4.5)], fur, roundness=3, grain=0.2)
    sketch.curve([(30, 50), (50, 44), (70, 50), (80, 64), (80, 76), (20, 76), (20, 64)], fur, roundness=12, grain=0.2)
    sketch.curve([(38, 52), (50, 54), (62, 52), (60, 68), (50, 76), (40, 68)], pale, roundness=6, grain=0.2)
    for mirror in (-1, 1):
        sketch.polygon(
            [(50 + mirror * 6, 17), (50 + mirror * 23, 2.5), (50 + mirror * 26, 26)], fur, roundness=2.5, grain=0.2
        )
        sketch.polygon(
            [(50 + mirror * 13, 15), (50 + mirror * 21.5, 7), (50 + mirror * 22.5, 20)], (206, 140, 128), roundness=1.5
        )
    sketch.curve(
        [(50, 11), (67, 15), (77, 29), (76, 42), (66, 53), (50, 57), (34, 53), (24, 42), (23, 29), (33, 15)],
        fur,
        roundness=13,
        grain=0.2,
    )
    for mirror in (-1, 1):  # stripes
        for x, top, bottom in ((3.5, 12.5, 21), (9, 14, 22), (0, 12, 19)):
            sketch.limb(
                [(50 + mirror * x, top, 1.8), (50 + mirror * x * 0.8, bottom, 0.8)], dark, roundness=0, opacity=0.7
            )
        for y in (34, 40):
            sketch.limb(
                [(50 + mirror * 26, y, 1.8), (50 + mirror * 18.5, y + 1.2, 0.7)], dark, roundness=0, opacity=0.7
            )
    sketch.ellipse((43, 44.5), (8, 6.2), pale, roundness=4, grain=0.1)
    sketch.ellipse((57, 44.5), (8, 6.2), pale, roundness=4, grain=0.1)
    sketch.ellipse((50, 50.5), (5.5, 3.6), pale, roundness=3)
    for mirror in (-1, 1):
        eye = 50 + mirror * 11.5
        sketch.ellipse((eye, 31), (5.6, 4.7), BLACK, angle=-mirror * 14, roundness=0)
        sketch.ellipse((eye, 31), (4.9, 4), (176, 178, 62), angle=-mirror * 14, roundness=1.5)
        sketch.ellipse((eye, 31), (1.4, 3.7), BLACK, roundness=0)
        sketch.ellipse((eye - 1.4, 29.4), (0.9, 0.9), (255, 255, 255), roundness=0)
        sketch.limb([(50, 46, 0.7), (50 + mirror * 4, 48.4, 0.8), (50 + mirror * 7.5, 47, 0.5)], dark, roundness=0)
        for y in (-2.2, 0.6, 3.2):
            sketch.limb(
                [(50 + mirror * 9, 45 + 0.5 * y, 0.45), (50 + mirror * 33, 43 + 2 * y, 0.2)],
                (246, 244, 240),
                roundness=0,
                opacity=0.85,
            )
    sketch.polygon([(46.6, 40), (53.4, 40), (50, 44.2)], (196, 112, 108), roundness=1)
    sketch.limb([(50, 43.6, 0.7), (50, 46.4, 0.7)], dark, roundness=0)


def dog(sketch: Sketch, rng: np.random.Generator) -> None:
    fur = _pick(rng, ((198, 148, 88), (150, 98, 56), (222, 204, 172)))
    dark, pale = _shade(fur, 0.5), _shade(fur, 1.25)
    sketch.curve([(26, 58), (50, 48), (74, 58), (82, 76), (18, 76)], fur, roundness=12, grain=0.25)
    sketch.curve([(40, 56), (50, 58), (60, 56), (58, 70), (50, 76), (42, 70)], pale, roundness=6, grain=0.25)
    sketch.curve(
        [(50, 5), (64, 8), (72, 20), (71, 34), (64, 46), (50, 50), (36, 46), (29, 34), (28, 20), (36, 8)],
        fur,
        roundness=12,
        grain=0.2,
    )
    for mirror in (-1, 1):
        sketch.curve(
            [
                (50 + mirror * 15, 8),
                (50 + mirror * 25, 11),
                (50 + mirror * 32, 26),
                (50 + mirror * 31, 42),
                (50 + mirror * 25, 47),
                (50 + mirror * 20, 38),
                (50 + mirror * 19, 22),
            ],
            dark,
            roundness=5,
            grain=0.25,
        )
    sketch.curve(
        [(50, 6), (54, 14), (55, 28), (50, 36), (45, 28), (46, 14)], pale, roundness=4, grain=0.15, opacity=0.8
    )
    sketch.curve([(50, 55), (53.6, 55), (54.5, 63), (50, 67), (45.5, 63), (46.4, 55)], (214, 104, 112), roundness=3)
    sketch.curve(
        [(50, 29), (60, 33), (65, 43), (62, 53), (54, 57.5), (50, 55.5), (46, 57.5), (38, 53), (35, 43), (40, 33)],
        pale,
        roundness=9,
        grain=0.15,
    )
    sketch.curve([(50, 33.5), (56.5, 35), (57, 39), (50, 43.5), (43, 39), (43.5, 35)], (32, 28, 28), roundness=3)
    sketch.ellipse((47.5, 35.8), (1.8, 0.9), (150, 146, 146), roundness=0, opacity=0.8)
    sketch.limb([(50, 43, 0.9), (50, 50, 0.9)], (60, 42, 36), roundness=0)
    for mirror in (-1, 1):
        sketch.limb(
            [(50, 50, 0.9), (50 + mirror * 6, 53.4, 1.1), (50 + mirror * 12, 50, 0.6)], (60, 42, 36), roundness=0
        )
        sketch.ellipse((50 + mirror * 11, 25), (3.7, 3.6), (48, 30, 22), roundness=0)
        sketch.ellipse((50 + mirror * 11, 25), (2.7, 2.7), (20, 15, 14), roundness=0)
        sketch.ellipse((50 + mirror * 11 - 1.1, 23.8), (0.9, 0.9), (255, 255, 255), roundness=0)
        sketch.limb(
            [(50 + mirror * 8, 17.5, 1), (50 + mirror * 12, 18, 1.7), (50 + mirror * 15, 20.5, 0.8)],
            dark,
            roundness=0.5,
            opacity=0.6,
        )


def frog(sketch: Sketch, rng: np.random.Generator) -> None:
    skin = _pick(rng, ((96, 146, 52), (122, 132, 62), (70, 128, 78)))
    belly: Colour = (222, 220, 160)
    dark = _shade(skin, 0.5)
    sketch.shadow((50, 68), (45, 4.5))
    for mirror in (-1, 1):  # folded hind legs
        sketch.curve(
            [
                (50 + mirror * 22, 40),
                (50 + mirror * 40, 44),
                (50 + mirror * 46, 57),
                (50 + mirror * 38, 66),
                (50 + mirror * 22, 64),
            ],
            _shade(skin, 0.86),
            roundness=7,
            grain=0.35,
        )
        sketch.limb(
            [(50 + mirror * 38, 65, 5), (50 + mirror * 28, 68, 4), (50 + mirror * 40, 70, 2)],
            _shade(skin, 0.8),
            roundness=2,
        )
    sketch.curve(
        [(50, 24), (70, 31), (79, 48), (74, 63), (50, 69), (26, 63), (21, 48), (30, 31)], skin, roundness=16, grain=0.35
    )
    sketch.curve([(30, 46), (50, 43), (70, 46), (66, 60), (50, 67), (34, 60)], belly, roundness=8, grain=0.15)
    for mirror in (-1, 1):  # fore legs
        sketch.limb(
            [(50 + mirror * 24, 50, 8), (50 + mirror * 22, 59, 6), (50 + mirror * 15, 67, 4)],
            skin,
            roundness=2.6,
            grain=0.3,
        )
        for reach in (8, 13, 18):
            sketch.limb([(50 + mirror * 15, 67, 2.6), (50 + mirror * reach, 71, 1.8)], skin, roundness=1)
        sketch.ellipse((50 + mirror * 17, 21), (9.5, 9.5), skin, roundness=6, grain=0.2)
    sketch.curve(
        [(50, 18), (68, 23), (80, 36), (74, 46), (50, 51), (26, 46), (20, 36), (32, 23)], skin, roundness=11, grain=0.35
    )
    for x, y, radius in (
        (44, 26, 2.2),
        (57, 25, 1.8),
        (50, 31, 2.6),
        (34, 33, 2),
        (66, 33, 2.3),
        (61, 29, 1.3),
        (40, 30, 1.2),
    ):
        sketch.ellipse((x, y), (radius, 0.8 * radius), dark, roundness=0, opacity=0.55)
    sketch.curve(
        [(23, 38), (36, 43), (50, 44), (64, 43), (77, 38), (72, 45), (50, 50), (28, 45)],
        belly,
        roundness=3,
        opacity=0.85,
    )
    sketch.limb([(21.5, 36, 0.8), (35, 42, 1.3), (50, 43.4, 1.3), (65, 42, 1.3), (78.5, 36, 0.8)], dark, roundness=0)
    for mirror in (-1, 1):
        sketch.ellipse((50 + mirror * 17.5, 20), (6.6, 6.6), (214, 172, 48), roundness=3)
        sketch.ellipse((50 + mirror * 17.5, 20), (4.9, 2.9), BLACK, roundness=0)
        sketch.ellipse((50 + mirror * 17.5 - 2, 18), (1.1, 1.1), (255, 255, 255), roundness=0)
        sketch.ellipse((50 + mirror * 3.4, 31.8), (0.8, 0.6), dark, roundness=0)


OBJECTS: dict[str, Callable[[Sketch, np.random.Generator], None]] = {
    drawing.__name__: drawing for drawing in (airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck)
}
