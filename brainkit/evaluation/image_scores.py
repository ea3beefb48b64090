"""Agreement of images: pixel correlation, structural similarity, and distances of features.

Pixels are compared pair by pair (:func:`pixel_correlation`, :func:`ssim`); what networks make of
images pair by pair too (:func:`correlation_distance`, :func:`perceptual_distance`), or set by set
(:func:`kernel_distance`). Networks themselves are none of this module's business: it takes arrays.
"""

from collections.abc import Sequence
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
# What all variants share, for whoever states how a score was formed.
SSIM_SETTINGS: dict[str, object] = {
    "weights": "gaussian",
    "sigma": _SIGMA,
    "window": 2 * _RADIUS + 1,
    "k1": _K1,
    "k2": _K2,
    "covariance": "population",
    "luminance": tuple(_LUMINANCE.tolist()),
}


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


def correlation_distance(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Give 1 - r of the features of each pair of images; lower is better.

    Parameters
    ----------
    a, b : array_like of shape (n_images, ...)
        A network's features of the two sides; they need one shape.

    Returns
    -------
    numpy.ndarray of shape (n_images,)
        In [0, 2], 1 where they are unrelated; NaN where one of a pair is constant or holds NaN.

    Raises
    ------
    InputError
        As :func:`pixel_correlation` does.
    """
    return np.asarray(1.0 - np.asarray(pixel_correlation(a, b)))


def perceptual_distance(
    a: Sequence[ArrayLike], b: Sequence[ArrayLike], weights: Sequence[ArrayLike]
) -> NDArray[np.float64]:
    r"""Give LPIPS of each pair of images from features of several layers (Zhang et al., 2018).

    .. math:: d = \sum_l \frac{1}{H_l W_l} \sum_{h, w, c} w_{lc} (\hat a_{lchw} - \hat b_{lchw})^2

    with features divided by their length over channels at each position (plus 1e-10), and weights
    that were fitted to what people call similar. Lower is better; 0 for equal images.

    Parameters
    ----------
    a, b : sequence of array_like of shape (n_images, channels, height, width)
        A layer's features each, the same layers on both sides.
    weights : sequence of array_like of shape (channels,)
        Weights of each layer's channels, none of them negative.

    Returns
    -------
    numpy.ndarray of shape (n_images,)

    Raises
    ------
    InputError
        If layers, shapes or numbers of channels do not fit, or a weight is negative.
    """
    if not len(a) == len(b) == len(weights) or not len(a):
        raise InputError(
            f"There are {len(a)} and {len(b)} layers of features and {len(weights)} of weights: "
            "give the same layers of all three."
        )
    total: NDArray[np.float64] | float = 0.0
    for layer, (one, two, weight) in enumerate(zip(a, b, weights, strict=True)):
        first, second = _image_pairs(one, two)
        by_channel = np.asarray(weight, dtype=np.float64).ravel()
        if first.ndim != 4 or by_channel.shape != first.shape[1:2]:
            raise InputError(
                f"Layer {layer} has features {first.shape} and {len(by_channel)} weights: expected "
                "(n_images, channels, height, width) and one weight a channel."
            )
        if (by_channel < 0).any():
            raise InputError(
                f"Layer {layer} has negative weights: those of LPIPS are none below 0. The file "
                "is of another kind."
            )
        gap = (_unit_channels(first) - _unit_channels(second)) ** 2
        total = total + np.einsum("nchw,c->nhw", gap, by_channel).mean(axis=(1, 2))
    return np.asarray(total)


def _unit_channels(features: NDArray[np.generic]) -> NDArray[np.float64]:
    values = features.astype(np.float64)
    return np.asarray(values / (np.sqrt((values**2).sum(axis=1, keepdims=True)) + 1e-10))


def kernel_distance(a: ArrayLike, b: ArrayLike) -> float:
    r"""Give KID, how far two sets of images are apart (Bińkowski et al., 2018); lower is better.

    The unbiased estimate of the squared maximum mean discrepancy,

    .. math:: \frac{\sum_{i \ne j} k(a_i, a_j)}{n (n - 1)}
              + \frac{\sum_{i \ne j} k(b_i, b_j)}{m (m - 1)}
              - \frac{2}{n m} \sum_{i, j} k(a_i, b_j), \quad k(x, y) = (x \cdot y / d + 1)^3

    over all images rather than random subsets, so that nothing is drawn. Unlike the Fréchet
    distance it has no bias with few images: its mean is 0 for two samples of one distribution, and
    it may be below 0.

    Parameters
    ----------
    a, b : array_like of shape (n, d) and (m, d)
        Features of the images of each set, such as Inception v3's average pool, d = 2048.

    Returns
    -------
    float

    Raises
    ------
    InputError
        If widths differ, or a set has fewer than 2 images.
    """
    first, second = (real_array(one, name) for one, name in ((a, "a"), (b, "b")))
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1]:
        raise InputError(
            f"a has shape {first.shape} and b {second.shape}, expected (n, d) and (m, d): features "
            "of one network."
        )
    if min(len(first), len(second)) < 2:
        raise InputError(
            f"Sets of {len(first)} and {len(second)} images: an unbiased distance needs 2 of each."
        )
    one, two = first.astype(np.float64), second.astype(np.float64)

    def kernel(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray((x @ y.T / x.shape[1] + 1.0) ** 3)

    within = 0.0
    for rows in (one, two):
        values = kernel(rows, rows)
        within += (values.sum() - np.trace(values)) / (len(rows) * (len(rows) - 1))
    return float(within - 2.0 * kernel(one, two).mean())


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
