"""Reduced-rank ridge against ridge, its closed form, and itself in torch.

The noise metric on simulated noise of known factors, and averages of groups.

Leading singular vectors against NumPy's decomposition.
"""

import numpy as np
import pytest
import torch

from brainkit.linear import reduced_rank_solver
from brainkit.linear.folds import kfold
from brainkit.linear.reduced_rank_solver import (
    TargetMetric,
    average_groups,
    diagonal_metric,
    fixed_start,
    leading_combinations,
    leading_right_vectors,
    noise_metric,
    orthonormal,
    predictability,
    prepare_fold,
    reduced_rank_errors,
    ridge_errors,
    solve_reduced_rank,
)
from brainkit.linear.ridge_solver import solve_ridge, validation_errors

SHAPES = [(60, 12), (12, 60), (25, 25)]  # primal, dual, and the border
N_TARGETS = 9

MATRIX_SHAPES = [(50, 20), (20, 50), (30, 30)]


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
    monkeypatch.setattr(reduced_rank_solver, "EXACT_SIZE", 0)
    found = []
    for many in (True, False):
        if not many:  # as if there were few targets
            monkeypatch.setattr(reduced_rank_solver, "MANY", np.inf)
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


def residuals_of(noise, n_repeats):
    """Deviations from the mean of successive groups, and their degrees of freedom."""
    grouped = noise.reshape(-1, n_repeats, noise.shape[1])
    left = (grouped - grouped.mean(axis=1, keepdims=True)).reshape(noise.shape)
    return left, len(noise) - len(grouped)


def factor_noise(n_samples, n_targets, strengths, seed=0):
    """Noise of two factors over targets of unequal spread, and the factors' directions."""
    rng = np.random.default_rng([seed, n_samples])
    directions = np.linalg.qr(rng.normal(size=(n_targets, len(strengths))))[0]
    factors = rng.normal(size=(n_samples, len(strengths))) * np.sqrt(strengths)
    white = rng.normal(size=(n_samples, n_targets))
    spread = rng.uniform(0.2, 5, n_targets)
    return (white + factors @ directions.T) * spread, directions, spread


@pytest.mark.parametrize("as_torch", [False, True])
def test_apply_is_the_matrix_and_undo_its_inverse(as_torch):
    rng = np.random.default_rng(0)
    scale, gains = rng.uniform(0.3, 3, 12), np.array([0.2, 0.5, 1.7])
    directions = np.linalg.qr(rng.normal(size=(12, 3)))[0]
    matrix = np.diag(scale) @ (np.eye(12) + directions @ np.diag(gains - 1) @ directions.T)
    values = rng.normal(size=(5, 12))
    parts = [scale, directions, gains, values]
    scale, directions, gains, given = map(torch.from_numpy, parts) if as_torch else parts
    metric = TargetMetric(scale, directions, gains)
    np.testing.assert_allclose(metric.apply(given), values @ matrix, rtol=1e-10)
    np.testing.assert_allclose(metric.undo(given), values @ np.linalg.inv(matrix), rtol=1e-9)
    np.testing.assert_allclose(metric.undo(metric.apply(given)), values, rtol=1e-10)


def test_a_diagonal_metric_weighs_targets():
    values = np.arange(6.0).reshape(2, 3)
    metric = diagonal_metric(np.array([1.0, 2.0, 0.5]))
    np.testing.assert_allclose(metric.apply(values), values * [1, 2, 0.5])
    np.testing.assert_allclose(metric.undo(values), values / [1, 2, 0.5])
    assert len(metric.gains) == 0


@pytest.mark.parametrize(("n_samples", "n_targets"), [(1200, 80), (240, 300)])
def test_factors_of_the_noise_are_recovered(n_samples, n_targets):
    noise, directions, spread = factor_noise(n_samples, n_targets, (60.0, 30.0))
    metric = noise_metric(*residuals_of(noise, 3))
    assert len(metric.gains) == 2
    assert (np.diff(metric.gains) > 0).all()  # the strongest factor is damped most
    # The correlations' factors, whose scale is what remains of the spreads.
    total = np.sqrt(1 + directions**2 @ [60.0, 30.0])
    assert np.median(np.abs(metric.scale * spread * total - 1)) < 0.1
    truth = np.linalg.qr(directions / total[:, None])[0]
    cosines = np.linalg.svd(truth.T @ metric.directions)[1]
    assert cosines.min() > 0.85
    np.testing.assert_allclose(metric.directions.T @ metric.directions, np.eye(2), atol=1e-6)


def test_noise_is_white_in_the_metric():
    noise, *_ = factor_noise(3000, 40, (60.0, 30.0))
    metric = noise_metric(*residuals_of(noise, 3))
    fresh, *_ = factor_noise(3000, 40, (60.0, 30.0))
    before = np.linalg.eigvalsh(np.corrcoef(fresh.T))
    after = np.linalg.eigvalsh(np.cov(metric.apply(fresh).T))
    assert before[-1] > 8
    assert after[-1] < 1.6
    left, n_free = residuals_of(noise, 3)
    whitened = metric.apply(left)
    along = ((whitened / metric.scale) ** 2).sum() / n_free  # finite, no direction lost
    assert np.isfinite(along)
    share = ((left * metric.scale) @ metric.directions * metric.gains) ** 2
    np.testing.assert_allclose(share.sum(axis=0) / n_free, 1, rtol=1e-6)


@pytest.mark.parametrize(("n_samples", "n_targets"), [(900, 60), (240, 400), (1500, 450)])
def test_white_noise_has_no_factors(n_samples, n_targets):
    spread = np.geomspace(0.1, 10, n_targets)
    found = []
    for seed in range(4):
        noise = np.random.default_rng(seed).normal(size=(n_samples, n_targets)) * spread
        metric = noise_metric(*residuals_of(noise, 3))
        found.append(len(metric.gains))
        assert np.median(np.abs(metric.scale * spread - 1)) < 0.1
    # The largest eigenvalue passes its limit by chance now and then.
    assert np.median(found) == 0
    assert max(found) <= 1


def test_targets_without_noise_and_single_precision():
    noise, *_ = factor_noise(300, 30, (60.0,))
    noise[:, 4] = 0
    left, n_free = residuals_of(noise, 3)
    metric = noise_metric(left.astype(np.float32), n_free)
    assert metric.scale[4] == 1
    assert metric.scale.dtype == metric.directions.dtype == metric.gains.dtype == np.float32
    assert len(metric.gains) == 1
    assert metric.directions[4, 0] == pytest.approx(0, abs=1e-6)
    other = noise_metric(torch.from_numpy(left), n_free)
    np.testing.assert_allclose(other.gains.numpy(), metric.gains, rtol=1e-4)
    np.testing.assert_allclose(other.scale.numpy(), metric.scale, rtol=1e-4)


@pytest.mark.parametrize("as_torch", [False, True])
def test_groups_are_averaged(as_torch):
    rng = np.random.default_rng(0)
    codes = rng.permutation(np.repeat(np.arange(6), [1, 2, 3, 1, 4, 3]))
    X, Y = rng.normal(size=(14, 3)), rng.normal(size=(14, 5)) + 100
    parts = [X, Y, codes]
    given = [torch.from_numpy(part) for part in parts] if as_torch else parts
    x_mean, y_mean, left = map(np.asarray, average_groups(*given))
    for group in range(6):
        here = codes == group
        np.testing.assert_allclose(x_mean[group], X[here].mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(y_mean[group], Y[here].mean(axis=0), rtol=1e-10)
        np.testing.assert_allclose(left[here], Y[here] - Y[here].mean(axis=0), atol=1e-10)
    single = average_groups(X.astype(np.float32), Y.astype(np.float32), codes)
    assert {part.dtype for part in single} == {np.dtype(np.float32)}


def low_rank(n_rows, n_columns, seed=0, noise=0.01):
    rng = np.random.default_rng([seed, n_rows, n_columns])
    left = rng.normal(size=(n_rows, 8)) * np.geomspace(5, 0.5, 8)
    return left @ rng.normal(size=(8, n_columns)) + noise * rng.normal(size=(n_rows, n_columns))


def assert_leading(matrix, rank, vectors, values, atol):
    _, singular, expected = np.linalg.svd(np.asarray(matrix, np.float64), full_matrices=False)
    assert vectors.shape == (matrix.shape[1], rank)
    np.testing.assert_allclose(values, singular[:rank] ** 2, rtol=1e-4)
    # One by one and in order, up to their signs.
    np.testing.assert_allclose(np.abs(expected[:rank] @ vectors), np.eye(rank), atol=atol)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(rank), atol=atol)


@pytest.mark.parametrize("shape", MATRIX_SHAPES)
@pytest.mark.parametrize("iterate", [False, True])
@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-6), (np.float32, 2e-3)])
def test_vectors_and_values_are_the_leading_ones(monkeypatch, shape, iterate, dtype, atol):
    if iterate:
        monkeypatch.setattr(reduced_rank_solver, "EXACT_SIZE", 0)
        monkeypatch.setattr(reduced_rank_solver, "OVERSAMPLING", 5)
    matrix = low_rank(*shape).astype(dtype)
    before = matrix.copy()
    vectors, values = leading_right_vectors(matrix, 6)
    assert vectors.dtype == dtype
    assert values.dtype == np.float64
    assert_leading(matrix, 6, vectors, values, atol)
    np.testing.assert_array_equal(matrix, before)


@pytest.mark.parametrize("shape", [(450, 420), (420, 450)])
def test_large_matrices_are_iterated_repeatably(shape):
    matrix = low_rank(*shape)
    vectors, values = leading_right_vectors(matrix, 8)
    assert_leading(matrix, 8, vectors, values, 1e-6)
    np.testing.assert_array_equal(vectors, leading_right_vectors(matrix, 8)[0])


@pytest.mark.parametrize("shape", MATRIX_SHAPES)
@pytest.mark.parametrize("iterate", [False, True])
def test_torch_finds_the_subspace_that_numpy_finds(monkeypatch, shape, iterate):
    if iterate:
        monkeypatch.setattr(reduced_rank_solver, "EXACT_SIZE", 0)
    matrix = low_rank(*shape)
    expected, squares = leading_right_vectors(matrix, 6)
    found, values = leading_right_vectors(torch.from_numpy(matrix), 6)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(values.numpy(), squares, rtol=1e-8)
    np.testing.assert_allclose(np.abs(expected.T @ found.numpy()), np.eye(6), atol=1e-7)


@pytest.mark.parametrize("shape", MATRIX_SHAPES)
@pytest.mark.parametrize("iterate", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_combinations_of_rows_are_the_same_vectors(monkeypatch, shape, iterate, kind):
    if iterate:
        monkeypatch.setattr(reduced_rank_solver, "EXACT_SIZE", 0)
        monkeypatch.setattr(reduced_rank_solver, "OVERSAMPLING", 5)
    matrix = kind(low_rank(*shape))
    start = matrix @ fixed_start(matrix, 6)
    found = matrix.T @ leading_combinations(matrix @ matrix.T, start, 6)
    expected = leading_right_vectors(matrix, 6)[0]
    np.testing.assert_allclose(np.abs(expected.T @ found), np.eye(6), atol=1e-7)


def test_combinations_of_fewer_dimensions_than_asked_for():
    matrix = low_rank(30, 40, noise=0)  # of rank 8
    start = matrix @ fixed_start(matrix, 12)
    found = matrix.T @ leading_combinations(matrix @ matrix.T, start, 12)
    np.testing.assert_allclose(matrix @ found @ found.T, matrix, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 9), (9, 5)])
def test_there_are_no_more_than_the_smaller_side(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    vectors, values = leading_right_vectors(matrix, 50)
    assert vectors.shape == (shape[1], 5)
    np.testing.assert_allclose(matrix @ vectors @ vectors.T, matrix, atol=1e-10)
    assert (np.diff(values) < 0).all()


def test_orthonormal_keeps_the_span_and_drops_what_has_no_length():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(40, 4)) * np.geomspace(1, 1e-3, 4)
    found = orthonormal(values)
    np.testing.assert_allclose(found.T @ found, np.eye(4), atol=1e-8)
    np.testing.assert_allclose(found @ (found.T @ values), values, atol=1e-10)
    lacking = orthonormal(np.column_stack([values, values[:, 0]]))
    lengths = (lacking**2).sum(axis=0)
    np.testing.assert_allclose(lengths, [1, 1, 1, 1, 0], atol=1e-6)
    np.testing.assert_array_equal(orthonormal(np.zeros((5, 2))), np.zeros((5, 2)))
