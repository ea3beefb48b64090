"""COCO's annotation files (Lin et al., 2014, ECCV): captions and instances of chosen images.

``instances_train2017.json`` holds 860,000 outlines in 450 MB and would be gigabytes as one Python
object. The files are therefore read item by item, and what is not wanted is let go at once.
(ijson, which does the same, takes 2.6 to 4.5 times as long on such a file, even with its C parser.)
"""

import json
import re
from array import array
from collections.abc import Collection, Iterator
from io import TextIOBase
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainkit.arrays.files import TEXT, reading, require_file
from brainkit.data.text import as_texts
from brainkit.errors import CorruptFileError

CHUNK = 1 << 22  # characters that are read at a time
LONGEST_TEXT = 1 << 20  # a decoding fault further than this from the end is no missing end
_OF_NUMBERS = re.compile(r"[0-9.eE+-]*")
_BLANKS = re.compile(r"[ \t\n\r]*")
_NUMBERS = ("image", "category", "area", "x", "y", "width", "height")


class _Window:
    """The part of a JSON file that is in memory."""

    def __init__(self, file: TextIOBase, chunk: int) -> None:
        self.file, self.chunk = file, chunk
        self.text, self.at, self.behind = "", 0, 0
        self.decoder = json.JSONDecoder()

    def more(self) -> bool:
        """Read on, and let go of what is behind; False at the end of the file."""
        added = self.file.read(self.chunk)
        self.behind += self.at
        self.text, self.at = self.text[self.at :] + added, 0
        return bool(added)

    def peek(self) -> str:
        """Return the next character that is not blank, or "" at the end of the file."""
        while True:
            blanks = _BLANKS.match(self.text, self.at)
            self.at = blanks.end() if blanks else self.at
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, expected: str) -> str:
        """Step over the next character, which has to be one of those expected."""
        found = self.peek()
        if not found or found not in expected:
            raise ValueError(
                f"one of {expected} is missing; the file ends or goes on with {found!r}"
            )
        self.at += 1
        return found

    def value(self) -> Any:
        """Decode the next value, reading on until it is whole."""
        self.peek()
        while True:
            try:
                value, end = self.decoder.raw_decode(self.text, self.at)
            except json.JSONDecodeError as error:
                place = self.behind + error.pos
                if len(self.text) - error.pos > LONGEST_TEXT or not self.more():
                    raise ValueError(f"{error.msg} at character {place}") from error
                continue
            going_on = _OF_NUMBERS.match(self.text, end)  # without copying what follows
            if going_on and going_on.end() == len(self.text) and self.more():
                continue  # a number may go on
            self.at = end
            return value


def stream_lists(path: str | Path, *, chunk: int = CHUNK) -> Iterator[tuple[str, Any]]:
    """Give the items of the lists in a JSON object one by one, in memory that does not grow.

    Parameters
    ----------
    path : path
        A file with one object, such as COCO's ``{"images": [...], "annotations": [...]}``. Values
        that are no list are passed over.
    chunk : int
        Characters that are read at a time.

    Yields
    ------
    key : str
    item : object

    Raises
    ------
    MissingFileError
        If there is no such file.
    CorruptFileError
        If it is not such a file, or truncated; items before the fault have been given then.
    """
    mend = "it may not have been downloaded to its end: fetch it again"
    with (
        reading(path, "cannot be read as JSON annotations", mend=mend, also=[RecursionError]),
        require_file(path, "The annotation file").open(encoding=TEXT) as file,
    ):
        yield from _lists(_Window(file, chunk))


def _lists(window: _Window) -> Iterator[tuple[str, Any]]:
    window.take("{")
    if window.peek() == "}":
        return
    following = ","
    while following == ",":
        key = window.value()
        window.take(":")
        if window.peek() == "[":
            window.take("[")
            if window.peek() == "]":
                window.take("]")
            else:
                yield key, window.value()
                while window.take(",]") == ",":
                    yield key, window.value()
        else:
            window.value()
        following = window.take(",}")


def read_captions(path: str | Path, images: Collection[int]) -> dict[int, list[str]]:
    """Read the captions of some images.

    Parameters
    ----------
    path : path
        Such as ``captions_train2017.json``.
    images : set of int
        COCO's ids of the images.

    Returns
    -------
    dict of int to list of str
        In the order of the file, without blanks around them; images without captions are left out.

    Raises
    ------
    MissingFileError, CorruptFileError
        If the file is missing, damaged, of another kind, or knows none of the images.
    """
    captions: dict[int, list[str]] = {}
    known = 0
    for key, item in stream_lists(path):
        try:
            if key == "images":
                known += item["id"] in images
            elif key == "annotations" and _image_id(item) in images:
                captions.setdefault(item["image_id"], []).append(item["caption"].strip())
        except (AttributeError, KeyError, TypeError) as error:
            raise _unlike(path, "captions", error) from error
    _check_known(path, known, images)
    return captions


def read_instances(path: str | Path, images: Collection[int]) -> pd.DataFrame:
    """Read where the single objects of some images are.

    Parameters
    ----------
    path : path
        Such as ``instances_train2017.json``.
    images : set of int
        COCO's ids of the images.

    Returns
    -------
    DataFrame
        A row an object, in the order of the file: `image` (id), `category` (name), `area` of its
        outline and `x`, `y`, `width`, `height` of its box in pixels of the whole image from the
        left top, `image_width`, `image_height`. Regions that COCO marks as crowds are left out.

    Raises
    ------
    MissingFileError, CorruptFileError
        If the file is missing, damaged, of another kind, or knows none of the images.
    """
    numbers, sizes, names = array("d"), array("d"), {}
    for key, item in stream_lists(path):
        try:
            if key == "categories":
                names[item["id"]] = _category(item["name"])
            elif key == "images" and item["id"] in images:
                sizes.extend((item["id"], item["width"], item["height"]))
            elif key == "annotations" and _image_id(item) in images and not item.get("iscrowd"):
                x, y, width, height = item["bbox"]
                numbers.extend((item["image_id"], item["category_id"], item["area"], x, y))
                numbers.extend((width, height))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _unlike(path, "instances", error) from error
    _check_known(path, len(sizes), images)
    rows = np.frombuffer(numbers, dtype=np.float64).reshape(-1, len(_NUMBERS))
    table = pd.DataFrame(rows, columns=list(_NUMBERS)).astype({"image": int, "category": int})
    if not np.isfinite(rows).all():
        raise CorruptFileError(f"{path} has objects whose box or area is no finite number.")
    unnamed = set(table["category"]) - set(names)
    if unnamed:
        raise CorruptFileError(f"{path} names no category {sorted(unnamed)[0]} that objects have.")
    table["category"] = table["category"].map(names)
    size = pd.DataFrame(
        np.frombuffer(sizes, dtype=np.float64).reshape(-1, 3),
        columns=["image", "image_width", "image_height"],
    ).astype({"image": int})
    return table.merge(size, on="image", how="inner")


def _image_id(item: Any) -> Any:
    if isinstance(item["image_id"], str):
        raise TypeError(f"image_id is the text {item['image_id']!r}, not a number")
    return item["image_id"]


def _category(name: Any) -> str:
    text = as_texts([name], "The names of categories are text")[0]
    if not text.strip():
        raise ValueError("a category has an empty name")
    return text


def _check_known(path: str | Path, known: int, images: Collection[int]) -> None:
    if images and not known:
        raise CorruptFileError(
            f"{path} knows none of the {len(images)} images that were looked for: it is not COCO's "
            "annotation file of this split."
        )


def _unlike(path: str | Path, kind: str, error: Exception) -> CorruptFileError:
    return CorruptFileError(
        f"{path} does not hold {kind} as COCO's files do ({type(error).__name__}: {error})."
    )
