"""T06: rows drawn with replacement before the folds are cut predict noise from their copies."""

import numpy as np
import pytest

from brainkit.evaluation import compare_encoders, pearson_r, score_intervals
from brainkit.linear.folds import kfold

N, N_FEATURES, N_TARGETS = 300, 150, 40
PENALTY = 100.0


@pytest.fixture(scope="module")
def noise():
    """Features and responses that have nothing to do with each other."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(N, N_FEATURES)), generator.normal(size=(N, N_TARGETS))


def held_out(features, responses, folds):
    """Ridge predictions of each fold from the others."""
    predicted = np.empty_like(responses)
    for train, test in folds:
        gram = features[train].T @ features[train] + PENALTY * np.eye(features.shape[1])
        predicted[test] = features[test] @ np.linalg.solve(
            gram, features[train].T @ responses[train]
        )
    return predicted


def test_drawing_rows_before_the_folds_predicts_noise(noise):
    features, responses = noise
    drawn = np.random.default_rng(1).integers(N, size=N)
    predicted = held_out(features[drawn], responses[drawn], kfold(N, 5, seed=0))
    assert np.asarray(pearson_r(responses[drawn], predicted)).mean() == pytest.approx(
        0.46, abs=0.06
    )


def test_sorted_copies_and_contiguous_folds_leak_little_but_not_nothing(noise):
    features, responses = noise
    drawn = np.sort(np.random.default_rng(1).integers(N, size=N))
    predicted = held_out(features[drawn], responses[drawn], kfold(N, 5))
    assert np.asarray(pearson_r(responses[drawn], predicted)).mean() < 0.1


def test_folds_that_know_the_rows_do_not(noise):
    features, responses = noise
    drawn = np.random.default_rng(1).integers(N, size=N)
    folds = kfold(N, 5, groups=drawn, seed=0)
    predicted = held_out(features[drawn], responses[drawn], folds)
    assert np.asarray(pearson_r(responses[drawn], predicted)).mean() == pytest.approx(0, abs=0.05)


def test_drawing_test_predictions_does_not(noise):
    features, responses = noise
    split = [(np.arange(200), np.arange(200, N))]
    predicted = held_out(features, responses, split)[200:]
    result = score_intervals(pearson_r, responses[200:], predicted)
    assert result.observed.mean() == pytest.approx(0, abs=0.05)
    np.testing.assert_allclose((result.low + result.high) / 2, result.observed, atol=0.04)
    assert result.excludes_zero.mean() < 0.15
    other = held_out(features[:, ::-1] ** 2, responses, split)[200:]
    compared = compare_encoders(pearson_r, responses[200:], predicted, other, n=300)
    assert (compared.p <= 0.05).mean() < 0.15
