"""Reduced-rank ridge encoder: voxels that share a few dimensions of the features."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.devices import to_device, to_numpy
from brainkit.errors import InputError
from brainkit.linear.folds import group_codes, kfold
from brainkit.linear.reduced_rank_solver import (
    average_groups,
    diagonal_metric,
    noise_metric,
    predictability,
    prepare_fold,
    reduced_rank_errors,
    ridge_errors,
    solve_reduced_rank,
)
from brainkit.linear.ridge_estimator import CrossValidatedRidge
from brainkit.linear.ridge_solver import select_alphas
from brainkit.linear.spectrum import decompose
from brainkit.linear.targets import column_mean, deviations, refuse_constant


class ReducedRankRidge(CrossValidatedRidge):
    r"""Linear encoding model of limited rank, features → responses.

    :math:`\min_W \lVert (Y - X W - b) M \rVert^2 + \alpha \lVert W M \rVert^2` with rank(W) ≤ k.
    Voxels of one brain follow far fewer dimensions of the stimuli than there are voxels; what the
    noise of one voxel does to its weights is averaged over those that share its dimensions.
    Each voxel takes its weights from the solution (penalty and rank) that predicts it best in a
    K-fold cross-validation within the training data.

    The metric M makes the noise white where `groups` tells of repeats, samples of one group with
    the same features: it is estimated from their deviations
    (`brainkit.linear.reduced_rank_solver`), and each group then counts once, with its mean. Give
    single trials, not averages, to have it. Without repeats M weighs each voxel by the root of the
    held-out variance share that plain ridge explains in it.

    Parameters
    ----------
    alphas : "auto" or sequence of float, default="auto"
        Candidate penalties, not negative. "auto": 13 from 1 to 10⁶, times the mean variance of the
        features (`brainkit.linear.ridge_estimator`).
    ranks : sequence of int
        Candidate ranks; those above the number of targets or features change nothing.
    cv : int, default=3
        Folds; `groups` given to `fit` stay whole.
    fit_intercept : bool, default=True
        Fit the means.
    device : str, default="auto"
        Where the solver runs: a GPU ("cuda", "cuda:0") by torch, or the processor ("cpu") by NumPy;
        "auto" is a GPU if there is one.

    Attributes
    ----------
    alpha_ : array (n_targets,)
        Each voxel's penalty.
    rank_ : array of int (n_targets,)
        Each voxel's rank.
    noise_factors_ : int
        Factors of correlated noise that M discounts.
    coef_ : array (n_targets, n_features)
    intercept_ : array (n_targets,)
    cv_r2_ : array (n_targets,)
        Held-out R² of the chosen penalty and rank, within the training data.
    alphas_, alpha_at_edge_, constant_predictions_, feature_mean_, target_mean_, device_, dtype_
        As those of `VoxelwiseRidge`.

    References
    ----------
    Mukherjee and Zhu (2011). Reduced rank ridge regression and its kernel extensions. Statistical
    Analysis and Data Mining 4:612.
    """

    def __init__(
        self,
        alphas: Any = "auto",
        ranks: Sequence[int] = (10, 20, 40, 80),
        cv: int = 3,
        fit_intercept: bool = True,
        device: str = "auto",
    ) -> None:
        super().__init__(alphas=alphas, cv=cv, fit_intercept=fit_intercept, device=device)
        self.ranks = ranks

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Choose penalty and rank, and fit; the parameters are those of `VoxelwiseRidge.fit`."""
        ranks = self._checked_ranks()
        if not isinstance(self.cv, int | np.integer) or isinstance(self.cv, bool):
            raise InputError(f"cv must be a number of folds for ReducedRankRidge; got {self.cv!r}.")
        data = self._training(X, y)
        alphas, n_samples = data.alphas, len(data.Y)
        codes = group_codes(runs if groups is None else groups, n_samples)
        mean = column_mean(data.Y, self.fit_intercept)
        samples = data.X
        # Less their means, so that nothing is lost where targets come in more digits than features.
        Y = to_device(deviations(data.Y, mean, to_numpy(samples[:0]).dtype), self._where(samples))
        repeated = n_samples > codes.max() + 1 and _same_features(to_numpy(samples), codes)
        metric = None
        if repeated:
            samples, Y, residuals = average_groups(
                samples, Y, to_device(codes, self._where(samples))
            )
            metric = noise_metric(residuals, len(residuals) - len(samples))
            codes = np.arange(len(samples))
        folds = [
            prepare_fold(
                samples, Y, train, held_out, alphas=alphas, fit_intercept=self.fit_intercept
            )
            for train, held_out in kfold(len(samples), int(self.cv), groups=codes)
        ]
        if metric is None:
            metric = diagonal_metric(predictability(*ridge_errors(folds, alphas)))
        errors = to_numpy(reduced_rank_errors(folds, alphas, ranks, metric))
        total = sum(np.square(to_numpy(fold.truth)).sum(axis=0, dtype=np.float64) for fold in folds)
        alpha, self.rank_, least = _choose(errors, alphas, ranks)
        self.noise_factors_ = len(metric.gains)
        spectrum = decompose(samples, alphas, centred=self.fit_intercept)
        coef, _ = solve_reduced_rank(
            samples, Y, to_device(alpha, self._where(samples)),
            to_device(self.rank_, self._where(samples)), metric,
            fit_intercept=self.fit_intercept, spectrum=spectrum,
        )  # fmt: skip
        means = spectrum.mean, mean + to_numpy(column_mean(Y, self.fit_intercept))
        self._keep_weights(data, coef, means)
        values = to_numpy(spectrum.values)
        span = (float(values[0]), float(values[-1])) if len(values) else (0.0, 0.0)
        place = np.searchsorted(ranks, self.rank_)[None, None]
        by_alpha = np.take_along_axis(errors, place, axis=1)[:, 0]
        self._keep_choice(data, alpha, least, total, span, by_alpha)
        self._keep_run(data, spectrum.dtype, data.Y.shape[1])  # the targets are one problem
        return self

    def _check_targets(self, Y: NDArray[Any]) -> None:
        refuse_constant(Y)

    @staticmethod
    def _where(samples: Any) -> Any:
        return samples.device if hasattr(samples, "detach") else None

    def _checked_ranks(self) -> list[int]:
        ranks = sorted(set(self.ranks))
        if not ranks or not all(1 <= rank < np.inf and rank == int(rank) for rank in ranks):
            raise InputError(f"ranks must be whole numbers from 1, at least one; got {self.ranks}.")
        return [int(rank) for rank in ranks]


def _choose(
    errors: NDArray[Any], alphas: Sequence[float], ranks: Sequence[int]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return each target's penalty and rank of least error, and that error.

    Of equals the smallest rank and the largest penalty.
    """
    by_rank = np.stack([select_alphas(errors[:, place], alphas) for place in range(len(ranks))])
    least = np.take_along_axis(errors, by_rank[None], axis=0)[0]  # (n_ranks, n_targets)
    rank = np.argmin(least, axis=0)
    targets = np.arange(errors.shape[2])
    alpha = np.asarray(alphas)[by_rank[rank, targets]]
    return alpha, np.asarray(ranks)[rank], least[rank, targets]


def _same_features(X: NDArray[Any], codes: NDArray[np.int64]) -> bool:
    """Whether the samples of each group have the same features."""
    first = np.unique(codes, return_index=True)[1][codes]
    blocks = (slice(start, start + 2048) for start in range(0, len(X), 2048))
    return all(np.array_equal(X[block], X[first[block]]) for block in blocks)
