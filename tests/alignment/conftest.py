"""Simulated people who answer the same stimuli in voxels of their own."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording


def simulated_person(subject, shared, n_units, *, noise=0.0, seed=0, repeats=1, mean=3.0):
    """Responses of orthonormal weights on shared dimensions, with noise; repeats are shuffled."""
    rng = np.random.default_rng([seed, *subject.encode()])
    weights = np.linalg.qr(rng.standard_normal((n_units, shared.shape[1])))[0]
    level = mean * rng.standard_normal(n_units)
    shown = rng.permutation(np.repeat(np.arange(len(shared)), repeats))
    values = shared[shown] @ weights.T + level
    values += noise * rng.standard_normal(values.shape)
    trials = pd.DataFrame({"stimulus": shown})
    return Recording.from_arrays(values.astype(np.float32), subject=subject, trials=trials)


@pytest.fixture
def shared():
    """(80 stimuli, 6 dimensions), of falling variance."""
    return np.random.default_rng(0).standard_normal((80, 6)) * np.arange(6, 0, -1)


@pytest.fixture
def people(shared):
    """Three people of 120, 40 and 90 units, two of whom saw everything twice or thrice."""
    sizes = {"ann": (120, 1), "bob": (40, 2), "cat": (90, 3)}
    return {
        name: simulated_person(name, shared, n_units, noise=0.05, repeats=repeats)
        for name, (n_units, repeats) in sizes.items()
    }


@pytest.fixture
def simulate():
    return simulated_person
