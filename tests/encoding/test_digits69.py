"""Encoding the real recording: which voxels of V1 to V3 follow the digit a person looks at."""

import numpy as np
import pytest

import brainkit
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder
from brainkit.encoding.judging import prepare_folds
from brainkit.encoding.passes import held_out
from brainkit.features import PixelPCA, SingleSpace

AREAS = ["V1d", "V1v", "V2d", "V2v", "V3d", "V3v"]
# The settings of the recipe encode-pixel-components, with fewer null runs.
FEATURES = SingleSpace(PixelPCA(30), scale="space")
MODEL = VoxelwiseRidge(alphas=tuple(np.geomspace(0.1, 1e4, 11)))
PROTOCOL = EncodingProtocol(
    "kfold:10",
    seeds=(0, 1, 2, 3, 4),
    zscore=None,
    average_repeats=False,
    ceiling=None,
    permutations=19,
    shuffles=3,
)


@pytest.fixture(scope="module")
def recording(shared_data):
    return brainkit.load("digits69", shared_data / "digits69")


@pytest.fixture(scope="module")
def result(recording):
    return assess_encoder(recording, FEATURES, MODEL, PROTOCOL, regions=AREAS)


@pytest.mark.slow
def test_voxels_that_follow_the_image(result):
    count = result.metrics["encoding_units_r_above_0.3"]
    assert count["n"] == 3092
    assert count["value"] >= 680
    assert min(count["by_seed"]) >= 680
    assert count["nulls"]["shuffled_features"] < 40
    assert sum(count["by_roi"].values()) > 0.8 * count["value"]


@pytest.mark.slow
def test_scores_and_null_by_area(result):
    assert result.metrics["encoding_r"]["value"] > 0.11
    assert result.metrics["encoding_r"]["nulls"]["shuffled_features"] == pytest.approx(0, abs=0.02)
    low, high = result.metrics["encoding_r"]["ci"]
    assert 0.05 < low < result.metrics["encoding_r"]["value"] < high < 0.3
    assert list(result.regions["region"]) == AREAS
    assert (result.regions["r"] > 0.1).all()
    assert (result.regions["p"] == 0.05).all()  # the least that 19 permutations can give
    best = np.sort(result.units["r"])[-100:]
    assert best.mean() > 0.7
    assert sorted(result.test_stimuli) == list(range(100))


@pytest.mark.slow
def test_as_many_voxels_by_the_correlation_of_raw_values(recording):
    """Truth and predictions pooled over folds as they are, not as deviations from fold means."""
    counts = []
    for seed in PROTOCOL.seeds:
        folds = prepare_folds(recording, PROTOCOL, seed=seed)
        run = held_out(recording, folds, FEATURES, MODEL)
        means = np.concatenate(
            [np.broadcast_to(fold.train.mean(axis=0), fold.test.shape) for fold in folds]
        )
        truth, predicted = (run.truth + means).astype(float), (run.predicted + means).astype(float)
        np.testing.assert_allclose(
            truth, np.concatenate([fold.test for fold in folds]), rtol=1e-4, atol=1e-4
        )
        truth, predicted = truth - truth.mean(axis=0), predicted - predicted.mean(axis=0)
        r = (truth * predicted).sum(axis=0) / np.sqrt(
            (truth**2).sum(axis=0) * (predicted**2).sum(axis=0)
        )
        counts.append(int((r > 0.3).sum()))
    assert np.mean(counts) >= 680, counts
