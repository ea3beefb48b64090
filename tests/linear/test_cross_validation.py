"""Few functions stand for all penalties, to the precision that is worked in.

Leave-one-out and generalised cross-validation against refits, scikit-learn and the formula.
"""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge, RidgeCV

from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError, UnknownNameError
from brainkit.linear.ridge_solver import ridge_cv, validation_errors
from brainkit.linear.spectrum import stretches

SHAPES = [(40, 9), (12, 30)]
ALPHAS = [0.1, 3.0, 100.0]


def relative_errors(cut, values, alphas):
    found = np.concatenate([s.functions @ s.mixing.T for s in cut])
    return np.abs(found * (values[:, None] + alphas) - 1)


@given(
    size=st.integers(1, 80),
    decades=st.floats(0, 9),
    low=st.floats(-3, 4),
    span=st.floats(0, 8),
    count=st.integers(1, 14),
)
def test_ratios_are_met_for_every_eigenvalue_and_penalty(size, decades, low, span, count):
    values = np.geomspace(1, 10**decades, size)
    alphas = np.geomspace(10**low, 10 ** (low + span), count)
    cut = stretches(values, alphas, np.float32)
    assert [s.start for s in cut[1:]] == [s.stop for s in cut[:-1]]
    assert (cut[0].start, cut[-1].stop) == (0, size)
    assert relative_errors(cut, values, alphas).max() < 1e-4
    assert relative_errors(stretches(values, alphas, np.float64), values, alphas).max() < 1e-11


def test_a_narrow_spectrum_needs_few_functions():
    alphas = np.geomspace(10, 1e5, 10)
    cut = stretches(np.linspace(4000, 16000, 1000), alphas, np.float32)
    assert max(s.functions.shape[1] for s in cut) <= 4
    assert relative_errors(cut, np.linspace(4000, 16000, 1000), alphas).max() < 3e-5


@pytest.mark.parametrize("values", [np.zeros(4), np.array([0, 0, 1e-12, 5.0])])
def test_directions_without_variance_are_no_trouble(values):
    alphas = np.array([1e-3, 1.0, 1e3])
    cut = stretches(values, alphas, np.float32)
    assert relative_errors(cut, values, alphas).max() < 1e-4


def problem(n_samples, n_features, n_targets=5):
    rng = np.random.default_rng([n_samples, n_features])
    X = rng.normal(size=(n_samples, n_features)) * rng.uniform(0.3, 3, n_features) + 2
    Y = X @ rng.normal(size=(n_features, n_targets)) / n_features + 3
    return X, Y + rng.normal(size=Y.shape)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_errors_are_those_of_refits_without_each_sample(shape, fit_intercept):
    X, Y = problem(*shape)
    errors, total = validation_errors(X, Y, ALPHAS, "loo", fit_intercept=fit_intercept)
    sums, by_mean = np.zeros((3, 5)), np.zeros(5)
    for row in range(len(X)):
        rest = np.arange(len(X)) != row
        for number, alpha in enumerate(ALPHAS):
            model = Ridge(alpha=alpha, fit_intercept=fit_intercept).fit(X[rest], Y[rest])
            sums[number] += (Y[row] - model.predict(X[[row]])[0]) ** 2
        by_mean += (Y[row] - (Y[rest].mean(axis=0) if fit_intercept else 0)) ** 2
    np.testing.assert_allclose(errors, sums, rtol=1e-8)
    np.testing.assert_allclose(total, by_mean, rtol=1e-10)


@pytest.mark.parametrize("shape", SHAPES)
def test_alphas_are_those_of_scikit_learn(shape):
    X, Y = problem(*shape, n_targets=20)
    candidates = np.geomspace(0.01, 1e4, 12)
    found = ridge_cv(X, Y, candidates, "loo")
    peer = RidgeCV(alphas=candidates, alpha_per_target=True).fit(X, Y)
    assert len(np.unique(found.alpha)) > 2
    np.testing.assert_allclose(found.alpha, peer.alpha_)
    np.testing.assert_allclose(found.coef, peer.coef_, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_generalised_cross_validation_is_its_formula(shape):
    X, Y = problem(*shape)
    errors, _ = validation_errors(X, Y, ALPHAS, "gcv")
    centred, targets = X - X.mean(axis=0), Y - Y.mean(axis=0)
    n = len(X)
    for row, alpha in zip(errors, ALPHAS, strict=True):
        inner = centred.T @ centred + alpha * np.eye(X.shape[1])
        hat = centred @ np.linalg.solve(inner, centred.T) + 1 / n
        residual = ((targets - (hat - 1 / n) @ targets) ** 2).sum(axis=0)
        np.testing.assert_allclose(row, residual / (1 - np.trace(hat) / n) ** 2, rtol=1e-8)


def test_tensors_and_single_precision_give_the_same():
    X, Y = problem(60, 12)
    for way in ("loo", "gcv"):
        expected = validation_errors(X, Y, ALPHAS, way)[0]
        tensors = torch.tensor(X, dtype=torch.float32), torch.tensor(Y, dtype=torch.float32)
        found = validation_errors(*tensors, ALPHAS, way)[0]
        np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4)


def test_estimator_leaves_samples_out():
    X, Y = problem(40, 9)
    model = VoxelwiseRidge(alphas=ALPHAS, cv="loo").fit(X, Y)
    peer = RidgeCV(alphas=ALPHAS, alpha_per_target=True).fit(X, Y)
    np.testing.assert_allclose(model.alpha_, peer.alpha_)
    with pytest.raises(UnknownNameError, match=r"Unknown cv 'lo'.*loo"):
        VoxelwiseRidge(cv="lo").fit(X, Y)
    with pytest.raises(InputError, match="others of their group"):
        VoxelwiseRidge(cv="gcv").fit(X, Y, groups=np.repeat(np.arange(20), 2))
    VoxelwiseRidge(cv="gcv").fit(X, Y, groups=np.arange(40))
