"""Lazy readers of volume files: a trial a row, a chosen voxel a column.

Both readers touch only the chosen voxels where the file's layout allows it. Voxels are named by
their flat index in C order of an (X, Y, Z) grid, as `numpy.ravel_multi_index` gives it.
"""

import math
import os
import struct
from abc import abstractmethod
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from brainkit.arrays.array_likes import whole_numbers
from brainkit.arrays.files import reading, require_file
from brainkit.arrays.sources import Float, Index, Source
from brainkit.errors import CorruptFileError, InputError

# -- where the chunks of an HDF5 dataset lie in its file, found many at a time ---------------------
#
# The HDF5 library looks chunks up one by one, which takes longer than reading a small one. A file
# of the library's first format (superblock 0, what it and MATLAB write unless told otherwise)
# lists the chunks in a version 1 B-tree. Here its nodes are read level by level, each once for
# many chunks. Whatever is not exactly as the HDF5 File Format Specification 3.0 has it (sections
# II.A, III.A.1, IV.A.1.a, IV.A.2.i, IV.A.2.q) is left to the library (`brainkit.arrays.volumes`,
# `_library_chunk`).
#
# What it is worth: a region of 5,000 voxels of two sessions in NSD's layout is read in 0.12 s, and
# in 0.30 s where every chunk is looked up by the library (medians of nine runs at one thread, file
# cache warm: ways `brainkit` and `brainkit library` of ``scripts/bench/read_region.py``).


SUPERBLOCK = b"\x89HDF\r\n\x1a\n\0"  # of version 0, which also fixes how large a node is
BRANCHES = 64
CHUNKS_AT_ONCE = 1024  # bounds the memory: at most as many nodes are held
LAYOUT, CONTINUATION = 8, 16  # messages of an object header
UNKNOWN = -1


def chunk_addresses(data: h5py.Dataset, offsets: Index) -> Index:
    """Find where chunks begin in the file.

    Parameters
    ----------
    data : h5py.Dataset
        A chunked dataset without filters, in a file opened for reading with the driver sec2.
    offsets : array of int (chunks, axes)
        Position in the dataset of the first element of each chunk.

    Returns
    -------
    array of int (chunks,)
        Byte offset in the file; -1 where a chunk has not been found: it was never written, or the
        index is not of the kind read here. The library has to be asked for these.
    """
    addresses = np.full(len(offsets), UNKNOWN, dtype=np.int64)
    root = _root(data)
    if root is None:
        return addresses
    order = np.lexsort(offsets.T[::-1])
    for start in range(0, len(order), CHUNKS_AT_ONCE):
        here = order[start : start + CHUNKS_AT_ONCE]
        addresses[here] = _search(data, root, offsets[here])
    return addresses


def _root(data: h5py.Dataset) -> int | None:
    """Return the address of the root of a dataset's version 1 B-tree, None if it has none."""
    if not hasattr(os, "pread"):  # Windows
        return None
    file = data.file.id.get_vfd_handle()
    block = os.pread(file, 32, 0)
    address_sizes, base = block[13:15], block[24:32]
    if not block.startswith(SUPERBLOCK) or address_sizes != b"\x08\x08" or base != bytes(8):
        return None
    # Not h5o.get_info, which walks the whole index to measure it.
    low, high = h5py.h5g.get_objinfo(data.id).objno
    layout, rank = _layout(file, low + (high << 32)), data.ndim + 1  # an element's bytes: an axis
    if len(layout) < 11 + 4 * rank:
        return None
    *kind, root = struct.unpack_from("<BBBq", layout)
    sizes = struct.unpack_from(f"<{rank}I", layout, 11)
    if kind != [3, 2, rank] or sizes != (*data.chunks, data.dtype.itemsize) or root < 0:
        return None
    return int(root)


def _layout(file: int, header: int) -> bytes:
    """Return the data layout message of a version 1 object header, empty if there is none.

    The library has read the same header when it opened the dataset, so its blocks do not loop.
    """
    prefix = os.pread(file, 16, header)
    if prefix[:1] != b"\x01":
        return b""
    blocks = [(header + 16, int.from_bytes(prefix[8:12], "little"))]
    for start, length in blocks:
        block, at = os.pread(file, length, start), 0
        while at + 8 <= len(block):
            kind, size = struct.unpack_from("<HH", block, at)
            message = block[at + 8 : at + 8 + size]
            if kind == LAYOUT:
                return message
            if kind == CONTINUATION:
                blocks.append(struct.unpack_from("<QQ", message))
            at += 8 + size
    return b""


def _search(data: h5py.Dataset, root: int, offsets: Index) -> Index:
    """Look up chunks, sorted by position, from the root down to the leaves."""
    # Flat positions sort as the positions do. In the leaves the positions themselves are compared.
    stride = np.cumprod([1, *data.shape[:0:-1]])[::-1]
    wanted, nodes, level = offsets @ stride, np.array([root]), -1
    while level != 0:
        entries, here = _read_nodes(data, nodes)
        if not len(entries) or level not in (-1, here + 1):
            return np.full(len(offsets), UNKNOWN)
        keys = entries["offset"][:, :-1] @ stride
        place = np.maximum(np.searchsorted(keys, wanted, side="right") - 1, 0)
        nodes, level = entries["child"][np.unique(place)], here
    leaves = entries[place]
    n_bytes = int(np.prod(data.chunks)) * data.dtype.itemsize
    same = (leaves["offset"][:, :-1] == offsets).all(axis=1) & (leaves["offset"][:, -1] == 0)
    same &= (leaves["bytes"] == n_bytes) & (leaves["filters_skipped"] == 0)
    return np.where(same, leaves["child"], UNKNOWN)


def _read_nodes(data: h5py.Dataset, nodes: Index) -> tuple[NDArray[np.void], int]:
    """Return the entries of some nodes of one level, and the level; no entries if not a B-tree."""
    rank = data.ndim + 1
    key = [("bytes", "<u4"), ("filters_skipped", "<u4"), ("offset", "<i8", rank)]
    entry = np.dtype([*key, ("child", "<i8")])
    head = [("sign", "S4"), ("kind", "u1"), ("level", "u1"), ("used", "<u2"), ("siblings", "V16")]
    node = np.dtype([*head, ("entries", entry, BRANCHES), ("end", key)])
    file = data.file.id.get_vfd_handle()
    raw = b"".join([os.pread(file, node.itemsize, address) for address in nodes.tolist()])
    if len(raw) != len(nodes) * node.itemsize:
        return np.empty(0, entry), 0
    read = np.frombuffer(raw, node)
    level, used = int(read["level"][0]), read["used"]
    sound = (read["sign"] == b"TREE") & (read["kind"] == 1) & (read["level"] == level)
    if not (sound & (used <= BRANCHES)).all():
        return np.empty(0, entry), 0
    return read["entries"][np.arange(BRANCHES) < used[:, None]], level


# -- volumes ---------------------------------------------------------------------------------------


CHUNK_CACHE = 1 << 26  # bytes: a chunk that several runs of voxels touch is unpacked once
BLOCK = 1 << 20  # bytes read before they are transposed, so that they are still in a near cache


class Volumes(Source):
    """Trials of a file of volumes, which are read straight into where they are wanted."""

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Read the chosen trials of the chosen voxels."""
        n_rows = self.shape[0] if rows is None else len(rows)
        n_columns = self.shape[1] if columns is None else len(columns)
        out = np.empty((n_rows, n_columns), dtype=np.float32)
        self.read_into(out, rows, columns)
        return out

    @abstractmethod
    def read_into(
        self, out: Float, rows: Index | None = None, columns: Index | None = None
    ) -> None:
        """Read the chosen trials of the chosen voxels into `out`."""


class HDF5Volumes(Volumes):
    """Trials of one HDF5 file, dataset (trials, Z, Y, X), times a scale.

    A chunk that holds one voxel over all trials, NSD's layout, is read straight from the file,
    one chunk a voxel; an unchunked dataset is mapped into memory. Chunks of a few trials are read
    by the voxels' bounding box, all others (compressed ones too) by runs of neighbouring voxels.

    Parameters
    ----------
    path : Path
        The HDF5 file.
    dataset : str
        Name of the dataset.
    voxels : array of int (columns,)
        Flat C-order indices into the (X, Y, Z) grid.
    grid : tuple of int
        (X, Y, Z), which the file must match.
    scale : float, default=1.0
        Factor from stored to returned values (NSD: 1/300, to percent signal change).

    Raises
    ------
    MissingFileError, FileAccessError, CorruptFileError
        If the file is not there, may not be read, is truncated, or has another shape.
    """

    def __init__(
        self,
        path: Path,
        dataset: str,
        voxels: Index,
        grid: tuple[int, int, int],
        scale: float = 1.0,
    ) -> None:
        self.path = require_file(path, "A session's betas")
        self.dataset, self.scale = dataset, scale
        with self._open() as file:
            if dataset not in file:
                raise CorruptFileError(f"{path} has no dataset {dataset!r}; it has {sorted(file)}.")
            shape = file[dataset].shape
        if len(shape) != 4 or shape[1:] != tuple(reversed(grid)):
            raise CorruptFileError(
                f"{path}: dataset {dataset!r} has shape {shape}; expected (trials, Z, Y, X) = "
                f"(trials, {grid[2]}, {grid[1]}, {grid[0]}), the grid of the region masks."
            )
        x, y, z = np.unravel_index(voxels, grid)
        self.zyx = np.stack([z, y, x], axis=1).astype(np.int64)
        self.shape = (int(shape[0]), len(voxels))

    def _open(self) -> h5py.File:
        with reading(self.path, "cannot be read as HDF5"):
            return h5py.File(self.path, "r", driver="sec2", rdcc_nbytes=CHUNK_CACHE)

    def read_into(
        self, out: Float, rows: Index | None = None, columns: Index | None = None
    ) -> None:
        """Read the chosen trials of the chosen voxels into `out`."""
        zyx = self.zyx if columns is None else self.zyx[columns]
        if not out.size:
            return
        with self._open() as file:
            data = file[self.dataset]
            chunks = data.chunks or (self.shape[0], 1, 1, 1)
            filtered = data.id.get_create_plist().get_nfilters() > 0
            with reading(self.path, "cannot be read as HDF5", also=[RuntimeError]):
                if data.chunks == (self.shape[0], 1, 1, 1) and not filtered:
                    self._read_chunks(data, zyx, rows, out)
                elif _can_be_mapped(data):
                    self._read_mapped(data, zyx, rows, out)
                elif chunks[0] < self.shape[0] and int(np.prod(chunks[1:])) > 1:
                    self._read_boxes(data, zyx, rows, out)
                else:
                    self._read_runs(data, zyx, rows, out)
        out *= np.float32(self.scale)

    @staticmethod
    def _read_chunks(data: Any, zyx: Index, rows: Index | None, out: Float) -> None:
        offsets = np.column_stack([np.zeros(len(zyx), np.int64), zyx])
        addresses = chunk_addresses(data, offsets)
        width = max(BLOCK // (data.shape[0] * data.dtype.itemsize), 1)
        for start in range(0, len(zyx), width):
            here = slice(start, start + width)
            block = _chunk_block(data, offsets[here], addresses[here])
            out[:, here] = block.T if rows is None else block.T[rows]

    def _read_mapped(self, data: Any, zyx: Index, rows: Index | None, out: Float) -> None:
        offset, shape = data.id.get_offset(), (data.shape[0], int(np.prod(data.shape[1:])))
        mapped = np.memmap(self.path, data.dtype, "r", offset, shape)
        flat = np.ravel_multi_index((zyx[:, 0], zyx[:, 1], zyx[:, 2]), data.shape[1:])
        for row, trial in enumerate(range(len(out)) if rows is None else rows):
            out[row] = mapped[trial, flat]

    @staticmethod
    def _read_runs(data: Any, zyx: Index, rows: Index | None, out: Float) -> None:
        """Read all trials of each run of neighbouring voxels: chunks that span the trials."""
        reach = data.chunks[3] if data.chunks else 1
        order = np.lexsort((zyx[:, 2], zyx[:, 1], zyx[:, 0]))
        step = np.diff(zyx[order], axis=0)
        cuts = np.flatnonzero(step[:, :2].any(axis=1) | (step[:, 2] > reach)) + 1
        for here in np.split(order, cuts):
            z, y, x = int(zyx[here[0], 0]), int(zyx[here[0], 1]), zyx[here, 2]
            first, last = int(x[0]), int(x[-1]) + 1
            values = data[:, z, y, first:last][:, x - first]
            out[:, here] = values if rows is None else values[rows]

    @staticmethod
    def _read_boxes(data: Any, zyx: Index, rows: Index | None, out: Float) -> None:
        """Read the voxels' bounding box some trials at a time: chunks that hold a few trials."""
        first = zyx.min(axis=0)
        box = tuple(slice(int(a), int(b) + 1) for a, b in zip(first, zyx.max(axis=0), strict=True))
        z, y, x = (zyx - first).T
        wanted = np.arange(data.shape[0]) if rows is None else rows
        layer = wanted // data.chunks[0]
        for number in np.unique(layer):
            here = np.flatnonzero(layer == number)
            start = int(wanted[here].min())
            values = data[(slice(start, int(wanted[here].max()) + 1), *box)]
            out[here] = values[:, z, y, x][wanted[here] - start]


def _chunk_block(data: Any, offsets: Index, addresses: Index) -> NDArray[Any]:
    """Read whole chunks, each a row, in the order in which they lie in the file."""
    file, size = data.file.id.get_vfd_handle(), data.shape[0] * data.dtype.itemsize
    chunks = [b""] * len(addresses)
    places = addresses.tolist()
    for number in np.argsort(addresses).tolist():
        if places[number] < 0:
            chunks[number] = _library_chunk(data, offsets[number])
        else:
            chunks[number] = os.pread(file, size, places[number])
    if {len(chunk) for chunk in chunks} != {size}:
        raise OSError("a chunk goes beyond the end of the file")
    return np.frombuffer(b"".join(chunks), data.dtype).reshape(len(chunks), -1)


def _library_chunk(data: Any, offset: Index) -> bytes:
    """Read one chunk through the HDF5 library: the fill value where it was never written."""
    place = tuple(offset.tolist())
    try:
        raw: bytes = data.id.read_direct_chunk(place)[1]
    except RuntimeError:
        if data.id.get_chunk_info_by_coord(place).byte_offset is not None:
            raise
        raw = np.full(data.shape[0], data.fillvalue, data.dtype).tobytes()
    return raw


def _can_be_mapped(data: Any) -> bool:
    """Whether a dataset lies in its file as one plain array."""
    plain = data.chunks is None and data.external is None
    return plain and data.id.get_offset() is not None


class NiftiVolumes(Volumes):
    """Trials of one 4-D NIfTI file (X, Y, Z, trials), or a single 3-D volume as one trial.

    Further axes of length one, as some tools leave them before or after the trials, are dropped.

    An uncompressed file is mapped into memory, so that only the pages with chosen voxels are read.
    A compressed one has to be unpacked from its start; one volume is held at a time.

    Parameters
    ----------
    path : Path
        The ``.nii`` or ``.nii.gz`` file.
    voxels : array of int (columns,)
        Flat C-order indices into the (X, Y, Z) grid.
    grid : tuple of int
        (X, Y, Z), which the file must match.
    scale : float, default=1.0
        Factor on top of the file's own slope and intercept.

    Raises
    ------
    MissingFileError, FileAccessError, CorruptFileError
        If the file is not there, may not be read, is damaged or has another shape.
    InputError
        If it holds complex numbers or colours.
    """

    def __init__(
        self, path: Path, voxels: Index, grid: tuple[int, int, int], scale: float = 1.0
    ) -> None:
        self.path = require_file(path, "A volume")
        self.scale = scale
        image = load_nifti(path)
        shape, stored = image.shape, np.dtype(image.dataobj.dtype)
        n_trials = math.prod(shape[3:])
        if shape[:3] != tuple(grid) or n_trials != max(shape[3:], default=1):
            raise CorruptFileError(
                f"{path} has shape {shape}; expected (X, Y, Z, trials) on the grid {tuple(grid)}."
            )
        if stored.kind not in "biuf":
            kind = "colours" if stored.names else "complex numbers" if stored.kind == "c" else ""
            raise InputError(
                f"{path} holds {kind or stored}; responses are real numbers. Save their magnitude, "
                "or the part that is meant, as real numbers first."
            )
        self.voxels, self.grid = voxels, grid
        self.shape = (n_trials, len(voxels))

    def read_into(
        self, out: Float, rows: Index | None = None, columns: Index | None = None
    ) -> None:
        """Read the chosen trials of the chosen voxels into `out`."""
        voxels = self.voxels if columns is None else self.voxels[columns]
        rows = np.arange(self.shape[0]) if rows is None else rows
        place = np.unravel_index(voxels, self.grid)
        image = load_nifti(self.path)
        proxy = image.dataobj
        with reading(self.path, "cannot be read as NIfTI"):
            if self.path.suffix == ".nii":
                self._read_mapped(proxy, place, rows, out)
            else:
                for row in np.argsort(rows, kind="stable"):
                    # Further axes than trials have one place each.
                    trial = [int(rows[row]) if size > 1 else 0 for size in proxy.shape[3:]]
                    volume = proxy[(..., *trial)] if trial else proxy
                    out[row] = np.asanyarray(volume)[place]
        out *= np.float32(self.scale)

    def _read_mapped(self, proxy: Any, place: Any, rows: Index, out: Float) -> None:
        mapped = np.memmap(
            self.path, proxy.dtype, "r", proxy.offset, (*self.grid, self.shape[0]), order="F"
        )
        flat = mapped.reshape(-1, order="F")
        offsets = np.ravel_multi_index(place, self.grid, order="F")
        for row, trial in enumerate(rows):
            out[row] = flat[offsets + int(trial) * int(np.prod(self.grid))]
        if proxy.slope != 1 or proxy.inter != 0:
            out *= np.float32(proxy.slope)
            out += np.float32(proxy.inter)


def load_nifti(path: Path) -> Any:
    """Open a NIfTI file without reading its data, with an error that names it if that fails."""
    with reading(path, "cannot be read as NIfTI", also=[ImageFileError, HeaderDataError]):
        return nibabel.load(path, keep_file_open=True)


def read_labels(path: Path, what: str) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Read a mask or label volume as whole numbers, and its affine.

    Raises
    ------
    MissingFileError, CorruptFileError
        If the file cannot be read, as for `read_volume`.
    InputError
        If it holds anything but whole numbers with noise; see `whole_numbers`.
    """
    values, affine = read_volume(path, what)
    step = storage_step(load_nifti(path))
    return whole_numbers(values, f"{what} ({path})", step=step), affine


def without_single_axes(volume: NDArray[Any]) -> NDArray[Any]:
    """Return a volume without axes of length one beyond the third."""
    return volume.reshape(volume.shape[:3]) if math.prod(volume.shape[3:]) == 1 else volume


def storage_step(image: Any) -> float:
    """Return the step between the values that an image of scaled integers can hold, else 0."""
    stored: Any = getattr(image, "dataobj", None)
    scaled = hasattr(stored, "slope") and np.dtype(stored.dtype).kind in "iu"
    return float(stored.slope) if scaled else 0.0


def read_volume(path: Path, what: str) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Read a whole 3-D volume and its affine; trailing axes of length one are dropped.

    Raises
    ------
    MissingFileError, FileAccessError, CorruptFileError
        If the file is missing, may not be read, is damaged or not three-dimensional.
    """
    image = load_nifti(require_file(path, what))
    with reading(path, "cannot be read as NIfTI"):
        data = np.asanyarray(image.dataobj)
    data = without_single_axes(data)
    if data.ndim != 3:
        raise CorruptFileError(f"{path} has shape {data.shape}; expected a 3-D volume.")
    return data, np.asarray(image.affine, dtype=np.float64)
