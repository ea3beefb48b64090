"""Scores that resampling can compute for all resamples at once, as matrix products.

r, R² and explained variance depend on a pairing of samples only through Σ (y - ȳ)(p - p̄), and on
weights of samples only through weighted means of y, p, their squares and product.
"""

from collections.abc import Callable, Sequence

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


def contributions(
    name: str, true: NDArray[np.generic], first: NDArray[np.generic], second: NDArray[np.generic]
) -> NDArray[np.float64]:
    """Give what each sample adds to score(first) - score(second): (n_samples, n_targets).

    For r it is t·(q - q') - ½ r̄ (q² - q'²), with columns of mean 0 and length 1 and r̄ the mean of
    the two correlations: what remains, to first order, of a sample once the correlation has been
    normalised. Else it is the difference of the squared residuals over Σ (y - ȳ)². Exchanging the
    predictions turns its sign, and its sum over samples is the difference of the scores.
    """
    t, true_ss = centred(true)
    with np.errstate(invalid="ignore", over="ignore"):
        if name == "pearson_r":
            t /= np.sqrt(true_ss)
            one, two = _unit_columns(first), _unit_columns(second)
            mean_r = 0.5 * np.einsum("ij,ij->j", t, one + two)
            return np.asarray(t * (one - two) - 0.5 * mean_r * (one**2 - two**2))
        squares = []
        for pred in (first, second):
            residual = true.astype(np.float64) - pred.astype(np.float64)
            if name == "explained_variance":
                residual -= residual.mean(axis=0)
            squares.append(residual**2)
        return (squares[1] - squares[0]) / true_ss


def _unit_columns(values: NDArray[np.generic]) -> NDArray[np.float64]:
    deviations, sum_of_squares = centred(values)
    deviations /= np.sqrt(sum_of_squares)
    return deviations


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


class WeightedScores:
    """Scores of predictions when units of samples are drawn a number of times each.

    Parameters
    ----------
    name : str
        One of ``SCORES``.
    members : list of arrays of int
        Samples of each unit.
    weights : array (n_draws, n_units)
        How often each unit is drawn.
    dtype : type
        In which the products are computed.
    """

    def __init__(
        self,
        name: str,
        members: list[NDArray[np.intp]],
        weights: NDArray[np.integer],
        dtype: type[np.floating],
    ) -> None:
        self.name, self.dtype, self.sums = name, dtype, BlockSums(members)
        total = weights @ self.sums.sizes
        self.weights = (weights / total[:, None]).astype(dtype)

    def __call__(
        self, true: NDArray[np.generic], preds: Sequence[NDArray[np.generic]]
    ) -> list[NDArray[np.float64]]:
        """Give the scores of each prediction, (n_draws, n_targets); NaN where there is none."""
        t, true_ss = centred(true)
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            spread = np.sqrt(true_ss / len(true))
            t /= spread
            mean, square = self._means([t, t**2])
            variance = self._positive(square - mean**2)
            if self.name == "pearson_r":
                return [self._r(t, pred, mean, variance) for pred in preds]
            return [self._r2(true, pred, spread, variance) for pred in preds]

    def _r(
        self,
        t: NDArray[np.float64],
        pred: NDArray[np.generic],
        mean: NDArray[np.float64],
        variance: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        q, pred_ss = centred(pred)
        q /= np.sqrt(pred_ss / len(pred))
        pred_mean, pred_square, product = self._means([q, q**2, t * q])
        pred_variance = self._positive(pred_square - pred_mean**2)
        r = (product - mean * pred_mean) / np.sqrt(variance * pred_variance)
        return np.clip(r, -1.0, 1.0)

    def _r2(
        self,
        true: NDArray[np.generic],
        pred: NDArray[np.generic],
        spread: NDArray[np.float64],
        variance: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        residual = (true.astype(np.float64) - pred.astype(np.float64)) / spread
        if self.name == "r2":
            return 1.0 - self._means([residual**2])[0] / variance
        residual -= residual.mean(axis=0)  # changes nothing but rounding
        mean, square = self._means([residual, residual**2])
        return 1.0 - (square - mean**2) / variance

    def _means(self, columns: list[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
        """Weighted means over samples, by one product."""
        stacked = np.concatenate(columns, axis=1)
        means = (self.weights @ self.sums(stacked).astype(self.dtype)).astype(np.float64)
        return np.split(means, len(columns), axis=1)

    def _positive(self, variance: NDArray[np.float64]) -> NDArray[np.float64]:
        """NaN where a draw holds one value only, up to rounding."""
        return np.where(variance > 64 * np.finfo(self.dtype).eps, variance, np.nan)
