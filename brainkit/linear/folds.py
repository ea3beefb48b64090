"""Cross-validation folds that keep groups whole."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, LeakError, listed

Index = NDArray[np.int64]


def group_codes(groups: ArrayLike | None, n_samples: int) -> Index:
    """Return a group number 0 … n_groups − 1 for each sample; each its own where none is given."""
    if groups is None:
        return np.arange(n_samples)
    values = np.asarray(groups)
    if values.shape != (n_samples,):
        raise InputError(
            f"groups must have one value for each of the {n_samples} samples; got {values.shape}."
        )
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def kfold(
    n_samples: int, n_folds: int, *, groups: ArrayLike | None = None, seed: int | None = None
) -> list[tuple[Index, Index]]:
    """Cut the samples into folds of about equal size, no group in two of them.

    Groups go, largest first, to the fold that has the fewest samples so far; among equals, in a
    random order (`seed`), or in the order of first appearance cut into contiguous stretches where
    no seed is given and all groups have the same size.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    n_folds : int
        Number of folds, at least 2.
    groups : array (n_samples,), optional
        Samples of one group stay together, such as the repeats of an image.
    seed : int, optional
        Shuffles the groups.

    Returns
    -------
    list of (train, test)
        Sorted sample numbers; every sample is in one test part exactly.

    Raises
    ------
    InputError
        If there are fewer groups than folds.
    """
    codes = group_codes(groups, n_samples)
    n_groups = int(codes.max()) + 1 if n_samples else 0
    if n_folds < 2 or n_folds > n_groups:
        what = "groups" if groups is not None else "trials"
        raise InputError(
            f"{n_folds} folds cannot be made of {n_groups} {what}: ask for at least 2 folds and "
            f"at most one for each of the {what}."
        )
    sizes = np.bincount(codes)
    first_seen = np.argsort(np.unique(codes, return_index=True)[1])
    order = first_seen if seed is None else rng(seed, "kfold").permutation(n_groups)
    fold_of = np.empty(n_groups, dtype=np.int64)
    if len(np.unique(sizes)) == 1:
        fold_of[order] = np.sort(np.arange(n_groups) % n_folds)  # the stretches of KFold
    else:
        filled = np.zeros(n_folds, dtype=np.int64)
        for group in order[np.argsort(-sizes[order], kind="stable")]:
            fold_of[group] = np.argmin(filled)
            filled[fold_of[group]] += sizes[group]
    test_fold = fold_of[codes]
    return [
        (np.flatnonzero(test_fold != fold), np.flatnonzero(test_fold == fold))
        for fold in range(n_folds)
    ]


def leave_one_group_out(groups: ArrayLike) -> list[tuple[Index, Index]]:
    """Hold out each group in turn, in the order of the groups' sorted values.

    Raises
    ------
    InputError
        If there are fewer than two groups.
    """
    values = np.asarray(groups)
    codes = group_codes(values, len(values))
    n_groups = int(codes.max(initial=-1)) + 1
    if n_groups < 2:
        raise InputError(f"Leaving one group out needs at least 2 groups; got {n_groups}.")
    return [
        (np.flatnonzero(codes != group), np.flatnonzero(codes == group))
        for group in range(n_groups)
    ]


def split_folds(
    cv: Any, n_samples: int, *, groups: ArrayLike | None = None
) -> list[tuple[Index, Index]]:
    """Return the folds of a number, of a splitter of scikit-learn's kind, or those given.

    Parameters
    ----------
    cv : int, object with ``split``, or iterable of (train, held_out)
        A number of folds (see `kfold`), anything with ``split(X, y, groups)``, or row numbers or
        masks of rows; an iterable that can be gone through once alone is used up.
    n_samples : int
    groups : array (n_samples,), optional
        Samples of one group stay together: a splitter is told of them, and whatever it makes of
        them, no fold may train on samples of a group that it holds out.

    Raises
    ------
    InputError
        If folds cannot be made, or are not folds of so many samples; see `checked_folds`.
    LeakError
        If a fold parts the samples of a group.
    """
    if isinstance(cv, int | np.integer) and not isinstance(cv, bool):
        return kfold(n_samples, int(cv), groups=groups)
    if hasattr(cv, "split") and not isinstance(cv, str | bytes):
        try:
            folds = list(cv.split(np.empty((n_samples, 1)), None, groups))
        except ValueError as error:  # such as too few samples, or groups that it needs
            raise InputError(f"{cv} cannot split {n_samples} samples: {error}") from error
    elif isinstance(cv, Iterable) and not isinstance(cv, str | bytes):
        folds = list(cv)
    else:
        raise InputError(
            "cv must be a number of folds, a splitter such as those of scikit-learn, or a list of "
            f"(train, held_out) row numbers; got {cv!r}."
        )
    checked = checked_folds(folds, n_samples)
    if groups is not None:
        _check_groups(checked, group_codes(groups, n_samples))
    return checked


def checked_folds(folds: Iterable[Any], n_samples: int) -> list[tuple[Index, Index]]:
    """Return folds as row numbers in NumPy arrays.

    Parameters
    ----------
    folds : iterable of (train, held_out)
        Row numbers, or masks of all rows; sequences, arrays or tensors.
    n_samples : int

    Raises
    ------
    InputError
        If there are no folds, or one is no pair, is empty, names rows that there are not, or
        trains on rows that it holds out.
    """
    checked = []
    for number, fold in enumerate(folds, start=1):
        try:
            training, left_out = fold
        except (TypeError, ValueError):
            raise InputError(
                f"Fold {number} must be a pair (train, held_out); got {fold!r}."
            ) from None
        train, held_out = (_row_numbers(rows, n_samples, number) for rows in (training, left_out))
        both = np.concatenate([train, held_out])
        if not len(train) or not len(held_out) or both.min() < 0 or both.max() >= n_samples:
            raise InputError(
                f"Fold {number} has {len(train)} training and {len(held_out)} held-out rows; "
                f"both must be some of the rows 0 to {n_samples - 1}."
            )
        shared = np.intersect1d(train, held_out)
        if len(shared):
            raise InputError(
                f"Fold {number} trains on {len(shared)} of the rows that it holds out; no row "
                "may be both."
            )
        checked.append((train, held_out))
    if not checked:
        raise InputError("No folds were given, so that nothing can be chosen; see kfold.")
    return checked


def _row_numbers(rows: Any, n_samples: int, number: int) -> Index:
    """Return row numbers of one part of a fold, which may be a mask."""
    values = np.asarray(rows.cpu() if hasattr(rows, "cpu") else rows)
    if values.dtype == bool and values.shape == (n_samples,):
        return np.flatnonzero(values)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise InputError(
            f"Fold {number} must hold row numbers, or masks of the {n_samples} rows; got an array "
            f"of {values.dtype} and shape {values.shape}."
        )
    return values.astype(np.int64)


def _check_groups(folds: list[tuple[Index, Index]], codes: Index) -> None:
    """Raise if a fold trains on samples of a group that it holds out."""
    for number, (train, held_out) in enumerate(folds, start=1):
        shared = np.intersect1d(codes[train], codes[held_out])
        if len(shared):
            raise LeakError(
                f"Fold {number} trains on samples of {len(shared)} groups that it holds out, such "
                f"as those of samples {listed(np.flatnonzero(codes == shared[0]))}: give a number "
                "of folds, or a splitter that keeps groups whole, such as GroupKFold."
            )
