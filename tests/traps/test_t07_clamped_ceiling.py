"""A predictor without information must score 0, not .3, on voxels without signal."""

import numpy as np
import pytest

import brainkit.evaluation
from brainkit.evaluation import (
    RSquared,
    cross_subject_ceiling,
    explainable_variance,
    explained_variance,
    noise_ceiling,
    pearson_r,
    pooled_ceiling_fraction,
    pooled_correlation_fraction,
    r2,
    thresholded_ceiling_fraction,
    thresholded_correlation_fraction,
)

N_IMAGES, N_VOXELS, N_PREDICTORS = 515, 3000, 20
DEFINITIONS = ["nsd", "split-half", "explainable-variance", "cross-subject", "cross-subject-all"]


def least_squares(X_train, Y_train, X_test):
    """An encoder for the cross-subject ceilings."""
    return X_test @ np.linalg.solve(X_train.T @ X_train, X_train.T @ Y_train)


@pytest.fixture(scope="module")
def voxels():
    """Pure noise: means over three trials, random predictions, and the ceilings of each kind."""
    generator = np.random.default_rng(0)
    trials = generator.normal(size=(3, N_IMAGES, N_VOXELS)).astype(np.float32)
    measured = trials.mean(axis=0)
    predicted = generator.normal(size=(N_PREDICTORS, *measured.shape)).astype(np.float32)
    flat, stimuli = trials.reshape(-1, N_VOXELS), np.tile(np.arange(N_IMAGES), 3)
    people = {f"s{i}": generator.normal(size=(N_IMAGES, 8)).astype(np.float32) for i in range(3)}
    people["target"] = measured
    ceilings = {
        "nsd": noise_ceiling(flat, stimuli),
        "split-half": noise_ceiling(flat, stimuli, definition="split-half"),
        "explainable-variance": explainable_variance(trials).ceiling(3),
    }
    for extrapolate in (True, False):
        found = cross_subject_ceiling(people, "target", least_squares, extrapolate=extrapolate)
        ceilings[found.ceiling.definition] = found.ceiling
    assert list(ceilings) == DEFINITIONS
    return measured, predicted, ceilings


def of_variance(measured, predicted):
    """Scores in units of variance.

    R² and explained variance fall below 0 with the variance of a prediction that knows nothing:
    they are given one as small as a fit to noise makes it, and responses of mean 0.
    """
    r = pearson_r(measured, predicted)
    centred, shrunk = measured - measured.mean(axis=0), 1e-3 * predicted
    return {
        "r": r,
        "signed square": r.signed_square(),
        "R²": r2(centred, shrunk),
        "explained variance": explained_variance(centred, shrunk),
    }


@pytest.fixture(scope="module")
def scores(voxels):
    """Scores of each random prediction."""
    measured, predicted, _ = voxels
    return [of_variance(measured, one) for one in predicted]


def mean_by_score(scores, fraction):
    """Mean over the random predictions, by name of the score."""
    return {name: np.mean([fraction(one[name]) for one in scores]) for name in scores[0]}


def test_the_clamped_formula_rewards_noise(voxels):
    measured, predicted, ceilings = voxels
    r, ceiling = np.asarray(pearson_r(measured, predicted[0])), np.asarray(ceilings["nsd"])
    explained = np.where(r < 0, 0, r) ** 2
    clamped = np.minimum(explained / np.where(ceiling == 0, 1e-14, ceiling), 1)
    assert (ceiling == 0).mean() == pytest.approx(0.5, abs=0.1)
    assert clamped.mean() == pytest.approx(0.30, abs=0.04)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_no_pooled_fraction_does(voxels, scores, definition):
    ceiling = voxels[2][definition]
    means = mean_by_score(scores, lambda one: float(pooled_ceiling_fraction(one, ceiling)))
    assert means == pytest.approx(dict.fromkeys(means, 0.0), abs=0.01)
    of_r = [float(pooled_correlation_fraction(one["r"], ceiling)) for one in scores]
    assert np.mean(of_r) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_no_thresholded_fraction_does(voxels, scores, definition):
    ceiling = voxels[2][definition]
    above = float(np.quantile(np.asarray(ceiling), 0.7))  # what the luckiest 30 % of voxels reach

    def share(one):
        fractions = thresholded_ceiling_fraction(one, ceiling, above=above)
        assert np.isfinite(fractions).sum() > 500
        return np.nanmean(fractions)

    means = mean_by_score(scores, share)
    assert means == pytest.approx(dict.fromkeys(means, 0.0), abs=0.01)
    threshold = float(np.sqrt(above))
    of_r = [
        np.nanmean(thresholded_correlation_fraction(one["r"], ceiling, above=threshold))
        for one in scores
    ]
    assert np.mean(of_r) == pytest.approx(0, abs=0.01)


def test_r2_of_a_random_prediction_is_below_chance_and_not_hidden(voxels):
    measured, predicted, ceilings = voxels
    scores = r2(measured, predicted[0])
    assert isinstance(scores, RSquared)
    assert float(pooled_ceiling_fraction(scores, ceilings["nsd"])) < -1


def test_a_ceiling_of_nothing_is_no_number_above_a_threshold(voxels):
    measured, predicted, ceilings = voxels
    ceiling = ceilings["nsd"]
    fractions = thresholded_ceiling_fraction(pearson_r(measured, predicted[0]), ceiling, above=0.02)
    assert np.isnan(np.asarray(fractions)[np.asarray(ceiling) <= 0.02]).all()


def test_no_other_normalisation_is_offered():
    offered = [name for name in brainkit.evaluation.__all__ if name.endswith("_fraction")]
    assert offered == [
        "pooled_ceiling_fraction",
        "pooled_correlation_fraction",
        "thresholded_ceiling_fraction",
        "thresholded_correlation_fraction",
    ]
