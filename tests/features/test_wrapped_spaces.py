"""What was fitted to the same images is found once; nothing else is taken for it."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone

import brainkit
from brainkit.arrays.digest import content_digest
from brainkit.features import PixelPCA, Remembered, pixels
from brainkit.features.feature_spaces import RememberedFits

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 8, 8, 3), dtype=np.uint8)


@pytest.fixture
def counted(monkeypatch):
    done = []
    original = pixels.principal_axes
    monkeypatch.setattr(pixels, "principal_axes", lambda *a: done.append(a) or original(*a))
    return done


def test_the_same_images_are_fitted_once(counted):
    fits = RememberedFits()
    first = PixelPCA(5).remember(fits)
    spaces = [clone(first), PixelPCA(5).remember(fits), clone(clone(first))]
    values = [space.fit_transform(IMAGES.copy()) for space in spaces]
    assert len(counted) == 1
    plain = PixelPCA(5).fit_transform(IMAGES)
    for made in values:
        np.testing.assert_array_equal(made, plain)
    assert not hasattr(first, "mean_")
    fits.forget()
    spaces[0].fit(IMAGES)
    assert len(counted) == 3


def test_other_images_other_sizes_and_other_types_are_not_the_same(counted):
    fits = RememberedFits()
    other = IMAGES.copy()
    other[3, 2, 1, 0] ^= 1
    given = [IMAGES, other, IMAGES[::-1], IMAGES[:-1], IMAGES.reshape(30, 4, 16, 3), IMAGES / 255]
    for images in given:
        found = PixelPCA(5).remember(fits).fit(images)
        plain = PixelPCA(5).fit(images)
        np.testing.assert_array_equal(found.components_, plain.components_)
        np.testing.assert_array_equal(found.mean_, plain.mean_)
    PixelPCA(6).remember(fits).fit(IMAGES)
    assert len(counted) == 2 * len(given) + 1


def test_what_is_remembered_is_not_saved(tmp_path):
    space = PixelPCA(5).remember(RememberedFits()).fit(IMAGES)
    loaded = brainkit.load_estimator(brainkit.save_estimator(space, tmp_path / "space"))
    np.testing.assert_array_equal(loaded.transform(IMAGES), space.transform(IMAGES))
    assert not hasattr(loaded, "_fits")


class Weighted(TransformerMixin, BaseEstimator):
    """A space with an array among its parameters."""

    def __init__(self, weights, inner=None):
        self.weights = weights
        self.inner = inner

    def fit(self, images, y=None):
        return self

    def transform(self, images):
        inner = 0 if self.inner is None else self.inner.transform(images)
        return images.reshape(len(images), -1).astype(np.float64) @ self.weights + inner


def test_arrays_among_parameters_count_in_full():
    """What an array prints of itself leaves out its middle."""
    first = np.ones((192, 20))
    other = first.copy()
    other[100, 10] = 7
    assert repr(first) == repr(other)
    assert content_digest(Weighted(first)) == content_digest(Weighted(first.copy()))
    assert content_digest(Weighted(first)) != content_digest(Weighted(other))
    assert content_digest(Weighted(first, Weighted(first))) != content_digest(
        Weighted(first, Weighted(other))
    )
    space = Remembered(Weighted(first))
    values = space.transform(IMAGES)
    space.space = Weighted(other)
    assert not np.allclose(space.transform(IMAGES), values)
    assert content_digest(Weighted([first, "a"])) != content_digest(Weighted([other, "a"]))


def test_texts_are_remembered_whatever_they_come_as():
    class Lengths(Weighted):
        def transform(self, texts):
            return np.array([[len(text)] for text in texts])

    space = Remembered(Lengths(np.ones(1)))
    expected = [[5], [3]]
    for form in (["a dog", "cat"], np.array(["a dog", "cat"], object), [b"a dog", b"cat"]):
        np.testing.assert_array_equal(space.transform(form), expected)
    assert len(space._rows) == 2
