"""Whole numbers: labels and masks that are stored as real ones, and arguments that count."""

import operator
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed

NEAR = 1e-3  # what interpolation, single precision and exponents leave of a whole number
# What is stored as int16 with a slope is off by half of (max − min) / 65,535 at most, of which a
# tool that read it before may have left no trace but the values.
NEAR_OF_LARGEST = 2e-5
FARTHEST = 0.25  # beyond which two labels could be meant
LARGEST = 2.0**53  # from where on every real number is whole


def whole_numbers(values: ArrayLike, what: str, *, step: float = 0.0) -> NDArray[np.int64]:
    """Return labels, codes or a mask as the whole numbers that they stand for.

    Values that are nearly whole are rounded, with a warning that says how many; NaN, which stands
    for no label outside the brain, becomes 0. Anything else is refused: a probability map or an
    interpolated parcellation has no labels, and cutting it off would make some up.

    Parameters
    ----------
    values : array_like of any shape
        True and false, integers, or real numbers.
    what : str
        What they are, to begin messages with.
    step : float, default=0
        The step between the values that the file can hold (the slope of scaled integers); half of
        it is the accuracy with which a label can be stored.

    Returns
    -------
    numpy.ndarray of int64, of the same shape

    Raises
    ------
    InputError
        If a value is no number, infinite, or not near a whole one.
    """
    given = np.asarray(values)
    if given.dtype.kind in "biu":
        return given.astype(np.int64)
    if given.dtype.kind == "O" and all(isinstance(v, bool | int | float) for v in given.flat):
        given = given.astype(np.float64)
    if given.dtype.kind != "f":
        raise InputError(f"{what} must hold whole numbers; it holds {given.dtype} values.")
    missing = np.isnan(given)
    numbers = np.where(missing, 0.0, given.astype(np.float64))
    rounded = np.rint(numbers)
    with np.errstate(invalid="ignore"):  # infinite values are refused below
        off = np.abs(numbers - rounded)
    largest = float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0))
    tolerance = min(max(NEAR, 0.51 * abs(step), NEAR_OF_LARGEST * largest), FARTHEST)
    wrong = ~(off <= tolerance) | (np.abs(numbers) > LARGEST)
    if wrong.any():
        shown = listed([f"{value:.6g}" for value in np.unique(numbers[wrong])], 5)
        raise InputError(
            f"{what} must hold whole numbers; {int(wrong.sum()):,} of its {given.size:,} values "
            f"are none: {shown}. Threshold a map of probabilities, and resample labels without "
            "interpolating (nilearn.image.resample_to_img with interpolation='nearest')."
        )
    if largest > 0 and not rounded.any() and largest > np.finfo(np.float32).eps:
        raise InputError(
            f"{what} must hold whole numbers; its largest value is {largest:.6g}, which rounds to "
            "0 like all the others."
        )
    inexact = int((off > 0).sum())
    if inexact:
        warnings.warn(
            f"{what}: {inexact:,} of {given.size:,} values were rounded to whole numbers, by "
            f"{off.max():.2g} at most.",
            stacklevel=2,
        )
    return rounded.astype(np.int64)


def inside(values: ArrayLike, what: str, *, step: float = 0.0) -> NDArray[np.bool_]:
    """Return where a mask is above 0, of values that `whole_numbers` takes."""
    return np.asarray(whole_numbers(values, what, step=step) > 0)


def whole_number(value: Any, name: str) -> int:
    """Return an argument that counts or numbers something as a plain int.

    Parameters
    ----------
    value : int
        Of Python or NumPy.
    name : str
        The argument, as the caller knows it.

    Raises
    ------
    InputError
        If it is true or false, a real number, text, or anything else.
    """
    try:
        if isinstance(value, bool | np.bool_):
            raise TypeError
        return operator.index(value)
    except TypeError:
        raise InputError(
            f"{name} must be a whole number; got {value!r} ({type(value).__name__})."
        ) from None
