"""From any picture to what models get: the one conversion, whatever a picture comes as.

A picture is turned into RGB of 8 bits in one way, for files, PIL images and arrays alike:

===========================  ======================================================================
grey                         repeated in red, green and blue
1 bit, booleans              0 and 255
16 bits                      divided by 257 and rounded (Pillow itself cuts 16-bit *colour* files to
                             their high byte)
floating point               must lie in [0, 1] (a thousandth more is what resampling may overshoot,
                             and is cut off); times 255, rounded
32-bit integers              in files and PIL images on the scale of 16 bits, as Pillow has it;
                             refused beyond 65535, and where none exceeds 255, since 8 bits may be
                             meant; arrays of them are refused
transparent pixels           laid over white, whether alpha, a transparent colour of the palette or
                             a transparent grey level makes them so
palette                      looked up
CMYK, YCbCr, Lab, HSV        converted as Pillow does, without a colour profile
several frames               the first one
EXIF orientation             not applied, as in the loops of open_clip, timm and torchvision; where
                             people saw photographs upright, turn them first
                             (``PIL.ImageOps.exif_transpose``)
===========================  ======================================================================

Anything else is refused, never clipped. Where features are computed here (oriented energy, pixel
components, scores of images) the same picture is taken as floating point in [0, 1]: that is the
8 bits divided by 255, and an array that is floating point already keeps its precision.
"""

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.files import reading, require_file
from brainkit.arrays.inputs import as_array
from brainkit.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

BACKGROUND = 255  # what shows through transparent pixels
SIXTEEN_TO_EIGHT = 257  # 65535 / 255
TOLERANCE = 1e-3  # what resampling may overshoot by


def check_format(images: NDArray[Any]) -> None:
    """Raise `InputError` unless an array has the shape and the type of images.

    Images are (n, height, width) or (n, height, width, 3), of booleans, 8 or 16 bits, or floating
    point.
    """
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise InputError(
            f"Images are (n, height, width) or (n, height, width, 3); got shape {images.shape}."
        )
    if images.dtype.kind not in "bf" and images.dtype.str[1:] not in ("u1", "u2"):
        raise InputError(
            "Images are booleans, uint16, uint8 or floating point in [0, 1]; got "
            f"{images.dtype}. Convert them to the type whose range they use."
        )


def as_uint8(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Return an array of images as 8 bits, by the rule of `brainkit.data.rgb`.

    Parameters
    ----------
    images : array (n, height, width) or (n, height, width, 3)
        See `check_format`.

    Returns
    -------
    uint8 array of the same shape
        The caller's own memory where that is what was given.

    Raises
    ------
    InputError
        If the shape or the type is another, or floating point values are not in [0, 1].
    """
    images = as_array(images, "The array of images")
    check_format(images)
    if images.dtype.kind == "b":
        return np.asarray(images, dtype=np.uint8) * np.uint8(255)
    if images.dtype.kind == "f":
        return _rounded(_in_range(images) * np.float32(255))
    if images.dtype.itemsize == 2:
        return _from_sixteen(images)
    return images.astype(np.uint8, copy=False)


def as_float(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return an array of images as float32 in [0, 1], by the rule of `brainkit.data.rgb`.

    Parameters
    ----------
    images : array (n, height, width) or (n, height, width, 3)
        See `check_format`.

    Returns
    -------
    float32 array of the same shape
        In memory of its own.

    Raises
    ------
    InputError
        If the shape or the type is another, or floating point values are not in [0, 1].
    """
    images = as_array(images, "The array of images")
    check_format(images)
    if images.dtype.kind == "f":
        return _in_range(images)
    return as_uint8(images).astype(np.float32) / np.float32(255)


def _in_range(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return floating point images as float32, without what resampling overshot."""
    low, high = (images.min(), images.max()) if images.size else (0.0, 1.0)
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):  # NaN fails too
        raise InputError(
            f"Floating point images are in [0, 1]; got values from {low:g} to {high:g}. Divide by "
            "their range first (by 255 where they were uint8)."
        )
    return np.clip(images.astype(np.float32), 0, 1)


def _from_sixteen(values: NDArray[Any]) -> NDArray[np.uint8]:
    return _rounded(values / np.float64(SIXTEEN_TO_EIGHT))


def _rounded(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(values), dtype=np.uint8)


def as_images(images: NDArray[Any]) -> "list[Image.Image]":
    """Return an array of images, (n, height, width[, 3]), as PIL images, RGB of 8 bits each."""
    from PIL import Image

    values = as_uint8(images)
    if values.ndim == 3:
        values = np.repeat(values[..., None], 3, axis=3)
    return [Image.fromarray(image) for image in np.ascontiguousarray(values)]


def as_rgb(image: "Image.Image") -> "Image.Image":
    """Return a PIL image of any mode as RGB of 8 bits, by the rule of `brainkit.data.rgb`.

    Raises
    ------
    InputError
        If integers exceed 16 bits or may be 8 bits, or floating point is not in [0, 1].
    """
    from PIL import Image

    if image.mode == "RGB" and not image.has_transparency_data:
        image.load()
        return image.copy() if getattr(image, "fp", None) is not None else image
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image)
        plain = as_images(_eight_bits(values)[None])[0]
        key = image.info.get("transparency")
        return plain if key is None else _over_ground(plain, values != key)
    if image.has_transparency_data:
        layer = image.convert("LA") if image.mode == "La" else image
        layer = layer.convert("RGBA")
        below = Image.new("RGBA", layer.size, (BACKGROUND,) * 4)
        return Image.alpha_composite(below, layer).convert("RGB")
    return image.convert("RGB")


def _over_ground(image: "Image.Image", opaque: NDArray[np.bool_]) -> "Image.Image":
    """Return an image whose pixels are the ground's wherever they are not opaque."""
    from PIL import Image

    pixels = np.where(opaque[..., None], np.asarray(image), np.uint8(BACKGROUND))
    return Image.fromarray(pixels)


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the pixels of a PIL image of 16 or 32 bits as 8 bits, (height, width)."""
    if values.dtype.kind == "f" or values.dtype.itemsize == 2:
        eight: NDArray[np.uint8] = as_uint8(values[None])[0]
        return eight
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    if low < 0 or high > 65535:
        raise InputError(
            "Images of more than 8 bits hold integers up to 65535 or floating point in [0, 1]; "
            f"got values from {low} to {high}."
        )
    if 0 < high <= 255:
        raise InputError(
            f"This image holds 32-bit integers up to {high}, which may be meant as 8 bits or as "
            "16. Convert it to mode L, or to I;16 if it is as dark as that."
        )
    return _from_sixteen(values)


def open_image(path: str | Path) -> "Image.Image":
    """Read an image file as RGB of 8 bits, by the rule of `brainkit.data.rgb`.

    Raises
    ------
    MissingFileError, FileAccessError
        If the file is not there, or may not be read.
    CorruptFileError
        If it is no image, damaged or truncated.
    InputError
        If its values have no place in 8 bits (see `as_rgb`), or it has more pixels than Pillow
        takes for safe.
    """
    from PIL import Image, ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so truncated images would be filled with "
            "grey unnoticed; set it to False before reading images."
        )
    path = require_file(path, "A stimulus image")
    try:
        with (
            # Pillow's, of files that break off in the middle.
            reading(path, "cannot be read as an image", also=[SyntaxError, struct.error]),
            Image.open(path) as image,
        ):
            return as_rgb(image)
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{path} has more pixels than Pillow takes for safe ({error}). If you trust it, raise "
            "PIL.Image.MAX_IMAGE_PIXELS."
        ) from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
