"""Rows of tokens and responses, checked, and as standardised tensors in batches.

The features may be a memory map or any other lazy array of three axes: a few rows of it are read
at a time, and no copy of it is made.
"""

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainkit.arrays.array_likes import unmasked
from brainkit.arrays.digest import LENGTH, content_digest
from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed
from brainkit.linear.folds import group_codes

Index = NDArray[np.int64]
Float = NDArray[np.float32]
CHUNK_BYTES = 64 << 20
# Below this share of its mean, what a feature varies by is the rounding of single precision.
ROUNDING = 1e-6


def as_tokens(X: Any, n_tokens: int | None = None, n_features: int | None = None) -> Any:
    """Return features as something with a shape (n, token, feature) whose rows can be read.

    Raises
    ------
    InputError
        If there are not three axes, the values are no real numbers, or the tokens or features are
        not as many as they have to be.
    """
    X = unmasked(X, "X")
    tokens = X if hasattr(X, "shape") and hasattr(X, "__getitem__") else np.asarray(X)
    shape = tuple(tokens.shape)
    if len(shape) != 3 or min(shape) < 1:
        raise InputError(
            f"X must be (n, token, feature); got {shape}. Extract features without pooling "
            "(pool=None) and without the class token (tokens='patch')."
        )
    if isinstance(tokens, np.ndarray) and tokens.dtype.kind not in "fiu":
        raise InputError(f"X must hold real numbers; got {tokens.dtype}.")
    wanted = (n_tokens or shape[1], n_features or shape[2])
    if shape[1:] != wanted:
        raise InputError(
            f"This encoder was fitted to {wanted[0]} tokens of {wanted[1]} features; X has shape "
            f"{shape}."
        )
    return tokens


def as_targets(Y: ArrayLike, n_samples: int) -> Float:
    """Return responses as (n, target), float32; a copy only if they are something else.

    Raises
    ------
    InputError
        If the rows are not as many as those of X, or hold NaN or infinity.
    """
    targets = np.asarray(unmasked(Y, "Y"))
    if targets.dtype.kind not in "fiub" or targets.ndim not in (1, 2) or 0 in targets.shape:
        raise InputError(f"Y must be numbers (n, target); got {targets.dtype} {targets.shape}.")
    if len(targets) != n_samples:
        raise InputError(
            f"X and Y must have the same rows; X has {n_samples}, Y has shape {targets.shape}."
        )
    targets = targets.reshape(len(targets), -1).astype(np.float32, copy=False)
    bad = np.flatnonzero(~np.isfinite(targets).all(axis=0))
    if bad.size:
        raise InputError(
            f"{bad.size} of {targets.shape[1]} targets hold NaN or infinity, such as those in "
            f"columns {listed(bad, 5)}. Drop them first; recipes do it and count them."
        )
    return targets


def resolve_grid(grid: tuple[int, int] | None, n_tokens: int) -> tuple[int, int]:
    """Return the rows and columns of the map that the tokens make.

    Raises
    ------
    InputError
        If no grid is given and the tokens make no square, or they do not fill the grid.
    """
    if grid is None:
        side = math.isqrt(max(n_tokens, 0))
        if n_tokens < 1 or side * side != n_tokens:
            raise InputError(
                f"{n_tokens} tokens make no square map. Give grid=(rows, columns), or leave out "
                "class and register tokens (tokens='patch'); attention routing takes them if "
                "told how many come first (global_tokens=1)."
            )
        return side, side
    rows, columns = (int(side) for side in grid)
    if rows < 1 or columns < 1 or rows * columns != n_tokens:
        raise InputError(f"A grid of {rows} × {columns} does not hold {n_tokens} tokens.")
    return rows, columns


def hold_out(n_samples: int, share: float, groups: ArrayLike | None, seed: int) -> Index:
    """Choose the rows of a random share of the groups, sorted.

    Parameters
    ----------
    n_samples : int
    share : float
        Of the groups, from 0 (none) up to below 1; two at least where it is not 0.
    groups : array (n_samples,), optional
        Such as the image that a row is a response to; each row its own where not given.
    seed : int

    Raises
    ------
    InputError
        If the share is out of range, or fewer than two rows would be on either side.
    """
    if not 0 <= share < 1:
        raise InputError(f"validation is a share of the images, from 0 to below 1; got {share}.")
    if share == 0:
        return np.empty(0, dtype=np.int64)
    codes = group_codes(groups, n_samples)
    n_groups = int(codes.max()) + 1
    chosen = rng(seed, "validation").permutation(n_groups)[: max(2, round(share * n_groups))]
    held = np.flatnonzero(np.isin(codes, chosen))
    if len(held) < 2 or n_samples - len(held) < 2:
        raise InputError(
            f"Holding out {share:g} of {n_groups} groups leaves {n_samples - len(held)} of "
            f"{n_samples} rows to train on and {len(held)} to validate on; each needs 2 or more. "
            "Give more data or another share, or validation=0 for none."
        )
    return held


@dataclass(frozen=True)
class Scale:
    """Means and standard deviations of the training rows.

    Attributes
    ----------
    x_mean, x_scale : float32 array (n_features,)
        Over rows and tokens; a feature that is constant is only centred.
    y_mean, y_scale : float32 array (n_targets,)
    """

    x_mean: Float
    x_scale: Float
    y_mean: Float
    y_scale: Float


def rows_digest(X: Any, Y: Float, groups: Index, held: Index) -> str:
    """Return a hash of all that a fit is given, row by row in their order.

    Statistics would not do: those of responses put in another order, as in a null, are the same.

    Parameters
    ----------
    X : array (n, token, feature)
        Read a part at a time, as single-precision numbers.
    Y : float32 array (n, target)
    groups : array of int (n,)
        A number for each group, as `brainkit.linear.folds.group_codes` gives.
    held : array of int
        The rows that are held out of training.
    """
    hashed = hashlib.sha256(content_digest(list(X.shape), Y, groups, held).encode())
    for _, values in chunks(X, np.arange(X.shape[0])):
        hashed.update(np.ascontiguousarray(values).data)
    return hashed.hexdigest()[:LENGTH]


def fit_scale(X: Any, Y: Float, train: Index, held: Index) -> Scale:
    """Measure the training rows, and check the features of all rows.

    Raises
    ------
    InputError
        If a feature is not finite, or a target is constant over the training rows.
    """
    count, mean, squares = 0, np.zeros(X.shape[2]), np.zeros(X.shape[2])
    for _, block in chunks(X, train):
        values = block.reshape(-1, block.shape[2])
        means = values.mean(axis=0, dtype=np.float64)
        spread = np.square(values - means).sum(axis=0, dtype=np.float64)
        total = count + len(values)
        # Chan, Golub and LeVeque's update: no difference of large sums.
        squares += spread + np.square(means - mean) * (count * len(values) / total)
        mean += (means - mean) * (len(values) / total)
        count = total
    for _ in chunks(X, held):
        pass  # they are checked as they are read
    deviation = np.sqrt(squares / count)
    varying = deviation > ROUNDING * np.abs(mean)
    y_mean, y_scale = _target_scale(Y, train)
    x_scale = np.where(varying, deviation, 1.0)
    return Scale(mean.astype(np.float32), x_scale.astype(np.float32), y_mean, y_scale)


def check_varying(Y: Float, train: Index) -> None:
    """Raise `InputError` if a target is constant over the training rows."""
    constant = np.flatnonzero(np.ptp(Y[train], axis=0) == 0)
    if constant.size:
        raise InputError(
            f"{constant.size} of {Y.shape[1]} targets are constant over the training rows, such as "
            f"those in columns {listed(constant, 5)}. Drop them first; recipes do it and count "
            "them."
        )


def _target_scale(Y: Float, train: Index) -> tuple[Float, Float]:
    check_varying(Y, train)
    rows = Y[train]
    mean = rows.mean(axis=0, dtype=np.float64)
    scale = rows.std(axis=0, dtype=np.float64)
    return mean.astype(np.float32), scale.astype(np.float32)


def chunks(X: Any, rows: Index, n_rows: int | None = None) -> Iterator[tuple[Index, Float]]:
    """Read rows of tokens a few at a time, as float32 copies.

    Parameters
    ----------
    X : array (n, token, feature)
    rows : array of int
    n_rows : int, optional
        At a time; what 64 MiB hold where not given.

    Yields
    ------
    rows : array of int
    values : float32 array (rows, token, feature)

    Raises
    ------
    InputError
        If a value is not finite.
    """
    size = n_rows or max(1, CHUNK_BYTES // (4 * X.shape[1] * X.shape[2]))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        values = read(X, part)
        finite = np.isfinite(values).all(axis=(1, 2))
        if not finite.all():
            raise InputError(
                f"X holds NaN or infinity in rows {listed(part[~finite], 5)}. Leave those rows "
                "out, or mend the features."
            )
        yield part, values


def read(X: Any, rows: Index) -> Float:
    """Return some rows, in order and each once, as a float32 copy."""
    return np.asarray(X[rows], dtype=np.float32)


class TokenRows:
    """Rows of features and responses as standardised tensors on a device.

    Parameters
    ----------
    X : array (n, token, feature)
    Y : float32 array (n, target)
    rows : array of int
        The rows in use; all numbers below count within them.
    scale : Scale
    device : torch.device
    """

    def __init__(self, X: Any, Y: Float, rows: Index, scale: Scale, device: torch.device) -> None:
        self.X, self.Y, self.rows, self.device = X, Y, np.asarray(rows, dtype=np.int64), device
        self.scale = scale
        self._x = standard_tensors(scale.x_mean, scale.x_scale, device)
        self._y = standard_tensors(scale.y_mean, scale.y_scale, device)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, numbers: ArrayLike) -> tuple[Tensor, Tensor]:
        """Return tokens (batch, token, feature) and responses (batch, target).

        Rows are read in ascending order, as files like it; both results have that order.
        """
        rows = self.rows[np.sort(np.asarray(numbers))]
        x = torch.from_numpy(read(self.X, rows)).to(self.device)
        y = torch.from_numpy(self.Y[rows]).to(self.device)
        return standardise(x, self._x), standardise(y, self._y)

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Go through all rows in order."""
        for start in range(0, len(self), size):
            yield self.batch(np.arange(start, min(start + size, len(self))))


def standard_tensors(mean: Float, scale: Float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the mean and the reciprocal of the scale on a device."""
    inverse = (1 / scale.astype(np.float64)).astype(np.float32)
    return torch.from_numpy(mean.copy()).to(device), torch.from_numpy(inverse).to(device)


def standardise(values: Tensor, moments: tuple[Tensor, Tensor]) -> Tensor:
    """Centre and scale a tensor of our own, in place."""
    return values.sub_(moments[0]).mul_(moments[1])


class Epochs:
    """Which rows a step sees: each row once in an epoch, in an order that the seed gives.

    Parameters
    ----------
    n_rows, batch_size, seed : int
    """

    def __init__(self, n_rows: int, batch_size: int, seed: int) -> None:
        self.n_rows, self.batch_size, self.seed = n_rows, batch_size, seed
        self.steps = -(-n_rows // batch_size)  # in an epoch
        self._held: tuple[int, Index] | None = None

    def numbers(self, step: int) -> Index:
        """Return the rows of a step, which depend on its number and the seed alone."""
        epoch, place = divmod(step, self.steps)
        if self._held is None or self._held[0] != epoch:
            order = rng(self.seed, "epoch", epoch).permutation(self.n_rows)
            self._held = epoch, order.astype(np.int64)
        return self._held[1][place * self.batch_size : (place + 1) * self.batch_size]
