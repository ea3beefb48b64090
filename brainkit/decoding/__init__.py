"""Decoding: from responses to images, classes and numbers, and how decoders are judged."""

from brainkit.decoding.image_decoding import (
    DecodingProtocol,
    DecodingResult,
    RetrievalBank,
    assess_decoder,
)
from brainkit.decoding.label_decoder import LabelDecoder
from brainkit.decoding.labels import LabelProtocol, LabelResult, assess_labels
from brainkit.decoding.ridge import RidgeDecoder

__all__ = [
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
