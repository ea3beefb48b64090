"""Held-out predictions of one pass over prepared folds, of the true stimuli or exchanged ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.data.dependence import Rows, joined
from brainkit.data.preparing import Prepared
from brainkit.data.recording import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.encoding.context import context_of, tell
from brainkit.errors import InputError
from brainkit.evaluation import pearson_r, r2
from brainkit.features import read_for
from brainkit.linear.ridge_estimator import fit_rows, penalties_of, predict_rows

Array = NDArray[Any]
Table = tuple[Any, Array, Array]  # a fitted space; features of training and test stimuli
Tables = dict[tuple[bytes, bytes], Table]


@dataclass(frozen=True)
class HeldOut:
    """Held-out responses and predictions of one pass over a split.

    Attributes
    ----------
    truth, predicted : arrays (items, units)
        Deviations from the training mean of the item's fold, in test order; unusable units are
        NaN.
    fold : array of int (items,)
        The fold that each item was tested in. Scores are formed within folds: pooled over folds
        even these deviations correlate negatively with what was measured on pure noise.
    rows : Rows
        What each item shows, and which items belong together.
    alpha : array (units,)
        Penalty, geometric mean over folds.
    fitted : (features, model)
        Of the first fold.
    grid : dict
        Shares of targets whose penalty is the smallest or the largest candidate, and whose
        predictions are constant, means over folds; empty for models without a grid.
    """

    truth: Array
    predicted: Array
    fold: Array
    rows: Rows
    alpha: Array
    fitted: tuple[Any, Any] = field(repr=False)
    grid: dict[str, float] = field(default_factory=dict)

    def r(self) -> Array:
        """Return the correlation of each unit, the mean over folds weighted by items, (units,)."""
        return np.asarray(pearson_r(self.truth, self.predicted, fold=self.fold))

    def r2(self) -> Array:
        """Return R² of each unit against the folds' training means, (units,)."""
        return np.asarray(r2(self.truth, self.predicted, baseline=0.0))


def stimuli_of(recording: Recording) -> Stimuli:
    """Return a recording's stimuli; raises `InputError` where it has none."""
    if recording.stimuli is None:
        raise InputError("An encoding model needs stimuli; this recording has none.")
    return recording.stimuli


def exchanged_stimuli(
    folds: Sequence[Prepared], rows: Rows, exchange: Callable[[Rows, int], Array]
) -> list[tuple[Array, Array]]:
    """Return the training and test stimuli of each fold after an exchange, for null runs.

    With several folds the exchange is one over the whole recording; with one fold it stays within
    each part.

    Parameters
    ----------
    folds : sequence of Prepared
    rows : Rows
        All rows of the recording.
    exchange : callable
        ``exchange(rows, part)`` gives for each row that whose stimulus is said to have been shown,
        as `Rows.exchanged` does; parts are numbered.
    """
    if len(folds) == 1:
        parts = (folds[0].train_rows, folds[0].test_rows)
        moved = [part.shown[exchange(part, number)] for number, part in enumerate(parts)]
        return [(moved[0], moved[1])]
    # What is averaged is exchanged as the item that it is, if all folds have the same items.
    items = np.unique(np.concatenate([fold.test_rows.place for fold in folds]))
    if all(np.isin(fold.train_rows.place, items).all() for fold in folds):
        rows = rows.take(items)
    exchanged = rows.shown[exchange(rows, 0)]

    def said(part: Rows) -> Array:
        return np.asarray(exchanged[np.searchsorted(rows.place, part.place)])

    return [(said(fold.train_rows), said(fold.test_rows)) for fold in folds]


def held_out(
    recording: Recording,
    folds: Sequence[Prepared],
    features: Any,
    model: Any,
    *,
    shown: Sequence[tuple[Array, Array]] | None = None,
    tables: Tables | None = None,
) -> HeldOut:
    """Fit on each fold's training part and predict its test part.

    Parameters
    ----------
    recording : Recording
        Whose stimuli were shown; folds are of it.
    folds : sequence of Prepared
        See `brainkit.encoding.protocol.prepare_folds`.
    features : transformer
        From stimuli to features; a clone is fitted on each fold's training stimuli.
    model : estimator
        From features to responses; a clone is fitted on each training part.
    shown : sequence of (training, test) stimulus rows, optional
        What is said to have been shown in each fold, for null runs; see `exchanged_stimuli`.
    tables : dict, optional
        Fitted features to use again where training and test stimuli are the same sets, as in null
        runs of a split with one fold; gains new ones.
    """
    stimuli = stimuli_of(recording)
    if shown is None:
        shown = [(fold.train_stimuli, fold.test_stimuli) for fold in folds]
    truth, predicted, alphas, grids, fitted = [], [], [], [], None
    for fold, (train_rows, test_rows) in zip(folds, shown, strict=True):
        encoder = clone(model)
        train_set, train_items = np.unique(train_rows, return_inverse=True)
        test_set, test_items = np.unique(test_rows, return_inverse=True)
        space, train_features, test_features = table_of(
            stimuli, features, train_set, test_set, tables
        )
        Y_train = fold.train[:, fold.usable]
        tell(encoder, context_of(recording, space, fold.usable))
        fit_rows(encoder, train_features[train_items], Y_train, groups=fold.train_rows.groups)
        mean = np.full(len(fold.usable), np.nan, dtype=np.float32)
        mean[fold.usable] = Y_train.mean(axis=0, dtype=np.float64)
        prediction = np.full(fold.test.shape, np.nan, dtype=np.float32)
        n_usable = int(fold.usable.sum())
        prediction[:, fold.usable] = predict_rows(encoder, test_features[test_items], n_usable)
        prediction -= mean
        alpha = np.full(len(fold.usable), np.nan)
        alpha[fold.usable] = penalties_of(encoder, n_usable)
        truth.append(fold.test - mean)
        predicted.append(prediction)
        alphas.append(alpha)
        grids.append(grid_facts(encoder))
        fitted = fitted or (space, encoder)
    assert fitted is not None  # a split has folds
    return HeldOut(
        truth=np.concatenate(truth),
        predicted=np.concatenate(predicted),
        fold=np.repeat(np.arange(len(truth)), [len(part) for part in truth]),
        rows=joined([fold.test_rows for fold in folds]),
        alpha=np.exp(np.mean(np.log(alphas), axis=0)),
        fitted=fitted,
        grid={name: float(np.mean([one[name] for one in grids])) for name in grids[0]},
    )


def grid_facts(model: Any) -> dict[str, float]:
    """Return how well a fitted model's penalties suit the data; nothing of one without a grid."""
    if not hasattr(model, "alpha_at_edge_"):
        return {}
    smallest, largest = model.alpha_at_edge_
    return {
        "at_smallest_alpha": float(smallest),
        "at_largest_alpha": float(largest),
        "constant_predictions": float(model.constant_predictions_),
    }


def table_of(
    stimuli: Stimuli, features: Any, train: Array, test: Array, tables: Tables | None = None
) -> Table:
    """Fit features on the training stimuli; return them and both parts' values by stimulus.

    Parameters
    ----------
    stimuli : Stimuli
    features : transformer
    train, test : arrays of int
        Stimulus rows, each once, ascending.
    tables : dict, optional
        Looked into first, and added to.
    """
    key = train.tobytes(), test.tobytes()
    if tables is not None and key in tables:
        return tables[key]
    space = clone(features)
    fitted = space.fit_transform(read_for(space, stimuli, train))
    table = space, fitted, space.transform(read_for(space, stimuli, test))
    if tables is not None:
        tables[key] = table
    return table
