"""Encoding: estimators from features to responses, and how they are judged."""

from brainkit.encoding.assess import EncodingProtocol, EncodingResult, assess_encoder
from brainkit.encoding.reduced_rank import ReducedRankRidge
from brainkit.encoding.ridge import VoxelwiseRidge

__all__ = [
    "EncodingProtocol",
    "EncodingResult",
    "ReducedRankRidge",
    "VoxelwiseRidge",
    "assess_encoder",
]
