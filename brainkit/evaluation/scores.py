"""Scores of predicted against measured responses, one per target.

Sums run in float64 over batches of targets, so float32 responses of a whole brain are never
copied as a whole. A target that is constant or holds NaN scores NaN: callers count them.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.evaluation._columns import centred, column_batches, paired_samples
from brainkit.evaluation.quantities import Correlation, RSquared

_Block = NDArray[np.generic]


def pearson_r(Y_true: ArrayLike, Y_pred: ArrayLike) -> Correlation:
    """Correlate each target with its prediction.

    r = Σ (y - ȳ)(p - p̄) / √(Σ (y - ȳ)² · Σ (p - p̄)²), sums over samples.

    Parameters
    ----------
    Y_true : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured responses.
    Y_pred : array_like of the same shape
        Predicted responses.

    Returns
    -------
    Correlation of shape (n_targets,) or ()
        NaN where a target or its prediction is constant or holds NaN or infinity.

    Raises
    ------
    InputError
        If the shapes differ, or there are fewer than 2 samples.
    """
    return Correlation(_by_column(_block_r, Y_true, Y_pred))


def r2(Y_true: ArrayLike, Y_pred: ArrayLike) -> RSquared:
    """Give each target's coefficient of determination.

    R² = 1 - Σ (y - p)² / Σ (y - ȳ)², sums over samples; ȳ is the mean of the samples given.

    Parameters
    ----------
    Y_true : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured responses.
    Y_pred : array_like of the same shape
        Predicted responses.

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
    return RSquared(_by_column(_block_r2, Y_true, Y_pred), definition="determination")


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
