"""Recordings from NIfTI volumes of single-trial responses and masks on the same grid."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.files import require_file
from brainkit.arrays.sources import Index, Stacked
from brainkit.arrays.volumes import NiftiVolumes, load_nifti, read_volume
from brainkit.data.rois import roi_table
from brainkit.data.spaces import VolumeSpace
from brainkit.data.stimuli import Stimuli
from brainkit.errors import GridMismatchError, InputError


def read_mask(
    path: Path,
    grid: tuple[int, ...],
    affine: NDArray[np.float64] | None = None,
    what: str = "A region mask",
) -> NDArray[Any]:
    """Read a mask or label volume and check that it lies on the given grid.

    Raises
    ------
    GridMismatchError
        If the shape differs, or the affine by more than 0.001 mm, where one is given.
    """
    labels, found = read_volume(path, what)
    _check_grid(path, labels.shape, found, grid, affine, what)
    return labels


def _check_grid(
    path: Path,
    shape: tuple[int, ...],
    found: NDArray[np.float64],
    grid: tuple[int, ...],
    affine: NDArray[np.float64] | None,
    what: str,
) -> None:
    if tuple(shape) != tuple(grid):
        raise GridMismatchError(
            f"{what}, {path}, has the grid {tuple(shape)}; expected {tuple(grid)}. "
            "Resample it first (nilearn.image.resample_to_img with interpolation='nearest')."
        )
    if affine is not None and not np.allclose(found, affine, atol=1e-3):
        raise GridMismatchError(
            f"{what}, {path}, has the right shape but another affine, so its voxels lie "
            "elsewhere. Resample it first (nilearn.image.resample_to_img)."
        )


def unit_table(voxels: Index, grid: tuple[int, int, int]) -> pd.DataFrame:
    """Return a table with the voxel indices i, j, k of each unit."""
    i, j, k = np.unravel_index(voxels, grid)
    return pd.DataFrame({"i": i, "j": j, "k": k})


def read_nifti(
    images: str | Path | Sequence[str | Path],
    mask: str | Path,
    trials: pd.DataFrame | None = None,
    *,
    rois: Mapping[str, str | Path] | None = None,
    subject: str = "s1",
    stimuli: Stimuli | ArrayLike | None = None,
    scale: float = 1.0,
    background: str | Path | None = None,
    info: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the parts of a `Recording` from NIfTI files.

    Parameters
    ----------
    images : path or sequence of paths
        One 4-D file a session, or a 3-D file a trial, in the order of `trials`.
    mask : path
        Voxels above 0 are the units.
    trials : DataFrame, optional
        A row a volume. Without it trial i shows stimulus i, if there are as many stimuli.
    rois : mapping of str to path, optional
        Masks of regions, above 0 inside.
    scale : float, default=1.0
        From stored values to the unit of measurement.
    background : path, optional
        An anatomy on the same grid.

    Raises
    ------
    MissingFileError, CorruptFileError, GridMismatchError, InputError
        If a file is missing or damaged, or grids or counts do not fit.
    """
    paths = [Path(images)] if isinstance(images, str | Path) else [Path(item) for item in images]
    labels, affine = read_volume(Path(mask), "The mask")
    grid = (labels.shape[0], labels.shape[1], labels.shape[2])
    voxels = np.flatnonzero(labels > 0)
    if not len(voxels):
        raise InputError(f"The mask {mask} has no voxel above 0.")
    for path in paths:
        image = load_nifti(require_file(path, "A volume of responses"))
        what = f"With the mask {mask}, the volume of responses"
        _check_grid(path, image.shape[:3], image.affine, grid, affine, what)
    source = Stacked([NiftiVolumes(path, voxels, grid, scale) for path in paths])
    units = unit_table(voxels, grid)
    masks = {
        name: read_mask(Path(path), grid, affine, f"The mask of the ROI {name}").ravel()[voxels]
        for name, path in (rois or {}).items()
    }
    anatomy = None if background is None else read_mask(Path(background), grid, what="The anatomy")
    if stimuli is not None and not isinstance(stimuli, Stimuli):
        stimuli = Stimuli(stimuli)
    if trials is None:
        trials = pd.DataFrame(index=range(source.shape[0]))
        if stimuli is not None and len(stimuli) == len(trials):
            trials["stimulus"] = np.arange(len(trials))
    return {
        "source": source,
        "subject": subject,
        "trials": trials,
        "units": units if not masks else pd.concat([units, roi_table(masks)], axis=1),
        "stimuli": stimuli,
        "space": VolumeSpace(grid, affine, voxels, anatomy),
        "info": dict(info or {}),
    }
