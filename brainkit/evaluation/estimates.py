"""What every unit of test items adds to means over targets of r and R², within folds.

A region's mean score is a weighted mean of its targets' scores; so are its influences. A whole
brain is gone through once, in batches of targets, and only (units, regions) are kept.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation._columns import column_batches, paired_samples
from brainkit.evaluation._groups import group_labels, group_members
from brainkit.evaluation._linear_scores import BlockSums, scores_without
from brainkit.evaluation.contests import between_folds, training_between_folds
from brainkit.evaluation.intervals import Estimate
from brainkit.evaluation.scores import fold_members, pearson_r

Float = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Influences:
    """What units add to weighted sums of targets' scores.

    Attributes
    ----------
    values : numpy.ndarray of shape (n_units, n_sums)
        See `Estimate.influence`.
    freedom : int
        Degrees of freedom of their variance.
    n : int
        Items.
    n_folds : int or None
        Where influences come from the spread over so many folds, which hold too few units each.
    """

    values: Float
    freedom: int
    n: int
    n_folds: int | None = None

    def estimate(self, which: int, value: float, training: float = 0.0) -> Estimate:
        """Return one of the sums as an estimate, of a model whose `training` share is known."""
        if self.n_folds is not None:
            training = training_between_folds(training, self.n_folds)
        return Estimate(value, self.values[:, which], self.n, self.freedom, training)


def correlation_influences(
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    weights: ArrayLike,
    *,
    fold: ArrayLike | None = None,
    units: ArrayLike | None = None,
) -> Influences:
    """Give what units add to Σ_v w_v r_v, r_v as :func:`brainkit.evaluation.pearson_r` of folds.

    In fold f with G units, leaving unit u out gives r_f(-u); its influence is n_f / n times
    √((G - 1) / G) (mean_u r_f(-u) - r_f(-u)), so that the squares add up to the jackknife variance
    (Tukey, 1958). Where a fold has fewer than three units the folds themselves vary.

    Parameters
    ----------
    Y_true, Y_pred : array_like of shape (n_samples, n_targets)
        Measured and predicted responses of test items.
    weights : array_like of shape (n_targets, n_sums)
        Weights of the targets in each sum: 1 / n_targets for the mean over all of them. Targets
        without a score (NaN) should weigh nothing.
    fold, units : array_like of shape (n_samples,), optional
        Fold of each item; and its unit, each item one where not given.

    Returns
    -------
    Influences
    """
    true, pred = paired_samples(Y_true, Y_pred, ("Y_true", "Y_pred"))
    labels, n_units, members = _rows(len(true), fold, units)
    shares = _weights(weights, true.shape[1])
    members = [rows for rows in members if len(rows) > 1]
    if not members:
        raise InputError("Every fold has a single sample: a correlation within a fold needs 2.")
    n = sum(map(len, members))
    influence = np.zeros((n_units, shares.shape[1]))
    of_folds = np.zeros((len(members), shares.shape[1]))
    own = [np.unique(labels[rows], return_inverse=True) for rows in members]
    for batch in column_batches(len(true) * 6, true.shape[1]):
        for number, (rows, (units_here, place)) in enumerate(zip(members, own, strict=True)):
            r, left_out = _without_each(true[rows][:, batch], pred[rows][:, batch], place)
            of_folds[number] += r @ shares[batch]
            if len(units_here) > 2:
                spread = np.sqrt((len(units_here) - 1) / len(units_here)) * len(rows) / n
                deviations = left_out.mean(axis=0) - left_out  # n_units, n_targets
                influence[units_here] += spread * (deviations @ shares[batch])
    if all(len(units_here) > 2 for units_here, _ in own):
        return Influences(influence, sum(len(units_here) - 1 for units_here, _ in own), n)
    columns = [
        between_folds(
            [
                (float(of_folds[number, which]), len(rows), own[number][0])
                for number, rows in enumerate(members)
            ],
            n_units,
        )
        for which in range(shares.shape[1])
    ]
    values = np.stack([values for values, _ in columns], axis=1)
    return Influences(values, columns[0][1], n, len(members))


def r2_influences(
    Y_true: ArrayLike, Y_pred: ArrayLike, weights: ArrayLike, *, units: ArrayLike | None = None
) -> Influences:
    """Give what units add to Σ_v w_v R²_v, of deviations from the training means.

    R² = 1 - Σ e² / Σ t² is a ratio of sums over items: item i adds (-e_i² + (1 - R²) t_i²) / Σ t².

    Parameters
    ----------
    Y_true, Y_pred : array_like of shape (n_samples, n_targets)
        Deviations from the training means of each item's fold.
    weights, units
        As for :func:`correlation_influences`.
    """
    true, pred = paired_samples(Y_true, Y_pred, ("Y_true", "Y_pred"))
    labels, n_units, _ = _rows(len(true), None, units)
    shares = _weights(weights, true.shape[1])
    influence = np.zeros((n_units, shares.shape[1]))
    for batch in column_batches(len(true) * 4, true.shape[1]):
        t = true[:, batch].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            squares, errors = t**2, (t - pred[:, batch].astype(np.float64)) ** 2
            total = squares.sum(axis=0)
            ratio = errors.sum(axis=0) / total
            by_item = (ratio * squares - errors) / total
        by_item = np.where(np.isfinite(by_item), by_item, 0.0) @ shares[batch]
        np.add.at(influence, labels, by_item)
    return Influences(influence * np.sqrt(n_units / max(n_units - 1, 1)), n_units - 1, len(true))


def _rows(
    n: int, fold: ArrayLike | None, units: ArrayLike | None
) -> tuple[Index, int, list[Index]]:
    """Return the unit of each item, how many units there are, and the items of each fold."""
    labels = group_labels(units, n, "units")
    folds = np.zeros(n, dtype=np.intp) if fold is None else fold
    return labels, int(labels.max()) + 1, fold_members(folds, n)


def _weights(weights: ArrayLike, n_targets: int) -> Float:
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 2 or len(shares) != n_targets:
        raise InputError(f"weights have shape {shares.shape}, expected ({n_targets}, n_sums).")
    return shares


def _without_each(
    true: NDArray[np.generic], pred: NDArray[np.generic], place: Index
) -> tuple[Float, Float]:
    """Return r of each target, and r without each unit: (n_targets,), (n_units, n_targets).

    Of a fold in which one side is constant, with all units or without one, r is 0.
    """
    r = np.nan_to_num(np.asarray(pearson_r(true, pred)), nan=0.0)
    without = scores_without("pearson_r", BlockSums(group_members(place)), true, pred)
    return r, np.nan_to_num(without, nan=0.0)
