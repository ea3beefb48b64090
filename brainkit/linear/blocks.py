r"""Ridge regression for several blocks of targets, for which the samples are decomposed once.

A block is a set of targets that share one penalty, such as the dimensions of an embedding, chosen
by cross-validation for their summed error. What takes long does not depend on the targets: the
decomposition of each fold and that of all samples (see `brainkit.linear.ridge`). Blocks share them.

A block may take its targets in another order, and so does what it costs to fit a null: samples
exchanged against targets that stay are, but for the order of the rows, samples that stay against
targets exchanged.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError
from brainkit.linear.held_out import fold_spectrum
from brainkit.linear.ridge import intercept_of, select_alphas
from brainkit.linear.spectrum import Spectrum, decompose, is_primal, sample_products, shrink
from brainkit.linear.targets import (
    checked_penalties,
    column_mean,
    deviations,
    target_batches,
)

Array = NDArray[Any]
Folds = Sequence[tuple[Array, Array]]


@dataclass(frozen=True)
class TargetBlock:
    """Targets that share one penalty.

    Parameters
    ----------
    targets : array (n_samples, n_targets)
        Floating point.
    alphas : sequence of float
        Candidate penalties, not negative.
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
        checked_penalties(self.alphas)
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
    errors : float64 array (n_alphas, n_targets)
        Squared held-out errors at every penalty.
    error, total : float64 arrays (n_targets,)
        Squared held-out errors at that penalty, and of the training mean; the latter NaN for a
        constant target.
    predicted_mean, predicted_scale : float64 arrays (n_targets,)
        Mean and standard deviation of the held-out predictions at that penalty.
    means : (float64 array (n_features,), float64 array (n_targets,))
        Of features and targets: what `intercept` sums up, in more digits.
    eigenvalues : (float, float)
        The smallest and the largest of X'X, of those that are not 0.
    dtype : dtype
        That products with targets ran in.
    """

    coef: Array
    intercept: Array
    alpha: float
    errors: Array
    error: Array
    total: Array
    predicted_mean: Array
    predicted_scale: Array
    means: tuple[Array, Array]
    eigenvalues: tuple[float, float]
    dtype: Any

    @property
    def cv_r2(self) -> Array:
        """Held-out R² at that penalty; NaN for a constant target."""
        return 1 - self.error / np.where(self.total > 0, self.total, np.nan)


class _HeldOut:
    """Sums over held-out samples: of predictions, of their squares, of errors, by penalty.

    Of predictions less the targets' mean over all samples, so that sums of squares have no large
    means in them.
    """

    def __init__(self, block: TargetBlock, every: Array) -> None:
        shape = len(block.alphas), block.targets.shape[1]
        self.predicted, self.squares, self.errors = (np.zeros(shape) for _ in range(3))
        self.total, self.mean = np.zeros(shape[1]), np.zeros(shape[1])
        for part in target_batches(shape[1], block.size):
            self.mean[part] = column_mean(block.batch(every, part), True)

    def add(self, number: int, part: slice, predicted: Array, truth: Array, shift: Array) -> None:
        """Add predictions (n, batch) at one penalty, and `shift` to them."""
        error = np.square(truth - predicted).sum(axis=0, dtype=np.float64)
        self.errors[number, part] += error
        moved = predicted + shift
        self.predicted[number, part] += moved.sum(axis=0, dtype=np.float64)
        self.squares[number, part] += np.square(moved).sum(axis=0, dtype=np.float64)


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
    every = np.arange(len(X))
    sums = [_HeldOut(block, every) for block in blocks]
    alphas = [alpha for block in blocks for alpha in block.alphas]
    gram = None if is_primal(*X.shape) else sample_products(X, X, column_mean(X, True))
    for fold in folds:
        _hold_out(X, blocks, fold, sums, fold_spectrum(X, fold, alphas, True, gram))
    spectrum = decompose(X, alphas, centred=True, gram=gram)
    return [_solve(spectrum, every, block, held) for block, held in zip(blocks, sums, strict=True)]


def _hold_out(
    X: Array,
    blocks: Sequence[TargetBlock],
    fold: tuple[Array, Array],
    sums: list[_HeldOut],
    decomposed: tuple[Spectrum, Array],
) -> None:
    """Predict the held-out samples of a fold at every penalty of every block."""
    train, held_out = fold
    spectrum, readout = decomposed
    alphas = [alpha for block in blocks for alpha in block.alphas]
    spectrum = replace(spectrum, dtype=spectrum.precision_for(readout, alphas, spectrum.dtype))
    basis = readout.astype(spectrum.dtype)  # (n_held_out, rank)
    for block, held in zip(blocks, sums, strict=True):
        for part in target_batches(block.targets.shape[1], block.size):
            known = block.batch(train, part)
            mean = column_mean(known, True)
            truth = deviations(block.batch(held_out, part), mean, spectrum.dtype)
            projected = spectrum.project(deviations(known, mean, spectrum.dtype))  # (rank, batch)
            held.total[part] += np.square(truth).sum(axis=0, dtype=np.float64)
            shift = (mean - held.mean[part]).astype(spectrum.dtype)
            for number, alpha in enumerate(block.alphas):
                predicted = basis @ shrink(spectrum.values, projected, alpha)
                held.add(number, part, predicted, truth, shift)


def _solve(spectrum: Spectrum, every: Array, block: TargetBlock, held: _HeldOut) -> BlockFit:
    """Fit one block to all samples, at the penalty with the least error."""
    best = int(select_alphas(held.errors.sum(axis=1, keepdims=True), block.alphas)[0])
    n_targets = block.targets.shape[1]
    dtype = spectrum.samples.dtype
    coef = np.empty((n_targets, len(spectrum.mean)), dtype=dtype)
    intercept = np.empty(n_targets, dtype=dtype)
    total = held.total.copy()
    for part in target_batches(n_targets, block.size):
        targets = block.batch(every, part)
        total[part][np.ptp(targets, axis=0) == 0] = np.nan  # else what rounding leaves of it
        projected = spectrum.project(deviations(targets, held.mean[part], spectrum.dtype))
        coef[part] = spectrum.coef(projected, block.alphas[best]).T
        intercept[part] = intercept_of(coef[part], spectrum.mean, held.mean[part])
    moved = held.predicted[best] / len(every)
    variance = held.squares[best] / len(every) - moved**2
    values = spectrum.values
    return BlockFit(
        coef=coef,
        intercept=intercept,
        alpha=float(block.alphas[best]),
        errors=held.errors,
        error=held.errors[best],
        total=total,
        predicted_mean=held.mean + moved,
        predicted_scale=np.sqrt(np.maximum(variance, 0)),
        means=(spectrum.mean, held.mean),
        eigenvalues=(float(values[0]), float(values[-1])) if len(values) else (0.0, 0.0),
        dtype=spectrum.dtype,
    )
