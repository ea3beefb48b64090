"""Kernel ridge: each voxel has a function of its own in a kernel's feature space."""

from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.devices import to_numpy
from brainkit.errors import InputError
from brainkit.linear.kernel_solver import Kernel, KernelSolution, kernel_predict, kernel_ridge_cv
from brainkit.linear.ridge_estimator import CrossValidatedRidge, penalty_grid, rounded, validated
from brainkit.linear.spectrum import weigh_samples
from brainkit.linear.targets import column_mean, refuse_constant

KernelName = Literal["linear", "polynomial", "poly", "rbf", "cosine", "sigmoid", "precomputed"]


class KernelRidge(CrossValidatedRidge):
    r"""Kernel encoding model, features → responses, with a penalty for each voxel.

    For every voxel v :math:`\min_f \lVert y_v - f(X) - b \rVert^2 + \alpha_v \lVert f \rVert_k^2`
    over the functions of the kernel k, with :math:`\alpha_v` chosen as `VoxelwiseRidge` does. See
    `brainkit.linear.kernel_solver` for the equations. A linear kernel gives what `VoxelwiseRidge`
    does, at a cost that hardly depends on the number of features.

    Parameters
    ----------
    kernel : {"linear", "polynomial", "poly", "rbf", "cosine", "sigmoid", "precomputed"}
        See `brainkit.linear.kernel_solver`. With ``"precomputed"``, `fit` takes the kernel of the
        training samples (n, n) for X, and `predict` that of other samples with them (m, n).
    gamma : float, optional
        Scale of rbf, polynomial and sigmoid; 1 / n_features where not given.
    degree : int, default=3
        Of polynomial.
    coef0 : float, default=1.0
        Constant of polynomial and sigmoid.
    alphas : "auto" or sequence of float, default="auto"
        Candidate penalties, not negative. "auto": 13 from 1 to 10⁶, times the kernel's mean
        variance (of the centred kernel the mean of the diagonal) over the number of features, which
        for a linear kernel is what `VoxelwiseRidge` takes.
    cv : int, splitter, iterable of folds, "loo" or "gcv", default=5
        Number of folds, in which `groups` given to `fit` stay whole; or a splitter of
        scikit-learn's kind, or (train, held_out) row numbers
        (`brainkit.linear.folds.split_folds`); or every sample left out in turn, exactly or by
        generalised cross-validation.
    fit_intercept : bool, default=True
        Centre the kernel and the responses by the training samples.
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
    dual_coef_ : array (n_samples, n_voxels)
        Weights of the training samples; in double precision where predictions need it.
    intercept_ : array (n_voxels,)
        Of the kernel as it is.
    offset_ : array (n_voxels,)
        The same for samples less their training mean, as a linear (with an intercept) and an rbf
        kernel take them for the sake of their last digits.
    X_fit_ : array (n_samples, n_features) or None
        The training samples; None with a precomputed kernel.
    kernel_mean_ : float or None
        Mean of the training kernel; None without an intercept.
    cv_r2_ : array (n_voxels,)
        Held-out R² of the chosen penalty, within the training data; NaN for a constant voxel.
    coef_ : array (n_voxels, n_features)
        Weights of the features; for the linear kernel alone.
    alphas_, alpha_at_edge_, constant_predictions_, device_, dtype_
        As those of `VoxelwiseRidge`.

    References
    ----------
    Saunders, Gammerman and Vovk (1998). Ridge regression learning algorithm in dual variables.
    ICML 15:515.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.encoding import KernelRidge
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-2, 2, size=(200, 2))
    >>> Y = np.column_stack([X[:, 0] * X[:, 1], np.cos(2 * X[:, 0])])
    >>> model = KernelRidge("rbf", gamma=1.0, alphas=[1e-3, 1e-1, 10]).fit(X[:150], Y[:150])
    >>> bool(model.score(X[150:], Y[150:]) > 0.95)
    True
    """

    def __init__(
        self,
        kernel: KernelName = "linear",
        gamma: float | None = None,
        degree: int = 3,
        coef0: float = 1.0,
        alphas: Any = "auto",
        cv: Any = 5,
        fit_intercept: bool = True,
        alpha_per_target: bool = True,
        n_targets_batch: int | None = None,
        device: str = "auto",
    ) -> None:
        super().__init__(
            alphas=alphas,
            cv=cv,
            fit_intercept=fit_intercept,
            alpha_per_target=alpha_per_target,
            n_targets_batch=n_targets_batch,
            device=device,
        )
        self.kernel = kernel
        self.gamma = gamma
        self.degree = degree
        self.coef0 = coef0

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.pairwise = self.kernel == "precomputed"
        return tags

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
            Features, or a precomputed kernel (n_samples, n_samples).
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
            If there are fewer groups than folds, penalties are no numbers from 0, a target is
            constant, there is no such kernel, or a precomputed one is not square and symmetric.
        """
        kernel = self._kernel()
        data = self._training(X, y)
        folds = self._folds(len(data.Y), runs if groups is None else groups)
        fit = kernel_ridge_cv(
            data.X, data.Y, data.alphas, folds, kernel=kernel, fit_intercept=self.fit_intercept,
            alpha_per_target=self.alpha_per_target, n_targets_batch=self.n_targets_batch,
        )  # fmt: skip
        self.dual_coef_, self.intercept_, self.offset_ = (
            to_numpy(part) for part in (fit.dual_coef, fit.intercept, fit.offset)
        )
        self.kernel_mean_ = fit.kernel_mean
        least = np.take_along_axis(to_numpy(fit.errors), to_numpy(fit.chosen)[None], axis=0)[0]
        self._keep_choice(
            data, fit.alpha, least, to_numpy(fit.total), fit.eigenvalues, to_numpy(fit.errors)
        )
        self._keep_run(data, fit.dtype, fit.batch_size)
        # A copy: predictions must not change with what the caller does to X afterwards.
        self.X_fit_ = None if kernel.precomputed else np.array(to_numpy(data.X))
        return self

    def _check_targets(self, Y: NDArray[Any]) -> None:
        refuse_constant(Y)

    def _prepared(self, samples: NDArray[Any]) -> tuple[NDArray[np.float64], None, list[float]]:
        scale = 1.0
        if isinstance(self.alphas, str):
            scale = rounded(self._kernel().mean_variance(samples, centred=self.fit_intercept))
        return np.zeros(samples.shape[1]), None, penalty_grid(self.alphas, scale)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Predict the targets; a row's prediction depends on that row alone.

        Parameters
        ----------
        X : array (n_samples, n_features)
            Features, or a precomputed kernel (n_samples, n_training_samples).

        Returns
        -------
        array (n_samples, n_targets), or (n_samples,) if fitted so
        """
        check_is_fitted(self)
        samples = validated(self, X, dtype=[np.float64, np.float32], reset=False)
        solution = KernelSolution(self.dual_coef_, self.intercept_, self.kernel_mean_, self.offset_)
        predicted: NDArray[Any] = kernel_predict(
            samples, self.X_fit_, solution, kernel=self._kernel(), n_targets_batch=self.batch_size_
        )
        return predicted[:, 0] if self.single_target_ else predicted

    def primal_coef(self, X_fit: ArrayLike | None = None) -> NDArray[Any]:
        """Return the weights of the features of a linear kernel, (n_targets, n_features).

        Parameters
        ----------
        X_fit : array (n_samples, n_features), optional
            The training samples' features where the (linear) kernel was precomputed.

        Raises
        ------
        InputError
            If the kernel is not linear, or X_fit is missing or of other samples.
        """
        check_is_fitted(self)
        if self.kernel not in ("linear", "precomputed"):
            raise InputError(
                f"A {self.kernel} kernel has no weights for single features; only a linear one has."
            )
        features = self.X_fit_ if self.kernel == "linear" else X_fit
        if features is None or len(np.asarray(features)) != len(self.dual_coef_):
            raise InputError(
                f"The kernel was precomputed: give the features of its {len(self.dual_coef_)} "
                f"training samples as X_fit; got {None if X_fit is None else np.shape(X_fit)}."
            )
        given = np.asarray(features)
        mean = column_mean(given, self.kernel_mean_ is not None)
        weights = weigh_samples(given, mean, self.dual_coef_.astype(np.float64), np.float64)
        return np.asarray(weights.T.astype(given.dtype if given.dtype.kind == "f" else np.float64))

    @property
    def coef_(self) -> NDArray[Any]:
        """Weights of the features, (n_targets, n_features); for the linear kernel alone."""
        if self.kernel != "linear" or "dual_coef_" not in vars(self):
            raise AttributeError("Only a fitted KernelRidge with a linear kernel has coef_.")
        return self.primal_coef()

    def _kernel(self) -> Kernel:
        return Kernel(self.kernel, self.gamma, self.degree, self.coef0)
