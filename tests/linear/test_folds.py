"""Folds: every sample is tested once, groups stay whole, sizes are even."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, KFold, LeaveOneGroupOut, ShuffleSplit

from brainkit.errors import InputError, LeakError
from brainkit.linear.folds import (
    checked_folds,
    group_codes,
    kfold,
    leave_one_group_out,
    split_folds,
)


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


def same(found, expected):
    assert len(found) == len(expected)
    for fold, other in zip(found, expected, strict=True):
        for rows, others in zip(fold, other, strict=True):
            assert rows.dtype == np.int64
            np.testing.assert_array_equal(rows, others)


def test_numbers_splitters_lists_and_generators_say_which_folds():
    groups = np.arange(12) // 2
    same(split_folds(4, 12), kfold(12, 4))
    same(split_folds(np.int64(3), 12, groups=groups), kfold(12, 3, groups=groups))
    shuffled = KFold(3, shuffle=True, random_state=1)
    same(split_folds(shuffled, 12), list(shuffled.split(np.zeros(12))))
    by_group = GroupKFold(3)
    expected = list(by_group.split(np.zeros(12), groups=groups))
    same(split_folds(by_group, 12, groups=groups), expected)
    given = [([0, 1, 2], [3, 4]), ([3, 4], [0])]
    same(split_folds(given, 12), [tuple(map(np.array, fold)) for fold in given])
    same(split_folds(iter(given), 12), [tuple(map(np.array, fold)) for fold in given])
    same(split_folds(ShuffleSplit(2, test_size=3, random_state=0), 12),
         list(ShuffleSplit(2, test_size=3, random_state=0).split(np.zeros(12))))  # fmt: skip


def test_masks_and_tensors_are_row_numbers():
    mask = np.arange(6) < 4
    expected = [(np.arange(4), np.arange(4, 6))]
    same(checked_folds([(mask, ~mask)], 6), expected)
    same(checked_folds([[torch.arange(4), torch.arange(4, 6)]], 6), expected)
    same(checked_folds([(torch.as_tensor(mask), [4, 5])], 6), expected)


@pytest.mark.parametrize("cv", [KFold(3), [([0, 2, 3], [1, 4, 5])]])
def test_no_fold_may_part_a_group(cv):
    with pytest.raises(LeakError, match=r"Fold 1 trains on samples of 1 groups .* samples 1, 2"):
        split_folds(cv, 6, groups=[0, 1, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("cv", "said"),
    [
        ("5", "cv must be a number of folds, a splitter"),
        (None, "cv must be a number of folds"),
        (2.5, "cv must be a number of folds"),
        (True, "cv must be a number of folds"),
        (1, "1 folds cannot be made of 6 trials"),
        (KFold(7), "cannot split 6 samples"),
        (GroupKFold(2), "cannot split 6 samples"),
        ([], "No folds were given"),
        ([1, 2], r"Fold 1 must be a pair \(train, held_out\); got 1"),
        ([([0, 1], [6])], "both must be some of the rows 0 to 5"),
        ([([0, -1], [2])], "both must be some of the rows 0 to 5"),
        ([([0, 1], [])], "Fold 1 has 2 training and 0 held-out rows"),
        ([([0, 1, 2], [2, 3])], "Fold 1 trains on 1 of the rows that it holds out"),
        ([([0.0, 1.0], [2])], "Fold 1 must hold row numbers"),
        ([([True, False], [2])], "Fold 1 must hold row numbers, or masks of the 6 rows"),
        ([([[0], [1]], [2])], "Fold 1 must hold row numbers"),
    ],
)
def test_what_gives_no_folds_is_refused(cv, said):
    with pytest.raises(InputError, match=said):
        split_folds(cv, 6)
