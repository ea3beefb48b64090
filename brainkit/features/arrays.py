"""What transformers of features ask of an array, before they read it a block at a time."""

import math
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.array_likes import as_array
from brainkit.errors import InputError


def feature_array(X: Any) -> NDArray[Any]:
    """Return features as an array (n, ...), read no further than their shape where they are mapped.

    Raises
    ------
    InputError
        If they are no array, masked or sparse, hold anything but real numbers, have no rows or no
        features, or are not one row a stimulus.
    """
    features: Any = X if _is_lazy(X) else np.asarray(as_array(X, "The table of features (n, ...)"))
    if features.ndim < 2:
        raise InputError(
            f"Features are (n, ...), one row a stimulus; got shape {features.shape}. Reshape your "
            "data with X.reshape(-1, 1) if it is one feature, or X.reshape(1, -1) if one stimulus."
        )
    if features.dtype.kind == "O":
        features = _from_objects(features)
    if features.dtype.kind == "c":
        raise InputError("Complex data not supported: features are real numbers.")
    if features.dtype.kind not in "biuf":
        raise InputError(f"Features are real numbers; got {features.dtype}.")
    if not len(features):
        raise InputError(
            f"Found array with 0 sample(s) (shape={features.shape}) while a minimum of 1 is "
            "required: features of one stimulus at least."
        )
    if not math.prod(features.shape[1:]):
        raise InputError(
            f"0 feature(s) (shape={features.shape}) while a minimum of 1 is required: features are "
            "(n, ...) with at least one each."
        )
    given: NDArray[Any] = features
    return given


def _is_lazy(X: Any) -> bool:
    """Tell whether X is array-like without being in memory, such as a dataset in an HDF5 file."""
    known = isinstance(X, np.ndarray | pd.Series) and not isinstance(X, np.memmap)
    lazy = hasattr(X, "shape") and hasattr(X, "dtype") and hasattr(X, "ndim")
    return lazy and not (known or hasattr(X, "detach") or hasattr(X, "tocsr"))


def _from_objects(features: Any) -> NDArray[np.float64]:
    if any(isinstance(value, complex) for value in np.asarray(features).flat):
        raise InputError("Complex data not supported: features are real numbers.")
    try:
        return np.asarray(features).astype(np.float64)
    except ValueError as error:  # text; what is no number at all is a TypeError as it stands
        raise InputError(f"Features are real numbers; got objects: {error}") from error


def finite(block: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a block of features.

    Raises
    ------
    InputError
        If it holds NaN or infinity.
    """
    if not np.isfinite(block).all():
        raise InputError(
            "The features hold NaN or infinity, or exceed single precision, so that nothing can be "
            "computed of them. Extract them again, as float32 if they were float16."
        )
    return block


def check_width(transformer: Any, features: NDArray[Any], width: int) -> None:
    """Raise unless features have as many values a row as a transformer was fitted to.

    Raises
    ------
    InputError
    """
    found = math.prod(features.shape[1:])
    if found != width:
        raise InputError(
            f"X has {found} features, but {type(transformer).__name__} is expecting {width} "
            f"features as input; got an array of shape {features.shape}."
        )


def check_count(name: str, value: Any) -> None:
    """Raise unless a parameter is a whole number from 1.

    Raises
    ------
    InputError
    """
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise InputError(f"{name} must be at least 1, a whole number; got {value!r}.")
