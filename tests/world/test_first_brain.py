import numpy as np
import pytest
from numpy.testing import assert_allclose

from brainkit.errors import InputError
from brainkit.world import first_brain
from brainkit.world.first_brain import content_channels
from brainkit.world.scenes import Content
from brainkit.world.tuning import gaussian_windows


def grating(frequency: float, orientation: float, contrast: float = 0.5) -> np.ndarray:
    """Paint a grey grating whose wave vector points along `orientation`."""
    axis = (np.arange(64) + 0.5) / 64
    y, x = np.meshgrid(axis, axis, indexing="ij")
    phase = 2 * np.pi * frequency * (x * np.cos(orientation) + y * np.sin(orientation))
    grey = np.round(127.5 * (1 + contrast * np.sin(phase))).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


@pytest.mark.parametrize("orientation", [0.0, np.pi / 3, np.pi / 2])
@pytest.mark.parametrize("frequency", [7.0, 14.0])
def test_the_matching_filter_answers_most(orientation: float, frequency: float) -> None:
    sight = first_brain.look(grating(frequency, orientation)[None])
    answers = {
        (o, f): first_brain.energy_map(sight, o, f)[0, 8:24, 8:24].mean()
        for o in first_brain.ORIENTATIONS
        for f in first_brain.FREQUENCIES
    }
    best = max(answers, key=lambda key: answers[key])
    assert best == pytest.approx((orientation, frequency))


def test_envelope_at_half_resolution_equals_the_full_one() -> None:
    sight = first_brain.look(grating(7.0, 0.4)[None])
    transfer = first_brain.log_gabor(0.4, 5.0)
    full = np.abs(np.fft.ifft2(sight.spectrum[0] * transfer)) ** 2
    half = first_brain.energy_map(sight, 0.4, 5.0)[0] ** (1 / first_brain.EXPONENT)
    half = half * (first_brain.SEMISATURATION + sight.pool[0])
    assert_allclose(half, full[::2, ::2], atol=1e-3 * full.max())


def test_energy_saturates_with_contrast() -> None:
    contrasts = (0.1, 0.2, 0.4, 0.8)
    images = np.stack([grating(7.0, 0.0, contrast) for contrast in contrasts])
    energy = first_brain.energy_map(first_brain.look(images), 0.0, 7.0)[:, 16, 16]
    growth = np.diff(np.log(energy)) / np.log(2)
    assert (np.diff(energy) > 0).all()
    assert (np.diff(growth) < 0).all()


def test_windows_sum_to_one_and_peak_at_their_centre() -> None:
    windows = gaussian_windows([0.25, 0.5], 0.1, 64)
    assert_allclose(windows.sum(axis=1), 1, rtol=1e-6)
    assert windows[0].argmax() in (15, 16)


def test_flat_picture_has_surfaces_but_no_energy() -> None:
    image = np.full((1, 64, 64, 3), (200, 100, 50), dtype=np.uint8)
    channels = first_brain.common_channels(first_brain.look(image))
    assert channels.shape == (1, 21, 64)
    assert_allclose(channels[0, :18], 0, atol=1e-6)
    expected = [(0.299 * 200 + 0.587 * 100 + 0.114 * 50) / 255, 100 / 255, -100 / 255]
    assert_allclose(channels[0, 18:].mean(axis=1), expected, rtol=1e-5)


def test_wrong_picture_size() -> None:
    with pytest.raises(InputError, match="64×64×3"):
        first_brain.look(np.zeros((1, 32, 32, 3), dtype=np.uint8))


def one_object(category: int, x: float, y: float, other_size: float = 0.0) -> Content:
    """Give a scene of one object of size .4, and perhaps a word in the middle."""
    kinds = np.array([[category, 4 if other_size else -1, -1]])
    return Content(
        category=kinds,
        x=np.array([[x, 0.5, 0.0]]),
        y=np.array([[y, 0.5, 0.0]]),
        size=np.array([[0.4, other_size, 0.0]]),
        colour=np.zeros((1, 3, 3)),
        background=np.zeros(1, dtype=np.int64),
    )


def test_content_channels_have_closed_forms() -> None:
    gated = content_channels(one_object(0, 0.5, 0.2), gate=True)[0]
    assert gated[0, -1] == pytest.approx(0.4**0.5)
    # Places run by rows: (x, y) = (.5, .2) is the second window.
    assert gated[0, 1] == pytest.approx(0.4**0.5)
    assert gated[0, 0] == pytest.approx(0.4**0.5 * np.exp(-0.5 * (0.3 / 0.2) ** 2))
    assert_allclose(gated[1:], 0)
    crowded = one_object(0, 0.5, 0.2, other_size=0.3)
    assert content_channels(crowded, gate=True)[0, 0, -1] == pytest.approx(0.4**0.5 / 1.3)
    assert content_channels(crowded, gate=False)[0, 0, -1] == pytest.approx(0.4**0.5)
