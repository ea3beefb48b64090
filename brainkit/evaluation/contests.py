"""Who is most similar to whom: wins of the right candidate over its rivals, and what units add.

Identification, retrieval and 2V2 all ask of every item how its right candidate compares with
others. Rivals come from the item's own fold, since the items of one fold were predicted by one
model; and never show the item's own image, of which several repeats may stand in the test part.
Every pair of images of a fold counts alike, however often each was shown: predictions lean to what
was shown most, and a frequent image would win for being frequent.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation._groups import group_labels, group_members
from brainkit.evaluation._rows import TIE_TOLERANCE
from brainkit.evaluation.intervals import Estimate, ItemScores

Float = NDArray[np.float64]
# score(beaten, tied, n_rivals), of arrays of one shape, in [0, 1]
WinScore = Callable[[Float, Float, Float], Float]
_CELLS = 2**23


def share_beaten(beaten: Float, tied: Float, n_rivals: Float) -> Float:
    """Give the share of rivals that lose, a tie counting one half; chance is ½."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((beaten + 0.5 * tied) / n_rivals)


def share_strictly_beaten(beaten: Float, tied: Float, n_rivals: Float) -> Float:
    """Give the share of rivals that lose, a tie counting nothing."""
    return share_beaten(beaten, 0.0 * tied, n_rivals)


def first_among(n: int) -> WinScore:
    r"""Return the score of coming first among n, over all draws of n - 1 rivals.

    With b of the N rivals beaten and t tied, ties being broken at random,

    .. math:: \frac{1}{t + 1} \sum_{j=0}^{t} \binom{b + j}{n - 1} \Big/ \binom{N}{n - 1}

    and the sum is C(b + t + 1, n) - C(b, n). Chance is 1 / n. Where there are fewer rivals than
    n - 1, all of them are drawn.
    """

    def score(beaten: Float, tied: Float, n_rivals: Float) -> Float:
        from scipy.special import gammaln

        def binomial(total: Float, chosen: Float) -> Float:
            """Log of C(total, chosen), -inf where there is none."""
            known = total >= chosen
            above = np.where(known, total, chosen)
            log = gammaln(above + 1) - gammaln(chosen + 1) - gammaln(above - chosen + 1)
            return np.asarray(np.where(known, log, -np.inf))

        size = np.minimum(float(n), n_rivals + 1)
        ways = binomial(n_rivals, size - 1)
        upper = np.exp(binomial(beaten + tied + 1, size) - ways)
        lower = np.exp(binomial(beaten, size) - ways)
        return np.asarray((upper - lower) / (tied + 1))

    return score


def contest(
    similarities: Callable[[NDArray[np.intp]], Float],
    score: WinScore,
    n_items: int,
    *,
    fold: ArrayLike | None = None,
    image: ArrayLike | None = None,
    units: ArrayLike | None = None,
    training: float = 0.0,
) -> ItemScores:
    """Compare every item's right candidate with those of the other items of its fold.

    Parameters
    ----------
    similarities : callable
        ``similarities(rows)`` gives how similar items (rows) and candidates (columns) of some
        items are, (n_rows, n_rows); the diagonal holds the right pairs.
    score : callable
        See :func:`share_beaten` and :func:`first_among`.
    n_items : int
        How many items there are.
    fold : array_like of shape (n_items,), optional
        Fold that each item was held out in; one where not given.
    image : array_like of shape (n_items,), optional
        Image that each item shows; items of one image are no rivals. All differ where not given.
    units : array_like of shape (n_items,), optional
        Independent units; those of one image are one unit where not given.
    training : float, default 0
        See `Estimate`.

    Returns
    -------
    ItemScores
        In [0, 1]. The mean's influences count a unit as item *and* as rival of the others.

    Raises
    ------
    InputError
        If no item has a rival: every fold holds a single image.
    """
    images = group_labels(image, n_items, "image")
    labels = images if units is None else group_labels(units, n_items, "units")
    one = np.zeros(n_items, dtype=np.intp)
    folds = group_members(one if fold is None else group_labels(fold, n_items, "fold"))
    n_units = int(labels.max()) + 1 if n_items else 0
    scores = np.full(n_items, np.nan)
    influence, freedom, fewest = np.zeros(n_units), 0, n_items
    parts: list[tuple[float, int, NDArray[np.intp]]] = []  # value, items and units of each fold
    for rows in folds:
        rivals = images[rows][:, None] != images[rows][None, :]
        n_rivals = rivals.sum(axis=1)
        if not n_rivals.any():
            continue
        fewest = min(fewest, int(n_rivals[n_rivals > 0].min()))
        similar = similarities(rows)
        right = np.diag(similar)[:, None]
        beaten = (similar < right - TIE_TOLERANCE) & rivals
        tied = ~beaten & ~(similar > right + TIE_TOLERANCE) & rivals
        # Of an image that stands there m times each item counts 1/m, as item and as rival.
        weights = 1.0 / np.bincount(images[rows])[images[rows]]
        scores[rows] = score(*(matrix @ weights for matrix in (beaten, tied, rivals)))
        own, place = np.unique(labels[rows], return_inverse=True)
        scored = np.isfinite(scores[rows])
        value = float(np.average(scores[rows][scored], weights=weights[scored]))
        parts.append((value, len(rows), own))
        if len(own) > 2:
            left_out = _without_each((beaten, tied, rivals), place, weights, score)
            spread = np.sqrt((len(own) - 1) / len(own)) * (left_out.mean() - left_out)
            influence[own] += len(rows) / n_items * spread
            freedom += len(own) - 1
    if not parts:
        raise InputError(
            f"{n_items} items cannot be told apart: no fold holds two different images. Make fewer "
            "folds."
        )
    # Where nothing is told apart the mean is chance itself, and not the rounding beside it.
    sizes = [size for _, size, _ in parts]
    value = round(float(np.average([mean for mean, *_ in parts], weights=sizes)), 12)
    if any(len(own) <= 2 for *_, own in parts):
        influence, freedom = between_folds(parts, n_units)
        training = training_between_folds(training, len(parts))
    estimate = Estimate(value, influence, int(np.isfinite(scores).sum()), freedom, training, (0, 1))
    return ItemScores(scores, estimate, fewest)


def between_folds(
    parts: list[tuple[float, int, NDArray[np.intp]]], n_units: int
) -> tuple[Float, int]:
    """Return influences and degrees of freedom from the spread of scores over folds.

    Where folds hold one or two units each, these cannot be left out one by one: the folds
    themselves are what varies. Each fold's deviation is laid on its units in equal parts.

    Parameters
    ----------
    parts : list of (value, number of items, units)
        Of every fold.
    n_units : int
    """
    influence = np.zeros(n_units)
    if len(parts) < 2:
        return influence, 0
    sizes = np.array([size for _, size, _ in parts], dtype=float)
    weights, values = sizes / sizes.sum(), np.array([value for value, *_ in parts])
    deviations = weights * (values - weights @ values)
    deviations *= np.sqrt(len(parts) / (len(parts) - 1))
    for deviation, (*_, units) in zip(deviations, parts, strict=True):
        influence[units] += deviation / np.sqrt(len(units))
    return influence, len(parts) - 1


def training_between_folds(training: float, n_folds: int) -> float:
    """Return what to add to the variance *between* K folds, which lacks what folds share.

    Where all of the variance lies in pairs of a test and a training fold, folds correlate by
    1 / (K - 1), and the variance of their mean is 2 (K - 1) / (K - 2) times that over folds taken
    as independent: 1 + K / (K - 2).
    """
    return training * n_folds / (n_folds - 2) if n_folds > 2 else training * 3.0


def _without_each(
    wins: tuple[NDArray[np.bool_], ...],
    place: NDArray[np.intp],
    weights: Float,
    score: WinScore,
) -> Float:
    """Return the mean score of a fold without each of its units, as items and as rivals.

    Parameters
    ----------
    wins : arrays (n_rows, n_rows)
        Which candidates are beaten, tied, and rivals.
    place : array (n_rows,)
        Unit of each row, from 0.
    weights : array (n_rows,)
    score : callable
    """
    n_units = int(place.max()) + 1
    order = np.argsort(place, kind="stable")
    starts = np.searchsorted(place[order], np.arange(n_units))
    total, known = np.zeros(n_units), np.zeros(n_units)
    step = max(1, _CELLS // max(len(place), 1))
    for start in range(0, len(place), step):
        rows = slice(start, min(start + step, len(place)))
        counts = []
        for matrix in wins:
            weighted = (matrix[rows] * weights)[:, order]
            by_unit = np.add.reduceat(weighted, starts, axis=1)
            counts.append(by_unit.sum(axis=1, keepdims=True) - by_unit)  # (n_rows, n_units)
        there = (place[rows, None] != np.arange(n_units)) & (counts[2] > 0)
        total += weights[rows] @ np.where(there, score(*counts), 0.0)
        known += weights[rows] @ there
    return total / np.where(known > 0, known, 1)
