"""One decomposition of the samples that serves every ridge penalty.

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

Array = Any  # a NumPy array or a torch tensor
COLUMNS_AT_ONCE = 4096


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
    if primal:
        wide = xp.astype(X, xp.float64)
        inner = xp.matmul(wide.T, wide)
    else:
        inner = sample_products(X)
    values, vectors = eigen(inner)
    return Spectrum(values, xp.astype(vectors, X.dtype), X, primal)


def sample_products(X: Array) -> Array:
    """Return XX' (n_samples, n_samples) in double precision, without a copy of X as a whole."""
    xp = array_namespace(X)
    total = xp.zeros((X.shape[0], X.shape[0]), dtype=xp.float64, device=X.device)
    for start in range(0, X.shape[1], COLUMNS_AT_ONCE):
        wide = xp.astype(X[:, start : start + COLUMNS_AT_ONCE], xp.float64)
        total += xp.matmul(wide, wide.T)
    return total


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
    floor = xp.max(values) * xp.finfo(values.dtype).eps * values.shape[0]
    kept = total > floor
    factor = xp.where(kept, 1 / xp.where(kept, total, xp.ones_like(total)), xp.zeros_like(total))
    return projected * xp.astype(factor, projected.dtype)
