r"""Ridge regression for many targets (voxels), each with a penalty of its own.

For every target t

.. math:: \min_{w, b} \lVert y_t - X w - b \rVert^2 + \alpha_t \lVert w \rVert^2

(the penalty is not divided by the number of samples, the intercept is not penalised). X is
centred by the mean of the samples in use; with :math:`X = U S V'` every penalty shares one
decomposition, of X'X where there are no more features than samples (*primal*), of XX' otherwise
(*dual*). Targets are treated in batches and may lie in a file larger than memory.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from brainkit.arrays.progress import track
from brainkit.errors import InputError
from brainkit.linear.folds import checked_folds
from brainkit.linear.held_out import (
    Folds,
    PartitionErrors,
    SeparateErrors,
    is_partition,
    partition_errors,
    separate_errors,
)
from brainkit.linear.leave_one_out import SampleErrors
from brainkit.linear.spectrum import Spectrum, decompose, is_primal, shrink
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
    """

    coef: Array
    intercept: Array
    alpha: Array
    errors: Array
    total: Array
    chosen: Array
    batch_size: int


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
        Candidate penalties, positive.
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
        If X and Y have not the same rows, X is not floating point, a penalty is not positive, or
        a fold is empty, out of range or not held out.
    """
    check_rows(X, Y)
    candidates = positive(alphas)
    xp = array_namespace(X)
    n_targets = Y.shape[1]
    x_mean = column_mean(X, fit_intercept)
    samples = X - x_mean
    given = min(batch_size(X, n_targets, n_targets_batch), n_targets_batch or LARGEST_BATCH)
    search = _Search(samples, folds, candidates, fit_intercept)
    spectrum = search.spectrum
    whole = {"dtype": xp.float64, "device": X.device}
    errors = xp.empty((len(candidates), n_targets), **whole)
    total = xp.empty(n_targets, **whole)
    coef = xp.empty((n_targets, X.shape[1]), dtype=X.dtype, device=X.device)
    intercept = xp.empty(n_targets, dtype=X.dtype, device=X.device)
    penalties = xp.asarray(candidates, **whole)
    chosen = xp.empty(n_targets, dtype=xp.int64, device=X.device)

    def solve(part: slice, projected: Array, y_mean: Array) -> None:
        shrunk = shrink(spectrum.values, projected, penalties[chosen[part]])
        weights = xp.astype(xp.matmul(spectrum.readout, shrunk).T, X.dtype)
        coef[part] = weights
        intercept[part] = y_mean - xp.matmul(weights, x_mean)

    parts = list(target_batches(n_targets, given))
    for part in track(parts, "ridge"):
        batch, y_mean = _centred(Y, part, samples, fit_intercept)
        errors[:, part], total[part], cross = search.errors(batch)
        if alpha_per_target:
            chosen[part] = select_alphas(errors[:, part], candidates)
            solve(part, search.project(batch, cross), y_mean)
    if not alpha_per_target:
        pooled = xp.sum(errors, axis=1, keepdims=True)
        chosen[...] = select_alphas(pooled, candidates)[0]
        for part in track(parts, "ridge: solve"):
            batch, y_mean = _centred(Y, part, samples, fit_intercept)
            solve(part, spectrum.project(batch), y_mean)
    return RidgeFit(coef, intercept, penalties[chosen], errors, total, chosen, given)


def _centred(Y: Targets, part: slice, like: Array, wanted: bool) -> tuple[Array, Array]:
    """Read a batch of targets, less their means."""
    batch = read_targets(Y, part, like)
    mean = column_mean(batch, wanted)
    return batch - mean, mean


class _Search:
    """Held-out errors by whichever way suits the folds and the shape."""

    def __init__(
        self, samples: Array, folds: Folds | str, alphas: list[float], fit_intercept: bool
    ) -> None:
        self.samples = samples
        if not isinstance(folds, str):
            folds = checked_folds(folds, samples.shape[0])
        self.way: PartitionErrors | SeparateErrors | SampleErrors
        self._whole: Spectrum | None = None
        if isinstance(folds, str):
            self._whole = decompose(samples)
            self.way = SampleErrors(self._whole, alphas, folds, fit_intercept)
        elif is_primal(*samples.shape) and is_partition(samples.shape[0], folds):
            way = partition_errors(samples, folds, alphas, fit_intercept=fit_intercept)
            self.way = way
            self._whole = Spectrum(way.values, way.vectors, way.samples, primal=True)
        else:
            self.way = separate_errors(samples, folds, alphas, fit_intercept=fit_intercept)

    @property
    def spectrum(self) -> Spectrum:
        """The decomposition of all samples."""
        if self._whole is None:
            self._whole = decompose(self.samples)
        return self._whole

    def errors(self, Y: Array) -> tuple[Array, Array, Array | None]:
        """Return errors (n_alphas, batch), those of the mean (batch,), X'Y where it was formed."""
        xp = array_namespace(Y)
        if isinstance(self.way, PartitionErrors):
            prepared = self.way.batch(xp.astype(Y, self.way.vectors.dtype))
            return prepared.errors(), prepared.total, prepared.cross
        return *self.way.errors(xp.astype(Y, self.way.dtype)), None

    def project(self, Y: Array, cross: Array | None) -> Array:
        """Return the targets in the eigenbasis of all samples, see `Spectrum.project`."""
        if cross is None:
            return self.spectrum.project(Y)
        return array_namespace(Y).matmul(self.spectrum.vectors.T, cross)


def positive(alphas: Sequence[float]) -> list[float]:
    """Return the penalties as a list of floats.

    Raises
    ------
    InputError
        If there is none, or one is not a positive number.
    """
    import numpy as np

    try:
        on_host = alphas.cpu() if hasattr(alphas, "cpu") else alphas  # from a GPU too
        found = [float(alpha) for alpha in np.atleast_1d(np.asarray(on_host, dtype=float))]
    except (TypeError, ValueError):
        found = []
    if not found or not all(np.isfinite(alpha) and alpha > 0 for alpha in found):
        raise InputError(f"alphas must be positive numbers, at least one; got {alphas}.")
    return found


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
    candidates = positive(alphas)
    xp = array_namespace(X)
    n_targets = Y.shape[1]
    samples = X - column_mean(X, fit_intercept)
    size = min(batch_size(X, n_targets, n_targets_batch), n_targets_batch or LARGEST_BATCH)
    search = _Search(samples, folds, candidates, fit_intercept)
    errors = xp.empty((len(candidates), n_targets), dtype=xp.float64, device=X.device)
    total = xp.empty(n_targets, dtype=xp.float64, device=X.device)
    for part in target_batches(n_targets, size):
        batch, _ = _centred(Y, part, samples, fit_intercept)
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
    penalties = target_penalties(alphas, n_targets, X, zero=True)
    x_mean = column_mean(X, fit_intercept)
    spectrum = decompose(X - x_mean)
    coef = xp.empty((n_targets, X.shape[1]), dtype=X.dtype, device=X.device)
    intercept = xp.empty(n_targets, dtype=X.dtype, device=X.device)
    for part in target_batches(n_targets, batch_size(X, n_targets, n_targets_batch)):
        batch, y_mean = _centred(Y, part, spectrum.samples, fit_intercept)
        projected = spectrum.project(batch)  # (rank, batch)
        shrunk = shrink(spectrum.values, projected, penalties[part])
        coef[part] = xp.matmul(spectrum.readout, shrunk).T  # (batch, n_features)
        intercept[part] = y_mean - xp.matmul(coef[part], x_mean)
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
