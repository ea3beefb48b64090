"""T27: state carried from one fold to the next: a model, a folder, a network that was opened."""

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import KFold, cross_val_predict

import brainkit
from brainkit.encoding import EncodingProtocol, assess_encoder
from brainkit.encoding.in_context import InContextEncoder
from brainkit.encoding.readouts import LinearReadout

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, size=(60, 6, 6), dtype=np.uint8)
QUICK = {"epochs": 3, "batch_size": 16, "device": "cpu", "progress": False}


class Pixels(TransformerMixin, BaseEstimator):
    """Quarters of an image as tokens of nine features."""

    def fit(self, images, y=None):
        return self

    def transform(self, images):
        halves = np.asarray(images, dtype=np.float32).reshape(-1, 2, 3, 2, 3)
        return halves.transpose(0, 1, 3, 2, 4).reshape(-1, 4, 9)

    def __sklearn_is_fitted__(self):
        return True


X = Pixels().transform(IMAGES)
Y = (X.reshape(60, -1) @ RNG.normal(size=(36, 4)) + 300 * RNG.normal(size=(60, 4))).astype("f4")


def test_folds_that_share_a_folder_are_those_of_their_own(tmp_path) -> None:
    folds = KFold(3, shuffle=True, random_state=0)
    for validation in (0, 0.2):
        shared = LinearReadout(folder=tmp_path, validation=validation, **QUICK)
        alone = LinearReadout(validation=validation, **QUICK)
        expected = cross_val_predict(alone, X, Y, cv=folds)
        for _ in range(2):  # the second time, all three are taken up
            np.testing.assert_array_equal(cross_val_predict(shared, X, Y, cv=folds), expected)
    assert len(list(tmp_path.iterdir())) == 6


def test_a_run_with_its_nulls_is_the_same_with_a_folder(tmp_path) -> None:
    recording = brainkit.Recording.from_arrays(Y, stimuli=IMAGES)
    protocol = EncodingProtocol(
        "kfold:3", zscore=None, average_repeats=False, ceiling=None, permutations=0, shuffles=1
    )

    def assess(folder):
        model = LinearReadout(folder=folder, **QUICK)
        found = assess_encoder(recording, Pixels(), model, protocol)
        return found, len(list(tmp_path.iterdir()))

    alone, none = assess(None)
    assert none == 0
    for _ in range(2):  # the second time, all fits are taken up
        found, fits = assess(tmp_path)
        np.testing.assert_array_equal(found.predictions, alone.predictions)
        assert found.metrics == alone.metrics
        none = none or fits
        assert fits == none >= 6  # three folds, true and exchanged


def test_a_network_of_another_checkpoint_is_opened(tmp_path) -> None:
    images = RNG.normal(size=(40, 6))
    size = {"width": 8, "layers": 1, "heads": 2, "hidden": 8}
    folders = [
        InContextEncoder(None, **size, seed=seed)
        .pretrain(images, steps=1)
        .save_pretrained(tmp_path / str(seed))
        for seed in (0, 1)
    ]
    X, targets = images[:30], images[:30, :2]
    one = InContextEncoder(str(folders[0])).fit(X, targets)
    first = one.coef_
    one.set_params(checkpoint=str(folders[1])).fit(X, targets)
    other = InContextEncoder(str(folders[1])).fit(X, targets)
    np.testing.assert_array_equal(one.coef_, other.coef_)
    assert not np.allclose(first, other.coef_)
