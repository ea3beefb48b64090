r"""What banded ridge needs of each fold, so that a draw of band weights costs little.

Features of band b are scaled by :math:`\sqrt{\gamma_b}`; D is the diagonal matrix of these scales.
Products of samples do not depend on the draw and are formed once:

- *primal* (no more features than samples): the training part's X'X and cross-products X'Y, so that
  a draw decomposes D X'X D, as large as there are features with a weight above 0;
- *dual*: a kernel :math:`X_b X_b'` for each band, so that a draw decomposes the training part of
  :math:`\sum_b \gamma_b X_b X_b'`.

Either way a draw's solution is :math:`W (\Lambda + \alpha)^{-1} W' B` and its held-out predictions
are :math:`R (\Lambda + \alpha)^{-1} W' B` with B the cross-products or the training targets. Two
ways lead to the errors of all penalties: rotate the targets, W'B, and go on with R (see
`brainkit.linear.fold_errors`), or multiply R, the ratios and W' into one small matrix for each
penalty first, which is cheaper where few samples are held out. The one with fewer products is
taken.

The functions take NumPy arrays or torch tensors, on any device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from brainkit.linear.fold_errors import CACHED, FoldErrors, fold_errors, is_lossy
from brainkit.linear.spectrum import eigen, sample_products
from brainkit.linear.targets import column_mean

Array = Any  # a NumPy array or a torch tensor
Index = NDArray[np.int64]
ROUGH = 1e4  # largest eigenvalue over smallest penalty up to which a rough decomposition will do
ROUGH_SLACK = 16.0  # of rough errors, see `brainkit.linear.path`
MIXING_COST = 4  # of a product in the sums of few terms that mix predictions: memory holds them up


@dataclass(frozen=True)
class Design:
    """Centred samples and what all folds share.

    Attributes
    ----------
    samples : array (n_samples, n_features)
    wide : float64 array (n_samples, n_features) or None
        The same in double precision, where the problem is primal.
    bands : list of int64 arrays
        Columns of each band.
    centred : bool
        Whether folds have means of their own.
    gram : float64 array (n_features, n_features) or None
        X'X, where the problem is primal.
    kernels : list of float64 arrays (n_samples, n_samples)
        Of each band, where the problem is dual.
    """

    samples: Array
    wide: Array | None = field(repr=False)
    bands: list[Index] = field(repr=False)
    centred: bool
    gram: Array | None = field(repr=False)
    kernels: list[Array] = field(repr=False)

    @property
    def primal(self) -> bool:
        """Whether features are fewer than samples, or as many."""
        return self.gram is not None

    def scales(self, weights: NDArray[np.float64]) -> tuple[Any, Array]:
        """Return the columns of bands with a weight above 0, and the roots of their weights."""
        xp = array_namespace(self.samples)
        every = np.empty(self.samples.shape[1])
        for columns, weight in zip(self.bands, weights, strict=True):
            every[columns] = weight**0.5
        active = np.flatnonzero(every > 0)
        scale = xp.asarray(every[active], device=self.samples.device)
        if len(active) == len(every):
            return slice(None), scale
        return xp.asarray(active, device=self.samples.device), scale

    def kernel(self, weights: NDArray[np.float64]) -> Array:
        """Return the kernel of all samples for a draw, float64 (n_samples, n_samples)."""
        total = None
        for kernel, weight in zip(self.kernels, weights, strict=True):
            if weight > 0:
                part = kernel * float(weight)
                total = part if total is None else total + part
        return total

    def may_be_rough(self, alphas: Sequence[float]) -> bool:
        """Tell whether single precision decomposes all draws well enough for racing.

        A decomposition errs by some 1e-7 of its largest eigenvalue, against which the smallest
        penalty must stand out. Weights are at most 1, so that no draw's eigenvalue is larger than
        the largest one of all features.
        """
        xp = array_namespace(self.samples)
        if self.samples.dtype != xp.float32:
            return False
        whole = self.gram if self.primal else self.kernel(np.ones(len(self.bands)))
        return float(xp.linalg.eigvalsh(whole)[-1]) <= ROUGH * min(alphas)

    def cross(self, Y: Array) -> Array:
        """Return what solutions are made from: X'Y (primal) or Y (dual), of Y's dtype."""
        xp = array_namespace(Y)
        return xp.matmul(xp.astype(self.samples, Y.dtype).T, Y) if self.primal else Y


def design(samples: Array, bands: list[Index], primal: bool, centred: bool) -> Design:
    """Form the products of all centred samples (n_samples, n_features)."""
    xp = array_namespace(samples)
    if primal:
        wide = xp.astype(samples, xp.float64)
        return Design(samples, wide, bands, centred, xp.matmul(wide.T, wide), [])
    kernels = [
        sample_products(samples[:, xp.asarray(columns, device=samples.device)]) for columns in bands
    ]
    return Design(samples, None, bands, centred, None, kernels)


@dataclass(frozen=True)
class System:
    """One draw's solution of one fold, or of all samples.

    Attributes
    ----------
    columns : slice or int array
        Which rows of the cross-products take part.
    vectors : array (n_rows of cross-products, rank)
        W.
    values : float64 array (rank,)
        Λ.
    """

    columns: Any
    vectors: Array
    values: Array


def solve_system(
    design: Design, weights: NDArray[np.float64], gram: Array, *, rough: bool = False
) -> System:
    """Decompose for a draw: X'X (primal) or the draw's kernel (dual) of the samples in use.

    In double precision, or roughly in that of the samples, in half of the time.
    """
    xp = array_namespace(gram)
    dtype = design.samples.dtype if rough else gram.dtype
    if not design.primal:
        values, vectors = eigen(xp.astype(gram, dtype))
        return System(slice(None), vectors, xp.astype(values, gram.dtype))
    columns, scale = design.scales(weights)
    active = gram[columns][:, columns] * scale[:, None] * scale[None]
    values, vectors = eigen(xp.astype(active, dtype))
    scaled = vectors * xp.astype(scale, dtype)[:, None]
    return System(columns, scaled, xp.astype(values, gram.dtype))


class BandFold:
    """One fold for every draw of weights.

    Parameters
    ----------
    design : Design
    train, held_out : int64 arrays
        Row numbers.
    """

    def __init__(self, design: Design, train: Index, held_out: Index) -> None:
        self.design, self.train, self.held_out = design, train, held_out
        wide = design.wide
        # The training part is all but the held-out part, or is formed for itself.
        n_train, n_held = len(train), len(held_out)
        self.complement = n_train > n_held and _is_rest(train, held_out, design.samples.shape[0])
        self.basis: Array | None = None
        if wide is None:
            return
        xp = array_namespace(wide)
        self.mean = column_mean(wide[train], design.centred)
        if self.complement:
            own = wide[held_out]
            gram = design.gram - xp.matmul(own.T, own)
            self.gram = gram - n_train * self.mean[:, None] * self.mean[None]
        else:
            own = wide[train] - self.mean
            self.gram = xp.matmul(own.T, own)
        self.held = wide[held_out] - self.mean
        if self.held.shape[0] > self.held.shape[1]:
            # Errors need no more rows than there are features: |Y - X c|² is |Q'Y - R c|² + ...
            self.basis, self.held = xp.linalg.qr(self.held)

    def system(self, weights: NDArray[np.float64], *, rough: bool = False) -> tuple[System, Array]:
        """Return a draw's solution, and R (n_rows, rank), in the precision of `solve_system`."""
        xp = array_namespace(self.design.samples)
        if self.design.primal:
            system = solve_system(self.design, weights, self.gram, rough=rough)
            held = xp.astype(self.held[:, system.columns], system.vectors.dtype)
            return system, xp.matmul(held, system.vectors)
        whole = self.design.kernel(weights)
        rows = whole[self.train]
        inner, outer = rows[:, self.train], whole[self.held_out][:, self.train]
        if self.design.centred:
            mean_row = xp.mean(inner, axis=0)
            outer = outer - mean_row - xp.mean(outer, axis=1)[:, None] + xp.mean(mean_row)
            inner = inner - mean_row - mean_row[:, None] + xp.mean(mean_row)
        system = solve_system(self.design, weights, inner, rough=rough)
        return system, xp.matmul(xp.astype(outer, system.vectors.dtype), system.vectors)

    def targets(self, Y: Array, cross: Array) -> tuple[Array, Array, Array]:
        """Return B (n_rows, batch), held-out targets (n_rows, batch), their total (batch,).

        Parameters
        ----------
        Y : array (n_samples, batch)
            Centred over all samples.
        cross : array
            `Design.cross` of them.
        """
        xp = array_namespace(Y)
        held = Y[self.held_out]
        if shared := self.design.primal and self.complement:
            # The mean over all rows is 0, so that the held-out ones tell that of the others.
            y_mean = column_mean(held, self.design.centred) * (-len(held) / len(self.train))
        else:
            train = Y[self.train]
            y_mean = column_mean(train, self.design.centred)
        truth = held - y_mean
        total = xp.sum(truth**2, axis=0, dtype=xp.float64)
        if self.basis is not None:
            truth = xp.matmul(xp.astype(self.basis, Y.dtype).T, truth)
        if not self.design.primal:
            return train - y_mean, truth, total
        mean = xp.astype(self.mean, Y.dtype)
        if shared:
            samples = xp.astype(self.design.samples[self.held_out], Y.dtype)
            own = cross - xp.matmul(samples.T, held)
            own -= (len(self.train) * mean)[:, None] * y_mean[None]
        else:
            own = xp.matmul(xp.astype(self.design.samples[self.train], Y.dtype).T, train - y_mean)
        return own, truth, total


def _is_rest(train: Index, held_out: Index, n_samples: int) -> bool:
    """Tell whether a fold trains on all samples that it does not hold out."""
    both = np.concatenate([train, held_out])
    return len(both) == n_samples and len(np.unique(both)) == n_samples


@dataclass(frozen=True)
class DrawErrors:
    """Errors of one draw in one fold, for every penalty and target."""

    dtype: Any
    columns: Any
    vectors: Array
    way: FoldErrors | Array  # or operators (n_alphas, n_rows held out, n_rows of B)

    def errors(self, cross: Array, truth: Array, total: Array) -> Array:
        """Return squared errors (n_alphas, batch) in double precision; see `BandFold.targets`."""
        xp = array_namespace(cross)
        own = cross[self.columns]
        if isinstance(self.way, FoldErrors):
            return self.way.errors(xp.matmul(self.vectors.T, own), truth, total)
        n_alphas, rows, _ = self.way.shape
        stacked = xp.reshape(self.way, (n_alphas * rows, -1))
        size = max(32, CACHED // (2 * n_alphas * rows * (xp.finfo(own.dtype).bits // 8)))
        outside = total - xp.sum(truth**2, axis=0, dtype=xp.float64)
        found = []
        for start in range(0, own.shape[1], size):
            part = slice(start, min(start + size, own.shape[1]))
            predicted = xp.reshape(xp.matmul(stacked, own[:, part]), (n_alphas, rows, -1))
            found.append(xp.sum((truth[:, part] - predicted) ** 2, axis=1, dtype=xp.float64))
        return xp.concat(found, axis=1) + xp.where(outside > 0, outside, 0 * outside)


def draw_errors(
    fold: BandFold,
    weights: NDArray[np.float64],
    alphas: Sequence[float],
    n_targets: int,
    *,
    rough: bool = False,
) -> DrawErrors:
    """Prepare one draw in one fold for about so many targets, see `Design.may_be_rough`."""
    system, readout = fold.system(weights, rough=rough)
    xp = array_namespace(readout)
    given = fold.design.samples.dtype
    dtype = xp.float64 if is_lossy(system.values, alphas) else given
    vectors = xp.astype(system.vectors, dtype)
    slack = ROUGH_SLACK if rough else 1.0
    rotated = fold_errors(readout, system.values, alphas, dtype, triangular=False, slack=slack)
    size, rank = vectors.shape
    rows = readout.shape[0]
    by_rotation = size * rank + rows * sum(
        part.functions.shape[0] * (part.stop - part.start) for part in rotated.stretches
    )
    by_rotation += MIXING_COST * rows * rotated.mixing.shape[0] * rotated.mixing.shape[1]
    by_operator = len(alphas) * rows * size * (1 + rank / max(n_targets, 1))
    if by_rotation <= by_operator:
        return DrawErrors(dtype, system.columns, vectors, rotated)
    penalties = xp.asarray(list(alphas), dtype=xp.float64, device=readout.device)
    ratios = xp.astype(1 / (system.values + penalties[:, None]), readout.dtype)
    operators = xp.matmul(readout * ratios[:, None, :], system.vectors.T)
    return DrawErrors(dtype, system.columns, vectors, xp.astype(operators, dtype))
