"""T35: p values and intervals from dependent items, or from voxels taken as independent."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder

MODEL = VoxelwiseRidge(alphas=(10.0, 1000.0), cv=3)
N_IMAGES, N_UNITS, RUNS = 60, 30, 80


def repeats(seed: int, *, shared: bool) -> tuple[Recording, np.ndarray]:
    """Three trials of an image, not averaged; units may all be one and the same."""
    rng = np.random.default_rng([35, seed])
    shown = rng.permutation(np.repeat(np.arange(N_IMAGES), 3))
    test = np.isin(np.arange(N_IMAGES), rng.permutation(N_IMAGES)[:20])
    width = 1 if shared else N_UNITS
    of_image = rng.normal(size=(N_IMAGES, width))  # what no feature tells of an image
    values = of_image[shown] + rng.normal(size=(len(shown), width))
    recording = Recording.from_arrays(
        np.broadcast_to(values, (len(shown), N_UNITS)).astype(np.float32),
        trials=pd.DataFrame({"stimulus": shown, "shared": test[shown]}),
        units=pd.DataFrame({"roi.all": np.ones(N_UNITS, dtype=bool)}),
        stimuli=np.zeros((N_IMAGES, 4, 4), np.uint8),
    )
    return recording, rng.normal(size=(N_IMAGES, 6)).astype(np.float32)


@pytest.mark.parametrize("shared", [False, True])
def test_three_repeats_are_one_image(shared: bool) -> None:
    """Taken as independent, trials would give p ≤ .05 to an eighth of the units of noise."""
    protocol = EncodingProtocol(
        "nsd-shared1000", zscore=None, average_repeats=False, ceiling=None,
        permutations=19, shuffles=1,
    )  # fmt: skip
    small, region, covered = [], [], []
    for seed in range(RUNS):
        result = assess_encoder(*repeats(seed, shared=shared), MODEL, protocol)
        small.append((result.units["p"] <= 0.05).mean())
        entry = result.metrics["encoding_r"]
        region.append(entry["p_by_roi"]["all"] <= 0.05)
        covered.append(entry["ci"][0] <= 0 <= entry["ci"][1])
        assert entry["n_units"] == 20  # test images, not their 60 trials, nor voxels
    error = max(np.std(small, ddof=1), 0.01) / np.sqrt(RUNS)
    assert abs(np.mean(small) - 0.05) < 4 * error
    assert np.mean(region) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / RUNS)
    assert np.mean(covered) >= 0.95 - 4 * np.sqrt(0.05 * 0.95 / RUNS)
