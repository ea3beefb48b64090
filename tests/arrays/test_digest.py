"""A digest is the same for the same content and differs where anything in it does."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from brainkit.arrays import digest
from brainkit.arrays.digest import LENGTH, content_digest
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError

LONG = np.arange(5000) % 7


@dataclass(frozen=True)
class Two:
    first: object
    second: object


@dataclass(frozen=True)
class Other:
    first: object
    second: object


DIFFERENT = {
    "numbers": (1, 2),
    "one and its text": (1, "1"),
    "true and one": (True, 1),
    "nothing and its text": (None, "None"),
    "text and bytes": ("a", b"a"),
    "signs of zero": (0.0, -0.0),
    "where one ends": (["ab", "c"], ["a", "bc"]),
    "how deep": ([1, [2, 3]], [[1, 2], 3]),
    "order of a list": ([1, 2], [2, 1]),
    "order of a mapping": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "one value of a long array": (LONG, np.where(np.arange(5000) == 2500, 9, LONG)),
    "rows of an array": (LONG.reshape(50, 100), LONG.reshape(50, 100)[::-1]),
    "shapes": (LONG.reshape(50, 100), LONG.reshape(100, 50)),
    "types": (LONG, LONG.astype(np.int32)),
    "labels of a long column": (
        pd.Series([f"{n}" for n in LONG]), pd.Series([f"{n}" for n in LONG[::-1]]),
    ),
    "index of a column": (pd.Series([1, 2]), pd.Series([1, 2], index=[1, 0])),
    "names of a table's columns": (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
    "objects of an array": (np.array(["a", None], object), np.array(["a", "None"], object)),
    "tensors": (torch.arange(3), torch.arange(3).flip(0)),
    "parameters of an estimator": (VoxelwiseRidge(cv=4), VoxelwiseRidge(cv=5)),
    "fields": (Two(1, 2), Two(2, 1)),
    "classes": (Two(1, 2), Other(1, 2)),
}  # fmt: skip


@pytest.mark.parametrize("case", DIFFERENT)
def test_what_differs_has_another_digest(case):
    one, other = DIFFERENT[case]
    assert content_digest(one) == content_digest(one)
    assert content_digest(one) != content_digest(other)
    assert content_digest([one]) != content_digest(one)
    assert len(content_digest(one)) == LENGTH


def test_what_is_the_same_has_the_same_digest(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", LONG.reshape(50, 100))
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    whole = content_digest(LONG.reshape(50, 100))
    assert content_digest(mapped) == whole
    assert content_digest(np.asfortranarray(LONG.reshape(50, 100))) == whole
    monkeypatch.setattr(digest, "CHUNK", 999)
    assert content_digest(mapped) == whole
    assert content_digest((1, 2)) == content_digest([np.int64(1), np.int32(2)])
    assert content_digest({3, 1, 2}) == content_digest({2, 3, 1})
    assert content_digest(tmp_path) == content_digest(str(tmp_path))
    assert content_digest(torch.arange(3)) == content_digest(np.arange(3))
    assert content_digest(torch.ones(2, dtype=torch.bfloat16)) == content_digest(
        np.ones(2, np.float32)
    )


def test_what_was_fitted_counts():
    X = np.random.default_rng(0).normal(size=(20, 3))
    model = VoxelwiseRidge(alphas=[1.0]).fit(X, X[:, :1])
    other = VoxelwiseRidge(alphas=[1.0]).fit(X[::-1], X[:, :1])
    assert content_digest(model) != content_digest(other)
    assert content_digest(model) != content_digest(VoxelwiseRidge(alphas=[1.0]))


@given(arrays(np.float32, (6, 4), unique=True, elements=st.floats(-9, 9, width=32)), st.data())
def test_any_exchange_of_rows_shows(values, data):
    order = data.draw(st.permutations(range(6)))
    same = content_digest(values) == content_digest(values[list(order)])
    assert same == (order == sorted(order))


def test_what_cannot_be_told_is_refused():
    with pytest.raises(InputError, match=r"What a builtins\.function holds cannot be told"):
        content_digest({"loss": lambda x: x})
