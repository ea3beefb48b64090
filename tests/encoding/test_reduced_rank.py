"""The reduced-rank encoder: scikit-learn's contract, what it gains, repeats, and the disk."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

import brainkit
from brainkit.encoding import ReducedRankRidge, VoxelwiseRidge
from brainkit.errors import InputError
from brainkit.linear.folds import kfold
from brainkit.linear.reduced_rank_solver import average_groups, noise_metric, solve_reduced_rank

ALPHAS = (1.0, 10.0, 100.0, 1000.0)


@parametrize_with_checks([ReducedRankRidge()])
def test_scikit_learn_contract(estimator, check):
    check(estimator)


def simulate(n_images=120, n_repeats=3, n_features=40, n_targets=150, seed=0):
    """Voxels that follow 4 dimensions, with 2 strong factors of common noise.

    Returns single trials, their images, and new images with their expected responses.
    """
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(n_features, 4)) @ rng.normal(size=(4, n_targets))
    weights /= np.sqrt(4 * n_features)
    common = rng.normal(size=(2, n_targets))
    shown = np.tile(np.arange(n_images), n_repeats)
    features = rng.normal(size=(n_images, n_features))
    noise = rng.normal(size=(len(shown), n_targets))
    noise += 2 * rng.normal(size=(len(shown), 2)) @ common
    Y = features[shown] @ weights + 1.5 * noise + rng.normal(size=n_targets)
    fresh = rng.normal(size=(300, n_features))
    return features[shown], Y, shown, fresh, fresh @ weights


def accuracy(model, fresh, truth):
    predicted = model.predict(fresh)
    return np.mean([np.corrcoef(p, t)[0, 1] for p, t in zip(predicted.T, truth.T, strict=True)])


@pytest.mark.parametrize("seed", range(3))
def test_shared_dimensions_and_repeats_gain_on_voxelwise_ridge(seed):
    X, Y, shown, fresh, truth = simulate(seed=seed)
    options = {"alphas": ALPHAS, "cv": 3}
    voxelwise = VoxelwiseRidge(**options).fit(X, Y, groups=shown)
    blind = ReducedRankRidge(ranks=(2, 4, 8), **options).fit(*average_groups(X, Y, shown)[:2])
    model = ReducedRankRidge(ranks=(2, 4, 8), **options).fit(X, Y, groups=shown)
    assert model.noise_factors_ == 2
    assert blind.noise_factors_ == 0
    assert accuracy(model, fresh, truth) > accuracy(voxelwise, fresh, truth) + 0.1
    assert accuracy(model, fresh, truth) > accuracy(blind, fresh, truth) + 0.05


def test_fit_is_the_solution_of_the_chosen_penalties_and_ranks():
    X, Y, shown, *_ = simulate(n_targets=30)
    model = ReducedRankRidge(alphas=ALPHAS, ranks=(1, 3, 8)).fit(X, Y, groups=shown)
    assert set(model.rank_) <= {1, 3, 8}
    assert set(model.alpha_) <= set(ALPHAS)
    x_mean, y_mean, left = average_groups(X, Y, shown)
    metric = noise_metric(left, len(left) - len(x_mean))
    coef, intercept = solve_reduced_rank(x_mean, y_mean, model.alpha_, model.rank_, metric)
    np.testing.assert_allclose(model.coef_, coef, rtol=1e-9)
    np.testing.assert_allclose(model.intercept_, intercept, rtol=1e-9)
    residual, total, best = np.zeros(30), np.zeros(30), np.full(30, np.inf)
    for train, test in kfold(len(x_mean), 3):
        total += ((y_mean[test] - y_mean[train].mean(axis=0)) ** 2).sum(axis=0)
    for alpha in ALPHAS:
        for rank in (1, 3, 8):
            residual = np.zeros(30)
            for train, test in kfold(len(x_mean), 3):
                coef, intercept = solve_reduced_rank(
                    x_mean[train], y_mean[train], np.full(30, alpha), np.full(30, rank), metric
                )
                error = y_mean[test] - x_mean[test] @ coef.T - intercept
                residual += (error**2).sum(axis=0)
            best = np.minimum(best, residual)
    np.testing.assert_allclose(model.cv_r2_, 1 - best / total, rtol=1e-8)


def test_the_order_of_trials_and_the_names_of_groups_do_not_matter():
    X, Y, shown, fresh, _ = simulate(n_targets=20)
    model = ReducedRankRidge(alphas=ALPHAS, ranks=(2, 4)).fit(X, Y, groups=shown)
    order = np.random.default_rng(0).permutation(len(X))
    names = np.array([f"image {number:03d}" for number in shown])[order]
    other = ReducedRankRidge(alphas=ALPHAS, ranks=(2, 4)).fit(X[order], Y[order], groups=names)
    np.testing.assert_allclose(other.predict(fresh), model.predict(fresh), rtol=1e-6, atol=1e-8)
    by_run = ReducedRankRidge(alphas=ALPHAS, ranks=(2, 4)).fit(X, Y, runs=shown)
    np.testing.assert_array_equal(by_run.coef_, model.coef_)


def test_groups_of_different_features_are_only_kept_whole():
    X, Y, *_ = simulate(n_images=60, n_repeats=1, n_targets=20)
    runs = np.repeat(np.arange(6), 10)
    model = ReducedRankRidge(alphas=ALPHAS, ranks=(2, 50)).fit(X, Y, runs=runs)
    assert model.noise_factors_ == 0
    plain = ReducedRankRidge(alphas=ALPHAS, ranks=(2, 50)).fit(X, Y)
    assert model.coef_.shape == plain.coef_.shape == (20, 40)
    with pytest.raises(InputError, match="7 folds cannot be made of 6 groups"):
        ReducedRankRidge(cv=7).fit(X, Y, runs=runs)


def test_high_ranks_alone_are_voxelwise_ridge():
    X, Y, _, fresh, _ = simulate(n_images=60, n_repeats=1, n_targets=20)
    model = ReducedRankRidge(alphas=ALPHAS, ranks=(40, 80)).fit(X, Y)
    ridge = VoxelwiseRidge(alphas=ALPHAS, cv=3).fit(X, Y)
    assert set(model.rank_) <= {40, 80}
    np.testing.assert_array_equal(model.alpha_, ridge.alpha_)
    np.testing.assert_allclose(model.predict(fresh), ridge.predict(fresh), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(model.cv_r2_, ridge.cv_r2_, rtol=1e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("single", [False, True])
def test_predictions_come_back_from_disk_bit_for_bit(tmp_path, dtype, single):
    X, Y, shown, fresh, _ = simulate(n_images=40, n_targets=12)
    X, Y, fresh = X.astype(dtype), Y.astype(dtype), fresh.astype(dtype)
    model = ReducedRankRidge(alphas=ALPHAS, ranks=(1, 4))
    model.fit(X, Y[:, 0] if single else Y, groups=shown)
    loaded = brainkit.load_estimator(brainkit.save_estimator(model, tmp_path / "model"))
    assert type(loaded) is ReducedRankRidge
    assert loaded.get_params() == model.get_params()
    assert set(vars(loaded)) == set(vars(model))
    assert model.coef_.dtype == dtype
    assert model.predict(fresh).shape == ((300,) if single else (300, 12))
    assert loaded.predict(fresh).tobytes() == model.predict(fresh).tobytes()
    np.testing.assert_array_equal(loaded.rank_, model.rank_, strict=True)


def test_a_constant_voxel_is_refused():
    X, Y, shown, *_ = simulate(n_images=40, n_targets=12)
    Y[:, 3] = 5.0
    with pytest.raises(InputError, match=r"1 of 12 targets are constant, .* number 3"):
        ReducedRankRidge(alphas=ALPHAS, ranks=(2,)).fit(X, Y, groups=shown)
    with pytest.raises(InputError, match="a number of folds"):
        ReducedRankRidge(cv="loo").fit(X, Y[:, :2], groups=shown)


def test_the_arguments_are_left_alone():
    X, Y, shown, *_ = simulate(n_images=40, n_targets=12)
    before = X.copy(), Y.copy()
    clone(ReducedRankRidge(alphas=ALPHAS, ranks=(2,))).fit(X, Y, groups=shown)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


@pytest.mark.parametrize("ranks", [(), (0, 3), (-1,), (1.5,), (float("nan"),), (float("inf"),)])
def test_ranks_are_whole_numbers_from_one(ranks):
    X, Y, *_ = simulate(n_images=20, n_targets=5)
    with pytest.raises(InputError, match="ranks must be whole numbers from 1, at least one"):
        ReducedRankRidge(ranks=ranks).fit(X, Y)
    with pytest.raises(InputError, match="alphas must be positive numbers"):
        ReducedRankRidge(alphas=(-1.0,)).fit(X, Y)
