"""Recording simulated betas session by session, and writing them as the dataset's files."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import h5py
import nibabel
import numpy as np
import numpy.typing as npt

from brainkit.arrays.atomic import atomic_path
from brainkit.arrays.progress import track
from brainkit.world.anatomy import Anatomy
from brainkit.world.brain import SimulatedBrain
from brainkit.world.noise import SCALE
from brainkit.world.nsd_design import N_REPEATS, Design
from brainkit.world.population import ReadImages
from brainkit.world.workers import in_order

_BLOCK: Final = 256


class Recorder:
    """Writes one subject's betas.

    Parameters
    ----------
    root : Path
        Where ``nsddata`` and ``nsddata_betas`` stand.
    brain : SimulatedBrain
    version : str
        Folder of the betas.
    nifti : bool
        Write each session as ``.nii.gz`` too.
    workers : int, optional
        Threads (see `workers.n_workers`); each simulates and writes a session.
    """

    def __init__(
        self,
        root: Path,
        brain: SimulatedBrain,
        version: str,
        *,
        nifti: bool = False,
        workers: int | None = None,
    ) -> None:
        self.brain = brain
        self.name = f"subj{brain.subject:02d}"
        self.folder = root / "nsddata_betas" / "ppdata" / self.name / "func1pt8mm" / version
        self.others = root / "nsddata" / "ppdata" / self.name / "func1pt8mm"
        self.nifti = nifti
        self.workers = workers
        self.mask = brain.anatomy.volume(np.ones(brain.n_voxels, dtype=np.uint8))

    def write(self, design: Design, held: int, images: ReadImages | None = None) -> None:
        """Write the first `held` sessions of a design, and the maps computed from them.

        Parameters
        ----------
        design : Design
        held : int
        images : callable, optional
            As for `Population.channels`.
        """
        brain, count = self.brain, design.trials_per_session
        shown = design.shown(brain.subject)[: held * count]
        runs = design.runs()
        seen, rows = np.unique(shown, return_inverse=True)
        response = brain.response(seen, images=images, workers=self.workers)
        recipe = _NoiseCeiling(np.bincount(rows), brain.n_voxels)
        total = np.zeros(brain.n_voxels)

        def record(session: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
            trials = np.arange((session - 1) * count, session * count)
            sessions = np.full(count, session)
            known = response[rows[trials]]
            betas = brain.measure(
                shown[trials], sessions, trials, runs=runs[trials], response=known
            )
            betas *= np.float32(SCALE)
            stored = np.round(betas, out=betas).astype(np.int16)
            self._write_session(session, stored)
            kept = np.divide(stored, np.float32(SCALE), dtype=np.float32)
            return kept.mean(axis=0), _standardised(kept)

        recorded = in_order(record, range(1, held + 1), self.workers)
        for number, (mean, z) in enumerate(track(recorded, f"Simulating {self.name}", held)):
            recipe.add(z, rows[number * count : (number + 1) * count])
            total += mean
        self._write_maps({"meanbeta": total / held, "ncsnr": recipe.ncsnr()})

    def _write_session(self, session: int, stored: npt.NDArray[np.int16]) -> None:
        anatomy, name = self.brain.anatomy, f"session{session:02d}"
        _write_betas(self.folder / f"betas_{name}.hdf5", stored, anatomy)
        if self.nifti:
            volume = np.zeros((*anatomy.shape, len(stored)), dtype=np.int16)
            volume[tuple(anatomy.units[["i", "j", "k"]].to_numpy().T)] = stored.T
            write_nifti(self.folder / f"betas_{name}.nii.gz", volume, anatomy.affine)
        write_nifti(self.others / f"valid_{name}.nii.gz", self.mask, anatomy.affine)

    def _write_maps(self, maps: Mapping[str, npt.NDArray[np.float64] | None]) -> None:
        anatomy = self.brain.anatomy
        for name, values in maps.items():
            if values is not None:
                volume = anatomy.volume(values.astype(np.float32))
                write_nifti(self.folder / f"{name}.nii.gz", volume, anatomy.affine)


def write_nifti(path: Path, volume: npt.NDArray[Any], affine: npt.NDArray[np.float64]) -> None:
    """Write a volume as NIfTI, whole or not at all."""
    with atomic_path(path) as partial:
        nibabel.save(nibabel.Nifti1Image(volume, affine), partial)


def _write_betas(path: Path, stored: npt.NDArray[np.int16], anatomy: Anatomy) -> None:
    """Write one session, one chunk a voxel; voxels outside the brain read as the fill, 0."""
    n_trials = len(stored)
    grid_x, grid_y, grid_z = anatomy.shape
    by_voxel = np.ascontiguousarray(stored.T)
    places = anatomy.units[["k", "j", "i"]].to_numpy()
    with atomic_path(path) as partial, h5py.File(partial, "w") as file:
        betas = file.create_dataset(
            "betas", (n_trials, grid_z, grid_y, grid_x), np.int16, chunks=(n_trials, 1, 1, 1)
        )
        put: Callable[..., None] = betas.id.write_direct_chunk
        for place, values in zip(places.tolist(), by_voxel, strict=True):
            put((0, *place), values)


def _standardised(betas: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return one session's betas (n_trials, n_voxels) z-scored by voxel."""
    z = (betas - betas.mean(axis=0)) / np.maximum(betas.std(axis=0), 1e-6)
    return np.asarray(z, dtype=np.float32)


class _NoiseCeiling:
    """Gathers what the dataset's ncsnr recipe needs, session by session.

    Parameters
    ----------
    counts : int array (n_images,)
        Trials of each image; images with fewer than three do not enter.
    n_voxels : int
    """

    def __init__(self, counts: npt.NDArray[np.integer], n_voxels: int) -> None:
        full = counts == N_REPEATS
        self.places = np.where(full, np.cumsum(full) - 1, -1)
        self.sums = np.zeros((int(full.sum()), n_voxels), dtype=np.float32)
        self.squares = np.zeros_like(self.sums)

    def add(self, z: npt.NDArray[np.float32], rows: npt.NDArray[np.integer]) -> None:
        """Add one session's standardised trials (n_trials, n_voxels) of images `rows`."""
        for place, values in zip(self.places[rows].tolist(), z, strict=True):
            if place >= 0:
                self.sums[place] += values
                self.squares[place] += values * values

    def ncsnr(self) -> npt.NDArray[np.float64] | None:
        """Give the ncsnr of each voxel, or None without an image of three trials."""
        if not len(self.sums):
            return None
        noise = np.empty(self.sums.shape[1])
        for start in range(0, len(noise), _BLOCK):
            block = np.s_[:, start : start + _BLOCK]
            spread = self.squares[block] - self.sums[block].astype(np.float64) ** 2 / N_REPEATS
            noise[block[1]] = np.maximum(spread / (N_REPEATS - 1), 0).mean(axis=0)
        return np.asarray(np.sqrt(np.maximum(0, 1 - noise)) / np.sqrt(np.maximum(noise, 1e-12)))
