"""Encoding: estimators from features to responses, and how they are judged."""

from brainkit.encoding.assess import EncodingProtocol, EncodingResult, assess_encoder
from brainkit.encoding.kernel import KernelRidge
from brainkit.encoding.reduced_rank import ReducedRankRidge
from brainkit.encoding.ridge import VoxelwiseRidge
from brainkit.encoding.similarity import RSAProtocol, RSAResult, assess_rsa, layer_rdm
from brainkit.encoding.spaces import (
    FeatureTable,
    SpaceComparison,
    compare_spaces,
    stimuli_in_use,
)

__all__ = [
    "EncodingProtocol",
    "EncodingResult",
    "FeatureTable",
    "KernelRidge",
    "RSAProtocol",
    "RSAResult",
    "ReducedRankRidge",
    "SpaceComparison",
    "VoxelwiseRidge",
    "assess_encoder",
    "assess_rsa",
    "compare_spaces",
    "layer_rdm",
    "stimuli_in_use",
]
