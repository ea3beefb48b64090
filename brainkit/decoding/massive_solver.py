r"""Ridge for hundreds of thousands of targets by one factorisation, a batch of them at a time.

With responses X (n, v), centred, and ``XX' = U Λ U'`` (*dual*, v > n) or ``X'X = V Λ V'``
(*primal*), every prediction is a linear map of the training targets Y,

.. math:: \hat Y = Z\, (\Lambda + \alpha)^{-1} T' Y,

T being U (dual) or XV (primal). Z = U gives weights of samples, Z = V coefficients of voxels, and
Z = X_t X'U (dual) or X_t V (primal) the predictions of test samples X_t, in which case no
coefficients are ever formed. Where many targets share a penalty the map (n, rows of Z) is formed
once (`TargetSolver`), and a batch of targets costs one product.

*Held-out samples* (`HeldOutSamples`). A linear smoother needs no refits to predict a part of the
samples from the others. With
:math:`G = U\, \mathrm{diag}(\alpha / (\lambda + \alpha))\, U' + P`, P the projection on
what neither U nor the mean reaches, the residuals of a part B that is left out are

.. math:: e_B = (G_{BB})^{-1} (G y)_B

exactly, the mean being fitted anew too (Allen, 1974, Technometrics 16:125, for single samples; An,
Liu and Venkatesh, 2007, Pattern Recognition 40:2154, for parts). That is a linear map of Y as well.
It is formed for some of the samples, drawn at random: the penalty is chosen on, and the spread of
predictions measured on, those. 1,024 of them know a standard deviation to 2 %.

*Few penalties* (`KernelInverses`). Where every block has one penalty and few of them differ, no
eigenvalues are needed: the same maps come from :math:`(XX' + \alpha)^{-1}`, by Cholesky's factors
and in a seventh of the time.

All of it runs on the processor, in NumPy; products use the threads of its BLAS.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotri
from scipy.sparse.linalg import eigsh

from brainkit.arrays.progress import track
from brainkit.decoding.target_streams import Notes, RidgeTask, TargetBatch
from brainkit.errors import InputError
from brainkit.linear.cross_validation import SampleErrors
from brainkit.linear.ridge_solver import select_alphas
from brainkit.linear.spectrum import DUAL_LOSSY, Spectrum, sample_products, shrink, spread
from brainkit.linear.targets import centred_targets, target_batches

Array = NDArray[Any]
Float = NDArray[np.float64]
MOST_BYTES = 2 << 30  # of the maps to held-out samples, of all penalties of a block
ROWS_AT_ONCE = 256  # summed in single precision
MOST_INVERSES = 6  # beyond which one decomposition is as fast
WELL_POSED = 1e5  # largest eigenvalue over penalty up to which inverses are as exact
PAYS = 2  # targets for each row of a map from which on it is worth forming


def held_out_map(
    left: Float,
    values: Float,
    alpha: float,
    codes: NDArray[np.int64],
    rows: NDArray[np.int64],
    *,
    centred: bool,
) -> Float:
    """Return the map from centred targets to residuals of held-out samples, (n_rows, n_samples).

    Parameters
    ----------
    left : float64 array (n_samples, rank)
        U; its columns sum to 0 where `centred`.
    values : float64 array (rank,)
        Eigenvalues.
    alpha : float
        Penalty, above 0.
    codes : array of int (n_samples,)
        Part of each sample, from 0; a part is left out as a whole. There are two at least.
    rows : array of int (n_rows,)
        Samples whose residuals are wanted, ascending.
    centred : bool
        Whether the mean is fitted.
    """
    n_samples, rank = left.shape
    kept = alpha / (values + alpha)
    beyond = n_samples - rank - (1 if centred else 0) > 0  # else P is 0
    share = 1 / n_samples if centred else 0.0
    if int(codes.max()) + 1 == n_samples:
        single = left[rows]
        leverage = np.square(single) @ kept  # G_ii
        mapped = (single * (kept - beyond)) @ left.T
        if beyond:
            leverage += 1 - share - np.square(single).sum(axis=1)
            mapped -= share
            mapped[np.arange(len(rows)), rows] += 1
        mapped /= leverage[:, None]
        return mapped
    inverse = []
    for part in np.unique(codes[rows]):
        inside = np.flatnonzero(codes == part)
        block = (left[inside] * kept) @ left[inside].T  # G_BB
        if beyond:
            block += np.eye(len(inside)) - share - left[inside] @ left[inside].T
        wanted = np.flatnonzero(np.isin(inside, rows))
        picked = np.zeros((len(inside), len(wanted)))
        picked[wanted, np.arange(len(wanted))] = 1
        inverse.append((inside, np.linalg.solve(block, picked).T))
    # In the order of the parts; put back into that of the rows at the end.
    reached = np.concatenate([weights @ left[inside] for inside, weights in inverse])
    mapped = (reached * (kept - beyond)) @ left.T
    if beyond:
        start = 0
        for inside, weights in inverse:
            own = slice(start, start + len(weights))
            mapped[own] -= share * weights.sum(axis=1, keepdims=True)
            mapped[own, inside] += weights
            start = own.stop
    order = np.argsort(codes[rows], kind="stable")
    unsorted = np.empty_like(mapped)
    unsorted[order] = mapped
    return unsorted


def map_of_inverse(inverse: Float, codes: NDArray[np.int64], rows: NDArray[np.int64]) -> Float:
    """Return what `held_out_map` does, from G or any multiple of it, (n_samples, n_samples)."""
    if int(codes.max()) + 1 == len(codes):
        return inverse[rows] / np.diag(inverse)[rows, None]
    mapped = np.empty((len(rows), len(codes)))
    for part in np.unique(codes[rows]):
        inside, own = np.flatnonzero(codes == part), np.flatnonzero(codes[rows] == part)
        picked = np.zeros((len(inside), len(own)))
        picked[np.searchsorted(inside, rows[own]), np.arange(len(own))] = 1
        weights = np.linalg.solve(inverse[np.ix_(inside, inside)], picked).T
        mapped[own] = weights @ inverse[inside]
    return mapped


class KernelInverses:
    r"""Inverses of the samples' kernel plus a penalty, :math:`(XX' + \alpha)^{-1}`, one at a time.

    Less :math:`\mathbf 1 \mathbf 1' / (n \alpha)` where means are fitted: the kernel of centred
    samples does not reach the direction of the mean.

    Parameters
    ----------
    samples : array (n_samples, n_features)
    mean : float64 array (n_features,)
        What is to be taken off them.
    gram : float64 array (n_samples, n_samples)
        XX' of what remains.
    centred : bool
    """

    primal = False

    def __init__(self, samples: Array, mean: Float, gram: Float, *, centred: bool) -> None:
        self.samples, self.mean, self.gram, self.centred = samples, mean, gram, centred
        start = np.sqrt(np.maximum(np.diag(gram), 0)) * np.resize([1.0, -1.0], len(gram))
        start += np.linspace(0, max(float(start.max()), 1.0), len(gram))
        largest = eigsh(gram, k=1, v0=start, tol=1e-3, return_eigenvectors=False)
        self.values: Float = np.array([0.0, float(largest[0])])
        self.dtype = samples.dtype
        self._formed: tuple[float, Float] | None = None

    def suits(self, alphas: Sequence[Sequence[float]]) -> bool:
        """Tell whether a few inverses do for blocks, in this order, with these candidates."""
        if any(len(candidates) > 1 for candidates in alphas):
            return False
        changes = sum(one != other for one, other in itertools.pairwise(alphas))
        least = min(candidates[0] for candidates in alphas)
        return changes < MOST_INVERSES and bool(self.values[1] < WELL_POSED * least)

    def inverse(self, alpha: float) -> Float:
        """Return the inverse for a penalty, in double precision."""
        if self._formed is None or self._formed[0] != alpha:
            self._formed = None  # let go of the one before, which is as large
            penalised = self.gram.copy().T  # symmetric, and laid out as LAPACK has it
            penalised[np.diag_indices(len(penalised))] += alpha
            factor, failed = dpotrf(penalised, lower=1, overwrite_a=1)
            inverse, _ = dpotri(factor, lower=1, overwrite_c=1)
            if failed:
                raise InputError(f"The responses are not finite, or {alpha:g} is no penalty.")
            for rows in target_batches(len(inverse), ROWS_AT_ONCE):
                corner = np.tril(inverse[rows, rows])
                inverse[rows, rows] = corner + np.tril(corner, -1).T
                inverse[rows, rows.stop :] = inverse[rows.stop :, rows].T
            if self.centred:
                inverse -= 1 / (alpha * len(inverse))
            self._formed = alpha, inverse
        return self._formed[1]


@dataclass(frozen=True)
class Measured:
    """What held-out samples tell of a batch of targets, by penalty.

    Attributes
    ----------
    total : float64 array (batch,)
        Squared error of a prediction by the mean of the samples that are not left out.
    errors : float64 array (n_alphas, batch)
        Squared errors; n times the criterion of generalised cross-validation where that chooses.
    mean, scale : float64 arrays (n_alphas, batch)
        Of the held-out predictions of centred targets.
    """

    total: Float
    errors: Float
    mean: Float
    scale: Float

    def packed(self) -> Float:
        """Return all of it as one table."""
        return np.concatenate([self.total[None], self.errors, self.mean, self.scale])

    @classmethod
    def unpacked(cls, table: Float) -> "Measured":
        """Take such a table apart."""
        errors, mean, scale = np.split(table[1:], 3)
        return cls(table[0], errors, mean, scale)


class HeldOutSamples:
    """Samples that are predicted from others, for several penalties.

    Parameters
    ----------
    spectrum : Spectrum or KernelInverses
    alphas : sequence of float
        Penalties, above 0.
    codes, rows : arrays of int
        See `held_out_map`. Without rows nothing is measured.
    centred : bool
    gcv : bool
        Whether errors are those of generalised cross-validation.

    Raises
    ------
    InputError
        If the maps would take more than 2 GiB.
    """

    def __init__(
        self,
        spectrum: "Spectrum | KernelInverses",
        alphas: Sequence[float],
        codes: NDArray[np.int64],
        rows: NDArray[np.int64],
        *,
        centred: bool,
        gcv: bool,
    ) -> None:
        dtype = np.dtype(spectrum.dtype)
        n_samples = len(codes)
        needed = len(alphas) * len(rows) * n_samples * dtype.itemsize
        if needed > MOST_BYTES:
            raise InputError(
                f"Held-out predictions of {len(rows)} of {n_samples} samples for {len(alphas)} "
                f"penalties would take {needed / 2**30:.3g} GiB; at most {MOST_BYTES >> 30} are "
                "spent on it. Give fewer penalties, or a smaller n_held_out."
            )
        self.alphas, self.codes, self.rows, self.centred = list(alphas), codes, rows, centred
        self.maps = np.empty((len(alphas), len(rows), n_samples), dtype=dtype)
        self.criterion = None
        if isinstance(spectrum, Spectrum):
            left, values = spectrum.left, spectrum.values
            for number, alpha in enumerate(alphas if len(rows) else ()):
                self.maps[number] = held_out_map(left, values, alpha, codes, rows, centred=centred)
            if gcv:
                self.criterion = SampleErrors(left, values, alphas, "gcv", centred, spectrum.dtype)
        else:
            for number, alpha in enumerate(alphas if len(rows) else ()):
                self.maps[number] = map_of_inverse(spectrum.inverse(alpha), codes, rows)
        self._sizes = np.bincount(codes)
        self._order = np.argsort(codes, kind="stable")
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)[:-1]])

    def measure(self, targets: Array) -> Measured:
        """Predict the held-out samples of centred targets (n_samples, batch)."""
        n_alphas, width = len(self.alphas), targets.shape[1]
        judged = None if self.criterion is None else self.criterion.errors(targets)
        if not len(self.rows):
            nothing = np.full((n_alphas, width), np.nan)
            errors, total = (nothing, nothing[0]) if judged is None else judged
            return Measured(total, errors, nothing, nothing)
        truth = targets[self.rows]
        errors, mean, scale = (np.empty((n_alphas, width)) for _ in range(3))
        for number in range(n_alphas):
            residual = self.maps[number] @ targets  # (n_rows, batch)
            errors[number] = np.square(residual).sum(axis=0, dtype=np.float64)
            predicted = truth - residual
            if self.centred:
                mean[number] = predicted.mean(axis=0, dtype=np.float64)
            else:
                mean[number] = 0.0
            spread = np.square(predicted - mean[number].astype(predicted.dtype))
            scale[number] = np.sqrt(spread.mean(axis=0, dtype=np.float64))
        total = np.square(self._less_others_mean(truth, targets)).sum(axis=0, dtype=np.float64)
        if judged is not None:
            errors, total = judged
        return Measured(total, errors, mean, scale)

    def _less_others_mean(self, truth: Array, targets: Array) -> Array:
        """Return the held-out samples less the mean of the samples outside of their part."""
        if not self.centred:
            return truth
        n_samples = len(self.codes)
        if len(self._sizes) == n_samples:
            return truth * targets.dtype.type(n_samples / (n_samples - 1))
        sums = np.add.reduceat(targets[self._order], self._starts, axis=0)
        others = sums / (n_samples - self._sizes)[:, None].astype(targets.dtype)  # they sum to 0
        less: Array = truth + others[self.codes[self.rows]]
        return less


class TargetSolver:
    """Targets → what a readout makes of them; see this module's first lines.

    Parameters
    ----------
    spectrum : Spectrum
    readout : float64 array (n_rows, rank)
        Z.
    dtype : dtype
        Dtype of the products.
    """

    def __init__(self, spectrum: Spectrum, readout: Float, dtype: Any) -> None:
        self.values, self._towards = spectrum.values, spectrum.wide_towards
        self._readout, self.dtype = readout, np.dtype(dtype)
        self._formed: tuple[float, Array] | None = None

    @cached_property
    def towards(self) -> Array:
        """T in the dtype of the products, (n_samples, rank)."""
        return self._towards.astype(self.dtype, copy=False)

    @cached_property
    def readout(self) -> Array:
        """Z in the dtype of the products, (n_rows, rank)."""
        if self._readout is self._towards:
            return self.towards
        return self._readout.astype(self.dtype, copy=False)

    def solve(self, targets: Array, alpha: float | Float, n_alike: int = 0) -> Array:
        """Return (batch, n_rows) from centred targets (n_samples, batch).

        Parameters
        ----------
        targets : array
        alpha : float or float64 array (batch,)
            One penalty, or one for each target.
        n_alike : int, default=0
            Targets in a row that have this one penalty, by which it is decided whether to form the
            map.
        """
        if isinstance(alpha, float) and n_alike > PAYS * len(self._readout):
            solved: Array = targets.T @ self._map(alpha)
            return solved
        projected = self.towards.T @ targets  # (rank, batch)
        shrunk: Array = shrink(self.values, projected, alpha)
        return np.asarray(shrunk.T @ self.readout.T)

    def _map(self, alpha: float) -> Array:
        """Return T (Λ + α)⁻¹ Z', (n_samples, n_rows), formed in double precision."""
        if self._formed is None or self._formed[0] != alpha:
            self._formed = None  # let go of the one before, which is as large
            formed = (self._towards / (self.values + alpha)) @ self._readout.T
            self._formed = alpha, formed.astype(self.dtype, copy=False)
        return self._formed[1]


class InverseSolver:
    """`TargetSolver` by inverses, each used for all targets that have its penalty.

    Parameters
    ----------
    inverses : KernelInverses
    crossed : float64 array (n_rows, n_samples), optional
        Kernel of test samples with those of training; weights of samples where not given.
    dtype : dtype
        Dtype of the products.
    """

    def __init__(self, inverses: KernelInverses, crossed: Float | None, dtype: Any) -> None:
        self.inverses, self.crossed, self.dtype = inverses, crossed, np.dtype(dtype)
        self._formed: tuple[float, Array] | None = None

    def solve(self, targets: Array, alpha: float | Float, _n_alike: int = 0) -> Array:
        """Return (batch, n_rows) from centred targets (n_samples, batch)."""
        penalty = float(np.max(alpha))
        if self._formed is None or self._formed[0] != penalty:
            self._formed = None
            formed = self.inverses.inverse(penalty)
            if self.crossed is not None:
                formed = formed @ self.crossed.T
            self._formed = penalty, formed.astype(self.dtype)
        solved: Array = targets.T @ self._formed[1]
        return solved


class MassiveFit:
    """One pass through all targets, or two where blocks are to share a penalty that is chosen.

    What is measured of a batch is a table with a column a target: mean and standard deviation,
    what `Measured` packs, and, once it is solved, the penalty and the unit of its coefficients.
    """

    def __init__(
        self,
        task: RidgeTask,
        spectrum: Spectrum | KernelInverses,
        notes: Notes,
        *,
        centred: bool,
        per_target: bool,
        gcv: bool,
        restores: bool,
    ) -> None:
        self.task, self.spectrum, self.notes = task, spectrum, notes
        self.centred, self.per_target = centred, per_target
        self.gcv, self.restores = gcv, restores
        self.batches = task.batches()
        self.tables: dict[int, Float] = {}
        self._held: HeldOutSamples | None = None
        self.alphas = [np.asarray(alphas) for alphas in task.alphas]
        self._choose()

    @property
    def least(self) -> float:
        """The smallest penalty that there may still be."""
        return min(float(alphas.min()) for alphas in self.alphas)

    @property
    def width(self) -> int:
        """Number of coefficients of a target."""
        if isinstance(self.spectrum, KernelInverses):
            return len(self.spectrum.gram)
        return len(self.spectrum.vectors)

    def solver(
        self, tested: Array | None = None, dtype: Any = None
    ) -> TargetSolver | InverseSolver:
        """Return what solves for coefficients, or for predictions of test samples.

        Parameters
        ----------
        tested : array (n_test, n_features), optional
            Test samples.
        dtype : dtype, optional
            Dtype of the products; that in which predictions are safe where not given.
        """
        if isinstance(self.spectrum, KernelInverses):
            inverses = self.spectrum
            crossed = None
            if tested is not None:
                crossed = sample_products(tested, inverses.samples, inverses.mean)
            return InverseSolver(inverses, crossed, inverses.dtype if dtype is None else dtype)
        readout = self.spectrum.vectors if tested is None else self.spectrum.basis(tested)
        if dtype is None:
            dtype = self.spectrum.precision_for(readout, [self.least], self.spectrum.dtype)
        return TargetSolver(self.spectrum, readout, dtype)

    def _choose(self) -> None:
        """Choose one penalty for each block that has several, unless its targets choose."""
        several = [len(alphas) > 1 and not self.per_target for alphas in self.alphas]
        deferred = [batch for batch in self.batches if several[batch.block]]
        summed: dict[int, Float] = {}
        for batch in track(deferred, "ridge: penalties"):
            table = self.notes.get("measured", batch.number)
            if table is None:
                table = self._measure(batch, *self._read(batch, self.spectrum.dtype))
                self.notes.put("measured", batch.number, table)
            self.tables[batch.number] = table
            errors = Measured.unpacked(table[2:]).errors[:, table[1] > 0].sum(axis=1)
            summed[batch.block] = summed.get(batch.block, 0.0) + errors
        for block, errors in summed.items():
            best = select_alphas(errors[:, None], self.task.alphas[block])
            self.alphas[block] = self.alphas[block][best]

    def _read(self, batch: TargetBatch, dtype: Any) -> tuple[Array, Float]:
        """Read a batch; return it centred, and mean and standard deviation of each target."""
        block = self.task.blocks[batch.block]
        like = np.empty(0, dtype=np.promote_types(self.task.samples.dtype, dtype))
        targets, mean = centred_targets(block, batch.inside, like, self.centred, dtype)
        squares = _mean_squares(targets)
        bad = np.flatnonzero(~np.isfinite(squares))
        if len(bad):
            raise InputError(
                f"Target {batch.inside.start + int(bad[0])} of block {block.name!r} holds NaN or "
                "an infinity. Mend it, or leave it out."
            )
        if self.centred:  # what rounding leaves of a constant is no variance
            for one in np.flatnonzero(squares <= (1e-5 * np.abs(mean)) ** 2):
                place = batch.inside.start + int(one)
                values = block[:, place : place + 1]
                if np.ptp(values) == 0:
                    targets[:, one], squares[one], mean[one] = 0, 0, values[0, 0]
        return targets, np.stack([mean, np.sqrt(squares)])

    def _measure(self, batch: TargetBatch, targets: Array, statistics: Float) -> Float:
        """Return what held-out samples tell of a batch, for all candidates of its block."""
        candidates = self.task.alphas[batch.block]
        if self._held is None or self._held.alphas != candidates:
            self._held = None  # let go of the maps before, which are as large
            self._held = HeldOutSamples(
                self.spectrum, candidates, self.task.codes, self.task.rows,
                centred=self.centred, gcv=self.gcv,
            )  # fmt: skip
        measured = self._held.measure(targets.astype(self._held.maps.dtype, copy=False))
        return np.concatenate([statistics, measured.packed()])

    def solve(
        self,
        solver: TargetSolver | InverseSolver,
        table: Any,
        *,
        predicts: bool = False,
        half: bool = False,
    ) -> None:
        """Write what the solver makes of each batch.

        Parameters
        ----------
        solver : TargetSolver or InverseSolver
        table : object with ``write(part, rows)``
            Takes (batch, n_rows) of a slice of the targets.
        predicts : bool, default=False
            What is solved are predictions: give them their mean and spread.
        half : bool, default=False
            What is solved goes to half precision: divide it by its largest value.
        """
        alike = self._alike()
        fine = np.promote_types(self.spectrum.dtype, solver.dtype)
        for batch in track(self.batches, "ridge"):
            done = self.notes.get("solved", batch.number)
            if done is not None:
                self.tables[batch.number] = done
                continue
            targets, statistics = self._read(batch, fine)
            known = self.tables.get(batch.number)
            if known is None:
                known = self._measure(batch, targets, statistics)
            candidates = self.alphas[batch.block]
            if len(candidates) > 1:
                errors = Measured.unpacked(known[2:]).errors
                penalties = candidates[select_alphas(errors, candidates.tolist())]
            else:
                penalties = np.full(targets.shape[1], candidates[0])
            solved = solver.solve(
                targets.astype(solver.dtype, copy=False),
                penalties if len(candidates) > 1 else float(candidates[0]),
                alike[batch.block],
            )  # (batch, n_rows)
            unit = np.ones(len(solved))
            if predicts:
                solved = restored_spread(solved, *self._restoring(batch, known, penalties))
            elif half:  # which has few digits below 6e-5, and nothing below 6e-8
                largest = np.abs(solved).max(axis=1)
                unit = np.where(largest > 0, largest, 1).astype(np.float64)
                solved = solved / unit[:, None].astype(solved.dtype)
            table.write(batch.part, solved)
            self.tables[batch.number] = np.concatenate([known, penalties[None], unit[None]])
            self.notes.put("solved", batch.number, self.tables[batch.number])

    def _alike(self) -> list[int]:
        """Return for each block how many targets in a row have its penalty; 0 where they choose."""
        counts = [0] * len(self.alphas)
        start = 0
        for stop in range(1, len(counts) + 1):
            end = stop == len(counts) or not np.array_equal(self.alphas[stop], self.alphas[start])
            if end:
                number = sum(block.shape[1] for block in self.task.blocks[start:stop])
                counts[start:stop] = [number * (len(self.alphas[start]) == 1)] * (stop - start)
                start = stop
        return counts

    def _at(self, batch: TargetBatch, table: Float, penalties: Float) -> Float:
        """Return error, total, mean and scale of held-out predictions at the penalties, (4, n)."""
        candidates = np.asarray(self.task.alphas[batch.block])
        n_rows = 3 + 3 * len(candidates)
        measured = Measured.unpacked(table[2:n_rows])
        place = np.argmax(candidates[:, None] == penalties, axis=0)[None]
        error, mean, scale = (
            np.take_along_axis(each, place, axis=0)[0]
            for each in (measured.errors, measured.mean, measured.scale)
        )
        return np.stack([error, measured.total, mean, scale])

    def _restoring(
        self, batch: TargetBatch, table: Float, penalties: Float
    ) -> tuple[Float, Float, Float]:
        """Return mean, shift and factor of a batch; see `restored_spread`."""
        if not self.restores:
            return table[0], np.zeros(1), np.ones(1)
        _, _, mean, scale = self._at(batch, table, penalties)
        deviation = np.where(table[1] > 0, table[1], 1.0)
        return table[0], mean, self.gain(scale / deviation)

    def gain(self, predicted_scale: Float) -> Float:
        """Return the factor of each target; 1 where nothing is predicted, or nothing restored."""
        if not self.restores:
            return np.ones_like(predicted_scale)
        return np.divide(
            1.0, predicted_scale, out=np.ones_like(predicted_scale), where=predicted_scale > 1e-6
        )

    def found(self) -> Float:
        """Return (8, n_targets): mean, deviation, penalty, error, total, mean, scale, unit."""
        parts = []
        for batch in self.batches:
            table = self.tables[batch.number]
            penalties, unit = table[-2:]
            at = self._at(batch, table, penalties)
            parts.append(np.concatenate([table[:2], penalties[None], at, unit[None]]))
        return np.concatenate(parts, axis=1)

    def errors(self, block: int) -> Float:
        """Return squared held-out errors of all candidates of a block, (n_alphas, n_targets)."""
        n_alphas = len(self.task.alphas[block])
        tables = [self.tables[batch.number] for batch in self.batches if batch.block == block]
        return np.concatenate([table[3 : 3 + n_alphas] for table in tables], axis=1)


def _mean_squares(targets: Array) -> Float:
    """Return the mean square of each target (n_samples, n_targets); NaN or infinite if one is."""
    total = np.zeros(targets.shape[1])
    for rows in target_batches(len(targets), ROWS_AT_ONCE):
        part = targets[rows]
        total += np.einsum("ij,ij->j", part, part)
    return total / len(targets)


def weight_precision(spectrum: Spectrum | KernelInverses, least: float) -> np.dtype[Any]:
    """Return the dtype of coefficients; weights of samples are double where single would blur."""
    blunt = not spectrum.primal and spread(spectrum.values, [least]) > DUAL_LOSSY
    return np.dtype(np.float64 if blunt else spectrum.dtype)


def restored_spread(deviation: Array, mean: Float, shift: Float, factor: Float) -> Array:
    """Return predictions (batch, n_rows) from what ridge predicts beyond the training mean."""
    moved = (deviation - shift[:, None]) * factor[:, None] + mean[:, None]
    return moved.astype(deviation.dtype, copy=False)
