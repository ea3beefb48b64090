r"""Oriented energy: how strong each orientation and spatial frequency is, and where.

For every orientation θ and frequency f (cycles an image) the image is filtered with a Gabor pair
in quadrature; the amplitude is averaged in Gaussian windows on a square lattice, and compressed:

.. math:: z = \log(1 + A / c), \quad
          A(u) = \sum_x G(x - u) \sqrt{(I * g_{even})^2 + (I * g_{odd})^2}

with c the contrast at which compression sets in (Adelson and Bergen, 1985, J. Opt. Soc. Am. A
2:284; Kay et al., 2008, Nature 452:352). Higher frequencies are sampled on denser lattices.
"""

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


def gabor_spectrum(side: int, frequency: float, theta: float, bandwidth: float) -> Float:
    """Fourier transform of a quadrature Gabor pair, even + i odd: a Gaussian at one frequency.

    Parameters
    ----------
    side : int
        Pixels of the padded image's side.
    frequency : float
        Cycles over `side`.
    theta : float
        Direction of the wave vector, radians; 0 is along x.
    bandwidth : float
        Standard deviation in the frequency domain as a share of `frequency`.

    Returns
    -------
    array (side, side)
        Real; without response to a constant image.
    """
    grid = np.fft.fftfreq(side) * side
    fx, fy = grid[None, :], grid[:, None]
    along = fx * np.cos(theta) + fy * np.sin(theta) - frequency
    across = -fx * np.sin(theta) + fy * np.cos(theta)
    spread = bandwidth * frequency
    spectrum = np.exp(-(along**2 + across**2) / (2 * spread**2))
    spectrum[0, 0] = 0.0
    return spectrum.astype(np.float32)


def pooling_windows(side: int, n_cells: int) -> Float:
    """Gaussian windows of a lattice of `n_cells` along one side, (n_cells, side), sums 1."""
    centres = (np.arange(n_cells) + 0.5) * side / n_cells - 0.5
    spread = 0.5 * side / n_cells
    windows = np.exp(-((np.arange(side) - centres[:, None]) ** 2) / (2 * spread**2))
    return (windows / windows.sum(axis=1, keepdims=True)).astype(np.float32)


def oriented_energy(
    images: NDArray[Any],
    *,
    n_orientations: int = 4,
    frequencies: tuple[float, ...] = (3.0, 6.0, 12.0),
    cells: tuple[int, ...] = (4, 8, 8),
    side: int = 64,
    colour: bool = True,
    bandwidth: float = 0.4,
    compression: float = 0.02,
) -> Float:
    """Compute oriented-energy features; the equation is in the module's docstring.

    Parameters
    ----------
    images : array (n, height, width) or (n, height, width, 3)
        uint8, or float in [0, 1].
    n_orientations : int, default=4
        Orientations over half a turn.
    frequencies : tuple of float
        Cycles an image.
    cells : tuple of int
        Side of the lattice at each frequency.
    side : int, default=64
        Images are resampled to this many pixels first.
    colour : bool, default=True
        Take red-green and blue-yellow energy besides luminance, from colour images.
    bandwidth : float, default=0.4
        Of the Gabors, see `gabor_spectrum`.
    compression : float, default=0.02
        The contrast c.

    Returns
    -------
    float32 array (n, n_features)
        Channel by channel, frequency by frequency, orientation by orientation, cell by cell.
    """
    _check_bank(n_orientations, frequencies, cells, side, bandwidth, compression)
    images = np.asarray(images)
    n_channels = channels(as_float(images[:0]), colour).shape[1]
    # Bytes that one image takes: filtered planes, and itself as floating point.
    working = (64 * side * side + 12 * int(np.prod(images.shape[1:3]))) * n_channels
    batch = min(pick_batch(working, max(len(images), 1)), LARGEST_BATCH)
    bank = _Bank(n_orientations, frequencies, cells, side, bandwidth)
    starts = track(range(0, len(images), batch), "oriented energy")
    parts = [
        bank.amplitudes(channels(as_float(images[start : start + batch]), colour))
        for start in starts
    ]
    if not parts:
        return np.empty((0, bank.n_features * n_channels), dtype=np.float32)
    return np.log1p(np.concatenate(parts) / np.float32(compression))


def _check_bank(
    n_orientations: int,
    frequencies: tuple[float, ...],
    cells: tuple[int, ...],
    side: int,
    bandwidth: float,
    compression: float,
) -> None:
    if len(frequencies) != len(cells) or not frequencies or max(frequencies) > side / 3:
        raise InputError(
            f"Give a lattice for each frequency, none above side / 3 = {side / 3:g} cycles; got "
            f"frequencies={frequencies}, cells={cells}."
        )
    positive = {
        "n_orientations": n_orientations,
        "frequencies": min(frequencies),
        "cells": min(cells),
        "bandwidth": bandwidth,
        "compression": compression,
    }
    for name, value in positive.items():
        if not value > 0:
            raise InputError(f"{name} must be positive; got {value}.")


class _Bank:
    """The filters and windows, built once for all batches."""

    def __init__(
        self,
        n_orientations: int,
        frequencies: tuple[float, ...],
        cells: tuple[int, ...],
        side: int,
        bandwidth: float,
    ) -> None:
        self.side, self.margin = side, side // 4
        padded = side + 2 * self.margin
        thetas = np.arange(n_orientations) * np.pi / n_orientations
        self.scales = []
        for frequency, n_cells in zip(frequencies, cells, strict=True):
            cycles = frequency * padded / side
            filters = [gabor_spectrum(padded, cycles, theta, bandwidth) for theta in thetas]
            self.scales.append((filters, pooling_windows(side, n_cells)))
        self.n_features = sum(len(f) * len(w) ** 2 for f, w in self.scales)

    def amplitudes(self, planes: Float) -> Float:
        """Pooled amplitudes of (n, channel, height, width), as (n, features)."""
        from scipy import fft

        planes = resample_square(planes, self.side)
        margin = self.margin
        # Mirrored borders, so that the frame of the image is not an edge.
        wide = np.pad(planes, ((0, 0), (0, 0), (margin, margin), (margin, margin)), "reflect")
        spectrum = fft.fft2(wide)
        inner = slice(margin, margin + self.side)
        pooled: list[list[Float]] = [[] for _ in range(planes.shape[1])]
        for filters, windows in self.scales:
            for gabor in filters:
                amplitude = np.abs(fft.ifft2(spectrum * gabor)[..., inner, inner])
                cells = windows @ amplitude @ windows.T  # (n, channel, cells, cells)
                for channel, values in enumerate(pooled):
                    values.append(cells[:, channel].reshape(len(planes), -1))
        return np.concatenate([part for values in pooled for part in values], axis=1)


class OrientedEnergy(TransformerMixin, BaseEstimator):
    """Oriented-energy features as a transformer of images; nothing is fitted.

    The parameters are those of `oriented_energy`.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit.features import OrientedEnergy
    >>> OrientedEnergy().fit_transform(np.zeros((2, 64, 64), dtype=np.uint8)).shape
    (2, 576)
    """

    def __init__(
        self,
        n_orientations: int = 4,
        frequencies: tuple[float, ...] = (3.0, 6.0, 12.0),
        cells: tuple[int, ...] = (4, 8, 8),
        side: int = 64,
        colour: bool = True,
        bandwidth: float = 0.4,
        compression: float = 0.02,
    ) -> None:
        self.n_orientations = n_orientations
        self.frequencies = frequencies
        self.cells = cells
        self.side = side
        self.colour = colour
        self.bandwidth = bandwidth
        self.compression = compression

    def fit(self, images: NDArray[Any], y: None = None) -> Self:
        """Do nothing; the features have no fitted part."""
        return self

    def transform(self, images: NDArray[Any]) -> Float:
        """Return the features, (n, n_features)."""
        return oriented_energy(images, **self.get_params())

    def __sklearn_is_fitted__(self) -> bool:
        return True
