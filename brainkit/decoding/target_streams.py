"""Targets too many for memory: read from where they lie, and what is fitted to them written down.

`TargetColumns` reads a stretch of targets at a time from an array, a memory map, a ``.npy`` file,
an HDF5 dataset or a lazy source. Rows of a result go to memory (`MemoryTable`, `MemoryColumns`) or
to a file of their own (`RowFile`, `ColumnFile`), ``.npy``, so that anything can read it. A
`FitFolder` keeps what an interrupted fit needs to go on: the plan, and a note for every batch that
is done.

Maps of files are given back after every read. Otherwise all that was read of a file would count as
this process's memory, up to the size of the file.
"""

import errno
import mmap
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.array_likes import as_array
from brainkit.arrays.atomic import (
    COMPLETE,
    atomic_path,
    exclusive,
    under_umask,
    write_json,
    write_npy,
)
from brainkit.arrays.digest import content_digest
from brainkit.arrays.files import is_file, read_json, reading, require_file
from brainkit.errors import InputError, OutputError, listed
from brainkit.linear.targets import target_batches

Array = NDArray[Any]
Float = NDArray[np.float64]
PLAN, NOTES, WEIGHTS, SPECTRUM = "plan.json", "notes", "weights.npy", "spectrum.safetensors"
FULL = {errno.ENOSPC, errno.EDQUOT}
LOOKED_AT = 8  # targets of a block whose values tell whether it is the same block again


class TargetColumns:
    """Targets (n_samples, ...) as a table (n_samples, n_targets) that is read in part.

    Parameters
    ----------
    source : array, memory map, path of a .npy file, HDF5 dataset, or lazy source
        What follows the first axis is laid out in C order, such as tokens × width.
    name : str
        For messages.

    Raises
    ------
    InputError
        If it is no array of real numbers with two axes or more.
    MissingFileError, FileAccessError, CorruptFileError
        If a file is missing, may not be read, or is no .npy file of plain numbers.
    """

    def __init__(self, source: Any, name: str) -> None:
        self.name = name
        self.source = _opened(source, name)
        shape = tuple(int(size) for size in self.source.shape)
        if len(shape) < 2 or not all(shape):
            raise InputError(
                f"Targets {name!r} must be (n_samples, n_targets), or have more axes after the "
                f"first one, none of them empty; got shape {shape}."
            )
        dtype = np.dtype(getattr(self.source, "dtype", np.float32))  # a lazy source reads float32
        if dtype.kind not in "biuf":
            raise InputError(f"Targets {name!r} must be real numbers; they are of type {dtype}.")
        self.dtype = dtype
        self._inner = int(np.prod(shape[2:], dtype=np.int64))
        self.shape = (shape[0], shape[1] * self._inner)

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        """Return all samples of a stretch of targets."""
        part = key[1]
        first, last = part.start // self._inner, -(-part.stop // self._inner)
        if hasattr(self.source, "read"):
            values = self.source.read(None, np.arange(first, last))
        else:
            values = self.source[:, first:last]
        values = np.asarray(values).reshape(self.shape[0], -1)
        values = values[:, part.start - first * self._inner : part.stop - first * self._inner]
        if isinstance(self.source, np.memmap):
            values = np.array(values)
            release_pages(self.source)
        return values

    def fingerprint(self) -> str:
        """Return a hash of the shape, the type and the values of a few targets."""
        picks = np.unique(np.linspace(0, self.shape[1] - 1, LOOKED_AT).astype(int))
        columns = [self[:, int(pick) : int(pick) + 1] for pick in picks]
        return content_digest(list(self.shape), str(self.dtype), *columns)


def _opened(source: Any, name: str) -> Any:
    """Return something with a shape that gives columns."""
    if isinstance(source, str | Path):
        path = require_file(source, f"The file of the targets {name!r}")
        if path.suffix != ".npy":
            raise InputError(
                f"Targets {name!r} are to be read from a .npy file; got {path}. Open a file of "
                "another kind, such as HDF5, and give the dataset."
            )
        with reading(path, "cannot be read as .npy", mend="write it again with numpy.save"):
            return np.load(path, mmap_mode="r", allow_pickle=False)
    lazy = hasattr(source, "read") or type(source).__module__.partition(".")[0] == "h5py"
    return source if lazy and hasattr(source, "shape") else as_array(source, f"Targets {name!r}")


def release_pages(array: Array) -> None:
    """Give back what was read of a mapped file: it stays in the system's cache, not in ours."""
    if getattr(array, "mode", "c") == "c" or not hasattr(mmap, "MADV_DONTNEED"):
        return  # what a private map was changed to lies nowhere else
    inner: Any = array
    while inner is not None and not isinstance(inner, mmap.mmap):
        inner = getattr(inner, "base", None)
    if inner is not None:
        inner.madvise(mmap.MADV_DONTNEED)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise unless a disk has room.

    Raises
    ------
    OutputError
        With the bytes that are needed and those that are free.
    """
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"No room for {what} in {folder}: {needed / 1e9:.3g} GB are needed, and the disk has "
            f"{free / 1e9:.3g} GB free. Make room, choose another disk, keep coefficients as "
            "float16, or keep none (fit_predict)."
        )


@contextmanager
def _filling(path: Path) -> Iterator[None]:
    """Say which disk is full, where one is."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL:
            raise
        free = shutil.disk_usage(path.parent).free
        raise OutputError(
            f"The disk of {path} is full ({free / 1e9:.3g} GB free): make room and run again. What "
            "a fit has written to its folder is kept."
        ) from error


class ColumnStretch:
    """Some columns of a table, as a source of their own."""

    def __init__(self, table: TargetColumns, first: int, width: int) -> None:
        self.table, self.first, self.dtype = table, first, table.dtype
        self.shape = (table.shape[0], width)

    def read(self, _rows: None, columns: NDArray[np.int64]) -> Array:
        """Return a stretch of them."""
        start = self.first + int(columns[0])
        return self.table[:, start : start + len(columns)]


class MemoryTable:
    """Rows (n_rows, width) in memory."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def write(self, part: slice, rows: Array) -> None:
        """Put rows in their places."""
        self.values[part] = rows

    def read(self, part: slice) -> Array:
        """Return rows."""
        return self.values[part]


class RowFile:
    """Rows (n_rows, width) in a .npy file; each stretch of them is one piece of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with reading(path, "cannot be read as .npy", mend="fit again"):
            header = np.load(path, mmap_mode="r", allow_pickle=False)
            self.shape, self.dtype, self._offset = header.shape, header.dtype, header.offset

    @classmethod
    def create(cls, path: Path, shape: tuple[int, int], dtype: Any) -> "RowFile":
        """Make a file without content, of full length."""
        needed = shape[0] * shape[1] * np.dtype(dtype).itemsize
        require_space(path.parent, needed, f"{shape[0]} rows of {shape[1]} numbers")
        with _filling(path), atomic_path(path) as partial, partial.open("wb") as file:
            _write_header(file, shape, dtype, needed)
        return cls(path)

    def write(self, part: slice, rows: Array) -> None:
        """Put rows in their places, and see them to the disk."""
        with _filling(self.path), self.path.open("r+b") as file:
            file.seek(self._offset + part.start * self.shape[1] * self.dtype.itemsize)
            file.write(np.ascontiguousarray(rows, dtype=self.dtype).data)
            file.flush()
            os.fsync(file.fileno())

    def read(self, part: slice) -> Array:
        """Return rows."""
        count = (part.stop - part.start) * self.shape[1]
        with reading(self.path, mend="fit again"), self.path.open("rb") as file:
            file.seek(self._offset + part.start * self.shape[1] * self.dtype.itemsize)
            values = np.fromfile(file, dtype=self.dtype, count=count)
        return values.reshape(-1, self.shape[1])


class MemoryColumns:
    """Predictions (n_rows, n_targets) in memory, written a stretch of targets at a time."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def write(self, part: slice, rows: Array) -> None:
        """Put columns, which are given as rows, in their places."""
        self.values[:, part] = rows.T


class ColumnFile:
    """A table (n_rows, n_columns) in a .npy file that is written a stretch of columns at a time."""

    def __init__(self, path: Path, shape: tuple[int, int], dtype: Any) -> None:
        self.path, self.shape, self.dtype = path, shape, np.dtype(dtype)
        needed = shape[0] * shape[1] * self.dtype.itemsize
        require_space(path.parent, needed, f"{shape[0]} predictions of {shape[1]} targets")
        with _filling(path), path.open("wb") as file:
            self._offset = _write_header(file, shape, dtype, needed)

    def write(self, part: slice, rows: Array) -> None:
        """Put columns, which are given as rows, in their places."""
        columns = np.ascontiguousarray(rows.T, dtype=self.dtype)
        with _filling(self.path), self.path.open("r+b", buffering=0) as file:
            for number, row in enumerate(columns):
                place = number * self.shape[1] + part.start
                file.seek(self._offset + place * self.dtype.itemsize)
                file.write(row.data)


@contextmanager
def predictions_table(out: str | Path | None, shape: tuple[int, int], dtype: Any) -> Iterator[Any]:
    """Give a table to write predictions to."""
    if out is None:
        yield MemoryColumns(np.empty(shape, dtype=dtype))
        return
    with atomic_path(out) as partial:
        yield ColumnFile(partial, shape, dtype)


def shown_predictions(out: str | Path | None, table: Any, single: bool) -> Array:
    """Return predictions, those in a file as a map of it."""
    values = table.values if out is None else np.load(out, mmap_mode="r", allow_pickle=False)
    return values[:, 0] if single else values


def _write_header(file: Any, shape: tuple[int, int], dtype: Any, needed: int) -> int:
    """Begin a .npy file of full length; return where its values begin."""
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    offset = int(file.tell())
    file.truncate(offset + needed)
    return offset


class Notes:
    """What has been done, batch by batch: arrays by kind and number."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int], Array] = {}

    def get(self, kind: str, number: int) -> Array | None:
        """Return a note, None where there is none."""
        return self._kept.get((kind, number))

    def put(self, kind: str, number: int, values: Array) -> None:
        """Keep a note."""
        self._kept[kind, number] = values


class FitFolder(Notes):
    """A folder in which a fit writes down what it has done, so that another can go on from there.

    Parameters
    ----------
    path : path
        New, empty, or that of a fit with the same plan.
    plan : mapping
        What the result depends on, as JSON has it. ``batch_size`` is that of the first fit.

    Raises
    ------
    OutputError
        If the folder holds anything else, or a fit of other data or with other settings.
    """

    def __init__(self, path: str | Path, plan: Mapping[str, Any]) -> None:
        super().__init__()
        self.path = Path(path)
        known = self.path / PLAN
        if not is_file(known):
            others = [one.name for one in self.path.iterdir() if not one.name.startswith(".")]
            if others:
                raise OutputError(
                    f"{self.path} holds {listed(sorted(others), 4)}, and is no folder of a fit. "
                    "Give a new folder."
                )
            write_json(known, dict(plan))
        self.plan = read_json(known, "The plan of a fit", "give a new folder")
        differing = [
            name
            for name in sorted({*plan, *self.plan} - {"batch_size"})
            if plan.get(name) != self.plan.get(name)
        ]
        if differing:
            raise OutputError(
                f"{self.path} holds a fit that differs in {listed(differing)}. Give a new folder, "
                "or remove that one."
            )
        (self.path / NOTES).mkdir(exist_ok=True)

    @staticmethod
    @contextmanager
    def held(path: str | Path) -> Iterator[None]:
        """Make the folder, and keep other fits out of it while the block runs.

        Raises
        ------
        OutputError
            If it cannot be made.
        """
        try:
            Path(path).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"The folder {path} cannot be made ({error.strerror}).") from error
        with exclusive(Path(path) / ".lock"):
            yield

    @property
    def complete(self) -> bool:
        """Whether the fit has come to its end."""
        return is_file(self.path / COMPLETE)

    def get(self, kind: str, number: int) -> Array | None:
        """Return a note; None where there is none, or a crash has left a part of one."""
        try:
            return np.asarray(np.load(self._note(kind, number), allow_pickle=False))
        except (FileNotFoundError, EOFError, ValueError):
            return None

    def put(self, kind: str, number: int, values: Array) -> None:
        """Keep a note: whole or not at all."""
        with _filling(self.path / NOTES):
            write_npy(self._note(kind, number), values)

    def _note(self, kind: str, number: int) -> Path:
        return self.path / NOTES / f"{kind}-{number:06d}.npy"

    def weights(self, shape: tuple[int, int], dtype: Any) -> RowFile:
        """Return the file of the coefficients, which is made where it is not there."""
        path = self.path / WEIGHTS
        if is_file(path):
            rows = RowFile(path)
            if (rows.shape, rows.dtype) == (shape, np.dtype(dtype)):
                return rows
            raise OutputError(
                f"{path} holds {rows.dtype} of shape {rows.shape}, where {np.dtype(dtype)} of "
                f"shape {shape} belong. Give a new folder."
            )
        return RowFile.create(path, shape, dtype)

    def load_arrays(self) -> dict[str, Array] | None:
        """Return the arrays that `save_arrays` wrote, None where it did not."""
        from safetensors.numpy import load_file

        path = self.path / SPECTRUM
        if not is_file(path):
            return None
        with reading(path, "cannot be read as safetensors", mend="remove it", also=[Exception]):
            return dict(load_file(path))

    def save_arrays(self, arrays: Mapping[str, Array]) -> None:
        """Keep arrays that took long to compute, for a fit that goes on from here."""
        from safetensors.numpy import save_file

        size = sum(array.nbytes for array in arrays.values())
        require_space(self.path, size, "the decomposition of the responses")
        with _filling(self.path / SPECTRUM), atomic_path(self.path / SPECTRUM) as partial:
            save_file({name: np.ascontiguousarray(one) for name, one in arrays.items()}, partial)
            under_umask(partial)

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Say that the fit is complete, and remove what only an incomplete one needs."""
        write_json(self.path / COMPLETE, dict(facts))
        (self.path / SPECTRUM).unlink(missing_ok=True)


@dataclass(frozen=True)
class TargetBatch:
    """Targets that are treated at once: of one block, by number there and among all."""

    number: int
    block: int
    inside: slice
    part: slice


@dataclass(frozen=True)
class RidgeTask:
    """What is fitted.

    Attributes
    ----------
    samples : array (n_samples, n_units)
        Responses less their mean, scaled.
    mean : float64 array (n_units,)
    scale : array (n_units,)
    blocks : list of TargetColumns
    alphas : list of list of float
        Candidate penalties of each block.
    codes, rows : arrays of int
        See `brainkit.decoding.massive_solver.held_out_map`.
    single : bool
        Whether the targets were one column.
    size : int
        Targets at once.
    """

    samples: Array
    mean: Float
    scale: Array
    blocks: list[TargetColumns]
    alphas: list[list[float]]
    codes: NDArray[np.int64]
    rows: NDArray[np.int64]
    single: bool
    size: int

    @property
    def starts(self) -> list[int]:
        """Number of each block's first target, and of all targets."""
        return [0, *np.cumsum([block.shape[1] for block in self.blocks]).tolist()]

    def batches(self) -> list[TargetBatch]:
        """Cut every block into batches."""
        cut: list[TargetBatch] = []
        for number, (block, first) in enumerate(zip(self.blocks, self.starts, strict=False)):
            for inside in target_batches(block.shape[1], self.size):
                part = slice(first + inside.start, first + inside.stop)
                cut.append(TargetBatch(len(cut), number, inside, part))
        return cut
