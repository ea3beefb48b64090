"""Representational similarity analysis: dissimilarities, their comparison, ceilings, inference.

Built on rsatoolbox, whose comparisons, noise ceilings and variance formulas are used as they are;
what is added are named quantities, checks, seeds, and a null by permuting which stimulus is which.
"""

from brainkit.evaluation.rsa.ceiling import CEILING_POOLS, RDMCeiling, rdm_noise_ceiling
from brainkit.evaluation.rsa.choice import (
    PeakDifference,
    held_out_best,
    held_out_interval,
    peak_difference,
)
from brainkit.evaluation.rsa.comparison import COMPARISONS, RDMSimilarity, compare_rdms
from brainkit.evaluation.rsa.dissimilarity import DISSIMILARITIES, rdm
from brainkit.evaluation.rsa.inference import (
    RDMBootstrap,
    RDMPermutation,
    bootstrap_rdms,
    permute_rdms,
)
from brainkit.evaluation.rsa.matrices import condensed, rdm_stack

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
