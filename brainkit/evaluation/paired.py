"""Which of two encoders predicts a voxel, and a region, better: paired over test samples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, listed
from brainkit.evaluation._columns import paired_samples
from brainkit.evaluation._groups import group_labels, group_members
from brainkit.evaluation._linear_scores import (
    ROUNDING,
    SCORES,
    BlockSums,
    ScoreFunction,
    WeightedScores,
    contributions,
    score_name,
    working_dtype,
)
from brainkit.evaluation.bootstrap import (
    batches_of_draws,
    check_draws,
    drawn_weights,
    percentiles,
)
from brainkit.evaluation.statistics import Interval, fdr_bh


@dataclass(frozen=True)
class RegionDifference:
    """Mean difference of two encoders over the units of a region.

    Attributes
    ----------
    interval : Interval
        The difference with its paired bootstrap interval; its `n` counts the blocks drawn.
    p : float
        Two-sided, by sign flips.
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
        Paired percentile bootstrap intervals.
    p : numpy.ndarray of shape (n_targets,)
        Two-sided, by sign flips.
    p_familywise : numpy.ndarray of shape (n_targets,)
        The same against the largest difference of either sign over targets.
    by_region : dict of str to RegionDifference
        Means over regions.
    n : int
        Number of flips, and of bootstrap samples.
    level : float
        Coverage aimed at.
    """

    score: str
    difference: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    p: NDArray[np.float64]
    p_familywise: NDArray[np.float64]
    by_region: dict[str, RegionDifference]
    n: int
    level: float

    @property
    def p_fdr(self) -> NDArray[np.float64]:
        """Adjusted p, for the false discovery rate over targets (Benjamini and Hochberg, 1995)."""
        return fdr_bh(self.p)


def compare_encoders(
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
) -> EncoderComparison:
    """Compare two encoders' predictions of the same test samples, target by target.

    Each sample contributes d_i to the difference of scores: its squared residual under the second
    encoder less that under the first, over Σ (y - ȳ)²; for r, with standardised y, p and p',
    y·(p - p') - ½ r̄ (p² - p'²), where r̄ is the mean of the two correlations. Where the encoders do
    not differ, exchanging their predictions of a block of samples, which turns the sign of its
    contributions, changes nothing: p is the share of random sign patterns whose |Σ ±d| reaches
    |Σ d|. Intervals draw blocks with replacement and compute both scores anew. All of it is matrix
    products.

    Parameters
    ----------
    score_fn : callable
        :func:`brainkit.evaluation.pearson_r`, ``r2`` or ``explained_variance``.
    Y_true : array_like of shape (n_samples, n_targets)
        Measured responses of test samples. Where all three arrays are float32, so are the products.
    Y_pred_first, Y_pred_second : array_like of the same shape
        Predictions of the two encoders.
    n : int, default 1000
        Number of sign patterns, and of bootstrap samples.
    level : float, default 0.95
        Coverage of the intervals, in (0, 1).
    seed : int, default 0
        The same seed gives the same result.
    blocks : array_like of shape (n_samples,), optional
        Samples of one block (an image's repeats) stay together; for time series
        :func:`brainkit.evaluation.time_blocks` makes blocks within runs.
    regions : mapping of str to array_like of bool of shape (n_targets,), optional
        Regions to summarise; they may overlap.

    Returns
    -------
    EncoderComparison

    Raises
    ------
    InputError
        If shapes do not fit, there are fewer than 2 blocks, the score is another function, a
        region has no target, or an argument is out of range.

    Notes
    -----
    Give predictions of samples that no fit has seen; what is said of folds put together at
    :func:`brainkit.evaluation.permutation_test` holds here, too.
    """
    name = score_name(score_fn)
    if name is None:
        raise InputError(
            f"Encoders are compared by {listed(SCORES)} of brainkit.evaluation, whose differences "
            "are sums over samples; for another score draw its items with bootstrap_difference."
        )
    check_draws(n, level)
    arrays = _arrays(Y_true, Y_pred_first, Y_pred_second)
    members = group_members(group_labels(blocks, len(arrays[0]), "blocks"))
    weights = drawn_weights(len(members), n, seed)
    masks = _masks(regions, arrays[0].shape[1])
    dtype = working_dtype(*arrays)
    flips = _Flips(name, members, n, seed, dtype, len(masks))
    draws = _Draws(name, members, weights, dtype, len(masks))
    for one in batches_of_draws(n, arrays[0].shape[1]):
        true, first, second = (array[:, one] for array in arrays)
        inside = masks[:, one]
        flips.add(true, first, second, inside)
        draws.add(true, first, second, inside, level)
    difference, p, p_familywise = flips.result()
    low, high = np.where(np.isnan(difference), np.nan, draws.ends())
    by_region = {}
    for i, region in enumerate(regions or {}):
        value, region_p, n_units = flips.region(i)
        interval = Interval(value, *draws.region(i, level), len(members), level)
        by_region[region] = RegionDifference(interval, region_p, n_units)
    return EncoderComparison(name, difference, low, high, p, p_familywise, by_region, n, level)


class _Flips:
    """Differences of scores under random signs of the blocks' contributions."""

    def __init__(
        self,
        name: str,
        members: list[NDArray[np.intp]],
        n: int,
        seed: int,
        dtype: type[np.floating],
        n_regions: int,
    ) -> None:
        self.name, self.n, self.sums = name, n, BlockSums(members)
        self.dtype, self.rounding = dtype, ROUNDING[dtype]
        generator = rng(seed, "sign-flip")
        self.signs = generator.choice(np.array([-1.0, 1.0]), size=(n, len(members)))
        self.differences: list[NDArray[np.float64]] = []
        self.exceeding: list[NDArray[np.intp]] = []
        self.largest = np.full(n, np.nan)
        self.in_region = np.zeros((len(members), n_regions))
        self.counted = np.zeros(n_regions, dtype=np.intp)

    def add(
        self,
        true: NDArray[np.generic],
        first: NDArray[np.generic],
        second: NDArray[np.generic],
        inside: NDArray[np.bool_],
    ) -> None:
        """Take a batch of targets, inside (n_regions, n_targets)."""
        by_sample = contributions(self.name, true, first, second)
        by_block = self.sums(by_sample)
        difference = by_block.sum(axis=0)
        products = self.signs.astype(self.dtype) @ by_block.astype(self.dtype)
        null = np.abs(products).astype(np.float64)  # n, n_targets
        self.differences.append(difference)
        self.exceeding.append((~(null < np.abs(difference) - self.rounding)).sum(axis=0))
        self.largest = np.fmax(self.largest, np.fmax.reduce(null, axis=1, initial=np.nan))
        known = inside & ~np.isnan(difference)
        self.counted += known.sum(axis=1)
        self.in_region += np.where(np.isnan(difference), 0.0, by_block) @ known.T

    def result(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Difference, p and family-wise p of each target."""
        difference = np.concatenate(self.differences)
        reached = np.abs(difference) - self.rounding
        families = self.n - np.searchsorted(np.sort(self.largest), reached, side="left")
        counts = np.stack([np.concatenate(self.exceeding), families])
        p, p_familywise = np.where(np.isnan(difference), np.nan, (1 + counts) / (1 + self.n))
        return difference, p, p_familywise

    def region(self, i: int) -> tuple[float, float, int]:
        """Mean difference, p and number of targets of a region; NaN where it has none."""
        if not self.counted[i]:
            return float("nan"), float("nan"), 0
        by_block = self.in_region[:, i] / self.counted[i]
        value = float(by_block.sum())
        exceeding = int((np.abs(self.signs @ by_block) >= abs(value) - ROUNDING[np.float64]).sum())
        return value, (1 + exceeding) / (1 + self.n), int(self.counted[i])


class _Draws:
    """Differences of scores of blocks drawn with replacement."""

    def __init__(
        self,
        name: str,
        members: list[NDArray[np.intp]],
        weights: NDArray[np.int64],
        dtype: type[np.floating],
        n_regions: int,
    ) -> None:
        self.scores = WeightedScores(name, members, weights, dtype)
        self.of_targets: list[NDArray[np.float64]] = []
        self.sums = np.zeros((len(weights), n_regions))
        self.counts = np.zeros((len(weights), n_regions))

    def add(
        self,
        true: NDArray[np.generic],
        first: NDArray[np.generic],
        second: NDArray[np.generic],
        inside: NDArray[np.bool_],
        level: float,
    ) -> None:
        """Take a batch of targets, inside (n_regions, n_targets)."""
        scores = self.scores(true, [first, second])
        drawn = scores[0] - scores[1]  # n, n_targets
        self.of_targets.append(percentiles(drawn, level))
        known = ~np.isnan(drawn)
        self.sums += np.where(known, drawn, 0.0) @ inside.T
        self.counts += known.astype(np.float64) @ inside.T

    def ends(self) -> NDArray[np.float64]:
        """Give the interval of each target, (2, n_targets)."""
        return np.concatenate(self.of_targets, axis=1)

    def region(self, i: int, level: float) -> tuple[float, float]:
        """Give the interval of a region's mean difference."""
        with np.errstate(invalid="ignore"):
            low, high = percentiles((self.sums / self.counts)[:, i : i + 1], level)[:, 0]
        return float(low), float(high)


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
