"""Stimuli of any kind as a row of items that are read when needed: RGB images, or strings.

Pictures become RGB of 8 bits by the rule of `brainkit.data.rgb`, texts strings by that of
`brainkit.data.text`; what cannot be read is an error that names it, never a gap.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainkit.arrays.array_likes import as_items, unmasked
from brainkit.arrays.files import is_file
from brainkit.data.rgb import as_images, check_format, to_rgb, warn_of_dark
from brainkit.data.stimuli import ArrayStimuli, ImageFiles, Stimuli
from brainkit.data.text import KINDS, as_texts
from brainkit.errors import (
    BrainkitError,
    CorruptFileError,
    FileAccessError,
    InputError,
    MissingFileError,
    listed,
)
from brainkit.features.backbones.base import Modality

if TYPE_CHECKING:
    from PIL import Image

# What may be wrong with one item of many; all that have the same fault are named.
FAULTS = (CorruptFileError, FileAccessError, MissingFileError, InputError)


class Items:
    """Stimuli for one kind of model, in order.

    Parameters
    ----------
    stimuli : Stimuli, array, or sequence of PIL images, of paths or of strings
        Images as an array are (n, height, width) or (n, height, width, 3), of 8 or 16 bits,
        booleans, or floating point in [0, 1]. For a model of text, strings, or bytes in UTF-8;
        for a model of images, strings are paths.
    modality : {"image", "text"}

    Raises
    ------
    InputError
        If the stimuli are none of these: tables, dicts and sets have other items than rows in an
        order, and masked arrays would lose their mask.
    """

    def __init__(self, stimuli: Any, modality: Modality) -> None:
        self.modality = modality
        self.ids: list[Any] | None = None
        if isinstance(stimuli, Stimuli):
            expected = ("image",) if modality == "image" else KINDS
            if stimuli.kind not in expected:
                raise InputError(
                    f"The model takes {modality}s, but the stimuli are of kind {stimuli.kind!r}."
                )
            self.ids = list(stimuli.ids)
            files = stimuli.source
            stimuli = list(files.paths) if isinstance(files, ImageFiles) else stimuli
        elif isinstance(stimuli, np.ndarray):
            stimuli = unmasked(stimuli, "The array of stimuli")
        else:
            stimuli = as_items(stimuli, "The stimuli")
        self.stimuli = stimuli
        if modality == "image":
            self._check_images()
        elif not isinstance(stimuli, Stimuli):
            if isinstance(stimuli, np.ndarray) and stimuli.ndim != 1:
                raise InputError(
                    f"A model of text takes a string for each stimulus, an array (n,); got shape "
                    f"{stimuli.shape}."
                )
            self.stimuli = as_texts(list(stimuli), "A model of text takes strings")

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
        CorruptFileError, FileAccessError, MissingFileError, InputError
            If any image, of these rows or later ones, is damaged, may not be read, is gone, or has
            no place in 8 bits; the message counts and names all that have the same fault.
        """
        if self.modality == "text":
            if isinstance(self.stimuli, list):
                return self.stimuli[rows.start : rows.stop]
            return [str(text) for text in self.stimuli.read(np.arange(rows.start, rows.stop))]
        if isinstance(self.stimuli, list):
            try:
                return [self._image(row) for row in rows]
            except FAULTS as error:
                raise self._all_faults(rows.start, type(error)) from error
        if isinstance(self.stimuli, Stimuli):
            return as_images(self.stimuli.read(np.arange(rows.start, rows.stop)))
        return as_images(self.stimuli[rows.start : rows.stop])

    def _image(self, row: int) -> "Image.Image":
        return to_rgb(self.stimuli[row])

    def _all_faults(self, start: int, kind: type[BrainkitError]) -> BrainkitError:
        """Return the error that names all images from a row on that have one fault."""
        reasons = []
        for row in range(start, len(self)):
            try:
                self._image(row)
            except kind as error:
                reasons.append(f"{self.name(row)} ({_reason(error)})")
        return kind(
            f"{len(reasons)} of {len(self)} images cannot be read: "
            f"{listed(reasons, separator='; ')}. Mend or leave out these stimuli; none is ever "
            "skipped."
        )

    def _check_images(self) -> None:
        from PIL import Image

        stimuli = self.stimuli
        if isinstance(stimuli, Stimuli) and isinstance(stimuli.source, ArrayStimuli):
            warn_of_dark(stimuli.source.array)
        if isinstance(stimuli, np.ndarray):
            if stimuli.ndim == 1 and stimuli.dtype.kind in "OUST":
                self.stimuli = stimuli = stimuli.tolist()
            else:
                check_format(stimuli)
                warn_of_dark(stimuli)
        if isinstance(stimuli, list):
            self.stimuli = stimuli = [
                os.fsdecode(item) if isinstance(item, bytes) else item for item in stimuli
            ]
            kinds = str | Path | Image.Image | np.ndarray
            wrong = [row for row, item in enumerate(stimuli) if not isinstance(item, kinds)]
            if wrong:
                raise InputError(
                    "Image stimuli are PIL images, paths or arrays; got "
                    f"{type(stimuli[wrong[0]]).__name__} in rows {listed(wrong)}."
                )
            absent = [
                str(item) for item in stimuli if isinstance(item, str | Path) and not is_file(item)
            ]
            if absent:
                raise MissingFileError(
                    f"{len(absent)} of {len(stimuli)} image files are not there: {listed(absent)}. "
                    "The model takes images, and strings name their files; for texts name a model "
                    "of text, such as open_clip-text:tiny."
                )


def _reason(error: BaseException) -> str:
    """Return what a library or the system said, without the name of the file."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = getattr(error, "strerror", None) or str(error)
    return " ".join(said.split()).rstrip(".")
