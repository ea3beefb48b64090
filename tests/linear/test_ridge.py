"""Ridge against its normal equations, scikit-learn, himalaya and itself in other clothes."""

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from brainkit.errors import InputError
from brainkit.linear import ridge
from brainkit.linear.folds import kfold
from brainkit.linear.ridge import (
    batch_size,
    decompose,
    is_primal,
    select_alphas,
    solve_ridge,
    validation_errors,
)

SHAPES = [(60, 12), (12, 60), (20, 20), (21, 20)]  # primal, dual, and around the border


def problem(n_samples, n_features, n_targets=7, seed=0, noise=1.0):
    """Features with offsets and unequal spreads, targets with offsets, in double precision."""
    rng = np.random.default_rng([seed, n_samples, n_features])
    X = rng.normal(size=(n_samples, n_features)) * rng.uniform(0.2, 3, n_features)
    X += rng.normal(size=n_features) * 5
    Y = X @ rng.normal(size=(n_features, n_targets)) / np.sqrt(n_features)
    Y += noise * rng.normal(size=Y.shape) + rng.normal(size=n_targets) * 10
    return X, Y


def normal_equations(X, Y, alphas, fit_intercept=True):
    """Solve (X'X + αI) w = X'y target by target, on centred data."""
    x_mean = X.mean(axis=0) if fit_intercept else np.zeros(X.shape[1])
    y_mean = Y.mean(axis=0) if fit_intercept else np.zeros(Y.shape[1])
    Xc, Yc = X - x_mean, Y - y_mean
    coef = np.stack(
        [
            np.linalg.solve(Xc.T @ Xc + alpha * np.eye(X.shape[1]), Xc.T @ Yc[:, t])
            for t, alpha in enumerate(alphas)
        ]
    )
    return coef, y_mean - coef @ x_mean


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_solution_meets_the_normal_equations(shape, fit_intercept):
    X, Y = problem(*shape)
    alphas = np.geomspace(0.1, 1000, Y.shape[1])
    coef, intercept = solve_ridge(X, Y, alphas, fit_intercept=fit_intercept)
    expected = normal_equations(X, Y, alphas, fit_intercept)
    np.testing.assert_allclose(coef, expected[0], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(intercept, expected[1], rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_solution_equals_scikit_learn_with_an_alpha_for_each_target(shape):
    X, Y = problem(*shape)
    alphas = np.geomspace(0.1, 1000, Y.shape[1])
    coef, intercept = solve_ridge(X, Y, alphas)
    peer = Ridge(alpha=alphas).fit(X, Y)
    np.testing.assert_allclose(coef, peer.coef_, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(intercept, peer.intercept_, rtol=1e-6, atol=1e-8)


def test_primal_and_dual_solve_the_same_problem(monkeypatch):
    X, Y = problem(40, 15)
    alphas = np.full(Y.shape[1], 3.0)
    folds = kfold(40, 4)
    primal = solve_ridge(X, Y, alphas), validation_errors(X, Y, [1.0, 10.0], folds)
    monkeypatch.setattr(ridge, "is_primal", lambda *shape: False)
    dual = solve_ridge(X, Y, alphas), validation_errors(X, Y, [1.0, 10.0], folds)
    for first, second in zip(primal, dual, strict=True):
        for one, other in zip(first, second, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9)


def test_the_smaller_side_is_decomposed():
    assert is_primal(10, 10)
    assert not is_primal(9, 10)
    X, _ = problem(30, 8)
    assert decompose(X, [1.0], centred=True).readout.shape == (8, 8)
    assert decompose(X.T, [1.0], centred=True).readout.shape == (30, 7)  # rows less their mean


@pytest.mark.parametrize("shape", [(50, 10), (10, 50)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_tensors_give_what_arrays_give(shape, dtype):
    X, Y = (part.astype(dtype) for part in problem(*shape))
    alphas, candidates = np.geomspace(1, 100, Y.shape[1]), [0.5, 5.0, 50.0]
    folds = kfold(shape[0], 5)
    tensors = torch.as_tensor(X), torch.as_tensor(Y)
    tolerance = {"rtol": 2e-3, "atol": 2e-3} if dtype == np.float32 else {"rtol": 1e-9}

    coef, intercept = solve_ridge(*tensors, torch.as_tensor(alphas), n_targets_batch=3)
    assert isinstance(coef, torch.Tensor)
    assert coef.dtype == tensors[0].dtype == intercept.dtype
    expected = solve_ridge(X, Y, alphas)
    np.testing.assert_allclose(coef.numpy(), expected[0], **tolerance)
    np.testing.assert_allclose(intercept.numpy(), expected[1], **tolerance)

    tensor_folds = [(torch.as_tensor(train), torch.as_tensor(test)) for train, test in folds]
    for used in (folds, tensor_folds):
        errors, total = validation_errors(*tensors, candidates, used)
        expected = validation_errors(X, Y, candidates, folds)
        np.testing.assert_allclose(errors.numpy(), expected[0], **tolerance)
        np.testing.assert_allclose(total.numpy(), expected[1], **tolerance)
    chosen = select_alphas(errors, candidates)
    assert isinstance(chosen, torch.Tensor)
    assert chosen.tolist() == select_alphas(expected[0], candidates).tolist()


@pytest.mark.parametrize("shape", [(50, 10), (10, 50)])
def test_validation_errors_are_those_of_refits(shape):
    X, Y = problem(*shape)
    candidates, folds = [0.1, 10.0], kfold(shape[0], 5)
    errors, total = validation_errors(X, Y, candidates, folds)
    for row, alpha in zip(errors, candidates, strict=True):
        sums = np.zeros(Y.shape[1])
        for train, test in folds:
            model = Ridge(alpha=alpha).fit(X[train], Y[train])
            sums += ((Y[test] - model.predict(X[test])) ** 2).sum(axis=0)
        np.testing.assert_allclose(row, sums, rtol=1e-7)
    by_mean = sum(((Y[test] - Y[train].mean(axis=0)) ** 2).sum(axis=0) for train, test in folds)
    np.testing.assert_allclose(total, by_mean, rtol=1e-10)


def test_validation_without_intercept_centres_nothing():
    X, Y = problem(40, 6)
    folds = kfold(40, 4)
    errors, total = validation_errors(X, Y, [2.0], folds, fit_intercept=False)
    sums = np.zeros(Y.shape[1])
    for train, test in folds:
        model = Ridge(alpha=2.0, fit_intercept=False).fit(X[train], Y[train])
        sums += ((Y[test] - model.predict(X[test])) ** 2).sum(axis=0)
    np.testing.assert_allclose(errors[0], sums, rtol=1e-8)
    np.testing.assert_allclose(total, (Y**2).sum(axis=0))


def test_alphas_are_those_of_a_grid_search_for_each_target():
    X, Y = problem(48, 30, n_targets=8, noise=2.0)
    candidates = np.geomspace(0.1, 1e4, 9)
    folds = kfold(48, 4)
    chosen = select_alphas(validation_errors(X, Y, candidates, folds)[0], candidates)
    fold_of = np.empty(48, dtype=int)
    for number, (_, test) in enumerate(folds):
        fold_of[test] = number
    peers = []
    for target in Y.T:
        search = GridSearchCV(
            Ridge(), {"alpha": candidates}, cv=PredefinedSplit(fold_of),
            scoring="neg_mean_squared_error",  # folds of one size: the mean of means is the sum
        )  # fmt: skip
        peers.append(search.fit(X, target).best_params_["alpha"])
    assert len(set(peers)) > 1
    assert candidates[chosen].tolist() == peers


@pytest.mark.parametrize("shape", [(60, 15), (30, 50)])
def test_himalaya_chooses_the_same_alphas_and_predicts_the_same(shape):
    from himalaya.backend import set_backend
    from himalaya.ridge import RidgeCV

    set_backend("numpy")
    X, Y = problem(*shape, n_targets=25, noise=2.0)
    candidates = np.geomspace(0.1, 1e4, 11)
    folds = kfold(shape[0], 5)
    # Its default score is the squared error, averaged over folds, here of one size.
    peer = RidgeCV(alphas=candidates, cv=folds, fit_intercept=True, solver_params={"warn": False})
    peer.fit(X, Y)
    alphas = candidates[select_alphas(validation_errors(X, Y, candidates, folds)[0], candidates)]
    assert len(set(alphas)) > 2
    np.testing.assert_allclose(alphas, peer.best_alphas_, rtol=1e-12)
    coef, intercept = solve_ridge(X, Y, alphas)
    np.testing.assert_allclose(X @ coef.T + intercept, peer.predict(X), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize("shape", [(30, 9), (9, 30)])
def test_batches_of_targets_change_nothing(size, shape):
    X, Y = problem(*shape)
    alphas, folds = np.geomspace(1, 100, Y.shape[1]), kfold(shape[0], 3)
    whole = *solve_ridge(X, Y, alphas), *validation_errors(X, Y, [1.0, 9.0], folds)
    parts = (
        *solve_ridge(X, Y, alphas, n_targets_batch=size),
        *validation_errors(X, Y, [1.0, 9.0], folds, n_targets_batch=size),
    )
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)


@given(st.permutations(range(7)))
def test_targets_do_not_know_of_each_other(order):
    X, Y = problem(25, 10)
    alphas = np.geomspace(1, 100, 7)
    coef, intercept = solve_ridge(X, Y, alphas)
    moved, moved_intercept = solve_ridge(X, Y[:, order], alphas[list(order)])
    np.testing.assert_allclose(moved, coef[list(order)], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(moved_intercept, intercept[list(order)], rtol=1e-9)


@given(
    n_samples=st.integers(2, 25),
    n_features=st.integers(1, 25),
    log_alpha=st.floats(-3, 6),
    seed=st.integers(0, 1000),
)
def test_gradient_is_zero_at_the_solution(n_samples, n_features, log_alpha, seed):
    X, Y = problem(n_samples, n_features, n_targets=2, seed=seed)
    alpha = 10**log_alpha
    coef, intercept = solve_ridge(X, Y, np.full(2, alpha))
    residual = Y - X @ coef.T - intercept
    scale = np.abs(X).max() * np.abs(Y).max() * n_samples
    np.testing.assert_allclose(residual.sum(axis=0), 0, atol=1e-8 * scale)
    np.testing.assert_allclose(X.T @ residual, alpha * coef.T, atol=1e-7 * scale)


@given(shift=st.floats(-50, 50), factor=st.floats(0.1, 10), seed=st.integers(0, 100))
def test_shift_moves_the_intercept_and_scale_moves_all(shift, factor, seed):
    X, Y = problem(20, 6, seed=seed)
    alphas = np.full(Y.shape[1], 2.0)
    coef, intercept = solve_ridge(X, Y, alphas)
    changed, changed_intercept = solve_ridge(X, factor * Y + shift, alphas)
    np.testing.assert_allclose(changed, factor * coef, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(changed_intercept, factor * intercept + shift, rtol=1e-6, atol=1e-6)


def test_weights_shrink_as_alpha_grows():
    X, Y = problem(30, 10, n_targets=1)
    norms = [
        np.linalg.norm(solve_ridge(X, Y, np.array([a]))[0]) for a in np.geomspace(1e-3, 1e6, 10)
    ]
    assert (np.diff(norms) < 0).all()


@pytest.mark.parametrize("shape", [(400, 60), (60, 400)])
def test_single_precision_loses_no_directions(shape):
    """Correlated features and alphas from tiny to large, against double precision.

    The penalty decides what a direction of little variance gets, not the precision: a floor by
    single precision's measure would drop directions here that are within reach of alpha.
    """
    rng = np.random.default_rng(1)
    common = rng.normal(size=(shape[0], 1))
    X = 20 * common + 0.05 * rng.normal(size=shape)
    Y = X @ rng.normal(size=(shape[1], 5)) + rng.normal(size=(shape[0], 5))
    for alpha in (0.01, 0.1, 1.0, 100.0):
        alphas = np.full(5, alpha)
        expected = normal_equations(X, Y, alphas)
        coef, intercept = solve_ridge(X.astype(np.float32), Y.astype(np.float32), alphas)
        assert coef.dtype == np.float32 == intercept.dtype
        predicted, truth = X @ coef.T + intercept, X @ expected[0].T + expected[1]
        assert np.abs(predicted - truth).max() < 5e-3 * truth.std()
        closeness = np.corrcoef(coef.ravel(), expected[0].ravel())[0, 1]
        assert closeness > 0.995, (alpha, closeness)


def test_single_precision_predictions_are_close_to_double():
    X, Y = problem(300, 80, n_targets=20)
    alphas = np.geomspace(0.1, 1e4, 20)
    double = solve_ridge(X, Y, alphas)
    single = solve_ridge(X.astype(np.float32), Y.astype(np.float32), alphas)
    gap = (X @ single[0].T + single[1]) - (X @ double[0].T + double[1])
    assert np.abs(gap).max() < 1e-4 * Y.std()


@pytest.mark.parametrize("shape", [(30, 10), (10, 30)])
def test_alpha_zero_gives_the_least_squares_solution_of_least_norm(shape):
    X, Y = problem(*shape)
    X[:, 3] = X[:, 2]  # and so not of full rank
    coef, _ = solve_ridge(X, Y, np.zeros(Y.shape[1]))
    expected = np.linalg.pinv(X - X.mean(axis=0)) @ (Y - Y.mean(axis=0))
    np.testing.assert_allclose(coef, expected.T, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("shape", [(30, 10), (10, 30)])
@pytest.mark.parametrize("alpha", [1e-12, 1e-6])
def test_tiny_alphas_stay_finite_and_near_least_squares(shape, alpha):
    X, Y = problem(*shape)
    coef, intercept = solve_ridge(X, Y, np.full(Y.shape[1], alpha))
    expected = np.linalg.pinv(X - X.mean(axis=0)) @ (Y - Y.mean(axis=0))
    np.testing.assert_allclose(coef, expected.T, rtol=1e-4, atol=1e-6)
    assert np.isfinite(intercept).all()


def test_constant_features_get_no_weight():
    X, Y = problem(30, 10)
    X[:, 4] = 7.5
    coef, intercept = solve_ridge(X, Y, np.ones(Y.shape[1]))
    np.testing.assert_allclose(coef[:, 4], 0, atol=1e-9)
    without = solve_ridge(np.delete(X, 4, axis=1), Y, np.ones(Y.shape[1]))
    np.testing.assert_allclose(np.delete(coef, 4, axis=1), without[0], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(intercept, without[1], rtol=1e-7)


def test_features_that_are_all_constant_predict_the_mean():
    _, Y = problem(30, 10)
    coef, intercept = solve_ridge(np.ones((30, 4)), Y, np.zeros(Y.shape[1]))
    assert not coef.any()
    np.testing.assert_allclose(intercept, Y.mean(axis=0))


def test_inputs_are_left_as_they_were():
    X, Y = problem(30, 10)
    before = X.copy(), Y.copy()
    solve_ridge(X, Y, np.ones(Y.shape[1]))
    validation_errors(X, Y, [1.0], kfold(30, 3))
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


def test_equal_errors_choose_the_largest_alpha_in_whatever_order():
    errors = np.array([[1.0, 2.0, 5.0], [1.0, 1.0, 5.0], [3.0, 1.0, 5.0]])
    assert select_alphas(errors, [1.0, 10.0, 100.0]).tolist() == [1, 2, 2]
    assert select_alphas(errors[::-1], [100.0, 10.0, 1.0]).tolist() == [1, 0, 0]


def test_batch_size_is_the_given_one_or_fits_memory():
    X = np.zeros((10, 3))
    assert batch_size(X, 500, 17) == 17
    assert batch_size(X, 500) >= 500
    with pytest.raises(InputError, match="n_targets_batch must be at least 1; got 0"):
        batch_size(X, 500, 0)


def test_batches_bound_the_memory():
    """Neither function copies all responses, of which there may be gigabytes."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(1000, 20)), rng.normal(size=(1000, 6000))
    folds = kfold(1000, 3)
    tracemalloc.start()
    try:
        validation_errors(X, Y, [1.0, 10.0], folds, n_targets_batch=200)
        solve_ridge(X, Y, np.ones(6000), n_targets_batch=200)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.35 * Y.nbytes
