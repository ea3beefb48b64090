"""Reconstruction: predicted embeddings → images and sentences, judged beside generative nulls."""

from brainkit.reconstruction.embeddings import EmbeddingDecoder
from brainkit.reconstruction.generative_decoding import ReconstructionResult, assess_reconstruction
from brainkit.reconstruction.judge import identification_among, retrieval_among
from brainkit.reconstruction.naming import first_named, names_category, words_for
from brainkit.reconstruction.parts import ReconstructionParts, ReconstructionProtocol

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
