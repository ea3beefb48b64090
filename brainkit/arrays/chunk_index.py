"""Where the chunks of an HDF5 dataset lie in its file, found many at a time.

The HDF5 library looks chunks up one by one, which takes longer than reading a small one. A file of
the library's first format (superblock 0, what it and MATLAB write unless told otherwise) lists the
chunks in a version 1 B-tree. Here its nodes are read level by level, each once for many chunks.
Whatever is not exactly as the HDF5 File Format Specification 3.0 has it (sections II.A, III.A.1,
IV.A.1.a, IV.A.2.i, IV.A.2.q) is left to the library (`brainkit.arrays.volumes`, `_library_chunk`).

What it is worth: a region of 5,000 voxels of two sessions in NSD's layout is read in 0.12 s, and in
0.30 s where every chunk is looked up by the library (medians of nine runs at one thread, file cache
warm: ways `brainkit` and `brainkit library` of ``scripts/bench/read_region.py``).
"""

import os
import struct

import h5py
import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.sources import Index

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
