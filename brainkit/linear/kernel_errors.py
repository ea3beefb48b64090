r"""Held-out errors of kernel ridge, from decompositions that serve every penalty and target.

See `brainkit.linear.kernel` for the equations. The functions take NumPy arrays or torch tensors, on
any device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import InputError
from brainkit.linear.fold_errors import fold_errors, is_lossy
from brainkit.linear.folds import checked_folds
from brainkit.linear.leave_one_out import SampleErrors
from brainkit.linear.spectrum import Spectrum
from brainkit.linear.targets import Targets, column_mean, read_targets, target_batches

Array = Any  # a NumPy array or a torch tensor
Fold = tuple[Array, Array]
MOST_NEGATIVE = 0.1  # an eigenvalue that alpha does not outweigh, as a share of the largest


@dataclass(frozen=True)
class Plan:
    """How a problem is to be solved."""

    centred: bool
    batch_size: int
    dtype: Any  # of the weights
    least_alpha: float
    positive: bool = False  # whether all negative eigenvalues are to count as 0


@dataclass(frozen=True)
class KernelSpectrum:
    """Eigenvalues and eigenvectors of a centred kernel, and what it was centred by."""

    values: Array  # (n,), float64
    vectors: Array  # (n, n), float64
    mean_row: Array  # (n,), float64
    dtype: Any  # that targets are to be projected in

    def basis(self, K: Array, centred: bool) -> Array:
        """Return centred rows of the kernel (m, n) in the eigenbasis."""
        xp = array_namespace(K)
        if centred:
            K = K - self.mean_row
            K -= xp.mean(K, axis=1)[:, None]
        return xp.matmul(K, self.vectors)


def decompose_kernel(K: Array, plan: Plan) -> KernelSpectrum:
    """Centre a kernel (n, n), in double precision, and decompose it."""
    xp = array_namespace(K)
    mean_row = column_mean(K, plan.centred)
    if plan.centred:
        K = K - mean_row
        K -= mean_row[:, None]
        K += xp.mean(mean_row)
    values, vectors = xp.linalg.eigh(K)
    largest, least = float(values[-1]), float(values[0])
    # As far below 0 as rounding of the kernel's values makes eigenvalues fall.
    rounding = float(xp.finfo(plan.dtype).eps) * K.shape[0] * largest
    if least + plan.least_alpha <= 0 and -least > max(MOST_NEGATIVE * largest, rounding):
        raise InputError(
            f"The kernel has eigenvalues from {least:.3g} to {largest:.3g}, so it is not one of "
            f"inner products, and ridge has no solution with a penalty of {plan.least_alpha:.3g}. "
            f"Take alphas above {-least:.3g}, or a positive semi-definite kernel."
        )
    if plan.positive or least + plan.least_alpha <= 0 or -least <= rounding:
        values = xp.where(values > 0, values, xp.zeros_like(values))
    wide = is_lossy(values, [plan.least_alpha])
    return KernelSpectrum(values, vectors, mean_row, xp.float64 if wide else plan.dtype)


def validation_errors(
    K: Array, Y: Targets, alphas: list[float], folds: Sequence[Fold], plan: Plan
) -> tuple[Array, Array]:
    """Sum squared held-out errors over folds, for every penalty and target, and without one."""
    xp = array_namespace(K)
    n_targets = Y.shape[1]
    errors = xp.zeros((len(alphas), n_targets), dtype=xp.float64, device=K.device)
    total = xp.zeros(n_targets, dtype=xp.float64, device=K.device)
    for fold in checked_folds(folds, K.shape[0]):
        train, held_out = (xp.asarray(rows, device=K.device) for rows in fold)
        spectrum = decompose_kernel(K[train[:, None], train[None, :]], plan)
        # Penalties outweigh what is negative: added to the eigenvalues, none of either is.
        excess = min(float(spectrum.values[0]), 0.0)
        readout = spectrum.basis(K[held_out[:, None], train[None, :]], plan.centred)
        held = fold_errors(
            readout, spectrum.values - excess, [alpha + excess for alpha in alphas],
            spectrum.dtype, triangular=False,
        )  # fmt: skip
        vectors = xp.astype(spectrum.vectors, spectrum.dtype)
        for part in target_batches(n_targets, plan.batch_size):
            batch = read_targets(Y, part, vectors)
            y_train = batch[train]
            y_mean = column_mean(y_train, plan.centred)
            truth = batch[held_out] - y_mean
            projected = xp.matmul(vectors.T, y_train - y_mean)  # (n_train, batch)
            squares = xp.sum(truth**2, axis=0, dtype=xp.float64)
            errors[:, part] += held.errors(projected, truth, squares)
            total[part] += squares
    return errors, total


def left_out_errors(
    spectrum: KernelSpectrum, Y: Targets, alphas: list[float], way: str, plan: Plan
) -> tuple[Array, Array]:
    """Return errors as `validation_errors` does, of samples left out one at a time."""
    xp = array_namespace(spectrum.values)
    n_samples, n_targets = Y.shape
    none = xp.empty((n_samples, 0), dtype=spectrum.dtype, device=spectrum.values.device)
    dual = Spectrum(spectrum.values, spectrum.vectors, none, primal=False)
    samples = SampleErrors(dual, alphas, way, plan.centred)
    errors = xp.empty((len(alphas), n_targets), dtype=xp.float64, device=none.device)
    total = xp.empty(n_targets, dtype=xp.float64, device=none.device)
    for part in target_batches(n_targets, plan.batch_size):
        batch = read_targets(Y, part, none)
        found = samples.errors(batch - column_mean(batch, plan.centred))
        errors[:, part], total[part] = found
    return errors, total
