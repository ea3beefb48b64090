"""Images as arrays: one convention for what the features take."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.errors import InputError

# Rec. 601 luma; two opponent axes, zero for grey.
LUMINANCE = (0.299, 0.587, 0.114)
RED_GREEN = (0.5, -0.5, 0.0)
BLUE_YELLOW = (-0.25, -0.25, 0.5)
TOLERANCE = 1e-3  # what resampling may overshoot by


def as_float(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return images as float32 in [0, 1].

    Parameters
    ----------
    images : array (n, height, width) or (n, height, width, 3)
        uint8, or floating point already in [0, 1].

    Raises
    ------
    InputError
        If the shape or the type is another, or floating point values are not in [0, 1].
    """
    images = np.asarray(images)
    check_format(images)
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    low, high = (images.min(), images.max()) if images.size else (0.0, 1.0)
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # NaN fails too
        raise InputError(
            f"Floating point images are in [0, 1]; got values from {low:g} to {high:g}. Divide by "
            "their range first (by 255 where they were uint8)."
        )
    return images.astype(np.float32)


def check_format(images: NDArray[Any]) -> None:
    """Raise `InputError` unless an array has the shape and the type of images; see `as_float`."""
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise InputError(
            f"Images are (n, height, width) or (n, height, width, 3); got shape {images.shape}."
        )
    if images.dtype != np.uint8 and not np.issubdtype(images.dtype, np.floating):
        raise InputError(f"Images are uint8 or floating point in [0, 1]; got {images.dtype}.")


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
