"""Exchanges of rows for null runs, and p values adjusted for the false discovery rate."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.evaluation._columns import real_array
from brainkit.evaluation._groups import (
    exchange_groups,
    group_labels,
    group_members,
    size_classes,
)

_DERANGEMENT_TRIES = 1000


def shuffled_indices(n: int, seed: int, groups: ArrayLike | None = None) -> NDArray[np.intp]:
    """Give a shuffle that leaves no item at its own stimulus, for shuffled-brain nulls.

    Parameters
    ----------
    n : int
        Number of items.
    seed : int
        The same seed gives the same shuffle.
    groups : array_like of shape (n,), optional
        Stimulus of each item; each item is its own when not given. Whole groups move together,
        each to one of its own size. Where a size occurs once only, items are laid out group by
        group in random order and moved on by half their number instead: groups then stay in
        sequence, but one may be spread over two others.

    Returns
    -------
    numpy.ndarray of int of shape (n,)
        A permutation ``order`` with ``groups[order[i]] != groups[i]`` for every i.

    Raises
    ------
    InputError
        If there are fewer than 2 groups, or one holds more than half of all items.
    """
    members = group_members(group_labels(groups, n, "groups"))
    largest = max((len(group) for group in members), default=0)
    if len(members) < 2 or 2 * largest > n:
        raise InputError(
            f"{n} items of {len(members)} stimuli, the commonest with {largest}: a shuffle that "
            "leaves no item at its own stimulus needs 2 stimuli and none with over half the items."
        )
    generator = rng(seed, "shuffle")
    classes = size_classes(members)
    if min(len(same_size) for same_size in classes) >= 2:
        return exchange_groups(members, classes, n, lambda count: _derangement(count, generator))
    laid_out = np.concatenate([members[group] for group in generator.permutation(len(members))])
    order = np.empty(n, dtype=np.intp)
    # Half of all items is at least the largest group, so that none lands on itself.
    order[laid_out] = np.roll(laid_out, -(n // 2))
    return order


def exchanged_rows(
    shown: ArrayLike,
    generator: np.random.Generator,
    *,
    strata: ArrayLike | None = None,
    blocks: ArrayLike | None = None,
) -> NDArray[np.intp]:
    """Exchange what was shown between rows, as chance might have done, for null runs.

    Unlike :func:`shuffled_indices` it may leave a stimulus where it is, as permutations do under
    which a p value is exact.

    Parameters
    ----------
    shown : array_like of shape (n,)
        Stimulus of each row.
    generator : numpy.random.Generator
    strata : array_like of shape (n,), optional
        Rows are exchanged within each stratum alone, one by one: trials of conditions within their
        run. Whole conditions would only be renamed, and a frequent one become a rare one.
    blocks : array_like of shape (n,), optional
        Where given, stretches of rows are laid out in a random order and paired with the rows as
        they stand: of one length, they change places; of several, their borders move too.

    Returns
    -------
    numpy.ndarray of int of shape (n,)
        Row i is paired with what was shown at row ``order[i]``. Without blocks and strata all rows
        of one stimulus get the same other stimulus, however often each was shown: no stimulus is
        then on both sides of a fold that keeps stimuli whole, neither as what was shown nor as what
        is now said to have been shown.
    """
    stimuli = np.asarray(shown)
    if blocks is not None:
        members = group_members(group_labels(blocks, len(stimuli), "blocks"))
        order = np.empty(len(stimuli), dtype=np.intp)
        moved = [members[block] for block in generator.permutation(len(members))]
        order[np.concatenate(members)] = np.concatenate(moved)
        return order
    if strata is not None:
        order = np.empty(len(stimuli), dtype=np.intp)
        for rows in group_members(group_labels(strata, len(stimuli), "strata")):
            order[rows] = generator.permutation(rows)
        return order
    _, first, label = np.unique(stimuli, return_index=True, return_inverse=True)
    return np.asarray(first[generator.permutation(len(first))][label], dtype=np.intp)


def correlation_length(series: ArrayLike, runs: ArrayLike, *, level: float = 0.999) -> int:
    """Tell over how many rows in the order of time a set of series is like itself.

    Parameters
    ----------
    series : array_like of shape (n, n_series)
        Rows in the order of time; series that are not finite do not count.
    runs : array_like of shape (n,)
        Run of each row; rows of two runs are no neighbours.
    level : float, default 0.999
        The autocorrelation, a mean over series, is told from 0 against its distribution over the
        rows in random order: by a normal bound at this level.

    Returns
    -------
    int
        The smallest lag at which the rows are no longer alike; 1 where neighbours are not.
    """
    from scipy.stats import norm

    values = np.asarray(series, dtype=np.float64).reshape(len(np.asarray(series)), -1)
    values = values[:, np.isfinite(values).all(axis=0)]
    labels = np.asarray(runs)
    deviations = values - values.mean(axis=0)
    scale = np.sqrt((deviations**2).mean(axis=0))
    deviations = deviations[:, scale > 0]
    if not deviations.shape[1] or len(deviations) < 4:
        return 1
    deviations /= np.sqrt((deviations**2).mean(axis=0))
    # The mean over series varies as that of so many independent ones (1 / sum of squared weights
    # of the principal axes) would over random orders.
    gram = deviations @ deviations.T if len(deviations) < deviations.shape[1] else (
        deviations.T @ deviations)  # fmt: skip
    independent = np.trace(gram) ** 2 / np.sum(gram**2)
    for lag in range(1, len(deviations) // 2):
        same = labels[lag:] == labels[:-lag]
        if same.sum() < 2:
            return lag
        alike = float((deviations[lag:][same] * deviations[:-lag][same]).mean())
        if alike < norm.ppf(level) / np.sqrt(independent * same.sum()):
            return lag
    return max(1, len(deviations) // 2)


def fdr_bh(p: ArrayLike) -> NDArray[np.float64]:
    """Adjust p values for the false discovery rate (Benjamini and Hochberg, 1995).

    p_(i) becomes min over j ≥ i of p_(j) · m / j, with m the number of finite p values.

    Parameters
    ----------
    p : array_like of any shape
        p values; NaN ones (units that have no score) stay NaN and do not count.

    Returns
    -------
    numpy.ndarray of the same shape
        Adjusted p values.

    Raises
    ------
    InputError
        If a p value is outside [0, 1].
    """
    from scipy.stats import false_discovery_control

    given = real_array(p, "p").astype(np.float64)
    finite = ~np.isnan(given)
    tested = given[finite]
    if ((tested < 0) | (tested > 1)).any():
        raise InputError(f"p spans {tested.min():g} to {tested.max():g}, expected [0, 1].")
    result = np.full(given.shape, np.nan)
    result[finite] = false_discovery_control(tested, method="bh")  # which refuses NaN
    return result


def _derangement(count: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw uniformly among permutations without a fixed point (1 in e of all)."""
    places = np.arange(count)
    for _ in range(_DERANGEMENT_TRIES):
        order = generator.permutation(count)
        if not (order == places).any():
            return order
    return np.roll(places, 1)
