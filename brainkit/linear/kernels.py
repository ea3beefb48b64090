r"""Kernels: inner products of samples in a feature space that need not be written out.

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

The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from dataclasses import dataclass
from math import isfinite
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import InputError, unknown_name
from brainkit.linear.targets import column_mean

Array = Any  # a NumPy array or a torch tensor
KERNELS = ("linear", "polynomial", "poly", "rbf", "cosine", "sigmoid", "precomputed")
ROWS_AT_ONCE = 1024


@dataclass(frozen=True)
class Kernel:
    """A kernel and its constants; those that it does not have are ignored.

    Parameters
    ----------
    name : str, default="linear"
        See the table of this module.
    gamma : float, optional
        Scale of rbf, polynomial and sigmoid, positive; 1 / n_features where not given.
    degree : int, default=3
        Of polynomial, at least 1.
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
        found = (diagonal - (total / n if centred else 0.0)) / (n * width)
        return found if found > 0 and isfinite(found) else 1.0

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
