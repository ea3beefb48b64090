"""The kernel ridge estimator: scikit-learn's contract, its peers, folds with groups, bad input."""

import numpy as np
import pytest
import sklearn.kernel_ridge
from sklearn.base import clone
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import brainkit
from brainkit.encoding import KernelRidge, VoxelwiseRidge
from brainkit.errors import InputError, UnknownNameError
from brainkit.linear.folds import kfold

ALPHAS = np.geomspace(0.1, 1e4, 9)


@parametrize_with_checks([KernelRidge(), KernelRidge("rbf"), KernelRidge("precomputed")])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


@pytest.fixture
def data():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(80, 12)) * rng.uniform(0.1, 3, 12) + 1
    Y = X @ rng.normal(size=(12, 6)) + rng.normal(size=(80, 6)) * np.geomspace(0.5, 60, 6) + 3
    return X, Y


def test_a_linear_kernel_is_voxelwise_ridge(data):
    X, Y = data
    model = KernelRidge(alphas=ALPHAS).fit(X, Y)
    peer = VoxelwiseRidge(alphas=ALPHAS).fit(X, Y)
    np.testing.assert_array_equal(model.alpha_, peer.alpha_)
    assert len(np.unique(model.alpha_)) > 1
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(model.intercept_, peer.intercept_, rtol=1e-6)
    np.testing.assert_allclose(model.cv_r2_, peer.cv_r2_, rtol=1e-6)
    np.testing.assert_allclose(model.predict(X), peer.predict(X), rtol=1e-7)
    assert model.dual_coef_.shape == (80, 6)


@pytest.mark.parametrize("kernel", ["linear", "polynomial", "rbf", "cosine"])
def test_fit_is_a_grid_search_and_a_refit_for_each_voxel(data, kernel):
    X, Y = data
    model = KernelRidge(kernel, alphas=ALPHAS, cv=4, fit_intercept=False).fit(X, Y)
    for target in range(6):
        search = GridSearchCV(
            sklearn.kernel_ridge.KernelRidge(kernel=kernel), {"alpha": ALPHAS}, cv=kfold(80, 4),
            scoring="neg_mean_squared_error",
        ).fit(X, Y[:, target])  # fmt: skip
        assert model.alpha_[target] == search.best_params_["alpha"]
        np.testing.assert_allclose(model.predict(X)[:, target], search.predict(X), rtol=1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_precomputed_gives_what_features_give(data, fit_intercept):
    X, Y = data
    options = {"alphas": ALPHAS, "fit_intercept": fit_intercept}
    model = KernelRidge("linear", **options).fit(X[:60], Y[:60])
    given = KernelRidge("precomputed", **options).fit(X[:60] @ X[:60].T, Y[:60])
    assert given.X_fit_ is None
    np.testing.assert_array_equal(model.alpha_, given.alpha_)
    np.testing.assert_allclose(model.dual_coef_, given.dual_coef_, rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(given.predict(X[60:] @ X[:60].T), model.predict(X[60:]), rtol=1e-8)


def test_precomputed_kernels_are_cut_on_both_sides_by_scikit_learn(data):
    X, Y = data
    folds = kfold(80, 4)
    by_features = cross_val_score(KernelRidge(alphas=ALPHAS), X, Y, cv=folds)
    by_kernel = cross_val_score(KernelRidge("precomputed", alphas=ALPHAS), X @ X.T, Y, cv=folds)
    np.testing.assert_allclose(by_kernel, by_features, rtol=1e-7)


def test_weights_of_features_of_a_linear_kernel(data):
    X, Y = data
    model = KernelRidge(alphas=[3.0]).fit(X, Y)
    np.testing.assert_allclose(
        X @ model.primal_coef().T + model.intercept_, model.predict(X), rtol=1e-8
    )
    given = KernelRidge("precomputed", alphas=[3.0]).fit(X @ X.T, Y)
    np.testing.assert_allclose(given.primal_coef(X), model.coef_, rtol=1e-7, atol=1e-10)
    with pytest.raises(InputError, match=r"features of its 80 training samples as X_fit; got None"):
        given.primal_coef()
    with pytest.raises(InputError, match=r"as X_fit; got \(79, 12\)"):
        given.primal_coef(X[1:])
    curved = KernelRidge("polynomial").fit(X, Y)
    with pytest.raises(InputError, match="A polynomial kernel has no weights for single features"):
        curved.primal_coef()
    assert not hasattr(curved, "coef_")
    assert not hasattr(KernelRidge(), "coef_")


def test_a_curved_kernel_finds_what_a_linear_one_cannot():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, size=(300, 2))
    Y = np.column_stack([X[:, 0] * X[:, 1], np.cos(2 * X[:, 0])])
    train, test = slice(0, 200), slice(200, 300)
    curved = KernelRidge("rbf", gamma=1.0, alphas=[1e-3, 0.1, 10.0]).fit(X[train], Y[train])
    straight = KernelRidge(alphas=[1e-3, 0.1, 10.0]).fit(X[train], Y[train])
    assert curved.score_targets(X[test], Y[test]).min() > 0.97
    assert straight.score_targets(X[test], Y[test]).max() < 0.1


def test_scores_are_r2_by_target_and_their_mean(data):
    X, Y = data
    model = KernelRidge("rbf", gamma=0.01).fit(X[:60], Y[:60])
    expected = r2_score(Y[60:], model.predict(X[60:]), multioutput="raw_values")
    np.testing.assert_allclose(model.score_targets(X[60:], Y[60:]), expected)
    assert model.score(X[60:], Y[60:]) == pytest.approx(expected.mean())


def test_a_single_target_comes_back_without_an_axis(data):
    X, Y = data
    model = KernelRidge().fit(X, Y[:, 0])
    assert model.predict(X).shape == (80,)
    assert model.dual_coef_.shape == (80, 1)
    np.testing.assert_allclose(
        model.predict(X), KernelRidge().fit(X, Y[:, :1]).predict(X)[:, 0], rtol=1e-12
    )


def test_a_constant_target_is_refused(data):
    X, Y = data
    Y = Y.copy()
    Y[:, 2] = 0.1  # which rounding makes differ from its mean
    with pytest.raises(InputError, match=r"1 of 6 targets are constant, .* number 2"):
        KernelRidge("rbf").fit(X, Y)


def test_groups_stay_whole_in_the_inner_folds():
    """Copies of a trial across folds would reward memory; whole groups do not."""
    rng = np.random.default_rng(5)
    X, Y = rng.normal(size=(40, 60)), rng.normal(size=(40, 30))
    repeated, twice = np.tile(X, (3, 1)), np.tile(Y, (3, 1))
    alphas = np.geomspace(1e-2, 1e5, 15)
    careless = KernelRidge(alphas=alphas).fit(repeated, twice)
    careful = KernelRidge(alphas=alphas).fit(repeated, twice, groups=np.tile(np.arange(40), 3))
    assert careless.cv_r2_.mean() > 0.9
    assert careful.cv_r2_.mean() < 0.05


def test_groups_with_one_member_each_are_no_groups(data):
    X, Y = data
    alone = KernelRidge("rbf").fit(X, Y, groups=np.arange(80))
    np.testing.assert_array_equal(alone.dual_coef_, KernelRidge("rbf").fit(X, Y).dual_coef_)
    lone = np.r_[np.repeat(np.arange(19), 4), 19, 19, 19, 20]  # the last one has one member
    assert KernelRidge("rbf", cv=4).fit(X, Y, groups=lone).alpha_.shape == (6,)


def test_runs_serve_as_groups_where_none_are_given(data):
    X, Y = data
    runs = np.repeat(np.arange(8), 10)
    by_runs = KernelRidge(cv=4).fit(X, Y, runs=runs)
    np.testing.assert_array_equal(
        by_runs.dual_coef_, KernelRidge(cv=4).fit(X, Y, groups=runs).dual_coef_
    )
    with pytest.raises(InputError, match="9 folds cannot be made of 8 groups"):
        KernelRidge(cv=9).fit(X, Y, runs=runs)


@pytest.mark.parametrize("way", ["loo", "gcv"])
def test_single_samples_are_left_out_as_voxelwise_ridge_does(data, way):
    X, Y = data
    model = KernelRidge(alphas=ALPHAS, cv=way).fit(X, Y)
    peer = VoxelwiseRidge(alphas=ALPHAS, cv=way).fit(X, Y)
    np.testing.assert_array_equal(model.alpha_, peer.alpha_)
    np.testing.assert_allclose(model.cv_r2_, peer.cv_r2_, rtol=1e-7)
    with pytest.raises(InputError, match="leaves single samples out"):
        KernelRidge(cv=way).fit(X, Y, groups=np.repeat(np.arange(40), 2))


def test_single_precision_and_batches(data):
    X, Y = (part.astype(np.float32) for part in data)
    model = KernelRidge("rbf", gamma=0.05).fit(X, Y)
    assert model.predict(X).dtype == np.float32
    double = KernelRidge("rbf", gamma=0.05).fit(*data)
    np.testing.assert_allclose(model.alpha_, double.alpha_, rtol=1e-6)
    np.testing.assert_allclose(model.predict(X), double.predict(X), rtol=1e-4, atol=1e-4)
    parts = KernelRidge("rbf", gamma=0.05, n_targets_batch=2).fit(*data)
    assert parts.batch_size_ == 2
    np.testing.assert_allclose(parts.dual_coef_, double.dual_coef_, rtol=1e-8, atol=1e-10)


def test_one_alpha_for_all_minimises_the_summed_error(data):
    X, Y = data
    model = KernelRidge(alphas=ALPHAS, alpha_per_target=False).fit(X, Y)
    peer = VoxelwiseRidge(alphas=ALPHAS, alpha_per_target=False).fit(X, Y)
    np.testing.assert_array_equal(model.alpha_, peer.alpha_)
    np.testing.assert_allclose(model.cv_r2_, peer.cv_r2_, rtol=1e-7)


@pytest.mark.parametrize("kernel", ["linear", "rbf", "precomputed"])
def test_predictions_come_back_bit_for_bit(tmp_path, data, kernel):
    X, Y = data
    X = X @ X.T if kernel == "precomputed" else X
    model = KernelRidge(kernel, alphas=[1.0, 10.0]).fit(X, Y)
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "model"))
    assert loaded.get_params() == model.get_params()
    assert loaded.predict(X[:7]).tobytes() == model.predict(X[:7]).tobytes()


def test_predictions_stay_when_the_caller_changes_the_samples(data):
    X, Y = data[0].copy(), data[1]
    model = KernelRidge("rbf").fit(X, Y)
    new = X[:5].copy()
    before = model.predict(new)
    X[:] = 0
    np.testing.assert_array_equal(model.predict(new), before)


def test_in_a_pipeline_and_a_grid_search(data):
    X, Y = data
    search = GridSearchCV(
        make_pipeline(StandardScaler(), clone(KernelRidge("rbf"))),
        {"kernelridge__gamma": [1e-3, 10.0]},
        cv=3,
    ).fit(X, Y)
    assert search.best_params_ == {"kernelridge__gamma": 1e-3}


def test_penalties_must_be_positive(bad_penalties, data):
    with pytest.raises(InputError, match=r"alphas must be .*positive numbers, at least one"):
        KernelRidge(alphas=bad_penalties).fit(*data)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused(bad, data):
    X, Y = data
    for broken in (X.copy(), Y.copy()):
        broken[3, 1] = bad
        arguments = (broken, Y) if broken.shape == X.shape else (X, broken)
        with pytest.raises(ValueError, match=r"contains (NaN|infinity)"):
            KernelRidge().fit(*arguments)


def test_shapes_that_do_not_fit(data):
    X, Y = data
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        KernelRidge().fit(X, Y[:-1])
    with pytest.raises(InputError, match=r"is square, .*; got \(80, 12\)"):
        KernelRidge("precomputed").fit(X, Y)
    model = KernelRidge("precomputed").fit(X @ X.T, Y)
    with pytest.raises(ValueError, match="is expecting 80 features"):
        model.predict(X)
    with pytest.raises(InputError, match="groups must have one value for each of the 80 samples"):
        KernelRidge().fit(X, Y, groups=np.arange(79))


def test_an_unknown_kernel_names_the_nearest(data):
    with pytest.raises(UnknownNameError, match=r"Unknown kernel 'guassian'"):
        KernelRidge("guassian").fit(*data)
    with pytest.raises(UnknownNameError, match=r"Did you mean 'linear'"):
        KernelRidge("liner").fit(*data)
