r"""The closed forms of alignment, on arrays.

A person's responses X are (sample, voxel), with far more voxels than samples, and a map from one
person's voxels to another's has a row and a column for each. Nothing here forms such a matrix: what
n samples can tell of a person lies in the n directions that they span,

.. math:: X - 1 m' = Z V', \qquad V'V = I,

with scores Z (sample, direction) and axes V (voxel, direction). Rotations are found among scores,
and a map between people is a product of thin factors.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.linear.spectrum import sample_products, weigh_samples

Real = NDArray[np.floating[Any]]
Float64 = NDArray[np.float64]
VOXELS_AT_ONCE = 1024
NEGLIGIBLE = 1e-6  # of the largest singular value: below it float32 data say nothing


@dataclass(frozen=True)
class Scores:
    """Responses as coordinates in the directions that their samples span.

    Attributes
    ----------
    mean : float64 array (n_voxels,)
    scores : float64 array (n_samples, n_directions)
        Z, the largest variance first.
    weights : float64 array (n_samples, n_directions)
        Of samples: the axes V are the centred responses, transposed, times these.
    """

    mean: Float64
    scores: Float64
    weights: Float64

    def axes(self, X: Real, turned: Float64 | None = None) -> Real:
        """Return V, or V times a matrix (n_directions, k), of the dtype of the responses X.

        With k no larger than the number of samples nothing larger than X is formed.
        """
        weights = self.weights if turned is None else self.weights @ turned
        return np.asarray(weigh_samples(X, self.mean, weights, X.dtype))


def column_means(X: Real) -> Float64:
    """Return the mean of each voxel in double precision, without a copy of X."""
    return np.asarray(X.mean(axis=0, dtype=np.float64))


def thin_scores(X: Real, rank: int | None = None) -> Scores:
    """Decompose responses on their smaller side, samples or voxels.

    Parameters
    ----------
    X : array (n_samples, n_voxels)
    rank : int, optional
        Keep this many leading directions at most. Those whose singular value is below a millionth
        of the largest are always left out.
    """
    mean = column_means(X)
    if X.shape[1] <= X.shape[0]:
        left, lengths, _ = np.linalg.svd(X - mean, full_matrices=False)
    else:
        squares, vectors = np.linalg.eigh(sample_products(X, mean=mean))  # (n, n)
        left, lengths = vectors[:, ::-1], np.sqrt(np.clip(squares[::-1], 0, None))
    n_kept = _n_kept(lengths, rank)
    left, lengths = left[:, :n_kept], lengths[:n_kept]
    return Scores(mean, left * lengths, left / lengths)


def _n_kept(lengths: Float64, rank: int | None) -> int:
    longest = lengths.max(initial=0.0)
    n_directions = int((lengths > NEGLIGIBLE * longest).sum())
    return n_directions if rank is None else min(rank, n_directions)


def quick_products(X: Real, mean: Float64) -> Float64:
    """Return (X - mean)(X - mean)', products of blocks in the dtype of X, their sum in double.

    For a few leading directions: in single precision those survive whose singular value is above a
    thousandth of the largest.
    """
    total = np.zeros((len(X), len(X)))
    for part in column_blocks(X):
        block = X[:, part] - mean[part].astype(X.dtype)
        total += block @ block.T
    return total


def quick_basis(X: Real, mean: Float64, weights: Float64) -> Real:
    """Return (X - mean)' weights with its columns made orthonormal, of the dtype of X."""
    W = np.empty((X.shape[1], weights.shape[1]), dtype=X.dtype)
    for part in column_blocks(X):
        W[part] = (X[:, part] - mean[part].astype(X.dtype)).T @ weights.astype(X.dtype)
    square = W.T.astype(np.float64) @ W  # (rank, rank), near the identity
    return np.asarray(W @ inverse_root(square).astype(X.dtype))


def column_blocks(X: Real) -> Iterator[slice]:
    """Cut voxels into blocks, so that nothing of the size of X is made."""
    for start in range(0, X.shape[1], VOXELS_AT_ONCE):
        yield slice(start, start + VOXELS_AT_ONCE)


def nearest_isometry(M: Float64) -> Float64:
    """Return the matrix with orthonormal rows or columns that is nearest to M, its polar factor."""
    left, _, right = np.linalg.svd(M, full_matrices=False)
    return np.asarray(left @ right)


def procrustes(X: Real, Y: Real) -> tuple[Real, Real]:
    r"""Return the rotation of X that comes nearest to Y, as two thin factors.

    .. math:: \min_R \lVert (X - \bar X) R - (Y - \bar Y) \rVert_F^2, \qquad R = A B'

    R is an isometry of the directions that X's samples span into those of Y's, and takes all
    others, of which nothing is known, to 0. Where voxels are as many in both and no more than
    samples, it is the orthogonal matrix of Schönemann (1966, Psychometrika 31:1).

    Parameters
    ----------
    X, Y : arrays (n_samples, n_voxels_x), (n_samples, n_voxels_y)
        Responses to the same stimuli in the same order.

    Returns
    -------
    A, B : arrays (n_voxels_x, rank), (n_voxels_y, rank)
        With orthonormal columns.
    """
    one, other = thin_scores(X), thin_scores(Y)
    left, _, right = np.linalg.svd(one.scores.T @ other.scores, full_matrices=False)  # (r_x, r_y)
    return one.axes(X, left), other.axes(Y, right.T)


@dataclass(frozen=True)
class Template:
    """Responses that several people share, and how each person's come to them.

    Attributes
    ----------
    shared : float64 array (sample, dimension)
        Uncorrelated columns, the largest variance first.
    maps : list of float64 array
        For each person: from scores to the shared dimensions (direction, dimension) in
        `rotate_together`, or weights of samples (sample, dimension) in `share_responses`.
    losses : list of float
        The squared distance after every iteration; it never rises.
    """

    shared: Float64
    maps: list[Float64]
    losses: list[float]


def rotate_together(
    scores: Sequence[Float64], *, n_iterations: int = 20, tolerance: float = 1e-4
) -> Template:
    r"""Rotate several people's scores onto their common mean: generalised Procrustes analysis.

    .. math:: \min_{R_s, T} \sum_s \lVert Z_s R_s - T \rVert_F^2, \qquad R_s R_s' = I

    by turns, T being the mean of what is rotated (Gower 1975, Psychometrika 40:33). The first T are
    the leading principal components of all people's scores side by side, so that neither a seed nor
    the order of people has a part in it.

    Parameters
    ----------
    scores : sequence of array (n_samples, n_directions of the person)
        Centred. T has as many dimensions as the largest of them.
    n_iterations : int, default=20
        At most.
    tolerance : float, default=1e-4
        Stop where the loss falls by less than this share of the people's total variance.
    """
    width = max(part.shape[1] for part in scores)
    template = leading_components(sum(part @ part.T for part in scores), width) / len(scores) ** 0.5
    total = float(sum((part**2).sum() for part in scores))
    losses: list[float] = []
    for _ in range(max(n_iterations, 1)):
        maps = [nearest_isometry(part.T @ template) for part in scores]
        rotated = [part @ map_ for part, map_ in zip(scores, maps, strict=True)]
        template = np.mean(rotated, axis=0)
        losses.append(total - len(scores) * float((template**2).sum()))
        if _settled(losses, total, tolerance):
            break
    return _in_order(template, maps, losses)


def share_responses(
    products: Sequence[Float64],
    rank: int,
    *,
    start: Float64 | None = None,
    n_iterations: int = 100,
    tolerance: float = 1e-6,
) -> Template:
    r"""Fit a shared response model, deterministic, from people's products of samples alone.

    .. math:: \min_{W_s, S} \sum_s \lVert X_s - S W_s' \rVert_F^2, \qquad W_s'W_s = I

    (Chen et al. 2015, NeurIPS 28). By turns: :math:`W_s = X_s'S (S'K_sS)^{-1/2}`, the polar factor
    of X'S, with :math:`K_s = X_sX_s'`, and S the mean of :math:`X_sW_s = K_s M_s`, where
    :math:`M_s = S (S'K_sS)^{-1/2}` weighs samples: voxels are gone through once, for K.

    Parameters
    ----------
    products : sequence of float64 array (n_samples, n_samples)
        Each person's K, of centred responses.
    rank : int
        Number of shared dimensions.
    start : array (n_samples, rank), optional
        The first S; by default the leading principal components of all people together.
    n_iterations : int, default=100
        At most.
    tolerance : float, default=1e-6
        As in `rotate_together`.
    """
    total = float(sum(np.trace(K) for K in products))
    shared = leading_components(sum(products), rank) if start is None else start
    losses: list[float] = []
    for _ in range(max(n_iterations, 1)):
        seen = [K @ shared for K in products]  # (n, rank)
        roots = [inverse_root(shared.T @ part) for part in seen]
        maps = [shared @ root for root in roots]
        shared = np.mean([p @ root for p, root in zip(seen, roots, strict=True)], axis=0)
        losses.append(total - len(products) * float((shared**2).sum()))
        if _settled(losses, total, tolerance):
            break
    return _in_order(shared, maps, losses)


def _settled(losses: Sequence[float], total: float, tolerance: float) -> bool:
    return len(losses) > 1 and losses[-2] - losses[-1] < tolerance * total


def leading_components(products: Any, rank: int) -> Float64:
    """Return the leading principal components of samples from their products, (n_samples, rank)."""
    from scipy.linalg import eigh

    n = len(products)
    values, vectors = eigh(products, subset_by_index=[max(n - rank, 0), n - 1])
    return np.asarray(vectors[:, ::-1] * np.sqrt(np.clip(values[::-1], 0, None)))


def inverse_root(square: Float64) -> Float64:
    """Return a symmetric matrix to the power of -1/2; directions without length stay out."""
    values, vectors = np.linalg.eigh(square)
    kept = values > NEGLIGIBLE**2 * values.max(initial=0.0)
    return np.asarray(vectors[:, kept] / np.sqrt(values[kept]) @ vectors[:, kept].T)


def _in_order(shared: Float64, maps: Sequence[Float64], losses: list[float]) -> Template:
    """Turn the shared space to its principal axes, each with its largest value positive."""
    _, axes = np.linalg.eigh(shared.T @ shared)
    axes = axes[:, ::-1]
    turned = shared @ axes
    peaks = turned[np.abs(turned).argmax(axis=0), np.arange(turned.shape[1])]
    axes = axes * np.where(peaks < 0, -1.0, 1.0)
    return Template(shared @ axes, [map_ @ axes for map_ in maps], losses)


@dataclass(frozen=True)
class Way:
    r"""A person's voxels to shared dimensions, and back.

    .. math:: z = (x - m) F + l, \qquad x = (z - l) B + m

    Attributes
    ----------
    mean : array (n_voxels,)
        m.
    forth : array (n_voxels, n_dimensions)
        F. An isometry where there is no other way back.
    back : array (n_dimensions, n_voxels) or None
        B; of an isometry F'.
    level : array (n_dimensions,) or None
        l; 0 where there is none.
    """

    mean: Real
    forth: Real
    back: Real | None = None
    level: Real | None = None


def isometry_onto(X: Real, shared: Float64) -> Way:
    r"""Fit a person's voxels to a shared space that is already there.

    .. math:: \min_{W, m} \lVert X - 1 m' - S W' \rVert_F^2, \qquad W'W = I

    Parameters
    ----------
    X : array (n_samples, n_voxels)
    shared : array (n_samples, rank)
        S for the same samples, more of them than the rank.

    Returns
    -------
    Way
        Its mean m is the person's response where S is 0, whatever the mean of S on these samples;
        W has orthonormal columns as far as the samples tell.
    """
    level = shared.mean(axis=0)
    scores = thin_scores(X)
    basis = scores.axes(X, nearest_isometry(scores.scores.T @ (shared - level)))
    return Way(scores.mean - basis @ level, basis)


def mean_of_others(shared: Float64, person: Float64, n_people: int) -> Float64:
    """Return the mean of all but one person, from the mean of all and that person's share of it."""
    return (n_people * shared - person) / (n_people - 1)


def readout_of_encoder(
    coef: Real, noise: Float64, precision: Float64, penalty: float = 1.0
) -> Float64:
    r"""Return the map from responses to the features that an encoder says they come from.

    Of :math:`y = W f + e`, e of variance D and f of variance :math:`P^{-1}` (both diagonal), the
    best guess of f is

    .. math:: \hat f = (W'D^{-1}W + \lambda P)^{-1} W'D^{-1} y,

    at λ = 1 the posterior mean, at λ = 0 the pseudo-inverse of W, voxels weighted by how well they
    are predicted.

    Parameters
    ----------
    coef : array (n_voxels, n_features)
        W.
    noise : array (n_voxels,)
        D, what is left of each voxel's variance in held-out samples.
    precision : array (n_features,)
        P.
    penalty : float, default=1.0
        λ.

    Returns
    -------
    array (n_voxels, n_features)
        Responses times this are features.
    """
    weighed = coef / noise[:, None]  # (v, f)
    inner = weighed.T @ coef + penalty * np.diag(precision)  # (f, f)
    return np.asarray(np.linalg.lstsq(inner, weighed.T, rcond=NEGLIGIBLE**2)[0].T)
