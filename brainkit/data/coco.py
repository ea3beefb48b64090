"""COCO's annotation files (Lin et al., 2014, ECCV): captions and instances of chosen images.

``instances_train2017.json`` holds 860,000 outlines in 450 MB and would be gigabytes as one Python
object. The files are therefore read item by item, and what is not wanted is let go at once.
(ijson, which does the same, takes 2.6 to 4.5 times as long on such a file, even with its C parser.)

COCO's captions and objects are matched to NSD's cropped stimuli (`stimulus_table`). NSD's stimuli
are square crops of COCO photographs. ``nsd_stim_info_merged.csv`` says of each which photograph it
is (`cocoId`), in which files COCO describes that (`cocoSplit`), and how much was cut off
(`cropBox`: top, bottom, left, right, as fractions of the photograph's height and width). Captions
are of the whole photograph, so that some tell of what NSD's subjects never saw.
"""

import json
import re
from array import array
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from io import TextIOBase
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.array_likes import whole_numbers
from brainkit.arrays.files import TEXT, FileState, is_file, is_folder, reading, require_file
from brainkit.data.text import as_texts
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed

CHUNK = 1 << 22  # characters that are read at a time
LONGEST_TEXT = 1 << 20  # a decoding fault further than this from the end is no missing end
_OF_NUMBERS = re.compile(r"[0-9.eE+-]*")
_BLANKS = re.compile(r"[ \t\n\r]*")
_NUMBERS = ("image", "category", "area", "x", "y", "width", "height")
STIMULUS_INFO = Path("nsddata/experiments/nsd/nsd_stim_info_merged.csv")
FOLDER = "annotations"
KINDS = ("captions", "instances")
_CROP = ["top", "bottom", "left", "right"]
_INFO = ["nsdId", "cocoId", "cocoSplit", "cropBox"]

# The files of each kind by split.
Files = Mapping[str, Mapping[str, Path]]


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
        sign = self.peek()
        if not sign or sign not in expected:
            raise ValueError(
                f"one of {expected} is missing; the file ends or goes on with {sign!r}"
            )
        self.at += 1
        return sign

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
        Captions in the order of the file, without blanks around them; images without captions are
        left out.

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
        Where the file says what else categories are called, as LVIS's do, `synonyms` (a list).

    Raises
    ------
    MissingFileError, CorruptFileError
        If the file is missing, damaged, of another kind, or knows none of the images.
    """
    numbers, sizes = array("d"), array("d")
    names: dict[Any, str] = {}
    synonyms: dict[str, list[str]] = {}
    for key, item in stream_lists(path):
        try:
            if key == "categories":
                names[item["id"]] = _category(item["name"])
                if item.get("synonyms"):
                    synonyms[names[item["id"]]] = [_category(one) for one in item["synonyms"]]
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
    if synonyms:
        table["synonyms"] = [synonyms.get(name, []) for name in table["category"]]
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


def annotation_folder(root: Path, asked: str | Path | Literal[False] | None) -> Path | None:
    """Return the folder with COCO's files: the one given, or ``<root>/annotations`` if it is there.

    Raises
    ------
    InputError, MissingFileError
        If what is given is no folder.
    """
    if asked is None:
        return root / FOLDER if is_folder(root / FOLDER) else None
    if asked is False:
        return None
    folder = Path(asked)
    if is_file(folder):
        raise InputError(
            f"annotations={folder} is a file; give the folder that holds COCO's files."
        )
    if not is_folder(folder):
        raise MissingFileError(
            f"The folder annotations={folder} does not exist; it should hold COCO's annotation "
            "files, such as captions_train2017.json and instances_train2017.json."
        )
    return folder


def annotation_files(folder: Path, splits: Collection[str]) -> dict[str, dict[str, Path]]:
    """Find the annotation files of the splits that a dataset's images come from.

    Parameters
    ----------
    folder : path
    splits : collection of str
        Such as ``{"train2017", "val2017"}``.

    Returns
    -------
    dict of str to dict of str to path
        Files by kind, ``captions`` or ``instances``, then by split. A kind without any file is left
        out.

    Raises
    ------
    MissingFileError
        If there is neither kind, or a kind is there for some of the splits only.
    """
    files: dict[str, dict[str, Path]] = {}
    for kind in KINDS:
        every = {split: folder / f"{kind}_{split}.json" for split in sorted(splits)}
        missing = [path.name for path in every.values() if not is_file(path)]
        if not missing:
            files[kind] = every
        elif len(missing) < len(every):
            raise MissingFileError(
                f"{folder} lacks {listed(missing)}, which describes some of the images. Fetch "
                "COCO's 2017 annotations whole, or read without them (annotations=False)."
            )
    if not files:
        expected = [f"{kind}_{split}.json" for kind in KINDS for split in sorted(splits)]
        raise MissingFileError(
            f"{folder} holds no annotations of these images: expected {listed(expected)}, or "
            "the files of one of the two kinds. Read without them with annotations=False."
        )
    return files


def read_stimulus_info(path: str | Path, n_stimuli: int) -> pd.DataFrame:
    """Read which photograph each stimulus is, and which part of it.

    Parameters
    ----------
    path : path
        ``nsd_stim_info_merged.csv``.
    n_stimuli : int
        Number of stimuli, numbered from 0 (`nsdId`).

    Returns
    -------
    DataFrame (n_stimuli rows)
        `cocoId`, `cocoSplit`, and `cropBox` as four numbers: the fractions of the photograph's
        height, height, width and width that are cut off at the top, bottom, left and right.

    Raises
    ------
    MissingFileError, CorruptFileError
        If the file is missing or damaged, or lacks some of the stimuli.
    """
    path = require_file(Path(path), "NSD's table of stimuli")
    with reading(
        path, "cannot be read as NSD's table of stimuli", also=[TypeError, AttributeError]
    ):
        info = pd.read_csv(path, usecols=_INFO).set_index("nsdId")
        info["cropBox"] = [_crop_box(text) for text in info["cropBox"]]
        info = info.reindex(pd.RangeIndex(n_stimuli))  # fails where a stimulus is there twice
        if info["cocoId"].isna().any():
            raise ValueError(f"it lacks some of the {n_stimuli} stimuli")
        try:
            info["cocoId"] = whole_numbers(info["cocoId"], "the column cocoId")
        except InputError as error:
            raise ValueError(str(error)) from error
        return info


def _crop_box(text: str) -> list[float]:
    top, bottom, left, right = (float(part) for part in text.strip("()[] ").split(","))
    if min(top, bottom, left, right) < 0 or top + bottom >= 1 or left + right >= 1:
        raise ValueError(f"a cropBox of {text} leaves no image")
    return [top, bottom, left, right]


def area_in_crop(
    area: ArrayLike, box: ArrayLike, size: ArrayLike, crop: ArrayLike
) -> NDArray[np.float64]:
    """Return how much of each object is left when its image is cropped.

    An object's outline is taken to be spread evenly over its box: its area times the share of the
    box that is inside.

    Parameters
    ----------
    area : array (n,)
        Area of the outline in pixels.
    box : array (n, 4)
        Left, top, width and height of the box, pixels.
    size : array (n, 2)
        Width and height of the whole image, pixels.
    crop : array (n, 4)
        What is cut off at the top, bottom, left and right, fractions of height and width.

    Returns
    -------
    array (n,)
        Pixels; 0 for an object that is outside or has no extent.
    """
    left, top, width, height = np.asarray(box, dtype=np.float64).reshape(-1, 4).T
    whole_width, whole_height = np.asarray(size, dtype=np.float64).reshape(-1, 2).T
    cut = dict(zip(_CROP, np.asarray(crop, dtype=np.float64).reshape(-1, 4).T, strict=True))
    start_x = np.maximum(left, cut["left"] * whole_width)
    start_y = np.maximum(top, cut["top"] * whole_height)
    end_x = np.minimum(left + width, (1 - cut["right"]) * whole_width)
    end_y = np.minimum(top + height, (1 - cut["bottom"]) * whole_height)
    inside = np.maximum(end_x - start_x, 0) * np.maximum(end_y - start_y, 0)
    extent = width * height
    share = np.divide(inside, extent, out=np.zeros_like(extent), where=extent > 0)
    return np.asarray(np.asarray(area, dtype=np.float64) * share)


def largest_category(instances: pd.DataFrame, info: pd.DataFrame) -> pd.Series:
    """Return the category of the largest single object that each cropped image shows.

    Parameters
    ----------
    instances : DataFrame
        Instances from `read_instances`.
    info : DataFrame
        Table from `read_stimulus_info`, of the images that the instances may be of.

    Returns
    -------
    Series
        Names, with the index of `info`; missing where an image shows no object. Of objects of
        equal size the one that comes first in COCO's file counts.
    """
    crops = pd.DataFrame(info["cropBox"].tolist(), columns=_CROP)
    crops["stimulus"], crops["image"] = info.index, info["cocoId"].to_numpy()
    seen = instances.reset_index(names="order").merge(crops, on="image")
    seen["left_over"] = area_in_crop(
        seen["area"],
        seen[["x", "y", "width", "height"]],
        seen[["image_width", "image_height"]],
        seen[_CROP],
    )
    seen = seen[seen["left_over"] > 0].sort_values(["left_over", "order"], ascending=[False, True])
    largest = seen.drop_duplicates("stimulus").set_index("stimulus")["category"]
    return largest.reindex(info.index)


def stimulus_table(info: pd.DataFrame, files: Files) -> pd.DataFrame:
    """Return what is known of each stimulus.

    Parameters
    ----------
    info : DataFrame
        Table from `read_stimulus_info`.
    files : dict of str to dict of str to path
        Files from `annotation_files`.

    Returns
    -------
    DataFrame
        The columns of `info`, and those of the kinds of files that are there: `caption` (the first
        in COCO's file; missing where there is none), `captions` (all, a list, empty where there
        are none), `category` (of the largest single object within the crop; see
        `largest_category`) and, where the files tell, its `synonyms` (a list).

    Raises
    ------
    MissingFileError, CorruptFileError
        If a file is missing, damaged or of another kind.
    """
    table = info.copy()
    if "captions" in files:
        columns = {
            (split, image): lines
            for split, images in info.groupby("cocoSplit")["cocoId"]
            for image, lines in read_captions(files["captions"][str(split)], set(images)).items()
        }
        photographs = zip(info["cocoSplit"], info["cocoId"], strict=True)
        captions = [list(columns.get(photograph, ())) for photograph in photographs]
        table["caption"] = [lines[0] if lines else None for lines in captions]
        table["captions"] = captions
    if "instances" in files:
        parts = []
        synonyms: dict[str, list[str]] = {}
        for split, rows in info.groupby("cocoSplit"):
            instances = read_instances(files["instances"][str(split)], set(rows["cocoId"]))
            parts.append(largest_category(instances, rows))
            if "synonyms" in instances:
                synonyms |= dict(zip(instances["category"], instances["synonyms"], strict=True))
        table["category"] = pd.concat(parts).reindex(info.index)
        if synonyms:
            table["synonyms"] = [synonyms.get(name, []) for name in table["category"]]
    return table


def read_table(info: Path, files: Files, n_stimuli: int) -> pd.DataFrame:
    """Read the table of an NSD's stimuli; the people of one dataset share what was read last.

    Parameters
    ----------
    info : path
        ``nsd_stim_info_merged.csv``.
    files : dict of str to dict of str to path
        Files from `annotation_files`.
    n_stimuli : int

    Returns
    -------
    DataFrame (n_stimuli rows)
        See `stimulus_table`.
    """
    paths = tuple((kind, split, path) for kind in files for split, path in files[kind].items())
    states = tuple(_state(path) for path in (info, *(path for *_, path in paths)))
    return _read_once(info, paths, n_stimuli, states).copy(deep=False)


def _state(path: Path) -> FileState:
    return FileState.of(require_file(path, "A file of annotations"))


# Half a gigabyte of JSON takes many seconds, and is the same for all of a dataset's people. The
# states are part of the key, so that files that have changed are read again.
@lru_cache(maxsize=1)
def _read_once(
    info: Path,
    paths: tuple[tuple[str, str, Path], ...],
    n_stimuli: int,
    states: tuple[FileState, ...],
) -> pd.DataFrame:
    del states
    files: dict[str, dict[str, Path]] = {}
    for kind, split, path in paths:
        files.setdefault(kind, {})[split] = path
    return stimulus_table(read_stimulus_info(info, n_stimuli), files)
