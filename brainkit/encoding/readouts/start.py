"""A start for readouts that pool: the best of few Gaussian fields and ridge weights in it.

Gradient descent on positions finds the nearest optimum, not the best, and from a field in the
middle of the image far ones have no gradient. So each target begins at the candidate that predicts
held-out training rows best. Only training rows are used, never those of early stopping.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from brainkit.arrays.seeds import rng
from brainkit.encoding.deep.rows import TokenRows
from brainkit.encoding.readouts.field_search import feature_weighted_rf
from brainkit.encoding.readouts.fields import Fields, field_grid
from brainkit.linear.folds import kfold

MOST_ROWS = 2000  # more would make the start more precise than the training that follows needs
ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
FOLDS = 5


@dataclass(frozen=True)
class Start:
    """Where a pooling readout begins, for standardised features and responses.

    Attributes
    ----------
    fields : Fields
        One for each target.
    weight : tensor (n_targets, n_features)
    bias : tensor (n_targets,)
    """

    fields: Fields
    weight: Tensor
    bias: Tensor


def ridge_start(
    rows: TokenRows, grid: tuple[int, int], seed: int, n_positions: int = 5, n_sizes: int = 3
) -> Start:
    """Choose a field and ridge weights for each target.

    Parameters
    ----------
    rows : TokenRows
        The training rows; of many, a random sample is used.
    grid : (int, int)
    seed : int
    n_positions, n_sizes : int
        Of the candidates; see `field_grid`.

    Returns
    -------
    Start
    """
    chosen = rng(seed, "start").permutation(len(rows))[:MOST_ROWS]
    candidates = field_grid(grid, n_positions, n_sizes)
    fit = feature_weighted_rf(
        rows.X, rows.Y, candidates, grid,
        rows=np.sort(rows.rows[chosen]), folds=kfold(len(chosen), min(FOLDS, len(chosen))),
        alphas=ALPHAS, device=rows.device,
    )  # fmt: skip
    scale = rows.scale
    weight = fit.coef * scale.x_scale / scale.y_scale[:, None]
    bias = (fit.intercept + fit.coef @ scale.x_mean - scale.y_mean) / scale.y_scale
    return Start(
        candidates.take(fit.field),
        torch.from_numpy(weight.astype(np.float32)),
        torch.from_numpy(bias.astype(np.float32)),
    )
