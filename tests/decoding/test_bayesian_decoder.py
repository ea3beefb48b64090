"""The posterior mean against dense algebra, its limits, and a world whose noise is shared."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brainkit import load_estimator, save_estimator
from brainkit.decoding import BayesianDecoder, RidgeDecoder
from brainkit.decoding.bayesian_decoder import posterior_weights, shrinkage_intensity
from brainkit.errors import InputError

RNG = np.random.default_rng(11)


def standardised(values):
    values = values - values.mean(axis=0)
    return values / values.std(axis=0)


@pytest.mark.parametrize("shrinkage", [1.0, 0.6, 0.05])
def test_weights_are_those_of_dense_algebra(shrinkage):
    B, noise = RNG.normal(size=(30, 4)), RNG.uniform(0.2, 2, 30)
    residuals = standardised(RNG.normal(size=(12, 30)))
    shared = (1 - shrinkage) * residuals.T @ residuals / 12 + shrinkage * np.eye(30)
    precision = np.linalg.inv(np.sqrt(noise)[:, None] * shared * np.sqrt(noise))
    expected = np.linalg.solve(np.eye(4) + B.T @ precision @ B, B.T @ precision)
    found = posterior_weights(B, noise, residuals, shrinkage)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_one_voxel_and_one_feature_worked_by_hand():
    """x = 2 z + noise of variance 4: E[z | x] = 2 / 4 / (1 + 4 / 4) x = x / 4."""
    found = posterior_weights(np.array([[2.0]]), np.array([4.0]), np.ones((3, 1)), 1.0)
    assert found == pytest.approx(0.25)


@settings(max_examples=30)
@given(st.integers(3, 15), st.integers(2, 8), st.integers(0, 1000))
def test_shrinkage_is_the_sum_over_pairs(n_samples, n_columns, seed):
    values = standardised(np.random.default_rng(seed).normal(size=(n_samples, n_columns)))
    products = values[:, :, None] * values[:, None]  # (samples, columns, columns)
    r = products.mean(axis=0)
    spread = ((products - r) ** 2).sum(axis=0) / (n_samples * (n_samples - 1))
    apart = ~np.eye(n_columns, dtype=bool)
    expected = np.clip(spread[apart].sum() / (r[apart] ** 2).sum(), 0, 1)
    assert shrinkage_intensity(values) == pytest.approx(expected, rel=1e-9)


def test_noise_alone_is_shrunk_and_shared_noise_is_not():
    assert shrinkage_intensity(standardised(RNG.normal(size=(50, 200)))) > 0.9
    common = RNG.normal(size=(50, 1)) + 0.3 * RNG.normal(size=(50, 200))
    assert shrinkage_intensity(standardised(common)) < 0.1
    assert shrinkage_intensity(np.zeros((5, 3))) == 1.0


def world(n, generator, n_voxels=300, n_latents=3):
    """Responses of few good voxels among many, all with the same slow noise."""
    latents = generator.normal(size=(n, n_latents))
    weights = np.random.default_rng(0).normal(size=(n_latents, n_voxels))
    weights[:, 40:] = 0.0
    common = np.random.default_rng(1).normal(size=(4, n_voxels))
    noise = generator.normal(size=(n, 4)) @ common * 2 + generator.normal(size=(n, n_voxels))
    return 5.0 + 3.0 * (latents @ weights + noise), 7.0 + latents * [1.0, 4.0, 0.5]


def test_it_finds_latents_behind_shared_noise():
    generator = np.random.default_rng(3)
    X, Z = world(90, generator)
    X_test, Z_test = world(200, generator)
    decoder = BayesianDecoder().fit(X, Z)
    found, ridge = decoder.score(X_test, Z_test), RidgeDecoder().fit(X, Z).score(X_test, Z_test)
    assert found > 0.9
    assert found > ridge + 0.01
    assert found > BayesianDecoder(shrinkage=1.0).fit(X, Z).score(X_test, Z_test)
    assert decoder.noise_variance_[:40].mean() < decoder.noise_variance_[40:].mean()
    assert 0 < decoder.shrinkage_ < 0.5


def test_units_and_offsets_do_not_matter():
    X, Z = world(60, np.random.default_rng(4))
    plain = BayesianDecoder().fit(X, Z).predict(X)
    moved = BayesianDecoder().fit(X * 1e-3 - 2.0, Z * 10 + 1).predict(X * 1e-3 - 2.0)
    np.testing.assert_allclose(moved, plain * 10 + 1, rtol=1e-6, atol=1e-6)


def test_without_a_relation_it_predicts_about_the_mean():
    X, Z = RNG.normal(size=(80, 200)), RNG.normal(size=(80, 2)) + 3
    found = BayesianDecoder().fit(X, Z).predict(RNG.normal(size=(100, 200)))
    assert np.abs(found.mean(axis=0) - 3).max() < 0.3
    assert found.std(axis=0).max() < 0.7


def test_constant_voxels_and_features():
    X, Z = world(60, np.random.default_rng(5))
    X[:, 0], Z[:, 2] = 2.0, 9.0
    decoder = BayesianDecoder().fit(X, Z)
    np.testing.assert_allclose(decoder.predict(X)[:, 2], 9.0)
    assert np.isfinite(decoder.coef_).all()
    shifted = X.copy()
    shifted[:, 0] = 100.0
    np.testing.assert_allclose(decoder.predict(shifted), decoder.predict(X), rtol=1e-6)


def test_groups_stay_in_one_fold():
    X, Z = world(60, np.random.default_rng(6))
    with pytest.raises(InputError, match="groups"):
        BayesianDecoder(cv=5).fit(X, Z, groups=np.arange(60) % 3)
    assert BayesianDecoder(cv=3).fit(X, Z, groups=np.arange(60) % 3).shrinkage_ > 0


def test_it_comes_back_from_disk(tmp_path):
    X, Z = world(60, np.random.default_rng(7))
    decoder = BayesianDecoder().fit(X.astype(np.float32), Z.astype(np.float32))
    save_estimator(decoder, tmp_path / "decoder")
    again = load_estimator(tmp_path / "decoder")
    np.testing.assert_array_equal(again.predict(X), decoder.predict(X))
    assert again.shrinkage_ == decoder.shrinkage_
    assert decoder.predict(X.astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize("shrinkage", [0, -0.1, 1.5, np.nan, "much", None, True])
def test_what_is_no_shrinkage(shrinkage):
    X, Z = world(20, np.random.default_rng(8))
    with pytest.raises(InputError, match="shrinkage is 'auto' or a number above 0"):
        BayesianDecoder(shrinkage=shrinkage).fit(X, Z)


def test_bad_input():
    X, Z = world(20, np.random.default_rng(9))
    with pytest.raises(ValueError, match="NaN"):
        BayesianDecoder().fit(np.where(X[0, 0] == X, np.nan, X), Z)
    with pytest.raises(ValueError, match="inconsistent"):
        BayesianDecoder().fit(X[:10], Z)
    with pytest.raises(InputError, match="alphas"):
        BayesianDecoder(alphas=-1.0).fit(X, Z)
    with pytest.raises(ValueError, match="300 features"):
        BayesianDecoder().fit(X, Z).predict(X[:, :5])
