r"""Kernel ridge regression for many targets (voxels), each with a penalty of its own.

A kernel is the inner product of samples in a feature space that need not be written out:

================  ==========================================================
name              :math:`k(x, z)`
================  ==========================================================
``linear``        :math:`x'z`
``polynomial``    :math:`(\gamma x'z + c)^d` (also ``poly``)
``rbf``           :math:`\exp(-\gamma \lVert x - z \rVert^2)`
``cosine``        :math:`x'z / (\lVert x \rVert \lVert z \rVert)`
``sigmoid``       :math:`\tanh(\gamma x'z + c)`
``precomputed``   the values given
================  ==========================================================

with :math:`\gamma` = 1 / number of features where it is not given. Values are in double precision
whatever the samples are in: penalties may be many decades below a kernel's largest value.

With a kernel K over the training samples, for every target t

.. math:: a_t = (\tilde K + \alpha_t I)^{-1} (y_t - \bar y_t), \qquad
          \hat y_t(x) = \sum_i k(x, x_i)\, a_{it} + b_t,

which is ridge regression, as `brainkit.linear.ridge_solver` has it, on the features that the kernel
is the inner product of (Saunders, Gammerman and Vovk, 1998, ICML). :math:`\tilde K = H K H`, with
:math:`H = I - \mathbf 1 \mathbf 1' / n`, is the kernel of features that are centred by the mean of
the samples in use (Schölkopf, Smola and Müller, 1998, Neural Comput. 10:1299). As :math:`\tilde K
\mathbf 1 = 0` makes each :math:`a_t` sum to 0, the centring is left with the intercept: :math:`b_t
= \bar y_t - m' a_t`, m being the mean row of K. Without an intercept nothing is centred.

One eigendecomposition of :math:`\tilde K` a fold, in double precision, serves all targets and
penalties; targets are treated in batches. Where a kernel is not one of inner products and has
negative eigenvalues, the equation is solved as it stands if every penalty outweighs them. If not,
and they are small, and where single samples are left out, they count as 0.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import InputError, unknown_name
from brainkit.linear.cross_validation import (
    HeldOutPart,
    SampleErrors,
    SeparateErrors,
    centred_rows,
    fold_errors,
)
from brainkit.linear.folds import checked_folds
from brainkit.linear.ridge_solver import LARGEST_BATCH, select_alphas
from brainkit.linear.spectrum import (
    DUAL_LOSSY,
    blur,
    clip,
    eigen_of_kernel,
    precision,
    shrink,
    spread,
)
from brainkit.linear.targets import (
    Targets,
    batch_size,
    centred_targets,
    check_rows,
    checked_penalties,
    column_mean,
    target_batches,
    target_penalties,
)

Array = Any  # a NumPy array or a torch tensor
KERNELS = ("linear", "polynomial", "poly", "rbf", "cosine", "sigmoid", "precomputed")
ROWS_AT_ONCE = 1024
Fold = tuple[Array, Array]
MOST_NEGATIVE = 0.1  # an eigenvalue that alpha does not outweigh, as a share of the largest


@dataclass(frozen=True)
class Kernel:
    """A kernel and its constants; those that it does not have are ignored.

    Parameters
    ----------
    name : str, default="linear"
        Name of the kernel in the table of this module.
    gamma : float, optional
        Scale of rbf, polynomial and sigmoid, positive; 1 / n_features where not given.
    degree : int, default=3
        Degree of the polynomial, at least 1.
    coef0 : float, default=1.0
        c of polynomial and sigmoid.

    Raises
    ------
    InputError
        If there is no such kernel, or a constant cannot be used.
    """

    name: str = "linear"
    gamma: float | None = None
    degree: int = 3
    coef0: float = 1.0

    def __post_init__(self) -> None:
        if self.name not in KERNELS:
            raise unknown_name("kernel", self.name, KERNELS)
        if self.gamma is not None and not (isfinite(self.gamma) and self.gamma > 0):
            raise InputError(
                f"gamma must be a positive number, or None for 1 / n_features; got {self.gamma}."
            )
        if self.degree != int(self.degree) or self.degree < 1:
            raise InputError(f"degree must be a whole number from 1; got {self.degree}.")
        if not isfinite(self.coef0):
            raise InputError(f"coef0 must be a finite number; got {self.coef0}.")

    @property
    def precomputed(self) -> bool:
        """Whether the values are given instead of samples."""
        return self.name == "precomputed"

    def __call__(self, X: Array, Z: Array | None = None, shift: Array | None = None) -> Array:
        """Evaluate the kernel for all pairs of samples.

        Parameters
        ----------
        X : array (n_samples, n_features)
            Samples; for ``precomputed``, the kernel itself.
        Z : array (m_samples, n_features), optional
            Other samples, by default X. Not for ``precomputed``.
        shift : float64 array (n_features,), optional
            Taken off the samples first, see `shift`. Not for ``precomputed``.

        Returns
        -------
        float64 array (n_samples, m_samples)
        """
        xp = array_namespace(X) if Z is None else array_namespace(X, Z)
        if X.ndim != 2 or (Z is not None and (Z.ndim != 2 or Z.shape[1] != X.shape[1])):
            other = "" if Z is None else f" and {tuple(Z.shape)}"
            raise InputError(
                f"A kernel takes samples (n, n_features) of one number of features; got "
                f"{tuple(X.shape)}{other}."
            )
        wide = xp.astype(X, xp.float64, copy=False)
        if self.precomputed:
            return wide
        other_wide = wide if Z is None else xp.astype(Z, xp.float64, copy=False)
        if shift is not None:
            wide = wide - shift
            other_wide = wide if Z is None else other_wide - shift
        return self._of_products(xp.matmul(wide, other_wide.T), wide, other_wide)

    def shift(self, X: Array, *, centred: bool) -> Array | None:
        """Return what is better taken off samples before their products are formed, or None.

        The mean of the training samples X, for a kernel that does not change by it (rbf) or is
        centred afterwards (linear): products of large means would round off what differs.
        """
        if self.name == "rbf" or (self.name == "linear" and centred):
            return column_mean(X, True)
        return None

    def mean_variance(self, X: Array, *, centred: bool) -> float:
        """Return the mean diagonal of the kernel of samples, centred or not, over their features.

        For a linear kernel this is the mean variance of the features. 1 where the samples do not
        differ.

        Parameters
        ----------
        X : array (n_samples, n_features)
            Samples; for ``precomputed``, the kernel itself.
        centred : bool
        """
        xp = array_namespace(X)
        n, width = X.shape
        shift = None if self.precomputed else self.shift(X, centred=centred)
        diagonal = total = 0.0
        for start in range(0, n, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            K = self(X[rows], None if self.precomputed else X, shift)
            diagonal += float(xp.sum(xp.linalg.diagonal(K[:, rows])))
            total += float(xp.sum(K))
        variance = (diagonal - (total / n if centred else 0.0)) / (n * width)
        return variance if variance > 0 and isfinite(variance) else 1.0

    def _of_products(self, products: Array, x: Array, z: Array) -> Array:
        """Turn inner products (n, m), which are overwritten, into the kernel's values."""
        xp = array_namespace(products)
        if self.name == "linear":
            return products
        if self.name == "cosine":
            products /= _lengths(x)[:, None]
            products /= _lengths(z)
            return products
        gamma = 1 / max(x.shape[1], 1) if self.gamma is None else float(self.gamma)
        if self.name == "rbf":
            products *= -2
            products += xp.sum(x**2, axis=1)[:, None]
            products += xp.sum(z**2, axis=1)
            # Rounding leaves the distance of a sample from itself a little off 0, to either side.
            return xp.exp(xp.where(products > 0, products, xp.zeros_like(products)) * -gamma)
        products *= gamma
        products += self.coef0
        return xp.tanh(products) if self.name == "sigmoid" else products ** int(self.degree)


def as_kernel(kernel: str | Kernel) -> Kernel:
    """Return a kernel given by its name, with the default constants, or as it is."""
    return kernel if isinstance(kernel, Kernel) else Kernel(kernel)


def check_precomputed(K: Array) -> None:
    """Raise unless K is a kernel of the training samples with themselves.

    Raises
    ------
    InputError
        If K is not square, symmetric and finite.
    """
    xp = array_namespace(K)
    if K.shape[0] != K.shape[1]:
        raise InputError(
            f"A precomputed kernel of training samples is square, (n_samples, n_samples); got "
            f"{tuple(K.shape)}. For features choose another kernel, such as 'linear'."
        )
    largest, gap = 0.0, 0.0
    for start in range(0, K.shape[0], ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        height = float(xp.max(xp.abs(K[rows])))
        if not isfinite(height):
            raise InputError("The precomputed kernel holds NaN or infinity.")
        largest = max(largest, height)
        gap = max(gap, float(xp.max(xp.abs(K[rows] - K[:, rows].T))))
    if gap > 100 * float(xp.finfo(K.dtype).eps) * largest:
        raise InputError(
            f"A precomputed kernel of training samples is symmetric; this one differs from its "
            f"transpose by up to {gap:.3g}, where its largest value is {largest:.3g}."
        )


def _lengths(samples: Array) -> Array:
    """Return the length of each sample, 1 where it is 0."""
    xp = array_namespace(samples)
    lengths = xp.sqrt(xp.sum(samples**2, axis=1))
    return xp.where(lengths > 0, lengths, xp.ones_like(lengths))


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
        readout = xp.matmul(crossed, spectrum.vectors)  # (n_held_out, rank)
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


@dataclass(frozen=True)
class KernelSolution:
    """Kernel ridge with given penalties; see `kernel_predict`.

    Attributes
    ----------
    dual_coef : array (n_samples, n_targets)
        Weights of the training samples; in double precision where single precision would blur
        predictions.
    intercept : array (n_targets,)
        Constants of the kernel as it is, not centred.
    kernel_mean : float or None
        Mean of the training kernel; None without an intercept. It keeps what rounding adds to the
        weights' sums, which are 0, from being multiplied by what centring took off the kernel.
    offset : float64 array (n_targets,)
        The intercept of the kernel of shifted samples (`Kernel.shift`).
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
        The squared held-out error of a prediction by the training mean (by 0 without an intercept).
    chosen : array of int (n_targets,)
        The place of `alpha` among the candidates.
    batch_size : int
        Targets treated at once.
    eigenvalues : (float, float)
        The smallest and the largest of the centred kernel.
    dtype : dtype
        Dtype that products with targets ran in.
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
        turn, exactly or by generalised cross-validation (`brainkit.linear.cross_validation`).
    kernel : str or Kernel, default="linear"
        The kernel, by its name in the table of this module or with constants of its own.
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
        If the data are refused as by `kernel_ridge_cv`, or there is not one penalty for each target
        or for all.
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
        Predictions, in the dtype of X.

    Raises
    ------
    InputError
        If the kernel has not one column for each weight.
    """
    chosen = as_kernel(kernel)
    dual = solution.dual_coef
    xp = array_namespace(X, dual)
    n_fit, n_targets = dual.shape
    n_columns = X.shape[1] if chosen.precomputed else 0 if X_fit is None else X_fit.shape[0]
    if n_columns != n_fit:
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
            values = xp.matmul(K, weights) + solution.offset[part]  # (rows, batch)
            if solution.kernel_mean is not None:
                off = xp.mean(K, axis=1) - solution.kernel_mean
                values -= off[:, None] * xp.sum(weights, axis=0)
            predicted[rows, part] = xp.astype(values, X.dtype)
    return predicted


def kernel_batch_size(K: Array, n_targets: int, asked: int | None = None) -> int:
    """Return the number of targets to treat at once with a kernel of as many rows as K."""
    size = batch_size(K, n_targets, asked, bytes_per_target=K.shape[0] * 6 * 8)
    return min(size, asked or LARGEST_BATCH)


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
        projected = xp.matmul(vectors.T, batch)  # (rank, batch)
        shrunk = shrink(spectrum.values, xp.astype(projected, back.dtype), alphas[part])
        weights = xp.matmul(back, shrunk)  # (n_samples, batch)
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
