r"""Banded ridge with weights and penalties that are given, such as those found on other data.

See `brainkit.linear.banded` for the equation, and for how weights and penalties are chosen. The
functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from brainkit.errors import InputError
from brainkit.linear.bands import band_columns
from brainkit.linear.ridge import intercept_of, solve_ridge
from brainkit.linear.targets import (
    Targets,
    batch_size,
    check_rows,
    column_mean,
    deviations,
    read_targets,
    target_penalties,
)

Array = Any  # a NumPy array or a torch tensor


def solve_banded_ridge(
    X: Array,
    Y: Targets,
    bands: Any,
    weights: ArrayLike,
    alphas: Array,
    *,
    fit_intercept: bool = True,
    n_targets_batch: int | None = None,
) -> tuple[Array, Array]:
    r"""Solve banded ridge with given weights of bands and a given penalty for each target.

    Band b is penalised by :math:`\alpha_t / \gamma_{tb}`; one with a weight of 0 is switched off.
    Targets with the same weights share one decomposition, so that as many are needed as there are
    different weights.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features, floating point.
    Y : array, h5py dataset or lazy source (n_samples, n_targets)
        Responses.
    bands : None, mapping, or sequence
        See `brainkit.linear.bands.band_columns`.
    weights : array (n_targets, n_bands) or (n_bands,)
        γ, not negative, for each target or the same for all. Their sum is free: what it is more
        than 1, the penalty is less.
    alphas : float or array (n_targets,)
        Penalties, not negative: one for each target, or one for all.
    fit_intercept : bool, default=True
        Fit the means.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.

    Returns
    -------
    coef : array (n_targets, n_features)
        Of the features as given; 0 exactly where a band is switched off.
    intercept : array (n_targets,)

    Raises
    ------
    InputError
        If X and Y have not the same rows, bands do not fit X, weights are negative or not one for
        each band (of each target), or penalties are no numbers from 0.
    """
    check_rows(X, Y)
    xp = array_namespace(X)
    n_targets = Y.shape[1]
    columns = band_columns(bands, X.shape[1])
    given = _target_weights(weights, n_targets, len(columns))
    penalties = target_penalties(alphas, n_targets, X)
    size = batch_size(X, n_targets, n_targets_batch)
    coef = xp.zeros((n_targets, X.shape[1]), dtype=X.dtype, device=X.device)
    intercept = xp.empty(n_targets, dtype=X.dtype, device=X.device)
    found, which = np.unique(given, axis=0, return_inverse=True)
    x_mean = column_mean(X, fit_intercept)
    # Less their means before they are scaled: products with large means would be rounded.
    centred = deviations(X, x_mean, X.dtype)
    for number, row in enumerate(found):
        every = np.empty(X.shape[1])
        for band, weight in zip(columns, row, strict=True):
            every[band] = weight**0.5
        active = np.flatnonzero(every > 0)
        scale = xp.asarray(every[active], dtype=X.dtype, device=X.device)
        samples = centred[:, active] * scale
        own = np.flatnonzero(which.reshape(-1) == number)
        for start in range(0, len(own), size):
            targets = own[start : start + size]
            batch = read_targets(Y, targets, X)
            if len(active):
                solved, _ = solve_ridge(
                    samples, batch, penalties[targets], fit_intercept=fit_intercept
                )
                coef[targets[:, None], active[None]] = solved * scale
            y_mean = column_mean(batch, fit_intercept)
            intercept[targets] = intercept_of(coef[targets], x_mean, y_mean)
    return coef, intercept


def _target_weights(weights: ArrayLike, n_targets: int, n_bands: int) -> NDArray[np.float64]:
    """Return weights for each target, (n_targets, n_bands), on the host.

    Raises
    ------
    InputError
        If they are of another shape, negative or not finite.
    """
    on_host = weights.cpu() if hasattr(weights, "cpu") else weights
    given = np.asarray(on_host, dtype=np.float64)
    if given.shape not in {(n_bands,), (n_targets, n_bands)}:
        raise InputError(
            f"weights must be one for each of the {n_bands} bands, ({n_bands},), or that for each "
            f"of the {n_targets} targets, ({n_targets}, {n_bands}); got {given.shape}."
        )
    if not (np.isfinite(given) & (given >= 0)).all():
        raise InputError(
            f"weights must be finite and not negative; got {given.min()} to {given.max()}."
        )
    return np.broadcast_to(given, (n_targets, n_bands))
