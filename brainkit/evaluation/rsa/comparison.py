"""How alike two representational dissimilarity matrices are, also over conditions drawn anew.

A condition drawn c times makes each of its pairs count c times as often, so that a bootstrap sample
is a weighting of the original pairs: their order never changes, and ranks follow from running sums.
"""

from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError, listed, unknown_name
from brainkit.evaluation.quantities import Quantity
from brainkit.evaluation.rsa.rdms import rdm_stack, same_conditions, squared, upper

# Our names, and rsatoolbox's.
TOOLBOX_NAMES = {
    "spearman": "spearman",
    "rho-a": "rho-a",
    "kendall-tau-a": "tau-a",
    "pearson": "corr",
    "cosine": "cosine",
    "whitened-pearson": "corr_cov",
    "whitened-cosine": "cosine_cov",
}
COMPARISONS = tuple(TOOLBOX_NAMES)
RANKED = ("spearman", "rho-a", "kendall-tau-a")
# An RDM whose dissimilarities are all equal has no correlation, but it has a direction.
NEEDS_NO_SPREAD = ("cosine", "whitened-cosine")
# These are no weighted sums over pairs: the first compares pairs of pairs, the others pairs that
# share a condition.
_UNWEIGHTED = ("kendall-tau-a", "whitened-pearson", "whitened-cosine")


class RDMSimilarity(Quantity):
    """Similarity of two RDMs in [-1, 1]; different comparisons do not mix.

    Parameters
    ----------
    values : array_like
        The similarities.
    comparison : str
        One of `COMPARISONS`.
    """

    bounds = (-1.0, 1.0)
    attributes = ("comparison",)
    comparison: str

    def __new__(cls, values: ArrayLike, comparison: str) -> Self:
        """Wrap plain numbers."""
        return cls._wrap(values, comparison=comparison)


def check_comparison(comparison: str) -> str:
    """Return the name of a comparison, or raise `UnknownNameError`."""
    if comparison not in COMPARISONS:
        raise unknown_name("comparison of RDMs", comparison, COMPARISONS)
    return comparison


def compare_rdms(models: ArrayLike, data: ArrayLike, comparison: str = "spearman") -> RDMSimilarity:
    """Compare every model RDM with every measured one, over all pairs of conditions.

    - ``"spearman"``: Pearson correlation of ranks, ties at their mean rank;
    - ``"rho-a"``: the expectation of Spearman's ρ if ties were broken at random; for models with
      many equal dissimilarities (Schütt et al., 2023);
    - ``"kendall-tau-a"``: (concordant - discordant) / all pairs of dissimilarities (Nili et al.,
      2014); slow;
    - ``"pearson"``, ``"cosine"``: of the dissimilarities;
    - ``"whitened-pearson"``, ``"whitened-cosine"``: after whitening by the covariance that noise
      of equal variance in all patterns gives to estimated squared distances (Diedrichsen et al.,
      2021); for squared distances. The whitened cosine is the linear CKA.

    Parameters
    ----------
    models : array_like of shape (n_models, n_conditions, n_conditions) or one RDM
        RDMs, as of network layers.
    data : array_like of shape (n_rdms, n_conditions, n_conditions) or one RDM
        RDMs, as of people.
    comparison : str, default "spearman"
        One of those above.

    Returns
    -------
    RDMSimilarity of shape (n_models, n_rdms)

    Raises
    ------
    UnknownNameError
        If there is no such comparison.
    InputError
        If the RDMs are not of the same conditions, or one is constant.
    """
    from rsatoolbox.rdm import compare

    check_comparison(comparison)
    one, two = rdm_stack(models, "models"), rdm_stack(data, "data")
    same_conditions(one, two, ("models", "data"))
    pairs = upper(one), upper(two)
    for part, name in zip(pairs, ("models", "data"), strict=True):
        require_spread(part, comparison, name)
    similarities = compare(*pairs, method=TOOLBOX_NAMES[comparison])
    return RDMSimilarity(np.asarray(similarities, dtype=np.float64), comparison)


def require_spread(pairs: NDArray[np.float64], comparison: str, name: str) -> None:
    """Raise where an RDM is constant, or zero, so that a comparison with it is undefined."""
    largest = np.abs(pairs).max(axis=1)
    if comparison in NEEDS_NO_SPREAD:
        flat, what = np.flatnonzero(largest == 0), "zero everywhere"
    else:
        spread = np.ptp(pairs, axis=1)
        flat = np.flatnonzero(spread <= np.finfo(np.float64).eps * largest)
        what = "constant: all its dissimilarities are equal"
    if flat.size:
        raise InputError(
            f"RDM {listed(flat)} of {name} is {what}, so its {comparison} with another is "
            "undefined; leave it out."
        )


def as_directions(stack: NDArray[np.float64], comparison: str) -> NDArray[np.float64]:
    """Give matrices whose sums of products are the similarities of the RDMs.

    Relabelling conditions only moves entries about, so that a permutation test needs no new ranks.

    Parameters
    ----------
    stack : numpy.ndarray of shape (n_rdms, n_conditions, n_conditions)
        Checked RDMs.
    comparison : str
        Any but ``"kendall-tau-a"``, which is no such product.

    Returns
    -------
    numpy.ndarray of the same shape
    """
    from scipy.stats import rankdata

    n_conditions = stack.shape[1]
    pairs = upper(stack)
    if comparison in RANKED:
        pairs = rankdata(pairs, axis=1)
    if comparison not in NEEDS_NO_SPREAD:
        pairs = pairs - pairs.mean(axis=1, keepdims=True)
    matrices = squared(pairs, n_conditions)
    if comparison.startswith("whitened"):
        # Doubly centred inner products: their cosine is that of whitened squared distances.
        centring = np.eye(n_conditions) - 1.0 / n_conditions
        matrices = -0.5 * centring @ matrices @ centring
    if comparison == "rho-a":
        n_pairs = pairs.shape[1]
        scale = np.full(len(stack), np.sqrt(6.0 / (float(n_pairs) ** 3 - n_pairs)))
    else:
        scale = 1.0 / np.sqrt(np.einsum("kij,kij->k", matrices, matrices))
    return np.asarray(matrices * scale[:, None, None])


class Resampled:
    """Similarities over drawn conditions; pairs of a condition with its own copy are left out.

    Parameters
    ----------
    models : numpy.ndarray of shape (n_models, n_conditions, n_conditions)
        Checked RDMs.
    data : numpy.ndarray of shape (n_rdms, n_conditions, n_conditions)
        Checked RDMs of the same conditions.
    comparison : str
        See `brainkit.evaluation.rsa.compare_rdms`.
    """

    def __init__(
        self, models: NDArray[np.float64], data: NDArray[np.float64], comparison: str
    ) -> None:
        self.stacks, self.comparison = (models, data), comparison
        self.pairs = tuple(map(upper, self.stacks))
        self.levels = tuple(map(_levels, self.pairs)) if comparison in RANKED else ()

    def __call__(self, which: NDArray[np.intp]) -> NDArray[np.float64]:
        """Give (n_models, n_rdms) over the conditions `which`, repeats allowed."""
        if self.comparison in _UNWEIGHTED:
            return self._copied(which)
        n_conditions = self.stacks[0].shape[1]
        drawn = np.bincount(which, minlength=n_conditions).astype(np.float64)
        rows, columns = np.triu_indices(n_conditions, 1)
        weights = drawn[rows] * drawn[columns]
        if self.comparison in RANKED:
            values = tuple(_weighted_ranks(part, weights) for part in self.levels)
        else:
            values = self.pairs
        total = weights.sum()
        if self.comparison not in NEEDS_NO_SPREAD:
            values = tuple(part - (part @ weights / total)[:, None] for part in values)
        products = (values[0] * weights) @ values[1].T  # (n_first, n_second)
        if self.comparison == "rho-a":
            return np.asarray(12.0 * products / (total**3 - total))
        norms = [np.sqrt((part * part) @ weights) for part in values]
        # An RDM may be constant over the conditions drawn; it then is like no other.
        with np.errstate(invalid="ignore", divide="ignore"):
            similar = products / norms[0][:, None] / norms[1][None, :]
        return np.nan_to_num(similar, nan=0.0, posinf=0.0, neginf=0.0)

    def _copied(self, which: NDArray[np.intp]) -> NDArray[np.float64]:
        from rsatoolbox.rdm import compare

        rows, columns = np.triu_indices(len(which), 1)
        rows, columns = which[rows], which[columns]
        parts = [stack[:, rows, columns] for stack in self.stacks]
        for part in parts:
            part[:, rows == columns] = np.nan  # what rsatoolbox leaves out
        return np.asarray(compare(*parts, method=TOOLBOX_NAMES[self.comparison]), dtype=np.float64)


def _levels(pairs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Give each value its place among the different values of its RDM, in rising order."""
    return np.stack([np.unique(row, return_inverse=True)[1] for row in pairs])


def _weighted_ranks(levels: NDArray[np.intp], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the mean rank of each value if it occurred as often as its weight says."""
    ranks = np.empty(levels.shape)
    for row, level in enumerate(levels):
        counts = np.bincount(level, weights=weights)
        ranks[row] = (np.cumsum(counts) - (counts - 1.0) / 2.0)[level]
    return ranks
