"""Ridge predictions of samples that the fit had not seen, beside the fit to all of them.

A model that is trained on top of ridge predictions must not see those that ridge makes of its own
training samples: they are much closer to the truth than those of new samples ever are, and what is
learned from them does not carry over (Wolpert 1992, stacked generalization).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from brainkit.linear.cross_validation import Folds
from brainkit.linear.ridge_solver import TargetBlock, ridge_blocks
from brainkit.linear.spectrum import is_primal
from brainkit.linear.targets import batch_size

Float = NDArray[np.float32]


@dataclass(frozen=True)
class StackedRidge:
    """Ridge with one penalty for all targets, and its out-of-fold predictions.

    Attributes
    ----------
    coef : array (n_targets, n_features)
    intercept : array (n_targets,)
        Of the fit to all samples.
    alpha : float
        The penalty with the least squared error over folds.
    predictions : array (n_samples, n_targets)
        Of each sample by the fit to the folds that it is not in, at that penalty.
    """

    coef: Float
    intercept: Float
    alpha: float
    predictions: Float


def stacked_ridge(X: Float, Y: Float, alphas: Sequence[float], folds: Folds) -> StackedRidge:
    r"""Fit ridge, and predict each sample out of fold.

    .. math:: \min_{W, b} \lVert Y - X W - b \rVert^2 + \alpha \lVert W \rVert^2

    Parameters
    ----------
    X : array (n_samples, n_features)
    Y : array (n_samples, n_targets)
    alphas : sequence of float
        Candidate penalties, above 0.
    folds : sequence of (train, held_out)
        Row numbers; every row is held out once.

    Returns
    -------
    StackedRidge
    """
    size = batch_size(X, Y.shape[1], None)
    (fit,) = ridge_blocks(X, [TargetBlock(Y, alphas, size)], folds)
    predictions = np.empty(Y.shape, dtype=np.float32)
    for train, held_out in folds:
        predictions[held_out] = _predict(X[train], Y[train], X[held_out], fit.alpha)
    return StackedRidge(
        np.asarray(fit.coef, dtype=np.float32),
        np.asarray(fit.intercept, dtype=np.float32),
        fit.alpha,
        predictions,
    )


def _predict(X: Float, Y: Float, new: Float, alpha: float) -> Float:
    """Fit at one penalty, by the smaller of the two normal equations, and predict new samples."""
    x_mean, y_mean = X.mean(axis=0, dtype=np.float64), Y.mean(axis=0, dtype=np.float64)
    centred, targets = X - x_mean, Y - y_mean
    primal = is_primal(*X.shape)
    inner = centred.T @ centred if primal else centred @ centred.T
    inner[np.diag_indices_from(inner)] += alpha
    factor = cho_factor(inner, overwrite_a=True)
    if primal:
        predicted = (new - x_mean) @ cho_solve(factor, centred.T @ targets)
    else:
        predicted = (new - x_mean) @ centred.T @ cho_solve(factor, targets)
    return np.asarray(predicted + y_mean, dtype=np.float32)
