"""The estimators' contract: scikit-learn's checks, folds with groups, scores, bad input.

Grids of penalties: the automatic one, what is refused, and what is said of a choice.
"""

import warnings

import numpy as np
import pytest
import torch
from sklearn import config_context
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from brainkit import load_estimator, save_estimator
from brainkit.decoding import RidgeDecoder
from brainkit.decoding.ridge_decoder import DEFAULT_ALPHAS
from brainkit.encoding import BandedRidge, KernelRidge, ReducedRankRidge, VoxelwiseRidge
from brainkit.errors import InputError, LeakError, PenaltyWarning
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_estimator import (
    STANDARD_GRID,
    fit_rows,
    penalty_grid,
    share_constant,
    shares_at_edge,
    training_scale,
)
from brainkit.linear.ridge_solver import validation_errors
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


@parametrize_with_checks([VoxelwiseRidge(), RidgeDecoder()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(80, 12)) * rng.uniform(0.1, 10, 12) + 4
    Y = X @ rng.normal(size=(12, 6)) + rng.normal(size=(80, 6)) * np.geomspace(0.5, 60, 6) + 3
    return X, Y


def test_fit_is_a_grid_search_and_a_refit_for_each_voxel(data):
    X, Y = data
    model = VoxelwiseRidge(alphas=np.geomspace(0.1, 1e5, 13), cv=5).fit(X, Y)
    assert model.alpha_.shape == (6,)
    assert model.coef_.shape == (6, 12)
    assert model.intercept_.shape == (6,)
    assert len(np.unique(model.alpha_)) > 1
    for target in range(6):
        search = GridSearchCV(
            Ridge(), {"alpha": np.geomspace(0.1, 1e5, 13)}, cv=kfold(80, 5),
            scoring="neg_mean_squared_error",
        ).fit(X, Y[:, target])  # fmt: skip
        assert model.alpha_[target] == search.best_params_["alpha"]
        np.testing.assert_allclose(model.predict(X)[:, target], search.predict(X), rtol=1e-8)


def test_cv_r2_is_held_out(data):
    X, Y = data
    model = VoxelwiseRidge(alphas=[10.0], cv=4).fit(X, Y)
    residual, total = np.zeros(6), np.zeros(6)
    for train, test in kfold(80, 4):
        peer = Ridge(alpha=10.0).fit(X[train], Y[train])
        residual += ((Y[test] - peer.predict(X[test])) ** 2).sum(axis=0)
        total += ((Y[test] - Y[train].mean(axis=0)) ** 2).sum(axis=0)
    np.testing.assert_allclose(model.cv_r2_, 1 - residual / total, rtol=1e-8)


def test_one_alpha_for_all_minimises_the_summed_error(data):
    X, Y = data
    alphas = np.geomspace(0.1, 1e5, 13)
    model = VoxelwiseRidge(alphas=alphas, alpha_per_target=False).fit(X, Y)
    assert len(np.unique(model.alpha_)) == 1
    search = GridSearchCV(
        Ridge(), {"alpha": alphas}, cv=kfold(80, 5), scoring="neg_mean_squared_error"
    )
    assert model.alpha_[0] == search.fit(X, Y).best_params_["alpha"]


def test_decoder_scales_voxels_by_training_data_only(data):
    X, Y = data
    model = RidgeDecoder(alphas=[5.0]).fit(X, Y)
    peer = Ridge(alpha=5.0).fit(X / X.std(axis=0), Y)
    np.testing.assert_allclose(model.predict(X[:9]), peer.predict(X[:9] / X.std(axis=0)))
    np.testing.assert_allclose(
        RidgeDecoder().fit(X, Y).predict(X), RidgeDecoder().fit(X * 1000, Y).predict(X * 1000)
    )


def test_training_scale_leaves_constant_columns():
    X = np.column_stack([np.full(10, 0.1), np.arange(10.0)])
    assert training_scale(X).tolist() == [1.0, np.arange(10.0).std()]
    assert training_scale(X.astype(np.float32)).dtype == np.float32


def test_groups_stay_whole_in_the_inner_folds(monkeypatch, data):
    X, Y = data
    groups = np.repeat(np.arange(20), 4)
    order = np.random.default_rng(0).permutation(80)
    seen = []
    import brainkit.linear.ridge_estimator as module

    original = module.ridge_cv

    def spy(X, Y, alphas, folds, **options):
        seen.extend(folds)
        return original(X, Y, alphas, folds, **options)

    monkeypatch.setattr(module, "ridge_cv", spy)
    VoxelwiseRidge().fit(X, Y, groups=groups[order])
    assert len(seen) == 5
    for train, test in seen:
        assert not set(groups[order][train]) & set(groups[order][test])


def test_groups_keep_duplicates_from_choosing_the_smallest_alpha():
    """Copies of a trial across folds would reward memory; whole groups do not."""
    rng = np.random.default_rng(5)
    X = rng.normal(size=(40, 60))
    Y = rng.normal(size=(40, 30))
    repeated, twice = np.tile(X, (3, 1)), np.tile(Y, (3, 1))
    alphas = np.geomspace(1e-2, 1e5, 15)
    careless = VoxelwiseRidge(alphas=alphas).fit(repeated, twice)
    careful = VoxelwiseRidge(alphas=alphas).fit(repeated, twice, groups=np.tile(np.arange(40), 3))
    assert careless.cv_r2_.mean() > 0.9
    assert careful.cv_r2_.mean() < 0.05
    assert np.median(careful.alpha_) > 1000 * np.median(careless.alpha_)


def test_runs_serve_as_groups_where_none_are_given(data):
    X, Y = data
    runs = np.repeat(np.arange(8), 10)
    by_runs = VoxelwiseRidge(cv=4).fit(X, Y, runs=runs)
    by_groups = VoxelwiseRidge(cv=4).fit(X, Y, groups=runs)
    np.testing.assert_array_equal(by_runs.coef_, by_groups.coef_)
    with pytest.raises(InputError, match="9 folds cannot be made of 8 groups"):
        VoxelwiseRidge(cv=9).fit(X, Y, runs=runs)


def test_batches_of_targets_change_nothing(data):
    X, Y = data
    whole = VoxelwiseRidge().fit(X, Y)
    parts = VoxelwiseRidge(n_targets_batch=2).fit(X, Y)
    assert parts.batch_size_ == 2
    np.testing.assert_array_equal(whole.alpha_, parts.alpha_)
    np.testing.assert_allclose(whole.coef_, parts.coef_, rtol=1e-9)


def test_single_precision_is_kept(data):
    X, Y = (part.astype(np.float32) for part in data)
    model = VoxelwiseRidge().fit(X, Y)
    assert model.coef_.dtype == np.float32
    assert model.predict(X).dtype == np.float32
    double = VoxelwiseRidge().fit(*data)
    np.testing.assert_array_equal(model.alpha_, double.alpha_)
    np.testing.assert_allclose(model.predict(X), double.predict(X), rtol=1e-3, atol=1e-2)


def test_single_target_and_dual_side():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 50)), rng.normal(size=20)
    model = VoxelwiseRidge().fit(X, y)
    assert model.predict(X).shape == (20,)
    assert not model.primal_
    np.testing.assert_allclose(
        model.predict(X), VoxelwiseRidge().fit(X, y[:, None]).predict(X)[:, 0]
    )


def test_scores_are_r2_by_target_and_their_mean(data):
    from sklearn.metrics import r2_score

    X, Y = data
    model = VoxelwiseRidge().fit(X[:60], Y[:60])
    expected = r2_score(Y[60:], model.predict(X[60:]), multioutput="raw_values")
    np.testing.assert_allclose(model.score_targets(X[60:], Y[60:]), expected)
    assert model.score(X[60:], Y[60:]) == pytest.approx(expected.mean())


def test_a_constant_target_scores_nan_is_refused_by_encoders_and_has_its_mean_in_decoders(data):
    X, Y = data
    model = VoxelwiseRidge().fit(X, Y)
    flat = Y.copy()
    flat[:, 2] = 0.1  # which rounding makes differ from its mean
    scores = model.score_targets(X, flat)
    assert np.isnan(scores).tolist() == [False, False, True, False, False, False]
    assert model.score(X, flat) == pytest.approx(np.nanmean(scores))
    assert np.isnan(model.score(X, np.ones_like(Y)))
    with pytest.raises(InputError, match=r"1 of 6 targets are constant, .* number 2"):
        VoxelwiseRidge().fit(X, flat)
    constant = RidgeDecoder(alpha_per_target=True).fit(X, flat)
    assert np.isnan(constant.cv_r2_).tolist() == [False, False, True, False, False, False]
    np.testing.assert_allclose(constant.predict(X)[:, 2], 0.1, rtol=1e-12)


def test_arguments_are_left_alone(data):
    X, Y = data
    before = X.copy(), Y.copy()
    model = RidgeDecoder()
    clone(model).fit(X, Y).predict(X)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])
    assert not hasattr(model, "coef_")


def test_penalties_must_be_positive(bad_penalties, data):
    with pytest.raises(InputError, match=r"alphas must be .*positive numbers, at least one"):
        VoxelwiseRidge(alphas=bad_penalties).fit(*data)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad, data):
    X, Y = data
    broken = Y.copy()
    broken[3, 1] = bad
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        VoxelwiseRidge().fit(X, broken)
    broken = X.copy()
    broken[3, 1] = bad
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        VoxelwiseRidge().fit(broken, Y)
    with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
        VoxelwiseRidge().fit(X, Y).predict(broken)


def test_shapes_that_do_not_fit(data):
    X, Y = data
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        VoxelwiseRidge().fit(X, Y[:-1])
    with pytest.raises(InputError, match="groups must have one value for each of the 80 samples"):
        VoxelwiseRidge().fit(X, Y, groups=np.arange(79))
    model = VoxelwiseRidge().fit(X, Y)
    with pytest.raises(ValueError, match="is expecting 12 features"):
        model.predict(X[:, :-1])
    with pytest.raises(InputError, match=r"Y has shape \(80, 5\); the predictions have"):
        model.score_targets(X, Y[:, :5])


def test_too_few_trials_for_the_folds():
    with pytest.raises(InputError, match="5 folds cannot be made of 4 trials"):
        VoxelwiseRidge().fit(np.eye(4), np.arange(4.0))


@pytest.mark.parametrize(
    "model", [VoxelwiseRidge(), KernelRidge("rbf", gamma=0.01), BandedRidge([4, 8], draws=5)]
)
def test_folds_may_be_a_splitters_or_given(model, data):
    X, Y = data
    shuffled = KFold(5, shuffle=True, random_state=0)
    by_splitter = clone(model).set_params(cv=shuffled).fit(X, Y)
    by_list = clone(model).set_params(cv=list(shuffled.split(X))).fit(X, Y)
    once = clone(model)
    once.cv = shuffled.split(X)
    once.fit(X, Y)
    np.testing.assert_array_equal(by_splitter.predict(X), by_list.predict(X))
    np.testing.assert_array_equal(by_splitter.cv_r2_, once.cv_r2_)
    by_number = clone(model).fit(X, Y)
    assert (by_splitter.cv_r2_ != by_number.cv_r2_).all()
    in_order = clone(model).set_params(cv=KFold(5)).fit(X, Y)
    np.testing.assert_array_equal(in_order.cv_r2_, by_number.cv_r2_)


def test_a_splitter_keeps_groups_whole_or_is_refused(data):
    X, Y = data
    groups = np.arange(80) // 2
    model = VoxelwiseRidge(cv=GroupKFold(4)).fit(X, Y, groups=groups)
    folds = list(GroupKFold(4).split(X, groups=groups))
    np.testing.assert_array_equal(model.cv_r2_, VoxelwiseRidge(cv=folds).fit(X, Y).cv_r2_)
    with pytest.raises(LeakError, match="groups that it holds out"):
        VoxelwiseRidge(cv=KFold(4, shuffle=True, random_state=0)).fit(X, Y, groups=groups)


def test_a_decoder_with_given_folds_fits_its_null_on_its_own(data):
    X, Y = data
    assert RidgeDecoder().shares_decompositions
    model = RidgeDecoder(cv=KFold(5))
    assert not model.shares_decompositions
    np.testing.assert_allclose(
        model.fit(X, Y).coef_, RidgeDecoder().fit(X, Y).coef_, rtol=1e-9, atol=1e-12
    )


def test_folds_that_are_none_are_refused(data):
    X, Y = data
    with pytest.raises(InputError, match="cv must be a number of folds"):
        VoxelwiseRidge(cv=None).fit(X, Y)
    with pytest.raises(InputError, match="both must be some of the rows 0 to 79"):
        VoxelwiseRidge(cv=[([0, 1], [80])]).fit(X, Y)


# ------------------------------------------------------------------------------ models of others


def test_models_are_told_of_groups_and_runs_only_if_they_take_them(data):
    X, Y = data
    groups, runs = np.arange(80) % 40, np.arange(80) // 20
    plain = fit_rows(Ridge(), X, Y, groups=groups, runs=runs)
    np.testing.assert_array_equal(plain.coef_, Ridge().fit(X, Y).coef_)
    own = fit_rows(VoxelwiseRidge(), X, Y, groups=groups, runs=None)
    np.testing.assert_array_equal(own.coef_, VoxelwiseRidge().fit(X, Y, groups=groups).coef_)
    assert (own.cv_r2_ != VoxelwiseRidge().fit(X, Y).cv_r2_).all()
    # A search of scikit-learn's takes anything, and hands groups on to its splitter alone.
    search = fit_rows(
        GridSearchCV(Ridge(), {"alpha": [1.0, 10.0]}, cv=KFold(3)), X, Y, groups=groups
    )
    assert search.best_params_["alpha"] in {1.0, 10.0}
    in_pipeline = fit_rows(make_pipeline(StandardScaler(), Ridge()), X, Y, groups=groups)
    assert in_pipeline.predict(X).shape == Y.shape
    with config_context(enable_metadata_routing=True):  # as a pipeline asks for it
        asks = make_pipeline(VoxelwiseRidge().set_fit_request(groups=True, runs=False))
        told = fit_rows(asks, X, Y, groups=groups, runs=runs)[-1]
    np.testing.assert_array_equal(told.coef_, own.coef_)


@pytest.fixture
def penalty_data():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 12)) * rng.uniform(0.5, 2, 12)
    Y = X @ rng.normal(size=(12, 9)) * 0.1 + rng.normal(size=(150, 9))
    return X, Y


@pytest.mark.parametrize("model", MODELS, ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_unit_of_the_features_makes_no_difference(model, dtype, penalty_data):
    X, Y = penalty_data

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


def test_standardised_features_have_the_plain_grid(penalty_data):
    X, Y = penalty_data
    X = X / X.std(axis=0)
    assert VoxelwiseRidge().fit(X, Y).alphas_.tolist() == list(STANDARD_GRID)
    assert VoxelwiseRidge(standardise=True).fit(5 * X, Y).alphas_.tolist() == list(STANDARD_GRID)
    constant = np.column_stack([X, np.ones(150), np.zeros(150)])  # has no say
    assert VoxelwiseRidge().fit(constant, Y).alphas_.tolist() == list(STANDARD_GRID)
    assert RidgeDecoder().fit(X, Y).alphas_.tolist() == list(DEFAULT_ALPHAS)
    assert KernelRidge().fit(X, Y).alphas_.tolist() == list(STANDARD_GRID)


def test_a_kernel_scales_its_grid_by_its_own_values(penalty_data):
    X, Y = penalty_data
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
def test_what_is_no_penalty_is_refused_by_every_estimator(alphas, model, penalty_data):

    with pytest.raises(InputError, match="alphas must be"):
        clone(model).set_params(alphas=alphas).fit(*penalty_data)


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


def test_penalties_that_stand_twice_are_one(penalty_data):
    X, Y = penalty_data
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
def test_single_samples_need_a_penalty_above_0(way, kind, penalty_data):
    with pytest.raises(InputError, match=f"cv='{way}'.*need penalties above 0; got 0"):
        kind(alphas=[0.0, 1.0], cv=way).fit(*penalty_data)


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
def test_features_in_volts_with_a_grid_for_unit_variance_are_said_to_predict_constants(
    kind, penalty_data
):
    X, Y = penalty_data
    with pytest.warns(
        PenaltyWarning, match="100 % of 9 targets are predicted to be constant"
    ) as one:
        model = kind(alphas=np.logspace(0, 6, 7)).fit(VOLTS * X, Y)
    assert len(one) == 1
    assert model.constant_predictions_ == 1.0
    assert np.ptp(model.predict(VOLTS * X), axis=0).max() < 1e-3


def test_features_that_do_not_vary_are_said_to_predict_constants(penalty_data):
    Y = penalty_data[1]
    for shape in ((150, 3), (150, 200)):
        for kind in (VoxelwiseRidge, KernelRidge, BandedRidge, ReducedRankRidge, RidgeDecoder):
            with pytest.warns(PenaltyWarning, match="the features do not vary over the training"):
                model = kind().fit(np.ones(shape), Y)
            np.testing.assert_allclose(model.predict(np.ones((2, shape[1]))), [Y.mean(axis=0)] * 2)
            assert model.constant_predictions_ == 1.0
            np.testing.assert_allclose(model.cv_r2_, 0, atol=1e-12)


def test_one_penalty_for_all_is_judged_by_all(penalty_data):
    X, Y = penalty_data
    with pytest.warns(PenaltyWarning, match="100 % have the smallest one"):
        RidgeDecoder(alphas=[1e3, 1e4]).fit(X, Y)


def test_the_facts_are_saved(tmp_path, penalty_data):
    model = VoxelwiseRidge().fit(*penalty_data)
    again = load_estimator(save_estimator(model, tmp_path / "model"))
    np.testing.assert_array_equal(again.alpha_at_edge_, model.alpha_at_edge_)
    assert again.constant_predictions_ == model.constant_predictions_
    assert (again.device_, again.dtype_) == ("cpu", "float64")
    np.testing.assert_array_equal(again.predict(penalty_data[0]), model.predict(penalty_data[0]))
