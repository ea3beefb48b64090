"""Pixel components against scikit-learn's, there and back."""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from brainkit.errors import InputError
from brainkit.features import PixelPCA, pixels

RNG = np.random.default_rng(0)
BASES = RNG.normal(size=(12, 8, 8, 3))


def images(n):
    """Smooth-ish random images with a steep spectrum, in [0, 1]."""
    scores = RNG.normal(size=(n, 12)) * np.geomspace(1, 0.05, 12)
    values = 0.5 + 0.03 * np.tensordot(scores, BASES, 1) + 0.002 * RNG.normal(size=(n, 8, 8, 3))
    return np.clip(values, 0, 1).astype(np.float32)


@pytest.mark.parametrize("n", [40, 400])  # fewer and more images than pixels
def test_components_are_those_of_scikit_learn(n):
    shown = images(n)
    found = PixelPCA(8).fit(shown)
    peer = PCA(8, svd_solver="full").fit(shown.reshape(n, -1).astype(np.float64))
    signs = np.sign((found.components_ * peer.components_).sum(axis=1))
    np.testing.assert_allclose(found.components_, signs[:, None] * peer.components_, atol=1e-4)
    np.testing.assert_allclose(found.explained_variance_, peer.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(found.mean_.ravel(), peer.mean_, atol=1e-6)
    held_out = images(5)
    np.testing.assert_allclose(
        found.transform(held_out), signs * peer.transform(held_out.reshape(5, -1)), atol=1e-4
    )
    np.testing.assert_allclose(found.components_ @ found.components_.T, np.eye(8), atol=1e-5)


@pytest.mark.parametrize("n", [100, 400])
def test_a_few_components_of_large_matrices_are_the_same(monkeypatch, n):
    shown = images(n)
    exact = PixelPCA(8).fit(shown)
    monkeypatch.setattr(pixels, "EXACT_SIZE", 50)
    calls = []
    original = pixels._randomised
    monkeypatch.setattr(pixels, "_randomised", lambda *a: calls.append(1) or original(*a))
    found = PixelPCA(8).fit(shown)
    assert calls
    np.testing.assert_allclose(found.components_, exact.components_, atol=1e-4)
    np.testing.assert_allclose(found.explained_variance_, exact.explained_variance_, rtol=1e-4)
    np.testing.assert_array_equal(PixelPCA(8).fit(shown).components_, found.components_)
    many = PixelPCA(30).fit(shown)  # not few: exact again
    assert len(calls) == 2
    np.testing.assert_allclose(many.components_[:8], exact.components_, atol=1e-5)


def test_signs_do_not_depend_on_the_library():
    components = PixelPCA(6).fit(images(40)).components_
    assert (components[np.arange(6), np.abs(components).argmax(axis=1)] > 0).all()


def test_inverse_gives_back_what_the_components_span():
    shown = images(30)
    space = PixelPCA(29).fit(shown)
    np.testing.assert_allclose(space.inverse_transform(space.transform(shown)), shown, atol=1e-4)
    few = PixelPCA(3).fit(shown)
    scores = RNG.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        (few.inverse_transform(scores) - few.mean_).reshape(4, -1) @ few.components_.T,
        scores, atol=1e-5,
    )  # fmt: skip
    np.testing.assert_array_equal(few.inverse_transform(np.zeros((1, 3)))[0], few.mean_)


def test_uint8_and_float_images_agree():
    shown = (images(30) * 255).astype(np.uint8)
    one, other = PixelPCA(5).fit(shown), PixelPCA(5).fit(shown / 255)
    np.testing.assert_allclose(one.transform(shown), other.transform(shown / 255), atol=1e-4)


@pytest.mark.parametrize("n_components", [0, -1, 30, 500])
def test_too_few_images_for_the_components(n_components):
    with pytest.raises(InputError, match="n_components must be from 1 to 29 for 30 training"):
        PixelPCA(n_components).fit(images(30))


@pytest.mark.parametrize("n_components", [True, 2.0, 2.5, "2", None, [2]])
def test_components_are_counted(n_components):
    with pytest.raises(InputError, match="n_components must be a whole number; got"):
        PixelPCA(n_components).fit(images(30))
    assert PixelPCA(np.int64(2)).fit(images(30)).components_.shape[0] == 2


def test_copies_of_few_images_have_few_components():
    with pytest.raises(InputError, match=r"vary in 4 directions only.*no 8 principal"):
        PixelPCA(8).fit(np.repeat(images(5), 6, axis=0))
    assert PixelPCA(4).fit(np.repeat(images(5), 6, axis=0)).components_.shape[0] == 4
    with pytest.raises(InputError, match="vary in 0 directions only"):
        PixelPCA(1).fit(np.zeros((5, 4, 4), np.uint8))


def test_images_of_another_size_and_before_fitting():
    space = PixelPCA(3).fit(images(10))
    with pytest.raises(InputError, match=r"training images' shape \(8, 8, 3\); got \(8, 8\)"):
        space.transform(images(2)[..., 0])
    with pytest.raises(NotFittedError, match="not fitted"):
        PixelPCA(3).transform(images(2))
