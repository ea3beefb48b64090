"""Comparison of RDMs over conditions drawn with replacement, without ranking anew.

A condition drawn c times makes each of its pairs count c times as often, so that a bootstrap sample
is a weighting of the original pairs: their order never changes, and ranks follow from running sums.
"""

import numpy as np
from numpy.typing import NDArray

from brainkit.evaluation.rsa.comparison import NEEDS_NO_SPREAD, RANKED, TOOLBOX_NAMES
from brainkit.evaluation.rsa.matrices import upper

# These are no weighted sums over pairs: the first compares pairs of pairs, the others pairs that
# share a condition.
_UNWEIGHTED = ("kendall-tau-a", "whitened-pearson", "whitened-cosine")


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
        products = (values[0] * weights) @ values[1].T
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
