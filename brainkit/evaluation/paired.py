"""Which of two encoders predicts a voxel, and a region, better: paired over test samples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed
from brainkit.evaluation._columns import column_batches, paired_samples
from brainkit.evaluation._linear_scores import (
    SCORES,
    BlockSums,
    ScoreFunction,
    score_name,
    scores_without,
)
from brainkit.evaluation.intervals import Interval, check_draws
from brainkit.evaluation.jackknife import checked_blocks
from brainkit.evaluation.scores import fold_members
from brainkit.evaluation.statistics import fdr_bh

Float = NDArray[np.float64]


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
        Which score, such as ``"pearson_r"``.
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
        Of several folds: the share of the predictions' variance that comes from the training items,
        by which the variance of the difference grows; see
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
