"""Synthesis: stimuli that a region of the brain should prefer."""

from brainkit.synthesis.ranking import (
    FittedEncoder,
    Ranking,
    RankingProtocol,
    RankingResult,
    assess_ranking,
    rank_stimuli,
)

__all__ = [
    "FittedEncoder",
    "Ranking",
    "RankingProtocol",
    "RankingResult",
    "assess_ranking",
    "rank_stimuli",
]
