"""What stands for an array, a list of items or whole numbers, and what only looks like it.

NumPy makes an array of nearly anything: a masked array loses its mask, a dict becomes one object, a
tensor that carries gradients a ``RuntimeError``. Here arguments become arrays in one way, and
everything that would lose or change its meaning is refused by the name of the argument. Labels and
masks that are stored as real numbers, and arguments that count, become whole numbers.
"""

import operator
import warnings
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed

NEAR = 1e-3  # what interpolation, single precision and exponents leave of a whole number
# What is stored as int16 with a slope is off by half of (max − min) / 65,535 at most, of which a
# tool that read it before may have left no trace but the values.
NEAR_OF_LARGEST = 2e-5
FARTHEST = 0.25  # beyond which two labels could be meant
LARGEST = 2.0**53  # from where on every real number is whole


def unmasked(values: Any, what: str) -> Any:
    """Return anything as it is, and a masked array that masks nothing as a plain one.

    Parameters
    ----------
    values : object
    what : str
        The argument, to begin the message with.

    Raises
    ------
    InputError
        If a value is masked: what lies under a mask is no data, and estimators know of no mask.
    """
    if not isinstance(values, np.ma.MaskedArray):
        return values
    n_masked = int(np.count_nonzero(np.ma.getmaskarray(values)))
    if n_masked:
        raise InputError(
            f"{what} is a masked array with {n_masked:,} of {values.size:,} values masked, and the "
            "mask would be lost. Leave those rows out, or fill them (values.filled(...)) first."
        )
    return np.asarray(values.data)


def as_array(values: Any, what: str) -> NDArray[Any]:
    """Return an argument as an array, whatever array-like it is.

    Parameters
    ----------
    values : array_like, DataFrame, Series or tensor
        Tensors are taken without their gradients, bfloat16 as float32; of nullable columns, NA is
        NaN. Memory maps stay maps.
    what : str
        The argument, to begin messages with.

    Raises
    ------
    InputError
        If it is no array: None, text, a dict, a set, an iterator, a class, a sparse or a masked
        array, or rows of unequal lengths.
    """
    if hasattr(values, "tocsr"):
        raise InputError(
            f"{what} is a sparse array, where a dense one is expected: values.toarray() makes one."
        )
    if isinstance(values, type):
        raise InputError(
            f"{what} is the class {values.__name__}; give an array, or an instance of it."
        )
    if isinstance(values, str | bytes | Mapping | AbstractSet) or values is None:
        raise InputError(f"{what} must be an array; got {_named(values)}.")
    values = unmasked(values, what)
    if hasattr(values, "detach"):  # a tensor
        values = values.detach().cpu()
        values = (values.float() if "bfloat16" in str(values.dtype) else values).numpy()
    if isinstance(values, pd.DataFrame | pd.Series) and _is_nullable(values):
        return np.asarray(values.to_numpy(dtype=np.float64, na_value=np.nan))
    try:
        array: NDArray[Any] = np.asanyarray(values)
    except (TypeError, ValueError) as error:  # rows of unequal lengths
        raise InputError(f"{what} must be an array, rows of equal lengths: {error}") from error
    if array.ndim == 0 and array.dtype.kind == "O":
        raise InputError(f"{what} must be an array; got {_named(values)}.")
    return array


def as_items(values: Any, what: str) -> list[Any]:
    """Return the items of a sequence in their order.

    Raises
    ------
    InputError
        If it is no sequence of items: a single text, path or number, or a table, a dict or a set,
        whose items are the names of columns, keys, or in no order.
    """
    if isinstance(values, pd.DataFrame):
        raise InputError(
            f"{what} must be a sequence of items; got a DataFrame, of which one column has to be "
            f"named, such as table[{str(next(iter(values), 'name'))!r}]."
        )
    if isinstance(values, Mapping | AbstractSet):
        kind = "values in their order, such as list(d.values())"
        order = kind if isinstance(values, Mapping) else "a list, in which they have an order"
        raise InputError(
            f"{what} must be a sequence of items; got a {type(values).__name__}: give {order}."
        )
    single = isinstance(values, str | bytes | type) or not hasattr(values, "__len__")
    if single or not hasattr(values, "__iter__"):
        raise InputError(f"{what} must be a sequence, even of one; got {_named(values)}.")
    return list(unmasked(values, what))


def _is_nullable(table: Any) -> bool:
    """Return whether a table holds numbers, of pandas' nullable kinds some of them."""
    kinds = [table.dtype] if isinstance(table, pd.Series) else list(table.dtypes)
    numbers = all(pd.api.types.is_numeric_dtype(kind) for kind in kinds)
    return numbers and any(pd.api.types.is_extension_array_dtype(kind) for kind in kinds)


def _named(value: Any) -> str:
    if isinstance(value, str | bytes | int | float) or value is None:
        return f"{value!r}"
    return f"a {type(value).__name__}"


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
    array = np.asarray(values)
    if array.dtype.kind in "biu":
        return array.astype(np.int64)
    if array.dtype.kind == "O" and all(isinstance(v, bool | int | float) for v in array.flat):
        array = array.astype(np.float64)
    if array.dtype.kind != "f":
        raise InputError(f"{what} must hold whole numbers; it holds {array.dtype} values.")
    missing = np.isnan(array)
    numbers = np.where(missing, 0.0, array.astype(np.float64))
    rounded = np.rint(numbers)
    with np.errstate(invalid="ignore"):  # infinite values are refused below
        off = np.abs(numbers - rounded)
    largest = float(np.abs(numbers[np.isfinite(numbers)]).max(initial=0.0))
    tolerance = min(max(NEAR, 0.51 * abs(step), NEAR_OF_LARGEST * largest), FARTHEST)
    wrong = ~(off <= tolerance) | (np.abs(numbers) > LARGEST)
    if wrong.any():
        shown = listed([f"{value:.6g}" for value in np.unique(numbers[wrong])], 5)
        raise InputError(
            f"{what} must hold whole numbers; {int(wrong.sum()):,} of its {array.size:,} values "
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
            f"{what}: {inexact:,} of {array.size:,} values were rounded to whole numbers, by "
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
        An integer of Python or NumPy.
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
