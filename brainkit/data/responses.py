"""Lazy responses of a recording, and positions in them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from brainkit.arrays.sources import Float, Index, Source
from brainkit.errors import InputError, listed


@dataclass(frozen=True)
class Responses:
    """Lazily read responses; `shape` is (trials, units) or (trials, units, time)."""

    source: Source

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole, without reading it."""
        return self.source.shape

    def read(self, trials: ArrayLike | None = None, units: ArrayLike | None = None) -> Float:
        """Read some trials (samples) of some units as a new float32 array.

        Parameters
        ----------
        trials, units : array of int or bool, or slice, optional
            Positions or a mask; all where not given.
        """
        rows = None if trials is None else positions(trials, self.shape[0], "trials")
        columns = None if units is None else positions(units, self.shape[1], "units")
        return self.source.read(rows, columns)


def positions(chosen: ArrayLike | slice, size: int, what: str) -> Index:
    """Turn a mask, a slice or positions into positions; raises where one does not exist."""
    if isinstance(chosen, slice):
        return np.arange(size)[chosen]
    array = np.asarray(chosen)
    if array.dtype == object and pd.api.types.is_bool_dtype(pd.array(array)):
        raise InputError(f"A mask of {what} may not have missing values.")
    if array.dtype == bool:
        if array.shape != (size,):
            raise InputError(f"A mask of {what} needs {size} values; got shape {array.shape}.")
        return np.flatnonzero(array)
    if array.shape == (0,):
        return np.empty(0, dtype=np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InputError(
            f"Choose {what} by a mask, a slice or integer positions; got {array.dtype} of shape "
            f"{array.shape}."
        )
    outside = array[(array < 0) | (array >= size)]
    if outside.size:
        raise InputError(
            f"{what} out of range: {listed(np.unique(outside))}; there are {size}, from 0."
        )
    return array.astype(np.int64)
