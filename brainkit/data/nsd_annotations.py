"""What NSD's images show: COCO's captions and objects, matched to the cropped stimuli.

NSD's stimuli are square crops of COCO photographs. ``nsd_stim_info_merged.csv`` says of each which
photograph it is (`cocoId`), in which files COCO describes that (`cocoSplit`), and how much was cut
off (`cropBox`: top, bottom, left, right, as fractions of the photograph's height and width).
Captions are of the whole photograph, so that some tell of what NSD's subjects never saw.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.array_likes import whole_numbers
from brainkit.arrays.files import FileState, is_file, is_folder, reading, require_file
from brainkit.data.coco import read_captions, read_instances
from brainkit.errors import InputError, MissingFileError, listed

STIMULUS_INFO = Path("nsddata/experiments/nsd/nsd_stim_info_merged.csv")
FOLDER = "annotations"
KINDS = ("captions", "instances")
_CROP = ["top", "bottom", "left", "right"]
_INFO = ["nsdId", "cocoId", "cocoSplit", "cropBox"]

# The files of each kind by split.
Files = Mapping[str, Mapping[str, Path]]


def annotation_folder(root: Path, given: str | Path | Literal[False] | None) -> Path | None:
    """Return the folder with COCO's files: the one given, or ``<root>/annotations`` if it is there.

    Raises
    ------
    InputError, MissingFileError
        If what is given is no folder.
    """
    if given is None:
        return root / FOLDER if is_folder(root / FOLDER) else None
    if given is False:
        return None
    folder = Path(given)
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
        By kind, ``captions`` or ``instances``, then by split. A kind without any file is left out.

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
        How many stimuli there are, numbered from 0 (`nsdId`).

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
        Of the outline, pixels.
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
        As `read_instances` gives it.
    info : DataFrame
        As `read_stimulus_info` gives it, of the images that the instances may be of.

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
        As `read_stimulus_info` gives it.
    files : dict of str to dict of str to path
        As `annotation_files` gives them.

    Returns
    -------
    DataFrame
        The columns of `info`, and those of the kinds of files that are there: `caption` (the first
        in COCO's file; missing where there is none), `captions` (all, a list, empty where there
        are none), `category` (of the largest single object within the crop; see
        `largest_category`).

    Raises
    ------
    MissingFileError, CorruptFileError
        If a file is missing, damaged or of another kind.
    """
    table = info.copy()
    if "captions" in files:
        found = {
            (split, image): lines
            for split, images in info.groupby("cocoSplit")["cocoId"]
            for image, lines in read_captions(files["captions"][str(split)], set(images)).items()
        }
        photographs = zip(info["cocoSplit"], info["cocoId"], strict=True)
        captions = [list(found.get(photograph, ())) for photograph in photographs]
        table["caption"] = [lines[0] if lines else None for lines in captions]
        table["captions"] = captions
    if "instances" in files:
        parts = []
        for split, rows in info.groupby("cocoSplit"):
            instances = read_instances(files["instances"][str(split)], set(rows["cocoId"]))
            parts.append(largest_category(instances, rows))
        table["category"] = pd.concat(parts).reindex(info.index)
    return table


def read_table(info: Path, files: Files, n_stimuli: int) -> pd.DataFrame:
    """Read the table of an NSD's stimuli; the people of one dataset share what was read last.

    Parameters
    ----------
    info : path
        ``nsd_stim_info_merged.csv``.
    files : dict of str to dict of str to path
        As `annotation_files` gives them.
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
