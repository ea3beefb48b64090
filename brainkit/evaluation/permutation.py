"""Values of p by permuting which sample each prediction belongs to."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.evaluation._columns import BATCH_BYTES, real_array
from brainkit.evaluation._groups import exchange_rows, resampling_units
from brainkit.evaluation._linear_scores import (
    ROUNDING,
    ScoreFunction,
    linear_form,
    score_name,
    working_dtype,
)
from brainkit.evaluation.statistics import fdr_bh

_Counts = tuple[NDArray[np.float64], NDArray[np.float64]]


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
        sums = moved_true @ moved_pred.transpose(0, 2, 1)
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
