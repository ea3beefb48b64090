r"""Ridge regression for several blocks of targets, for which the samples are decomposed once.

A block is a set of targets that share one penalty, such as the dimensions of an embedding, chosen
by cross-validation for their summed error. What takes long does not depend on the targets: the
decomposition of each fold and that of all samples (see `brainkit.linear.ridge`). Blocks share them.

A block may take its targets in another order, and so does what it costs to fit a null: samples
exchanged against targets that stay are, but for the order of the rows, samples that stay against
targets exchanged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError
from brainkit.linear.ridge import select_alphas
from brainkit.linear.spectrum import decompose
from brainkit.linear.targets import column_mean, target_batches

Array = NDArray[Any]
Folds = Sequence[tuple[Array, Array]]


@dataclass(frozen=True)
class TargetBlock:
    """Targets that share one penalty.

    Parameters
    ----------
    targets : array (n_samples, n_targets)
        Of the samples' dtype.
    alphas : sequence of float
        Candidate penalties, positive.
    size : int
        Targets at once.
    rows : array of int (n_samples,), optional
        Row of `targets` that each sample goes with; its own where not given.
    """

    targets: Array
    alphas: Sequence[float]
    size: int
    rows: Array | None = None

    def __post_init__(self) -> None:
        if not len(self.alphas) or not all(np.isfinite(a) and a > 0 for a in self.alphas):
            raise InputError(f"alphas must be positive numbers, at least one; got {self.alphas}.")
        if self.size < 1:
            raise InputError(f"Targets are treated at least 1 at once; got {self.size}.")

    def batch(self, samples: Array, part: slice) -> Array:
        """Return some of the targets of some of the samples, as a new array."""
        taken = samples if self.rows is None else self.rows[samples]
        return np.asarray(self.targets[:, part][taken])


@dataclass(frozen=True)
class BlockFit:
    """What ridge regression found for one block.

    Attributes
    ----------
    coef : array (n_targets, n_features)
    intercept : array (n_targets,)
    alpha : float
        The penalty chosen; of penalties with equal errors the largest.
    cv_r2 : float64 array (n_targets,)
        Held-out R² at that penalty; NaN for a constant target.
    predicted_mean, predicted_scale : float64 arrays (n_targets,)
        Mean and standard deviation of the held-out predictions at that penalty.
    """

    coef: Array
    intercept: Array
    alpha: float
    cv_r2: Array
    predicted_mean: Array
    predicted_scale: Array


class _HeldOut:
    """Sums over held-out samples: of predictions, of their squares, of errors, by penalty."""

    def __init__(self, block: TargetBlock) -> None:
        shape = len(block.alphas), block.targets.shape[1]
        self.predicted, self.squares, self.errors = (np.zeros(shape) for _ in range(3))
        self.total = np.zeros(shape[1])

    def add(self, number: int, part: slice, predicted: Array, truth: Array, mean: Array) -> None:
        """Add predictions (n, batch) at one penalty; `mean` is to be added to them."""
        error = np.square(truth - predicted).sum(axis=0, dtype=np.float64)
        self.errors[number, part] += error
        whole = predicted + mean
        self.predicted[number, part] += whole.sum(axis=0, dtype=np.float64)
        self.squares[number, part] += np.square(whole).sum(axis=0, dtype=np.float64)


class _Side:
    """A decomposition of centred samples as the two factors that targets are multiplied with."""

    def __init__(self, X: Array) -> None:
        self.mean = column_mean(X, True)
        spectrum = decompose(X - self.mean)
        self.values, self.vectors, self.samples = (
            spectrum.values,
            spectrum.vectors,
            spectrum.samples,
        )
        self.primal = spectrum.primal
        # XV comes first, see `Spectrum.project`; it is the same for all targets.
        self.left = self.samples @ self.vectors if self.primal else self.vectors

    def basis(self, X: Array) -> Array:
        """Return what samples are in the decomposition's directions, (n, rank)."""
        centred = X - self.mean
        centred = centred if self.primal else centred @ self.samples.T
        return np.asarray(centred @ self.vectors)

    def coef(self, shrunk: Array) -> Array:
        """Return coefficients (n_features, batch)."""
        found = self.vectors @ shrunk
        return np.asarray(found if self.primal else self.samples.T @ found)

    def shrink(self, projected: Array, alpha: float) -> Array:
        return np.asarray(projected / (self.values + alpha)[:, None].astype(projected.dtype))


def ridge_blocks(X: Array, blocks: Sequence[TargetBlock], folds: Folds) -> list[BlockFit]:
    """Choose a penalty for each block by cross-validation, and fit.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Floating point. The means of samples and targets are fitted, not penalised.
    blocks : sequence of TargetBlock
    folds : sequence of (train, held_out)
        Row numbers; every row is held out once.

    Returns
    -------
    list of BlockFit
        Of each block.
    """
    sums = [_HeldOut(block) for block in blocks]
    for train, held_out in folds:
        _hold_out(X, blocks, train, held_out, sums)
    side, every = _Side(X), np.arange(len(X))
    return [_solve(side, every, block, held) for block, held in zip(blocks, sums, strict=True)]


def _hold_out(
    X: Array, blocks: Sequence[TargetBlock], train: Array, held_out: Array, sums: list[_HeldOut]
) -> None:
    """Predict the held-out samples of a fold at every penalty of every block."""
    side = _Side(X[train])
    basis = side.basis(X[held_out])
    for block, held in zip(blocks, sums, strict=True):
        for part in target_batches(block.targets.shape[1], block.size):
            known = block.batch(train, part)
            mean = column_mean(known, True)
            truth = block.batch(held_out, part) - mean
            projected = side.left.T @ (known - mean)  # (rank, batch)
            held.total[part] += np.square(truth).sum(axis=0, dtype=np.float64)
            for number, alpha in enumerate(block.alphas):
                held.add(number, part, basis @ side.shrink(projected, alpha), truth, mean)


def _solve(side: _Side, every: Array, block: TargetBlock, held: _HeldOut) -> BlockFit:
    """Fit one block to all samples, at the penalty with the least error."""
    best = int(select_alphas(held.errors.sum(axis=1, keepdims=True), block.alphas)[0])
    n_targets = block.targets.shape[1]
    coef = np.empty((n_targets, len(side.mean)), dtype=side.samples.dtype)
    intercept = np.empty(n_targets, dtype=side.samples.dtype)
    total = held.total.copy()
    for part in target_batches(n_targets, block.size):
        targets = block.batch(every, part)
        mean = column_mean(targets, True)
        total[part][np.ptp(targets, axis=0) == 0] = np.nan  # else what rounding leaves of it
        projected = side.left.T @ (targets - mean)
        coef[part] = side.coef(side.shrink(projected, block.alphas[best])).T
        intercept[part] = mean - coef[part] @ side.mean
    predicted_mean = held.predicted[best] / len(every)
    variance = held.squares[best] / len(every) - predicted_mean**2
    return BlockFit(
        coef=coef,
        intercept=intercept,
        alpha=float(block.alphas[best]),
        cv_r2=1 - held.errors[best] / np.where(total > 0, total, np.nan),
        predicted_mean=predicted_mean,
        predicted_scale=np.sqrt(np.maximum(variance, 0)),
    )
