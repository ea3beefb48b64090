"""Stimuli: an indexed set of images (or clips, sounds, captions), read when needed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.files import require_file
from brainkit.arrays.sources import Index
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed

LARGEST_GAP = 8  # unwanted rows that are read along rather than starting anew
LONGEST_RUN = 256


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
        """Look at the file and return its stimuli; raises `CorruptFileError` if it is damaged."""
        try:
            with h5py.File(require_file(path, "The file of stimuli"), "r") as file:
                return cls(path, dataset, len(file[dataset]))
        except MissingFileError:
            raise
        except (OSError, KeyError) as error:
            raise _damaged(path, dataset, error) from error

    def __len__(self) -> int:
        return self.n_stimuli

    def read(self, rows: Index) -> NDArray[Any]:
        """Return the chosen stimuli, read by runs of near rows: choosing row by row is slow."""
        unique, inverse = np.unique(rows, return_inverse=True)
        cuts = np.flatnonzero(np.diff(unique) > LARGEST_GAP) + 1
        runs = [part for run in np.split(unique, cuts) for part in _pieces(run)]
        try:
            with h5py.File(self.path, "r") as file:
                data = file[self.dataset]
                values = np.empty((len(unique), *data.shape[1:]), dtype=data.dtype)
                start = 0
                for run in runs:
                    values[start : start + len(run)] = data[run[0] : run[-1] + 1][run - run[0]]
                    start += len(run)
        except (OSError, KeyError) as error:
            raise _damaged(self.path, self.dataset, error) from error
        return values[inverse]


def _pieces(run: Index) -> list[Index]:
    """Cut a run of rows so that no more than a bounded stretch of the file is read at once."""
    if not len(run):
        return []
    return np.split(
        run, np.searchsorted(run, np.arange(run[0] + LONGEST_RUN, run[-1], LONGEST_RUN))
    )


def _damaged(path: Path, dataset: str, error: Exception) -> CorruptFileError:
    return CorruptFileError(
        f"{path} cannot be read as HDF5 stimuli with a dataset {dataset!r} ({error})."
    )


@dataclass(frozen=True)
class ImageFiles:
    """Images in files of one size, read as RGB."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, rows: Index) -> NDArray[Any]:
        """Decode the chosen files, (rows, height, width, 3) uint8."""
        from PIL import Image

        images = []
        for row in rows:
            path = require_file(self.paths[row], "A stimulus image")
            try:
                with Image.open(path) as image:
                    images.append(np.asarray(image.convert("RGB")))
            except OSError as error:
                raise CorruptFileError(f"{path} cannot be read as an image ({error}).") from error
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
        (stimuli, height, width) or (stimuli, height, width, 3), uint8 or float in [0, 1].
    ids : array (stimuli,), optional
        A stable name or number for each; the row number where not given.
    table : DataFrame (stimuli rows) or callable, optional
        What is known of each, such as ``caption`` or ``category``; or what returns it, called once
        when the table is first asked for.
    kind : str, default="image"
        "image", "caption", "clip" or "sound".
    """

    def __init__(
        self,
        source: ArrayLike | StimulusFile,
        *,
        ids: ArrayLike | None = None,
        table: pd.DataFrame | Callable[[], pd.DataFrame | None] | None = None,
        kind: str = "image",
    ) -> None:
        self.source: StimulusFile = (
            source if hasattr(source, "read") else ArrayStimuli(np.asanyarray(source))  # type: ignore[assignment]
        )
        n_stimuli = len(self.source)
        self.ids = np.arange(n_stimuli) if ids is None else np.asarray(ids)
        if len(self.ids) != n_stimuli or len(np.unique(self.ids)) != n_stimuli:
            raise InputError(
                f"ids must name each of the {n_stimuli} stimuli once; got {len(self.ids)} ids, "
                f"{len(np.unique(self.ids))} of them different."
            )
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
        return table

    @classmethod
    def from_files(cls, paths: Sequence[str | Path], *, table: pd.DataFrame | None = None) -> Self:
        """Make stimuli of image files of one size; their ids are the file names."""
        files = tuple(Path(path) for path in paths)
        return cls(ImageFiles(files), ids=[path.name for path in files], table=table)

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

        Raises
        ------
        InputError
            If a row does not exist.
        """
        return self.source.read(self._checked(np.arange(len(self)) if rows is None else rows))

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
