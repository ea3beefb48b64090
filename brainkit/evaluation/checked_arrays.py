"""Arrays of samples as all scores and ceilings take them: checked, in batches of columns, as rows.

Scores of targets go through columns, identification and pattern scores through rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed

# A batch stays in cache-friendly, bounded memory whatever the number of samples.
BATCH_BYTES = 32 * 2**20
# Equal vectors may differ in the last bits of a matrix product: closer than this is a tie.
TIE_TOLERANCE = 1e-10


def real_array(values: ArrayLike, name: str) -> NDArray[np.generic]:
    """Return `values` as a plain array of real numbers, without converting its dtype.

    Raises
    ------
    InputError
        If the values are not real numbers.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "buif":
        raise InputError(
            f"{name} has dtype {array.dtype}, expected real numbers: convert it to float32 first."
        )
    return array


def paired_samples(
    first: ArrayLike, second: ArrayLike, names: tuple[str, str]
) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    """Return two arrays of one shape, ``(n_samples,)`` or ``(n_samples, n_targets)``.

    Raises
    ------
    InputError
        If the shapes differ, have other than 1 or 2 axes, or hold fewer than 2 samples.
    """
    one, two = real_array(first, names[0]), real_array(second, names[1])
    if one.shape != two.shape:
        raise InputError(
            f"{names[0]} has shape {one.shape} and {names[1]} {two.shape}: "
            "they need one shape, (n_samples, n_targets) or (n_samples,)."
        )
    if one.ndim not in (1, 2):
        raise InputError(
            f"{names[0]} has {one.ndim} axes, expected (n_samples, n_targets) or (n_samples,): "
            "flatten units and time into targets first."
        )
    if len(one) < 2:
        raise InputError(f"{names[0]} has {len(one)} samples: a score needs at least 2.")
    return one, two


def column_batches(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of columns whose float64 copy takes about ``BATCH_BYTES``."""
    width = max(1, BATCH_BYTES // (8 * max(n_rows, 1)))
    for start in range(0, n_columns, width):
        yield slice(start, min(start + width, n_columns))


def centred(values: NDArray[np.generic]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return float64 columns less their means, and their sums of squares.

    The sum of squares is NaN where a column holds NaN or infinity, or is constant up to the
    rounding of its own dtype: such a column has no variance that a score could refer to.
    """
    block = values.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        largest = np.abs(block).max(axis=0)
        # The mean of many equal values may be some units off, so that they would seem to vary.
        same = np.ptp(block, axis=0) == 0
        block -= block.mean(axis=0)
        sum_of_squares = np.einsum("ij,ij->j", block, block)
        eps = np.finfo(values.dtype.char if values.dtype.kind == "f" else "d").eps
        rounding = float(eps) * largest  # one unit in the last place
        flat = same | ~(np.sqrt(sum_of_squares / len(block)) > rounding)
    sum_of_squares[flat | ~np.isfinite(sum_of_squares)] = np.nan
    return block, sum_of_squares


def item_rows(values: ArrayLike, name: str) -> NDArray[np.generic]:
    """Return items as rows, in their own dtype.

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
    rows = array.reshape(len(array), -1)
    bad = np.flatnonzero([not np.isfinite(row).all() for row in rows])
    if bad.size:
        raise InputError(
            f"{name} {listed(bad)} hold NaN or infinity: leave those items out of both sides."
        )
    return rows


def row_vectors(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Return items as float64 rows; raises as :func:`item_rows` does."""
    return item_rows(values, name).astype(np.float64)


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


@dataclass(frozen=True)
class RowDirections:
    """What turns rows of numbers into rows of length 1: (row / largest - mean) / length.

    Attributes
    ----------
    largest, mean, length : numpy.ndarray of shape (n_rows,)
        Scaling first keeps the squares of very small or large vectors in range; the mean is 0
        where rows are not centred.
    lost : numpy.ndarray of bool of shape (n_rows,)
        Rows without a direction; they become zeros.
    """

    largest: NDArray[np.float64]
    mean: NDArray[np.float64]
    length: NDArray[np.float64]
    lost: NDArray[np.bool_]

    def applied(
        self, block: NDArray[np.generic], rows: slice | NDArray[np.intp]
    ) -> NDArray[np.float64]:
        """Return some columns of some rows as they stand in rows of length 1, in float64."""
        scaled = block.astype(np.float64)
        scaled /= self.largest[rows, None]
        scaled -= self.mean[rows, None]
        scaled /= self.length[rows, None]
        scaled[self.lost[rows]] = 0.0
        return scaled


def row_directions(vectors: NDArray[np.generic], *, centre: bool) -> RowDirections:
    """Measure rows as :func:`unit_rows` does, without a copy of all of them."""
    n_rows, width = vectors.shape
    largest, mean, squares = np.ones(n_rows), np.zeros(n_rows), np.zeros(n_rows)
    for rows in column_batches(width, n_rows):
        scaled = vectors[rows].astype(np.float64)
        extent = np.abs(scaled).max(axis=1, initial=0.0)
        largest[rows] = np.where(extent > 0, extent, 1.0)
        scaled /= largest[rows, None]
        if centre:
            mean[rows] = scaled.mean(axis=1)
            scaled -= mean[rows, None]
        squares[rows] = np.einsum("ij,ij->i", scaled, scaled)
    length = np.sqrt(squares)
    lost = length <= np.finfo(np.float64).eps * np.sqrt(width)
    return RowDirections(largest, mean, np.where(length > 0, length, 1.0), lost)
