"""An encoder's scores in tables: by unit, by region, and as ``metrics.json`` holds them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.encoding.held_out import HeldOut
from brainkit.evaluation import (
    Correlation,
    Estimate,
    NoiseCeiling,
    fdr_bh,
    mean_of,
    permutation_p,
    pooled_ceiling_fraction,
)
from brainkit.evaluation.metrics import by_region, metric_entry
from brainkit.evaluation.score_intervals import correlation_influences, r2_influences

Array = NDArray[Any]
THRESHOLD = 0.3


@dataclass(frozen=True)
class Scores:
    """Scores by unit, means over the fold seeds where nothing else is said.

    Attributes
    ----------
    r, r2 : arrays (units,)
        Held-out scores.
    by_seed : array (seeds, units)
        r of each fold seed.
    shuffled_r, shuffled_r2 : arrays (shuffles, units)
        The scores of fits on exchanged stimuli.
    permuted_r : array (permutations, units)
        r of null runs with the folds of the first seed, for p values; may have no row.
    ceiling : NoiseCeiling (units,) or None
    """

    r: Array
    r2: Array
    by_seed: Array
    shuffled_r: Array
    shuffled_r2: Array
    permuted_r: Array
    ceiling: NoiseCeiling | None

    def units(self, inside: Array | slice = slice(None)) -> "Scores":
        """Return the scores of some units."""
        ceiling = None if self.ceiling is None else cast(NoiseCeiling, self.ceiling[inside])
        return Scores(
            self.r[inside],
            self.r2[inside],
            self.by_seed[:, inside],
            self.shuffled_r[:, inside],
            self.shuffled_r2[:, inside],
            self.permuted_r[:, inside],
            ceiling,
        )


class Sums:
    """Sums over units of r, R² and the ceiling fraction, for all units and for every region.

    The influences of test items on them are gathered pass by pass over the fold seeds, so that no
    two passes need be held, and average as the scores do.

    Parameters
    ----------
    masks : mapping of str to bool array (units,)
        The regions.
    ceiling : NoiseCeiling (units,) or None
    """

    METRICS = ("encoding_r", "encoding_r2", "encoding_ceiling_fraction_pooled")

    def __init__(self, masks: Mapping[str, Array], ceiling: NoiseCeiling | None) -> None:
        self.masks, self.ceiling = dict(masks), ceiling
        self.passes: list[dict[tuple[str, str | None], Estimate]] = []
        self.r: list[Array] = []
        self.r2: list[Array] = []

    def add(self, run: HeldOut, training: Array) -> None:
        """Take one pass; see `brainkit.encoding.held_out.training_shares` for `training`."""
        r, r2 = run.r(), run.r2()
        self.r.append(r)
        self.r2.append(r2)
        regions: list[str | None] = [None, *self.masks]
        inside = np.stack([np.ones(len(r), bool), *self.masks.values()], axis=1)
        groups = run.rows.groups
        self.passes.append({})
        for metric, scores in (("encoding_r", r), ("encoding_r2", r2)):
            weights, values = mean_weights(inside, scores)
            found = (
                correlation_influences(
                    run.truth, run.predicted, weights, fold=run.fold, units=groups
                )
                if metric == "encoding_r"
                else r2_influences(run.truth, run.predicted, weights, units=groups)
            )
            self._keep(metric, regions, found, values, weights, training)
        if self.ceiling is not None:
            weights, values = _fraction_weights(inside, r, self.ceiling)
            found = correlation_influences(
                run.truth, run.predicted, weights, fold=run.fold, units=groups
            )
            self._keep(self.METRICS[2], regions, found, values, weights, training)

    def _keep(
        self,
        metric: str,
        regions: Sequence[str | None],
        found: Any,
        values: Array,
        weights: Array,
        training: Array,
    ) -> None:
        total = np.abs(weights).sum(axis=0)
        shares = np.abs(weights).T @ training / np.where(total > 0, total, 1.0)
        for place, region in enumerate(regions):
            self.passes[-1][metric, region] = found.estimate(
                place, float(values[place]), float(shares[place])
            )

    def mean(self, metric: str, region: str | None = None) -> Estimate:
        """Return one sum, the mean over the passes; the ceiling fraction is that of the mean r."""
        estimate = mean_of([one[metric, region] for one in self.passes])
        if metric != self.METRICS[2] or self.ceiling is None:
            return estimate
        inside = slice(None) if region is None else self.masks[region]
        r = np.mean(self.r, axis=0)[inside]
        return replace(estimate, value=_fraction(r, cast(NoiseCeiling, self.ceiling[inside])))

    def regions(self, metric: str) -> dict[str, Estimate | None]:
        """Return one sum by region."""
        return {region: self.mean(metric, region) for region in self.masks}


def mean_weights(inside: Array, scores: Array) -> tuple[Array, Array]:
    """Return weights (units, sums) of the mean over units that have a score, and the means."""
    known = inside & np.isfinite(scores)[:, None]
    counts = known.sum(axis=0)
    weights = known / np.maximum(counts, 1)
    values = np.nan_to_num(scores) @ weights
    return weights, np.where(counts > 0, values, np.nan)


def _fraction_weights(inside: Array, r: Array, ceiling: NoiseCeiling) -> tuple[Array, Array]:
    """Return the slope of the pooled fraction Σ r|r| / Σ NC in each r, and the fractions.

    The ceiling counts as known.
    """
    values = np.array([_fraction(r[one], cast(NoiseCeiling, ceiling[one])) for one in inside.T])
    known = inside & (np.isfinite(r) & np.isfinite(np.asarray(ceiling)))[:, None]
    total = np.nan_to_num(np.asarray(ceiling)) @ known
    slope = known * (2 * np.abs(np.nan_to_num(r)))[:, None]
    return slope / np.where(total > 0, total, 1.0), values


def unit_table(units: pd.DataFrame, scores: Scores, alpha: Array, usable: Array) -> pd.DataFrame:
    """Return the units with their scores.

    The columns are r and r2 (means over seeds), r of one shuffle, ceiling, alpha, p, q and status.
    p is that of the first fold seed's r among null runs with the same folds; q its
    Benjamini-Hochberg value.
    """
    table = units.copy()
    table["r"] = scores.r
    table["r2"] = scores.r2
    table["shuffled r"] = scores.shuffled_r[0]
    table["ceiling"] = np.nan if scores.ceiling is None else np.asarray(scores.ceiling)
    table["alpha"] = alpha
    p = np.full(len(units), np.nan)
    if len(scores.permuted_r):
        p = permutation_p(scores.by_seed[0], scores.permuted_r)
    table["p"] = p
    table["q"] = fdr_bh(p)
    table["status"] = np.where(usable, "fitted", "constant or NaN")
    return table


def _mean(values: Array) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if finite.size else float("nan")


def _fraction(r: Array, ceiling: NoiseCeiling | None) -> float:
    """Pooled ceiling fraction of r (units,), NaN where there is no ceiling."""
    if ceiling is None or not np.any(np.isfinite(r) & np.isfinite(np.asarray(ceiling))):
        return float("nan")
    return float(pooled_ceiling_fraction(Correlation(r), ceiling))


def _region_p(scores: Scores) -> float:
    """Return p of the region's mean r, of the first fold seed, among the null runs' mean r."""
    if not len(scores.permuted_r):
        return float("nan")
    null = np.array([_mean(run) for run in scores.permuted_r])
    return float(permutation_p(np.float64(_mean(scores.by_seed[0])), null))


def region_table(sums: Sums, scores: Scores) -> pd.DataFrame:
    """Return a row a region: units, mean r, share above .3, ceiling fraction, nulls, p."""
    rows = []
    for name, inside in sums.masks.items():
        part = scores.units(inside)
        r = sums.mean("encoding_r", name)
        interval = r.interval()
        rows.append(
            {
                "region": name,
                "units": int(inside.sum()),
                "r": r.value,
                "low": interval.low,
                "high": interval.high,
                f"units r > {THRESHOLD}": int((part.r > THRESHOLD).sum()),
                "ceiling": _mean(np.asarray(part.ceiling)) if part.ceiling is not None else np.nan,
                "ceiling fraction": np.nan
                if part.ceiling is None
                else sums.mean("encoding_ceiling_fraction_pooled", name).value,
                "shuffled r": _mean(part.shuffled_r),
                "shuffled fraction": _mean(
                    np.array([_fraction(r, part.ceiling) for r in part.shuffled_r])
                ),
                "p": _region_p(part),
            }
        )
    # Without any region the table is empty, but has its columns.
    return pd.DataFrame(rows, columns=None if rows else ["region", "units", "r"])


def summarise(sums: Sums, scores: Scores) -> dict[str, Any]:
    """Return the metrics by id; values and intervals are of the mean over fold seeds."""
    n_units = int(np.isfinite(scores.r).sum())
    parts = {name: scores.units(inside) for name, inside in sums.masks.items()}
    above = f"encoding_units_r_above_{THRESHOLD}"
    metrics = {
        "encoding_r": metric_entry(
            "encoding_r",
            sums.mean("encoding_r"),
            n=n_units,
            nulls={"shuffled_features": _mean(scores.shuffled_r)},
            p_by_roi={name: _region_p(part) for name, part in parts.items()},
            **by_region(sums.regions("encoding_r")),
        ),
        "encoding_r2": metric_entry(
            "encoding_r2",
            sums.mean("encoding_r2"),
            n=n_units,
            nulls={"shuffled_features": _mean(scores.shuffled_r2)},
            **by_region(sums.regions("encoding_r2")),
        ),
        above: metric_entry(
            above,
            int((scores.r > THRESHOLD).sum()),
            n=n_units,
            nulls={"shuffled_features": float((scores.shuffled_r > THRESHOLD).sum(axis=1).mean())},
            by_seed=(scores.by_seed > THRESHOLD).sum(axis=1).tolist(),
            by_roi={name: int((part.r > THRESHOLD).sum()) for name, part in parts.items()},
        ),
    }
    if scores.ceiling is not None:
        fraction = "encoding_ceiling_fraction_pooled"
        metrics[fraction] = metric_entry(
            fraction,
            sums.mean(fraction),
            n=n_units,
            nulls={
                "shuffled_features": _mean(
                    np.array([_fraction(r, scores.ceiling) for r in scores.shuffled_r])
                )
            },
            settings={"ceiling": scores.ceiling.definition},
            **by_region(sums.regions(fraction)),
        )
    return metrics
