r"""Bands of features, the weights that banded ridge tries for them, and what one draw costs a fold.

`band_columns` reads bands, `simplex_draws` draws weights on the simplex, and `Design` and
`BandFold` hold what the samples and each fold need so that a draw of weights costs little. Features
of band b are scaled by :math:`\sqrt{\gamma_b}`; D is the diagonal matrix of these scales.
Products of samples do not depend on the draw and are formed once:

- *primal* (no more features than samples): the training part's X'X and cross-products X'Y, so that
  a draw decomposes D X'X D, as large as there are features with a weight above 0;
- *dual*: a kernel :math:`X_b X_b'` for each band, so that a draw decomposes the training part of
  :math:`\sum_b \gamma_b X_b X_b'`.

Either way a draw's solution is :math:`W (\Lambda + \alpha)^{-1} W' B` and its held-out predictions
are :math:`R (\Lambda + \alpha)^{-1} W' B` with B the cross-products or the training targets. Two
ways lead to the errors of all penalties: rotate the targets, W'B, and go on with R (see
`brainkit.linear.cross_validation`), or multiply R, the ratios and W' into one small matrix for each
penalty first, which is cheaper where few samples are held out. The one with fewer products is
taken.

The functions take NumPy arrays or torch tensors, on any device.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed
from brainkit.linear.cross_validation import (
    CACHED,
    FoldErrors,
    Held,
    centred_rows,
    fold_errors,
    held_targets,
)
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
Float = NDArray[np.float64]
CONCENTRATIONS = (0.1, 1.0)
UNIT_SUM = 1e-4  # by which the weights of a draw may miss 1, as in single precision they do
# Largest eigenvalue over smallest penalty up to which a rough decomposition will do; by whether the
# problem is primal, as weights of samples lose more.
ROUGH = {True: 1e4, False: 1e2}
ROUGH_SLACK = 16.0  # of rough errors, see `brainkit.linear.spectrum.stretches`
MIXING_COST = 4  # of a product in the sums of few terms that mix predictions: memory holds them up


def band_columns(bands: Any, n_features: int) -> list[Index]:
    """Return the columns of each band.

    Parameters
    ----------
    bands : None, mapping, or sequence
        One of

        - None: one band of all features;
        - sequence of int: the number of columns of each band, in order, with a sum of
          `n_features`;
        - sequence of one label (text or whole number) for each column; bands come in the order
          of their labels' first columns;
        - sequence, or mapping with names for keys, of one slice, one array of column numbers or
          one mask of all columns for each band.
    n_features : int

    Returns
    -------
    list of int64 arrays
        Every column is in one band, every band has one at least.

    Raises
    ------
    InputError
        If bands overlap, are empty, leave columns out, or name columns that there are not; if
        whole numbers could be sizes as well as labels.
    """
    if bands is None:
        return [np.arange(n_features)]
    if isinstance(bands, str | bytes | slice) or not isinstance(bands, Iterable):
        raise InputError(
            f"bands must be sizes, labels, slices or arrays of column numbers; got {bands!r}."
        )
    members = list(bands.values()) if isinstance(bands, Mapping) else list(bands)
    flat = not any(isinstance(band, slice) or np.ndim(band) for band in members)
    if members and flat and not isinstance(bands, Mapping):
        return _from_labels(members, n_features)
    return _checked([_columns(band, n_features) for band in members], n_features)


def _from_labels(members: list[Any], n_features: int) -> list[Index]:
    """Read one number or text for each band (sizes) or for each column (labels)."""
    values = np.asarray(members)
    integers = values.dtype.kind in "iu"
    sizes = integers and values.sum() == n_features and (values > 0).all()
    labels = len(values) == n_features and values.dtype.kind in "iuUSb"
    names, first, codes = np.unique(values, return_index=True, return_inverse=True)
    if sizes and labels and len(names) != n_features:
        raise InputError(
            f"bands={listed(members)} could be the sizes of {n_features} bands or the labels of "
            f"{n_features} columns; give column numbers, such as [[0, 1], [2]]."
        )
    if sizes:
        edges = np.concatenate([[0], np.cumsum(values)])
        return [np.arange(start, stop) for start, stop in pairwise(edges)]
    if labels:
        return [np.flatnonzero(codes == code) for code in np.argsort(first)]
    what = f"sizes with a sum of {values.sum()}" if integers else "labels"
    raise InputError(
        f"bands are {len(values)} {what} for {n_features} features: give sizes above 0 with that "
        "sum, or one label for each feature."
    )


def _columns(band: Any, n_features: int) -> Index:
    """Return the column numbers of one band."""
    if isinstance(band, slice):
        return np.arange(n_features)[band]
    values = np.asarray(band)
    if values.dtype == bool and values.shape == (n_features,):
        return np.flatnonzero(values)
    if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
        raise InputError(
            "A band is a slice, a list of column numbers, or a mask with one value for each of "
            f"the {n_features} features; got {band!r}."
        )
    return values.astype(np.int64)


def _checked(columns: list[Index], n_features: int) -> list[Index]:
    """Raise unless every column is in one band."""
    if not columns or not all(len(band) for band in columns):
        empty = [number for number, band in enumerate(columns) if not len(band)]
        raise InputError(
            f"Bands {listed(empty)} have no columns; leave them out." if columns
            else "No bands were given; None stands for one band of all features."
        )  # fmt: skip
    every = np.concatenate(columns)
    outside = np.unique(every[(every < 0) | (every >= n_features)])
    if len(outside):
        raise InputError(
            f"Bands hold columns {listed(outside)}, but features are numbered 0 to "
            f"{n_features - 1}."
        )
    counts = np.bincount(every, minlength=n_features)
    if (counts > 1).any():
        raise InputError(
            f"Columns {listed(np.flatnonzero(counts > 1))} are in a band more than once; every "
            "column belongs to one band."
        )
    if (counts == 0).any():
        raise InputError(
            f"Columns {listed(np.flatnonzero(counts == 0))} are in no band; drop them from the "
            "features or give them a band."
        )
    return columns


def simplex_draws(
    n_draws: int,
    n_bands: int,
    *,
    concentration: float | Sequence[float] = CONCENTRATIONS,
    seed: int = 0,
) -> Float:
    """Draw weights for the bands, not negative and with a sum of 1.

    The first draw weighs all bands alike. The next ones are the corners, each band alone, as far
    as `n_draws` allows. The others are random, in turn from a Dirichlet distribution of each
    concentration (Dupré la Tour and others, 2022, NeuroImage 264:119728, use .1 and 1), and from a
    face of the simplex, where some bands have a weight of 0 exactly: with three bands or more,
    a random number of them, two at least and not all, uniform among themselves. So a band can be
    switched off, not only made small.

    Parameters
    ----------
    n_draws : int
    n_bands : int
    concentration : float or sequence of float, default=(0.1, 1.0)
        Parameter of the symmetric Dirichlet distributions; below 1 the weights keep to the corners.
    seed : int, default=0

    Returns
    -------
    float64 array (n_draws, n_bands)
        The weights of each draw. With one band there is a single draw.

    Raises
    ------
    InputError
        If there are no draws or bands, or a concentration is not positive.
    """
    concentrations = np.atleast_1d(np.asarray(concentration, dtype=float))
    if n_draws < 1 or n_bands < 1:
        raise InputError(f"At least 1 draw of 1 band; got {n_draws} of {n_bands}.")
    if not concentrations.size or not (np.isfinite(concentrations) & (concentrations > 0)).all():
        raise InputError(f"concentration must be positive, one or several; got {concentration}.")
    fixed = np.concatenate([np.full((1, n_bands), 1 / n_bands), np.eye(n_bands)])
    if n_bands == 1:
        return fixed[:1]
    generator = rng(seed, "simplex draws")
    kinds = [*concentrations, *([None] if n_bands > 2 else [])]
    drawn = [
        _draw(generator, n_bands, kinds[number % len(kinds)])
        for number in range(n_draws - len(fixed))
    ]
    return np.concatenate([fixed, np.reshape(drawn, (-1, n_bands))])[:n_draws]


def _draw(generator: np.random.Generator, n_bands: int, concentration: float | None) -> Float:
    """Draw from the whole simplex, or without a concentration from one of its faces."""
    if concentration is not None:
        return generator.dirichlet(np.full(n_bands, concentration))
    weights = np.zeros(n_bands)
    size = int(generator.integers(2, n_bands))
    weights[generator.permutation(n_bands)[:size]] = generator.dirichlet(np.ones(size))
    return weights


def checked_draws(draws: ArrayLike, n_bands: int) -> Float:
    """Return given draws in double precision.

    Raises
    ------
    InputError
        If they are not weights on the simplex of that many bands.
    """
    on_host = draws.cpu() if hasattr(draws, "cpu") else draws  # from a GPU too
    weights = np.asarray(on_host, dtype=np.float64)
    if weights.ndim != 2 or weights.shape[1] != n_bands or not len(weights):
        raise InputError(
            f"draws must have one row for each draw and one column for each of the {n_bands} "
            f"bands; got {weights.shape}."
        )
    if not (weights >= 0).all() or not (abs(weights.sum(axis=1) - 1) <= UNIT_SUM).all():
        wrong = ~((weights >= 0).all(axis=1) & (abs(weights.sum(axis=1) - 1) <= UNIT_SUM))
        raise InputError(
            f"Weights of a draw are not negative and sum to 1; those of draws "
            f"{listed(np.flatnonzero(wrong))} do not. Divide each draw by its sum."
        )
    return weights


@dataclass(frozen=True)
class Design:
    """Centred samples and what all folds share.

    Attributes
    ----------
    samples : array (n_samples, n_features)
        Centred where the problem is primal; else as they are given.
    uncentred : array (n_samples, n_features)
        The samples as they are given.
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
        The kernel of each band, where the problem is dual.
    """

    samples: Array
    uncentred: Array = field(repr=False)
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
        products = self.gram if self.primal else self.kernel(np.ones(len(self.bands)))
        values = array_namespace(products).linalg.eigvalsh(products)
        return max(float(values[0]), 0.0), float(values[-1])

    def as_dtype(self, dtype: Any) -> Array:
        """Return the centred samples of a primal problem in a dtype, rounded once."""
        return self.samples if dtype == self.samples.dtype else self.wide

    def cross(self, Y: Array) -> Array:
        """Return what solutions are made from: X'Y (primal) or Y (dual), of Y's dtype."""
        return array_namespace(Y).matmul(self.as_dtype(Y.dtype).T, Y) if self.primal else Y

    def scaled(self, rows: Any, columns: Any, scale: Array) -> Array:
        """Return some samples less their mean, scaled, in double precision."""
        xp = array_namespace(self.uncentred)
        wide = xp.astype(self.uncentred[rows][:, columns], xp.float64) - self.mean[columns]
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
        Rows of the cross-products that take part.
    vectors : array (n_rows of cross-products, rank)
        W.
    values : float64 array (rank,)
        Λ.
    largest : float
        Eigenvalue of what was subtracted from, see `brainkit.linear.spectrum.spread`.
    readout : float64 array (n_active_features, rank), optional
        Matrix that takes samples, scaled and centred, to R, where singular values were taken.
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
            part = wide[held_out]
            gram = design.gram - xp.matmul(part.T, part)
            self.gram = gram - n_train * self.mean[:, None] * self.mean[None]
        else:
            part = wide[train] - self.mean
            self.gram = xp.matmul(part.T, part)
        self.held = wide[held_out] - self.mean
        if self.held.shape[0] > self.held.shape[1]:
            # Errors need no more rows than there are features: |Y - X c|² is |Q'Y - R c|² + ...
            self.basis, self.held = xp.linalg.qr(self.held)

    def system(
        self, weights: NDArray[np.float64], alphas: Sequence[float], *, rough: bool = False
    ) -> tuple[System, Array]:
        """Return a draw's solution, and R (n_rows, rank), in the precision of `solve_system`."""
        design = self.design
        xp = array_namespace(design.samples)
        if design.primal:
            system = solve_system(
                design, weights, self.gram, alphas, self.train,
                inflation=self._inflation(*design.scales(weights)), rough=rough,
            )  # fmt: skip
            held = xp.astype(self.held[:, system.columns], system.vectors.dtype)
            return system, xp.matmul(held, system.vectors)
        kernel = design.kernel(weights)
        rows = kernel[self.train]
        inner = rows[:, self.train]
        system = solve_system(design, weights, inner, alphas, self.train, rough=rough)
        if system.readout is not None:
            columns, scale = design.scales(weights)
            parts = [
                xp.astype(design.uncentred[part][:, columns], xp.float64) * scale
                for part in (self.train, self.held_out)
            ]
            held = parts[1] - column_mean(parts[0], design.centred)
            return system, xp.matmul(held, system.readout)
        outer = kernel[self.held_out][:, self.train]
        if design.centred:
            outer = centred_rows(outer, inner)
        return system, xp.matmul(xp.astype(outer, system.vectors.dtype), system.vectors)

    def _inflation(self, columns: Any, scale: Array) -> float:
        """Return how many times larger a draw's X'X of all samples is than the training part's."""
        if not self.complement:
            return 1.0
        xp = array_namespace(scale)
        total, training = (
            float(xp.sum(xp.linalg.diagonal(part)[columns] * scale**2))
            for part in (self.design.gram, self.gram)
        )
        return max(total / training, 1.0) if training > 0 else 1.0

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
            crossed = cross - xp.matmul(samples[self.held_out].T, held)
            crossed -= (len(self.train) * mean)[:, None] * y_mean[None]
        else:
            # Training targets sum to 0, whatever mean the samples have.
            crossed = xp.matmul(samples[self.train].T, train - y_mean)
        return crossed, truth


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
        crossed = cross[self.columns]
        if isinstance(self.way, FoldErrors):
            return self.way.errors(xp.matmul(self.vectors.T, crossed), held)
        n_alphas, rows, _ = self.way.shape
        stacked = xp.reshape(self.way, (n_alphas * rows, -1))
        size = max(32, CACHED // (2 * n_alphas * rows * (xp.finfo(crossed.dtype).bits // 8)))
        errors = []
        for start in range(0, crossed.shape[1], size):
            part = slice(start, min(start + size, crossed.shape[1]))
            predicted = xp.reshape(xp.matmul(stacked, crossed[:, part]), (n_alphas, rows, -1))
            residual = held.truth[:, part] - predicted
            errors.append(xp.sum(residual**2, axis=1, dtype=xp.float64))
        return xp.concat(errors, axis=1) + held.outside


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
    sample_dtype = fold.design.samples.dtype
    root = float(system.values[-1]) ** 0.5 if system.values.shape[0] else 0.0
    lengths = root if fold.design.primal else 1.0
    blurred = 0.0
    if sample_dtype != xp.float64:
        blurred = blur(readout, system.values, alphas, lengths, len(fold.train))
    dtype = precision(system.values, alphas, sample_dtype, system.largest, blurred)
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
    # (n_alphas, n_rows held out, n_rows of B)
    operators = xp.matmul(readout * ratios[:, None, :], system.vectors.T)
    return DrawErrors(dtype, system.columns, vectors, xp.astype(operators, dtype))
