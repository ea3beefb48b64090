"""Thirty-six people who hear one story: continuous data, a dict of recordings."""

import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat

from brainkit import Recording

TR = 1.5


@pytest.fixture(scope="module")
def people(shared_data):
    cells = loadmat(shared_data / "pieman" / "weights.mat")["weights"].ravel()
    samples = pd.DataFrame({"run": 1, "time": TR * np.arange(300)})
    return {
        f"p{number:02d}": Recording.from_arrays(
            cell, subject=f"p{number:02d}", samples=samples, sfreq=1 / TR
        )
        for number, cell in enumerate(cells, start=1)
    }


def leave_one_out_correlation(values, shift=0):
    """Mean over people and units of r(one person, mean of the others)."""
    total, scores = sum(values), []
    for one in values:
        others = (total - one) / (len(values) - 1)
        moved = np.roll(one, shift, axis=0)
        a, b = moved - moved.mean(0), others - others.mean(0)
        scores.append((a * b).sum(0) / np.sqrt((a**2).sum(0) * (b**2).sum(0)))
    return np.mean(scores, axis=0)


def test_shapes(people):
    assert len(people) == 36
    for recording in people.values():
        assert recording.responses.shape == (300, 100)
        assert recording.trials is None
        assert recording.stimuli is None
        assert recording.samples["time"].iloc[-1] == 299 * TR


def test_people_follow_the_story_together(people):
    values = [recording.zscore(None).responses.read() for recording in people.values()]
    scores = leave_one_out_correlation(values)
    assert scores.mean() == pytest.approx(0.188, abs=0.01)
    assert scores.max() == pytest.approx(0.417, abs=0.02)
    generator = np.random.default_rng(0)
    null = [
        leave_one_out_correlation(values, int(shift)).mean()
        for shift in generator.integers(30, 270, 5)
    ]
    assert np.abs(null).max() < 0.05


def test_halves_of_the_story_are_stretches(people):
    recording = people["p01"]
    halves = [fold.test for fold in recording.split("kfold:2")]
    np.testing.assert_array_equal(
        np.concatenate([half.responses.read() for half in halves]), recording.responses.read()
    )
    fold = recording.split("kfold:2").folds[0].zscore(None)
    np.testing.assert_allclose(fold.train.responses.read().mean(0), 0, atol=1e-5)
    raw = recording.responses.read()
    expected = (raw[:150] - raw[150:].mean(0)) / raw[150:].std(0)
    np.testing.assert_allclose(fold.test.responses.read(), expected, rtol=1e-3, atol=1e-4)
