"""Kernel ridge against its linear system, scikit-learn, himalaya and our ridge on features."""

import tracemalloc

import numpy as np
import pytest
import sklearn.kernel_ridge
import sklearn.linear_model
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import KernelCenterer

from brainkit.errors import InputError, UnknownNameError
from brainkit.linear.folds import kfold
from brainkit.linear.kernel_solver import (
    Kernel,
    as_kernel,
    kernel_batch_size,
    kernel_predict,
    kernel_ridge_cv,
    solve_kernel_ridge,
)
from brainkit.linear.ridge_solver import ridge_cv, select_alphas, solve_ridge, validation_errors

NAMES = ["linear", "polynomial", "poly", "rbf", "cosine", "sigmoid"]
POSITIVE = ["linear", "polynomial", "rbf", "cosine"]  # semi-definite whatever the samples


def problem(n_samples=40, n_features=12, n_targets=6, seed=0, noise=1.0):
    """Features with offsets and unequal spreads, targets with offsets."""
    rng = np.random.default_rng([seed, n_samples, n_features])
    X = rng.normal(size=(n_samples, n_features)) * rng.uniform(0.2, 2, n_features)
    X += rng.normal(size=n_features)
    Y = np.tanh(X @ rng.normal(size=(n_features, n_targets)) / np.sqrt(n_features))
    Y += noise * rng.normal(size=Y.shape) + rng.normal(size=n_targets) * 10
    return X, Y


def in_closed_form(K, K_new, Y, alpha, fit_intercept):
    """Invert the system of one penalty, by scikit-learn's centring; return weights, predictions."""
    mean = Y.mean(axis=0) if fit_intercept else 0.0
    if fit_intercept:
        centre = KernelCenterer().fit(K)
        K, K_new = centre.transform(K), centre.transform(K_new)
    dual = np.linalg.solve(K + alpha * np.eye(len(K)), Y - mean)
    return dual, K_new @ dual + mean


@pytest.mark.parametrize("name", NAMES)
def test_kernels_are_those_of_scikit_learn(name):
    X, Z = problem(20)[0], problem(9, seed=1)[0][:, :12]
    constants = {"gamma": 0.07, "degree": 2, "coef0": 0.5}
    expected = pairwise_kernels(X, Z, metric=name, filter_params=True, **constants)
    np.testing.assert_allclose(Kernel(name, **constants)(X, Z), expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(as_kernel(name)(X), pairwise_kernels(X, metric=name), rtol=1e-10)


def test_kernels_compute_in_double_precision_and_leave_samples_alone():
    X = problem()[0].astype(np.float32)
    before = X.copy()
    for name in NAMES:
        values = as_kernel(name)(X)
        assert values.dtype == np.float64
        np.testing.assert_allclose(values, as_kernel(name)(X.astype(float)), rtol=1e-12)
        tensor = as_kernel(name)(torch.as_tensor(X))
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_allclose(tensor.numpy(), values, rtol=1e-10, atol=1e-12)
    np.testing.assert_array_equal(X, before)


def test_a_sample_of_zeros_has_cosine_zero_and_its_own_rbf_one():
    X = np.vstack([np.zeros(3), np.eye(3) * 1e4 + 1e8])
    assert as_kernel("cosine")(X)[0].tolist() == [0, 0, 0, 0]
    assert np.diag(Kernel("rbf", gamma=1e-3)(X)).max() <= 1


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("name", POSITIVE)
def test_solution_is_the_closed_form(name, fit_intercept):
    X, Y = problem()
    new = problem(7, seed=3)[0]
    kernel = as_kernel(name)
    alphas = np.geomspace(0.1, 100, Y.shape[1])
    options = {"kernel": name, "fit_intercept": fit_intercept}
    fit = solve_kernel_ridge(X, Y, alphas, **options)
    predicted = kernel_predict(new, X, fit, kernel=name)
    by_hand = kernel(new, X) @ fit.dual_coef + fit.intercept
    np.testing.assert_allclose(by_hand, predicted, rtol=1e-8)
    assert fit.dual_coef.shape == Y.shape
    for target, alpha in enumerate(alphas):
        expected = in_closed_form(kernel(X), kernel(new, X), Y, alpha, fit_intercept)
        np.testing.assert_allclose(
            fit.dual_coef[:, target], expected[0][:, target], rtol=1e-7, atol=1e-9
        )
        np.testing.assert_allclose(predicted[:, target], expected[1][:, target], rtol=1e-7)
    if not fit_intercept:
        assert not fit.intercept.any()


@pytest.mark.parametrize("name", [*NAMES, "precomputed"])
@pytest.mark.parametrize("alpha", [1.0, 31.6, 1000.0])
def test_scikit_learn_gives_the_same_without_an_intercept(name, alpha):
    X, Y = problem(30, 100, 3)
    new = problem(8, 100, seed=5)[0]
    if name == "precomputed":
        X, new = X @ X.T, new @ X.T
    peer = sklearn.kernel_ridge.KernelRidge(alpha=alpha, kernel=name).fit(X, Y)
    fit = solve_kernel_ridge(X, Y, np.full(3, alpha), kernel=name, fit_intercept=False)
    np.testing.assert_allclose(fit.dual_coef, peer.dual_coef_, rtol=1e-6, atol=1e-9)
    predicted = kernel_predict(new, X, fit, kernel=name)
    np.testing.assert_allclose(predicted, peer.predict(new), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("shape", [(40, 12), (20, 60)])
def test_a_linear_kernel_is_our_ridge(shape, fit_intercept):
    X, Y = problem(*shape)
    candidates, folds = np.geomspace(0.1, 1e4, 9), kfold(shape[0], 4)
    fit = kernel_ridge_cv(X, Y, candidates, folds, fit_intercept=fit_intercept)
    errors, total = validation_errors(X, Y, candidates, folds, fit_intercept=fit_intercept)
    np.testing.assert_allclose(fit.errors, errors, rtol=1e-7)
    np.testing.assert_allclose(fit.total, total, rtol=1e-10)
    alphas = candidates[select_alphas(errors, candidates)]
    np.testing.assert_array_equal(fit.alpha, alphas)
    coef, intercept = solve_ridge(X, Y, alphas, fit_intercept=fit_intercept)
    np.testing.assert_allclose(fit.dual_coef.T @ X, coef, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(fit.intercept, intercept, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("name", POSITIVE)
def test_errors_are_those_of_refits_and_alphas_those_of_a_grid_search(name):
    X, Y = problem(48, 10, 8)
    candidates, folds = np.geomspace(0.01, 1e3, 6), kfold(48, 4)
    fit = kernel_ridge_cv(X, Y, candidates, folds, kernel=name)
    kernel = as_kernel(name)
    sums = np.zeros((6, 8))
    for train, test in folds:
        for row, alpha in enumerate(candidates):
            K, K_new = kernel(X[train]), kernel(X[test], X[train])
            predicted = in_closed_form(K, K_new, Y[train], alpha, True)[1]
            sums[row] += ((Y[test] - predicted) ** 2).sum(axis=0)
    np.testing.assert_allclose(fit.errors, sums, rtol=1e-7)
    by_mean = sum(((Y[test] - Y[train].mean(axis=0)) ** 2).sum(axis=0) for train, test in folds)
    np.testing.assert_allclose(fit.total, by_mean, rtol=1e-10)
    np.testing.assert_array_equal(fit.alpha, candidates[np.argmin(sums, axis=0)])

    bare = kernel_ridge_cv(X, Y, candidates, folds, kernel=name, fit_intercept=False)
    for target in range(8):
        search = GridSearchCV(
            sklearn.kernel_ridge.KernelRidge(kernel=name), {"alpha": candidates}, cv=folds,
            scoring="neg_mean_squared_error",
        ).fit(X, Y[:, target])  # fmt: skip
        assert bare.alpha[target] == search.best_params_["alpha"]


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("name", ["linear", "polynomial", "rbf", "cosine", "sigmoid"])
def test_himalaya_chooses_the_same_alphas_and_weights(name, fit_intercept):
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import KernelRidgeCV

    set_backend("numpy")
    X, Y = problem(40, 60, 25)
    X, Y = X - X.mean(axis=0), Y - Y.mean(axis=0) + fit_intercept * 5
    new = problem(9, 60, seed=8)[0]
    candidates, folds = np.geomspace(1, 1e4, 9), kfold(40, 5)
    peer = KernelRidgeCV(
        alphas=candidates, kernel=name, cv=folds, fit_intercept=fit_intercept, warn=False
    ).fit(X, Y)
    fit = kernel_ridge_cv(X, Y, candidates, folds, kernel=name, fit_intercept=fit_intercept)
    assert len(set(fit.alpha)) > 1
    np.testing.assert_allclose(fit.alpha, peer.best_alphas_, rtol=1e-12)
    np.testing.assert_allclose(fit.dual_coef, peer.dual_coef_, rtol=1e-6, atol=1e-8)
    predicted = kernel_predict(new, X, fit, kernel=name)
    np.testing.assert_allclose(predicted, peer.predict(new), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", [*POSITIVE, "precomputed"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_torch_tensors_give_what_arrays_give(name, dtype):
    X, Y = (part.astype(dtype) for part in problem())
    X = X @ X.T if name == "precomputed" else X
    candidates, folds = [0.5, 5.0, 50.0], kfold(40, 5)
    expected = kernel_ridge_cv(X, Y, candidates, folds, kernel=name)
    tolerance = {"rtol": 2e-3, "atol": 2e-3} if dtype == np.float32 else {"rtol": 1e-8}
    as_tensors = [(torch.as_tensor(train), torch.as_tensor(test)) for train, test in folds]
    for used in (folds, as_tensors):
        fit = kernel_ridge_cv(
            torch.as_tensor(X), torch.as_tensor(Y), candidates, used, kernel=name,
            n_targets_batch=4,
        )  # fmt: skip
        assert fit.dual_coef.dtype == fit.intercept.dtype == torch.as_tensor(X).dtype
        for part in ("dual_coef", "intercept", "alpha", "errors", "total"):
            assert isinstance(getattr(fit, part), torch.Tensor)
            np.testing.assert_allclose(
                getattr(fit, part).numpy(), getattr(expected, part), **tolerance
            )
    predicted = kernel_predict(torch.as_tensor(X), torch.as_tensor(X), fit, kernel=name)
    same = kernel_predict(X, X, expected, kernel=name)
    np.testing.assert_allclose(predicted.numpy(), same, **tolerance)


@pytest.mark.parametrize("size", [1, 4, 100])
def test_batches_of_targets_change_nothing(size):
    X, Y = problem()
    candidates, folds = [1.0, 9.0], kfold(40, 3)
    whole = kernel_ridge_cv(X, Y, candidates, folds, kernel="rbf")
    parts = kernel_ridge_cv(X, Y, candidates, folds, kernel="rbf", n_targets_batch=size)
    for name in ("dual_coef", "intercept", "alpha", "errors", "total"):
        np.testing.assert_allclose(
            getattr(parts, name), getattr(whole, name), rtol=1e-9, atol=1e-11
        )
    predicted = kernel_predict(X, X, whole, kernel="rbf")
    in_parts = kernel_predict(X, X, whole, kernel="rbf", n_targets_batch=size)
    np.testing.assert_allclose(in_parts, predicted, rtol=1e-10)


def test_rows_of_a_prediction_do_not_know_of_each_other(monkeypatch):
    X, Y = problem()
    fit = solve_kernel_ridge(X, Y, np.ones(6), kernel="rbf")
    whole = kernel_predict(X, X, fit, kernel="rbf")
    monkeypatch.setattr("brainkit.linear.kernel_solver.ROWS_AT_ONCE", 7)
    np.testing.assert_allclose(kernel_predict(X, X, fit, kernel="rbf"), whole)
    np.testing.assert_allclose(kernel_predict(X[5:6], X, fit, kernel="rbf")[0], whole[5])


@given(st.permutations(range(6)), st.integers(0, 50))
def test_targets_do_not_know_of_each_other(order, seed):
    X, Y = problem(25, seed=seed)
    alphas = np.geomspace(1, 100, 6)
    fit = solve_kernel_ridge(X, Y, alphas, kernel="rbf")
    moved = solve_kernel_ridge(X, Y[:, order], alphas[list(order)], kernel="rbf")
    np.testing.assert_allclose(moved.dual_coef, fit.dual_coef[:, order], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(moved.intercept, fit.intercept[list(order)], rtol=1e-8, atol=1e-9)


@given(shift=st.floats(-50, 50), factor=st.floats(0.1, 10), seed=st.integers(0, 100))
def test_shift_moves_the_intercept_and_scale_moves_all(shift, factor, seed):
    X, Y = problem(20, seed=seed)
    fit = solve_kernel_ridge(X, Y, np.full(6, 2.0), kernel="polynomial")
    changed = solve_kernel_ridge(X, factor * Y + shift, np.full(6, 2.0), kernel="polynomial")
    np.testing.assert_allclose(changed.dual_coef, factor * fit.dual_coef, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(
        changed.intercept, factor * fit.intercept + shift, rtol=1e-6, atol=1e-6
    )


@given(seed=st.integers(0, 100), offset=st.floats(-1e3, 1e3))
def test_an_intercept_makes_a_constant_added_to_the_kernel_harmless(seed, offset):
    X, Y = problem(20, seed=seed)
    K = X @ X.T
    alphas = np.full(6, 3.0)
    fit = solve_kernel_ridge(K, Y, alphas, kernel="precomputed")
    moved = solve_kernel_ridge(K + offset, Y, alphas, kernel="precomputed")
    np.testing.assert_allclose(moved.dual_coef, fit.dual_coef, rtol=1e-5, atol=1e-8)
    np.testing.assert_allclose(fit.dual_coef.sum(axis=0), 0, atol=1e-10)
    np.testing.assert_allclose(moved.intercept, fit.intercept, rtol=1e-5, atol=1e-6)
    assert moved.kernel_mean == pytest.approx(fit.kernel_mean + offset, abs=1e-6)


def test_one_alpha_for_all_has_the_least_summed_error():
    X, Y = problem(noise=3.0)
    candidates, folds = np.geomspace(0.1, 1e4, 9), kfold(40, 4)
    each = kernel_ridge_cv(X, Y, candidates, folds, kernel="rbf")
    one = kernel_ridge_cv(X, Y, candidates, folds, kernel="rbf", alpha_per_target=False)
    assert set(one.alpha) == {candidates[np.argmin(each.errors.sum(axis=1))]}
    np.testing.assert_array_equal(one.errors, each.errors)


def test_equal_errors_choose_the_largest_alpha():
    X, _ = problem(20)
    flat = np.full((20, 2), 4.0)
    fit = kernel_ridge_cv(X, flat, [1.0, 100.0, 10.0], kfold(20, 4), kernel="rbf")
    assert fit.alpha.tolist() == [100.0, 100.0]
    np.testing.assert_allclose(fit.intercept, 4.0)
    assert not fit.dual_coef.any()


@pytest.mark.parametrize("name", ["linear", "rbf"])
def test_single_precision_predicts_as_double_does_though_features_have_large_offsets(name):
    X, Y = problem(200, 30, 10)
    X = (X + 100).astype(np.float32)
    new = X[:50]
    kernel = Kernel(name, gamma=0.01)
    alphas = np.geomspace(1, 1000, 10)
    double = solve_kernel_ridge(X.astype(float), Y, alphas, kernel=kernel)
    single = solve_kernel_ridge(X, Y.astype(np.float32), alphas, kernel=kernel)
    assert single.dual_coef.dtype == single.intercept.dtype == np.float32
    expected = kernel_predict(new.astype(float), X.astype(float), double, kernel=kernel)
    predicted = kernel_predict(new, X, single, kernel=kernel)
    assert predicted.dtype == np.float32
    assert np.abs(predicted - expected).max() < 1e-4 * Y.std()


def test_tiny_alphas_stay_finite_and_predict_as_least_squares():
    X, Y = problem(30, 8)
    fit = solve_kernel_ridge(X, Y, np.full(6, 1e-9))
    weights = np.linalg.pinv(X - X.mean(axis=0)) @ (Y - Y.mean(axis=0))
    expected = (X - X.mean(axis=0)) @ weights + Y.mean(axis=0)
    assert np.isfinite(fit.dual_coef).all()
    np.testing.assert_allclose(kernel_predict(X, X, fit), expected, rtol=1e-3, atol=1e-5)


def test_nan_in_a_target_stays_in_that_target():
    X, Y = problem()
    broken = Y.copy()
    broken[3, 2] = np.nan
    fit = kernel_ridge_cv(X, Y, [1.0, 10.0], kfold(40, 4), kernel="rbf")
    other = kernel_ridge_cv(X, broken, [1.0, 10.0], kfold(40, 4), kernel="rbf")
    kept = [0, 1, 3, 4, 5]
    np.testing.assert_allclose(other.dual_coef[:, kept], fit.dual_coef[:, kept], rtol=1e-10)
    assert np.isnan(other.dual_coef[:, 2]).all()


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_no_targets_give_empty_solutions(kind):
    X, Y = kind(problem()[0]), kind(np.empty((40, 0)))
    fit = kernel_ridge_cv(X, Y, [1.0, 2.0], kfold(40, 4))
    assert tuple(fit.dual_coef.shape) == (40, 0)
    assert tuple(fit.errors.shape) == (2, 0)
    assert tuple(fit.alpha.shape) == tuple(fit.intercept.shape) == (0,)
    assert tuple(kernel_predict(X, X, fit).shape) == (40, 0)


def test_responses_in_a_file_give_what_responses_in_memory_give(tmp_path):
    import h5py

    X, Y = problem()
    fit = kernel_ridge_cv(X, Y, [1.0, 10.0], kfold(40, 4), kernel="rbf")
    with h5py.File(tmp_path / "responses.h5", "w") as file:
        stored = file.create_dataset("responses", data=Y)
        lazy = kernel_ridge_cv(
            X, stored, [1.0, 10.0], kfold(40, 4), kernel="rbf", n_targets_batch=4
        )
    np.testing.assert_allclose(lazy.dual_coef, fit.dual_coef, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(lazy.errors, fit.errors, rtol=1e-9)


@pytest.mark.parametrize("n_samples", [10, 30])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_a_weighted_sum_of_kernels_is_a_kernel_of_scaled_features_side_by_side(
    n_samples, fit_intercept
):
    """More targets than samples, penalties over seven decades, against ridge on features."""
    rng = np.random.default_rng(n_samples)
    spaces = [rng.normal(size=(n_samples, width)) + 1.1 for width in (100, 200)]
    Y, weights = rng.normal(size=(n_samples, 20)) - 8, (0.3, 0.8)
    K = sum(weight * X @ X.T for weight, X in zip(weights, spaces, strict=True))
    scaled = np.hstack([weight**0.5 * X for weight, X in zip(weights, spaces, strict=True)])
    for alpha in np.geomspace(1e-2, 1e5, 7):
        options = {"fit_intercept": fit_intercept}
        fit = solve_kernel_ridge(K, Y, np.full(20, alpha), kernel="precomputed", **options)
        peer = sklearn.linear_model.Ridge(alpha=alpha, **options).fit(scaled, Y)
        predicted = kernel_predict(K, None, fit, kernel="precomputed")
        np.testing.assert_allclose(predicted, peer.predict(scaled), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("name", POSITIVE)
def test_leaving_one_out_is_as_many_folds_as_samples(name, fit_intercept):
    X, Y = problem(25, 40)
    candidates, folds = np.geomspace(0.1, 1e3, 5), kfold(25, 25)
    options = {"kernel": name, "fit_intercept": fit_intercept}
    fit = kernel_ridge_cv(X, Y, candidates, "loo", **options)
    slow = kernel_ridge_cv(X, Y, candidates, folds, **options)
    np.testing.assert_allclose(fit.errors, slow.errors, rtol=1e-7)
    np.testing.assert_allclose(fit.total, slow.total, rtol=1e-8)
    np.testing.assert_allclose(fit.dual_coef, slow.dual_coef, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("way", ["loo", "gcv"])
@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
def test_a_linear_kernel_is_our_ridge_where_single_samples_are_left_out(way, kind):
    X, Y = problem(30, 50, 20, noise=2.0)
    candidates = np.geomspace(0.1, 1e4, 9)
    fit = kernel_ridge_cv(kind(X), kind(Y), candidates, way, n_targets_batch=7)
    peer = ridge_cv(X, Y, candidates, way)
    assert len(set(np.asarray(fit.alpha))) > 1
    np.testing.assert_allclose(np.asarray(fit.alpha), peer.alpha)
    np.testing.assert_allclose(np.asarray(fit.errors), peer.errors, rtol=1e-7)
    np.testing.assert_allclose(np.asarray(fit.dual_coef).T @ X, peer.coef, rtol=1e-6, atol=1e-9)


def test_one_penalty_may_be_a_number():
    X, Y = problem()
    fit = kernel_ridge_cv(X, Y, 3.0, kfold(40, 4), kernel="rbf")
    np.testing.assert_array_equal(fit.alpha, np.full(6, 3.0))


def test_inputs_are_left_as_they_were():
    X, Y = problem()
    K = X @ X.T
    before = K.copy(), Y.copy()
    fit = kernel_ridge_cv(K, Y, [1.0], kfold(40, 3), kernel="precomputed")
    kernel_predict(K, None, fit, kernel="precomputed")
    np.testing.assert_array_equal(K, before[0])
    np.testing.assert_array_equal(Y, before[1])


def test_batches_bound_the_memory():
    """Responses are never copied as a whole, but for the weights that are returned."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(300, 20)), rng.normal(size=(300, 20000))
    tracemalloc.start()
    try:
        kernel_ridge_cv(X, Y, [1.0, 10.0], kfold(300, 3), kernel="rbf", n_targets_batch=500)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.35 * Y.nbytes


def test_batch_size_is_the_given_one_or_fits_memory():
    assert kernel_batch_size(np.ones((10, 3)), 500, 17) == 17
    assert kernel_batch_size(np.ones((10, 3)), 500) >= 500
    with pytest.raises(InputError, match="n_targets_batch must be at least 1; got 0"):
        kernel_batch_size(np.ones((10, 3)), 500, 0)


def test_an_unknown_kernel_names_the_nearest():
    X, Y = problem()
    with pytest.raises(UnknownNameError, match=r"Unknown kernel 'rfb': .* Did you mean 'rbf'"):
        solve_kernel_ridge(X, Y, np.ones(6), kernel="rfb")


@pytest.mark.parametrize(
    ("constants", "message"),
    [
        ({"gamma": 0.0}, "gamma must be a positive number, or None for 1 / n_features; got 0.0"),
        ({"gamma": np.inf}, "gamma must be a positive number"),
        ({"degree": 0}, "degree must be a whole number from 1; got 0"),
        ({"degree": 2.5}, "degree must be a whole number from 1; got 2.5"),
        ({"coef0": np.nan}, "coef0 must be a finite number; got nan"),
    ],
)
def test_constants_of_kernels_are_checked(constants, message):
    with pytest.raises(InputError, match=message):
        Kernel("polynomial", **constants)


def test_penalties_must_be_positive(bad_penalties):
    X, Y = problem()
    with pytest.raises(InputError, match=r"alphas must be .*positive numbers, at least one"):
        kernel_ridge_cv(X, Y, bad_penalties, kfold(40, 4))


@pytest.mark.parametrize("alphas", [np.ones(5), np.ones((6, 1)), -np.ones(6), "1", ["1"] * 6, True])
def test_a_positive_penalty_for_each_target(alphas):
    X, Y = problem()
    with pytest.raises(
        InputError, match="alphas must be one penalty that is not negative for each of the 6"
    ):
        solve_kernel_ridge(X, Y, alphas)


def test_a_penalty_for_all_is_that_penalty_for_each_target():
    X, Y = problem()
    expected = solve_kernel_ridge(X, Y, np.full(6, 3.0), kernel="rbf").dual_coef
    for alphas in (3.0, [3.0]):
        found = solve_kernel_ridge(X, Y, alphas, kernel="rbf").dual_coef
        np.testing.assert_array_equal(found, expected)


def test_shapes_that_do_not_fit():
    X, Y = problem()
    with pytest.raises(
        InputError, match=r"Features \(40, 12\) and targets \(39, 6\) must have the same"
    ):
        solve_kernel_ridge(X, Y[:-1], np.ones(6))
    with pytest.raises(InputError, match=r"got shapes \(40, 12\) and \(40,\)"):
        solve_kernel_ridge(X, Y[:, 0], np.ones(1))
    with pytest.raises(InputError, match=r"is square, .* got \(40, 12\)"):
        solve_kernel_ridge(X, Y, np.ones(6), kernel="precomputed")
    with pytest.raises(InputError, match="X must be floating point; got int64"):
        solve_kernel_ridge(X.astype(np.int64), Y, np.ones(6))
    with pytest.raises(InputError, match=r"one number of features; got \(40, 12\) and \(40, 11\)"):
        as_kernel("linear")(X, X[:, 1:])
    fit = solve_kernel_ridge(X, Y, np.ones(6))
    with pytest.raises(InputError, match=r"weights are of 40 training samples: X of shape"):
        kernel_predict(X, X[:30], fit)
    with pytest.raises(InputError, match=r"do not give that many columns of a precomputed kernel"):
        kernel_predict(X, None, fit, kernel="precomputed")
    with pytest.raises(InputError, match=r"X_fit of None"):
        kernel_predict(X @ X.T, None, fit)


def test_precomputed_kernels_must_be_symmetric_finite_and_of_inner_products():
    X, Y = problem()
    K = X @ X.T
    lopsided = K.copy()
    lopsided[3, 4] += 0.1
    with pytest.raises(InputError, match=r"is symmetric; this one differs .* by up to 0\.1"):
        solve_kernel_ridge(lopsided, Y, np.ones(6), kernel="precomputed")
    for bad in (np.nan, np.inf):
        broken = K.copy()
        broken[2, 2] = bad
        with pytest.raises(InputError, match="kernel holds NaN or infinity"):
            solve_kernel_ridge(broken, Y, np.ones(6), kernel="precomputed")
    with pytest.raises(InputError, match=r"eigenvalues from -.* to .*, so it is not one of"):
        solve_kernel_ridge(-K, Y, np.ones(6), kernel="precomputed")


def test_penalties_above_an_indefinite_kernels_least_eigenvalue_solve_the_system():
    X, Y = problem()
    K = X @ X.T - 5 * np.eye(40)
    fit = solve_kernel_ridge(K, Y, np.full(6, 20.0), kernel="precomputed", fit_intercept=False)
    dual = fit.dual_coef
    np.testing.assert_allclose((K + 20 * np.eye(40)) @ dual, Y, rtol=1e-8, atol=1e-10)
    folds = kfold(40, 4)
    options = {"kernel": "precomputed", "fit_intercept": False}
    errors = kernel_ridge_cv(K, Y, [20.0, 30.0], folds, **options).errors
    same = kernel_ridge_cv(X @ X.T, Y, [15.0, 25.0], folds, **options).errors
    np.testing.assert_allclose(errors, same, rtol=1e-8)


def test_eigenvalues_a_little_negative_count_as_zero_where_alpha_does_not_outweigh_them():
    """Integers instead of a kernel's values, say."""
    X, Y = problem()
    values, vectors = np.linalg.eigh(X @ X.T)
    values[:3] = -2.0, -1.5, -0.5
    fit = solve_kernel_ridge(
        vectors @ np.diag(values) @ vectors.T, Y, np.ones(6), kernel="precomputed",
        fit_intercept=False,
    )  # fmt: skip
    expected = vectors @ (vectors.T @ Y / (np.maximum(values, 0)[:, None] + 1))
    np.testing.assert_allclose(fit.dual_coef, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize(
    ("fold", "message"),
    [
        (([], [0, 1]), "Fold 1 has 0 training and 2 held-out rows"),
        (([0, 1], []), "Fold 1 has 2 training and 0 held-out rows"),
        (([0, 1], [40]), "both must be some of the rows 0 to 39"),
        (([0, -1], [2]), "both must be some of the rows 0 to 39"),
        (([0, 1, 2], [2, 3]), "Fold 1 trains on 1 of the rows that it holds out"),
    ],
)
def test_folds_are_checked(fold, message):
    X, Y = problem()
    with pytest.raises(InputError, match=message):
        kernel_ridge_cv(X, Y, [1.0], [fold])


def test_no_folds_at_all():
    X, Y = problem()
    with pytest.raises(UnknownNameError, match="Unknown way to leave samples out 'lou'"):
        kernel_ridge_cv(X, Y, [1.0], "lou")
    with pytest.raises(InputError, match="No folds were given"):
        kernel_ridge_cv(X, Y, [1.0], [])
