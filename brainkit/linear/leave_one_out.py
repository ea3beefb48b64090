r"""Leave-one-out and generalised cross-validation of ridge, from one decomposition of the samples.

With :math:`X = U S V'`, centred, C = U'Y, the shrinkage :math:`f_i = s_i^2 / (s_i^2 + \alpha)` and
the leverage :math:`h_n = 1/N + \sum_i U_{ni}^2 f_i` (1/N only with an intercept), the residual of a
sample that was left out is

.. math:: \frac{y_n - \bar y - \sum_i U_{ni} f_i C_i}{1 - h_n}

(Allen, 1974, Technometrics 16:125). Generalised cross-validation (Golub, Heath and Wahba, 1979,
Technometrics 21:215) puts the mean leverage in place of each sample's own; its residual sums
follow from the squares of C alone.

The functions take NumPy arrays or torch tensors, on any device.
"""

from collections.abc import Sequence
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import unknown_name
from brainkit.linear.spectrum import Spectrum

Array = Any  # a NumPy array or a torch tensor
WAYS = ("loo", "gcv")
ROWS_AT_ONCE = 1024


def left_vectors(spectrum: Spectrum) -> tuple[Array, Array]:
    """Return U (n_samples, rank) and the eigenvalues (rank,) of directions that have variance.

    In double precision: a direction of little variance is divided by little.
    """
    xp = array_namespace(spectrum.samples)
    values = spectrum.values
    kept = values > xp.max(values) * xp.finfo(xp.float64).eps * values.shape[0]
    vectors = xp.astype(spectrum.vectors[:, kept], xp.float64)
    if spectrum.primal:
        vectors = xp.matmul(xp.astype(spectrum.samples, xp.float64), vectors)
        vectors = vectors / xp.sqrt(values[kept])
    return vectors, values[kept]


class SampleErrors:
    """Errors of samples left out one at a time.

    Parameters
    ----------
    spectrum : Spectrum
        Of all samples, centred where there is an intercept.
    alphas : sequence of float
        Penalties, positive.
    way : {"loo", "gcv"}
    fit_intercept : bool
    """

    def __init__(
        self, spectrum: Spectrum, alphas: Sequence[float], way: str, fit_intercept: bool
    ) -> None:
        if way not in WAYS:
            raise unknown_name("way to leave samples out", way, WAYS)
        self.way, self.alphas = way, list(alphas)
        self.dtype = spectrum.samples.dtype
        left, self.values = left_vectors(spectrum)
        xp = array_namespace(left)
        self.n_samples = left.shape[0]
        self.mean_leverage = 1 / self.n_samples if fit_intercept else 0.0
        self.left = xp.astype(left, self.dtype)
        self.squares = left**2 if way == "loo" else None

    def errors(self, Y: Array) -> tuple[Array, Array]:
        """Return squared errors (n_alphas, n_targets) and those of the mean (n_targets,).

        Those of generalised cross-validation are on the same scale: N times its criterion.

        Parameters
        ----------
        Y : array (n_samples, n_targets)
            Centred where there is an intercept.
        """
        xp = array_namespace(Y)
        projected = xp.matmul(self.left.T, Y)  # (rank, n_targets)
        total = xp.sum(Y**2, axis=0, dtype=xp.float64)
        shares = [self.values / (self.values + alpha) for alpha in self.alphas]
        by_way = self._left_out if self.way == "loo" else self._generalised
        found = xp.stack([by_way(Y, projected, total, share) for share in shares])
        return found, total / (1 - self.mean_leverage) ** 2

    def _left_out(self, Y: Array, projected: Array, total: Array, share: Array) -> Array:
        xp = array_namespace(Y)
        leverage = self.mean_leverage + xp.matmul(self.squares, share)
        weight = xp.astype(1 / (1 - leverage), self.dtype)[:, None]
        shrunk = projected * xp.astype(share, self.dtype)[:, None]
        found = xp.zeros_like(total)
        for start in range(0, self.n_samples, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            residual = (Y[rows] - xp.matmul(self.left[rows], shrunk)) * weight[rows]
            found = found + xp.sum(residual**2, axis=0, dtype=xp.float64)
        return found

    def _generalised(self, Y: Array, projected: Array, total: Array, share: Array) -> Array:
        xp = array_namespace(Y)
        explained = xp.astype(1 - (1 - share) ** 2, self.dtype)[:, None]
        residual = total - xp.sum(projected**2 * explained, axis=0, dtype=xp.float64)
        mean = self.mean_leverage + float(xp.sum(share)) / self.n_samples
        return residual / (1 - mean) ** 2
