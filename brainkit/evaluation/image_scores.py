"""Low-level agreement of images: pixel correlation and structural similarity."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from brainkit.errors import InputError, unknown_name
from brainkit.evaluation.checked_arrays import column_batches, real_array
from brainkit.evaluation.quantities import Correlation
from brainkit.evaluation.response_scores import pearson_r

SsimVariant = Literal["gaussian-2d", "gaussian-columns"]
SSIM_VARIANTS: tuple[SsimVariant, ...] = ("gaussian-2d", "gaussian-columns")

_SIGMA = 1.5
_RADIUS = 5  # the window is cut at 3.5 sigma, hence 11 pixels wide
_K1, _K2 = 0.01, 0.03
_LUMINANCE = np.array([0.2125, 0.7154, 0.0721])  # ITU-R BT.709


def pixel_correlation(a: ArrayLike, b: ArrayLike) -> Correlation:
    """Correlate the pixels of each pair of images, over all positions and channels.

    Parameters
    ----------
    a, b : array_like of shape (n_images, ...)
        Images; the two need one shape.

    Returns
    -------
    Correlation of shape (n_images,)
        NaN where one of a pair is constant or holds NaN.

    Raises
    ------
    InputError
        If the shapes differ, or an image has fewer than 2 numbers.
    """
    first, second = _image_pairs(a, b)
    return pearson_r(first.reshape(len(first), -1).T, second.reshape(len(second), -1).T)


def greyscale(images: ArrayLike) -> NDArray[np.float64]:
    """Give the luminance of RGB images, 0.2125 R + 0.7154 G + 0.0721 B.

    Parameters
    ----------
    images : array_like of shape (..., height, width, 3)
        RGB images; their range is kept.

    Returns
    -------
    numpy.ndarray of shape (..., height, width)
        Greyscale images.

    Raises
    ------
    InputError
        If the last axis does not hold three channels.
    """
    array = real_array(images, "images")
    if array.ndim < 3 or array.shape[-1] != 3:
        raise InputError(f"images has shape {array.shape}, expected (..., height, width, 3).")
    return np.asarray(array @ _LUMINANCE, dtype=np.float64)


def ssim(
    a: ArrayLike, b: ArrayLike, *, data_range: float, variant: SsimVariant = "gaussian-2d"
) -> NDArray[np.float64]:
    """Give the mean structural similarity of each pair of greyscale images.

    The mean over pixels of (2 μ_a μ_b + C1)(2 σ_ab + C2) / ((μ_a² + μ_b² + C1)(σ_a² + σ_b² + C2)),
    with C1 = (0.01 L)², C2 = (0.03 L)², L the data range, after Wang et al. (2004). Means and
    population (co)variances are weighted by a Gaussian of sigma 1.5 cut to 11 pixels; the 5 pixels
    next to a border, where the window would leave the image, do not count.

    Parameters
    ----------
    a, b : array_like of shape (n_images, height, width)
        Greyscale images (:func:`greyscale` makes them from RGB).
    data_range : float
        Largest less smallest value that the format can hold: 1 for images in [0, 1], 255 for
        8-bit ones.
    variant : {"gaussian-2d", "gaussian-columns"}, default "gaussian-2d"
        ``"gaussian-2d"`` weighs a square window. ``"gaussian-columns"`` takes each image column
        as a channel of its own and weighs along it only; published numbers carry it where
        scikit-image before 0.20 was given ``multichannel=True`` with a greyscale image. The two
        differ by several hundredths on the same images, so they never share a table.

    Returns
    -------
    numpy.ndarray of shape (n_images,)
        At most 1; NaN where an image holds NaN.

    Raises
    ------
    InputError
        If the shapes differ or are not greyscale, a side is shorter than the window, or the
        values exceed `data_range`.
    """
    if variant not in SSIM_VARIANTS:
        raise unknown_name("SSIM variant", variant, SSIM_VARIANTS)
    first, second = _image_pairs(a, b)
    _check_ssim_input(first, second, data_range, variant)
    scores = np.empty(len(first))
    # Images are the columns of a batch here: a batch bounds the float64 copies.
    for batch in column_batches(first[0].size if len(first) else 1, len(first)):
        maps = _ssim_maps(
            first[batch].astype(np.float64), second[batch].astype(np.float64), data_range, variant
        )
        scores[batch] = maps.mean(axis=(1, 2))
    return scores


def _image_pairs(a: ArrayLike, b: ArrayLike) -> tuple[NDArray[np.generic], NDArray[np.generic]]:
    first, second = real_array(a, "a"), real_array(b, "b")
    if first.shape != second.shape or first.ndim < 2:
        raise InputError(
            f"a has shape {first.shape} and b {second.shape}: "
            "they need one shape, (n_images, ...); resize or convert one of them first."
        )
    return first, second


def _check_ssim_input(
    first: NDArray[np.generic],
    second: NDArray[np.generic],
    data_range: float,
    variant: SsimVariant,
) -> None:
    if first.ndim != 3:
        raise InputError(
            f"a has shape {first.shape}, expected greyscale images (n_images, height, width): "
            "convert RGB images with greyscale(images)."
        )
    width = 2 * _RADIUS + 1
    sides = first.shape[1:] if variant == "gaussian-2d" else first.shape[1:2]
    if min(sides) < width:
        raise InputError(
            f"Images of {first.shape[1]} × {first.shape[2]} pixels are smaller than the SSIM "
            f"window of {width} pixels: enlarge both first."
        )
    if not np.isfinite(data_range) or data_range <= 0:
        raise InputError(f"data_range={data_range}, expected a positive number such as 1 or 255.")
    for name, images in (("a", first), ("b", second)):
        if images.size == 0 or np.isnan(images).all():
            continue
        low, high = float(np.nanmin(images)), float(np.nanmax(images))
        if high - low > data_range * (1 + 1e-6):
            raise InputError(
                f"{name} spans {low:g} to {high:g}, more than data_range={data_range:g}: "
                "state the range of the image format, such as 255 for 8-bit images."
            )


def _ssim_maps(
    a: NDArray[np.float64], b: NDArray[np.float64], data_range: float, variant: SsimVariant
) -> NDArray[np.float64]:
    """Similarity at every pixel that counts: (n_images, height', width')."""
    mean_a, mean_b = _blur(a, variant), _blur(b, variant)
    var_a = _blur(a * a, variant) - mean_a**2
    var_b = _blur(b * b, variant) - mean_b**2
    covariance = _blur(a * b, variant) - mean_a * mean_b
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    maps = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    maps /= (mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2)
    inner = slice(_RADIUS, -_RADIUS)
    cropped: NDArray[np.float64] = (
        maps[:, inner, inner] if variant == "gaussian-2d" else maps[:, inner]
    )
    return cropped


def _blur(images: NDArray[np.float64], variant: SsimVariant) -> NDArray[np.float64]:
    axes = (1, 2) if variant == "gaussian-2d" else (1,)
    blurred = images
    for axis in axes:
        blurred = ndimage.gaussian_filter1d(blurred, _SIGMA, axis=axis, radius=_RADIUS)
    return blurred
