"""Ridge from responses to a feature space, and the null of a brain that saw something else."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from brainkit.arrays.devices import to_numpy
from brainkit.errors import PenaltyWarning, told_once
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_estimator import CrossValidatedRidge, fit_rows
from brainkit.linear.ridge_solver import TargetBlock, ridge_blocks
from brainkit.linear.targets import batch_size

Array = NDArray[Any]
DEFAULT_ALPHAS = tuple(float(alpha) for alpha in np.logspace(1, 7, 13))  # of unit variance


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
    alphas : "auto" or sequence of float, default="auto"
        Candidate penalties, not negative. "auto": 13 from 10 to 10⁷, times the mean variance of
        the voxels, which is 1 for those that are scaled.
    cv : int, splitter, iterable of folds, "loo" or "gcv", default=5
        Folds; `groups` given to `fit` stay whole. See `VoxelwiseRidge`.
    fit_intercept : bool, default=True
        Fit the means.
    standardise : bool, default=True
        Scale each voxel by its training standard deviation.
    alpha_per_target : bool, default=False
        True chooses a penalty for each feature.
    n_targets_batch : int, optional
        Features at once; by free memory where not given.
    device : str, default="auto"
        Where the solver runs: a GPU ("cuda", "cuda:0") by torch, or the processor ("cpu") by NumPy;
        "auto" is a GPU if there is one.

    Attributes
    ----------
    alpha_ : array (n_features_out,)
    coef_ : array (n_features_out, n_voxels)
    intercept_ : array (n_features_out,)
    cv_r2_ : array (n_features_out,)
    alphas_, alpha_at_edge_, constant_predictions_, feature_mean_, target_mean_, device_, dtype_
        As those of `brainkit.encoding.VoxelwiseRidge`.
    """  # noqa: E501

    _grid = DEFAULT_ALPHAS

    def __init__(
        self,
        alphas: Any = "auto",
        cv: Any = 5,
        fit_intercept: bool = True,
        standardise: bool = True,
        alpha_per_target: bool = False,
        n_targets_batch: int | None = None,
        device: str = "auto",
    ) -> None:
        super().__init__(
            alphas=alphas,
            cv=cv,
            fit_intercept=fit_intercept,
            standardise=standardise,
            alpha_per_target=alpha_per_target,
            n_targets_batch=n_targets_batch,
            device=device,
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
        data = self._training(X, y)
        data = replace(data, X=to_numpy(data.X))  # the products shared here are NumPy's
        n_samples, n_targets = len(data.Y), data.Y.shape[1]
        size = batch_size(data.X, n_targets, self.n_targets_batch)
        null: RidgeDecoder = clone(self)
        null.n_features_in_ = self.n_features_in_
        given = (None, np.asarray(exchange))
        blocks = [TargetBlock(data.Y, data.alphas, size, rows) for rows in given]
        folds = kfold(n_samples, int(self.cv), groups=groups)
        fits = ridge_blocks(data.X, blocks, folds)
        for model, fit in zip((self, null), fits, strict=True):
            model._keep_weights(data, fit.coef, fit.means)
            total = np.where(np.isnan(fit.cv_r2), 0.0, fit.total)
            alpha = np.full(n_targets, fit.alpha)
            model._keep_choice(data, alpha, fit.error, total, fit.eigenvalues, fit.errors)
            model._keep_run(data, fit.dtype, size)
        return null


def fit_with_null(
    model: Any,
    X: Array,
    Z: Array,
    *,
    groups: ArrayLike,
    exchange: Array,
    people: ArrayLike | None = None,
) -> tuple[Any, Any]:
    """Fit clones of a model to responses: to what evoked them, and to what did not.

    Parameters
    ----------
    model : estimator
    X : array (n_samples, n_units)
        Responses.
    Z : array (n_samples, n_features)
        Features of the images that evoked them.
    groups : array (n_samples,)
        Samples of one group stay in one fold.
    exchange : array of int (n_samples,)
        For each response another one, whose image it is now said to have been evoked by; see
        `brainkit.data.dependence.Rows.exchanged`.
    people : array of str (n_samples,), optional
        Whose each response is, for models that tell people apart.

    Returns
    -------
    fitted, null : estimators
        The second is fitted to ``Z[exchange]``. A `RidgeDecoder` decomposes the responses once
        for both.
    """
    fitted = clone(model)
    if type(fitted) is RidgeDecoder and fitted.shares_decompositions:
        return fitted, fitted.fit_with_null(X, Z, exchange, groups=groups)
    by_row: dict[str, Any] = {"groups": groups, "people": people}
    fit_rows(fitted, X, Z, **by_row)
    with told_once(PenaltyWarning, silent=True):
        return fitted, fit_rows(clone(model), X, Z[exchange], **by_row)
