"""Decoding: from responses to images, classes and numbers, and how decoders are judged.

Decoders that are networks are loaded when they are first used, and torch with them.
"""

from typing import TYPE_CHECKING, Any

from brainkit.decoding.bayesian_decoder import BayesianDecoder
from brainkit.decoding.contrastive_decoder import ContrastiveDecoder
from brainkit.decoding.image_decoding import (
    DecodingProtocol,
    DecodingResult,
    RetrievalBank,
    assess_decoder,
)
from brainkit.decoding.label_decoder import LabelDecoder
from brainkit.decoding.label_decoding import LabelProtocol, LabelResult, assess_labels
from brainkit.decoding.learned_latents import LearnedLatents
from brainkit.decoding.massive_ridge import MassiveRidge
from brainkit.decoding.ridge_decoder import RidgeDecoder

if TYPE_CHECKING:
    from brainkit.decoding.in_context_decoder import InContextDecoder

# Estimators by the names that recipes have for them.
DECODERS = {
    "contrastive-decoder": "brainkit.decoding:ContrastiveDecoder",
    "bayesian-decoder": "brainkit.decoding:BayesianDecoder",
    "ridge-decoder": "brainkit.decoding:RidgeDecoder",
    "massive-ridge": "brainkit.decoding:MassiveRidge",
    "label-decoder": "brainkit.decoding:LabelDecoder",
    "in-context-decoder": "brainkit.decoding:InContextDecoder",
}

__all__ = [
    "DECODERS",
    "BayesianDecoder",
    "ContrastiveDecoder",
    "DecodingProtocol",
    "DecodingResult",
    "InContextDecoder",
    "LabelDecoder",
    "LabelProtocol",
    "LabelResult",
    "LearnedLatents",
    "MassiveRidge",
    "RetrievalBank",
    "RidgeDecoder",
    "assess_decoder",
    "assess_labels",
]


def __getattr__(name: str) -> Any:
    """Load a network's decoder when it is first asked for."""
    if name == "InContextDecoder":
        from brainkit.decoding.in_context_decoder import InContextDecoder

        globals()[name] = InContextDecoder
        return InContextDecoder
    raise AttributeError(f"module 'brainkit.decoding' has no attribute {name!r}")
