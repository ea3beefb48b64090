"""Text is text, by every door: bytes are decoded or refused, nothing becomes a word."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from brainkit.data.stimuli import HDF5Stimuli, Stimuli
from brainkit.data.text import as_texts, is_missing, text_columns
from brainkit.errors import InputError
from brainkit.features import CaptionLayer, extract, open_backbone, read_for

MODEL = "open_clip-text:tiny"
TEXTS = ["a red house on a beach", "ein Häuschen", "two cups"]
IMAGES = np.zeros((3, 8, 8, 3), np.uint8)

Door = Callable[[Any], Any]


@cache
def model() -> Any:
    return open_backbone(MODEL)


@cache
def layer() -> CaptionLayer:
    return CaptionLayer(MODEL)


DOORS: dict[str, Door] = {
    "extract": lambda texts: extract(model(), texts),
    "captions": lambda texts: extract(model(), Stimuli(texts, kind="caption")),
    "selected captions": lambda texts: extract(
        MODEL, Stimuli(texts, kind="caption").select(np.arange(len(texts)))
    ),
    "backbone": lambda texts: model().run(model().prepare(texts), ["embedding"])["embedding"],
    "caption layer": lambda texts: layer().transform(texts),
    "caption layer of captions": lambda texts: _layer(Stimuli(texts, kind="caption")),
    "column caption": lambda texts: _layer(
        Stimuli(IMAGES, table=pd.DataFrame({"caption": pd.Series(list(texts), dtype=object)}))
    ),
    "column captions": lambda texts: _layer(
        Stimuli(IMAGES, table=pd.DataFrame({"captions": [[text] for text in texts]}))
    ),
    "a table that is asked for": lambda texts: _layer(
        Stimuli(IMAGES, table=lambda: pd.DataFrame({"captions": [[text] for text in texts]}))
    ),
}


def _layer(stimuli: Stimuli) -> np.ndarray:
    return layer().transform(read_for(layer(), stimuli, np.arange(len(stimuli))))


def in_hdf5(folder: Path, texts: list[Any], dtype: Any) -> HDF5Stimuli:
    with h5py.File(folder / "x.h5", "w") as file:
        file.create_dataset("captions", data=[text.encode() for text in texts], dtype=dtype)
    return HDF5Stimuli.open(folder / "x.h5", "captions")


@pytest.fixture(scope="module")
def expected() -> np.ndarray:
    return extract(model(), TEXTS)


@pytest.mark.parametrize("door", DOORS)
def test_bytes_are_decoded_by_every_door(door: str, expected: np.ndarray) -> None:
    encoded = [text.encode() for text in TEXTS]
    forms: list[Any] = [TEXTS, np.array(TEXTS), encoded, np.array(encoded)]
    forms += [np.array(TEXTS, object), np.array(encoded, object), [np.str_(t) for t in TEXTS]]
    for form in forms:
        np.testing.assert_allclose(DOORS[door](form), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [h5py.string_dtype(), h5py.string_dtype(length=40)])
def test_strings_in_hdf5_are_text(dtype: Any, tmp_path: Path, expected: np.ndarray) -> None:
    stimuli = Stimuli(in_hdf5(tmp_path, TEXTS, dtype), kind="caption")
    assert stimuli.read().tolist() == TEXTS
    assert stimuli.select([2, 0]).read([1, 1]).tolist() == TEXTS[:1] * 2
    np.testing.assert_allclose(extract(model(), stimuli), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(_layer(stimuli), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    "wrong", [None, np.nan, pd.NA, "Häuschen".encode("latin-1"), 3, 2.5, "\ud800"]
)
def test_what_is_no_text_is_refused_by_every_door(door: str, wrong: Any) -> None:
    for texts in ([TEXTS[0], wrong, TEXTS[2]], np.array([TEXTS[0], wrong, TEXTS[2]], object)):
        with pytest.raises(InputError, match=r"1"):
            DOORS[door](texts)


def test_all_faults_are_named() -> None:
    values = ["a", None, 3, np.nan, b"\xff", "b", b"c"]
    message = (
        r"Texts are strings, or bytes in UTF-8; got nothing \(None or NaN\) in rows 1, 3, int in "
        r"rows 2, bytes that are no UTF-8 in rows 4\."
    )
    with pytest.raises(InputError, match=message):
        as_texts(values)
    with pytest.raises(InputError, match=r"nothing \(None or NaN\) in stimuli x, z"):
        Stimuli(np.array([None, "b", np.nan], object), ids=["x", "y", "z"], kind="caption").read()


def test_captions_of_several_a_stimulus_keep_their_shape() -> None:
    pairs = np.array([["a", "b"], ["c", "d"]])
    stimuli = Stimuli(pairs.astype("S"), kind="caption")
    np.testing.assert_array_equal(stimuli.read([1]), pairs[1:])
    assert read_for(layer(), stimuli, [0, 1]).tolist() == ["a\nb", "c\nd"]
    with pytest.raises(InputError, match=r"a string for each stimulus, an array \(n,\)"):
        extract(model(), pairs)


def test_tables_are_text_too() -> None:
    table = pd.DataFrame(
        {
            "category": np.array([b"face", None, "Häuser".encode()], object),
            "caption": np.array([b"a face", np.nan, "b"], object),
            "captions": [[b"a face", None], [], ["b"]],
            "size": [1, 2, 3],
            "fixed": np.array([b"a", b"b", b"c"]).astype(object),
            "grouped": pd.Categorical([b"a", b"b", b"a"]),
        }
    )
    before = table.copy(deep=True)
    stimuli = Stimuli(IMAGES, table=table)
    pd.testing.assert_frame_equal(table, before)
    assert stimuli.table is not None
    assert [None if is_missing(x) else x for x in stimuli.table["category"]] == [
        "face", None, "Häuser",
    ]  # fmt: skip
    assert [None if is_missing(x) else x for x in stimuli.table["caption"]] == ["a face", None, "b"]
    assert stimuli.table["captions"].tolist() == [["a face"], [], ["b"]]
    assert stimuli.table["fixed"].tolist() == ["a", "b", "c"]
    assert stimuli.table["grouped"].tolist() == ["a", "b", "a"]
    plain = pd.DataFrame({"category": ["a", "b", None], "size": [1.0, 2.0, np.nan]})
    assert text_columns(plain) is plain


@pytest.mark.parametrize(
    ("column", "value"),
    [("category", b"\xff"), ("caption", 3.0), ("captions", [["a"], 3]), ("note", b"\xff")],
)
def test_tables_with_what_is_no_text_are_refused(column: str, value: Any) -> None:
    values = value if isinstance(value, list) else ["a", value]
    table = pd.DataFrame({column: pd.Series(values, dtype=object)})
    with pytest.raises(InputError, match=f"column {column!r} holds text; got .* in stimuli 1"):
        Stimuli(IMAGES[:2], table=table)
    with pytest.raises(InputError, match=f"column {column!r} holds text"):
        _ = Stimuli(IMAGES[:2], table=lambda: table).table


def test_ids_are_text_and_never_missing() -> None:
    assert Stimuli(IMAGES, ids=[b"a", b"b", "ä".encode()]).ids.tolist() == ["a", "b", "ä"]
    assert Stimuli(IMAGES, ids=np.array([b"a", b"b", b"c"])).ids.tolist() == ["a", "b", "c"]
    for ids in ([None, "a", "b"], [1.0, 2.0, np.nan]):
        with pytest.raises(InputError, match="some are missing"):
            Stimuli(IMAGES, ids=ids)
    with pytest.raises(InputError, match=r"2 of them different. More than once: a\."):
        Stimuli(IMAGES, ids=["a", "a", "b"])


def test_ids_under_a_mask_are_no_ids() -> None:
    with pytest.raises(InputError, match="The array of ids is a masked array with 1 of 3"):
        Stimuli(IMAGES, ids=np.ma.masked_array([1, 2, 3], mask=[0, 0, 1]))
