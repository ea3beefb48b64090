"""Writing a simulated world as the Natural Scenes Dataset stands on disk (Allen et al., 2022).

Only grid and counts are smaller. ``SIMULATED.json`` in the root says that nothing here was measured
on a person, and holds all that is needed to ask for the truth.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

from brainkit.arrays.atomic import atomic_path, write_json, write_text
from brainkit.arrays.progress import track
from brainkit.data.simulation import MANIFEST
from brainkit.errors import InputError
from brainkit.world.anatomy import ROI_FILES, Anatomy
from brainkit.world.brain import SimulatedBrain, chosen_version
from brainkit.world.manifest import check_root
from brainkit.world.nsd_betas import Recorder, write_nifti
from brainkit.world.nsd_coco import coco_annotations
from brainkit.world.nsd_design import Design, draw_design, stimulus_info
from brainkit.world.population import Population, ReadImages
from brainkit.world.scenes import EYE_SIZE, SceneWorld
from brainkit.world.workers import in_order, n_workers

BETAS_VERSION: Final = "betas_fithrf_GLMdenoise_RR"
_ATLAS_WIDTH: Final = 0.02
_BATCH: Final = 125


def write_nsd(  # noqa: PLR0913  a whole experiment in one flat call, all but three by keyword
    root: str | Path,
    world: SceneWorld | None = None,
    subjects: Sequence[int] = (1, 2, 3, 4),
    *,
    images_per_subject: int = 1500,
    shared: int = 150,
    sessions: int | Mapping[int, int] | None = None,
    trials_per_session: int = 750,
    betas_version: str = BETAS_VERSION,
    nifti: bool = False,
    brain_version: int | None = None,
    gate: bool = True,
    shared_tuning: bool = True,
    seed: int | None = None,
    density: float = 1.0,
    population: Population | None = None,
    workers: int | None = None,
) -> Path:
    """Simulate an experiment and write it in the layout of the Natural Scenes Dataset.

    Parameters
    ----------
    root : path
        Where ``nsddata``, ``nsddata_betas``, ``nsddata_stimuli`` and ``annotations`` (captions and
        objects as in COCO's files) shall stand.
    world : SceneWorld, optional
        ``SceneWorld()`` by default. Stimulus row r (0-based) is the world's scene r.
    subjects : sequence of int
        Of 1..8.
    images_per_subject, shared : int
        Images that each subject sees three times, and how many of these all subjects see.
    sessions : int or dict of int, optional
        Sessions that were held, for all or by subject; all that the design has by default.
    trials_per_session : int
        750 as in the dataset; 12 or more. It must divide three times `images_per_subject`.
    betas_version : str
        Folder of the betas.
    nifti : bool
        Write each session as ``.nii.gz`` beside the HDF5 file too.
    brain_version : int, optional
        Version of the simulated brain; the population's, or 1 by default.
    gate, shared_tuning, seed, density, population
        As for `SimulatedBrain`.
    workers : int, optional
        Threads; by default as many as there are cores, at most 8 and at most ``OMP_NUM_THREADS``.
        Their number does not change what is written.

    Returns
    -------
    root : Path

    Raises
    ------
    InputError
        If the counts do not fit together or `workers` is under 1.
    OutputError
        If `root` holds files that are not this very simulation's; nothing is changed then.

    Notes
    -----
    Files are whole or absent, and ``SIMULATED.json`` says ``"complete": true`` once all are there.
    ``ncsnr.nii.gz`` is computed from the written betas by the dataset's recipe: betas are z-scored
    within a session and voxel, σ² is the mean over images with three trials of the variance
    (ddof = 1) and ncsnr = √max(0, 1 - σ²) / σ. Where no image has three trials yet, it is not
    written.
    """
    root = Path(root)
    workers = n_workers(workers)
    world = world or SceneWorld()
    chosen = tuple(int(subject) for subject in subjects)
    seed = seed if seed is not None else population.seed if population else world.seed
    design = draw_design(chosen, images_per_subject, shared, trials_per_session, seed)
    held = _held_sessions(sessions, design)
    options: dict[str, Any] = {
        "version": chosen_version(brain_version, population),
        "gate": gate,
        "shared_tuning": shared_tuning,
        "seed": seed,
        "density": density,
    }
    manifest = _describe(world, options, design, held, betas_version)
    check_root(root, manifest)
    people = population or Population(world, seed, gate=gate, version=options["version"])
    brains = [SimulatedBrain(world, one, population=people, **options) for one in chosen]
    # Written first, so that a broken-off run can be told from real data and started again.
    write_json(root / MANIFEST, {**manifest, "complete": False})
    _write_experiment(root, design)
    _write_annotations(root, world, design.n_stimuli)
    _write_stimuli(root, world, design.n_stimuli, workers)
    with _stimuli_for_eyes(root, world) as images:
        for brain in brains:
            _write_anatomy(root, brain)
            recorder = Recorder(root, brain, betas_version, nifti=nifti, workers=workers)
            recorder.write(design, held[brain.subject], images)
    write_json(root / MANIFEST, {**manifest, "complete": True})
    return root


def _describe(
    world: SceneWorld,
    options: Mapping[str, Any],
    design: Design,
    held: Mapping[int, int],
    betas_version: str,
) -> dict[str, Any]:
    """Give what ``SIMULATED.json`` holds, but for whether the files are complete."""
    return {
        "simulated": True,
        "layout": "NSD",
        "world": {"version": world.version, "seed": world.seed, "size": world.size},
        "brain": dict(options),
        "subjects": list(design.subjects),
        "sessions": {str(subject): count for subject, count in held.items()},
        "images_per_subject": design.subjectim.shape[1],
        "shared": design.sharedix.shape[1],
        "trials_per_session": design.trials_per_session,
        "n_stimuli": design.n_stimuli,
        "betas_version": betas_version,
        "scene_of_stimulus": "the scene's id is the 0-based stimulus row",
        "ncsnr": "NSD recipe on the written betas",
    }


def _held_sessions(sessions: int | Mapping[int, int] | None, design: Design) -> dict[int, int]:
    designed = design.stimpattern.shape[0]
    held = {}
    for subject in design.subjects:
        count = sessions.get(subject) if isinstance(sessions, Mapping) else sessions
        held[subject] = designed if count is None else int(count)
        if not 1 <= held[subject] <= designed:
            raise InputError(
                f"Subject {subject} can have 1..{designed} sessions of "
                f"{design.trials_per_session} trials with these images, but {count} were asked for."
            )
    return held


def _write_experiment(root: Path, design: Design) -> None:
    folder = root / "nsddata" / "experiments" / "nsd"
    with atomic_path(folder / "nsd_expdesign.mat") as path:
        scipy.io.savemat(path, design.as_mat())
    write_text(folder / "nsd_stim_info_merged.csv", stimulus_info(design).to_csv())


def _write_annotations(root: Path, world: SceneWorld, n_stimuli: int) -> None:
    for name, content in coco_annotations(world, n_stimuli).items():
        write_text(root / "annotations" / name, json.dumps(content))


def _stimuli_path(root: Path) -> Path:
    return root / "nsddata_stimuli" / "stimuli" / "nsd" / "nsd_stimuli.hdf5"


def _write_stimuli(root: Path, world: SceneWorld, n_stimuli: int, workers: int | None) -> None:
    with atomic_path(_stimuli_path(root)) as path, h5py.File(path, "w") as file:
        shape = (n_stimuli, world.size, world.size, 3)
        images = file.create_dataset("imgBrick", shape, np.uint8, chunks=(1, *shape[1:]))
        batches = [range(k, min(k + _BATCH, n_stimuli)) for k in range(0, n_stimuli, _BATCH)]
        painted = track(in_order(world.paint, batches, workers), "Painting scenes", len(batches))
        for batch, block in zip(batches, painted, strict=True):
            for row, image in zip(batch, block, strict=True):
                images.id.write_direct_chunk((row, 0, 0, 0), image)


@contextmanager
def _stimuli_for_eyes(root: Path, world: SceneWorld) -> Iterator[ReadImages | None]:
    """Give what reads the written pictures, if they are as large as the simulated eye's."""
    if world.size != EYE_SIZE:
        yield None
        return
    with h5py.File(_stimuli_path(root)) as file:
        stored = file["imgBrick"].id

        def read(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
            raw = b"".join(stored.read_direct_chunk((row, 0, 0, 0))[1] for row in rows.tolist())
            return np.frombuffer(raw, dtype=np.uint8).reshape(-1, EYE_SIZE, EYE_SIZE, 3)

        yield read


def _write_anatomy(root: Path, brain: SimulatedBrain) -> None:
    name = f"subj{brain.subject:02d}"
    folder = root / "nsddata" / "ppdata" / name / "func1pt8mm"
    anatomy = brain.anatomy
    for file in ROI_FILES:
        for prefix, hemisphere in (("", None), ("lh.", "lh"), ("rh.", "rh")):
            path = folder / "roi" / f"{prefix}{file}.nii.gz"
            write_nifti(path, anatomy.roi_volume(file, hemisphere), anatomy.affine)
        lines = ["0 Unknown"]
        lines += [f"{label} {roi}" for label, roi in enumerate(ROI_FILES[file], start=1)]
        table = root / "nsddata" / "freesurfer" / name / "label" / f"{file}.mgz.ctab"
        write_text(table, "\n".join(lines) + "\n")
    mask = anatomy.volume(np.ones(brain.n_voxels, dtype=np.uint8))
    write_nifti(folder / "brainmask.nii.gz", mask, anatomy.affine)
    write_nifti(folder / "T1_to_func1pt8mm.nii.gz", _t1_volume(anatomy), anatomy.affine)


def _t1_volume(anatomy: Anatomy) -> npt.NDArray[np.float32]:
    """Paint a T1-like volume: bright white matter, grey cortex, dark outside."""
    depth = np.linalg.norm(anatomy.places, axis=1)
    cortex = anatomy.units["cortex"].to_numpy()
    folds = _ATLAS_WIDTH * np.sin(9 * anatomy.places).sum(axis=1)
    tissue = np.where(cortex, 620 - 120 * depth, 900 - 60 * depth) * (1 + folds)
    return anatomy.volume(tissue.astype(np.float32)).astype(np.float32)
