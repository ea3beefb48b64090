"""Noise ceilings, scores, identification, image agreement and statistics, as pure functions."""

from brainkit.evaluation._groups import time_blocks
from brainkit.evaluation.ceilings import ncsnr, noise_ceiling
from brainkit.evaluation.cross_subject import CrossSubjectCeiling, cross_subject_ceiling
from brainkit.evaluation.identification import (
    IDENTIFICATION_METRICS,
    RetrievalResult,
    identification,
    retrieval,
)
from brainkit.evaluation.images import SSIM_VARIANTS, greyscale, pixel_correlation, ssim
from brainkit.evaluation.intervals import (
    Estimate,
    Interval,
    bootstrap_ci,
    bootstrap_difference,
    mean_estimate,
    mean_of,
    training_share,
)
from brainkit.evaluation.jackknife import ScoreIntervals, score_intervals
from brainkit.evaluation.normalise import (
    pooled_ceiling_fraction,
    pooled_correlation_fraction,
    thresholded_ceiling_fraction,
    thresholded_correlation_fraction,
)
from brainkit.evaluation.paired import EncoderComparison, RegionDifference, compare_encoders
from brainkit.evaluation.patterns import pattern_correlation, two_vs_two, two_vs_two_ci
from brainkit.evaluation.permutation import PermutationResult, permutation_p, permutation_test
from brainkit.evaluation.quantities import (
    NCSNR,
    CeilingFraction,
    CeilingPercent,
    Correlation,
    CorrelationFraction,
    ExplainableVariance,
    NoiseCeiling,
    RSquared,
    effective_repeats,
    ncsnr_to_ceiling,
)
from brainkit.evaluation.reliability import (
    explainable_variance,
    spearman_brown,
    split_half_ceiling,
)
from brainkit.evaluation.scores import explained_variance, pearson_r, r2
from brainkit.evaluation.statistics import (
    correlation_length,
    exchanged_rows,
    fdr_bh,
    shuffled_indices,
)

__all__ = [
    "IDENTIFICATION_METRICS",
    "NCSNR",
    "SSIM_VARIANTS",
    "CeilingFraction",
    "CeilingPercent",
    "Correlation",
    "CorrelationFraction",
    "CrossSubjectCeiling",
    "EncoderComparison",
    "Estimate",
    "ExplainableVariance",
    "Interval",
    "NoiseCeiling",
    "PermutationResult",
    "RSquared",
    "RegionDifference",
    "RetrievalResult",
    "ScoreIntervals",
    "bootstrap_ci",
    "bootstrap_difference",
    "compare_encoders",
    "correlation_length",
    "cross_subject_ceiling",
    "effective_repeats",
    "exchanged_rows",
    "explainable_variance",
    "explained_variance",
    "fdr_bh",
    "greyscale",
    "identification",
    "mean_estimate",
    "mean_of",
    "ncsnr",
    "ncsnr_to_ceiling",
    "noise_ceiling",
    "pattern_correlation",
    "pearson_r",
    "permutation_p",
    "permutation_test",
    "pixel_correlation",
    "pooled_ceiling_fraction",
    "pooled_correlation_fraction",
    "r2",
    "retrieval",
    "score_intervals",
    "shuffled_indices",
    "spearman_brown",
    "split_half_ceiling",
    "ssim",
    "thresholded_ceiling_fraction",
    "thresholded_correlation_fraction",
    "time_blocks",
    "training_share",
    "two_vs_two",
    "two_vs_two_ci",
]
