"""Ridge from responses to a feature space."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from brainkit.linear.blocks import BlockFit, TargetBlock, ridge_blocks
from brainkit.linear.estimator import CrossValidatedRidge, training_scale
from brainkit.linear.folds import kfold
from brainkit.linear.spectrum import is_primal
from brainkit.linear.targets import batch_size

DEFAULT_ALPHAS = tuple(float(alpha) for alpha in np.logspace(1, 7, 13))


class RidgeDecoder(CrossValidatedRidge):
    r"""Linear decoder, responses → features: :math:`\min_W \lVert Z - X W \rVert^2 + \alpha \lVert W \rVert^2`.

    Voxels are scaled by their training standard deviation. One penalty serves all features, chosen
    by K-fold cross-validation for their summed error: they are coordinates of one image, and
    penalties of their own would shrink them by different amounts and so distort it.

    A feature that is constant in the training part is no fault here, unlike a constant voxel in an
    encoder, on which nothing can be judged: embeddings do have such dimensions, and an image needs
    all of them. It is predicted as what it is, with `cv_r2_` NaN, and has no say in the penalty.
    NaN is refused.

    Parameters
    ----------
    alphas : sequence of float
        Candidate penalties, positive; by default 13 from 10 to 10⁷.
    cv : int, default=5
        Folds; `groups` given to `fit` stay whole.
    fit_intercept : bool, default=True
        Fit the means.
    standardise : bool, default=True
        Scale each voxel by its training standard deviation.
    alpha_per_target : bool, default=False
        True chooses a penalty for each feature.
    n_targets_batch : int, optional
        Features at once; by free memory where not given.

    Attributes
    ----------
    alpha_ : array (n_features_out,)
    coef_ : array (n_features_out, n_voxels)
    intercept_ : array (n_features_out,)
    cv_r2_ : array (n_features_out,)
    """  # noqa: E501

    def __init__(
        self,
        alphas: Sequence[float] = DEFAULT_ALPHAS,
        cv: int = 5,
        fit_intercept: bool = True,
        standardise: bool = True,
        alpha_per_target: bool = False,
        n_targets_batch: int | None = None,
    ) -> None:
        super().__init__(
            alphas=alphas,
            cv=cv,
            fit_intercept=fit_intercept,
            standardise=standardise,
            alpha_per_target=alpha_per_target,
            n_targets_batch=n_targets_batch,
        )

    @property
    def shares_decompositions(self) -> bool:
        """Whether `fit_with_null` can do it: with one penalty for all features, as by default."""
        plain = self.fit_intercept and self.standardise and not self.alpha_per_target
        return plain and isinstance(self.cv, int | np.integer)

    def fit_with_null(
        self, X: ArrayLike, y: ArrayLike, exchange: ArrayLike, groups: ArrayLike | None = None
    ) -> "RidgeDecoder":
        """Fit, and fit a clone to exchanged features, decomposing the responses once for both.

        Parameters
        ----------
        X, y, groups
            As for `fit`.
        exchange : array of int (n_samples,)
            The features that the clone is told each sample goes with, by sample number.

        Returns
        -------
        RidgeDecoder
            The clone, fitted to ``y[exchange]``.
        """
        samples, targets = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True,
            ensure_min_samples=2,
        )  # fmt: skip
        Y = np.asarray(targets, dtype=samples.dtype).reshape(len(samples), -1)
        scale = training_scale(samples)
        size = batch_size(samples, Y.shape[1], self.n_targets_batch)
        alphas = self._checked_alphas()
        null: RidgeDecoder = clone(self)
        null.n_features_in_ = self.n_features_in_
        blocks = [TargetBlock(Y, alphas, size, rows) for rows in (None, np.asarray(exchange))]
        folds = kfold(len(samples), int(self.cv), groups=groups)
        for model, fit in zip(
            (self, null), ridge_blocks(samples / scale, blocks, folds), strict=True
        ):
            model._take(fit, scale)
            model.batch_size_, model.primal_ = size, is_primal(*samples.shape)
            model.single_target_ = targets.ndim == 1
        return null

    def _take(self, fit: BlockFit, scale: NDArray[Any]) -> None:
        """Take what was found for samples that were divided by `scale`."""
        self.coef_, self.intercept_ = fit.coef / scale, fit.intercept
        self.alpha_ = np.full(len(fit.coef), fit.alpha)
        self.cv_r2_ = fit.cv_r2
