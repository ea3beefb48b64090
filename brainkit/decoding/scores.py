"""Scores of reconstructed images, one a held-out image, and their summary with intervals."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from brainkit.evaluation import (
    bootstrap_ci,
    bootstrap_difference,
    greyscale,
    pixel_correlation,
    ssim,
)
from brainkit.evaluation.identification import IdentificationDirection, identification_both_ways

Array = NDArray[Any]
Scores = dict[tuple[str, str], Array]

SSIM: Literal["gaussian-2d"] = "gaussian-2d"
SMALLEST_SSIM_SIDE = 11
DIRECTIONS: tuple[IdentificationDirection, ...] = (
    "reconstruction_given_image",
    "image_given_reconstruction",
)
PRESETS = {
    "pixel_correlation": "pearson-over-pixels",
    f"ssim_{SSIM}": "sigma-1.5/data-range-1/greyscale",
    **{f"identification_{name}": "pearson/all-others/ties-half" for name in DIRECTIONS},
}


def item_scores(shown: Array, images: dict[str, Array]) -> Scores:
    """Score each kind of image against what was shown.

    Parameters
    ----------
    shown : array (items, height, width[, 3])
        In [0, 1].
    images : dict of str to array like `shown`
        Reconstructions and nulls.

    Returns
    -------
    dict of (metric, kind) to array (items,)
        Identification of the mean image is left out: equal images cannot be told apart, and chance
        is .5. A tie counts one half, so that nulls which show several items the same image are
        not put below what guessing among these would give.
    """
    scores: Scores = {}
    grey = _grey(shown)
    for kind, made in images.items():
        scores["pixel_correlation", kind] = np.asarray(pixel_correlation(shown, made))
        if min(grey.shape[1:]) >= SMALLEST_SSIM_SIDE:
            values = ssim(grey, _grey(made), data_range=1.0, variant=SSIM)
            scores[f"ssim_{SSIM}", kind] = values
        if kind != "mean_image" and len(shown) > 1:
            found = identification_both_ways(made, shown, ties="half")
            for direction in DIRECTIONS:
                scores[f"identification_{direction}", kind] = found[direction]
    return scores


def _grey(images: Array) -> Array:
    """Return (items, height, width), luminance where the images have colour."""
    return greyscale(images) if images.ndim == 4 else np.asarray(images, dtype=np.float64)


def decoding_metrics(scores: Scores) -> dict[str, Any]:
    """Sum scores up by metric id: value, interval, nulls, and the difference from each null.

    Intervals are 95 % bootstrap intervals over held-out images; ``"above_nulls"`` holds the
    paired difference from each null.
    """
    metrics: dict[str, Any] = {}
    for (metric, kind), values in scores.items():
        if kind != "reconstruction":
            continue
        nulls = {name: null for (other, name), null in scores.items() if other == metric}
        nulls.pop("reconstruction")
        interval = bootstrap_ci(values)
        above = {name: bootstrap_difference(values, null) for name, null in nulls.items()}
        metrics[metric] = {
            "value": interval.value,
            "ci": [interval.low, interval.high],
            "n": interval.n,
            "nulls": {name: float(np.nanmean(null)) for name, null in nulls.items()},
            "above_nulls": {
                name: {"value": gap.value, "ci": [gap.low, gap.high]} for name, gap in above.items()
            },
            "preset": PRESETS[metric],
        }
        if metric.startswith("identification"):
            metrics[metric]["chance"] = 0.5
    return metrics
