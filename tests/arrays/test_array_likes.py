"""What becomes an array, and what is refused by the name of the argument."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from brainkit.arrays.array_likes import as_array, as_items, unmasked
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
