"""How similar to people's RDMs any model's RDM could be, given how much the people differ."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, unknown_name
from brainkit.evaluation.rsa.comparison import (
    TOOLBOX_NAMES,
    check_comparison,
    compare_rdms,
    require_spread,
)
from brainkit.evaluation.rsa.matrices import rdm_stack, upper

CEILING_POOLS = ("matched", "mean")


@dataclass(frozen=True)
class RDMCeiling:
    """The range in which the similarity of the true model is expected to lie.

    Attributes
    ----------
    lower : float
        Mean similarity of each person's RDM with the pooled RDM of all others.
    upper : float
        Mean similarity of each person's RDM with the pooled RDM of all, their own included.
    comparison : str
        How RDMs were compared.
    pool : str
        How RDMs were pooled.
    n_subjects : int
        People.
    """

    lower: float
    upper: float
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
        divided by their length) before they are averaged, as in rsatoolbox. For the unwhitened
        comparisons, Kendall's τ-a apart, no RDM is more similar to the people on average, so that
        `upper` is a bound. ``"mean"``: dissimilarities are averaged as they are, so that people
        with larger ones weigh more; its `upper` is no bound.

    Returns
    -------
    RDMCeiling

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
    bounds = _mean_ceiling if pool == "mean" else _matched_ceiling
    low, high = bounds(stack, comparison)
    return RDMCeiling(low, high, comparison, pool, len(stack))


def _matched_ceiling(stack: NDArray[np.float64], comparison: str) -> tuple[float, float]:
    from rsatoolbox.inference import boot_noise_ceiling
    from rsatoolbox.rdm import RDMs

    with warnings.catch_warnings():
        # It warns that the pooled RDM of Kendall's tau is the mean of ranks; our text says so.
        warnings.filterwarnings("ignore", message="Noise ceiling for tau")
        low, high = boot_noise_ceiling(RDMs(upper(stack)), method=TOOLBOX_NAMES[comparison])
    return float(low), float(high)


def _mean_ceiling(stack: NDArray[np.float64], comparison: str) -> tuple[float, float]:
    total = stack.sum(axis=0)
    n = len(stack)
    each = [float(compare_rdms((total - own) / (n - 1), own, comparison).item()) for own in stack]
    whole = np.asarray(compare_rdms(total / n, stack, comparison))
    return float(np.mean(each)), float(whole.mean())
