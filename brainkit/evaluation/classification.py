r"""Scores of decoded classes: balanced accuracy, area under the ROC curve, confusion matrix.

As all scores here they are formed within folds and averaged over them by their items: the items of
one fold were decoded by one model, and only these can be compared. (Pooled over folds, a class that
a test fold has more of is one that its model saw less of, so that noise scores below chance.)

- *Balanced accuracy* of a fold is the mean over its classes of the share of items that are told
  right. Guessing gives one in the number of classes, whatever their shares, where a fold has items
  of all classes. Where it lacks some, guessing gives as much as labels exchanged within the fold
  do: the mean over its classes of how often they are predicted (`guessing`).
- *AUC* of a fold is the probability that an item of a class has a higher score for that class than
  one of another, a tie counting one half (Hanley and McNeil, 1982, Radiology 143:29); of more than
  two classes the mean over one-v-rest. Chance is ½.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation.identification import between_folds, training_between_folds
from brainkit.evaluation.intervals import Estimate, group_labels, group_members
from brainkit.evaluation.response_scores import fold_members

Float = NDArray[np.float64]
Index = NDArray[np.intp]


def confusion_matrix(
    true: ArrayLike, predicted: ArrayLike, classes: ArrayLike
) -> NDArray[np.int64]:
    """Count how often each class was taken for each.

    Parameters
    ----------
    true, predicted : array_like of shape (n_items,)
    classes : array_like of shape (n_classes,)
        In the order of rows and columns.

    Returns
    -------
    numpy.ndarray of int of shape (n_classes, n_classes)
        Rows are true classes, columns predicted ones.

    Raises
    ------
    InputError
        If lengths differ, or an item has a class that is not among `classes`.
    """
    names = np.asarray(classes)
    t, p = _codes(true, names, "true"), _codes(predicted, names, "predicted")
    _check_lengths(t, p)
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (t, p), 1)
    return counts


def balanced_accuracy(
    true: ArrayLike, predicted: ArrayLike, *, fold: ArrayLike | None = None
) -> float:
    """Give the mean over classes of the share of items that are told right, within folds.

    Parameters
    ----------
    true, predicted : array_like of shape (n_items,)
        Classes, by any names.
    fold : array_like of shape (n_items,), optional
        Fold that each item was held out in; one where not given.

    Returns
    -------
    float
        Σ_f n_f b_f / Σ_f n_f, with b_f the mean recall over the classes of fold f.

    Raises
    ------
    InputError
        If the lengths differ or there is no item.
    """
    t, p, n_classes = _both(true, predicted)
    members = _members(fold, len(t))
    values = [_recall(_counts(t[rows], p[rows], n_classes)) for rows in members]
    return float(np.average(values, weights=[len(rows) for rows in members]))


def guessing(true: ArrayLike, predicted: ArrayLike, *, fold: ArrayLike | None = None) -> float:
    """Give the balanced accuracy that labels exchanged within folds would have on average.

    It is one in the number of classes where every fold has items of all classes.
    """
    t, p, n_classes = _both(true, predicted)
    members = _members(fold, len(t))
    shares = [np.mean([(p[rows] == one).mean() for one in np.unique(t[rows])]) for rows in members]
    return float(np.average(shares, weights=[len(rows) for rows in members])) if n_classes else 0.0


def roc_auc(true: ArrayLike, scores: ArrayLike, *, fold: ArrayLike | None = None) -> float:
    """Give the area under the ROC curve within folds; of several classes the mean one-v-rest.

    Parameters
    ----------
    true : array_like of int of shape (n_items,)
        Number of each item's class, from 0.
    scores : array_like of shape (n_items,) or (n_items, n_classes)
        How much speaks for class 1, or for each class.
    fold : array_like of shape (n_items,), optional
        Fold that each item was held out in; those with a single class are left out.

    Returns
    -------
    float
        NaN where no fold has two classes.

    Raises
    ------
    InputError
        If shapes do not fit.
    """
    codes, columns = _scored(true, scores)
    members = [m for m in _members(fold, len(codes)) if len(np.unique(codes[m])) > 1]
    if not members:
        return float("nan")
    values = [_auc(codes[rows], columns[rows]) for rows in members]
    return float(np.average(values, weights=[len(rows) for rows in members]))


def balanced_accuracy_estimate(
    true: ArrayLike,
    predicted: ArrayLike,
    *,
    fold: ArrayLike | None = None,
    units: ArrayLike | None = None,
    training: float = 0.0,
) -> Estimate:
    """Give :func:`balanced_accuracy` with the influence of every independent unit on it.

    Units are left out one by one within each fold (Tukey's jackknife); where a fold has fewer than
    three the folds themselves vary, as in `brainkit.evaluation.estimates`.

    Parameters
    ----------
    true, predicted, fold
        As for :func:`balanced_accuracy`.
    units : array_like of shape (n_items,), optional
        Independent unit of each item; each item is one where not given.
    training : float, default 0
        See `Estimate`.
    """
    t, p, n_classes = _both(true, predicted)

    def value(rows: Index) -> float:
        return _recall(_counts(t[rows], p[rows], n_classes))

    def without(rows: Index, place: Index, n_units: int) -> Float:
        each = np.zeros((n_units, n_classes, n_classes))
        np.add.at(each, (place, t[rows], p[rows]), 1)
        return np.array([_recall(left) for left in each.sum(axis=0) - each])

    return _estimate(value, without, _members(fold, len(t)), len(t), units, training)


def roc_auc_estimate(
    true: ArrayLike,
    scores: ArrayLike,
    *,
    fold: ArrayLike | None = None,
    units: ArrayLike | None = None,
    training: float = 0.0,
) -> Estimate:
    """Give :func:`roc_auc` with the influence of every independent unit on it.

    Parameters
    ----------
    true, scores, fold
        As for :func:`roc_auc`.
    units, training
        As for :func:`balanced_accuracy_estimate`.

    Raises
    ------
    InputError
        If shapes do not fit, or no fold has two classes.
    """
    codes, columns = _scored(true, scores)
    members = [m for m in _members(fold, len(codes)) if len(np.unique(codes[m])) > 1]
    if not members:
        raise InputError(
            "No fold has items of two classes, so that none can be told apart by their scores. "
            "Make folds with all classes in each, such as 'stratified:5'."
        )

    def value(rows: Index) -> float:
        return _auc(codes[rows], columns[rows])

    def without(rows: Index, place: Index, n_units: int) -> Float:
        return _auc_without(codes[rows], columns[rows], place, n_units)

    n = sum(map(len, members))
    return _estimate(value, without, members, len(codes), units, training, n)


def _estimate(
    value: Callable[[Index], float],
    without: Callable[[Index, Index, int], Float],
    members: Sequence[Index],
    n_items: int,
    units: ArrayLike | None,
    training: float,
    n_scored: int | None = None,
) -> Estimate:
    """Average a score over folds, with the influence of units by leaving them out.

    Parameters
    ----------
    value : callable
        ``value(rows)`` is the score of a fold.
    without : callable
        ``without(rows, place, n_units)`` are its scores without each of its units, (n_units,).
    members : sequence of array of int
        Items of each fold.
    n_items : int
    units, training
        See `balanced_accuracy_estimate`.
    n_scored : int, optional
        Items of all folds that are scored; all where not given.
    """
    labels = group_labels(units, n_items, "units")
    n_units, n = int(labels.max()) + 1, n_scored or n_items
    influence, freedom = np.zeros(n_units), 0
    parts: list[tuple[float, int, Index]] = []
    for rows in members:
        classes, place = np.unique(labels[rows], return_inverse=True)
        parts.append((value(rows), len(rows), classes))
        if len(classes) > 2:
            left_out = without(rows, place, len(classes))
            # A unit without which nothing can be scored adds what the others do.
            left_out = np.where(np.isfinite(left_out), left_out, np.nanmean(left_out))
            spread = np.sqrt((len(classes) - 1) / len(classes)) * (left_out.mean() - left_out)
            influence[classes] += len(rows) / n * spread
            freedom += len(classes) - 1
    mean = float(np.average([one for one, *_ in parts], weights=[size for _, size, _ in parts]))
    if any(len(classes) <= 2 for *_, classes in parts):
        influence, freedom = between_folds(parts, n_units)
        training = training_between_folds(training, len(parts))
    return Estimate(mean, influence, n, freedom, training, (0.0, 1.0))


def _counts(true: Index, predicted: Index, n_classes: int) -> Float:
    counts = np.zeros((n_classes, n_classes))
    np.add.at(counts, (true, predicted), 1)
    return counts


def _recall(counts: Float) -> float:
    """Return the mean recall over the classes that there are, NaN where there is none."""
    total = counts.sum(axis=1)
    known = total > 0
    return float((np.diag(counts)[known] / total[known]).mean()) if known.any() else float("nan")


def _auc(codes: Index, columns: Float) -> float:
    """Return the area under the curve of items (n,) with scores (n, 1) or (n, classes)."""
    return float(np.mean([_area(*one) for one in _contrasts(codes, columns)]))


def _contrasts(codes: Index, columns: Float) -> list[tuple[NDArray[np.bool_], Float]]:
    """Return which items are of a class, and their scores for it, of each class that there is."""
    if columns.shape[1] == 1:
        return [(codes == 1, columns[:, 0])]
    return [(codes == one, columns[:, one]) for one in np.unique(codes)]


def _area(inside: NDArray[np.bool_], scores: Float) -> float:
    return float(_beaten(scores[inside], scores[~inside]).mean() / max((~inside).sum(), 1))


def _beaten(scores: Float, others: Float) -> Float:
    """Return how many of the others each score exceeds, ties counting one half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, scores, side="left")
    not_above = np.searchsorted(ordered, scores, side="right")
    return np.asarray(0.5 * (below + not_above))


def _auc_without(codes: Index, columns: Float, place: Index, n_units: int) -> Float:
    """Return the area without each unit, NaN where that leaves one class."""
    without = []
    for inside, scores in _contrasts(codes, columns):
        # Wins of each item over those of the other side; of one unit they are taken off once.
        wins = np.empty(len(scores))
        wins[inside] = _beaten(scores[inside], scores[~inside])
        wins[~inside] = inside.sum() - _beaten(scores[~inside], scores[inside])
        lost = np.bincount(place, weights=wins, minlength=n_units)
        for unit, rows in enumerate(group_members(place)):
            mine = inside[rows]
            if mine.any() and not mine.all():
                lost[unit] -= _beaten(scores[rows][mine], scores[rows][~mine]).sum()
        n_in = inside.sum() - np.bincount(place, weights=inside, minlength=n_units)
        n_out = (~inside).sum() - np.bincount(place, weights=~inside, minlength=n_units)
        with np.errstate(invalid="ignore", divide="ignore"):
            without.append((wins[inside].sum() - lost) / (n_in * n_out))
    areas = np.where(np.isfinite(without), without, np.nan)
    known = np.isfinite(areas)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, areas, 0.0).sum(axis=0) / known.sum(axis=0))


def _both(true: ArrayLike, predicted: ArrayLike) -> tuple[Index, Index, int]:
    """Return true and predicted classes by number, and how many classes there are."""
    t, p = np.asarray(true), np.asarray(predicted)
    _check_lengths(t, p)
    names, codes = np.unique(np.concatenate([t, p]), return_inverse=True)
    return codes[: len(t)], codes[len(t) :], len(names)


def _check_lengths(true: NDArray[Any], predicted: NDArray[Any]) -> None:
    if true.ndim != 1 or true.shape != predicted.shape or not len(true):
        raise InputError(
            f"true has shape {true.shape} and predicted {predicted.shape}: expected one shape, "
            "(n_items,), with at least one item."
        )


def _codes(values: ArrayLike, classes: NDArray[Any], name: str) -> Index:
    place = {one: number for number, one in enumerate(classes.tolist())}
    given = np.asarray(values).tolist()
    unknown = sorted({str(one) for one in given if one not in place})
    if unknown:
        raise InputError(f"{name} has the classes {unknown}, which are not among {list(place)}.")
    return np.array([place[one] for one in given], dtype=np.intp)


def _scored(true: ArrayLike, scores: ArrayLike) -> tuple[Index, Float]:
    codes, columns = np.asarray(true), np.asarray(scores, dtype=np.float64)
    columns = columns[:, None] if columns.ndim == 1 else columns
    if codes.ndim != 1 or codes.dtype.kind not in "iub" or columns.shape[:1] != codes.shape:
        raise InputError(
            f"true are numbers of classes (n_items,), and scores (n_items,) or (n_items, "
            f"n_classes); got {codes.dtype} of shape {codes.shape}, and {columns.shape}."
        )
    if not np.isfinite(columns).all():
        raise InputError("scores hold NaN or infinity: leave those items out.")
    return codes.astype(np.intp), columns


def _members(fold: ArrayLike | None, n: int) -> list[Index]:
    return [np.arange(n)] if fold is None else fold_members(fold, n)
