"""T01: predictions re-standardised with the test batch's own mean and standard deviation.

Whatever is predicted for one item may not depend on what else is predicted with it.
"""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.preparing import prepare
from brainkit.data.stimuli import Stimuli
from brainkit.decoding import MassiveRidge, RidgeDecoder
from brainkit.decoding.image_decoding import fit_spaces, reconstruct
from brainkit.encoding import VoxelwiseRidge
from brainkit.features import FeatureStack, OrientedEnergy, PixelPCA, Remembered, SingleSpace
from brainkit.reconstruction import EmbeddingDecoder

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(60, 16, 16), dtype=np.uint8)
ENERGY = OrientedEnergy(side=16, frequencies=(3.0,))
SPACES = [
    ENERGY,
    PixelPCA(8),
    Remembered(ENERGY),
    SingleSpace(ENERGY),
    FeatureStack([SingleSpace(Remembered(ENERGY)), SingleSpace(PixelPCA(8), "space")]),
]


def same_alone_and_among_others(transform, items):
    whole = transform(items)
    for rows in ([0], [7], [3, 9], [9, 3, 3, 1]):
        np.testing.assert_allclose(transform(items[rows]), whole[rows], rtol=1e-4, atol=1e-5)
    far = np.concatenate([items[:1], np.zeros_like(items[1:])])  # company of another kind
    np.testing.assert_allclose(transform(far)[0], whole[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("space", SPACES, ids=repr)
def test_features(space):
    space.fit(IMAGES[:40])
    same_alone_and_among_others(space.transform, IMAGES[40:])


@pytest.mark.parametrize("kind", [VoxelwiseRidge, RidgeDecoder, MassiveRidge, EmbeddingDecoder])
@pytest.mark.parametrize("n_features", [10, 80])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions(kind, n_features, dtype):
    X = RNG.normal(size=(60, n_features)).astype(dtype)
    model = kind().fit(X[:40], RNG.normal(size=(40, 5)).astype(dtype))
    same_alone_and_among_others(model.predict, 10 * X[40:] + 3)


def test_reconstructions_and_their_units():
    """Each test response alone gives the image that it gives among the others."""
    stimulus = np.arange(60)
    trials = pd.DataFrame({"stimulus": stimulus, "shared": stimulus >= 45, "session": stimulus % 2})
    signal = IMAGES.reshape(60, -1) @ RNG.normal(size=(256, 30)) / 1000
    recording = Recording.from_arrays(signal, trials=trials, stimuli=Stimuli(IMAGES))

    def images_of(kept):
        part = recording.select(trials=kept)
        folds = [
            prepare(fold, zscore="session", average_repeats=False)
            for fold in part.split("nsd-shared1000")
        ]
        spaces = fit_spaces(part.stimuli, folds, PixelPCA(8))
        run = reconstruct(part.stimuli, folds, spaces, RidgeDecoder(), "inverse", np.arange(5))
        return run.images["reconstruction"], run.images["nearest_training_image"]

    whole = images_of(np.arange(60))
    for number in (0, 8):
        alone = images_of(np.append(np.arange(45), 45 + number))
        for one, other in zip(alone, whole, strict=True):
            np.testing.assert_allclose(one[0], other[number], rtol=1e-4, atol=1e-5)
