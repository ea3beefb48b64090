"""What a value holds, in a few characters: a hash of all of it, in its order.

For whatever asks whether two things are the same, such as the state of a fit that may be taken up
again. Means, shapes, names and what ``repr`` shows of a long array are the same for things that
differ; this is not.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError

LENGTH = 32  # hexadecimal digits: 128 bits
CHUNK = 64 << 20


def content_digest(*values: Any) -> str:
    """Return a hash of values and of the order of all that they hold.

    Parameters
    ----------
    *values : object
        Nothing, numbers, text, bytes, paths, arrays, tensors, tables, estimators, data classes, and
        lists, tuples, sets and mappings of them. Arrays count by type, shape and bytes, and may be
        memory maps, of which a part is read at a time. Lists and tuples are the same; mappings
        differ where their order does, sets do not. Estimators count by class, parameters and fitted
        attributes, data classes by class and fields.

    Returns
    -------
    str
        32 hexadecimal digits, the same on every machine of one byte order.

    Raises
    ------
    InputError
        If a value is something whose content cannot be told, such as a function.
    """
    digest = hashlib.sha256()
    for value in values:
        for part in _parts(value):
            digest.update(part)
    return digest.hexdigest()[:LENGTH]


def _parts(value: Any) -> Iterator[bytes | memoryview]:
    """Give bytes that no other value gives: a kind, a length, the content."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int):
        yield from _framed(b"n", repr(value).encode())
    elif isinstance(value, float | complex):
        number = complex(value)
        yield from _framed(b"f", struct.pack("<dd", number.real, number.imag))
    elif isinstance(value, str | Path):
        yield from _framed(b"s", str(value).encode())
    elif isinstance(value, bytes):
        yield from _framed(b"b", value)
    elif isinstance(value, Mapping):
        yield from _several(b"m", [part for pair in value.items() for part in pair])
    elif isinstance(value, list | tuple):
        yield from _several(b"l", value)
    elif isinstance(value, set | frozenset):
        yield from _several(b"u", sorted(content_digest(item) for item in value))
    else:
        yield from _parts_of_object(value)


def _parts_of_object(value: Any) -> Iterator[bytes | memoryview]:
    """Give the bytes of arrays, of what turns into one, and of estimators."""
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    if hasattr(value, "detach") and hasattr(value, "cpu"):  # a tensor of torch
        value = value.detach().cpu()
        # numpy has no bfloat16; single precision holds it exactly
        value = value.float().numpy() if str(value.dtype) == "torch.bfloat16" else value.numpy()
    if isinstance(value, np.ndarray):
        yield from _array(value)
    elif hasattr(value, "get_params"):
        fitted = {
            key: held
            for key, held in sorted(vars(value).items())
            if key.endswith("_") and not key.startswith("_")
        }
        settings = dict(sorted(value.get_params(deep=False).items()))
        yield from _several(b"e", [name, settings, fitted])
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        yield from _several(b"d", [name, fields])
    elif hasattr(value, "index") and hasattr(value, "to_numpy"):  # a table or column of pandas
        columns = value.columns.to_numpy() if hasattr(value, "columns") else None
        yield from _several(b"t", [value.index.to_numpy(), columns, value.to_numpy()])
    elif hasattr(value, "to_numpy"):
        yield from _array(value.to_numpy())
    else:
        raise InputError(
            f"What a {name} holds cannot be told, so that nobody could say whether a fit with it "
            "is the same as another. Give numbers, text, arrays, or lists and mappings of them."
        )


def _array(value: NDArray[Any]) -> Iterator[bytes | memoryview]:
    if value.dtype.hasobject:
        yield from _several(b"o", [list(value.shape), *value.ravel().tolist()])
        return
    yield from _framed(b"a", f"{value.dtype.str}{value.shape}".encode())
    if value.ndim == 0 or not value.size:
        yield value.tobytes()
        return
    rows = max(1, CHUNK // max(1, value[0].nbytes))
    for start in range(0, len(value), rows):
        part = np.ascontiguousarray(value[start : start + rows])
        yield part.reshape(-1).view(np.uint8).data


def _several(kind: bytes, values: Any) -> Iterator[bytes | memoryview]:
    items = list(values)
    yield kind + len(items).to_bytes(8, "little")
    for item in items:
        yield from _parts(item)


def _framed(kind: bytes, data: bytes) -> Iterator[bytes]:
    yield kind + len(data).to_bytes(8, "little") + data
