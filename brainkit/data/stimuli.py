"""Stimuli: an indexed set of images (or clips, sounds, captions), read when needed."""

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.files import reading, require_file, unreadable
from brainkit.arrays.sources import Index
from brainkit.data.rgb import open_image
from brainkit.data.text import KINDS, as_names, text_array, text_columns
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed

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
            found = file.get(dataset)
            if not isinstance(found, h5py.Dataset) or not found.ndim:
                raise CorruptFileError(
                    f"{path} has no dataset {dataset!r} of stimuli; it has {listed(file)}."
                )
            return cls(path, dataset, len(found))

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
        images = [np.asarray(open_image(self.paths[row])) for row in rows]
        sizes = {image.shape for image in images}
        if len(sizes) > 1:
            raise InputError(
                f"The image files have several sizes, {listed(sorted(sizes))}: resize them first."
            )
        return np.stack(images) if images else np.empty((0, 0, 0, 3), dtype=np.uint8)


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
    source : array (stimuli, ...) or StimulusFile
        Where the stimuli are; an array may be a memory map. Images are
        (stimuli, height, width) or (stimuli, height, width, 3): 8 or 16 bits, booleans, or floating
        point in [0, 1], which every model and feature space takes by the one rule of
        `brainkit.data.rgb`. Captions are strings, or bytes in UTF-8.
    ids : array (stimuli,), optional
        A stable name or number for each; the row number where not given.
    table : DataFrame (stimuli rows) or callable, optional
        What is known of each, such as ``caption`` or ``category``; or what returns it, called once
        when the table is first asked for. Bytes in it are decoded as UTF-8; None and NaN are
        missing.
    kind : str, default="image"
        "image", "caption", "clip" or "sound".

    Raises
    ------
    InputError
        If ids do not name each stimulus once, the table has another length, or text in them is no
        text.
    """

    def __init__(
        self,
        source: ArrayLike | StimulusFile,
        *,
        ids: ArrayLike | None = None,
        table: pd.DataFrame | Callable[[], pd.DataFrame | None] | None = None,
        kind: str = "image",
    ) -> None:
        if not hasattr(source, "read"):
            mixed = kind in KINDS and not isinstance(source, np.ndarray)
            # A list with a number or a NaN among texts would otherwise become words.
            source = ArrayStimuli(np.asanyarray(source, dtype=object if mixed else None))
        self.source: StimulusFile = source  # type: ignore[assignment]
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
        if table is not None and len(table) != len(self):
            raise InputError(f"table must have {len(self)} rows, one a stimulus; got {len(table)}.")
        return None if table is None else text_columns(table)

    @classmethod
    def from_files(
        cls,
        paths: str | Path | Iterable[str | Path],
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
            By default the files' paths relative to the folder that all have in common, with
            slashes: ``faces/01.png``, or ``01.png`` where all lie in one folder.
        table : DataFrame or callable, optional
            See the class. By default, where folders are given and have sub-folders, a column
            ``category``: the sub-folder of the common folder that an image is in, missing for one
            that is in none.

        Raises
        ------
        InputError
            If there are no files, a folder holds no images, or ids are not unique.
        MissingFileError, FileAccessError
            If what is given is neither a file nor a folder, or a folder may not be entered. Files
            of a list are looked at when they are read.

        Examples
        --------
        >>> stimuli = Stimuli.from_files("objects")  # doctest: +SKIP
        >>> stimuli.ids[:2], stimuli.table["category"][0]  # doctest: +SKIP
        (array(['faces/01.png', 'faces/02.png']), 'faces')
        """
        single = isinstance(paths, str | Path)
        given = [Path(paths)] if isinstance(paths, str | Path) else [Path(path) for path in paths]
        if not given:
            raise InputError(
                "There are no image files: the list of paths is empty. Look at the pattern or the "
                "folder that it comes from."
            )
        files, common, folders = _image_files(given, single)
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
            whole = self.table
            return None if whole is None else whole.iloc[chosen].reset_index(drop=True)

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


def _image_files(given: Sequence[Path], single: bool) -> tuple[list[Path], Path | None, bool]:
    """Return the image files among paths, the folder they have in common, and if any is a folder.

    The common folder is None where there is none, as on two drives.
    """
    files: list[Path] = []
    places: list[str] = []
    folders = False
    for path in given:
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
        told = f"; it holds {len(others)} other files: {listed(others, 5)}" if others else ""
        raise InputError(f"The folder {folder} holds no images{told}.")
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


def check_stimulus_rows(shown: pd.Series, n_stimuli: int) -> None:
    """Raise unless the trials' stimuli, where they are named, are rows of the stimuli.

    Raises
    ------
    InputError
        If a value is no whole number, or there is no such row.
    """
    shown = shown.dropna()
    rows = pd.to_numeric(shown, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    broken = rows != np.floor(rows)
    if broken.any():
        raise InputError(
            "The trials' column 'stimulus' holds rows of the stimuli, whole numbers from 0; got "
            f"{listed(shown[broken].unique())}."
        )
    outside = rows[(rows < 0) | (rows >= n_stimuli)].astype(np.int64)
    if outside.size:
        raise InputError(
            f"Trials show stimulus rows {listed(np.unique(outside))}, but there are {n_stimuli} "
            "stimuli, numbered from 0."
        )
