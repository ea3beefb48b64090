"""LabelDecoder: classes and numbers from responses, by the linear models of scikit-learn."""

from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from brainkit.decoding.epoch_features import BY_CLASS, KINDS
from brainkit.errors import InputError, unknown_name
from brainkit.linear.ridge_estimator import CrossValidatedRidge, fit_rows, training_scale, validated

Array = NDArray[Any]


def _logistic(balanced: bool, settings: Mapping[str, Any]) -> Any:
    from sklearn.linear_model import LogisticRegression

    weight = "balanced" if balanced else None
    return LogisticRegression(**{"class_weight": weight, "max_iter": 2000, **settings})


def _lda(balanced: bool, settings: Mapping[str, Any]) -> Any:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    return LinearDiscriminantAnalysis(**{"solver": "lsqr", "shrinkage": "auto", **settings})


def _svm(balanced: bool, settings: Mapping[str, Any]) -> Any:
    from sklearn.svm import LinearSVC

    weight = "balanced" if balanced else None
    return LinearSVC(**{"class_weight": weight, "random_state": 0, "max_iter": 10000, **settings})


def _ridge_classifier(balanced: bool, settings: Mapping[str, Any]) -> Any:
    from sklearn.linear_model import RidgeClassifierCV

    weight = "balanced" if balanced else None
    alphas = tuple(np.logspace(0, 6, 13))
    return RidgeClassifierCV(**{"class_weight": weight, "alphas": alphas, **settings})


def _ridge(balanced: bool, settings: Mapping[str, Any]) -> Any:
    return CrossValidatedRidge(**settings)


def _svr(balanced: bool, settings: Mapping[str, Any]) -> Any:
    from sklearn.svm import LinearSVR

    return LinearSVR(**{"random_state": 0, "max_iter": 10000, **settings})


CLASSIFIERS: dict[str, Callable[[bool, Mapping[str, Any]], Any]] = {
    "logistic": _logistic,
    "lda": _lda,
    "svm": _svm,
    "ridge_classifier": _ridge_classifier,
}
REGRESSORS: dict[str, Callable[[bool, Mapping[str, Any]], Any]] = {"ridge": _ridge, "svr": _svr}


def _tells_classes(decoder: Any) -> bool:
    return decoder.model not in REGRESSORS


class LabelDecoder(BaseEstimator):
    """Linear decoder of classes or numbers from responses, of epochs by features of a kind.

    Parameters
    ----------
    model : str, default="logistic"
        Classes: ``"logistic"`` regression, ``"lda"`` (linear discriminants with a shrunk
        covariance), ``"svm"`` (linear), ``"ridge_classifier"`` (penalty by leave-one-out).
        Numbers: ``"ridge"`` (penalty by cross-validation that keeps groups whole), ``"svr"``.
    features : str, default="flat"
        What epochs are told by: ``"flat"``, ``"csp"``, ``"xdawn"``, ``"covariance"``,
        ``"erp_covariance"``, see `brainkit.decoding.epoch_features`. Responses without time are
        taken as they are.
    n_components : int, default=4
        Spatial filters of CSP; of xDAWN so many for each class.
    bins : int, default=1
        Time points of an epoch that are averaged into one.
    standardise : bool, default=True
        Scale each feature by its training mean and standard deviation.
    balanced : bool, default=True
        Let every class count alike, however many trials it has.
    settings : dict, optional
        Of the model of scikit-learn, such as ``{"C": 0.01}``.

    Attributes
    ----------
    classes_ : array (n_classes,)
        Of classifiers, in the order of scores.
    coef_ : array (1, n_features) of two classes and of numbers, else (n_classes, n_features)
        Weights of the features as they are, before they are scaled.
    intercept_ : array (1,) or (n_classes,)
    feature_state_ : dict of str to array
        What the features have learned.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.decoding import LabelDecoder
    >>> rng = np.random.default_rng(0)
    >>> labels = np.repeat(["left", "right"], 40)
    >>> epochs = rng.normal(size=(80, 6, 50)) * np.where(labels == "left", 1, 2)[:, None, None]
    >>> decoder = LabelDecoder("lda", features="csp").fit(epochs, labels)
    >>> float(decoder.score(epochs, labels))
    1.0
    """

    takes_epochs = True  # (n, units, times), beside (n, units)

    def __init__(
        self,
        model: str = "logistic",
        features: str = "flat",
        n_components: int = 4,
        bins: int = 1,
        standardise: bool = True,
        balanced: bool = True,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.features = features
        self.n_components = n_components
        self.bins = bins
        self.standardise = standardise
        self.balanced = balanced
        self.settings = settings

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import ClassifierTags, RegressorTags

        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.input_tags.three_d_array = True
        if self.model in REGRESSORS:
            tags.estimator_type, tags.regressor_tags = "regressor", RegressorTags()
        else:
            tags.estimator_type, tags.classifier_tags = "classifier", ClassifierTags()
        return tags

    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike,
        groups: ArrayLike | None = None,
        runs: ArrayLike | None = None,
    ) -> Self:
        """Learn the features and fit the model.

        Parameters
        ----------
        X : array (n, units) or (n, units, times)
        y : array (n,)
            Classes by any names, or numbers.
        groups, runs : array (n,), optional
            For models that choose penalties: samples of one group stay in one fold.

        Raises
        ------
        InputError
            If there is no such model or kind of features, a kind needs epochs or classes that
            there are not, or there is a single class.
        ValueError
            If the data hold NaN or infinities, or do not fit each other.
        """
        known = {**CLASSIFIERS, **REGRESSORS}
        if self.model not in known:
            raise unknown_name("model of a LabelDecoder (model=)", self.model, list(known))
        if self.features not in KINDS:
            raise unknown_name("kind of features (features=)", self.features, list(KINDS))
        numbers = self.model in REGRESSORS
        samples, targets = validated(
            self, X, y, dtype=[np.float64, np.float32], allow_nd=True, y_numeric=numbers,
            ensure_min_samples=2,
        )  # fmt: skip
        if not numbers:
            check_classification_targets(targets)
            self.classes_ = np.unique(targets)
            if len(self.classes_) < 2:
                raise InputError(
                    f"A classifier needs two classes; got 1 class, {self.classes_[0]!r}."
                )
        self._check_kind(samples)
        self._fit_features(samples, targets)
        features = self._made(samples)
        self.feature_mean_ = features.mean(axis=0, dtype=np.float64)
        scale = training_scale(features) if self.standardise else np.ones(features.shape[1])
        inner = known[self.model](self.balanced, dict(self.settings or {}))
        fit_rows(inner, (features - self.feature_mean_) / scale, targets, groups=groups, runs=runs)
        self._keep(inner, targets, np.asarray(scale, dtype=np.float64))
        return self

    def _check_kind(self, samples: Array) -> None:
        if samples.ndim not in (2, 3):
            raise InputError(f"X is (n, units) or (n, units, times); got {samples.shape}.")
        if samples.ndim == 2 and self.features != "flat":
            raise InputError(
                f"features={self.features!r} are of epochs (n, units, times); X has shape "
                f"{samples.shape}. Take features='flat'."
            )
        if self.features in BY_CLASS and self.model in REGRESSORS:
            raise InputError(
                f"features={self.features!r} are learned from classes, and model={self.model!r} "
                "decodes numbers. Take 'flat' or 'covariance'."
            )

    def _fit_features(self, samples: Array, targets: Array) -> None:
        learn, _ = KINDS[self.features]
        wide = samples if samples.ndim == 3 else samples[:, :, None]
        # Filters and logarithms know no unit: volts of microvolts are tiny numbers.
        self.unit_ = float(np.sqrt(np.mean(np.square(wide, dtype=np.float64)))) or 1.0
        self.feature_state_ = (
            learn(wide.astype(np.float64) / self.unit_, targets, self.n_components)
            if self.features != "flat"
            else {}
        )

    def _made(self, samples: Array) -> Array:
        if samples.ndim == 2:
            return samples.astype(np.float64) / self.unit_
        _, make = KINDS[self.features]
        return make(self.feature_state_, samples.astype(np.float64) / self.unit_, self.bins)

    def _keep(self, inner: Any, targets: Array, scale: Array) -> None:
        """Take the weights of a fitted model, as weights of features before they are scaled."""
        coef = np.atleast_2d(np.asarray(inner.coef_, dtype=np.float64))
        intercept = np.atleast_1d(np.asarray(inner.intercept_, dtype=np.float64))
        if self.model == "lda" and self.balanced:
            # Its intercepts hold the logarithm of each class's share.
            shares = np.log([np.mean(targets == one) for one in self.classes_])
            intercept = intercept - (shares if len(coef) > 1 else shares[1] - shares[0])
        self.coef_ = coef / scale
        self.intercept_ = intercept - self.coef_ @ self.feature_mean_

    @available_if(_tells_classes)
    def decision_function(self, X: ArrayLike) -> Array:
        """Return how much speaks for the second class, (n,), or for each of several, (n, classes).

        Decoders of numbers have no such method.
        """
        return self._weighed(X)

    def _weighed(self, X: ArrayLike) -> Array:
        check_is_fitted(self)
        samples = validated(self, X, dtype=[np.float64, np.float32], allow_nd=True, reset=False)
        scores = self._made(samples) @ self.coef_.T + self.intercept_
        return np.asarray(scores[:, 0] if scores.shape[1] == 1 else scores)

    def predict(self, X: ArrayLike) -> Array:
        """Return the class, or the number, of each sample, (n,)."""
        scores = self._weighed(X)
        if self.model in REGRESSORS:
            return scores
        if scores.ndim == 1:
            return np.asarray(self.classes_[(scores > 0).astype(int)])
        return np.asarray(self.classes_[np.argmax(scores, axis=1)])

    def score(self, X: ArrayLike, y: ArrayLike) -> float:
        """Return the balanced accuracy of classes, or R² of numbers."""
        from sklearn.metrics import balanced_accuracy_score, r2_score

        judge = r2_score if self.model in REGRESSORS else balanced_accuracy_score
        return float(judge(np.asarray(y), self.predict(X)))
