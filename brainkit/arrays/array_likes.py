"""What stands for an array or a list of items, and what only looks like it.

NumPy makes an array of nearly anything: a masked array loses its mask, a dict becomes one object, a
tensor that carries gradients a ``RuntimeError``. Here arguments become arrays in one way, and
everything that would lose or change its meaning is refused by the name of the argument.
"""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.errors import InputError


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
