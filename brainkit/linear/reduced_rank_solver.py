r"""Reduced-rank ridge: many targets (voxels) that follow a few dimensions of the features.

.. math:: \min_{W,\, b} \lVert (Y - X W - b) M \rVert^2 + \alpha \lVert W M \rVert^2
          \quad \text{with rank}(W) \le k

with M a metric over targets (Mukherjee and Zhu, 2011, Statistical Analysis and Data Mining 4:612;
the metric as in Izenman, 1975, Journal of Multivariate Analysis 5:248). With the ridge solution
:math:`\hat W`, the solution is :math:`\hat W M V_k V_k' M^{-1}`, with :math:`V_k` the leading
eigenvectors of :math:`M' \hat W' (X'X + \alpha I) \hat W M`, found by a fixed and repeatable
iteration. What one voxel's noise does to its weights is thereby averaged over all voxels that share
its dimensions.

Repeats of a condition tell of the targets' noise, and a metric discounts it. The noise of voxels is
correlated: a few factors (arousal, movement, breathing) reach many of them. A model that shares
dimensions across voxels would take such factors for dimensions of the stimulus. In the metric

.. math:: M = D^{-1} (I + U (\mathrm{diag}(g) - I)\, U'), \quad g_i = \lambda_i^{-1/2}

with D the noise's standard deviations, and U, λ the leading eigenvectors and eigenvalues of its
correlations, the noise is white (multivariate noise normalisation: Walther et al., 2016,
NeuroImage 137:188, here with as many factors as exceed what independent noise would show).

The functions take NumPy arrays or torch tensors, like those of `brainkit.linear.ridge_solver`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from array_api_compat import array_namespace

from brainkit.arrays.seeds import rng
from brainkit.linear.cross_validation import fold_errors, held_targets
from brainkit.linear.ridge_solver import intercept_of
from brainkit.linear.spectrum import Spectrum, decompose, sample_products
from brainkit.linear.targets import column_mean, deviations

Array = Any  # a NumPy array or a torch tensor
EXACT_SIZE = 400  # on the smaller side; beyond it the vectors are found by iteration
ITERATIONS = 8
OVERSAMPLING = 20
LARGEST_RANK = 50
MANY = 2  # targets for each row of CM, from which on it pays to form CMM'C'


def leading_right_vectors(matrix: Array, rank: int) -> tuple[Array, Array]:
    """Return the leading right singular vectors and the squares of the singular values.

    From the smaller Gram matrix where one side is small, else by subspace iteration from a fixed
    start (Halko, Martinsson and Tropp, 2011, SIAM Review 53:217).

    Parameters
    ----------
    matrix : array (n_rows, n_columns)
    rank : int
        Number of vectors; fewer are returned where the matrix has fewer rows or columns.

    Returns
    -------
    vectors : array (n_columns, at most rank)
        Orthonormal vectors, of the matrix's dtype.
    values : float64 array (at most rank,)
        Largest first.
    """
    xp = array_namespace(matrix)
    n_rows, n_columns = matrix.shape
    if min(n_rows, n_columns) <= EXACT_SIZE:
        by_column = n_columns <= n_rows
        gram = xp.matmul(matrix.T, matrix) if by_column else xp.matmul(matrix, matrix.T)
        values, vectors = xp.linalg.eigh(xp.astype(gram, xp.float64))
        top = xp.astype(xp.flip(vectors, axis=1)[:, :rank], matrix.dtype)
        vectors_of_columns = top if by_column else orthonormal(xp.matmul(matrix.T, top))
        return vectors_of_columns, xp.flip(values, axis=0)[:rank]
    basis = fixed_start(matrix, rank)
    for _ in range(ITERATIONS):
        basis = orthonormal(xp.matmul(matrix.T, xp.matmul(matrix, basis)))
    reached = xp.matmul(matrix, basis)  # (n_rows, width)
    values, rotation = xp.linalg.eigh(xp.astype(xp.matmul(reached.T, reached), xp.float64))
    rotation = xp.astype(xp.flip(rotation, axis=1)[:, :rank], matrix.dtype)
    return xp.matmul(basis, rotation), xp.flip(values, axis=0)[:rank]


def fixed_start(matrix: Array, rank: int) -> Array:
    """Return what the iteration starts from, (n_columns, some more than rank)."""
    xp = array_namespace(matrix)
    n_rows, n_columns = matrix.shape
    width = min(rank + OVERSAMPLING, n_rows, n_columns)
    start = rng(0, "subspace iteration").standard_normal((n_columns, width))
    return xp.asarray(start, dtype=matrix.dtype, device=matrix.device)


def leading_combinations(gram: Array, start: Array, rank: int) -> Array:
    """Return how the rows of a matrix S add up to its leading right singular vectors.

    The same vectors as `leading_right_vectors` gives, by the same iteration, from SS' alone: where
    S has many columns, they are not gone through again and again.

    Parameters
    ----------
    gram : float64 array (n_rows, n_rows)
        SS'.
    start : float64 array (n_rows, width)
        S times `fixed_start`.
    rank : int
        Number of vectors.

    Returns
    -------
    float64 array (n_rows, at most rank)
        P: the vectors are S'P.
    """
    xp = array_namespace(gram)
    if gram.shape[0] <= EXACT_SIZE:
        lengths, vectors = xp.linalg.eigh(gram)
        return (xp.flip(vectors, axis=1) * _inverse_root(xp.flip(lengths, axis=0)))[:, :rank]
    reached = start
    for _ in range(ITERATIONS):
        combinations = reached
        reached = xp.matmul(gram, combinations)
        lengths, vectors = xp.linalg.eigh(xp.matmul(combinations.T, reached))
        lengths, vectors = xp.flip(lengths, axis=0), xp.flip(vectors, axis=1)
        root = vectors * _inverse_root(lengths)
        combinations, reached = xp.matmul(combinations, root), xp.matmul(reached, root)
    _, rotation = xp.linalg.eigh(xp.matmul(reached.T, reached))
    return xp.matmul(combinations, xp.flip(rotation, axis=1)[:, :rank])


def orthonormal(values: Array) -> Array:
    """Return orthonormal columns of the same span, by the small Gram matrix in double precision.

    Much faster than a QR decomposition of a tall matrix. The longest direction comes first, so that
    orthogonal columns ordered by length stay in place; directions without length become 0.
    """
    xp = array_namespace(values)
    wide = xp.astype(values, xp.float64)
    lengths, vectors = xp.linalg.eigh(xp.matmul(wide.T, wide))
    lengths, vectors = xp.flip(lengths, axis=0), xp.flip(vectors, axis=1)
    return xp.astype(xp.matmul(wide, vectors * _inverse_root(lengths)), values.dtype)


def _inverse_root(lengths: Array) -> Array:
    """Return lengths to the power of -1/2, and 0 for what has no length."""
    xp = array_namespace(lengths)
    if not lengths.shape[0]:
        return lengths
    kept = lengths > xp.max(lengths) * 1e-14
    return xp.where(kept, xp.where(kept, lengths, xp.ones_like(lengths)) ** -0.5, 0.0)


@dataclass(frozen=True)
class TargetMetric:
    """A positive matrix M over targets, kept as a diagonal and a few directions.

    Attributes
    ----------
    scale : array (n_targets,)
        Diagonal of the outer part, positive.
    directions : array (n_targets, n_factors)
        Orthonormal directions.
    gains : array (n_factors,)
        What M multiplies the directions by, positive.
    """

    scale: Array
    directions: Array
    gains: Array

    def astype(self, dtype: Any) -> "TargetMetric":
        """Return the metric in another precision."""
        xp = array_namespace(self.scale)
        parts = (self.scale, self.directions, self.gains)
        return TargetMetric(*(xp.astype(part, dtype, copy=False) for part in parts))

    def apply(self, values: Array) -> Array:
        """Return ``values @ M``, for values (rows, n_targets)."""
        scaled = values * self.scale
        return scaled + (scaled @ self.directions) * (self.gains - 1) @ self.directions.T

    def undo(self, values: Array) -> Array:
        """Return ``values @ M⁻¹``, for values (rows, n_targets)."""
        freed = values + (values @ self.directions) * (1 / self.gains - 1) @ self.directions.T
        return freed / self.scale


def diagonal_metric(scale: Array) -> TargetMetric:
    """Return the metric of target weights alone."""
    xp = array_namespace(scale)
    empty = xp.zeros((scale.shape[0], 0), dtype=scale.dtype, device=scale.device)
    return TargetMetric(scale, empty, empty[0])


def noise_metric(residuals: Array, n_free: int) -> TargetMetric:
    r"""Return the metric in which the noise of repeats is white.

    Parameters
    ----------
    residuals : array (n_samples, n_targets)
        Deviations of single samples from the mean of their group.
    n_free : int
        Degrees of freedom: samples less groups.

    Notes
    -----
    A factor counts if its eigenvalue exceeds :math:`(1 + \sqrt{v / n})^2`, the largest of the
    correlations of n samples of v independent targets (Marchenko and Pastur, 1967).
    """
    xp = array_namespace(residuals)
    n_targets = residuals.shape[1]
    variance = xp.sum(residuals**2, axis=0, dtype=xp.float64) / n_free
    variance = xp.where(variance > 0, variance, xp.ones_like(variance))
    scale = xp.astype(variance**-0.5, residuals.dtype)
    directions, values = leading_right_vectors(residuals * scale, LARGEST_RANK)
    values = values / n_free
    kept = values > (1 + (n_targets / n_free) ** 0.5) ** 2
    gains = xp.astype(values[kept] ** -0.5, residuals.dtype)
    return TargetMetric(scale, directions[:, kept], gains)


def average_groups(X: Array, Y: Array, codes: Array) -> tuple[Array, Array, Array]:
    """Average the samples of each group, and return what is left of Y.

    Parameters
    ----------
    X, Y : arrays (n_samples, n_features), (n_samples, n_targets)
    codes : array of int (n_samples,)
        Group of each sample, 0 … n_groups − 1.

    Returns
    -------
    X_mean, Y_mean : arrays (n_groups, ...)
    residuals : array (n_samples, n_targets)
        Y less the mean of its group.
    """
    xp = array_namespace(X, Y)
    order = xp.argsort(codes, stable=True)
    counts = xp.unique_counts(codes).counts
    starts = xp.cumulative_sum(counts) - counts

    def means(values: Array) -> Array:
        shape = (counts.shape[0], values.shape[1])
        sums = xp.zeros(shape, dtype=xp.float64, device=values.device)
        for repeat in range(int(xp.max(counts))):
            groups = xp.nonzero(counts > repeat)[0]
            sums[groups] += xp.astype(values[order[starts[groups] + repeat]], xp.float64)
        return xp.astype(sums / counts[:, None], values.dtype)

    y_mean = means(Y)
    return means(X), y_mean, Y - y_mean[codes]


@dataclass(frozen=True)
class PreparedFold:
    """One fold's training part decomposed, and its held-out part in the same coordinates.

    Attributes
    ----------
    spectrum : Spectrum
        Decomposition of the training samples.
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
        Decomposition of the samples.
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
        combinations = leading_combinations(scaled, start, rank) * root[:, None]
        latent = xp.astype(xp.matmul(self.gram, combinations), dtype)
        return latent, xp.matmul(xp.astype(combinations, dtype).T, self.projected)

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
        fold_error = search.errors(fold.projected, held)
        errors = fold_error if errors is None else errors + fold_error
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
            shrunk = latent * _shrinkage(fold.spectrum, alpha, latent)
            latent = xp.matmul(fold.basis, shrunk)  # (n_held_out, rank)
            errors[number] += _nested_errors(latent, back, fold.truth, ranks)
    return errors


def _nested_errors(latent: Array, back: Array, truth: Array, ranks: Sequence[int]) -> Array:
    r"""Return squared errors of the leading dimensions' predictions, (n_ranks, n_targets).

    With latent = QR the error of k dimensions is that of
    :math:`Q_k' Y - R_k B_k`, which has k rows, and what Y has outside of :math:`Q_k`.

    Parameters
    ----------
    latent, back : arrays (n_held_out, rank), (rank, n_targets)
        Two factors, whose product is predicted.
    truth : array (n_held_out, n_targets)
        Y.
    ranks : sequence of int
        Numbers of leading dimensions to predict from.
    """
    xp = array_namespace(truth)
    basis, upper = xp.linalg.qr(latent)
    held = held_targets(truth, basis)
    inside = held.truth
    errors = []
    for rank in ranks:
        rows = min(rank, inside.shape[0])
        residual = inside[:rows] - xp.matmul(upper[:rows, :rank], back[:rank])
        beyond = xp.sum(inside[rows:] ** 2, axis=0, dtype=xp.float64) + held.outside
        errors.append(xp.sum(residual**2, axis=0, dtype=xp.float64) + beyond)
    return xp.stack(errors)


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
        Decomposition of the samples, where they were decomposed for these penalties before.

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
        shrunk = latent * _shrinkage(spectrum, alpha, latent)
        latent = xp.matmul(readout, shrunk)  # (n_features, rank)
        for rank in wanted:
            chosen = here & (ranks == rank)
            solved = xp.matmul(latent[:, :rank], back[:rank][:, chosen]).T  # (n_chosen, n_features)
            coef[chosen] = xp.astype(solved, X.dtype, copy=False)
    return coef, intercept_of(coef, spectrum.mean, y_mean)
