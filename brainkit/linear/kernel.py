r"""Kernel ridge regression for many targets (voxels), each with a penalty of its own.

With a kernel K over the training samples, for every target t

.. math:: a_t = (\tilde K + \alpha_t I)^{-1} (y_t - \bar y_t), \qquad
          \hat y_t(x) = \sum_i k(x, x_i)\, a_{it} + b_t,

which is ridge regression, as `brainkit.linear.ridge` has it, on the features that the kernel is the
inner product of (Saunders, Gammerman and Vovk, 1998, ICML). :math:`\tilde K = H K H`, with
:math:`H = I - \mathbf 1 \mathbf 1' / n`, is the kernel of features that are centred by the mean of
the samples in use (Schölkopf, Smola and Müller, 1998, Neural Comput. 10:1299). As
:math:`\tilde K \mathbf 1 = 0` makes each :math:`a_t` sum to 0, the centring is left with the
intercept: :math:`b_t = \bar y_t - m' a_t`, m being the mean row of K. Without an intercept nothing
is centred.

One eigendecomposition of :math:`\tilde K` a fold, in double precision, serves all targets and
penalties; targets are treated in batches. Where a kernel is not one of inner products and has
negative eigenvalues, the equation is solved as it stands if every penalty outweighs them. If not,
and they are small, and where single samples are left out, they count as 0. The functions take NumPy
arrays or torch tensors, on any device, and return the same kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import InputError
from brainkit.linear.held_out import SeparateErrors
from brainkit.linear.kernel_errors import (
    Fold,
    KernelSpectrum,
    Plan,
    candidate_errors,
    decompose_kernel,
    fold_solutions,
)
from brainkit.linear.kernels import Kernel, as_kernel, check_precomputed
from brainkit.linear.leave_one_out import SampleErrors
from brainkit.linear.ridge import LARGEST_BATCH, select_alphas
from brainkit.linear.spectrum import shrink
from brainkit.linear.targets import (
    Targets,
    batch_size,
    centred_targets,
    check_rows,
    checked_penalties,
    target_batches,
    target_penalties,
)

Array = Any  # a NumPy array or a torch tensor
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class KernelSolution:
    """Kernel ridge with given penalties; see `kernel_predict`.

    Attributes
    ----------
    dual_coef : array (n_samples, n_targets)
        Weights of the training samples; in double precision where single precision would blur
        predictions.
    intercept : array (n_targets,)
        Of the kernel as it is, not centred.
    kernel_mean : float or None
        Mean of the training kernel; None without an intercept. It keeps what rounding adds to the
        weights' sums, which are 0, from being multiplied by what centring took off the kernel.
    offset : float64 array (n_targets,)
        The intercept of the kernel of shifted samples (`brainkit.linear.kernels.Kernel.shift`).
    """

    dual_coef: Array
    intercept: Array
    kernel_mean: float | None
    offset: Array


@dataclass(frozen=True)
class KernelRidgeFit(KernelSolution):
    """Kernel ridge with penalties chosen by cross-validation.

    Attributes
    ----------
    dual_coef, intercept, kernel_mean, offset
        See `KernelSolution`.
    alpha : float64 array (n_targets,)
        The penalty of each target.
    errors : float64 array (n_alphas, n_targets)
        Squared held-out errors, summed over folds.
    total : float64 array (n_targets,)
        The same for a prediction by the training mean (by 0 without an intercept).
    chosen : array of int (n_targets,)
        The place of `alpha` among the candidates.
    batch_size : int
        Targets treated at once.
    eigenvalues : (float, float)
        The smallest and the largest of the centred kernel.
    dtype : dtype
        That products with targets ran in.
    """

    alpha: Array
    errors: Array
    total: Array
    chosen: Array
    batch_size: int
    eigenvalues: tuple[float, float]
    dtype: Any


def kernel_ridge_cv(
    X: Array,
    Y: Targets,
    alphas: Sequence[float],
    folds: Sequence[Fold] | str,
    *,
    kernel: str | Kernel = "linear",
    fit_intercept: bool = True,
    alpha_per_target: bool = True,
    n_targets_batch: int | None = None,
) -> KernelRidgeFit:
    """Choose a penalty for each target by exact cross-validation, and fit.

    The choice is the candidate with the least squared error summed over the held-out rows of all
    folds; of equals it is the largest.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features, floating point; with a ``precomputed`` kernel its values (n_samples, n_samples).
    Y : array, h5py dataset or lazy source (n_samples, n_targets)
        Responses. What lies in a file is read a batch of targets at a time, twice.
    alphas : sequence of float
        Candidate penalties, not negative.
    folds : sequence of (train, held_out), "loo" or "gcv"
        Row numbers (`brainkit.linear.folds.kfold` keeps groups whole); or every sample left out in
        turn, exactly or by generalised cross-validation (`brainkit.linear.leave_one_out`).
    kernel : str or Kernel, default="linear"
        See `brainkit.linear.kernels`.
    fit_intercept : bool, default=True
        Centre the kernel and Y by the rows in use.
    alpha_per_target : bool, default=True
        A penalty for each target, or one for all, by their summed error.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.

    Returns
    -------
    KernelRidgeFit

    Raises
    ------
    InputError
        If X and Y do not fit each other, a precomputed kernel is not square, symmetric and finite,
        a kernel is not one of inner products by far, a penalty is not positive, or a fold is empty,
        out of range or not held out.
    """
    candidates = checked_penalties(alphas)
    chosen_kernel = as_kernel(kernel)
    K, shift = training_kernel(X, Y, chosen_kernel, fit_intercept)
    xp = array_namespace(K)
    size = kernel_batch_size(K, Y.shape[1], n_targets_batch)
    plan = Plan(fit_intercept, size, X.dtype, min(candidates), positive=isinstance(folds, str))
    spectrum = decompose_kernel(K, plan)
    way: SeparateErrors | SampleErrors
    if isinstance(folds, str):
        way = SampleErrors(
            spectrum.vectors, spectrum.values, candidates, folds, fit_intercept, spectrum.dtype
        )
    else:
        way = fold_solutions(K, candidates, folds, plan)
    errors, total = candidate_errors(way, Y, len(candidates), K, plan)
    judged = errors
    if not alpha_per_target:
        judged = xp.broadcast_to(xp.sum(errors, axis=1, keepdims=True), errors.shape)
    chosen = select_alphas(judged, candidates)
    alpha = xp.asarray(candidates, dtype=xp.float64, device=K.device)[chosen]
    moved = _moved(X, chosen_kernel, shift)
    solution = _solve(spectrum, Y, alpha, plan, moved)
    return KernelRidgeFit(
        **vars(solution), alpha=alpha, errors=errors, total=total, chosen=chosen,
        batch_size=size, dtype=spectrum.dtype,
        eigenvalues=(float(xp.min(spectrum.values)), float(xp.max(spectrum.values))),
    )  # fmt: skip


def solve_kernel_ridge(
    X: Array,
    Y: Targets,
    alphas: Array,
    *,
    kernel: str | Kernel = "linear",
    fit_intercept: bool = True,
    n_targets_batch: int | None = None,
) -> KernelSolution:
    """Solve kernel ridge regression with a given penalty for each target.

    Parameters
    ----------
    X, Y, kernel, fit_intercept, n_targets_batch
        See `kernel_ridge_cv`.
    alphas : float or array (n_targets,)
        Penalties, not negative: one for each target, or one for all.

    Returns
    -------
    KernelSolution

    Raises
    ------
    InputError
        As `kernel_ridge_cv`, or if there is not one penalty for each target or for all.
    """
    chosen = as_kernel(kernel)
    K, shift = training_kernel(X, Y, chosen, fit_intercept)
    xp = array_namespace(K)
    penalties = target_penalties(alphas, Y.shape[1], K)
    size = kernel_batch_size(K, Y.shape[1], n_targets_batch)
    least = float(xp.min(penalties)) if Y.shape[1] else 1.0
    plan = Plan(fit_intercept, size, X.dtype, least)
    return _solve(decompose_kernel(K, plan), Y, penalties, plan, _moved(X, chosen, shift))


def kernel_predict(
    X: Array,
    X_fit: Array | None,
    solution: KernelSolution,
    *,
    kernel: str | Kernel = "linear",
    n_targets_batch: int | None = None,
) -> Array:
    """Predict by dual weights, rows and targets in batches, in double precision.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features; with a ``precomputed`` kernel its values (n_samples, n_training_samples).
    X_fit : array (n_training_samples, n_features) or None
        Features of the training samples; not used with a ``precomputed`` kernel.
    solution : KernelSolution or KernelRidgeFit
        What was fitted.
    kernel : str or Kernel, default="linear"
        The one that was fitted.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.

    Returns
    -------
    array (n_samples, n_targets)
        Of X's dtype.

    Raises
    ------
    InputError
        If the kernel has not one column for each weight.
    """
    chosen = as_kernel(kernel)
    dual = solution.dual_coef
    xp = array_namespace(X, dual)
    n_fit, n_targets = dual.shape
    given = X.shape[1] if chosen.precomputed else 0 if X_fit is None else X_fit.shape[0]
    if given != n_fit:
        raise InputError(
            f"The weights are of {n_fit} training samples: X of shape {tuple(X.shape)} and X_fit "
            f"of {None if X_fit is None else tuple(X_fit.shape)} do not give that many columns of "
            f"a {chosen.name} kernel."
        )
    predicted = xp.empty((X.shape[0], n_targets), dtype=X.dtype, device=X.device)
    shift = None
    if not chosen.precomputed:
        shift = chosen.shift(X_fit, centred=solution.kernel_mean is not None)
    size = kernel_batch_size(dual, n_targets, n_targets_batch)
    for rows in target_batches(X.shape[0], ROWS_AT_ONCE):
        K = chosen(X[rows], None if chosen.precomputed else X_fit, shift)
        for part in target_batches(n_targets, size):
            weights = xp.astype(dual[:, part], xp.float64)
            values = xp.matmul(K, weights) + solution.offset[part]
            if solution.kernel_mean is not None:
                off = xp.mean(K, axis=1) - solution.kernel_mean
                values -= off[:, None] * xp.sum(weights, axis=0)
            predicted[rows, part] = xp.astype(values, X.dtype)
    return predicted


def kernel_batch_size(K: Array, n_targets: int, given: int | None = None) -> int:
    """Return the number of targets to treat at once with a kernel of as many rows as K."""
    size = batch_size(K, n_targets, given, bytes_per_target=K.shape[0] * 6 * 8)
    return min(size, given or LARGEST_BATCH)


def training_kernel(
    X: Array, Y: Targets, kernel: Kernel, centred: bool
) -> tuple[Array, Array | None]:
    """Return the kernel of the training samples (n_samples, n_samples), and what shifted them."""
    check_rows(X, Y)
    if kernel.precomputed:
        check_precomputed(X)
        return kernel(X), None
    shift = kernel.shift(X, centred=centred)
    return kernel(X, shift=shift), shift


def _moved(X: Array, kernel: Kernel, shift: Array | None) -> Array | None:
    """Return what a shift took off each sample's row of the kernel, (n_samples,); None if nothing.

    But for what is the same in all rows and columns, which weights that sum to 0 do not see.
    """
    if shift is None or kernel.name != "linear":
        return None
    xp = array_namespace(X)
    return xp.matmul(xp.astype(X, xp.float64) - shift, shift)


def _solve(
    spectrum: KernelSpectrum, Y: Targets, alphas: Array, plan: Plan, moved: Array | None
) -> KernelSolution:
    """Solve for all targets from one decomposition."""
    xp = array_namespace(spectrum.vectors)
    vectors = xp.astype(spectrum.vectors, spectrum.dtype)
    back = xp.astype(spectrum.vectors, spectrum.dual_dtype)
    dual_coef = xp.empty(tuple(Y.shape), dtype=spectrum.dual_dtype, device=vectors.device)
    offset = xp.empty(Y.shape[1], dtype=xp.float64, device=vectors.device)
    intercept = xp.empty_like(offset)  # the same, of the kernel as it is
    for part in target_batches(Y.shape[1], plan.batch_size):
        batch, y_mean = centred_targets(Y, part, vectors, plan.centred)
        projected = xp.matmul(vectors.T, batch)
        shrunk = shrink(spectrum.values, xp.astype(projected, back.dtype), alphas[part])
        weights = xp.matmul(back, shrunk)
        # Of the weights as they are stored, so that their rounding cancels in predictions.
        shift = xp.matmul(spectrum.mean_row, xp.astype(weights, xp.float64))
        dual_coef[:, part] = weights
        offset[part] = y_mean - shift
        intercept[part] = offset[part]
        if moved is not None:
            intercept[part] -= xp.matmul(moved, xp.astype(weights, xp.float64))
    kernel_mean = float(xp.mean(spectrum.mean_row)) if plan.centred else None
    intercept = xp.astype(intercept, plan.dtype)
    return KernelSolution(dual_coef, intercept, kernel_mean, offset)
