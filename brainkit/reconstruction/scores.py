"""From scores of items to metrics: value, interval, every null with its own interval."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.evaluation import bootstrap_ci, bootstrap_difference

Array = NDArray[Any]
Scores = dict[tuple[str, str], Array]

MADE = "reconstruction"
TRUE = "true_embedding"


def summarise(
    scores: Mapping[tuple[str, str], Array],
    presets: Mapping[str, str],
    chance: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Sum scores up by metric id.

    Parameters
    ----------
    scores : mapping of (metric, kind) to array (n_items,)
        Kinds are ``"reconstruction"``, ``"true_embedding"`` and the nulls.
    presets : mapping of str to str
        How each metric is computed.
    chance : mapping of str to float, optional

    Returns
    -------
    dict
        As in ``metrics.json``. Intervals are 95 % bootstrap intervals over images.
        ``"null_ci"`` holds those of the nulls, ``"above_nulls"`` the paired differences from
        them, and ``"true_embedding"`` what the embeddings of the shown images themselves reach.
    """
    metrics: dict[str, Any] = {}
    for (metric, kind), values in scores.items():
        if kind == MADE:
            others = {k: v for (m, k), v in scores.items() if m == metric and k != MADE}
            metrics[metric] = {**_beside_others(values, others), "preset": presets[metric]}
            if TRUE in others:
                entry = dict(zip(("value", "ci", "n"), _interval(others[TRUE]), strict=True))
                metrics[metric][TRUE] = entry
            if chance is not None and metric in chance:
                metrics[metric]["chance"] = chance[metric]
    return metrics


def _beside_others(values: Array, others: Mapping[str, Array]) -> dict[str, Any]:
    """Sum the scores of one metric up, beside those of every null."""
    value, ci, n = _interval(values)
    nulls = {name: null for name, null in others.items() if name != TRUE}
    intervals = {name: _interval(null) for name, null in nulls.items()}
    gaps = {name: bootstrap_difference(values, null) for name, null in nulls.items()}
    return {
        "value": value,
        "ci": ci,
        "n": n,
        "nulls": {name: null[0] for name, null in intervals.items()},
        "null_ci": {name: null[1] for name, null in intervals.items()},
        "above_nulls": {
            name: {"value": gap.value, "ci": [gap.low, gap.high]} for name, gap in gaps.items()
        },
    }


def _interval(values: Array) -> tuple[float, list[float], int]:
    found = bootstrap_ci(values)
    return found.value, [found.low, found.high], found.n


def item_columns(scores: Mapping[tuple[str, str], Array]) -> dict[str, Array]:
    """Name the columns of a table of items: ``metric``, or ``metric/kind`` for all other kinds."""
    return {
        metric if kind == MADE else f"{metric}/{kind}": np.asarray(values)
        for (metric, kind), values in scores.items()
    }
