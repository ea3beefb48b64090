"""Which model is best, said without flattering it.

The best of many models is partly the luckiest. Its similarity is unbiased where other people chose
it, and "region A is best matched earlier than region B" is only as good as it is stable under
resampling.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.evaluation.rsa.comparison import RDMSimilarity
from brainkit.evaluation.rsa.inference import RDMBootstrap


@dataclass(frozen=True)
class PeakDifference:
    """How many models later the best one of a group comes than that of another.

    Attributes
    ----------
    value : int
        Observed: rank of the second group's best model less that of the first.
    low, high : float
        Percentile interval over people and conditions.
    later : float
        Share of bootstrap samples in which the second group's best comes later; equal ranks count
        as not later.
    level : float
        Coverage aimed at.
    n_subjects : int
        People.
    """

    value: int
    low: float
    high: float
    later: float
    level: float
    n_subjects: int


def held_out_best(similarities: RDMSimilarity) -> tuple[RDMSimilarity, NDArray[np.intp]]:
    """Score for each person the model that is best for all the *other* people.

    Parameters
    ----------
    similarities : RDMSimilarity of shape (n_models, n_subjects)
        Of every model with every person's RDM.

    Returns
    -------
    scores : RDMSimilarity of shape (n_subjects,)
        Each person's similarity with the model that the others chose.
    chosen : numpy.ndarray of int of shape (n_subjects,)
        That model.

    Raises
    ------
    InputError
        If there are fewer than 2 people, or no model.
    """
    values = np.asarray(similarities)
    if values.ndim != 2 or not len(values) or values.shape[1] < 2:
        raise InputError(
            f"similarities have shape {values.shape}, expected (n_models, n_subjects) with at "
            "least 1 model and 2 people."
        )
    others = values.sum(axis=1, keepdims=True) - values
    chosen = others.argmax(axis=0)
    scores = values[chosen, np.arange(values.shape[1])]
    return RDMSimilarity(scores, similarities.comparison), chosen


def peak_difference(
    bootstrap: RDMBootstrap, first: int, second: int, level: float = 0.95
) -> PeakDifference:
    """Compare where along ordered models two groups are best matched.

    Parameters
    ----------
    bootstrap : RDMBootstrap
        Its models stand in order, such as the layers of a network.
    first, second : int
        Groups.
    level : float, default 0.95
        Coverage aimed at.

    Returns
    -------
    PeakDifference
    """
    if not 0 < level < 1:
        raise InputError(f"level={level}: expected 0 < level < 1.")
    best = bootstrap.observed.argmax(axis=0)
    drawn: ArrayLike = bootstrap.both.argmax(axis=1)
    gaps = np.asarray(drawn)[:, second] - np.asarray(drawn)[:, first]
    low, high = np.quantile(gaps, [(1 - level) / 2, (1 + level) / 2])
    later = float((gaps > 0).mean())
    value = int(best[second] - best[first])
    return PeakDifference(value, float(low), float(high), later, level, bootstrap.n_subjects)
