"""Images as arrays: their channels, and how they are resampled.

What counts as an image, and how it becomes floating point in [0, 1], is in `brainkit.data.rgb`.
"""

import numpy as np
from numpy.typing import NDArray

from brainkit.data.rgb import as_float, as_uint8, check_format

__all__ = ["as_float", "as_uint8", "channels", "check_format", "resample_square"]

# Rec. 601 luma; two opponent axes, zero for grey.
LUMINANCE = (0.299, 0.587, 0.114)
RED_GREEN = (0.5, -0.5, 0.0)
BLUE_YELLOW = (-0.25, -0.25, 0.5)


def channels(images: NDArray[np.float32], colour: bool) -> NDArray[np.float32]:
    """Return luminance, and with `colour` two opponent channels, as (n, channel, height, width)."""
    if images.ndim == 3:
        return images[:, None]
    axes = np.array((LUMINANCE, RED_GREEN, BLUE_YELLOW) if colour else (LUMINANCE,), np.float32)
    return np.moveaxis(images @ axes.T, -1, 1)


def resample_square(images: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Resample (n, c, height, width) to (n, c, side, side): averaged down, or bilinear."""
    height, width = images.shape[2:]
    if (height, width) == (side, side):
        return images
    if height % side == 0 and width % side == 0:
        blocks = images.reshape(*images.shape[:2], side, height // side, side, width // side)
        return blocks.mean(axis=(3, 5))
    return _apply(images, _resampling(height, side), _resampling(width, side))


def _resampling(size: int, side: int) -> NDArray[np.float32]:
    """Triangle-filter weights (side, size), widened when shrinking, so that nothing aliases."""
    ratio = max(size / side, 1.0)
    centre = (np.arange(side) + 0.5) * size / side - 0.5
    weights = np.maximum(0, 1 - np.abs(np.arange(size) - centre[:, None]) / ratio)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _apply(
    images: NDArray[np.float32], rows: NDArray[np.float32], columns: NDArray[np.float32]
) -> NDArray[np.float32]:
    return np.asarray(rows @ images @ columns.T, dtype=np.float32)
