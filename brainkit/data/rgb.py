"""From any picture to what models get: the one conversion, whatever a picture comes as.

A picture is turned into RGB of 8 bits in one way, for files, PIL images and arrays alike:

===========================  ======================================================================
grey                         repeated in red, green and blue
1 bit, booleans              0 and 255
16 bits                      divided by 257 and rounded (Pillow itself cuts 16-bit *colour* files to
                             their high byte); where none exceeds 255, with a warning
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

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.array_likes import as_array
from brainkit.arrays.files import reading, require_file
from brainkit.errors import BrainkitError, CorruptFileError, InputError, listed, warn

if TYPE_CHECKING:
    from PIL import Image

BACKGROUND = 255  # what shows through transparent pixels
SIXTEEN_TO_EIGHT = 257  # 65535 / 255
LOOKED_AT = 64  # images at a time
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
    refuse_one_image(images.shape)
    if images.dtype.kind not in "bf" and images.dtype.str[1:] not in ("u1", "u2"):
        raise InputError(
            "Images are booleans, uint16, uint8 or floating point in [0, 1]; got "
            f"{images.dtype}. Convert them to the type whose range they use."
        )


def refuse_one_image(shape: tuple[int, ...]) -> None:
    """Raise where an array is one image in colour rather than many grey ones of width 3 or 4.

    Raises
    ------
    InputError
    """
    if len(shape) == 3 and shape[2] in (3, 4) and shape[1] > 4:
        raise InputError(
            f"Images are (n, height, width) or (n, height, width, 3); an array of shape {shape} is "
            "one image in colour, image[None] a set of one."
        )


def holds_items(images: Any) -> bool:
    """Return whether images are a sequence of objects or of text, rather than one array."""
    if isinstance(images, list | tuple):
        return True
    return getattr(images, "ndim", 0) == 1 and np.asarray(images).dtype.kind in "OUST"


def image_array(images: Any, what: str = "The array of images") -> NDArray[Any]:
    """Return images as one array: arrays as they are, pictures and files in RGB of 8 bits.

    Parameters
    ----------
    images : array, or sequence of PIL images, paths and arrays
    what : str
        The argument, to begin messages with.

    Raises
    ------
    MissingFileError, FileAccessError, CorruptFileError, InputError
        If a picture cannot be read, they have several sizes, or it is no array (see `as_array`).
    """
    if holds_items(images):
        items = list(images)
        if any(is_picture(item) or isinstance(item, str | bytes | Path) for item in items):
            return of_one_size([to_rgb(item) for item in items], "images")
    return as_array(images, what)


def of_one_size(images: "Sequence[Image.Image]", what: str) -> NDArray[np.uint8]:
    """Return RGB images as one array (n, height, width, 3).

    Raises
    ------
    InputError
        If they have several sizes.
    """
    arrays = [np.asarray(image) for image in images]
    sizes = {array.shape for array in arrays}
    if len(sizes) > 1:
        raise InputError(
            f"The {what} have several sizes, {listed(sorted(sizes))}: resize them first."
        )
    if not arrays:
        return np.empty((0, 0, 0, 3), dtype=np.uint8)
    stacked: NDArray[np.uint8] = np.stack(arrays)
    return stacked


def warn_of_dark(images: NDArray[Any]) -> None:
    """Warn if a whole set of images of 16 bits uses no more than 8 of them, and will be black."""
    if images.dtype.str[1:] != "u2" or not images.size:
        return
    highest = 0
    for start in range(0, len(images), LOOKED_AT):
        highest = max(highest, int(images[start : start + LOOKED_AT].max()))
        if highest > 255:
            return
    if highest:
        warn(
            f"Images of 16 bits hold no value above {highest}, of 65535, and are black in 8 bits. "
            "If 8 bits are meant, convert them first: images.astype(numpy.uint8), or mode L."
        )


def as_uint8(images: Any, *, part: bool = False) -> NDArray[np.uint8]:
    """Return an array of images as 8 bits, by the rule of `brainkit.data.rgb`.

    Parameters
    ----------
    images : array (n, height, width) or (n, height, width, 3), or sequence of pictures
        See `check_format` and `image_array`.
    part : bool, default=False
        Whether they are a part of a set: of 16 bits, a part alone may well be dark.

    Returns
    -------
    uint8 array of the same shape
        The caller's own memory where that is what was given.

    Raises
    ------
    InputError
        If the shape or the type is another, or floating point values are not in [0, 1].
    """
    images = image_array(images)
    check_format(images)
    if not part:
        warn_of_dark(images)
    if images.dtype.kind == "b":
        return np.asarray(images, dtype=np.uint8) * np.uint8(255)
    if images.dtype.kind == "f":
        return _rounded(_in_range(images) * np.float32(255))
    if images.dtype.itemsize == 2:
        return _from_sixteen(images)
    eight: NDArray[np.uint8] = images.astype(np.uint8, copy=False)
    return eight


def as_float(images: Any, *, part: bool = False) -> NDArray[np.float32]:
    """Return an array of images as float32 in [0, 1], by the rule of `brainkit.data.rgb`.

    Parameters
    ----------
    images : array (n, height, width) or (n, height, width, 3), or sequence of pictures
        See `check_format` and `image_array`.
    part : bool, default=False
        Whether they are a part of a set: of 16 bits, a part alone may well be dark.

    Returns
    -------
    float32 array of the same shape
        Images in memory of their own.

    Raises
    ------
    InputError
        If the shape or the type is another, or floating point values are not in [0, 1].
    """
    images = image_array(images)
    check_format(images)
    if not part:
        warn_of_dark(images)
    if images.dtype.kind == "f":
        return _in_range(images)
    return as_uint8(images, part=True).astype(np.float32) / np.float32(255)


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


def as_images(images: Any) -> "list[Image.Image]":
    """Return images, (n, height, width[, 3]) or pictures, as PIL images, RGB of 8 bits each."""
    from PIL import Image

    values = as_uint8(images, part=True)
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


def is_picture(item: Any) -> bool:
    """Return whether something is a PIL image."""
    from PIL import Image

    return isinstance(item, Image.Image)


def to_rgb(item: Any) -> "Image.Image":
    """Return a picture of any form as RGB of 8 bits, by the rule of `brainkit.data.rgb`.

    Parameters
    ----------
    item : PIL image, path, or array (height, width) or (height, width, 3)

    Raises
    ------
    MissingFileError, FileAccessError, CorruptFileError
        If it is a file that cannot be read, or an image that was opened late and cannot be decoded.
    InputError
        If it is none of these, or has no place in 8 bits.
    """
    if isinstance(item, str | bytes | Path):
        return open_image(os.fsdecode(item))
    if isinstance(item, np.ndarray):
        return as_images(item[None])[0]
    if not is_picture(item):
        raise InputError(
            f"Image stimuli are PIL images, paths or arrays; got {type(item).__name__}."
        )
    try:
        return as_rgb(item)
    except BrainkitError:
        raise
    except Exception as error:  # a lazily opened file fails when it is decoded
        raise CorruptFileError(
            f"The image {getattr(item, 'filename', '')} cannot be decoded."
        ) from error


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
