"""Which feature space does each region follow best? Several spaces, one estimator, one test set.

For a network the spaces are its layers: the map from layers to regions is what is asked for.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.preparing import Prepared, zscore_column
from brainkit.data.recording import Recording
from brainkit.data.splits import describe_split
from brainkit.data.stimuli import Stimuli
from brainkit.encoding.fit_context import context_of, tell
from brainkit.encoding.judging import EncodingProtocol, prepare_folds
from brainkit.encoding.score_tables import mean_weights
from brainkit.errors import InputError, SplitError
from brainkit.evaluation import Estimate, pearson_r
from brainkit.evaluation.metrics import by_region, metric_entry, share_of
from brainkit.evaluation.score_intervals import correlation_influences
from brainkit.features import as_features, read_for
from brainkit.features.design import Design, independent_rows
from brainkit.linear.ridge_estimator import check_model, fit_rows, predict_rows

Array = NDArray[Any]
VALIDATION_PART, FEWEST_STIMULI = 0.2, 10


@dataclass(frozen=True)
class SpaceComparison:
    """What `compare_spaces` found.

    Attributes
    ----------
    regions : DataFrame
        A row a region and space: ``region``, ``space``, ``r`` (mean over the region's units of the
        test correlation), ``low`` and ``high`` (95 % interval over test stimuli), ``shuffled r``,
        ``n_units`` (those with a score) and ``share`` (part of the region's units that prefer the
        space).
    units : DataFrame
        A row a unit: the test correlation with each space, and ``preferred``, the space with the
        highest correlation on validation stimuli, which are neither fitted on nor tested. Of
        epochs a row a unit and time point, with the columns ``unit`` and ``time``.
    spaces : list of str
        In the order given.
    n_train : int
        Items fitted on.
    metrics : dict
        By metric id, as in ``metrics.json``: ``"encoding_r[SPACE]"``, mean over units.
    recording : Recording
    counts : dict
        Units in use and left out.
    zscore : dict
    prepared : Prepared or None
        The fold, as it was standardised and read.
    """

    regions: pd.DataFrame
    units: pd.DataFrame
    spaces: list[str]
    n_train: int
    metrics: dict[str, Any]
    recording: Recording
    counts: dict[str, int]
    zscore: dict[str, Any]
    prepared: Prepared | None = field(default=None, repr=False)

    def preferred(self) -> dict[str, str]:
        """Return the space that most of each region's units prefer."""
        best = self.regions.loc[self.regions.groupby("region", sort=False)["share"].idxmax()]
        return dict(zip(best["region"], best["space"], strict=True))

    def depth(self, order: Sequence[str] | None = None) -> dict[str, float]:
        """Return the mean position, in `order`, of the spaces that a region's units prefer.

        Parameters
        ----------
        order : sequence of str, optional
            From the earliest layer to the latest; all spaces where not given. Units that prefer
            another space are left out.
        """
        place = {name: number for number, name in enumerate(order or self.spaces)}
        table = self.regions[self.regions["space"].isin(place)]
        return {
            str(region): float(np.average(part["space"].map(place), weights=part["share"]))
            if part["share"].sum() > 0
            else float("nan")
            for region, part in table.groupby("region", sort=False)
        }


def compare_spaces(
    recording: Recording,
    spaces: Mapping[str, Any],
    model: Any,
    protocol: EncodingProtocol,
    *,
    regions: Sequence[str] | None = None,
    n_train: int | None = None,
    seed: int = 0,
) -> SpaceComparison:
    """Fit one encoder a feature space and compare them unit by unit.

    A fifth of the training stimuli are kept aside: on them each unit's preferred space is chosen.
    The correlations that are reported are those on the test part, which chooses nothing.

    Parameters
    ----------
    recording : Recording
        (trial, unit) or (trial, unit, time), with stimuli; of epochs each unit and time point is a
        target of its own.
    spaces : mapping of str to transformer, or array or DataFrame (stimulus, feature)
        From stimuli to features; clones are fitted on the training stimuli. Features that are
        ready, such as a network's layers computed in one pass, see `Precomputed`.
    model : estimator
        From features to responses; a clone is fitted for each space.
    protocol : EncodingProtocol
        Of one fold; its nulls are not used.
    regions : sequence of str, optional
        Regions to sum up; all that have units where not given.
    n_train : int, optional
        Fit on that many training stimuli, drawn by `seed`; all where not given.

    Raises
    ------
    InputError
        If there are no stimuli or no spaces.
    SplitError
        If the split has several folds, or too few training stimuli.
    """
    stimuli = recording.stimuli
    if stimuli is None or not spaces:
        raise InputError("Comparing feature spaces needs stimuli and at least one space.")
    check_model(model)
    protocol = replace(protocol, zscore=zscore_column(recording, protocol.zscore))
    used = stimuli_in_use(recording, protocol, n_train, seed)
    rows = independent_rows(
        recording,
        replace(protocol, seeds=(seed,)),
        [Design.from_stimuli(recording, space) for space in spaces.values()],
        among=np.concatenate(used),
    )
    folds = prepare_folds(recording, protocol, seed=seed, rows=rows)
    if len(folds) != 1:
        raise SplitError(
            "Feature spaces are compared on one test part; the split "
            f"{describe_split(protocol.split)} has {len(folds)} folds."
        )
    (fold,) = folds
    shown, chosen = (np.flatnonzero(np.isin(fold.train_stimuli, part)) for part in used[:2])
    order = fold.test_rows.exchanged(rng(seed, "shuffled test items"))
    names = list(spaces)
    regions = list(regions or recording.region_names)
    masks = [fold.usable_of(recording.roi_mask(region)) for region in regions]
    inside = np.stack([np.ones(int(fold.usable.sum()), bool), *masks], axis=1)
    truth = fold.test[:, fold.usable]
    validation, test, shuffled, sums = {}, {}, {}, {}
    for name, space in track(list(spaces.items()), f"{recording.subject}: feature spaces"):
        fitted = clone(as_features(space))
        X = _by_item(fitted.fit_transform, fitted, stimuli, fold.train_stimuli[shown])
        encoder = clone(model)
        Y = fold.train[shown][:, fold.usable]
        tell(encoder, context_of(recording, fitted, fold.usable, fold.fold.rows["test"]))
        fit_rows(encoder, X, Y, groups=fold.train_rows.groups[shown])
        aside, predicted = (
            predict_rows(encoder, _by_item(fitted.transform, fitted, stimuli, rows), Y.shape[1])
            for rows in (fold.train_stimuli[chosen], fold.test_stimuli)
        )
        validation[name] = pearson_r(fold.train[chosen][:, fold.usable], aside)
        test[name] = np.asarray(pearson_r(truth, predicted))
        shuffled[name] = np.asarray(pearson_r(truth, predicted[order]))
        sums[name] = _means(truth, predicted, test[name], inside, fold.test_rows.groups)
    preferred = np.argmax(np.nan_to_num([validation[name] for name in names], nan=-1.0), axis=0)
    targets = np.flatnonzero(fold.usable)
    units = pd.DataFrame(test, columns=names, index=targets)
    units["preferred"] = np.array(names)[preferred]
    if recording.times is not None:
        units["unit"] = targets // fold.n_times
        units["time"] = np.asarray(recording.times)[targets % fold.n_times]
    table = [
        _row(region, name, sums[name][place], test[name][mask], shuffled[name][mask], prefers[mask])
        for place, (region, mask) in enumerate(zip(regions, masks, strict=True), start=1)
        for name, prefers in ((name, preferred == number) for number, name in enumerate(names))
        if mask.any()
    ]
    return SpaceComparison(
        regions=pd.DataFrame(table),
        units=units,
        spaces=names,
        n_train=len(shown),
        metrics=_metrics(sums, test, shuffled, regions),
        recording=recording,
        counts=fold.counts,
        zscore=fold.zscore,
        prepared=fold,
    )


def stimuli_in_use(
    recording: Recording, protocol: EncodingProtocol, n_train: int | None = None, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the stimuli that are fitted on, those that choose the spaces, and those that test.

    Parameters
    ----------
    recording : Recording
    protocol : EncodingProtocol
        Its split; the first fold counts.
    n_train : int, optional
        Fit on that many stimuli, drawn by `seed`, and choose on a fourth as many.
    seed : int, default=0

    Returns
    -------
    fit, aside, test : arrays of int
        Stimulus rows, each once, ascending.

    Raises
    ------
    SplitError
        If there are fewer than ten training stimuli.
    """
    fold = recording.split(protocol.split, seed=seed).folds[0]
    train, test = fold.train.stimulus_rows(), fold.test.stimulus_rows()
    rows = rng(seed, "choosing stimuli").permutation(np.unique(train)).astype(np.int64)
    if len(rows) < FEWEST_STIMULI:
        raise SplitError(
            f"{len(rows)} training stimuli are too few to choose a feature space by; it takes "
            f"{FEWEST_STIMULI}."
        )
    n_aside = round(VALIDATION_PART * len(rows))
    fit, aside = rows[n_aside:], rows[:n_aside]
    if n_train is not None and n_train < len(fit):
        fit = fit[:n_train]
        aside = aside[: max(2, round(n_train * VALIDATION_PART / (1 - VALIDATION_PART)))]
    return np.sort(fit), np.sort(aside), np.unique(test).astype(np.int64)


def _by_item(compute: Any, space: Any, stimuli: Stimuli, rows: Array) -> Array:
    """Compute the features of each distinct stimulus once and return them by item."""
    distinct, items = np.unique(rows, return_inverse=True)
    return np.asarray(compute(read_for(space, stimuli, distinct)))[items]


def _means(
    truth: Array, predicted: Array, r: Array, inside: Array, groups: Array
) -> list[Estimate]:
    """Return the mean r over all units and over each region's, (units, sums) `inside`."""
    weights, values = mean_weights(inside, r)
    influences = correlation_influences(truth, predicted, weights, units=groups)
    return [influences.estimate(place, float(value)) for place, value in enumerate(values)]


def _row(
    region: str, name: str, mean: Estimate, r: Array, shuffled: Array, prefers: Array
) -> dict[str, Any]:
    interval = mean.interval()
    return {
        "region": region,
        "space": name,
        "r": mean.value,
        "low": interval.low,
        "high": interval.high,
        "shuffled r": share_of(shuffled),
        "n_units": int(np.isfinite(r).sum()),
        "share": float(prefers.mean()),
    }


def _metrics(
    sums: Mapping[str, Sequence[Estimate]],
    test: Mapping[str, Array],
    shuffled: Mapping[str, Array],
    regions: Sequence[str],
) -> dict[str, Any]:
    return {
        f"encoding_r[{name}]": metric_entry(
            f"encoding_r[{name}]",
            total,
            n=int(np.isfinite(test[name]).sum()),
            nulls={"shuffled_stimuli": share_of(shuffled[name])},
            **by_region(dict(zip(regions, each, strict=True))),
        )
        for name, (total, *each) in sums.items()
    }
