"""Ridge from responses to a feature space."""

from collections.abc import Sequence

import numpy as np

from brainkit.linear.estimator import CrossValidatedRidge

DEFAULT_ALPHAS = tuple(float(alpha) for alpha in np.logspace(1, 7, 13))


class RidgeDecoder(CrossValidatedRidge):
    r"""Linear decoder, responses → features: :math:`\min_W \lVert Z - X W \rVert^2 + \alpha \lVert W \rVert^2`.

    Voxels are scaled by their training standard deviation. One penalty serves all features, chosen
    by K-fold cross-validation for their summed error: they are coordinates of one image, and
    penalties of their own would shrink them by different amounts and so distort it.

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
