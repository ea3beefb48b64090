"""Decoding: estimators from responses to features, back to images, and how they are judged."""

from brainkit.decoding.assess import DecodingProtocol, DecodingResult, assess_decoder
from brainkit.decoding.images import RetrievalBank
from brainkit.decoding.ridge import RidgeDecoder

__all__ = ["DecodingProtocol", "DecodingResult", "RetrievalBank", "RidgeDecoder", "assess_decoder"]
