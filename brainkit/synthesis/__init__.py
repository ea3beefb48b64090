"""Synthesis: stimuli that a region of the brain should prefer."""

from brainkit.synthesis.assess import RankingProtocol, RankingResult, assess_ranking
from brainkit.synthesis.rank import FittedEncoder, Ranking, rank_stimuli

__all__ = [
    "FittedEncoder",
    "Ranking",
    "RankingProtocol",
    "RankingResult",
    "assess_ranking",
    "rank_stimuli",
]
