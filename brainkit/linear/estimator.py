"""The scikit-learn shell round the ridge solver: one class that encoders and decoders build on."""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from brainkit.errors import InputError, unknown_name
from brainkit.linear.folds import split_folds
from brainkit.linear.leave_one_out import WAYS
from brainkit.linear.ridge import positive, ridge_cv
from brainkit.linear.spectrum import is_primal

DEFAULT_ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))


def training_scale(X: NDArray[Any]) -> NDArray[Any]:
    """Return the standard deviation of each column, 1 where it is constant."""
    scale = X.std(axis=0, dtype=np.float64)
    return np.where((scale > 0) & (np.ptp(X, axis=0) > 0), scale, 1.0).astype(X.dtype)


class CrossValidatedRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge with penalties chosen by exact cross-validation within the training data.

    See `brainkit.linear.ridge` for the equation. Folds keep groups whole.

    Parameters
    ----------
    alphas : sequence of float
        Candidate penalties, positive.
    cv : int, splitter, iterable of folds, "loo" or "gcv", default=5
        Number of folds, or what `brainkit.linear.folds.split_folds` takes; or every sample left
        out in turn, exactly or by generalised cross-validation. Groups need folds.
    fit_intercept : bool, default=True
        Fit the means.
    standardise : bool, default=False
        Scale each feature by its training standard deviation first.
    alpha_per_target : bool, default=True
        A penalty for each target, or one for all, by their summed error.
    n_targets_batch : int, optional
        Targets at once; by free memory where not given.
    """

    def __init__(
        self,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        cv: Any = 5,
        fit_intercept: bool = True,
        standardise: bool = False,
        alpha_per_target: bool = True,
        n_targets_batch: int | None = None,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.standardise = standardise
        self.alpha_per_target = alpha_per_target
        self.n_targets_batch = n_targets_batch

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Choose the penalties and fit.

        Parameters
        ----------
        X : array (n_samples, n_features)
            Features.
        y : array (n_samples, n_targets) or (n_samples,)
            Targets.
        groups : array (n_samples,), optional
            Samples of one group stay in one fold, such as the repeats of an image.
        runs : array (n_samples,), optional
            Used as groups where none are given.

        Returns
        -------
        self
            With `coef_` (n_targets, n_features), `intercept_` (n_targets,), `alpha_` (n_targets,)
            `cv_r2_` (n_targets,), the held-out R² of the chosen penalty, and `batch_size_`.

        Raises
        ------
        ValueError
            If the data hold NaN or infinities, or do not fit each other.
        InputError
            If there are fewer groups than folds, folds do not fit the samples or part a group, or
            a penalty is not positive.
        """
        samples, targets = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True,
            ensure_min_samples=2,
        )  # fmt: skip
        alphas = self._checked_alphas()
        Y = np.asarray(targets, dtype=samples.dtype).reshape(len(samples), -1)
        self._check_targets(Y)
        scale = training_scale(samples) if self.standardise else None
        found = ridge_cv(
            samples if scale is None else samples / scale,
            Y,
            alphas,
            self._folds(len(samples), runs if groups is None else groups),
            fit_intercept=self.fit_intercept,
            alpha_per_target=self.alpha_per_target,
            n_targets_batch=self.n_targets_batch,
        )
        self.alpha_, self.intercept_ = np.asarray(alphas)[found.chosen], found.intercept
        self.coef_ = found.coef if scale is None else found.coef / scale
        least = np.take_along_axis(found.errors, found.chosen[None], axis=0)[0]
        varies = (np.ptp(Y, axis=0) > 0) & (found.total > 0)
        self.cv_r2_ = 1 - least / np.where(varies, found.total, np.nan)
        self.batch_size_ = found.batch_size
        self.primal_ = is_primal(*samples.shape)
        self.single_target_ = targets.ndim == 1
        return self

    def _check_targets(self, Y: NDArray[Any]) -> None:
        """Raise if targets (n_samples, n_targets) cannot be fitted; what can is the subclass's."""

    def _checked_alphas(self) -> list[float]:
        return positive(self.alphas)

    def _folds(self, n_samples: int, groups: ArrayLike | None) -> Any:
        """Return the folds, or the way to leave single samples out."""
        if not isinstance(self.cv, str):
            return split_folds(self.cv, n_samples, groups=groups)
        if self.cv not in WAYS:
            raise unknown_name("cv", self.cv, WAYS)
        if groups is not None and len(np.unique(np.asarray(groups))) < n_samples:
            raise InputError(
                f"cv={self.cv!r} leaves single samples out, and would keep others of their group "
                "in training. Give a number of folds instead."
            )
        return self.cv

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the targets; a row's prediction depends on that row alone.

        Parameters
        ----------
        X : array (n_samples, n_features)

        Returns
        -------
        array (n_samples, n_targets), or (n_samples,) if fitted so
        """
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        predicted: NDArray[Any] = samples @ self.coef_.T + self.intercept_
        return predicted[:, 0] if self.single_target_ else predicted

    def score_targets(self, X: ArrayLike, Y: ArrayLike) -> NDArray[np.float64]:
        """Return R² of each target, (n_targets,); NaN for a constant one."""
        predicted = np.asarray(self.predict(X), dtype=np.float64)
        truth = np.asarray(Y, dtype=np.float64)
        predicted = predicted.reshape(len(predicted), -1)
        truth = truth.reshape(len(truth), -1)
        if truth.shape != predicted.shape:
            raise InputError(f"Y has shape {np.shape(Y)}; the predictions have {predicted.shape}.")
        total = ((truth - truth.mean(axis=0)) ** 2).sum(axis=0)
        residual = ((truth - predicted) ** 2).sum(axis=0)
        # By what is equal, not by the total: the mean of equal values may be off by rounding.
        varies = np.ptp(truth, axis=0) > 0
        return np.asarray(1 - residual / np.where(varies, total, np.nan))

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the mean over targets of `score_targets`; NaN if all targets are constant."""
        scores = self.score_targets(X, y)
        scores = scores[np.isfinite(scores)]
        return float(scores.mean()) if scores.size else float("nan")
