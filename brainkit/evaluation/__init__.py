"""Noise ceilings, scores, identification, image agreement and statistics, as pure functions."""

from brainkit.evaluation.ceilings import ncsnr, noise_ceiling
from brainkit.evaluation.identification import (
    IDENTIFICATION_METRICS,
    RetrievalResult,
    identification,
    retrieval,
)
from brainkit.evaluation.images import SSIM_VARIANTS, greyscale, pixel_correlation, ssim
from brainkit.evaluation.normalise import pooled_ceiling_fraction, thresholded_ceiling_fraction
from brainkit.evaluation.quantities import (
    NCSNR,
    CeilingFraction,
    CeilingPercent,
    Correlation,
    NoiseCeiling,
    RSquared,
    effective_repeats,
    ncsnr_to_ceiling,
)
from brainkit.evaluation.scores import explained_variance, pearson_r, r2
from brainkit.evaluation.statistics import (
    Interval,
    PermutationResult,
    bootstrap_ci,
    bootstrap_difference,
    fdr_bh,
    permutation_p,
    permutation_test,
    shuffled_indices,
)

__all__ = [
    "IDENTIFICATION_METRICS",
    "NCSNR",
    "SSIM_VARIANTS",
    "CeilingFraction",
    "CeilingPercent",
    "Correlation",
    "Interval",
    "NoiseCeiling",
    "PermutationResult",
    "RSquared",
    "RetrievalResult",
    "bootstrap_ci",
    "bootstrap_difference",
    "effective_repeats",
    "explained_variance",
    "fdr_bh",
    "greyscale",
    "identification",
    "ncsnr",
    "ncsnr_to_ceiling",
    "noise_ceiling",
    "pearson_r",
    "permutation_p",
    "permutation_test",
    "pixel_correlation",
    "pooled_ceiling_fraction",
    "r2",
    "retrieval",
    "shuffled_indices",
    "ssim",
    "thresholded_ceiling_fraction",
]
