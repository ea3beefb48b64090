"""The units of a recording: where they are (spaces), and which regions they belong to (ROIs).

A space has one place a unit, in the order of the recording's units. `select` follows a selection
of units; `to_image` makes an image of one value a unit (or of a stack of them) in the space's own
type, and `save` writes it.

Regions of interest are boolean columns ``roi.<name>`` of a recording's units. A ROI is called what
its source calls it. Some names of the Natural Scenes Dataset stand for parts of one region: ``V1v``
and ``V1d`` of ``V1``, ``FFA-1`` and ``FFA-2`` of ``FFA``. These, with or without a hemisphere
before them, are known under the common name too. No other name is taken apart: ``6d`` and ``6v``
are two areas of the HCP's parcellation, ``LIPd`` is no part of a ``LIP``, and ``Network-1`` is one
of several networks.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from brainkit.arrays.array_likes import inside, whole_numbers
from brainkit.arrays.sources import Index
from brainkit.errors import InputError, listed, unknown_name

PREFIX = "roi."
NSD_PARTS: Mapping[str, tuple[str, str]] = {
    **{area: (f"{area}v", f"{area}d") for area in ("V1", "V2", "V3")},
    **{patch: (f"{patch}-1", f"{patch}-2") for patch in ("FFA", "FBA", "VWFA")},
}
PARTS = {
    side + region: tuple(side + part for part in parts)
    for side in ("", "lh.", "rh.")
    for region, parts in NSD_PARTS.items()
}
REGION_OF = {part: region for region, parts in PARTS.items() for part in parts}

Mask = NDArray[np.bool_]


class Space(Protocol):
    """What every space can do."""

    @property
    def n_units(self) -> int:
        """Number of units placed in the space."""
        ...

    def select(self, units: Index) -> Self:
        """Return the space of some of the units, by position."""
        ...

    @property
    def volume(self) -> "VolumeSpace | None":
        """The space as a volume, whose slices can be drawn; None of others."""
        ...

    def to_image(self, values: ArrayLike, fill: float = np.nan) -> Any:
        """Put one value a unit back into the space."""
        ...

    def save(self, values: ArrayLike, folder: Path, name: str) -> Path:
        """Write one value a unit in the space's own file type, and return the file."""
        ...


def _checked(values: ArrayLike, n_units: int) -> NDArray[np.float32]:
    array = np.asarray(values, dtype=np.float32)
    if array.ndim not in (1, 2) or array.shape[-1] != n_units:
        raise InputError(
            f"to_image takes one value a unit: shape ({n_units},) or (maps, {n_units}); "
            f"got {array.shape}."
        )
    return array


@dataclass(frozen=True, eq=False)
class VolumeSpace:
    """Voxels of a volume.

    Parameters
    ----------
    shape : tuple of int
        Grid (X, Y, Z).
    affine : array (4, 4)
        Affine map from voxel indices to millimetres.
    voxels : array of int (units,)
        Flat C-order index of each unit in the grid.
    background : array (X, Y, Z), optional
        An anatomy on the same grid, to draw maps on.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    voxels: Index
    background: NDArray[Any] | None = None

    @property
    def volume(self) -> "VolumeSpace":
        """The space itself."""
        return self

    @property
    def n_units(self) -> int:
        """Number of voxels."""
        return len(self.voxels)

    def select(self, units: Index) -> Self:
        """Return the space of some of the voxels, by position."""
        return replace(self, voxels=self.voxels[units])

    def coordinates(self) -> NDArray[np.float64]:
        """Return the voxels' centres in millimetres, (units, 3)."""
        ijk = np.stack(np.unravel_index(self.voxels, self.shape), axis=1)
        return ijk @ self.affine[:3, :3].T + self.affine[:3, 3]

    def to_image(self, values: ArrayLike, fill: float = np.nan) -> Any:
        """Return a NIfTI image, float32, with `fill` where no unit is.

        Parameters
        ----------
        values : array (units,) or (maps, units)
            A stack of maps becomes the fourth axis.
        """
        import nibabel

        values = _checked(values, self.n_units)
        stack = np.atleast_2d(values)
        volume = np.full((*self.shape, len(stack)), fill, dtype=np.float32)
        volume.reshape(-1, len(stack))[self.voxels] = stack.T
        data = volume[..., 0] if values.ndim == 1 else volume
        return nibabel.Nifti1Image(data, self.affine)

    def save(self, values: ArrayLike, folder: Path, name: str) -> Path:
        """Write `NAME.nii.gz`, see `to_image`."""
        import nibabel

        path = folder / f"{name}.nii.gz"
        nibabel.save(self.to_image(values), path)
        return path

    def background_image(self) -> Any | None:
        """Return the anatomy as a NIfTI image, or None where there is none."""
        import nibabel

        if self.background is None:
            return None
        data = np.asarray(self.background, dtype=np.float32)
        return nibabel.Nifti1Image(data, self.affine)


@dataclass(frozen=True, eq=False)
class SurfaceSpace:
    """Vertices of the two hemispheres' surfaces.

    Parameters
    ----------
    n_vertices : tuple of int
        Vertices of the left and of the right surface.
    vertices : array of int (units,)
        Index of each unit; those of the right hemisphere count on after the left's.
    name : str, default="fsaverage"
        Name of the surface, or "native".
    """

    n_vertices: tuple[int, int]
    vertices: Index
    name: str = "fsaverage"
    volume: ClassVar[None] = None

    @property
    def n_units(self) -> int:
        """Number of vertices in use."""
        return len(self.vertices)

    def select(self, units: Index) -> Self:
        """Return the space of some of the vertices, by position."""
        return replace(self, vertices=self.vertices[units])

    def to_image(self, values: ArrayLike, fill: float = np.nan) -> dict[str, Any]:
        """Return a GIFTI functional image for each hemisphere, ``{"left": …, "right": …}``."""
        from nibabel.gifti import GiftiDataArray, GiftiImage

        stack = np.atleast_2d(_checked(values, self.n_units))
        full = np.full((len(stack), sum(self.n_vertices)), fill, dtype=np.float32)
        full[:, self.vertices] = stack
        left = self.n_vertices[0]
        images = {}
        for side, part in (("left", full[:, :left]), ("right", full[:, left:])):
            arrays = [
                GiftiDataArray(row, intent="NIFTI_INTENT_NONE", datatype="NIFTI_TYPE_FLOAT32")
                for row in part
            ]
            images[side] = GiftiImage(darrays=arrays)
        return images

    def save(self, values: ArrayLike, folder: Path, name: str) -> Path:
        """Write `left.NAME.func.gii` and `right.NAME.func.gii`, and return the left one."""
        import nibabel

        paths = {}
        for side, image in self.to_image(values).items():
            paths[side] = folder / f"{side}.{name}.func.gii"
            nibabel.save(image, paths[side])
        return paths["left"]


@dataclass(frozen=True, eq=False)
class SensorSpace:
    """Sensors or electrodes, by name, with MNE's description of where they are.

    Parameters
    ----------
    names : tuple of str
        Channel names.
    info : mne.Info
        MNE's measurement info of exactly these channels.
    """

    names: tuple[str, ...]
    info: Any
    volume: ClassVar[None] = None

    @property
    def n_units(self) -> int:
        """Number of channels."""
        return len(self.names)

    def select(self, units: Index) -> Self:
        """Return the space of some of the channels, by position.

        Raises
        ------
        InputError
            If no channel is chosen, or one twice: MNE has no such sensor layout.
        """
        import mne

        if len(units) == 0 or len(np.unique(units)) != len(units):
            raise InputError(
                "Choose at least one sensor, and each once: a sensor layout cannot repeat them."
            )
        names = tuple(self.names[unit] for unit in units)
        return replace(self, names=names, info=mne.pick_info(self.info, units, verbose=False))

    def to_image(self, values: ArrayLike, fill: float = np.nan) -> Any:
        """Return an `mne.EvokedArray` on the sensors: a time point a map, from 0 s on.

        It keeps positions and sampling rate of the recording, so (time, sensors) values of
        epochs stay in time. It can be drawn (``plot_topomap``) and saved (``save("x-ave.fif")``).
        Every sensor of the space has a value, so `fill` is not used.
        """
        import mne

        stack = np.atleast_2d(_checked(values, self.n_units))
        return mne.EvokedArray(stack.T.astype(np.float64), self.info, tmin=0.0, verbose=False)

    def save(self, values: ArrayLike, folder: Path, name: str) -> Path:
        """Write `NAME-ave.fif`, see `to_image`."""
        path = folder / f"{name}-ave.fif"
        self.to_image(values).save(path, verbose=False)
        return path


def check_space(space: Space | None, units: pd.DataFrame) -> None:
    """Raise unless the space places exactly the units of the table."""
    if space is not None and space.n_units != len(units):
        raise InputError(
            f"The space places {space.n_units} units but the recording has {len(units)}."
        )


def roi_names(units: pd.DataFrame) -> list[str]:
    """Return the ROIs that the table lists, in its order."""
    return [str(name).removeprefix(PREFIX) for name in units.columns if _is_roi(name)]


def _is_roi(column: object) -> bool:
    return str(column).startswith(PREFIX)


def region_names(units: pd.DataFrame) -> list[str]:
    """Return the ROIs that have units, with the parts of one region under their common name.

    A part whose siblings have no units keeps its own name.
    """
    names = [name for name in roi_names(units) if bool(units[PREFIX + name].any())]
    regions = []
    for name in names:
        region = REGION_OF.get(name, name)
        several = sum(part in names for part in PARTS.get(region, ())) > 1
        regions.append(region if several else name)
    return list(dict.fromkeys(regions))


def roi_mask(units: pd.DataFrame, roi: str | Sequence[str]) -> Mask:
    """Return which units belong to a ROI, or to any of several.

    Raises
    ------
    UnknownNameError
        If a name is neither listed nor the common name of listed parts.
    """
    if not isinstance(roi, str):
        masks = [roi_mask(units, name) for name in roi]
        return np.any(masks, axis=0) if masks else np.zeros(len(units), dtype=bool)
    known = roi_names(units)
    chosen = [roi] if roi in known else [part for part in PARTS.get(roi, ()) if part in known]
    if not chosen:
        raise unknown_name("ROI", roi, sorted({*known, *region_names(units)}))
    columns = units[[PREFIX + name for name in chosen]].to_numpy(dtype=bool)
    return np.asarray(columns.any(axis=1))


def with_boolean_rois(units: pd.DataFrame) -> pd.DataFrame:
    """Return the units with every ``roi.`` column as true and false, which 1 and 0 may stand for.

    Raises
    ------
    InputError
        If a column holds anything else, or says nothing of a unit.
    """
    columns = {}
    for name in roi_names(units):
        column = units[PREFIX + name].infer_objects()
        what = f"The units' column {PREFIX + name!r}"
        numbers = None
        if pd.api.types.is_numeric_dtype(column) and not column.isna().any():  # booleans too
            numbers = whole_numbers(column.to_numpy(), what)
        if numbers is None or not np.isin(numbers, (0, 1)).all():
            raise InputError(
                f"{what} must be true or false for each unit; it holds "
                f"{listed(column[~column.isin([True, False])].unique())}."
            )
        columns[PREFIX + name] = numbers == 1
    return units.assign(**columns)


def roi_table(masks: Mapping[str, ArrayLike]) -> pd.DataFrame:
    """Return the unit-table columns for ROI masks, each (units,) and true where in the ROI."""
    return pd.DataFrame(
        {
            PREFIX + name: inside(np.asarray(mask), f"The mask of the ROI {name}")
            for name, mask in masks.items()
        }
    )
