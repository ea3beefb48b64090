"""Intervals and adjusted p values: bootstrap over test items, shuffles, false discovery rate.

Bootstraps here resample scores of *test* items, after every fit. Resampling trials before a split
would put copies of one trial on both sides of it, and pure noise would then be predicted well.
"""

from dataclasses import dataclass

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
from brainkit.evaluation._quantity import Quantity

# Resampled counts held at once; fixed, so that a seed gives one result on every machine.
_RESAMPLE_CELLS = 2**22
_DERANGEMENT_TRIES = 1000


@dataclass(frozen=True)
class Interval:
    """A mean with its bootstrap interval.

    Attributes
    ----------
    value : float
        Mean over items.
    low, high : float
        Ends of the percentile interval.
    n : int
        Items that were finite and entered.
    level : float
        Coverage aimed at.
    """

    value: float
    low: float
    high: float
    n: int
    level: float

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0


def bootstrap_ci(
    values: ArrayLike,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
) -> Interval:
    """Give the mean of per-item scores with a percentile bootstrap interval (Efron, 1979).

    Parameters
    ----------
    values : array_like of shape (n_items,)
        One score per test item; NaN items are left out.
    n : int, default 2000
        Bootstrap samples.
    level : float, default 0.95
        Coverage, in (0, 1).
    seed : int, default 0
        The same seed gives the same interval.
    groups : array_like of shape (n_items,), optional
        Items of one group (scores of one image under several seeds, say) are drawn together.

    Returns
    -------
    Interval
        Mean, its ends, and the number of finite items.

    Raises
    ------
    InputError
        If fewer than 2 groups have a finite item, or an argument is out of range.
    """
    scores = _item_scores(values, "values")
    return _bootstrap(scores, group_labels(groups, len(scores), "groups"), n, level, seed)


def bootstrap_difference(
    a: ArrayLike,
    b: ArrayLike,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
) -> Interval:
    """Give the mean of the paired difference a - b with its bootstrap interval.

    Parameters
    ----------
    a, b : array_like of shape (n_items,)
        Scores of the same test items by two methods; a pair with a NaN is left out.
    n, level, seed, groups
        As in :func:`bootstrap_ci`.

    Returns
    -------
    Interval
        Of the difference; ``excludes_zero`` says whether it is settled.

    Raises
    ------
    InputError
        As in :func:`bootstrap_ci`, or if the shapes differ.
    QuantityError
        If `a` and `b` are of different kinds.
    """
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        _ = a[:0] - b[:0]  # refuses different kinds
    first, second = _item_scores(a, "a"), _item_scores(b, "b")
    if first.shape != second.shape:
        raise InputError(f"a has {len(first)} items and b {len(second)}: give pairs in order.")
    return _bootstrap(first - second, group_labels(groups, len(first), "groups"), n, level, seed)


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
    given = real_array(p, "p").astype(np.float64)
    finite = ~np.isnan(given)
    tested = given[finite]
    if ((tested < 0) | (tested > 1)).any():
        raise InputError(f"p spans {tested.min():g} to {tested.max():g}, expected [0, 1].")
    order = np.argsort(tested)
    scaled = tested[order] * len(tested) / np.arange(1, len(tested) + 1)
    adjusted = np.empty_like(tested)
    adjusted[order] = np.minimum.accumulate(scaled[::-1])[::-1]
    result = np.full(given.shape, np.nan)
    result[finite] = adjusted
    return result


def _item_scores(values: ArrayLike, name: str) -> NDArray[np.float64]:
    scores = real_array(values, name)
    if scores.ndim != 1:
        raise InputError(f"{name} has shape {scores.shape}, expected (n_items,).")
    return scores.astype(np.float64)


def _bootstrap(
    scores: NDArray[np.float64], labels: NDArray[np.intp], n: int, level: float, seed: int
) -> Interval:
    if n < 1 or not 0 < level < 1:
        raise InputError(f"n={n} and level={level}: expected n of at least 1 and 0 < level < 1.")
    finite = np.isfinite(scores)
    _, group = np.unique(labels[finite], return_inverse=True)
    counts = np.bincount(group)
    if len(counts) < 2:
        raise InputError(
            f"{int(finite.sum())} of {len(scores)} scores are finite, in {len(counts)} groups: "
            "an interval needs at least 2."
        )
    sums = np.bincount(group, weights=scores[finite])
    generator = rng(seed, "bootstrap")
    means = np.empty(n)
    step = max(1, _RESAMPLE_CELLS // len(counts))
    for start in range(0, n, step):
        drawn = generator.integers(len(counts), size=(min(step, n - start), len(counts)))
        means[start : start + step] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    mean = float(scores[finite].mean())
    return Interval(mean, float(low), float(high), int(finite.sum()), level)


def _derangement(count: int, generator: np.random.Generator) -> NDArray[np.intp]:
    """Draw uniformly among permutations without a fixed point (1 in e of all)."""
    places = np.arange(count)
    for _ in range(_DERANGEMENT_TRIES):
        order = generator.permutation(count)
        if not (order == places).any():
            return order
    return np.roll(places, 1)
