"""Scores of predicted against measured responses, one per target.

Sums run in float64 over batches of targets, so float32 responses of a whole brain are never
copied as a whole. A target that is constant or holds NaN scores NaN: callers count them.

Held-out predictions of several folds are scored *within* each fold. Correlating them pooled is
biased, whatever is subtracted: where a fold happens to agree with the others, the others' models,
which learned from it, predict more strongly, so that agreement is divided by more than
disagreement is. On noise the pooled r of 100 items is about -.1 in ten folds.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation._columns import centred, column_batches, paired_samples
from brainkit.evaluation._groups import group_labels, group_members
from brainkit.evaluation.quantities import Correlation, RSquared

_Block = NDArray[np.generic]


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
        Of definition ``"determination"``. NaN where the target is constant, or either side holds
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
        Of definition ``"explained-variance"``; NaN as in :func:`r2`.

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
