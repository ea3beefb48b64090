"""Oriented energy against its equation worked out pixel by pixel, and gratings in closed form."""

import tracemalloc

import numpy as np
import pytest

from brainkit.errors import InputError
from brainkit.features import OrientedEnergy, oriented_energy
from brainkit.features.energy import gabor_wavelets

RNG = np.random.default_rng(0)
KAY_2008 = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


def grating(side, cycles, theta, phase=0.3, contrast=1.0):
    """A grating whose wave vector points along theta, around mid-grey."""
    y, x = np.mgrid[:side, :side] + 0.5
    along = (x * np.cos(theta) + y * np.sin(theta)) * cycles / side
    return (0.5 + 0.5 * contrast * np.cos(2 * np.pi * along + phase)).astype(np.float32)


def direct(image, frequencies, n_orientations, bandwidth, exponent, semisaturation):
    """The documented equation, each wavelet written out over all pixels."""
    side = len(image)
    y, x = (np.mgrid[:side, :side] + 0.5) / side  # images
    features = []
    for f in frequencies:
        spread = np.sqrt(2 * np.log(2)) / (2 * np.pi * f)
        spread *= (2**bandwidth + 1) / (2**bandwidth - 1)
        n = round(f)
        level = np.empty((n_orientations, n, n))
        for i, j in np.ndindex(n, n):
            dy, dx = y - (i + 0.5) / n, x - (j + 0.5) / n
            window = np.exp(-(dx**2 + dy**2) / (2 * spread**2))
            window /= window.sum()
            deviation = image - (window * image).sum()
            for k in range(n_orientations):
                theta = k * np.pi / n_orientations
                wave = 2 * np.pi * f * (dx * np.cos(theta) + dy * np.sin(theta))
                even = (4 * window * np.cos(wave) * deviation).sum()
                odd = (4 * window * np.sin(wave) * deviation).sum()
                level[k, i, j] = np.hypot(even, odd)
        if semisaturation is None:
            features.append(level**exponent)
        else:
            population = level.mean(axis=0) ** exponent
            features.append(level**exponent / (semisaturation**exponent + population))
    return np.concatenate([level.ravel() for level in features])


def pictures(side):
    """Noise, smooth noise, and an edge."""
    noise = np.random.default_rng(side).uniform(size=(side, side))
    smooth = np.cumsum(np.cumsum(noise - 0.5, axis=0), axis=1)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    edge = np.where(np.add.outer(np.arange(side), 2 * np.arange(side)) > 1.4 * side, 0.8, 0.3)
    return np.stack([noise, smooth, edge]).astype(np.float32)


@pytest.mark.parametrize("side", [24, 33])
@pytest.mark.parametrize(
    ("exponent", "semisaturation", "bandwidth"),
    [(1.0, 0.5, 1.0), (1.0, None, 1.0), (2.0, 0.1, 0.8), (2.0, None, 1.5)],
)
def test_features_are_the_documented_equation(side, exponent, semisaturation, bandwidth):
    frequencies = (1.0, 2.6, 6.0)
    settings = {"bandwidth": bandwidth, "exponent": exponent, "semisaturation": semisaturation}
    images = pictures(side)
    features = oriented_energy(
        images, n_orientations=3, frequencies=frequencies, side=side, **settings
    )
    assert features.shape == (3, 3 * (1 + 9 + 36))
    for row, image in zip(features, images, strict=True):
        expected = direct(image.astype(np.float64), frequencies, 3, **settings)
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_the_constants_are_the_published_ones():
    """Kay et al. (2008): octaves, 8 orientations, f × f positions; Kay et al. (2013): r, s."""
    settings = OrientedEnergy().get_params()
    assert settings["n_orientations"] == 8
    assert settings["bandwidth"] == 1
    assert (settings["exponent"], settings["semisaturation"]) == (1, 0.5)
    np.testing.assert_array_equal(np.diff(np.log2(settings["frequencies"])), 1)
    assert settings["frequencies"][0] == 1
    assert settings["side"] / settings["frequencies"][-1] == 128 / KAY_2008[-1]
    image = np.zeros((1, 128, 128), np.uint8)
    assert OrientedEnergy().transform(image).shape == (1, 8 * (1 + 4 + 16 + 64 + 256))
    # 10,921 channels in the paper, one of them the mean luminance.
    whole = OrientedEnergy(frequencies=KAY_2008, side=128, semisaturation=None)
    assert whole.transform(image).shape == (1, 10920)


def amplitudes(images, frequency, n_orientations=8, **settings):
    """Amplitudes of one frequency, (n, orientation, position, position)."""
    features = oriented_energy(
        images, frequencies=(frequency,), n_orientations=n_orientations, semisaturation=None,
        **settings,
    )  # fmt: skip
    n = max(round(frequency), 1)
    return features.reshape(len(images), n_orientations, n, n)


@pytest.mark.parametrize("theta", np.arange(8) * np.pi / 8)
def test_the_optimal_grating_gives_its_contrast(theta):
    """In units of Michelson contrast, at every phase, for a wavelet away from the frame."""
    for contrast in (1.0, 0.3):
        images = [grating(64, 8.0, theta, phase, contrast) for phase in np.linspace(0, 6, 7)]
        level = amplitudes(np.stack(images), 8.0)[:, :, 2:6, 2:6]
        best = level[:, round(theta * 8 / np.pi)]
        np.testing.assert_allclose(best, contrast, rtol=2e-3)
        assert (level.argmax(axis=1) == round(theta * 8 / np.pi)).all()


@pytest.mark.parametrize("octaves", [0.7, 1.0])
@pytest.mark.parametrize(
    ("ratio", "turn"),
    [(2 / 3, 0.0), (4 / 3, 0.0), (0.5, 0.0), (1.0, 0.2), (1.0, 0.335), (1.2, -0.4), (1, np.pi / 2)],
)
def test_tuning_is_a_gaussian_round_the_wave_vector(octaves, ratio, turn):
    """A grating k off the optimum k₀ passes by exp(−2π²σ²|k − k₀|²)."""
    image = grating(64, 8.0 * ratio, turn)
    level = amplitudes(image[None], 8.0, bandwidth=octaves)[0, 0, 3:5, 3:5]
    spread = np.sqrt(2 * np.log(2)) / (2 * np.pi * 8) * (2**octaves + 1) / (2**octaves - 1)
    off = 8 * np.hypot(ratio * np.cos(turn) - 1, ratio * np.sin(turn))
    np.testing.assert_allclose(level, np.exp(-2 * (np.pi * spread * off) ** 2), atol=4e-3)


@pytest.mark.parametrize("octaves", [0.7, 1.0])
def test_bandwidth_is_the_octaves_at_half_height(octaves):
    low, high = 2 / (2**octaves + 1), 2 ** (octaves + 1) / (2**octaves + 1)
    assert np.log2(high / low) == pytest.approx(octaves)
    images = np.stack([grating(128, 8.0 * ratio, 0.0) for ratio in (low, high)])
    level = amplitudes(images, 8.0, side=128, bandwidth=octaves)[:, 0, 3:5, 3:5]
    np.testing.assert_allclose(level, 0.5, atol=4e-3)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("scale", range(3))
@pytest.mark.parametrize("phase", [0.0, 1.0, 2.5])
def test_a_grating_excites_its_own_orientation_and_frequency_most(number, scale, phase):
    frequencies = (4.0, 8.0, 16.0)
    image = grating(64, frequencies[scale], number * np.pi / 4, phase)
    features = oriented_energy(image[None], n_orientations=4, frequencies=frequencies)[0]
    levels = np.split(features, np.cumsum([4 * 16, 4 * 64]))
    strength = [level.reshape(4, -1).mean(axis=1) for level in levels]
    assert np.unravel_index(np.argmax(strength), (3, 4)) == (scale, number)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 3), (3, 2)])
def test_energy_is_where_the_contrast_is(row, column):
    image = np.full((64, 64), 0.5, dtype=np.float32)
    patch = slice(16 * row, 16 * row + 16), slice(16 * column, 16 * column + 16)
    image[patch] = grating(64, 16.0, 0.0)[patch]
    level = amplitudes(image[None], 16.0)[0, 0]
    strongest = level.reshape(4, 4, 4, 4).sum(axis=(1, 3))
    assert np.unravel_index(np.argmax(strongest), (4, 4)) == (row, column)


def test_amplitudes_are_linear_in_contrast_and_normalisation_bends_them():
    """z = c w / (s + c w̄): half of its limit w / w̄ where the population's contrast c w̄ is s."""
    contrasts = np.array([0.05, 0.1, 0.4, 1.0])
    images = np.stack([grating(64, 8.0, 0.0, contrast=c) for c in contrasts])
    level = amplitudes(images, 8.0)[:, :, 3:5, 3:5]
    tuning = level[-1]  # (orientation, position, position)
    for row, contrast in zip(level, contrasts, strict=True):
        np.testing.assert_allclose(row, contrast * tuning, atol=1e-5)
    population = tuning.mean(axis=0)
    for exponent, semisaturation in [(1.0, 0.5), (2.0, 0.2)]:
        features = oriented_energy(
            images, frequencies=(8.0,), exponent=exponent, semisaturation=semisaturation
        ).reshape(4, 8, 8, 8)[:, :, 3:5, 3:5]
        for row, contrast in zip(features, contrasts, strict=True):
            expected = (contrast * tuning) ** exponent
            expected /= semisaturation**exponent + (contrast * population) ** exponent
            np.testing.assert_allclose(row, expected, rtol=1e-3, atol=1e-5)
    half = oriented_energy(images, frequencies=(8.0,), semisaturation=float(population[0, 0]))
    half = half.reshape(4, 8, 8, 8)[3, 0, 3, 3]
    assert half == pytest.approx(0.5 * tuning[0, 0, 0] / population[0, 0], rel=1e-3)


def test_normalisation_sums_over_orientations_and_no_further():
    """A grating on another place or of another frequency leaves a normalised response alone."""
    image = np.full((64, 64), 0.5, dtype=np.float32)
    image[:16, :16] = grating(64, 16.0, 0.0)[:16, :16]
    beside = image.copy()
    beside[40:, 40:] = grating(64, 16.0, np.pi / 2)[40:, 40:]
    features = oriented_energy(np.stack([image, beside]), frequencies=(16.0,))
    alone, with_neighbour = features.reshape(2, 8, 16, 16)[:, :, :4, :4]
    np.testing.assert_allclose(alone, with_neighbour, atol=1e-4)
    crossed = 0.5 * (grating(64, 8.0, 0.0) + grating(64, 8.0, np.pi / 2))
    images = np.stack([grating(64, 8.0, 0.0, contrast=0.5), crossed])
    single, masked = oriented_energy(images, frequencies=(8.0,)).reshape(2, 8, 8, 8)[:, 0, 3, 3]
    assert masked < 0.9 * single  # cross-orientation suppression


def test_grey_of_any_level_has_no_energy():
    levels = np.array([0.0, 0.5, 1.0], dtype=np.float32)[:, None, None]
    features = oriented_energy(np.broadcast_to(levels, (3, 64, 64)))
    np.testing.assert_allclose(features, 0, atol=1e-5)


def test_grey_images_have_no_colour_energy_and_colour_does():
    grey = RNG.uniform(size=(3, 32, 32)).astype(np.float32)
    options = {"side": 32, "frequencies": (4.0,)}
    tripled = np.repeat(grey[..., None], 3, axis=-1)
    features = oriented_energy(tripled, colour=True, **options).reshape(3, 3, -1)
    np.testing.assert_allclose(features[:, 1:], 0, atol=1e-5)
    luminance = oriented_energy(grey, **options)
    np.testing.assert_allclose(features[:, 0], luminance, rtol=1e-3, atol=1e-5)
    red_green = np.zeros((1, 32, 32, 3), dtype=np.float32)
    wave = grating(32, 4.0, 0.0)
    red_green[0, ..., 0], red_green[0, ..., 1] = wave, 1 - wave
    parts = oriented_energy(red_green, colour=True, semisaturation=None, **options).reshape(3, -1)
    luminance, opponent, blue = parts[:, 5]  # the first orientation, a place away from the frame
    assert opponent == pytest.approx(1, rel=0.01)  # the full range of the axis
    assert luminance == pytest.approx(0.587 - 0.299, rel=0.01)
    assert blue < 0.01


def test_uint8_and_float_images_agree():
    images = RNG.integers(0, 256, size=(4, 40, 56, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        oriented_energy(images), oriented_energy(images.astype(np.float32) / np.float32(255))
    )
    np.testing.assert_allclose(
        oriented_energy(images), oriented_energy(images / 255), rtol=1e-4, atol=1e-6
    )


def test_features_are_the_same_bits_in_any_batch(monkeypatch):
    images = RNG.integers(0, 256, size=(9, 40, 48), dtype=np.uint8)
    together = oriented_energy(images)
    for number in range(9):
        alone = oriented_energy(images[number : number + 1])
        np.testing.assert_array_equal(alone[0], together[number])
    import brainkit.features.energy as module

    monkeypatch.setattr(module, "LARGEST_BATCH", 2)
    np.testing.assert_array_equal(oriented_energy(images), together)


def test_transformer_has_the_features_of_the_function():
    images = RNG.integers(0, 256, size=(3, 64, 64, 3), dtype=np.uint8)
    space = OrientedEnergy(n_orientations=3, frequencies=(2.0, 8.0), colour=True)
    features = space.transform(images)
    np.testing.assert_array_equal(
        features, oriented_energy(images, n_orientations=3, frequencies=(2.0, 8.0), colour=True)
    )
    assert features.shape == (3, 3 * 3 * (4 + 64))
    assert features.dtype == np.float32
    np.testing.assert_array_equal(space.fit_transform(images), features)
    without = OrientedEnergy(n_orientations=3, frequencies=(2.0, 8.0)).transform(images)
    np.testing.assert_allclose(without, features[:, : 3 * 68], rtol=1e-5)
    assert OrientedEnergy().transform(images[:0]).shape == (0, 2728)


def test_wavelets_are_a_gaussian_by_a_wave_on_a_lattice():
    wavelets = gabor_wavelets(64, 4.0, 2)
    assert wavelets.rows.shape == wavelets.columns.shape == (2, 4, 64)
    np.testing.assert_allclose(wavelets.envelope.sum(axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(wavelets.envelope.argmax(axis=1), [7, 23, 39, 55], atol=1)
    pixels = np.arange(64) - 23.5
    spread = 0.5622 * 64 / 4  # Kay et al.: one octave
    expected = np.exp(-(pixels**2) / (2 * spread**2))
    expected /= expected.sum()
    np.testing.assert_allclose(wavelets.envelope[1], expected, atol=1e-5)
    wave = np.exp(2j * np.pi * 4 * pixels / 64)
    np.testing.assert_allclose(wavelets.columns[0, 1], 2 * expected * wave, atol=1e-5)
    np.testing.assert_allclose(wavelets.rows[0, 1], 2 * expected, atol=1e-5)
    np.testing.assert_allclose(wavelets.columns[1, 1], 2 * expected, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"frequencies": ()}, "frequencies of oriented energy must be above 0; got 0"),
        ({"frequencies": (0.0, 6.0)}, "frequencies of oriented energy must be above 0; got 0"),
        ({"frequencies": (3.0, 25.0)}, r"At side=64 and bandwidth=1.0 .* up to 24 cycles"),
        ({"n_orientations": 0}, "n_orientations of oriented energy must be above 0; got 0"),
        ({"bandwidth": -1.0}, "bandwidth of oriented energy must be above 0; got -1"),
        ({"exponent": 0.0}, "exponent of oriented energy must be above 0"),
        ({"semisaturation": 0.0}, "semisaturation of oriented energy must be above 0; got 0"),
        ({"semisaturation": float("nan")}, "semisaturation of .* must be above 0; got nan"),
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
        oriented_energy(images, side=32, frequencies=(4.0,))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 0.3 * 4 * images.size
