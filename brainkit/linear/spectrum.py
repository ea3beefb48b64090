r"""One decomposition of the samples that serves every ridge penalty, and how far to trust it.

With :math:`X = U S V'`, centred, :math:`\Lambda = S^2`, the coefficients for targets Y are

.. math:: V (\Lambda + \alpha)^{-1} (XV)' Y = (X'U) (\Lambda + \alpha)^{-1} U' Y,

the first where there are no more features than samples (*primal*, from X'X), the second elsewhere
(*dual*, from XX'). Every solver and every kind of cross-validation goes through here, so that what
guards one guards all:

- Means are taken off in double precision (`brainkit.linear.targets.deviations`); in the dual form
  the direction of the mean itself is left out of the decomposition, not merely made small.
- Inner products and their eigenvalues are in double precision, which knows an eigenvalue to about
  2e-16 of the largest one. Where a penalty does not outweigh that by far, the singular values of X
  take their place, which are known to the square root of it (`is_ill`).
- Directions without variance are dropped (`clip`). Divided by a small penalty, or by none, what
  rounding leaves of them would be noise.
- Products with targets run in the samples' own precision where that is safe (`precision`). What a
  prediction of samples like those of training loses is the rounding times the root of the largest
  eigenvalue over what the smallest one and the smallest penalty add up to. Held-out samples may
  reach further into a direction of little variance, as they do where there are about as many
  features as training samples; what that costs is measured (`blur`). In the dual form X'U is formed
  in double precision first; in single precision the loss would be the ratio itself, not its root.

*Fewer products than penalties* (`stretches`). In the eigenbasis of X'X the solution is :math:`b_i /
(\lambda_i + \alpha)`. Over a short stretch of the spectrum these ratios hardly differ between
penalties but for a factor: as functions of :math:`\lambda` they span a space of few dimensions,

.. math:: \frac{1}{\lambda_i + \alpha} = \sum_r u_r(\lambda_i)\, t_r(\alpha),

to working precision. Ten penalties over four decades need three or four functions where the
eigenvalues lie within a factor of four, and five where they span a decade. So the spectrum is cut
into stretches; within each the costly products are made for the functions u, and the predictions
for all penalties are mixed from them. In double precision the tolerance leaves little to gain, and
where it leaves nothing, the ratios themselves are the functions.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from brainkit.linear.targets import column_mean

Array = Any  # a NumPy array or a torch tensor
Float = NDArray[np.float64]
COLUMNS_AT_ONCE = 4096
LOSSY = 3e5  # largest over smallest penalised eigenvalue beyond which single precision is too poor
ILL = {True: 1e8, False: 1e10}  # the same for eigenvalues of products, of double precision or not
BLURRED = 500.0  # times its precision that a prediction may lose
DUAL_LOSSY = 1e3  # beyond which weights of samples may not be rounded to single precision
CUTS = (1, 2, 3, 4, 6, 8)  # numbers of stretches that are tried
TOLERANCE = 64.0  # in units of the precision; the products themselves err by as much
MIXING_COST = 12  # of one more function, in eigenvalues whose product it costs
IN_RANGE = (1e-30, 1e30)  # largest eigenvalues whose reciprocals single precision can hold


@dataclass(frozen=True)
class Spectrum:
    """One decomposition of centred samples that serves every penalty.

    For targets Y, centred: ``coef = readout @ (project(Y) / (values + α))``.

    Attributes
    ----------
    values : float64 array (rank,)
        Eigenvalues of X'X or XX', ascending, above 0.
    vectors : float64 array (n_features, rank) or (n_samples, rank)
        V (primal) or U (dual).
    samples : array (n_samples, n_features)
        X as it was given, not centred.
    mean : float64 array (n_features,)
        What is to be taken off it.
    primal : bool
        Whether the feature side was decomposed.
    dtype : dtype
        Dtype that targets are to be multiplied in, see `precision`.
    other : float64 array, optional
        XV (primal) or X'U (dual), where they were found together with the vectors.
    """

    values: Array
    vectors: Array
    samples: Array = field(repr=False)
    mean: Array
    primal: bool
    dtype: Any
    other: Array | None = field(default=None, repr=False)

    @property
    def wide_towards(self) -> Array:
        """XV (primal) or U (dual), (n_samples, rank): from targets to the eigenbasis, float64."""
        if not self.primal:
            return self.vectors
        return self.basis(self.samples) if self.other is None else self.other

    @cached_property
    def towards(self) -> Array:
        """The same, in the dtype that targets are to be multiplied in."""
        xp = array_namespace(self.vectors)
        return xp.astype(self.wide_towards, self.dtype, copy=False)

    @cached_property
    def readout(self) -> Array:
        """V (primal) or X'U (dual), (n_features, rank): from the eigenbasis to coefficients."""
        xp = array_namespace(self.vectors)
        if self.primal:
            return xp.astype(self.vectors, self.dtype, copy=False)
        if self.other is not None:
            return xp.astype(self.other, self.dtype, copy=False)
        return weigh_samples(self.samples, self.mean, self.vectors, self.dtype)

    @property
    def left(self) -> Array:
        """U, (n_samples, rank), in double precision."""
        if not self.primal:
            return self.vectors
        return self.wide_towards / array_namespace(self.vectors).sqrt(self.values)

    def precision_for(self, readout: Array, alphas: Sequence[float], dtype: Any) -> Any:
        """Return the dtype that errors of held-out samples may be found in, see `blur`."""
        xp = array_namespace(self.vectors)
        lengths = xp.sqrt(self.values) if self.primal else 1.0
        blurred = blur(readout, self.values, alphas, lengths, self.samples.shape[0])
        return precision(self.values, alphas, dtype, blurred=blurred)

    def project(self, Y: Array) -> Array:
        """Return V'X'Y (primal) or U'Y (dual), (rank, n_targets), of centred targets."""
        xp = array_namespace(Y)
        return xp.matmul(self.towards.T, xp.astype(Y, self.dtype, copy=False))

    def basis(self, X: Array, crossed: Array | None = None) -> Array:
        """Return other samples (n, n_features) in the eigenbasis, (n, rank), double precision.

        `crossed` are their products with these samples, centred by these samples' mean, where they
        are known.
        """
        xp = array_namespace(X)
        if not self.primal and self.other is None:
            if crossed is None:
                crossed = sample_products(X, self.samples, self.mean)
            return xp.matmul(crossed, self.vectors)
        columns = self.vectors if self.primal else self.other
        return xp.matmul(xp.astype(X, xp.float64) - self.mean, columns)

    def coef(self, projected: Array, alphas: Array | float) -> Array:
        """Return coefficients (n_features, n_targets) from projected targets."""
        xp = array_namespace(projected)
        return xp.matmul(self.readout, shrink(self.values, projected, alphas))


def is_primal(n_samples: int, n_features: int) -> bool:
    """Return whether the feature-side problem is the smaller one."""
    return n_features <= n_samples


def decompose(
    X: Array,
    alphas: Sequence[float],
    *,
    centred: bool,
    gram: Array | None = None,
    singular: bool = False,
) -> Spectrum:
    """Decompose samples for penalties to come.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Samples as they are given.
    alphas : sequence of float
        All penalties that will be used, not negative.
    centred : bool
        Take off the samples' mean.
    gram : float64 array, optional
        X'X of centred samples where there are no more features than samples; else XX', centred by
        these samples' mean or by any other. What is known need not be formed.
    singular : bool, default=False
        Take singular values of X whatever the penalties are.
    """
    xp = array_namespace(X)
    n_samples, n_features = X.shape
    primal = is_primal(n_samples, n_features)
    mean = column_mean(X, centred)
    other = None
    if not singular:
        if gram is None:
            gram = sample_products(X, X, mean) if not primal else feature_products(X, mean)
        values, vectors = eigen(gram) if primal else eigen_of_kernel(gram, centred=centred)
        # Before anything is dropped: of what is below rounding nobody knows what it is.
        singular = is_ill(values, alphas, X.dtype)
        values, vectors = clip(values, vectors, n_samples, n_features)
    if singular:
        left, lengths, right = singular_values(xp.astype(X, xp.float64) - mean, centred=centred)
        values = lengths**2
        vectors, other = (right, left * lengths) if primal else (left, right * lengths)
    dtype = precision(values, alphas, X.dtype)
    return Spectrum(values, vectors, X, mean, primal, dtype, other)


def feature_products(X: Array, mean: Array) -> Array:
    """Return (X - mean)'(X - mean), (n_features, n_features), in double precision."""
    xp = array_namespace(X)
    wide = xp.astype(X, xp.float64) - mean
    return xp.matmul(wide.T, wide)


def singular_values(X: Array, *, centred: bool) -> tuple[Array, Array, Array]:
    """Return U (n, rank), s (rank,), ascending, and V (m, rank) of X (n, m) in double precision.

    Where X is centred, of its contrasts (`eigen_of_kernel`): every column of U sums to 0, whatever
    rounding leaves in a direction without variance.
    """
    xp = array_namespace(X)
    if centred:
        axis = reflection(X)
        contrasts = X - axis[:, None] * xp.matmul(axis, X)
        left, lengths, right = xp.linalg.svd(contrasts[1:], full_matrices=False)
        left = xp.concat([xp.zeros_like(left[:1]), left], axis=0)
        left = left - axis[:, None] * xp.matmul(axis, left)
    else:
        left, lengths, right = xp.linalg.svd(X, full_matrices=False)
    if not lengths.shape[0]:
        return left, lengths, right.T
    left, lengths = xp.flip(left, axis=1), xp.flip(lengths, axis=0)
    right = xp.flip(right, axis=0).T
    floor = float(lengths[-1]) * float(xp.finfo(xp.float64).eps) * max(X.shape)
    start = int(xp.sum(xp.astype(lengths <= floor, xp.int64)))
    return left[:, start:], lengths[start:], right[:, start:]


def sample_products(X: Array, Z: Array | None = None, mean: Array | None = None) -> Array:
    """Return (X - mean)(Z - mean)' in double precision, without copies of X and Z as a whole.

    Parameters
    ----------
    X, Z : arrays (n, n_features), (m, n_features)
        Z is X where it is not given.
    mean : float64 array (n_features,), optional
        0 where it is not given.

    Returns
    -------
    float64 array (n, m)
    """
    xp = array_namespace(X)
    same = Z is None or Z is X
    n_other = X.shape[0] if Z is None else Z.shape[0]
    total = xp.zeros((X.shape[0], n_other), dtype=xp.float64, device=X.device)
    for start in range(0, X.shape[1], COLUMNS_AT_ONCE):
        part = slice(start, start + COLUMNS_AT_ONCE)
        wide = xp.astype(X[:, part], xp.float64)
        other = wide if Z is None or same else xp.astype(Z[:, part], xp.float64)
        if mean is not None:
            wide = wide - mean[part]
            other = wide if same else other - mean[part]
        total += xp.matmul(wide, other.T)
    return total


def weigh_samples(X: Array, mean: Array, weights: Array, dtype: Any) -> Array:
    """Return (X - mean)' weights, (n_features, n), formed in double precision a block at a time."""
    xp = array_namespace(X)
    weighed = xp.empty((X.shape[1], weights.shape[1]), dtype=dtype, device=X.device)
    for start in range(0, X.shape[1], COLUMNS_AT_ONCE):
        part = slice(start, start + COLUMNS_AT_ONCE)
        wide = xp.astype(X[:, part], xp.float64) - mean[part]
        weighed[part] = xp.astype(xp.matmul(wide.T, weights), dtype, copy=False)
    return weighed


def eigen(inner: Array) -> tuple[Array, Array]:
    """Decompose a matrix of inner products; eigenvalues below 0, which rounding makes, become 0.

    Returns
    -------
    values : array (size,)
    vectors : array (size, size)
    """
    xp = array_namespace(inner)
    values, vectors = xp.linalg.eigh(inner)
    return xp.where(values > 0, values, xp.zeros_like(values)), vectors


def eigen_of_kernel(K: Array, *, centred: bool, positive: bool = True) -> tuple[Array, Array]:
    r"""Decompose a kernel of samples, centred in its feature space.

    A reflection takes the direction of the mean, :math:`\mathbf 1 / \sqrt n`, to the first axis,
    whose row and column are left out: what is decomposed is the kernel of all contrasts between
    samples, whatever mean it was centred by, and every eigenvector sums to 0.

    Parameters
    ----------
    K : array (n, n)
    centred : bool
    positive : bool, default=True
        Turn eigenvalues below 0 into 0.

    Returns
    -------
    values : array (n - 1,), or (n,) where it is not to be centred
    vectors : array (n, n - 1) or (n, n)
    """
    xp = array_namespace(K)
    if not centred:
        values, vectors = xp.linalg.eigh(K)
    else:
        axis = reflection(K)
        # HKH = K - a b' - b a', a being the reflection's axis with a length of √2.
        product = xp.matmul(K, axis)
        moved = product - axis * (0.5 * xp.sum(axis * product))
        inner = K - axis[:, None] * moved - moved[:, None] * axis
        values, vectors = xp.linalg.eigh(inner[1:, 1:])
        vectors = xp.concat([xp.zeros_like(vectors[:1]), vectors], axis=0)
        vectors = vectors - axis[:, None] * xp.matmul(axis, vectors)
    if positive:
        values = xp.where(values > 0, values, xp.zeros_like(values))
    return values, vectors


def reflection(like: Array) -> Array:
    r"""Return the axis a, of length √2, of the reflection I - aa' that takes 1/√n to -e₁."""
    xp = array_namespace(like)
    n = like.shape[0]
    axis = xp.full(n, n**-0.5, dtype=like.dtype, device=like.device)
    axis[0] += 1
    return axis / (1 + n**-0.5) ** 0.5


def clip(values: Array, vectors: Array, *sizes: int, largest: float = 0.0) -> tuple[Array, Array]:
    """Drop directions whose eigenvalues are rounding errors of the largest.

    Parameters
    ----------
    values, vectors : arrays (rank,), (size, rank)
        Eigenvalues, ascending, and their eigenvectors.
    *sizes : int
        Numbers of samples and features.
    largest : float, optional
        What the matrix was the difference of has this eigenvalue.
    """
    xp = array_namespace(values)
    if not values.shape[0]:
        return values, vectors
    floor = max(float(values[-1]), largest) * float(xp.finfo(values.dtype).eps) * max(sizes)
    start = int(xp.sum(xp.astype(values <= floor, xp.int64)))
    return (values[start:], vectors[:, start:]) if start else (values, vectors)


def spread(values: Array, alphas: Sequence[float], largest: float = 0.0) -> float:
    """Return the largest eigenvalue over the smallest one plus the smallest penalty.

    `largest` is that of what the matrix was the difference of, where it was formed so.
    """
    if not values.shape[0]:
        return 1.0
    top = max(float(values[-1]), largest)
    low = min(float(alpha) for alpha in alphas) + max(float(values[0]), 0.0)
    return top / low if low > 0 else float("inf")


def blur(
    readout: Array, values: Array, alphas: Sequence[float], lengths: Array | float, n_train: int
) -> float:
    r"""Return how many times their precision predictions of held-out samples lose.

    Targets in the eigenbasis, b, are off by their precision times `lengths`; divided by
    :math:`\lambda + \alpha` and read out, so are predictions.

    Parameters
    ----------
    readout : array (n_held_out, rank)
        Held-out samples in the eigenbasis.
    values : float64 array (rank,)
        Eigenvalues.
    alphas : sequence of float
        All penalties.
    lengths : float or array (rank,)
        Lengths of what targets are multiplied with: 1 for U, the roots of the eigenvalues for XV,
        and the root of the largest one for V'X'Y.
    n_train : int
        Number of training samples: lengths of targets are compared with those of held-out ones.
    """
    xp = array_namespace(readout)
    if not values.shape[0]:
        return 0.0
    reach = xp.sqrt(xp.sum(readout**2, axis=0, dtype=xp.float64))
    lost = reach * lengths / (values + min(float(alpha) for alpha in alphas))
    share = float(n_train) / max(int(readout.shape[0]), 1)
    return float(xp.max(lost)) * float(share**0.5)


def precision(
    values: Array,
    alphas: Sequence[float],
    dtype: Any,
    largest: float = 0.0,
    blurred: float = 0.0,
) -> Any:
    """Return the dtype that targets may be multiplied in: that of the samples, or double.

    Parameters
    ----------
    values : float64 array (rank,)
        Eigenvalues, ascending, those of no variance dropped.
    alphas : sequence of float
        All penalties.
    dtype : dtype
        Dtype of the samples.
    largest : float, optional
        See `spread`.
    blurred : float, optional
        See `blur`.
    """
    xp = array_namespace(values)
    if not values.shape[0]:
        return dtype
    out_of_range = not IN_RANGE[0] < float(values[-1]) < IN_RANGE[1]
    if out_of_range or blurred > BLURRED or spread(values, alphas, largest) > LOSSY:
        return xp.float64
    return dtype


def is_ill(values: Array, alphas: Sequence[float], dtype: Any, largest: float = 0.0) -> bool:
    """Tell whether the rounding of inner products shows in solutions for samples of a dtype."""
    xp = array_namespace(values)
    return spread(values, alphas, largest) > ILL[dtype == xp.float64]


def shrink(values: Array, projected: Array, alpha: Array | float) -> Array:
    """Divide by ``values + alpha``; directions without variance get nothing when alpha is 0.

    What counts as no variance is measured in double precision, in which the eigenvalues are: by
    single precision's measure a small alpha would lose directions that it is meant to keep.

    Parameters
    ----------
    values : float64 array (rank,)
        Eigenvalues.
    projected : array (rank, n_targets)
    alpha : float or float64 array (n_targets,)
    """
    xp = array_namespace(projected)
    total = values[:, None] + alpha  # (rank, 1) or (rank, n_targets)
    kept = total > 0
    factor = xp.where(kept, 1 / xp.where(kept, total, xp.ones_like(total)), xp.zeros_like(total))
    return projected * xp.astype(factor, projected.dtype)


@dataclass(frozen=True)
class Stretch:
    """Neighbouring eigenvalues whose ratios are combinations of a few functions.

    Attributes
    ----------
    start, stop : int
        Where the stretch lies in the ascending order of the eigenvalues.
    functions : float64 array (stop - start, n_functions)
        u.
    mixing : float64 array (n_alphas, n_functions)
        t.
    """

    start: int
    stop: int
    functions: Float
    mixing: Float


def stretches(
    values: Float, alphas: Sequence[float], dtype: Any, slack: float = 1.0
) -> tuple[Stretch, ...]:
    """Cut a spectrum into the stretches that cost least.

    Parameters
    ----------
    values : float64 array (rank,)
        Eigenvalues, ascending, not negative.
    alphas : sequence of float
        Penalties, positive.
    dtype : dtype
        Dtype of the products; its precision says how exact the combinations are.
    slack : float, default=1.0
        Factor by which they may be less exact.
    """
    penalties = np.asarray(alphas, dtype=np.float64)
    tolerance = slack * TOLERANCE * float(np.finfo(dtype).eps)
    low = max(float(values[0]), float(values[-1]) * 1e-12, float(penalties.min()) * 1e-3)
    best: tuple[Stretch, ...] = ()
    for count in CUTS:
        edges = np.geomspace(low, max(float(values[-1]), low) * 1.01, count + 1)[1:-1]
        bounds = np.unique([0, *np.searchsorted(values, edges), len(values)])
        cut = tuple(
            _stretch(values, int(start), int(stop), penalties, tolerance)
            for start, stop in itertools.pairwise(bounds)
        )
        if not best or _cost(cut) < _cost(best):
            best = cut
    return best


def _cost(cut: Sequence[Stretch]) -> int:
    return sum(s.functions.shape[1] * (s.stop - s.start + MIXING_COST) for s in cut)


def _stretch(values: Float, start: int, stop: int, alphas: Float, tolerance: float) -> Stretch:
    """Find as few functions as give every ratio of a stretch to a relative tolerance."""
    ratios = 1 / (values[start:stop, None] + alphas)  # (stretch, n_alphas)
    # Balanced, so that what the singular vectors leave out is small for every eigenvalue.
    rows = ratios.max(axis=1, keepdims=True)
    columns = (ratios / rows).max(axis=0)
    left, strength, right = np.linalg.svd(ratios / rows / columns, full_matrices=False)
    for rank in range(1, min(len(alphas), stop - start)):
        functions = rows * left[:, :rank]
        mixing = (strength[:rank, None] * right[:rank] * columns).T
        if np.abs(functions @ mixing.T / ratios - 1).max() <= tolerance:
            return Stretch(start, stop, functions, mixing)
    if len(alphas) <= stop - start:
        return Stretch(start, stop, ratios, np.eye(len(alphas)))
    return Stretch(start, stop, np.eye(stop - start), ratios.T)
