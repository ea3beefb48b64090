r"""The eye of the simulated brain's second version: filters learned from photographs, in pools.

Pixels (0..1) are turned to the orthonormal axes (R + G + B)/√3, (R - G)/√2 and (2B
- R - G)/√6 (Ruderman, Cronin and Chiao, 1998, J. Opt. Soc. Am. A 15:2036) and filtered: luminance
by f exp(-(f/.4)⁴), the whitening filter of Olshausen and Field (1996, Nature 381:607), colour by
exp(-(f/.12)²), f in cycles per pixel. 64 filters of 12 × 12 pixels and three colours, learned by
sparse coding from four photographs (``scripts/learn_photograph_filters.py``), look at them every
four pixels: 16 × 16 places. With u a filter's output in units of its deviation, a threshold makes
two rectified channels of each, r = max(±u - 1, 0), one step of iterative soft thresholding. 32
**pools** T_m, mean 1, sum channels by how alike their filters are up to a shift (weights exp((κ -
1)/.15) with κ the largest normalised cross-correlation): cells that like the same thing on nearby
places.
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from brainkit.world.scenes import EYE_SIZE, unit_range

Single = npt.NDArray[np.float32]

FILTERS: Final = Path(__file__).with_name("photograph_filters.safetensors")
AXES: Final = np.array(
    [[1, 1, 1], [1, -1, 0], [-1, -1, 2]] / np.sqrt([[3.0], [2.0], [6.0]]), dtype=np.float32
)
LUMINANCE_CUTOFF: Final = 0.4
COLOUR_CUTOFF: Final = 0.12
PATCH: Final = 12
STRIDE: Final = 4
LATTICE: Final = EYE_SIZE // STRIDE
THRESHOLD: Final = 1.0
SHARPNESS: Final = 0.15
N_POOLS: Final = 32
_MARGIN: Final = 8  # mirrored pixels round the picture, so that its frame is no edge
_CHUNK: Final = 50  # pictures whose patches lie in memory at once


def retina(images: Single) -> Single:
    """Turn pictures to luminance and two colours, and filter them.

    Parameters
    ----------
    images : float32 array (n, height, width, 3)
        Images with values in 0..1.

    Returns
    -------
    seen : float32 array (n, 3, height + 16, width + 16)
        The images with a mirrored margin of eight pixels.
    """
    margin = ((0, 0), (0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN))
    planes = np.pad(np.moveaxis(images @ AXES.T, 3, 1), margin, "reflect")
    height, width = planes.shape[2:]
    f = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    luminance = f * np.exp(-((f / LUMINANCE_CUTOFF) ** 4))
    colour = np.exp(-((f / COLOUR_CUTOFF) ** 2))
    transfer = np.stack([luminance, colour, colour]).astype(np.float32)
    spectrum = scipy.fft.rfft2(planes) * transfer
    return np.asarray(scipy.fft.irfft2(spectrum, s=(height, width)), dtype=np.float32)


class Eye:
    """The filters that all people share, in the units of a calibration set.

    Parameters
    ----------
    images : uint8 array (n, 64, 64, 3)
        Scenes over which each colour and each filter's output have unit deviation and pools mean 1.

    Attributes
    ----------
    filters : float32 array (64, 3, 12, 12)
        Unit norm.
    pools : float32 array (128, 32)
        Weights of the rectified channels, the positive ones first, in the 32 pools.
    """

    def __init__(self, images: npt.NDArray[np.uint8]) -> None:
        from safetensors.numpy import load_file

        stored = load_file(FILTERS)
        self.filters = stored["filters"].astype(np.float32)
        self.pools = stored["pools"].astype(np.float32)
        self._axis_sd, self._filter_sd = np.ones(3, np.float32), np.ones(1, np.float32)
        self._axis_sd = inner(retina(unit_range(images))).std(axis=(0, 2, 3))
        starts = range(0, len(images), _CHUNK)
        outputs = np.concatenate([self.outputs(images[k : k + _CHUNK]) for k in starts])
        self._filter_sd = outputs.std(axis=(0, 1))
        outputs /= self._filter_sd
        self.pools = self.pools / (_rectified(outputs) @ self.pools).mean(axis=(0, 1))

    def outputs(self, images: npt.NDArray[np.uint8]) -> Single:
        """Give the filters' outputs u, (n, 256, 64), places row by row.

        Raises
        ------
        InputError
            If the pictures are not 64 × 64 RGB.
        """
        seen = retina(unit_range(images)) / self._axis_sd[:, None, None]
        # The first patch begins four pixels before the picture, so that places are centred in it.
        first = _MARGIN - (PATCH - STRIDE) // 2
        seen = seen[:, :, first:, first:]
        windows = sliding_window_view(seen, (PATCH, PATCH), axis=(2, 3))[:, :, ::STRIDE, ::STRIDE]
        windows = windows[:, :, :LATTICE, :LATTICE].transpose(0, 2, 3, 1, 4, 5)
        patches = np.ascontiguousarray(windows).reshape(len(images), LATTICE**2, -1)
        # (n, place, pixel and colour) @ (pixel and colour, filter)
        return (patches @ self.filters.reshape(len(self.filters), -1).T) / self._filter_sd

    def look(self, images: npt.NDArray[np.uint8]) -> Single:
        """Give the pools' maps, (n, 32, 256), places row by row."""
        maps = np.empty((len(images), N_POOLS, LATTICE**2), dtype=np.float32)
        for start in range(0, len(images), _CHUNK):
            part = np.s_[start : start + _CHUNK]
            maps[part] = (_rectified(self.outputs(images[part])) @ self.pools).transpose(0, 2, 1)
        return maps


def inner(seen: Single) -> Single:
    """Cut off the margin of what `retina` gives."""
    return seen[:, :, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _rectified(outputs: Single) -> Single:
    """Give the two channels of each filter, the positive ones first."""
    return np.concatenate(
        [np.maximum(outputs - THRESHOLD, 0), np.maximum(-outputs - THRESHOLD, 0)], axis=-1
    )
