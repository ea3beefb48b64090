"""An encoder's scores in tables: by unit, by region, and as ``metrics.json`` holds them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.seeds import rng
from brainkit.evaluation import (
    Correlation,
    NoiseCeiling,
    fdr_bh,
    pearson_r,
    permutation_p,
    pooled_ceiling_fraction,
)

Array = NDArray[Any]
THRESHOLD = 0.3
BOOTSTRAPS = 200


@dataclass(frozen=True)
class Scores:
    """Scores by unit.

    Attributes
    ----------
    r, r2 : arrays (seeds, units)
        Held-out scores of each fold seed.
    shuffled_r, shuffled_r2 : arrays (shuffles, units)
        The same of fits on exchanged stimuli.
    permuted_r : array (permutations, units)
        r of null runs, for p values; may have no row.
    ceiling : NoiseCeiling (units,) or None
    """

    r: Array
    r2: Array
    shuffled_r: Array
    shuffled_r2: Array
    permuted_r: Array
    ceiling: NoiseCeiling | None

    def units(self, inside: Array | slice = slice(None)) -> "Scores":
        """Return the scores of some units."""
        ceiling = None if self.ceiling is None else cast(NoiseCeiling, self.ceiling[inside])
        return Scores(
            self.r[:, inside],
            self.r2[:, inside],
            self.shuffled_r[:, inside],
            self.shuffled_r2[:, inside],
            self.permuted_r[:, inside],
            ceiling,
        )


def unit_table(units: pd.DataFrame, scores: Scores, alpha: Array, usable: Array) -> pd.DataFrame:
    """Return the units with their scores.

    The columns are r and r2 (means over seeds), r of one shuffle, ceiling, alpha, p, q and status.
    p is that of the first seed's r among the null runs; q its Benjamini-Hochberg value.
    """
    table = units.copy()
    table["r"] = scores.r.mean(axis=0)
    table["r2"] = scores.r2.mean(axis=0)
    table["shuffled r"] = scores.shuffled_r[0]
    table["ceiling"] = np.nan if scores.ceiling is None else np.asarray(scores.ceiling)
    table["alpha"] = alpha
    p = np.full(len(units), np.nan)
    if len(scores.permuted_r):
        p = permutation_p(scores.r[0], scores.permuted_r)
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
    """Return p of the region's mean r among the null runs' mean r."""
    if not len(scores.permuted_r):
        return float("nan")
    null = np.array([_mean(run) for run in scores.permuted_r])
    return float(permutation_p(np.float64(_mean(scores.r[0])), null))


def region_table(masks: Mapping[str, Array], scores: Scores) -> pd.DataFrame:
    """Return a row a region: units, mean r, share above .3, ceiling fraction, nulls, p."""
    rows = []
    for name, inside in masks.items():
        part = scores.units(inside)
        rows.append(
            {
                "region": name,
                "units": int(inside.sum()),
                "r": _mean(part.r),
                f"units r > {THRESHOLD}": float((part.r > THRESHOLD).sum(axis=1).mean()),
                "ceiling": _mean(np.asarray(part.ceiling)) if part.ceiling is not None else np.nan,
                "ceiling fraction": _mean(np.array([_fraction(r, part.ceiling) for r in part.r])),
                "shuffled r": _mean(part.shuffled_r),
                "shuffled fraction": _mean(
                    np.array([_fraction(r, part.ceiling) for r in part.shuffled_r])
                ),
                "p": _region_p(part),
            }
        )
    # Without any region the table is empty, but has its columns.
    return pd.DataFrame(rows, columns=None if rows else ["region", "units", "r"])


def summarise(
    masks: Mapping[str, Array], scores: Scores, truth: Array, predicted: Array
) -> dict[str, Any]:
    """Return the metrics by id.

    The interval of `encoding_r` bootstraps the test items of the first seed.
    """
    n_units = int(np.isfinite(scores.r[0]).sum())
    by_region = {name: scores.units(inside) for name, inside in masks.items()}
    count = (scores.r > THRESHOLD).sum(axis=1)
    metrics: dict[str, Any] = {
        "encoding_r": {
            "value": _mean(scores.r),
            "ci": _bootstrap_mean_r(truth, predicted),
            "n": n_units,
            "nulls": {"shuffled_features": _mean(scores.shuffled_r)},
            "preset": "pearson-r/mean-over-units",
            "by_roi": {name: _mean(part.r) for name, part in by_region.items()},
            "p_by_roi": {name: _region_p(part) for name, part in by_region.items()},
        },
        "encoding_r2": {
            "value": _mean(scores.r2),
            "n": n_units,
            "nulls": {"shuffled_features": _mean(scores.shuffled_r2)},
            "preset": "r2/mean-over-units",
            "by_roi": {name: _mean(part.r2) for name, part in by_region.items()},
        },
        f"encoding_units_r_above_{THRESHOLD}": {
            "value": float(count.mean()),
            "by_seed": count.tolist(),
            "n": n_units,
            "nulls": {
                "shuffled_features": float((scores.shuffled_r > THRESHOLD).sum(axis=1).mean())
            },
            "preset": "pearson-r/count",
            "by_roi": {
                name: float((part.r > THRESHOLD).sum(axis=1).mean())
                for name, part in by_region.items()
            },
        },
    }
    if scores.ceiling is not None:
        metrics["encoding_ceiling_fraction_pooled"] = {
            "value": _mean(np.array([_fraction(r, scores.ceiling) for r in scores.r])),
            "n": n_units,
            "nulls": {
                "shuffled_features": _mean(
                    np.array([_fraction(r, scores.ceiling) for r in scores.shuffled_r])
                )
            },
            "preset": f"signed-r2-over-{scores.ceiling.definition}-ceiling/pooled",
            "by_roi": {
                name: _mean(np.array([_fraction(r, part.ceiling) for r in part.r]))
                for name, part in by_region.items()
            },
        }
    return metrics


def _bootstrap_mean_r(truth: Array, predicted: Array) -> list[float]:
    """Return the 95 % interval of the mean r over units, resampling test items."""
    finite = np.isfinite(predicted).all(axis=0) & np.isfinite(truth).all(axis=0)
    truth, predicted = truth[:, finite], predicted[:, finite]
    generator = rng(0, "bootstrap of test items")
    means = []
    for _ in range(BOOTSTRAPS):
        rows = generator.integers(len(truth), size=len(truth))
        means.append(_mean(np.asarray(pearson_r(truth[rows], predicted[rows]))))
    return [float(value) for value in np.percentile(means, [2.5, 97.5])]
