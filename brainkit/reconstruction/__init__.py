"""Reconstruction: predicted embeddings → images and sentences, judged beside generative nulls."""

from brainkit.reconstruction.embeddings import EmbeddingDecoder
from brainkit.reconstruction.generative_decoding import ReconstructionResult, assess_reconstruction
from brainkit.reconstruction.parts import ReconstructionParts, ReconstructionProtocol
from brainkit.reconstruction.scores import (
    first_named,
    identification_among,
    names_category,
    retrieval_among,
    words_for,
)

__all__ = [
    "EmbeddingDecoder",
    "ReconstructionParts",
    "ReconstructionProtocol",
    "ReconstructionResult",
    "assess_reconstruction",
    "first_named",
    "identification_among",
    "names_category",
    "retrieval_among",
    "words_for",
]
