"""Decoding: from responses to images, classes and numbers, and how decoders are judged."""

from brainkit.decoding.image_decoding import (
    DecodingProtocol,
    DecodingResult,
    RetrievalBank,
    assess_decoder,
)
from brainkit.decoding.label_decoder import LabelDecoder
from brainkit.decoding.label_decoding import LabelProtocol, LabelResult, assess_labels
from brainkit.decoding.ridge_decoder import RidgeDecoder

# Estimators by the names that recipes have for them.
DECODERS = {
    "ridge-decoder": "brainkit.decoding:RidgeDecoder",
    "label-decoder": "brainkit.decoding:LabelDecoder",
}

__all__ = [
    "DECODERS",
    "DecodingProtocol",
    "DecodingResult",
    "LabelDecoder",
    "LabelProtocol",
    "LabelResult",
    "RetrievalBank",
    "RidgeDecoder",
    "assess_decoder",
    "assess_labels",
]
