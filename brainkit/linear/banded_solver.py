r"""Banded ridge: bands of features, each with a penalty of its own for every target (voxel).

For every target t, with the columns of X in bands :math:`X_1, X_2, ...`,

.. math:: \min_{w, c} \Big\lVert y_t - \sum_b \sqrt{\gamma_{tb}}\, X_b w_b - c \Big\rVert^2
          + \alpha_t \lVert w \rVert^2,
          \qquad \gamma_{tb} \ge 0, \quad \sum_b \gamma_{tb} = 1,

which is ridge with a penalty of :math:`\alpha_t / \gamma_{tb}` on band b. A band with a weight of
0 is switched off. Weights are drawn at random on the simplex, penalties come from a grid, and every
target takes the pair with the least squared error summed over held-out samples (Dupré la Tour,
Eickenberg, Nunez-Elizalde and Gallant, 2022, NeuroImage 264:119728; banded ridge: Nunez-Elizalde,
Huth and Gallant, 2019, NeuroImage 197:482).

The choice is exact K-fold cross-validation for every target, unless a `RacingRule` gives up draws
that fall behind before all folds are seen. `solve_banded_ridge` takes weights and penalties that
are known, such as those of other data.
The functions take NumPy arrays or torch tensors, on any device, and return the same kind.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.progress import track
from brainkit.errors import InputError
from brainkit.linear.bands import (
    CONCENTRATIONS,
    BandFold,
    Design,
    band_columns,
    checked_draws,
    design,
    draw_errors,
    simplex_draws,
    solve_system,
)
from brainkit.linear.cross_validation import Folds, Held
from brainkit.linear.folds import checked_folds
from brainkit.linear.ridge_solver import intercept_of, select_alphas, solve_ridge
from brainkit.linear.spectrum import is_primal, precision, shrink, weigh_samples
from brainkit.linear.targets import (
    Targets,
    batch_size,
    centred_targets,
    check_rows,
    checked_penalties,
    column_mean,
    deviations,
    read_targets,
    target_batches,
    target_penalties,
    widened,
)

Array = Any  # a NumPy array or a torch tensor


@dataclass(frozen=True)
class RacingRule:
    r"""When to give up a draw of band weights for a target before all folds are seen.

    Folds are gone through one by one, all draws in each. With :math:`E_{dt}` the least error over
    penalties of draw d and target t, summed over the n held-out rows seen so far, :math:`T_t` the
    error of the training mean on the same rows, and :math:`R^2_t` the best draw's R² on them, or 0
    where that is negative, draw d is given up for target t once

    .. math:: E_{dt} - \min_{d'} E_{d't}
              > \mathrm{slack} \cdot T_t \sqrt{R^2_t (1 - R^2_t) / n} .

    The root is how chance scales: errors of two predictions whose difference has a share ρ of
    their variance differ by chance with a standard deviation of
    :math:`2 T \sqrt{\rho R^2 (1 - R^2) / n}`, so that a slack of 1 allows one standard deviation
    to predictions that differ by half of their own (ρ = 1/4). Where nothing is predicted, draws do
    not matter, and the best goes on alone. In the folds to come only the targets that are left are
    gone on with. All penalties stay in the race with their draw: they cost little beside it.

    What is guaranteed: the errors of draws that are left are exact, over all folds; the penalty
    chosen is the best one of the chosen draw, and that draw the best of those left. So the choice
    differs from that without racing for those targets only whose best draw was given up, and that
    draw was then behind by more than the rule allows. What is not: how much better it would have
    been on the folds that it did not see.

    Samples in single precision are decomposed in single precision too as long as the largest
    eigenvalue of X'X is at most 10,000 times the smallest penalty (100 times where features
    outnumber samples). Errors then differ from exact
    ones by some 1e-5 of themselves at most, which is far below what is left to chance, and draws
    closer to each other than that may change places. The final solution is in double precision.

    Attributes
    ----------
    slack : float, default=1.0
        Slack, finite and not negative. With 0 only the best draw on the first folds goes on.
    first_folds : int, default=1
        Folds that are seen before anything is given up.
    """

    slack: float = 1.0
    first_folds: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.slack < float("inf"):
            raise InputError(f"The slack of racing must be 0 or more, finite; got {self.slack}.")
        if self.first_folds < 1:
            raise InputError(f"Racing sees at least 1 fold first; got {self.first_folds}.")

    def remaining(self, errors: Array, total: Array, n_rows: int) -> Array:
        """Tell which draws go on, bool (n_draws, n_targets).

        Parameters
        ----------
        errors : float64 array (n_draws, n_targets)
            Least over penalties, on the rows seen so far; infinite where given up before.
        total : float64 array (n_targets,)
            Errors of the training mean on the same rows.
        n_rows : int
            Number of these rows.
        """
        xp = array_namespace(errors)
        least = xp.min(errors, axis=0)
        # Nothing is to be told of a constant target; its draws have equal errors.
        r2 = 1 - least / xp.where(total > 0, total, xp.ones_like(total))
        r2 = xp.where(r2 > 0, r2, xp.zeros_like(r2))
        limit = least + self.slack * total * (r2 * (1 - r2) / n_rows) ** 0.5
        return (errors <= limit) & (errors < xp.inf)


@dataclass(frozen=True)
class BandedRidgeFit:
    """Banded ridge with weights and penalties chosen by held-out error.

    Attributes
    ----------
    coef : array (n_targets, n_features)
        Weights of the features as given; they are exactly 0 where a band is switched off.
    intercept : array (n_targets,)
    alpha : float64 array (n_targets,)
        The penalty of each target.
    weights : float64 array (n_targets, n_bands)
        γ, with a sum of 1.
    errors : float64 array (n_draws, n_targets)
        Squared held-out errors summed over folds, at the draw's best penalty; NaN where racing
        gave the draw up.
    total : float64 array (n_targets,)
        The squared held-out error of a prediction by the training mean.
    chosen : array of int (n_targets,)
        The draw of each target; of draws with equal errors the first.
    draws : float64 array (n_draws, n_bands)
        The weights that were tried.
    batch_size : int
        Targets treated at once.
    skipped : int
        Errors of one target, in one fold, with one draw, that racing saved.
    means : (float64 array (n_features,), float64 array (n_targets,))
        Means of the features and of the targets: what `intercept` sums up, in more digits.
    eigenvalues : (float, float)
        The smallest and the largest of X'X, of all bands with a weight of 1.
    by_alpha : float64 array (n_alphas, n_targets)
        Squared held-out errors of the chosen draw at every penalty.
    dtype : dtype
        The finest one that products with targets ran in.
    """

    coef: Array
    intercept: Array
    alpha: Array
    weights: Array
    errors: Array
    total: Array
    chosen: Array
    draws: NDArray[np.float64]
    batch_size: int
    skipped: int
    means: tuple[Array, Array]
    eigenvalues: tuple[float, float]
    by_alpha: Array
    dtype: Any


def banded_ridge_cv(  # noqa: PLR0913 - all but five by name
    X: Array,
    Y: Targets,
    bands: Any,
    alphas: Sequence[float],
    folds: Folds,
    *,
    draws: ArrayLike | None = None,
    n_draws: int = 100,
    concentration: float | Sequence[float] = CONCENTRATIONS,
    seed: int = 0,
    fit_intercept: bool = True,
    alpha_per_target: bool = True,
    racing: RacingRule | None = None,
    n_targets_batch: int | None = None,
) -> BandedRidgeFit:
    """Choose each target's band weights and penalty by cross-validation, and fit on all samples.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features, floating point.
    Y : array, h5py dataset or lazy source (n_samples, n_targets)
        Responses. What lies in a file is read a batch of targets at a time, once; twice where
        penalties are shared.
    bands : None, mapping, or sequence
        See `brainkit.linear.bands.band_columns`.
    alphas : sequence of float
        Candidate penalties, not negative.
    folds : sequence of (train, held_out)
        Row numbers; see `brainkit.linear.folds.kfold`, which keeps groups whole.
    draws : array (n_draws, n_bands), optional
        Weights to try, each with a sum of 1; zeros switch bands off.
    n_draws, concentration, seed
        How weights are drawn where no draws are given; see `brainkit.linear.bands.simplex_draws`.
    fit_intercept : bool, default=True
        Fit the means, in every fold its own.
    alpha_per_target : bool, default=True
        Weights and a penalty for each target, or the same for all, by the error summed over all
        targets. The latter keeps the errors of all penalties, draws and targets in memory.
    racing : RacingRule, optional
        Give draws up early. Not together with shared penalties.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given. Every batch decomposes all draws anew, so
        that few large ones are faster. With more features than samples a kernel (n_samples,
        n_samples) of every band is kept beside them, in double precision.

    Returns
    -------
    BandedRidgeFit

    Raises
    ------
    InputError
        If X and Y have not the same rows, bands do not fit X, a penalty is not positive, weights
        are not on the simplex, a fold is empty, out of range or not held out, or racing is asked
        for with shared penalties.
    """
    check_rows(X, Y)
    columns = band_columns(bands, X.shape[1])
    if draws is None:
        draws = simplex_draws(n_draws, len(columns), concentration=concentration, seed=seed)
    tried = checked_draws(draws, len(columns))
    candidates = checked_penalties(alphas)
    if racing is not None and not alpha_per_target:
        raise InputError(
            "Racing gives draws up target by target, so that no sum over all targets is left to "
            "choose a shared penalty by: use alpha_per_target=True, or no racing."
        )
    shared = design(X, columns, is_primal(*X.shape), fit_intercept)
    parts = [BandFold(shared, *fold) for fold in checked_folds(folds, X.shape[0])]
    size = _batch_size(X, Y.shape[1], len(tried) * len(candidates), n_targets_batch)
    rough = racing is not None and shared.may_be_rough(candidates)
    search = _Search(shared, parts, tried, candidates, racing, rough)
    return _Fitting(search, Y, size).run(alpha_per_target)


def _batch_size(X: Array, n_targets: int, n_errors: int, asked: int | None) -> int:
    """Return targets at once: their cross-products, copies of them, and all their errors."""
    n_samples, n_features = X.shape
    held = (4 * min(n_features, n_samples) + 3 * n_samples) * X.dtype.itemsize + 8 * n_errors
    return batch_size(X, n_targets, asked, bytes_per_target=held)


@dataclass(frozen=True)
class _Search:
    """Every draw in every fold."""

    design: Design
    folds: list[BandFold]
    draws: NDArray[np.float64]
    alphas: list[float]
    racing: RacingRule | None
    rough: bool  # whether errors are as exact as racing needs them, and no more
    ran: set[Any] = field(default_factory=set)  # dtypes of products with targets

    def errors(self, Y: Array, cross: Array) -> tuple[Array, Array, int]:
        """Return errors (n_draws, n_alphas, batch), of the mean (batch,), and how many were saved.

        Where racing gave a draw up, its errors are infinite.
        """
        xp = array_namespace(Y)
        shape = (len(self.draws), len(self.alphas), Y.shape[1])
        errors = xp.zeros(shape, dtype=xp.float64, device=Y.device)
        total = xp.zeros(shape[2], dtype=xp.float64, device=Y.device)
        going: Array | None = None  # (n_draws, batch), None while all are
        skipped = n_rows = 0
        for number, fold in enumerate(self.folds, start=1):
            parts = {Y.dtype: fold.targets(Y, cross)}
            total += parts[Y.dtype][1].total
            n_rows += len(fold.held_out)
            for draw in range(shape[0]):
                which = None if going is None else xp.nonzero(going[draw])[0]
                n_going = shape[2] if which is None else which.shape[0]
                skipped += shape[2] - n_going
                if n_going:
                    self._add(errors[draw], fold, self.draws[draw], parts, which, Y)
            rule = self.racing
            if rule is not None and rule.first_folds <= number < len(self.folds):
                going = rule.remaining(xp.min(errors, axis=1), total, n_rows)
                out = xp.asarray(xp.inf, dtype=errors.dtype, device=errors.device)
                errors = xp.where(going[:, None, :], errors, out)
        return errors, total, skipped

    def _add(
        self, errors: Array, fold: BandFold, weights: NDArray[np.float64],
        parts: dict[Any, tuple[Array, Held]], which: Array | None, Y: Array,
    ) -> None:  # fmt: skip
        """Add one fold's errors of one draw to `errors` (n_alphas, batch), for some targets."""
        xp = array_namespace(Y)
        n_targets = Y.shape[1] if which is None else which.shape[0]
        prepared = draw_errors(fold, weights, self.alphas, n_targets, rough=self.rough)
        self.ran.add(prepared.dtype)
        if prepared.dtype not in parts:
            wide = widened(Y, prepared.dtype, self.design.centred)
            parts[prepared.dtype] = fold.targets(wide, self.design.cross(wide))
        cross, held = parts[prepared.dtype]
        if which is None:
            errors += prepared.errors(cross, held)
        else:
            errors[:, which] += prepared.errors(xp.take(cross, which, axis=1), held.take(which))

    def solve(
        self, Y: Array, cross: Array, draw: int, alphas: Array, targets: Array
    ) -> tuple[Any, Array]:
        """Fit some targets of a batch on all samples with one draw.

        Returns
        -------
        columns : slice or int array
            Features with a weight above 0.
        coef : array (n_targets, n_columns)
        """
        xp = array_namespace(Y)
        weights, design = self.draws[draw], self.design
        gram = design.gram if design.primal else design.kernel(weights)
        system = solve_system(design, weights, gram, self.alphas)
        dtype = precision(system.values, self.alphas, Y.dtype)
        self.ran.add(dtype)
        fine = dtype != Y.dtype
        wide = widened(Y[:, targets], dtype, design.centred)
        cross = design.cross(wide) if fine else cross[:, targets]
        vectors = xp.astype(system.vectors, dtype)
        rotated = xp.matmul(vectors.T, cross[system.columns])  # (rank, n_targets)
        shrunk = shrink(system.values, rotated, alphas)
        if design.primal:
            return system.columns, xp.astype(xp.matmul(vectors, shrunk).T, Y.dtype)
        columns, scale = design.scales(weights)
        if system.readout is not None:
            solved = xp.matmul(system.readout * scale[:, None], xp.astype(shrunk, xp.float64))
            return columns, xp.astype(solved.T, Y.dtype)
        # In double precision: single precision would lose more of the sums than of the weights.
        dual = xp.matmul(system.vectors, xp.astype(shrunk, xp.float64))
        mean = design.mean[columns]
        solved = (
            weigh_samples(design.uncentred[:, columns], mean, dual, xp.float64)
            * scale[:, None] ** 2
        )
        return columns, xp.astype(solved.T, Y.dtype)


class _Fitting:
    """What is found for all targets, filled batch by batch."""

    def __init__(self, search: _Search, Y: Targets, size: int) -> None:
        samples, draws = search.design.samples, search.draws
        xp = array_namespace(samples)
        n_targets, self.skipped = Y.shape[1], 0
        self.search, self.Y, self.size = search, Y, size
        like_samples: dict[str, Any] = {"dtype": samples.dtype, "device": samples.device}
        double: dict[str, Any] = {"dtype": xp.float64, "device": samples.device}
        self.penalties, self.draws = (
            xp.asarray(search.alphas, **double),
            xp.asarray(draws, **double),
        )
        self.coef = xp.zeros((n_targets, samples.shape[1]), **like_samples)
        self.intercept = xp.empty(n_targets, **like_samples)
        self.alpha, self.total = xp.empty(n_targets, **double), xp.empty(n_targets, **double)
        self.weights = xp.empty((n_targets, draws.shape[1]), **double)
        self.y_mean = xp.empty(n_targets, **double)
        self.by_alpha = xp.empty((len(search.alphas), n_targets), **double)
        self.errors = xp.empty((len(draws), n_targets), **double)
        self.chosen = xp.empty(n_targets, dtype=xp.int64, device=samples.device)

    @property
    def dtype(self) -> Any:
        """The finest dtype that products with targets ran in."""
        wide = array_namespace(self.coef).float64
        return wide if wide in self.search.ran else self.coef.dtype

    def run(self, alpha_per_target: bool) -> BandedRidgeFit:
        """Search and solve each batch; search all of them first where penalties are shared."""
        parts = list(target_batches(self.Y.shape[1], self.size))
        if alpha_per_target:
            for part in track(parts, "banded ridge"):
                batch, y_mean, cross = self._read(part)
                errors = self._search(part, batch, cross)
                places = _least(errors, self.search.alphas)
                self._choose(part, errors, places, _first_least(errors, places))
                self._solve(part, batch, y_mean, cross)
        else:
            self._run_shared(parts)
        return BandedRidgeFit(
            coef=self.coef, intercept=self.intercept, alpha=self.alpha, weights=self.weights,
            errors=self.errors, total=self.total, chosen=self.chosen, draws=self.search.draws,
            batch_size=self.size, skipped=self.skipped, dtype=self.dtype,
            means=(self.search.design.mean, self.y_mean), by_alpha=self.by_alpha,
            eigenvalues=self.search.design.eigenvalues,
        )  # fmt: skip

    def _run_shared(self, parts: list[slice]) -> None:
        xp = array_namespace(self.coef)
        errors = []
        for part in track(parts, "banded ridge"):
            batch, _, cross = self._read(part)
            errors.append(self._search(part, batch, cross))
        pooled = sum(xp.sum(part_errors, axis=2, keepdims=True) for part_errors in errors)
        places = _least(pooled, self.search.alphas)
        best = _first_least(pooled, places)
        for part, part_errors in zip(track(parts, "banded ridge: solve"), errors, strict=True):
            size = part_errors.shape[2]
            shared = xp.broadcast_to(places, (len(places), size))
            self._choose(part, part_errors, shared, xp.broadcast_to(best, (size,)))
            self._solve(part, *self._read(part))

    def _read(self, part: slice) -> tuple[Array, Array, Array]:
        """Return a batch of targets less their means, their means, and their cross-products."""
        design = self.search.design
        batch, mean = centred_targets(self.Y, part, design.samples, design.centred)
        self.y_mean[part] = mean
        return batch, mean, design.cross(batch)

    def _search(self, part: slice, batch: Array, cross: Array) -> Array:
        errors, self.total[part], skipped = self.search.errors(batch, cross)
        self.skipped += skipped
        return errors

    def _choose(self, part: slice, errors: Array, places: Array, best: Array) -> None:
        """Note the draw of each target, `best` (batch,), and draws' penalties (n_draws, batch)."""
        xp = array_namespace(errors)
        least = xp.take_along_axis(errors, places[:, None, :], axis=1)[:, 0]
        nothing = xp.asarray(xp.nan, dtype=least.dtype, device=least.device)
        self.errors[:, part] = xp.where(least < xp.inf, least, nothing)
        self.chosen[part] = best
        self.by_alpha[:, part] = xp.take_along_axis(errors, best[None, None], axis=0)[0]
        self.alpha[part] = self.penalties[xp.take_along_axis(places, best[None], axis=0)[0]]
        self.weights[part] = self.draws[best]

    def _solve(self, part: slice, batch: Array, y_mean: Array, cross: Array) -> None:
        """Fit a batch on all samples, the targets of one draw at a time."""
        xp = array_namespace(batch)
        chosen, alphas, coef = self.chosen[part], self.alpha[part], self.coef[part]
        for draw in [int(value) for value in xp.unique_values(chosen)]:
            which = xp.nonzero(chosen == draw)[0]
            columns, solved = self.search.solve(batch, cross, draw, alphas[which], which)
            if isinstance(columns, slice):
                coef[which] = solved
            else:
                coef[which[:, None], columns[None]] = solved
        self.intercept[part] = intercept_of(coef, self.search.design.mean, y_mean)


def _first_least(errors: Array, places: Array) -> Array:
    """Return the first of the best draws (batch,), each at its own penalty (n_draws, batch)."""
    xp = array_namespace(errors)
    return xp.argmin(xp.take_along_axis(errors, places[:, None, :], axis=1)[:, 0], axis=0)


def _least(errors: Array, alphas: Sequence[float]) -> Array:
    """Return the places (n_draws, batch) of each draw's best penalties."""
    xp = array_namespace(errors)
    n_draws, n_alphas, size = errors.shape
    by_alpha = xp.reshape(xp.permute_dims(errors, (1, 0, 2)), (n_alphas, n_draws * size))
    return xp.reshape(select_alphas(by_alpha, alphas), (n_draws, size))


def solve_banded_ridge(
    X: Array,
    Y: Targets,
    bands: Any,
    weights: ArrayLike,
    alphas: Array,
    *,
    fit_intercept: bool = True,
    n_targets_batch: int | None = None,
) -> tuple[Array, Array]:
    r"""Solve banded ridge with given weights of bands and a given penalty for each target.

    Band b is penalised by :math:`\alpha_t / \gamma_{tb}`; one with a weight of 0 is switched off.
    Targets with the same weights share one decomposition, so that as many are needed as there are
    different weights.

    Parameters
    ----------
    X : array (n_samples, n_features)
        Features, floating point.
    Y : array, h5py dataset or lazy source (n_samples, n_targets)
        Responses.
    bands : None, mapping, or sequence
        See `brainkit.linear.bands.band_columns`.
    weights : array (n_targets, n_bands) or (n_bands,)
        γ, not negative, for each target or the same for all. Their sum is free: what it is more
        than 1, the penalty is less.
    alphas : float or array (n_targets,)
        Penalties, not negative: one for each target, or one for all.
    fit_intercept : bool, default=True
        Fit the means.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.

    Returns
    -------
    coef : array (n_targets, n_features)
        Weights of the features as given; they are exactly 0 where a band is switched off.
    intercept : array (n_targets,)

    Raises
    ------
    InputError
        If X and Y have not the same rows, bands do not fit X, weights are negative or not one for
        each band (of each target), or penalties are no numbers from 0.
    """
    check_rows(X, Y)
    xp = array_namespace(X)
    n_targets = Y.shape[1]
    columns = band_columns(bands, X.shape[1])
    by_target = _target_weights(weights, n_targets, len(columns))
    penalties = target_penalties(alphas, n_targets, X)
    size = batch_size(X, n_targets, n_targets_batch)
    coef = xp.zeros((n_targets, X.shape[1]), dtype=X.dtype, device=X.device)
    intercept = xp.empty(n_targets, dtype=X.dtype, device=X.device)
    distinct, which = np.unique(by_target, axis=0, return_inverse=True)
    x_mean = column_mean(X, fit_intercept)
    # Less their means before they are scaled: products with large means would be rounded.
    centred = deviations(X, x_mean, X.dtype)
    for number, row in enumerate(distinct):
        every = np.empty(X.shape[1])
        for band, weight in zip(columns, row, strict=True):
            every[band] = weight**0.5
        active = np.flatnonzero(every > 0)
        scale = xp.asarray(every[active], dtype=X.dtype, device=X.device)
        samples = centred[:, active] * scale
        members = np.flatnonzero(which.reshape(-1) == number)
        for start in range(0, len(members), size):
            targets = members[start : start + size]
            batch = read_targets(Y, targets, X)
            if len(active):
                solved, _ = solve_ridge(
                    samples, batch, penalties[targets], fit_intercept=fit_intercept
                )
                coef[targets[:, None], active[None]] = solved * scale
            y_mean = column_mean(batch, fit_intercept)
            intercept[targets] = intercept_of(coef[targets], x_mean, y_mean)
    return coef, intercept


def _target_weights(weights: ArrayLike, n_targets: int, n_bands: int) -> NDArray[np.float64]:
    """Return weights for each target, (n_targets, n_bands), on the host.

    Raises
    ------
    InputError
        If they are of another shape, negative or not finite.
    """
    on_host = weights.cpu() if hasattr(weights, "cpu") else weights
    values = np.asarray(on_host, dtype=np.float64)
    if values.shape not in {(n_bands,), (n_targets, n_bands)}:
        raise InputError(
            f"weights must be one for each of the {n_bands} bands, ({n_bands},), or that for each "
            f"of the {n_targets} targets, ({n_targets}, {n_bands}); got {values.shape}."
        )
    if not (np.isfinite(values) & (values >= 0)).all():
        raise InputError(
            f"weights must be finite and not negative; got {values.min()} to {values.max()}."
        )
    return np.broadcast_to(values, (n_targets, n_bands))
