"""Plain English captions of scenes."""

from collections.abc import Sequence
from typing import Final

from brainkit.world.objects import SceneObject

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
