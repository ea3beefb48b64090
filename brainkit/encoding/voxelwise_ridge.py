"""Voxelwise ridge: each voxel has weights and a penalty of its own."""

from typing import Any

from numpy.typing import NDArray

from brainkit.linear.ridge_estimator import CrossValidatedRidge
from brainkit.linear.targets import refuse_constant


class VoxelwiseRidge(CrossValidatedRidge):
    r"""Linear encoding model, features → responses, with a penalty for each voxel.

    For every voxel v, :math:`\min_w \lVert y_v - X w - b \rVert^2 + \alpha_v \lVert w \rVert^2`,
    where :math:`\alpha_v` is the candidate with the least squared error summed over the held-out
    parts of a K-fold cross-validation within the training data. Solved on the smaller side (as
    many features as samples or fewer: primal; else dual), voxels in batches.

    Parameters
    ----------
    alphas : "auto" or sequence of float, default="auto"
        Candidate penalties, not negative. "auto": 13 from 1 to 10⁶, times the mean variance of the
        features, so that their unit makes no difference (`brainkit.linear.ridge_estimator`).
    cv : int, splitter, iterable of folds, "loo" or "gcv", default=5
        Number of folds, `groups` given to `fit` stay whole; or a splitter of scikit-learn's kind,
        or (train, held_out) row numbers (`brainkit.linear.folds.split_folds`); or every sample
        left out in turn, exactly or by generalised cross-validation.
    fit_intercept : bool, default=True
        Fit the means.
    standardise : bool, default=False
        Scale each feature by its training standard deviation first.
    alpha_per_target : bool, default=True
        False chooses one penalty for all voxels.
    n_targets_batch : int, optional
        Voxels at once; by free memory where not given.
    device : str, default="auto"
        Where the solver runs: a GPU ("cuda", "cuda:0") by torch, or the processor ("cpu") by NumPy;
        "auto" is a GPU if there is one.

    Attributes
    ----------
    alpha_ : array (n_voxels,)
    coef_ : array (n_voxels, n_features)
    intercept_ : array (n_voxels,)
    cv_r2_ : array (n_voxels,)
        Held-out R² of the chosen penalty, within the training data.
    alphas_ : array (n_alphas,)
        The candidates.
    alpha_at_edge_ : array (2,)
        Shares of voxels that have the smallest and the largest candidate.
    constant_predictions_ : float
        Share of voxels whose predictions the penalty shrinks to a constant.
    feature_mean_, target_mean_ : float64 arrays (n_features,), (n_voxels,)
        Predictions are ``(X - feature_mean_) @ coef_.T + target_mean_``.
    device_, dtype_ : str
        Where products with voxels ran, and in which precision: in double precision where single
        precision could not be trusted.
    batch_size_ : int

    References
    ----------
    Naselaris, Kay, Nishimoto and Gallant (2011). Encoding and decoding in fMRI. NeuroImage 56:400.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.encoding import VoxelwiseRidge
    >>> rng = np.random.default_rng(0)
    >>> X, W = rng.normal(size=(200, 5)), rng.normal(size=(5, 3))
    >>> model = VoxelwiseRidge().fit(X[:150], X[:150] @ W)
    >>> bool(model.score(X[150:], X[150:] @ W) > 0.99)
    True
    """

    def _check_targets(self, Y: NDArray[Any]) -> None:
        refuse_constant(Y)

    @property
    def targets_apart(self) -> bool:
        """Whether a target is fitted without regard to others, so that they may come in parts."""
        return bool(self.alpha_per_target)
