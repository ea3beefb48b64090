"""What counts as images, and how they are resampled."""

import numpy as np
import pytest

from brainkit.errors import InputError
from brainkit.features.images import as_float, channels, resample_square

RNG = np.random.default_rng(0)


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
