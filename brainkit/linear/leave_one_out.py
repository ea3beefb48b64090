r"""Leave-one-out and generalised cross-validation of ridge, from one decomposition of the samples.

With :math:`X = U S V'`, centred, C = U'Y, what shrinkage leaves of a direction,
:math:`g_i = \alpha / (s_i^2 + \alpha)`, and P the projection on what neither U nor the mean
reaches, the residual of a sample that was left out is

.. math:: \frac{(P y)_n + \sum_i U_{ni}\, g_i\, C_i}{P_{nn} + \sum_i U_{ni}^2\, g_i}

(Allen, 1974, Technometrics 16:125, who has 1 less the leverage below the line and y less its
prediction above it). Generalised cross-validation (Golub, Heath and Wahba, 1979, Technometrics
21:215) puts the mean of all denominators in place of each sample's own; its sum of squares is
:math:`\lVert P y \rVert^2 + \sum_i g_i^2 C_i^2`.

Written so, nothing is the small difference of large numbers, which 1 less a leverage near 1 is, and
the sum of squares less the sum of explained squares. Where features outnumber samples, U spans
everything but the mean, and P is 0.

The functions take NumPy arrays or torch tensors, on any device.
"""

from collections.abc import Sequence
from typing import Any

from array_api_compat import array_namespace

from brainkit.errors import InputError, unknown_name
from brainkit.linear.targets import widened

Array = Any  # a NumPy array or a torch tensor
WAYS = ("loo", "gcv")
ROWS_AT_ONCE = 1024
NEAR_ONE = 1e-3  # what U leaves of a sample below which it is not taken as 1 less what it reaches
TIE = 1e-5  # relative difference of errors that single precision cannot be trusted to tell
DETERMINED = 1e-2  # denominators below which single precision blurs residuals


class SampleErrors:
    """Errors of samples left out one at a time.

    Parameters
    ----------
    left : float64 array (n_samples, rank)
        U, orthonormal; orthogonal to the mean where there is an intercept.
    values : float64 array (rank,)
        s².
    alphas : sequence of float
        Penalties, positive.
    way : {"loo", "gcv"}
    fit_intercept : bool
    dtype : dtype
        That targets are to be multiplied in; double where it has to be.
    """

    def __init__(
        self,
        left: Array,
        values: Array,
        alphas: Sequence[float],
        way: str,
        fit_intercept: bool,
        dtype: Any,
    ) -> None:
        if way not in WAYS:
            raise unknown_name("way to leave samples out", way, WAYS)
        if not min(alphas) > 0:
            raise InputError(
                f"Samples left out one at a time (cv={way!r}) need penalties above 0; got "
                f"{min(alphas)}. Give a number of folds, or a small penalty."
            )
        xp = array_namespace(left)
        self.way = way
        self.n_samples, rank = left.shape
        self.beyond = self.n_samples - rank - (1 if fit_intercept else 0)
        self.mean_weight = 1 / (1 - (1 / self.n_samples if fit_intercept else 0.0))
        penalties = xp.asarray(list(alphas), dtype=xp.float64, device=left.device)
        self.kept = penalties[:, None] / (values + penalties[:, None])  # g, (n_alphas, rank)
        if way == "loo":
            squares = left**2
            rest = self._beyond(left, squares, fit_intercept)
            own = rest[:, None] + xp.matmul(squares, self.kept.T)  # (n_samples, n_alphas)
            least = float(xp.min(own)) if self.n_samples else 1.0
        else:
            own = (self.beyond + xp.sum(self.kept, axis=1)) / self.n_samples  # (n_alphas,)
            least = float(xp.min(own))
        if least <= 0:
            raise InputError(
                "A sample left out is predicted by itself alone: it has a feature that no other "
                f"sample has, and penalties of {min(alphas):.3g} leave it free. Give larger ones, "
                "or a number of folds."
            )
        self.dtype = xp.float64 if least < DETERMINED and self.beyond else dtype
        self.weights, self.wide, self.centred = 1 / own, left, fit_intercept
        self.left = xp.astype(left, self.dtype, copy=False)

    def _beyond(self, left: Array, squares: Array, centred: bool) -> Array:
        """Return the diagonal of P, (n_samples,)."""
        xp = array_namespace(left)
        if not self.beyond:
            return (
                xp.zeros_like(left[:, 0])
                if left.shape[1]
                else xp.zeros(self.n_samples, dtype=left.dtype, device=left.device)
            )
        share = 1 / self.n_samples if centred else 0.0
        rest = 1 - share - xp.sum(squares, axis=1)
        small = xp.nonzero(rest < NEAR_ONE)[0]
        for start in range(0, small.shape[0], ROWS_AT_ONCE):
            rows = small[start : start + ROWS_AT_ONCE]
            # P is a projection: its diagonal is the squared length of its rows.
            reached = -xp.matmul(left[rows], left.T) - share
            reached[xp.arange(rows.shape[0], device=left.device), rows] += 1
            rest[rows] = xp.sum(reached**2, axis=1)
        return rest

    def errors(self, Y: Array) -> tuple[Array, Array]:
        """Return squared errors (n_alphas, n_targets) and those of the mean (n_targets,).

        Those of generalised cross-validation are on the same scale: N times its criterion.

        Parameters
        ----------
        Y : array (n_samples, n_targets)
            Centred where there is an intercept.
        """
        xp = array_namespace(Y)
        Y = xp.astype(Y, self.dtype, copy=False)
        found = self._errors(Y, self.left)
        if self.dtype != xp.float64:
            # Penalties far below every eigenvalue differ by less than single precision can tell.
            near = found <= (1 + TIE) * xp.min(found, axis=0)
            close = xp.nonzero(xp.sum(xp.astype(near, xp.int64), axis=0) > 1)[0]
            if close.shape[0]:
                wide = widened(xp.take(Y, close, axis=1), xp.float64, self.centred)
                found[:, close] = self._errors(wide, self.wide)
        total = xp.sum(Y**2, axis=0, dtype=xp.float64)
        return found, total * self.mean_weight**2

    def _errors(self, Y: Array, left: Array) -> Array:
        """Return squared errors (n_alphas, n_targets), by U in the precision of the targets."""
        xp = array_namespace(Y)
        projected = xp.matmul(left.T, Y)  # (rank, n_targets)
        outside = Y - xp.matmul(left, projected) if self.beyond else None  # Py
        by_way = self._left_out if self.way == "loo" else self._generalised
        return by_way(left, projected, outside)

    def _left_out(self, left: Array, projected: Array, outside: Array | None) -> Array:
        xp = array_namespace(projected)
        shape = self.kept.shape[0], projected.shape[1]
        found = xp.zeros(shape, dtype=xp.float64, device=projected.device)
        kept, weights = (xp.astype(part, projected.dtype) for part in (self.kept, self.weights))
        for start in range(0, self.n_samples, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            for number in range(shape[0]):
                residual = xp.matmul(left[rows] * kept[number], projected)
                if outside is not None:
                    residual += outside[rows]
                residual *= weights[rows, number][:, None]
                found[number] += xp.sum(residual**2, axis=0, dtype=xp.float64)
        return found

    def _generalised(self, left: Array, projected: Array, outside: Array | None) -> Array:
        xp = array_namespace(projected)
        found = []
        for number in range(self.kept.shape[0]):
            shrunk = projected * xp.astype(self.kept[number], projected.dtype)[:, None]
            found.append(xp.sum(shrunk**2, axis=0, dtype=xp.float64))
        sums = xp.stack(found)
        if outside is not None:
            sums = sums + xp.sum(outside**2, axis=0, dtype=xp.float64)
        return sums * self.weights[:, None] ** 2
