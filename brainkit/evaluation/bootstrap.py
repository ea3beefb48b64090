"""Intervals for every target's score, by drawing test samples with replacement.

Only test samples are ever drawn, after every fit. Drawing training rows before they are cut into
folds would put copies of one row on both sides of a cut, and pure noise would be predicted well.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.evaluation._columns import real_array
from brainkit.evaluation._groups import group_labels, group_members
from brainkit.evaluation._linear_scores import (
    ScoreFunction,
    WeightedScores,
    score_name,
    working_dtype,
)

# Scores of all draws held at once, for a quantile of each column.
_DRAWN_CELLS = 2**21


@dataclass(frozen=True)
class BootstrapResult:
    """Scores with percentile bootstrap intervals.

    Attributes
    ----------
    observed : numpy.ndarray of shape (n_targets,)
        Scores of the samples as given.
    low, high : numpy.ndarray of shape (n_targets,)
        Ends of the intervals; NaN where the score is NaN.
    n : int
        Number of bootstrap samples.
    level : float
        Coverage aimed at, of each interval by itself.
    """

    observed: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n: int
    level: float

    @property
    def excludes_zero(self) -> NDArray[np.bool_]:
        """Whether 0 lies outside each interval."""
        return (self.low > 0) | (self.high < 0)


def bootstrap_scores(
    score_fn: ScoreFunction,
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    *,
    blocks: ArrayLike | None = None,
) -> BootstrapResult:
    """Give each target's score with an interval over test samples (Efron, 1979).

    Measured and predicted responses of a *test* part are drawn together; the model is not fitted
    again. For :func:`brainkit.evaluation.pearson_r`, ``r2`` and ``explained_variance`` all draws
    are one matrix product of weights and moments; other functions are called n times.

    Parameters
    ----------
    score_fn : callable
        ``score_fn(Y_true, Y_pred)`` gives one score per target.
    Y_true, Y_pred : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured and predicted responses of test samples. Of float32 the products are float32.
    n : int, default 1000
        Bootstrap samples.
    level : float, default 0.95
        Coverage, in (0, 1).
    seed : int, default 0
        The same seed gives the same intervals.
    blocks : array_like of shape (n_samples,), optional
        Samples of one block (an image's repeats) are drawn together; for time series
        :func:`brainkit.evaluation.time_blocks` makes blocks within runs.

    Returns
    -------
    BootstrapResult

    Raises
    ------
    InputError
        If the numbers of samples differ, there are fewer than 2 blocks, or an argument is out of
        range.

    Notes
    -----
    Fit once, and give predictions of samples that no fit has seen. Held-out predictions of all
    cross-validation folds put together are not independent of each other, as each fold's depend on
    the responses in the others: about 15 % of 95 %-intervals of noise targets then exclude 0.
    For those fit anew on permuted responses and use :func:`brainkit.evaluation.permutation_p`.
    """
    true, pred = real_array(Y_true, "Y_true"), real_array(Y_pred, "Y_pred")
    if true.ndim == 0 or pred.ndim == 0 or len(true) != len(pred):
        raise InputError(
            f"Y_true has shape {true.shape} and Y_pred {pred.shape}: they need the same samples."
        )
    check_draws(n, level)
    observed = np.asarray(score_fn(true, pred), dtype=np.float64)
    members = group_members(group_labels(blocks, len(true), "blocks"))
    weights = drawn_weights(len(members), n, seed)
    name = score_name(score_fn)
    if name is None:
        drawn = _drawn_one_by_one(score_fn, true, pred, members, weights)
        ends = percentiles(drawn.reshape(n, -1), level)
    else:
        scores = WeightedScores(name, members, weights, working_dtype(true, pred))
        columns = (true.reshape(len(true), -1), pred.reshape(len(pred), -1))
        ends = _by_batch(lambda t, p: scores(t, [p])[0], *columns, level=level, n=n)
    low, high = (np.where(np.isnan(observed), np.nan, end.reshape(observed.shape)) for end in ends)
    return BootstrapResult(observed, low, high, n, level)


def check_draws(n: int, level: float) -> None:
    """Refuse a number of draws or a coverage that is out of range."""
    if n < 1 or not 0 < level < 1:
        raise InputError(f"n={n} and level={level}: expected n of at least 1 and 0 < level < 1.")


def drawn_weights(n_blocks: int, n: int, seed: int) -> NDArray[np.int64]:
    """Draw how often each block enters each bootstrap sample, (n, n_blocks)."""
    if n_blocks < 2:
        raise InputError(
            f"There is {n_blocks} block of samples: a bootstrap draws among 2 or more."
        )
    return rng(seed, "bootstrap").multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), size=n)


def percentiles(drawn: NDArray[np.float64], level: float) -> NDArray[np.float64]:
    """Give the percentile interval of each column, (2, n_columns); undefined draws are left out."""
    tails = [(1 - level) / 2, (1 + level) / 2]
    ends = np.full((2, drawn.shape[1]), np.nan)
    missing = np.isnan(drawn)
    whole, part = ~missing.any(axis=0), missing.any(axis=0) & ~missing.all(axis=0)
    ends[:, whole] = np.quantile(drawn[:, whole], tails, axis=0)
    if part.any():
        ends[:, part] = np.nanquantile(drawn[:, part], tails, axis=0)
    return ends


def batches_of_draws(n: int, n_columns: int) -> list[slice]:
    """Columns whose draws are held together."""
    step = max(1, _DRAWN_CELLS // n)
    return [slice(start, start + step) for start in range(0, n_columns, step)]


def _by_batch(
    draw: Callable[[NDArray[np.generic], NDArray[np.generic]], NDArray[np.float64]],
    true: NDArray[np.generic],
    pred: NDArray[np.generic],
    *,
    level: float,
    n: int,
) -> NDArray[np.float64]:
    batches = batches_of_draws(n, true.shape[1])
    ends = [percentiles(draw(true[:, one], pred[:, one]), level) for one in batches]
    return np.concatenate(ends, axis=1) if ends else np.empty((2, 0))


def _drawn_one_by_one(
    score_fn: ScoreFunction,
    true: NDArray[np.generic],
    pred: NDArray[np.generic],
    members: list[NDArray[np.intp]],
    weights: NDArray[np.int64],
) -> NDArray[np.float64]:
    drawn = []
    for counts in weights:
        rows = np.concatenate(
            [np.tile(members[block], counts[block]) for block in np.flatnonzero(counts)]
        )
        drawn.append(np.asarray(score_fn(true[rows], pred[rows]), dtype=np.float64))
    return np.stack(drawn)
