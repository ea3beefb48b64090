"""Where a simulated brain's voxels are: a small grid, a cortical shell, regions on it.

Voxel axes point right, anterior and superior. Cortex is the outer shell of an ellipsoid; the rest
of the ellipsoid is white matter, inside the brain mask but outside cortex. Each region takes, in
each hemisphere, the free cortical voxels nearest to its centre. Regions do not overlap, also not
between the files that hold them (real floc regions do); `nsdgeneral` holds all of them and some
unlabelled cortex. The file ``floc-food`` exists in the simulated world only.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

# file -> names of its labels, from 1; names without voxels here are in NSD's tables too
ROI_FILES: Final[dict[str, tuple[str, ...]]] = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "floc-food": ("food",),
    "streams": (
        "early",
        "midventral",
        "midlateral",
        "midparietal",
        "ventral",
        "lateral",
        "parietal",
    ),
    "nsdgeneral": ("nsdgeneral",),
}


@dataclass(frozen=True, slots=True)
class Region:
    """A region's file, its voxels in both hemispheres of subject 1, stream and right centre."""

    file: str
    n_voxels: int
    stream: str
    centre: tuple[float, float, float]


REGIONS: Final[dict[str, Region]] = {
    "V1v": Region("prf-visualrois", 110, "early", (0.12, -0.95, -0.15)),
    "V1d": Region("prf-visualrois", 120, "early", (0.12, -0.95, 0.15)),
    "V2v": Region("prf-visualrois", 110, "early", (0.25, -0.90, -0.35)),
    "V2d": Region("prf-visualrois", 100, "early", (0.25, -0.90, 0.35)),
    "V3v": Region("prf-visualrois", 90, "early", (0.38, -0.78, -0.50)),
    "V3d": Region("prf-visualrois", 90, "early", (0.38, -0.78, 0.50)),
    "hV4": Region("prf-visualrois", 90, "midventral", (0.50, -0.62, -0.60)),
    "OFA": Region("floc-faces", 40, "lateral", (0.78, -0.58, -0.25)),
    "FFA-1": Region("floc-faces", 50, "ventral", (0.55, -0.35, -0.75)),
    "FFA-2": Region("floc-faces", 40, "ventral", (0.55, -0.10, -0.82)),
    "EBA": Region("floc-bodies", 70, "lateral", (0.86, -0.48, 0.12)),
    "FBA-1": Region("floc-bodies", 40, "ventral", (0.72, -0.25, -0.62)),
    "FBA-2": Region("floc-bodies", 40, "ventral", (0.74, 0.00, -0.66)),
    "OPA": Region("floc-places", 60, "midparietal", (0.65, -0.60, 0.48)),
    "PPA": Region("floc-places", 60, "ventral", (0.30, -0.28, -0.90)),
    "RSC": Region("floc-places", 45, "parietal", (0.15, -0.55, 0.82)),
    "OWFA": Region("floc-words", 35, "lateral", (0.70, -0.66, -0.45)),
    "VWFA-1": Region("floc-words", 45, "ventral", (0.80, -0.40, -0.45)),
    "VWFA-2": Region("floc-words", 40, "ventral", (0.86, -0.15, -0.45)),
    "food": Region("floc-food", 60, "ventral", (0.40, -0.05, -0.90)),
}
N_UNLABELLED: Final = 450
SHAPES: Final = (
    (26, 28, 24),
    (28, 30, 25),
    (26, 30, 24),
    (29, 28, 23),
    (25, 27, 23),
    (29, 31, 25),
    (25, 27, 24),
    (26, 29, 23),
)
VOXEL_SIZE: Final = 1.8
_MARGIN: Final = 2.0
_WHITE_MATTER: Final = 0.74
_ANATOMY_KEY: Final = 404


@dataclass(frozen=True, slots=True)
class Anatomy:
    """A simulated brain's grid and voxels.

    Attributes
    ----------
    shape : tuple of int
        Grid, (X, Y, Z).
    affine : float array (4, 4)
        Voxel indices to millimetres.
    units : DataFrame
        One row a voxel of the brain mask in C order of the grid: ``i, j, k``, ``hemisphere``
        (``lh``, ``rh``), ``cortex`` (bool), ``roi`` (region's name or ""), and a column for each
        file of ``ROI_FILES`` with the label (-1 outside cortex, 0 unlabelled, 1 and more).
    places : float array (n_voxels, 3)
        Positions in the unit ellipsoid.
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]
    units: pd.DataFrame
    places: npt.NDArray[np.float64]

    def volume(self, values: npt.ArrayLike, fill: float = 0) -> npt.NDArray[np.generic]:
        """Put one value a voxel into the grid.

        Parameters
        ----------
        values : array_like (n_voxels,)
        fill : float, default=0
            Value outside the brain mask.

        Returns
        -------
        volume : array (X, Y, Z)
        """
        column = np.asarray(values)
        grid = np.full(self.shape, fill, dtype=column.dtype)
        grid[tuple(self.units[["i", "j", "k"]].to_numpy().T)] = column
        return grid

    def roi_volume(self, file: str, hemisphere: str | None = None) -> npt.NDArray[np.int16]:
        """Give the labels of one ROI file as a volume.

        Parameters
        ----------
        file : str
            One of ``ROI_FILES``.
        hemisphere : {"lh", "rh"}, optional
            Labels of the other hemisphere become -1.
        """
        labels = self.units[file].to_numpy(dtype=np.int16)
        if hemisphere is not None:
            labels = np.where(self.units["hemisphere"] == hemisphere, labels, np.int16(-1))
        return self.volume(labels, fill=-1).astype(np.int16)


def build_anatomy(subject: int, seed: int, density: float) -> Anatomy:
    """Lay out a subject's brain.

    Parameters
    ----------
    subject : int
        1..8.
    seed : int
        Seed of the population.
    density : float
        Fraction of the full number of voxels; the grid shrinks by its cube root.
    """
    rng = np.random.default_rng([seed, _ANATOMY_KEY, subject])
    sides = np.maximum(np.round(np.asarray(SHAPES[subject - 1]) * density ** (1 / 3)), 9)
    shape = (int(sides[0]), int(sides[1]), int(sides[2]))
    indices = np.indices(shape).reshape(3, -1).T
    centre = (sides - 1) / 2
    places = (indices - centre) / (sides / 2 - min(_MARGIN, 0.08 * float(sides.min())))
    radius = np.linalg.norm(places, axis=1)
    inside = radius <= 1
    indices, places, radius = indices[inside], places[inside], radius[inside]
    right = places[:, 0] > 0
    cortex = radius > _WHITE_MATTER
    roi = np.full(len(places), "", dtype=object)
    free = cortex.copy()
    for name, region in REGIONS.items():
        wanted = region.n_voxels * density * np.exp(0.12 * rng.standard_normal(2))
        middle = np.asarray(region.centre) + 0.04 * rng.standard_normal(3)
        for side, count in zip((False, True), wanted, strict=True):
            goal = middle * (1 if side else -1, 1, 1)
            chosen = _nearest(places, goal, free & (right == side), max(2, round(count / 2)))
            roi[chosen] = name
            free[chosen] = False
    n_unlabelled = max(4, round(N_UNLABELLED * density))
    general = _nearest(places, np.array([0.0, -1.0, -0.3]), free, n_unlabelled)
    units = pd.DataFrame(indices, columns=["i", "j", "k"])
    units["hemisphere"] = np.where(right, "rh", "lh")
    units["cortex"] = cortex
    units["roi"] = roi
    for file, labels in ROI_FILES.items():
        units[file] = np.where(cortex, _labels(roi, file, labels), -1).astype(np.int16)
    units.loc[general, "nsdgeneral"] = 1
    affine = np.diag([VOXEL_SIZE, VOXEL_SIZE, VOXEL_SIZE, 1.0])
    affine[:3, 3] = -VOXEL_SIZE * centre
    return Anatomy(shape, affine, units, places)


def _nearest(
    places: npt.NDArray[np.float64],
    goal: npt.NDArray[np.float64],
    allowed: npt.NDArray[np.bool_],
    count: int,
) -> npt.NDArray[np.intp]:
    """Give the allowed voxels nearest to a point."""
    candidates = np.flatnonzero(allowed)
    distance = np.linalg.norm(places[candidates] - goal, axis=1)
    return candidates[np.argsort(distance, kind="stable")[:count]]


def _labels(
    roi: npt.NDArray[np.object_], file: str, labels: tuple[str, ...]
) -> npt.NDArray[np.int16]:
    """Give the labels of one ROI file, 0 where it has no label."""
    values = np.zeros(len(roi), dtype=np.int16)
    for name, region in REGIONS.items():
        label = {"streams": region.stream, "nsdgeneral": "nsdgeneral"}.get(file, name)
        if label in labels:
            values[roi == name] = labels.index(label) + 1
    return values
