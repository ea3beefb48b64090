r"""Held-out errors of ridge for every penalty and target: folds, single samples, one held-out part.

*Folds* come in a form that serves every penalty and every batch of targets. Where every sample is
held out once and there are no more features than samples, the folds' cross-products add up to those
of all samples and are formed once (`PartitionErrors`): K folds cost one product X'Y and, for each
fold, products of the size of X'X with the targets. Any other folds, and features that outnumber the
samples, are treated one by one (`SeparateErrors`); the latter share one XX'.

*One held-out part* (`FoldErrors`). With :math:`V \Lambda V'` the training features' X'X and b =
V'X'Y its cross-products, the error on the held-out samples X_h, Y_h is

.. math:: \lVert Y_h - X_h V (\Lambda + \alpha)^{-1} b \rVert^2
          = \lVert Q' Y_h - R\, (\Lambda + \alpha)^{-1} b \rVert^2 + \text{const},
          \qquad X_h V = Q R.

R is triangular, which saves half of every product where there are more held-out samples than
features.

*Single samples* (`SampleErrors`): leave-one-out and generalised cross-validation, from one
decomposition of all samples. With :math:`X = U S V'`, centred, C = U'Y, what shrinkage leaves of a
direction, :math:`g_i = \alpha / (s_i^2 + \alpha)`, and P the projection on what neither U nor the
mean reaches, the residual of a sample that was left out is

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

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from brainkit.errors import InputError, unknown_name
from brainkit.linear.spectrum import (
    Spectrum,
    Stretch,
    blur,
    clip,
    decompose,
    eigen,
    is_ill,
    is_primal,
    precision,
    stretches,
)
from brainkit.linear.targets import column_mean, deviations, widened

Array = Any  # a NumPy array or a torch tensor
Float = NDArray[np.float64]
Folds = Sequence[tuple[Array, Array]]
CACHED = 24 << 20  # bytes that the inner loop works on at once, so that they stay in the cache
SMALL = 1e-3  # share of a target outside of the readout below which it is not taken as a difference
PIECE = 128  # rows of a triangular readout that are multiplied at once
WAYS = ("loo", "gcv")
ROWS_AT_ONCE = 1024
NEAR_ONE = 1e-3  # what U leaves of a sample below which it is not taken as 1 less what it reaches
TIE = 1e-5  # relative difference of errors that single precision cannot be trusted to tell
DETERMINED = 1e-2  # denominators below which single precision blurs residuals


@dataclass(frozen=True)
class _Weighted:
    """A stretch of eigenvalues, and the products that its functions take.

    Attributes
    ----------
    start, stop : int
        Columns of the readout that the stretch takes up.
    first : int
        Place of the first function among all.
    functions : array (n_functions, stop - start, 1)
    blocks : tuple of (slice, int)
        Rows of the readout, and the first column of the stretch that is not zero in them. Rows that
        are in no block are zero.
    """

    start: int
    stop: int
    first: int
    functions: Array
    blocks: tuple[tuple[slice, int], ...]


@dataclass(frozen=True)
class FoldErrors:
    """What one fold's errors are computed from.

    Attributes
    ----------
    readout : array (n_rows, rank)
        R, or the held-out samples in the eigenbasis.
    stretches : tuple of _Weighted
    mixing : array (n_alphas, n_functions + 1)
        Weights by which functions mix into penalties (t of `Stretch`), of all stretches, and -1 for
        the truth: the mixture is the residual.
    """

    readout: Array
    stretches: tuple[_Weighted, ...]
    mixing: Array

    def errors(self, inner: Array, held: "Held") -> Array:
        """Return squared errors (n_alphas, n_targets) in double precision.

        Parameters
        ----------
        inner : array (rank, n_targets)
            b, training targets in the eigenbasis.
        held : Held
            The held-out targets.
        """
        xp = array_namespace(inner)
        truth = held.truth
        n_alphas, n_arrays = self.mixing.shape
        rows, n_targets = truth.shape
        if not rows:  # nothing but the mean is predicted
            return held.outside + xp.zeros((n_alphas, 1), dtype=xp.float64, device=inner.device)
        width = (n_alphas + n_arrays) * rows * (xp.finfo(inner.dtype).bits // 8)
        size = max(32, CACHED // width) if _on_cpu(inner) else n_targets
        errors: list[Array] = []
        products: Array = None
        mixed: Array = None
        for start in range(0, n_targets, size):
            part = slice(start, min(start + size, n_targets))
            shape = (n_arrays, rows, part.stop - part.start)
            if products is None or products.shape != shape:
                products = xp.zeros(shape, dtype=inner.dtype, device=inner.device)
                mixed = xp.empty((n_alphas, *shape[1:]), dtype=inner.dtype, device=inner.device)
            self._fill(products, inner[:, part], truth[:, part])
            flat = xp.reshape(mixed, (n_alphas, -1))
            xp.matmul(self.mixing, xp.reshape(products, (n_arrays, -1)), out=flat)
            flat *= flat
            errors.append(xp.sum(mixed, axis=1, dtype=xp.float64))
        return xp.concat(errors, axis=1) + held.outside

    def _fill(self, products: Array, inner: Array, truth: Array) -> None:
        """Write the readout's products for every function, and the truth last."""
        xp = array_namespace(inner)
        for part in self.stretches:
            targets = inner[part.start : part.stop]
            for number in range(part.functions.shape[0]):
                weighted = part.functions[number] * targets
                target = products[part.first + number]
                for rows, column in part.blocks:
                    readout = self.readout[rows, column : part.stop]
                    xp.matmul(readout, weighted[column - part.start :], out=target[rows])
        products[-1] = truth


@dataclass(frozen=True)
class Held:
    """Held-out targets, less the training mean, as predictions are compared with them.

    Attributes
    ----------
    truth : array (n_rows, n_targets)
        Q'Y; Y itself where the readout is not reduced to fewer rows.
    outside : float64 array (n_targets,)
        Squared length of what no prediction reaches, Y - QQ'Y.
    total : float64 array (n_targets,)
        Squared length of Y.
    """

    truth: Array
    outside: Array
    total: Array

    def take(self, which: Array) -> "Held":
        """Return some of the targets."""
        xp = array_namespace(self.truth)
        return Held(xp.take(self.truth, which, axis=1), self.outside[which], self.total[which])


def held_targets(Y: Array, basis: Array | None) -> Held:
    """Split held-out targets (n_held_out, n_targets) by the basis Q of the readout, or by none.

    What lies outside is the difference of two sums of squares only where it is no small one.
    """
    xp = array_namespace(Y)
    total = xp.sum(Y**2, axis=0, dtype=xp.float64)
    if basis is None:
        return Held(Y, xp.zeros_like(total), total)
    truth = xp.matmul(basis.T, Y)  # (rank, n_targets)
    outside = total - xp.sum(truth**2, axis=0, dtype=xp.float64)
    small = xp.nonzero(outside < SMALL * total)[0]
    if small.shape[0]:
        rest = xp.take(Y, small, axis=1) - xp.matmul(basis, xp.take(truth, small, axis=1))
        outside[small] = xp.sum(rest**2, axis=0, dtype=xp.float64)
    return Held(truth, outside, total)


def fold_errors(
    readout: Array,
    values: Array,
    alphas: Sequence[float],
    dtype: Any,
    *,
    triangular: bool,
    slack: float = 1.0,
) -> FoldErrors:
    """Prepare a fold from its readout (n_rows, rank) and its eigenvalues (rank,), double.

    No eigenvalue is 0 where a penalty may be, see `brainkit.linear.spectrum.clip`. `slack` is that
    of `brainkit.linear.spectrum.stretches`.
    """
    xp = array_namespace(readout)
    eigenvalues = np.asarray(_to_numpy(values))
    if not eigenvalues.size:  # samples that do not vary: every prediction is the mean
        nothing = xp.full((len(alphas), 1), -1.0, dtype=dtype, device=readout.device)
        return FoldErrors(xp.astype(readout, dtype), (), nothing)
    cut = stretches(eigenvalues, alphas, np.float32 if dtype == xp.float32 else np.float64, slack)
    mixing = np.concatenate([*(s.mixing for s in cut), -np.ones((len(alphas), 1))], axis=1)

    def like(values: Any) -> Array:
        return xp.asarray(values, dtype=dtype, device=readout.device)

    weighted: list[_Weighted] = []
    first = 0
    for stretch in cut:
        functions = like(stretch.functions.T[:, :, None])
        blocks = _blocks(stretch) if triangular else ((slice(0, readout.shape[0]), stretch.start),)
        weighted.append(_Weighted(stretch.start, stretch.stop, first, functions, blocks))
        first += functions.shape[0]
    return FoldErrors(xp.astype(readout, dtype), tuple(weighted), like(mixing))


def _blocks(stretch: Stretch) -> tuple[tuple[slice, int], ...]:
    """Cut the rows down to the diagonal, so that little below it is multiplied."""
    length = stretch.stop - stretch.start
    count = max(1, round(length / PIECE))
    edges = [stretch.start + length * number // count for number in range(count + 1)]
    cut = [(slice(start, stop), start) for start, stop in itertools.pairwise(edges)]
    # All rows above the stretch go with its first block: they reach its first column as well.
    return ((slice(0, cut[0][0].stop), stretch.start), *cut[1:])


def _to_numpy(values: Array) -> Any:
    return values.cpu().numpy() if hasattr(values, "cpu") else values


def _on_cpu(values: Array) -> bool:
    return str(values.device).startswith("cpu")


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
        Dtype that targets are to be multiplied in; it becomes double precision where it has to be.
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
            denominators = rest[:, None] + xp.matmul(squares, self.kept.T)  # (n_samples, n_alphas)
            least = float(xp.min(denominators)) if self.n_samples else 1.0
        else:
            denominators = (self.beyond + xp.sum(self.kept, axis=1)) / self.n_samples  # (n_alphas,)
            least = float(xp.min(denominators))
        if least <= 0:
            raise InputError(
                "A sample left out is predicted by itself alone: it has a feature that no other "
                f"sample has, and penalties of {min(alphas):.3g} leave it free. Give larger ones, "
                "or a number of folds."
            )
        self.dtype = xp.float64 if least < DETERMINED and self.beyond else dtype
        self.weights, self.wide, self.centred = 1 / denominators, left, fit_intercept
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
        errors = self._errors(Y, self.left)
        if self.dtype != xp.float64:
            # Penalties far below every eigenvalue differ by less than single precision can tell.
            near = errors <= (1 + TIE) * xp.min(errors, axis=0)
            close = xp.nonzero(xp.sum(xp.astype(near, xp.int64), axis=0) > 1)[0]
            if close.shape[0]:
                wide = widened(xp.take(Y, close, axis=1), xp.float64, self.centred)
                errors[:, close] = self._errors(wide, self.wide)
        total = xp.sum(Y**2, axis=0, dtype=xp.float64)
        return errors, total * self.mean_weight**2

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
        errors = xp.zeros(shape, dtype=xp.float64, device=projected.device)
        kept, weights = (xp.astype(part, projected.dtype) for part in (self.kept, self.weights))
        for start in range(0, self.n_samples, ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            for number in range(shape[0]):
                residual = xp.matmul(left[rows] * kept[number], projected)  # (rows, n_targets)
                if outside is not None:
                    residual += outside[rows]
                residual *= weights[rows, number][:, None]
                errors[number] += xp.sum(residual**2, axis=0, dtype=xp.float64)
        return errors

    def _generalised(self, left: Array, projected: Array, outside: Array | None) -> Array:
        xp = array_namespace(projected)
        errors = []
        for number in range(self.kept.shape[0]):
            shrunk = projected * xp.astype(self.kept[number], projected.dtype)[:, None]
            errors.append(xp.sum(shrunk**2, axis=0, dtype=xp.float64))
        sums = xp.stack(errors)
        if outside is not None:
            sums = sums + xp.sum(outside**2, axis=0, dtype=xp.float64)
        return sums * self.weights[:, None] ** 2


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
        Eigenvalues and eigenvectors of X'X over all samples.
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
            targets = Y[fold.rows]
            mean = xp.astype(column_mean(targets, self.fit_intercept), Y.dtype)
            # Held-out targets less their mean, and the mean's own row: see `_Fold`.
            row = (fold.gain * len(fold.rows) ** 0.5) * mean[None]
            extended = xp.concat([targets - mean, row], axis=0)
            held = held_targets(extended, fold.basis)
            if fold.back is None:
                cross = xp.matmul(self.samples[fold.rows].T, targets - mean)
                cross += (len(fold.rows) * fold.gain**2) * fold.mean[:, None] * mean[None]
            else:
                cross = xp.matmul(fold.back, held.truth)  # (n_features, batch)
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
        total = None
        for number in which:
            fold = self.of.folds[number]
            # A fold's products are extended by g² n m m'; over all samples it is n m m'.
            excess = len(fold.rows) * (fold.gain**2 - 1)
            part = self.crosses[number] - excess * fold.mean[:, None] * self.means[number][None]
            total = part if total is None else total + part
        return total

    def errors(self) -> Array:
        """Return squared held-out errors summed over folds, (n_alphas, batch)."""
        xp = array_namespace(self.crosses[0])
        all_cross, errors = self.cross, None
        for number, fold in enumerate(self.of.folds):
            held_cross = self.crosses[number]
            # n m m' goes with the fold, and n² / (N - n) m m' by the training mean: n g m m'.
            surplus = len(fold.rows) * (fold.gain**2 - fold.gain)
            held_cross = held_cross - surplus * fold.mean[:, None] * self.means[number][None]
            inner = xp.matmul(fold.vectors.T, all_cross - held_cross)  # (rank, batch)
            part = fold.errors.errors(inner, self.held[number])
            errors = part if errors is None else errors + part
        return errors


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
    gram = xp.matmul(wide.T, wide)  # (n_features, n_features)
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
        held_out = wide[rows]
        n_all, count = wide.shape[0], held_out.shape[0]
        self.largest, self.n_train = largest, n_all - count
        self.rows, self.mean = rows, column_mean(held_out, centred)
        self.gain = n_all / (n_all - count) if centred else 1.0
        self.held_out = held_out - self.mean
        training = gram - xp.matmul(self.held_out.T, self.held_out)
        training = training - (count * self.gain) * self.mean[:, None] * self.mean[None]
        self.every, vectors = eigen(training)
        self.values, self.vectors = clip(self.every, vectors, *wide.shape, largest=largest)

    def fold(self, alphas: Sequence[float], dtype: Any) -> tuple[_Fold, float]:
        """Put the held-out part into the training part's eigenbasis; see `blur` for the number."""
        xp = array_namespace(self.held_out)
        vectors = xp.astype(self.vectors, dtype)
        row = (self.gain * self.held_out.shape[0] ** 0.5) * self.mean[None]
        extended = xp.concat([self.held_out, row], axis=0)
        readout = xp.matmul(xp.astype(extended, dtype), vectors)  # (n_held_out + 1, rank)
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
        errors = total = None
        for fold in self.folds:
            train = Y[fold.train]
            mean = xp.astype(column_mean(train, self.fit_intercept), Y.dtype)
            inner = xp.matmul(fold.towards.T, train - mean)  # (rank, batch)
            held = held_targets(Y[fold.test] - mean, fold.basis)
            part = fold.errors.errors(inner, held)
            errors = part if errors is None else errors + part
            total = held.total if total is None else total + held.total
        return errors, total


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
