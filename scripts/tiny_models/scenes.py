"""Painted scenes and their captions, as the tiny models see them in training.

A caption says everything or only some of it. Captions with attributes dropped, and with the name
of the category in place of the kind, are what makes a contrastive model learn objects: where every
caption is whole, colour, side and background are enough to tell scenes apart.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from brainkit.arrays.atomic import write_npy
from brainkit.world import SceneWorld
from brainkit.world.painting import SceneObject
from brainkit.world.scenes import SETTINGS, Scene, article, side_words, size_word

# Worlds of their own: no scene of the demonstration or of the tests is in them.
TRAINING, VALIDATION, TEST = 90_001, 90_002, 90_003
SIZE = 64
POOL = 60_000

CATEGORY_NOUNS = {
    "face": ("face", "close face"),
    "body": ("person", "body"),
    "place": ("place", "landscape"),
    "food": ("plate of food", "dish"),
    "word": ("sign", "written word"),
}
KIND_NOUNS = {
    "face": "{kind} face",
    "body": "{kind} person",
    "place": "{kind}",
    "food": "plate of {kind}",
    "word": "sign that says {kind}",
}


def paint_pool(folder: Path, seed: int = TRAINING, count: int = POOL) -> NDArray[np.uint8]:
    """Return `count` painted scenes of a world, (count, 64, 64, 3), painted once."""
    path = folder / f"scenes-{seed}-{count}.npy"
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        world = SceneWorld(seed, SIZE)
        blocks = [
            world.paint(range(start, min(start + 1000, count))) for start in range(0, count, 1000)
        ]
        write_npy(path, np.concatenate(blocks))
    return np.load(path, allow_pickle=False)


def as_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """Return images as (n, 3, height, width) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 127.5 - 1


def describe(scene: Scene, generator: np.random.Generator) -> str:
    """Say some of what a scene shows.

    A third of the captions are whole, a third name the largest object alone, and a third name
    some objects with some of their attributes.
    """
    draw = generator.random()
    if draw < 0.34:
        return scene.caption.lower()
    if draw < 0.67:
        keep = 0.0 if generator.random() < 0.6 else 0.4
        return _phrase(scene.objects[0], generator, keep, category=generator.random() < 0.75)
    things = [thing for n, thing in enumerate(scene.objects) if n == 0 or generator.random() < 0.6]
    text = " and ".join(
        _phrase(thing, generator, 0.5, category=generator.random() < 0.4) for thing in things
    )
    if generator.random() < 0.5:
        text += f", {SETTINGS[scene.background]}"
    return text


def describe_wholly(scene: Scene) -> str:
    """Return the scene's own caption in lower case."""
    return scene.caption.lower()


def _phrase(
    thing: SceneObject, generator: np.random.Generator, keep: float, *, category: bool
) -> str:
    """Name an object, each of its attributes with probability `keep`."""
    if category:
        names = CATEGORY_NOUNS[thing.category]
        noun = names[int(generator.random() > 0.7)]
    else:
        noun = KIND_NOUNS[thing.category].format(kind=thing.kind.lower())
    words = []
    if generator.random() < keep:
        words.append(size_word(thing))
    coloured = generator.random() < keep
    if coloured and thing.category != "body":
        words.append(thing.colour_name)
    words.append(noun)
    if coloured and thing.category == "body":
        words.append(f"in {thing.colour_name}")
    if generator.random() < keep:
        words.append(side_words(thing))
    text = " ".join(filter(None, words))
    return f"{article(text)} {text}"


def category_prompts() -> list[tuple[str, str]]:
    """Return (category, caption) for zero-shot classification."""
    return [(name, f"a {nouns[0]}") for name, nouns in CATEGORY_NOUNS.items()]


def main_categories(scenes: Sequence[Scene]) -> list[str]:
    """Return the category of each scene's largest object."""
    return [scene.objects[0].category for scene in scenes]
