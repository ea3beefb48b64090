"""Stimuli by row, in any order and with repeats, from arrays, HDF5 and image files."""

import h5py
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from brainkit import Stimuli
from brainkit.data.stimuli import HDF5Stimuli
from brainkit.errors import CorruptFileError, InputError, MissingFileError

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 4, 5, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def kinds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stimuli")
    with h5py.File(folder / "x.hdf5", "w") as file:
        file["imgBrick"] = IMAGES
    mapped = np.lib.format.open_memmap(folder / "x.npy", "w+", np.uint8, IMAGES.shape)
    mapped[:] = IMAGES
    paths = []
    for number, image in enumerate(IMAGES):
        paths.append(folder / f"photo-{number}.png")
        Image.fromarray(image).save(paths[-1])
    return [
        Stimuli(IMAGES),
        Stimuli(mapped),
        Stimuli(HDF5Stimuli.open(folder / "x.hdf5", "imgBrick")),
        Stimuli.from_files(paths),
    ]


@given(rows=st.none() | st.lists(st.integers(0, 8), min_size=1, max_size=12))
def test_rows_in_the_order_asked_for(kinds, rows):
    for stimuli in kinds:
        got = stimuli.read(rows)
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, IMAGES if rows is None else IMAGES[rows])


def test_reading_gives_the_callers_own(kinds):
    for stimuli in kinds:
        stimuli.read()[:] = 0
        stimuli.read([3])[:] = 0
        np.testing.assert_array_equal(stimuli.read(), IMAGES)
        assert len(stimuli.read([])) == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([9], "out of range: 9; there are 9"),
        ([0, -1], "out of range: -1"),
        ([0.0], "list of integers"),
        ([True], "list of integers"),
        (3, "list of integers"),
        ([[1]], "list of integers"),
    ],
)
def test_rows_that_do_not_exist(kinds, rows, message):
    for stimuli in kinds:
        with pytest.raises(InputError, match=message):
            stimuli.read(rows)


def test_names(kinds):
    assert kinds[0].ids.tolist() == list(range(9))
    assert kinds[3].ids[2] == "photo-2.png"
    assert repr(kinds[0]) == "Stimuli(9 of kind 'image')"
    for ids in ([1, 2], [1] * 9):
        with pytest.raises(InputError, match="each of the 9 stimuli once"):
            Stimuli(IMAGES, ids=ids)
    with pytest.raises(InputError, match="table must have 9 rows"):
        Stimuli(IMAGES, table=pd.DataFrame({"a": [1]}))


def test_a_table_is_read_once_when_it_is_asked_for():
    asked = []

    def table():
        asked.append(1)
        return pd.DataFrame({"category": list("abcdefghi")})

    stimuli = Stimuli(IMAGES, table=table)
    stimuli.read([0])
    assert not asked
    assert stimuli.table["category"][2] == "c"
    assert stimuli.table is stimuli.table
    assert len(asked) == 1
    short = Stimuli(IMAGES, table=lambda: pd.DataFrame({"a": [1]}))
    with pytest.raises(InputError, match="table must have 9 rows"):
        _ = short.table


def test_bad_files(tmp_path):
    with pytest.raises(MissingFileError, match=r"none\.hdf5"):
        HDF5Stimuli.open(tmp_path / "none.hdf5", "imgBrick")
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        file["other"] = IMAGES
    with pytest.raises(CorruptFileError, match="imgBrick"):
        HDF5Stimuli.open(path, "imgBrick")
    with h5py.File(path, "w") as file:
        file["imgBrick"] = IMAGES
    stimuli = Stimuli(HDF5Stimuli.open(path, "imgBrick"))
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CorruptFileError, match=r"x\.hdf5"):
        stimuli.read([0])
    paths = [tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png"]
    Image.fromarray(IMAGES[0]).save(paths[0])
    Image.fromarray(IMAGES[0][:3]).save(paths[1])
    files = Stimuli.from_files(paths)
    with pytest.raises(InputError, match="several sizes"):
        files.read([0, 1])
    with pytest.raises(MissingFileError, match=r"c\.png"):
        files.read([2])
    paths[2].write_bytes(b"no image")
    with pytest.raises(CorruptFileError, match=r"c\.png"):
        files.read([2])


def test_chosen_stimuli_are_read_when_asked_for():
    reads = []

    class Counted:
        def __len__(self):
            return 6

        def read(self, rows):
            reads.append(rows.tolist())
            return np.arange(6)[rows, None, None] * np.ones((1, 2, 2))

    table = pd.DataFrame({"caption": list("abcdef")})
    stimuli = Stimuli(Counted(), ids=list("uvwxyz"), table=table)
    chosen = stimuli.select([4, 1, 3])
    assert reads == []
    assert len(chosen) == 3
    assert chosen.ids.tolist() == ["y", "v", "x"]
    assert chosen.table["caption"].tolist() == ["e", "b", "d"]
    assert chosen.read([2, 0])[:, 0, 0].tolist() == [3.0, 4.0]
    assert reads == [[3, 4]]
    assert chosen.select([1]).read()[0, 0, 0] == 1.0
    assert Stimuli(np.zeros((3, 2, 2))).select([1]).table is None


@pytest.mark.parametrize("rows", [[6], [-1], [0.5], [[1]], [2, 2]])
def test_rows_that_cannot_be_chosen_are_refused(rows):
    with pytest.raises(InputError):
        Stimuli(np.zeros((6, 2, 2))).select(rows)
