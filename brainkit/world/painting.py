"""What a scene is made of, and how it is painted.

Flat shapes stand over a shaded, textured background, lit in varying ways.

Shapes are drawn at twice the wanted resolution and averaged down. Every length is a fraction of the
image's side, so that the picture is the same at every resolution but for its sharpness.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

CATEGORIES: Final = ("face", "body", "place", "food", "word")
BACKGROUNDS: Final = ("field", "street", "beach", "room", "wall", "night")
Rgb: TypeAlias = tuple[int, int, int]
Point: TypeAlias = tuple[float, float]

_PAINT_KEY: Final = 202
_OVERSAMPLING: Final = 2
_GRID: Final = 32
_VALUES: Final = np.arange(256.0)
_CHANNEL_STARTS: Final = 256 * np.arange(3)

# top, bottom colour above the horizon; top, bottom below it; horizon's height; texture above, below
_GROUNDS: Final[dict[str, tuple[Rgb, Rgb, Rgb, Rgb, float, float, float]]] = {
    "field": ((120, 168, 224), (206, 224, 238), (112, 156, 82), (66, 112, 44), 0.50, 3.0, 16.0),
    "street": ((150, 162, 178), (200, 202, 204), (128, 126, 124), (84, 84, 88), 0.58, 4.0, 9.0),
    "beach": ((116, 186, 232), (222, 236, 240), (222, 204, 158), (196, 166, 112), 0.46, 3.0, 7.0),
    "room": ((206, 190, 160), (188, 170, 140), (134, 92, 60), (102, 66, 44), 0.72, 4.0, 12.0),
    "wall": ((150, 138, 128), (138, 126, 116), (136, 124, 114), (122, 110, 102), 0.80, 30.0, 30.0),
    "night": ((14, 18, 44), (40, 44, 76), (36, 38, 44), (18, 18, 22), 0.55, 4.0, 6.0),
}
_HAIR: Final[tuple[Rgb, ...]] = ((36, 26, 20), (92, 58, 32), (190, 152, 86), (128, 124, 122))
_TROUSERS: Final[tuple[Rgb, ...]] = ((40, 48, 84), (70, 62, 54), (30, 30, 32), (120, 116, 104))
_SKIN: Final[tuple[Rgb, ...]] = ((232, 192, 164), (196, 144, 108), (120, 82, 60))
_FOODS: Final[dict[str, tuple[Rgb, ...]]] = {
    "pizza": ((178, 44, 30), (228, 186, 84), (96, 122, 44)),
    "salad": ((92, 158, 52), (148, 192, 82), (206, 60, 44)),
    "fruit": ((222, 66, 44), (240, 164, 46), (112, 160, 60)),
}
# Strokes of the letters on a grid two wide and four high, from the top left.
_LETTERS: Final[dict[str, tuple[tuple[Point, ...], ...]]] = {
    "A": (((0, 4), (1, 0), (2, 4)), ((0.5, 2.5), (1.5, 2.5))),
    "B": (((0, 4), (0, 0), (1.6, 0.4), (1.6, 1.6), (0, 2), (2, 2.6), (2, 3.6), (0, 4)),),
    "C": (((2, 0.5), (1, 0), (0, 1), (0, 3), (1, 4), (2, 3.5)),),
    "E": (((2, 0), (0, 0), (0, 4), (2, 4)), ((0, 2), (1.5, 2))),
    "F": (((2, 0), (0, 0), (0, 4)), ((0, 2), (1.5, 2))),
    "I": (((1, 0), (1, 4)),),
    "K": (((0, 0), (0, 4)), ((2, 0), (0, 2), (2, 4))),
    "L": (((0, 0), (0, 4), (2, 4)),),
    "M": (((0, 4), (0, 0), (1, 2), (2, 0), (2, 4)),),
    "N": (((0, 4), (0, 0), (2, 4), (2, 0)),),
    "O": (((1, 0), (0, 1), (0, 3), (1, 4), (2, 3), (2, 1), (1, 0)),),
    "P": (((0, 4), (0, 0), (2, 0.4), (2, 1.8), (0, 2)),),
    "S": (((2, 0.4), (1, 0), (0, 0.9), (2, 3), (1, 4), (0, 3.6)),),
    "T": (((0, 0), (2, 0)), ((1, 0), (1, 4))),
    "U": (((0, 0), (0, 3.2), (1, 4), (2, 3.2), (2, 0)),),
    "X": (((0, 0), (2, 4)), ((2, 0), (0, 4))),
}


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object of a scene.

    Attributes
    ----------
    category : str
        One of ``face, body, place, food, word``.
    kind : str
        What it is within its category: ``smiling``, ``house``, or the word that is written.
    x, y : float
        The centre, as fractions of the image's side from its left and top.
    size : float
        The extent, as a fraction of the image's side.
    colour_name : str
        The colour in English.
    colour : tuple of int
        The colour as red, green, blue in 0..255.
    """

    category: str
    kind: str
    x: float
    y: float
    size: float
    colour_name: str
    colour: tuple[int, int, int]


class _Pen:
    """Draws in an object's own coordinates: -1..1 across its size, y downwards."""

    def __init__(self, draw: ImageDraw.ImageDraw, side: int, thing: SceneObject) -> None:
        self.draw = draw
        self.side = side
        self.x = thing.x * side
        self.y = thing.y * side
        self.half = 0.5 * thing.size * side

    def _at(self, point: Point) -> Point:
        return self.x + point[0] * self.half, self.y + point[1] * self.half

    def ellipse(self, x: float, y: float, rx: float, ry: float, fill: Rgb) -> None:
        left, top = self._at((x - rx, y - ry))
        right, bottom = self._at((x + rx, y + ry))
        self.draw.ellipse((left, top, right, bottom), fill=fill)

    def box(self, left: float, top: float, right: float, bottom: float, fill: Rgb) -> None:
        self.draw.rectangle((*self._at((left, top)), *self._at((right, bottom))), fill=fill)

    def polygon(self, points: Sequence[Point], fill: Rgb) -> None:
        self.draw.polygon([self._at(point) for point in points], fill=fill)

    def stroke(self, points: Sequence[Point], width: float, fill: Rgb) -> None:
        pixels = max(1, round(width * self.half))
        self.draw.line([self._at(point) for point in points], fill=fill, width=pixels)


def paint_scene(
    objects: Sequence[SceneObject], background: str, key: Sequence[int], size: int
) -> npt.NDArray[np.uint8]:
    """Paint one scene.

    Parameters
    ----------
    objects : sequence
        The scene's objects, largest first; the largest is painted first, so it lies behind.
    background : str
        The background's name.
    key : sequence of int
        What seeds the details (hair, windows, texture, light): the world's seed and the id.
    size : int
        The side of the image in pixels.

    Returns
    -------
    image : uint8 array (size, size, 3)
    """
    rng = np.random.default_rng([key[0], _PAINT_KEY, *key[1:]])
    side = size * _OVERSAMPLING
    details = rng.random(256).tolist()
    image = _paint_background(background, rng, side)
    draw = ImageDraw.Draw(image)
    for number, thing in enumerate(objects):
        # Every object has its own stretch of random numbers, so that none moves another's details.
        start = 8 + 80 * number
        _PAINTERS[thing.category](_Pen(draw, side, thing), thing, iter(details[start:]))
    return _light(np.asarray(image.reduce(_OVERSAMPLING)), details[:8])


def _paint_background(name: str, rng: np.random.Generator, side: int) -> Image.Image:
    """Shade the part above and below the horizon, and roughen both."""
    sky, low_sky, near, far, horizon, rough_above, rough_below = _GROUNDS[name]
    level = horizon + 0.16 * (float(rng.random()) - 0.5)
    rows = (np.arange(_GRID) + 0.5) / _GRID
    above = np.minimum(rows / level, 1)[:, None]
    below = np.maximum((rows - level) / (1 - level), 0)[:, None]
    upper = (1 - above) * np.asarray(sky) + above * np.asarray(low_sky)
    lower = (1 - below) * np.asarray(near) + below * np.asarray(far)
    is_above = (rows < level)[:, None]
    shade = np.where(is_above, upper, lower)[:, None, :] + 18 * rng.standard_normal(3)
    tilt = 60 * (float(rng.random()) - 0.5) * (rows - 0.5)
    coarse = rng.standard_normal((8, 8)).repeat(4, axis=0).repeat(4, axis=1)
    texture = rng.standard_normal((_GRID, _GRID)) + 0.7 * coarse
    texture *= np.where(is_above, rough_above, rough_below) * float(rng.uniform(0.4, 1.6))
    grid = (shade + (texture + tilt)[:, :, None]).clip(0, 255).astype(np.uint8)
    return Image.fromarray(grid).resize((side, side), Image.Resampling.BILINEAR)


def _light(image: npt.NDArray[np.uint8], details: Sequence[float]) -> npt.NDArray[np.uint8]:
    """Vary exposure, contrast and the colour of the light, as cameras and hours do."""
    contrast = 0.65 + 0.6 * details[0]
    exposure = 60 * (details[1] - 0.5)
    tint = 1 + 0.16 * (np.asarray(details[2:5])[:, None] - 0.5)
    table = (tint * (128 + contrast * (_VALUES - 128)) + exposure).clip(0, 255).astype(np.uint8)
    return table.ravel().take(image + _CHANNEL_STARTS)


def _darker(colour: Rgb, factor: float) -> Rgb:
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue


def _pick(choices: Sequence[Rgb], draws: Iterator[float]) -> Rgb:
    return choices[int(next(draws) * len(choices))]


def _paint_face(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    hair = _pick(_HAIR, draws)
    pen.ellipse(0, -0.12, 0.78, 0.88, hair)
    if next(draws) < 0.4:
        pen.box(-0.78, -0.1, 0.78, 0.75, hair)
    pen.ellipse(0, 0.1, 0.66, 0.84, thing.colour)
    gaze = 0.06 * (next(draws) - 0.5)
    for eye in (-0.27, 0.27):
        pen.ellipse(eye, -0.05, 0.15, 0.09, (240, 240, 236))
        pen.ellipse(eye + gaze, -0.05, 0.07, 0.08, (40, 30, 26))
        pen.stroke([(eye - 0.16, -0.2), (eye + 0.16, -0.2)], 0.06, hair)
    pen.stroke([(0, 0.02), (-0.07, 0.28), (0.06, 0.28)], 0.05, _darker(thing.colour, 0.72))
    lips = (166, 62, 62)
    if thing.kind == "smiling":
        pen.stroke([(-0.3, 0.46), (-0.14, 0.58), (0.14, 0.58), (0.3, 0.46)], 0.1, lips)
    elif thing.kind == "surprised":
        pen.ellipse(0, 0.55, 0.13, 0.17, (96, 30, 34))
    else:
        pen.stroke([(-0.24, 0.54), (0.24, 0.54)], 0.09, lips)


def _paint_body(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    skin, trousers = _pick(_SKIN, draws), _pick(_TROUSERS, draws)
    sway = 0.12 * (next(draws) - 0.5)
    step = {"standing": 0.14, "walking": 0.42, "cheering": 0.24}[thing.kind]
    hands = {"standing": (0.48, 0.28), "walking": (0.56, 0.12), "cheering": (0.58, -0.92)}
    hand_x, hand_y = hands[thing.kind]
    for leg in (-1, 1):
        pen.stroke([(0.12 * leg, 0.18), (step * leg + sway, 0.95)], 0.2, trousers)
    for arm in (-1, 1):
        elbow = (0.44 * arm, -0.28 if hand_y < 0 else -0.12)
        pen.stroke([(0.24 * arm, -0.44), elbow], 0.15, thing.colour)
        pen.stroke([elbow, (hand_x * arm, hand_y)], 0.12, skin)
    pen.polygon([(-0.3, -0.54), (0.3, -0.54), (0.22, 0.26), (-0.22, 0.26)], thing.colour)
    pen.ellipse(sway, -0.75, 0.17, 0.2, skin)
    pen.ellipse(sway, -0.86, 0.18, 0.12, _darker(skin, 0.35))


def _paint_house(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    roof = 0.3 + 0.3 * next(draws)
    pen.box(-0.85, roof - 0.9, 0.85, 0.9, thing.colour)
    top = [(-1.0, roof - 0.9), (0.5 * (next(draws) - 0.5), -1.0), (1.0, roof - 0.9)]
    pen.polygon(top, _darker(thing.colour, 0.55))
    glass: Rgb = (54, 70, 96) if next(draws) < 0.7 else (244, 214, 130)
    columns = 2 + int(3 * next(draws))
    for row in (roof - 0.7, roof - 0.1):
        for column in range(columns):
            left = -0.7 + 1.4 * (column + 0.2) / columns
            pen.box(left, row, left + 0.8 / columns, row + 0.34, glass)
    pen.box(-0.14, 0.42, 0.14, 0.9, _darker(thing.colour, 0.4))


def _paint_skyline(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    floor = pen.side
    lit: Rgb = (246, 224, 150) if next(draws) < 0.4 else (60, 72, 92)
    left = 0.0
    while left < pen.side:
        width = (0.08 + 0.14 * next(draws)) * pen.side
        top = pen.y - pen.half * (0.2 + 0.8 * next(draws))
        wall = _darker(thing.colour, 0.6 + 0.5 * next(draws))
        pen.draw.rectangle((left, top, left + width, floor), fill=wall)
        pane = width / 5
        for row in range(4):
            height = top + (1 + 2.4 * row) * pane
            for column in (1, 3):
                x = left + column * pane
                pen.draw.rectangle((x, height, x + pane, height + 1.3 * pane), fill=lit)
        left += width


def _paint_forest(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    base = min(float(pen.side), pen.y + 0.8 * pen.half)
    for tree in range(7):
        x = (tree + 0.6 * next(draws) + 0.2) / 7 * pen.side
        height = pen.half * (1.0 + 0.7 * next(draws))
        width = 0.11 * pen.side * (0.7 + 0.6 * next(draws))
        leaves = _darker((52, 96, 48), 0.6 + 0.7 * next(draws))
        trunk = 0.018 * pen.side
        pen.draw.rectangle((x - trunk, base - height, x + trunk, base), fill=(78, 56, 38))
        crown = [(x - width, base - 0.25 * height), (x, base - 1.2 * height)]
        pen.draw.polygon([*crown, (x + width, base - 0.25 * height)], fill=leaves)
    pen.box(-0.3, 0.5, 0.3, 0.8, thing.colour)


def _paint_mountain(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    base = min(float(pen.side), pen.y + 0.9 * pen.half)
    ridge = [(0.0, base)]
    ridge += [(0.125 * pen.side * k, base - pen.half * (0.4 + next(draws))) for k in range(9)]
    stone = _darker(thing.colour, 0.8)
    pen.draw.polygon([*ridge, (float(pen.side), base)], fill=stone)
    pen.polygon([(-0.8, 0.9), (0.1, -1.0), (0.9, 0.9)], _darker(thing.colour, 0.6))
    pen.polygon([(-0.16, -0.45), (0.1, -1.0), (0.32, -0.45)], (238, 240, 244))


def _paint_place(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    _PLACES[thing.kind](pen, thing, draws)


def _paint_food(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    pen.ellipse(0, 0, 0.98, 0.98, (230, 230, 226))
    pen.ellipse(0, 0, 0.8, 0.8, (208, 208, 204))
    pieces = (*_FOODS[thing.kind], thing.colour)
    if thing.kind == "pizza":
        pen.ellipse(0, 0, 0.76, 0.76, (206, 142, 70))
    for _ in range(9):
        radius, angle = 0.56 * next(draws) ** 0.5, 6.2832 * next(draws)
        extent = 0.12 + 0.14 * next(draws)
        x, y = radius * float(np.cos(angle)), radius * float(np.sin(angle))
        pen.ellipse(x, y, extent, extent * (0.7 + 0.5 * next(draws)), _pick(pieces, draws))


def _paint_word(pen: _Pen, thing: SceneObject, draws: Iterator[float]) -> None:
    light = sum(thing.colour) > 380
    ink: Rgb = (24, 24, 30) if light else (246, 246, 240)
    half = 0.42 + 0.12 * next(draws)
    pen.box(-1, -half, 1, half, ink)
    pen.box(-0.95, -half + 0.05, 0.95, half - 0.05, thing.colour)
    advance = 1.76 / len(thing.kind)
    width = 0.09 + 0.05 * next(draws)
    for place, letter in enumerate(thing.kind):
        left = -0.88 + advance * (place + 0.15)
        across, down = 0.7 * advance / 2, (2 * half - 0.3) / 4
        for stroke in _LETTERS[letter]:
            points = [(left + across * x, -half + 0.15 + down * y) for x, y in stroke]
            pen.stroke(points, width, ink)


_PLACES: Final[dict[str, Callable[[_Pen, SceneObject, Iterator[float]], None]]] = {
    "house": _paint_house,
    "skyline": _paint_skyline,
    "forest": _paint_forest,
    "mountain": _paint_mountain,
}
_PAINTERS: Final[dict[str, Callable[[_Pen, SceneObject, Iterator[float]], None]]] = {
    "face": _paint_face,
    "body": _paint_body,
    "place": _paint_place,
    "food": _paint_food,
    "word": _paint_word,
}
