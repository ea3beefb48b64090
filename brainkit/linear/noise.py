r"""What repeats of a condition tell of the targets' noise, and a metric that discounts it.

The noise of voxels is correlated: a few factors (arousal, movement, breathing) reach many of them.
A model that shares dimensions across voxels would take such factors for dimensions of the stimulus.
In the metric

.. math:: M = D^{-1} (I + U (\mathrm{diag}(g) - I)\, U'), \quad g_i = \lambda_i^{-1/2}

with D the noise's standard deviations, and U, λ the leading eigenvectors and eigenvalues of its
correlations, the noise is white (multivariate noise normalisation: Walther et al., 2016,
NeuroImage 137:188, here with as many factors as exceed what independent noise would show).
"""

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace

from brainkit.linear.subspace import leading_right_vectors

Array = Any  # a NumPy array or a torch tensor
LARGEST_RANK = 50


@dataclass(frozen=True)
class TargetMetric:
    """A positive matrix M over targets, kept as a diagonal and a few directions.

    Attributes
    ----------
    scale : array (n_targets,)
        Diagonal of the outer part, positive.
    directions : array (n_targets, n_factors)
        Orthonormal.
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
