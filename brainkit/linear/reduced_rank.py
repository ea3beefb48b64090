r"""Reduced-rank ridge: many targets (voxels) that follow a few dimensions of the features.

.. math:: \min_{W,\, b} \lVert (Y - X W - b) M \rVert^2 + \alpha \lVert W M \rVert^2
          \quad \text{with rank}(W) \le k

with M a metric over targets (Mukherjee and Zhu, 2011, Statistical Analysis and Data Mining 4:612;
the metric as in Izenman, 1975, Journal of Multivariate Analysis 5:248). With the ridge solution
:math:`\hat W`, the solution is :math:`\hat W M V_k V_k' M^{-1}`, with :math:`V_k` the leading
eigenvectors of :math:`M' \hat W' (X'X + \alpha I) \hat W M`. What one voxel's noise does to its
weights is thereby averaged over all voxels that share its dimensions.

The functions take NumPy arrays or torch tensors, like those of `brainkit.linear.ridge`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from brainkit.linear.noise import TargetMetric, diagonal_metric
from brainkit.linear.spectrum import Spectrum, decompose
from brainkit.linear.subspace import leading_right_vectors
from brainkit.linear.targets import column_mean

Array = Any  # a NumPy array or a torch tensor


@dataclass(frozen=True)
class PreparedFold:
    """One fold's training part decomposed, and its held-out part in the same coordinates.

    Attributes
    ----------
    spectrum : Spectrum
        Of the training samples.
    projected : array (rank of X, n_targets)
        Training targets.
    basis : array (n_held_out, rank of X)
        Held-out samples.
    truth : array (n_held_out, n_targets)
        Held-out targets less the training mean.
    """

    spectrum: Spectrum
    projected: Array
    basis: Array
    truth: Array


def prepare_fold(
    X: Array, Y: Array, train: Array, held_out: Array, *, fit_intercept: bool = True
) -> PreparedFold:
    """Decompose the training part of a fold once, for all penalties and ranks."""
    xp = array_namespace(X, Y)
    x_train, y_train = X[train], Y[train]
    x_mean = column_mean(x_train, fit_intercept)
    y_mean = column_mean(y_train, fit_intercept)
    spectrum = decompose(x_train - x_mean)
    return PreparedFold(
        spectrum=spectrum,
        projected=spectrum.project(y_train - y_mean),
        basis=xp.matmul(X[held_out] - x_mean, spectrum.readout),
        truth=Y[held_out] - y_mean,
    )


def _shrinkage(spectrum: Spectrum, alpha: float, like: Array) -> Array:
    """Return 1 / (values + alpha) as a column of the dtype of `like`."""
    xp = array_namespace(like)
    return xp.astype(1 / (spectrum.values + alpha), like.dtype)[:, None]


def leading_directions(
    spectrum: Spectrum, projected: Array, alpha: float, rank: int, metric: TargetMetric
) -> Array:
    r"""Return the leading eigenvectors :math:`V_k` over targets, (n_targets, at most rank).

    With :math:`S = (\Lambda + \alpha)^{-1/2} C M`, C the projected targets, they are the right
    singular vectors of S. On the dual side, where C lacks the singular values of X, S is
    :math:`\Lambda^{1/2} (\Lambda + \alpha)^{-1/2} C M`.
    """
    xp = array_namespace(projected)
    gains = 1 if spectrum.primal else spectrum.values
    root = xp.astype((gains / (spectrum.values + alpha)) ** 0.5, projected.dtype)
    return leading_right_vectors(metric.apply(projected * root[:, None]), rank)[0]


def ridge_errors(folds: Sequence[PreparedFold], alphas: Sequence[float]) -> tuple[Array, Array]:
    """Sum squared held-out errors of plain ridge, (n_alphas, n_targets), and of the mean."""
    xp = array_namespace(folds[0].truth)

    def error(fold: PreparedFold, alpha: float) -> Array:
        shrunk = fold.projected * _shrinkage(fold.spectrum, alpha, fold.truth)
        return xp.sum((fold.truth - xp.matmul(fold.basis, shrunk)) ** 2, axis=0, dtype=xp.float64)

    errors = xp.stack([sum(error(fold, alpha) for fold in folds) for alpha in alphas])
    total = sum(xp.sum(fold.truth**2, axis=0, dtype=xp.float64) for fold in folds)
    return errors, total


def predictability(errors: Array, total: Array, floor: float = 0.01) -> Array:
    """Return target weights: the root of the held-out variance share that plain ridge explains.

    At its best penalty, and not below the root of `floor`: a target that nothing predicts has
    little say in what the shared dimensions are.
    """
    xp = array_namespace(errors)
    explained = 1 - xp.min(errors, axis=0) / xp.where(total > 0, total, xp.ones_like(total))
    return xp.where(explained > floor, explained, xp.full_like(explained, floor)) ** 0.5


def reduced_rank_errors(
    folds: Sequence[PreparedFold],
    alphas: Sequence[float],
    ranks: Sequence[int],
    metric: TargetMetric,
) -> Array:
    """Sum squared held-out errors over folds, (n_alphas, n_ranks, n_targets).

    Parameters
    ----------
    folds : sequence of PreparedFold
    alphas : sequence of float
        Candidate penalties, positive.
    ranks : sequence of int
        Candidate ranks.
    metric : TargetMetric
        The metric M.
    """
    xp = array_namespace(folds[0].truth)
    first = folds[0].truth
    shape = (len(alphas), len(ranks), first.shape[1])
    errors = xp.zeros(shape, dtype=xp.float64, device=first.device)
    for fold in folds:
        for number, alpha in enumerate(alphas):
            directions = leading_directions(
                fold.spectrum, fold.projected, alpha, max(ranks), metric
            )
            latent = xp.matmul(metric.apply(fold.projected), directions)  # (rank of X, rank)
            latent = xp.matmul(fold.basis, latent * _shrinkage(fold.spectrum, alpha, latent))
            back = metric.undo(directions.T)  # (rank, n_targets)
            for place, rank in enumerate(ranks):
                residual = fold.truth - xp.matmul(latent[:, :rank], back[:rank])
                errors[number, place] += xp.sum(residual**2, axis=0, dtype=xp.float64)
    return errors


def solve_reduced_rank(
    X: Array,
    Y: Array,
    alphas: Array,
    ranks: Array,
    metric: TargetMetric | None = None,
    *,
    fit_intercept: bool = True,
) -> tuple[Array, Array]:
    """Solve reduced-rank ridge; a target takes its weights from the solution of its own choice.

    Parameters
    ----------
    X, Y : arrays (n_samples, n_features), (n_samples, n_targets)
    alphas : array (n_targets,)
        Penalty of the solution that each target takes, positive.
    ranks : array of int (n_targets,)
        Rank of it.
    metric : TargetMetric, optional
        The metric M; the plain one where not given.

    Returns
    -------
    coef : array (n_targets, n_features)
    intercept : array (n_targets,)
    """
    xp = array_namespace(X, Y)
    x_mean, y_mean = column_mean(X, fit_intercept), column_mean(Y, fit_intercept)
    metric = diagonal_metric(xp.ones_like(y_mean)) if metric is None else metric
    spectrum = decompose(X - x_mean)
    projected = spectrum.project(Y - y_mean)
    coef = xp.empty((Y.shape[1], X.shape[1]), dtype=X.dtype, device=X.device)
    for alpha in sorted({float(value) for value in alphas}):
        here = alphas == alpha
        wanted = sorted({int(rank) for rank in ranks[here]})
        directions = leading_directions(spectrum, projected, alpha, wanted[-1], metric)
        latent = xp.matmul(metric.apply(projected), directions)  # (rank of X, rank)
        latent = xp.matmul(spectrum.readout, latent * _shrinkage(spectrum, alpha, latent))
        back = metric.undo(directions.T)  # (rank, n_targets)
        for rank in wanted:
            chosen = here & (ranks == rank)
            coef[chosen] = xp.matmul(latent[:, :rank], back[:rank][:, chosen]).T
    return coef, y_mean - xp.matmul(coef, x_mean)
