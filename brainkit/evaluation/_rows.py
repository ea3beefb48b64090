"""Checks and directions of rows, shared by identification, retrieval and pattern scores."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed
from brainkit.evaluation._columns import real_array

# Equal vectors may differ in the last bits of a matrix product: closer than this is a tie.
TIE_TOLERANCE = 1e-10


def row_vectors(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return items as float64 rows.

    Raises
    ------
    InputError
        If there is no number, or one is not finite.
    """
    array = real_array(values, name)
    if array.ndim < 2 or not array.size:
        raise InputError(
            f"{name} has shape {array.shape}, expected (n_items, ...) with at least 1 number each."
        )
    vectors = array.reshape(len(array), -1).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if bad.size:
        raise InputError(
            f"{name} {listed(bad)} hold NaN or infinity: leave those items out of both sides."
        )
    return vectors


def unit_rows(
    vectors: NDArray[np.float64], *, centre: bool
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return rows of length 1 (less their means first, if `centre`), and which have no direction.

    A row without a direction comes back as zeros.
    """
    largest = np.abs(vectors).max(axis=1, keepdims=True, initial=0.0)
    # Scaling first keeps the squares of very small or large vectors in range.
    scaled = vectors / np.where(largest > 0, largest, 1.0)
    if centre:
        scaled -= scaled.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(scaled, axis=1, keepdims=True)
    lost = lengths[:, 0] <= np.finfo(np.float64).eps * np.sqrt(vectors.shape[1])
    scaled /= np.where(lengths > 0, lengths, 1.0)
    scaled[lost] = 0.0
    return scaled, lost
