"""scikit-learn's checks for every public estimator; those of images and maps in a reshaping shell.

A shell takes scikit-learn's tables (n, n_features) and hands images or tokens to the estimator that
it holds. What a check asks for and an estimator does not do is listed here, with the reason.
"""

import importlib
import inspect
import math

import numpy as np
import pytest
import torch
from sklearn.base import (
    BaseEstimator,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
    clone,
    is_regressor,
)  # fmt: skip
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data

from brainkit.decoding import (
    BayesianDecoder,
    LabelDecoder,
    LearnedLatents,
    MassiveRidge,
    RidgeDecoder,
)
from brainkit.encoding import (
    BandedRidge,
    FactorizedReadout,
    FeatureWeightedRF,
    GaussianReadout,
    KernelRidge,
    LinearReadout,
    ReducedRankRidge,
    RoutingEncoder,
    SemanticReadout,
    VoxelwiseRidge,
)  # fmt: skip
from brainkit.errors import InputError
from brainkit.features import Delays, FeaturePCA, OrientedEnergy, PixelPCA, SparseProjection
from brainkit.reconstruction import EmbeddingDecoder

ROOMS = ("decoding", "encoding", "features", "reconstruction", "synthesis", "generators")
SIDE = 2  # of the map that a row of a table becomes


class Tokens(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """An encoder of maps as one of tables: a row becomes a map of 2 × 2 tokens.

    Each token holds the row, the first as it is and the others turned by one column more, so that
    maps have structure in space whatever the number of columns is.
    """

    def __init__(self, inner):
        self.inner = inner

    def _tokens(self, samples):
        turned = [np.roll(samples, shift, axis=1) for shift in range(SIDE**2)]
        return np.stack(turned, axis=1).astype(np.float32)

    def fit(self, X, y):
        samples, targets = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True,
            ensure_min_samples=4,
        )  # fmt: skip
        self.inner_ = clone(self.inner).fit(self._tokens(samples), targets)
        return self

    def predict(self, X):
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        # Rounded to what single precision holds: sums in another order end in another last bit.
        return np.round(self.inner_.predict(self._tokens(samples)), 5)

    def score(self, X, y):
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.inner_.score(self._tokens(samples), y)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True  # how well they learn is tested where they live
        return tags


class Embeddings(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """A decoder of embeddings (n, n_dimensions) as one of a single target too."""

    def __init__(self, inner):
        self.inner = inner

    def fit(self, X, y):
        samples, targets = validate_data(
            self, X, y, dtype=[np.float64, np.float32], multi_output=True, y_numeric=True,
            ensure_min_samples=2,
        )  # fmt: skip
        self.single_ = targets.ndim == 1
        self.inner_ = clone(self.inner).fit(samples, targets.reshape(len(samples), -1))
        return self

    def predict(self, X):
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        predicted = self.inner_.predict(samples)
        return predicted[:, 0] if self.single_ else predicted


class Images(TransformerMixin, BaseEstimator):
    """A transformer of pictures as one of tables: a row becomes a grey picture of 8 × 8 and more.

    Values are squashed into [0, 1], which a picture's are, and repeated to fill it.
    """

    def __init__(self, inner):
        self.inner = inner

    def _images(self, samples):
        side = max(8, math.ceil(samples.shape[1] ** 0.5))
        filled = np.resize(np.arange(samples.shape[1]), side * side)
        grey = 0.5 + np.arctan(samples[:, filled].astype(np.float64)) / np.pi
        return grey.reshape(-1, side, side).astype(np.float32)

    def fit(self, X, y=None):
        samples = validate_data(self, X, dtype=[np.float64, np.float32], ensure_min_samples=2)
        self.inner_ = clone(self.inner).fit(self._images(samples))
        return self

    def transform(self, X):
        check_is_fitted(self)
        samples = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
        return self.inner_.transform(self._images(samples))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


QUICK = {"epochs": 1, "device": "cpu", "progress": False, "batch_size": 64}
LINEAR = [
    VoxelwiseRidge(),
    RidgeDecoder(),
    MassiveRidge(),
    BayesianDecoder(),
    KernelRidge(),
    BandedRidge(draws=4),
    ReducedRankRidge(),
    Embeddings(EmbeddingDecoder(renormalise=False)),
]
DEEP = [
    Tokens(LinearReadout(**QUICK)),
    Tokens(GaussianReadout(start="none", **QUICK)),
    Tokens(FactorizedReadout(start="none", **QUICK)),
    Tokens(SemanticReadout(start="none", **QUICK)),
    Tokens(RoutingEncoder(width=4, n_heads=1, **QUICK)),
    Tokens(FeatureWeightedRF(n_positions=2, n_sizes=1, cv=2, device="cpu", progress=False)),
]
TRANSFORMERS = [
    Delays(),
    FeaturePCA(n_components=2),
    SparseProjection(n_components=8),
    Images(PixelPCA(n_components=1)),
    Images(LearnedLatents(n_latents=2, n_hidden=4, steps=2, batch_size=4)),
    Images(OrientedEnergy(frequencies=(1.0,), side=8, n_orientations=2)),
]

LABELS = [
    LabelDecoder(), LabelDecoder("lda"), LabelDecoder("ridge_classifier"), LabelDecoder("ridge")
]  # fmt: skip

# Estimators whose inputs are no numbers, which no shell can make of a table: they take stimuli, or
# models and folders of models, or subjects; their own tests are in the rooms that they are in.
NOT_OF_TABLES = {
    "ContrastiveDecoder": "embeddings of images, dozens of them, and whose each row is",
    "InContextEncoder": "a network trained on other subjects, and conditions on images",
    "InContextDecoder": "a network trained on other people, and embeddings that it knows",
    "CaptionLayer": "captions", "ModelLayer": "images through a model that is named",
    "FeatureStack": "stimuli", "PrincipalSpace": "stimuli", "Remembered": "stimuli",
    "Precomputed": "numbers of stimuli, to find the rows of a table that it holds",
    "SingleSpace": "stimuli",
}  # fmt: skip

NEIGHBOURS = "a row of delayed features is made of the rows before it"
SINGLE = "it computes in single precision, whatever it is given"
SINGLE_OUTPUT = {"check_regressor_multioutput": SINGLE}
EXCEPTIONS = {
    **dict.fromkeys(
        [
            "EmbeddingDecoder",
            "FactorizedReadout",
            "FeatureWeightedRF",
            "GaussianReadout",
            "LinearReadout",
            "RoutingEncoder",
            "SemanticReadout",
        ],
        SINGLE_OUTPUT,
    ),
    "PixelPCA": {"check_methods_sample_order_invariance": SINGLE},
    "Delays": {
        "check_methods_subset_invariance": NEIGHBOURS,
        "check_methods_sample_order_invariance": NEIGHBOURS,
    },
}


def name_of(estimator):
    return type(getattr(estimator, "inner", estimator)).__name__


def expected_failures(estimator):
    return EXCEPTIONS.get(name_of(estimator), {})


@parametrize_with_checks(LINEAR, expected_failed_checks=expected_failures)
def test_linear_estimators(estimator, check):
    check(estimator)


@parametrize_with_checks(LABELS, expected_failed_checks=expected_failures)
def test_decoders_of_labels(estimator, check):
    check(estimator)


# Not strict: what single precision leaves of a row's sum may or may not depend on its place.
@parametrize_with_checks(TRANSFORMERS, expected_failed_checks=expected_failures, xfail_strict=False)
def test_transformers(estimator, check):
    check(estimator)


@pytest.mark.slow
@parametrize_with_checks(DEEP, expected_failed_checks=expected_failures)
def test_encoders_of_maps_in_a_shell(estimator, check):
    check(estimator)


def test_every_public_estimator_is_checked_or_listed_with_a_reason():
    public = set()
    for room in ROOMS:
        module = importlib.import_module(f"brainkit.{room}")
        for name in module.__all__ if hasattr(module, "__all__") else ():
            value = getattr(module, name)
            if inspect.isclass(value) and issubclass(value, BaseEstimator):
                public.add(name)
    checked = {name_of(estimator) for estimator in [*LINEAR, *DEEP, *TRANSFORMERS, *LABELS]}
    assert public == checked | set(NOT_OF_TABLES)
    assert all(is_regressor(estimator) for estimator in [*LINEAR, *DEEP])


def test_no_parameter_has_the_name_of_a_method_that_pipelines_look_for():
    looked_for = {"fit", "transform", "fit_transform", "predict", "score", "inverse_transform"}
    for estimator in [*LINEAR, *DEEP, *TRANSFORMERS, *LABELS]:
        inner = getattr(estimator, "inner", estimator)
        assert not looked_for & set(inner.get_params()), name_of(estimator)


ROWS = np.random.default_rng(0).normal(size=(24, 4))
PICTURES = np.random.default_rng(0).integers(0, 256, (24, 4, 4), dtype=np.uint8)
MAPS = np.repeat(ROWS[:, None], SIDE**2, axis=1)


@pytest.mark.parametrize(
    ("estimator", "X"),
    [
        (VoxelwiseRidge(), ROWS),
        (BandedRidge(), ROWS),
        (KernelRidge(), ROWS),
        (ReducedRankRidge(), ROWS),
        (RidgeDecoder(), ROWS),
        (MassiveRidge(), ROWS),
        (BayesianDecoder(), ROWS),
        (EmbeddingDecoder(), ROWS),
        (FeatureWeightedRF(), MAPS),
        (LinearReadout(), MAPS),
        (FeaturePCA(2), ROWS),
        (SparseProjection(2), ROWS),
        (Delays([1]), ROWS),
        (PixelPCA(2), PICTURES),
        (LearnedLatents(steps=2), PICTURES),
        (OrientedEnergy(), PICTURES),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_mask_is_never_lost(estimator, X):
    hidden = np.zeros(X.shape, dtype=bool)
    hidden.flat[3] = True
    with pytest.raises(InputError, match=f"masked array with 1 of {X.size:,} values"):
        getattr(estimator, "fit_transform", estimator.fit)(np.ma.masked_array(X, mask=hidden), ROWS)
    if is_regressor(estimator) or isinstance(estimator, EmbeddingDecoder):
        targets = np.ma.masked_array(ROWS, mask=np.eye(24, 4))
        with pytest.raises(InputError, match="masked array with 4 of 96 values"):
            estimator.fit(X, targets)
    if type(estimator) in (VoxelwiseRidge, KernelRidge, FeatureWeightedRF, LinearReadout):
        with pytest.raises(InputError, match="masked array with 4 of 96 values"):
            estimator.fit(X, ROWS).score(X, targets)


@pytest.mark.parametrize("estimator", [VoxelwiseRidge(), KernelRidge(), EmbeddingDecoder()])
def test_tensors_are_arrays(estimator):
    plain = clone(estimator).fit(ROWS, ROWS[:, ::-1]).predict(ROWS)
    X, Y = torch.tensor(ROWS, requires_grad=True), torch.tensor(ROWS[:, ::-1].copy())
    np.testing.assert_array_equal(estimator.fit(X, Y).predict(X), plain)
    rough = estimator.fit(X.bfloat16(), Y).predict(X.bfloat16())
    assert np.abs(rough - plain).max() < 0.1
