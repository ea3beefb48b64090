"""Racing in banded ridge: what it saves, what it loses, and what it leaves exact."""

import numpy as np
import pytest

from brainkit.linear.banded import banded_ridge_cv
from brainkit.linear.banded_folds import design
from brainkit.linear.bands import band_columns
from brainkit.linear.folds import kfold
from brainkit.linear.racing import RacingRule

ALPHAS = [0.1, 1.0, 10.0, 100.0]


def simulation(n_targets=300, seed=0):
    """Three bands, targets that mix them by weights of their own, 300 training and test rows."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(600, 60))
    shares = rng.dirichlet(np.full(3, 0.5), n_targets) * rng.uniform(0, 0.7, (n_targets, 1))
    W = rng.normal(size=(3, 20, n_targets)) * np.sqrt(shares.T[:, None] / 20)
    noise = rng.normal(size=(600, n_targets)) * np.sqrt(1 - shares.sum(axis=1))
    return X, X @ W.reshape(60, n_targets) + noise, [20] * 3


def r2_of(fit, X, Y):
    residual = ((Y - X @ fit.coef.T - fit.intercept) ** 2).sum(axis=0)
    return 1 - residual / ((Y - Y.mean(axis=0)) ** 2).sum(axis=0)


@pytest.mark.parametrize("seed", range(3))
def test_racing_saves_much_and_loses_little(seed):
    X, Y, bands = simulation(seed=seed)
    alphas, folds = np.geomspace(1, 1e3, 7), kfold(300, 5)
    arguments = X[:300], Y[:300], bands, alphas, folds
    exact = banded_ridge_cv(*arguments, n_draws=30)
    raced = banded_ridge_cv(*arguments, n_draws=30, racing=RacingRule())
    loss = (r2_of(exact, X[300:], Y[300:]) - r2_of(raced, X[300:], Y[300:])).mean()
    assert abs(loss) < 0.002
    assert raced.skipped > 0.3 * exact.errors.size * 5
    # What is left is exact, and the choice is the best of it.
    left = np.isfinite(raced.errors)
    np.testing.assert_allclose(raced.errors[left], exact.errors[left], rtol=1e-9)
    np.testing.assert_array_equal(raced.chosen, np.nanargmin(raced.errors, axis=0))
    assert left[raced.chosen, np.arange(300)].all()
    same = raced.chosen == exact.chosen
    np.testing.assert_allclose(raced.coef[same], exact.coef[same], rtol=1e-8, atol=1e-10)


def test_racing_with_much_slack_gives_nothing_up():
    X, Y, bands = simulation(n_targets=30)
    Y = Y + 5 * X[:, [0]]  # so that every draw predicts something
    arguments = X, Y, bands, ALPHAS, kfold(600, 5)
    exact = banded_ridge_cv(*arguments, n_draws=9)
    raced = banded_ridge_cv(*arguments, n_draws=9, racing=RacingRule(slack=1e6))
    assert raced.skipped == 0
    np.testing.assert_allclose(raced.errors, exact.errors, rtol=1e-12)


def test_racing_counts_what_it_saves():
    X, Y, bands = simulation(n_targets=6)
    fit = banded_ridge_cv(
        X, Y, bands, ALPHAS, kfold(600, 5), n_draws=9, racing=RacingRule(slack=0.0)
    )
    assert fit.skipped == 9 * 6 * 4 - 6 * 4  # after one fold one draw is left to each target
    late = banded_ridge_cv(
        X, Y, bands, ALPHAS, kfold(600, 5), n_draws=9, racing=RacingRule(0.0, first_folds=4)
    )
    assert late.skipped == 9 * 6 - 6
    assert np.isfinite(late.errors).sum() == 6


@pytest.mark.parametrize("n_samples", [300, 50])  # more samples than features, and fewer
def test_racing_is_rough_only_where_that_does_no_harm(n_samples):
    X, Y, bands = simulation(n_targets=40)
    X, Y = X[:n_samples].astype(np.float32), Y[:n_samples].astype(np.float32)
    folds = kfold(n_samples, 5)
    made = design(X, band_columns(bands, 60), n_samples > 60, True)
    largest = np.linalg.eigvalsh(X.T.astype(float) @ X)[-1]
    least = 1e-4 if made.primal else 1e-2
    assert made.may_be_rough([1.01 * least * largest, largest])
    assert not made.may_be_rough([0.99 * least * largest, largest])
    assert not design(X.astype(float), band_columns(bands, 60), True, True).may_be_rough([largest])
    alphas = [1.0, 10.0, 100.0, 1000.0]
    wide = banded_ridge_cv(X.astype(float), Y.astype(float), bands, alphas, folds, n_draws=12)
    raced = banded_ridge_cv(X, Y, bands, alphas, folds, n_draws=12, racing=RacingRule())
    left = np.isfinite(raced.errors)
    np.testing.assert_allclose(raced.errors[left], wide.errors[left], rtol=1e-4)
