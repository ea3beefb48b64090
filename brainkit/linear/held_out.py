r"""Folds in a form that serves every penalty and every batch of targets.

Where every sample is held out once and there are no more features than samples, the folds'
cross-products add up to those of all samples and are formed once (`PartitionErrors`): K folds cost
one product X'Y and, for each fold, products of the size of X'X with the targets. Any other folds,
and features that outnumber the samples, are treated one by one (`SeparateErrors`).

The functions take NumPy arrays or torch tensors, on any device.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace

from brainkit.linear.fold_errors import FoldErrors, fold_errors, is_lossy
from brainkit.linear.spectrum import eigen, is_primal, sample_products
from brainkit.linear.targets import column_mean

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
    basis: Array | None  # Q, (n_rows + 1, rank); None where there are fewer rows than features
    back: Array | None  # V R', (n_features, rank): from Q'Y to the fold's cross-products
    errors: FoldErrors


@dataclass(frozen=True)
class PartitionErrors:
    """Errors of folds that hold every sample out once, with no more features than samples.

    Attributes
    ----------
    values, vectors : float64 array (n_features,), array (n_features, n_features)
        Of X'X over all samples.
    """

    samples: Array
    fit_intercept: bool
    values: Array
    vectors: Array
    folds: tuple[_Fold, ...] = field(repr=False)

    def batch(self, Y: Array) -> "PartitionBatch":
        """Form what a batch of targets (n_samples, batch), centred, needs of the data."""
        xp = array_namespace(Y)
        crosses, truths, totals, means = [], [], [], []
        for fold in self.folds:
            own = Y[fold.rows]
            mean = column_mean(own, self.fit_intercept)
            # Held-out targets less their mean, and the mean's own row: see `_Fold`.
            row = (fold.gain * len(fold.rows) ** 0.5) * mean[None]
            extended = xp.concat([own - mean, row], axis=0)
            totals.append(xp.sum(extended**2, axis=0, dtype=xp.float64))
            truth = extended if fold.basis is None else xp.matmul(fold.basis.T, extended)
            if fold.back is None:
                cross = xp.matmul(self.samples[fold.rows].T, own - mean)
                cross += (len(fold.rows) * fold.gain**2) * fold.mean[:, None] * mean[None]
            else:
                cross = xp.matmul(fold.back, truth)
            truths.append(truth)
            crosses.append(cross)
            means.append(mean)
        return PartitionBatch(self, crosses, truths, totals, means)


@dataclass(frozen=True)
class PartitionBatch:
    """A batch of targets in the terms of `PartitionErrors`."""

    of: PartitionErrors
    crosses: list[Array]
    truths: list[Array]
    totals: list[Array]
    means: list[Array]

    @cached_property
    def cross(self) -> Array:
        """X'Y over all samples, (n_features, batch)."""
        return self._sum(range(len(self.crosses)))

    @property
    def total(self) -> Array:
        """Squared error of the training mean, summed over folds, (batch,)."""
        return sum(self.totals)

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
            part = fold.errors.errors(inner, self.truths[number], self.totals[number])
            found = part if found is None else found + part
        return found


def partition_errors(
    samples: Array, folds: Sequence[tuple[Array, Array]], alphas: Sequence[float], *,
    fit_intercept: bool = True,
) -> PartitionErrors:  # fmt: skip
    """Factorise every fold of centred samples (n_samples, n_features)."""
    xp = array_namespace(samples)
    wide = xp.astype(samples, xp.float64)
    gram = xp.matmul(wide.T, wide)
    values, vectors = eigen(gram)
    lossy = is_lossy(values, alphas)
    dtype = xp.float64 if lossy else samples.dtype
    prepared = tuple(_prepare(wide, gram, test, alphas, dtype, fit_intercept) for _, test in folds)
    kept = wide if lossy else samples
    return PartitionErrors(kept, fit_intercept, values, xp.astype(vectors, dtype), prepared)


def _prepare(
    wide: Array, gram: Array, rows: Array, alphas: Sequence[float], dtype: Any, centred: bool
) -> _Fold:
    """Factorise one fold: the training part's X'X and the held-out part in its eigenbasis."""
    xp = array_namespace(wide)
    n_all, n_features = wide.shape
    own = wide[rows]
    count = own.shape[0]
    mean = column_mean(own, centred)
    gain = n_all / (n_all - count) if centred else 1.0
    own = own - mean
    outer = xp.matmul(own.T, own)
    training = gram - outer - (count * gain) * mean[:, None] * mean[None]
    values, vectors = eigen(training)
    vectors = xp.astype(vectors, dtype)
    extended = xp.concat([own, (gain * count**0.5) * mean[None]], axis=0)
    readout = xp.matmul(xp.astype(extended, dtype), vectors)
    basis = back = None
    if triangular := extended.shape[0] > n_features:
        basis, readout = xp.linalg.qr(readout)
        back = xp.matmul(vectors, readout.T)
    return _Fold(
        rows=rows,
        mean=xp.astype(mean, dtype),
        gain=gain,
        vectors=vectors,
        basis=basis,
        back=back,
        errors=fold_errors(readout, values, alphas, dtype, triangular=triangular),
    )


@dataclass(frozen=True)
class _Part:
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
    folds: tuple[_Part, ...] = field(repr=False)

    def errors(self, Y: Array) -> tuple[Array, Array]:
        """Return squared held-out errors (n_alphas, batch), and those of the mean (batch,)."""
        xp = array_namespace(Y)
        found = whole = None
        for fold in self.folds:
            train = Y[fold.train]
            mean = column_mean(train, self.fit_intercept)
            inner = xp.matmul(fold.towards.T, train - mean)
            truth = Y[fold.test] - mean
            total = xp.sum(truth**2, axis=0, dtype=xp.float64)
            if fold.basis is not None:
                truth = xp.matmul(fold.basis.T, truth)
            part = fold.errors.errors(inner, truth, total)
            found = part if found is None else found + part
            whole = total if whole is None else whole + total
        return found, whole


def separate_errors(
    X: Array, folds: Folds, alphas: Sequence[float], *, fit_intercept: bool = True
) -> SeparateErrors:
    """Factorise every fold of the samples (n_samples, n_features) for itself."""
    xp = array_namespace(X)
    prepared = []
    lossy = False
    for train, test in folds:
        x_train = X[train]
        x_mean = column_mean(x_train, fit_intercept)
        primal = is_primal(*x_train.shape)
        wide = xp.astype(x_train - x_mean, xp.float64)
        held = xp.astype(X[test] - x_mean, xp.float64)
        values, vectors = eigen(xp.matmul(wide.T, wide) if primal else sample_products(wide))
        readout = xp.matmul(held if primal else xp.matmul(held, wide.T), vectors)
        towards = xp.matmul(wide, vectors) if primal else vectors
        basis = None
        if triangular := readout.shape[0] > readout.shape[1]:
            basis, readout = xp.linalg.qr(readout)
        lossy = lossy or is_lossy(values, alphas)
        prepared.append((train, test, towards, basis, readout, values, triangular))
    dtype = xp.float64 if lossy else X.dtype
    parts = tuple(
        _Part(
            train,
            test,
            xp.astype(towards, dtype),
            None if basis is None else xp.astype(basis, dtype),
            fold_errors(readout, values, alphas, dtype, triangular=triangular),
        )
        for train, test, towards, basis, readout, values, triangular in prepared
    )
    return SeparateErrors(fit_intercept, dtype, parts)


def is_partition(n_samples: int, folds: Folds) -> bool:
    """Tell whether every sample is held out once, and is in training otherwise."""
    held = np.concatenate([np.asarray(test) for _, test in folds])
    if not np.array_equal(np.sort(held), np.arange(n_samples)):
        return False
    return all(
        len(train) + len(test) == n_samples and not np.intersect1d(train, test).size
        for train, test in folds
    )
