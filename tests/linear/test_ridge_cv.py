"""Selection and solution in one pass: precision, folds of any kind, files larger than memory."""

import h5py
import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from brainkit.arrays.sources import Memory
from brainkit.errors import InputError
from brainkit.linear import ridge
from brainkit.linear.folds import kfold
from brainkit.linear.held_out import is_partition
from brainkit.linear.ridge import ridge_cv, solve_ridge, validation_errors

SHAPES = [(90, 12), (40, 30), (20, 50)]  # more held-out samples than features, fewer, dual


def problem(n_samples, n_features, n_targets=11, seed=0):
    rng = np.random.default_rng([seed, n_samples, n_features])
    X = rng.normal(size=(n_samples, n_features)) * np.geomspace(3, 0.05, n_features) + 2
    Y = X @ rng.normal(size=(n_features, n_targets)) + 20
    return X, Y + rng.normal(size=Y.shape) * np.geomspace(0.3, 30, n_targets)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_choice_and_solution_are_those_of_the_two_steps(shape, fit_intercept):
    X, Y = problem(*shape)
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


@pytest.mark.parametrize("shape", SHAPES)
def test_folds_need_not_hold_every_sample_out(shape):
    X, Y = problem(*shape)
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


@pytest.mark.parametrize("shape", SHAPES[:2])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_shared_products_are_those_of_folds_on_their_own(monkeypatch, shape, fit_intercept):
    X, Y = problem(*shape)
    groups = np.arange(shape[0]) ** 2 % 7  # folds of unequal sizes
    folds = kfold(shape[0], 3, groups=groups)
    assert is_partition(shape[0], folds)
    shared = validation_errors(X, Y, [0.1, 9.0], folds, fit_intercept=fit_intercept)
    monkeypatch.setattr(ridge, "is_partition", lambda *given: False)
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
    X, Y = (part.astype(np.float32) for part in problem(90, 12))
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
    X, Y = problem(40, 30)
    alphas, folds = np.geomspace(1e-2, 1e4, 9), kfold(40, 4)
    found = ridge_cv(X, Y, alphas, folds, alpha_per_target=False)
    errors, _ = validation_errors(X, Y, alphas, folds)
    assert set(found.alpha) == {alphas[errors.sum(axis=1).argmin()]}
    np.testing.assert_allclose(found.coef, solve_ridge(X, Y, found.alpha)[0], rtol=1e-8)


def test_bad_input_says_what_is_wrong():
    X, Y = problem(40, 30)
    with pytest.raises(InputError, match=r"Features \(40, 30\) and targets \(39, 11\).*40 and 39"):
        ridge_cv(X, Y[:39], [1.0], kfold(40, 4))
    with pytest.raises(InputError, match=r"\(40, 30\) and \(40,\)"):
        ridge_cv(X, Y[:, 0], [1.0], kfold(40, 4))
    for alphas in ([-1.0], [], [np.nan], ["many"], ["1"], [True], [[1.0]]):
        with pytest.raises(InputError, match="alphas must be positive"):
            ridge_cv(X, Y, alphas, kfold(40, 4))


def test_groups_of_one_are_samples_on_their_own():
    X, Y = problem(40, 12)
    one = ridge_cv(X, Y, [1.0, 10.0], kfold(40, 5, groups=np.arange(40)))
    none = ridge_cv(X, Y, [1.0, 10.0], kfold(40, 5))
    np.testing.assert_array_equal(one.coef, none.coef)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_penalty_for_all_is_that_penalty_for_each_target(shape):
    X, Y = problem(*shape)
    expected = solve_ridge(X, Y, np.full(Y.shape[1], 3.0))
    for alphas in (3.0, [3.0], np.float32(3), torch.tensor(3.0)):
        for found, other in zip(solve_ridge(X, Y, alphas), expected, strict=True):
            np.testing.assert_array_equal(found, other)
    mixed = np.geomspace(0.1, 10, Y.shape[1])
    tensors = torch.as_tensor(X), torch.as_tensor(Y)
    for given in (mixed, mixed.tolist(), torch.as_tensor(mixed)):
        found = solve_ridge(*tensors, given)[0]
        np.testing.assert_allclose(found, solve_ridge(X, Y, mixed)[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alphas", [np.ones(10), np.ones((11, 1)), -1.0, np.nan, "many", None])
def test_penalties_that_are_not_one_for_each_target_are_refused(alphas):
    X, Y = problem(40, 30)
    with pytest.raises(InputError, match="one penalty that is not negative for each of the 11"):
        solve_ridge(X, Y, alphas)


def test_features_in_whole_numbers_are_refused_not_rounded():
    X, Y = problem(40, 12)
    for solve in (
        lambda X: ridge_cv(X, Y, [1.0], kfold(40, 4)),
        lambda X: validation_errors(X, Y, [1.0], kfold(40, 4)),
        lambda X: solve_ridge(X, Y, 1.0),
    ):
        with pytest.raises(InputError, match="X must be floating point; got int64"):
            solve(np.round(X).astype(np.int64))


@pytest.mark.parametrize("shape", SHAPES)
def test_folds_may_be_a_generator_lists_or_masks(shape):
    X, Y = problem(*shape)
    folds = kfold(shape[0], 4)
    expected = ridge_cv(X, Y, [0.1, 1.0, 10.0], folds)
    masks = [(~np.isin(range(shape[0]), test), np.isin(range(shape[0]), test)) for _, test in folds]
    for given in (iter(folds), [[part.tolist() for part in fold] for fold in folds], masks):
        np.testing.assert_array_equal(ridge_cv(X, Y, [0.1, 1.0, 10.0], given).errors,
                                      expected.errors)  # fmt: skip


def test_folds_are_checked():
    X, Y = problem(40, 12)
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
