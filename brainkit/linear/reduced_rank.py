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
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace

from brainkit.linear.fold_errors import fold_errors, held_targets
from brainkit.linear.noise import TargetMetric, diagonal_metric
from brainkit.linear.ridge import intercept_of
from brainkit.linear.spectrum import Spectrum, decompose, sample_products
from brainkit.linear.subspace import (
    EXACT_SIZE,
    fixed_start,
    leading_combinations,
    leading_right_vectors,
)
from brainkit.linear.targets import column_mean, deviations

Array = Any  # a NumPy array or a torch tensor
MANY = 2  # targets for each row of CM, from which on it pays to form CMM'C'


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
    X: Array,
    Y: Array,
    train: Array,
    held_out: Array,
    *,
    alphas: Sequence[float] = (0.0,),
    fit_intercept: bool = True,
) -> PreparedFold:
    """Decompose the training part of a fold once, for all penalties and ranks.

    What multiplies targets is in the samples' dtype, or in double precision where `alphas`, the
    penalties to come, need it (`brainkit.linear.spectrum.precision`).
    """
    xp = array_namespace(X, Y)
    spectrum = decompose(X[train], alphas, centred=fit_intercept)
    readout = spectrum.basis(X[held_out])
    spectrum = replace(spectrum, dtype=spectrum.precision_for(readout, alphas, spectrum.dtype))
    y_train = Y[train]
    y_mean = column_mean(y_train, fit_intercept)
    return PreparedFold(
        spectrum=spectrum,
        projected=spectrum.project(deviations(y_train, y_mean, spectrum.dtype)),
        basis=xp.astype(readout, spectrum.dtype, copy=False),
        truth=deviations(Y[held_out], y_mean, spectrum.dtype),
    )


def _shrinkage(spectrum: Spectrum, alpha: float, like: Array) -> Array:
    """Return 1 / (values + alpha) as a column of the dtype of `like`."""
    xp = array_namespace(like)
    return xp.astype(1 / (spectrum.values + alpha), like.dtype)[:, None]


class LeadingDirections:
    r"""The leading directions over targets for every penalty, from products formed once.

    With :math:`S = (\Lambda + \alpha)^{-1/2} C M`, C the projected targets, they are the right
    singular vectors of S. On the dual side, where C lacks the singular values of X, S is
    :math:`\Lambda^{1/2} (\Lambda + \alpha)^{-1/2} C M`. A penalty scales the rows of CM, and the
    rows and columns of CMM'C', which is what is decomposed where targets are many.

    Parameters
    ----------
    spectrum : Spectrum
        Of the samples.
    projected : array (rank of X, n_targets)
        C.
    metric : TargetMetric
        The metric M.
    """

    def __init__(self, spectrum: Spectrum, projected: Array, metric: TargetMetric) -> None:
        metric = metric.astype(projected.dtype)
        self.spectrum, self.projected, self.metric = spectrum, projected, metric
        self.weighted = metric.apply(projected)
        n_rows, n_targets = self.weighted.shape
        many = n_targets >= (n_rows if n_rows <= EXACT_SIZE else MANY * n_rows)
        self.gram = sample_products(self.weighted) if many else None
        self._starts: dict[int, Array] = {}

    def factors(self, alpha: float, rank: int) -> tuple[Array, Array]:
        r"""Return :math:`C M V_k`, (rank of X, k), and :math:`V_k' M^{-1}`, (k, n_targets)."""
        xp = array_namespace(self.projected)
        values, dtype = self.spectrum.values, self.projected.dtype
        gains = 1 if self.spectrum.primal else values
        root = (gains / (values + alpha)) ** 0.5
        if self.gram is None:
            scaled = self.weighted * xp.astype(root, dtype)[:, None]
            directions = leading_right_vectors(scaled, rank)[0]
            return xp.matmul(self.weighted, directions), self.metric.undo(directions.T)
        scaled = self.gram * root[:, None] * root
        start = self._start(rank) * root[:, None]
        found = leading_combinations(scaled, start, rank) * root[:, None]
        latent = xp.astype(xp.matmul(self.gram, found), dtype)
        return latent, xp.matmul(xp.astype(found, dtype).T, self.projected)

    def _start(self, rank: int) -> Array:
        """Return CM times what the search for directions starts from, formed once."""
        xp = array_namespace(self.projected)
        if rank not in self._starts:
            reached = xp.matmul(self.weighted, fixed_start(self.weighted, rank))
            self._starts[rank] = xp.astype(reached, xp.float64)
        return self._starts[rank]


def ridge_errors(folds: Sequence[PreparedFold], alphas: Sequence[float]) -> tuple[Array, Array]:
    """Sum squared held-out errors of plain ridge, (n_alphas, n_targets), and of the mean."""
    errors = total = None
    for fold in folds:
        search = fold_errors(
            fold.basis, fold.spectrum.values, alphas, fold.truth.dtype, triangular=False
        )
        held = held_targets(fold.truth, None)
        found = search.errors(fold.projected, held)
        errors = found if errors is None else errors + found
        total = held.total if total is None else total + held.total
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
        Candidate penalties, not negative.
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
        directions = LeadingDirections(fold.spectrum, fold.projected, metric)
        for number, alpha in enumerate(alphas):
            latent, back = directions.factors(alpha, max(ranks))
            latent = xp.matmul(fold.basis, latent * _shrinkage(fold.spectrum, alpha, latent))
            errors[number] += _nested_errors(latent, back, fold.truth, ranks)
    return errors


def _nested_errors(latent: Array, back: Array, truth: Array, ranks: Sequence[int]) -> Array:
    r"""Return squared errors of the leading dimensions' predictions, (n_ranks, n_targets).

    With latent = QR the error of k dimensions is that of
    :math:`Q_k' Y - R_k B_k`, which has k rows, and what Y has outside of :math:`Q_k`.

    Parameters
    ----------
    latent, back : arrays (n_held_out, rank), (rank, n_targets)
        Their product is predicted.
    truth : array (n_held_out, n_targets)
        Y.
    ranks : sequence of int
        How many dimensions.
    """
    xp = array_namespace(truth)
    basis, upper = xp.linalg.qr(latent)
    held = held_targets(truth, basis)
    inside = held.truth
    found = []
    for rank in ranks:
        rows = min(rank, inside.shape[0])
        residual = inside[:rows] - xp.matmul(upper[:rows, :rank], back[:rank])
        beyond = xp.sum(inside[rows:] ** 2, axis=0, dtype=xp.float64) + held.outside
        found.append(xp.sum(residual**2, axis=0, dtype=xp.float64) + beyond)
    return xp.stack(found)


def solve_reduced_rank(
    X: Array,
    Y: Array,
    alphas: Array,
    ranks: Array,
    metric: TargetMetric | None = None,
    *,
    fit_intercept: bool = True,
    spectrum: Spectrum | None = None,
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

    spectrum : Spectrum, optional
        Of the samples, where they were decomposed for these penalties before.

    Returns
    -------
    coef : array (n_targets, n_features)
    intercept : array (n_targets,)
    """
    xp = array_namespace(X, Y)
    y_mean = column_mean(Y, fit_intercept)
    metric = diagonal_metric(xp.ones_like(Y[0])) if metric is None else metric
    values = sorted({float(value) for value in alphas})
    if spectrum is None:
        spectrum = decompose(X, values, centred=fit_intercept)
    projected = spectrum.project(deviations(Y, y_mean, spectrum.dtype))
    directions = LeadingDirections(spectrum, projected, metric)
    readout = spectrum.readout
    coef = xp.empty((Y.shape[1], X.shape[1]), dtype=X.dtype, device=X.device)
    for alpha in values:
        here = alphas == alpha
        wanted = sorted({int(rank) for rank in ranks[here]})
        latent, back = directions.factors(alpha, wanted[-1])
        latent = xp.matmul(readout, latent * _shrinkage(spectrum, alpha, latent))
        for rank in wanted:
            chosen = here & (ranks == rank)
            solved = xp.matmul(latent[:, :rank], back[:rank][:, chosen]).T
            coef[chosen] = xp.astype(solved, X.dtype, copy=False)
    return coef, intercept_of(coef, spectrum.mean, y_mean)
