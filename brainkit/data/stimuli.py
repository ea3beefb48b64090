"""Stimuli: an indexed set of images (or clips, sounds, captions), read when needed."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, Protocol, Self

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.array_likes import as_array, as_items
from brainkit.arrays.files import reading, require_file, unreadable
from brainkit.arrays.sources import Index
from brainkit.data.rgb import (
    holds_items,
    image_array,
    of_one_size,
    open_image,
    refuse_one_image,
)
from brainkit.data.text import KINDS, as_names, text_array, text_columns
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed, unknown_name

STIMULUS_KINDS = ("image", *KINDS, "clip", "sound")
LARGEST_GAP = 8  # unwanted rows that are read along rather than starting anew
LONGEST_RUN = 256
# What Pillow knows by name but hands on to other programs, or tells apart only.
_NO_IMAGES = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}


class StimulusFile(Protocol):
    """Where stimuli are kept: anything that has a length and reads rows."""

    def __len__(self) -> int:
        """Return the number of stimuli."""
        ...

    def read(self, rows: Index) -> NDArray[Any]:
        """Return the chosen stimuli, (rows, ...)."""
        ...


@dataclass(frozen=True, eq=False)
class ArrayStimuli:
    """Stimuli in an array or a memory map, (stimuli, ...)."""

    array: NDArray[Any]

    def __len__(self) -> int:
        return len(self.array)

    def read(self, rows: Index) -> NDArray[Any]:
        """Return the chosen stimuli as a new array."""
        return np.asarray(self.array[rows])


@dataclass(frozen=True)
class HDF5Stimuli:
    """Stimuli in one HDF5 dataset, (stimuli, ...), such as NSD's ``imgBrick``."""

    path: Path
    dataset: str
    n_stimuli: int

    @classmethod
    def open(cls, path: Path, dataset: str) -> Self:
        """Look at the file and return its stimuli.

        Raises
        ------
        MissingFileError, FileAccessError, CorruptFileError
            If the file is not there, may not be read, is damaged or has no such dataset.
        """
        path = require_file(path, "The file of stimuli")
        with reading(path, "cannot be read as HDF5 stimuli"), h5py.File(path, "r") as file:
            stored = file.get(dataset)
            if not isinstance(stored, h5py.Dataset) or not stored.ndim:
                raise CorruptFileError(
                    f"{path} has no dataset {dataset!r} of stimuli; it has {listed(file)}."
                )
            return cls(path, dataset, len(stored))

    def __len__(self) -> int:
        return self.n_stimuli

    def read(self, rows: Index) -> NDArray[Any]:
        """Return the chosen stimuli, read by runs of near rows: choosing row by row is slow."""
        unique, inverse = np.unique(rows, return_inverse=True)
        cuts = np.flatnonzero(np.diff(unique) > LARGEST_GAP) + 1
        runs = [part for run in np.split(unique, cuts) for part in _pieces(run)]
        with (
            reading(self.path, "cannot be read as HDF5 stimuli", also=[KeyError]),
            h5py.File(self.path, "r") as file,
        ):
            data = file[self.dataset]
            values = np.empty((len(unique), *data.shape[1:]), dtype=data.dtype)
            start = 0
            for run in runs:
                values[start : start + len(run)] = data[run[0] : run[-1] + 1][run - run[0]]
                start += len(run)
        return values[inverse]


def _pieces(run: Index) -> list[Index]:
    """Cut a run of rows so that no more than a bounded stretch of the file is read at once."""
    if not len(run):
        return []
    return np.split(
        run, np.searchsorted(run, np.arange(run[0] + LONGEST_RUN, run[-1], LONGEST_RUN))
    )


@dataclass(frozen=True)
class ImageFiles:
    """Images in files of one size, read as RGB of 8 bits by the rule of `brainkit.data.rgb`."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Index) -> NDArray[Any]:
        """Decode the chosen files, (rows, height, width, 3) uint8."""
        return of_one_size([open_image(self.paths[row]) for row in rows], "image files")


@dataclass(frozen=True, eq=False)
class ChosenStimuli:
    """Some of the stimuli of another source, by its rows; nothing is read or copied."""

    source: StimulusFile
    rows: Index

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, rows: Index) -> NDArray[Any]:
        """Return the chosen stimuli."""
        return self.source.read(self.rows[rows])


class Stimuli:
    """An indexed set of stimuli.

    Parameters
    ----------
    source : array (stimuli, ...), sequence, or StimulusFile
        Source of the stimuli; an array may be a memory map. Images are
        (stimuli, height, width) or (stimuli, height, width, 3): 8 or 16 bits, booleans, or floating
        point in [0, 1], which every model and feature space takes by the one rule of
        `brainkit.data.rgb`. A list of PIL images becomes such an array by the same rule, a list of
        paths image files that are read when they are needed. Captions are strings, or bytes in
        UTF-8.
    ids : array (stimuli,), optional
        A stable name or number for each; the row number where not given.
    table : DataFrame (stimuli rows) or callable, optional
        What is known of each, such as ``caption`` or ``category``; or what returns it, called once
        when the table is first asked for. Where its index holds the ids, in whatever order, its
        rows belong to those; otherwise they are in the order of the stimuli. Bytes in it are
        decoded as UTF-8; None and NaN are missing.
    kind : str, default="image"
        "image", "caption" (or "text"), "clip" or "sound".

    Raises
    ------
    InputError
        If the source is no sequence of stimuli, ids do not name each stimulus once, the table has
        another length, text in them is no text, or there is no such kind.
    """

    def __init__(
        self,
        source: ArrayLike | StimulusFile,
        *,
        ids: ArrayLike | None = None,
        table: pd.DataFrame | Callable[[], pd.DataFrame | None] | None = None,
        kind: str = "image",
    ) -> None:
        if kind not in STIMULUS_KINDS:
            raise unknown_name("kind of stimuli", kind, STIMULUS_KINDS)
        self.source: StimulusFile = (
            source if hasattr(source, "read") else _source_of(source, kind)  # type: ignore[assignment]
        )
        n_stimuli = len(self.source)
        self.ids = np.arange(n_stimuli) if ids is None else _checked_ids(ids, n_stimuli)
        self._table = table if callable(table) else self._fitting(table)
        self.kind = kind

    @property
    def table(self) -> pd.DataFrame | None:
        """What is known of each stimulus, a row each; None where nothing is."""
        if callable(self._table):
            self._table = self._fitting(self._table())
        return self._table

    def _fitting(self, table: pd.DataFrame | None) -> pd.DataFrame | None:
        if table is None:
            return None
        if not isinstance(table, pd.DataFrame):
            raise InputError(
                f"table must be a DataFrame, a row a stimulus; got a {type(table).__name__}."
            )
        if len(table) != len(self):
            raise InputError(f"table must have {len(self)} rows, one a stimulus; got {len(table)}.")
        names = table.index.tolist()
        if names != list(range(len(self))) and set(names) == set(self.ids.tolist()):
            table = table.loc[self.ids.tolist()]
        return text_columns(table)

    @classmethod
    def from_files(
        cls,
        paths: str | bytes | Path | Iterable[str | bytes | Path],
        *,
        ids: ArrayLike | None = None,
        table: pd.DataFrame | Callable[[], pd.DataFrame | None] | None = None,
    ) -> Self:
        """Make stimuli of image files, such as those of a folder of categories.

        Parameters
        ----------
        paths : path, or iterable of paths
            Image files, in the order of the stimuli, or folders. Of a folder all images under it
            are taken, sorted by their paths; hidden files and folders are left out, and so are
            files whose names are not those of images, with a warning that counts them.
        ids : array (stimuli,), optional
            Ids; by default the files' paths relative to the folder that all have in common, with
            slashes: ``faces/01.png``, or ``01.png`` where all lie in one folder.
        table : DataFrame or callable, optional
            See the class. By default, where folders are given and have sub-folders, a column
            ``category``: the sub-folder of the common folder that an image is in, missing for one
            that is in none.

        Raises
        ------
        InputError
            If there are no files, what is given names none, a folder holds no images, or ids are
            not unique.
        MissingFileError, FileAccessError
            If what is given is neither a file nor a folder, or a folder may not be entered. Files
            of a list are looked at when they are read.

        Examples
        --------
        >>> stimuli = Stimuli.from_files("objects")  # doctest: +SKIP
        >>> stimuli.ids[:2], stimuli.table["category"][0]  # doctest: +SKIP
        (array(['faces/01.png', 'faces/02.png']), 'faces')
        """
        single = isinstance(paths, str | bytes | Path)
        listed_paths = _as_paths([paths] if single else paths)
        if not listed_paths:
            raise InputError(
                "There are no image files: the list of paths is empty. Look at the pattern or the "
                "folder that it comes from."
            )
        files, common, folders = _image_files(listed_paths, single)
        names = [_below(common, path) for path in files]
        if table is None and folders:
            categories = [name.split("/")[0] if "/" in name else None for name in names]
            if any(categories):
                table = pd.DataFrame({"category": pd.Series(categories, dtype=object)})
        return cls(ImageFiles(tuple(files)), ids=names if ids is None else ids, table=table)

    def __len__(self) -> int:
        return len(self.source)

    def __repr__(self) -> str:
        return f"Stimuli({len(self)} of kind {self.kind!r})"

    def read(self, rows: ArrayLike | None = None) -> NDArray[Any]:
        """Return stimuli by row number, in the order asked for.

        Parameters
        ----------
        rows : array of int, optional
            Row numbers, repeats allowed; all stimuli where not given.

        Returns
        -------
        array (rows, ...)
            Images in files as RGB of 8 bits, (rows, height, width, 3), by the rule of
            `brainkit.data.rgb`; captions as strings; what is in an array or an HDF5 file as it is
            there.

        Raises
        ------
        InputError
            If a row does not exist, or a caption is missing or no text.
        """
        wanted = self._checked(np.arange(len(self)) if rows is None else rows)
        values = self.source.read(wanted)
        if self.kind not in KINDS:
            return values
        return text_array(
            values, self.ids[wanted].tolist(), "Captions are strings, or bytes in UTF-8"
        )

    def select(self, rows: ArrayLike) -> "Stimuli":
        """Return some of the stimuli, as stimuli that are read when they are asked for.

        Parameters
        ----------
        rows : array of int
            Row numbers, each once; the ids stay, the table is that of the chosen rows.

        Raises
        ------
        InputError
            If a row does not exist or is named twice.
        """
        chosen = self._checked(rows)

        def table() -> pd.DataFrame | None:
            unselected = self.table
            return None if unselected is None else unselected.iloc[chosen].reset_index(drop=True)

        return Stimuli(
            ChosenStimuli(self.source, chosen), ids=self.ids[chosen], table=table, kind=self.kind
        )

    def _checked(self, rows: ArrayLike) -> Index:
        wanted = np.asarray(rows)
        if wanted.ndim != 1 or (wanted.size and not np.issubdtype(wanted.dtype, np.integer)):
            raise InputError(
                f"Stimulus rows are a list of integers; got {wanted.dtype} of shape {wanted.shape}."
            )
        wanted = wanted.astype(np.int64)
        outside = wanted[(wanted < 0) | (wanted >= len(self))]
        if outside.size:
            raise InputError(
                f"Stimulus rows out of range: {listed(np.unique(outside))}; there are "
                f"{len(self)} stimuli, numbered from 0."
            )
        return wanted


def _source_of(stimuli: Any, kind: str) -> StimulusFile:
    """Return where stimuli are that are given as an array or as a sequence of items."""
    if isinstance(stimuli, str | bytes | Path):
        raise InputError(
            f"The stimuli must be an array or a sequence of them; got {str(stimuli)!r}. Of the "
            "files of a folder, Stimuli.from_files makes some."
        )
    if isinstance(stimuli, pd.DataFrame) or not hasattr(stimuli, "__array__"):
        stimuli = as_items(stimuli, "The stimuli")
    # A list with a number or a NaN among texts would otherwise become words.
    if kind in KINDS and not isinstance(stimuli, np.ndarray):
        return ArrayStimuli(np.asarray(stimuli, dtype=object))
    if kind == "image" and holds_items(stimuli):
        items = list(stimuli)
        if items and all(isinstance(item, str | bytes | Path) for item in items):
            return ImageFiles(tuple(_as_paths(items)))
    array = (image_array if kind == "image" else as_array)(stimuli, "The array of stimuli")
    if array.ndim == 0:
        raise InputError(f"The stimuli must be an array (stimuli, ...); got {stimuli!r}.")
    if kind == "image":
        refuse_one_image(array.shape)
    return ArrayStimuli(array)


def _as_paths(paths: Any) -> list[Path]:
    """Return paths that are text, bytes in the file system's encoding, or paths.

    Raises
    ------
    InputError
        If some name no place: empty text, None, NaN, or anything else.
    """
    if paths is None or isinstance(paths, pd.DataFrame | Mapping | AbstractSet | type):
        raise InputError(
            "Image files are given as a path or a sequence of paths in their order; got "
            f"{'None' if paths is None else f'a {type(paths).__name__}'}."
        )
    try:
        items = list(paths)
    except TypeError as error:
        raise InputError(
            f"Image files are given as a path or a sequence of paths; got {paths!r}."
        ) from error
    wrong = {
        row: item
        for row, item in enumerate(items)
        if not isinstance(item, str | bytes | Path) or not item
    }
    if wrong:
        named = listed([f"{item!r} in row {row}" for row, item in wrong.items()])
        raise InputError(
            f"{len(wrong)} of {len(items)} paths of image files name no place: {named}. The "
            "working folder is '.'."
        )
    return [Path(os.fsdecode(item)) for item in items]


def _checked_ids(ids: ArrayLike, n_stimuli: int) -> NDArray[Any]:
    names = as_names(ids)
    known, counts = np.unique(names, return_counts=True)
    if names.shape != (n_stimuli,) or len(known) != n_stimuli:
        twice = f" More than once: {listed(known[counts > 1], 5)}." if (counts > 1).any() else ""
        raise InputError(
            f"ids must name each of the {n_stimuli} stimuli once; got {len(names)} ids, "
            f"{len(known)} of them different.{twice}"
        )
    return names


def _image_files(paths: Sequence[Path], single: bool) -> tuple[list[Path], Path | None, bool]:
    """Return the image files among paths, the folder they have in common, and if any is a folder.

    The common folder is None where there is none, as on two drives.
    """
    files: list[Path] = []
    places: list[str] = []
    folders = False
    for path in paths:
        with reading(path, "cannot be read as a folder of images"):
            is_folder = path.is_dir()
        if is_folder:
            files += _images_under(path)
            folders = True
        else:
            if single and not path.exists():
                raise MissingFileError(f"There is neither a file nor a folder {path}.")
            files.append(path)
        places.append(str(_named(path if is_folder else path.parent)))
    try:
        return files, Path(os.path.commonpath(places)), folders
    except ValueError:
        return files, None, folders


def _images_under(folder: Path) -> list[Path]:
    """List the images under a folder, sorted; what is no image by its name is counted."""
    known = _image_suffixes()
    visible = sorted(_visible_files(folder), key=lambda path: path.relative_to(folder).parts)
    images = [path for path in visible if path.suffix.lower() in known]
    others = [str(path.relative_to(folder)) for path in visible if path.suffix.lower() not in known]
    if not images:
        others_named = (
            f"; it holds {len(others)} other files: {listed(others, 5)}" if others else ""
        )
        raise InputError(f"The folder {folder} holds no images{others_named}.")
    if others:
        warnings.warn(
            f"{len(others)} files under {folder} are no images by their names and were left out: "
            f"{listed(others, 5)}.",
            UserWarning,
            stacklevel=4,
        )
    return images


def _visible_files(folder: Path) -> Iterator[Path]:
    """Give the files under a folder, through links to other folders."""

    def refused(error: OSError) -> None:
        raise unreadable(error.filename or folder, error, "a folder") from error

    for name, inside, names in os.walk(folder, onerror=refused, followlinks=True):
        place = Path(name)
        if place.is_symlink() and any(place.samefile(above) for above in place.parents):
            inside.clear()  # a link that leads back
            continue
        inside[:] = [name for name in inside if not name.startswith(".")]
        yield from (place / name for name in names if not name.startswith("."))


def _image_suffixes() -> set[str]:
    """Return the endings of the files that Pillow decodes itself."""
    from PIL import Image

    formats = Image.registered_extensions()
    return {
        suffix for suffix, name in formats.items() if name in Image.OPEN and name not in _NO_IMAGES
    }


def _below(common: Path | None, path: Path) -> str:
    """Return a file's path relative to the common folder, with slashes."""
    place = _named(path)
    return (place if common is None else place.relative_to(common)).as_posix()


def _named(path: Path) -> Path:
    """Return an absolute path without dots, in which links keep the names that they have."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow them


def stimulus_numbers(shown: pd.Series, n_stimuli: int | None = None) -> Index:
    """Return the rows of the stimuli that trials name, of the trials that name one.

    Parameters
    ----------
    shown : Series
        The trials' column `stimulus`.
    n_stimuli : int, optional
        Number of stimuli, where that is known.

    Raises
    ------
    InputError
        If a value is no whole number (a fraction, true, a date or a name), or there is no such row.
    """
    shown = shown.dropna()
    if not pd.api.types.is_integer_dtype(shown.dtype):
        broken = [value for value in shown.astype(object) if not _is_whole(value)]
        if broken:
            raise InputError(
                "The trials' column 'stimulus' holds rows of the stimuli, whole numbers from 0; "
                f"got {listed(dict.fromkeys(map(repr, broken)))}."
            )
    rows = shown.astype(object).to_numpy().astype(np.int64)
    outside = rows[(rows < 0) | (rows >= (n_stimuli or np.iinfo(np.int64).max))]
    if outside.size:
        there = "" if n_stimuli is None else f"there are {n_stimuli} stimuli, "
        raise InputError(
            f"Trials show stimulus rows {listed(np.unique(outside))}, but {there}numbered from 0."
        )
    return np.asarray(rows)


def _is_whole(value: Any) -> bool:
    number = isinstance(value, Real) and not isinstance(value, bool | np.bool_)
    return number and float(value).is_integer()
