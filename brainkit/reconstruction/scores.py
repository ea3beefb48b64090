"""From scores of items to metrics: value, interval, every null with its own interval."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.evaluation.intervals import ItemScores
from brainkit.evaluation.metrics import metric_entry

Array = NDArray[Any]
# By (metric, kind of image).
Scores = dict[tuple[str, str], ItemScores]

MADE = "reconstruction"
TRUE = "true_embedding"


def summarise(
    scores: Mapping[tuple[str, str], ItemScores],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Sum scores up by metric id.

    Parameters
    ----------
    scores : mapping of (metric, kind) to ItemScores
        Kinds are ``"reconstruction"``, ``"true_embedding"`` and the nulls.
    settings : mapping of str to mapping, optional
        What the preset of a metric leaves open, and ``"n"``, the candidates that its items choose
        from.

    Returns
    -------
    dict
        As in ``metrics.json``, see `brainkit.evaluation.metrics.metric_entry`. Intervals are over
        images. ``"true_embedding"`` holds what the embeddings of the shown images themselves reach.
    """
    metrics: dict[str, Any] = {}
    for (metric, kind), one in scores.items():
        if kind != MADE:
            continue
        others = {
            k: v.estimate for (m, k), v in scores.items() if m == metric and k not in (MADE, TRUE)
        }
        known = dict((settings or {}).get(metric, {}))
        entry = metric_entry(
            metric,
            one.estimate,
            nulls=others,
            n_candidates=known.pop("n", None),
            settings=known,
        )
        if (metric, TRUE) in scores:
            reached = scores[metric, TRUE].estimate.interval()
            entry[TRUE] = {
                "value": reached.value,
                "ci": [reached.low, reached.high],
                "n": reached.n,
            }
        metrics[metric] = entry
    return metrics


def item_columns(scores: Mapping[tuple[str, str], ItemScores]) -> dict[str, Array]:
    """Name the columns of a table of items: ``metric``, or ``metric/kind`` for all other kinds."""
    return {
        metric if kind == MADE else f"{metric}/{kind}": np.asarray(one.scores)
        for (metric, kind), one in scores.items()
    }
