"""Exchanges of rows, and p: what permuting which sample is which leaves of a score.

Null runs exchange rows before a fit; `permutation_test` permutes which sample each prediction
belongs to. Values of p are adjusted for the false discovery rate (`fdr_bh`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.evaluation.checked_arrays import BATCH_BYTES, real_array
from brainkit.evaluation.intervals import (
    exchange_groups,
    exchange_rows,
    group_labels,
    group_members,
    resampling_units,
    size_classes,
)
from brainkit.evaluation.response_scores import (
    ROUNDING,
    ScoreFunction,
    linear_form,
    score_name,
    working_dtype,
)

_DERANGEMENT_TRIES = 1000
_Counts = tuple[NDArray[np.float64], NDArray[np.float64]]


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

    values = real_array(p, "p").astype(np.float64)
    finite = ~np.isnan(values)
    tested = values[finite]
    if ((tested < 0) | (tested > 1)).any():
        raise InputError(f"p spans {tested.min():g} to {tested.max():g}, expected [0, 1].")
    result = np.full(values.shape, np.nan)
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


@dataclass(frozen=True)
class PermutationResult:
    """Outcome of a permutation test.

    Attributes
    ----------
    observed : numpy.ndarray of shape (n_targets,)
        Scores of the true pairing.
    p : numpy.ndarray of shape (n_targets,)
        One-sided p of each target (higher scores are better); NaN where the score is NaN.
    p_familywise : numpy.ndarray of shape (n_targets,)
        p against the largest score over targets in each permutation, which controls the
        family-wise error.
    n : int
        Number of permutations.
    """

    observed: NDArray[np.float64]
    p: NDArray[np.float64]
    p_familywise: NDArray[np.float64]
    n: int

    @property
    def p_fdr(self) -> NDArray[np.float64]:
        """Adjusted p, for the false discovery rate over targets (Benjamini and Hochberg, 1995)."""
        return fdr_bh(self.p)


def permutation_p(
    observed: ArrayLike, null: ArrayLike, *, max_statistic: bool = False
) -> NDArray[np.float64]:
    """Give one-sided p values from scores under permutation.

    p = (1 + #{null ≥ observed}) / (1 + n_permutations), never 0 (Phipson and Smyth, 2010).

    Parameters
    ----------
    observed : array_like of shape (n_units,) or ()
        Scores of the true pairing.
    null : array_like of shape (n_permutations, n_units) or (n_permutations,)
        Scores under permutation. A NaN counts as at least the observed score.
    max_statistic : bool, default False
        Compare with the largest score over units in each permutation, which controls the
        family-wise error (Nichols and Holmes, 2002).

    Returns
    -------
    numpy.ndarray of the shape of `observed`
        NaN where the observed score is NaN.

    Raises
    ------
    InputError
        If the shapes do not fit, or there is no permutation.
    """
    scores = real_array(observed, "observed").astype(np.float64)
    draws = real_array(null, "null").astype(np.float64)
    if draws.ndim != scores.ndim + 1 or draws.shape[1:] != scores.shape or not len(draws):
        raise InputError(
            f"null has shape {draws.shape}, expected (n_permutations, *{scores.shape}) "
            "with at least 1 permutation."
        )
    exceeding = np.zeros(scores.shape)
    for draw in draws:
        exceeding += _at_least(_largest(draw, scores) if max_statistic else draw, scores)
    return _p_values(exceeding, scores, len(draws))


def permutation_test(
    score_fn: ScoreFunction,
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    n: int = 1000,
    seed: int = 0,
    *,
    blocks: ArrayLike | None = None,
    runs: ArrayLike | None = None,
    block_length: int | None = None,
) -> PermutationResult:
    """Test each target's score by permuting which sample each prediction belongs to.

    For :func:`brainkit.evaluation.pearson_r`, ``r2`` and ``explained_variance`` all permutations
    are products of √n orders of the measured and √n orders of the predicted samples, so that a
    target's scores are one matrix product. The observed pairing is one cell of that grid, drawn at
    random: under the null hypothesis its score is as likely to have any rank as that of any other
    cell, and p is exact (Hemerik and Goeman, 2018). Other functions are called n times.

    Parameters
    ----------
    score_fn : callable
        ``score_fn(Y_true, Y_pred)`` gives one score per target, higher is better;
        :func:`brainkit.evaluation.pearson_r`, say.
    Y_true, Y_pred : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured and predicted responses of test samples. Of float32 the products are float32.
    n : int, default 1000
        Number of permutations.
    seed : int, default 0
        The same seed gives the same p.
    blocks : array_like of shape (n_samples,), optional
        Samples of one block (an image's repeats, a run) are not exchangeable and move together;
        blocks change places with blocks of their own size.
    runs : array_like of shape (n_samples,), optional
        For time series, with `block_length`: run of each sample, in the order of time. Blocks
        never cross a run's boundary and change places within their run.
    block_length : int, optional
        For time series: consecutive samples that move together, such as 10 TRs. The shorter last
        block of a run stays where it is, which makes p slightly larger.

    Returns
    -------
    PermutationResult
        p for each target, p with control of the family-wise error (largest score over targets;
        Nichols and Holmes, 2002), and p with control of the false discovery rate.

    Raises
    ------
    InputError
        If the numbers of samples differ, `n` is below 1, blocks are stated in two ways, or no two
        blocks can change places.

    Notes
    -----
    Fit once, and give predictions of samples that no fit has seen. Held-out predictions of all
    cross-validation folds put together are not independent of each other, as each fold's depend on
    the responses in the others: about 12 % of noise targets then have p ≤ .05.
    For those fit anew on permuted responses and use :func:`brainkit.evaluation.permutation_p`.
    """
    true, pred = real_array(Y_true, "Y_true"), real_array(Y_pred, "Y_pred")
    if true.ndim == 0 or pred.ndim == 0 or len(true) != len(pred):
        raise InputError(
            f"Y_true has shape {true.shape} and Y_pred {pred.shape}: they need the same samples."
        )
    if n < 1:
        raise InputError(f"n={n}: a permutation test needs at least 1 permutation.")
    classes = resampling_units(len(true), blocks, runs, block_length).classes()
    if max((len(rows) for rows in classes), default=0) < 2:
        raise InputError(
            f"No two of the {len(classes)} blocks can change places, as all differ in size or run: "
            "give blocks of equal size, or a smaller block_length."
        )
    observed = np.asarray(score_fn(true, pred), dtype=np.float64)
    generator = rng(seed, "permutation")

    def orders(count: int) -> NDArray[np.intp]:
        drawn = [exchange_rows(classes, len(true), generator.permutation) for _ in range(count)]
        return np.stack(drawn)

    name = score_name(score_fn)
    if name is None:
        counts = _counts_one_by_one(
            score_fn, true, pred, observed, (orders(1)[0] for _ in range(n))
        )
    else:
        side = int(np.ceil(np.sqrt(n + 1)))
        grid = _Grid(orders(side), orders(-(-(n + 1) // side)), n, int(generator.integers(n + 1)))
        counts = _counts_by_product(name, _columns(true), _columns(pred), grid)
    p, p_familywise = (_p_values(count.reshape(observed.shape), observed, n) for count in counts)
    return PermutationResult(observed, p, p_familywise, n)


class _Grid:
    """Orders of measured (a, n_samples) and predicted samples (b, n_samples), paired with all.

    The first n + 1 pairs count; the pair `cell` is the pairing as observed.
    """

    def __init__(
        self, first: NDArray[np.intp], second: NDArray[np.intp], n: int, cell: int
    ) -> None:
        self.first, self.second, self.n, self.cell = first, second, n, cell
        row, column = divmod(cell, len(second))
        first[row] = second[column] = np.arange(first.shape[1])

    def products(
        self, true: NDArray[np.floating], pred: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Σ over samples of the products, (n_targets, n + 1), of columns (n_targets, n_samples)."""
        moved_true = np.take(true, self.first, axis=1)  # n_targets, a, n_samples
        moved_pred = np.take(pred, self.second, axis=1)
        sums = moved_true @ moved_pred.transpose(0, 2, 1)  # n_targets, a, b
        return sums.reshape(len(true), -1)[:, : self.n + 1].astype(np.float64)


def _counts_by_product(
    name: str, true: NDArray[np.generic], pred: NDArray[np.generic], grid: _Grid
) -> _Counts:
    dtype = working_dtype(true, pred)
    n_samples, n_targets = true.shape
    width = len(grid.first) + len(grid.second)
    step = max(1, BATCH_BYTES // (np.dtype(dtype).itemsize * n_samples * width))
    exceeding, reached = np.zeros(n_targets), np.full(n_targets, np.nan)
    largest = np.full(grid.n + 1, np.nan)
    for start in range(0, n_targets, step):
        batch = slice(start, start + step)
        t, q, offset, slope = linear_form(name, true[:, batch], pred[:, batch])
        r = grid.products(*(np.ascontiguousarray(side.T, dtype=dtype) for side in (t, q)))
        margin = ROUNDING[dtype] * np.maximum(1.0, slope)
        scores = offset[:, None] + slope[:, None] * r
        # Compared with the observed score of the same product, so that ties are ties.
        reached[batch] = scores[:, grid.cell] - margin
        exceeding[batch] = (~(scores < reached[batch, None])).sum(axis=1) - 1
        largest = np.fmax(largest, np.fmax.reduce(scores, axis=0, initial=np.nan))
    null = np.sort(np.delete(largest, grid.cell))  # NaN, where there is no score at all, is last
    return exceeding, grid.n - np.searchsorted(null, reached, side="left").astype(np.float64)


def _counts_one_by_one(
    score_fn: ScoreFunction,
    true: NDArray[np.generic],
    pred: NDArray[np.generic],
    observed: NDArray[np.float64],
    orders: Iterator[NDArray[np.intp]],
) -> _Counts:
    exceeding, exceeding_largest = np.zeros(observed.shape), np.zeros(observed.shape)
    for order in orders:
        draw = np.asarray(score_fn(true[order], pred), dtype=np.float64)
        exceeding += _at_least(draw, observed)
        exceeding_largest += _at_least(_largest(draw, observed), observed)
    return exceeding, exceeding_largest


def _columns(values: NDArray[np.generic]) -> NDArray[np.generic]:
    return values.reshape(len(values), -1)


def _at_least(
    draw: NDArray[np.float64] | float, observed: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Whether a draw reaches the observed scores; equal up to rounding does, and so does NaN."""
    margin = 1e-12 * np.maximum(1.0, np.abs(observed))
    return np.asarray(~(draw < observed - margin))


def _largest(draw: NDArray[np.float64], observed: NDArray[np.float64]) -> float:
    tested = draw[~np.isnan(observed)]
    # A NaN draw must not hide the others, and must count where there is nothing else.
    return float(np.fmax.reduce(tested, initial=np.nan, axis=None))


def _p_values(
    exceeding: NDArray[np.float64], observed: NDArray[np.float64], n: int
) -> NDArray[np.float64]:
    return np.where(np.isnan(observed), np.nan, (1 + exceeding) / (1 + n))
