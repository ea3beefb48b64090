r"""Ridge regression for many targets (voxels), each with a penalty of its own.

For every target t

.. math:: \min_{w, b} \lVert y_t - X w - b \rVert^2 + \alpha_t \lVert w \rVert^2

(the penalty is not divided by the number of samples, the intercept is not penalised). X is
centred by the mean of the samples in use; with :math:`X = U S V'` every penalty shares one
decomposition, of X'X where there are no more features than samples (*primal*), of XX' otherwise
(*dual*). Targets are treated in batches.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from brainkit.arrays.memory import pick_batch
from brainkit.errors import InputError

Array = Any  # a NumPy array or a torch tensor


@dataclass(frozen=True)
class Spectrum:
    """One decomposition of centred samples that serves every penalty.

    For targets Y, centred, and a penalty α: ``coef = readout @ (project(Y) / (values + α))``.

    Attributes
    ----------
    values : float64 array (rank,)
        Eigenvalues of X'X or XX', not negative.
    vectors : array (rank, rank)
        Eigenvectors, V (primal) or U (dual).
    samples : array (n_samples, n_features)
        The centred X.
    primal : bool
        Whether X'X was decomposed.
    """

    values: Array
    vectors: Array
    samples: Array
    primal: bool

    @property
    def readout(self) -> Array:
        """V (primal) or X'U (dual), (n_features, rank)."""
        return self.vectors if self.primal else self.samples.T @ self.vectors

    def project(self, Y: Array) -> Array:
        """Return V'X'Y (primal) or U'Y (dual), (rank, n_targets).

        XV comes first: in single precision V'(X'Y) would lose the directions of little variance.
        """
        return (self.samples @ self.vectors if self.primal else self.vectors).T @ Y


def is_primal(n_samples: int, n_features: int) -> bool:
    """Return whether the feature-side problem is the smaller one."""
    return n_features <= n_samples


def decompose(X: Array) -> Spectrum:
    """Decompose centred samples (n_samples, n_features), in double precision."""
    xp = array_namespace(X)
    primal = is_primal(*X.shape)
    wide = xp.astype(X, xp.float64)
    values, vectors = xp.linalg.eigh(xp.matmul(wide.T, wide) if primal else xp.matmul(wide, wide.T))
    values = xp.where(values > 0, values, xp.zeros_like(values))
    return Spectrum(values, xp.astype(vectors, X.dtype), X, primal)


def _shrink(spectrum: Spectrum, projected: Array, alpha: Array | float) -> Array:
    """Divide by ``values + alpha``; directions without variance get nothing when alpha is 0.

    What counts as no variance is measured in double precision, in which the eigenvalues are: by
    single precision's measure a small alpha would lose directions that it is meant to keep.
    """
    xp = array_namespace(projected)
    values = spectrum.values
    total = values[:, None] + alpha  # (rank, 1) or (rank, n_targets)
    floor = xp.max(values) * xp.finfo(values.dtype).eps * values.shape[0]
    kept = total > floor
    factor = xp.where(kept, 1 / xp.where(kept, total, xp.ones_like(total)), xp.zeros_like(total))
    return projected * xp.astype(factor, projected.dtype)


def target_batches(n_targets: int, size: int) -> Iterator[slice]:
    """Cut the targets into slices of at most `size`."""
    for start in range(0, n_targets, size):
        yield slice(start, min(start + size, n_targets))


def batch_size(X: Array, n_targets: int, given: int | None = None) -> int:
    """Return the number of targets to treat at once: `given`, or by free memory."""
    if given is not None:
        if given < 1:
            raise InputError(f"n_targets_batch must be at least 1; got {given}.")
        return given
    n_samples, n_features = X.shape
    width = min(n_samples, n_features) * 4 + n_samples * 3
    return pick_batch(width * 8, max(n_targets, 1))


def solve_ridge(
    X: Array,
    Y: Array,
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
    Y : array (n_samples, n_targets)
        Responses, of the same dtype.
    alphas : array (n_targets,)
        Penalties, not negative, of any floating dtype.
    fit_intercept : bool, default=True
        Fit the means.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.

    Returns
    -------
    coef : array (n_targets, n_features)
    intercept : array (n_targets,)
    """
    xp = array_namespace(X, Y)
    x_mean = column_mean(X, fit_intercept)
    spectrum = decompose(X - x_mean)
    penalties = xp.astype(alphas, xp.float64)
    coef = xp.empty((Y.shape[1], X.shape[1]), dtype=X.dtype, device=X.device)
    intercept = xp.empty(Y.shape[1], dtype=X.dtype, device=X.device)
    for part in target_batches(Y.shape[1], batch_size(X, Y.shape[1], n_targets_batch)):
        y_mean = column_mean(Y[:, part], fit_intercept)
        projected = spectrum.project(Y[:, part] - y_mean)  # (rank, batch)
        shrunk = _shrink(spectrum, projected, penalties[part])
        coef[part] = xp.matmul(spectrum.readout, shrunk).T  # (batch, n_features)
        intercept[part] = y_mean - xp.matmul(coef[part], x_mean)
    return coef, intercept


def column_mean(values: Array, wanted: bool) -> Array:
    """Return the mean of each column, summed in double precision, or 0 where it is not wanted."""
    xp = array_namespace(values)
    if not wanted:
        return xp.zeros_like(values[0])
    return xp.astype(xp.mean(values, axis=0, dtype=xp.float64), values.dtype)


def validation_errors(
    X: Array,
    Y: Array,
    alphas: Sequence[float],
    folds: Sequence[tuple[Array, Array]],
    *,
    fit_intercept: bool = True,
    n_targets_batch: int | None = None,
) -> tuple[Array, Array]:
    """Sum squared held-out errors over folds, for every penalty and target.

    Parameters
    ----------
    X, Y : arrays (n_samples, n_features), (n_samples, n_targets)
        Training data.
    alphas : sequence of float
        Candidate penalties.
    folds : sequence of (train, held_out)
        Row numbers.
    fit_intercept, n_targets_batch
        See `solve_ridge`.

    Returns
    -------
    errors : array (n_alphas, n_targets)
        Sum of squared errors on the held-out rows.
    total : array (n_targets,)
        The same for a prediction by the training mean.
    """
    xp = array_namespace(X, Y)
    n_targets = Y.shape[1]
    errors = xp.zeros((len(alphas), n_targets), dtype=xp.float64, device=X.device)
    total = xp.zeros(n_targets, dtype=xp.float64, device=X.device)
    size = batch_size(X, n_targets, n_targets_batch)
    for train, held_out in folds:
        x_train = X[train]
        x_mean = column_mean(x_train, fit_intercept)
        spectrum = decompose(x_train - x_mean)
        basis = xp.matmul(X[held_out] - x_mean, spectrum.readout)  # (n_held_out, rank)
        for part in target_batches(n_targets, size):
            batch = Y[:, part]  # a view: rows are copied for one batch of targets at a time
            y_train = batch[train]
            y_mean = column_mean(y_train, fit_intercept)
            truth = batch[held_out] - y_mean
            projected = spectrum.project(y_train - y_mean)  # (rank, batch)
            total[part] += xp.sum(truth**2, axis=0, dtype=xp.float64)
            for number, alpha in enumerate(alphas):
                residual = truth - xp.matmul(basis, _shrink(spectrum, projected, alpha))
                errors[number, part] += xp.sum(residual**2, axis=0, dtype=xp.float64)
    return errors, total


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
