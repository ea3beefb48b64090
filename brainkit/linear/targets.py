"""Targets (voxels) in batches, from arrays in memory or from files larger than memory."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

from brainkit.arrays.memory import pick_batch
from brainkit.errors import InputError

Array = Any  # a NumPy array or a torch tensor
Targets = Any  # such an array, or anything with a shape that reads columns


def target_batches(n_targets: int, size: int) -> Iterator[slice]:
    """Cut the targets into slices of at most `size`."""
    for start in range(0, n_targets, size):
        yield slice(start, min(start + size, n_targets))


def batch_size(
    X: Array, n_targets: int, given: int | None = None, *, bytes_per_target: int | None = None
) -> int:
    """Return the number of targets to treat at once: `given`, or by free memory.

    Parameters
    ----------
    X : array (n_samples, n_features)
    n_targets : int
    given : int, optional
    bytes_per_target : int, optional
        Working memory; by the shape of X where not given.
    """
    if given is not None:
        if given < 1:
            raise InputError(f"n_targets_batch must be at least 1; got {given}.")
        return given
    n_samples, n_features = X.shape
    width = (min(n_samples, n_features) * 4 + n_samples * 3) * 8
    return pick_batch(bytes_per_target or width, max(n_targets, 1))


def read_targets(Y: Targets, part: slice | NDArray[np.int64], like: Array) -> Array:
    """Return a batch of targets (n_samples, batch) of the kind, dtype and device of `like`.

    Parameters
    ----------
    Y : array, h5py dataset, or lazy source with ``read(rows, columns)``
        (n_samples, n_targets); only the columns asked for are read.
    part : slice, or ascending array of column numbers
    like : array
    """
    if hasattr(Y, "read"):
        columns = np.arange(part.start, part.stop) if isinstance(part, slice) else part
        values = Y.read(None, columns)
    else:
        values = Y[:, part]
    if is_torch_array(like):
        import torch

        return torch.as_tensor(values, dtype=like.dtype, device=like.device)
    xp = array_namespace(like)
    return xp.asarray(values, dtype=like.dtype)


def check_rows(X: Array, Y: Targets) -> None:
    """Raise unless features and targets are two tables with the same rows, features in floats.

    Raises
    ------
    InputError
    """
    if len(X.shape) != 2 or len(Y.shape) != 2:
        raise InputError(
            "Features and targets must be (sample, feature) and (sample, target); got shapes "
            f"{tuple(X.shape)} and {tuple(Y.shape)}."
        )
    if X.shape[0] != Y.shape[0]:
        raise InputError(
            f"Features {tuple(X.shape)} and targets {tuple(Y.shape)} must have the same number of "
            f"samples, one a row; got {X.shape[0]} and {Y.shape[0]}."
        )
    if not array_namespace(X).isdtype(X.dtype, "real floating"):
        raise InputError(f"X must be floating point; got {X.dtype}.")


def refuse_constant(Y: Array) -> None:
    """Raise if a target (n_samples, n_targets) never changes: no encoder can be judged on it.

    Raises
    ------
    InputError
    """
    xp = array_namespace(Y)
    constant = xp.max(Y, axis=0) == xp.min(Y, axis=0)
    count = int(xp.sum(xp.astype(constant, xp.int64)))
    if count:
        first = int(xp.argmax(xp.astype(constant, xp.int8)))
        raise InputError(
            f"{count} of {Y.shape[1]} targets are constant, the first of them number {first}; "
            "leave them out, as `brainkit encode` does."
        )


def column_mean(values: Array, wanted: bool) -> Array:
    """Return the mean of each column, summed in double precision, or 0 where it is not wanted."""
    xp = array_namespace(values)
    if not wanted:
        return xp.zeros_like(values[0])
    return xp.astype(xp.mean(values, axis=0, dtype=xp.float64), values.dtype)


def target_penalties(alphas: Any, n_targets: int, like: Array, *, zero: bool = False) -> Array:
    """Return a penalty for each target, in double precision and on the device of `like`.

    Parameters
    ----------
    alphas : float, or array (n_targets,) or (1,)
        One for all targets, or one for each.
    n_targets : int
    like : array
    zero : bool, default=False
        Whether penalties may be 0.

    Returns
    -------
    float64 array (n_targets,)

    Raises
    ------
    InputError
        If there are more or fewer, or one is negative or not finite.
    """
    xp = array_namespace(like)
    try:
        given = np.asarray(alphas.cpu() if hasattr(alphas, "cpu") else alphas, dtype=np.float64)
    except (TypeError, ValueError):
        given = np.empty((0, 0))
    fits = given.ndim == 0 or given.shape in {(1,), (n_targets,)}
    if not fits or not (np.isfinite(given) & (given >= 0) & (zero | (given > 0))).all():
        sign = "penalty that is not negative" if zero else "positive penalty"
        raise InputError(
            f"alphas must be one {sign} for each of the {n_targets} targets, or one for all; got "
            f"{alphas!r}."
        )
    every = np.broadcast_to(given, (n_targets,)).copy()
    return xp.asarray(every, dtype=xp.float64, device=like.device)
