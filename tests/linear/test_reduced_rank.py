"""Reduced-rank ridge against ridge, its closed form, and itself in torch."""

import numpy as np
import pytest
import torch

from brainkit.linear import reduced_rank, subspace
from brainkit.linear.folds import kfold
from brainkit.linear.noise import TargetMetric, diagonal_metric
from brainkit.linear.reduced_rank import (
    predictability,
    prepare_fold,
    reduced_rank_errors,
    ridge_errors,
    solve_reduced_rank,
)
from brainkit.linear.ridge import solve_ridge, validation_errors

SHAPES = [(60, 12), (12, 60), (25, 25)]  # primal, dual, and the border
N_TARGETS = 9


def problem(n_samples, n_features, seed=0):
    rng = np.random.default_rng([seed, n_samples, n_features])
    X = rng.normal(size=(n_samples, n_features)) * rng.uniform(0.3, 3, n_features) + 4
    Y = X @ rng.normal(size=(n_features, 3)) @ rng.normal(size=(3, N_TARGETS))
    return X, Y + 3 * rng.normal(size=Y.shape) + 10 * rng.normal(size=N_TARGETS)


def full_metric(seed=1):
    """A metric with two directions, and the matrix that it stands for."""
    rng = np.random.default_rng(seed)
    scale, gains = rng.uniform(0.3, 3, N_TARGETS), np.array([0.3, 0.6])
    directions = np.linalg.qr(rng.normal(size=(N_TARGETS, 2)))[0]
    matrix = np.diag(scale) @ (np.eye(N_TARGETS) + directions * (gains - 1) @ directions.T)
    return TargetMetric(scale, directions, gains), matrix


def closed_form(X, Y, alpha, rank, matrix):
    """Reduced-rank regression of ridge's augmented data, by the SVD of its fit (Izenman, 1975)."""
    Xc, Yc = X - X.mean(axis=0), (Y - Y.mean(axis=0)) @ matrix
    rows = np.vstack([Xc, np.sqrt(alpha) * np.eye(X.shape[1])])
    targets = np.vstack([Yc, np.zeros((X.shape[1], Y.shape[1]))])
    weights = np.linalg.lstsq(rows, targets, rcond=None)[0]
    _, _, right = np.linalg.svd(rows @ weights, full_matrices=False)
    weights = weights @ right[:rank].T @ right[:rank] @ np.linalg.inv(matrix)
    return weights.T, Y.mean(axis=0) - X.mean(axis=0) @ weights


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("plain", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_full_rank_is_ridge_in_any_metric(shape, plain, fit_intercept):
    X, Y = problem(*shape)
    alphas = np.geomspace(0.1, 100, N_TARGETS)
    found = solve_reduced_rank(
        X, Y, alphas, np.full(N_TARGETS, 50), None if plain else full_metric()[0],
        fit_intercept=fit_intercept,
    )  # fmt: skip
    expected = solve_ridge(X, Y, alphas, fit_intercept=fit_intercept)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("plain", [True, False])
def test_solution_is_the_closed_form(shape, rank, plain):
    X, Y = problem(*shape)
    metric, matrix = (None, np.eye(N_TARGETS)) if plain else full_metric()
    coef, intercept = solve_reduced_rank(
        X, Y, np.full(N_TARGETS, 3.0), np.full(N_TARGETS, rank), metric
    )
    expected = closed_form(X, Y, 3.0, rank, matrix)
    np.testing.assert_allclose(coef, expected[0], rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(intercept, expected[1], rtol=1e-6, atol=1e-6)
    assert np.linalg.matrix_rank(coef, tol=1e-8) == rank


def test_solution_minimises_the_documented_loss():
    X, Y = problem(40, 8)
    metric, matrix = full_metric()
    Xc, Yc = X - X.mean(axis=0), Y - Y.mean(axis=0)

    def loss(left, right):
        weights = left @ right
        penalty = ((weights @ matrix) ** 2).sum()
        return (((Yc - Xc @ weights) @ matrix) ** 2).sum() + 5.0 * penalty

    coef, _ = solve_reduced_rank(X, Y, np.full(N_TARGETS, 5.0), np.full(N_TARGETS, 2), metric)
    u, s, v = np.linalg.svd(coef.T)
    left, right = u[:, :2] * s[:2], v[:2]
    least = loss(left, right)
    rng = np.random.default_rng(0)
    for step in (1e-3, 1e-2, 0.1):
        for _ in range(20):
            moved = left + step * rng.normal(size=left.shape)
            assert loss(moved, right + step * rng.normal(size=right.shape)) > least


@pytest.mark.parametrize("shape", SHAPES)
def test_targets_take_the_solution_of_their_own_choice(shape):
    X, Y = problem(*shape)
    metric, _ = full_metric()
    alphas = np.array([1.0, 10.0, 100.0] * 3)
    ranks = np.array([1, 1, 1, 2, 2, 2, 4, 4, 1])
    coef, intercept = solve_reduced_rank(X, Y, alphas, ranks, metric)
    for target in range(N_TARGETS):
        alone = solve_reduced_rank(
            X, Y, np.full(N_TARGETS, alphas[target]), np.full(N_TARGETS, ranks[target]), metric
        )
        np.testing.assert_allclose(coef[target], alone[0][target], rtol=1e-8, atol=1e-10)
        assert intercept[target] == pytest.approx(alone[1][target], rel=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("plain", [True, False])
def test_held_out_errors_are_those_of_the_solution(shape, plain):
    X, Y = problem(*shape)
    metric = diagonal_metric(np.ones(N_TARGETS)) if plain else full_metric()[0]
    parts = kfold(shape[0], 3)
    alphas, ranks = [1.0, 30.0], [1, 3, 50]
    folds = [prepare_fold(X, Y, train, test) for train, test in parts]
    expected = np.zeros((2, 3, N_TARGETS))
    for train, test in parts:
        for i, alpha in enumerate(alphas):
            for j, rank in enumerate(ranks):
                coef, intercept = solve_reduced_rank(
                    X[train], Y[train], np.full(N_TARGETS, alpha), np.full(N_TARGETS, rank), metric
                )
                residual = Y[test] - X[test] @ coef.T - intercept
                expected[i, j] += (residual**2).sum(axis=0)
    found = reduced_rank_errors(folds, alphas, ranks, metric)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    errors, total = ridge_errors(folds, alphas)
    np.testing.assert_allclose(found[:, 2], errors, rtol=1e-6)  # full rank
    peer_errors, peer_total = validation_errors(X, Y, alphas, parts)
    np.testing.assert_allclose(errors, peer_errors, rtol=1e-8)
    np.testing.assert_allclose(total, peer_total, rtol=1e-10)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_large_problems_have_the_errors_of_their_solutions(monkeypatch, fit_intercept):
    """Directions by iteration, from CMM'C' and from CM, agree with each other."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(90, 30))
    Y = X @ rng.normal(size=(30, 3)) @ rng.normal(size=(3, 80)) + rng.normal(size=(90, 80))
    parts, metric = kfold(90, 3), diagonal_metric(rng.uniform(0.5, 2, 80))
    alphas, ranks = [0.1, 10.0], [1, 3]
    monkeypatch.setattr(subspace, "EXACT_SIZE", 0)
    monkeypatch.setattr(reduced_rank, "EXACT_SIZE", 0)
    found = []
    for many in (True, False):
        if not many:  # as if there were few targets
            monkeypatch.setattr(reduced_rank, "MANY", np.inf)
        folds = [prepare_fold(X, Y, *part, fit_intercept=fit_intercept) for part in parts]
        found.append(reduced_rank_errors(folds, alphas, ranks, metric))
        chosen = np.full(80, 10.0), np.full(80, 3)
        found.append(solve_reduced_rank(X, Y, *chosen, metric, fit_intercept=fit_intercept)[0])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-8)
    np.testing.assert_allclose(found[1], found[3], atol=1e-8)
    expected = np.zeros(80)
    for train, test in parts:
        coef, intercept = solve_reduced_rank(
            X[train], Y[train], *chosen, metric, fit_intercept=fit_intercept
        )
        expected += ((Y[test] - X[test] @ coef.T - intercept) ** 2).sum(axis=0)
    np.testing.assert_allclose(found[0][1, 1], expected, rtol=1e-8)


def test_predictability_is_the_root_of_the_explained_share():
    errors = np.array([[3.0, 30.0, 10.0, 0.0], [7.5, 20.0, 9.999, 0.0]])
    found = predictability(errors, np.array([10.0, 10.0, 10.0, 0.0]))
    np.testing.assert_allclose(found, [0.7**0.5, 0.1, 0.1, 1.0])


@pytest.mark.parametrize("shape", SHAPES)
def test_torch_gives_what_numpy_gives(shape):
    X, Y = problem(*shape)
    metric, _ = full_metric()
    tensors = [torch.from_numpy(p) for p in (metric.scale, metric.directions, metric.gains)]
    alphas, ranks = np.array([1.0, 10.0, 100.0] * 3), np.array([1, 2, 4] * 3)
    expected = solve_reduced_rank(X, Y, alphas, ranks, metric)
    given = [torch.from_numpy(part) for part in (X, Y, alphas, ranks)]
    found = solve_reduced_rank(*given, TargetMetric(*tensors))
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, torch.Tensor)
        np.testing.assert_allclose(one.numpy(), other, rtol=1e-7, atol=1e-8)
    parts = kfold(shape[0], 3)
    folds = [prepare_fold(X, Y, train, test) for train, test in parts]
    twins = [
        prepare_fold(given[0], given[1], torch.from_numpy(train), torch.from_numpy(test))
        for train, test in parts
    ]
    np.testing.assert_allclose(
        reduced_rank_errors(twins, [1.0, 9.0], [1, 3], TargetMetric(*tensors)).numpy(),
        reduced_rank_errors(folds, [1.0, 9.0], [1, 3], metric), rtol=1e-7,
    )  # fmt: skip
    weights = predictability(*ridge_errors(twins, [1.0, 9.0]))
    np.testing.assert_allclose(weights, predictability(*ridge_errors(folds, [1.0, 9.0])))


@pytest.mark.parametrize("shape", SHAPES)
def test_single_precision_is_kept_and_near_double(shape):
    X, Y = problem(*shape)
    alphas, ranks = np.full(N_TARGETS, 10.0), np.full(N_TARGETS, 3)
    coef, intercept = solve_reduced_rank(X.astype(np.float32), Y.astype(np.float32), alphas, ranks)
    assert coef.dtype == intercept.dtype == np.float32
    expected, _ = solve_reduced_rank(X, Y, alphas, ranks)
    np.testing.assert_allclose(coef, expected, atol=1e-3 * np.abs(expected).max())
