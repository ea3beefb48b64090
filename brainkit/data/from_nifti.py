"""Recordings from NIfTI volumes, single-trial responses or BOLD series, and masks on their grid."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.array_likes import as_array, as_items, whole_numbers
from brainkit.arrays.files import require_file
from brainkit.arrays.sources import Index, Stacked
from brainkit.arrays.volumes import (
    NiftiVolumes,
    load_nifti,
    read_labels,
    read_volume,
    storage_step,
    without_single_axes,
)
from brainkit.data.stimuli import Stimuli
from brainkit.data.text import as_texts
from brainkit.data.units import VolumeSpace, roi_table
from brainkit.errors import GridMismatchError, InputError


def read_mask(
    path: Path,
    grid: tuple[int, ...],
    affine: NDArray[np.float64] | None = None,
    what: str = "A region mask",
) -> NDArray[np.int64]:
    """Read a mask or label volume, whole numbers, and check that it lies on the given grid.

    Raises
    ------
    GridMismatchError
        If the shape differs, or the affine by more than 0.001 mm, where one is given.
    InputError
        If it holds anything but whole numbers with noise.
    """
    labels, affine_of_mask = read_labels(path, what)
    _check_grid(path, labels.shape, affine_of_mask, grid, affine, what)
    return labels


def read_map(path: Path, grid: tuple[int, ...], what: str) -> NDArray[Any]:
    """Read a volume of real values, such as an anatomy, and check its shape."""
    values, affine_of_map = read_volume(path, what)
    _check_grid(path, values.shape, affine_of_map, grid, None, what)
    return values


def _paths(images: Any) -> list[Path]:
    """Return the files of responses: one, or several in the order of the trials."""
    single = isinstance(images, str | bytes | Path) or hasattr(images, "dataobj")
    items = [images] if single else as_items(images, "images")
    if not items:
        raise InputError("images names no file; give at least one volume of responses.")
    wrong = [item for item in items if not isinstance(item, str | bytes | Path) or not item]
    if wrong:
        got = repr(wrong[0]) if isinstance(wrong[0], str) else f"a {type(wrong[0]).__name__}"
        raise InputError(
            "images are paths of NIfTI files, which are read in part; got "
            f"{got}. Save volumes in memory first (nibabel.save), or give an array to "
            "Recording.from_arrays."
        )
    return [Path(os.fsdecode(item)) for item in items]


def _mask_volume(
    given: str | Path | ArrayLike, what: str
) -> tuple[NDArray[np.int64], NDArray[np.float64] | None]:
    """Return a mask that is a file, an image of nibabel or an array, and the affine it names."""
    if isinstance(given, str | Path):
        return read_labels(Path(given), what)
    affine = getattr(given, "affine", None)
    values = without_single_axes(as_array(getattr(given, "dataobj", given), what))
    if values.ndim != 3:
        raise InputError(f"{what} has shape {values.shape}; expected (X, Y, Z).")
    labels = whole_numbers(values, what, step=storage_step(given))
    return labels, None if affine is None else np.asarray(affine, dtype=np.float64)


def _check_grid(
    path: str | Path,
    shape: tuple[int, ...],
    other_affine: NDArray[np.float64] | None,
    grid: tuple[int, ...],
    affine: NDArray[np.float64] | None,
    what: str,
) -> None:
    if tuple(shape) != tuple(grid):
        raise GridMismatchError(
            f"{what}, {path}, has the grid {tuple(shape)}; expected {tuple(grid)}. "
            "Resample it first (nilearn.image.resample_to_img with interpolation='nearest')."
        )
    if (
        affine is not None
        and other_affine is not None
        and not np.allclose(other_affine, affine, atol=1e-3)
    ):
        raise GridMismatchError(
            f"{what}, {path}, has the right shape but another affine, so its voxels lie "
            "elsewhere. Resample it first (nilearn.image.resample_to_img)."
        )


def unit_table(voxels: Index, grid: tuple[int, int, int]) -> pd.DataFrame:
    """Return a table with the voxel indices i, j, k of each unit."""
    i, j, k = np.unravel_index(voxels, grid)
    return pd.DataFrame({"i": i, "j": j, "k": k})


def read_nifti(  # noqa: PLR0913 - the parts of a recording, by name
    images: str | Path | Sequence[str | Path],
    mask: str | Path | ArrayLike,
    trials: pd.DataFrame | None = None,
    *,
    samples: pd.DataFrame | None = None,
    tr: float | None = None,
    events: pd.DataFrame | None = None,
    rois: Mapping[str, str | Path | ArrayLike] | None = None,
    subject: str = "s1",
    stimuli: Stimuli | ArrayLike | None = None,
    scale: float = 1.0,
    background: str | Path | None = None,
    info: Mapping[str, Any] | None = None,
    stimuli_are: Literal["exemplars", "conditions"] = "exemplars",
) -> dict[str, Any]:
    """Return the parts of a `Recording` from NIfTI files.

    Parameters
    ----------
    images : path or sequence of paths
        One 4-D file a session (of series: a run), or a 3-D file a trial, in the order of `trials`
        or `samples`.
    mask : path, nibabel image or array (X, Y, Z)
        Voxels above 0 are the units. Masks and labels are whole numbers: values that are nearly
        so, as noise or scaled integers leave them, are rounded, with a warning; all others, such
        as probabilities, are refused. NaN is outside.
    trials : DataFrame, optional
        A row a volume. Without it trial i shows stimulus i, if there are as many stimuli.
    samples : DataFrame, optional
        Of a BOLD series: a row a volume, with ``run``, and ``time`` in seconds from the beginning
        of the run; more columns, such as ``label``, stay. Where `tr` is given instead, files are
        runs 1, 2, ..., and a run without times has its volumes at 0, `tr`, 2 `tr`, ...
    tr : float, optional
        Of a BOLD series: seconds between volumes.
    events : DataFrame, optional
        Of a BOLD series: what happened when, with ``onset`` in seconds by the runs' clock.
    rois : mapping of str to path, nibabel image or array, optional
        Masks of regions, above 0 inside.
    scale : float, default=1.0
        From stored values to the unit of measurement.
    background : path, optional
        An anatomy on the same grid.
    stimuli_are : {"exemplars", "conditions"}, default="exemplars"
        See `Recording`.

    Raises
    ------
    MissingFileError, CorruptFileError, GridMismatchError, InputError
        If a file is missing or damaged, or grids or counts do not fit.
    """
    paths = _paths(images)
    labels, given_affine = _mask_volume(mask, "The mask")
    named = f"the mask {mask}" if isinstance(mask, str | Path) else "the mask"
    grid = (labels.shape[0], labels.shape[1], labels.shape[2])
    voxels = np.flatnonzero(labels > 0)
    if not len(voxels):
        raise InputError(f"{named[0].upper()}{named[1:]} has no voxel above 0.")
    for path in paths:
        image = load_nifti(require_file(path, "A volume of responses"))
        if given_affine is None:
            given_affine = np.asarray(image.affine, dtype=np.float64)
        what = f"With {named}, the volume of responses"
        _check_grid(path, image.shape[:3], image.affine, grid, given_affine, what)
    source = Stacked([NiftiVolumes(path, voxels, grid, scale) for path in paths])
    units = unit_table(voxels, grid)
    masks = {}
    if rois is not None and not isinstance(rois, Mapping):
        raise InputError(f"rois must be a dict of masks by name; got a {type(rois).__name__}.")
    names = as_texts(rois or (), "rois are masks by name")
    for name, given in zip(names, (rois or {}).values(), strict=True):
        what = f"The mask of the ROI {name}"
        volume, affine_of_mask = _mask_volume(given, what)
        there = given if isinstance(given, str | Path) else "given as an array"
        _check_grid(there, volume.shape, affine_of_mask, grid, given_affine, what)
        masks[name] = volume.ravel()[voxels]
    anatomy = None if background is None else read_map(Path(background), grid, "The anatomy")
    if stimuli is not None and not isinstance(stimuli, Stimuli):
        stimuli = Stimuli(stimuli)
    if trials is not None and (samples is not None or tr is not None):
        raise InputError(
            "Volumes are trials (trials=) or moments of a series (samples=, tr=), not both."
        )
    tables: dict[str, Any] = {"trials": trials}
    if samples is not None or tr is not None:
        lengths = [part.shape[0] for part in source.parts]
        tables = {**_series(samples, tr, lengths), "events": events}
    elif trials is None:
        tables["trials"] = trials = pd.DataFrame(index=range(source.shape[0]))
        if stimuli is not None and len(stimuli) == len(trials):
            trials["stimulus"] = np.arange(len(trials))
    return {
        "source": source,
        "subject": subject,
        **tables,
        "units": units if not masks else pd.concat([units, roi_table(masks)], axis=1),
        "stimuli": stimuli,
        "stimuli_are": stimuli_are,
        "space": VolumeSpace(grid, np.asarray(given_affine), voxels, anatomy),
        "info": dict(info or {}),
    }


def _series(
    samples: pd.DataFrame | None, tr: float | None, lengths: Sequence[int]
) -> dict[str, Any]:
    """Return the table of a series' volumes, and how many a second there are.

    Raises
    ------
    InputError
        If the table has not a row a volume, `tr` is no time, or neither times nor `tr` are given.
    """
    if tr is not None and not (np.isfinite(tr) and tr > 0):
        raise InputError(f"tr is the seconds between two volumes, above 0; got {tr!r}.")
    run = np.repeat(np.arange(1, len(lengths) + 1), lengths)
    table = pd.DataFrame({"run": run}) if samples is None else samples.reset_index(drop=True)
    if len(table) != len(run):
        raise InputError(
            f"samples has {len(table)} rows and the {len(lengths)} files have {len(run)} volumes: "
            "give a row for each, in the order of the files."
        )
    if "run" not in table:
        table = table.assign(run=run)
    keys = ["session", "run"] if "session" in table else ["run"]
    if "time" not in table:
        if tr is None:
            raise InputError(
                "A series needs times: a column 'time' of samples, in seconds from the beginning "
                "of each run, or the seconds between volumes (tr=)."
            )
        table = table.assign(time=table.groupby(keys, sort=False).cumcount() * float(tr))
    steps = table.groupby(keys, sort=False)["time"].diff().to_numpy(dtype=np.float64)
    if (steps <= 0).any():
        row = int(np.flatnonzero(steps <= 0)[0])
        raise InputError(
            f"Times must rise within a run; rows {row - 1} and {row} of samples have "
            f"{table['time'].iloc[row - 1]} and {table['time'].iloc[row]}."
        )
    usual = float(np.nanmedian(steps)) if np.isfinite(steps).any() else tr
    return {"samples": table, "sfreq": None if not usual else 1.0 / usual}
