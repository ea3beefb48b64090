"""Stimuli by row, in any order and with repeats, from arrays, HDF5 and image files."""

from pathlib import Path

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
from brainkit.features import extract

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


def paint(*paths: Path) -> None:
    """Write a picture at each place, each another one."""
    for number, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(IMAGES[number]).save(path)


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A folder of categories whose files have the same names."""
    folder = tmp_path / "objects"
    paint(*(folder / place for place in ("faces/2.png", "faces/10.JPG", "houses/2.png")))
    return folder


def test_a_folder_of_categories(objects: Path) -> None:
    for folders in (objects, str(objects), [objects], [objects / "houses", objects / "faces"]):
        stimuli = Stimuli.from_files(folders)
        swapped = isinstance(folders, list) and len(folders) == 2
        order = [2, 0, 1] if swapped else [0, 1, 2]
        names = np.array(["faces/10.JPG", "faces/2.png", "houses/2.png"])
        assert stimuli.ids.tolist() == names[order].tolist()
        assert stimuli.table["category"].tolist() == [name.split("/")[0] for name in names[order]]
        np.testing.assert_array_equal(stimuli.read([order.index(2)]), IMAGES[2:3])
    assert stimuli.select([1]).table["category"].tolist() == ["faces"]


def test_a_list_of_files_is_named_from_their_common_folder(
    objects: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [objects / "houses/2.png", objects / "faces/2.png"]
    stimuli = Stimuli.from_files(files)
    assert stimuli.ids.tolist() == ["houses/2.png", "faces/2.png"]
    assert stimuli.table is None
    np.testing.assert_array_equal(stimuli.read(), IMAGES[[2, 0]])
    assert Stimuli.from_files(files[:1]).ids.tolist() == ["2.png"]
    assert Stimuli.from_files(files[0]).ids.tolist() == ["2.png"]
    assert Stimuli.from_files(path for path in files).ids.tolist() == stimuli.ids.tolist()
    monkeypatch.chdir(objects)
    for names in (["houses/2.png", "faces/2.png"], ["./houses/2.png", "faces/../faces/2.png"]):
        assert Stimuli.from_files(names).ids.tolist() == stimuli.ids.tolist()
    monkeypatch.chdir(objects.parent)
    assert Stimuli.from_files("objects").ids.tolist()[0] == "faces/10.JPG"


def test_ids_and_tables_of_ones_own(objects: Path) -> None:
    table = pd.DataFrame({"caption": list("abc")})
    stimuli = Stimuli.from_files(objects, ids=[7, 8, 9], table=table)
    assert stimuli.ids.tolist() == [7, 8, 9]
    assert list(stimuli.table) == ["caption"]
    with pytest.raises(InputError, match="ids must name each of the 3 stimuli once; got 2"):
        Stimuli.from_files(objects, ids=[1, 2])
    files = [objects / "faces/2.png"] * 2
    with pytest.raises(InputError, match=r"once; got 2 ids, 1 .* More than once: 2\.png"):
        Stimuli.from_files(files)
    np.testing.assert_array_equal(Stimuli.from_files(files, ids=[0, 1]).read(), IMAGES[[0, 0]])


def test_what_else_lies_in_a_folder(objects: Path) -> None:
    paint(objects / ".hidden.png", objects / ".cache" / "x.png", objects / "faces/._2.png")
    (objects / "top").mkdir()
    assert len(Stimuli.from_files(objects)) == 3
    paint(objects / "alone.png", objects / "houses/old/2.png")
    stimuli = Stimuli.from_files(objects)
    assert stimuli.ids.tolist() == [
        "alone.png", "faces/10.JPG", "faces/2.png", "houses/2.png", "houses/old/2.png",
    ]  # fmt: skip
    categories = stimuli.table["category"]
    assert categories.isna().tolist() == [True, False, False, False, False]
    assert categories[4] == "houses"
    (objects / "README.txt").write_text("what they are")
    (objects / "faces" / "Thumbs.db").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"2 files under .* no images by .*README\.txt") as caught:
        assert len(Stimuli.from_files(objects)) == 5
    assert caught[0].filename == __file__
    (objects / "people").symlink_to(objects / "faces")
    (objects / "faces" / "round").symlink_to(objects)
    with pytest.warns(UserWarning, match="no images"):
        linked = Stimuli.from_files(objects)
    assert [name for name in linked.ids if name.startswith("people")] == [
        "people/10.JPG", "people/2.png",
    ]  # fmt: skip


def test_flat_folders_have_no_categories(tmp_path: Path) -> None:
    paint(tmp_path / "b.png", tmp_path / "a.png")
    stimuli = Stimuli.from_files(tmp_path)
    assert stimuli.ids.tolist() == ["a.png", "b.png"]
    assert stimuli.table is None
    np.testing.assert_array_equal(stimuli.read(), IMAGES[[1, 0]])


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    for empty in ([], (), iter([])):
        with pytest.raises(InputError, match="no image files: the list of paths is empty"):
            Stimuli.from_files(empty)
    with pytest.raises(InputError, match="holds no images"):
        Stimuli.from_files(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"holds no images; it holds 1 other files: a\.txt"):
        Stimuli.from_files([tmp_path])
    with pytest.raises(MissingFileError, match="neither a file nor a folder"):
        Stimuli.from_files(tmp_path / "none")


def test_features_of_a_folder_are_those_of_its_files(objects: Path) -> None:
    paths = [objects / name for name in ("faces/10.JPG", "faces/2.png", "houses/2.png")]
    np.testing.assert_array_equal(
        extract("builtin:oriented-energy", Stimuli.from_files(objects)),
        extract("builtin:oriented-energy", paths),
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("faces", r"got 'faces'. .*Stimuli\.from_files"),
        (Path("faces"), r"Stimuli\.from_files"),
        (b"faces", "an array or a sequence"),
        (None, "even of one; got None"),
        (5, "even of one; got 5"),
        (np.float64(5), r"\(stimuli, \.\.\.\)"),
        (np.array(5), r"\(stimuli, \.\.\.\)"),
        ({"a": IMAGES[0]}, "got a dict"),
        ({1, 2}, "got a set"),
        (pd.DataFrame({"path": ["x"]}), r"table\['path'\]"),
        ([np.zeros((2, 2)), np.zeros((3, 3))], "rows of equal lengths"),
        (np.ma.masked_array(IMAGES, mask=IMAGES > 200), "masked array"),
        (["a.png", ""], "'' in row 1"),
    ],
)
def test_what_is_no_set_of_stimuli(source, message):
    with pytest.raises(InputError, match=message):
        Stimuli(source)


@pytest.mark.parametrize("kind", ["captions", "Image", "", None, 5])
def test_kinds_that_are_none(kind):
    with pytest.raises(InputError, match=r"Unknown kind of stimuli .* image, caption"):
        Stimuli(IMAGES, kind=kind)


@pytest.mark.parametrize(
    ("ids", "index"),
    [(["a", "b", "c"], ["c", "a", "b"]), ([7, 8, 9], [9, 7, 8]), (None, [2, 0, 1])],
)
def test_a_table_by_ids_belongs_to_them_in_any_order(ids, index):
    table = pd.DataFrame({"category": ["C", "A", "B"]}, index=index)
    for form in (table, lambda: table):
        stimuli = Stimuli(IMAGES[:3], ids=ids, table=form)
        assert stimuli.table["category"].tolist() == ["A", "B", "C"]
        chosen = stimuli.select([2, 0])
        assert chosen.table["category"].tolist() == ["C", "A"]
        assert chosen.select([1, 0]).table["category"].tolist() == ["A", "C"]
    assert table["category"].tolist() == ["C", "A", "B"]


def test_a_table_that_counts_its_rows_is_in_the_order_of_the_stimuli():
    table = pd.DataFrame({"category": ["A", "B", "C"]})
    assert Stimuli(IMAGES[:3], ids=[2, 0, 1], table=table).table["category"].tolist() == [
        "A", "B", "C",
    ]  # fmt: skip
    other = table.set_index(pd.Index(["x", "y", "z"]))
    assert Stimuli(IMAGES[:3], table=other).table["category"].tolist() == ["A", "B", "C"]


@pytest.mark.parametrize("table", [["a"] * 9, {"a": list("abcdefghi")}, pd.Series(["a"] * 9), 5])
def test_a_table_is_a_table(table):
    with pytest.raises(InputError, match="table must be a DataFrame"):
        Stimuli(IMAGES, table=table)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ("", "'' in row 0. The working folder is"),
        ([""], "'' in row 0"),
        (b"", "b'' in row 0"),
        (["a.png", None, np.nan], "2 of 3 paths .* None in row 1, nan in row 2"),
        (pd.Series(["a.png", None]), "(None|nan) in row 1"),
        (None, "got None"),
        (5, "got 5"),
        ({"a": "a.png"}, "got a dict"),
        ({"a.png"}, "got a set"),
        (pd.DataFrame({"path": ["a.png"]}), "got a DataFrame"),
    ],
)
def test_paths_that_name_nothing(paths, message, tmp_path, monkeypatch):
    Image.fromarray(IMAGES[0]).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        Stimuli.from_files(paths)
    assert Stimuli.from_files(".").ids.tolist() == ["a.png"]
    assert Stimuli.from_files([b"a.png"]).ids.tolist() == ["a.png"]
    with pytest.raises(MissingFileError):
        Stimuli.from_files(["a\0b.png"]).read()
    assert Stimuli.from_files(b".").ids.tolist() == ["a.png"]
