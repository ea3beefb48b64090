"""What becomes an array, and what is refused by the name of the argument.

Masks, labels and counts: whole numbers with noise are those numbers, all else is refused.
"""

import warnings
from fractions import Fraction

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from brainkit.arrays.array_likes import (
    as_array,
    as_items,
    inside,
    unmasked,
    whole_number,
    whole_numbers,
)
from brainkit.arrays.volumes import read_labels
from brainkit.errors import InputError

VALUES = [[1.0, 2.0], [3.0, 4.0]]
NULLABLE = pd.DataFrame(VALUES, columns=["a", "b"]).astype("Float64")


@pytest.mark.parametrize(
    "form",
    [
        VALUES,
        np.array(VALUES),
        pd.DataFrame(VALUES),
        NULLABLE,
        NULLABLE.assign(b=pd.array([2, 4], "Int64")),
        torch.tensor(VALUES, requires_grad=True),
        torch.tensor(VALUES, dtype=torch.bfloat16),
        np.ma.masked_array(VALUES, mask=False),
    ],
)
def test_forms_of_one_array(form):
    array = as_array(form, "X")
    assert type(array) is np.ndarray
    assert array.dtype.kind == "f"
    assert array.tolist() == VALUES


def test_what_is_missing_in_a_nullable_column_is_nan():
    array = as_array(NULLABLE.assign(b=pd.array([2, None], "Int64")), "X")
    assert array[0].tolist() == [1, 2]
    assert np.isnan(array).tolist() == [[False, False], [False, True]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ma.masked_array(VALUES, mask=[[0, 1], [0, 0]]), "X is a masked array with 1 of 4"),
        (sparse.csr_array(np.eye(2)), "X is a sparse array"),
        ({"a": VALUES}, "X must be an array; got a dict"),
        ({1, 2}, "got a set"),
        (None, "got None"),
        ("text", "got 'text'"),
        (np.ndarray, "X is the class ndarray"),
        ([[1.0], [2.0, 3.0]], "X must be an array, rows of equal lengths"),
        ((value for value in VALUES), "got a generator"),
    ],
)
def test_what_is_no_array(values, message):
    with pytest.raises(InputError, match=message):
        as_array(values, "X")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (pd.DataFrame({"caption": ["x"]}), r"Texts must .* a DataFrame.*table\['caption'\]"),
        ({"x": "a"}, r"got a dict: .*d\.values\(\)"),
        ({"x", "y"}, "got a set: give a list"),
        (frozenset("xy"), "got a frozenset"),
        ({"x": 1}.keys(), "got a dict_keys"),
        ("x", "even of one; got 'x'"),
        (5, "even of one; got 5"),
        (iter("x"), "even of one"),
    ],
)
def test_what_is_no_sequence(values, message):
    with pytest.raises(InputError, match=message):
        as_items(values, "Texts")


def test_masks_that_hide_nothing():
    plain = unmasked(np.ma.masked_array([1, 2], mask=[0, 0]), "X")
    assert type(plain) is np.ndarray
    assert plain.tolist() == [1, 2]


@given(
    labels=st.lists(st.integers(-3, 2000), min_size=1, max_size=30),
    noise=st.floats(-9e-4, 9e-4),
    share=st.floats(0, 1),
)
def test_noise_changes_no_label_and_is_counted(labels, noise, share):
    exact = np.array(labels, dtype=float)
    noisy = exact.copy()
    noisy[: round(share * len(labels))] += noise
    changed = int((noisy != exact).sum())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if not (exact.any() or abs(noisy).max() < 1e-7):
            with pytest.raises(InputError, match="rounds to 0 like all the others"):
                whole_numbers(noisy, "The labels")
            return
        found = whole_numbers(noisy, "The labels")
    assert found.dtype == np.int64
    assert found.tolist() == labels
    assert len(caught) == (changed > 0)
    if changed:
        text = str(caught[0].message)
        assert text.startswith(f"The labels: {changed} of {len(labels)} values were rounded")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16])
@pytest.mark.parametrize("value", [0.5, 0.25, 1.01, 2.99, -0.3, np.inf, -np.inf])
def test_what_is_not_nearly_whole_is_refused_with_its_values(dtype, value):
    values = np.array([0, 1, 3, value], dtype=dtype)
    shown = f"{np.float64(dtype(value)):.6g}"
    with pytest.raises(InputError, match=rf"1 of its 4 values are none: {shown}"):
        whole_numbers(values, "The mask")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array(["1", "0"]), "<U1"),
        (np.array([1 + 0j]), "complex"),
        (np.array([None, 1.0], dtype=object), "object"),
        (np.array([1e300]), r"1e\+300"),
        (np.array([0.0, 4e-4]), "its largest value is 0.0004, which rounds to 0"),
    ],
)
def test_what_holds_no_labels(values, message):
    with pytest.raises(InputError, match=message):
        whole_numbers(values, "The mask")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([True, False], [1, 0]),
        (np.array([3, 255], dtype=np.uint8), [3, 255]),
        (np.array([2.0, np.nan, -1.0]), [2, 0, -1]),
        (np.array([1, 2.0, True], dtype=object), [1, 2, 1]),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (3.0, 3),
    ],
)
def test_exact_values_say_nothing(values, expected):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(whole_numbers(values, "x"), expected)


@pytest.mark.parametrize("highest", [1, 7, 180, 1000, 4000, 12_175])
@pytest.mark.parametrize("dtype", [np.int16, np.uint8])
@pytest.mark.parametrize("as_file", [True, False])
def test_labels_stored_as_scaled_integers(tmp_path, highest, dtype, as_file):
    """Real labels that nibabel scaled to fit: 1.00003, and up to half a step from each label.

    Where the step is as large as the distance of two labels they cannot be told apart; without the
    file only what int16 leaves is known to be harmless.
    """
    labels = np.linspace(0, highest, 27).round().reshape(3, 3, 3)
    labels[0, 0, :2] = 0, 1
    image = nibabel.Nifti1Image(labels, np.eye(4))
    image.header.set_data_dtype(dtype)
    nibabel.save(image, tmp_path / "labels.nii.gz")
    stored = nibabel.load(tmp_path / "labels.nii.gz")
    step = stored.dataobj.slope
    off = np.abs(stored.get_fdata() - labels).max()
    assert 0 < off < step
    recoverable = off < 0.25 if as_file or dtype is np.int16 else off < 1e-3

    def read():
        if as_file:
            return read_labels(tmp_path / "labels.nii.gz", "The atlas")[0]
        return whole_numbers(stored.get_fdata(), "The atlas")

    if recoverable:
        with pytest.warns(UserWarning, match="The atlas.* were rounded to whole numbers"):
            np.testing.assert_array_equal(read(), labels)
    else:
        with pytest.raises(InputError, match=r"The atlas.* must hold whole numbers"):
            read()


def test_a_mask_with_a_background_of_noise():
    mask = np.full((12, 12, 12), 7e-15)
    mask[3:7, 3:7, 3:7] = 1
    with pytest.warns(UserWarning, match=r"1,664 of 1,728 values were rounded .* 7e-15 at most"):
        found = inside(mask, "The mask")
    np.testing.assert_array_equal(found, mask == 1)
    assert not inside(np.full(5, np.nan), "The mask").any()


@pytest.mark.parametrize("value", [30, np.int64(30), np.uint8(30), np.array(30)])
def test_a_whole_number(value):
    found = whole_number(value, "sessions")
    assert (found, type(found)) == (30, int)


@pytest.mark.parametrize(
    "value",
    [True, np.True_, 30.0, np.float32(30), "30", b"30", None, [30], np.array([30.0]), Fraction(30)],
    ids=repr,
)
def test_what_counts_nothing(value):
    with pytest.raises(InputError, match="sessions must be a whole number; got"):
        whole_number(value, "sessions")
