"""The feature store: what is written comes back, and nothing else ever does."""

import errno
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from brainkit.errors import (
    CorruptFileError,
    InputError,
    MissingFileError,
    OutputError,
    UnknownNameError,
)
from brainkit.features.store import FeatureStore, address, default_store, open_store

KEY = {"model": "tiny", "layer": "blocks.2", "stimuli": {"n": 10, "ids": [1, 2]}}
VALUES = np.random.default_rng(0).normal(size=(10, 3, 4)).astype(np.float32)


def filled(entry, values=VALUES, chunk=4, finish=True):
    entry.begin(len(values), values.shape[1:], values.dtype, chunk)
    for rows in entry.missing():
        entry.write(rows.start, values[rows.start : rows.stop])
    if finish:
        entry.finish()
    return entry


@settings(max_examples=25)
@given(
    n=st.integers(1, 9),
    shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    chunk=st.integers(1, 12),
    dtype=st.sampled_from(["float32", "float16", "float64", "uint8", ">f4"]),
)
def test_what_is_written_comes_back(tmp_path_factory, n, shape, chunk, dtype):
    values = np.random.default_rng(n).integers(0, 200, (n, *shape)).astype(dtype)
    entry = filled(FeatureStore(tmp_path_factory.mktemp("store")).entry(KEY), values, chunk)
    found = entry.read()
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)
    assert entry.verify() == []


def test_values_are_mapped_read_only(tmp_path):
    found = filled(FeatureStore(tmp_path).entry(KEY)).read()
    assert isinstance(found, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 0


def test_the_address_is_the_sha256_of_canonical_json(tmp_path):
    text = '{"a":[1,2.5,null],"b":"\\u00e9"}'
    expected = hashlib.sha256(text.encode()).hexdigest()
    assert address({"b": "é", "a": (1, 2.5, None)}) == expected
    entry = FeatureStore(tmp_path).entry({"b": "é", "a": (1, 2.5, None)})
    assert entry.folder == tmp_path / expected[:2] / expected
    assert address({"a": 1}) != address({"a": 1.0}) != address({"a": "1"})


@pytest.mark.parametrize("key", [{"a": np.float32(1)}, {"a": float("nan")}, {"a": {1, 2}}])
def test_a_key_that_json_cannot_hold_is_refused(tmp_path, key):
    with pytest.raises(InputError, match="must be JSON"):
        FeatureStore(tmp_path).entry(key)


def test_asking_for_an_entry_changes_nothing(tmp_path):
    entry = FeatureStore(tmp_path / "store").entry(KEY)
    assert not entry.complete
    assert entry.layout is None
    with pytest.raises(MissingFileError, match="no entry"):
        entry.read()
    assert not (tmp_path / "store").exists()


def test_an_incomplete_entry_cannot_be_read_or_finished(tmp_path):
    entry = FeatureStore(tmp_path).entry(KEY)
    entry.begin(10, (3, 4), "float32", 4)
    entry.write(4, VALUES[4:8])
    assert entry.missing() == [range(4), range(8, 10)]
    assert entry.has(4)
    assert not entry.has(0)
    for act in (entry.read, entry.finish):
        with pytest.raises(MissingFileError, match="2 of 3 chunks are missing"):
            act()
    assert not entry.complete
    filled(entry)
    np.testing.assert_array_equal(entry.read(), VALUES)


def test_a_resumed_entry_keeps_its_chunks(tmp_path):
    store = FeatureStore(tmp_path)
    entry = store.entry(KEY)
    entry.begin(10, (3, 4), "float32", 4)
    entry.write(0, VALUES[:4])
    again = store.entry(KEY)
    assert again.begin(10, (3, 4), "float32", 7).chunk == 4
    assert again.missing() == [range(4, 8), range(8, 10)]


def test_the_first_to_write_a_chunk_wins(tmp_path):
    entry = FeatureStore(tmp_path).entry(KEY)
    entry.begin(10, (3, 4), "float32", 4)
    entry.write(0, VALUES[:4])
    entry.write(0, VALUES[:4] + 1)
    filled(entry)
    entry.write(0, VALUES[:4] + 1)  # complete entries stay as they are
    np.testing.assert_array_equal(entry.read(), VALUES)
    assert entry.verify() == []


def test_a_chunk_half_written_counts_as_missing(tmp_path):
    entry = FeatureStore(tmp_path).entry(KEY)
    entry.begin(10, (3, 4), "float32", 4)
    entry.write(0, VALUES[:4])
    # What a power failure may leave: values without their sum, and a sum cut off.
    with (entry.folder / "values.npy").open("r+b") as file:
        file.seek(-20, os.SEEK_END)
        file.write(b"garbage")
    (entry.folder / "chunks" / "00000004.json").write_text("")
    (entry.folder / "complete.json").write_text("")
    (entry.folder / ".complete.json.0a.partial.json").write_text("{")
    assert entry.missing() == [range(4, 8), range(8, 10)]
    np.testing.assert_array_equal(filled(entry).read(), VALUES)
    names = {path.name for path in entry.folder.iterdir()}
    assert names == {"key.json", "layout.json", "values.npy", "complete.json", "lock"}


@pytest.mark.parametrize(
    ("start", "values", "message"),
    [
        (2, VALUES[2:6], "multiples of 4 below 10"),
        (12, VALUES[:4], "multiples of 4 below 10"),
        (0, VALUES[:3], r"shape \(4, 3, 4\)"),
        (8, VALUES[:4], r"shape \(2, 3, 4\)"),
        (0, VALUES[:4].astype(np.float64), "must be <f4"),
    ],
)
def test_what_is_no_chunk_is_refused(tmp_path, start, values, message):
    entry = FeatureStore(tmp_path).entry(KEY)
    entry.begin(10, (3, 4), "float32", 4)
    with pytest.raises(InputError, match=message):
        entry.write(start, values)
    assert len(entry.missing()) == 3


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, (3,), "float32", 4), "at least one stimulus"),
        ((5, (0,), "float32", 4), "at least one stimulus"),
        ((5, (3,), "float32", 0), "at least one stimulus"),
        ((5, (3,), "object", 4), "are numbers; got dtype object"),
        ((5, (3,), "U5", 4), "are numbers"),
    ],
)
def test_sizes_that_cannot_be_are_refused(tmp_path, sizes, message):
    with pytest.raises(InputError, match=message):
        FeatureStore(tmp_path).entry(KEY).begin(*sizes)


def test_a_key_that_does_not_tell_sizes_apart_is_found(tmp_path):
    entry = filled(FeatureStore(tmp_path).entry(KEY))
    for sizes in ((11, (3, 4), "float32"), (10, (4, 3), "float32"), (10, (3, 4), "float16")):
        with pytest.raises(InputError, match="Extend the key"):
            entry.begin(*sizes, 4)


# ---------------------------------------------------------------------------- damage and versions


def test_verify_finds_changed_bytes_and_drop_has_them_written_again(tmp_path):
    store = FeatureStore(tmp_path)
    entry = filled(store.entry(KEY))
    other = filled(store.entry({"other": 1}))
    with (entry.folder / "values.npy").open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    assert entry.verify() == [range(8, 10)]
    assert other.verify() == []
    assert store.verify() == {entry.address: [range(8, 10)]}
    entry.drop(entry.verify())
    assert not entry.complete
    assert entry.missing() == [range(8, 10)]
    assert entry.verify() == []
    np.testing.assert_array_equal(filled(entry).read(), VALUES)
    assert store.verify() == {}


def test_chunks_of_an_unfinished_entry_are_verified_and_dropped_too(tmp_path):
    entry = filled(FeatureStore(tmp_path).entry(KEY), finish=False)
    with (entry.folder / "values.npy").open("r+b") as file:
        file.seek(-VALUES.nbytes, os.SEEK_END)
        file.write(b"\xff\xff")
    assert entry.verify() == [range(4)]
    entry.drop([range(4)])
    assert entry.missing() == [range(4)]
    with pytest.raises(InputError, match="No chunks"):
        entry.drop([range(1, 5)])


@pytest.mark.parametrize("damage", ["cut", "longer", "header", "gone"])
def test_a_damaged_file_is_not_read(tmp_path, damage):
    entry = filled(FeatureStore(tmp_path).entry(KEY))
    path = entry.folder / "values.npy"
    content = path.read_bytes()
    changed = {
        "cut": content[:-5],
        "longer": content + b"12345",
        "header": content.replace(b"(10, 3, 4)", b"(5, 6, 4), "[:-1]),
        "gone": b"",
    }
    path.write_bytes(changed[damage])
    if damage == "gone":
        path.unlink()
    for act in (entry.read, entry.verify, lambda: entry.begin(10, (3, 4), "float32", 4)):
        kind = MissingFileError if damage == "gone" else CorruptFileError
        with pytest.raises(kind, match="extract again"):
            act()


def test_an_entry_of_another_version_is_refused(tmp_path):
    store = FeatureStore(tmp_path)
    entry = filled(store.entry(KEY))
    path = entry.folder / "layout.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    for act in (entry.read, entry.missing, lambda: entry.begin(10, (3, 4), "float32", 4)):
        with pytest.raises(CorruptFileError, match=r"format 2 .* reads 1\. Remove it"):
            act()
    store.remove(entry)
    np.testing.assert_array_equal(filled(entry).read(), VALUES)


def test_a_store_of_another_version_is_refused(tmp_path):
    filled(FeatureStore(tmp_path).entry(KEY))
    (tmp_path / "store.json").write_text('{"format": 7}')
    with pytest.raises(CorruptFileError, match=r"has format 7; this brainkit reads 1\. Use"):
        FeatureStore(tmp_path)


def test_a_damaged_layout_is_refused(tmp_path):
    entry = filled(FeatureStore(tmp_path).entry(KEY))
    (entry.folder / "layout.json").write_text('{"format": 1, "shape": "x"}')
    with pytest.raises(CorruptFileError, match="is damaged"):
        entry.read()


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"x")
    with pytest.raises(InputError, match="not a feature store"):
        FeatureStore(tmp_path)
    with pytest.raises(InputError, match="is a file"):
        FeatureStore(tmp_path / "photo.png")


# ----------------------------------------------------------------------------- the disk is full


def test_too_large_an_entry_is_refused_before_anything_is_computed(tmp_path):
    entry = FeatureStore(tmp_path).entry(KEY)
    with pytest.raises(OutputError, match=r"need 4000000\.0 GB in all") as caught:
        entry.begin(10**9, (10**6,), "float32", 128)
    assert caught.value.__cause__.errno == errno.ENOSPC
    assert entry.layout is None


LIMITED = """
import resource, sys
import numpy as np
from brainkit.errors import OutputError
from brainkit.features.store import FeatureStore
entry = FeatureStore(sys.argv[1]).entry({"a": 1})
entry.begin(1000, (100,), "float32", 300)
values = np.arange(100_000, dtype=np.float32).reshape(1000, 100)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
try:
    for rows in entry.missing():
        entry.write(rows.start, values[rows.start : rows.stop])
except OutputError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(entry.missing(), entry.complete, entry.verify())
for rows in entry.missing():
    entry.write(rows.start, values[rows.start : rows.stop])
entry.finish()
print(np.array_equal(entry.read(), values), entry.verify())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX's")
def test_no_room_in_the_middle_keeps_what_was_written(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=True
    )
    error, state, end = done.stdout.splitlines()
    assert "need 400.0 kB in all, 280.0 kB of it still to be written" in error
    assert "run again" in error
    assert state == "[range(300, 600), range(600, 900), range(900, 1000)] False []"
    assert end == "True []"


@pytest.mark.parametrize("when", ["values", "sum", "complete"])
def test_a_full_disk_at_any_step_keeps_what_was_written(tmp_path, monkeypatch, when):
    entry = filled(FeatureStore(tmp_path).entry(KEY), finish=False)
    entry.drop([range(8, 10)])
    real = os.fsync
    calls = {"values": 1, "sum": 2, "complete": 3}
    count = 0

    def full(handle):
        nonlocal count
        count += 1
        if count == calls[when]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="480 bytes in all") as caught:
        filled(entry)
    monkeypatch.undo()
    assert "No space left" in str(caught.value)
    assert entry.missing() == ([] if when == "complete" else [range(8, 10)])
    assert not entry.complete
    np.testing.assert_array_equal(filled(entry).read(), VALUES)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("x")
    entry = FeatureStore(tmp_path / "file" / "store").entry(KEY)
    with pytest.raises(OutputError, match=r"feature store .* cannot be written") as caught:
        entry.begin(10, (3, 4), "float32", 4)
    assert "--out" not in str(caught.value)


# --------------------------------------------------------------------------- files, lists, removal


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
@pytest.mark.parametrize(
    ("umask", "folder", "file"), [(0o027, 0o750, 0o640), (0o002, 0o775, 0o664)]
)
def test_files_are_under_the_users_umask(tmp_path, umask, folder, file):
    before = os.umask(umask)
    try:
        store = FeatureStore(tmp_path / "store")
        filled(store.entry(KEY))
        filled(store.entry({"unfinished": 1}), finish=False)
    finally:
        os.umask(before)
    paths = [store.folder, *store.folder.rglob("*")]
    assert len(paths) > 15
    for path in paths:
        assert path.stat().st_mode & 0o777 == (folder if path.is_dir() else file), path


def test_a_complete_entry_needs_no_writing(tmp_path):
    entry = filled(FeatureStore(tmp_path).entry(KEY))
    (entry.folder / "lock").unlink()
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = FeatureStore(tmp_path).entry(KEY)
    again.begin(10, (3, 4), "float32", 4)
    assert again.missing() == []
    again.read()
    again.verify()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_entries_are_listed_with_their_keys_and_sizes(tmp_path):
    store = FeatureStore(tmp_path)
    assert store.entries() == []
    done = filled(store.entry(KEY))
    begun = store.entry({"other": 1})
    begun.begin(10**6, (1000,), "float32", 1000)
    found = {entry.address: entry for entry in store.entries()}
    assert set(found) == {done.address, begun.address}
    assert found[done.address].key == KEY
    assert found[done.address].complete
    assert not found[begun.address].complete
    # Sparse until it is written; small files take a block each.
    assert VALUES.nbytes < done.size_bytes < 10**5
    assert begun.size_bytes < 10**5


def test_an_entry_is_removed_and_what_was_mapped_stays_readable(tmp_path):
    store = FeatureStore(tmp_path)
    entry, other = filled(store.entry(KEY)), filled(store.entry({"other": 1}))
    mapped = entry.read()
    store.remove(entry)
    assert [found.address for found in store.entries()] == [other.address]
    assert not entry.complete
    np.testing.assert_array_equal(mapped, VALUES)
    assert list(entry.folder.parent.iterdir()) == []
    store.remove(other.address)
    assert store.entries() == []
    with pytest.raises(UnknownNameError, match="entry of the feature store"):
        store.remove(other)


def test_a_damaged_key_is_named(tmp_path):
    store = FeatureStore(tmp_path)
    entry = filled(store.entry(KEY))
    (entry.folder / "key.json").write_text("{")
    with pytest.raises(CorruptFileError, match="delete the folder"):
        store.entries()


def test_a_store_is_opened_by_path_or_by_default(tmp_path, monkeypatch):
    store = FeatureStore(tmp_path)
    assert open_store(store) is store
    assert open_store(str(tmp_path)).folder == tmp_path
    monkeypatch.setenv("BRAINKIT_STORE", str(tmp_path / "mine"))
    assert open_store("default").folder == default_store().folder == tmp_path / "mine"
    monkeypatch.delenv("BRAINKIT_STORE")
    assert default_store().folder == Path.home() / ".cache" / "brainkit" / "features"
