"""Which reconstruction belongs to which image: identification and retrieval within folds.

Identification, retrieval and 2V2 all ask of every item how its right candidate compares with
others. Rivals come from the item's own fold, since the items of one fold were predicted by one
model; and never show the item's own image, of which several repeats may stand in the test part.
Every pair of images of a fold counts alike, however often each was shown: predictions lean to what
was shown most, and a frequent image would win for being frequent. `contest` counts the wins of the
right candidate over its rivals, and what independent units add to them.

Identification and retrieval name their direction. A similarity matrix read along the wrong axis
answers the other question, and the two answers can differ by tens of percent.
"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, unknown_name
from brainkit.evaluation.checked_arrays import (
    TIE_TOLERANCE,
    column_batches,
    item_rows,
    row_directions,
)
from brainkit.evaluation.intervals import Estimate, ItemScores, group_labels, group_members

Float = NDArray[np.float64]
# score(beaten, tied, n_rivals), of arrays of one shape, in [0, 1]
WinScore = Callable[[Float, Float, Float], Float]
_CELLS = 2**23
IdentificationDirection = Literal["reconstruction_given_image", "image_given_reconstruction"]
RetrievalDirection = Literal["image_from_brain", "brain_from_image"]
Similarity = Literal["pearson", "cosine"]
Ties = Literal["failure", "half"]

IDENTIFICATION_METRICS: dict[str, str] = {
    "reconstruction_given_image": "identification_reconstruction_given_image",
    "image_given_reconstruction": "identification_image_given_reconstruction",
}
RETRIEVAL_DIRECTIONS: tuple[RetrievalDirection, ...] = ("image_from_brain", "brain_from_image")


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
        Number of items.
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
        Scores in [0, 1]. The mean's influences count a unit as item *and* as rival of the others.

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
        labels_here, place = np.unique(labels[rows], return_inverse=True)
        scored = np.isfinite(scores[rows])
        value = float(np.average(scores[rows][scored], weights=weights[scored]))
        parts.append((value, len(rows), labels_here))
        if len(labels_here) > 2:
            left_out = _without_each((beaten, tied, rivals), place, weights, score)
            spread = np.sqrt((len(labels_here) - 1) / len(labels_here)) * (
                left_out.mean() - left_out
            )
            influence[labels_here] += len(rows) / n_items * spread
            freedom += len(labels_here) - 1
    if not parts:
        raise InputError(
            f"{n_items} items cannot be told apart: no fold holds two different images. Make fewer "
            "folds."
        )
    # Where nothing is told apart the mean is chance itself, and not the rounding beside it.
    sizes = [size for _, size, _ in parts]
    value = round(float(np.average([mean for mean, *_ in parts], weights=sizes)), 12)
    if any(len(labels_here) <= 2 for *_, labels_here in parts):
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
        What each fold gives.
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
        The candidates that are beaten, those that tie, and all rivals.
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


def identification(
    reconstructions: ArrayLike,
    images: ArrayLike,
    direction: IdentificationDirection,
    *,
    similarity: Similarity = "pearson",
    ties: Ties = "failure",
    fold: ArrayLike | None = None,
    image: ArrayLike | None = None,
) -> NDArray[np.float64]:
    """Score each item's two-way comparisons with the distractors of its fold.

    With s(i, j) the similarity of image i and reconstruction j, item i's score is the share of
    distractors j ≠ i that lose:

    - ``"reconstruction_given_image"`` (the image is fixed, distractors are the other
      reconstructions): s(i, j) < s(i, i);
    - ``"image_given_reconstruction"`` (the reconstruction is fixed, distractors are the other
      images): s(j, i) < s(i, i).

    Items of another fold are no distractors: they were reconstructed by another model, whose
    training items include item i, so that on noise item i loses to them (.25 instead of .5 for
    100 items in ten folds).

    Parameters
    ----------
    reconstructions, images : array_like of shape (n_items, ...)
        Pixels or features; row i of one belongs to row i of the other.
    direction : {"reconstruction_given_image", "image_given_reconstruction"}
        The side that is fixed. ``IDENTIFICATION_METRICS[direction]`` is the metric's id.
    similarity : {"pearson", "cosine"}, default "pearson"
        Measure by which flattened vectors are compared.
    ties : {"failure", "half"}, default "failure"
        What a distractor exactly as similar as the right item counts: 0 or ½. With ``"failure"``
        equal reconstructions for all images score 0, not ½, when the image is fixed.
    fold : array_like of shape (n_items,), optional
        Fold that each item was held out in; one where not given.
    image : array_like of shape (n_items,), optional
        The image that each item shows. Items of the same image, unaveraged repeats, are no
        distractors of each other; all images differ where not given.

    Returns
    -------
    numpy.ndarray of shape (n_items,)
        Fractions in [0, 1]; chance is ½. A vector without a direction (constant for Pearson, all
        zeros for cosine) is less similar to anything than any other vector is. NaN for an item
        whose fold shows no other image.

    Raises
    ------
    InputError
        If the shapes differ, no fold has two images, or values are not finite.
    """
    return identification_contest(
        reconstructions,
        images,
        direction,
        similarity=similarity,
        score=_tie_score(ties),
        fold=fold,
        image=image,
    ).scores


def identification_contest(
    reconstructions: ArrayLike,
    images: ArrayLike,
    direction: IdentificationDirection,
    *,
    similarity: Similarity = "pearson",
    score: WinScore = share_beaten,
    **rows: Any,
) -> ItemScores:
    """Score as :func:`identification` does, and estimate the mean with each unit's influence.

    Parameters
    ----------
    reconstructions, images, direction, similarity
        See :func:`identification`.
    score : callable
        `share_beaten` or ``first_among(n)`` of `brainkit.evaluation.identification`.
    **rows
        ``fold``, ``image``, ``units`` and ``training``, see
        `brainkit.evaluation.identification.contest`.
    """
    if direction not in IDENTIFICATION_METRICS:
        raise unknown_name("identification direction", direction, list(IDENTIFICATION_METRICS))
    recon, real = item_rows(reconstructions, "reconstructions"), item_rows(images, "images")
    if len(recon) != len(real):
        raise InputError(
            f"There are {len(recon)} reconstructions and {len(real)} images: give pairs in order."
        )
    if len(recon) < 2:
        raise InputError(f"There are {len(recon)} items: identification needs at least 2.")
    pair = (real, recon) if direction == "reconstruction_given_image" else (recon, real)
    return contest(_similar(*pair, similarity), score, len(recon), **rows)


def retrieval_contest(
    brain: ArrayLike,
    images: ArrayLike,
    direction: RetrievalDirection,
    *,
    similarity: Similarity = "cosine",
    score: WinScore = share_beaten,
    **rows: Any,
) -> ItemScores:
    """Retrieve every item among those of its fold, and estimate the mean with units' influences.

    Parameters
    ----------
    brain, images : array_like of shape (n_items, ...)
        Embeddings predicted from the brain, and those of the images shown; row i of one belongs to
        row i of the other.
    direction : {"image_from_brain", "brain_from_image"}
        What is looked for, from what.
    similarity, score, **rows
        See :func:`identification_contest`; ``first_among(n)`` is top-1 retrieval from a gallery
        of n, over all galleries that can be drawn, ties broken at random.
    """
    if direction not in RETRIEVAL_DIRECTIONS:
        raise unknown_name("retrieval direction", direction, RETRIEVAL_DIRECTIONS)
    asked, shown = item_rows(brain, "brain"), item_rows(images, "images")
    if len(asked) != len(shown):
        raise InputError(
            f"There are {len(asked)} brain embeddings and {len(shown)} of images: give pairs in "
            "order."
        )
    pair = (asked, shown) if direction == "image_from_brain" else (shown, asked)
    return contest(_similar(*pair, similarity), score, len(asked), **rows)


def _similar(
    items: NDArray[np.generic], candidates: NDArray[np.generic], similarity: Similarity
) -> Callable[[NDArray[np.intp]], Float]:
    """Return what compares some items with the candidates of the same."""
    return lambda rows: similarity_matrix(items[rows], candidates[rows], similarity)


def _tie_score(ties: Ties) -> WinScore:
    if ties not in ("failure", "half"):
        raise unknown_name("tie rule", ties, ("failure", "half"))
    return share_beaten if ties == "half" else share_strictly_beaten


def similarity_matrix(
    first: NDArray[np.generic], second: NDArray[np.generic], similarity: Similarity
) -> Float:
    """Compare every row of one with every row of the other, a batch of columns at a time.

    Parameters
    ----------
    first, second : array (n_first, width), (n_second, width)
        Real, finite numbers of any dtype; sums are in float64, and no copy is made of all columns.
    similarity : {"pearson", "cosine"}

    Returns
    -------
    float64 array (n_first, n_second)
        -inf where one of two has no direction: constant (Pearson) or all zeros (cosine).
    """
    if similarity not in ("pearson", "cosine"):
        raise unknown_name("similarity", similarity, ("pearson", "cosine"))
    if first.shape[1] != second.shape[1]:
        raise InputError(
            f"Vectors of {first.shape[1]} and {second.shape[1]} numbers cannot be compared: "
            "bring both sides to one shape."
        )
    centre = similarity == "pearson"
    sides = [(rows, row_directions(rows, centre=centre)) for rows in (first, second)]
    product = np.zeros((len(first), len(second)))
    for columns in column_batches(len(first) + len(second), first.shape[1]):
        one, two = (directions.applied(rows[:, columns], slice(None)) for rows, directions in sides)
        product += one @ two.T
    for axis, (_, directions) in enumerate(sides):
        product[(slice(None),) * axis + (directions.lost,)] = -np.inf
    return product
