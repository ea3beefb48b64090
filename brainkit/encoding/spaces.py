"""Which feature space does each region follow best? Several spaces, one estimator, one test set.

For a network the spaces are its layers: the map from layers to regions is what is asked for.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

from brainkit.arrays.progress import track
from brainkit.arrays.seeds import rng
from brainkit.data.recording import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.encoding.protocol import EncodingProtocol, prepare_folds
from brainkit.errors import InputError, SplitError
from brainkit.evaluation import bootstrap_ci, pearson_r
from brainkit.features import read_for

Array = NDArray[Any]
VALIDATION_PART, FEWEST_STIMULI = 0.2, 10


@dataclass(frozen=True)
class FeatureTable:
    """Features that were computed before, read by stimulus row as images are.

    Attributes
    ----------
    rows : array of int (n,)
        Stimulus rows, ascending.
    values : array (n, features)
    """

    rows: Array
    values: Array

    def read(self, rows: Array) -> Array:
        """Return the features of stimuli by row.

        Raises
        ------
        InputError
            If a stimulus is not in the table.
        """
        places = np.searchsorted(self.rows, rows)
        known = places < len(self.rows)
        if not known.all() or not np.array_equal(self.rows[places], rows):
            raise InputError("The feature table lacks stimuli that the comparison needs.")
        return np.asarray(self.values[places])


@dataclass(frozen=True)
class SpaceComparison:
    """What `compare_spaces` found.

    Attributes
    ----------
    regions : DataFrame
        A row a region and space: ``region``, ``space``, ``r`` (mean over the region's units of the
        test correlation), ``low`` and ``high`` (95 % interval, units drawn anew), ``shuffled r``,
        ``n_units`` and ``share`` (part of the region's units that prefer the space).
    units : DataFrame
        A row a unit: the test correlation with each space, and ``preferred``, the space with the
        highest correlation on validation stimuli, which are neither fitted on nor tested.
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
    """

    regions: pd.DataFrame
    units: pd.DataFrame
    spaces: list[str]
    n_train: int
    metrics: dict[str, Any]
    recording: Recording
    counts: dict[str, int]
    zscore: dict[str, Any]

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
    inputs: Mapping[str, FeatureTable] | None = None,
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
        (trial, unit), with image stimuli.
    spaces : mapping of str to transformer
        From stimuli to features; clones are fitted on the training stimuli.
    model : estimator
        From features to responses; a clone is fitted for each space.
    protocol : EncodingProtocol
        Of one fold; its nulls are not used.
    inputs : mapping of str to FeatureTable, optional
        What spaces read in place of the stimuli, such as a network's layers, computed in one pass.
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
    folds = prepare_folds(recording, protocol, seed=seed)
    if len(folds) != 1:
        raise SplitError(
            f"Feature spaces are compared on one test part; {protocol.split!r} has {len(folds)}."
        )
    (fold,) = folds
    shown, chosen = (
        np.flatnonzero(np.isin(fold.train_stimuli, rows))
        for rows in stimuli_in_use(fold.train_stimuli, n_train, seed)
    )
    generator = rng(seed, "shuffled test items")
    order = generator.permutation(len(fold.test))
    validation, test, shuffled = {}, {}, {}
    for name, space in track(list(spaces.items()), f"{recording.subject}: feature spaces"):
        fitted = clone(space)
        read = _reader(fitted, stimuli, (inputs or {}).get(name))
        X = _by_item(fitted.fit_transform, read, fold.train_stimuli[shown])
        encoder = clone(model)
        Y = fold.train[shown][:, fold.usable]
        encoder.fit(X, Y, groups=fold.train_stimuli[shown])
        aside = encoder.predict(_by_item(fitted.transform, read, fold.train_stimuli[chosen]))
        found = encoder.predict(_by_item(fitted.transform, read, fold.test_stimuli))
        validation[name] = pearson_r(fold.train[chosen][:, fold.usable], aside)
        test[name] = pearson_r(fold.test[:, fold.usable], found)
        shuffled[name] = pearson_r(fold.test[order][:, fold.usable], found)
    names = list(spaces)
    preferred = np.argmax(np.nan_to_num([validation[name] for name in names], nan=-1.0), axis=0)
    units = pd.DataFrame(test, columns=names, index=np.flatnonzero(fold.usable))
    units["preferred"] = np.array(names)[preferred]
    table = []
    for region in regions or recording.region_names:
        inside = recording.roi_mask(region)[fold.usable]
        table += [
            _row(region, name, test[name][inside], shuffled[name][inside], preferred[inside] == n)
            for n, name in enumerate(names)
            if inside.any()
        ]
    regions_table = pd.DataFrame(table)
    return SpaceComparison(
        regions=regions_table,
        units=units,
        spaces=names,
        n_train=len(shown),
        metrics=_metrics(test, shuffled, regions_table),
        recording=recording,
        counts={"units": len(fold.usable), "constant_or_nan": int((~fold.usable).sum())},
        zscore=fold.zscore,
    )


def stimuli_in_use(
    train: Array, n_train: int | None = None, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the training stimuli that are fitted on, and those that choose the spaces.

    Parameters
    ----------
    train : array of int (items,)
        Stimulus row of each training item.
    n_train : int, optional
        Fit on that many stimuli, drawn by `seed`, and choose on a fourth as many.
    seed : int, default=0

    Raises
    ------
    SplitError
        If there are fewer than ten training stimuli.
    """
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
    return np.sort(fit), np.sort(aside)


def _reader(space: Any, stimuli: Stimuli, table: FeatureTable | None) -> Callable[[Array], Any]:
    """Return what reads a space's input by stimulus row."""
    return table.read if table is not None else partial(read_for, space, stimuli)


def _by_item(compute: Any, read: Callable[[Array], Any], rows: Array) -> Array:
    """Compute the features of each distinct stimulus once and return them by item."""
    distinct, items = np.unique(rows, return_inverse=True)
    return np.asarray(compute(read(distinct)))[items]


def _row(region: str, name: str, r: Array, shuffled: Array, prefers: Array) -> dict[str, Any]:
    interval = bootstrap_ci(np.nan_to_num(r), seed=0)
    return {
        "region": region,
        "space": name,
        "r": float(np.nanmean(r)),
        "low": interval.low,
        "high": interval.high,
        "shuffled r": float(np.nanmean(shuffled)),
        "n_units": len(r),
        "share": float(prefers.mean()),
    }


def _metrics(
    test: Mapping[str, Array], shuffled: Mapping[str, Array], regions: pd.DataFrame
) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name, r in test.items():
        interval = bootstrap_ci(np.nan_to_num(r), seed=0)
        own = regions[regions["space"] == name]
        metrics[f"encoding_r[{name}]"] = {
            "value": float(np.nanmean(r)),
            "ci": [interval.low, interval.high],
            "n": int(np.isfinite(r).sum()),
            "nulls": {"shuffled_stimuli": float(np.nanmean(shuffled[name]))},
            "preset": "pearson/test/one-space",
            "by_roi": dict(zip(own["region"], own["r"], strict=True)),
        }
    return metrics
