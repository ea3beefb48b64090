r"""Oriented energy: how strong each orientation and spatial frequency is, and where.

For every orientation θ and frequency f (cycles an image) let :math:`a_{\theta f}(x)` be the
output of a Gabor pair in quadrature, even + i odd. Its amplitude, to a power, is averaged in
Gaussian windows G on a square lattice u, and divided by the contrast energy there:

.. math::

    z_{\theta f}(u) = \frac{\sum_x G(x - u)\, |a_{\theta f}(x)|^p}{(c^2 + E(u))^{p/2}}, \quad
    E(u) = \sum_{\theta f} \sum_x G(x - u)\, |a_{\theta f}(x)|^2

with p the exponent and c the contrast below which nothing is divided away (energy: Adelson and
Bergen, 1985, J. Opt. Soc. Am. A 2:284; normalisation: Heeger, 1992, Visual Neuroscience 9:181;
as an encoding model: Kay et al., 2008, Nature 452:352).

A filter's output fills a small part of the spectrum. That part alone is moved to the origin and
transformed back, on a grid as coarse as it allows: the amplitude is the same, at a tenth of the
work.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from brainkit.arrays.memory import pick_batch
from brainkit.arrays.progress import track
from brainkit.errors import InputError
from brainkit.features.images import as_float, channels, resample_square

Float = NDArray[np.float32]
LARGEST_BATCH = 256  # more images at once leave the cache and gain nothing
REACH = 3.0  # standard deviations of a filter that are kept


@dataclass(frozen=True)
class GaborPatch:
    """The part of the spectrum that one Gabor pair passes, and how its output is pooled.

    Attributes
    ----------
    place : pair of index arrays
        Where the part lies in the spectrum of the padded image, centre in the middle.
    gain : float32 array (size, size)
        The filter there: a Gaussian round (θ, f), 0 for a constant image.
    windows : float32 array (cells, size)
        Pooling weights along one side, sums 1.
    """

    place: tuple[NDArray[Any], ...]
    gain: Float
    windows: Float


def gabor_patch(
    side: int, margin: int, frequency: float, theta: float, bandwidth: float, n_cells: int
) -> GaborPatch:
    """Describe one Gabor pair on an image of `side` pixels, padded by `margin` on each side.

    Parameters
    ----------
    frequency : float
        Cycles over `side`.
    theta : float
        Direction of the wave vector, radians; 0 is along x.
    bandwidth : float
        Standard deviation in the frequency domain as a share of `frequency`.
    n_cells : int
        Pooling windows along one side; their standard deviation is half their distance.
    """
    from scipy.fft import next_fast_len

    padded = side + 2 * margin
    centre = frequency * padded / side  # cycles over the padded image
    spread = bandwidth * centre
    # Fine enough for the filter's band and for three samples a window.
    size = max(int(np.ceil(2 * REACH * spread)), 3 * n_cells * padded // side, 8)
    size = min(next_fast_len(size + size % 2), padded)
    kx, ky = centre * np.cos(theta), centre * np.sin(theta)
    x = np.arange(size) - size // 2 + round(kx)
    y = np.arange(size) - size // 2 + round(ky)
    gain = np.exp(-((x - kx) ** 2 + (y[:, None] - ky) ** 2) / (2 * spread**2))
    gain[(y[:, None] == 0) & (x == 0)] = 0.0
    # Beyond the Nyquist frequency the spectrum repeats itself; that part is not this filter's.
    gain[(np.abs(y[:, None]) > padded // 2) | (np.abs(x) > padded // 2)] = 0.0
    position = np.arange(size) * padded / size - margin  # of the samples, in pixels
    lattice = (np.arange(n_cells) + 0.5) * side / n_cells - 0.5
    windows = np.exp(-((position - lattice[:, None]) ** 2) / (2 * (0.5 * side / n_cells) ** 2))
    # A sample counts with the part of its stretch that lies within the image's frame.
    half = padded / size / 2
    inside = np.minimum(position + half, side - 0.5) - np.maximum(position - half, -0.5)
    windows *= np.clip(inside / (2 * half), 0, 1)
    windows /= windows.sum(axis=1, keepdims=True)
    return GaborPatch(
        place=np.ix_(y % padded, x % padded),
        gain=(np.fft.ifftshift(gain) * (size / padded) ** 2).astype(np.float32),
        windows=windows.astype(np.float32),
    )


def oriented_energy(
    images: NDArray[Any],
    *,
    n_orientations: int = 8,
    frequencies: tuple[float, ...] = (2.0, 4.0, 6.0, 8.5, 12.0, 17.0),
    n_cells: int = 8,
    side: int = 64,
    colour: bool = False,
    bandwidth: float = 0.25,
    exponent: float = 1.3,
    contrast: float = 0.1,
) -> Float:
    """Compute oriented-energy features; the equation is in the module's docstring.

    Parameters
    ----------
    images : array (n, height, width) or (n, height, width, 3)
        uint8, or float in [0, 1].
    n_orientations : int, default=8
        Orientations over half a turn.
    frequencies : tuple of float
        Cycles an image.
    n_cells : int, default=8
        Side of the pooling lattice.
    side : int, default=64
        Images are resampled to this many pixels first.
    colour : bool, default=False
        Take red-green and blue-yellow energy besides luminance, from colour images; each channel
        is normalised by itself.
    bandwidth : float, default=0.25
        Of the filters, see `gabor_patch`.
    exponent : float, default=1.3
        The power p of the amplitude.
    contrast : float, default=0.1
        The constant c of the normalisation.

    Returns
    -------
    float32 array (n, n_features)
        Channel by channel, frequency by frequency, orientation by orientation, cell by cell.
    """
    settings = (n_orientations, frequencies, n_cells, side, bandwidth, exponent, contrast)
    _check_settings(*settings)
    images = np.asarray(images)
    n_channels = channels(as_float(images[:0]), colour).shape[1]
    # Bytes that one image takes: padded spectra, pooled outputs, and itself as floating point.
    n_filters = n_orientations * len(frequencies)
    working = 64 * side * side + 16 * n_filters * n_cells**2
    working += 12 * int(np.prod(images.shape[1:3]))
    batch = min(pick_batch(working * n_channels, max(len(images), 1)), LARGEST_BATCH)
    margin = side // 4
    patches = [
        gabor_patch(side, margin, frequency, theta, bandwidth, n_cells)
        for frequency in frequencies
        for theta in np.arange(n_orientations) * np.pi / n_orientations
    ]
    out = np.empty((len(images), n_channels * n_filters * n_cells**2), dtype=np.float32)
    for start in track(range(0, len(images), batch), "oriented energy"):
        planes = resample_square(channels(as_float(images[start : start + batch]), colour), side)
        pooled = _normalised(planes, patches, margin, exponent, contrast)
        out[start : start + batch] = pooled.reshape(len(planes), -1)
    return out


def _normalised(
    planes: Float, patches: list[GaborPatch], margin: int, exponent: float, contrast: float
) -> Float:
    """Return z of (n, channel, side, side), as (n, channel, filter, cell, cell)."""
    from scipy import fft

    # Mirrored borders, so that the frame of the image is not an edge.
    wide = np.pad(planes, ((0, 0), (0, 0), (margin, margin), (margin, margin)), "reflect")
    spectrum = fft.fft2(wide, workers=-1)
    amplitude: list[Float] = []
    energy: Any = 0
    for patch in patches:
        passed = spectrum[:, :, patch.place[0], patch.place[1]]
        output = fft.ifft2(fft.ifftshift(passed, axes=(2, 3)) * patch.gain, workers=-1)
        power = output.real**2 + output.imag**2
        energy = energy + patch.windows @ power @ patch.windows.T
        amplitude.append(patch.windows @ power ** (exponent / 2) @ patch.windows.T)
    divisor = (contrast**2 + energy) ** (exponent / 2)  # (n, channel, cells, cells)
    return np.asarray(np.stack(amplitude, axis=2) / divisor[:, :, None], dtype=np.float32)


def _check_settings(
    n_orientations: int,
    frequencies: tuple[float, ...],
    n_cells: int,
    side: int,
    bandwidth: float,
    exponent: float,
    contrast: float,
) -> None:
    positive = {
        "n_orientations": n_orientations,
        "frequencies": min(frequencies, default=0),
        "n_cells": n_cells,
        "bandwidth": bandwidth,
        "exponent": exponent,
        "contrast": contrast,
    }
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{name} of oriented energy must be above 0; got {value}.")
    highest = side / 2 / (1 + 2 * bandwidth)
    if max(frequencies) > highest:
        raise InputError(
            f"At side={side} and bandwidth={bandwidth} the frequencies can go up to {highest:.3g} "
            f"cycles an image; got {frequencies}."
        )


class OrientedEnergy(TransformerMixin, BaseEstimator):
    """Oriented-energy features as a transformer of images; nothing is fitted.

    The parameters are those of `oriented_energy`.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.features import OrientedEnergy
    >>> OrientedEnergy().fit_transform(np.zeros((2, 64, 64), dtype=np.uint8)).shape
    (2, 3072)
    """

    def __init__(
        self,
        n_orientations: int = 8,
        frequencies: tuple[float, ...] = (2.0, 4.0, 6.0, 8.5, 12.0, 17.0),
        n_cells: int = 8,
        side: int = 64,
        colour: bool = False,
        bandwidth: float = 0.25,
        exponent: float = 1.3,
        contrast: float = 0.1,
    ) -> None:
        self.n_orientations = n_orientations
        self.frequencies = frequencies
        self.n_cells = n_cells
        self.side = side
        self.colour = colour
        self.bandwidth = bandwidth
        self.exponent = exponent
        self.contrast = contrast

    def fit(self, images: NDArray[Any], y: None = None) -> Self:
        """Do nothing; the features have no fitted part."""
        return self

    def transform(self, images: NDArray[Any]) -> Float:
        """Return the features, (n, n_features)."""
        return oriented_energy(images, **self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        return True
