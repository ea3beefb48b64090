r"""BayesianDecoder: features from responses through an encoding model that is turned round.

Standardised responses of V voxels follow k standardised features by :math:`x = B z + \epsilon`,
with noise :math:`\epsilon \sim N(0, \Sigma)` that voxels share. With the prior
:math:`z \sim N(0, I)` the features that responses speak for are

.. math:: E[z \mid x] = (I + B' \Sigma^{-1} B)^{-1} B' \Sigma^{-1} x

(Naselaris, Prenger, Kay, Oliver and Gallant, 2009, Neuron 63:902; Schoenmakers, Barth, Heskes and
van Gerven, 2013, NeuroImage 83:951). Where ridge from responses to features weighs all voxels
alike, this weighs each by how well the features predict it, and takes off the noise that many
voxels have in common.

B is ridge with a penalty for each voxel. Σ has each voxel's held-out error on its diagonal; its
correlations C are those of the residuals, of which there are far fewer than voxels, shrunk towards
none: :math:`(1 - \lambda) C + \lambda I` with the λ of least expected error (Schäfer and Strimmer,
2005, Stat. Appl. Genet. Mol. Biol. 4:32). Nothing of size V × V is formed.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.devices import to_numpy
from brainkit.errors import InputError
from brainkit.linear.ridge_estimator import CrossValidatedRidge, training_scale, validated
from brainkit.linear.targets import column_mean

Float = NDArray[np.float64]
AUTO = "auto"
LEAST_NOISE, LEAST_SHRINKAGE = 1e-3, 1e-3  # of a voxel's variance, and of λ, which divides


def shrinkage_intensity(residuals: NDArray[Any]) -> float:
    r"""Return the shrinkage of correlations towards none that has the least expected error.

    :math:`\lambda = \sum_{i \ne j} \widehat{\mathrm{Var}}(r_{ij}) / \sum_{i \ne j} r_{ij}^2`,
    limited to [0, 1], from products among samples alone.

    Parameters
    ----------
    residuals : array (n_samples, n_columns)
        Each column has mean 0, and mean square 1 or 0.
    """
    values = np.asarray(residuals, dtype=np.float64)
    n = len(values)
    squares = values**2
    of_column = squares.sum(axis=0) / n  # 1, or 0 of a constant column
    all_pairs = float(((values @ values.T) ** 2).sum()) / n**2
    apart = all_pairs - float((of_column**2).sum())  # sum of r² over pairs of different columns
    products = float((squares.sum(axis=1) ** 2).sum()) - float((squares**2).sum())
    spread = (products - n * apart) / (n * (n - 1))
    return float(np.clip(spread / apart, 0.0, 1.0)) if apart > 0 else 1.0


def posterior_weights(
    coef: NDArray[Any], noise: NDArray[Any], residuals: NDArray[Any], shrinkage: float
) -> Float:
    """Return the weights (k, V) that lead from responses to the posterior mean of features.

    Parameters
    ----------
    coef : array (V, k)
        Weights of the encoding model, B.
    noise : array (V,)
        Variance of each voxel's noise.
    residuals : array (n_samples, V)
        Each column has mean square 1 or 0; their correlations are those of the noise.
    shrinkage : float
        λ, above 0; 1 takes the voxels' noise as independent.
    """
    deviation = np.sqrt(np.asarray(noise, dtype=np.float64))
    B = np.asarray(coef, dtype=np.float64) / deviation[:, None]  # (V, k), in units of the noise
    n_samples, k = len(residuals), B.shape[1]
    weighed = B.T / shrinkage  # (k, V): B' (λ I + Q'Q)^-1 with Q the scaled residuals
    if shrinkage < 1:
        Q = np.asarray(residuals, dtype=np.float64) * np.sqrt((1 - shrinkage) / n_samples)
        inner = shrinkage * np.eye(n_samples) + Q @ Q.T
        weighed = weighed - np.linalg.solve(inner, Q @ weighed.T).T @ Q
    weights = np.linalg.solve(np.eye(k) + weighed @ B, weighed)
    return np.asarray(weights / deviation, dtype=np.float64)


class BayesianDecoder(CrossValidatedRidge):
    """Posterior mean of features given responses, under a linear encoding model of the voxels.

    The equation is in the module's docstring. Features are taken as independent of each other, as
    principal components and learned latents nearly are.

    Parameters
    ----------
    alphas : "auto" or sequence of float, default="auto"
        Candidate penalties of the encoding model. "auto": 13 from 1 to 10⁶, the features having
        unit variance.
    cv : int, splitter or iterable of folds, default=5
        Folds that penalties and noise variances come from; groups given to `fit` stay in one fold.
    shrinkage : "auto" or float, default="auto"
        How far the noise's correlations between voxels are shrunk towards none, in (0, 1];
        "auto" is `shrinkage_intensity`.
    device : str, default="auto"
        Device that the encoding model is fitted on.

    Attributes
    ----------
    coef_ : array (n_features_out, n_voxels)
    intercept_ : array (n_features_out,)
    shrinkage_ : float
    noise_variance_ : array (n_voxels,)
        Share of each voxel's variance that the features do not predict, held out.
    feature_mean_, target_mean_ : array
        Means of the responses, and of the features.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.decoding import BayesianDecoder
    >>> rng = np.random.default_rng(0)
    >>> latents = rng.normal(size=(60, 2))
    >>> responses = latents @ rng.normal(size=(2, 200)) + rng.normal(size=(60, 200))
    >>> decoder = BayesianDecoder().fit(responses[:50], latents[:50])
    >>> bool(decoder.score(responses[50:], latents[50:]) > 0.9)
    True
    """

    def __init__(
        self, alphas: Any = "auto", cv: Any = 5, shrinkage: Any = "auto", device: str = "auto"
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.shrinkage = shrinkage
        self.device = device

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Fit the encoding model of the voxels and turn it round.

        Parameters
        ----------
        X : array (n_samples, n_voxels)
            Responses.
        y : array (n_samples, n_features_out) or (n_samples,)
            Features of what evoked them.
        groups, runs : array (n_samples,), optional
            Samples of one group, or where there are none of one run, stay in one fold.

        Raises
        ------
        ValueError
            If the data hold NaN or infinities, or do not fit each other.
        InputError
            If `shrinkage` is no share, or as `brainkit.encoding.VoxelwiseRidge` raises.

        Warns
        -----
        PenaltyWarning
            If the best penalties lie at the edge of the grid.
        """
        samples, targets = validated(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True,
            ensure_min_samples=2,
        )  # fmt: skip
        _check_shrinkage(self.shrinkage)
        features = np.asarray(targets, dtype=np.float64).reshape(len(samples), -1)
        self.feature_mean_ = column_mean(samples, True)
        self.target_mean_ = column_mean(features, True)
        of_voxels = training_scale(samples).astype(np.float64)
        of_features = training_scale(features)
        responses = (samples - self.feature_mean_) / of_voxels
        latents = (features - self.target_mean_) / of_features
        encoder = CrossValidatedRidge(alphas=self.alphas, cv=self.cv, device=self.device)
        encoder.fit(latents, responses, groups=groups, runs=runs)
        held_out = 1 - np.nan_to_num(to_numpy(encoder.cv_r2_), nan=0.0)
        self.noise_variance_ = np.maximum(held_out, LEAST_NOISE)
        residuals = responses - encoder.predict(latents)
        residuals = residuals - residuals.mean(axis=0)
        residuals = residuals / training_scale(residuals)
        known = self.shrinkage if self.shrinkage != AUTO else shrinkage_intensity(residuals)
        self.shrinkage_ = max(float(known), LEAST_SHRINKAGE)
        weights = posterior_weights(
            encoder.coef_, self.noise_variance_, residuals, self.shrinkage_
        )  # (features, voxels), standardised
        self.coef_ = (of_features[:, None] * weights / of_voxels).astype(samples.dtype)
        shift = self.coef_.astype(np.float64) @ self.feature_mean_
        self.intercept_ = (self.target_mean_ - shift).astype(samples.dtype)
        self.device_, self.dtype_ = encoder.device_, encoder.dtype_
        self.alpha_at_edge_ = encoder.alpha_at_edge_
        self.single_target_ = targets.ndim == 1
        return self


def _check_shrinkage(shrinkage: Any) -> None:
    """Raise unless the shrinkage is "auto" or a share above 0."""
    if isinstance(shrinkage, str) and shrinkage == AUTO:
        return
    number = isinstance(shrinkage, int | float | np.number) and not isinstance(shrinkage, bool)
    if not number or not 0 < shrinkage <= 1:
        raise InputError(
            f"shrinkage is 'auto' or a number above 0 and at most 1; got {shrinkage!r}."
        )
