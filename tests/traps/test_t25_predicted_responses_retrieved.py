"""T25: predicted responses that are retrieved better than real ones, sold as fidelity."""

import numpy as np
import pytest

from brainkit.decoding.predicted_responses import decode_predicted_responses
from brainkit.encoding import VoxelwiseRidge
from brainkit.errors import InputError
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


def test_the_bias_of_the_decoder_stands_beside_what_voxels_say(case):
    compared = decode_predicted_responses(*case)
    for direction in ("image_from_brain", "brain_from_image"):
        assert compared.from_predicted[direction].value > 0.98  # almost always found
        assert compared.decoder_bias[direction].interval().low > 0
    # While voxels agree as far as noise lets them, and predictions vary much less.
    assert np.mean(compared.r) < 0.6
    assert np.mean(compared.variance_ratio) < 0.4


def test_measured_responses_given_as_predictions_have_no_bias(case):
    decoder, measured, _, Z = case
    compared = decode_predicted_responses(decoder, measured, measured, Z)
    assert all(one.value == 0 for one in compared.decoder_bias.values())
    np.testing.assert_allclose(compared.r, 1)
    np.testing.assert_allclose(compared.variance_ratio, 1)


def test_responses_of_other_shapes_are_refused(case):
    decoder, measured, predicted, Z = case
    with pytest.raises(InputError, match="of one shape"):
        decode_predicted_responses(decoder, measured, predicted[:, :5], Z)
