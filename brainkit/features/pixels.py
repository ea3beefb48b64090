"""Pixels: channels of images, resampling, and principal components that lead back to images.

What counts as an image, and how it becomes floating point in [0, 1], is in `brainkit.data.rgb`.
"""

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.array_likes import whole_number
from brainkit.data.rgb import as_float, as_uint8, check_format
from brainkit.errors import InputError
from brainkit.features.feature_spaces import Fitted, RememberedFits
from brainkit.features.reduction import principal_axes

__all__ = ["as_float", "as_uint8", "channels", "check_format", "resample_square"]

# Rec. 601 luma; two opponent axes, zero for grey.
LUMINANCE = (0.299, 0.587, 0.114)
RED_GREEN = (0.5, -0.5, 0.0)
BLUE_YELLOW = (-0.25, -0.25, 0.5)
Float = NDArray[np.float32]


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


class PixelPCA(TransformerMixin, BaseEstimator):
    """Principal components of the training images' pixels.

    Parameters
    ----------
    n_components : int, default=20
        Components to keep; no more than training images less one, or pixels.

    Attributes
    ----------
    mean_ : array (height, width[, 3])
        Mean training image, in [0, 1].
    components_ : array (n_components, pixels)
        Orthonormal axes.
    explained_variance_ : array (n_components,)
    """

    def __init__(self, n_components: int = 20) -> None:
        self.n_components = n_components

    def __sklearn_clone__(self) -> "PixelPCA":
        twin = type(self)(**self.get_params())
        if "_fits" in vars(self):
            twin._fits = self._fits
        return twin

    def remember(self, fits: RememberedFits) -> Self:
        """Share what is found for the same images with all spaces that `fits` is given to."""
        self._fits = fits
        return self

    def fit(self, images: NDArray[Any], y: None = None) -> Self:
        """Fit on the training images (n, height, width[, 3]).

        Raises
        ------
        InputError
            If there are too few images for the components, or they vary in too few directions.
        """
        fits: RememberedFits | None = getattr(self, "_fits", None)
        if fits is None:
            fitted = self._components(images)
        else:
            fitted = fits.fitted(self, images, self._components)
        for name, value in fitted.items():
            setattr(self, name, value)
        return self

    def _components(self, images: NDArray[Any]) -> Fitted:
        """Return the fitted attributes."""
        values = as_float(images)
        flat = values.reshape(len(values), -1)
        n_components = whole_number(self.n_components, "n_components")
        most = min(len(flat) - 1, flat.shape[1])
        if not 1 <= n_components <= most:
            raise InputError(
                f"n_components must be from 1 to {most} for {len(flat)} training images of "
                f"{flat.shape[1]} values; got {self.n_components}."
            )
        mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        flat -= mean.ravel()  # our own copy: as_float never returns the caller's array
        components, variances = principal_axes(flat, self.n_components)
        if len(components) < self.n_components:
            raise InputError(
                f"The {len(flat)} training images vary in {len(components)} directions only, "
                f"so they have no {self.n_components} principal components; ask for fewer."
            )
        return {"mean_": mean, "components_": components, "explained_variance_": variances}

    def transform(self, images: NDArray[Any]) -> Float:
        """Return the components' scores, (n, n_components)."""
        check_is_fitted(self)
        values = as_float(images)
        if values.shape[1:] != self.mean_.shape:
            raise InputError(
                f"Images must have the training images' shape {self.mean_.shape}; got "
                f"{values.shape[1:]}."
            )
        return (values - self.mean_).reshape(len(values), -1) @ self.components_.T

    def inverse_transform(self, scores: NDArray[Any]) -> Float:
        """Return the images of given scores, (n, height, width[, 3]); about [0, 1], not clipped."""
        check_is_fitted(self)
        flat = np.asarray(scores, dtype=np.float32) @ self.components_
        return flat.reshape(-1, *self.mean_.shape) + self.mean_
