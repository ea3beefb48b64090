"""Cases in which single precision, differences of sums, or X'X alone would mislead a solver."""

import numpy as np
import pytest
from sklearn.base import clone

from brainkit.decoding import RidgeDecoder
from brainkit.encoding import BandedRidge, KernelRidge, ReducedRankRidge, VoxelwiseRidge
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_solver import ridge_cv, solve_ridge, validation_errors
from brainkit.linear.spectrum import decompose, eigen_of_kernel, precision, singular_values

MODELS = [
    VoxelwiseRidge(),
    RidgeDecoder(standardise=False, alpha_per_target=True),
    KernelRidge(),
    BandedRidge([80, 80], draws=4),
    BandedRidge([80, 80], draws=4, racing=True),
    ReducedRankRidge(ranks=(5, 25)),
]


def test_r2(model, X, Y):
    return model.score_targets(X, Y)


test_r2.__test__ = False  # a helper


def low_rank(dtype=np.float32):
    """160 features that are combinations of 20, in units of 8-bit pixels; 100 of 200 samples."""
    rng = np.random.default_rng(0)
    F = rng.uniform(size=(200, 20)) @ rng.uniform(size=(20, 160)) * 255 / 20
    Y = F @ rng.normal(size=(160, 40)) / 300
    Y += Y.std(axis=0) * rng.normal(size=Y.shape) * 0.3
    return F.astype(dtype), Y.astype(dtype)


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("alphas", ["auto", np.logspace(-2, 4, 7)], ids=["auto", "given"])
def test_more_features_than_samples_of_low_rank_predict_as_in_double_precision(model, alphas):
    X, Y = low_rank()
    single = clone(model).set_params(alphas=alphas).fit(X[:100], Y[:100])
    wide = X.astype(float), Y.astype(float)
    double = clone(model).set_params(alphas=alphas).fit(wide[0][:100], wide[1][:100])
    expected = test_r2(double, wide[0][100:], wide[1][100:])
    assert expected.min() > 0.7
    np.testing.assert_allclose(test_r2(single, X[100:], Y[100:]), expected, atol=2e-3)
    off = single.predict(X[100:]) - double.predict(wide[0][100:])
    assert np.abs(off).max() < 2e-3 * Y.std()


@pytest.mark.parametrize("shape", [(100, 20_000), (200, 5_000), (100, 160)])
@pytest.mark.parametrize("kind", [VoxelwiseRidge, KernelRidge])
@pytest.mark.parametrize("way", ["gcv", "loo"])
def test_samples_left_out_of_many_features_are_judged_as_in_double_precision(shape, kind, way):
    rng = np.random.default_rng(shape)
    X = (30 * rng.normal(size=shape)).astype(np.float32)
    signal = X[:, :50] @ rng.normal(size=(50, 60))
    Y = signal / signal.std(axis=0) * np.geomspace(0.1, 3, 60) + rng.normal(size=signal.shape)
    Y = Y.astype(np.float32)
    alphas = np.logspace(0, 8, 17)
    single = kind(alphas=alphas, cv=way).fit(X, Y)
    double = kind(alphas=alphas, cv=way).fit(X.astype(float), Y.astype(float))
    assert (single.cv_r2_ <= 1).all()
    np.testing.assert_allclose(single.cv_r2_, double.cv_r2_, atol=1e-4)
    np.testing.assert_array_equal(single.alpha_, double.alpha_)


def test_generalised_cross_validation_of_small_penalties_is_a_sum_of_squares():
    """In double precision, where the sum of squares less what is explained would be noise."""
    rng = np.random.default_rng(3)
    X, Y = rng.normal(size=(40, 400)), rng.normal(size=(40, 5))
    centred, targets = X - X.mean(axis=0), Y - Y.mean(axis=0)
    alphas = np.logspace(-13, 2, 16)
    left, lengths, _ = np.linalg.svd(centred, full_matrices=False)
    left, lengths = left[:, :-1], lengths[:-1]  # all but the mean
    inside = left.T @ targets
    for way in ("gcv", "loo"):
        errors, _ = validation_errors(X, Y, alphas, way)
        for alpha, found in zip(alphas, errors, strict=True):
            kept = alpha / (lengths**2 + alpha)
            if way == "gcv":
                expected = (kept[:, None] ** 2 * inside**2).sum(axis=0) / (kept.sum() / 40) ** 2
            else:
                weights = (left**2 * kept).sum(axis=1)
                expected = (((left * kept) @ inside / weights[:, None]) ** 2).sum(axis=0)
            np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("far", [0, 100, 1e4])
@pytest.mark.parametrize("shape", [(60, 55), (60, 20), (30, 90)])
def test_folds_with_fewer_training_samples_than_features_and_large_means(shape, far):
    rng = np.random.default_rng(shape)
    X = (rng.normal(size=shape) + far * rng.normal(size=shape[1])).astype(np.float32)
    Y = (X[:, :5] @ rng.normal(size=(5, 8)) + rng.normal(size=(shape[0], 8))).astype(np.float32)
    alphas, folds = np.logspace(-3, 3, 7), kfold(shape[0], 4)
    single, _ = validation_errors(X, Y, alphas, folds)
    double, _ = validation_errors(X.astype(float), Y.astype(float), alphas, folds)
    np.testing.assert_allclose(single, double, rtol=3e-4)
    fit = ridge_cv(X, Y, alphas, folds)
    assert fit.intercept.dtype == np.float32
    means = fit.means
    np.testing.assert_allclose(means[0], X.mean(axis=0, dtype=float), rtol=1e-12)
    # What is predicted from deviations is as exact as data in single precision are.
    model = VoxelwiseRidge(alphas, cv=folds).fit(X, Y)
    exact = VoxelwiseRidge(alphas, cv=folds).fit(X.astype(float), Y.astype(float))
    size = np.abs(Y).max(axis=0) * 1e-6 + 1e-3 * (Y - Y.mean(axis=0)).std(axis=0)
    assert (np.abs(model.predict(X) - exact.predict(X.astype(float))) < size).all()


def test_responses_in_double_precision_are_rounded_after_their_mean_is_off():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5)).astype(np.float32)
    Y = 1e6 + 1e-2 * (X @ rng.normal(size=(5, 3)) + 0.1 * rng.normal(size=(60, 3)))
    coef, _ = solve_ridge(X, Y, 1.0)
    expected, _ = solve_ridge(X.astype(float), Y, 1.0)
    np.testing.assert_allclose(coef, expected, rtol=1e-4)
    model = VoxelwiseRidge(alphas=[1.0]).fit(X, Y)  # scikit-learn's checks leave Y as it is
    np.testing.assert_allclose(model.coef_, expected, rtol=1e-4)
    assert model.cv_r2_.min() > 0.9


def test_a_target_that_is_predicted_almost_exactly_keeps_its_error():
    """A held-out error of 10⁻⁹ of the variance is no difference of two sums of squares."""
    rng = np.random.default_rng(1)
    X = rng.normal(size=(400, 3)).astype(np.float32)
    Y = (X @ rng.normal(size=(3, 4)) + 3e-5 * rng.normal(size=(400, 4))).astype(np.float32)
    folds = kfold(400, 5)
    single, total = validation_errors(X, Y, [1e-3], folds)
    double, _ = validation_errors(X.astype(float), Y.astype(float), [1e-3], folds)
    assert (double / total < 1e-8).all()
    np.testing.assert_allclose(single, double, rtol=0.02)


def test_directions_of_a_kernel_sum_to_zero():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(12, 40)) + 5
    values, vectors = eigen_of_kernel(X @ X.T, centred=True)
    assert vectors.shape == (12, 11)
    np.testing.assert_allclose(vectors.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(11), atol=1e-12)
    centred = X - X.mean(axis=0)
    K = centred @ centred.T
    np.testing.assert_allclose(vectors * values @ vectors.T, K, atol=1e-9)
    left, lengths, right = singular_values(centred, centred=True)
    np.testing.assert_allclose(left.sum(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(left * lengths @ right.T, centred, atol=1e-11)


def test_precision_follows_the_spectrum():
    values = np.array([1.0, 1e4])
    assert precision(values, [1.0], np.float32) == np.float32
    assert precision(values * 1e6, [1e6], np.float32) == np.float32  # by ratios alone
    assert precision(np.array([1e-3, 1e4]), [1e-3], np.float32) == np.float64
    assert precision(values, [1.0], np.float32, largest=1e7) == np.float64
    assert precision(values, [1.0], np.float32, blurred=1e4) == np.float64
    assert precision(values * 1e-40, [1e-40], np.float32) == np.float64  # 1 / λ overflows


def test_small_penalties_take_singular_values():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 6)) * np.geomspace(1, 1e-9, 6)
    assert len(decompose(X, [1e-3], centred=True).values) < 6  # by X'X the last is rounding
    found = decompose(X, [1e-22], centred=True).values
    lengths = np.linalg.svd(X - X.mean(axis=0), compute_uv=False)[::-1]
    np.testing.assert_allclose(found, lengths**2, rtol=1e-6)
