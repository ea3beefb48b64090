"""Scores of whole response patterns, one per item: 2V2 and pattern correlation.

They answer another question than voxelwise scores do, how well the pattern over units that *one*
item evokes is predicted, and their values do not compare with those of a voxelwise r.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation._columns import BATCH_BYTES, real_array
from brainkit.evaluation._rows import TIE_TOLERANCE, row_vectors, unit_rows
from brainkit.evaluation.quantities import Correlation
from brainkit.evaluation.scores import pearson_r
from brainkit.evaluation.statistics import Interval, bootstrap_ci


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


def two_vs_two(Y_true: ArrayLike, Y_pred: ArrayLike) -> float:
    """Give the 2V2 accuracy, the share of item pairs whose predictions are not better swapped.

    A pair i, j counts 1 where d(p_i, y_i) + d(p_j, y_j) < d(p_i, y_j) + d(p_j, y_i), ½ where both
    sums are equal, else 0; d is the cosine distance (Oota et al., 2022, after Mitchell et al.,
    2008). All n(n − 1)/2 pairs enter; chance is ½.

    Parameters
    ----------
    Y_true : array_like of shape (n_items, n_units)
        Measured patterns.
    Y_pred : array_like of the same shape
        Predicted patterns; a pattern of zeros is at distance 1 from any other.

    Returns
    -------
    float
        In [0, 1].

    Raises
    ------
    InputError
        If the shapes differ, there are fewer than 2 items, or a value is not finite.
    """
    return float(two_vs_two_by_item(Y_true, Y_pred).mean())


def two_vs_two_ci(
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
) -> Interval:
    """Give the 2V2 accuracy with a bootstrap interval over items.

    The accuracy is a mean over pairs, not over items. Its jackknife pseudo-values,
    n·U - (n - 1)·U_(-i) with U_(-i) the accuracy without item i, have the accuracy as their mean
    and its sampling variance as the variance of that mean; they are drawn with replacement.

    Parameters
    ----------
    Y_true, Y_pred : array_like of shape (n_items, n_units)
        As in :func:`two_vs_two`, of at least 3 items.
    n, level, seed, groups
        As in :func:`brainkit.evaluation.bootstrap_ci`.

    Returns
    -------
    Interval
        Its value is the accuracy; chance, ½, is inside where nothing is predicted.

    Raises
    ------
    InputError
        As in :func:`two_vs_two`, or if there are fewer than 3 items.
    """
    pseudo = two_vs_two_pseudo_values(two_vs_two_by_item(Y_true, Y_pred))
    return bootstrap_ci(pseudo, n, level, seed, groups=groups)


def two_vs_two_pseudo_values(shares: ArrayLike) -> NDArray[np.float64]:
    """Give the jackknife pseudo-values of a 2V2 accuracy, which :func:`two_vs_two_ci` draws from.

    Parameters
    ----------
    shares : array_like of shape (n_items,)
        As :func:`two_vs_two_by_item` gives them, of at least 3 items.

    Returns
    -------
    numpy.ndarray of shape (n_items,)
        Their mean is the accuracy.

    Raises
    ------
    InputError
        If there are fewer than 3 items.
    """
    won = real_array(shares, "shares")
    if len(won) < 3:
        raise InputError(f"There are {len(won)} items: an interval of 2V2 needs at least 3.")
    rest = len(won) - 1
    # Of n (n - 1) U / 2 wins, (n - 1) shares_i go with item i; (n - 1)(n - 2) / 2 pairs are left.
    without = (len(won) * won.mean() - 2 * won) / (rest - 1)
    return np.asarray(len(won) * won.mean() - rest * without)


def two_vs_two_by_item(Y_true: ArrayLike, Y_pred: ArrayLike) -> NDArray[np.float64]:
    """Give each item's share of the pairs that :func:`two_vs_two` counts.

    Their mean is the 2V2 accuracy. Each pair counts for two items, so that the spread of these
    shares is half of what an interval needs: :func:`two_vs_two_ci` gives one.

    Parameters
    ----------
    Y_true, Y_pred : array_like of shape (n_items, n_units)
        As in :func:`two_vs_two`.

    Returns
    -------
    numpy.ndarray of shape (n_items,)
        In [0, 1].

    Raises
    ------
    InputError
        As in :func:`two_vs_two`.
    """
    true, pred = row_vectors(Y_true, "Y_true"), row_vectors(Y_pred, "Y_pred")
    if true.shape != pred.shape or len(true) < 2:
        raise InputError(
            f"Y_true has shape {true.shape} and Y_pred {pred.shape}: 2V2 needs the same patterns, "
            "(n_items, n_units), of at least 2 items."
        )
    true, pred = unit_rows(true, centre=False)[0], unit_rows(pred, centre=False)[0]
    own = np.einsum("iv,iv->i", true, pred)
    wins = np.zeros(len(true))
    # Blocks of the upper triangle, so that no n × n matrix is held: all of it is matrix products.
    step = max(1, BATCH_BYTES // (8 * len(true)))
    for start in range(0, len(true), step):
        rows = slice(start, min(start + step, len(true)))
        crossed = true[rows] @ pred[start:].T + pred[rows] @ true[start:].T
        gain = own[rows, None] + own[None, start:] - crossed
        won = (gain > TIE_TOLERANCE) + 0.5 * (np.abs(gain) <= TIE_TOLERANCE)
        won = np.triu(won, 1)  # pairs of a later item, each once
        wins[rows] += won.sum(axis=1)
        wins[start:] += won.sum(axis=0)
    return wins / (len(true) - 1)
