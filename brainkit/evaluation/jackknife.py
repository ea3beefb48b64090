"""Intervals for every target's score, by leaving each block of test samples out once.

Only test samples are ever left out, after every fit. For r, R² and explained variance all scores
without a block follow from sums over blocks; no model is fitted and no score function called again.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation._columns import column_batches, real_array
from brainkit.evaluation._groups import group_labels, group_members
from brainkit.evaluation._linear_scores import (
    BlockSums,
    ScoreFunction,
    score_name,
    scores_without,
)
from brainkit.evaluation.intervals import FEWEST_UNITS, check_level

Float = NDArray[np.float64]


@dataclass(frozen=True)
class ScoreIntervals:
    """Scores with an interval for each target.

    Attributes
    ----------
    observed : numpy.ndarray of shape (n_targets,)
        Scores of the samples as given.
    low, high : numpy.ndarray of shape (n_targets,)
        Ends of the intervals; NaN where the score is NaN.
    n_blocks : int
        Blocks of samples that vary.
    level : float
        Coverage aimed at, of each interval by itself.
    """

    observed: Float
    low: Float
    high: Float
    n_blocks: int
    level: float

    @property
    def excludes_zero(self) -> NDArray[np.bool_]:
        """Whether 0 lies outside each interval."""
        return (self.low > 0) | (self.high < 0)

    @property
    def few_units(self) -> bool:
        """Whether there are too few blocks for the coverage to be sure."""
        return self.n_blocks < FEWEST_UNITS


def score_intervals(
    score_fn: ScoreFunction,
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    level: float = 0.95,
    *,
    blocks: ArrayLike | None = None,
) -> ScoreIntervals:
    """Give each target's score with its jackknife interval over blocks of test samples.

    With G blocks, s(-g) the score without block g on a scale where its spread hardly depends on it
    (Fisher's z for r, the logarithm of 1 - R² for R² and explained variance), and the variance
    (G - 1) / G Σ_g (s(-g) - mean)² (Tukey, 1958), the interval is s ± t √variance with G - 1
    degrees of freedom, brought back to the score's own scale.

    Parameters
    ----------
    score_fn : callable
        ``score_fn(Y_true, Y_pred)`` gives one score per target:
        :func:`brainkit.evaluation.pearson_r`, ``r2`` or ``explained_variance``, whose scores
        without a block are computed for all blocks at once; others are called once a block.
    Y_true, Y_pred : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured and predicted responses of test samples.
    level : float, default 0.95
        Coverage, in (0, 1).
    blocks : array_like of shape (n_samples,), optional
        Samples of one block (an image's repeats) are left out together; for time series
        :func:`brainkit.evaluation.time_blocks` makes blocks within runs.

    Returns
    -------
    ScoreIntervals

    Raises
    ------
    InputError
        If the numbers of samples differ, there are fewer than 3 blocks, or `level` is out of range.

    Notes
    -----
    Fit once, and give predictions of samples that no fit has seen. Held-out predictions of all
    cross-validation folds are not independent of each other: score them within their folds, with
    intervals that know the folds, by :mod:`brainkit.evaluation.estimates`.
    """
    from scipy.stats import t

    check_level(level)
    true, pred = real_array(Y_true, "Y_true"), real_array(Y_pred, "Y_pred")
    if true.ndim == 0 or pred.ndim == 0 or len(true) != len(pred):
        raise InputError(
            f"Y_true has shape {true.shape} and Y_pred {pred.shape}: they need the same samples."
        )
    observed = np.asarray(score_fn(true, pred), dtype=np.float64)
    members = checked_blocks(blocks, len(true))
    name = score_name(score_fn)
    columns = (true.reshape(len(true), -1), pred.reshape(len(pred), -1))
    if name is None:
        without = _called_without(score_fn, true, pred, members).reshape(len(members), -1)
    else:
        sums = BlockSums(members)
        without = np.empty((len(members), columns[0].shape[1]))
        for one in column_batches(len(true) * 6, columns[0].shape[1]):
            without[:, one] = scores_without(name, sums, columns[0][:, one], columns[1][:, one])
    there, back = _SCALES[name]
    with np.errstate(invalid="ignore", divide="ignore"):
        half = t.ppf((1 + level) / 2, len(members) - 1) * jackknife_error(there(without))
        middle = there(observed.reshape(-1))
        ends = np.sort(np.stack([back(middle - half), back(middle + half)]), axis=0)
    low, high = (end.reshape(observed.shape) for end in ends)
    return ScoreIntervals(observed, low, high, len(members), level)


def checked_blocks(blocks: ArrayLike | None, n_samples: int) -> list[NDArray[np.intp]]:
    """Return the samples of each block, three blocks at least."""
    members = group_members(group_labels(blocks, n_samples, "blocks"))
    if len(members) < 3:
        raise InputError(
            f"There are {len(members)} blocks of samples: an interval needs at least 3 that can be "
            "left out one by one."
        )
    return members


def jackknife_error(without: Float) -> Float:
    """Return the standard error of scores from those without each block, (n_blocks, n_targets)."""
    n_blocks = len(without)
    deviations = without - without.mean(axis=0)
    return np.asarray(np.sqrt((n_blocks - 1) / n_blocks * (deviations**2).sum(axis=0)))


def _called_without(
    score_fn: ScoreFunction,
    true: NDArray[np.generic],
    pred: NDArray[np.generic],
    members: list[NDArray[np.intp]],
) -> Float:
    scores = []
    for rows in members:
        kept = np.ones(len(true), dtype=bool)
        kept[rows] = False
        scores.append(np.asarray(score_fn(true[kept], pred[kept]), dtype=np.float64))
    return np.stack(scores)


def _same(values: Float) -> Float:
    return values


def _log_unexplained(values: Float) -> Float:
    return np.asarray(np.log(1.0 - values))


def _explained(values: Float) -> Float:
    return np.asarray(1.0 - np.exp(values))


# Scales of equal spread, and the way back.
_SCALES: dict[str | None, tuple[Callable[[Float], Float], Callable[[Float], Float]]] = {
    "pearson_r": (np.arctanh, np.tanh),
    "r2": (_log_unexplained, _explained),
    "explained_variance": (_log_unexplained, _explained),
    None: (_same, _same),
}
