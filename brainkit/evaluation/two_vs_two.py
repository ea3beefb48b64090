"""Scores of whole response patterns, one per item: 2V2 and pattern correlation.

They answer another question than voxelwise scores do, how well the pattern over units that *one*
item evokes is predicted, and their values do not compare with those of a voxelwise r.
"""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation.checked_arrays import real_array, row_vectors, unit_rows
from brainkit.evaluation.identification import contest, share_beaten
from brainkit.evaluation.intervals import Interval, ItemScores
from brainkit.evaluation.quantities import Correlation
from brainkit.evaluation.target_scores import pearson_r


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
