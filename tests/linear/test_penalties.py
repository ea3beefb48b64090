"""Grids of penalties: the automatic one, what is refused, and what is said of a choice."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone

from brainkit import load_estimator, save_estimator
from brainkit.decoding import RidgeDecoder
from brainkit.decoding.ridge import DEFAULT_ALPHAS
from brainkit.encoding import BandedRidge, KernelRidge, ReducedRankRidge, VoxelwiseRidge
from brainkit.errors import InputError, PenaltyWarning
from brainkit.linear.folds import kfold
from brainkit.linear.penalties import STANDARD_GRID, penalty_grid, share_constant, shares_at_edge
from brainkit.linear.ridge import validation_errors
from brainkit.linear.targets import checked_penalties, target_penalties

VOLTS = 7e-7
MODELS = [
    VoxelwiseRidge(),
    VoxelwiseRidge(cv="loo"),
    VoxelwiseRidge(fit_intercept=False),
    RidgeDecoder(standardise=False),
    KernelRidge(),
    BandedRidge([4, 8], draws=6),
    BandedRidge([4, 8], draws=6, standardise="bands"),
    ReducedRankRidge(ranks=(1, 3)),
]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 12)) * rng.uniform(0.5, 2, 12)
    Y = X @ rng.normal(size=(12, 9)) * 0.1 + rng.normal(size=(150, 9))
    return X, Y


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_unit_of_the_features_makes_no_difference(model, dtype, data):
    X, Y = data

    with warnings.catch_warnings():
        warnings.simplefilter("error", PenaltyWarning)
        one = clone(model).fit(X.astype(dtype), Y.astype(dtype))
        volts = clone(model).fit((X * VOLTS).astype(dtype), Y.astype(dtype))
    unit = 1 if model.standardise else VOLTS**2
    np.testing.assert_allclose(volts.alpha_, one.alpha_ * unit, rtol=1e-5)
    tolerance = (
        {"rtol": 1e-3, "atol": 1e-4} if dtype == np.float32 else {"rtol": 1e-5, "atol": 1e-6}
    )
    np.testing.assert_allclose(
        volts.predict((X * VOLTS).astype(dtype)), one.predict(X.astype(dtype)), **tolerance
    )
    assert one.score(X, Y) > 0.1


def test_standardised_features_have_the_plain_grid(data):
    X, Y = data
    X = X / X.std(axis=0)
    assert VoxelwiseRidge().fit(X, Y).alphas_.tolist() == list(STANDARD_GRID)
    assert VoxelwiseRidge(standardise=True).fit(5 * X, Y).alphas_.tolist() == list(STANDARD_GRID)
    constant = np.column_stack([X, np.ones(150), np.zeros(150)])  # has no say
    assert VoxelwiseRidge().fit(constant, Y).alphas_.tolist() == list(STANDARD_GRID)
    assert RidgeDecoder().fit(X, Y).alphas_.tolist() == list(DEFAULT_ALPHAS)
    assert KernelRidge().fit(X, Y).alphas_.tolist() == list(STANDARD_GRID)


def test_a_kernel_scales_its_grid_by_its_own_values(data):
    X, Y = data
    for name in ("rbf", "polynomial", "cosine"):
        kernel = KernelRidge(name)._kernel()
        K = kernel(X)
        K = K - K.mean(axis=0) - K.mean(axis=1, keepdims=True) + K.mean()
        expected = np.trace(K) / K.size * len(X) / X.shape[1]
        found = KernelRidge(name).fit(X, Y).alphas_
        np.testing.assert_allclose(found, np.array(STANDARD_GRID) * expected, rtol=1e-5)


# ------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "alphas", ["many", "1", ["1"], [b"1"], [True, False], [], [-1.0], [np.nan], [np.inf],
               [[1.0, 2.0]], [1j], None, [None], np.ones((2, 2)), [[1.0], [1.0, 2.0]], {"a": 1}],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("model", MODELS[:4:3] + MODELS[4:6] + MODELS[7:], ids=repr)
def test_what_is_no_penalty_is_refused_by_every_estimator(alphas, model, data):

    with pytest.raises(InputError, match="alphas must be"):
        clone(model).set_params(alphas=alphas).fit(*data)


def test_numbers_of_any_kind_are_penalties():
    from fractions import Fraction

    for given in (3, 3.0, np.float32(3), [3], (3,), np.array(3), np.array([3], dtype="i2"),
                  torch.tensor([3.0]), [Fraction(3)], range(3, 4)):  # fmt: skip
        assert checked_penalties(given) == [3.0]
    assert penalty_grid([2.0, 1.0], 5.0) == [2.0, 1.0]
    assert target_penalties([1, 2], 2, np.zeros(1)).tolist() == [1.0, 2.0]
    for wrong in ("1", ["1", "2"], [True, False], [1, 2, 3], [[1, 2]], [1, -2], [np.nan, 1]):
        with pytest.raises(InputError, match="one penalty that is not negative for each of the 2"):
            target_penalties(wrong, 2, np.zeros(1))


def test_penalties_that_stand_twice_are_one(data):
    X, Y = data
    once = VoxelwiseRidge(alphas=[1, 10, 100]).fit(X, Y)
    twice = VoxelwiseRidge(alphas=[10, 1, 100, 10, 1, 100]).fit(X, Y)
    np.testing.assert_array_equal(once.alpha_, twice.alpha_)
    np.testing.assert_allclose(once.coef_, twice.coef_, rtol=1e-9)


# -------------------------------------------------------------------------------- without penalty


@pytest.mark.parametrize("shape", [(60, 12), (30, 28), (20, 50)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spoilt", [False, True])
def test_a_penalty_of_0_is_least_squares_in_cross_validation(shape, dtype, spoilt):
    """With 30 × 28 features outnumber the training part of a fold, but not all samples."""
    rng = np.random.default_rng(shape)
    X = rng.normal(size=shape)
    if spoilt:  # a copy, a constant
        X[:, 1], X[:, 2] = X[:, 0], 3
    X = (X + 20).astype(dtype)
    Y = (X[:, :4] @ rng.normal(size=(4, 5)) + rng.normal(size=(shape[0], 5))).astype(dtype)
    folds, wide = kfold(shape[0], 5), X.astype(float)

    def least_squares(train, test):
        mean, y_mean = wide[train].mean(axis=0), Y[train].mean(axis=0, dtype=float)
        coef = np.linalg.pinv(wide[train] - mean, rcond=1e-10) @ (Y[train] - y_mean)
        return (wide[test] - mean) @ coef + y_mean

    expected = sum(
        ((Y[test] - least_squares(train, test)) ** 2).sum(axis=0) for train, test in folds
    )
    errors, _ = validation_errors(X, Y, [0.0, 1.0], folds)
    tolerance = 1e-3 if dtype == np.float32 else 1e-7
    np.testing.assert_allclose(errors[0], expected, rtol=tolerance)
    every = np.arange(shape[0])
    models = (
        VoxelwiseRidge([0.0]), KernelRidge(alphas=[0.0]), BandedRidge(alphas=[0]),
        ReducedRankRidge([0.0], ranks=(5,)), RidgeDecoder([0.0], standardise=False),
    )  # fmt: skip
    for model in models:
        assert model.fit(X, Y).alpha_.tolist() == [0.0] * 5
        np.testing.assert_allclose(
            model.predict(X), least_squares(every, every), rtol=tolerance, atol=20 * tolerance
        )


@pytest.mark.parametrize("way", ["loo", "gcv"])
@pytest.mark.parametrize("kind", [VoxelwiseRidge, KernelRidge])
def test_single_samples_need_a_penalty_above_0(way, kind, data):
    with pytest.raises(InputError, match=f"cv='{way}'.*need penalties above 0; got 0"):
        kind(alphas=[0.0, 1.0], cv=way).fit(*data)


# ------------------------------------------------------------------------------ edges, constants


def test_shares_are_counted():
    assert shares_at_edge([1, 10, 100], np.array([1.0, 1, 10, 100])).tolist() == [0.5, 0.25]
    assert shares_at_edge([5], np.array([5.0])).tolist() == [0, 0]
    assert share_constant(np.array([1.0, 1e6]), 10.0) == 0.5


def far_off(alphas, **settings):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(120, 60))
    Y = X @ rng.normal(size=(60, 8)) / 8 + 0.7 * rng.normal(size=(120, 8))
    return VoxelwiseRidge(alphas=alphas, **settings), X, Y


@pytest.mark.parametrize(
    ("alphas", "edge", "said"),
    [
        ([1e3, 1e4], 0, r"100 % have the smallest one, 1e\+03"),
        ([1e-4, 1e-3], 1, "100 % have the largest one, 0.001"),
    ],
)
def test_a_grid_that_ends_too_early_is_said_once_with_the_share(alphas, edge, said):
    model, X, Y = far_off(alphas)
    with pytest.warns(PenaltyWarning, match=said) as caught:
        model.fit(X, Y)
    assert len(caught) == 1
    assert caught[0].filename == __file__  # the line of the user's own call
    assert model.alpha_at_edge_[edge] == 1.0
    assert "Give alphas that reach further" in str(caught[0].message)


def test_a_wide_grid_is_quiet_and_so_is_noise():
    model, X, Y = far_off("auto")
    noise = np.random.default_rng(2).normal(size=Y.shape)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, Y)
        assert model.alpha_at_edge_.tolist() == [0, 0]
        assert model.constant_predictions_ == 0
        VoxelwiseRidge().fit(X, noise)  # its best penalty is the largest, whatever that is


@pytest.mark.parametrize("kind", [VoxelwiseRidge, KernelRidge, BandedRidge, ReducedRankRidge])
def test_features_in_volts_with_a_grid_for_unit_variance_are_said_to_predict_constants(kind, data):
    X, Y = data
    with pytest.warns(
        PenaltyWarning, match="100 % of 9 targets are predicted to be constant"
    ) as one:
        model = kind(alphas=np.logspace(0, 6, 7)).fit(VOLTS * X, Y)
    assert len(one) == 1
    assert model.constant_predictions_ == 1.0
    assert np.ptp(model.predict(VOLTS * X), axis=0).max() < 1e-3


def test_features_that_do_not_vary_are_said_to_predict_constants(data):
    Y = data[1]
    for shape in ((150, 3), (150, 200)):
        for kind in (VoxelwiseRidge, KernelRidge, BandedRidge, ReducedRankRidge, RidgeDecoder):
            with pytest.warns(PenaltyWarning, match="the features do not vary over the training"):
                model = kind().fit(np.ones(shape), Y)
            np.testing.assert_allclose(model.predict(np.ones((2, shape[1]))), [Y.mean(axis=0)] * 2)
            assert model.constant_predictions_ == 1.0
            np.testing.assert_allclose(model.cv_r2_, 0, atol=1e-12)


def test_one_penalty_for_all_is_judged_by_all(data):
    X, Y = data
    with pytest.warns(PenaltyWarning, match="100 % have the smallest one"):
        RidgeDecoder(alphas=[1e3, 1e4]).fit(X, Y)


def test_the_facts_are_saved(tmp_path, data):
    model = VoxelwiseRidge().fit(*data)
    again = load_estimator(save_estimator(model, tmp_path / "model"))
    np.testing.assert_array_equal(again.alpha_at_edge_, model.alpha_at_edge_)
    assert again.constant_predictions_ == model.constant_predictions_
    assert (again.device_, again.dtype_) == ("cpu", "float64")
    np.testing.assert_array_equal(again.predict(data[0]), model.predict(data[0]))
