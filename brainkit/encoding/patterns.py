"""Scores of whole response patterns by region, beside the voxelwise r: 2V2 and pattern correlation.

Both ask how well the pattern over a region's units that one held-out item evokes is predicted
(Oota et al., 2022, COLING). The patterns are deviations from the units' training means: the means
are the same for every item, so that predicting them alone would correlate with any response.
Pairs of 2V2 are those within a test fold, whose predictions come from one model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.evaluation import (
    bootstrap_ci,
    pattern_correlation,
    two_vs_two_by_item,
    two_vs_two_pseudo_values,
)

Array = NDArray[Any]
FEWEST_UNITS = 2  # a pattern of one unit has no correlation
CHANCE = {"encoding_2v2": 0.5, "encoding_pattern_r": 0.0}
PRESETS = {
    "encoding_2v2": "2v2/cosine/pairs-within-test-fold/mean-over-regions",
    "encoding_pattern_r": "pearson-r-over-units/mean-over-items/mean-over-regions",
}
COLUMNS = {"encoding_2v2": "2V2", "encoding_pattern_r": "pattern r"}


@dataclass(frozen=True)
class PatternScores:
    """Pattern scores of one pass over a split, by metric id and region.

    Attributes
    ----------
    items : dict of str to dict of str to array (items,)
        For 2V2 the share of pairs that an item wins; their mean is the score.
    draws : dict of str to dict of str to array (items,)
        What an interval of the score's mean draws from; pseudo-values for 2V2.
    """

    items: dict[str, dict[str, Array]]
    draws: dict[str, dict[str, Array]]

    def mean(self, metric: str, region: str) -> float:
        """Return the score of a region, NaN where it has too few units."""
        return _mean(self.items[metric][region])


def pattern_scores(
    masks: Mapping[str, Array], truth: Array, predicted: Array, fold: Array
) -> PatternScores:
    """Score the predicted patterns of every region.

    Parameters
    ----------
    masks : mapping of str to bool array (units,)
        The regions.
    truth, predicted : arrays (items, units)
        Deviations from the training mean; units that are not finite throughout are left out.
    fold : array of int (items,)
        The test fold of each item.
    """
    usable = np.isfinite(truth).all(axis=0) & np.isfinite(predicted).all(axis=0)
    parts = {name: np.flatnonzero(np.asarray(inside) & usable) for name, inside in masks.items()}
    shares, pseudo, correlations = {}, {}, {}
    for name, units in parts.items():
        shares[name], pseudo[name] = _pairs(truth[:, units], predicted[:, units], fold)
        correlations[name] = _correlations(truth[:, units], predicted[:, units])
    return PatternScores(
        {"encoding_2v2": shares, "encoding_pattern_r": correlations},
        {"encoding_2v2": pseudo, "encoding_pattern_r": correlations},
    )


def _pairs(truth: Array, predicted: Array, fold: Array) -> tuple[Array, Array]:
    """Return each item's share of won pairs within its fold, and the pseudo-values."""
    shares, pseudo = np.full((2, len(truth)), np.nan)
    for number in np.unique(fold):
        here = np.flatnonzero(fold == number)
        if truth.shape[1] >= FEWEST_UNITS and len(here) >= 2:
            shares[here] = two_vs_two_by_item(truth[here], predicted[here])
            if len(here) > 2:
                pseudo[here] = two_vs_two_pseudo_values(shares[here])
    return shares, pseudo


def _correlations(truth: Array, predicted: Array) -> Array:
    if truth.shape[1] < FEWEST_UNITS:
        return np.full(len(truth), np.nan)
    return np.asarray(pattern_correlation(truth, predicted))


def pattern_metrics(
    observed: Sequence[PatternScores], shuffled: Sequence[PatternScores], items: Array
) -> dict[str, Any]:
    """Return the pattern scores by metric id, as ``metrics.json`` holds them.

    Parameters
    ----------
    observed : sequence of PatternScores
        Of each fold seed. The interval is over the items of the first.
    shuffled : sequence of PatternScores
        Of fits on exchanged stimuli.
    items : array of int (items,)
        Stimulus of each item of the first seed; items of one stimulus are drawn together.
    """
    metrics = {}
    for metric, chance in CHANCE.items():
        by_roi = _by_region(observed, metric)
        null = _by_region(shuffled, metric)
        metrics[metric] = {
            "value": _mean(np.array(list(by_roi.values()))),
            "ci": _interval(observed[0], metric, items),
            "n": len(items),
            "nulls": {"shuffled_features": _mean(np.array(list(null.values())))},
            "chance": chance,
            "preset": PRESETS[metric],
            "by_roi": by_roi,
            "shuffled_by_roi": null,
        }
    return metrics


def pattern_columns(
    observed: Sequence[PatternScores], shuffled: Sequence[PatternScores]
) -> pd.DataFrame:
    """Return the pattern scores as columns of the table of regions, a row a region."""
    columns: dict[str, list[float]] = {}
    for metric, name in COLUMNS.items():
        columns[name] = list(_by_region(observed, metric).values())
        columns[f"shuffled {name}"] = list(_by_region(shuffled, metric).values())
    return pd.DataFrame(columns)


def with_patterns(
    table: pd.DataFrame,
    metrics: Mapping[str, Any],
    observed: Sequence[PatternScores],
    shuffled: Sequence[PatternScores],
    items: Array,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table of regions and the metrics with the pattern scores added."""
    columns = pattern_columns(observed, shuffled)
    both = {**metrics, **pattern_metrics(observed, shuffled, items)}
    return pd.concat([table, columns], axis=1), both


def _by_region(runs: Sequence[PatternScores], metric: str) -> dict[str, float]:
    """Return the mean score over runs of each region."""
    return {
        region: _mean(np.array([run.mean(metric, region) for run in runs]))
        for region in runs[0].items[metric]
    }


def _interval(run: PatternScores, metric: str, items: Array) -> list[float] | None:
    """Return the 95 % interval of the mean over regions; None where there is no score."""
    draws = [values for values in run.draws[metric].values() if np.isfinite(values).any()]
    if not draws:
        return None
    found = bootstrap_ci(np.mean(draws, axis=0), groups=items)
    return [found.low, found.high]


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")
