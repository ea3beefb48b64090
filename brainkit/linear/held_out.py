r"""Folds in a form that serves every penalty and every batch of targets.

Where every sample is held out once and there are no more features than samples, the folds'
cross-products add up to those of all samples and are formed once (`PartitionErrors`): K folds cost
one product X'Y and, for each fold, products of the size of X'X with the targets. Any other folds,
and features that outnumber the samples, are treated one by one (`SeparateErrors`); the latter share
one XX'.

The functions take NumPy arrays or torch tensors, on any device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from brainkit.linear.fold_errors import FoldErrors, Held, fold_errors, held_targets
from brainkit.linear.spectrum import (
    Spectrum,
    blur,
    clip,
    decompose,
    eigen,
    is_ill,
    is_primal,
    precision,
)
from brainkit.linear.targets import column_mean, deviations

Array = Any  # a NumPy array or a torch tensor
Folds = Sequence[tuple[Array, Array]]


@dataclass(frozen=True)
class _Fold:
    """One held-out part of a partition of the samples.

    With every sample held out once, X and Y centred over all of them, m the mean of the held-out
    samples, n of N: the training mean is -n m / (N - n), so that the held-out samples less the
    training mean have a mean of g m, g = N / (N - n).
    """

    rows: Array
    mean: Array
    gain: float
    vectors: Array
    basis: Array | None  # Q, (n_rows + 1, rank); None where there are fewer rows than directions
    back: Array | None  # V R', (n_features, rank): from Q'Y to the fold's cross-products
    errors: FoldErrors


@dataclass(frozen=True)
class PartitionErrors:
    """Errors of folds that hold every sample out once, with no more features than samples.

    Attributes
    ----------
    samples : array (n_samples, n_features)
        Centred, in the dtype that targets are to be multiplied in.
    values, vectors : float64 array (rank,), array (n_features, rank)
        Of X'X over all samples.
    """

    samples: Array
    fit_intercept: bool
    values: Array
    vectors: Array
    folds: tuple[_Fold, ...] = field(repr=False)

    @property
    def dtype(self) -> Any:
        """What targets are to be in."""
        return self.samples.dtype

    def batch(self, Y: Array) -> "PartitionBatch":
        """Form what a batch of targets (n_samples, batch), centred, needs of the data."""
        xp = array_namespace(Y)
        crosses, truths, means = [], [], []
        for fold in self.folds:
            own = Y[fold.rows]
            mean = xp.astype(column_mean(own, self.fit_intercept), Y.dtype)
            # Held-out targets less their mean, and the mean's own row: see `_Fold`.
            row = (fold.gain * len(fold.rows) ** 0.5) * mean[None]
            extended = xp.concat([own - mean, row], axis=0)
            held = held_targets(extended, fold.basis)
            if fold.back is None:
                cross = xp.matmul(self.samples[fold.rows].T, own - mean)
                cross += (len(fold.rows) * fold.gain**2) * fold.mean[:, None] * mean[None]
            else:
                cross = xp.matmul(fold.back, held.truth)
            truths.append(held)
            crosses.append(cross)
            means.append(mean)
        return PartitionBatch(self, crosses, truths, means)


@dataclass(frozen=True)
class PartitionBatch:
    """A batch of targets in the terms of `PartitionErrors`."""

    of: PartitionErrors
    crosses: list[Array]
    held: list[Held]
    means: list[Array]

    @cached_property
    def cross(self) -> Array:
        """X'Y over all samples, (n_features, batch)."""
        return self._sum(range(len(self.crosses)))

    @property
    def total(self) -> Array:
        """Squared error of the training mean, summed over folds, (batch,)."""
        return sum(held.total for held in self.held)

    def _sum(self, which: Any) -> Array:
        whole = None
        for number in which:
            fold = self.of.folds[number]
            # A fold's products are extended by g² n m m'; over all samples it is n m m'.
            excess = len(fold.rows) * (fold.gain**2 - 1)
            part = self.crosses[number] - excess * fold.mean[:, None] * self.means[number][None]
            whole = part if whole is None else whole + part
        return whole

    def errors(self) -> Array:
        """Return squared held-out errors summed over folds, (n_alphas, batch)."""
        xp = array_namespace(self.crosses[0])
        whole, found = self.cross, None
        for number, fold in enumerate(self.of.folds):
            own = self.crosses[number]
            # n m m' goes with the fold, and n² / (N - n) m m' by the training mean: n g m m'.
            surplus = len(fold.rows) * (fold.gain**2 - fold.gain)
            own = own - surplus * fold.mean[:, None] * self.means[number][None]
            inner = xp.matmul(fold.vectors.T, whole - own)  # (rank, batch)
            part = fold.errors.errors(inner, self.held[number])
            found = part if found is None else found + part
        return found


def partition_errors(
    X: Array,
    folds: Folds,
    alphas: Sequence[float],
    *,
    fit_intercept: bool = True,
    dtype: Any = None,
) -> PartitionErrors | None:
    """Factorise every fold of the samples (n_samples, n_features) from what it has of X'X.

    Products with targets are in `dtype`; where it is not given, in that of X or, if one fold needs
    it, in double precision. None is returned where a penalty is too small for the difference of two
    X'X to be trusted: the folds are then to be factorised one by one.
    """
    xp = array_namespace(X)
    mean = column_mean(X, fit_intercept)
    wide = xp.astype(X, xp.float64) - mean
    gram = xp.matmul(wide.T, wide)
    values, vectors = eigen(gram)
    if is_ill(values, alphas, X.dtype):
        return None
    values, vectors = clip(values, vectors, *X.shape)
    dtype = precision(values, alphas, X.dtype) if dtype is None else dtype
    largest = float(values[-1]) if values.shape[0] else 0.0
    prepared = []
    for _, rows in folds:
        training = _Training(wide, gram, rows, fit_intercept, largest)
        if is_ill(training.every, alphas, X.dtype, largest):
            return None
        fold, blurred = training.fold(alphas, dtype)
        wanted = precision(training.values, alphas, dtype, largest, blurred)
        if wanted != dtype:
            return partition_errors(X, folds, alphas, fit_intercept=fit_intercept, dtype=wanted)
        prepared.append(fold)
    kept = wide if dtype == xp.float64 else deviations(X, mean, dtype)
    return PartitionErrors(kept, fit_intercept, values, xp.astype(vectors, dtype), tuple(prepared))


class _Training:
    """One fold's training part: its X'X as what the held-out part leaves of that of all samples."""

    def __init__(
        self, wide: Array, gram: Array, rows: Array, centred: bool, largest: float
    ) -> None:
        xp = array_namespace(wide)
        own = wide[rows]
        n_all, count = wide.shape[0], own.shape[0]
        self.largest, self.n_train = largest, n_all - count
        self.rows, self.mean = rows, column_mean(own, centred)
        self.gain = n_all / (n_all - count) if centred else 1.0
        self.own = own - self.mean
        training = gram - xp.matmul(self.own.T, self.own)
        training = training - (count * self.gain) * self.mean[:, None] * self.mean[None]
        self.every, vectors = eigen(training)
        self.values, self.vectors = clip(self.every, vectors, *wide.shape, largest=largest)

    def fold(self, alphas: Sequence[float], dtype: Any) -> tuple[_Fold, float]:
        """Put the held-out part into the training part's eigenbasis; see `blur` for the number."""
        xp = array_namespace(self.own)
        vectors = xp.astype(self.vectors, dtype)
        row = (self.gain * self.own.shape[0] ** 0.5) * self.mean[None]
        extended = xp.concat([self.own, row], axis=0)
        readout = xp.matmul(xp.astype(extended, dtype), vectors)
        blurred = blur(readout, self.values, alphas, self.largest**0.5, self.n_train)
        basis = back = None
        n_features, rank = vectors.shape
        if triangular := extended.shape[0] > rank:
            basis, readout = xp.linalg.qr(readout)
            if rank == n_features:
                back = xp.matmul(vectors, readout.T)
        fold = _Fold(
            rows=self.rows,
            mean=xp.astype(self.mean, dtype),
            gain=self.gain,
            vectors=vectors,
            basis=basis,
            back=back,
            errors=fold_errors(readout, self.values, alphas, dtype, triangular=triangular),
        )
        return fold, blurred


@dataclass(frozen=True)
class HeldOutPart:
    """One fold on its own."""

    train: Array
    test: Array
    towards: Array  # (n_train, rank): from centred training targets to the eigenbasis
    basis: Array | None  # Q, (n_test, rank); None where the readout is not reduced
    errors: FoldErrors


@dataclass(frozen=True)
class SeparateErrors:
    """Errors of any folds, each factorised for itself."""

    fit_intercept: bool
    dtype: Any
    folds: tuple[HeldOutPart, ...] = field(repr=False)

    def errors(self, Y: Array) -> tuple[Array, Array]:
        """Return squared held-out errors (n_alphas, batch), and those of the mean (batch,)."""
        xp = array_namespace(Y)
        found = whole = None
        for fold in self.folds:
            train = Y[fold.train]
            mean = xp.astype(column_mean(train, self.fit_intercept), Y.dtype)
            inner = xp.matmul(fold.towards.T, train - mean)
            held = held_targets(Y[fold.test] - mean, fold.basis)
            part = fold.errors.errors(inner, held)
            found = part if found is None else found + part
            whole = held.total if whole is None else whole + held.total
        return found, whole


def separate_errors(
    X: Array,
    folds: Folds,
    alphas: Sequence[float],
    *,
    fit_intercept: bool = True,
    gram: Array | None = None,
) -> SeparateErrors:
    """Factorise every fold of the samples (n_samples, n_features) for itself.

    `gram` is XX' of all samples, centred by any mean (by none without an intercept), where it is
    known; the folds whose features outnumber their training samples take what they need from it.
    """
    xp = array_namespace(X)
    dtype, prepared = X.dtype, []
    for fold in folds:
        spectrum, readout = fold_spectrum(X, fold, alphas, fit_intercept, gram)
        prepared.append((*fold, spectrum.values, spectrum.wide_towards, readout))
        dtype = spectrum.precision_for(readout, alphas, dtype)  # of all folds, if of one
    parts = []
    for train, test, values, towards, held in prepared:
        basis, readout = None, held
        if triangular := held.shape[0] > held.shape[1]:
            basis, readout = xp.linalg.qr(held)
            basis = xp.astype(basis, dtype)
        errors = fold_errors(readout, values, alphas, dtype, triangular=triangular)
        parts.append(HeldOutPart(train, test, xp.astype(towards, dtype, copy=False), basis, errors))
    return SeparateErrors(fit_intercept, dtype, tuple(parts))


def fold_spectrum(
    X: Array,
    fold: tuple[Array, Array],
    alphas: Sequence[float],
    centred: bool,
    gram: Array | None = None,
) -> tuple[Spectrum, Array]:
    """Decompose a fold's training samples; return also its held-out ones in the eigenbasis.

    `gram` is that of `separate_errors`.
    """
    train, test = fold
    if gram is None or is_primal(len(train), X.shape[1]):
        spectrum = decompose(X[train], alphas, centred=centred)
        return spectrum, spectrum.basis(X[test])
    rows = gram[train]
    inner, crossed = rows[:, train], gram[test][:, train]
    spectrum = decompose(X[train], alphas, centred=centred, gram=inner)
    if centred:
        crossed = centred_rows(crossed, inner)
    return spectrum, spectrum.basis(X[test], crossed)


def centred_rows(crossed: Array, inner: Array) -> Array:
    """Centre products of other samples (m, n) with n samples by the mean of these.

    `inner` are the products of the n samples among themselves, centred by the same mean as
    `crossed`, or by none.
    """
    xp = array_namespace(crossed)
    crossed = crossed - xp.mean(inner, axis=0)
    return crossed - xp.mean(crossed, axis=1)[:, None]


def is_partition(n_samples: int, folds: Folds) -> bool:
    """Tell whether every sample is held out once, and is in training otherwise."""
    held = np.concatenate([np.asarray(test) for _, test in folds])
    if not np.array_equal(np.sort(held), np.arange(n_samples)):
        return False
    return all(
        len(train) + len(test) == n_samples and not np.intersect1d(train, test).size
        for train, test in folds
    )
