"""What a scene is made of."""

from dataclasses import dataclass
from typing import Final

CATEGORIES: Final = ("face", "body", "place", "food", "word")
BACKGROUNDS: Final = ("field", "street", "beach", "room", "wall", "night")


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
