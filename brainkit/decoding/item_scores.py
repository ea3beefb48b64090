"""Scores of reconstructed images, one a held-out image, and their summary with intervals."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainkit.data.dependence import Rows
from brainkit.evaluation import greyscale, pixel_correlation, ssim
from brainkit.evaluation.identification import IdentificationDirection, identification_contest
from brainkit.evaluation.intervals import ItemScores, mean_of, mean_score
from brainkit.evaluation.metrics import metric_entry

Array = NDArray[Any]
# By (metric, kind of image).
Scores = dict[tuple[str, str], ItemScores]

SSIM: Literal["gaussian-2d"] = "gaussian-2d"
SMALLEST_SSIM_SIDE = 11
DIRECTIONS: tuple[IdentificationDirection, ...] = (
    "reconstruction_given_image",
    "image_given_reconstruction",
)
RECONSTRUCTION = "reconstruction"


def item_scores(
    shown: Array, images: Mapping[str, Array], fold: Array, rows: Rows, training: float = 0.0
) -> Scores:
    """Score each kind of image against what was shown.

    Parameters
    ----------
    shown : array (items, height, width[, 3])
        In [0, 1].
    images : mapping of str to array like `shown`
        Reconstructions and nulls.
    fold : array of int (items,)
        Fold that each item was held out in: items are told apart from those of their fold alone.
    rows : Rows
        What each item shows, and which belong together.
    training : float, default 0
        See `brainkit.evaluation.Estimate`.

    Returns
    -------
    dict of (metric, kind) to ItemScores
        Identification of the mean image is left out: equal images cannot be told apart, and chance
        is .5. A tie counts one half, so that nulls which show several items the same image are
        not put below what guessing among these would give.
    """
    scores: Scores = {}
    grey = _grey(shown)
    units: dict[str, Any] = {"units": rows.groups, "training": training}
    several = any(len(np.unique(rows.shown[fold == one])) > 1 for one in np.unique(fold))
    for kind, made in images.items():
        # An image without contrast is like none: 0, not missing.
        correlation = np.nan_to_num(np.asarray(pixel_correlation(shown, made)), nan=0.0)
        scores["pixel_correlation", kind] = mean_score(correlation, bounds=(-1.0, 1.0), **units)
        if min(grey.shape[1:]) >= SMALLEST_SSIM_SIDE:
            values = ssim(grey, _grey(made), data_range=1.0, variant=SSIM)
            scores[f"ssim_{SSIM}", kind] = mean_score(values, bounds=(-1.0, 1.0), **units)
        if kind != "mean_image" and several:
            for direction in DIRECTIONS:
                scores[f"identification_{direction}", kind] = identification_contest(
                    made, shown, direction, fold=fold, image=rows.shown, **units
                )
    return scores


def _grey(images: Array) -> Array:
    """Return (items, height, width), luminance where the images have colour."""
    return greyscale(images) if images.ndim == 4 else np.asarray(images, dtype=np.float64)


def mean_over_seeds(runs: list[Scores], order: list[Array]) -> Scores:
    """Average the scores of several passes over the same items.

    Parameters
    ----------
    runs : list of dict
        Of every fold seed.
    order : list of array of int (items,)
        That brings the items of each pass into one order.
    """
    return {
        name: ItemScores(
            np.mean([run[name].scores[o] for run, o in zip(runs, order, strict=True)], axis=0),
            mean_of([run[name].estimate for run in runs]),
        )
        for name in runs[0]
    }


def decoding_metrics(scores: Scores) -> dict[str, Any]:
    """Sum scores up by metric id: value, interval, nulls, and the difference from each null.

    Intervals are over held-out images; ``"above_nulls"`` holds the paired difference from each
    null.
    """
    metrics: dict[str, Any] = {}
    for (metric, kind), one in scores.items():
        if kind != RECONSTRUCTION:
            continue
        nulls = {
            name: null.estimate
            for (other, name), null in scores.items()
            if other == metric and name != RECONSTRUCTION
        }
        metrics[metric] = metric_entry(metric, one.estimate, nulls=nulls)
    return metrics
