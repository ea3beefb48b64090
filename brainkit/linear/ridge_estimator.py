r"""The scikit-learn shell round the ridge solvers, and grids of penalties for features of any unit.

`CrossValidatedRidge` is the class that encoders and decoders build on. A penalty acts by its ratio
to the eigenvalues of X'X, so that a grid for features of unit variance says nothing of features in
volts. The automatic grid is

.. math:: \alpha_k = s^2 \cdot 10^{k / 2}, \quad k = 0 \dots 12,

:math:`s^2` being the mean variance of the features that vary: 1 to 10⁶ for standardised features,
and the same predictions for any others that differ from them by one factor. `judge_choice` says
what the penalties chosen tell of a grid.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import ArrayLike, NDArray
from sklearn import get_config
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    GroupShuffleSplit,
    LeaveOneGroupOut,
    LeavePGroupsOut,
    RandomizedSearchCV,
    StratifiedGroupKFold,
    check_cv,
)
from sklearn.utils.metadata_routing import get_routing_for_object
from sklearn.utils.validation import check_is_fitted, validate_data

from brainkit.arrays.array_likes import as_array, unmasked
from brainkit.arrays.devices import device_name, solver_device, to_device, to_numpy
from brainkit.errors import FoldsWarning, InputError, PenaltyWarning, unknown_name, warn
from brainkit.linear.cross_validation import WAYS
from brainkit.linear.folds import split_folds
from brainkit.linear.ridge_solver import ridge_cv
from brainkit.linear.spectrum import is_primal
from brainkit.linear.targets import checked_penalties, column_mean, deviations

Float = NDArray[np.float64]
AUTO = "auto"
STANDARD_GRID = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))
SHOWN = 0.05  # share of targets at an edge from which on it is worth a word
SETTLED = 0.01  # change of R² that a penalty beyond an edge can make, below which it is no matter
CONSTANT = 0.01  # what shrinkage leaves of every prediction, below which it is a constant
COLUMNS_AT_ONCE = 1024


def penalty_grid(
    alphas: Any, scale: float, standard: Sequence[float] = STANDARD_GRID
) -> list[float]:
    """Return candidate penalties: those given, or for ``"auto"`` the standard ones times a scale.

    Parameters
    ----------
    alphas : "auto", float, or sequence of float
    scale : float
        Mean variance of the features that vary.
    standard : sequence of float
        Candidate penalties for features of unit variance.

    Raises
    ------
    InputError
        If they are no penalties.
    """
    if isinstance(alphas, str):
        if alphas != AUTO:
            raise InputError(
                f"alphas must be {AUTO!r} or positive numbers, at least one, in one row; got the "
                f"text {alphas!r}."
            )
        return [float(alpha) * scale for alpha in standard]
    return checked_penalties(alphas)


def mean_variance(variances: NDArray[Any]) -> float:
    """Return the mean of the variances above 0, 1 where there is none."""
    above = np.asarray(variances, dtype=np.float64)
    above = above[above > 0]
    return rounded(above.mean()) if above.size else 1.0


def rounded(scale: float) -> float:
    """Return a scale in six digits, the same for data in single and in double precision."""
    return float(f"{scale:.6g}")


def shares_at_edge(alphas: Sequence[float], chosen: Float) -> Float:
    """Return the shares of targets whose penalty is the smallest candidate, and the largest, (2,).

    Of a single candidate both are 0: there was no choice.
    """
    low, high = min(alphas), max(alphas)
    if low == high or not chosen.size:
        return np.zeros(2)
    return np.array([(chosen == low).mean(), (chosen == high).mean()])


def share_constant(chosen: Float, largest: float) -> float:
    r"""Return the share of targets that are predicted to be constant, by their penalty alone.

    Shrinkage by :math:`\lambda / (\lambda + \alpha)` leaves less than a hundredth of what the
    direction of the largest eigenvalue λ predicts, and of the others less still.
    """
    if not chosen.size:
        return 0.0
    return float((largest < CONSTANT * (largest + chosen)).mean())


def judge_choice(
    alphas: Sequence[float],
    chosen: Float,
    least: Float,
    total: Float,
    eigenvalues: tuple[float, float],
    errors: Float | None = None,
    *,
    shared: bool = False,
) -> tuple[Float, float]:
    """Return what a choice tells of its grid, and warn once if the grid does not suit the data.

    Not counted for the warning are targets for which a wider grid could change next to nothing: at
    the upper edge those whose held-out R² is about 0, as it is of a constant. At the lower edge,
    where the smallest penalty is below every eigenvalue, what is left to gain is less than what the
    last step gained, so that those are not counted for which that was little.

    Parameters
    ----------
    alphas : sequence of float
        The candidates.
    chosen : float64 array (n_targets,)
        Each target's penalty.
    least, total : float64 arrays (n_targets,)
        Each target's held-out error with its penalty, and with the mean; NaN or 0 for a constant
        target.
    eigenvalues : (float, float)
        The smallest and the largest of X'X.
    errors : float64 array (n_alphas, n_targets), optional
        Held-out errors of all candidates; without them every target at the lower edge counts.
    shared : bool, default=False
        Whether one penalty was chosen for all targets, by the errors that they have together.

    Returns
    -------
    at_edge : float64 array (2,)
        See `shares_at_edge`.
    constant : float
        See `share_constant`.

    Warns
    -----
    PenaltyWarning
    """
    varies = total > 0
    if shared:
        least, total = (part[varies].sum(keepdims=True) for part in (least, total))
        errors = None if errors is None else errors[:, varies].sum(axis=1, keepdims=True)
        varies = total > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        r2 = np.where(varies, 1 - least / total, np.nan)
        gain = None if errors is None else _last_gain(alphas, 1 - errors / total)
    constant = share_constant(chosen, eigenvalues[1])
    message = _complaint(alphas, chosen, r2, eigenvalues, gain)
    if message:
        warn(message, PenaltyWarning)
    return shares_at_edge(alphas, chosen), constant


def _last_gain(alphas: Sequence[float], r2: Float) -> Float:
    """Return what R² (n_alphas, n_targets) gained by the last step to the smallest penalty."""
    order = np.argsort(alphas, kind="stable")
    above = order[np.asarray(alphas)[order] > min(alphas)]
    return r2[order[0]] - r2[above[0]] if len(above) else np.full(r2.shape[1], np.inf)


def _complaint(
    alphas: Sequence[float],
    chosen: Float,
    r2: Float,
    eigenvalues: tuple[float, float],
    gain: Float | None,
) -> str | None:
    """Return what is wrong with a grid, or None."""
    least, largest = eigenvalues
    low, high = min(alphas), max(alphas)
    if not chosen.size:
        return None
    if largest <= 0:
        return (
            f"All {chosen.size} targets are predicted to be constant: the features do not vary "
            "over the training samples."
        )
    if largest < CONSTANT * (largest + low):
        return (
            f"100 % of {chosen.size} targets are predicted to be constant: penalties from "
            f"{low:.3g} to {high:.3g} shrink every weight to nothing, as the largest eigenvalue of "
            f"the features' X'X is {largest:.3g}. Give alphas of its order, or alphas='auto', or "
            "standardise the features."
        )
    if low == high:
        return None
    at_low = chosen == low
    if gain is not None and low <= least:
        at_low &= ~(gain < SETTLED)
    at_high = (chosen == high) & ~(np.abs(r2) < SETTLED) & np.isfinite(r2)
    parts = [
        f"{_percent(mask.mean())} have the {name} one, {edge:.3g}"
        for mask, name, edge in ((at_low, "smallest", low), (at_high, "largest", high))
        if mask.mean() >= SHOWN
    ]
    if not parts:
        return None
    return (
        f"The best penalty lies at the edge of its grid: of {chosen.size} targets "
        f"{' and '.join(parts)}. Give alphas that reach further, so that the choice is inside."
    )


def _percent(share: float) -> str:
    return f"{100 * float(share):.0f} %"


def fit_rows(model: Any, X: Any, Y: Any, **by_row: Any) -> Any:
    """Fit a model, telling it of `groups`, `runs` and the like if its `fit` takes them.

    A regressor of scikit-learn knows of neither, and fits all the same; an encoder of brainkit is
    told, so that its own folds keep groups whole. A pipeline is told what its steps ask for, where
    scikit-learn's metadata routing is switched on.

    Parameters
    ----------
    model : estimator
    X, Y : arrays
    **by_row : array (n_samples,) or None
        What is known of each row; None is not passed on.

    Returns
    -------
    estimator
        The model, fitted. A default number of folds that is larger than that of the groups is set
        to theirs, and one line says so.
    """
    known = {name: values for name, values in by_row.items() if values is not None}
    if "groups" in known and len(np.unique(known["groups"])) < 2:
        warn(
            "All training rows belong together (to one run, say), so that penalties are chosen by "
            "folds that part them.",
            FoldsWarning,
        )
        del known["groups"]
    _fit_default_folds(model, known.get("groups"))
    parameters = inspect.signature(model.fit).parameters
    named = {name for name, parameter in parameters.items() if parameter.kind not in _STARRED}
    if get_config()["enable_metadata_routing"] and hasattr(model, "get_metadata_routing"):
        routing = get_routing_for_object(model)
        named |= set(routing.consumes("fit", set(known) - named))
    elif isinstance(model, GridSearchCV | RandomizedSearchCV) and isinstance(
        check_cv(model.cv), GROUPED
    ):
        named.add("groups")
    return model.fit(X, Y, **{name: values for name, values in known.items() if name in named})


def check_model(model: Any) -> None:
    """Raise unless something is an estimator that is fitted and predicts.

    Raises
    ------
    InputError
        If it is a class, or lacks one of the two methods.
    """
    if isinstance(model, type) or not (hasattr(model, "fit") and hasattr(model, "predict")):
        described = (
            f"the class {model.__name__}; make an instance, {model.__name__}(...)"
            if isinstance(model, type)
            else repr(model)
        )
        raise InputError(f"model must be an estimator with fit and predict; got {described}.")


def predict_rows(model: Any, X: Any, n_targets: int | None = None) -> NDArray[Any]:
    """Predict (n_samples, n_targets), also where a regressor gives one target as a row of numbers.

    Parameters
    ----------
    model : estimator
    X : array (n_samples, ...)
    n_targets : int, optional
        Number of targets that there must be; any number where not given.

    Raises
    ------
    InputError
        If predictions have another shape.
    """
    predicted = np.asarray(model.predict(X))
    if predicted.ndim == 1 and n_targets in (None, 1):
        predicted = predicted[:, None]
    if n_targets is not None and predicted.shape != (len(X), n_targets):
        raise InputError(
            f"{type(model).__name__} predicts {predicted.shape} of {len(X)} samples and "
            f"{n_targets} targets: a model fits all targets at once. scikit-learn's "
            "MultiOutputRegressor makes one of a regressor that does not."
        )
    return predicted


def penalties_of(model: Any, n_targets: int) -> NDArray[np.float64]:
    """Return each target's penalty after a fit; NaN where the model has none.

    An `alpha_` is one only where the model takes penalties; in Bayesian regression it is the
    precision of the noise, in Gaussian processes weights of samples.
    """
    penalties = np.full(n_targets, np.nan)
    if {"alpha", "alphas"} & set(model.get_params(deep=False)):
        alpha = np.asarray(getattr(model, "alpha_", np.nan), dtype=np.float64)
        if alpha.shape in ((), (1,), (n_targets,)):
            penalties[:] = alpha
    return penalties


def _fit_default_folds(model: Any, groups: Any) -> None:
    """Let a default number of folds be no larger than the number of groups."""
    parameter = inspect.signature(type(model)).parameters.get("cv")
    folds = getattr(model, "cv", None)
    if groups is None or parameter is None or type(folds) is not int or folds != parameter.default:
        return
    n_groups = len(np.unique(np.asarray(groups)))
    if 2 <= n_groups < folds:
        warn(
            f"There are {n_groups} independent groups to choose penalties by, so that each is held "
            f"out in turn, where {type(model).__name__} makes {folds} folds by default (cv=).",
            FoldsWarning,
        )
        model.set_params(cv=n_groups)


# Splitters of scikit-learn that need to be told of groups.
GROUPED = (
    GroupKFold, GroupShuffleSplit, LeaveOneGroupOut, LeavePGroupsOut, StratifiedGroupKFold,
)  # fmt: skip
_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def validated(estimator: Any, X: Any, *y: Any, **options: Any) -> Any:
    """Return what scikit-learn's `validate_data` does, of arrays without a mask, and of tensors.

    Raises
    ------
    InputError
        If a value of X or of the targets is masked, which scikit-learn would take for a number.
    ValueError
        If they hold NaN or infinities, or do not fit each other or the estimator.
    """
    plain = [
        as_array(values, name) if hasattr(values, "detach") else unmasked(values, name)
        for name, values in zip("Xy", (X, *y), strict=False)
    ]
    return validate_data(estimator, *plain, **options)


def column_variance(X: NDArray[Any], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean square of each column less `mean`, in double precision; 0 if constant."""
    variance = np.empty(X.shape[1])
    for start in range(0, X.shape[1], COLUMNS_AT_ONCE):
        part = slice(start, start + COLUMNS_AT_ONCE)
        variance[part] = np.square(deviations(X[:, part], mean[part], np.float64)).mean(axis=0)
    return np.where(np.ptp(X, axis=0) > 0, variance, 0.0)


def training_scale(X: NDArray[Any]) -> NDArray[Any]:
    """Return the standard deviation of each column, 1 where it is constant."""
    variance = column_variance(X, column_mean(X, True))
    return np.where(variance > 0, np.sqrt(variance), 1.0).astype(X.dtype)


@dataclass(frozen=True)
class Training:
    """Training data as solvers take them.

    Attributes
    ----------
    X : array (n_samples, n_features)
        Features on the device; less their mean and scaled where they are to be scaled.
    Y : array (n_samples, n_targets)
        Targets as they are given.
    mean : float64 array (n_features,)
        What was taken off X.
    scale : array (n_features,) or None
        What X was divided by after that.
    alphas : list of float
        Candidate penalties.
    single : bool
        Whether the targets were one column.
    """

    X: Any
    Y: NDArray[Any]
    mean: NDArray[np.float64]
    scale: NDArray[Any] | None
    alphas: list[float]
    single: bool


class CrossValidatedRidge(MultiOutputMixin, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """Ridge with penalties chosen by exact cross-validation within the training data.

    See `brainkit.linear.ridge_solver` for the equation. Folds keep groups whole.

    Parameters
    ----------
    alphas : "auto" or sequence of float, default="auto"
        Candidate penalties, not negative. "auto": 13 from 1 to 10⁶, times the mean variance of the
        features (`penalty_grid`).
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
    device : str, default="auto"
        Device that the solver runs on: a GPU ("cuda", "cuda:0") by torch, or the processor ("cpu")
        by NumPy; "auto" is a GPU if there is one.
    """

    _grid: Sequence[float] = STANDARD_GRID

    def __init__(
        self,
        alphas: Any = "auto",
        cv: Any = 5,
        fit_intercept: bool = True,
        standardise: bool = False,
        alpha_per_target: bool = True,
        n_targets_batch: int | None = None,
        device: str = "auto",
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.fit_intercept = fit_intercept
        self.standardise = standardise
        self.alpha_per_target = alpha_per_target
        self.n_targets_batch = n_targets_batch
        self.device = device

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
            The estimator, with `coef_` (n_targets, n_features), `intercept_` (n_targets,), `alpha_`
            (n_targets,), `cv_r2_` (n_targets,), the held-out R² of the chosen penalty, and
            `batch_size_`.

            Predictions are made from `feature_mean_` and `target_mean_`, in double precision, which
            `intercept_` sums up: ``(X - feature_mean_) @ coef_.T + target_mean_``.

            Of the penalties: `alphas_`, the candidates; `alpha_at_edge_`, the shares of targets
            that have the smallest and the largest one, (2,); `constant_predictions_`,
            the share whose predictions the penalty shrinks to a constant.

            What ran: `device_`, and `dtype_`, that of products with targets, which is double
            precision where single precision could not be trusted.

        Raises
        ------
        ValueError
            If the data hold NaN or infinities, or do not fit each other.
        InputError
            If there are fewer groups than folds, folds do not fit the samples or part a group,
            penalties are no numbers from 0, or there is no such device.

        Warns
        -----
        PenaltyWarning
            If the best penalties lie at the edge of the grid, or all of them shrink predictions to
            a constant.
        """
        data = self._training(X, y)
        fit = ridge_cv(
            data.X,
            data.Y,
            data.alphas,
            self._folds(len(data.Y), runs if groups is None else groups),
            fit_intercept=self.fit_intercept,
            alpha_per_target=self.alpha_per_target,
            n_targets_batch=self.n_targets_batch,
        )
        least = np.take_along_axis(to_numpy(fit.errors), to_numpy(fit.chosen)[None], axis=0)[0]
        self._keep_weights(data, fit.coef, fit.means)
        self._keep_choice(
            data, fit.alpha, least, to_numpy(fit.total), fit.eigenvalues,
            to_numpy(fit.errors),
        )  # fmt: skip
        self._keep_run(data, fit.dtype, fit.batch_size)
        return self

    def _training(self, X: ArrayLike, y: ArrayLike) -> Training:
        """Check the training data, and put them where they are worked on."""
        samples, targets = validated(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True,
            ensure_min_samples=2,
        )  # fmt: skip
        device = solver_device(self.device)
        Y = _real(targets).reshape(len(samples), -1)
        self._check_targets(Y)
        mean, scale, alphas = self._prepared(samples)
        if scale is not None:
            samples = deviations(samples, mean, samples.dtype) / scale
        else:
            mean = np.zeros_like(mean)
        return Training(to_device(samples, device), Y, mean, scale, alphas, targets.ndim == 1)

    def _prepared(
        self, samples: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[Any] | None, list[float]]:
        """Return the features' means, what they are to be divided by, and candidate penalties."""
        mean = column_mean(samples, self.fit_intercept)
        scale = self._scale(samples)
        variance = 1.0
        if isinstance(self.alphas, str):
            squares = column_variance(samples, mean)
            variance = mean_variance(
                squares if scale is None else squares / np.square(scale, dtype=float)
            )
        return mean, scale, penalty_grid(self.alphas, variance, self._grid)

    def _scale(self, samples: NDArray[Any]) -> NDArray[Any] | None:
        """Return what each feature is divided by, or None."""
        return training_scale(samples) if self.standardise else None

    def _check_targets(self, Y: NDArray[Any]) -> None:
        """Raise if targets (n_samples, n_targets) cannot be fitted; what can is the subclass's."""

    def _folds(self, n_samples: int, groups: ArrayLike | None) -> Any:
        """Return the folds, or the way to leave single samples out."""
        if not isinstance(self.cv, str):
            try:
                return split_folds(self.cv, n_samples, groups=groups)
            except InputError as error:
                raise type(error)(f"cv={self.cv!r}: {error}") from error
        if self.cv not in WAYS:
            raise unknown_name("cv", self.cv, WAYS)
        if groups is not None and len(np.unique(np.asarray(groups))) < n_samples:
            raise InputError(
                f"cv={self.cv!r} leaves single samples out, and would keep others of their group "
                "in training. Give a number of folds instead."
            )
        return self.cv

    def _keep_weights(self, data: Training, coef: Any, means: tuple[Any, Any]) -> None:
        """Take weights of prepared features, as weights of the features given."""
        coef = to_numpy(coef)
        x_mean, self.target_mean_ = (np.asarray(to_numpy(part)) for part in means)
        if data.scale is not None:
            coef, x_mean = coef / data.scale, data.mean + x_mean * data.scale
        self.coef_, self.feature_mean_ = coef, x_mean
        shift = coef.astype(np.float64, copy=False) @ x_mean
        self.intercept_ = (self.target_mean_ - shift).astype(coef.dtype)

    def _keep_choice(
        self, data: Training, alpha: Any, least: NDArray[Any], total: NDArray[Any],
        eigenvalues: tuple[float, float], errors: NDArray[Any] | None = None,
    ) -> None:  # fmt: skip
        """Take each target's penalty, and errors of the chosen ones, of the mean, and of all."""
        self.alphas_ = np.asarray(data.alphas)
        # Of equal candidates, and as they were given, to the last digit.
        self.alpha_ = np.asarray(to_numpy(alpha), dtype=np.float64)
        varies = (np.ptp(data.Y, axis=0) > 0) & (total > 0)
        self.cv_r2_ = 1 - least / np.where(varies, total, np.nan)
        self.alpha_at_edge_, self.constant_predictions_ = judge_choice(
            data.alphas, self.alpha_, least, np.where(varies, total, 0.0), eigenvalues, errors,
            shared=not self.alpha_per_target,
        )  # fmt: skip

    def _keep_run(self, data: Training, dtype: Any, batch_size: int) -> None:
        """Take what ran where."""
        xp = array_namespace(data.X)
        self.device_ = device_name(data.X.device if hasattr(data.X, "detach") else None)
        self.dtype_ = "float64" if dtype == xp.float64 else "float32"
        self.batch_size_ = batch_size
        self.primal_ = is_primal(*data.X.shape)
        self.single_target_ = data.single

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
        samples = validated(self, X, dtype=[np.float64, np.float32], reset=False)
        predicted: NDArray[Any] = (
            deviations(samples, self.feature_mean_, samples.dtype) @ self.coef_.T
        )
        predicted += self.target_mean_.astype(predicted.dtype)
        return predicted[:, 0] if self.single_target_ else predicted

    def score_targets(self, X: ArrayLike, Y: ArrayLike) -> NDArray[np.float64]:
        """Return R² of each target, (n_targets,); NaN for a constant one."""
        predicted = np.asarray(self.predict(X), dtype=np.float64)
        truth = np.asarray(unmasked(Y, "Y"), dtype=np.float64)
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


def _real(targets: NDArray[Any]) -> NDArray[Any]:
    """Return targets as floating point numbers, of the precision that they have."""
    values = np.asarray(targets)
    if values.dtype in (np.float32, np.float64):
        return values
    return values.astype(np.float32 if values.dtype == np.float16 else np.float64)
