"""Every score that a report may show: what it is called, how it is formed, what guessing reaches.

A score is registered, here or by another package, or it is not shown. Of each that is registered
here it is tested on pure noise that its mean is its chance, two-sided, over numbers of folds and
items (``scripts/calibrate.py``). Another package registers a `Metric` by an entry point
``metric.ID`` of the group ``brainkit.parts``.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from brainkit.arrays.registry import Registry
from brainkit.errors import QuantityError, listed, unknown_name
from brainkit.evaluation.intervals import Estimate, Interval
from brainkit.evaluation.presets import PRESETS, CaptionScore, ImageScore, RetrievalScore


@dataclass(frozen=True)
class Metric:
    """A kind of score.

    Attributes
    ----------
    id : str
        Name of the metric; a pattern where a number is part of it (``..._top10``). What it was
        measured with, a judge or a feature space, follows in square brackets.
    preset : str
        Name of the way it is formed; scores of two presets never stand in one table. ``{}`` in it
        stand for settings of the run.
    chance : float or str
        What noise gives: a number, ``"1/n"`` (or ``"5/n"``) of n candidates, or the name of the
        null whose expectation it is, where guessing has no value that is known without the data.
    bounds : (float, float), optional
        Limits of the score.
    direction : {"higher", "lower"}
        Whether higher or lower values are better.
    """

    id: str
    preset: str
    chance: float | str
    bounds: tuple[float, float] | None = None
    direction: Literal["higher", "lower"] = "higher"


_IDENTIFICATION = "pearson/others-of-the-fold/ties-half"
_TOP1 = "{similarity}/1-of-{n}/others-of-the-fold/all-draws/ties-at-random"
_RSA = "rsa/{dissimilarity}/{comparison}"
_IMAGE_BOUNDS: dict[str, tuple[float, float]] = {
    "pixel_correlation": (-1.0, 1.0),
    "ssim": (-1.0, 1.0),
    "identification": (0.0, 1.0),
    "correlation_distance": (0.0, 2.0),
}

_BUILTIN = (
    Metric("encoding_r", "pearson-r/within-folds/mean-over-units", 0.0, (-1.0, 1.0)),
    Metric("encoding_r2", "r2/training-mean/mean-over-units", "shuffled_features"),
    Metric(
        r"encoding_units_r_above_0\.\d+",
        "pearson-r/within-folds/count",
        "shuffled_features",
    ),
    Metric(
        "encoding_ceiling_fraction_pooled",
        "signed-r2-over-{ceiling}-ceiling/within-folds/pooled",
        0.0,
    ),
    Metric("encoding_2v2", "2v2/cosine/pairs-within-folds/mean-over-regions", 0.5, (0.0, 1.0)),
    Metric(
        "encoding_pattern_r",
        "pearson-r-over-units/mean-over-items/mean-over-regions",
        0.0,
        (-1.0, 1.0),
    ),
    Metric("decoding_balanced_accuracy", "mean-recall/within-folds", "1/n", (0.0, 1.0)),
    Metric("decoding_auc", "roc/one-v-rest/ties-half/within-folds", 0.5, (0.0, 1.0)),
    Metric("decoding_r", "pearson-r/within-folds", 0.0, (-1.0, 1.0)),
    Metric("decoding_r2", "r2/training-mean", "exchanged_labels"),
    Metric("pixel_correlation", "pearson-over-pixels", "shuffled_brain", (-1.0, 1.0)),
    Metric("ssim_gaussian-2d", "sigma-1.5/data-range-1/greyscale", "shuffled_brain", (-1.0, 1.0)),
    Metric("identification_reconstruction_given_image", _IDENTIFICATION, 0.5, (0.0, 1.0)),
    Metric("identification_image_given_reconstruction", _IDENTIFICATION, 0.5, (0.0, 1.0)),
    Metric("identification_reconstruction_given_image_top1", _TOP1, "1/n", (0.0, 1.0)),
    Metric("identification_image_given_reconstruction_top1", _TOP1, "1/n", (0.0, 1.0)),
    Metric("retrieval_image_from_brain_top1", _TOP1, "1/n", (0.0, 1.0)),
    Metric("retrieval_brain_from_image_top1", _TOP1, "1/n", (0.0, 1.0)),
    Metric("caption_names_category", "first-named/largest-object", "shuffled_brain", (0.0, 1.0)),
    Metric(
        r"ranked_judged_percentile_top\d+",
        "held-out-judge/bank-percentile/ties-half",
        50.0,
        (0.0, 100.0),
    ),
    Metric("rsa_best_layer", _RSA, "best_of_relabelled_stimuli"),
    Metric("rsa_layer_chosen_by_others", _RSA, "relabelled_stimuli"),
    Metric("rsa_layers_between_best", _RSA, 0.0),
    Metric("rsa_rise_over_layers", _RSA, 0.0),
)


def _of_presets() -> Iterator[Metric]:
    """Give the kinds of score of all presets; what a judge or gallery names is no other kind."""
    for preset in PRESETS.values():
        for name, score in preset.metrics.items():
            kind = name.split("[", maxsplit=1)[0]
            chance: float | str = "shuffled_brain"
            bounds: tuple[float, float] | None = None
            if isinstance(score, ImageScore):
                chance = 0.5 if score.kind == "identification" else chance
                bounds = _IMAGE_BOUNDS[score.kind]
            elif isinstance(score, RetrievalScore) and score.top is not None:
                chance = "1/n" if score.top == 1 else f"{score.top}/n"
                bounds = (0.0, 1.0)
            elif isinstance(score, CaptionScore) and score.name != "cider_d":
                bounds = (0.0, 1.0)
            yield Metric(kind, preset.name, chance, bounds, score.better)


METRICS = Registry(
    "metric",
    "metric",
    {metric.id: metric for metric in (*_BUILTIN, *_of_presets())},
    has=("id", "preset", "chance", "bounds", "direction"),
)


def metric_of(name: str) -> Metric:
    """Return the kind of a score by its id, whatever stands in square brackets.

    Raises
    ------
    UnknownNameError
        If no such score is registered.
    PartError
        If it is registered twice, or by a package that cannot be imported.
    """
    bare = name.split("[", maxsplit=1)[0]
    for pattern in METRICS:
        with suppress(re.error):  # of another package, which meant no pattern
            if re.fullmatch(pattern, bare):
                metric: Metric = METRICS[pattern]
                return metric
    raise unknown_name("metric", name, list(METRICS))


def metric_entry(
    name: str,
    score: Estimate | Interval | float,
    *,
    nulls: Mapping[str, Estimate | float] | None = None,
    n: int | None = None,
    n_candidates: int | None = None,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Write a score as ``metrics.json`` holds it.

    Parameters
    ----------
    name : str
        Id of the metric.
    score : Estimate, Interval or float
        A plain number has no interval.
    nulls : mapping of str to Estimate or float, optional
        Values of null predictions. Where they are estimates, the paired differences from them are
        written too.
    n : int, optional
        What the value is a mean of; the estimate's items where not given.
    n_candidates : int, optional
        Number of candidates, for scores whose chance is one in n.
    settings : mapping, optional
        What the preset leaves open.
    **more
        Further entries, such as ``by_roi``.

    Returns
    -------
    dict
        ``value``, ``ci`` (95 %), ``n``, ``n_units`` (independent units that the interval rests
        on), ``few_units`` (whether they are too few for its coverage to be sure), ``nulls``,
        ``null_ci``, ``above_nulls``, ``chance``, ``preset``, ``direction``.
    """
    metric = metric_of(name)
    interval = score.interval() if isinstance(score, Estimate) else score
    entry: dict[str, Any] = {"n": n}
    if isinstance(interval, Interval):
        entry |= {"value": interval.value, "ci": _ends(interval), "n": n or interval.n}
        entry |= {"n_units": interval.n_units, "few_units": interval.few_units}
    else:
        entry["value"] = interval
    by_null = dict(nulls or {})
    entry["nulls"] = {
        null: other.value if isinstance(other, Estimate) else other
        for null, other in by_null.items()
    }
    estimates = {null: other for null, other in by_null.items() if isinstance(other, Estimate)}
    if isinstance(score, Estimate) and estimates:
        entry["null_ci"] = {null: _ends(other.interval()) for null, other in estimates.items()}
        entry["above_nulls"] = {
            null: {"value": (score - other).value, "ci": _ends((score - other).interval())}
            for null, other in estimates.items()
        }
    chance = chance_of(name, n_candidates)
    if chance is not None:
        entry["chance"] = chance
    known = {"n": n_candidates, **(settings or {})}
    entry["preset"] = metric.preset.format(**known)
    entry["direction"] = metric.direction
    return entry | more


def chance_of(name: str, n_candidates: int | None = None) -> float | None:
    """Return what guessing reaches as a number; None where it is a null's expectation."""
    chance = metric_of(name).chance
    if isinstance(chance, float):
        return chance
    right, _, of_n = chance.partition("/")
    if of_n != "n":
        return None
    return None if not n_candidates else min(float(right) / n_candidates, 1.0)


def one_preset(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the preset that all metrics of a table have; two never share one (trap T13).

    Parameters
    ----------
    metrics : mapping of str to mapping
        Entries as in ``metrics.json``, by metric id.

    Returns
    -------
    str
        ``"not stated"`` where none of them states one.

    Raises
    ------
    QuantityError
        If there are several; the message says which metrics have which.
    """
    by_preset: dict[str, list[str]] = {}
    for name, entry in metrics.items():
        by_preset.setdefault(str(entry.get("preset", "not stated")), []).append(name)
    if len(by_preset) > 1:
        told = "; ".join(f"{preset}: {listed(names)}" for preset, names in by_preset.items())
        raise QuantityError(
            f"Metrics of {len(by_preset)} presets cannot share a table, since a score says nothing "
            f"beside one that was formed in another way ({told}). Make a table for each preset."
        )
    return next(iter(by_preset), "not stated")


def by_region(values: Mapping[str, Estimate | None]) -> dict[str, Any]:
    """Return values and intervals by region, as entries of a metric."""
    known = {name: one for name, one in values.items() if one is not None}
    return {
        "by_roi": {
            name: float("nan") if one is None else one.value for name, one in values.items()
        },
        "ci_by_roi": {name: _ends(one.interval()) for name, one in known.items()},
    }


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]


def share_of(values: ArrayLike) -> float:
    """Return the mean of finite values, NaN where there is none."""
    finite = np.asarray(values, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    return float(finite.mean()) if finite.size else float("nan")
