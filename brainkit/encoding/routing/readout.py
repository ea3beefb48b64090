"""From one vector a query to one number a target; a target reads its own vector alone.

The cost is that of one product for each target, (n targets) × (width): never that of a product of
every query with every target, of which most would be thrown away.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class RowwiseReadout(nn.Module):
    r"""Read target v from its own vector: :math:`\hat y_v = w_v \cdot t_v + b_v`.

    Parameters
    ----------
    n_targets, width : int
    """

    def __init__(self, n_targets: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_targets, width) * _spread(width))
        self.bias = nn.Parameter(torch.zeros(n_targets))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (n, n_targets, width) to (n, n_targets)."""
        read: Tensor = torch.einsum("ntw,tw->nt", vectors, self.weight) + self.bias
        return read


class RegionReadout(nn.Module):
    r"""Read target v from the sum of its regions' vectors.

    .. math::
        \hat y_v = w_v \cdot \sum_{r \ni v} t_r + b_v

    Targets that are in the same regions stand together, and each such group is one product.

    Parameters
    ----------
    membership : bool array (n_regions, n_targets)
    width : int
    """

    sets: Tensor
    place: Tensor

    def __init__(self, membership: NDArray[np.bool_], width: int) -> None:
        super().__init__()
        n_targets = membership.shape[1]
        sets, which = np.unique(membership.T, axis=0, return_inverse=True)
        which = which.reshape(-1)
        order = np.argsort(which, kind="stable")
        self.sizes: list[int] = np.bincount(which, minlength=len(sets)).tolist()
        self.register_buffer("sets", torch.from_numpy(sets.astype(np.float32)), persistent=False)
        self.register_buffer("place", torch.from_numpy(np.argsort(order)), persistent=False)
        # Rows stand in the order of groups, so that no step has to gather them.
        rows = torch.randn(n_targets, width)[torch.from_numpy(order)]
        self.weight = nn.Parameter(rows * _spread(width))
        self.bias = nn.Parameter(torch.zeros(n_targets))

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (n, n_regions, width) to (n, n_targets)."""
        summed = torch.einsum("gr,nrw->gnw", self.sets, vectors)
        weights = self.weight.split(self.sizes)
        read = torch.cat([v @ w.mT for v, w in zip(summed, weights, strict=True)], dim=1)
        return read[:, self.place] + self.bias

    def target_weights(self) -> Tensor:
        """Return w in the order of the targets, (n_targets, width)."""
        return self.weight[self.place]


def _spread(width: int) -> float:
    """Return a deviation at which first predictions are small beside targets of unit variance."""
    return float(0.1 * width**-0.5)
