"""What category-selective voxels hear: objects by what they are, where, and beside what."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from brainkit.world.objects import BACKGROUNDS, CATEGORIES
from brainkit.world.scenes import Content

FloatArray = npt.NDArray[np.float64]

SIZE_EXPONENT: Final = 0.5
SUPPRESSION: Final = 1.0
COVERAGE_CENTRES: Final = (0.2, 0.5, 0.8)
COVERAGE_WIDTH: Final = 0.2
N_PLACES: Final = len(COVERAGE_CENTRES) ** 2
N_PRIVATE: Final = 16


def content_channels(content: Content, gate: bool) -> FloatArray:
    """Give the content channels that all subjects share.

    With object o of category c, size s, centre p, and S the summed size of the scene's objects of
    other categories than c::

        drive_o      = s^.5 / (1 + k S)            (k = 1 with the gate, 0 without)
        covered_c,j  = Σ_o drive_o · exp(-|p - μ_j|² / (2 · .2²))     μ on {.2, .5, .8}²
        anywhere_c   = Σ_o drive_o

    Parameters
    ----------
    content : Content
    gate : bool
        Whether content competes; the counter-world has no suppression.

    Returns
    -------
    channels : float64 array (n_scenes, 5, 10)
        By category: nine places, rows first, then anywhere.
    """
    present = content.category >= 0
    by_category = content.category[:, :, None] == np.arange(len(CATEGORIES))
    size = np.where(present, content.size, 0.0)
    own_kind = np.einsum("no,noc->nc", size, by_category)
    same = np.take_along_axis(own_kind, np.maximum(content.category, 0), axis=1)
    others = size.sum(axis=1, keepdims=True) - same
    strength = SUPPRESSION if gate else 0.0
    drive = np.where(present, size**SIZE_EXPONENT / (1 + strength * others), 0.0)
    centres = np.asarray(COVERAGE_CENTRES)
    across = np.exp(-0.5 * ((content.x[:, :, None] - centres) / COVERAGE_WIDTH) ** 2)
    down = np.exp(-0.5 * ((content.y[:, :, None] - centres) / COVERAGE_WIDTH) ** 2)
    cover = (down[:, :, :, None] * across[:, :, None, :]).reshape(*drive.shape, N_PLACES)
    factors = np.concatenate([cover, np.ones((*drive.shape, 1))], axis=2)
    channels = np.einsum("no,noc,nof->ncf", drive, by_category, factors)
    return np.asarray(channels, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class PrivateContent:
    """The functions of content that one subject alone has.

    φ_j(scene) = Σ_o cos(w_j · a_o + b_j)

    where a_o holds the object's category (one of five), colour (three), size, x, y (each times 3)
    and the scene's background (one of six): random Fourier features (Rahimi & Recht, 2007), sixteen
    of them, with w standard normal times .8.
    """

    frequency: FloatArray
    phase: FloatArray

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "PrivateContent":
        """Draw a subject's functions."""
        n_attributes = len(CATEGORIES) + 6 + len(BACKGROUNDS)
        frequency = 0.8 * rng.standard_normal((n_attributes, N_PRIVATE))
        return cls(frequency, 2 * np.pi * rng.random(N_PRIVATE))

    def channels(self, content: Content) -> FloatArray:
        """Give the private functions of scenes.

        Parameters
        ----------
        content : Content

        Returns
        -------
        channels : float64 array (n_scenes, 16)
        """
        present = content.category >= 0
        kind = content.category[:, :, None] == np.arange(len(CATEGORIES))
        place = np.stack([content.x, content.y, content.size], axis=2)
        ground = content.background[:, None] == np.arange(len(BACKGROUNDS))
        grounds = np.repeat(ground[:, None, :], content.category.shape[1], axis=1)
        attributes = np.concatenate([kind, 3 * content.colour, 3 * place, grounds], axis=2)
        waves = np.cos(attributes @ self.frequency + self.phase)
        return np.asarray((waves * present[:, :, None]).sum(axis=1), dtype=np.float64)
