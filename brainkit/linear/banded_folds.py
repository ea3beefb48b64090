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
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from brainkit.linear.fold_errors import CACHED, FoldErrors, Held, fold_errors, held_targets
from brainkit.linear.held_out import centred_rows
from brainkit.linear.spectrum import (
    blur,
    clip,
    eigen,
    eigen_of_kernel,
    is_ill,
    precision,
    sample_products,
    singular_values,
)
from brainkit.linear.targets import column_mean, deviations

Array = Any  # a NumPy array or a torch tensor
Index = NDArray[np.int64]
# Largest eigenvalue over smallest penalty up to which a rough decomposition will do; by whether the
# problem is primal, as weights of samples lose more.
ROUGH = {True: 1e4, False: 1e2}
ROUGH_SLACK = 16.0  # of rough errors, see `brainkit.linear.path`
MIXING_COST = 4  # of a product in the sums of few terms that mix predictions: memory holds them up


@dataclass(frozen=True)
class Design:
    """Centred samples and what all folds share.

    Attributes
    ----------
    samples : array (n_samples, n_features)
        Centred where the problem is primal; else as they are given.
    given : array (n_samples, n_features)
        As they are given.
    mean : float64 array (n_features,)
    wide : float64 array (n_samples, n_features) or None
        Centred, in double precision, where the problem is primal.
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
    given: Array = field(repr=False)
    mean: Array
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
        return self.largest <= ROUGH[self.primal] * min(alphas)

    @property
    def largest(self) -> float:
        """The largest eigenvalue of all bands with a weight of 1."""
        return self.eigenvalues[1]

    @cached_property
    def eigenvalues(self) -> tuple[float, float]:
        """The smallest and the largest eigenvalue of all bands with a weight of 1."""
        whole = self.gram if self.primal else self.kernel(np.ones(len(self.bands)))
        values = array_namespace(whole).linalg.eigvalsh(whole)
        return max(float(values[0]), 0.0), float(values[-1])

    def as_dtype(self, dtype: Any) -> Array:
        """Return the centred samples of a primal problem in a dtype, rounded once."""
        return self.samples if dtype == self.samples.dtype else self.wide

    def cross(self, Y: Array) -> Array:
        """Return what solutions are made from: X'Y (primal) or Y (dual), of Y's dtype."""
        return array_namespace(Y).matmul(self.as_dtype(Y.dtype).T, Y) if self.primal else Y

    def scaled(self, rows: Any, columns: Any, scale: Array) -> Array:
        """Return some samples less their mean, scaled, in double precision."""
        xp = array_namespace(self.given)
        wide = xp.astype(self.given[rows][:, columns], xp.float64) - self.mean[columns]
        return (wide - column_mean(wide, self.centred)) * scale


def design(X: Array, bands: list[Index], primal: bool, centred: bool) -> Design:
    """Centre the samples (n_samples, n_features), and form their products."""
    xp = array_namespace(X)
    mean = column_mean(X, centred)
    if primal:
        samples = deviations(X, mean, X.dtype)
        wide = xp.astype(X, xp.float64) - mean
        return Design(samples, X, mean, wide, bands, centred, xp.matmul(wide.T, wide), [])
    kernels = []
    for columns in bands:
        which = xp.asarray(columns, device=X.device)
        kernels.append(sample_products(X[:, which], None, mean[which]))
    return Design(X, X, mean, None, bands, centred, None, kernels)


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
    largest : float
        Eigenvalue of what was subtracted from, see `brainkit.linear.spectrum.spread`.
    readout : float64 array (n_active_features, rank), optional
        Where singular values were taken: samples, scaled and centred, times it are R.
    """

    columns: Any
    vectors: Array
    values: Array
    largest: float = 0.0
    readout: Array | None = None


def solve_system(
    design: Design,
    weights: NDArray[np.float64],
    gram: Array,
    alphas: Sequence[float],
    rows: Any = slice(None),
    *,
    inflation: float = 1.0,
    rough: bool = False,
) -> System:
    """Decompose for a draw: X'X (primal) or the draw's kernel (dual) of the samples in use.

    In double precision, or roughly in that of the samples, in half of the time; by the singular
    values of the samples in use, `rows`, where the penalties are too small for either. What `gram`
    is the difference of is `inflation` times as large.
    """
    xp = array_namespace(gram)
    sizes = design.samples.shape
    dtype = design.samples.dtype if rough else gram.dtype
    columns, scale = design.scales(weights)
    if design.primal:
        active = gram[columns][:, columns] * scale[:, None] * scale[None]
        values, vectors = eigen(xp.astype(active, dtype, copy=False))
    else:
        inner = xp.astype(gram, dtype, copy=False)
        values, vectors = eigen_of_kernel(inner, centred=design.centred)
    largest = inflation * float(values[-1]) if values.shape[0] else 0.0
    if not rough and is_ill(values, alphas, design.samples.dtype, largest):
        left, lengths, right = singular_values(
            design.scaled(rows, columns, scale), centred=design.centred
        )
        if design.primal:
            return System(columns, right * scale[:, None], lengths**2, 0.0, right)
        return System(slice(None), left, lengths**2, 0.0, right * lengths)
    values, vectors = clip(values, vectors, *sizes, largest=largest)
    values = xp.astype(values, gram.dtype, copy=False)
    if not design.primal:
        return System(slice(None), vectors, values)
    scaled = vectors * xp.astype(scale, dtype)[:, None]
    return System(columns, scaled, values, largest)


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

    def system(
        self, weights: NDArray[np.float64], alphas: Sequence[float], *, rough: bool = False
    ) -> tuple[System, Array]:
        """Return a draw's solution, and R (n_rows, rank), in the precision of `solve_system`."""
        made = self.design
        xp = array_namespace(made.samples)
        if made.primal:
            system = solve_system(
                made, weights, self.gram, alphas, self.train,
                inflation=self._inflation(*made.scales(weights)), rough=rough,
            )  # fmt: skip
            held = xp.astype(self.held[:, system.columns], system.vectors.dtype)
            return system, xp.matmul(held, system.vectors)
        whole = made.kernel(weights)
        rows = whole[self.train]
        inner = rows[:, self.train]
        system = solve_system(made, weights, inner, alphas, self.train, rough=rough)
        if system.readout is not None:
            columns, scale = made.scales(weights)
            own = [
                xp.astype(made.given[part][:, columns], xp.float64) * scale
                for part in (self.train, self.held_out)
            ]
            held = own[1] - column_mean(own[0], made.centred)
            return system, xp.matmul(held, system.readout)
        outer = whole[self.held_out][:, self.train]
        if made.centred:
            outer = centred_rows(outer, inner)
        return system, xp.matmul(xp.astype(outer, system.vectors.dtype), system.vectors)

    def _inflation(self, columns: Any, scale: Array) -> float:
        """Return how many times larger a draw's X'X of all samples is than the training part's."""
        if not self.complement:
            return 1.0
        xp = array_namespace(scale)
        whole, own = (
            float(xp.sum(xp.linalg.diagonal(part)[columns] * scale**2))
            for part in (self.design.gram, self.gram)
        )
        return max(whole / own, 1.0) if own > 0 else 1.0

    def targets(self, Y: Array, cross: Array) -> tuple[Array, Held]:
        """Return B (n_rows, batch), and the held-out targets.

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
        y_mean = xp.astype(y_mean, Y.dtype)
        basis = None if self.basis is None else xp.astype(self.basis, Y.dtype)
        truth = held_targets(held - y_mean, basis)
        if not self.design.primal:
            return train - y_mean, truth
        mean = xp.astype(self.mean, Y.dtype)
        samples = self.design.as_dtype(Y.dtype)
        if shared:
            own = cross - xp.matmul(samples[self.held_out].T, held)
            own -= (len(self.train) * mean)[:, None] * y_mean[None]
        else:
            # Training targets sum to 0, whatever mean the samples have.
            own = xp.matmul(samples[self.train].T, train - y_mean)
        return own, truth


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

    def errors(self, cross: Array, held: Held) -> Array:
        """Return squared errors (n_alphas, batch) in double precision; see `BandFold.targets`."""
        xp = array_namespace(cross)
        own = cross[self.columns]
        if isinstance(self.way, FoldErrors):
            return self.way.errors(xp.matmul(self.vectors.T, own), held)
        n_alphas, rows, _ = self.way.shape
        stacked = xp.reshape(self.way, (n_alphas * rows, -1))
        size = max(32, CACHED // (2 * n_alphas * rows * (xp.finfo(own.dtype).bits // 8)))
        found = []
        for start in range(0, own.shape[1], size):
            part = slice(start, min(start + size, own.shape[1]))
            predicted = xp.reshape(xp.matmul(stacked, own[:, part]), (n_alphas, rows, -1))
            residual = held.truth[:, part] - predicted
            found.append(xp.sum(residual**2, axis=1, dtype=xp.float64))
        return xp.concat(found, axis=1) + held.outside


def draw_errors(
    fold: BandFold,
    weights: NDArray[np.float64],
    alphas: Sequence[float],
    n_targets: int,
    *,
    rough: bool = False,
) -> DrawErrors:
    """Prepare one draw in one fold for about so many targets, see `Design.may_be_rough`."""
    system, readout = fold.system(weights, alphas, rough=rough)
    xp = array_namespace(readout)
    given = fold.design.samples.dtype
    root = float(system.values[-1]) ** 0.5 if system.values.shape[0] else 0.0
    lengths = root if fold.design.primal else 1.0
    blurred = 0.0
    if given != xp.float64:
        blurred = blur(readout, system.values, alphas, lengths, len(fold.train))
    dtype = precision(system.values, alphas, given, system.largest, blurred)
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
