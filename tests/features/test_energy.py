"""Oriented energy against its equation worked out pixel by pixel, and on gratings."""

import tracemalloc

import numpy as np
import pytest

from brainkit.errors import InputError
from brainkit.features import OrientedEnergy, oriented_energy
from brainkit.features.energy import gabor_patch

RNG = np.random.default_rng(0)


def grating(side, cycles, theta, phase=0.3, contrast=1.0):
    """A grating whose wave vector points along theta, around mid-grey."""
    y, x = np.mgrid[:side, :side] + 0.5
    along = (x * np.cos(theta) + y * np.sin(theta)) * cycles / side
    return (0.5 + 0.5 * contrast * np.cos(2 * np.pi * along + phase)).astype(np.float32)


def direct(image, frequencies, n_orientations, n_cells, exponent=1.3, contrast=0.1):
    """The documented equation in space: convolve with each whole filter, pool every pixel."""
    side = len(image)
    margin = side // 4
    wide = np.pad(image.astype(np.float64), margin, "reflect")
    padded = len(wide)
    steps = np.arange(padded) - padded // 2
    lags = np.subtract.outer(np.arange(padded), np.arange(padded))  # circular convolution
    waves = np.exp(2j * np.pi * steps[:, None, None] * lags / padded) / padded
    centres = (np.arange(n_cells) + 0.5) * side / n_cells - 0.5
    windows = np.exp(-((np.arange(side) - centres[:, None]) ** 2) / (2 * (side / n_cells / 2) ** 2))
    windows /= windows.sum(axis=1, keepdims=True)
    amplitude, energy = [], 0.0
    for frequency in frequencies:
        cycles = frequency * padded / side
        for theta in np.arange(n_orientations) * np.pi / n_orientations:
            along_x, along_y = (
                np.exp(-((steps - cycles * part(theta)) ** 2) / (2 * (0.25 * cycles) ** 2))
                for part in (np.cos, np.sin)
            )
            kernel_x, kernel_y = (np.tensordot(gain, waves, 1) for gain in (along_x, along_y))
            output = kernel_y @ wide @ kernel_x.T
            output -= along_x[padded // 2] * along_y[padded // 2] * wide.mean()
            size = np.abs(output)[margin : margin + side, margin : margin + side]
            amplitude.append(windows @ size**exponent @ windows.T)
            energy = energy + windows @ size**2 @ windows.T
    return (np.array(amplitude) / (contrast**2 + energy) ** (exponent / 2)).ravel()


def pictures(side):
    """Noise, smooth noise, and an edge."""
    noise = np.random.default_rng(side).uniform(size=(side, side))
    smooth = np.cumsum(np.cumsum(noise - 0.5, axis=0), axis=1)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    edge = np.where(np.add.outer(np.arange(side), 2 * np.arange(side)) > 1.4 * side, 0.8, 0.3)
    return np.stack([noise, smooth, edge]).astype(np.float32)


@pytest.mark.parametrize("side", [32, 48])
@pytest.mark.parametrize(("exponent", "contrast"), [(1.3, 0.1), (2.0, 0.02), (1.0, 0.5)])
def test_features_are_the_documented_equation(side, exponent, contrast):
    images = pictures(side)
    found = oriented_energy(
        images, n_orientations=3, frequencies=(2.5, 5.0, 9.0), n_cells=4, side=side,
        exponent=exponent, contrast=contrast,
    )  # fmt: skip
    for row, image in zip(found, images, strict=True):
        expected = direct(image, (2.5, 5.0, 9.0), 3, 4, exponent, contrast)
        # Cut filters and coarse samples are an approximation, most of all where the frame cuts a
        # window.
        error = (row - expected).reshape(-1, 4, 4)
        inner, size = error[:, 1:-1, 1:-1], expected.reshape(-1, 4, 4)[:, 1:-1, 1:-1]
        assert np.sqrt(np.mean(error**2)) < 0.01 * np.sqrt(np.mean(expected**2))
        assert (np.abs(inner) < 0.02 * size + 0.001 * expected.max()).all()
        np.testing.assert_allclose(row, expected, rtol=0.05, atol=0.01 * expected.max())


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("scale", range(3))
@pytest.mark.parametrize("phase", [0.0, 1.0, 2.5])
def test_a_grating_excites_its_own_orientation_and_frequency_most(number, scale, phase):
    frequencies = (3.0, 6.0, 12.0)
    image = grating(64, frequencies[scale], number * np.pi / 4, phase)
    found = oriented_energy(image[None], n_orientations=4, frequencies=frequencies, n_cells=4)
    found = found.reshape(3, 4, 16).mean(axis=-1)
    assert np.unravel_index(np.argmax(found), found.shape) == (scale, number)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (3, 2)])
def test_energy_is_where_the_contrast_is(row, column):
    image = np.full((64, 64), 0.5, dtype=np.float32)
    patch = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
    image[patch] = grating(64, 12.0, 0.0)[patch]
    found = oriented_energy(image[None], frequencies=(12.0,), n_cells=4, contrast=1.0)
    found = found.reshape(8, 4, 4)
    assert np.unravel_index(np.argmax(found[0]), (4, 4)) == (row, column)


def test_amplitude_ignores_phase():
    phases = np.stack([grating(64, 8.0, 0.0, phase) for phase in np.linspace(0, 6, 7)])
    found = oriented_energy(phases, frequencies=(8.0,), n_cells=3, n_orientations=4)
    middle = found[:, 4]  # away from the borders
    assert np.ptp(middle) < 0.02 * middle.mean()


def test_contrast_counts_as_its_power_until_it_is_divided_away():
    options = {"frequencies": (8.0,), "n_cells": 3, "n_orientations": 4}
    images = np.stack([grating(64, 8.0, 0.0, contrast=c) for c in (0.1, 0.2, 1.0)])
    weak = oriented_energy(images, contrast=100.0, **options)[:, 4]
    np.testing.assert_allclose(weak[1:] / weak[0], [2**1.3, 10**1.3], rtol=1e-3)
    saturated = oriented_energy(images, contrast=1e-4, **options)[:, 4]
    np.testing.assert_allclose(saturated, saturated[0], rtol=1e-3)
    shares = oriented_energy(images, exponent=2.0, contrast=1e-4, **options).reshape(3, 4, 9)
    np.testing.assert_allclose(shares.sum(axis=1), 1, rtol=1e-4)  # of the contrast energy


def test_grey_of_any_level_has_no_energy():
    levels = np.array([0.0, 0.5, 1.0], dtype=np.float32)[:, None, None]
    found = oriented_energy(np.broadcast_to(levels, (3, 64, 64)))
    np.testing.assert_allclose(found, 0, atol=1e-3)


def test_grey_images_have_no_colour_energy_and_colour_does():
    grey = RNG.uniform(size=(3, 32, 32)).astype(np.float32)
    options = {"side": 32, "frequencies": (4.0,), "n_cells": 3}
    tripled = np.repeat(grey[..., None], 3, axis=-1)
    found = oriented_energy(tripled, colour=True, **options).reshape(3, 3, -1)
    np.testing.assert_allclose(found[:, 1:], 0, atol=1e-4)
    np.testing.assert_allclose(found[:, 0], oriented_energy(grey, **options), rtol=1e-3, atol=1e-5)
    red_green = np.zeros((1, 32, 32, 3), dtype=np.float32)
    wave = grating(32, 4.0, 0.0)
    red_green[0, ..., 0], red_green[0, ..., 1] = wave, 1 - wave
    parts = oriented_energy(red_green, colour=True, contrast=1.0, **options).reshape(3, -1)
    luminance, opponent, blue = parts
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
    options = {"side": 32, "frequencies": (4.0,), "n_cells": 3}
    whole = oriented_energy(images, **options)
    for number in range(9):
        alone = oriented_energy(images[number : number + 1], **options)
        np.testing.assert_allclose(alone[0], whole[number], rtol=1e-5, atol=1e-6)
    import brainkit.features.energy as module

    monkeypatch.setattr(module, "LARGEST_BATCH", 2)
    np.testing.assert_allclose(oriented_energy(images, **options), whole, rtol=1e-5, atol=1e-6)


def test_transformer_has_the_features_of_the_function():
    images = RNG.integers(0, 256, size=(3, 64, 64, 3), dtype=np.uint8)
    space = OrientedEnergy(n_orientations=3, n_cells=3, colour=True)
    found = space.transform(images)
    np.testing.assert_array_equal(
        found, oriented_energy(images, n_orientations=3, n_cells=3, colour=True)
    )
    assert found.shape == (3, 3 * 6 * 3 * 9)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(space.fit_transform(images), found)
    without = OrientedEnergy(n_orientations=3, n_cells=3).transform(images)
    np.testing.assert_allclose(without, found[:, : found.shape[1] // 3], rtol=1e-5)
    assert OrientedEnergy().transform(images[:0]).shape == (0, 3072)


@pytest.mark.parametrize(("theta", "peak"), [(0.0, (0, 12)), (np.pi / 2, (12, 0))])
def test_filters_are_a_gaussian_at_one_frequency(theta, peak):
    patch = gabor_patch(64, 16, 8.0, theta, 0.25, 4)  # 12 cycles over 96 pixels, spread 3
    gain = np.zeros((96, 96))
    size = len(patch.gain)
    assert size < 48  # a small part of the spectrum
    gain[patch.place] = np.fft.fftshift(patch.gain) * (96 / size) ** 2
    assert np.unravel_index(np.argmax(gain), gain.shape) == peak
    assert gain[peak] == pytest.approx(1)
    assert gain[0, 0] == 0
    assert gain[peak[0] + 3, peak[1]] == pytest.approx(np.exp(-0.5), rel=1e-5)
    assert gain[peak[0], peak[1] + 6] == pytest.approx(np.exp(-2), rel=1e-5)


def test_windows_are_means_on_a_lattice():
    windows = gabor_patch(32, 8, 5.0, 0.0, 0.25, 4).windows
    np.testing.assert_allclose(windows.sum(axis=1), 1, rtol=1e-6)
    assert (windows >= 0).all()
    pixels = np.arange(windows.shape[1]) * 48 / windows.shape[1] - 8
    np.testing.assert_allclose((windows @ pixels)[1:3], [11.5, 19.5], atol=0.1)
    half = 24 / windows.shape[1]  # of the stretch that a sample stands for
    assert not windows[:, (pixels < -0.5 - half) | (pixels > 31.5 + half)].any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frequencies": ()}, "frequencies of oriented energy must be above 0; got 0"),
        ({"frequencies": (0.0, 6.0)}, "frequencies of oriented energy must be above 0; got 0"),
        ({"frequencies": (3.0, 22.0)}, r"At side=64 and bandwidth=0.25 .* up to 21.3 cycles"),
        ({"n_cells": 0}, "n_cells of oriented energy must be above 0; got 0"),
        ({"n_orientations": 0}, "n_orientations of oriented energy must be above 0; got 0"),
        ({"bandwidth": -1.0}, "bandwidth of oriented energy must be above 0; got -1"),
        ({"exponent": 0.0}, "exponent of oriented energy must be above 0"),
        ({"contrast": float("nan")}, "contrast of oriented energy must be above 0; got nan"),
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
        oriented_energy(images, side=32, frequencies=(4.0,), n_cells=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.3 * 4 * images.size
