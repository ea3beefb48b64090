"""Representational similarity analysis: dissimilarities, their comparison, ceilings, inference.

Built on rsatoolbox, whose comparisons, noise ceilings and variance formulas are used as they are;
what is added are named quantities, checks, seeds, and a null by permuting which stimulus is which.
"""

from brainkit.evaluation.rsa.comparison import COMPARISONS, RDMSimilarity, compare_rdms
from brainkit.evaluation.rsa.inference import (
    CEILING_POOLS,
    PeakDifference,
    RDMBootstrap,
    RDMCeiling,
    RDMPermutation,
    bootstrap_rdms,
    held_out_best,
    held_out_interval,
    peak_difference,
    permute_rdms,
    rdm_noise_ceiling,
)
from brainkit.evaluation.rsa.rdms import DISSIMILARITIES, condensed, rdm, rdm_stack

__all__ = [
    "CEILING_POOLS",
    "COMPARISONS",
    "DISSIMILARITIES",
    "PeakDifference",
    "RDMBootstrap",
    "RDMCeiling",
    "RDMPermutation",
    "RDMSimilarity",
    "bootstrap_rdms",
    "compare_rdms",
    "condensed",
    "held_out_best",
    "held_out_interval",
    "peak_difference",
    "permute_rdms",
    "rdm",
    "rdm_noise_ceiling",
    "rdm_stack",
]
