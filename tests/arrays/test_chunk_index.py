"""Addresses of chunks against those that the HDF5 library gives, one chunk at a time."""

import itertools
import os

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainkit.arrays.volumes import chunk_addresses


def every_offset(data):
    axes = (range(0, n, step) for n, step in zip(data.shape, data.chunks, strict=True))
    return np.array(list(itertools.product(*axes)), dtype=np.int64)


def listed_by_the_library(data):
    """Return {offset of a chunk: address}, only chunks that were written."""
    found = {}
    data.id.chunk_iter(lambda info: found.update({info.chunk_offset: info.byte_offset}))
    return found


def write_some(file, shape, chunks, share=1.0, seed=0, **options):
    """Write a share of the chunks in a random order, so that the tree's nodes are split."""
    data = file.create_dataset("betas", shape, "<i2", chunks=chunks, **options)
    generator = np.random.default_rng(seed)
    offsets = generator.permutation(every_offset(data))
    for number, offset in enumerate(offsets[: int(share * len(offsets))]):
        values = np.full(chunks, number % 30_000, "<i2")
        data.id.write_direct_chunk(tuple(offset.tolist()), values.tobytes())


@pytest.mark.parametrize(
    ("shape", "chunks"),
    [
        ((2, 9, 20, 30), (2, 1, 1, 1)),  # 5,400 chunks: a tree of three levels
        ((3, 7, 10), (2, 3, 4)),  # chunks over the edges
        ((5000,), (1,)),
        ((40, 50), (1, 50)),
        ((4, 4), (4, 4)),  # one chunk: the root is a leaf
    ],
)
@pytest.mark.parametrize("share", [1.0, 0.6, 0.01, 0.0])
def test_addresses_are_those_of_the_library(tmp_path, shape, chunks, share):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        write_some(file, shape, chunks, share)
    with h5py.File(path, driver="sec2") as file:
        data = file["betas"]
        known, offsets = listed_by_the_library(data), every_offset(data)
        expected = [known.get(tuple(offset), -1) for offset in offsets.tolist()]
        np.testing.assert_array_equal(chunk_addresses(data, offsets), expected)
        assert len(known) == int(share * len(offsets))


@pytest.fixture(scope="module")
def large_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("index") / "x.h5"
    with h5py.File(path, "w") as file:
        write_some(file, (1, 8, 15, 20), (1, 1, 1, 1), share=0.8)
    with h5py.File(path, driver="sec2") as file:
        yield file["betas"], listed_by_the_library(file["betas"])


@settings(max_examples=40)
@given(numbers=st.lists(st.integers(0, 8 * 15 * 20 - 1), max_size=30))
def test_any_order_and_repeats(large_file, numbers):
    data, known = large_file
    offsets = np.stack(np.unravel_index(np.array(numbers, dtype=np.int64), data.shape), axis=1)
    got = chunk_addresses(data, offsets)
    assert got.tolist() == [known.get(tuple(offset), -1) for offset in offsets.tolist()]


def test_few_nodes_are_read_for_few_chunks(large_file, monkeypatch):
    data, known = large_file
    asked, pread = [], os.pread

    def watch(*arguments):
        asked.append(arguments)
        return pread(*arguments)

    monkeypatch.setattr(os, "pread", watch)
    first = sorted(known)[5]
    assert chunk_addresses(data, np.array([first, first])).tolist() == [known[first]] * 2
    assert len(asked) <= 3 + 3  # superblock, object header in one or two blocks; three levels


def test_many_attributes_continue_the_object_header(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_group("before").attrs["x"] = 1
        write_some(file["before"], (2, 3, 4, 5), (2, 1, 1, 1))
        for number in range(40):
            file["before/betas"].attrs[f"attribute {number}"] = np.arange(number)
    with h5py.File(tmp_path / "x.h5", driver="sec2") as file:
        data = file["before/betas"]
        known, offsets = listed_by_the_library(data), every_offset(data)
        expected = [known[tuple(offset)] for offset in offsets.tolist()]
        np.testing.assert_array_equal(chunk_addresses(data, offsets), expected)


@pytest.mark.parametrize(
    ("of_file", "of_data"),
    [
        ({"libver": "latest"}, {}),
        ({"libver": "latest"}, {"maxshape": (None, 3, 4, 5)}),
        ({"libver": "latest"}, {"maxshape": (None, None, 4, 5)}),
        ({"libver": ("v108", "latest")}, {}),
        ({"userblock_size": 512}, {}),
        ({"fs_strategy": "page"}, {}),
    ],
)
def test_other_formats_are_left_to_the_library(tmp_path, of_file, of_data):
    with h5py.File(tmp_path / "x.h5", "w", **of_file) as file:
        write_some(file, (2, 3, 4, 5), (2, 1, 1, 1), **of_data)
    with h5py.File(tmp_path / "x.h5", driver="sec2") as file:
        assert (chunk_addresses(file["betas"], every_offset(file["betas"])) == -1).all()


@pytest.mark.parametrize(
    ("place", "value"),
    [(0, b"X"), (4, b"\0"), (5, b"\7"), (6, b"\xff\xff"), (6, b"\0\0")],
    ids=["sign", "kind", "level", "too many", "none"],
)
def test_a_damaged_node_gives_no_addresses(tmp_path, place, value):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        write_some(file, (2, 3, 4, 5), (2, 1, 1, 1))
    raw = bytearray(path.read_bytes())
    nodes = [at for at in range(len(raw)) if raw[at : at + 5] == b"TREE\1"]
    with h5py.File(path, driver="sec2") as file:
        offsets = every_offset(file["betas"])
        assert (chunk_addresses(file["betas"], offsets) > 0).all()
        for node in nodes:
            raw[node + place : node + place + len(value)] = value
        path.write_bytes(raw)
        assert (chunk_addresses(file["betas"], offsets) == -1).all()


def test_a_file_cut_while_it_is_open_gives_no_wrong_addresses(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        write_some(file, (2, 3, 4, 5), (2, 1, 1, 1))
    whole = path.read_bytes()
    with h5py.File(path, driver="sec2") as file:
        offsets = every_offset(file["betas"])
        right = chunk_addresses(file["betas"], offsets)
        for left in range(0, len(whole), 50):
            path.write_bytes(whole[:left])
            got = chunk_addresses(file["betas"], offsets)
            assert (got == -1).all() or (got == right).all()
        assert not (right == -1).any()


def test_nothing_is_asked_of_systems_without_positioned_reads(large_file, monkeypatch):
    data, known = large_file
    monkeypatch.delattr(os, "pread")
    assert chunk_addresses(data, np.array(list(known)[:3])).tolist() == [-1] * 3
