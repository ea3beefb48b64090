"""Banded ridge with given weights: normal equations, our search and our ridge, bad input."""

import h5py
import numpy as np
import pytest
import torch

from brainkit.errors import InputError
from brainkit.linear.banded import banded_ridge_cv
from brainkit.linear.banded_solve import solve_banded_ridge
from brainkit.linear.folds import kfold
from brainkit.linear.ridge import solve_ridge

BANDS = [4, 6]
WEIGHTS = np.array([[0.2, 0.8], [1.0, 0.0], [0.2, 0.8], [0.0, 1.0], [3.0, 0.5]])
PENALTIES = np.array([0.5, 2.0, 30.0, 1.0, 7.0])


def problem(n_samples=30, dtype=np.float64):
    rng = np.random.default_rng(n_samples)
    X = rng.normal(size=(n_samples, 10)) + 2
    Y = X @ rng.normal(size=(10, 5)) + rng.normal(size=(n_samples, 5)) - 4
    return X.astype(dtype), Y.astype(dtype)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_samples", [30, 8])
def test_each_target_meets_the_normal_equations_of_its_own_penalties(n_samples, fit_intercept):
    X, Y = problem(n_samples)
    coef, intercept = solve_banded_ridge(
        X, Y, BANDS, WEIGHTS, PENALTIES, fit_intercept=fit_intercept, n_targets_batch=1
    )
    x_mean = X.mean(axis=0) * fit_intercept
    for target in range(5):
        y_mean = Y[:, target].mean() * fit_intercept
        weight = np.repeat(WEIGHTS[target], BANDS)
        on = weight > 0
        Z = (X - x_mean)[:, on]
        inner = Z.T @ Z + np.diag(PENALTIES[target] / weight[on])
        expected = np.linalg.solve(inner, Z.T @ (Y[:, target] - y_mean))
        np.testing.assert_allclose(coef[target, on], expected, rtol=1e-8, atol=1e-10)
        assert (coef[target, ~on] == 0).all()
        np.testing.assert_allclose(intercept[target], y_mean - coef[target] @ x_mean, rtol=1e-8)


@pytest.mark.parametrize("n_samples", [30, 8])
def test_what_a_search_found_gives_its_solution_again(n_samples):
    X, Y = problem(n_samples)
    fit = banded_ridge_cv(X, Y, BANDS, [0.1, 1.0, 10.0], kfold(n_samples, 4), n_draws=9)
    coef, intercept = solve_banded_ridge(X, Y, BANDS, fit.weights, fit.alpha)
    np.testing.assert_allclose(coef, fit.coef, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(intercept, fit.intercept, rtol=1e-7, atol=1e-9)


def test_equal_weights_are_ridge_and_their_sum_divides_the_penalty():
    X, Y = problem()
    expected = solve_ridge(X, Y, 2.0)
    one = solve_banded_ridge(X, Y, BANDS, [1.0, 1.0], 2.0)
    half = solve_banded_ridge(X, Y, BANDS, [0.5, 0.5], 1.0)
    for found in (one, half):
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-9)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-9)


def test_without_any_band_the_mean_is_predicted():
    X, Y = problem()
    coef, intercept = solve_banded_ridge(X, Y, BANDS, [0.0, 0.0], 1.0)
    assert not coef.any()
    np.testing.assert_allclose(intercept, Y.mean(axis=0))
    assert not solve_banded_ridge(X, Y, BANDS, [0.0, 0.0], 1.0, fit_intercept=False)[1].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_tensors_and_files_give_what_arrays_give(dtype, tmp_path):
    expected = solve_banded_ridge(*problem(), BANDS, WEIGHTS, PENALTIES)
    X, Y = problem(dtype=dtype)
    tolerance = {"rtol": 2e-4, "atol": 2e-4} if dtype == np.float32 else {"rtol": 1e-8}
    tensors = [torch.as_tensor(values) for values in (X, Y, WEIGHTS, PENALTIES)]
    found = solve_banded_ridge(*tensors[:2], BANDS, *tensors[2:])
    assert isinstance(found[0], torch.Tensor)
    assert found[0].dtype == tensors[0].dtype
    with h5py.File(tmp_path / "y.h5", "w") as file:
        lazy = file.create_dataset("responses", data=Y)
        streamed = solve_banded_ridge(X, lazy, BANDS, WEIGHTS, PENALTIES, n_targets_batch=1)
    for part in range(2):
        np.testing.assert_allclose(found[part].numpy(), expected[part], **tolerance)
        np.testing.assert_allclose(streamed[part], expected[part], **tolerance)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"weights": np.ones(3)}, r"one for each of the 2 bands, \(2,\), or .* got \(3,\)"),
        ({"weights": np.ones((4, 2))}, r"the 5 targets, \(5, 2\); got \(4, 2\)"),
        ({"weights": [1.0, -0.5]}, "must be finite and not negative; got -0.5 to 1.0"),
        ({"weights": [1.0, np.inf]}, "must be finite"),
        (
            {"alphas": -1.0},
            "one penalty that is not negative for each of the 5 targets, or one for all",
        ),
        ({"alphas": np.ones(4)}, "one penalty that is not negative for each of the 5 targets"),
        ({"bands": [4, 5]}, "sum of 9 for 10 features"),
        ({"Y": np.zeros((29, 5))}, "same number of samples"),
    ],
)
def test_bad_input_is_refused(changed, said):
    X, Y = problem()
    given = {"X": X, "Y": Y, "bands": BANDS, "weights": WEIGHTS, "alphas": PENALTIES} | changed
    with pytest.raises(InputError, match=said):
        solve_banded_ridge(**given)
