"""T31: predicted responses that decode better than the brain: a bias of the decoder."""

import numpy as np
import pytest

from brainkit.decoding.predicted_responses import decode_predicted_responses
from brainkit.encoding import VoxelwiseRidge
from brainkit.reconstruction import EmbeddingDecoder


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    A = rng.normal(size=(20, 60)) / np.sqrt(20)
    Z = rng.normal(size=(500, 20)).astype(np.float32)
    X = (Z @ A + 2.0 * rng.normal(size=(500, 60))).astype(np.float32)
    train, test = np.arange(400), np.arange(400, 500)
    decoder = EmbeddingDecoder(alphas=(10.0, 100.0)).fit(X[train], Z[train])
    encoder = VoxelwiseRidge(alphas=(1.0, 10.0)).fit(Z[train], X[train])
    return decoder, X[test], encoder.predict(Z[test]), Z[test]


def test_the_bias_is_that_of_the_decoder_and_an_encoder_s_noise_shows_in_none_of_it(case):
    """A better encoder and a worse one decode alike, while what voxels say tells them apart."""
    decoder, measured, predicted, Z = case
    rng = np.random.default_rng(4)
    worse = predicted + 0.5 * predicted.std(axis=0) * rng.normal(size=predicted.shape)
    good, bad = (
        decode_predicted_responses(decoder, measured, one, Z).summary()
        for one in (predicted, worse)
    )
    for direction in ("image_from_brain", "brain_from_image"):
        name = f"retrieval_{direction}_from_predicted_responses"
        assert good[name] == pytest.approx(bad[name], abs=0.02)
        assert bad[f"decoder_bias_{direction}"] > 0
    assert good["predicted_response_r"] > bad["predicted_response_r"] + 0.01


def test_no_name_calls_a_semantic_score_the_quality_of_an_encoder(case):
    names = decode_predicted_responses(*case).summary()
    decoded = [name for name in names if "retrieval" in name]
    assert len(decoded) == 4
    assert all("from_measured_responses" in n or "from_predicted_responses" in n for n in decoded)
    assert not [name for name in names if "encod" in name or "fidelity" in name]
    assert {"predicted_response_r", "predicted_response_variance_ratio"} <= set(names)
