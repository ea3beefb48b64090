"""Feature-weighted receptive fields: against a plain search, known pRFs, bad input."""

import numpy as np
import pytest

import brainkit
from brainkit.encoding.readouts import (
    FeatureWeightedRF,
    feature_weighted_rf,
    field_grid,
)
from brainkit.encoding.readouts import fields as field_search
from brainkit.errors import InputError
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_solver import solve_ridge

ALPHAS = (3.0, 30.0, 300.0)
ROWS, FOLDS = np.arange(120), kfold(120, 4)


def plain_search(X, Y, fields, grid):
    """Every field and penalty one after another, in double precision."""
    weights = fields.weights(grid).double().numpy()
    best = np.full(Y.shape[1], np.inf)
    chosen, alpha = np.zeros(Y.shape[1], int), np.zeros(Y.shape[1])
    coef, intercept = np.zeros((Y.shape[1], X.shape[2])), np.zeros(Y.shape[1])
    for number, weight in enumerate(weights):
        pooled = np.einsum("t,ntc->nc", weight, X)
        scaled = pooled / pooled.std(axis=0)
        for penalty in ALPHAS:
            penalties, error = np.full(Y.shape[1], penalty), 0
            for train, held in FOLDS:
                w, b = solve_ridge(scaled[train], Y[train], penalties)
                error = error + ((Y[held] - scaled[held] @ w.T - b) ** 2).sum(axis=0)
            better = error < best
            best[better], chosen[better], alpha[better] = error[better], number, penalty
            w, b = solve_ridge(scaled, Y, penalties)
            coef[better], intercept[better] = (w / pooled.std(axis=0))[better], b[better]
    return chosen, alpha, coef, intercept, best


@pytest.mark.parametrize("at_once", [1, 7, 1000])
def test_the_choice_is_that_of_a_plain_search(known, monkeypatch, at_once):
    monkeypatch.setattr(field_search, "POOLED_BYTES", at_once * 4 * 120 * 8)
    fields = field_grid((10, 10), 3, 2)
    fit = feature_weighted_rf(
        known.X, known.Y, fields, (10, 10), rows=ROWS, folds=FOLDS, alphas=ALPHAS
    )
    X, Y = known.X[ROWS].astype(np.float64), known.Y[ROWS].astype(np.float64)
    chosen, alpha, coef, intercept, best = plain_search(X, Y, fields, (10, 10))
    np.testing.assert_array_equal(fit.field, chosen)
    np.testing.assert_array_equal(fit.alpha, alpha)
    np.testing.assert_allclose(fit.coef, coef, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(fit.intercept, intercept, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(fit.error, best, rtol=1e-4)
    total = sum(((Y[held] - Y[train].mean(axis=0)) ** 2).sum(axis=0) for train, held in FOLDS)
    np.testing.assert_allclose(fit.total, total, rtol=1e-4)


def test_other_rows_are_not_read(known):
    other = known.X.copy()
    other[120:] = np.nan
    fields = field_grid((10, 10), 2, 1)
    parts = {"rows": ROWS, "folds": FOLDS, "alphas": ALPHAS}
    first = feature_weighted_rf(known.X, known.Y, fields, (10, 10), **parts)
    second = feature_weighted_rf(other, known.Y, fields, (10, 10), **parts)
    np.testing.assert_array_equal(first.coef, second.coef)


def test_known_prfs_are_found(known):
    model = FeatureWeightedRF(n_positions=8, n_sizes=5).fit(known.X[:340], known.Y[:340])
    distance = np.hypot(model.prf_x_ - known.x, model.prf_y_ - known.y)
    assert np.median(distance) < 0.07  # centres are 1/8 of the width apart
    assert np.median(np.abs(np.log(model.prf_size_ / known.size))) < 0.35
    assert np.median(model.score_targets(known.X[340:], known.signal[340:])) > 0.75


def test_degrees_and_weights_are_those_of_the_field(known):
    options = {"n_positions": 4, "n_sizes": 2, "alphas": ALPHAS}
    model = FeatureWeightedRF(field_of_view=8.0, **options).fit(known.X, known.Y)
    plain = FeatureWeightedRF(**options).fit(known.X, known.Y)
    np.testing.assert_allclose(model.prf_x_, (plain.prf_x_ - 0.5) * 8, rtol=1e-6)
    np.testing.assert_allclose(model.prf_y_, (0.5 - plain.prf_y_) * 8, rtol=1e-6)
    np.testing.assert_allclose(model.prf_size_, plain.prf_size_ * 8, rtol=1e-6)
    assert set(np.unique(model.alpha_)) <= set(ALPHAS)
    place = (np.arange(10) + 0.5) / 10
    for target in (0, 17):
        x, y, size = plain.prf_x_[target], plain.prf_y_[target], plain.prf_size_[target]
        field = np.exp(-((place - x) ** 2 + (place[:, None] - y) ** 2) / (2 * size**2)).ravel()
        pooled = np.einsum("t,ntc->nc", field / field.sum(), known.X)
        expected = pooled @ plain.coef_[target] + plain.intercept_[target]
        np.testing.assert_allclose(plain.predict(known.X)[:, target], expected, rtol=1e-4)
    assert plain.cv_r2_.shape == (40,)
    assert plain.cv_r2_.max() < 1


def test_lazy_features_and_files(known, tmp_path):
    np.save(tmp_path / "x.npy", known.X)
    lazy = np.load(tmp_path / "x.npy", mmap_mode="r")
    options = {"n_positions": 3, "n_sizes": 2}
    model = FeatureWeightedRF(**options).fit(known.X, known.Y)
    from_file = FeatureWeightedRF(**options).fit(lazy, known.Y)
    np.testing.assert_array_equal(model.coef_, from_file.coef_)
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "model"))
    assert loaded.predict(lazy).tobytes() == model.predict(known.X).tobytes()
    np.testing.assert_array_equal(loaded.prf_size_, model.prf_size_, strict=True)
    one = FeatureWeightedRF(**options).fit(known.X, known.Y[:, 0])
    assert one.predict(known.X).shape == (440,)


def test_repeats_of_an_image_stay_in_one_fold(known):
    of_images = np.random.default_rng(5).normal(size=(20, 40))
    groups = np.tile(np.arange(20), 4)
    X, Y = known.X[groups], of_images[groups]
    options = {"n_positions": 1, "n_sizes": 1, "alphas": (0.01,)}
    by_image = FeatureWeightedRF(**options).fit(X, Y, groups=groups)
    by_trial = FeatureWeightedRF(**options).fit(X, Y)
    assert by_image.cv_r2_.mean() < 0
    assert by_trial.cv_r2_.mean() > 0.1


NAN, CONSTANT = np.ones((30, 4, 2)), np.ones((30, 2))
NAN[4, 1, 0] = np.nan
FINE_X, FINE_Y = np.random.default_rng(0).normal(size=(30, 4, 2)), np.eye(30)[:, :2]


@pytest.mark.parametrize(
    ("X", "Y", "options", "message"),
    [
        (NAN, np.random.default_rng(1).normal(size=(30, 2)), {}, "NaN or infinity in rows 4"),
        (FINE_X, CONSTANT, {}, "2 of 2 targets are constant"),
        (FINE_X, FINE_Y * np.nan, {}, "2 of 2 targets hold NaN"),
        (FINE_X, FINE_Y[:9], {}, r"X has 30, Y has shape \(9, 2\)"),
        (FINE_X[:, :3], FINE_Y, {}, "3 tokens make no square map"),
        (FINE_X, FINE_Y, {"alphas": (1.0, -1.0)}, "positive"),
        (FINE_X, FINE_Y, {"alphas": ()}, "at least one"),
        (FINE_X, FINE_Y, {"cv": 1}, "ask for at least 2 folds"),
        (FINE_X, FINE_Y, {"cv": 31}, "31 folds cannot be made of 30 trials"),
        (FINE_X, FINE_Y, {"device": "gpu"}, "'gpu' is no device"),
        (FINE_X, FINE_Y, {"largest": 0.01}, "Sizes run from 0.25 to 0.01"),
    ],
)
def test_bad_input_is_named(X, Y, options, message):
    Y = Y + np.random.default_rng(2).normal(size=Y.shape) * (Y is not CONSTANT)
    with pytest.raises(InputError, match=message):
        FeatureWeightedRF(**options).fit(X, Y)
