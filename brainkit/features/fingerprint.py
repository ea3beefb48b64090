"""What stored features may be known by: the fingerprint of stimuli, and a model that is frozen.

The fingerprint of a set of stimuli is the part of a stored feature's key that names them. Content
alone is what stimuli are known by: two sets have the same fingerprint where their content
and their ids are the same, in the same order, whatever the files are called and wherever they lie.
Names, sizes and times of files say nothing: what one archive unpacks into two folders often shares
them all. The fingerprint names what was looked at:

``"content"``
    arrays, HDF5 datasets, memory maps, images and text: the SHA-256 of all values, shapes and
    types;
``"files"``
    image files: the SHA-256 of their bytes.

Reading 40 GB of photographs at every start would take as long as many a model. What was read once
is therefore remembered (`KnownContent`), by the path, device, inode, size and the two times of
change of the files, to the nanosecond. The second of these times is the system's own and moves with
every writing, even where a program puts the first one back. It tells nothing of a file that was
written just now, whose next change may fall on the same tick of the clock, nor where a file system
does not keep it (those in memory, of most foreign servers, and Windows'): such files are read again
every time.

A model's features are frozen if they are the same at every pass, whatever else is in the batch. A
model may draw at random in its forward pass (masks, dropout called by hand, hashes), a
preprocessing may crop at random, and both may look at the whole batch: batch statistics, or padding
to the longest of several texts without a mask. Nothing of that shows in one pass. When a model is
first used, a few stimuli are therefore prepared and run together, together once more, and each by
itself, at another place of a batch and without the others; a layer that differs is refused by name.
"""

import hashlib
import json
import mmap
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.array_likes import as_items, unmasked
from brainkit.arrays.atomic import write_json
from brainkit.arrays.files import FileState, is_file, reading, require_file
from brainkit.data.stimuli import ArrayStimuli, ChosenStimuli, HDF5Stimuli, ImageFiles, Stimuli
from brainkit.data.text import KINDS, as_texts
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed

if TYPE_CHECKING:
    import torch

    from brainkit.features.backbones.backbone import Backbone

BLOCK_BYTES = 16 << 20
READ_ROWS = 256
READERS = 4
SETTLED_NS = 60_000_000_000  # a file left alone for a minute: longer than any clock's tick
ORIENTATION = 0x0112  # EXIF: how an image is to be turned
# File systems of Linux whose time of change moves with every writing, through memory maps too.
# Those in memory do not see maps, and those of archives and foreign servers may invent it.
HONEST = {
    "ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "overlay",
    "nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph",
}  # fmt: skip

Read = Callable[[int, int], NDArray[Any]]  # rows from, to
OTHER_TEXTS = ("a", "two dogs run along a lake")
AGAIN = 64.0
"""How many units of rounding two equal passes may differ by, of a layer's largest value: parallel
sums need not be added in one order."""


class KnownContent:
    """What the content of files hashed to when they were last read.

    Parameters
    ----------
    folder : path, optional
        Folder in which it is kept for other processes, a small file for each set of stimuli; in
        memory alone where not given. A folder that cannot be written is no error.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        self._found: dict[str, str] = {}

    def content(self, paths: Sequence[Path], what: Any, compute: Callable[[], str]) -> str:
        """Return the hash of what lies in files, computed unless it is known.

        Parameters
        ----------
        paths : sequence of path
            All files that the hash depends on.
        what : object
            What of the files is hashed, as JSON.
        compute : function
            Reads the files and returns the hash.
        """
        before = [FileState.of(path) for path in paths]
        places = [str(path.absolute()) for path in paths]
        seen = [[place, *state.as_tuple()] for place, state in zip(places, before, strict=True)]
        key = _sha256([_json([what, seen])])
        digest = self._recall(key)
        if digest is None:
            digest = compute()
            unchanged = before == [FileState.of(path) for path in paths]
            if unchanged and all(map(_settled, before)) and _honest(places):
                self._remember(key, digest)
        return digest

    def _recall(self, key: str) -> str | None:
        if key not in self._found and self.folder is not None:
            with suppress(OSError, ValueError, KeyError, TypeError):
                content = json.loads(self._place(key).read_text(encoding="utf-8"))
                self._found[key] = str(content["sha256"])
        return self._found.get(key)

    def _remember(self, key: str, digest: str) -> None:
        self._found[key] = digest
        if self.folder is not None:
            with suppress(OSError):
                write_json(self._place(key), {"sha256": digest})

    def _place(self, key: str) -> Path:
        return Path(str(self.folder)) / key[:2] / f"{key}.json"


def _settled(state: FileState) -> bool:
    return time.time_ns() - state.changed_ns > SETTLED_NS


def _honest(places: Iterable[str]) -> bool:
    """Return whether the file systems of some places keep the time of change."""
    if not sys.platform.startswith("linux"):
        return sys.platform == "darwin"  # Windows has no such time
    folders = {os.path.realpath(os.path.dirname(place)) for place in places}  # noqa: PTH120
    mounts = _mounts()
    return all(_file_system(folder, mounts) in HONEST for folder in folders)


def _file_system(folder: str, mounts: Sequence[tuple[str, str]]) -> str:
    """Return the kind of file system that a folder lies on, "" where that is not told."""
    best, kind = -1, ""
    for point, name in mounts:
        inside = folder == point or folder.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:  # of several on one point the last one counts
            best, kind = len(point), name
    return kind


def _mounts() -> list[tuple[str, str]]:
    """Return where file systems are mounted, and of what kind they are."""
    mounts = []
    with suppress(OSError), Path("/proc/self/mountinfo").open(encoding="utf-8") as file:
        for line in file:
            mount, _, system = line.partition(" - ")
            point = mount.split()[4].encode().decode("unicode_escape")  # blanks are \\040
            mounts.append((point, system.split()[0]))
    return mounts


IN_MEMORY = KnownContent()


def fingerprint(
    stimuli: Any,
    modality: Literal["image", "text"] | None = None,
    known: KnownContent = IN_MEMORY,
) -> dict[str, Any]:
    """Return what tells a set of stimuli from all others, as JSON.

    Parameters
    ----------
    stimuli : Stimuli, array (n, ...), or sequence
        A sequence holds PIL images, arrays, paths of files, or text, also mixed.
    modality : {"image", "text"}, optional
        What the model takes: with "image", text in a sequence is the path of a file.
    known : KnownContent
        Where the content of files is looked up that did not change since it was read.

    Returns
    -------
    dict
        ``n``; ``ids``, the SHA-256 of the ids where the stimuli have some; ``by``, "content" or
        "files"; and ``sha256`` of that.

    Raises
    ------
    InputError
        If the stimuli are of no kind that is known here.
    MissingFileError, FileAccessError, CorruptFileError
        If files are missing or may not be read, or images cannot be decoded; all of them are named.
    """
    if isinstance(stimuli, Stimuli):
        named = {"kind": stimuli.kind, "ids": _sha256([_json(np.asarray(stimuli.ids).tolist())])}
        return {"n": len(stimuli), **named, **_of_stimuli(stimuli, known)}
    if isinstance(stimuli, np.ndarray):
        stimuli = unmasked(stimuli, "The array of stimuli")
        return {"n": len(stimuli), **_of_array(stimuli, modality, known)}
    items = as_items(stimuli, "The stimuli")
    return {"n": len(items), **_of_items(items, modality, known)}


def may_change(stimuli: Any, modality: Literal["image", "text"] | None = None) -> bool:
    """Return whether another program can change stimuli while they are read: those in files."""
    if isinstance(stimuli, Stimuli):
        source, _ = _chosen(stimuli.source)
        if not isinstance(source, ArrayStimuli):
            return True
        stimuli = source.array
    if isinstance(stimuli, np.ndarray) and stimuli.dtype.kind not in "OUST":
        base: Any = stimuli
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        return base is not None
    return modality == "image"  # paths, and images that are opened late


def _of_stimuli(stimuli: Stimuli, known: KnownContent) -> dict[str, str]:
    source, rows = _chosen(stimuli.source)
    if isinstance(source, ImageFiles):
        paths = source.paths if rows is None else [source.paths[row] for row in rows]
        return _of_files(paths, known)
    if stimuli.kind in KINDS:
        return {"by": "content", "sha256": _sha256(map(_text, stimuli.read().ravel().tolist()))}
    if isinstance(source, ArrayStimuli) and rows is None:
        return _of_array(source.array, None, known)
    count = len(source) if rows is None else len(rows)
    every = np.arange(len(source)) if rows is None else rows

    def compute() -> str:
        return _sha256(_streamed(lambda start, stop: source.read(every[start:stop]), count))

    if isinstance(source, HDF5Stimuli) and _is_within(source):
        chosen = None if rows is None else _sha256([rows.tobytes()])
        digest = known.content([source.path], ["hdf5", source.dataset, chosen], compute)
        return {"by": "content", "sha256": digest}
    return {"by": "content", "sha256": compute()}


def _chosen(source: Any) -> tuple[Any, NDArray[np.int64] | None]:
    """Return where stimuli really lie, and which rows of it are chosen; None for all."""
    rows: NDArray[np.int64] | None = None
    while isinstance(source, ChosenStimuli):
        rows = source.rows if rows is None else source.rows[rows]
        source = source.source
    return source, rows


def _is_within(source: HDF5Stimuli) -> bool:
    """Return whether all values of a dataset lie in the file itself, not in one it points to."""
    path = require_file(source.path, "The file of stimuli")
    with reading(path, "cannot be read as HDF5", also=[KeyError]), h5py.File(path, "r") as file:
        data = file[source.dataset]
        same_file = data.file.filename == file.filename and not data.is_virtual
        return bool(same_file and data.external is None)


def _of_array(array: NDArray[Any], modality: str | None, known: KnownContent) -> dict[str, str]:
    if array.dtype.kind in "OUST":
        return _of_items(array.ravel().tolist(), modality, known)

    def compute() -> str:
        return _sha256(_array_parts(array))

    file = _mapped_file(array)
    if file is not None:
        shape = ["map", array.dtype.str, list(array.shape), array.offset, array.strides]  # type: ignore[attr-defined]
        return {"by": "content", "sha256": known.content([file], shape, compute)}
    return {"by": "content", "sha256": compute()}


def _mapped_file(array: NDArray[Any]) -> Path | None:
    """Return the file of a read-only memory map of it, if the file under its name is still that."""
    is_map = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap)
    if not is_map or array.mode != "r":  # type: ignore[attr-defined]
        return None
    path = Path(str(array.filename))  # type: ignore[attr-defined]
    with suppress(OSError, ValueError):
        state, address = FileState.of(path), int(array.__array_interface__["data"][0])
        device = (os.major(state.device), os.minor(state.device))
        for line in Path("/proc/self/maps").read_text(encoding="utf-8").splitlines():
            span, _, _, number, inode = line.split()[:5]
            first, last = (int(end, 16) for end in span.split("-"))
            if first <= address < last:
                mapped = tuple(int(part, 16) for part in number.split(":"))
                return path if (mapped, int(inode)) == (device, state.inode) else None
    return None


def _of_items(items: list[Any], modality: str | None, known: KnownContent) -> dict[str, str]:
    """Tell a list apart item by item; its items may be of several kinds."""
    paths = [_path(item, modality) for item in items]
    if items and all(path is not None for path in paths):
        return _of_files([path for path in paths if path is not None], known)
    check_files([path for path in paths if path is not None], len(items))
    parts, broken = [], []
    for number, (item, path) in enumerate(zip(items, paths, strict=True)):
        try:
            parts.append(_item(item) if path is None else _json(["file", _file_hash(path)]))
        except InputError:
            raise
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's, for damaged files
            broken.append(f"number {number} {getattr(item, 'filename', '')} ({error})")
    if broken:
        raise CorruptFileError(
            f"{len(broken)} of {len(items)} images cannot be decoded: {listed(broken)}."
        )
    return {"by": "content", "sha256": _sha256(parts)}


def _path(item: Any, modality: str | None) -> Path | None:
    named = isinstance(item, Path) or (isinstance(item, str | bytes) and modality == "image")
    return Path(os.fsdecode(item)) if named else None


def _item(item: Any) -> bytes:
    """Return the bytes, framed, of an image, an array or a text."""
    if isinstance(item, str | bytes):
        return _text(as_texts([item])[0])
    if isinstance(item, np.ndarray):
        return b"".join(_array_parts(item))
    if not hasattr(item, "getexif"):  # a PIL image; no need to import Pillow for that
        raise InputError(
            f"A list of stimuli holds PIL images, arrays, paths or text; got {type(item).__name__}."
        )
    pixels = item.tobytes()
    colours = None if item.palette is None else [item.palette.mode, item.palette.tobytes().hex()]
    look = [item.mode, list(item.size), colours, item.getexif().get(ORIENTATION)]
    return _json([*look, repr(item.info.get("transparency"))]) + _sha256([pixels]).encode()


def _text(text: str) -> bytes:
    return _framed(text.encode())


def _of_files(paths: Sequence[Path], known: KnownContent) -> dict[str, str]:
    """Tell image files apart by their bytes."""
    check_files(paths, len(paths))

    def compute() -> str:
        with ThreadPoolExecutor(READERS) as pool:
            return _sha256(_json(digest) for digest in pool.map(_file_hash, paths))

    return {"by": "files", "sha256": known.content(list(paths), "files", compute)}


def _file_hash(path: Path) -> str:
    with reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_files(paths: Sequence[Path], n_items: int) -> None:
    """Raise `MissingFileError` if files are not there; it counts and names them."""
    absent = [path for path in paths if not is_file(path)]
    if absent:
        raise MissingFileError(
            f"{len(absent)} of {n_items} files of stimuli are not there: {listed(absent)}."
        )


def _array_parts(array: NDArray[Any]) -> Iterator[bytes]:
    """Give an array's type, shape and bytes, a block at a time so that maps are not loaded."""
    if array.ndim == 0 or not array.size:
        yield _header(array.dtype, array.shape)
        yield array.tobytes()
        return
    step = max(BLOCK_BYTES * len(array) // array.nbytes, 1)
    yield from _streamed(lambda start, stop: array[start:stop], len(array), step)


def _streamed(read: Read, count: int, step: int = READ_ROWS) -> Iterator[bytes]:
    """Give what an array's parts are, of rows that are read block by block."""
    form: tuple[Any, ...] = ()
    for start in range(0, max(count, 1), step):
        block = np.asarray(read(start, min(start + step, count)))
        if (block.dtype, block.shape[1:]) != form:  # the first one, as a rule
            form = (block.dtype, block.shape[1:])
            yield _header(block.dtype, (count - start, *block.shape[1:]))
        yield np.ascontiguousarray(block).tobytes()


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    if dtype.kind not in "biuf":
        raise InputError(f"Arrays of stimuli hold numbers or text; got dtype {dtype}.")
    return _json([dtype.str, list(shape)])


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


def probe_items(items: Any) -> list[Any]:
    """Return a few items that no two of need to be treated alike.

    Parameters
    ----------
    items : ModelInputs
        What is to be extracted.

    Returns
    -------
    list
        The first image, and the same inverted and turned; or the first text, the longest and the
        shortest, and two of other lengths.
    """
    (first,) = items.read(range(1))
    if items.modality == "image":
        from PIL import ImageOps

        return [first, ImageOps.invert(first), first.rotate(180)]
    texts = items.read(range(len(items)))
    # Of one length, however they are counted, texts would need no padding.
    return list(dict.fromkeys([first, max(texts, key=len), min(texts, key=len), *OTHER_TEXTS]))


def check_frozen(
    backbone: "Backbone",
    items: Sequence[Any],
    features: "Callable[[torch.Tensor], Mapping[str, torch.Tensor]]",
) -> None:
    """Raise unless a model gives an item the same features at every pass and in every company.

    Parameters
    ----------
    backbone : Backbone
    items : sequence of images or strings
    features : function
        Function from a prepared batch to the features of each layer, (n, ...).

    Raises
    ------
    InputError
        If layers differ; the message names them and says what may be the reason.
    """
    forward, again = (features(backbone.prepare(items)) for _ in range(2))
    _compare(backbone, forward, again, "from one pass to the next", RANDOM, AGAIN)
    for place in range(len(items)):
        here = slice(place, place + 1)
        alone = features(backbone.prepare(items[here]))
        together = {layer: values[here] for layer, values in forward.items()}
        _compare(backbone, together, alone, "with what else is in the batch", COMPANY, None)


RANDOM = (
    "Something random is left in its forward pass or in its preprocessing: a mask, dropout that is "
    "called by hand, a hash, a random crop. Fix it by a seed of its own or leave it out"
)
COMPANY = (
    "An item has to be computed by itself: no statistics of the batch, and texts padded to one "
    "length, or with a mask that the model heeds"
)


def _compare(
    backbone: "Backbone",
    one: "Mapping[str, torch.Tensor]",
    other: "Mapping[str, torch.Tensor]",
    how: str,
    why: str,
    units: float | None,
) -> None:
    for layer, values in one.items():
        share = _difference(values, other[layer])
        rounding = _rounding(values)
        # In other company matrices are multiplied in other blocks: half of the digits stay.
        if not share <= (rounding**0.5 if units is None else units * rounding):
            how_far = f"by {share:.2g} of its largest value"
            difference = "in shape" if share == float("inf") else how_far
            raise InputError(
                f"The features of {backbone.spec}, layer {layer}, differ {how} ({difference}), so "
                f"they are not those of a frozen model. {why}, or name another layer."
            )


def _difference(one: "torch.Tensor", other: "torch.Tensor") -> float:
    """Return the largest difference as a share of the largest value; NaN equals NaN."""
    import torch

    if one.shape != other.shape:
        return float("inf")
    if not one.numel():
        return 0.0
    left, right = one.double(), other.double()
    finite = torch.isfinite(left)
    if not torch.equal(finite, torch.isfinite(right)):
        return float("nan")
    if not bool(finite.any()):
        return 0.0
    largest = float(left[finite].abs().max())
    apart = float((left - right)[finite].abs().max())
    kind = torch.finfo(one.dtype if one.is_floating_point() else torch.float64)
    # Numbers that are next to nothing have no digits left that could agree.
    return apart / max(largest, kind.tiny / kind.eps)


def _rounding(values: "torch.Tensor") -> float:
    import torch

    return float(torch.finfo(values.dtype).eps) if values.is_floating_point() else 0.0
