"""Folds: every sample is tested once, groups stay whole, sizes are even."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import KFold, LeaveOneGroupOut

from brainkit.errors import InputError
from brainkit.linear.folds import group_codes, kfold, leave_one_group_out


@given(
    groups=st.lists(st.integers(0, 8), min_size=2, max_size=40),
    n_folds=st.integers(2, 6),
    seed=st.none() | st.integers(0, 5),
)
def test_folds_are_a_partition_that_keeps_groups_whole(groups, n_folds, seed):
    groups = np.array(groups)
    n_groups, n = len(np.unique(groups)), len(groups)
    if n_folds > n_groups:
        with pytest.raises(InputError, match=f"{n_folds} folds cannot be made of {n_groups} group"):
            kfold(n, n_folds, groups=groups, seed=seed)
        return
    folds = kfold(n, n_folds, groups=groups, seed=seed)
    assert len(folds) == n_folds
    np.testing.assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), range(n))
    for train, test in folds:
        assert len(test) > 0
        np.testing.assert_array_equal(np.sort(np.concatenate([train, test])), range(n))
        assert not set(groups[train]) & set(groups[test])
        assert (np.diff(train) > 0).all()
        assert (np.diff(test) > 0).all()
    # The greedy bound: no fold exceeds another by more than the largest group.
    sizes = [len(test) for _, test in folds]
    assert max(sizes) - min(sizes) <= np.bincount(groups).max()


@pytest.mark.parametrize(("n", "k"), [(10, 2), (12, 5), (7, 7), (100, 10)])
def test_without_seed_and_groups_folds_are_contiguous_stretches(n, k):
    for (train, test), (train_sk, test_sk) in zip(
        kfold(n, k), KFold(k).split(np.zeros(n)), strict=True
    ):
        assert (np.diff(test) == 1).all()
        assert abs(len(test) - len(test_sk)) <= 1
        if n % k == 0:  # which folds get one more is a matter of taste
            np.testing.assert_array_equal(test, test_sk)
            np.testing.assert_array_equal(train, train_sk)


@pytest.mark.parametrize("seed", [None, 0, 1, 2])
def test_unequal_groups_fill_the_folds_evenly(seed):
    groups = [0, 1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6]
    folds = kfold(12, 2, groups=groups, seed=seed)
    assert [len(test) for _, test in folds] == [6, 6]


def test_seeds_shuffle_and_repeat():
    first = kfold(30, 3, seed=1)
    again, other = kfold(30, 3, seed=1), kfold(30, 3, seed=2)
    assert all(np.array_equal(a[1], b[1]) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a[1], b[1]) for a, b in zip(first, other, strict=True))
    assert not all((np.diff(test) == 1).all() for _, test in first)


def test_group_names_do_not_matter():
    groups = np.array(["b", "a", "b", "c", "a", "d"])
    numbers = np.array([1, 0, 1, 2, 0, 3])
    for one, other in zip(
        kfold(6, 2, groups=groups, seed=3), kfold(6, 2, groups=numbers, seed=3), strict=True
    ):
        np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(group_codes(groups, 6), numbers)
    np.testing.assert_array_equal(group_codes(None, 3), [0, 1, 2])


def test_leave_one_group_out_equals_scikit_learn():
    groups = np.array([3, 1, 2, 1, 3, 3])
    expected = list(LeaveOneGroupOut().split(np.zeros(6), groups=groups))
    for (train, test), (train_sk, test_sk) in zip(
        leave_one_group_out(groups), expected, strict=True
    ):
        np.testing.assert_array_equal(train, train_sk)
        np.testing.assert_array_equal(test, test_sk)


@pytest.mark.parametrize(("n", "k"), [(3, 4), (10, 1), (10, 0), (0, 2), (1, 2)])
def test_too_few_samples(n, k):
    with pytest.raises(InputError, match=f"{k} folds cannot be made of {n} trials"):
        kfold(n, k)


def test_wrong_groups():
    with pytest.raises(InputError, match=r"each of the 4 samples; got \(3,\)"):
        kfold(4, 2, groups=[1, 2, 3])
    for groups in ([], [1], [2, 2, 2]):
        with pytest.raises(InputError, match="at least 2 groups"):
            leave_one_group_out(groups)
