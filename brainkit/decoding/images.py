"""From decoded features back to images: through the space's inverse, or from a bank."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError
from brainkit.features.pixels import as_float

Array = NDArray[Any]


class RetrievalBank:
    """Images to choose from, with their features.

    Parameters
    ----------
    stimuli : Stimuli
        Where the images are.
    rows : array of int (n_bank,)
        Which of them are in the bank. Images that a decoder is tested on belong in it only if
        retrieval among them is what is measured.
    features : array (n_bank, n_features)
        Their features, in the decoder's space.
    """

    def __init__(self, stimuli: Stimuli, rows: Array, features: Array) -> None:
        if len(rows) != len(features) or not len(rows):
            raise InputError(
                f"A bank needs features for each of its images, at least one; got {len(rows)} "
                f"rows and {len(features)} features."
            )
        self.stimuli, self.rows, self.features = stimuli, np.asarray(rows), np.asarray(features)

    def nearest(self, decoded: Array) -> Array:
        """Return the stimulus row whose features correlate most with each decoded vector.

        Parameters
        ----------
        decoded : array (n, n_features)

        Returns
        -------
        array of int (n,)
        """
        similarity = _unit_rows(decoded) @ _unit_rows(self.features).T  # (n, n_bank)
        return np.asarray(self.rows[np.argmax(similarity, axis=1)])

    def images(self, decoded: Array) -> NDArray[np.float32]:
        """Return the nearest image of each decoded vector, float in [0, 1]."""
        return as_float(self.stimuli.read(self.nearest(decoded)))


def _unit_rows(values: Array) -> Array:
    centred = np.asarray(values, dtype=np.float64)
    centred = centred - centred.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1, keepdims=True)
    return centred / np.where(norm > 0, norm, 1.0)


def invert(space: Any, decoded: Array) -> NDArray[np.float32]:
    """Return the images that a feature space gives back for decoded features, clipped to [0, 1].

    Raises
    ------
    InputError
        If the space has no inverse.
    """
    if not hasattr(space, "inverse_transform"):
        raise InputError(
            f"{type(space).__name__} has no inverse, so decoded features cannot become images "
            "directly. Decode through a retrieval bank, or choose a space such as PixelPCA."
        )
    return np.clip(space.inverse_transform(decoded), 0, 1).astype(np.float32)
