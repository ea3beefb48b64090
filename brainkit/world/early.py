"""What early visual voxels hear: oriented energy and surface channels of a picture.

The energy of a filter is the squared amplitude of a one-sided log-Gabor band (Field, 1987), defined
in the Fourier domain. It is divided by a constant plus the local contrast energy, which by
Parseval's theorem is the pool over all orientations and frequencies (Heeger, 1992), and compressed.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft

from brainkit.errors import InputError

FloatArray = npt.NDArray[np.float32]

EYE_SIZE: Final = 64
_BAND: Final = 32
ORIENTATIONS: Final = tuple(np.pi * k / 6 for k in range(6))
FREQUENCIES: Final = (3.5, 7.0, 14.0)
# Radial (ratio) and angular (radians) bandwidth of the common filters, and of the private ones.
COMMON_BANDWIDTH: Final = (0.6, 0.42)
PRIVATE_BANDWIDTH: Final = (0.7, 0.30)
SEMISATURATION: Final = 0.01
EXPONENT: Final = 0.6
POOL_WIDTH: Final = 0.10
LATTICE: Final = 8
WINDOW: Final = 0.075
_TAPER: Final = 4
_LUMINANCE: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)
SURFACES: Final = ("luminance", "red-green", "blue-yellow")


@dataclass(frozen=True, slots=True)
class Sight:
    """Pictures as the filters need them.

    Attributes
    ----------
    spectrum : complex64 array (n_scenes, 64, 64)
        Fourier transform of the tapered luminance.
    pool : float32 array (n_scenes, 32, 32)
        Local contrast energy.
    surfaces : float32 array (n_scenes, 3, 64, 64)
        Luminance, red-green and blue-yellow in 0..1 units.
    """

    spectrum: npt.NDArray[np.complex64]
    pool: FloatArray
    surfaces: FloatArray


def gaussian_windows(centres: npt.ArrayLike, width: float, n_pixels: int) -> FloatArray:
    """Give Gaussian windows along one axis of the image, each summing to one.

    Parameters
    ----------
    centres : array_like (n_windows,)
        Centres as fractions of the side.
    width : float
        Standard deviation as a fraction of the side.
    n_pixels : int
        Number of samples along the side.

    Returns
    -------
    windows : float32 array (n_windows, n_pixels)
    """
    places = (np.arange(n_pixels) + 0.5) / n_pixels
    distance = (places - np.asarray(centres, dtype=float)[:, None]) / width
    windows = np.exp(-0.5 * distance**2)
    return np.asarray(windows / windows.sum(axis=1, keepdims=True), dtype=np.float32)


def lattice_centres() -> npt.NDArray[np.float64]:
    """Give the centres of the lattice's windows along one axis, fractions of the side."""
    return (np.arange(LATTICE) + 0.5) / LATTICE


def look(images: npt.NDArray[np.uint8]) -> Sight:
    """Prepare pictures for filtering.

    Parameters
    ----------
    images : uint8 array (n_scenes, 64, 64, 3)

    Raises
    ------
    InputError
        If the pictures are not 64 × 64 RGB.
    """
    if images.shape[1:] != (EYE_SIZE, EYE_SIZE, 3):
        raise InputError(
            f"The simulated eye takes pictures of {EYE_SIZE}×{EYE_SIZE}×3, but got "
            f"{images.shape[1:]}."
        )
    rgb = images.astype(np.float32) / np.float32(255)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    luminance = rgb @ _LUMINANCE
    surfaces = np.stack([luminance, red - green, blue - (red + green) / 2], axis=1)
    ramp = np.minimum(np.arange(EYE_SIZE), np.arange(EYE_SIZE)[::-1]) + 0.5
    taper = np.sin(0.5 * np.pi * np.clip(ramp / _TAPER, 0, 1)).astype(np.float32) ** 2
    centred = luminance - luminance.mean(axis=(1, 2), keepdims=True)
    spectrum = scipy.fft.fft2(centred * taper[:, None] * taper)
    wide = gaussian_windows((np.arange(_BAND) + 0.5) / _BAND, POOL_WIDTH, EYE_SIZE)
    mean = wide @ centred @ wide.T
    square = wide @ (centred * centred) @ wide.T
    return Sight(spectrum, np.maximum(square - mean * mean, 0), surfaces)


def log_gabor(
    orientation: float, frequency: float, bandwidth: tuple[float, float] = COMMON_BANDWIDTH
) -> FloatArray:
    """Give a one-sided log-Gabor filter over the discrete spectrum.

    G(f, θ) = exp(-ln²(f / f₀) / (2 ln² κ)) · exp(-(θ - θ₀)² / (2 τ²))

    Parameters
    ----------
    orientation : float
        θ₀, the direction of the filter's wave vector, in radians.
    frequency : float
        f₀ in cycles per image.
    bandwidth : tuple of float
        κ, and τ in radians.

    Returns
    -------
    transfer : float32 array (64, 64)
    """
    axis = np.fft.fftfreq(EYE_SIZE, 1 / EYE_SIZE)
    v, u = np.meshgrid(axis, axis, indexing="ij")
    radius = np.hypot(u, v)
    radius[0, 0] = 1.0
    radial = np.exp(-(np.log(radius / frequency) ** 2) / (2 * np.log(bandwidth[0]) ** 2))
    turn = np.angle(np.exp(1j * (np.arctan2(v, u) - orientation)))
    transfer = radial * np.exp(-(turn**2) / (2 * bandwidth[1] ** 2))
    transfer[0, 0] = 0.0
    return np.asarray(transfer, dtype=np.float32)


def energy_map(
    sight: Sight,
    orientation: float,
    frequency: float,
    bandwidth: tuple[float, float] = COMMON_BANDWIDTH,
) -> FloatArray:
    """Give one filter's normalised, compressed energy everywhere.

    c = (|a|² / (σ² + pool))^.6 with a the band's analytic signal, σ² = .01

    Parameters
    ----------
    sight : Sight
    orientation, frequency, bandwidth
        As for `log_gabor`.

    Returns
    -------
    energy : float32 array (n_scenes, 32, 32)

    Notes
    -----
    The modulus of a band does not change when the band is moved to zero frequency, so a box of 32
    frequencies about the filter's centre gives the envelope at half the picture's resolution.
    """
    offsets = np.arange(_BAND) - _BAND // 2
    rows = (offsets + round(frequency * np.sin(orientation))) % EYE_SIZE
    columns = (offsets + round(frequency * np.cos(orientation))) % EYE_SIZE
    box = np.ix_(rows, columns)
    transfer = log_gabor(orientation, frequency, bandwidth)[box] * np.float32(
        (_BAND / EYE_SIZE) ** 2
    )
    band = scipy.fft.ifft2(sight.spectrum[:, box[0], box[1]] * transfer, overwrite_x=True)
    energy = band.real**2 + band.imag**2
    ratio = energy / (np.float32(SEMISATURATION) + sight.pool)
    return np.asarray(ratio ** np.float32(EXPONENT), dtype=np.float32)


def common_channels(sight: Sight) -> FloatArray:
    """Give the channels that all subjects share.

    Parameters
    ----------
    sight : Sight

    Returns
    -------
    channels : float32 array (n_scenes, 21, 64)
        Type of channel (orientation slowest, then frequency; then the surfaces) by place on the
        8 × 8 lattice, rows first; each the mean under a Gaussian window of .075 of the side.
    """
    half = gaussian_windows(lattice_centres(), WINDOW, _BAND)
    full = gaussian_windows(lattice_centres(), WINDOW, EYE_SIZE)
    pooled = [
        half @ energy_map(sight, orientation, frequency) @ half.T
        for orientation in ORIENTATIONS
        for frequency in FREQUENCIES
    ]
    pooled += [full @ sight.surfaces[:, kind] @ full.T for kind in range(len(SURFACES))]
    stacked = np.asarray(np.stack(pooled, axis=1), dtype=np.float32)
    return stacked.reshape(len(stacked), stacked.shape[1], -1)


@dataclass(frozen=True, slots=True)
class PrivateFilters:
    """The filters that one subject alone has.

    Attributes
    ----------
    orientation, frequency : float array (3,)
    x, y : float array (3, 6)
        Centres of the Gaussian windows, a jittered lattice of three by two for each filter.
    """

    orientation: npt.NDArray[np.float64]
    frequency: npt.NDArray[np.float64]
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "PrivateFilters":
        """Draw a subject's filters: a third of a half-turn apart, 6 to 14 cycles per image."""
        n_filters = 3
        orientation = np.pi * (rng.random() + np.arange(n_filters) / n_filters)
        frequency = 6.0 * (14.0 / 6.0) ** rng.random(n_filters)
        row, column = np.meshgrid(np.arange(2), np.arange(3), indexing="ij")
        jitter = rng.uniform(0.2, 0.8, size=(2, n_filters, 6))
        return cls(
            orientation,
            frequency,
            x=(column.ravel() + jitter[0]) / 3,
            y=(row.ravel() + jitter[1]) / 2,
        )

    def channels(self, sight: Sight) -> FloatArray:
        """Give the private energies.

        Parameters
        ----------
        sight : Sight

        Returns
        -------
        channels : float32 array (n_scenes, 18)
            Filter by place, place fastest.
        """
        pooled = []
        for number, (orientation, frequency) in enumerate(
            zip(self.orientation, self.frequency, strict=True)
        ):
            energy = energy_map(sight, float(orientation), float(frequency), PRIVATE_BANDWIDTH)
            across = gaussian_windows(self.x[number], WINDOW, _BAND)
            down = gaussian_windows(self.y[number], WINDOW, _BAND)
            windows = (down[:, :, None] * across[:, None, :]).reshape(len(down), -1)
            pooled.append(energy.reshape(len(energy), -1) @ windows.T)
        return np.concatenate(pooled, axis=1)
