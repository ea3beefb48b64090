"""The spread of decoded embeddings, which predictions lose and generators miss."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

SPREADS = ("dimension", "whole", None)
PREDICTED = 1e-6  # standard deviation from which a dimension counts as predicted at all


def spread_gain(predicted_scale: NDArray[np.float32], spread: str | None) -> NDArray[np.float32]:
    """Return the factor that restores the spread of each standardised dimension.

    Parameters
    ----------
    predicted_scale : array (width,)
        Standard deviation of predictions for items that the fit had not seen.
    spread : {"dimension", "whole", None}
        One factor a dimension; one for all, which restores the total variance; or none.

    Returns
    -------
    array (width,)
        1 where nothing is predicted at all.
    """
    if spread is None:
        return np.ones_like(predicted_scale)
    if spread == "whole":
        total = np.sqrt(np.mean(predicted_scale**2, dtype=np.float64))
        predicted_scale = np.full_like(predicted_scale, total)
    ones = np.ones_like(predicted_scale)
    return np.divide(1.0, predicted_scale, out=ones, where=predicted_scale > PREDICTED)


def to_length(vectors: ArrayLike, length: float) -> NDArray[np.float32]:
    """Return vectors (n, width) of one length; a vector of zeros stays one."""
    values = np.asarray(vectors, dtype=np.float32)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    return np.asarray(values * (length / np.where(norms > 0, norms, 1.0)), dtype=np.float32)


def standard_scores(
    embeddings: ArrayLike, mean: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return embeddings (n, width) less their training mean, over the standard deviation."""
    values = (np.asarray(embeddings, dtype=np.float32) - mean) / scale
    return np.asarray(values, dtype=np.float32)
