"""Pixel components against scikit-learn's, there and back.

What counts as images, and how they are resampled.
"""

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError

from brainkit.errors import InputError
from brainkit.features import PixelPCA, reduction
from brainkit.features.pixels import as_float, channels, resample_square

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
    monkeypatch.setattr(reduction, "EXACT_SIZE", 50)
    calls = []
    original = reduction._randomised
    monkeypatch.setattr(reduction, "_randomised", lambda *a: calls.append(1) or original(*a))
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


def test_uint8_becomes_the_unit_interval():
    found = as_float(np.array([[[0, 51, 255]]], dtype=np.uint8))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [[[0, 0.2, 1]]], rtol=1e-6)


def test_floats_are_kept_and_not_the_same_memory():
    images = RNG.uniform(size=(2, 3, 3)).astype(np.float32)
    found = as_float(images)
    np.testing.assert_array_equal(found, images)
    assert not np.shares_memory(found, images)
    assert as_float(images.astype(np.float64)).dtype == np.float32
    assert as_float(images[:0]).shape == (0, 3, 3)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((4, 4), np.uint8), r"got shape \(4, 4\)"),
        (np.zeros((2, 4, 4, 4), np.uint8), r"got shape \(2, 4, 4, 4\)"),
        (np.zeros((2, 3, 4, 4), np.uint8), r"\(n, height, width, 3\); got shape"),
        (np.zeros((2, 4, 4), np.int64), "uint8 or floating point in .0, 1.; got int64"),
        (np.full((2, 4, 4), 255.0), "values from 255 to 255. Divide by their range"),
        (np.full((2, 4, 4), -1.0), "values from -1 to -1"),
        (np.full((2, 4, 4), np.nan), "values from nan to nan"),
    ],
)
def test_what_is_no_image(images, message):
    with pytest.raises(InputError, match=message):
        as_float(images)


def test_channels_are_luminance_and_two_opponents():
    images = np.zeros((4, 1, 1, 3), np.float32)
    images[0], images[1, ..., 0], images[2, ..., 1], images[3, ..., 2] = 1, 1, 1, 1
    np.testing.assert_allclose(
        channels(images, True)[..., 0, 0],
        [[1, 0, 0], [0.299, 0.5, -0.25], [0.587, -0.5, -0.25], [0.114, 0, 0.5]],
        atol=1e-6,
    )
    assert channels(images, False).shape == (4, 1, 1, 1)
    assert channels(images[..., 0], True).shape == (4, 1, 1, 1)


@pytest.mark.parametrize(("size", "side"), [(64, 16), (48, 32), (20, 32), (33, 16), (16, 16)])
def test_resampling_keeps_constants_ramps_and_the_mean(size, side):
    flat = np.full((1, 1, size, size), 0.7, np.float32)
    np.testing.assert_allclose(resample_square(flat, side), 0.7, rtol=1e-6)
    ramp = np.broadcast_to(np.linspace(0, 1, size, dtype=np.float32), (1, 1, size, size))
    found = resample_square(ramp, side)
    centres = ((np.arange(side) + 0.5) * size / side - 0.5) / (size - 1)
    np.testing.assert_allclose(found[0, 0, 0, 2:-2], centres[2:-2], atol=1e-3)
    np.testing.assert_allclose(found[0, 0], found[0, 0, :1].repeat(side, axis=0), atol=1e-6)


def test_whole_blocks_are_averaged_and_width_may_differ():
    images = RNG.uniform(size=(2, 3, 32, 48)).astype(np.float32)
    expected = images.reshape(2, 3, 16, 2, 16, 3).mean(axis=(3, 5))
    np.testing.assert_allclose(resample_square(images, 16), expected, rtol=1e-6)
    assert resample_square(images, 20).shape == (2, 3, 20, 20)


def test_shrinking_does_not_alias():
    stripes = np.tile(np.array([0, 1], np.float32), (1, 1, 50, 25))
    assert resample_square(stripes, 16)[..., 1:-1].std() < 0.05
