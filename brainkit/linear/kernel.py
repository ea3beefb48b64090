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
from brainkit.linear.kernel_errors import (
    Fold,
    KernelSpectrum,
    Plan,
    decompose_kernel,
    left_out_errors,
    validation_errors,
)
from brainkit.linear.kernels import Kernel, as_kernel, check_precomputed
from brainkit.linear.ridge import positive, select_alphas
from brainkit.linear.spectrum import shrink
from brainkit.linear.targets import (
    Targets,
    batch_size,
    check_rows,
    column_mean,
    read_targets,
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
        Weights of the training samples.
    intercept : array (n_targets,)
        Of the kernel as it is, not centred.
    kernel_mean : float or None
        Mean of the training kernel; None without an intercept. It keeps what rounding adds to the
        weights' sums, which are 0, from being multiplied by what centring took off the kernel.
    """

    dual_coef: Array
    intercept: Array
    kernel_mean: float | None


@dataclass(frozen=True)
class KernelRidgeFit(KernelSolution):
    """Kernel ridge with penalties chosen by cross-validation.

    Attributes
    ----------
    dual_coef, intercept, kernel_mean
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
    """

    alpha: Array
    errors: Array
    total: Array
    chosen: Array
    batch_size: int


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
        Responses. What lies in a file is read a batch of targets at a time, once for every fold (at
        all, where single samples are left out) and once more.
    alphas : sequence of float
        Candidate penalties, positive.
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
    candidates = positive(alphas)
    K = training_kernel(X, Y, as_kernel(kernel))
    xp = array_namespace(K)
    size = kernel_batch_size(K, Y.shape[1], n_targets_batch)
    plan = Plan(fit_intercept, size, X.dtype, min(candidates), positive=isinstance(folds, str))
    if isinstance(folds, str):
        spectrum = decompose_kernel(K, plan)
        errors, total = left_out_errors(spectrum, Y, candidates, folds, plan)
    else:
        errors, total = validation_errors(K, Y, candidates, folds, plan)
        spectrum = decompose_kernel(K, plan)
    judged = errors
    if not alpha_per_target:
        judged = xp.broadcast_to(xp.sum(errors, axis=1, keepdims=True), errors.shape)
    chosen = select_alphas(judged, candidates)
    alpha = xp.asarray(candidates, dtype=xp.float64, device=K.device)[chosen]
    solution = _solve(spectrum, Y, alpha, plan)
    return KernelRidgeFit(
        dual_coef=solution.dual_coef, intercept=solution.intercept,
        kernel_mean=solution.kernel_mean, alpha=alpha, errors=errors, total=total, chosen=chosen,
        batch_size=size,
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
        Penalties, positive: one for each target, or one for all.

    Returns
    -------
    KernelSolution

    Raises
    ------
    InputError
        As `kernel_ridge_cv`, or if there is not one penalty for each target or for all.
    """
    K = training_kernel(X, Y, as_kernel(kernel))
    xp = array_namespace(K)
    penalties = target_penalties(alphas, Y.shape[1], K)
    size = kernel_batch_size(K, Y.shape[1], n_targets_batch)
    least = float(xp.min(penalties)) if Y.shape[1] else 1.0
    plan = Plan(fit_intercept, size, X.dtype, least)
    return _solve(decompose_kernel(K, plan), Y, penalties, plan)


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
        Of the weights' dtype.

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
    predicted = xp.empty((X.shape[0], n_targets), dtype=dual.dtype, device=X.device)
    size = kernel_batch_size(dual, n_targets, n_targets_batch)
    for rows in target_batches(X.shape[0], ROWS_AT_ONCE):
        K = chosen(X[rows], None if chosen.precomputed else X_fit)
        for part in target_batches(n_targets, size):
            weights = xp.astype(dual[:, part], xp.float64)
            values = xp.matmul(K, weights) + solution.intercept[part]
            if solution.kernel_mean is not None:
                off = xp.mean(K, axis=1) - solution.kernel_mean
                values -= off[:, None] * xp.sum(weights, axis=0)
            predicted[rows, part] = xp.astype(values, dual.dtype)
    return predicted


def kernel_batch_size(K: Array, n_targets: int, given: int | None = None) -> int:
    """Return the number of targets to treat at once with a kernel of as many rows as K."""
    return batch_size(K, n_targets, given, bytes_per_target=K.shape[0] * 6 * 8)


def training_kernel(X: Array, Y: Targets, kernel: Kernel) -> Array:
    """Return the kernel of the training samples (n_samples, n_samples), checked against Y."""
    check_rows(X, Y)
    if kernel.precomputed:
        check_precomputed(X)
    return kernel(X)


def _solve(spectrum: KernelSpectrum, Y: Targets, alphas: Array, plan: Plan) -> KernelSolution:
    """Solve for all targets from one decomposition."""
    xp = array_namespace(spectrum.vectors)
    vectors = xp.astype(spectrum.vectors, spectrum.dtype)
    dual_coef = xp.empty(tuple(Y.shape), dtype=plan.dtype, device=vectors.device)
    intercept = xp.empty(Y.shape[1], dtype=plan.dtype, device=vectors.device)
    for part in target_batches(Y.shape[1], plan.batch_size):
        batch = read_targets(Y, part, vectors)
        y_mean = column_mean(batch, plan.centred)
        projected = xp.matmul(vectors.T, batch - y_mean)
        weights = xp.matmul(vectors, shrink(spectrum.values, projected, alphas[part]))
        if plan.centred:  # the sums are 0, but for rounding of eigenvalues next to alpha
            weights -= xp.mean(weights, axis=0)
        weights = xp.astype(weights, plan.dtype)
        # Of the weights as they are stored, so that their rounding cancels in predictions.
        shift = xp.matmul(spectrum.mean_row, xp.astype(weights, xp.float64))
        dual_coef[:, part] = weights
        intercept[part] = xp.astype(xp.astype(y_mean, xp.float64) - shift, plan.dtype)
    kernel_mean = float(xp.mean(spectrum.mean_row)) if plan.centred else None
    return KernelSolution(dual_coef, intercept, kernel_mean)
