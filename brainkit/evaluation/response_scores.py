"""Scores of predicted against measured responses: of each target, and of whole patterns."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation.checked_arrays import (
    centred,
    column_batches,
    paired_samples,
    real_array,
    row_vectors,
    unit_rows,
)
from brainkit.evaluation.identification import contest, share_beaten
from brainkit.evaluation.intervals import Interval, ItemScores, group_labels, group_members
from brainkit.evaluation.quantities import Correlation, RSquared

# -- scores of predicted against measured responses, one per target --------------------------------
#
# Sums run in float64 over batches of targets, so float32 responses of a whole brain are never
# copied as a whole. A target that is constant or holds NaN scores NaN: callers count them.
#
# Held-out predictions of several folds are scored *within* each fold. Correlating them pooled is
# biased, whatever is subtracted: where a fold happens to agree with the others, the others'
# models, which learned from it, predict more strongly, so that agreement is divided by more than
# disagreement is. On noise the pooled r of 100 items is about -.1 in ten folds.
#
# r, R² and explained variance can also be computed for all pairings of samples, or without each
# block of them, at once (`linear_form`, `scores_without`): they depend on a pairing of samples
# only through Σ (y - ȳ)(p - p̄), and on which samples there are only through sums of y, p, their
# squares and product.


_Block = NDArray[np.generic]
ScoreFunction = Callable[[NDArray[np.generic], NDArray[np.generic]], ArrayLike]
Floating = NDArray[np.floating]

# Resampled scores this close to the observed one are ties, by the dtype of the products.
ROUNDING: dict[type[np.floating], float] = {np.float64: 1e-12, np.float32: 2e-6}


def pearson_r(
    Y_true: ArrayLike, Y_pred: ArrayLike, *, fold: ArrayLike | None = None
) -> Correlation:
    """Correlate each target with its prediction.

    r = Σ (y - ȳ)(p - p̄) / √(Σ (y - ȳ)² · Σ (p - p̄)²), sums over samples. With several folds
    r = Σ_f n_f r_f / Σ_f n_f, r_f over the n_f samples of fold f: given the model of its fold,
    noise has the same r_f in expectation for every order of its samples, which is 0 on average.

    Parameters
    ----------
    Y_true : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured responses.
    Y_pred : array_like of the same shape
        Predicted responses.
    fold : array_like of shape (n_samples,), optional
        Fold that each sample was held out in, one fold where not given. Folds of a single sample
        have no correlation and are left out.

    Returns
    -------
    Correlation of shape (n_targets,) or ()
        NaN where a target or its prediction is constant or holds NaN or infinity. Of several folds
        those in which a prediction alone is constant count as 0: a constant tells nothing apart.

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than 2 samples, or no fold has 2.
    """
    if fold is None:
        return Correlation(_by_column(_block_r, Y_true, Y_pred))
    members = [rows for rows in fold_members(fold, len(np.asarray(Y_true))) if len(rows) > 1]
    if not members:
        raise InputError(
            "Every fold has a single sample, and a correlation within a fold needs 2: make fewer "
            "folds, or score by r2 against the training means."
        )

    def score(true: _Block, pred: _Block) -> NDArray[np.float64]:
        weights = np.array([len(rows) for rows in members]) / sum(map(len, members))
        parts = np.stack([_fold_r(true[rows], pred[rows]) for rows in members])
        return np.asarray(np.where(_block_known(true, pred), weights @ parts, np.nan))

    return Correlation(_by_column(score, Y_true, Y_pred))


def fold_members(fold: ArrayLike, n_samples: int) -> list[NDArray[np.intp]]:
    """Return the samples of each fold, in order of the folds' numbers.

    Raises
    ------
    InputError
        If `fold` has another shape than (n_samples,).
    """
    return group_members(group_labels(fold, n_samples, "fold"))


def r2(Y_true: ArrayLike, Y_pred: ArrayLike, *, baseline: ArrayLike | None = None) -> RSquared:
    """Give each target's coefficient of determination.

    R² = 1 - Σ (y - p)² / Σ (y - ȳ)², sums over samples. ȳ is the mean of the samples given, or the
    `baseline`: of held-out samples the training mean, which a model that knows nothing predicts.
    Sums over several folds, each with its own baseline, are the mean of the folds' R² weighted by
    Σ (y - ȳ)². A model that learned from noise lies below 0 by the variance of its predictions.

    Parameters
    ----------
    Y_true : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured responses.
    Y_pred : array_like of the same shape
        Predicted responses.
    baseline : float or array_like of shape (n_targets,) or that of `Y_true`, optional
        What is known without a prediction; 0 where both sides are deviations from training means.

    Returns
    -------
    RSquared of shape (n_targets,) or ()
        R² of definition ``"determination"``. NaN where the target is constant, or either side holds
        NaN or infinity; a constant prediction has an R² like any other.

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than 2 samples.
    """
    if baseline is None:
        return RSquared(_by_column(_block_r2, Y_true, Y_pred), definition="determination")
    true, pred = paired_samples(Y_true, Y_pred, ("Y_true", "Y_pred"))
    columns_true, columns_pred = true.reshape(len(true), -1), pred.reshape(len(pred), -1)
    known = np.broadcast_to(np.asarray(baseline), true.shape).reshape(columns_true.shape)
    scores = np.empty(columns_true.shape[1])
    for batch in column_batches(*columns_true.shape):
        scores[batch] = _block_r2_from(
            columns_true[:, batch], columns_pred[:, batch], known[:, batch]
        )
    return RSquared(scores.reshape(true.shape[1:]), definition="determination")


def explained_variance(Y_true: ArrayLike, Y_pred: ArrayLike) -> RSquared:
    """Give each target's explained variance, which ignores a constant offset of the prediction.

    EV = 1 - Var(y - p) / Var(y), variances over samples.

    Parameters
    ----------
    Y_true : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured responses.
    Y_pred : array_like of the same shape
        Predicted responses.

    Returns
    -------
    RSquared of shape (n_targets,) or ()
        R² of definition ``"explained-variance"``; NaN as in :func:`r2`.

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than 2 samples.
    """
    values = _by_column(_block_explained_variance, Y_true, Y_pred)
    return RSquared(values, definition="explained-variance")


def _by_column(
    score: Callable[[_Block, _Block], NDArray[np.float64]], Y_true: ArrayLike, Y_pred: ArrayLike
) -> NDArray[np.float64]:
    true, pred = paired_samples(Y_true, Y_pred, ("Y_true", "Y_pred"))
    columns_true, columns_pred = true.reshape(len(true), -1), pred.reshape(len(pred), -1)
    scores = np.empty(columns_true.shape[1])
    for batch in column_batches(*columns_true.shape):
        scores[batch] = score(columns_true[:, batch], columns_pred[:, batch])
    return scores.reshape(true.shape[1:])


def _block_r(true: _Block, pred: _Block) -> NDArray[np.float64]:
    true_centred, true_ss = centred(true)
    pred_centred, pred_ss = centred(pred)
    with np.errstate(invalid="ignore"):
        true_centred /= np.sqrt(true_ss)
        pred_centred /= np.sqrt(pred_ss)
        correlations = np.einsum("ij,ij->j", true_centred, pred_centred)
    return np.asarray(np.clip(correlations, -1.0, 1.0))  # rounding alone can step over


def _fold_r(true: _Block, pred: _Block) -> NDArray[np.float64]:
    """Return r, 0 where one side is constant over the samples of the fold."""
    return np.nan_to_num(_block_r(true, pred), nan=0.0)


def _block_known(true: _Block, pred: _Block) -> NDArray[np.bool_]:
    """Tell which columns are finite and vary over all samples, the predictions too."""
    return np.isfinite(centred(true)[1]) & np.isfinite(centred(pred)[1])


def _block_r2_from(true: _Block, pred: _Block, known: _Block) -> NDArray[np.float64]:
    spread = centred(true)[1]
    with np.errstate(invalid="ignore", over="ignore"):
        residual = true.astype(np.float64) - pred.astype(np.float64)
        deviation = true.astype(np.float64) - known.astype(np.float64)
        total = np.einsum("ij,ij->j", deviation, deviation)
        ratio = np.einsum("ij,ij->j", residual, residual) / np.where(
            np.isnan(spread), np.nan, total
        )
        return _finite(1.0 - ratio)


def _block_r2(true: _Block, pred: _Block) -> NDArray[np.float64]:
    _, true_ss = centred(true)
    with np.errstate(invalid="ignore", over="ignore"):
        residual = true.astype(np.float64) - pred.astype(np.float64)
        return _finite(1.0 - np.einsum("ij,ij->j", residual, residual) / true_ss)


def _block_explained_variance(true: _Block, pred: _Block) -> NDArray[np.float64]:
    _, true_ss = centred(true)
    with np.errstate(invalid="ignore", over="ignore"):
        residual = true.astype(np.float64) - pred.astype(np.float64)
        residual -= residual.mean(axis=0)
        return _finite(1.0 - np.einsum("ij,ij->j", residual, residual) / true_ss)


def _finite(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(scores), scores, np.nan)


SCORES: dict[str, ScoreFunction] = {
    "pearson_r": pearson_r,
    "r2": r2,
    "explained_variance": explained_variance,
}


def score_name(score_fn: ScoreFunction) -> str | None:
    """Name of a score that has a fast form, None for any other."""
    return next((name for name, known in SCORES.items() if known is score_fn), None)


def working_dtype(*arrays: NDArray[np.generic]) -> type[np.floating]:
    """float32 where all arrays are of it, which halves the work; float64 otherwise."""
    return np.float32 if all(array.dtype == np.float32 for array in arrays) else np.float64


def linear_form(
    name: str, true: NDArray[np.generic], pred: NDArray[np.generic]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Write a score as offset + slope · Σ t·q with t, q of mean 0 and length 1 in each column.

    Returns t, q (n_samples, n_targets), offset, slope (n_targets,); NaN where the score is.
    """
    t, true_ss = centred(true)
    q, pred_ss = centred(pred)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        t /= np.sqrt(true_ss)
        if name == "pearson_r":
            q /= np.sqrt(pred_ss)
            return t, q, np.zeros(true.shape[1]), np.ones(true.shape[1])
        # A constant prediction has a score, though no correlation: the pairing changes nothing.
        constant = np.isnan(pred_ss) & np.isfinite(pred).all(axis=0)
        q = np.where(constant, 0.0, q / np.sqrt(pred_ss))
        pred_ss = np.where(constant, 0.0, pred_ss)
        shift = np.zeros(true.shape[1])
        if name == "r2":
            means = true.mean(axis=0, dtype=np.float64) - pred.mean(axis=0, dtype=np.float64)
            shift = len(true) * means**2
        return t, q, -(pred_ss + shift) / true_ss, 2 * np.sqrt(pred_ss / true_ss)


class BlockSums:
    """Sums of rows over blocks of samples.

    Parameters
    ----------
    members : list of arrays of int
        Samples of each block.
    """

    def __init__(self, members: list[NDArray[np.intp]]) -> None:
        self.sizes = np.array([len(rows) for rows in members])
        self.rows = np.concatenate(members)
        self.starts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])

    def __call__(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum (n_samples, n_columns) to (n_blocks, n_columns)."""
        if len(self.starts) == len(values):  # each block is one sample
            return values[self.rows]
        return np.add.reduceat(values[self.rows], self.starts, axis=0)


def scores_without(
    name: str, sums: BlockSums, true: NDArray[np.generic], pred: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Give a score of the samples without each block, (n_blocks, n_targets); NaN where none is.

    With deviations from the means of all, what is left of Σ t p without block b is
    Σ t p - Σ_b t p - Σ_b t Σ_b p / n(-b), since all deviations sum to 0.
    """
    t, true_ss = centred(true)
    left = (sums.sizes.sum() - sums.sizes)[:, None].astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        t /= np.sqrt(true_ss)
        sum_t = sums(t)
        spread = positive(1.0 - sums(t * t) - sum_t**2 / left)
        if name == "pearson_r":
            p, pred_ss = centred(pred)
            p /= np.sqrt(pred_ss)
            sum_p = sums(p)
            product = np.einsum("ij,ij->j", t, p) - sums(t * p) - sum_t * sum_p / left
            other = positive(1.0 - sums(p * p) - sum_p**2 / left)
            return np.asarray(np.clip(product / np.sqrt(spread * other), -1.0, 1.0))
        residual = (true.astype(np.float64) - pred.astype(np.float64)) / np.sqrt(true_ss)
        if name == "explained_variance":
            residual -= residual.mean(axis=0)
        squares = (residual**2).sum(axis=0) - sums(residual**2)
        if name == "explained_variance":
            squares = squares - sums(residual) ** 2 / left
        return np.asarray(1.0 - squares / spread)


def positive(share: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN where one value is left only, up to rounding, of a sum of squares of 1."""
    return np.where(share > 1e-12, share, np.nan)


# -- scores of whole response patterns, one per item: 2V2 and pattern correlation ------------------
#
# They answer another question than voxelwise scores do, how well the pattern over units that *one*
# item evokes is predicted, and their values do not compare with those of a voxelwise r.


def pattern_correlation(Y_true: ArrayLike, Y_pred: ArrayLike) -> Correlation:
    """Correlate each item's predicted pattern over units with the measured one.

    r_i = Pearson correlation over units v of y_iv and p_iv. Means over units enter it: where units
    differ in their mean response, z-score them with training statistics first.

    Parameters
    ----------
    Y_true : array_like of shape (n_items, n_units)
        Measured responses.
    Y_pred : array_like of the same shape
        Predicted responses.

    Returns
    -------
    Correlation of shape (n_items,)
        NaN where a pattern is constant or holds NaN or infinity.

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than 2 units.
    """
    true, pred = real_array(Y_true, "Y_true"), real_array(Y_pred, "Y_pred")
    if true.ndim != 2 or true.shape != pred.shape or true.shape[1] < 2:
        raise InputError(
            f"Y_true has shape {true.shape} and Y_pred {pred.shape}: patterns need "
            "one shape, (n_items, n_units) with at least 2 units."
        )
    return pearson_r(true.T, pred.T)


def two_vs_two(
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    *,
    fold: ArrayLike | None = None,
    image: ArrayLike | None = None,
) -> float:
    """Give the 2V2 accuracy, the share of item pairs whose predictions are not better swapped.

    A pair i, j counts 1 where d(p_i, y_i) + d(p_j, y_j) < d(p_i, y_j) + d(p_j, y_i), ½ where both
    sums are equal, else 0; d is the cosine distance (Oota et al., 2022, after Mitchell et al.,
    2008). All pairs of one fold that show different images enter; chance is ½.

    Parameters
    ----------
    Y_true : array_like of shape (n_items, n_units)
        Measured patterns.
    Y_pred : array_like of the same shape
        Predicted patterns; a pattern of zeros is at distance 1 from any other.
    fold : array_like of shape (n_items,), optional
        Fold that each item was held out in; items of two folds make no pair.
    image : array_like of shape (n_items,), optional
        Image of each item; items of one image make no pair. All differ where not given.

    Returns
    -------
    float
        Score in [0, 1], the mean over items of the share of their pairs.

    Raises
    ------
    InputError
        If the shapes differ, no fold has two images, or a value is not finite.
    """
    return two_vs_two_contest(Y_true, Y_pred, fold=fold, image=image).estimate.value


def two_vs_two_ci(
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
    fold: ArrayLike | None = None,
    image: ArrayLike | None = None,
) -> Interval:
    """Give the 2V2 accuracy with its studentised bootstrap interval over items.

    The accuracy is a mean over pairs, not over items: an item counts with all of its pairs, on
    both sides. What each adds is found by leaving it out.

    Parameters
    ----------
    Y_true, Y_pred, fold, image
        See :func:`two_vs_two`.
    n, level, seed, groups
        See :func:`brainkit.evaluation.bootstrap_ci`; groups are the images where not given.

    Returns
    -------
    Interval
        Its value is the accuracy; chance, ½, is inside where nothing is predicted.

    Raises
    ------
    InputError
        If the data are refused as by :func:`two_vs_two`, or if there are fewer than 3 items.
    """
    if len(np.asarray(Y_true)) < 3:
        raise InputError(
            f"There are {len(np.asarray(Y_true))} items: an interval of 2V2 needs at least 3."
        )
    wins = two_vs_two_contest(Y_true, Y_pred, fold=fold, image=image, units=groups)
    return wins.estimate.interval(level, n, seed)


def two_vs_two_contest(Y_true: ArrayLike, Y_pred: ArrayLike, **rows: Any) -> ItemScores:
    """Score each item's share of won pairs, and estimate their mean with units' influences.

    Parameters
    ----------
    Y_true, Y_pred : array_like of shape (n_items, n_units)
        See :func:`two_vs_two`.
    **rows
        ``fold``, ``image``, ``units`` and ``training``, see
        `brainkit.evaluation.identification.contest`.

    Raises
    ------
    InputError
        If the data are refused as by :func:`two_vs_two`.
    """
    true, pred = row_vectors(Y_true, "Y_true"), row_vectors(Y_pred, "Y_pred")
    if true.shape != pred.shape or len(true) < 2:
        raise InputError(
            f"Y_true has shape {true.shape} and Y_pred {pred.shape}: 2V2 needs the same patterns, "
            "(n_items, n_units), of at least 2 items."
        )
    true, pred = unit_rows(true, centre=False)[0], unit_rows(pred, centre=False)[0]

    def swapped(chosen: NDArray[np.intp]) -> NDArray[np.float64]:
        """Loss of swapping the predictions of i and j; the pair is won where it is below 0."""
        similar = true[chosen] @ pred[chosen].T  # (n_items, n_items)
        matched = np.diag(similar)
        loss = similar + similar.T - matched[:, None] - matched[None, :]
        return np.asarray(loss)

    return contest(swapped, share_beaten, len(true), **rows)
