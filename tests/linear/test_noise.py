"""The noise metric on simulated noise of known factors, and averages of groups."""

import numpy as np
import pytest
import torch

from brainkit.linear.noise import TargetMetric, average_groups, diagonal_metric, noise_metric


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
