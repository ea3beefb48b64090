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

The choice is exact K-fold cross-validation for every target, unless a `RacingRule` is given.

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
from brainkit.linear.banded_folds import BandFold, Design, design, draw_errors, solve_system
from brainkit.linear.bands import CONCENTRATIONS, band_columns, checked_draws, simplex_draws
from brainkit.linear.fold_errors import Held
from brainkit.linear.folds import checked_folds
from brainkit.linear.held_out import Folds
from brainkit.linear.racing import RacingRule
from brainkit.linear.ridge import intercept_of, select_alphas
from brainkit.linear.spectrum import is_primal, precision, shrink, weigh_samples
from brainkit.linear.targets import (
    Targets,
    batch_size,
    centred_targets,
    check_rows,
    checked_penalties,
    target_batches,
    widened,
)

Array = Any  # a NumPy array or a torch tensor


@dataclass(frozen=True)
class BandedRidgeFit:
    """Banded ridge with weights and penalties chosen by held-out error.

    Attributes
    ----------
    coef : array (n_targets, n_features)
        Of the features as given; 0 exactly where a band is switched off.
    intercept : array (n_targets,)
    alpha : float64 array (n_targets,)
        The penalty of each target.
    weights : float64 array (n_targets, n_bands)
        γ, with a sum of 1.
    errors : float64 array (n_draws, n_targets)
        Squared held-out errors summed over folds, at the draw's best penalty; NaN where racing
        gave the draw up.
    total : float64 array (n_targets,)
        The same for a prediction by the training mean.
    chosen : array of int (n_targets,)
        The draw of each target; of draws with equal errors the first.
    draws : float64 array (n_draws, n_bands)
        The weights that were tried.
    batch_size : int
        Targets treated at once.
    skipped : int
        Errors of one target, in one fold, with one draw, that racing saved.
    means : (float64 array (n_features,), float64 array (n_targets,))
        Of features and targets: what `intercept` sums up, in more digits.
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
        Where no draws are given; see `brainkit.linear.bands.simplex_draws`.
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
    made = design(X, columns, is_primal(*X.shape), fit_intercept)
    parts = [BandFold(made, *fold) for fold in checked_folds(folds, X.shape[0])]
    size = _batch_size(X, Y.shape[1], len(tried) * len(candidates), n_targets_batch)
    rough = racing is not None and made.may_be_rough(candidates)
    search = _Search(made, parts, tried, candidates, racing, rough)
    return _Fitting(search, Y, size).run(alpha_per_target)


def _batch_size(X: Array, n_targets: int, n_errors: int, given: int | None) -> int:
    """Return targets at once: their cross-products, copies of them, and all their errors."""
    n_samples, n_features = X.shape
    held = (4 * min(n_features, n_samples) + 3 * n_samples) * X.dtype.itemsize + 8 * n_errors
    return batch_size(X, n_targets, given, bytes_per_target=held)


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
        found = xp.zeros(shape, dtype=xp.float64, device=Y.device)
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
                    self._add(found[draw], fold, self.draws[draw], parts, which, Y)
            rule = self.racing
            if rule is not None and rule.first_folds <= number < len(self.folds):
                going = rule.remaining(xp.min(found, axis=1), total, n_rows)
                out = xp.asarray(xp.inf, dtype=found.dtype, device=found.device)
                found = xp.where(going[:, None, :], found, out)
        return found, total, skipped

    def _add(
        self, found: Array, fold: BandFold, weights: NDArray[np.float64],
        parts: dict[Any, tuple[Array, Held]], which: Array | None, Y: Array,
    ) -> None:  # fmt: skip
        """Add one fold's errors of one draw to `found` (n_alphas, batch), for some targets."""
        xp = array_namespace(Y)
        n_targets = Y.shape[1] if which is None else which.shape[0]
        prepared = draw_errors(fold, weights, self.alphas, n_targets, rough=self.rough)
        self.ran.add(prepared.dtype)
        if prepared.dtype not in parts:
            wide = widened(Y, prepared.dtype, self.design.centred)
            parts[prepared.dtype] = fold.targets(wide, self.design.cross(wide))
        cross, held = parts[prepared.dtype]
        if which is None:
            found += prepared.errors(cross, held)
        else:
            found[:, which] += prepared.errors(xp.take(cross, which, axis=1), held.take(which))

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
        weights, made = self.draws[draw], self.design
        gram = made.gram if made.primal else made.kernel(weights)
        system = solve_system(made, weights, gram, self.alphas)
        dtype = precision(system.values, self.alphas, Y.dtype)
        self.ran.add(dtype)
        fine = dtype != Y.dtype
        wide = widened(Y[:, targets], dtype, made.centred)
        own = made.cross(wide) if fine else cross[:, targets]
        vectors = xp.astype(system.vectors, dtype)
        shrunk = shrink(system.values, xp.matmul(vectors.T, own[system.columns]), alphas)
        if made.primal:
            return system.columns, xp.astype(xp.matmul(vectors, shrunk).T, Y.dtype)
        columns, scale = made.scales(weights)
        if system.readout is not None:
            solved = xp.matmul(system.readout * scale[:, None], xp.astype(shrunk, xp.float64))
            return columns, xp.astype(solved.T, Y.dtype)
        # In double precision: single precision would lose more of the sums than of the weights.
        dual = xp.matmul(system.vectors, xp.astype(shrunk, xp.float64))
        mean = made.mean[columns]
        solved = weigh_samples(made.given[:, columns], mean, dual, xp.float64) * scale[:, None] ** 2
        return columns, xp.astype(solved.T, Y.dtype)


class _Fitting:
    """What is found for all targets, filled batch by batch."""

    def __init__(self, search: _Search, Y: Targets, size: int) -> None:
        samples, draws = search.design.samples, search.draws
        xp = array_namespace(samples)
        n_targets, self.skipped = Y.shape[1], 0
        self.search, self.Y, self.size = search, Y, size
        given: dict[str, Any] = {"dtype": samples.dtype, "device": samples.device}
        whole: dict[str, Any] = {"dtype": xp.float64, "device": samples.device}
        self.penalties, self.draws = xp.asarray(search.alphas, **whole), xp.asarray(draws, **whole)
        self.coef = xp.zeros((n_targets, samples.shape[1]), **given)
        self.intercept = xp.empty(n_targets, **given)
        self.alpha, self.total = xp.empty(n_targets, **whole), xp.empty(n_targets, **whole)
        self.weights = xp.empty((n_targets, draws.shape[1]), **whole)
        self.y_mean = xp.empty(n_targets, **whole)
        self.by_alpha = xp.empty((len(search.alphas), n_targets), **whole)
        self.errors = xp.empty((len(draws), n_targets), **whole)
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
        pooled = sum(xp.sum(found, axis=2, keepdims=True) for found in errors)
        places = _least(pooled, self.search.alphas)
        best = _first_least(pooled, places)
        for part, found in zip(track(parts, "banded ridge: solve"), errors, strict=True):
            size = found.shape[2]
            shared = xp.broadcast_to(places, (len(places), size))
            self._choose(part, found, shared, xp.broadcast_to(best, (size,)))
            self._solve(part, *self._read(part))

    def _read(self, part: slice) -> tuple[Array, Array, Array]:
        """Return a batch of targets less their means, their means, and their cross-products."""
        made = self.search.design
        batch, mean = centred_targets(self.Y, part, made.samples, made.centred)
        self.y_mean[part] = mean
        return batch, mean, made.cross(batch)

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
            columns, found = self.search.solve(batch, cross, draw, alphas[which], which)
            if isinstance(columns, slice):
                coef[which] = found
            else:
                coef[which[:, None], columns[None]] = found
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
