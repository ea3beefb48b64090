"""Ridge against its normal equations, scikit-learn, himalaya and itself in other clothes.

Selection and solution in one pass: precision, folds of any kind, files larger than memory.

Blocks of targets fitted together are what they are one by one.
"""

import tracemalloc

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, PredefinedSplit

from brainkit.arrays.sources import Memory
from brainkit.errors import InputError
from brainkit.linear import cross_validation, ridge_solver
from brainkit.linear.cross_validation import is_partition
from brainkit.linear.folds import kfold
from brainkit.linear.ridge_solver import (
    TargetBlock,
    batch_size,
    decompose,
    is_primal,
    ridge_blocks,
    ridge_cv,
    select_alphas,
    solve_ridge,
    validation_errors,
)

SHAPES = [(60, 12), (12, 60), (20, 20), (21, 20)]  # primal, dual, and around the border
CV_SHAPES = [(90, 12), (40, 30), (20, 50)]  # more held-out samples than features, fewer, dual
ALPHAS = (1.0, 10.0, 100.0)


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
    monkeypatch.setattr(ridge_solver, "is_primal", lambda *shape: False)
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


def cv_problem(n_samples, n_features, n_targets=11, seed=0):
    rng = np.random.default_rng([seed, n_samples, n_features])
    X = rng.normal(size=(n_samples, n_features)) * np.geomspace(3, 0.05, n_features) + 2
    Y = X @ rng.normal(size=(n_features, n_targets)) + 20
    return X, Y + rng.normal(size=Y.shape) * np.geomspace(0.3, 30, n_targets)


@pytest.mark.parametrize("shape", CV_SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_choice_and_solution_are_those_of_the_two_steps(shape, fit_intercept):
    X, Y = cv_problem(*shape)
    alphas, folds = np.geomspace(1e-2, 1e4, 9), kfold(shape[0], 4)
    found = ridge_cv(X, Y, alphas, folds, fit_intercept=fit_intercept, n_targets_batch=4)
    errors, total = validation_errors(X, Y, alphas, folds, fit_intercept=fit_intercept)
    np.testing.assert_allclose(found.errors, errors, rtol=1e-9)
    np.testing.assert_allclose(found.total, total, rtol=1e-9)
    assert found.alpha.tolist() == alphas[errors.argmin(axis=0)].tolist()
    assert len(set(found.alpha)) > 1
    expected = solve_ridge(X, Y, found.alpha, fit_intercept=fit_intercept)
    np.testing.assert_allclose(found.coef, expected[0], rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(found.intercept, expected[1], rtol=1e-7, atol=1e-9)
    assert found.batch_size == 4


@pytest.mark.parametrize("shape", CV_SHAPES)
def test_folds_need_not_hold_every_sample_out(shape):
    X, Y = cv_problem(*shape)
    n = shape[0]
    folds = [
        (np.arange(n // 2), np.arange(n // 2, n - 3)),
        (np.arange(5, n), np.arange(4)),
        (np.r_[0 : n // 3, n // 2 : n], np.arange(n // 3, n // 2)),
    ]
    assert not is_partition(n, folds)
    errors, total = validation_errors(X, Y, [0.5, 50.0], folds)
    for row, alpha in zip(errors, [0.5, 50.0], strict=True):
        sums = np.zeros(Y.shape[1])
        for train, test in folds:
            model = Ridge(alpha=alpha).fit(X[train], Y[train])
            sums += ((Y[test] - model.predict(X[test])) ** 2).sum(axis=0)
        np.testing.assert_allclose(row, sums, rtol=1e-7)
    means = sum(((Y[test] - Y[train].mean(axis=0)) ** 2).sum(axis=0) for train, test in folds)
    np.testing.assert_allclose(total, means, rtol=1e-10)


@pytest.mark.parametrize("shape", CV_SHAPES[:2])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_shared_products_are_those_of_folds_on_their_own(monkeypatch, shape, fit_intercept):
    X, Y = cv_problem(*shape)
    groups = np.arange(shape[0]) ** 2 % 7  # folds of unequal sizes
    folds = kfold(shape[0], 3, groups=groups)
    assert is_partition(shape[0], folds)
    shared = validation_errors(X, Y, [0.1, 9.0], folds, fit_intercept=fit_intercept)
    monkeypatch.setattr(ridge_solver, "is_partition", lambda *given: False)
    alone = validation_errors(X, Y, [0.1, 9.0], folds, fit_intercept=fit_intercept)
    np.testing.assert_allclose(shared[0], alone[0], rtol=1e-9)
    np.testing.assert_allclose(shared[1], alone[1], rtol=1e-9)


def test_a_train_part_that_leaves_samples_unused_is_no_partition():
    folds = kfold(12, 3)
    assert is_partition(12, folds)
    assert not is_partition(12, [(train[1:], test) for train, test in folds])
    assert not is_partition(12, folds[:2])
    assert not is_partition(12, [(np.arange(12)[:8], test) for _, test in folds])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("spread", [1.0, 1e-3])
def test_single_precision_finds_the_losses_of_double_precision(kind, spread):
    """Within 1e-5 of every loss, for spectra that are flat and that span decades."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(600, 100)) * np.geomspace(1, spread, 100)
    Y = X @ rng.normal(size=(100, 40)) * 0.1 + rng.normal(size=(600, 40)) + 3
    alphas, folds = np.geomspace(0.1, 1e4, 10), kfold(600, 5)
    errors, total = validation_errors(X, Y, alphas, folds)
    single = kind(X.astype(np.float32)), kind(Y.astype(np.float32))
    found = ridge_cv(*single, alphas, folds)
    np.testing.assert_allclose(np.asarray(found.errors), errors, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found.total), total, rtol=1e-6)
    least = np.take_along_axis(errors, np.asarray(found.chosen)[None], axis=0)[0]
    np.testing.assert_allclose(least, errors.min(axis=0), rtol=1e-5)


class Counted(Memory):
    """A lazy source that counts how often each column is read."""

    def __init__(self, array):
        super().__init__(array)
        self.reads = np.zeros(self.shape[1], dtype=int)

    def read(self, rows=None, columns=None):
        self.reads[columns] += 1
        return super().read(rows, columns)


def test_targets_in_a_file_are_read_once_and_by_batches(tmp_path):
    X, Y = (part.astype(np.float32) for part in cv_problem(90, 12))
    alphas, folds = [0.1, 1.0, 100.0], kfold(90, 3)
    expected = ridge_cv(X, Y, alphas, folds, n_targets_batch=4)
    source = Counted(Y)
    found = ridge_cv(X, source, alphas, folds, n_targets_batch=4)
    np.testing.assert_array_equal(found.coef, expected.coef)
    assert source.reads.tolist() == [1] * 11
    ridge_cv(X, source, alphas, folds, n_targets_batch=4, alpha_per_target=False)
    assert source.reads.tolist() == [3] * 11
    with h5py.File(tmp_path / "y.h5", "w") as file:
        data = file.create_dataset("responses", data=Y)
        found = ridge_cv(torch.as_tensor(X), data, alphas, folds, n_targets_batch=4)
    np.testing.assert_allclose(found.coef.numpy(), expected.coef, rtol=1e-3, atol=1e-4)


def test_one_penalty_for_all_targets_has_the_least_summed_error():
    X, Y = cv_problem(40, 30)
    alphas, folds = np.geomspace(1e-2, 1e4, 9), kfold(40, 4)
    found = ridge_cv(X, Y, alphas, folds, alpha_per_target=False)
    errors, _ = validation_errors(X, Y, alphas, folds)
    assert set(found.alpha) == {alphas[errors.sum(axis=1).argmin()]}
    np.testing.assert_allclose(found.coef, solve_ridge(X, Y, found.alpha)[0], rtol=1e-8)


def test_bad_input_says_what_is_wrong():
    X, Y = cv_problem(40, 30)
    with pytest.raises(InputError, match=r"Features \(40, 30\) and targets \(39, 11\).*40 and 39"):
        ridge_cv(X, Y[:39], [1.0], kfold(40, 4))
    with pytest.raises(InputError, match=r"\(40, 30\) and \(40,\)"):
        ridge_cv(X, Y[:, 0], [1.0], kfold(40, 4))
    for alphas in ([-1.0], [], [np.nan], ["many"], ["1"], [True], [[1.0]]):
        with pytest.raises(InputError, match="alphas must be positive"):
            ridge_cv(X, Y, alphas, kfold(40, 4))


def test_groups_of_one_are_samples_on_their_own():
    X, Y = cv_problem(40, 12)
    one = ridge_cv(X, Y, [1.0, 10.0], kfold(40, 5, groups=np.arange(40)))
    none = ridge_cv(X, Y, [1.0, 10.0], kfold(40, 5))
    np.testing.assert_array_equal(one.coef, none.coef)


@pytest.mark.parametrize("shape", CV_SHAPES)
def test_a_penalty_for_all_is_that_penalty_for_each_target(shape):
    X, Y = cv_problem(*shape)
    expected = solve_ridge(X, Y, np.full(Y.shape[1], 3.0))
    for alphas in (3.0, [3.0], np.float32(3), torch.tensor(3.0)):
        for found, other in zip(solve_ridge(X, Y, alphas), expected, strict=True):
            np.testing.assert_array_equal(found, other)
    mixed = np.geomspace(0.1, 10, Y.shape[1])
    tensors = torch.as_tensor(X), torch.as_tensor(Y)
    for penalties in (mixed, mixed.tolist(), torch.as_tensor(mixed)):
        found = solve_ridge(*tensors, penalties)[0]
        np.testing.assert_allclose(found, solve_ridge(X, Y, mixed)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alphas", [np.ones(10), np.ones((11, 1)), -1.0, np.nan, "many", None])
def test_penalties_that_are_not_one_for_each_target_are_refused(alphas):
    X, Y = cv_problem(40, 30)
    with pytest.raises(InputError, match="one penalty that is not negative for each of the 11"):
        solve_ridge(X, Y, alphas)


def test_features_in_whole_numbers_are_refused_not_rounded():
    X, Y = cv_problem(40, 12)
    for solve in (
        lambda X: ridge_cv(X, Y, [1.0], kfold(40, 4)),
        lambda X: validation_errors(X, Y, [1.0], kfold(40, 4)),
        lambda X: solve_ridge(X, Y, 1.0),
    ):
        with pytest.raises(InputError, match="X must be floating point; got int64"):
            solve(np.round(X).astype(np.int64))


@pytest.mark.parametrize("shape", CV_SHAPES)
def test_folds_may_be_a_generator_lists_or_masks(shape):
    X, Y = cv_problem(*shape)
    folds = kfold(shape[0], 4)
    expected = ridge_cv(X, Y, [0.1, 1.0, 10.0], folds)
    masks = [(~np.isin(range(shape[0]), test), np.isin(range(shape[0]), test)) for _, test in folds]
    for form in (iter(folds), [[part.tolist() for part in fold] for fold in folds], masks):
        np.testing.assert_array_equal(ridge_cv(X, Y, [0.1, 1.0, 10.0], form).errors,
                                      expected.errors)  # fmt: skip


def test_folds_are_checked():
    X, Y = cv_problem(40, 12)
    for fold, said in (
        (([0, 1], [40]), "both must be some of the rows 0 to 39"),
        (([-1, 1], [2]), "both must be some of the rows 0 to 39"),
        (([0, 1, 2], [2, 3]), "trains on 1 of the rows that it holds out"),
        (([0, 1, 2], []), "3 training and 0 held-out rows"),
    ):
        with pytest.raises(InputError, match=said):
            ridge_cv(X, Y, [1.0], [fold])
    with pytest.raises(InputError, match="No folds were given"):
        ridge_cv(X, Y, [1.0], [])


def samples(n, n_features, n_targets, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, n_features)) + 3
    Y = X @ rng.normal(size=(n_features, n_targets)) / n_features**0.5
    Y += rng.normal(size=Y.shape) + 5
    return X.astype(dtype), Y.astype(dtype)


def by_hand(X, Y, alphas, folds):
    """Held-out predictions at each penalty, (n_alphas, n_samples, n_targets), by scikit-learn."""
    held = np.empty((len(alphas), *Y.shape))
    for number, alpha in enumerate(alphas):
        for train, test in folds:
            held[number, test] = Ridge(alpha=alpha).fit(X[train], Y[train]).predict(X[test])
    return held


@pytest.mark.parametrize("n_features", [8, 60])
@pytest.mark.parametrize("size", [2, 100])
def test_each_block_is_what_scikit_learn_finds(n_features, size):
    X, Y = samples(40, n_features, 7)
    folds = kfold(40, 4)
    blocks = [TargetBlock(Y[:, :5], ALPHAS, size), TargetBlock(Y[:, 5:], (50.0, 0.5), size)]
    for block, fit in zip(blocks, ridge_blocks(X, blocks, folds), strict=True):
        held = by_hand(X, block.targets, block.alphas, folds)
        errors = np.square(held - block.targets).sum(axis=(1, 2))
        best = int(np.argmin(errors))
        assert fit.alpha == block.alphas[best]
        plain = Ridge(alpha=fit.alpha).fit(X, block.targets)
        np.testing.assert_allclose(fit.coef, plain.coef_, atol=1e-9)
        np.testing.assert_allclose(fit.intercept, plain.intercept_, atol=1e-8)
        np.testing.assert_allclose(fit.predicted_mean, held[best].mean(axis=0), atol=1e-9)
        np.testing.assert_allclose(fit.predicted_scale, held[best].std(axis=0), rtol=1e-7)
        means = np.concatenate(
            [np.tile(block.targets[train].mean(axis=0), (len(test), 1)) for train, test in folds]
        )
        in_turn = np.concatenate([test for _, test in folds])
        total = np.square(block.targets[in_turn] - means).sum(axis=0)
        left = np.square(held[best] - block.targets).sum(axis=0)
        np.testing.assert_allclose(fit.cv_r2, 1 - left / total, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([5, 50]))
def test_targets_in_another_order_are_samples_in_the_order_that_undoes_it(seed, n_features):
    X, Y = samples(30, n_features, 3)
    order = np.random.default_rng(seed).permutation(30)
    folds = kfold(30, 3)
    (fit,) = ridge_blocks(X, [TargetBlock(Y, ALPHAS, 10, rows=order)], folds)
    back = np.argsort(order)
    moved = [(np.sort(order[train]), np.sort(order[test])) for train, test in folds]
    (same,) = ridge_blocks(X[back], [TargetBlock(Y, ALPHAS, 10)], moved)
    assert fit.alpha == same.alpha
    np.testing.assert_allclose(fit.coef, same.coef, atol=1e-9)
    np.testing.assert_allclose(fit.intercept, same.intercept, atol=1e-8)
    np.testing.assert_allclose(fit.predicted_scale, same.predicted_scale, atol=1e-9)


def test_the_samples_are_decomposed_once_for_all_blocks(monkeypatch):
    X, Y = samples(40, 60, 6)
    done = []
    original = cross_validation.decompose
    monkeypatch.setattr(
        cross_validation,
        "decompose",
        lambda X, *a, **b: done.append(len(X)) or original(X, *a, **b),
    )
    monkeypatch.setattr(ridge_solver, "decompose", cross_validation.decompose)
    order = np.arange(40)[::-1].copy()
    blocks = [TargetBlock(Y, ALPHAS, 2), TargetBlock(Y, ALPHAS, 2, rows=order)] * 2
    ridge_blocks(X, blocks, kfold(40, 4))
    assert done == [30, 30, 30, 30, 40]


def test_single_precision_stays_and_nothing_given_is_changed():
    X, Y = samples(40, 60, 4, dtype=np.float32)
    before = X.copy(), Y.copy()
    (fit,) = ridge_blocks(X, [TargetBlock(Y, ALPHAS, 3)], kfold(40, 4))
    assert fit.coef.dtype == fit.intercept.dtype == np.float32
    double = ridge_blocks(X.astype(float), [TargetBlock(Y.astype(float), ALPHAS, 3)], kfold(40, 4))[
        0
    ]
    np.testing.assert_allclose(fit.coef, double.coef, atol=1e-4)
    np.testing.assert_array_equal(X, before[0])
    np.testing.assert_array_equal(Y, before[1])


def test_of_equal_errors_the_largest_penalty_and_no_r2_of_a_constant():
    X, Y = samples(20, 5, 2)
    Y[:] = 4.0
    (fit,) = ridge_blocks(X, [TargetBlock(Y, (1.0, 100.0, 10.0), 2)], kfold(20, 4))
    assert fit.alpha == 100
    assert np.isnan(fit.cv_r2).all()
    np.testing.assert_allclose(fit.intercept, 4)
    np.testing.assert_allclose(fit.coef, 0, atol=1e-12)


@pytest.mark.parametrize("alphas", [(), (1.0, -1.0), (np.nan,), (np.inf,), ("1",), "auto"])
def test_penalties_that_are_none(alphas):
    with pytest.raises(InputError, match="alphas must be positive"):
        TargetBlock(np.zeros((3, 1)), alphas, 1)


def test_no_targets_at_once():
    with pytest.raises(InputError, match="at least 1 at once; got 0"):
        TargetBlock(np.zeros((3, 1)), ALPHAS, 0)
