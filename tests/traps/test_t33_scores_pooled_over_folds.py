"""T33: correlation and identification pooled over folds, which lie below chance on noise."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.decoding import DecodingProtocol, RidgeDecoder, assess_decoder
from brainkit.encoding import EncodingProtocol, VoxelwiseRidge, assess_encoder
from brainkit.evaluation import identification, pearson_r
from brainkit.features import PixelPCA

N_ITEMS, N_UNITS = 100, 40


def brain_of_noise(seed: int) -> tuple[Recording, np.ndarray]:
    rng = np.random.default_rng([33, seed])
    recording = Recording.from_arrays(
        rng.normal(size=(N_ITEMS, N_UNITS)).astype(np.float32),
        trials=pd.DataFrame({"stimulus": np.arange(N_ITEMS)}),
        stimuli=rng.integers(0, 256, (N_ITEMS, 6, 6), dtype=np.uint8),
    )
    return recording, rng.normal(size=(N_ITEMS, 8)).astype(np.float32)


def test_a_prediction_of_the_training_mean_is_at_chance_within_folds_and_below_when_pooled() -> (
    None
):
    """The mean of all but a fold leans away from that fold: pooled over 10 folds r is -.3."""
    rng = np.random.default_rng(0)
    true = rng.normal(size=(N_ITEMS, 200))
    fold = np.repeat(np.arange(10), 10)
    means = np.stack([true[fold != number].mean(axis=0) for number in fold])
    predicted = means + 1e-3 * rng.normal(size=true.shape)
    pooled = np.asarray(pearson_r(true, predicted))
    within = np.asarray(pearson_r(true, predicted, fold=fold))
    assert pooled.mean() < -0.2
    assert abs(within.mean()) < 4 * within.std() / np.sqrt(len(within))
    direction = "reconstruction_given_image"
    everywhere = np.mean(identification(predicted, true, direction))
    inside = np.mean(identification(predicted, true, direction, fold=fold))
    assert everywhere < 0.4
    assert inside == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("folds", [5, 10])
def test_an_encoder_of_noise_is_at_chance(folds: int) -> None:
    model = VoxelwiseRidge(alphas=(10.0, 1000.0), cv=3)
    protocol = EncodingProtocol(f"kfold:{folds}", zscore=None, permutations=0, shuffles=1)
    values = []
    for seed in range(12):
        recording, features = brain_of_noise(seed)
        values.append(assess_encoder(recording, features, model, protocol).metrics["encoding_r"])
    for score in (
        [one["value"] for one in values],
        [one["nulls"]["shuffled_features"] for one in values],
    ):
        assert abs(np.mean(score)) < 4 * np.std(score, ddof=1) / np.sqrt(len(score))


@pytest.mark.parametrize(
    "metric",
    ["identification_reconstruction_given_image", "identification_image_given_reconstruction"],
)
def test_a_decoder_of_noise_is_at_chance(metric: str) -> None:
    protocol = DecodingProtocol("kfold:10", zscore=None)
    values = []
    for seed in range(12):
        recording, _ = brain_of_noise(seed)
        model = RidgeDecoder(alphas=(10.0, 1000.0), cv=3)
        values.append(assess_decoder(recording, PixelPCA(6), model, protocol).metrics[metric])
    for score in (
        [one["value"] for one in values],
        [one["nulls"]["shuffled_brain"] for one in values],
    ):
        assert abs(np.mean(score) - 0.5) < 4 * np.std(score, ddof=1) / np.sqrt(len(score))
