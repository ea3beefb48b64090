"""A predictor without information must score 0, not .3, on voxels without signal."""

import numpy as np
import pytest

import brainkit.evaluation
from brainkit.evaluation import (
    noise_ceiling,
    pearson_r,
    pooled_ceiling_fraction,
    thresholded_ceiling_fraction,
)


@pytest.fixture(scope="module")
def noise_voxels():
    """Scores of a random predictor, and ceilings estimated from repeats, of pure-noise voxels."""
    generator = np.random.default_rng(0)
    n_images, n_voxels = 500, 3000
    stimuli = np.repeat(np.arange(n_images), 3)
    trials = generator.normal(size=(3 * n_images, n_voxels)).astype(np.float32)
    means = generator.normal(size=(150, n_voxels)) / np.sqrt(3)
    scores = pearson_r(means, generator.normal(size=means.shape))
    return scores, noise_ceiling(trials, stimuli, n_repeats=3)


def test_the_clamped_formula_rewards_noise(noise_voxels):
    scores, ceiling = (np.asarray(values) for values in noise_voxels)
    explained = np.where(scores < 0, 0, scores) ** 2
    clamped = np.minimum(explained / np.where(ceiling == 0, 1e-14, ceiling), 1)
    assert (ceiling == 0).mean() == pytest.approx(0.5, abs=0.1)
    assert clamped.mean() == pytest.approx(0.30, abs=0.04)


def test_the_pooled_fraction_does_not(noise_voxels):
    assert float(pooled_ceiling_fraction(*noise_voxels)) == pytest.approx(0, abs=0.02)


def test_the_thresholded_fraction_does_not(noise_voxels):
    fractions = thresholded_ceiling_fraction(*noise_voxels, above=0.05)
    assert np.isfinite(fractions).sum() > 100
    assert np.nanmean(fractions) == pytest.approx(0, abs=0.02)


def test_a_ceiling_of_nothing_is_no_number_above_a_threshold(noise_voxels):
    scores, ceiling = noise_voxels
    fractions = thresholded_ceiling_fraction(scores, ceiling, above=0.02)
    assert np.isnan(np.asarray(fractions)[np.asarray(ceiling) <= 0.02]).all()


def test_no_other_normalisation_is_offered():
    offered = [name for name in brainkit.evaluation.__all__ if "ceiling_fraction" in name]
    assert offered == ["pooled_ceiling_fraction", "thresholded_ceiling_fraction"]
