"""What a set of stimuli is, in a few bytes: the part of a stored feature's key that names them.

Two sets have the same fingerprint where their ids and their content are the same, in the same
order. Content is told in one of two ways, which the fingerprint names:

``"content"``
    for arrays, images and text in memory: the SHA-256 of all their bytes, shapes and types;
``"files"``
    for files (images, HDF5, memory maps of whole files): their names, sizes in bytes and times of
    last change, since reading 40 GB of photographs to find that they are known would take as long
    as many a model. Folders do not count, so that a data set may be moved; a file that is written
    again counts as another, and its features are computed again.
"""

import hashlib
import json
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainkit.data.stimuli import ArrayStimuli, ChosenStimuli, HDF5Stimuli, ImageFiles, Stimuli
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed

BLOCK_BYTES = 16 << 20
READ_ROWS = 256
ORIENTATION = 0x0112  # EXIF: how an image is to be turned


def fingerprint(stimuli: Any, modality: Literal["image", "text"] | None = None) -> dict[str, Any]:
    """Return what tells a set of stimuli from all others, as JSON.

    Parameters
    ----------
    stimuli : Stimuli, array (n, ...), or sequence
        A sequence holds PIL images, arrays, paths of files, or text, also mixed.
    modality : {"image", "text"}, optional
        What the model takes: with "image", text in a sequence is the path of a file.

    Returns
    -------
    dict
        ``n``; ``ids``, the SHA-256 of the ids where the stimuli have some; ``by``, "content" or
        "files"; and ``sha256`` of that.

    Raises
    ------
    InputError
        If the stimuli are of no kind that is known here.
    MissingFileError, CorruptFileError
        If files are missing or images cannot be decoded; all of them are named.
    """
    if isinstance(stimuli, Stimuli):
        named = {"kind": stimuli.kind, "ids": _sha256([_json(np.asarray(stimuli.ids).tolist())])}
        return {"n": len(stimuli), **named, **_of_source(stimuli.source, modality)}
    if isinstance(stimuli, np.ndarray):
        return {"n": len(stimuli), **_of_array(stimuli, modality)}
    if isinstance(stimuli, Sequence) and not isinstance(stimuli, str | bytes):
        return {"n": len(stimuli), **_of_items(list(stimuli), modality)}
    raise InputError(
        "Stimuli are brainkit's Stimuli, an array (n, ...), or a list of images, paths or text; "
        f"got {type(stimuli).__name__}."
    )


def _of_source(source: Any, modality: str | None) -> dict[str, str]:
    if isinstance(source, ArrayStimuli):
        return _of_array(source.array, modality)
    if isinstance(source, HDF5Stimuli):
        return _by_files([source.path], source.dataset, source.n_stimuli)
    if isinstance(source, ImageFiles):
        return _by_files(source.paths)
    if isinstance(source, ChosenStimuli):
        whole = _of_source(source.source, modality)
        return {"by": whole["by"], "sha256": _sha256([_json([whole]), source.rows.tobytes()])}
    rows = np.arange(len(source))
    blocks = (source.read(rows[i : i + READ_ROWS]) for i in range(0, len(rows), READ_ROWS))
    return _by_content(part for block in blocks for part in _array_parts(np.asarray(block)))


def _of_array(array: NDArray[Any], modality: str | None) -> dict[str, str]:
    if array.dtype.kind in "OUS":
        return _of_items(array.ravel().tolist(), modality)
    # The map of a whole file, not a part of one; what cannot be written through it is in the file.
    if isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.mode == "r":
        shape = [array.dtype.str, list(array.shape), array.offset, array.flags.c_contiguous]
        return _by_files([Path(str(array.filename))], *shape)
    return _by_content(_array_parts(array))


def _of_items(items: list[Any], modality: str | None) -> dict[str, str]:
    """Tell a list apart item by item; its items may be of several kinds."""
    parts, absent, broken = [], [], []
    for number, item in enumerate(items):
        try:
            parts.append(_item(item, modality))
        except FileNotFoundError:
            absent.append(item)
        except (OSError, SyntaxError) as error:  # Pillow raises both for damaged files
            broken.append(f"number {number} {getattr(item, 'filename', '')} ({error})")
    if absent:
        raise _absent(absent, len(items))
    if broken:
        raise CorruptFileError(
            f"{len(broken)} of {len(items)} images cannot be decoded: {listed(broken)}."
        )
    return {"by": "files" if _are_files(items, modality) else "content", "sha256": _sha256(parts)}


def _are_files(items: list[Any], modality: str | None) -> bool:
    kinds: Any = str | Path if modality == "image" else Path
    return all(isinstance(item, kinds) for item in items)


def _item(item: Any, modality: str | None) -> bytes:
    """Return the bytes, framed, of an image, an array or a text; of a file, what it is called."""
    if isinstance(item, Path) or (isinstance(item, str) and modality == "image"):
        return _json(["file", *_file(Path(item))])
    if isinstance(item, str):
        return _framed(item.encode("utf-8", "surrogatepass"))
    if isinstance(item, np.ndarray):
        return b"".join(_array_parts(item))
    if not hasattr(item, "getexif"):  # a PIL image; no need to import Pillow for that
        raise InputError(
            f"A list of stimuli holds PIL images, arrays, paths or text; got {type(item).__name__}."
        )
    pixels = item.tobytes()
    look = [item.mode, list(item.size), item.getpalette(), item.getexif().get(ORIENTATION)]
    return _json([*look, repr(item.info.get("transparency"))]) + _sha256([pixels]).encode()


def _file(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return path.name, status.st_size, status.st_mtime_ns


def _by_content(parts: Iterable[bytes]) -> dict[str, str]:
    return {"by": "content", "sha256": _sha256(parts)}


def _by_files(paths: Sequence[Path], *details: Any) -> dict[str, str]:
    absent = [path for path in paths if not path.exists()]
    if absent:
        raise _absent(absent, len(paths))
    parts = [_json([*_file(path)]) for path in paths]
    return {"by": "files", "sha256": _sha256([*parts, _json(details)])}


def _absent(paths: Sequence[Any], n_paths: int) -> MissingFileError:
    return MissingFileError(
        f"{len(paths)} of {n_paths} files of stimuli are not there: {listed(paths)}."
    )


def _array_parts(array: NDArray[Any]) -> Iterable[bytes]:
    """Give an array's type, shape and bytes, a block at a time so that maps are not loaded."""
    if array.dtype.kind not in "biuf":
        raise InputError(f"Arrays of stimuli hold numbers or text; got dtype {array.dtype}.")
    yield _json([array.dtype.str, list(array.shape)])
    if array.ndim == 0 or not array.size:
        yield array.tobytes()
        return
    step = max(BLOCK_BYTES * len(array) // array.nbytes, 1)
    for start in range(0, len(array), step):
        yield np.ascontiguousarray(array[start : start + step]).tobytes()


def _json(value: Any) -> bytes:
    """Return a value as bytes that say where they end."""
    return _framed(json.dumps(value, default=str).encode())


def _framed(data: bytes) -> bytes:
    return len(data).to_bytes(8, "little") + data


def _sha256(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
