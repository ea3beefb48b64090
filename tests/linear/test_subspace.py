"""Leading singular vectors against NumPy's decomposition."""

import numpy as np
import pytest
import torch

from brainkit.linear import subspace
from brainkit.linear.subspace import (
    fixed_start,
    leading_combinations,
    leading_right_vectors,
    orthonormal,
)

SHAPES = [(50, 20), (20, 50), (30, 30)]


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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterate", [False, True])
@pytest.mark.parametrize(("dtype", "atol"), [(np.float64, 1e-6), (np.float32, 2e-3)])
def test_vectors_and_values_are_the_leading_ones(monkeypatch, shape, iterate, dtype, atol):
    if iterate:
        monkeypatch.setattr(subspace, "EXACT_SIZE", 0)
        monkeypatch.setattr(subspace, "OVERSAMPLING", 5)
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


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterate", [False, True])
def test_torch_gives_what_numpy_gives(monkeypatch, shape, iterate):
    if iterate:
        monkeypatch.setattr(subspace, "EXACT_SIZE", 0)
    matrix = low_rank(*shape)
    expected, squares = leading_right_vectors(matrix, 6)
    found, values = leading_right_vectors(torch.from_numpy(matrix), 6)
    assert isinstance(found, torch.Tensor)
    np.testing.assert_allclose(values.numpy(), squares, rtol=1e-8)
    np.testing.assert_allclose(np.abs(expected.T @ found.numpy()), np.eye(6), atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("iterate", [False, True])
@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_combinations_of_rows_are_the_same_vectors(monkeypatch, shape, iterate, kind):
    if iterate:
        monkeypatch.setattr(subspace, "EXACT_SIZE", 0)
        monkeypatch.setattr(subspace, "OVERSAMPLING", 5)
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
