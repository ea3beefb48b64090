"""Targets (voxels) in batches, from arrays in memory or from files larger than memory."""

from collections.abc import Iterator
from numbers import Real
from typing import Any

import numpy as np
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

from brainkit.arrays.devices import free_bytes, pick_batch
from brainkit.errors import InputError

Array = Any  # a NumPy array or a torch tensor
Targets = Any  # such an array, or anything with a shape that reads columns


def target_batches(n_targets: int, size: int) -> Iterator[slice]:
    """Cut the targets into slices of at most `size`."""
    for start in range(0, n_targets, size):
        yield slice(start, min(start + size, n_targets))


def batch_size(
    X: Array, n_targets: int, asked: int | None = None, *, bytes_per_target: int | None = None
) -> int:
    """Return the number of targets to treat at once: `asked`, or by free memory.

    Parameters
    ----------
    X : array (n_samples, n_features)
    n_targets : int
    asked : int, optional
    bytes_per_target : int, optional
        Working memory; by the shape of X where not given.
    """
    if asked is not None:
        if asked < 1:
            raise InputError(f"n_targets_batch must be at least 1; got {asked}.")
        return asked
    n_samples, n_features = X.shape
    width = (min(n_samples, n_features) * 4 + n_samples * 3) * 8
    free = free_bytes(X.device) if is_torch_array(X) else None
    return pick_batch(bytes_per_target or width, max(n_targets, 1), free=free)


def read_targets(Y: Targets, part: slice | NDArray[np.int64], like: Array) -> Array:
    """Return a batch of targets (n_samples, batch) as an array of the kind and device of `like`.

    In the dtype of `like`, or in double precision where that of Y has more digits: rounding comes
    after the mean is taken off, see `deviations`.

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
    xp = array_namespace(like)
    fine = like.dtype == xp.float64 or _is_longer_than_single(values.dtype)
    dtype = xp.float64 if fine else like.dtype
    if is_torch_array(like):
        import torch

        return torch.as_tensor(values, dtype=dtype, device=like.device)
    return xp.asarray(values, dtype=dtype)


def _is_longer_than_single(dtype: Any) -> bool:
    """Tell whether numbers of a dtype, NumPy's or torch's, may need more than single precision."""
    name = str(dtype).rpartition(".")[2]
    return not name.startswith(
        ("float32", "float16", "bfloat16", "int8", "uint8", "int16", "uint16", "bool")
    )


def centred_targets(
    Y: Targets, part: slice | NDArray[np.int64], like: Array, wanted: bool, dtype: Any = None
) -> tuple[Array, Array]:
    """Read a batch of targets; return it less its means, and the means.

    In `dtype`, or that of `like`; rounded once, see `deviations`.
    """
    batch = read_targets(Y, part, like)
    mean = column_mean(batch, wanted)
    return deviations(batch, mean, like.dtype if dtype is None else dtype), mean


def widened(batch: Array, dtype: Any, centred: bool) -> Array:
    """Return a batch of centred targets in another dtype, in which their sums are 0 again."""
    xp = array_namespace(batch)
    if batch.dtype == dtype:
        return batch
    wide = xp.astype(batch, dtype)
    return wide - column_mean(wide, centred) if centred else wide


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
    """Return the mean of each column in double precision, or 0 where it is not wanted."""
    xp = array_namespace(values)
    if not wanted:
        return xp.zeros(values.shape[1], dtype=xp.float64, device=values.device)
    return xp.mean(values, axis=0, dtype=xp.float64)


def deviations(values: Array, mean: Array, dtype: Any) -> Array:
    """Return values less their mean, rounded once, as if all was done in double precision.

    A mean of 10⁴ standard deviations, rounded to single precision, would be off by 10⁻³ of one.
    It is taken off in two parts, the second of which is what rounding leaves of the first; values
    next to the mean lose no digits by the first subtraction.

    Parameters
    ----------
    values : array (n, n_columns)
    mean : float64 array (n_columns,)
    dtype : dtype
        Dtype of the result.
    """
    xp = array_namespace(values)
    if xp.float64 in (values.dtype, dtype):
        return xp.astype(xp.astype(values, xp.float64, copy=False) - mean, dtype, copy=False)
    high = xp.astype(mean, values.dtype)
    centred = values - high
    centred -= xp.astype(mean - xp.astype(high, xp.float64), values.dtype)
    return xp.astype(centred, dtype, copy=False)


def checked_penalties(alphas: Any) -> list[float]:
    """Return candidate penalties as a list of floats, in the order given.

    Parameters
    ----------
    alphas : float, or sequence, array or tensor of them
        Candidate penalties, not negative.

    Raises
    ------
    InputError
        If there is none, or they are no finite numbers from 0 in one row.
    """
    values = _numbers(alphas)
    if values is None or values.ndim > 1 or not values.size or not _may_penalise(values):
        raise InputError(
            "alphas must be positive numbers, at least one, in one row (0 stands for no penalty); "
            f"got {alphas!r}."
        )
    return [float(alpha) for alpha in np.atleast_1d(values)]


def target_penalties(alphas: Any, n_targets: int, like: Array) -> Array:
    """Return a penalty for each target, in double precision and on the device of `like`.

    Parameters
    ----------
    alphas : float, or array (n_targets,) or (1,)
        One for all targets, or one for each; not negative.
    n_targets : int
    like : array

    Returns
    -------
    float64 array (n_targets,)

    Raises
    ------
    InputError
        If there are more or fewer, or they are no finite numbers from 0.
    """
    xp = array_namespace(like)
    values = _numbers(alphas)
    fits = values is not None and (values.ndim == 0 or values.shape in {(1,), (n_targets,)})
    if values is None or not fits or not _may_penalise(values):
        raise InputError(
            f"alphas must be one penalty that is not negative for each of the {n_targets} targets, "
            f"or one for all; got {alphas!r}."
        )
    every = np.broadcast_to(values, (n_targets,)).copy()
    return xp.asarray(every, dtype=xp.float64, device=like.device)


def _numbers(values: Any) -> NDArray[np.float64] | None:
    """Return real numbers in double precision; None for text, truth values and all else."""
    on_host = values.detach().cpu() if hasattr(values, "detach") else values  # from a GPU too
    try:
        numbers = np.asarray(on_host)
    except (TypeError, ValueError):  # rows of unequal lengths
        return None
    if numbers.dtype.kind == "O":
        real = all(isinstance(v, Real) and not isinstance(v, bool | np.bool_) for v in numbers.flat)
        return numbers.astype(np.float64) if real and numbers.size else None
    return numbers.astype(np.float64) if numbers.dtype.kind in "iuf" else None


def _may_penalise(values: NDArray[np.float64]) -> bool:
    return bool((np.isfinite(values) & (values >= 0)).all())
