"""Delayed features: rows by hand, runs, either kind of array, bad input."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from brainkit.errors import InputError
from brainkit.linear.delays import delay


def test_a_case_by_hand():
    X = np.array([[1, 10], [2, 20], [3, 30], [4, 40]])
    expected = [
        # now,  one before, two before, one ahead
        [1, 10, 0, 0, 0, 0, 2, 20],
        [2, 20, 1, 10, 0, 0, 3, 30],
        [3, 30, 2, 20, 1, 10, 4, 40],
        [4, 40, 3, 30, 2, 20, 0, 0],
    ]
    delayed = delay(X, [0, 1, 2, -1])
    assert delayed.dtype == X.dtype
    assert delayed.tolist() == expected


def test_runs_start_anew_by_hand():
    X = np.arange(1.0, 7.0)[:, None]
    runs = ["a", "a", "b", "b", "b", "c"]
    assert delay(X, [1], runs)[:, 0].tolist() == [0, 1, 0, 3, 4, 0]
    assert delay(X, [2], runs)[:, 0].tolist() == [0, 0, 0, 0, 3, 0]
    assert delay(X, [-1], runs)[:, 0].tolist() == [2, 0, 4, 5, 0, 0]


@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=5),
    delays=st.lists(st.integers(-7, 7), min_size=1, max_size=4, unique=True),
)
def test_every_row_is_the_row_of_its_run_that_long_before(lengths, delays):
    runs = np.repeat(np.arange(len(lengths)), lengths)
    X = np.arange(1.0, 2 * len(runs) + 1).reshape(-1, 2)
    delayed = delay(X, delays, runs).reshape(len(X), len(delays), 2)
    for row in range(len(X)):
        for place, shift in enumerate(delays):
            source = row - shift
            inside = 0 <= source < len(X) and runs[source] == runs[row]
            assert delayed[row, place].tolist() == (X[source].tolist() if inside else [0, 0])


def test_runs_are_delayed_as_if_each_were_alone():
    rng = np.random.default_rng(0)
    X, runs = rng.normal(size=(50, 3)), np.repeat([4, 2, 9], [10, 25, 15])
    parts = [delay(X[runs == run], [0, 1, 4, -2]) for run in (4, 2, 9)]
    np.testing.assert_array_equal(delay(X, [0, 1, 4, -2], runs), np.vstack(parts))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_tensors_give_what_arrays_give(dtype):
    X, runs = np.random.default_rng(0).normal(size=(20, 3)).astype(dtype), np.repeat([1, 2], 10)
    delayed = delay(torch.as_tensor(X), [1, 2, -3], runs)
    assert isinstance(delayed, torch.Tensor)
    assert delayed.dtype == torch.as_tensor(X).dtype
    np.testing.assert_array_equal(delayed.numpy(), delay(X, [1, 2, -3], runs))
    np.testing.assert_array_equal(
        delay(torch.as_tensor(X), [1, 2, -3], torch.as_tensor(runs)).numpy(), delayed.numpy()
    )


def test_delays_as_long_as_a_run_and_no_rows_at_all():
    X = np.ones((5, 2))
    assert not delay(X, [5, -5, 100]).any()
    assert delay(X[:0], [1, 2]).shape == delay(X[:0], [1, 2], []).shape == (0, 4)
    assert delay(np.ones((5, 0)), [1, 2]).shape == (5, 0)


def test_features_are_left_alone_and_not_shared():
    X = np.ones((5, 2))
    delayed = delay(X, [0])
    delayed[:] = 7
    assert (X == 1).all()


@pytest.mark.parametrize("delays", [[], [1.5], [np.nan], ["a"], [[1, 2]], 3, [True, False]])
def test_delays_must_be_whole_numbers(delays):
    with pytest.raises(InputError, match="delays must be whole numbers of samples, at least one"):
        delay(np.ones((5, 2)), delays)


def test_delays_may_be_given_once():
    with pytest.raises(InputError, match=r"Every delay may be given once; got \[1, 2, 1\]"):
        delay(np.ones((5, 2)), [1, 2, 1])


def test_whole_numbers_may_be_of_any_kind():
    X = np.arange(6.0)[:, None]
    expected = delay(X, [1, 2])
    for delays in ((1, 2), np.array([1, 2]), [1.0, 2.0], range(1, 3)):
        np.testing.assert_array_equal(delay(X, delays), expected)


def test_runs_and_features_are_checked():
    X = np.ones((6, 2))
    with pytest.raises(InputError, match=r"runs must have one value for each of the 6 samples"):
        delay(X, [1], [1, 1, 2])
    with pytest.raises(InputError, match=r"these runs stand in several places: 1, 2\. Sort"):
        delay(X, [1], [1, 1, 2, 1, 2, 3])
    with pytest.raises(InputError, match=r"are \(n_samples, n_features\); got an array of \(6,\)"):
        delay(X[:, 0], [1])


def test_a_hole_within_a_run_ends_a_stretch():
    """The training rows of a fold whose held-out part lies in the middle of a run."""
    X, runs = np.arange(1.0, 21.0)[:, None], np.repeat([1, 2], 10)
    train = np.r_[0:3, 6:10, 10:20]
    found = delay(X[train], [0, 1, 2], runs[train], times=train)
    whole = delay(X, [0, 1, 2], runs)[train]
    after = np.isin(train, [6, 7])  # rows whose past was held out
    np.testing.assert_array_equal(found[~after], whole[~after])
    assert found[after].tolist() == [[7, 0, 0], [8, 7, 0]]
    # By labels of runs alone, row 6 would hold row 2 as the one before it.
    assert delay(X[train], [0, 1], runs[train])[3].tolist() == [7, 3]


def test_times_need_no_runs_and_may_be_in_seconds():
    X = np.arange(1.0, 7.0)[:, None]
    seconds = np.array([0.0, 2.001, 4.0, 10.0, 11.998, 14.0])
    expected = [[1, 0], [2, 1], [3, 2], [4, 0], [5, 4], [6, 5]]
    assert delay(X, [0, 1], times=seconds).tolist() == expected
    assert delay(X, [0, -1], times=[0, 1, 2, 4, 5, 6])[2].tolist() == [3, 0]
    # With whole numbers every other sample is missing, so that none has a neighbour.
    # With times a run may stand in several places: its stretches are told apart.
    torn = delay(X, [1], runs=[1, 1, 2, 2, 1, 1], times=[0, 1, 0, 1, 2, 3])
    assert torn.ravel().tolist() == [0, 1, 0, 3, 0, 5]


@pytest.mark.parametrize(
    ("times", "said"),
    [
        ([0, 1, 2], r"times must have one value for each of the 4 samples; got \(3,\)"),
        ([0, 1, 1, 2], "times must rise within a run; rows 1 and 2 have 1 and 1"),
        ([0, 2, 4, 6], "neighbours differ by 1; these differ by 2 or more.*times \\* 1.0"),
        ([0, 1e-9, 2, 4.0], "Rows 0 and 1 are 1e-09 apart in time where neighbours are 2 apart"),
        ([3, 2, 1, 0], "times must rise within a run"),
        ([0, 1, np.nan, 3], "times must be finite numbers"),
        (["a", "b", "c", "d"], "times must be finite numbers"),
    ],
)
def test_times_that_are_none(times, said):
    with pytest.raises(InputError, match=said):
        delay(np.ones((4, 1)), [1], times=times)


def test_the_usual_step_is_that_of_most_neighbours():
    X = np.arange(1.0, 201.0)[:, None]
    clock = 2 * np.arange(200) + np.random.default_rng(0).normal(scale=0.1, size=200)
    late = delay(X, [1], times=clock)  # one stretch, though the least step is far below two
    np.testing.assert_array_equal(late[1:], X[:-1])
    close = [0.0, 10, 20, 30, 40, 41]  # one sample that came early
    np.testing.assert_array_equal(delay(X[:6], [1], times=close)[:, 0], [0, 1, 2, 3, 4, 5])
    kept = np.flatnonzero(np.random.default_rng(1).random(200) < 0.3)
    seconds = 1.5 * kept
    expected = delay(X[kept], [1], times=kept)
    np.testing.assert_array_equal(delay(X[kept], [1], times=seconds), expected)


def test_runs_that_are_missing_or_of_several_types():
    X = np.ones((4, 1))
    with pytest.raises(InputError, match="runs must tell of every sample; that of row 2 is"):
        delay(X, [1], runs=[1, 1, np.nan, 2])
    mixed = np.array([1, 1, "a", "a"], dtype=object)
    np.testing.assert_array_equal(delay(X, [1], runs=mixed)[:, 0], [0, 1, 0, 1])
    with pytest.raises(InputError, match="stand in several places: 1"):
        delay(X, [1], runs=np.array([1, "a", 1, "a"], dtype=object))
