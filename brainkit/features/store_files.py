"""What the feature store's files share: sizes, small durable JSON files, the store's mark."""

import json
import math
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from brainkit.arrays.atomic import atomic_path
from brainkit.arrays.files import is_file, reading
from brainkit.errors import CorruptFileError, InputError, MissingFileError, OutputError

FORMAT = 1
MARK = "store.json"


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


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a small file of ours; None where it is missing or was cut off by a power failure.

    Raises
    ------
    FileAccessError
        If it is there but may not be read.
    """
    try:
        with reading(path, "cannot be read as JSON"):
            found = json.loads(path.read_text(encoding="utf-8"))
    except (MissingFileError, CorruptFileError):
        return None
    return found if isinstance(found, dict) else None


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
    found = (read_json(folder / MARK) or {}).get("format")
    if found != FORMAT:
        raise CorruptFileError(
            f"The feature store {folder} has format {found}; this brainkit reads {FORMAT}. Use the "
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
