r"""Ridge regression for many targets (voxels), each with a penalty of its own.

For every target t

.. math:: \min_{w, b} \lVert y_t - X w - b \rVert^2 + \alpha_t \lVert w \rVert^2

(the penalty is not divided by the number of samples, the intercept is not penalised). X is
centred by the mean of the samples in use; with :math:`X = U S V'` every penalty shares one
decomposition, of X'X where there are no more features than samples (*primal*), of XX' otherwise
(*dual*). Targets are treated in batches and may lie in a file larger than memory.

From call to result: `ridge_cv` here; the held-out errors that it chooses by in
`brainkit.linear.cross_validation`; the decomposition that both share in `brainkit.linear.spectrum`.

`ridge_blocks` fits several *blocks* of targets. A block is a set of targets that share one penalty,
such as the dimensions of an embedding, chosen by cross-validation for their summed error. What
takes long does not depend on the targets: the decomposition of each fold and that of all samples.
Blocks share them.

A block may take its targets in another order, and so does what it costs to fit a null: samples
exchanged against targets that stay are, but for the order of the rows, samples that stay against
targets exchanged.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from brainkit.arrays.progress import track
from brainkit.errors import InputError
from brainkit.linear.cross_validation import (
    Folds,
    PartitionErrors,
    SampleErrors,
    SeparateErrors,
    fold_spectrum,
    is_partition,
    partition_errors,
    separate_errors,
)
from brainkit.linear.folds import checked_folds
from brainkit.linear.spectrum import Spectrum, decompose, is_primal, sample_products, shrink
from brainkit.linear.targets import (
    Targets,
    batch_size,
    centred_targets,
    check_rows,
    checked_penalties,
    column_mean,
    deviations,
    target_batches,
    target_penalties,
)

Array = Any  # a NumPy array or a torch tensor
LARGEST_BATCH = 1024  # beyond it nothing is gained and memory is lost


@dataclass(frozen=True)
class RidgeFit:
    """Ridge with penalties chosen by held-out error.

    Attributes
    ----------
    coef : array (n_targets, n_features)
    intercept : array (n_targets,)
    alpha : float64 array (n_targets,)
        The penalty of each target.
    errors : float64 array (n_alphas, n_targets)
        Squared held-out errors, summed over folds.
    total : float64 array (n_targets,)
        The same for a prediction by the training mean.
    chosen : array of int (n_targets,)
        The place of `alpha` among the candidates.
    batch_size : int
        Targets treated at once.
    means : (float64 array (n_features,), float64 array (n_targets,))
        Means of features and targets; 0 without an intercept. What `intercept` sums up, in more
        digits.
    eigenvalues : (float, float)
        The smallest and the largest of X'X, of those that are not 0.
    dtype : dtype
        Dtype that products with targets ran in.
    """

    coef: Array
    intercept: Array
    alpha: Array
    errors: Array
    total: Array
    chosen: Array
    batch_size: int
    means: tuple[Array, Array]
    eigenvalues: tuple[float, float]
    dtype: Any


def ridge_cv(
    X: Array,
    Y: Targets,
    alphas: Sequence[float],
    folds: Folds | str,
    *,
    fit_intercept: bool = True,
    alpha_per_target: bool = True,
    n_targets_batch: int | None = None,
) -> RidgeFit:
    """Choose each target's penalty by exact cross-validation, and fit it on all samples.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features, floating point.
    Y : array, h5py dataset or lazy source (n_samples, n_targets)
        Responses. What lies in a file is read a batch of targets at a time, once; twice where one
        penalty is chosen for all.
    alphas : sequence of float
        Candidate penalties, not negative; of 0 the solution is that of least squares with the
        smallest coefficients. Above 0 where single samples are left out.
    folds : sequence of (train, held_out), "loo" or "gcv"
        Row numbers; or every sample left out in turn, exactly or by generalised cross-validation.
        Folds that hold every sample out once share their cross-products.
    fit_intercept : bool, default=True
        Fit the means, in every fold its own.
    alpha_per_target : bool, default=True
        A penalty for each target, or one for all, by their summed error.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.

    Returns
    -------
    RidgeFit

    Raises
    ------
    InputError
        If X and Y have not the same rows, X is not floating point, penalties are no numbers from
        0, or a fold is empty, out of range or not held out.
    """
    check_rows(X, Y)
    candidates = checked_penalties(alphas)
    xp = array_namespace(X)
    n_targets = Y.shape[1]
    size = min(batch_size(X, n_targets, n_targets_batch), n_targets_batch or LARGEST_BATCH)
    search = _Search(X, folds, candidates, fit_intercept)
    double = {"dtype": xp.float64, "device": X.device}
    errors = xp.empty((len(candidates), n_targets), **double)
    total, y_mean = xp.empty(n_targets, **double), xp.empty(n_targets, **double)
    coef = xp.empty((n_targets, X.shape[1]), dtype=X.dtype, device=X.device)
    intercept = xp.empty(n_targets, dtype=X.dtype, device=X.device)
    penalties = xp.asarray(candidates, **double)
    chosen = xp.empty(n_targets, dtype=xp.int64, device=X.device)

    def solve(part: slice, projected: Array) -> None:
        shrunk = shrink(search.values, projected, penalties[chosen[part]])  # (rank, batch)
        coef[part] = xp.astype(xp.matmul(search.readout, shrunk).T, X.dtype, copy=False)
        intercept[part] = intercept_of(coef[part], search.mean, y_mean[part])

    parts = list(target_batches(n_targets, size))
    for part in track(parts, "ridge"):
        batch, y_mean[part] = centred_targets(Y, part, X, fit_intercept, search.dtype)
        errors[:, part], total[part], cross = search.errors(batch)
        if alpha_per_target:
            chosen[part] = select_alphas(errors[:, part], candidates)
            solve(part, search.project(batch, cross))
    if not alpha_per_target:
        pooled = xp.sum(errors, axis=1, keepdims=True)
        chosen[...] = select_alphas(pooled, candidates)[0]
        for part in track(parts, "ridge: solve"):
            batch, _ = centred_targets(Y, part, X, fit_intercept, search.dtype)
            solve(part, search.project(batch, None))
    return RidgeFit(
        coef, intercept, penalties[chosen], errors, total, chosen, size,
        means=(search.mean, y_mean), eigenvalues=search.eigenvalues, dtype=search.dtype,
    )  # fmt: skip


def intercept_of(coef: Array, x_mean: Array, y_mean: Array) -> Array:
    """Return y_mean - coef x_mean, (n_targets,), of coefficients as they are rounded."""
    xp = array_namespace(coef)
    shift = xp.matmul(xp.astype(coef, xp.float64, copy=False), x_mean)
    return xp.astype(y_mean - shift, coef.dtype, copy=False)


class _Search:
    """Held-out errors by whichever way suits the folds and the shape."""

    def __init__(
        self, X: Array, folds: Folds | str, alphas: list[float], fit_intercept: bool
    ) -> None:
        self.X, self.alphas, self.fit_intercept = X, alphas, fit_intercept
        self._spectrum: Spectrum | None = None
        self._gram: Array | None = None
        self.way: PartitionErrors | SeparateErrors | SampleErrors
        if isinstance(folds, str):
            self._spectrum = decompose(
                X, alphas, centred=fit_intercept, singular=is_primal(*X.shape)
            )
            self.way = SampleErrors(
                self._spectrum.left, self._spectrum.values, alphas, folds, fit_intercept,
                self._spectrum.dtype,
            )  # fmt: skip
            return
        folds = checked_folds(folds, X.shape[0])
        way: PartitionErrors | SeparateErrors | None = None
        if is_primal(*X.shape) and is_partition(X.shape[0], folds):
            way = partition_errors(X, folds, alphas, fit_intercept=fit_intercept)
        if way is None:
            if not is_primal(*X.shape):
                self._gram = sample_products(X, X, column_mean(X, fit_intercept))
            way = separate_errors(X, folds, alphas, fit_intercept=fit_intercept, gram=self._gram)
        self.way = way

    @property
    def spectrum(self) -> Spectrum:
        """The decomposition of all samples."""
        if self._spectrum is None:
            self._spectrum = decompose(
                self.X, self.alphas, centred=self.fit_intercept, gram=self._gram
            )
        return self._spectrum

    @cached_property
    def mean(self) -> Array:
        """What is taken off the features."""
        return column_mean(self.X, self.fit_intercept)

    @property
    def values(self) -> Array:
        """Eigenvalues of all samples."""
        return self.way.values if isinstance(self.way, PartitionErrors) else self.spectrum.values

    @property
    def readout(self) -> Array:
        """From the eigenbasis of all samples to coefficients, see `Spectrum.readout`."""
        if isinstance(self.way, PartitionErrors):
            return self.way.vectors
        return self.spectrum.readout

    @property
    def eigenvalues(self) -> tuple[float, float]:
        """The least and the largest eigenvalue of all samples; 0 where they do not vary."""
        values = self.values
        return (float(values[0]), float(values[-1])) if values.shape[0] else (0.0, 0.0)

    @property
    def dtype(self) -> Any:
        """What products with targets run in, the finer one of search and solution."""
        xp = array_namespace(self.X)
        solving = self.way if isinstance(self.way, PartitionErrors) else self.spectrum
        fine = xp.float64 in (self.way.dtype, solving.dtype)
        return xp.float64 if fine else self.way.dtype

    def errors(self, Y: Array) -> tuple[Array, Array, Array | None]:
        """Return errors (n_alphas, batch), those of the mean (batch,), X'Y where it was formed."""
        xp = array_namespace(Y)
        Y = xp.astype(Y, self.way.dtype, copy=False)
        if isinstance(self.way, PartitionErrors):
            prepared = self.way.batch(Y)
            return prepared.errors(), prepared.total, prepared.cross
        return *self.way.errors(Y), None

    def project(self, Y: Array, cross: Array | None) -> Array:
        """Return the targets in the eigenbasis of all samples, see `Spectrum.project`."""
        if not isinstance(self.way, PartitionErrors):
            return self.spectrum.project(Y)
        xp = array_namespace(Y)
        if cross is None:
            cross = xp.matmul(self.way.samples.T, xp.astype(Y, self.way.dtype, copy=False))
        return xp.matmul(self.way.vectors.T, cross)  # (rank, batch)


def validation_errors(
    X: Array,
    Y: Targets,
    alphas: Sequence[float],
    folds: Folds | str,
    *,
    fit_intercept: bool = True,
    n_targets_batch: int | None = None,
) -> tuple[Array, Array]:
    """Sum squared held-out errors over folds, for every penalty and target.

    Parameters
    ----------
    X, Y, alphas, folds, fit_intercept, n_targets_batch
        See `ridge_cv`.

    Returns
    -------
    errors : float64 array (n_alphas, n_targets)
        Sum of squared errors on the held-out rows.
    total : float64 array (n_targets,)
        The same for a prediction by the training mean.
    """
    check_rows(X, Y)
    candidates = checked_penalties(alphas)
    xp = array_namespace(X)
    n_targets = Y.shape[1]
    size = min(batch_size(X, n_targets, n_targets_batch), n_targets_batch or LARGEST_BATCH)
    search = _Search(X, folds, candidates, fit_intercept)
    errors = xp.empty((len(candidates), n_targets), dtype=xp.float64, device=X.device)
    total = xp.empty(n_targets, dtype=xp.float64, device=X.device)
    for part in target_batches(n_targets, size):
        batch, _ = centred_targets(Y, part, X, fit_intercept, search.way.dtype)
        errors[:, part], total[part], _ = search.errors(batch)
    return errors, total


def solve_ridge(
    X: Array,
    Y: Targets,
    alphas: Array,
    *,
    fit_intercept: bool = True,
    n_targets_batch: int | None = None,
) -> tuple[Array, Array]:
    """Solve ridge regression with a given penalty for each target.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features, floating point.
    Y : array, h5py dataset or lazy source (n_samples, n_targets)
        Responses.
    alphas : float or array (n_targets,)
        Penalties, not negative: one for each target, or one for all.
    fit_intercept : bool, default=True
        Fit the means.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.

    Returns
    -------
    coef : array (n_targets, n_features)
    intercept : array (n_targets,)

    Raises
    ------
    InputError
        If X and Y have not the same rows, X is not floating point, or there is not one penalty
        for each target or for all.
    """
    check_rows(X, Y)
    xp = array_namespace(X)
    n_targets = Y.shape[1]
    penalties = target_penalties(alphas, n_targets, X)
    least = float(xp.min(penalties)) if n_targets else 1.0
    spectrum = decompose(X, [least], centred=fit_intercept)
    coef = xp.empty((n_targets, X.shape[1]), dtype=X.dtype, device=X.device)
    intercept = xp.empty(n_targets, dtype=X.dtype, device=X.device)
    for part in target_batches(n_targets, batch_size(X, n_targets, n_targets_batch)):
        batch, y_mean = centred_targets(Y, part, X, fit_intercept, spectrum.dtype)
        solved = spectrum.coef(spectrum.project(batch), penalties[part])  # (n_features, batch)
        coef[part] = xp.astype(solved.T, X.dtype, copy=False)
        intercept[part] = intercept_of(coef[part], spectrum.mean, y_mean)
    return coef, intercept


def select_alphas(errors: Array, alphas: Sequence[float]) -> Array:
    """Return for each target the place of the penalty with the least error.

    Of penalties with equal errors it is the largest one, whatever their order.

    Parameters
    ----------
    errors : array (n_alphas, n_targets)
        See `validation_errors`.
    alphas : sequence of float
        The candidates.

    Returns
    -------
    array of int (n_targets,)
        Into `alphas`.
    """
    xp = array_namespace(errors)
    values = xp.asarray(list(alphas), dtype=errors.dtype, device=errors.device)
    order = xp.flip(xp.argsort(values), axis=0)  # largest first: argmin takes the first of equals
    return order[xp.argmin(errors[order], axis=0)]


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
        Means of the features and of the targets: what `intercept` sums up, in more digits.
    eigenvalues : (float, float)
        The smallest and the largest of X'X, of those that are not 0.
    dtype : dtype
        Dtype that products with targets ran in.
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
        The fit of each block, in the order of `blocks`.
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
                predicted = basis @ shrink(spectrum.values, projected, alpha)  # (n_held_out, batch)
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
        coef[part] = spectrum.coef(projected, block.alphas[best]).T  # (batch, n_features)
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
