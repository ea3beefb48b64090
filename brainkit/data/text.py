"""Text is text: what counts as a caption or a name, wherever it comes from.

Strings are taken as they are; bytes, as HDF5 and MATLAB files give them, are decoded as UTF-8, and
what is no UTF-8 is refused. None, NaN and pandas' NA are missing, never the words "None" and "nan".
Anything else, numbers among them, is no text.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.array_likes import unmasked
from brainkit.errors import InputError, listed

KINDS = ("caption", "text")  # of stimuli that are text


def is_missing(value: Any) -> bool:
    """Return whether a value stands for nothing: None, NaN, pandas' NA or NaT."""
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def as_texts(
    values: Iterable[Any],
    lead: str = "Texts are strings, or bytes in UTF-8",
    ids: Sequence[Any] | None = None,
) -> list[str]:
    """Return texts as strings.

    Parameters
    ----------
    values : iterable of str or bytes
    lead : str
        The beginning of the message: what is expected.
    ids : sequence, optional
        What the values are called in the message; rows from 0 where not given.

    Raises
    ------
    InputError
        If some are missing, no text, or bytes that are no UTF-8; all of them are named.

    Examples
    --------
    >>> as_texts(["a red house", "ein Häuschen".encode()])
    ['a red house', 'ein Häuschen']
    """
    texts: list[str] = []
    faults: dict[str, list[Any]] = {}
    for row, value in enumerate(values):
        text, fault = _decoded(value)
        texts.append(text)
        if fault:
            faults.setdefault(fault, []).append(row if ids is None else ids[row])
    if faults:
        kind = "rows" if ids is None else "stimuli"
        described = (f"{fault} in {kind} {listed(names)}" for fault, names in faults.items())
        raise InputError(f"{lead}; got {', '.join(described)}. Mend or leave out these.")
    return texts


def _decoded(value: Any) -> tuple[str, str]:
    """Return the text, and what the value is instead of one."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "", "half characters (lone surrogates)"
        return str(value), ""
    if isinstance(value, bytes | bytearray):
        try:
            return bytes(value).decode(), ""
        except UnicodeDecodeError:
            return "", "bytes that are no UTF-8"
    return "", "nothing (None or NaN)" if is_missing(value) else type(value).__name__


def text_array(values: Any, ids: Sequence[Any], lead: str) -> NDArray[np.str_]:
    """Return an array of texts, (n, ...), as strings; `ids` name the rows, see `as_texts`."""
    array = np.asarray(values)
    each = max(int(np.prod(array.shape[1:])), 1)
    names = [ids[place // each] for place in range(array.size)]
    return np.array(as_texts(array.ravel().tolist(), lead, names), np.str_).reshape(array.shape)


def as_names(ids: Any) -> NDArray[Any]:
    """Return ids as an array: numbers as they are, text decoded.

    Raises
    ------
    InputError
        If some are missing, or bytes that are no UTF-8.
    """
    ids = unmasked(ids, "The array of ids")
    # As objects first: a list with a NaN or with bytes among names would become words.
    array = np.asarray(ids) if isinstance(ids, np.ndarray) else np.asarray(ids, dtype=object)
    each = array.ravel().tolist()
    if any(is_missing(name) for name in each):
        raise InputError("ids must name each stimulus; some are missing (None or NaN).")
    if any(isinstance(name, bytes) for name in each):
        each = as_texts(each, "ids that are text are strings, or bytes in UTF-8")
    return array if array.dtype.kind not in "OS" else np.asarray(each)


def text_columns(
    table: pd.DataFrame, lead: str = "The table's column {!r} holds text"
) -> pd.DataFrame:
    """Return a table whose text is text: bytes are decoded, captions are strings or missing.

    Parameters
    ----------
    table : DataFrame
        Left as it is; what comes back is the same object where nothing had to be changed.
    lead : str
        The beginning of the message, with a place for the column's name.

    Raises
    ------
    InputError
        If bytes are no UTF-8, a column of captions holds something that is no text, or two columns
        have one name.
    """
    twice = table.columns[table.columns.duplicated()].unique()
    if len(twice):
        raise InputError(f"A table names each column once; twice there: {listed(twice)}.")
    changed: dict[str, list[Any]] = {}
    for name in table.columns:
        kind = table[name].dtype
        inner = kind.categories.dtype if isinstance(kind, pd.CategoricalDtype) else kind
        mixed = inner == np.dtype(object) or name in ("caption", "captions")
        values = table[name].astype(object).tolist() if mixed else []
        fresh = [
            _cell(value, str(name), row, lead.format(str(name))) for row, value in enumerate(values)
        ]
        if any(new is not old for new, old in zip(fresh, values, strict=True)):
            changed[name] = fresh
    if not changed:
        return table
    table = table.copy()
    for name, values in changed.items():
        table[name] = pd.Series(values, index=table.index, dtype=object)
    return table


def _cell(value: Any, column: str, row: int, lead: str) -> Any:
    """Return the cell of a table with its text decoded; the very same object where it was text."""
    if column in ("caption", "captions") and not is_missing(value):
        several = column == "captions" and isinstance(value, list | tuple | np.ndarray)
        texts = [one for one in value if not is_missing(one)] if several else [value]
        texts_of = as_texts(texts, lead, [row] * len(texts))
        if not several:
            return value if isinstance(value, str) else texts_of[0]
        same = len(texts) == len(value) and all(isinstance(one, str) for one in texts)
        return value if same else texts_of
    if isinstance(value, bytes | bytearray):
        return as_texts([value], lead, [row])[0]
    return value
