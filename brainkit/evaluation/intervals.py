"""Estimates and their intervals: what each independent unit adds to a score, and what refits add.

A score is a function of held-out items. Items of one *unit* (the repeats of an image, a run, a
stretch of time) depend on each other; units do not. Every score here comes as an `Estimate`: its
value and the *influence* of each unit on it, so that sums of squared influences are variances, and
means, differences and other smooth functions of scores are the same functions of influences.

Only test items are ever drawn, after every fit. Drawing trials before they are cut into folds would
put copies of one trial on both sides of a cut, and pure noise would be predicted well.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.evaluation.checked_arrays import real_array
from brainkit.evaluation.quantities import Quantity

# -- groups and blocks of rows that are moved or drawn as wholes -----------------------------------


def group_labels(labels: ArrayLike | None, n: int, name: str) -> NDArray[np.intp]:
    """Give each group a number from 0; each of the `n` items is a group without labels."""
    if labels is None:
        return np.arange(n)
    values = np.asarray(labels)
    if values.shape != (n,):
        raise InputError(f"{name} has shape {values.shape}, expected ({n},): one label per item.")
    return np.unique(values, return_inverse=True)[1]


def group_members(labels: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Rows of each group, in order."""
    if not len(labels):
        return []
    rows = np.argsort(labels, kind="stable")
    return np.split(rows, np.flatnonzero(np.diff(labels[rows])) + 1)


def size_classes(members: list[NDArray[np.intp]]) -> list[NDArray[np.intp]]:
    """Numbers of the groups that share a size, one array for each size."""
    sizes = np.array([len(rows) for rows in members], dtype=np.intp)
    return [np.flatnonzero(sizes == size) for size in np.unique(sizes)]


def exchange_groups(
    members: list[NDArray[np.intp]],
    classes: list[NDArray[np.intp]],
    n: int,
    permute: Callable[[int], NDArray[np.intp]],
) -> NDArray[np.intp]:
    """Order of items when groups change places within each class, all of one size."""
    return exchange_rows(
        [np.stack([members[group] for group in one]) for one in classes], n, permute
    )


def exchange_rows(
    classes: list[NDArray[np.intp]], n: int, permute: Callable[[int], NDArray[np.intp]]
) -> NDArray[np.intp]:
    """Do the same for classes given by the rows of their groups, each (n_groups, size)."""
    order = np.empty(n, dtype=np.intp)
    for rows in classes:
        order[rows] = rows[permute(len(rows))]
    return order


def time_blocks(runs: ArrayLike, block_length: int) -> NDArray[np.intp]:
    """Cut time series into blocks of consecutive samples that never cross a run's boundary.

    Parameters
    ----------
    runs : array_like of shape (n_samples,)
        Run of each sample, samples in the order of time. A label that comes back after another
        run is a run of its own.
    block_length : int
        Samples a block. It should exceed the time over which responses are correlated. The last
        block of a run is shorter where the run is no multiple of it.

    Returns
    -------
    numpy.ndarray of int of shape (n_samples,)
        Block of each sample, from 0.

    Raises
    ------
    InputError
        If `runs` is not one-dimensional or empty, or `block_length` is below 1.
    """
    of_run = np.asarray(runs)
    if of_run.ndim != 1 or not len(of_run):
        raise InputError(f"runs has shape {of_run.shape}, expected (n_samples,): one run a sample.")
    if block_length < 1:
        raise InputError(f"block_length={block_length}: a block holds at least 1 sample.")
    first = _run_starts(of_run)
    since = np.arange(len(of_run)) - np.maximum.accumulate(
        np.where(first, np.arange(len(of_run)), 0)
    )
    return np.cumsum(first | (since % block_length == 0)) - 1


@dataclass(frozen=True)
class Units:
    """What is exchanged or drawn as a whole.

    Attributes
    ----------
    labels : numpy.ndarray of int of shape (n_samples,)
        Unit of each sample.
    strata : numpy.ndarray of int of shape (n_samples,)
        Units of one stratum are exchangeable with each other.
    """

    labels: NDArray[np.intp]
    strata: NDArray[np.intp]

    @property
    def members(self) -> list[NDArray[np.intp]]:
        """Samples of each unit."""
        return group_members(self.labels)

    def classes(self) -> list[NDArray[np.intp]]:
        """Give the samples of units that can change places, of one size and one stratum.

        One array (n_units, size) for each class.
        """
        members = self.members
        stratum = np.array([self.strata[rows[0]] for rows in members], dtype=np.intp)
        return [
            np.stack([members[unit] for unit in same if stratum[unit] == wanted])
            for same in size_classes(members)
            for wanted in np.unique(stratum[same])
        ]


def resampling_units(
    n: int, blocks: ArrayLike | None, runs: ArrayLike | None, block_length: int | None
) -> Units:
    """Return the units of a resampling: given blocks, stretches of time within runs, or samples.

    Raises
    ------
    InputError
        If blocks are given both ways, runs without a block length, or a shape does not fit.
    """
    if block_length is None:
        if runs is not None:
            raise InputError(
                "runs is given without block_length: say how many consecutive samples move "
                "together (1 for samples that are independent within a run)."
            )
        return Units(group_labels(blocks, n, "blocks"), np.zeros(n, dtype=np.intp))
    if blocks is not None:
        raise InputError("blocks and block_length are both given: state the blocks in one way.")
    of_run = np.zeros(n, dtype=np.intp) if runs is None else np.asarray(runs)
    if of_run.shape != (n,):
        raise InputError(f"runs has shape {of_run.shape}, expected ({n},): one label per item.")
    return Units(time_blocks(of_run, block_length), np.cumsum(_run_starts(of_run)) - 1)


def _run_starts(runs: NDArray[np.generic]) -> NDArray[np.bool_]:
    return np.concatenate([[True], np.asarray(runs[1:] != runs[:-1])])


# -- intervals -------------------------------------------------------------------------------------


Float = NDArray[np.float64]

# Below so many units an interval is marked: its coverage is not known to be what it says.
FEWEST_UNITS = 10
# Resampled cells held at once; fixed, so that a seed gives one result on every machine.
_RESAMPLE_CELLS = 2**22
# Half a unit of the observed variance is added to each draw's, which may be 0 where few units vary.
_DRAW_PRIOR = 0.5
# Of a variance that is rounding alone.
_NO_VARIANCE = 1e-24
# A share with fewer effective failures (or successes) is judged as a proportion.
_FEWEST_FAILURES = 5.0


@dataclass(frozen=True)
class Interval:
    """A value with its interval.

    Attributes
    ----------
    value : float
        The score.
    low, high : float
        Ends of the interval; NaN where none can be given.
    n : int
        Items that were finite and entered.
    level : float
        Coverage aimed at.
    n_units : int or None
        Independent units that the interval rests on; None where it is no matter of units.
    """

    value: float
    low: float
    high: float
    n: int
    level: float
    n_units: int | None = None

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside the interval."""
        return self.low > 0 or self.high < 0

    @property
    def few_units(self) -> bool:
        """Whether there are too few units for the coverage to be sure; reports mark these."""
        return self.n_units is not None and self.n_units < FEWEST_UNITS


@dataclass(frozen=True)
class Estimate:
    """A score with the influence of every independent unit on it.

    Attributes
    ----------
    value : float
        The score.
    influence : numpy.ndarray of shape (n_units,)
        Deviations that a unit's items cause; they sum to about 0, and Σ influence² estimates the
        variance of the score over test units.
    n : int
        Items that entered.
    freedom : int
        Degrees of freedom of that variance: units less the strata (folds) they lie in.
    training : float, default 0
        Share of the predictions' variance that comes from which items the model was trained on, in
        [0, 1]; see :func:`training_share`. In cross-validation the items that test one fold train
        the others, and the variance of the score is (1 + training) times that over test units.
    bounds : (float, float), optional
        Limits of the score, such as (0, 1) for a share of wins.
    effective : float, optional
        Number of units of equal weight that would vary as these do; their number where not given.
        A few large units among small ones are as good as few.
    """

    value: float
    influence: Float
    n: int
    freedom: int
    training: float = 0.0
    bounds: tuple[float, float] | None = None
    effective: float | None = None

    @property
    def standard_error(self) -> float:
        """Square root of the score's variance, over test units and trainings."""
        return float(np.sqrt((1.0 + self.training) * (self.influence**2).sum()))

    def __sub__(self, other: "Estimate") -> "Estimate":
        """Give the paired difference from another score of the same units."""
        if len(self.influence) != len(other.influence):
            raise InputError(
                f"Scores of {len(self.influence)} and {len(other.influence)} units have no paired "
                "difference: score the same items by both."
            )
        return Estimate(
            self.value - other.value,
            self.influence - other.influence,
            min(self.n, other.n),
            min(self.freedom, other.freedom),
            max(self.training, other.training),
        )

    def interval(self, level: float = 0.95, n: int = 2000, seed: int = 0) -> Interval:
        """Give an interval over test units, and over trainings where the folds were refitted.

        A score without limits has the studentised bootstrap interval: units are drawn with
        replacement, and T* is a draw's deviation over its own standard error (Efron, 1981; Hall,
        1988), so that skewness and small numbers are accounted for. Where the model was trained
        anew for every fold, a t variable of `training` times the variance is added to T*.

        A score with limits has a t interval on the scale of its logit (Fisher's z, of a
        correlation), with `freedom` degrees of freedom. Where fewer than five failures (or
        successes) stand behind it, by the effective number of trials T = μ(1 - μ) / Var, it has
        the score interval of a proportion (Wilson, 1927) with half a success and half a failure
        added, and on the side of the limit, where it is wider, the Poisson bound χ²(2k) / 2T of k
        failures.

        Parameters
        ----------
        level : float, default 0.95
            Coverage, in (0, 1).
        n : int, default 2000
            Draws.
        seed : int, default 0
            The same seed gives the same interval.

        Returns
        -------
        Interval
            Interval whose ends are NaN where the variance has no degree of freedom.
        """
        check_draws(n, level)
        n_units = len(self.influence)
        if self.effective is not None:
            n_units = min(n_units, max(round(self.effective), 1))
        if self.freedom < 1 or not np.isfinite(self.value):
            return Interval(self.value, np.nan, np.nan, self.n, level, n_units)
        if self.bounds is None:
            low, high = self._studentised(level, n, seed)
        else:
            low, high = self._between(*self.bounds, level)
        return Interval(self.value, float(low), float(high), self.n, level, n_units)

    def _between(self, lowest: float, highest: float, level: float) -> tuple[float, float]:
        """Return the interval of a score with limits."""
        spread = highest - lowest
        share = min(max((self.value - lowest) / spread, 0.0), 1.0)
        variance = float((self.influence**2).sum()) / spread**2
        if variance < _NO_VARIANCE and 0 < share < 1:
            return self.value, self.value  # all units are alike, and not at a limit
        trials = share * (1 - share) / variance if 0 < share < 1 else float(len(self.influence))
        failures = trials * min(share, 1 - share)
        if failures >= _FEWEST_FAILURES:
            ends = self._logit(share, level)
        else:
            ends = self._proportion(share, variance, trials, failures, level)
        low, high = (lowest + spread * end for end in ends)
        return min(low, self.value), max(high, self.value)

    def _logit(self, share: float, level: float) -> tuple[float, float]:
        from scipy.special import expit, logit
        from scipy.stats import t

        lowest, highest = self.bounds or (0.0, 1.0)
        error = self.standard_error / (highest - lowest) / (share * (1 - share))
        half = float(t.ppf((1 + level) / 2, self.freedom)) * error
        return float(expit(logit(share) - half)), float(expit(logit(share) + half))

    def _proportion(
        self, share: float, variance: float, trials: float, failures: float, level: float
    ) -> tuple[float, float]:
        from scipy.stats import chi2, t

        n_units = len(self.influence)
        # Half a failure and half a success more, as if by two further half units.
        total = n_units + 1.0
        mean = (n_units * share + 0.5) / total
        squares = n_units * (n_units - 1) * variance + n_units * (share - mean) ** 2
        squares += 0.5 * (mean**2 + (1 - mean) ** 2)
        error = (1.0 + self.training) * squares / (total - 1) / total
        effective = mean * (1 - mean) / error
        z = float(t.ppf((1 + level) / 2, self.freedom))
        scale = 1 + z**2 / effective
        centre = (mean + z**2 / (2 * effective)) / scale
        half = np.sqrt(mean * (1 - mean) / effective + z**2 / (4 * effective**2)) / scale
        low, high = float(centre - z * half), float(centre + z * half)
        # No failure at all is compatible with any small share of them.
        rate = float(chi2.ppf((1 - level) / 2, 2 * failures)) / 2 / trials if failures else 0.0
        return (min(low, rate), high) if share < 0.5 else (low, max(high, 1 - rate))

    def _studentised(self, level: float, n: int, seed: int) -> tuple[float, float]:
        n_units, variance = len(self.influence), float((self.influence**2).sum())
        if variance < _NO_VARIANCE:
            return self.value, self.value
        influence = self.influence / np.sqrt(variance)
        both = np.stack([influence, influence**2], axis=1)
        generator = rng(seed, "bootstrap")
        drawn = np.empty(n)
        step = max(1, _RESAMPLE_CELLS // n_units)
        for start in range(0, n, step):
            count = min(step, n - start)
            chosen = generator.integers(n_units, size=(count, n_units))
            # Sums over the drawn units: (count, n_units, 2) → (count, 2)
            total, squares = np.moveaxis(both[chosen].sum(axis=1), 1, 0)
            spread = squares - total**2 / n_units + _DRAW_PRIOR / n_units
            drawn[start : start + count] = total / np.sqrt(
                spread * n_units / (n_units - 1 + _DRAW_PRIOR)
            )
        if self.training > 0:
            trained = generator.standard_t(self.freedom, size=n)
            drawn = (drawn + np.sqrt(self.training) * trained) / np.sqrt(1 + self.training)
        low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
        error = self.standard_error
        return self.value - high * error, self.value - low * error


@dataclass(frozen=True)
class ItemScores:
    """Scores of items, and their mean as an estimate.

    Attributes
    ----------
    scores : numpy.ndarray of shape (n_items,)
        NaN for an item that cannot be scored.
    estimate : Estimate
        Mean of the items' scores.
    fewest_rivals : int or None
        The fewest rivals that any item has, where scores are against rivals.
    """

    scores: Float
    estimate: Estimate
    fewest_rivals: int | None = None


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """Average scores of the same units, such as those of several regions or fold seeds.

    Parameters
    ----------
    estimates : sequence of Estimate
        Estimates, at least one; scores that are NaN are left out, unless all are.

    Returns
    -------
    Estimate
    """
    known = [one for one in estimates if np.isfinite(one.value)] or list(estimates)
    return replace(
        known[0],
        value=float(np.mean([one.value for one in known])),
        influence=np.mean([one.influence for one in known], axis=0),
        n=max(one.n for one in known),
        freedom=min(one.freedom for one in known),
        training=float(np.mean([one.training for one in known])),
    )


def mean_estimate(
    values: ArrayLike,
    *,
    units: ArrayLike | None = None,
    training: float = 0.0,
    bounds: tuple[float, float] | None = None,
    name: str = "values",
) -> Estimate:
    """Give the mean of per-item scores, as an estimate over units.

    Parameters
    ----------
    values : array_like of shape (n_items,)
        One score per test item; NaN items are left out.
    units : array_like of shape (n_items,), optional
        Independent unit of each item; each item is one where not given.
    training, bounds
        See `Estimate`.
    name : str
        What error messages call the values.

    Raises
    ------
    InputError
        If fewer than 2 units have a finite item.
    """
    plain = real_array(values, name)
    if plain.ndim != 1:
        raise InputError(f"{name} has shape {plain.shape}, expected (n_items,).")
    scores = plain.astype(np.float64)
    labels = group_labels(units, len(scores), "groups")
    finite = np.isfinite(scores)
    present = np.unique(labels[finite])
    if len(present) < 2:
        raise InputError(
            f"{int(finite.sum())} of {len(scores)} scores are finite, in {len(present)} groups: "
            "an interval needs at least 2."
        )
    mean = float(scores[finite].mean())
    deviations = np.where(finite, scores - mean, 0.0)
    sums = np.bincount(labels, weights=deviations, minlength=int(labels.max()) + 1)
    correction = np.sqrt(len(present) / (len(present) - 1))
    influence = sums * correction / finite.sum()
    sizes = np.bincount(labels[finite]).astype(float)
    effective = float(sizes.sum() ** 2 / (sizes**2).sum())  # Kish's number
    freedom = max(min(len(present), round(effective)) - 1, 1)
    return Estimate(mean, influence, int(finite.sum()), freedom, training, bounds, effective)


def mean_score(values: ArrayLike, **rows: Any) -> ItemScores:
    """Return per-item scores with their mean; for `rows` see :func:`mean_estimate`."""
    return ItemScores(np.asarray(values, dtype=np.float64), mean_estimate(values, **rows))


def bootstrap_ci(
    values: ArrayLike,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
    bounds: tuple[float, float] | None = None,
) -> Interval:
    """Give the mean of per-item scores with its studentised bootstrap interval.

    Parameters
    ----------
    values : array_like of shape (n_items,)
        One score per test item; NaN items are left out. Of booleans, and of scores in [0, 1] of
        which most are exactly 0 or 1, the mean is a proportion, with these bounds.
    n : int, default 2000
        Bootstrap samples.
    level : float, default 0.95
        Coverage, in (0, 1).
    seed : int, default 0
        The same seed gives the same interval.
    groups : array_like of shape (n_items,), optional
        Items of one group (scores of one image under several seeds, say) are drawn together.
    bounds : (float, float), optional
        Limits of a score, such as (0, 1) for a share; see :meth:`Estimate.interval`.

    Returns
    -------
    Interval
        Mean, its ends, the number of finite items and of groups. Of normal and moderately skewed
        scores the coverage is within two points of `level` from 10 groups on; of lognormal ones it
        is some four points lower below 50, and `few_units` marks fewer than 10 groups.

    Raises
    ------
    InputError
        If fewer than 2 groups have a finite item, or an argument is out of range.
    """
    check_draws(n, level)
    estimate = mean_estimate(values, units=groups, bounds=bounds or _bounds_of(values))
    return estimate.interval(level, n, seed)


def bootstrap_difference(
    a: ArrayLike,
    b: ArrayLike,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    *,
    groups: ArrayLike | None = None,
) -> Interval:
    """Give the mean of the paired difference a - b with its studentised bootstrap interval.

    Parameters
    ----------
    a, b : array_like of shape (n_items,)
        Scores of the same test items by two methods; a pair with a NaN is left out.
    n, level, seed, groups
        See :func:`bootstrap_ci`.

    Returns
    -------
    Interval
        Interval of the difference; ``excludes_zero`` says whether it is settled.

    Raises
    ------
    InputError
        If arguments are refused as by :func:`bootstrap_ci`, or if the shapes differ.
    QuantityError
        If `a` and `b` are of different kinds.
    """
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        _ = a[:0] - b[:0]  # refuses different kinds
    check_draws(n, level)
    first, second = real_array(a, "a").astype(np.float64), real_array(b, "b").astype(np.float64)
    if first.shape != second.shape:
        raise InputError(f"a has {len(first)} items and b {len(second)}: give pairs in order.")
    return mean_estimate(first - second, units=groups).interval(level, n, seed)


def training_share(first: ArrayLike, second: ArrayLike, *, apart: float) -> Float:
    """Estimate which share of predictions' variance comes from the training items.

    With two models that were trained on parts of the same data, E (p - p')² = 2 a Var(e), where
    Var(e) is the variance of a prediction over training sets and `apart` is the share a of training
    items that the models do not have in common (for averages of independent items; of any smooth
    estimator to first order). The share is Var(e) / mean p², with p less the training mean.

    In K-fold cross-validation the score of a fold is, to first order, a sum over its items and its
    training items, and pairs of items meet twice, once in either rôle. Where nothing is predicted
    all of the score's variance lies in these pairs, so that the variance over test items is one
    half of it; where predictions hardly depend on the training items it is all of it. Hence the
    factor 1 + share. (Bengio and Grandvalet, 2004, show that no unbiased estimate exists; this one
    is shown by simulation, see ``scripts/calibrate.py``.)

    Parameters
    ----------
    first, second : array_like of shape (n_items, n_targets)
        Predictions of the same items, less the training means, by models trained on other parts.
    apart : float
        Share of one's training items that the other has not, in (0, 1].

    Returns
    -------
    numpy.ndarray of shape (n_targets,)
        Shares in [0, 1]; 1 where the predictions are constant or not finite.

    Raises
    ------
    InputError
        If shapes differ, or `apart` is out of range.
    """
    one, two = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != two.shape or one.ndim != 2 or not 0 < apart <= 1:
        raise InputError(
            f"Predictions of shapes {one.shape} and {two.shape}, apart={apart}: expected one "
            "shape, (n_items, n_targets), and a share in (0, 1]."
        )
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = ((one - two) ** 2).mean(axis=0) / (2 * apart)
        share = noise / (0.5 * ((one**2).mean(axis=0) + (two**2).mean(axis=0)))
    return np.where(np.isfinite(share), np.clip(share, 0.0, 1.0), 1.0)


def check_draws(n: int, level: float) -> None:
    """Refuse a number of draws or a coverage that is out of range."""
    if n < 1:
        raise InputError(f"n={n}: expected at least 1.")
    check_level(level)


def check_level(level: float) -> None:
    """Refuse a coverage that is out of range."""
    if not 0 < level < 1:
        raise InputError(f"level={level}: expected 0 < level < 1.")


def _bounds_of(values: ArrayLike) -> tuple[float, float] | None:
    """Return (0, 1) for wins and losses, or shares of which most are one or the other."""
    scores = np.asarray(values)
    if scores.dtype == np.bool_:
        return 0.0, 1.0
    finite = scores[np.isfinite(scores)] if scores.dtype.kind == "f" else scores
    if not finite.size or finite.min() < 0 or finite.max() > 1:
        return None
    at_limit = ((finite == 0) | (finite == 1)).mean()
    return (0.0, 1.0) if at_limit > 0.5 else None
