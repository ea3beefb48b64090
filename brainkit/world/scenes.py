"""Scenes and their captions: the stand-ins for photographs that the simulated world is made of.

A scene holds one to three objects (faces, bodies, places, food, written words) on a background. All
of it follows from the world's seed and the scene's id, so that a picture never depends on the
pictures made with it, nor on the resolution at which it is painted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainkit.errors import InputError
from brainkit.world.painting import BACKGROUNDS, CATEGORIES, SceneObject, paint_scene

SETTINGS: Final = {
    "field": "on a green field",
    "street": "on a grey street",
    "beach": "on a beach",
    "room": "in a room",
    "wall": "in front of a rough wall",
    "night": "at night",
}
_NOUNS: Final = {
    "face": "{colour} {kind} face",
    "body": "{kind} person in {colour}",
    "food": "plate of {colour} {kind}",
    "word": "{colour} sign that says {kind}",
}
_SMALL, _LARGE = 0.32, 0.6
_LEFT, _RIGHT = 0.38, 0.62
KINDS: Final = {
    "face": ("smiling", "calm", "surprised"),
    "body": ("standing", "walking", "cheering"),
    "place": ("house", "skyline", "forest", "mountain"),
    "food": ("pizza", "salad", "fruit"),
    "word": ("OPEN", "STOP", "CAFE", "EXIT", "SALE", "TAXI", "BOOK", "MENU"),
}
# What else captions call a category, beside what its kinds are called. What a face or a person is
# like ("smiling", "walking") names no category by itself.
_CALLED: Final = {
    "face": (),
    "body": ("person",),
    "place": ("landscape", "building", *KINDS["place"]),
    "food": ("plate", "dish", *KINDS["food"]),
    "word": ("sign", *KINDS["word"]),
}
SYNONYMS: Final = {name: tuple(word.lower() for word in words) for name, words in _CALLED.items()}
COLOURS: Final[dict[str, dict[str, tuple[int, int, int]]]] = {
    "face": {
        "pale": (238, 202, 178),
        "tan": (214, 164, 128),
        "brown": (160, 110, 78),
        "dark": (102, 68, 50),
    },
    "body": {
        "red": (196, 48, 44),
        "blue": (44, 84, 178),
        "green": (52, 132, 70),
        "yellow": (222, 188, 60),
        "black": (42, 42, 48),
        "white": (226, 226, 220),
    },
    "place": {
        "red": (166, 76, 60),
        "white": (222, 216, 202),
        "grey": (132, 134, 140),
        "yellow": (214, 180, 110),
        "brown": (124, 92, 66),
        "green": (66, 112, 64),
    },
    "food": {
        "red": (204, 58, 40),
        "orange": (232, 140, 44),
        "green": (104, 164, 58),
        "brown": (150, 96, 50),
    },
    "word": {
        "white": (244, 244, 240),
        "yellow": (246, 214, 60),
        "red": (192, 36, 36),
        "blue": (36, 66, 150),
        "black": (24, 24, 26),
    },
}
SIZES: Final = {
    "face": (0.22, 0.55),
    "body": (0.30, 0.70),
    "place": (0.50, 0.95),
    "food": (0.22, 0.55),
    "word": (0.22, 0.55),
}
OUTDOORS: Final = (0, 1, 2, 5)
MINIMUM_SIZE: Final = 64
EYE_SIZE: Final = 64  # the side at which simulated brains see scenes, whatever the world's size

# Scenes with these ids set the world's own scale (means, variances, orthogonality); they are never
# shown to a subject, so that nothing measured on stimuli can lean on them.
REFERENCE_IDS: Final = range(1_000_000_000, 1_000_004_000)

_SCENE_KEY: Final = 101
_PLACE_TRIES: Final = 4


def caption_scene(objects: Sequence[SceneObject], background: str) -> str:
    """Describe a scene in a sentence without a full stop.

    Parameters
    ----------
    objects : sequence
        The scene's objects, largest first.
    background : str
        The background's name.

    Returns
    -------
    caption : str
        Such as ``"a red house behind a small pale calm face on the left, on a green field"``.
    """
    first, *rest = objects
    text = _phrase(first)
    for number, thing in enumerate(rest):
        joint = "behind" if number == 0 and first.category == "place" else "and"
        text += f" {joint} {_phrase(thing)}"
    return f"{text}, {SETTINGS[background]}"


def _phrase(thing: SceneObject) -> str:
    """Name one object with its size, colour and side."""
    pattern = _NOUNS.get(thing.category, "{colour} {kind}")
    noun = pattern.format(colour=thing.colour_name, kind=thing.kind)
    words = " ".join(filter(None, (size_word(thing), noun)))
    return " ".join(filter(None, (article(words), words, side_words(thing))))


def size_word(thing: SceneObject) -> str:
    """Return "small", "large" or nothing; a place has limits of its own."""
    small, large = (0.65, 0.85) if thing.category == "place" else (_SMALL, _LARGE)
    return "small" if thing.size < small else "large" if thing.size > large else ""


def side_words(thing: SceneObject) -> str:
    """Return "on the left", "on the right" or nothing."""
    return "on the left" if thing.x < _LEFT else "on the right" if thing.x > _RIGHT else ""


def article(words: str) -> str:
    """Return the article that English puts before some words."""
    return "an" if words[0] in "aeiou" else "a"


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture shows, largest object first."""

    objects: tuple[SceneObject, ...]
    background: str
    caption: str


@dataclass(frozen=True, slots=True)
class Content:
    """The objects of several scenes as arrays, padded to three objects a scene.

    Attributes
    ----------
    category : int array (n_scenes, 3)
        Index into ``CATEGORIES``; -1 where there is no object.
    x, y, size : float array (n_scenes, 3)
    colour : float array (n_scenes, 3, 3)
        Red, green, blue in 0..1.
    background : int array (n_scenes,)
        Index into ``BACKGROUNDS``.
    """

    category: npt.NDArray[np.int64]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    size: npt.NDArray[np.float64]
    colour: npt.NDArray[np.float64]
    background: npt.NDArray[np.int64]


class SceneWorld:
    """A world of painted scenes, one for every id.

    Parameters
    ----------
    seed : int
        The world's seed; worlds of different seeds share no scene.
    size : int
        The side of the painted image in pixels, 64 or more. It changes the resolution only.

    Raises
    ------
    InputError
        If `seed` is negative or `size` is under 64.

    Notes
    -----
    The number of objects is 1, 2 or 3 with probability .35, .40, .25; each category is drawn with
    probability .2, with at most one place a scene (a second one is drawn again among the others).
    Sizes are uniform within ``SIZES``; a centre is uniform where the object is at least four fifths
    inside the picture, the best of four tries by its distance from the objects that are there. A
    place forces an outdoor background.
    """

    version: Final = 1

    def __init__(self, seed: int = 0, size: int = 64) -> None:
        if seed < 0:
            raise InputError(f"A world's seed must be 0 or more, but {seed} was given.")
        if size < MINIMUM_SIZE:
            raise InputError(
                f"A scene is painted at {MINIMUM_SIZE} pixels a side or more, but size={size} was "
                "given."
            )
        self.seed = seed
        self.size = size

    def __repr__(self) -> str:
        return f"SceneWorld(seed={self.seed}, size={self.size})"

    def scene(self, scene_id: int) -> Scene:
        """Say what the scene of an id shows.

        Parameters
        ----------
        scene_id : int
            The scene's id, 0 or more.
        """
        rng = np.random.default_rng([self.seed, _SCENE_KEY, _checked_id(scene_id)])
        draws = iter(rng.random(64).tolist())
        first = next(draws)
        count = 1 if first < 0.35 else 2 if first < 0.75 else 3
        objects: list[SceneObject] = []
        for _ in range(count):
            objects.append(_draw_object(draws, objects))
        ordered = tuple(sorted(objects, key=lambda thing: -thing.size))
        outdoors = any(thing.category == "place" for thing in ordered)
        choices = OUTDOORS if outdoors else tuple(range(len(BACKGROUNDS)))
        background = BACKGROUNDS[choices[int(next(draws) * len(choices))]]
        return Scene(ordered, background, caption_scene(ordered, background))

    def paint(self, scene_ids: Sequence[int] | npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Paint scenes.

        Parameters
        ----------
        scene_ids : sequence of int
            Ids of the scenes.

        Returns
        -------
        images : uint8 array (n_scenes, size, size, 3)
        """
        images = np.empty((len(scene_ids), self.size, self.size, 3), dtype=np.uint8)
        for row, scene_id in enumerate(scene_ids):
            scene = self.scene(int(scene_id))
            images[row] = paint_scene(
                scene.objects, scene.background, [self.seed, int(scene_id)], self.size
            )
        return images

    def table(self, scene_ids: Sequence[int] | npt.NDArray[np.integer]) -> pd.DataFrame:
        """Describe scenes, one row each.

        Parameters
        ----------
        scene_ids : sequence of int
            Ids of the scenes.

        Returns
        -------
        table : DataFrame
            ``scene`` (id), ``caption``, ``category`` (of the largest object), its ``synonyms`` (a
            list of what else captions call it), ``kind``, ``colour``, ``x``, ``y``, ``size`` (of
            the largest object), ``background``, ``n_objects``, and one column a category with the
            summed size of its objects.
        """
        rows = []
        for scene_id in scene_ids:
            scene = self.scene(int(scene_id))
            main = scene.objects[0]
            row: dict[str, object] = {
                "scene": int(scene_id),
                "caption": scene.caption,
                "category": main.category,
                "synonyms": list(SYNONYMS[main.category]),
                "kind": main.kind,
                "colour": main.colour_name,
                "x": main.x,
                "y": main.y,
                "size": main.size,
                "background": scene.background,
                "n_objects": len(scene.objects),
            }
            for category in CATEGORIES:
                row[category] = sum(o.size for o in scene.objects if o.category == category)
            rows.append(row)
        return pd.DataFrame(rows)

    def content(self, scene_ids: Sequence[int] | npt.NDArray[np.integer]) -> Content:
        """Give the objects of scenes as padded arrays.

        Parameters
        ----------
        scene_ids : sequence of int
            Ids of the scenes.
        """
        n = len(scene_ids)
        category = np.full((n, 3), -1, dtype=np.int64)
        geometry = np.zeros((3, n, 3))
        colour = np.zeros((n, 3, 3))
        background = np.zeros(n, dtype=np.int64)
        for row, scene_id in enumerate(scene_ids):
            scene = self.scene(int(scene_id))
            background[row] = BACKGROUNDS.index(scene.background)
            for slot, thing in enumerate(scene.objects):
                category[row, slot] = CATEGORIES.index(thing.category)
                geometry[:, row, slot] = thing.x, thing.y, thing.size
                colour[row, slot] = thing.colour
        x, y, size = geometry
        return Content(category, x, y, size, colour / 255.0, background)


def unit_range(images: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """Return what simulated brains see of pictures (n, 64, 64, 3), in 0 to 1.

    Raises
    ------
    InputError
        If the pictures are not 64 × 64 RGB.
    """
    if images.shape[1:] != (EYE_SIZE, EYE_SIZE, 3):
        raise InputError(
            f"The simulated eye takes pictures of {EYE_SIZE}×{EYE_SIZE}×3, but got "
            f"{images.shape[1:]}."
        )
    return images.astype(np.float32) / np.float32(255)


def _checked_id(scene_id: int) -> int:
    if scene_id < 0:
        raise InputError(f"A scene's id must be 0 or more, but {scene_id} was given.")
    return int(scene_id)


def _draw_object(draws: Iterator[float], others: Sequence[SceneObject]) -> SceneObject:
    """Draw one object, away from those that are there."""
    choices: tuple[str, ...] = CATEGORIES
    if any(other.category == "place" for other in others):
        choices = tuple(name for name in CATEGORIES if name != "place")
    category = choices[int(next(draws) * len(choices))]
    kinds = KINDS[category]
    kind = kinds[int(next(draws) * len(kinds))]
    names = tuple(COLOURS[category])
    colour_name = names[int(next(draws) * len(names))]
    low, high = SIZES[category]
    size = low + (high - low) * next(draws)
    margin = 0.4 * size
    best, best_distance = (0.5, 0.5), -1.0
    for _ in range(_PLACE_TRIES):
        x = margin + (1 - 2 * margin) * next(draws)
        y = margin + (1 - 2 * margin) * next(draws)
        distance = min((np.hypot(x - o.x, y - o.y) for o in others), default=0.0)
        if distance > best_distance:
            best, best_distance = (x, y), float(distance)
    return SceneObject(category, kind, *best, size, colour_name, COLOURS[category][colour_name])
