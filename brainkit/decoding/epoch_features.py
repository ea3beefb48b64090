r"""What classes are told by in epochs (trial, unit, time): time courses, power, covariance.

Each kind has two pure functions: one learns what it needs from training epochs, arrays by name, and
one makes features of any epochs with them.

- ``flat``: all values, of stretches of time points their means.
- ``csp``: logarithms of the power behind common spatial patterns, filters whose output has as
  different a power between classes as can be (Koles, 1991; Blankertz et al., 2008, IEEE Signal
  Processing Magazine 25:41), by `mne.decoding.CSP`.
- ``xdawn``: time courses behind filters that raise each class's mean epoch above the rest (Rivet et
  al., 2009, IEEE TBME 56:2035).
- ``covariance``: covariances of units in an epoch, in the tangent space of positive matrices at
  their log-Euclidean mean (Arsigny et al., 2006; Barachant et al., 2012, IEEE TBME 59:920).
- ``erp_covariance``: the same of an epoch behind xDAWN filters together with the classes' mean
  epochs, so that its time course enters (Barachant and Congedo, 2014, arXiv:1409.0107).
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError

Array = NDArray[Any]
State = dict[str, Array]


def _flat(X: Array, y: Array, n_components: int) -> State:
    return {}


def _make_flat(state: State, X: Array, bins: int) -> Array:
    return in_bins(X, bins).reshape(len(X), -1)


def in_bins(X: Array, bins: int) -> Array:
    """Average stretches of `bins` time points of epochs (n, units, times); the rest is left out."""
    n_bins = X.shape[2] // bins
    if n_bins < 1:
        raise InputError(f"bins={bins} is more than the {X.shape[2]} time points of an epoch.")
    return X[:, :, : n_bins * bins].reshape(*X.shape[:2], n_bins, bins).mean(axis=3)


def _csp(X: Array, y: Array, n_components: int) -> State:
    import mne

    with mne.utils.use_log_level("ERROR"):
        csp = mne.decoding.CSP(n_components=min(n_components, X.shape[1]), log=True)
        csp.fit(X.astype(np.float64), y)
    return {"filters": np.asarray(csp.filters_[: csp.n_components])}


def _make_csp(state: State, X: Array, bins: int) -> Array:
    behind = np.einsum("fu,nut->nft", state["filters"], X)  # (n, filters, times)
    return np.log(np.maximum((behind**2).mean(axis=2), np.finfo(np.float64).tiny))


def _xdawn(X: Array, y: Array, n_components: int) -> State:
    from scipy.linalg import eigh
    from sklearn.covariance import ledoit_wolf

    # Noise and signal together, all time points of all epochs: (units, units).
    every = ledoit_wolf(X.transpose(0, 2, 1).reshape(-1, X.shape[1]), assume_centered=True)[0]
    filters, means = [], []
    for one in np.unique(y):
        mean = X[y == one].mean(axis=0)  # (units, times)
        axes = eigh(mean @ mean.T / mean.shape[1], every)[1][:, ::-1]
        class_filters = axes[:, : min(n_components, X.shape[1])].T
        filters.append(class_filters)
        means.append(class_filters @ mean)
    return {"filters": np.concatenate(filters), "prototypes": np.concatenate(means)}


def _make_xdawn(state: State, X: Array, bins: int) -> Array:
    return _make_flat({}, np.einsum("fu,nut->nft", state["filters"], X), bins)


def _covariance(X: Array, y: Array, n_components: int) -> State:
    return {"whitening": _whitening(covariances(X))}


def _make_covariance(state: State, X: Array, bins: int) -> Array:
    return tangent(covariances(X), state["whitening"])


def _erp_covariance(X: Array, y: Array, n_components: int) -> State:
    state = _xdawn(X, y, n_components)
    return state | {"whitening": _whitening(covariances(_with_prototypes(state, X)))}


def _make_erp_covariance(state: State, X: Array, bins: int) -> Array:
    return tangent(covariances(_with_prototypes(state, X)), state["whitening"])


def _with_prototypes(state: State, X: Array) -> Array:
    behind = np.einsum("fu,nut->nft", state["filters"], X)
    prototypes = np.broadcast_to(state["prototypes"], (len(X), *state["prototypes"].shape))
    return np.concatenate([prototypes, behind], axis=1)  # (n, 2 filters, times)


def covariances(X: Array) -> Array:
    """Return each epoch's covariance over time, (n, units, units), shrunk to a multiple of unity.

    By oracle approximating shrinkage (Chen et al., 2010, IEEE TSP 58:5016), as `sklearn.covariance`
    has it, so that epochs with fewer time points than units have a logarithm.
    """
    n_times, n_units = X.shape[2], X.shape[1]
    centred = X - X.mean(axis=2, keepdims=True)
    empirical = centred @ np.swapaxes(centred, 1, 2) / n_times  # (n, units, units)
    mean = np.trace(empirical, axis1=1, axis2=2) / n_units
    squares = (empirical**2).mean(axis=(1, 2))
    least = (n_times + 1.0) * (squares - mean**2 / n_units)
    with np.errstate(divide="ignore", invalid="ignore"):
        shrinkage = np.where(least > 0, np.minimum((squares + mean**2) / least, 1.0), 1.0)
    shrunk = (1 - shrinkage)[:, None, None] * empirical
    return shrunk + (shrinkage * mean)[:, None, None] * np.eye(n_units)


def tangent(matrices: Array, whitening: Array) -> Array:
    """Return positive matrices (n, k, k) as vectors of the tangent space, (n, k (k + 1) / 2).

    log(W C W), with W the inverse square root of the point; off the diagonal times √2, so that
    distances of vectors are those of the matrices.
    """
    logs = _log(whitening @ matrices @ whitening)
    upper = np.triu_indices(logs.shape[1])
    return logs[:, upper[0], upper[1]] * np.where(upper[0] == upper[1], 1.0, np.sqrt(2.0))


def _whitening(matrices: Array) -> Array:
    """Return the inverse square root of the log-Euclidean mean."""
    values, axes = np.linalg.eigh(_log(matrices).mean(axis=0))
    return np.asarray((axes * np.exp(-0.5 * values)) @ axes.T)


def _log(matrices: Array) -> Array:
    values, axes = np.linalg.eigh(matrices)
    least = np.finfo(np.float64).eps * values[..., -1:]
    logs = np.log(np.maximum(values, np.maximum(least, np.finfo(np.float64).tiny)))
    return (axes * logs[..., None, :]) @ np.swapaxes(axes, -1, -2)


Learn = Callable[[Array, Array, int], State]
Make = Callable[[State, Array, int], Array]
KINDS: dict[str, tuple[Learn, Make]] = {
    "flat": (_flat, _make_flat),
    "csp": (_csp, _make_csp),
    "xdawn": (_xdawn, _make_xdawn),
    "covariance": (_covariance, _make_covariance),
    "erp_covariance": (_erp_covariance, _make_erp_covariance),
}
# Kinds that need classes to learn from.
BY_CLASS = ("csp", "xdawn", "erp_covariance")
