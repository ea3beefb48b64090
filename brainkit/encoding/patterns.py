"""Scores of whole response patterns by region, beside the voxelwise r: 2V2 and pattern correlation.

Both ask how well the pattern over a region's units that one held-out item evokes is predicted
(Oota et al., 2022, COLING). The patterns are deviations from the units' training means: the means
are the same for every item, so that predicting them alone would correlate with any response.
Pairs of 2V2 are those within a test fold, whose predictions come from one model.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.encoding.held_out import HeldOut
from brainkit.evaluation import Estimate, mean_estimate, mean_of, pattern_correlation
from brainkit.evaluation.metrics import by_region, metric_entry, share_of
from brainkit.evaluation.two_vs_two import two_vs_two_contest

Array = NDArray[Any]
# By metric and region; None where a region has too few units.
PatternScores = dict[str, dict[str, Estimate | None]]
FEWEST_UNITS = 2  # a pattern of one unit has no correlation
METRICS = {"encoding_2v2": "2V2", "encoding_pattern_r": "pattern r"}  # and their columns


def pattern_scores(
    masks: Mapping[str, Array], run: HeldOut, training: Array | None = None
) -> PatternScores:
    """Score the predicted patterns of every region in one pass over a split.

    Parameters
    ----------
    masks : mapping of str to bool array (units,)
        The regions. Units whose responses or predictions are not finite throughout are left out.
    run : HeldOut
        The pass.
    training : array (units,), optional
        See `brainkit.encoding.held_out.training_shares`.
    """
    usable = np.isfinite(run.truth).all(axis=0) & np.isfinite(run.predicted).all(axis=0)
    scores: PatternScores = {metric: {} for metric in METRICS}
    for name, inside in masks.items():
        units = np.flatnonzero(np.asarray(inside) & usable)
        if len(units) < FEWEST_UNITS:
            scores["encoding_2v2"][name] = scores["encoding_pattern_r"][name] = None
            continue
        share = 0.0 if training is None else float(training[units].mean())
        truth, predicted = run.truth[:, units], run.predicted[:, units]
        scores["encoding_2v2"][name] = two_vs_two_contest(
            truth,
            predicted,
            fold=run.fold,
            image=run.rows.shown,
            units=run.rows.groups,
            training=share,
        ).estimate
        correlations = np.asarray(pattern_correlation(truth, predicted))
        scores["encoding_pattern_r"][name] = mean_estimate(
            # An image of which nothing is predicted is told apart from none.
            np.nan_to_num(correlations, nan=0.0),
            units=run.rows.groups,
            training=share,
            bounds=(-1.0, 1.0),
        )
    return scores


def pattern_metrics(scores: PatternScores, null: PatternScores) -> dict[str, Any]:
    """Return the pattern scores by metric id, means over regions, as ``metrics.json`` holds them.

    Parameters
    ----------
    scores, null : dict
        Of the true stimuli, and of exchanged ones; averaged by `by_seed`.
    """
    metrics: dict[str, Any] = {}
    for metric, regions in scores.items():
        known = [one for one in regions.values() if one is not None]
        chance = {
            region: float("nan") if one is None else one.value
            for region, one in null[metric].items()
        }
        mean: Estimate | float = mean_of(known) if known else float("nan")
        metrics[metric] = metric_entry(
            metric,
            mean,
            nulls={"shuffled_features": share_of([*chance.values()])},
            shuffled_by_roi=chance,
            **by_region(regions),
        )
    return metrics


def by_seed(runs: Sequence[PatternScores]) -> PatternScores:
    """Average the scores of several passes."""
    return {
        metric: {
            region: None if one is None else mean_of([run[metric][region] or one for run in runs])
            for region, one in runs[0][metric].items()
        }
        for metric in METRICS
    }


def pattern_columns(scores: PatternScores, null: PatternScores) -> pd.DataFrame:
    """Return the pattern scores as columns of the table of regions, a row a region."""
    columns: dict[str, list[float]] = {}
    for metric, name in METRICS.items():
        for title, values in ((name, scores), (f"shuffled {name}", null)):
            each = values[metric].values()
            columns[title] = [float("nan") if one is None else one.value for one in each]
    return pd.DataFrame(columns)
