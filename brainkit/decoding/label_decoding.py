"""Judge a decoder of labels or numbers on held-out rows, beside labels that are exchanged.

Rows may be trials (fMRI responses, epochs) or samples of continuous data. Labels come from a column
of their table. The whole pipeline is fitted again on labels exchanged as chance might have dealt
them (see `brainkit.data.dependence`): within runs, together for the rows of one trial, shifted in
time for continuous data. That gives what guessing reaches, and p.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.utils import get_tags

from brainkit.arrays.array_likes import whole_number
from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.dependence import Rows, dependence, joined
from brainkit.data.preparing import (
    Prepared,
    PreparedFolds,
    Slot,
    check_folds,
    check_seeds,
    prepare_split,
    training_shares,
    zscore_column,
)
from brainkit.data.recording import Recording
from brainkit.data.splits import SplitLike, describe_split, kept_split, split_of_rows
from brainkit.errors import InputError, PenaltyWarning, SplitError, listed, told_once
from brainkit.evaluation import Estimate, mean_of, pearson_r, permutation_p, r2
from brainkit.evaluation.classification import (
    balanced_accuracy,
    balanced_accuracy_estimate,
    confusion_matrix,
    guessing,
    roc_auc,
    roc_auc_estimate,
)
from brainkit.evaluation.metrics import metric_entry
from brainkit.evaluation.score_intervals import correlation_influences, r2_influences
from brainkit.linear.ridge_estimator import check_model, fit_rows

Array = NDArray[Any]
CLASSES, NUMBERS = "classes", "numbers"
NULL = "exchanged_labels"


@dataclass(frozen=True)
class LabelProtocol:
    """How a decoder of labels is judged.

    Parameters
    ----------
    split : str, splitter, list of (train, test), or Split
        See `Recording.split`; ``"stratified:5"`` has all classes in every fold.
    seeds : tuple of int
        Seeds of the folds; scores are averaged over them.
    target : str, default="label"
        Column of the trials (or samples) that is decoded. Rows without a value are left out.
    zscore, unseen
        See `brainkit.data.preparing.prepare`.
    roi : str, optional
        Decode from these units only.
    permutations : int, default=100
        Null runs for p values, which are those of the first fold seed's scores. With several folds
        the whole pipeline is fitted again on exchanged labels; with one fold the labels of the test
        part are exchanged.
    shuffles : int, default=3
        Null refits on exchanged labels, beside every score.
    resample : str
        What is independent, for nulls, intervals and inner folds; see
        `brainkit.data.dependence.dependence`.
    """

    split: SplitLike
    seeds: tuple[int, ...] = (0,)
    target: str = "label"
    zscore: str | None = None
    unseen: str | None = None
    roi: str | None = None
    permutations: int = 100
    shuffles: int = 3
    resample: str = "auto"

    def __post_init__(self) -> None:
        for name in ("permutations", "shuffles"):
            object.__setattr__(self, name, whole_number(getattr(self, name), name))
        if not self.seeds or self.shuffles < 1 or self.permutations < 0:
            raise InputError(
                "A decoder of labels is judged with at least one seed and one shuffle, and 0 or "
                f"more permutations; got seeds={self.seeds}, shuffles={self.shuffles}, "
                f"permutations={self.permutations}."
            )
        object.__setattr__(self, "split", kept_split(self.split))


@dataclass(frozen=True)
class LabelResult:
    """What `assess_labels` found.

    Attributes
    ----------
    recording : Recording
        What was decoded: the rows that have a label.
    kind : {"classes", "numbers"}
    items : DataFrame
        A row a held-out row of the first seed: its `row` of the recording, `fold`, the true and the
        decoded `label` (of numbers less the training means of the fold), and of classes the scores
        that spoke for them.
    metrics : dict
        By metric id, as in ``metrics.json``: of classes ``decoding_balanced_accuracy`` and
        ``decoding_auc``, of numbers ``decoding_r`` and ``decoding_r2``; each with ``p``.
    confusion : DataFrame or None
        How often each class (rows) was taken for each (columns), in all folds of the first seed.
    by_fold : DataFrame
        A row a fold of the first seed: how many items, and their scores.
    counts : dict
        Units in use and left out; rows without a label.
    fitted : estimator
        On the first fold's training part.
    zscore : dict
    resampling : dict
        What is taken as independent, and why; and the share of the scores' variance that comes from
        the training items.
    prepared : Prepared or None
        The first fold, as it was standardised and read.
    """

    recording: Recording
    protocol: LabelProtocol
    kind: str
    items: pd.DataFrame
    metrics: dict[str, Any]
    confusion: pd.DataFrame | None
    by_fold: pd.DataFrame
    counts: dict[str, int]
    fitted: Any
    zscore: dict[str, Any]
    resampling: dict[str, Any] = field(default_factory=dict)
    prepared: Prepared | None = field(default=None, repr=False)


def assess_labels(recording: Recording, decoder: Any, protocol: LabelProtocol) -> LabelResult:
    """Decode every held-out row's label or number, and score it beside exchanged labels.

    Parameters
    ----------
    recording : Recording
        (trial, unit), (trial, unit, time) or (sample, unit), with a column of labels.
    decoder : classifier or regressor
        `LabelDecoder`, or any of scikit-learn's; a clone is fitted on each training part. A
        classifier decodes classes, a regressor numbers. Epochs come as (n, units, times) to
        estimators that take them, else as (n, units × times).
    protocol : LabelProtocol
        How to judge.

    Returns
    -------
    LabelResult

    Raises
    ------
    InputError
        If the labels are missing, are a single class or a constant number, or no numbers.
    SplitError
        If a class is tested that a training part lacks.
    """
    check_model(decoder)
    if protocol.roi is not None:
        recording = recording.select(roi=protocol.roi)
    kind = _kind(decoder)
    known = _known(recording, protocol.target)
    if not known.all():
        recording = recording.select(trials=known)
        protocol = replace(protocol, split=split_of_rows(protocol.split, known))
    labels, n_without = _labels(recording, protocol.target, kind), int((~known).sum())
    protocol = replace(protocol, zscore=zscore_column(recording, protocol.zscore))
    look = _one_hot(labels) if kind == CLASSES else labels
    rows = dependence(
        recording, protocol.resample, features=look if protocol.resample == "auto" else None
    )
    slot = Slot()
    folds = [
        prepare_split(
            recording, protocol.split, seed=seed, zscore=protocol.zscore, unseen=protocol.unseen,
            average_repeats=False, rows=rows, slot=slot,
        )
        for seed in protocol.seeds
    ]  # fmt: skip
    check_folds(folds[0], protocol.split)
    check_seeds(folds, protocol.split)
    _check_training(folds, labels, kind, protocol)
    judge = _JUDGES[kind](recording, decoder, labels, folds)
    first = judge.run(folds[0], silent=False)
    later = [judge.run(each) for each in folds[1:]]
    training = _training_share(judge, folds, [first, *later])
    usable = folds[0][0].usable_units
    return LabelResult(
        recording=recording,
        protocol=protocol,
        kind=kind,
        items=judge.items(first, protocol.target),
        metrics=_metrics(judge, [first, *later], training, rows, protocol),
        confusion=judge.confusion(first),
        by_fold=judge.by_fold(first),
        counts={
            "units": len(usable),
            "constant_or_nan": int((~usable).sum()),
            "without_label": n_without,
        },
        fitted=first.fitted,
        zscore=folds[0][0].zscore,
        resampling={**rows.facts, "training_share": training},
        prepared=folds[0][0],
    )


# ------------------------------------------------------------------------------------- labels


def _kind(decoder: Any) -> str:
    """Return what an estimator decodes."""
    if hasattr(decoder, "__sklearn_tags__") and is_classifier(decoder):
        return CLASSES
    if hasattr(decoder, "__sklearn_tags__") and is_regressor(decoder):
        return NUMBERS
    raise InputError(
        f"The decoder must be a classifier or a regressor, by which labels are told from numbers; "
        f"got {type(decoder).__name__}."
    )


def _known(recording: Recording, target: str) -> Array:
    """Tell which rows have a label."""
    rows = recording.rows
    what = "samples" if recording.samples is not None else "trials"
    if target not in rows:
        raise InputError(
            f"The {what} of {recording.subject} have no column {target!r} to decode; they have "
            f"{list(rows.columns)}. Give one, or say which it is (target=)."
        )
    known = rows[target].notna().to_numpy()
    if not known.any():
        raise InputError(f"No {what[:-1]} of {recording.subject} has a {target!r}.")
    return np.asarray(known)


def _labels(recording: Recording, target: str, kind: str) -> Array:
    """Return the labels of rows that all have one."""
    column = recording.rows[target]
    if kind == NUMBERS:
        return _numbers(column, target)
    labels = column.astype(str).to_numpy(dtype=str) if column.dtype == object else (
        column.to_numpy())  # fmt: skip
    labels = np.asarray(labels.astype(str) if labels.dtype.kind not in "biufUS" else labels)
    counts = pd.Series(labels).value_counts()
    if len(counts) < 2:
        raise InputError(
            f"The column {target!r} holds 1 class, {counts.index[0]!r}: there is nothing to tell "
            "apart."
        )
    if labels.dtype.kind == "f" and (labels != np.rint(labels)).any():
        raise InputError(
            f"The column {target!r} holds {len(counts)} different real numbers, which are no "
            "classes: decode numbers by a regressor, such as LabelDecoder('ridge')."
        )
    return labels


def _numbers(column: pd.Series, target: str) -> Array:
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        raise InputError(
            f"The column {target!r} holds {column.dtype}, and a regressor decodes numbers: take a "
            "classifier, such as LabelDecoder('logistic'), or a column of numbers."
        )
    values = column.to_numpy(dtype=np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"The column {target!r} holds infinite numbers.")
    if np.ptp(values) == 0:
        raise InputError(
            f"The column {target!r} is {values[0]:g} in every row: a constant number cannot be "
            "decoded."
        )
    return values


def _one_hot(labels: Array) -> Array:
    return (labels[:, None] == np.unique(labels)).astype(np.float64)


def _check_training(
    folds: Sequence[Sequence[Prepared]], labels: Array, kind: str, protocol: LabelProtocol
) -> None:
    """Raise if a training part lacks a class that is tested, or its numbers are constant."""
    for number, fold in enumerate(one for each in folds for one in each):
        train = labels[fold.train_rows.place]
        lacking = sorted(set(labels[fold.test_rows.place].tolist()) - set(train.tolist()))
        if kind == CLASSES and lacking:
            raise SplitError(
                f"Fold {number + 1} of the split {describe_split(protocol.split)} tests the "
                f"classes {listed(lacking)}, which its training part lacks. Split so that every "
                "class stands in several folds ('stratified:5'), or leave those trials out."
            )
        if len(np.unique(train)) < 2:
            raise SplitError(
                f"Fold {number + 1} of the split {describe_split(protocol.split)} trains on "
                f"{train[0]} alone: there is nothing to learn. Make other folds."
            )


# ------------------------------------------------------------------------------------- passes


@dataclass(frozen=True)
class _Decoded:
    """Held-out labels of one pass over a split.

    Attributes
    ----------
    truth : array (items,)
        Labels; of numbers less the training mean.
    predicted : array (items,)
    scores : array (items, 1) or (items, classes)
        What speaks for the classes; of numbers the predictions.
    deviations : array like `scores`
        Scores less their training means.
    """

    truth: Array
    predicted: Array
    scores: Array
    deviations: Array
    fold: Array
    rows: Rows
    fitted: Any


class _Judge(ABC):
    """One recording, decoder and labels, passed over the folds again and again."""

    main = ""

    def __init__(
        self, recording: Recording, decoder: Any, labels: Array, folds: Sequence[PreparedFolds]
    ) -> None:
        self.recording, self.decoder, self.labels, self.folds = recording, decoder, labels, folds
        self.runs = None
        if "run" in recording.rows and not recording.rows["run"].isna().any():
            self.runs = recording.rows["run"].to_numpy()
        self.epochs = len(recording.responses.shape) == 3 and takes_epochs(decoder)

    def run(
        self, folds: Sequence[Prepared], labels: Array | None = None, *, silent: bool = True
    ) -> _Decoded:
        """Fit on each fold's training part and decode its test part.

        Parameters
        ----------
        folds : sequence of Prepared
        labels : array (rows,), optional
            Of null runs: labels of all rows after an exchange.
        silent : bool
            Whether nothing is told of penalties that do not suit the data.
        """
        given = self.labels if labels is None else labels
        with told_once(PenaltyWarning, silent=silent):
            each = [self._fold(number, fold, given) for number, fold in enumerate(folds)]
        if len(folds) > 1:
            folds[-1].forget()
        together: dict[str, Any] = {
            name: np.concatenate([getattr(one, name) for one in each])
            for name in ("truth", "predicted", "scores", "deviations", "fold")
        }
        return _Decoded(**together, rows=joined([one.rows for one in each]), fitted=each[0].fitted)

    def _fold(self, number: int, fold: Prepared, labels: Array) -> _Decoded:
        X, X_test = self._shaped(fold, "train"), self._shaped(fold, "test")
        y, y_test = labels[fold.train_rows.place], labels[fold.test_rows.place]
        runs = None if self.runs is None else self.runs[fold.train_rows.place]
        model = clone(self.decoder)
        fit_rows(model, X, y, groups=fold.train_rows.groups, runs=runs)
        scores, mean = self._scores(model, X_test), self._scores(model, X).mean(axis=0)
        predicted = np.asarray(model.predict(X_test)).reshape(len(X_test))
        return _Decoded(
            truth=self._less_mean(y_test, y),
            predicted=self._less_mean(predicted, y),
            scores=scores,
            deviations=scores - mean,
            fold=np.full(len(X_test), number),
            rows=fold.test_rows,
            fitted=model,
        )

    def _shaped(self, fold: Prepared, part: str) -> Array:
        """Return a part's responses without the units that cannot be used."""
        values = fold.train if part == "train" else fold.test
        if not self.epochs:
            return values if fold.usable.all() else values[:, fold.usable]
        units = fold.usable_units
        inner = self.recording.responses.shape[1:]
        epochs = values.reshape(len(values), *inner)
        return epochs if units.all() else epochs[:, units]

    def exchanged(self, folds: Sequence[Prepared], rows: Rows, exchange: Any) -> Array:
        """Return the labels of all rows after an exchange: over all, or within one fold's parts."""
        if len(folds) > 1:
            return np.asarray(self.labels[exchange(rows)])
        moved = self.labels.copy()
        for part in (folds[0].train_rows, folds[0].test_rows):
            moved[part.place] = self.labels[part.place[exchange(part)]]
        return moved

    @abstractmethod
    def _scores(self, model: Any, X: Array) -> Array:
        """Return what speaks for each class, or the numbers, (items, columns)."""

    def _less_mean(self, values: Array, y: Array) -> Array:
        """Return numbers less the mean of the training labels y; classes as they are."""
        return values

    @abstractmethod
    def values(self, one: _Decoded) -> dict[str, float]:
        """Return the scores of a pass by metric."""

    @abstractmethod
    def estimates(self, one: _Decoded, training: float) -> dict[str, Estimate]:
        """Return the same with the influence of every unit."""

    def entries(self, one: _Decoded) -> dict[str, dict[str, Any]]:
        """Return what else the entries of metrics hold."""
        return {}

    def items(self, one: _Decoded, target: str) -> pd.DataFrame:
        """Return a row a held-out row."""
        return pd.DataFrame(
            {"row": one.rows.place, "fold": one.fold, target: one.truth, "decoded": one.predicted}
        )

    def confusion(self, one: _Decoded) -> pd.DataFrame | None:
        """Return how often each class was taken for each."""
        return None

    def by_fold(self, one: _Decoded) -> pd.DataFrame:
        """Return a row a fold: how many items, and their scores."""
        rows = []
        for number in np.unique(one.fold):
            here = one.fold == number
            part = replace(
                one, truth=one.truth[here], predicted=one.predicted[here],
                scores=one.scores[here], fold=one.fold[here],
            )  # fmt: skip
            known = len(part.truth) > 1
            values = self.values(part) if known else {}
            short = {name.removeprefix("decoding_"): value for name, value in values.items()}
            rows.append({"fold": int(number), "items": int(here.sum()), **short})
        return pd.DataFrame(rows)


class _OfClasses(_Judge):
    """Balanced accuracy, area under the curve, confusion matrix."""

    main = "decoding_balanced_accuracy"

    @property
    def classes(self) -> Array:
        return np.unique(self.labels)

    def _scores(self, model: Any, X: Array) -> Array:
        """Return what speaks for each class that was trained on, in the order of all classes."""
        if hasattr(model, "decision_function"):
            evidence = np.asarray(model.decision_function(X), dtype=np.float64)
        elif hasattr(model, "predict_proba"):
            evidence = np.asarray(model.predict_proba(X), dtype=np.float64)
        else:  # what it says is all that is known
            evidence = (np.asarray(model.predict(X))[:, None] == model.classes_).astype(np.float64)
        n_classes, learned = len(self.classes), np.asarray(model.classes_)
        if evidence.ndim == 2 and evidence.shape[1] == 2 == n_classes:
            evidence = evidence[:, 1] - evidence[:, 0]
        if evidence.ndim == 1:
            if n_classes == 2:
                return evidence[:, None]
            evidence = np.stack([-evidence, evidence], axis=1)
        if evidence.shape[1] != len(learned):
            raise InputError(
                f"{type(model).__name__} gives {evidence.shape[1]} scores for {len(learned)} "
                "classes: one for each is needed (decision_function_shape='ovr')."
            )
        scores = np.full((len(evidence), n_classes), evidence.min() if len(evidence) else 0.0)
        scores[:, np.searchsorted(self.classes, learned)] = evidence
        return scores

    def _codes(self, one: _Decoded) -> Array:
        return np.searchsorted(self.classes, one.truth)

    def values(self, one: _Decoded) -> dict[str, float]:
        scores = {self.main: balanced_accuracy(one.truth, one.predicted, fold=one.fold)}
        area = roc_auc(self._codes(one), one.scores, fold=one.fold)
        return scores | ({"decoding_auc": area} if np.isfinite(area) else {})

    def estimates(self, one: _Decoded, training: float) -> dict[str, Estimate]:
        shared: dict[str, Any] = {
            "fold": one.fold, "units": one.rows.groups, "training": training
        }  # fmt: skip
        estimates = {self.main: balanced_accuracy_estimate(one.truth, one.predicted, **shared)}
        if "decoding_auc" in self.values(one):
            estimates["decoding_auc"] = roc_auc_estimate(self._codes(one), one.scores, **shared)
        return estimates

    def entries(self, one: _Decoded) -> dict[str, dict[str, Any]]:
        chance = guessing(one.truth, one.predicted, fold=one.fold)
        return {self.main: {"n_candidates": len(self.classes), "chance": chance}}

    def items(self, one: _Decoded, target: str) -> pd.DataFrame:
        table = super().items(one, target)
        names = self.classes[1:] if one.scores.shape[1] == 1 else self.classes
        for column, name in enumerate(names):
            table[f"score/{name}"] = one.scores[:, column]
        return table

    def confusion(self, one: _Decoded) -> pd.DataFrame:
        counts = confusion_matrix(one.truth, one.predicted, self.classes)
        return pd.DataFrame(
            counts,
            index=pd.Index(self.classes, name="true"),
            columns=pd.Index(self.classes, name="decoded"),
        )


class _OfNumbers(_Judge):
    """r and R² against the training means."""

    main = "decoding_r"

    def _less_mean(self, values: Array, y: Array) -> Array:
        return np.asarray(values - y.mean())

    def _scores(self, model: Any, X: Array) -> Array:
        return np.asarray(model.predict(X), dtype=np.float64).reshape(len(X), 1)

    def values(self, one: _Decoded) -> dict[str, float]:
        r = float(np.nan_to_num(pearson_r(one.truth, one.predicted, fold=one.fold)))
        return {
            self.main: r,
            "decoding_r2": float(r2(one.truth, one.predicted, baseline=0.0)),
        }

    def estimates(self, one: _Decoded, training: float) -> dict[str, Estimate]:
        true, predicted = one.truth[:, None], one.predicted[:, None]
        groups, weight, values = one.rows.groups, np.ones((1, 1)), self.values(one)
        of_r = correlation_influences(true, predicted, weight, fold=one.fold, units=groups)
        of_r2 = r2_influences(true, predicted, weight, units=groups)
        return {
            self.main: of_r.estimate(0, values[self.main], training),
            "decoding_r2": of_r2.estimate(0, values["decoding_r2"], training),
        }


_JUDGES: dict[str, type[_Judge]] = {CLASSES: _OfClasses, NUMBERS: _OfNumbers}


def takes_epochs(decoder: Any) -> bool:
    """Whether an estimator, or a pipeline's first step, takes epochs (n, units, times)."""
    first = decoder.steps[0][1] if hasattr(decoder, "steps") else decoder
    if getattr(first, "takes_epochs", False) or type(first).__module__.startswith("mne."):
        return True
    return bool(get_tags(first).input_tags.three_d_array)


# ------------------------------------------------------------------------------------ summary


def _training_share(
    judge: _Judge, folds: Sequence[PreparedFolds], runs: Sequence[_Decoded]
) -> float:
    """Return which share of the scores' variance comes from the training items."""
    shares = training_shares(
        folds[:2],
        [one.deviations for one in runs[:2]],
        lambda few: judge.run(few).deviations,
    )
    weights = np.mean([(one.deviations**2).mean(axis=0) for one in runs[:2]], axis=0)
    return float(np.average(shares, weights=weights)) if weights.sum() > 0 else 1.0


def _metrics(
    judge: _Judge,
    runs: Sequence[_Decoded],
    training: float,
    rows: Rows,
    protocol: LabelProtocol,
) -> dict[str, Any]:
    """Return the metrics by id, with intervals, nulls and p."""
    each = [judge.estimates(one, training) for one in runs]
    nulls = _nulls(judge, rows, protocol)
    permuted, observed = _permuted(judge, runs[0], rows, protocol), judge.values(runs[0])
    more = judge.entries(runs[0])
    metrics = {}
    for name in each[0]:
        null = [one[name] for one in nulls if name in one]
        draws = np.array([one.get(name, np.nan) for one in permuted])
        entry = dict(more.get(name, {}))
        if len(draws):
            entry["p"] = float(permutation_p(np.float64(observed[name]), draws))
        metrics[name] = metric_entry(
            name,
            mean_of([one[name] for one in each]),
            nulls={NULL: float(np.mean(null)) if null else float("nan")},
            by_seed=[one[name].value for one in each],
            **entry,
        )
    return metrics


def _nulls(judge: _Judge, rows: Rows, protocol: LabelProtocol) -> list[dict[str, float]]:
    """Return the scores of fits to exchanged labels, means over the fold seeds."""
    null_scores = []
    for number in track(range(protocol.shuffles), f"{judge.recording.subject}: exchanged labels"):
        exchange = partial(_exchange, seed=number)
        each = [
            judge.values(judge.run(folds, judge.exchanged(folds, rows, exchange)))
            for folds in judge.folds
        ]
        null_scores.append({name: float(np.mean([one[name] for one in each])) for name in each[0]})
    return null_scores


def _exchange(rows: Rows, seed: int) -> Array:
    return rows.exchanged(rng(seed, "exchanged labels", len(rows.place)))


def _permuted(
    judge: _Judge, first: _Decoded, rows: Rows, protocol: LabelProtocol
) -> list[dict[str, float]]:
    """Return the scores of permuted labels, which p counts among."""
    n, folds = protocol.permutations, judge.folds[0]
    null_scores = []
    for number in track(range(n), f"{judge.recording.subject}: permutations"):
        if len(folds) == 1:
            order = first.rows.permuted(number, n)
            one = replace(first, truth=first.truth[order])
        else:
            moved = judge.exchanged(folds, rows, partial(_permute, number=number, n=n))
            one = judge.run(folds, moved)
        null_scores.append(judge.values(one))
    return null_scores


def _permute(rows: Rows, number: int, n: int) -> Array:
    return rows.permuted(number, n)
