"""Cross-validation folds that keep groups whole."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError

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
        fold_of[order] = np.arange(n_groups) * n_folds // n_groups
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
