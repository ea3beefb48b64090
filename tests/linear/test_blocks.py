"""Blocks of targets fitted together are what they are one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge

import brainkit.linear.blocks as module
from brainkit.errors import InputError
from brainkit.linear import held_out
from brainkit.linear.blocks import TargetBlock, ridge_blocks
from brainkit.linear.folds import kfold

ALPHAS = (1.0, 10.0, 100.0)


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
    original = held_out.decompose
    monkeypatch.setattr(
        held_out, "decompose", lambda X, *a, **b: done.append(len(X)) or original(X, *a, **b)
    )
    monkeypatch.setattr(module, "decompose", held_out.decompose)
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
