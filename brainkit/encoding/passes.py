"""Held-out predictions of one pass over prepared folds, of what was shown or of an exchange of it.

A pass goes through the folds one at a time and forms its scores as it goes, so that null passes
keep no predictions. Of large responses, models that treat targets one by one are fitted to a
sixth of them at a time.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.data.dependence import Rows, joined
from brainkit.data.preparing import Part, Prepared
from brainkit.data.recording import Recording
from brainkit.encoding.fit_context import context_of, tell
from brainkit.evaluation import pearson_r
from brainkit.features.design import Design, as_design
from brainkit.linear.ridge_estimator import fit_rows, penalties_of, predict_rows

Array = NDArray[Any]
Table = tuple[Any, Array, Array]  # a fitted space; features of training and test items
Tables = dict[tuple[bytes, bytes], Table]
Shown = Sequence[tuple[Array, Array]]  # what training and test items of each fold show
# Responses beyond so many bytes are fitted in so many parts, where the model allows it.
LARGE, PARTS = 64 * 2**20, 6
SCORED_BYTES = 8 * 2**20


@dataclass(frozen=True)
class HeldOut:
    """Held-out predictions of one pass over a split, and their scores.

    Attributes
    ----------
    folds : sequence of Prepared
        What was fitted and tested.
    means : float32 array (folds, targets)
        Training means; NaN where a target could not be used.
    predicted : float32 array (items, targets) or None
        Deviations from the training mean of the item's fold, in test order; unusable targets are
        NaN. None of a pass that keeps scores alone.
    fold : array of int (items,)
        The fold that each item was tested in. Scores are formed within folds: pooled over folds
        even these deviations correlate negatively with what was measured on pure noise.
    rows : Rows
        What each item shows, and which items belong together.
    alpha : array (targets,)
        Penalty, geometric mean over folds.
    fitted : (features, model)
        Of the first fold.
    correlation, determination : arrays (targets,)
        See `r` and `r2`.
    grid : dict
        Shares of targets whose penalty is the smallest or the largest candidate, and whose
        predictions are constant, means over folds; empty for models without a grid.
    """

    folds: Sequence[Prepared] = field(repr=False)
    means: Array
    predicted: Array | None
    fold: Array
    rows: Rows
    alpha: Array
    fitted: tuple[Any, Any] = field(repr=False)
    correlation: Array
    determination: Array
    grid: dict[str, float] = field(default_factory=dict)

    def r(self) -> Array:
        """Return the correlation of each target, the mean over folds weighted by items."""
        return self.correlation

    def r2(self) -> Array:
        """Return R² of each target against the folds' training means."""
        return self.determination

    @property
    def truth(self) -> Array:
        """Measured responses, deviations from the same means, (items, targets); read anew."""
        return np.concatenate([part for _, part, _ in self.blocks()], axis=1)

    @property
    def predictions(self) -> Array:
        """The predictions of a pass that kept them."""
        assert self.predicted is not None  # a null pass is asked for its scores alone
        return self.predicted

    def blocks(self) -> Iterator[tuple[slice, Array, Array]]:
        """Go through the targets in blocks: which they are, what was measured, and predicted."""
        for units in self.folds[0].blocks():
            targets = self.folds[0].targets_of(units)
            truth = np.concatenate(
                [
                    fold.read("test", units) - mean[targets]
                    for fold, mean in zip(self.folds, self.means, strict=True)
                ]
            )
            predicted = self.predicted
            yield targets, truth, truth[:0] if predicted is None else predicted[:, targets]


def exchanged_stimuli(
    folds: Sequence[Prepared], rows: Rows, exchange: Callable[[Rows, int], Array]
) -> list[tuple[Array, Array]]:
    """Return what training and test items of each fold show after an exchange, for null runs.

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
    shown: Shown | None = None,
    tables: Tables | None = None,
    keep: bool = True,
    at_once: bool = True,
) -> HeldOut:
    """Fit on each fold's training part and predict its test part.

    Parameters
    ----------
    recording : Recording
        That the folds are of.
    folds : sequence of Prepared
        See `brainkit.encoding.judging.prepare_folds`.
    features : Design, transformer or array
        Of the recording's rows, see `brainkit.features.design.as_design`; a clone of a transformer
        is fitted on what each fold's training rows show.
    model : estimator
        From features to responses; a clone is fitted on each training part.
    shown : sequence of (training, test) arrays, optional
        What is said to have been shown in each fold, for null runs; see `exchanged_stimuli`.
    tables : dict, optional
        Fitted features to use again where training and test items are the same sets, as in null
        runs of a split with one fold; gains new ones.
    keep : bool, default=True
        Keep the predictions; False for their scores alone.
    at_once : bool, default=True
        Fit the first fold's model to all targets at once, as the one that a result keeps; False
        where it may be fitted in parts as the others.
    """
    if shown is None:
        shown = [(fold.train_stimuli, fold.test_stimuli) for fold in folds]
    design, run = as_design(recording, features), _Pass(folds, keep, at_once)
    for number, pair in enumerate(shown):
        _fit_fold(run, number, recording, design, model, pair, tables)
    if len(folds) > 1:  # a single one is come back to
        folds[-1].forget()
    return run.finished()


def _fit_fold(
    run: "_Pass",
    number: int,
    recording: Recording,
    design: Design,
    model: Any,
    shown: tuple[Array, Array],
    tables: Tables | None,
) -> None:
    """Fit and predict one fold, in parts of its targets where these are large."""
    fold = run.folds[number]
    train_set, train_items = np.unique(shown[0], return_inverse=True)
    test_set, test_items = np.unique(shown[1], return_inverse=True)
    space, train_features, test_features = table_of(design, train_set, test_set, tables)
    X, X_test = train_features[train_items], test_features[test_items]
    runs = None if design.runs is None else design.runs[fold.train_rows.place]
    parts = _parts(fold, model, at_once=number == 0 and run.at_once)
    if len(parts) > 1:
        fold.forget()  # what an earlier fold has left
    for units in parts:
        # A function of its own: what one part leaves is gone before the next is read.
        encoder = _fit_part(run, number, units, (X, X_test, runs), clone(model), recording, space)
        run.fitted = run.fitted or (space, encoder)


def _fit_part(
    run: "_Pass",
    number: int,
    units: slice,
    rows: tuple[Array, Array, Array | None],
    encoder: Any,
    recording: Recording,
    space: Any,
) -> Any:
    """Fit and predict the usable targets of some units of a fold; return the fitted model.

    Parameters
    ----------
    run : _Pass
        That takes the predictions.
    number : int
        Of the fold.
    units : slice
    rows : (array, array, array or None)
        Features of training and of test items, and runs of the training items.
    encoder : estimator
    recording : Recording
    space : transformer
        Fitted.
    """
    fold, (X, X_test, runs) = run.folds[number], rows
    usable = np.zeros(fold.n_targets, dtype=bool)
    usable[fold.targets_of(units)] = fold.usable[fold.targets_of(units)]
    tell(encoder, context_of(recording, space, usable, fold.fold.rows["test"]))
    if not usable.any():
        return encoder
    Y = _responses(fold, "train", units, usable)
    mean = Y.mean(axis=0, dtype=np.float64).astype(np.float32)
    fit_rows(encoder, X, Y, groups=fold.train_rows.groups, runs=runs)
    n_usable = Y.shape[1]
    del Y
    predicted = predict_rows(encoder, X_test, n_usable).astype(np.float32, copy=False) - mean
    run.add(number, usable, mean, _responses(fold, "test", units, usable), predicted)
    run.tell_of(number, usable, encoder)
    return encoder


def _parts(fold: Prepared, model: Any, at_once: bool) -> list[slice]:
    """Return the units to fit at once: all, or parts of them where nothing depends on it."""
    n_rows, n_units, *_ = fold.fold.recording.responses.shape
    large = 4 * n_rows * fold.n_targets > LARGE
    if at_once or not large or not getattr(model, "targets_apart", False):
        return [slice(0, n_units)]
    edges = np.linspace(0, n_units, PARTS + 1).astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]


def _responses(fold: Prepared, part: Part, units: slice, usable: Array) -> Array:
    """Return the responses of usable targets, without a copy where all are."""
    inside = usable[fold.targets_of(units)]
    if units == slice(0, len(fold.fold.recording.units)):
        values = fold.train if part == "train" else fold.test
    else:
        values = fold.read(part, units)
    return values if inside.all() else values[:, inside]


class _Pass:
    """What a pass over the folds has gathered so far."""

    def __init__(self, folds: Sequence[Prepared], keep: bool, at_once: bool) -> None:
        self.folds, self.at_once = folds, at_once
        sizes = [fold.n_test for fold in folds]
        self.starts = np.cumsum([0, *sizes])
        n_targets = folds[0].n_targets
        shape = (int(self.starts[-1]), n_targets)
        self.predicted = np.empty(shape, dtype=np.float32) if keep else None
        self.means = np.full((len(folds), n_targets), np.nan, dtype=np.float32)
        self.log_alpha = np.full((len(folds), n_targets), np.nan)
        self.grids: list[tuple[int, dict[str, float]]] = []
        self.fitted: tuple[Any, Any] | None = None
        # Folds of a single item have no correlation.
        self.r, self.n_scored = np.zeros(n_targets), sum(size for size in sizes if size > 1)
        self.errors, self.squares = np.zeros(n_targets), np.zeros(n_targets)
        self.true, self.pred = _Spread(n_targets), _Spread(n_targets)
        self.scored = np.zeros(n_targets, dtype=int)  # folds that a target was usable in

    def add(self, number: int, usable: Array, mean: Array, test: Array, predicted: Array) -> None:
        """Take the predictions of some targets of a fold, deviations from the training mean."""
        targets = np.flatnonzero(usable)
        self.means[number, targets] = mean
        rows = slice(self.starts[number], self.starts[number + 1])
        width = max(1, SCORED_BYTES // (8 * max(len(test), 1)))
        for start in range(0, len(targets), width):
            part = slice(start, start + width)
            here, p = targets[part], predicted[:, part]
            t = test[:, part] - mean[part]
            self.true.add(here, t)
            self.pred.add(here, p)
            with np.errstate(invalid="ignore", over="ignore"):
                wide = t.astype(np.float64)
                self.squares[here] += np.einsum("ij,ij->j", wide, wide)
                wide -= p
                self.errors[here] += np.einsum("ij,ij->j", wide, wide)
            if len(t) > 1:
                r = np.nan_to_num(np.asarray(pearson_r(t, p)), nan=0.0)
                self.r[here] += len(t) / self.n_scored * r
        self.scored[targets] += 1
        if self.predicted is not None:
            if len(targets) == self.predicted.shape[1]:
                self.predicted[rows] = predicted
            else:
                self.predicted[rows, targets] = predicted

    def tell_of(self, number: int, usable: Array, encoder: Any) -> None:
        """Take the penalties of a model fitted to some targets of a fold."""
        alpha = penalties_of(encoder, int(usable.sum()))
        self.log_alpha[number, usable] = np.log(alpha)
        self.grids.append((int(usable.sum()), grid_facts(encoder)))

    def finished(self) -> HeldOut:
        """Return the pass."""
        assert self.fitted is not None  # a split has folds
        everywhere = self.scored == len(self.folds)
        if self.predicted is not None:
            for fold, start, stop in zip(
                self.folds, self.starts[:-1], self.starts[1:], strict=True
            ):
                if not fold.usable.all():
                    self.predicted[start:stop, ~fold.usable] = np.nan
        known = everywhere & self.true.varies() & self.pred.varies()
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = 1.0 - self.errors / np.where(self.true.varies(), self.squares, np.nan)
        return HeldOut(
            folds=self.folds,
            means=self.means,
            predicted=self.predicted,
            fold=np.repeat(np.arange(len(self.folds)), np.diff(self.starts)),
            rows=joined([fold.test_rows for fold in self.folds]),
            alpha=np.exp(np.mean(self.log_alpha, axis=0)),
            fitted=self.fitted,
            correlation=np.where(known, np.clip(self.r, -1.0, 1.0), np.nan),
            determination=np.where(everywhere & np.isfinite(r2), r2, np.nan),
            grid=_mean_grid(self.grids),
        )


class _Spread:
    """Whether columns vary over all rows, which come part by part."""

    def __init__(self, n_columns: int) -> None:
        self.n = np.zeros(n_columns)
        self.first = np.full(n_columns, np.nan)
        self.total, self.squares, self.largest = (np.zeros(n_columns) for _ in range(3))
        self.low, self.high = np.full(n_columns, np.inf), np.full(n_columns, -np.inf)

    def add(self, columns: Array, values: Array) -> None:
        """Take more rows of some columns, (n, columns)."""
        new = self.n[columns] == 0
        self.first[columns[new]] = values[0, new]
        with np.errstate(invalid="ignore", over="ignore"):
            apart = values.astype(np.float64) - self.first[columns]
            self.total[columns] += apart.sum(axis=0)
            self.squares[columns] += np.einsum("ij,ij->j", apart, apart)
            low, high = values.min(axis=0), values.max(axis=0)
        self.n[columns] += len(values)
        self.low[columns] = np.minimum(self.low[columns], low)
        self.high[columns] = np.maximum(self.high[columns], high)

    def varies(self) -> NDArray[np.bool_]:
        """Tell which columns are finite, and vary by more than single precision rounds."""
        n = np.maximum(self.n, 1)
        with np.errstate(invalid="ignore"):
            variance = self.squares / n - (self.total / n) ** 2
            largest = np.maximum(np.abs(self.low), np.abs(self.high))
            rounding = float(np.finfo(np.float32).eps) * largest
            spread = np.sqrt(np.maximum(variance, 0)) > rounding
        return np.isfinite(self.squares) & (self.high > self.low) & spread


def _mean_grid(grids: Sequence[tuple[int, dict[str, float]]]) -> dict[str, float]:
    """Average over folds and parts of targets what is known of the penalties."""
    sizes = [size for size, _ in grids]
    return {
        name: float(np.average([one[name] for _, one in grids], weights=sizes))
        for name in grids[0][1]
    }


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


def table_of(design: Design, train: Array, test: Array, tables: Tables | None = None) -> Table:
    """Fit features on the training items; return them and both parts' values by item.

    Parameters
    ----------
    design : Design
    train, test : arrays of int
        What items show, each once, ascending.
    tables : dict, optional
        Looked into first, and added to.
    """
    key = train.tobytes(), test.tobytes()
    if tables is not None and key in tables:
        return tables[key]
    table = design.table(train, test)
    if tables is not None:
        tables[key] = table
    return table
