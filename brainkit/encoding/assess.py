"""Judge an encoding model on held-out stimuli: scores, ceilings, shuffled features, permutations.

`held_out` makes the held-out predictions of one pass over prepared folds; `assess_encoder`
repeats it over fold seeds and with shuffled stimuli, and sums up by unit and by region.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.preparing import AverageRepeats, Prepared, prepare
from brainkit.data.recording import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.encoding.context import context_of, tell
from brainkit.encoding.patterns import PatternScores, pattern_scores, with_patterns
from brainkit.encoding.summary import Scores, region_table, summarise, unit_table
from brainkit.errors import InputError
from brainkit.evaluation import NoiseCeiling, noise_ceiling, pearson_r, r2
from brainkit.features import read_for

Array = NDArray[Any]
Tables = dict[tuple[bytes, bytes], tuple[Any, Array, Array]]


@dataclass(frozen=True)
class EncodingProtocol:
    """How an encoder is judged.

    Parameters
    ----------
    split : str
        Split preset.
    seeds : tuple of int
        Seeds of the folds; scores are averaged over them.
    zscore : str or None
        Column whose groups are z-scored with training statistics, usually "session".
    unseen : {None, "session-unlabelled"}
        See `Recording.zscore`.
    average_repeats : bool or "test"
        Average the trials of each stimulus within each part, or within the test part alone.
    ceiling : {"nsd", None}
        Noise-ceiling definition; None where stimuli do not repeat.
    permutations : int
        Null runs for p values. With several folds the whole pipeline is fitted again on exchanged
        stimuli; with one fold the test items of the fixed predictions are exchanged.
    shuffles : int
        Null refits on exchanged stimuli, beside every score.
    n_train : int, optional
        Training stimuli to learn from, drawn by the seed of the folds; all where not given.
    pattern_scores : bool
        Score the pattern over each region's units too, by 2V2 and pattern correlation (see
        `brainkit.encoding.patterns`).
    """

    split: str
    seeds: tuple[int, ...] = (0,)
    zscore: str | None = "session"
    unseen: str | None = None
    average_repeats: AverageRepeats = True
    ceiling: str | None = "nsd"
    permutations: int = 200
    shuffles: int = 3
    n_train: int | None = None
    pattern_scores: bool = False

    def __post_init__(self) -> None:
        if not self.seeds or self.shuffles < 1 or self.permutations < 0:
            raise InputError(
                "An encoder is judged with at least one seed and one shuffle, and 0 or more "
                f"permutations; got seeds={self.seeds}, shuffles={self.shuffles}, "
                f"permutations={self.permutations}."
            )


@dataclass(frozen=True)
class HeldOut:
    """Held-out responses and predictions of one pass over a split.

    Attributes
    ----------
    truth, predicted : arrays (items, units)
        Deviations from the training mean of the item's fold, in test order; unusable units are
        NaN. Without the deviation a mean prediction would correlate negatively
        with held-out responses pooled over folds, since each fold's training mean moves against
        its test items.
    fold : array of int (items,)
        The fold that each item was tested in.
    alpha : array (units,)
        Penalty, geometric mean over folds.
    fitted : (features, model)
        Of the first fold.
    """

    truth: Array
    predicted: Array
    fold: Array
    alpha: Array
    fitted: tuple[Any, Any] = field(repr=False)

    def r(self) -> Array:
        """Return the correlation of each unit, (units,)."""
        return np.asarray(pearson_r(self.truth, self.predicted))

    def r2(self) -> Array:
        """Return R² of each unit, (units,)."""
        return np.asarray(r2(self.truth, self.predicted))


@dataclass(frozen=True)
class EncodingResult:
    """What `assess_encoder` found.

    Attributes
    ----------
    recording : Recording
        What was encoded.
    units : DataFrame
        The recording's units with r, r2, ceiling, alpha, p, q and status.
    regions : DataFrame
        A row a region: units, mean r, ceiling fraction, the same for shuffled stimuli, p.
    metrics : dict
        By metric id, as in ``metrics.json``.
    predictions, truth : arrays (items, units)
        Held-out predictions and responses of the first seed, see `HeldOut`.
    test_stimuli : array of int (items,)
        Stimulus row of each item.
    counts : dict
        How many units there are, and how many were left out and why.
    fitted : (features, model)
        Fitted on the first fold's training part.
    """

    recording: Recording
    protocol: EncodingProtocol
    units: pd.DataFrame
    regions: pd.DataFrame
    metrics: dict[str, Any]
    predictions: Array
    truth: Array
    test_stimuli: Array
    counts: dict[str, int]
    fitted: tuple[Any, Any]
    zscore: dict[str, Any]


def prepare_folds(
    recording: Recording, protocol: EncodingProtocol, *, seed: int = 0
) -> list[Prepared]:
    """Split, z-score, average and read a recording by a protocol."""
    return [
        prepare(
            fold,
            zscore=protocol.zscore,
            unseen=protocol.unseen,
            average_repeats=protocol.average_repeats,
        ).fewer(protocol.n_train, rng(seed, "training stimuli", number))
        for number, fold in enumerate(recording.split(protocol.split, seed=seed))
    ]


def exchanged_stimuli(folds: Sequence[Prepared], seed: int) -> list[tuple[Array, Array]]:
    """Return the training and test stimuli of each fold after a random exchange, for null runs.

    With several folds the exchange is one over the whole recording; with one fold it stays within
    each part. All trials of a stimulus get the same other stimulus.
    """
    first = folds[0]
    parts = [first.train_stimuli, first.test_stimuli]
    if len(folds) > 1:
        parts = [np.concatenate(parts)]
    shown = np.arange(max(part.max() for part in parts) + 1)
    for number, part in enumerate(parts):
        rows = np.unique(part)
        shown[rows] = rng(seed, "exchanged stimuli", number).permutation(rows)
    return [(shown[fold.train_stimuli], shown[fold.test_stimuli]) for fold in folds]


def held_out(
    recording: Recording,
    folds: Sequence[Prepared],
    features: Any,
    model: Any,
    *,
    exchange: int | None = None,
    tables: Tables | None = None,
) -> HeldOut:
    """Fit on each fold's training part and predict its test part.

    Parameters
    ----------
    recording : Recording
        Whose stimuli were shown; folds are of it.
    folds : sequence of Prepared
        See `prepare_folds`.
    features : transformer
        From stimuli to features; a clone is fitted on each fold's training stimuli.
    model : estimator
        From features to responses; a clone is fitted on each training part.
    exchange : int, optional
        Seed of a null run, see `exchanged_stimuli`.
    tables : dict, optional
        Fitted features to use again where training and test stimuli are the same sets, as in null
        runs of a split with one fold; gains new ones.
    """
    stimuli = recording.stimuli
    if stimuli is None:
        raise InputError("An encoding model needs stimuli; this recording has none.")
    if exchange is None:
        shown = [(fold.train_stimuli, fold.test_stimuli) for fold in folds]
    else:
        shown = exchanged_stimuli(folds, exchange)
    truth, predicted, alphas, fitted = [], [], [], None
    for fold, (train_rows, test_rows) in zip(folds, shown, strict=True):
        encoder = clone(model)
        train_set, train_items = np.unique(train_rows, return_inverse=True)
        test_set, test_items = np.unique(test_rows, return_inverse=True)
        key = train_set.tobytes(), test_set.tobytes()
        found = (tables or {}).get(key) or _table(stimuli, features, train_set, test_set)
        if tables is not None:
            tables[key] = found
        space, train_features, test_features = found
        X_train = train_features[train_items]
        Y_train = fold.train[:, fold.usable]
        tell(encoder, context_of(recording, space, fold.usable))
        encoder.fit(X_train, Y_train, groups=fold.train_stimuli)
        mean = np.full(len(fold.usable), np.nan, dtype=np.float32)
        mean[fold.usable] = Y_train.mean(axis=0, dtype=np.float64)
        prediction = np.full(fold.test.shape, np.nan, dtype=np.float32)
        prediction[:, fold.usable] = encoder.predict(test_features[test_items])
        prediction -= mean
        alpha = np.full(len(fold.usable), np.nan)
        alpha[fold.usable] = getattr(encoder, "alpha_", np.nan)  # deep encoders have no penalty
        truth.append(fold.test - mean)
        predicted.append(prediction)
        alphas.append(alpha)
        fitted = fitted or (space, encoder)
    assert fitted is not None  # a split has folds
    return HeldOut(
        truth=np.concatenate(truth),
        predicted=np.concatenate(predicted),
        fold=np.repeat(np.arange(len(truth)), [len(part) for part in truth]),
        alpha=np.exp(np.mean(np.log(alphas), axis=0)),
        fitted=fitted,
    )


def _table(stimuli: Stimuli, features: Any, train: Array, test: Array) -> tuple[Any, Array, Array]:
    """Fit features on the training stimuli; return them and both parts' values by stimulus."""
    space = clone(features)
    fitted = space.fit_transform(read_for(space, stimuli, train))
    return space, fitted, space.transform(read_for(space, stimuli, test))


def assess_encoder(
    recording: Recording,
    features: Any,
    model: Any,
    protocol: EncodingProtocol,
    *,
    regions: Sequence[str] | None = None,
) -> EncodingResult:
    """Judge an encoder on held-out stimuli, by unit and by region, beside its nulls.

    Parameters
    ----------
    recording : Recording
        (trial, unit), with stimuli.
    features, model : transformer, estimator
        See `held_out`.
    protocol : EncodingProtocol
        How to judge.
    regions : sequence of str, optional
        Regions to sum up; all that have units where not given.

    Returns
    -------
    EncodingResult

    Raises
    ------
    InputError, SplitError, LeakError
        If the recording does not fit the protocol.
    """
    if len(recording.responses.shape) != 2:
        raise InputError(
            "assess_encoder takes (trial, unit) recordings; got shape "
            f"{recording.responses.shape}. For epochs, fit an estimator on recording.targets()."
        )
    who = recording.subject
    folds = prepare_folds(recording, protocol, seed=protocol.seeds[0])
    tables: Tables | None = {} if len(folds) == 1 else None
    names = list(regions) if regions else recording.region_names
    masks = {name: recording.roi_mask(name) for name in names}
    patterned = masks if protocol.pattern_scores else None
    first = held_out(recording, folds, features, model, tables=tables)
    observed, shuffled = [_scored(first, patterned)], []
    for seed in track(protocol.seeds[1:], f"{who}: encode"):
        # Of the other seeds only the scores are kept: each has the whole recording in its folds.
        others = prepare_folds(recording, protocol, seed=seed)
        run = held_out(recording, others, features, model)
        observed.append(_scored(run, patterned))
    for number in track(range(protocol.shuffles), f"{who}: shuffled stimuli"):
        run = held_out(recording, folds, features, model, exchange=number, tables=tables)
        shuffled.append(_scored(run, patterned))
    scores = Scores(
        r=np.stack([run.r for run in observed]),
        r2=np.stack([run.r2 for run in observed]),
        shuffled_r=np.stack([run.r for run in shuffled]),
        shuffled_r2=np.stack([run.r2 for run in shuffled]),
        permuted_r=_permuted(recording, folds, features, model, protocol, first),
        ceiling=unit_ceiling(recording, protocol, folds),
    )
    usable = np.all([fold.usable for fold in folds], axis=0)
    shown = np.concatenate([fold.test_stimuli for fold in folds])
    table = region_table(masks, scores)
    metrics = summarise(masks, scores, first.truth, first.predicted)
    if patterned:
        seen, null = ([run.patterns for run in runs] for runs in (observed, shuffled))
        table, metrics = with_patterns(table, metrics, seen, null, shown)
    return EncodingResult(
        recording=recording,
        protocol=protocol,
        units=unit_table(recording.units, scores, first.alpha, usable),
        regions=table,
        metrics=metrics,
        predictions=first.predicted,
        truth=first.truth,
        test_stimuli=shown,
        counts={"units": len(usable), "constant_or_nan": int((~usable).sum())},
        fitted=first.fitted,
        zscore=folds[0].zscore,
    )


@dataclass(frozen=True)
class _Scored:
    """What is kept of one pass over a split."""

    r: Array
    r2: Array
    patterns: PatternScores


def _scored(run: HeldOut, masks: dict[str, Array] | None) -> _Scored:
    """Score a pass over a split by unit and, where regions are given, by pattern."""
    return _Scored(
        run.r(), run.r2(), pattern_scores(masks or {}, run.truth, run.predicted, run.fold)
    )


def _permuted(
    recording: Recording,
    folds: Sequence[Prepared],
    features: Any,
    model: Any,
    protocol: EncodingProtocol,
    first: HeldOut,
) -> Array:
    """Return r of each unit in null runs, (permutations, units); no row if none is asked for."""
    rows = []
    for number in track(range(protocol.permutations), f"{recording.subject}: permutations"):
        if len(folds) > 1:
            run = held_out(recording, folds, features, model, exchange=1000 + number)
            rows.append(run.r())
        else:
            order = rng(number, "permuted test items").permutation(len(first.truth))
            rows.append(np.asarray(pearson_r(first.truth[order], first.predicted)))
    return np.stack(rows) if rows else np.empty((0, first.truth.shape[1]))


def unit_ceiling(
    recording: Recording, protocol: EncodingProtocol, folds: Sequence[Prepared]
) -> NoiseCeiling | None:
    """Estimate each unit's ceiling from all repeated trials, for the test items' repeats.

    The test responses are among them, as in any ceiling of a test set; nothing is selected by it.
    """
    if protocol.ceiling is None:
        return None
    tables = [fold.test_trials for fold in folds]
    repeats = [
        table["n_repeats"] if "n_repeats" in table else table.index * 0 + 1 for table in tables
    ]
    numbers, counts = np.unique(np.concatenate(repeats), return_counts=True)
    has_sessions = "session" in recording.rows
    return noise_ceiling(
        recording.responses.read(),
        recording.stimulus_rows(),
        recording.rows["session"].to_numpy() if has_sessions else None,
        n_repeats=dict(zip(numbers.tolist(), counts.tolist(), strict=True)),
        definition=protocol.ceiling,
    )
