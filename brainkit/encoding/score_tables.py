"""An encoder's scores in tables: by unit, by region, and as ``metrics.json`` holds them.

Targets are units, or the time points of units, time running fastest. Beside the r of each there
are scores of whole response patterns by region, 2V2 and pattern correlation: how well the pattern
over a region's targets that one held-out item evokes is predicted (Oota et al., 2022, COLING). The
patterns are deviations from the targets' training means: the means are the same for every item, so
that predicting them alone would correlate with any response. Pairs of 2V2 are those within a test
fold, whose predictions come from one model.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.data.recording import Recording
from brainkit.encoding.passes import HeldOut
from brainkit.evaluation import (
    Correlation,
    Estimate,
    NoiseCeiling,
    fdr_bh,
    mean_estimate,
    mean_of,
    pattern_correlation,
    permutation_p,
    pooled_ceiling_fraction,
)
from brainkit.evaluation.metrics import by_region, metric_entry, share_of
from brainkit.evaluation.response_scores import two_vs_two_contest
from brainkit.evaluation.score_intervals import Influences, correlation_influences, r2_influences

Array = NDArray[Any]
# By metric and region; None where a region has too few units.
PatternScores = dict[str, dict[str, Estimate | None]]
THRESHOLD = 0.3
FEWEST_UNITS = 2  # a pattern of one unit has no correlation
# Scores of patterns, and their columns in the table of regions.
PATTERN_METRICS = {"encoding_2v2": "2V2", "encoding_pattern_r": "pattern r"}


@dataclass(frozen=True)
class Scores:
    """Scores by target, means over the fold seeds where nothing else is said.

    Attributes
    ----------
    r, r2 : arrays (targets,)
        Held-out scores.
    by_seed : array (seeds, targets)
        r of each fold seed.
    shuffled_r, shuffled_r2 : arrays (shuffles, targets)
        The scores of fits on exchanged stimuli.
    permuted_r : array (permutations, targets)
        r of null runs with the folds of the first seed, for p values; may have no row.
    ceiling : NoiseCeiling (targets,) or None
    """

    r: Array
    r2: Array
    by_seed: Array
    shuffled_r: Array
    shuffled_r2: Array
    permuted_r: Array
    ceiling: NoiseCeiling | None

    def by_unit(self, n_units: int) -> "Scores":
        """Return means over the time points of each unit."""
        if len(self.r) == n_units:
            return self
        ceiling = None if self.ceiling is None else NoiseCeiling(
            mean_over(np.asarray(self.ceiling), n_units), definition=self.ceiling.definition,
            n_repeats=self.ceiling.n_repeats,
        )  # fmt: skip
        each = (self.r, self.r2, self.by_seed, self.shuffled_r, self.shuffled_r2, self.permuted_r)
        r, r2, seeds, shuffled_r, shuffled_r2, permuted = (mean_over(one, n_units) for one in each)
        return Scores(r, r2, seeds, shuffled_r, shuffled_r2, permuted, ceiling)

    def units(self, inside: Array | slice = slice(None)) -> "Scores":
        """Return the scores of some targets."""
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
    """Sums over targets of r, R² and the ceiling fraction, for all units and for every region.

    The influences of test items on them are gathered pass by pass over the fold seeds, so that no
    two passes need be held, and average as the scores do.

    Parameters
    ----------
    masks : mapping of str to bool array (units,)
        The regions.
    ceiling : NoiseCeiling (targets,) or None
    """

    METRICS = ("encoding_r", "encoding_r2", "encoding_ceiling_fraction_pooled")

    def __init__(self, masks: Mapping[str, Array], ceiling: NoiseCeiling | None) -> None:
        self.units, self.ceiling = dict(masks), ceiling
        self.masks = dict(masks)  # by target, once their number is known
        self.passes: list[dict[tuple[str, str | int | None], Estimate]] = []
        self.r: list[Array] = []
        self.r2: list[Array] = []
        self.n_times = 1

    def add(self, run: HeldOut, training: Array) -> None:
        """Take one pass; see `brainkit.data.preparing.training_shares` for `training`."""
        r, r2 = run.r(), run.r2()
        self.r.append(r)
        self.r2.append(r2)
        self.n_times = len(r) // run.folds[0].fold.recording.responses.shape[1]
        self.masks = {name: np.repeat(one, self.n_times) for name, one in self.units.items()}
        sums: dict[str | int | None, Array] = {None: np.ones(len(r), bool)}
        sums.update(self.masks)
        if self.n_times > 1:
            time = np.arange(len(r)) % self.n_times
            sums.update({number: time == number for number in range(self.n_times)})
        inside, names = np.stack([*sums.values()], axis=1), list(sums)
        wanted = {"encoding_r": mean_weights(inside, r), "encoding_r2": mean_weights(inside, r2)}
        if self.ceiling is not None:
            wanted[self.METRICS[2]] = _fraction_weights(inside, r, self.ceiling)
        influences = _influences(run, {metric: weights for metric, (weights, _) in wanted.items()})
        self.passes.append({})
        for metric, (weights, values) in wanted.items():
            self._keep(metric, names, influences[metric], values, weights, training)

    def _keep(
        self,
        metric: str,
        names: Sequence[str | int | None],
        influences: Influences,
        values: Array,
        weights: Array,
        training: Array,
    ) -> None:
        total = np.abs(weights).sum(axis=0)
        shares = np.abs(weights).T @ training / np.where(total > 0, total, 1.0)
        for place, name in enumerate(names):
            self.passes[-1][metric, name] = influences.estimate(
                place, float(values[place]), float(shares[place])
            )

    def mean(self, metric: str, region: str | int | None = None) -> Estimate:
        """Return one sum, the mean over the passes; the ceiling fraction is that of the mean r.

        Parameters
        ----------
        metric : str
        region : str, int or None
            A region, the number of a time point, or all units.
        """
        estimate = mean_of([one[metric, region] for one in self.passes])
        if metric != self.METRICS[2] or self.ceiling is None:
            return estimate
        inside = slice(None) if region is None else self.masks[str(region)]
        r = np.mean(self.r, axis=0)[inside]
        return replace(estimate, value=_fraction(r, cast(NoiseCeiling, self.ceiling[inside])))

    def regions(self, metric: str) -> dict[str, Estimate | None]:
        """Return one sum by region."""
        return {region: self.mean(metric, region) for region in self.masks}


def _influences(run: HeldOut, weights: Mapping[str, Array]) -> dict[str, Influences]:
    """Return what units add to weighted sums of r and R², block by block of the targets."""
    influences: dict[str, Influences] = {}
    groups = run.rows.groups
    for targets, truth, predicted in run.blocks():
        for metric, each in weights.items():
            one = (
                r2_influences(truth, predicted, each[targets], units=groups)
                if metric == "encoding_r2"
                else correlation_influences(
                    truth, predicted, each[targets], fold=run.fold, units=groups
                )
            )
            known = influences.get(metric)
            influences[metric] = (
                one if known is None else replace(one, values=known.values + one.values)
            )
    return influences


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
    """Return the units with their scores, of epochs means over their time points.

    The columns are r and r2 (means over seeds), r of one shuffle, ceiling, alpha, p, q and status.
    p is that of the first fold seed's r among null runs with the same folds; q its
    Benjamini-Hochberg value.
    """
    return _table(units.copy(), scores.by_unit(len(units)), alpha, usable)


def time_table(
    recording: Recording, scores: Scores, alpha: Array, usable: Array
) -> pd.DataFrame | None:
    """Return a row a unit and time point of epochs, with the same scores; None of other data."""
    if len(recording.responses.shape) != 3:
        return None
    n_units, n_times = recording.responses.shape[1:]
    unit, place = np.divmod(np.arange(n_units * n_times), n_times)
    table = pd.DataFrame({"unit": unit})
    if "name" in recording.units:
        table["name"] = recording.units["name"].to_numpy()[unit]
    table["time"] = place if recording.times is None else recording.times[place]
    return _table(table, scores, alpha, usable)


def _table(table: pd.DataFrame, scores: Scores, alpha: Array, usable: Array) -> pd.DataFrame:
    n = len(table)
    table["r"] = scores.r
    table["r2"] = scores.r2
    table["shuffled r"] = scores.shuffled_r[0]
    table["ceiling"] = np.nan if scores.ceiling is None else np.asarray(scores.ceiling)
    with np.errstate(divide="ignore"):
        table["alpha"] = np.exp(mean_over(np.log(alpha), n))
    p = np.full(n, np.nan)
    if len(scores.permuted_r):
        p = permutation_p(scores.by_seed[0], scores.permuted_r)
    table["p"] = p
    table["q"] = fdr_bh(p)
    fitted = np.asarray(usable).reshape(n, -1).any(axis=1)
    table["status"] = np.where(fitted, "fitted", "constant or NaN")
    return table


def mean_over(values: Array, n: int) -> Array:
    """Return means of (..., n × times) over times, of what is known; (..., n)."""
    values = np.asarray(values)
    if values.shape[-1] == n:
        return values
    by_time = values.reshape(*values.shape[:-1], n, values.shape[-1] // n)
    known = np.isfinite(by_time)
    total = np.where(known, by_time, 0.0).sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.asarray(total / np.where(known.any(axis=-1), known.sum(axis=-1), np.nan))


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
        part, n_units = scores.units(inside), int(inside.sum()) // sums.n_times
        r = sums.mean("encoding_r", name)
        interval = r.interval()
        rows.append(
            {
                "region": name,
                "units": n_units,
                "r": r.value,
                "low": interval.low,
                "high": interval.high,
                f"units r > {THRESHOLD}": _above(part.r, n_units),
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


def _above(r: Array, n_units: int) -> int:
    """Return how many units have a high r, of epochs the mean over their time points."""
    return int((mean_over(r, n_units) > THRESHOLD).sum())


def summarise(sums: Sums, scores: Scores, times: Array | None = None) -> dict[str, Any]:
    """Return the metrics by id; values and intervals are of the mean over fold seeds.

    Parameters
    ----------
    sums : Sums
    scores : Scores
    times : array (times,), optional
        Of epochs, whose mean r at each time point is added, with its interval.
    """
    all_times, n_all = scores, len(scores.r) // sums.n_times
    parts = {name: scores.units(inside) for name, inside in sums.masks.items()}
    scores = scores.by_unit(n_all)
    n_units = int(np.isfinite(scores.r).sum())
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
            by_roi={
                name: _above(part.r, len(part.r) // sums.n_times) for name, part in parts.items()
            },
        ),
    }
    if sums.n_times > 1:
        metrics["encoding_r"] |= _by_time(sums, times)
    if scores.ceiling is not None:
        fraction = "encoding_ceiling_fraction_pooled"
        metrics[fraction] = metric_entry(
            fraction,
            sums.mean(fraction),
            n=n_units,
            nulls={
                "shuffled_features": _mean(
                    np.array([_fraction(r, all_times.ceiling) for r in all_times.shuffled_r])
                )
            },
            settings={"ceiling": scores.ceiling.definition},
            **by_region(sums.regions(fraction)),
        )
    return metrics


def _by_time(sums: Sums, times: Array | None) -> dict[str, Any]:
    """Return the mean r over units at each time point of epochs, with its interval."""
    each = [sums.mean("encoding_r", number) for number in range(sums.n_times)]
    ends = [one.interval() for one in each]
    return {
        "times": list(range(sums.n_times)) if times is None else [float(t) for t in times],
        "by_time": [one.value for one in each],
        "ci_by_time": [[end.low, end.high] for end in ends],
    }


# ------------------------------------------------------------------------------------- patterns


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
    training : array (targets,), optional
        See `brainkit.data.preparing.training_shares`.
    """
    scores: PatternScores = {metric: {} for metric in PATTERN_METRICS}
    if not masks:
        return scores
    measured, every = run.truth, run.predictions
    usable = np.isfinite(measured).all(axis=0) & np.isfinite(every).all(axis=0)
    for name, inside in masks.items():
        targets = np.repeat(np.asarray(inside), usable.size // len(inside))
        units = np.flatnonzero(np.asarray(targets & usable))
        if len(units) < FEWEST_UNITS:
            scores["encoding_2v2"][name] = scores["encoding_pattern_r"][name] = None
            continue
        share = 0.0 if training is None else float(training[units].mean())
        truth, predicted = measured[:, units], every[:, units]
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
        for metric in PATTERN_METRICS
    }


def pattern_columns(scores: PatternScores, null: PatternScores) -> pd.DataFrame:
    """Return the pattern scores as columns of the table of regions, a row a region."""
    columns: dict[str, list[float]] = {}
    for metric, name in PATTERN_METRICS.items():
        for title, values in ((name, scores), (f"shuffled {name}", null)):
            each = values[metric].values()
            columns[title] = [float("nan") if one is None else one.value for one in each]
    return pd.DataFrame(columns)
