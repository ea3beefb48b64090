"""Scores that can be computed for all pairings of samples, or without each block, at once.

r, R² and explained variance depend on a pairing of samples only through Σ (y - ȳ)(p - p̄), and on
which samples there are only through sums of y, p, their squares and product.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.evaluation._columns import centred
from brainkit.evaluation.scores import explained_variance, pearson_r, r2

ScoreFunction = Callable[[NDArray[np.generic], NDArray[np.generic]], ArrayLike]
Floating = NDArray[np.floating]

SCORES: dict[str, ScoreFunction] = {
    "pearson_r": pearson_r,
    "r2": r2,
    "explained_variance": explained_variance,
}

# Resampled scores this close to the observed one are ties, by the dtype of the products.
ROUNDING: dict[type[np.floating], float] = {np.float64: 1e-12, np.float32: 2e-6}


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
