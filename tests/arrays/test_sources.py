"""Any chain of lazy sources equals the same steps in numpy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit.arrays.sources import Averaged, Kept, Memory, Source, Stacked, Standardised, View
from brainkit.errors import InputError


class Counting(Source):
    """Counts what is read through it."""

    def __init__(self, array):
        self.inner, self.shape, self.calls = Memory(array), array.shape, []

    def read(self, rows=None, columns=None):
        self.calls.append((rows, columns))
        return self.inner.read(rows, columns)


def indices(size, allow_none=True):
    chosen = st.lists(st.integers(0, size - 1), max_size=2 * size).map(
        lambda values: np.array(values, dtype=np.int64)
    )
    return st.none() | chosen if allow_none else chosen


def taken(array, rows, columns):
    rows = np.arange(array.shape[0]) if rows is None else rows
    columns = np.arange(array.shape[1]) if columns is None else columns
    return array[rows][:, columns]


def check(source, expected, data):
    assert source.shape == expected.shape
    rows = data.draw(indices(expected.shape[0])) if expected.shape[0] else None
    columns = data.draw(indices(expected.shape[1])) if expected.shape[1] else None
    got = source.read(rows, columns)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, taken(expected, rows, columns), rtol=1e-5, atol=1e-5)


@given(st.data())
def test_any_chain_equals_numpy(data):
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    inner = data.draw(st.sampled_from([(), (3,)]))
    shapes = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    width = data.draw(st.integers(1, 4))
    arrays = [generator.normal(size=(length, width, *inner)) for length in shapes]
    source, expected = Stacked([Memory(array) for array in arrays]), np.concatenate(arrays)
    steps = data.draw(st.lists(st.sampled_from(["view", "average", "standardise"]), max_size=4))
    for step in steps:
        if 0 in expected.shape:
            break
        if step == "view":
            rows = data.draw(indices(expected.shape[0]))
            columns = data.draw(indices(expected.shape[1]))
            source, expected = View(source, rows, columns), taken(expected, rows, columns)
        elif step == "average":
            groups = data.draw(
                st.lists(indices(len(expected), False).filter(len), min_size=1, max_size=3)
            )
            source = Averaged(source, groups)
            expected = np.stack([expected[group].mean(axis=0) for group in groups])
        else:
            group = generator.integers(0, 2, len(expected))
            shift = generator.normal(size=(2, *expected.shape[1:])).astype(np.float32)
            scale = generator.uniform(0.5, 2, shift.shape).astype(np.float32)
            source = Standardised(source, group, shift, scale)
            expected = (expected - shift[group]) / scale[group]
        check(source, expected, data)


def test_a_view_of_a_view_looks_at_the_base():
    base = Memory(np.arange(24.0).reshape(6, 4))
    outer = View(View(base, np.array([5, 3, 1])), None, np.array([2, 0]))
    twice = View(outer, np.array([2, 0]), np.array([1]))
    assert outer.base is base
    assert twice.base is base
    np.testing.assert_array_equal(twice.read(), [[4], [20]])


def test_nothing_is_read_before_it_is_asked_for():
    base = Counting(np.arange(24.0).reshape(6, 4))
    chain = Averaged(View(base, np.array([4, 2, 0]), np.array([3, 1])), [np.array([0, 2])])
    chain = Standardised(chain, np.zeros(1, np.int64), np.ones((1, 2)), np.full((1, 2), 2.0))
    assert base.calls == []
    np.testing.assert_array_equal(chain.read(columns=np.array([1])), [[(9 - 1) / 2]])
    ((rows, columns),) = base.calls
    np.testing.assert_array_equal(rows, [4, 0])
    np.testing.assert_array_equal(columns, [1])


def test_only_the_parts_that_hold_the_rows_are_read():
    parts = [Counting(np.full((3, 2), float(number))) for number in range(3)]
    stacked = Stacked(parts)
    np.testing.assert_array_equal(stacked.read(np.array([8, 0, 7]))[:, 0], [2, 0, 2])
    assert [len(part.calls) for part in parts] == [1, 0, 1]


def test_parts_fill_the_result_in_place():
    class Filling(Memory):
        def read_into(self, out, rows=None, columns=None):
            filled.append(out)
            super().read_into(out, rows, columns)

    arrays = [np.arange(6.0).reshape(3, 2) + 10 * number for number in range(3)]
    stacked = Stacked([View(Filling(array)) for array in arrays])
    for rows, n_filled in (
        (None, 3),
        (np.array([8, 6, 0, 1]), 2),  # the rows of each part lie together
        (np.array([0, 8, 1, 4]), 2),  # those of the first do not
    ):
        filled = []
        got = stacked.read(rows, np.array([1]))
        np.testing.assert_array_equal(got, taken(np.concatenate(arrays), rows, np.array([1])))
        assert len(filled) == n_filled
        assert all(np.shares_memory(part, got) for part in filled)


def test_what_is_read_is_the_callers_own():
    array = np.zeros((3, 2), dtype=np.float32)
    source = Standardised(Memory(array), np.zeros(3, int), np.ones((1, 2)), np.ones((1, 2)))
    Memory(array).read()[:] = 7
    View(Memory(array), np.arange(3)).read()[:] = 7
    source.read()[:] = 7
    assert not array.any()


def test_a_scale_of_zero_or_nan_gives_nan():
    scale = np.array([[1.0, 0.0, np.nan]], dtype=np.float32)
    source = Standardised(Memory(np.ones((2, 3))), np.zeros(2, int), np.zeros((1, 3)), scale)
    np.testing.assert_array_equal(source.read()[0], [1, np.nan, np.nan])


def test_memory_maps_are_not_copied(tmp_path):
    mapped = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float64, (4, 3))
    mapped[:] = np.arange(12).reshape(4, 3)
    source = Memory(mapped)
    assert source.array is mapped
    part = source.read(np.array([3]), np.array([2, 0]))
    assert type(part) is np.ndarray
    np.testing.assert_array_equal(part, [[11, 9]])


def test_what_does_not_stack_is_refused():
    with pytest.raises(InputError, match="same columns"):
        Stacked([Memory(np.ones((2, 3))), Memory(np.ones((2, 4)))])
    with pytest.raises(InputError, match="at least one"):
        Stacked([])


def test_what_is_kept_is_read_once_and_let_go():
    array = np.arange(24.0).reshape(4, 3, 2)
    inner = Counting(array)
    kept = Kept(inner)
    assert kept.shape == array.shape
    assert inner.calls == []  # nothing is read before it is needed
    rows, columns = np.array([2, 0, 2]), np.array([1])
    np.testing.assert_array_equal(kept.read(rows, columns), array[rows][:, columns])
    whole = kept.read()
    np.testing.assert_array_equal(whole, array)
    whole[:] = -1
    out = np.empty((2, 3, 2), dtype=np.float32)
    View(kept, np.array([3, 1])).read_into(out)
    np.testing.assert_array_equal(out, array[[3, 1]])
    assert len(inner.calls) == 1
    kept.forget()
    np.testing.assert_array_equal(kept.read(rows), array[rows])
    assert len(inner.calls) == 2
