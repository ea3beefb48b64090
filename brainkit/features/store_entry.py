"""One entry of the feature store: an array on disk that is filled chunk by chunk.

An entry is a folder::

    key.json        what the values are features of
    layout.json     number of stimuli, shape of one's features, dtype, stimuli a chunk
    values.npy      all values, at full size from the start (sparse until they are written)
    chunks/         one small file a chunk that is there, with the SHA-256 of its bytes
    complete.json   the sums of all chunks; the entry is readable once this stands
    lock            held while anything above is written

The values of a chunk are on the disk before its file under ``chunks`` appears, and all chunks
before ``complete.json`` does. A process may thus be killed at any moment: what it had not finished
counts as missing and is written again. All writing is done under the lock, which the system lets go
of when its holder dies; the first of several processes to write a chunk wins, and the others'
values, which are the same, are left aside.
"""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from brainkit.arrays.atomic import atomic_path, exclusive
from brainkit.arrays.files import reading
from brainkit.errors import (
    BrainkitError,
    CorruptFileError,
    InputError,
    MissingFileError,
    OutputError,
    listed,
)
from brainkit.features.store_files import (
    FORMAT,
    Layout,
    allocated,
    checked_layout,
    mark_store,
    no_room,
    read_json,
    write_durably,
)

KEY, LAYOUT, VALUES, COMPLETE = "key.json", "layout.json", "values.npy", "complete.json"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MEND = "Remove it (`FeatureStore.remove`, or delete the folder) and extract again."


class Entry:
    """One array of the store: (n_stimuli, *shape), complete or still being filled.

    Made by `FeatureStore.entry`. Filled by `begin`, `write` for every chunk of `missing`, and
    `finish`; then `read`.

    Attributes
    ----------
    folder : Path
        Where the entry lies; its name is the SHA-256 of the key.
    key : dict
        What the values are features of.
    """

    def __init__(self, folder: Path, key: Mapping[str, Any]) -> None:
        self.folder, self.key = folder, dict(key)

    def __repr__(self) -> str:
        state = "complete" if self.complete else "incomplete"
        return f"Entry({self.folder.name[:12]}…, {state})"

    @property
    def address(self) -> str:
        """SHA-256 of the key, hexadecimal."""
        return self.folder.name

    @property
    def complete(self) -> bool:
        """Whether all values are there."""
        return self._final_sums() is not None

    @property
    def size_bytes(self) -> int:
        """Bytes that the entry takes on the disk."""
        return sum(allocated(path) for path in self.folder.rglob("*") if path.is_file())

    @property
    def layout(self) -> Layout | None:
        """How the values lie, or None before `begin`.

        Raises
        ------
        CorruptFileError
            If another version of the store wrote the entry.
        """
        found = read_json(self.folder / LAYOUT)
        if found is None:
            return None
        if found.get("format") != FORMAT:
            raise CorruptFileError(
                f"The entry {self.folder} was written in format {found.get('format')} of the "
                f"feature store; this brainkit reads {FORMAT}. {MEND} Or use the brainkit that "
                "wrote it, or another folder for the store."
            )
        try:
            shape = tuple(int(length) for length in found["shape"])
            return Layout(int(found["n_stimuli"]), shape, str(found["dtype"]), int(found["chunk"]))
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptFileError(
                f"{self.folder / LAYOUT} is damaged ({error!r}). {MEND}"
            ) from error

    def begin(self, n_stimuli: int, shape: Iterable[int], dtype: DTypeLike, chunk: int) -> Layout:
        """Make room for the values, or take up an entry where it was left.

        Parameters
        ----------
        n_stimuli : int
            Number of stimuli.
        shape : iterable of int
            Shape of one stimulus's features.
        dtype : dtype
            A numeric type.
        chunk : int
            Stimuli that are written at once: a whole number of batches, so that a resumed
            extraction runs the same batches.

        Returns
        -------
        Layout
            What holds; its `chunk` is that of the process that began the entry.

        Raises
        ------
        InputError
            If the entry was begun with other sizes, or these cannot be used.
        OutputError
            If the folder cannot be written or the disk has too little room.
        """
        asked = checked_layout(n_stimuli, shape, dtype, chunk)
        if self.layout is None:
            mark_store(self.folder.parent.parent)
            with self._writing(asked):
                if self.layout is None:  # nobody was faster
                    self._create(asked)
        layout = self._begun()
        same = (layout.n_stimuli, layout.shape, layout.dtype)
        if same != (asked.n_stimuli, asked.shape, asked.dtype):
            raise InputError(
                f"The entry {self.folder} holds {layout.dtype} values of shape "
                f"{(layout.n_stimuli, *layout.shape)}, not {asked.dtype} of "
                f"{(asked.n_stimuli, *asked.shape)}: its key does not name all that these values "
                f"depend on. Extend the key, or remove the entry."
            )
        self._check_file(layout)
        return layout

    def _create(self, layout: Layout) -> None:
        needed = layout.n_stimuli * layout.row_bytes
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_durably(self.folder / KEY, {"format": FORMAT, "key": self.key})
        (self.folder / "chunks").mkdir(exist_ok=True)
        with atomic_path(self.folder / VALUES) as partial, partial.open("wb") as file:
            header = {
                "descr": layout.dtype,
                "fortran_order": False,
                "shape": (layout.n_stimuli, *layout.shape),
            }
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + needed)
        sizes = {"n_stimuli": layout.n_stimuli, "shape": layout.shape, "chunk": layout.chunk}
        write_durably(self.folder / LAYOUT, {"format": FORMAT, "dtype": layout.dtype} | sizes)

    def missing(self) -> list[range]:
        """Return the stimuli of every chunk that is not there yet, in order."""
        layout = self._begun()
        there = self._sums(layout)
        return [layout.rows(start) for start in layout.starts if start not in there]

    def has(self, start: int) -> bool:
        """Tell whether the chunk that begins at stimulus `start` is there (another may write)."""
        return _sum(self.folder / "chunks" / _name(start)) is not None or self.complete

    def write(self, start: int, values: NDArray[Any]) -> None:
        """Write one chunk; nothing happens if it is there already.

        Parameters
        ----------
        start : int
            Its first stimulus.
        values : array (chunk or what is left, *shape)
            Of the entry's dtype.

        Raises
        ------
        InputError
            If this is no chunk of the entry.
        OutputError
            If there is no room left; what was written before is kept.
        """
        layout = self._begun()
        if start not in layout.starts:
            raise InputError(
                f"Chunks of this entry begin at multiples of {layout.chunk} below "
                f"{layout.n_stimuli}; got {start}."
            )
        expected = (len(layout.rows(start)), *layout.shape)
        if values.shape != expected or values.dtype != np.dtype(layout.dtype):
            raise InputError(
                f"The chunk at stimulus {start} must be {layout.dtype} of shape {expected}; got "
                f"{values.dtype.str} of {values.shape}."
            )
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        digest = hashlib.sha256(data.data).hexdigest()
        with self._writing(layout):
            if self.has(start):
                return
            with (self.folder / VALUES).open("r+b") as file:
                file.seek(self._offset(layout) + start * layout.row_bytes)
                file.write(data.data)
                file.flush()
                os.fsync(file.fileno())
            write_durably(self.folder / "chunks" / _name(start), {"sha256": digest})

    def finish(self) -> None:
        """Declare the entry complete.

        Raises
        ------
        MissingFileError
            If chunks are missing.
        """
        layout = self._begun()
        with self._writing(layout):
            if not self.complete:
                self._check_whole(layout)
                sums = {str(start): value for start, value in self._sums(layout).items()}
                write_durably(self.folder / COMPLETE, {"format": FORMAT, "sha256": sums})
            shutil.rmtree(self.folder / "chunks", ignore_errors=True)
            for left in self.folder.glob(".*.partial*"):  # of writers that were killed
                left.unlink(missing_ok=True)

    def read(self) -> np.memmap[Any, np.dtype[Any]]:
        """Return the values, (n_stimuli, *shape), mapped from the disk, read-only.

        Raises
        ------
        MissingFileError
            If the entry is not complete.
        CorruptFileError
            If its file has not the right size or header. The values themselves are compared with
            their checksums by `verify` alone.
        """
        layout = self._begun()
        if not self.complete:
            self._check_whole(layout)
            raise MissingFileError(f"The entry {self.folder} was not finished; extract again.")
        self._check_file(layout)
        return np.lib.format.open_memmap(self.folder / VALUES, mode="r")

    def verify(self) -> list[range]:
        """Compare all chunks that are there with their checksums.

        Returns
        -------
        list of range
            The stimuli of every chunk whose bytes have changed since they were written; empty
            where all is well. `drop` marks them as missing.
        """
        layout = self._begun()
        self._check_file(layout)
        offset, bad = self._offset(layout), []
        with (self.folder / VALUES).open("rb") as file:
            for start, expected in sorted(self._sums(layout).items()):
                rows = layout.rows(start)
                file.seek(offset + start * layout.row_bytes)
                found = hashlib.sha256(file.read(len(rows) * layout.row_bytes)).hexdigest()
                if found != expected:
                    bad.append(rows)
        return bad

    def drop(self, chunks: Iterable[range]) -> None:
        """Mark chunks as missing, such as those that `verify` found damaged.

        The entry is incomplete then, and extracting again computes these chunks alone.
        """
        layout = self._begun()
        starts = {rows.start for rows in chunks}
        if not starts <= set(layout.starts):
            raise InputError(
                f"No chunks of {self.folder} begin at stimuli {listed(sorted(starts))}."
            )
        with self._writing(layout):
            there = self._sums(layout)
            for start, digest in there.items():
                path = self.folder / "chunks" / _name(start)
                if start in starts:
                    path.unlink(missing_ok=True)
                else:
                    write_durably(path, {"sha256": digest})
            if starts & set(there):
                (self.folder / COMPLETE).unlink(missing_ok=True)

    # ------------------------------------------------------------------------------------------

    def _begun(self) -> Layout:
        layout = self.layout
        if layout is None:
            raise MissingFileError(
                f"The store has no entry {self.folder} yet; extract these features first."
            )
        return layout

    def _sums(self, layout: Layout) -> dict[int, str]:
        """Return the SHA-256 of every chunk that is there, by its first stimulus."""
        done = self._final_sums()
        if done is not None:
            return done
        found = {
            int(path.stem): _sum(path) for path in (self.folder / "chunks").glob("[0-9]*.json")
        }
        there = {start: digest for start, digest in found.items() if digest is not None}
        # Where another process has just finished, the files of the chunks are gone.
        return self._final_sums() or there

    def _final_sums(self) -> dict[int, str] | None:
        sums = (read_json(self.folder / COMPLETE) or {}).get("sha256")
        if not isinstance(sums, dict):
            return None
        return {int(start): str(digest) for start, digest in sums.items()}

    def _check_whole(self, layout: Layout) -> None:
        missing = self.missing()
        if missing:
            raise MissingFileError(
                f"The entry {self.folder} is not complete: {len(missing)} of "
                f"{len(layout.starts)} chunks are missing. Extract again; it goes on from there."
            )

    def _offset(self, layout: Layout) -> int:
        return (self.folder / VALUES).stat().st_size - layout.n_stimuli * layout.row_bytes

    def _check_file(self, layout: Layout) -> None:
        path = self.folder / VALUES
        with reading(path, "is damaged", mend=MEND[0].lower() + MEND[1:].rstrip(".")):
            mapped = np.lib.format.open_memmap(path, mode="r")
        expected = (layout.n_stimuli, *layout.shape)
        whole = path.stat().st_size == mapped.offset + mapped.nbytes
        if mapped.shape != expected or mapped.dtype.str != layout.dtype or not whole:
            raise CorruptFileError(
                f"{path} must hold {layout.dtype} values of shape {expected}; it holds "
                f"{mapped.dtype.str} of {mapped.shape} in {path.stat().st_size} bytes. {MEND}"
            )

    @contextmanager
    def _writing(self, layout: Layout) -> Iterator[None]:
        """Hold the entry's lock, and say of a disk that is full how much the entry needs."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self.folder / "lock"):
                yield
        except BrainkitError:
            raise
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise OutputError(
                    f"The entry {self.folder} cannot be written ({error}). Choose another folder "
                    "for the store."
                ) from error
            needed = layout.n_stimuli * layout.row_bytes
            there = sum(len(layout.rows(start)) for start in self._sums(layout))
            left = needed - there * layout.row_bytes
            raise no_room(self.folder, needed, left, error) from error


def _name(start: int) -> str:
    return f"{start:08d}.json"


def _sum(path: Path) -> str | None:
    found = read_json(path)
    return None if found is None else found.get("sha256")
