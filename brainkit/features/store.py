"""The feature store: arrays on disk, found by what they are features of.

An entry's address is the SHA-256 of its key, a JSON object that names everything the values depend
on: the model and a hash of its weights, the preprocessing, the layer, pooling, dtype, batch size,
the versions of libraries that change numbers, and the stimuli. Another key is another entry, so
nothing in the store is ever out of date.

An entry is an array on disk that is filled chunk by chunk, in a folder::

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
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from brainkit.arrays.atomic import atomic_path, exclusive
from brainkit.arrays.files import is_file, read_json, reading
from brainkit.errors import (
    BrainkitError,
    CorruptFileError,
    InputError,
    MissingFileError,
    OutputError,
    listed,
    unknown_name,
)

FORMAT = 1
MARK = "store.json"
KEY, LAYOUT, VALUES, COMPLETE = "key.json", "layout.json", "values.npy", "complete.json"
NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
MEND = "Remove it (`FeatureStore.remove`, or delete the folder) and extract again."


@dataclass(frozen=True)
class Layout:
    """How the values of an entry lie in its file."""

    n_stimuli: int
    shape: tuple[int, ...]
    dtype: str
    chunk: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one stimulus's features."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize

    @property
    def starts(self) -> range:
        """First stimulus of every chunk."""
        return range(0, self.n_stimuli, self.chunk)

    def rows(self, start: int) -> range:
        """Return the stimuli of the chunk that begins at `start`."""
        return range(start, min(start + self.chunk, self.n_stimuli))


def checked_layout(n_stimuli: int, shape: Iterable[int], dtype: DTypeLike, chunk: int) -> Layout:
    """Return the layout of these sizes; raises `InputError` where they cannot be used."""
    kind, lengths = np.dtype(dtype), tuple(int(length) for length in shape)
    if n_stimuli < 1 or chunk < 1 or any(length < 1 for length in lengths):
        raise InputError(
            f"An entry needs at least one stimulus, feature and stimulus a chunk; got {n_stimuli} "
            f"stimuli, features of shape {lengths}, chunks of {chunk}."
        )
    if kind.kind not in "biuf":
        raise InputError(f"Features in the store are numbers; got dtype {kind}.")
    return Layout(int(n_stimuli), lengths, kind.str, int(chunk))


def read_own_json(path: Path) -> dict[str, Any] | None:
    """Read a small file of ours; None where it is missing or was cut off by a power failure.

    Raises
    ------
    FileAccessError
        If it is there but may not be read.
    """
    try:
        with reading(path, "cannot be read as JSON"):
            content = json.loads(path.read_text(encoding="utf-8"))
    except (MissingFileError, CorruptFileError):
        return None
    return content if isinstance(content, dict) else None


def write_durably(path: Path, value: dict[str, Any]) -> None:
    """Write JSON atomically and have it on the disk before going on."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, allow_nan=False)
        file.flush()
        os.fsync(file.fileno())


def allocated(path: Path) -> int:
    """Return the bytes that a file takes on the disk: fewer than its size while it has holes."""
    status = path.stat()
    blocks = getattr(status, "st_blocks", None)  # Windows does not say
    return status.st_size if blocks is None else blocks * 512


def no_room(folder: Path, needed: int, left: int, error: OSError) -> OutputError:
    """Build the error for a disk that is full.

    Parameters
    ----------
    folder : Path
        The entry's.
    needed, left : int
        Bytes of all its values, and of those that are still to be written.
    error : OSError
        What the system said.
    """
    free = shutil.disk_usage(folder).free
    return OutputError(
        f"No room for features in {folder} ({error.strerror}): they need {_readable(needed)} in "
        f"all, {_readable(left)} of it still to be written; the disk has {_readable(free)} free. "
        "Make room and run again (what is written is kept), choose another folder for the store, "
        "or keep less: pool tokens, use float16, or project (reduce=SparseProjection(...))."
    )


def _readable(n_bytes: int) -> str:
    """Return a number of bytes for people to read, such as "1.5 GB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            return f"{n_bytes / size:.1f} {unit}"
    return f"{n_bytes} bytes"


def check_store(folder: Path) -> None:
    """Raise unless a folder is a store of this format, is empty, or does not exist.

    Raises
    ------
    InputError
        If it is a file or holds something else.
    CorruptFileError
        If another version of the store wrote it.
    """
    with reading(folder, "cannot be read as a feature store"):
        if not folder.exists():
            return
        if not folder.is_dir():
            raise InputError(f"The feature store {folder} is a file; give a folder.")
        if not is_file(folder / MARK):
            if any(path.name[:1] != "." for path in folder.iterdir()):
                raise InputError(
                    f"{folder} holds files but no {MARK}: it is not a feature store. Give an "
                    "earlier store, an empty folder, or a new one."
                )
            return
    form = (read_own_json(folder / MARK) or {}).get("format")
    if form != FORMAT:
        raise CorruptFileError(
            f"The feature store {folder} has format {form}; this brainkit reads {FORMAT}. Use the "
            "brainkit that wrote it, give another folder, or remove the store: its features can be "
            "extracted again."
        )


def mark_store(folder: Path) -> None:
    """Make a folder a store of this format, unless it is one; see `check_store`."""
    check_store(folder)
    if not is_file(folder / MARK):
        try:
            write_durably(folder / MARK, {"format": FORMAT, "content": "brainkit features"})
        except OSError as error:
            reason = error.__cause__ or error  # atomic_path speaks of outputs and --out
            raise OutputError(
                f"The feature store {folder} cannot be written ({reason}). Choose another folder."
            ) from error


class Entry:
    """One array of the store: (n_stimuli, *shape), complete or still being filled.

    Made by `FeatureStore.entry`. Filled by `begin`, `write` for every chunk of `missing`, and
    `finish`; then `read`.

    Attributes
    ----------
    folder : Path
        Folder of the entry; its name is the SHA-256 of the key.
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
        stored = read_own_json(self.folder / LAYOUT)
        if stored is None:
            return None
        if stored.get("format") != FORMAT:
            raise CorruptFileError(
                f"The entry {self.folder} was written in format {stored.get('format')} of the "
                f"feature store; this brainkit reads {FORMAT}. {MEND} Or use the brainkit that "
                "wrote it, or another folder for the store."
            )
        try:
            shape = tuple(int(length) for length in stored["shape"])
            return Layout(
                int(stored["n_stimuli"]), shape, str(stored["dtype"]), int(stored["chunk"])
            )
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
            First stimulus of the chunk.
        values : array (chunk or what is left, *shape)
            Features of those stimuli, in the entry's dtype.

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
                digest = hashlib.sha256(file.read(len(rows) * layout.row_bytes)).hexdigest()
                if digest != expected:
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
        sums = {int(path.stem): _sum(path) for path in (self.folder / "chunks").glob("[0-9]*.json")}
        there = {start: digest for start, digest in sums.items() if digest is not None}
        # Where another process has just finished, the files of the chunks are gone.
        return self._final_sums() or there

    def _final_sums(self) -> dict[int, str] | None:
        sums = (read_own_json(self.folder / COMPLETE) or {}).get("sha256")
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
        full = path.stat().st_size == mapped.offset + mapped.nbytes
        if mapped.shape != expected or mapped.dtype.str != layout.dtype or not full:
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
    content = read_own_json(path)
    return None if content is None else content.get("sha256")


def address(key: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a key in canonical JSON (sorted names, no spaces), hexadecimal.

    Raises
    ------
    InputError
        If the key cannot be written as JSON, exactly.
    """
    return hashlib.sha256(_canonical(key).encode()).hexdigest()


def _canonical(key: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(key), sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"The key of an entry must be JSON: text, finite numbers, lists and objects ({error})."
        ) from error


class FeatureStore:
    """A folder of features.

    Parameters
    ----------
    folder : path
        Folder of the store: an earlier store, an empty folder, or none yet. It is made
        when the first entry is begun, under the user's umask.

    Raises
    ------
    InputError
        If `folder` holds something else.
    CorruptFileError
        If another version of the store wrote it.

    Examples
    --------
    >>> store = FeatureStore("features")  # doctest: +SKIP
    >>> entry = store.entry({"model": "…", "layer": "blocks.6"})  # doctest: +SKIP
    >>> entry.begin(1000, (768,), "float32", chunk=256)  # doctest: +SKIP
    >>> for rows in entry.missing():  # doctest: +SKIP
    ...     entry.write(rows.start, compute(rows))
    >>> entry.finish()  # doctest: +SKIP
    >>> features = entry.read()  # doctest: +SKIP
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser()
        check_store(self.folder)

    def __repr__(self) -> str:
        return f"FeatureStore({str(self.folder)!r})"

    def entry(self, key: Mapping[str, Any]) -> Entry:
        """Return the entry of a key, whether or not it is there yet. Changes nothing.

        Raises
        ------
        InputError
            If the key cannot be written as JSON.
        """
        plain = json.loads(_canonical(key))
        return Entry(self._place(address(plain)), plain)

    def entries(self) -> list[Entry]:
        """Return all entries, complete or not, by address."""
        entries = []
        for path in sorted(self.folder.glob(f"[0-9a-f][0-9a-f]/*/{KEY}")):
            mend = f"delete the folder {path.parent}"
            written = read_json(path, "The key of an entry", mend)
            with reading(
                path, "cannot be read as the key of an entry", mend=mend, also=[KeyError, TypeError]
            ):
                entries.append(Entry(path.parent, written["key"]))
        return entries

    def remove(self, entry: Entry | str) -> None:
        """Remove one entry, given itself or its address; arrays mapped from it stay readable.

        Raises
        ------
        UnknownNameError
            If there is no such entry.
        OutputError
            If it cannot be removed.
        """
        name = entry if isinstance(entry, str) else entry.address
        place = self._place(name)
        if not (place / KEY).is_file():
            known = [stored.address for stored in self.entries()]
            raise unknown_name("entry of the feature store", name, known)
        # Away by one rename, so that nobody reads an entry that is half removed.
        away = place.with_name(f".{place.name}.{secrets.token_hex(4)}.removed")
        try:
            place.rename(away)
            shutil.rmtree(away)
        except OSError as error:
            raise OutputError(f"The entry {place} cannot be removed ({error}).") from error

    def verify(self) -> dict[str, list[range]]:
        """Compare all entries with their checksums.

        Returns
        -------
        dict
            The stimuli of every chunk that has changed since it was written, by the entry's
            address. Entries that are sound are left out.
        """
        changed = {entry.address: entry.verify() for entry in self.entries()}
        return {name: bad for name, bad in changed.items() if bad}

    def _place(self, name: str) -> Path:
        return self.folder / name[:2] / name


def open_store(store: "FeatureStore | str | Path") -> FeatureStore:
    """Return a store, given itself, its folder, or "default" for the user's own."""
    if isinstance(store, FeatureStore):
        return store
    return default_store() if store == "default" else FeatureStore(store)


def default_store() -> FeatureStore:
    """Return the user's own store: $BRAINKIT_STORE, or ``~/.cache/brainkit/features``."""
    folder = os.environ.get("BRAINKIT_STORE") or Path.home() / ".cache" / "brainkit" / "features"
    return FeatureStore(folder)
