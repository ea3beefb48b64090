"""Stimuli of any kind as a row of items that are read when needed: RGB images, or strings.

What is shown as a picture becomes 8-bit RGB in one documented way, so that a grey, a transparent
or a 16-bit file gives the same features on every machine; a file that cannot be read is an error
that names it, never a gap.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from brainkit.data.stimuli import ImageFiles, Stimuli
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed
from brainkit.features.backbones.base import Modality
from brainkit.features.images import as_float, check_format

if TYPE_CHECKING:
    from PIL import Image

BACKGROUND = (255, 255, 255)  # what shows through transparent pixels
SIXTEEN_TO_EIGHT = 257  # 65535 / 255


class Items:
    """Stimuli for one kind of model, in order.

    Parameters
    ----------
    stimuli : Stimuli, array, or sequence of PIL images, of paths or of strings
        Images as an array are (n, height, width) or (n, height, width, 3), uint8 or float in
        [0, 1]; floating point is rounded to 8 bits, as in a file. For a model of text, strings;
        for a model of images, strings are paths.
    modality : {"image", "text"}

    Raises
    ------
    InputError
        If the stimuli are none of these.
    """

    def __init__(self, stimuli: Any, modality: Modality) -> None:
        self.modality = modality
        self.ids: list[Any] | None = None
        if isinstance(stimuli, Stimuli):
            expected = ("image",) if modality == "image" else ("caption", "text")
            if stimuli.kind not in expected:
                raise InputError(
                    f"The model takes {modality}s, but the stimuli are of kind {stimuli.kind!r}."
                )
            self.ids = list(stimuli.ids)
            files = stimuli.source
            stimuli = list(files.paths) if isinstance(files, ImageFiles) else stimuli
        elif isinstance(stimuli, str | bytes | Path) or not hasattr(stimuli, "__len__"):
            raise InputError(
                f"The stimuli must be a sequence, even of one; got {type(stimuli).__name__}."
            )
        elif not isinstance(stimuli, np.ndarray):
            stimuli = list(stimuli)
        self.stimuli = stimuli
        if modality == "image":
            self._check_images()
        else:
            self._check_text()

    def __len__(self) -> int:
        return len(self.stimuli)

    def name(self, row: int) -> str:
        """Return what to call one stimulus in a message."""
        item = self.stimuli[row] if isinstance(self.stimuli, list) else None
        if isinstance(item, str | Path):
            return str(item)
        return f"stimulus {row if self.ids is None else self.ids[row]}"

    def read(self, rows: range) -> "list[Image.Image] | list[str]":
        """Return the items of some rows: RGB images, or strings.

        Raises
        ------
        CorruptFileError
            If any file, of these rows or later ones, cannot be read; the message counts and names
            all of them.
        """
        if isinstance(self.stimuli, list):
            if self.modality == "text":
                return [str(self.stimuli[row]) for row in rows]
            try:
                return [self._image(row) for row in rows]
            except CorruptFileError as error:
                raise self._all_unreadable(rows.start, error) from error
        if isinstance(self.stimuli, Stimuli):
            values = self.stimuli.read(np.arange(rows.start, rows.stop))
        else:
            values = self.stimuli[rows.start : rows.stop]
        return [str(value) for value in values] if self.modality == "text" else as_images(values)

    def _image(self, row: int) -> "Image.Image":
        item = self.stimuli[row]
        if isinstance(item, str | Path):
            return open_image(item)
        if isinstance(item, np.ndarray):
            return as_images(item[None])[0]
        try:
            return as_rgb(item)
        except Exception as error:  # a lazily opened file fails when it is decoded
            raise _unreadable(self.name(row), error) from error

    def _all_unreadable(self, start: int, first: Exception) -> CorruptFileError:
        reasons = []
        for row in range(start, len(self)):
            try:
                self._image(row)
            except CorruptFileError as error:
                reasons.append(str(error))
        count = f"{len(reasons)} of {len(self)} images cannot be read"
        return CorruptFileError(
            f"{count}: {listed(reasons, separator='; ')}. Mend or leave out these stimuli; none is "
            "ever skipped."
            if reasons
            else str(first)
        )

    def _check_images(self) -> None:
        from PIL import Image

        stimuli = self.stimuli
        if isinstance(stimuli, np.ndarray):
            if stimuli.dtype.kind in "US":
                self.stimuli = [str(path) for path in stimuli]
            else:
                check_format(stimuli)
        elif isinstance(stimuli, list):
            kinds = str | Path | Image.Image | np.ndarray
            wrong = [row for row, item in enumerate(stimuli) if not isinstance(item, kinds)]
            if wrong:
                raise InputError(
                    "Image stimuli are PIL images, paths or arrays; got "
                    f"{type(stimuli[wrong[0]]).__name__} in rows {listed(wrong)}."
                )
            absent = [
                str(item)
                for item in stimuli
                if isinstance(item, str | Path) and not Path(item).is_file()
            ]
            if absent:
                raise MissingFileError(
                    f"{len(absent)} of {len(stimuli)} image files are not there: {listed(absent)}. "
                    "The model takes images, and strings name their files; for texts name a model "
                    "of text, such as open_clip-text:tiny."
                )

    def _check_text(self) -> None:
        if isinstance(self.stimuli, np.ndarray):
            self.stimuli = list(self.stimuli)
        if isinstance(self.stimuli, Stimuli):
            return
        wrong = [row for row, item in enumerate(self.stimuli) if not isinstance(item, str)]
        if wrong:
            raise InputError(
                "A model of text takes strings; got "
                f"{type(self.stimuli[wrong[0]]).__name__} in rows {listed(wrong)}."
            )


def as_images(values: NDArray[Any]) -> "list[Image.Image]":
    """Return an array of images, (n, height, width[, 3]), as RGB images of 8 bits."""
    from PIL import Image

    values = np.asarray(values)
    if values.dtype != np.uint8:
        values = np.rint(np.clip(as_float(values), 0, 1) * 255).astype(np.uint8)
    else:
        check_format(values)
    if values.ndim == 3:
        values = np.repeat(values[..., None], 3, axis=3)
    return [Image.fromarray(image) for image in np.ascontiguousarray(values)]


def open_image(path: str | Path) -> "Image.Image":
    """Read an image file as 8-bit RGB.

    The EXIF orientation is not applied, as in the libraries' own loops.

    Raises
    ------
    CorruptFileError
        If the file is no image, damaged or truncated.
    """
    from PIL import Image, ImageFile

    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so truncated images would be filled with "
            "grey unnoticed; set it to False before extracting features."
        )
    try:
        with Image.open(path) as image:
            return as_rgb(image)
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise _unreadable(str(path), error) from error


def _unreadable(name: str, error: Exception) -> CorruptFileError:
    return CorruptFileError(f"{name} ({' '.join(str(error).split())})")


def as_rgb(image: "Image.Image") -> "Image.Image":
    """Return an image as 8-bit RGB.

    Grey is repeated, a palette looked up, CMYK converted without a colour profile, 16 bits divided
    by 257, floating point in [0, 1] multiplied by 255, and transparent pixels are laid over white.

    Raises
    ------
    InputError
        If integers exceed 16 bits, or floating point is not in [0, 1].
    """
    from PIL import Image

    if image.mode == "RGB":
        image.load()
        return image.copy() if getattr(image, "fp", None) is not None else image
    if image.mode == "F" or image.mode.startswith("I"):
        return as_images(_eight_bits(np.asarray(image))[None])[0]
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        below = Image.new("RGBA", layer.size, (*BACKGROUND, 255))
        return Image.alpha_composite(below, layer).convert("RGB")
    return image.convert("RGB")


def _eight_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    if np.issubdtype(values.dtype, np.floating):
        whole = values.astype(np.float64) * 255
    else:
        whole = values.astype(np.float64) / SIXTEEN_TO_EIGHT
    if not (whole.min() >= 0 and whole.max() <= 255):
        raise InputError(
            f"Images of more than 8 bits hold integers up to 65535 or floating point in [0, 1]; "
            f"got values from {values.min()} to {values.max()}."
        )
    return np.rint(whole).astype(np.uint8)
