"""The banded estimator: scikit-learn's checks, ridge as one band, groups, bands' predictions."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.utils.estimator_checks import parametrize_with_checks

from brainkit.arrays.persistence import load_estimator, save_estimator
from brainkit.encoding import VoxelwiseRidge
from brainkit.encoding.banded import BandedRidge
from brainkit.errors import InputError, UnknownNameError
from brainkit.linear.banded_solver import banded_ridge_cv
from brainkit.linear.folds import kfold
from brainkit.linear.variance_partition import r2_split


@parametrize_with_checks([BandedRidge(), BandedRidge(racing=True, standardise="bands")])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(80, 12)) * rng.uniform(0.1, 10, 12) + 4
    W = rng.normal(size=(12, 6))
    W[:4, :3] = W[4:, 3:] = 0
    return X, X @ W + rng.normal(size=(80, 6)) * np.geomspace(0.5, 60, 6) + 3


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_one_band_is_voxelwise_ridge(data, fit_intercept):
    X, Y = data
    banded = BandedRidge(fit_intercept=fit_intercept).fit(X, Y)
    ridge = VoxelwiseRidge(fit_intercept=fit_intercept).fit(X, Y)
    np.testing.assert_array_equal(banded.alpha_, ridge.alpha_)
    np.testing.assert_allclose(banded.coef_, ridge.coef_, rtol=1e-9)
    np.testing.assert_allclose(banded.cv_r2_, ridge.cv_r2_, rtol=1e-9)
    np.testing.assert_allclose(banded.predict(X), ridge.predict(X), rtol=1e-9)


def test_estimator_is_the_solver(data):
    X, Y = data
    model = BandedRidge([4, 8], draws=9, alphas=[1.0, 10.0], seed=5).fit(X, Y)
    found = banded_ridge_cv(X, Y, [4, 8], [1.0, 10.0], kfold(80, 5), n_draws=9, seed=5)
    np.testing.assert_array_equal(model.coef_, found.coef)
    np.testing.assert_array_equal(model.band_weights_, found.weights)
    np.testing.assert_allclose(model.cv_r2_, 1 - found.errors.min(axis=0) / found.total)
    again = BandedRidge([4, 8], draws=found.draws, alphas=[1.0, 10.0]).fit(X, Y)
    np.testing.assert_array_equal(model.coef_, again.coef_)


def test_bands_that_drive_nothing_are_switched_off(data):
    X, Y = data
    model = BandedRidge({"low": slice(0, 4), "high": slice(4, 12)}, draws=3).fit(X, Y)
    np.testing.assert_array_equal(model.band_weights_[0], [0, 1])
    assert (model.coef_[0, :4] == 0).all()
    np.testing.assert_array_equal(model.band_weights_[3], [1, 0])
    assert (model.coef_[3, 4:] == 0).all()
    assert [len(columns) for columns in model.bands_] == [4, 8]


def test_bands_predictions_sum_to_the_joint_one_and_split_its_r2(data):
    X, Y = data
    model = BandedRidge([4, 8], draws=6).fit(X[:60], Y[:60])
    parts = model.predict_bands(X[60:])
    assert parts.shape == (2, 20, 6)
    np.testing.assert_allclose(parts.sum(axis=0) + model.intercept_, model.predict(X[60:]))
    shares = r2_split(Y[60:], parts, model.intercept_)
    np.testing.assert_allclose(shares.total, model.score_targets(X[60:], Y[60:]), rtol=1e-9)
    single = BandedRidge([4, 8], draws=6).fit(X[:60], Y[:60, 0])
    assert single.predict(X[60:]).shape == (20,)
    np.testing.assert_allclose(single.predict_bands(X[60:]), parts[:, :, 0], rtol=1e-9)


def test_standardising_features_is_ridge_on_scaled_ones(data):
    X, Y = data
    scale = X.std(axis=0)
    settings = {"bands": [4, 8], "draws": [[0.3, 0.7]], "alphas": [5.0]}
    model = BandedRidge(standardise=True, **settings).fit(X, Y)
    weights = np.repeat([0.3**0.5, 0.7**0.5], [4, 8])
    peer = Ridge(alpha=5.0).fit(X / scale * weights, Y)
    np.testing.assert_allclose(model.predict(X), peer.predict(X / scale * weights), rtol=1e-9)


def test_standardising_bands_makes_their_units_irrelevant(data):
    X, Y = data
    other = X * np.repeat([1.0, 1000.0], [4, 8])
    settings = {"bands": [4, 8], "draws": 8, "standardise": "bands"}
    first, second = BandedRidge(**settings).fit(X, Y), BandedRidge(**settings).fit(other, Y)
    np.testing.assert_allclose(first.predict(X), second.predict(other), rtol=1e-8)
    np.testing.assert_allclose(first.band_weights_, second.band_weights_)
    spread = np.repeat([X[:, :4].var(axis=0).mean(), X[:, 4:].var(axis=0).mean()], [4, 8]) ** 0.5
    by_hand = BandedRidge(bands=[4, 8], draws=8).fit(X / spread, Y)
    np.testing.assert_allclose(first.coef_, by_hand.coef_ / spread, rtol=1e-8, atol=1e-12)
    constant = np.column_stack([X[:, :8], np.ones((80, 4))])
    assert np.isfinite(
        BandedRidge([8, 4], draws=4, standardise="bands").fit(constant, Y).coef_
    ).all()


def test_groups_stay_whole_and_may_have_one_member(data):
    X, Y = data
    groups = np.random.default_rng(0).integers(0, 12, 80)
    groups[:3] = [100, 101, 102]
    model = BandedRidge([4, 8], draws=5).fit(X, Y, groups=groups)
    found = banded_ridge_cv(
        X, Y, [4, 8], model.alphas_, kfold(80, 5, groups=groups), n_draws=5
    )  # fmt: skip
    np.testing.assert_array_equal(model.coef_, found.coef)
    by_runs = BandedRidge([4, 8], draws=5).fit(X, Y, runs=groups)
    np.testing.assert_array_equal(model.coef_, by_runs.coef_)
    with pytest.raises(InputError, match="5 folds cannot be made of 4 groups"):
        BandedRidge([4, 8]).fit(X, Y, groups=np.arange(80) % 4)


def test_groups_keep_duplicates_from_choosing_memory():
    rng = np.random.default_rng(5)
    X, Y = rng.normal(size=(40, 60)), rng.normal(size=(40, 20))
    repeated, twice = np.tile(X, (3, 1)), np.tile(Y, (3, 1))
    settings = {"bands": [20, 40], "draws": 6, "alphas": np.geomspace(1e-2, 1e5, 15)}
    careless = BandedRidge(**settings).fit(repeated, twice)
    careful = BandedRidge(**settings).fit(repeated, twice, groups=np.tile(np.arange(40), 3))
    assert careless.cv_r2_.mean() > 0.9
    assert careful.cv_r2_.mean() < 0.05


def test_racing_by_number_or_by_default(data):
    X, Y = data
    exact = BandedRidge([4, 8], draws=20).fit(X, Y)
    wide = BandedRidge([4, 8], draws=20, racing=1e9).fit(X, Y)
    np.testing.assert_allclose(exact.coef_[0], wide.coef_[0], rtol=1e-9)
    raced = BandedRidge([4, 8], draws=20, racing=True).fit(X, Y)
    assert (raced.cv_r2_ <= exact.cv_r2_ + 1e-12).all()
    same = BandedRidge([4, 8], draws=20, racing=1.0).fit(X, Y)
    np.testing.assert_array_equal(raced.coef_, same.coef_)


def test_single_precision_is_kept(data):
    X, Y = (part.astype(np.float32) for part in data)
    model = BandedRidge([4, 8], draws=8, standardise="bands").fit(X, Y)
    assert model.coef_.dtype == model.predict(X).dtype == np.float32
    double = BandedRidge([4, 8], draws=8, standardise="bands").fit(*data)
    np.testing.assert_allclose(model.predict(X), double.predict(X), rtol=1e-3, atol=1e-2)


def test_saved_and_loaded_it_predicts_bit_for_bit(data, tmp_path):
    X, Y = data
    model = BandedRidge([[0, 5, 7], np.setdiff1d(np.arange(12), [0, 5, 7])], draws=5).fit(X, Y)
    loaded = load_estimator(save_estimator(model, tmp_path / "model"))
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))
    np.testing.assert_array_equal(loaded.predict_bands(X), model.predict_bands(X))


def test_arguments_are_left_alone(data):
    X, Y = data
    before = X.copy(), Y.copy()
    model = BandedRidge([4, 8], draws=4, standardise="bands")
    clone(model).fit(X, Y).predict_bands(X)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])
    assert not hasattr(model, "coef_")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"bands": [4, 4]}, "2 sizes with a sum of 8 for 12 features"),
        ({"bands": [[0, 1], [1, 2]]}, "in a band more than once"),
        ({"draws": 0}, "At least 1 draw"),
        ({"draws": [[0.5, 0.5]]}, "each of the 1 bands"),
        ({"concentration": -1.0, "bands": [4, 8]}, "concentration must be positive"),
        ({"alphas": [-1.0]}, "alphas must be positive"),
        ({"racing": -1.0}, "slack of racing must be 0 or more"),
        ({"cv": "loo"}, "needs a number of folds; got cv='loo'"),
        ({"cv": 1}, "ask for at least 2 folds"),
    ],
)
def test_bad_settings_are_refused(settings, said, data):
    with pytest.raises(InputError, match=said):
        BandedRidge(**settings).fit(*data)


def test_bad_data_are_refused(data):
    X, Y = data
    with pytest.raises(UnknownNameError, match="bands"):
        BandedRidge(standardise="band").fit(X, Y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        BandedRidge().fit(X, Y[:79])
    flat = Y.copy()
    flat[:, 2] = 1.0
    with pytest.raises(InputError, match="constant"):
        BandedRidge().fit(X, flat)
    flat[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        BandedRidge().fit(X, flat)
