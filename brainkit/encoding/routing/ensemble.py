"""How much each layer's encoder counts in each target's prediction."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def layer_weights(scores: ArrayLike, beta: float) -> NDArray[np.float64]:
    r"""Return weights of layers for each target, by their validation scores.

    .. math::
        w_{lv} = \exp(\beta s_{lv}) \big/ \textstyle\sum_k \exp(\beta s_{kv})

    Parameters
    ----------
    scores : array (n_layers, n_targets)
        Pearson's r of each on images held out; NaN counts as 0.
    beta : float
        Not negative: 0 for the plain mean; the larger, the closer to the best layer alone.

    Returns
    -------
    array (n_layers, n_targets)
        Positive, sums to 1 over layers.
    """
    sharp = beta * np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=0.0)
    raised = np.exp(sharp - sharp.max(axis=0))
    return np.asarray(raised / raised.sum(axis=0))
