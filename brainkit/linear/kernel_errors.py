r"""Held-out errors of kernel ridge, from decompositions that serve every penalty and target.

See `brainkit.linear.kernel` for the equations. The functions take NumPy arrays or torch tensors, on
any device.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import InputError
from brainkit.linear.fold_errors import fold_errors
from brainkit.linear.folds import checked_folds
from brainkit.linear.held_out import HeldOutPart, SeparateErrors, centred_rows
from brainkit.linear.leave_one_out import SampleErrors
from brainkit.linear.spectrum import DUAL_LOSSY, blur, clip, eigen_of_kernel, precision, spread
from brainkit.linear.targets import Targets, centred_targets, column_mean, target_batches

Array = Any  # a NumPy array or a torch tensor
Fold = tuple[Array, Array]
MOST_NEGATIVE = 0.1  # an eigenvalue that alpha does not outweigh, as a share of the largest


@dataclass(frozen=True)
class Plan:
    """How a problem is to be solved."""

    centred: bool
    batch_size: int
    dtype: Any  # of the samples
    least_alpha: float
    positive: bool = False  # whether all negative eigenvalues are to count as 0


@dataclass(frozen=True)
class KernelSpectrum:
    """Eigenvalues and eigenvectors of a centred kernel, and what it was centred by."""

    values: Array  # (rank,), float64
    vectors: Array  # (n, rank), float64; each sums to 0 where the kernel is centred
    mean_row: Array  # (n,), float64
    dtype: Any  # that targets are to be projected in
    dual_dtype: Any  # of weights of samples


def decompose_kernel(K: Array, plan: Plan) -> KernelSpectrum:
    """Centre a kernel (n, n), in double precision, and decompose it."""
    xp = array_namespace(K)
    mean_row = column_mean(K, plan.centred)
    values, vectors = eigen_of_kernel(K, centred=plan.centred, positive=False)
    if not values.shape[0]:  # one sample, less its mean
        return KernelSpectrum(values, vectors, mean_row, plan.dtype, plan.dtype)
    largest, least = float(values[-1]), float(values[0])
    # As far below 0 as rounding of the kernel's values makes eigenvalues fall.
    rounding = float(xp.finfo(plan.dtype).eps) * K.shape[0] * max(largest, 0.0)
    if least + plan.least_alpha <= 0 and -least > max(MOST_NEGATIVE * largest, rounding):
        raise InputError(
            f"The kernel has eigenvalues from {least:.3g} to {largest:.3g}, so it is not one of "
            f"inner products, and ridge has no solution with a penalty of {plan.least_alpha:.3g}. "
            f"Take alphas above {-least:.3g}, or a positive semi-definite kernel."
        )
    if plan.positive or least + plan.least_alpha <= 0 or -least <= rounding:
        blur = float(xp.finfo(xp.float64).eps) * K.shape[0] * float(xp.max(xp.abs(K)))
        values = xp.where(values > blur, values, xp.zeros_like(values))
        if plan.least_alpha <= 0:  # without a penalty nothing is divided by what is nothing
            values, vectors = clip(values, vectors, K.shape[0])
    lowest = float(values[0]) if values.shape[0] else 0.0
    penalised = [plan.least_alpha + min(lowest, 0.0)]
    blunt = spread(values, penalised) > DUAL_LOSSY
    return KernelSpectrum(
        values, vectors, mean_row, precision(values, penalised, plan.dtype),
        xp.float64 if blunt else plan.dtype,
    )  # fmt: skip


def fold_solutions(
    K: Array, alphas: list[float], folds: Sequence[Fold], plan: Plan
) -> SeparateErrors:
    """Decompose the training part of every fold, and put its held-out part into the eigenbasis."""
    xp = array_namespace(K)
    dtype, prepared = plan.dtype, []
    for fold in checked_folds(folds, K.shape[0]):
        train, held_out = (xp.asarray(rows, device=K.device) for rows in fold)
        inner, crossed = (K[rows[:, None], train[None, :]] for rows in (train, held_out))
        spectrum = decompose_kernel(inner, plan)
        if plan.centred:
            crossed = centred_rows(crossed, inner)
        # Penalties outweigh what is negative: added to the eigenvalues, none of either is.
        excess = min(float(spectrum.values[0]), 0.0) if spectrum.values.shape[0] else 0.0
        readout = xp.matmul(crossed, spectrum.vectors)
        values, penalties = spectrum.values - excess, [alpha + excess for alpha in alphas]
        blurred = blur(readout, values, penalties, 1.0, train.shape[0])
        dtype = precision(values, penalties, dtype, blurred=blurred)
        prepared.append((train, held_out, spectrum.vectors, readout, values, penalties))
    parts = []
    for train, held_out, vectors, readout, values, penalties in prepared:
        errors = fold_errors(readout, values, penalties, dtype, triangular=False)
        parts.append(HeldOutPart(train, held_out, xp.astype(vectors, dtype), None, errors))
    return SeparateErrors(plan.centred, dtype, tuple(parts))


def candidate_errors(
    way: SeparateErrors | SampleErrors, Y: Targets, n_alphas: int, like: Array, plan: Plan
) -> tuple[Array, Array]:
    """Return squared errors (n_alphas, n_targets), and those of the mean, batch by batch."""
    xp = array_namespace(like)
    errors = xp.empty((n_alphas, Y.shape[1]), dtype=xp.float64, device=like.device)
    total = xp.empty(Y.shape[1], dtype=xp.float64, device=like.device)
    for part in target_batches(Y.shape[1], plan.batch_size):
        batch, _ = centred_targets(Y, part, like, plan.centred, way.dtype)
        errors[:, part], total[part] = way.errors(batch)
    return errors, total
