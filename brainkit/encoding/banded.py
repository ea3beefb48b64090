"""Banded ridge: each voxel weighs bands of features, such as layers or feature spaces, itself."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.devices import to_numpy
from brainkit.encoding.fit_context import FitContext
from brainkit.errors import InputError, unknown_name
from brainkit.linear.banded_solver import RacingRule, banded_ridge_cv
from brainkit.linear.bands import CONCENTRATIONS, band_columns
from brainkit.linear.ridge_estimator import (
    CrossValidatedRidge,
    column_variance,
    training_scale,
    validated,
)
from brainkit.linear.targets import column_mean, refuse_constant


class BandedRidge(CrossValidatedRidge):
    r"""Linear encoding model, bands of features → responses, each voxel weighing the bands.

    For every voxel v, with the features in bands :math:`X_b`,

    .. math:: \min_{w, c} \Big\lVert y_v - \sum_b \sqrt{\gamma_{vb}}\, X_b w_b - c \Big\rVert^2
              + \alpha_v \lVert w \rVert^2,
              \qquad \gamma_{vb} \ge 0, \quad \sum_b \gamma_{vb} = 1.

    Weights of bands and penalty are those with the least squared error summed over the held-out
    parts of a K-fold cross-validation within the training data: penalties from a grid, weights
    from random draws, among which are the corners of the simplex, so that a band can be switched
    off. See `brainkit.linear.banded_solver`.

    Parameters
    ----------
    bands : None, mapping, or sequence, default=None
        Sizes of bands, a label for each column, or one slice, array of column numbers or mask for
        each band; see `brainkit.linear.bands.band_columns`. None is one band: plain ridge.
    draws : int or array (n_draws, n_bands), default=100
        Number of draws, or the weights to try.
    concentration : float or sequence of float, default=(0.1, 1.0)
        Of the Dirichlet distributions that weights are drawn from.
    seed : int, default=0
        Seed that the draws of weights come from.
    racing : bool or float, default=False
        Give draws up for a voxel once they are behind on the folds seen so far; a number is the
        slack of `brainkit.linear.banded_solver.RacingRule`. The search is exact without.
    alphas : "auto" or sequence of float, default="auto"
        Candidate penalties, not negative. "auto": 13 from 1 to 10⁶, times the mean variance of the
        features (after they were scaled, where they are).
    cv : int, splitter or iterable of folds, default=5
        Number of folds, `groups` given to `fit` stay whole; or a splitter of scikit-learn's kind,
        or (train, held_out) row numbers (`brainkit.linear.folds.split_folds`).
    fit_intercept : bool, default=True
        Fit the means.
    standardise : bool or "bands", default=False
        True scales each feature by its training standard deviation; "bands" scales each band by
        the root mean square of its features' standard deviations, so that bands in other units
        weigh alike and features within a band keep their ratios.
    alpha_per_target : bool, default=True
        False chooses the same weights and penalty for all voxels, by their summed error.
    n_targets_batch : int, optional
        Voxels at once; by free memory where not given.
    device : str, default="auto"
        Where the solver runs: a GPU ("cuda", "cuda:0") by torch, or the processor ("cpu") by NumPy;
        "auto" is a GPU if there is one.

    Attributes
    ----------
    band_weights_ : array (n_voxels, n_bands)
        γ.
    alpha_ : array (n_voxels,)
    coef_ : array (n_voxels, n_features)
        Of the features as given.
    intercept_ : array (n_voxels,)
    cv_r2_ : array (n_voxels,)
        Held-out R² of the chosen weights and penalty, within the training data.
    bands_ : list of int arrays
        Columns of each band.
    alphas_, alpha_at_edge_, constant_predictions_, feature_mean_, target_mean_, device_, dtype_
        As those of `VoxelwiseRidge`.

    References
    ----------
    Nunez-Elizalde, Huth and Gallant (2019). Voxelwise encoding models with non-spherical
    multivariate normal priors. NeuroImage 197:482.
    Dupré la Tour, Eickenberg, Nunez-Elizalde and Gallant (2022). Feature-space selection with
    banded ridge regression. NeuroImage 264:119728.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.encoding.banded import BandedRidge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 30))
    >>> Y = X[:, :10] @ rng.normal(size=(10, 3))
    >>> model = BandedRidge(bands=[10, 20], draws=10).fit(X, Y)
    >>> model.band_weights_.tolist()
    [[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]]
    """

    def __init__(  # noqa: PLR0913, PLR0917 - scikit-learn: one argument for each parameter
        self,
        bands: Any = None,
        draws: int | ArrayLike = 100,
        concentration: float | Sequence[float] = CONCENTRATIONS,
        seed: int = 0,
        racing: bool | float = False,
        alphas: Any = "auto",
        cv: Any = 5,
        fit_intercept: bool = True,
        standardise: bool | Literal["bands"] = False,
        alpha_per_target: bool = True,
        n_targets_batch: int | None = None,
        device: str = "auto",
    ) -> None:
        super().__init__(
            alphas=alphas,
            cv=cv,
            fit_intercept=fit_intercept,
            standardise=standardise,  # type: ignore[arg-type]
            alpha_per_target=alpha_per_target,
            n_targets_batch=n_targets_batch,
            device=device,
        )
        self.bands = bands
        self.draws = draws
        self.concentration = concentration
        self.seed = seed
        self.racing = racing

    def set_context(self, context: FitContext) -> None:
        """Take the feature spaces side by side as bands, where none were given."""
        if self.bands is None and context.bands:
            self.bands = list(context.bands)

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Choose weights of bands and penalties, and fit.

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

        Raises
        ------
        ValueError
            If the data hold NaN or infinities, or do not fit each other.
        InputError
            If a target is constant, bands do not fit the features, draws are not weights on the
            simplex, there are fewer groups than folds, or penalties are no numbers from 0.
        """
        if isinstance(self.cv, str):
            raise InputError(f"Banded ridge needs a number of folds; got cv={self.cv!r}.")
        data = self._training(X, y)
        folds = self._folds(len(data.Y), runs if groups is None else groups)
        counted = np.ndim(self.draws) == 0
        drawn: dict[str, Any] = {"n_draws": self.draws} if counted else {"draws": self.draws}
        solution = banded_ridge_cv(
            data.X, data.Y, self.bands_, data.alphas, folds,
            concentration=self.concentration, seed=self.seed, fit_intercept=self.fit_intercept,
            alpha_per_target=self.alpha_per_target,
            racing=self._racing(),
            n_targets_batch=self.n_targets_batch, **drawn,
        )  # fmt: skip
        self.band_weights_ = to_numpy(solution.weights)
        least = np.take_along_axis(
            to_numpy(solution.errors), to_numpy(solution.chosen)[None], axis=0
        )[0]
        self._keep_weights(data, solution.coef, solution.means)
        self._keep_choice(
            data, solution.alpha, least, to_numpy(solution.total), solution.eigenvalues,
            to_numpy(solution.by_alpha),
        )  # fmt: skip
        self._keep_run(data, solution.dtype, solution.batch_size)
        return self

    def _check_targets(self, Y: NDArray[Any]) -> None:
        refuse_constant(Y)

    def _racing(self) -> RacingRule | None:
        """Return the rule; a number is its slack, and 0 is one too."""
        if isinstance(self.racing, bool | np.bool_):
            return RacingRule() if self.racing else None
        return RacingRule(float(self.racing))

    def _scale(self, samples: NDArray[Any]) -> Any:
        self.bands_ = band_columns(self.bands, samples.shape[1])
        if not isinstance(self.standardise, str):
            return training_scale(samples) if self.standardise else None
        if self.standardise != "bands":
            raise unknown_name("way to standardise", self.standardise, ["bands"])
        variance = column_variance(samples, column_mean(samples, True))
        scale = np.ones(samples.shape[1])
        for columns in self.bands_:
            spread = float(variance[columns].mean()) ** 0.5
            scale[columns] = spread if spread > 0 else 1.0
        return scale.astype(samples.dtype)

    def predict_bands(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the targets from each band alone.

        Of the features as they are given: with `intercept_` the bands' predictions sum to
        `predict`; see
        `brainkit.linear.variance_partition.r2_split` for what part of R² each of them has, and
        `correlation_split` for what part of r.

        Parameters
        ----------
        X : array (n_samples, n_features)

        Returns
        -------
        array (n_bands, n_samples, n_targets), or (n_bands, n_samples) if fitted so
        """
        check_is_fitted(self)
        samples = validated(self, X, dtype=[np.float64, np.float32], reset=False)
        predicted = np.stack(
            [samples[:, columns] @ self.coef_[:, columns].T for columns in self.bands_]
        )
        return predicted[..., 0] if self.single_target_ else predicted
