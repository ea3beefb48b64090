"""Intervals of encoders' scores: of regions, of every target, and of two encoders' difference.

*Regions*: what every unit of test items adds to means over targets of r and R², within folds. A
region's mean score is a weighted mean of its targets' scores; so are its influences. A whole
brain is gone through once, in batches of targets, and only (units, regions) are kept.

*Every target*: by leaving each block of test samples out once. Only test samples are ever left out,
after every fit. For r, R² and explained variance all scores without a block follow from sums over
blocks; no model is fitted and no score function called again.

*Two encoders*: which predicts a voxel, and a region, better, paired over test samples.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed
from brainkit.evaluation.checked_arrays import column_batches, paired_samples, real_array
from brainkit.evaluation.identification import between_folds, training_between_folds
from brainkit.evaluation.intervals import (
    FEWEST_UNITS,
    Estimate,
    Interval,
    check_draws,
    check_level,
    group_labels,
    group_members,
)
from brainkit.evaluation.permutation import fdr_bh
from brainkit.evaluation.response_scores import (
    SCORES,
    BlockSums,
    ScoreFunction,
    fold_members,
    pearson_r,
    score_name,
    scores_without,
)

Float = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True)
class Influences:
    """What units add to weighted sums of targets' scores.

    Attributes
    ----------
    values : numpy.ndarray of shape (n_units, n_sums)
        See `Estimate.influence`.
    freedom : int
        Degrees of freedom of their variance.
    n : int
        Items.
    n_folds : int or None
        Number of folds, where influences come from the spread over them because each holds too few
        units.
    """

    values: Float
    freedom: int
    n: int
    n_folds: int | None = None

    def estimate(self, which: int, value: float, training: float = 0.0) -> Estimate:
        """Return one of the sums as an estimate, of a model whose `training` share is known."""
        if self.n_folds is not None:
            training = training_between_folds(training, self.n_folds)
        return Estimate(value, self.values[:, which], self.n, self.freedom, training)


def correlation_influences(
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    weights: ArrayLike,
    *,
    fold: ArrayLike | None = None,
    units: ArrayLike | None = None,
) -> Influences:
    """Give what units add to Σ_v w_v r_v, r_v as :func:`brainkit.evaluation.pearson_r` of folds.

    In fold f with G units, leaving unit u out gives r_f(-u); its influence is n_f / n times
    √((G - 1) / G) (mean_u r_f(-u) - r_f(-u)), so that the squares add up to the jackknife variance
    (Tukey, 1958). Where a fold has fewer than three units the folds themselves vary.

    Parameters
    ----------
    Y_true, Y_pred : array_like of shape (n_samples, n_targets)
        Measured and predicted responses of test items.
    weights : array_like of shape (n_targets, n_sums)
        Weights of the targets in each sum: 1 / n_targets for the mean over all of them. Targets
        without a score (NaN) should weigh nothing.
    fold, units : array_like of shape (n_samples,), optional
        Fold of each item; and its unit, each item one where not given.

    Returns
    -------
    Influences
    """
    true, pred = paired_samples(Y_true, Y_pred, ("Y_true", "Y_pred"))
    labels, n_units, members = _rows(len(true), fold, units)
    shares = _weights(weights, true.shape[1])
    members = [rows for rows in members if len(rows) > 1]
    if not members:
        raise InputError("Every fold has a single sample: a correlation within a fold needs 2.")
    n = sum(map(len, members))
    influence = np.zeros((n_units, shares.shape[1]))
    of_folds = np.zeros((len(members), shares.shape[1]))
    units_of_fold = [np.unique(labels[rows], return_inverse=True) for rows in members]
    for batch in column_batches(len(true) * 6, true.shape[1]):
        for number, (rows, (units_here, place)) in enumerate(
            zip(members, units_of_fold, strict=True)
        ):
            r, left_out = _without_each(true[rows][:, batch], pred[rows][:, batch], place)
            of_folds[number] += r @ shares[batch]  # (n_regions,)
            if len(units_here) > 2:
                spread = np.sqrt((len(units_here) - 1) / len(units_here)) * len(rows) / n
                deviations = left_out.mean(axis=0) - left_out  # n_units, n_targets
                influence[units_here] += spread * (deviations @ shares[batch])
    if all(len(units_here) > 2 for units_here, _ in units_of_fold):
        return Influences(influence, sum(len(units_here) - 1 for units_here, _ in units_of_fold), n)
    columns = [
        between_folds(
            [
                (float(of_folds[number, which]), len(rows), units_of_fold[number][0])
                for number, rows in enumerate(members)
            ],
            n_units,
        )
        for which in range(shares.shape[1])
    ]
    values = np.stack([values for values, _ in columns], axis=1)
    return Influences(values, columns[0][1], n, len(members))


def r2_influences(
    Y_true: ArrayLike, Y_pred: ArrayLike, weights: ArrayLike, *, units: ArrayLike | None = None
) -> Influences:
    """Give what units add to Σ_v w_v R²_v, of deviations from the training means.

    R² = 1 - Σ e² / Σ t² is a ratio of sums over items: item i adds (-e_i² + (1 - R²) t_i²) / Σ t².

    Parameters
    ----------
    Y_true, Y_pred : array_like of shape (n_samples, n_targets)
        Deviations from the training means of each item's fold.
    weights, units
        Weights and units as for :func:`correlation_influences`.
    """
    true, pred = paired_samples(Y_true, Y_pred, ("Y_true", "Y_pred"))
    labels, n_units, _ = _rows(len(true), None, units)
    shares = _weights(weights, true.shape[1])
    influence = np.zeros((n_units, shares.shape[1]))
    for batch in column_batches(len(true) * 4, true.shape[1]):
        t = true[:, batch].astype(np.float64)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            squares, errors = t**2, (t - pred[:, batch].astype(np.float64)) ** 2
            total = squares.sum(axis=0)
            ratio = errors.sum(axis=0) / total
            by_item = (ratio * squares - errors) / total
        by_item = np.where(np.isfinite(by_item), by_item, 0.0) @ shares[batch]
        np.add.at(influence, labels, by_item)
    return Influences(influence * np.sqrt(n_units / max(n_units - 1, 1)), n_units - 1, len(true))


def _rows(
    n: int, fold: ArrayLike | None, units: ArrayLike | None
) -> tuple[Index, int, list[Index]]:
    """Return the unit of each item, how many units there are, and the items of each fold."""
    labels = group_labels(units, n, "units")
    folds = np.zeros(n, dtype=np.intp) if fold is None else fold
    return labels, int(labels.max()) + 1, fold_members(folds, n)


def _weights(weights: ArrayLike, n_targets: int) -> Float:
    shares = np.asarray(weights, dtype=np.float64)
    if shares.ndim != 2 or len(shares) != n_targets:
        raise InputError(f"weights have shape {shares.shape}, expected ({n_targets}, n_sums).")
    return shares


def _without_each(
    true: NDArray[np.generic], pred: NDArray[np.generic], place: Index
) -> tuple[Float, Float]:
    """Return r of each target, and r without each unit: (n_targets,), (n_units, n_targets).

    Of a fold in which one side is constant, with all units or without one, r is 0.
    """
    r = np.nan_to_num(np.asarray(pearson_r(true, pred)), nan=0.0)
    without = scores_without("pearson_r", BlockSums(group_members(place)), true, pred)
    return r, np.nan_to_num(without, nan=0.0)


@dataclass(frozen=True)
class ScoreIntervals:
    """Scores with an interval for each target.

    Attributes
    ----------
    observed : numpy.ndarray of shape (n_targets,)
        Scores of the samples as given.
    low, high : numpy.ndarray of shape (n_targets,)
        Ends of the intervals; NaN where the score is NaN.
    n_blocks : int
        Blocks of samples that vary.
    level : float
        Coverage aimed at, of each interval by itself.
    """

    observed: Float
    low: Float
    high: Float
    n_blocks: int
    level: float

    @property
    def excludes_zero(self) -> NDArray[np.bool_]:
        """Whether 0 lies outside each interval."""
        return (self.low > 0) | (self.high < 0)

    @property
    def few_units(self) -> bool:
        """Whether there are too few blocks for the coverage to be sure."""
        return self.n_blocks < FEWEST_UNITS


def score_intervals(
    score_fn: ScoreFunction,
    Y_true: ArrayLike,
    Y_pred: ArrayLike,
    level: float = 0.95,
    *,
    blocks: ArrayLike | None = None,
) -> ScoreIntervals:
    """Give each target's score with its jackknife interval over blocks of test samples.

    With G blocks, s(-g) the score without block g on a scale where its spread hardly depends on it
    (Fisher's z for r, the logarithm of 1 - R² for R² and explained variance), and the variance
    (G - 1) / G Σ_g (s(-g) - mean)² (Tukey, 1958), the interval is s ± t √variance with G - 1
    degrees of freedom, brought back to the score's own scale.

    Parameters
    ----------
    score_fn : callable
        ``score_fn(Y_true, Y_pred)`` gives one score per target:
        :func:`brainkit.evaluation.pearson_r`, ``r2`` or ``explained_variance``, whose scores
        without a block are computed for all blocks at once; others are called once a block.
    Y_true, Y_pred : array_like of shape (n_samples, n_targets) or (n_samples,)
        Measured and predicted responses of test samples.
    level : float, default 0.95
        Coverage, in (0, 1).
    blocks : array_like of shape (n_samples,), optional
        Samples of one block (an image's repeats) are left out together; for time series
        :func:`brainkit.evaluation.time_blocks` makes blocks within runs.

    Returns
    -------
    ScoreIntervals

    Raises
    ------
    InputError
        If the numbers of samples differ, there are fewer than 3 blocks, or `level` is out of range.

    Notes
    -----
    Fit once, and give predictions of samples that no fit has seen. Held-out predictions of all
    cross-validation folds are not independent of each other: score them within their folds, with
    intervals that know the folds, by :mod:`brainkit.evaluation.score_intervals`.
    """
    from scipy.stats import t

    check_level(level)
    true, pred = real_array(Y_true, "Y_true"), real_array(Y_pred, "Y_pred")
    if true.ndim == 0 or pred.ndim == 0 or len(true) != len(pred):
        raise InputError(
            f"Y_true has shape {true.shape} and Y_pred {pred.shape}: they need the same samples."
        )
    observed = np.asarray(score_fn(true, pred), dtype=np.float64)
    members = checked_blocks(blocks, len(true))
    name = score_name(score_fn)
    columns = (true.reshape(len(true), -1), pred.reshape(len(pred), -1))
    if name is None:
        without = _called_without(score_fn, true, pred, members).reshape(len(members), -1)
    else:
        sums = BlockSums(members)
        without = np.empty((len(members), columns[0].shape[1]))
        for one in column_batches(len(true) * 6, columns[0].shape[1]):
            without[:, one] = scores_without(name, sums, columns[0][:, one], columns[1][:, one])
    there, back = _SCALES[name]
    with np.errstate(invalid="ignore", divide="ignore"):
        half = t.ppf((1 + level) / 2, len(members) - 1) * jackknife_error(there(without))
        middle = there(observed.reshape(-1))
        ends = np.sort(np.stack([back(middle - half), back(middle + half)]), axis=0)
    low, high = (end.reshape(observed.shape) for end in ends)
    return ScoreIntervals(observed, low, high, len(members), level)


def checked_blocks(blocks: ArrayLike | None, n_samples: int) -> list[NDArray[np.intp]]:
    """Return the samples of each block, three blocks at least."""
    members = group_members(group_labels(blocks, n_samples, "blocks"))
    if len(members) < 3:
        raise InputError(
            f"There are {len(members)} blocks of samples: an interval needs at least 3 that can be "
            "left out one by one."
        )
    return members


def jackknife_error(without: Float) -> Float:
    """Return the standard error of scores from those without each block, (n_blocks, n_targets)."""
    n_blocks = len(without)
    deviations = without - without.mean(axis=0)
    return np.asarray(np.sqrt((n_blocks - 1) / n_blocks * (deviations**2).sum(axis=0)))


def _called_without(
    score_fn: ScoreFunction,
    true: NDArray[np.generic],
    pred: NDArray[np.generic],
    members: list[NDArray[np.intp]],
) -> Float:
    scores = []
    for rows in members:
        kept = np.ones(len(true), dtype=bool)
        kept[rows] = False
        scores.append(np.asarray(score_fn(true[kept], pred[kept]), dtype=np.float64))
    return np.stack(scores)


def _same(values: Float) -> Float:
    return values


def _log_unexplained(values: Float) -> Float:
    return np.asarray(np.log(1.0 - values))


def _explained(values: Float) -> Float:
    return np.asarray(1.0 - np.exp(values))


# Scales of equal spread, and the way back.
_SCALES: dict[str | None, tuple[Callable[[Float], Float], Callable[[Float], Float]]] = {
    "pearson_r": (np.arctanh, np.tanh),
    "r2": (_log_unexplained, _explained),
    "explained_variance": (_log_unexplained, _explained),
    None: (_same, _same),
}


@dataclass(frozen=True)
class RegionDifference:
    """Mean difference of two encoders over the units of a region.

    Attributes
    ----------
    interval : Interval
        The difference with its jackknife interval; its `n_units` counts the blocks.
    p : float
        Two-sided.
    n_units : int
        Units of the region that have a score.
    """

    interval: Interval
    p: float
    n_units: int


@dataclass(frozen=True)
class EncoderComparison:
    """Differences of score between two encoders, first less second.

    Attributes
    ----------
    score : str
        Name of the score, such as ``"pearson_r"``.
    difference : numpy.ndarray of shape (n_targets,)
        Score of the first less that of the second; NaN where either is.
    low, high : numpy.ndarray of shape (n_targets,)
        Jackknife intervals.
    p : numpy.ndarray of shape (n_targets,)
        Two-sided, of the same t.
    p_familywise : numpy.ndarray of shape (n_targets,)
        Against the largest difference of either sign over targets, by sign flips of the blocks'
        influences.
    by_region : dict of str to RegionDifference
        Means over regions.
    n : int
        Number of flips.
    level : float
        Coverage aimed at.
    """

    score: str
    difference: Float
    low: Float
    high: Float
    p: Float
    p_familywise: Float
    by_region: dict[str, RegionDifference]
    n: int
    level: float

    @property
    def p_fdr(self) -> Float:
        """Adjusted p, for the false discovery rate over targets (Benjamini and Hochberg, 1995)."""
        return fdr_bh(self.p)


def compare_encoders(  # noqa: PLR0913 - what is compared, and how, all by name
    score_fn: ScoreFunction,
    Y_true: ArrayLike,
    Y_pred_first: ArrayLike,
    Y_pred_second: ArrayLike,
    n: int = 1000,
    level: float = 0.95,
    seed: int = 0,
    *,
    blocks: ArrayLike | None = None,
    regions: Mapping[str, ArrayLike] | None = None,
    fold: ArrayLike | None = None,
    training: float = 0.0,
) -> EncoderComparison:
    """Compare two encoders' predictions of the same test samples, target by target.

    With G blocks of samples, d(-g) is the difference of the scores without block g and
    ψ_g = √((G - 1) / G) (mean d(-g) - d(-g)) the block's influence. t = d / √(Σ ψ²), with G - 1
    degrees of freedom, gives p and interval of every target, and of a region's mean difference
    with mean influences (Tukey, 1958). The family-wise p is the share of random sign patterns whose
    largest |Σ ±ψ| over targets reaches |d|.

    Parameters
    ----------
    score_fn : callable
        :func:`brainkit.evaluation.pearson_r`, ``r2`` or ``explained_variance``.
    Y_true : array_like of shape (n_samples, n_targets)
        Measured responses of test samples.
    Y_pred_first, Y_pred_second : array_like of the same shape
        Predictions of the two encoders.
    n : int, default 1000
        Number of sign patterns.
    level : float, default 0.95
        Coverage of the intervals, in (0, 1).
    seed : int, default 0
        The same seed gives the same result.
    blocks : array_like of shape (n_samples,), optional
        Samples of one block (an image's repeats) stay together; for time series
        :func:`brainkit.evaluation.time_blocks` makes blocks within runs.
    regions : mapping of str to array_like of bool of shape (n_targets,), optional
        Regions to summarise; they may overlap.
    fold : array_like of shape (n_samples,), optional
        Fold that each sample was held out in: scores are formed within folds and averaged over them
        by their samples.
    training : float, default 0
        With several folds, the share of the predictions' variance that comes from the training
        items, by which the variance of the difference grows; see
        :func:`brainkit.evaluation.training_share`.

    Returns
    -------
    EncoderComparison

    Raises
    ------
    InputError
        If shapes do not fit, a fold has fewer than 3 blocks, the score is another function, a
        region has no target, or an argument is out of range.

    Notes
    -----
    Give predictions of samples that no fit has seen.
    """
    from scipy.stats import t as student

    name = score_name(score_fn)
    if name is None:
        raise InputError(
            f"Encoders are compared by {listed(SCORES)} of brainkit.evaluation, whose scores "
            "without a block follow from sums; for another score draw its items with "
            "bootstrap_difference."
        )
    check_draws(n, level)
    arrays = _arrays(Y_true, Y_pred_first, Y_pred_second)
    masks = _masks(regions, arrays[0].shape[1])
    folds = [np.arange(len(arrays[0]))]
    if fold is not None:
        folds = fold_members(fold, len(arrays[0]))
    labels = None if blocks is None else np.asarray(blocks)
    members = [
        checked_blocks(None if labels is None else labels[rows], len(rows)) for rows in folds
    ]
    n_blocks = sum(map(len, members))
    freedom = n_blocks - len(folds)
    signs = rng(seed, "sign-flip").choice(np.array([-1.0, 1.0]), size=(n, n_blocks))
    differences, errors, largest = [], [], np.full(n, np.nan)
    in_region, sums = np.zeros((n_blocks, len(masks))), np.zeros(len(masks))
    counted = np.zeros(len(masks), dtype=np.intp)
    for batch in column_batches(len(arrays[0]) * 12, arrays[0].shape[1]):
        true, first, second = (array[:, batch] for array in arrays)
        difference, influence = _difference(score_fn, name, folds, members, true, first, second)
        differences.append(difference)
        errors.append(np.sqrt((1 + training) * (influence**2).sum(axis=0)))
        known = np.isfinite(difference)
        # n, n_blocks @ n_blocks, n_targets
        flipped = np.abs(signs @ np.where(known, influence, 0.0))
        largest = np.fmax(largest, np.fmax.reduce(flipped[:, known], axis=1, initial=np.nan))
        inside = masks[:, batch] & known
        counted += inside.sum(axis=1)
        sums += inside @ np.where(known, difference, 0.0)
        in_region += np.where(known, influence, 0.0) @ inside.T
    difference, error = np.concatenate(differences), np.concatenate(errors)
    quantile = float(student.ppf((1 + level) / 2, freedom))
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * student.sf(np.abs(difference) / error, freedom)
    p = np.where(difference == 0, 1.0, p)  # the same predictions have no error, either
    reached = np.abs(difference) / np.sqrt(1 + training)
    exceeding = n - np.searchsorted(np.sort(largest), reached - 1e-12, side="left")
    by_region = {}
    for i, region in enumerate(regions or {}):
        by_region[region] = _region(
            sums[i], in_region[:, i], int(counted[i]), training, freedom, level
        )
    return EncoderComparison(
        name,
        difference,
        difference - quantile * error,
        difference + quantile * error,
        np.where(np.isnan(difference), np.nan, p),
        np.where(np.isnan(difference), np.nan, (1 + exceeding) / (1 + n)),
        by_region,
        n,
        level,
    )


def _difference(
    score_fn: ScoreFunction,
    name: str,
    folds: list[NDArray[np.intp]],
    members: list[list[NDArray[np.intp]]],
    true: NDArray[np.generic],
    first: NDArray[np.generic],
    second: NDArray[np.generic],
) -> tuple[Float, Float]:
    """Return the difference of each target, and each block's influence on it."""
    difference, influences = np.zeros(true.shape[1]), []
    for rows, blocks in zip(folds, members, strict=True):
        weight, sums = len(rows) / len(true), BlockSums(blocks)
        scores = [np.asarray(score_fn(true[rows], pred[rows])) for pred in (first, second)]
        difference += weight * (scores[0] - scores[1])
        without = scores_without(name, sums, true[rows], first[rows])
        without -= scores_without(name, sums, true[rows], second[rows])
        scale = weight * np.sqrt((len(blocks) - 1) / len(blocks))
        influences.append(scale * (without.mean(axis=0) - without))
    return difference, np.concatenate(influences)


def _region(
    total: float, influence: Float, n_units: int, training: float, freedom: int, level: float
) -> RegionDifference:
    """Return the mean difference over a region; NaN where it has no target with a score."""
    from scipy.stats import t as student

    n_blocks = len(influence)
    if not n_units:
        nothing = float("nan")
        return RegionDifference(
            Interval(nothing, nothing, nothing, n_blocks, level, n_blocks), nothing, 0
        )
    value = float(total / n_units)
    error = float(np.sqrt((1 + training) * ((influence / n_units) ** 2).sum()))
    half = float(student.ppf((1 + level) / 2, freedom)) * error
    p = float(2 * student.sf(abs(value) / error, freedom)) if error > 0 else float(value == 0)
    interval = Interval(value, value - half, value + half, n_blocks, level, n_blocks)
    return RegionDifference(interval, p, n_units)


def _arrays(
    Y_true: ArrayLike, Y_pred_first: ArrayLike, Y_pred_second: ArrayLike
) -> tuple[NDArray[np.generic], NDArray[np.generic], NDArray[np.generic]]:
    true, first = paired_samples(Y_true, Y_pred_first, ("Y_true", "Y_pred_first"))
    _, second = paired_samples(true, Y_pred_second, ("Y_true", "Y_pred_second"))
    if true.ndim != 2 or not true.shape[1]:
        raise InputError(f"Y_true has shape {true.shape}, expected (n_samples, n_targets).")
    return true, first, second


def _masks(regions: Mapping[str, ArrayLike] | None, n_targets: int) -> NDArray[np.bool_]:
    """Which targets each region holds, (n_regions, n_targets)."""
    masks = np.zeros((len(regions or {}), n_targets), dtype=bool)
    for i, (name, inside) in enumerate((regions or {}).items()):
        mask = np.asarray(inside)
        if mask.dtype != np.bool_ or mask.shape != (n_targets,) or not mask.any():
            raise InputError(
                f"Region {name!r} has shape {mask.shape} and dtype {mask.dtype}, expected "
                f"({n_targets},) of bool with at least one True."
            )
        masks[i] = mask
    return masks
