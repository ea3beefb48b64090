"""Checks and float64 column batches shared by the scores and the ceilings."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError

# A batch stays in cache-friendly, bounded memory whatever the number of samples.
BATCH_BYTES = 32 * 2**20


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
