"""Lazy arrays: rows (trials) × columns (units), read in part, selected without a copy.

A `Source` knows its shape and reads any rows and columns as float32. Sources wrap each other:
a `View` selects, `Window` cuts time, `Stacked` puts sessions under one another, `Averaged` averages
groups of rows, `Standardised` shifts and scales by group. None of them holds the data; each reads
what is asked. Only `Kept` reads once and holds what it read, until it is told to forget.
Readers of volume files are in `brainkit.arrays.volumes`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError

Float = NDArray[np.float32]
Index = NDArray[np.int64]


class Source(ABC):
    """A lazily read array of shape (rows, columns, ...).

    Attributes
    ----------
    shape : tuple of int
    held : bool
        Whether the values lie in memory, so that reading them again costs a copy alone.
    """

    shape: tuple[int, ...]
    held: bool = False

    @abstractmethod
    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Return the chosen rows and columns, in the order asked for, as a new float32 array."""

    def read_into(
        self, out: Float, rows: Index | None = None, columns: Index | None = None
    ) -> None:
        """Read the chosen rows and columns into `out`, where they are not copied again."""
        out[...] = self.read(rows, columns)


class Memory(Source):
    """An array or memory map that is already there.

    Parameters
    ----------
    array : array (rows, columns, ...)
        Kept as it is; only what is read is converted to float32.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array = array
        self.shape = tuple(array.shape)
        self.held = not isinstance(array, np.memmap)

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Return the chosen part as a new array."""
        if rows is not None and columns is not None:
            part = self.array[np.ix_(rows, columns)]
        elif rows is not None:
            part = self.array[rows]
        elif columns is not None:
            part = self.array[:, columns]
        else:
            return np.array(self.array, dtype=np.float32)
        return np.asarray(part, dtype=np.float32)  # which is new already


class Kept(Source):
    """Another source that is read as a whole when it is first needed, and then kept in memory.

    For several passes over responses that fit in memory but are slow to read.

    Parameters
    ----------
    base : Source
    """

    def __init__(self, base: Source) -> None:
        self.base, self.shape, self.held = base, base.shape, True
        self._memory: Memory | None = None

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Return the chosen part as a new array."""
        if self._memory is None:
            self._memory = Memory(self.base.read())
        return self._memory.read(rows, columns)

    def forget(self) -> None:
        """Let go of what is kept; it is read again when it is needed again."""
        self._memory = None


class View(Source):
    """Rows and columns of another source, by position.

    Parameters
    ----------
    base : Source
        What is viewed; a view of a view looks straight at the base.
    rows, columns : array of int, optional
        Positions in `base`; all where not given.
    """

    def __init__(
        self, base: Source, rows: Index | None = None, columns: Index | None = None
    ) -> None:
        self.base: Source = base
        self.rows: Index | None = rows
        self.columns: Index | None = columns
        if isinstance(base, View):
            self.base = base.base
            self.rows = self._through(base.rows, rows)
            self.columns = self._through(base.columns, columns)
        n_rows = base.shape[0] if rows is None else len(rows)
        n_columns = base.shape[1] if columns is None else len(columns)
        self.shape = (n_rows, n_columns, *base.shape[2:])
        self.held = base.held

    @staticmethod
    def _through(outer: Index | None, inner: Index | None) -> Index | None:
        if outer is None or inner is None:
            return inner if outer is None else outer
        return outer[inner]

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Read the chosen part through the base."""
        return self.base.read(self._through(self.rows, rows), self._through(self.columns, columns))

    def read_into(
        self, out: Float, rows: Index | None = None, columns: Index | None = None
    ) -> None:
        """Read the chosen part through the base."""
        rows, columns = self._through(self.rows, rows), self._through(self.columns, columns)
        self.base.read_into(out, rows, columns)


class Window(Source):
    """A stretch of time points of another source, (rows, columns, times).

    Parameters
    ----------
    base : Source
    start, stop : int
        First time point, and the one after the last.
    """

    def __init__(self, base: Source, start: int, stop: int) -> None:
        self.base, self.start, self.stop = base, start, stop
        self.shape = (*base.shape[:2], stop - start)
        self.held = base.held

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Read the chosen part through the base."""
        return self.base.read(rows, columns)[:, :, self.start : self.stop].copy()


class Stacked(Source):
    """Sources with the same columns under one another, such as the sessions of a subject."""

    def __init__(self, parts: Sequence[Source]) -> None:
        if not parts:
            raise InputError("Nothing to stack: give at least one source.")
        widths = {part.shape[1:] for part in parts}
        if len(widths) > 1:
            raise InputError(f"Stacked sources must have the same columns; got {sorted(widths)}.")
        self.parts = list(parts)
        self.starts = np.cumsum([0, *(part.shape[0] for part in parts)])
        self.shape = (int(self.starts[-1]), *parts[0].shape[1:])

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Read the chosen rows from the parts that hold them, and only from those."""
        n_columns = self.shape[1] if columns is None else len(columns)
        n_rows = self.shape[0] if rows is None else len(rows)
        out = np.empty((n_rows, n_columns, *self.shape[2:]), dtype=np.float32)
        if rows is None:
            for part, start in zip(self.parts, self.starts, strict=False):
                part.read_into(out[start : start + part.shape[0]], None, columns)
            return out
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for number in np.unique(owner):
            here = np.flatnonzero(owner == number)
            part, inside = self.parts[number], rows[here] - self.starts[number]
            if here[-1] - here[0] + 1 == len(here):
                part.read_into(out[here[0] : here[-1] + 1], inside, columns)
            else:
                out[here] = part.read(inside, columns)
        return out


class Averaged(Source):
    """Means over groups of rows, such as the repeats of each stimulus.

    Parameters
    ----------
    base : Source
        Source of the rows.
    groups : sequence of array of int
        For each row of this source, the rows of `base` that it averages.
    """

    def __init__(self, base: Source, groups: Sequence[Index]) -> None:
        self.base, self.groups = base, list(groups)
        self.shape = (len(self.groups), *base.shape[1:])

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Average the rows of each chosen group; each base row is read once."""
        groups = self.groups if rows is None else [self.groups[row] for row in rows]
        if not groups:
            return self.base.read(np.arange(0), columns)
        needed, place = np.unique(np.concatenate(groups), return_inverse=True)
        values = self.base.read(needed, columns)
        out = np.empty((len(groups), *values.shape[1:]), dtype=np.float32)
        start = 0
        for number, group in enumerate(groups):
            members = place[start : start + len(group)]
            out[number] = values[members].mean(axis=0, dtype=np.float64)
            start += len(group)
        return out


class Standardised(Source):
    """``(value - shift[g]) / scale[g]`` where g is the group (session) of the row.

    Parameters
    ----------
    base : Source
        Source of the values.
    group : array of int (rows,)
        Group of each row.
    shift, scale : float32 array (groups, columns, ...)
        Statistics by group; a scale of 0 or NaN gives NaN.
    """

    def __init__(self, base: Source, group: Index, shift: Float, scale: Float) -> None:
        self.base, self.group, self.shift, self.scale = base, group, shift, scale
        self.shape = base.shape

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Read and standardise the chosen part."""
        values = self.base.read(rows, columns)
        group = self.group if rows is None else self.group[rows]
        shift = self.shift if columns is None else self.shift[:, columns]
        scale = self.scale if columns is None else self.scale[:, columns]
        for number in np.unique(group):
            here = group == number
            divisor = np.where(scale[number] > 0, scale[number], np.float32(np.nan))
            with np.errstate(invalid="ignore"):  # infinite values give NaN
                values[here] = (values[here] - shift[number]) / divisor
        return values
