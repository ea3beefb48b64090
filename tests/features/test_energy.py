"""Oriented energy against its equation worked out pixel by pixel, and on gratings."""

import tracemalloc

import numpy as np
import pytest

from brainkit.errors import InputError
from brainkit.features import OrientedEnergy, oriented_energy
from brainkit.features.energy import gabor_spectrum, pooling_windows

RNG = np.random.default_rng(0)


def grating(side, cycles, theta, phase=0.3, contrast=1.0):
    """A grating whose wave vector points along theta, around mid-grey."""
    y, x = np.mgrid[:side, :side] + 0.5
    along = (x * np.cos(theta) + y * np.sin(theta)) * cycles / side
    return (0.5 + 0.5 * contrast * np.cos(2 * np.pi * along + phase)).astype(np.float32)


def direct(image, frequency, n_cells, n_orientations, bandwidth=0.4, compression=0.02):
    """The documented equation in space: convolve with even and odd filters, pool, compress."""
    side = len(image)
    margin = side // 4
    wide = np.pad(image.astype(np.float64), margin, "reflect")
    padded = len(wide)
    cycles = frequency * padded / side
    steps = np.fft.fftfreq(padded) * padded
    y, x = np.mgrid[:padded, :padded]
    features = []
    for number in range(n_orientations):
        theta = number * np.pi / n_orientations
        even, odd = np.zeros((padded, padded)), np.zeros((padded, padded))
        for fy in steps:
            for fx in steps:
                along = fx * np.cos(theta) + fy * np.sin(theta) - cycles
                across = -fx * np.sin(theta) + fy * np.cos(theta)
                weight = np.exp(-(along**2 + across**2) / (2 * (bandwidth * cycles) ** 2))
                if (fx, fy) == (0, 0) or weight < 1e-12:
                    continue
                wave = 2 * np.pi * (fx * x + fy * y) / padded
                even += weight * np.cos(wave) / padded**2
                odd += weight * np.sin(wave) / padded**2
        responses = []
        for kernel in (even, odd):  # circular convolution, one output pixel at a time
            out = np.empty((padded, padded))
            for row in range(padded):
                for column in range(padded):
                    shifted = kernel[(row - y) % padded, (column - x) % padded]
                    out[row, column] = (wide * shifted).sum()
            responses.append(out)
        amplitude = np.hypot(*responses)[margin : margin + side, margin : margin + side]
        centres = (np.arange(n_cells) + 0.5) * side / n_cells - 0.5
        for cy in centres:
            for cx in centres:
                gy = np.exp(-((np.arange(side) - cy) ** 2) / (2 * (0.5 * side / n_cells) ** 2))
                gx = np.exp(-((np.arange(side) - cx) ** 2) / (2 * (0.5 * side / n_cells) ** 2))
                window = np.outer(gy, gx)
                features.append((window * amplitude).sum() / window.sum())
    return np.log(1 + np.array(features) / compression)


def test_features_are_the_documented_equation():
    images = RNG.uniform(size=(2, 12, 12)).astype(np.float32)
    found = oriented_energy(images, n_orientations=2, frequencies=(2.5,), cells=(2,), side=12)
    for row, image in zip(found, images, strict=True):
        np.testing.assert_allclose(row, direct(image, 2.5, 2, 2), rtol=1e-4)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("scale", range(3))
@pytest.mark.parametrize("phase", [0.0, 1.0, 2.5])
def test_a_grating_excites_its_own_orientation_and_frequency_most(number, scale, phase):
    frequency = (3.0, 6.0, 12.0)[scale]
    image = grating(64, frequency, number * np.pi / 4, phase)
    found = oriented_energy(image[None], cells=(4, 4, 4))[0].reshape(3, 4, 16).mean(axis=-1)
    assert np.unravel_index(np.argmax(found), found.shape) == (scale, number)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (3, 2)])
def test_energy_is_where_the_contrast_is(row, column):
    image = np.full((64, 64), 0.5, dtype=np.float32)
    patch = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
    image[patch] = grating(64, 12.0, 0.0)[patch]
    found = oriented_energy(image[None], frequencies=(12.0,), cells=(4,)).reshape(4, 4, 4)
    assert np.unravel_index(np.argmax(found[0]), (4, 4)) == (row, column)


def test_amplitude_ignores_phase_and_grows_with_contrast():
    options = {"frequencies": (8.0,), "cells": (3,), "n_orientations": 4}
    phases = np.stack([grating(64, 8.0, 0.0, phase) for phase in np.linspace(0, 6, 7)])
    found = oriented_energy(phases, **options)[:, 4]  # the middle cell, away from the borders
    assert np.ptp(found) < 0.02 * found.mean()
    weak, strong = oriented_energy(
        np.stack([grating(64, 8.0, 0.0, contrast=c) for c in (0.1, 0.5)]), **options
    )[:, 4]
    np.testing.assert_allclose(np.expm1(strong), 5 * np.expm1(weak), rtol=1e-3)


def test_grey_of_any_level_has_no_energy():
    levels = np.array([0.0, 0.5, 1.0], dtype=np.float32)[:, None, None]
    found = oriented_energy(np.broadcast_to(levels, (3, 64, 64)))
    np.testing.assert_allclose(found, 0, atol=1e-3)


def test_grey_images_have_no_colour_energy_and_colour_does():
    grey = RNG.uniform(size=(3, 32, 32)).astype(np.float32)
    options = {"side": 32, "frequencies": (4.0,), "cells": (3,)}
    found = oriented_energy(np.repeat(grey[..., None], 3, axis=-1), **options).reshape(3, 3, -1)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-4)
    np.testing.assert_allclose(found[:, 0], oriented_energy(grey, **options), rtol=1e-3, atol=1e-5)
    red_green = np.zeros((1, 32, 32, 3), dtype=np.float32)
    wave = grating(32, 4.0, 0.0)
    red_green[0, ..., 0], red_green[0, ..., 1] = wave, 1 - wave
    luminance, opponent, blue = oriented_energy(red_green, **options).reshape(3, -1)
    assert opponent.max() > 1.3 * luminance.max()
    assert opponent.max() > 1.3 * blue.max()


def test_uint8_and_float_images_agree():
    images = RNG.integers(0, 256, size=(4, 40, 56, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        oriented_energy(images), oriented_energy(images.astype(np.float32) / np.float32(255))
    )
    np.testing.assert_allclose(oriented_energy(images), oriented_energy(images / 255), rtol=1e-4)


def test_features_do_not_depend_on_the_batch(monkeypatch):
    images = RNG.integers(0, 256, size=(9, 32, 32), dtype=np.uint8)
    options = {"side": 32, "frequencies": (4.0,), "cells": (3,)}
    whole = oriented_energy(images, **options)
    for number in range(9):
        alone = oriented_energy(images[number : number + 1], **options)
        np.testing.assert_allclose(alone[0], whole[number], rtol=1e-5, atol=1e-6)
    import brainkit.features.energy as module

    monkeypatch.setattr(module, "LARGEST_BATCH", 2)
    np.testing.assert_allclose(oriented_energy(images, **options), whole, rtol=1e-5, atol=1e-6)


def test_transformer_has_the_features_of_the_function():
    images = RNG.integers(0, 256, size=(3, 64, 64, 3), dtype=np.uint8)
    space = OrientedEnergy(n_orientations=3, cells=(2, 3, 4))
    found = space.transform(images)
    np.testing.assert_array_equal(found, oriented_energy(images, n_orientations=3, cells=(2, 3, 4)))
    assert found.shape == (3, 3 * 3 * (4 + 9 + 16))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(space.fit_transform(images), found)
    without = OrientedEnergy(n_orientations=3, cells=(2, 3, 4), colour=False).transform(images)
    np.testing.assert_allclose(without, found[:, : found.shape[1] // 3], rtol=1e-5)
    assert OrientedEnergy().transform(images[:0]).shape == (0, 1728)


def test_filters_are_a_gaussian_at_one_frequency():
    spectrum = gabor_spectrum(48, 8.0, np.pi / 2, 0.4)
    assert np.unravel_index(np.argmax(spectrum), spectrum.shape) == (8, 0)
    assert spectrum[0, 0] == 0
    assert spectrum[8, 0] == 1
    np.testing.assert_allclose(spectrum[8 + 3, 0], np.exp(-0.5 * (3 / 3.2) ** 2), rtol=1e-6)


def test_windows_are_means_on_a_lattice():
    windows = pooling_windows(32, 4)
    np.testing.assert_allclose(windows.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(windows, windows[::-1, ::-1], rtol=1e-5)
    assert np.argmax(windows, axis=1).tolist() in ([3, 11, 19, 27], [4, 12, 20, 28])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frequencies": (3.0, 6.0)}, "a lattice for each frequency"),
        ({"frequencies": (), "cells": ()}, "a lattice for each frequency"),
        ({"frequencies": (3.0, 6.0, 22.0)}, r"none above side / 3 = 21.3333 cycles"),
        ({"frequencies": (0.0, 6.0, 12.0)}, "frequencies must be positive; got 0"),
        ({"cells": (4, 0, 8)}, "cells must be positive; got 0"),
        ({"n_orientations": 0}, "n_orientations must be positive; got 0"),
        ({"bandwidth": -1.0}, "bandwidth must be positive"),
        ({"compression": 0.0}, "compression must be positive"),
    ],
)
def test_settings_without_meaning(settings, message):
    with pytest.raises(InputError, match=message):
        OrientedEnergy(**settings).transform(np.zeros((1, 64, 64), dtype=np.uint8))


def test_batches_bound_the_memory(monkeypatch):
    """Photographs become floating point a batch at a time."""
    import brainkit.features.energy as module

    monkeypatch.setattr(module, "LARGEST_BATCH", 4)
    images = np.broadcast_to(RNG.integers(0, 256, (1, 96, 96, 3), np.uint8), (400, 96, 96, 3))
    tracemalloc.start()
    try:
        oriented_energy(images, side=32, frequencies=(4.0,), cells=(2,))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.3 * 4 * images.size
