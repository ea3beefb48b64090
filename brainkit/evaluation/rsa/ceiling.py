"""How similar to people's RDMs a model's RDM is expected to be, and can be, as people differ."""

import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, unknown_name
from brainkit.evaluation.rsa.comparison import (
    TOOLBOX_NAMES,
    as_directions,
    check_comparison,
    compare_rdms,
    require_spread,
)
from brainkit.evaluation.rsa.matrices import rdm_stack, upper

CEILING_POOLS = ("matched", "mean")


@dataclass(frozen=True)
class RDMCeiling:
    """Where the similarity of the true model is expected, and what no model can exceed.

    Attributes
    ----------
    lower, upper : float
        Estimates of how similar the true model is to people's RDMs on average, too low and too
        high: the mean similarity of each person's RDM with the pooled RDM of all others, and with
        that of all, their own included. A model may lie above `upper` where the pooled RDM is not
        the best one; see `bound`.
    bound : float
        No RDM, with ties or without, is more similar to these people's RDMs on average. For
        ``"pearson"``, ``"cosine"`` and ``"rho-a"`` (pooled as ``"matched"``) it is `upper`. For
        ``"spearman"`` it is higher: the pooled RDM is ranked anew, which drives values that are
        nearly equal a whole rank apart, and a model that ties them comes nearer to the people. For
        ``"kendall-tau-a"`` and ``"spearman"`` it need not be reached.
    comparison : str
        How RDMs were compared.
    pool : str
        How RDMs were pooled.
    n_subjects : int
        People.
    """

    lower: float
    upper: float
    bound: float
    comparison: str
    pool: str
    n_subjects: int


def rdm_noise_ceiling(
    data: ArrayLike, comparison: str = "spearman", *, pool: str = "matched"
) -> RDMCeiling:
    """Estimate the noise ceiling of people's RDMs (Nili et al., 2014).

    Parameters
    ----------
    data : array_like of shape (n_subjects, n_conditions, n_conditions)
        The RDM of each person.
    comparison : str, default "spearman"
        As for :func:`brainkit.evaluation.rsa.compare_rdms`.
    pool : {"matched", "mean"}, default "matched"
        ``"matched"``: RDMs are brought to the scale of the comparison (ranked, standardised, or
        divided by their length) before they are averaged, as in rsatoolbox. ``"mean"``:
        dissimilarities are averaged as they are, so that people with larger ones weigh more.

    Returns
    -------
    RDMCeiling
        Two estimates, and a bound, which does not depend on `pool`.

    Notes
    -----
    With d_i the person's RDM as the direction of which the comparison takes inner products (ranks
    for Spearman's ρ, centred, of length 1), and m̂ that of a model, the mean similarity is
    ⟨m̂, mean d_i⟩ ≤ ‖mean d_i‖, which is the bound. Where m̂ can be any direction it is reached. The
    ranks of a model are no such direction. In ρ-a they are not divided by their own length, ties
    can only lose, and the order of the mean ranks is the best of all (Schütt et al., 2023). For
    Kendall's τ-a the bound is the mean, over pairs of dissimilarities, of |mean sign of their
    difference|.

    Raises
    ------
    UnknownNameError
        If there is no such comparison or way to pool.
    InputError
        If there are fewer than 2 people, or an RDM is constant.
    """
    check_comparison(comparison)
    if pool not in CEILING_POOLS:
        raise unknown_name("way to pool RDMs", pool, CEILING_POOLS)
    stack = rdm_stack(data, "data")
    if len(stack) < 2:
        raise InputError("A noise ceiling needs the RDMs of at least 2 people; got 1.")
    require_spread(upper(stack), comparison, "data")
    estimate = _mean_ceiling if pool == "mean" else _matched_ceiling
    low, high = estimate(stack, comparison)
    return RDMCeiling(low, high, _bound(stack, comparison), comparison, pool, len(stack))


def _matched_ceiling(stack: NDArray[np.float64], comparison: str) -> tuple[float, float]:
    from rsatoolbox.inference import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs

    with warnings.catch_warnings():
        # It warns that the pooled RDM of Kendall's tau is the mean of ranks; our text says so.
        warnings.filterwarnings("ignore", message="Noise ceiling for tau")
        low, high = boot_noise_ceiling(RDMs(upper(stack)), method=TOOLBOX_NAMES[comparison])
    return float(low), float(high)


def _bound(stack: NDArray[np.float64], comparison: str) -> float:
    """Return what no RDM's mean similarity with the stack exceeds."""
    if comparison == "kendall-tau-a":
        pairs = upper(stack)
        agreed = 0.0
        for column in range(pairs.shape[1] - 1):
            signs = np.sign(pairs[:, column, None] - pairs[:, column + 1 :])
            agreed += float(np.abs(signs.mean(axis=0)).sum())
        return agreed / math.comb(pairs.shape[1], 2)
    mean = as_directions(stack, comparison).mean(axis=0)
    if comparison == "rho-a":
        best = as_directions(mean[None], comparison)[0]  # the order of the mean ranks
        return float((best * mean).sum())
    return float(np.sqrt((mean**2).sum()))


def _mean_ceiling(stack: NDArray[np.float64], comparison: str) -> tuple[float, float]:
    total = stack.sum(axis=0)
    n = len(stack)
    each = [float(compare_rdms((total - own) / (n - 1), own, comparison).item()) for own in stack]
    whole = np.asarray(compare_rdms(total / n, stack, comparison))
    return float(np.mean(each)), float(whole.mean())
