"""Writing a simulated world as the Natural Scenes Dataset stands on disk (Allen et al., 2022).

Only grid and counts are smaller. ``SIMULATED.json`` in the root says that nothing here was measured
on a person, and holds all that is needed to ask for the truth. What the pictures show is written in
the layout of COCO's annotation files; the design in the dataset's form, in which all numbers are
1-based; betas are recorded session by session.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import nibabel
import numpy as np
import numpy.typing as npt
import pandas as pd
import scipy.io

from brainkit.arrays.atomic import atomic_path, write_json, write_text
from brainkit.arrays.progress import track
from brainkit.data.simulation import MANIFEST, check_root
from brainkit.errors import InputError
from brainkit.world.anatomy import ROI_FILES, Anatomy
from brainkit.world.brain import SimulatedBrain, chosen_version
from brainkit.world.measurement import SCALE
from brainkit.world.painting import CATEGORIES, SceneObject
from brainkit.world.population import Population, ReadImages
from brainkit.world.scenes import EYE_SIZE, SYNONYMS, SceneWorld
from brainkit.world.workers import in_order, n_workers

# As the simulated nsd_stim_info_merged.csv has it in `cocoSplit`, where the dataset has train2017
# or val2017.
SPLIT: Final = "simulated"
N_SUBJECTS: Final = 8
N_REPEATS: Final = 3
N_RUNS: Final = 12
N_SLOTS: Final = 75
_LEAD, _TAIL = 3, 4
_DESIGN_KEY: Final = 707
_BLOCK: Final = 256
BETAS_VERSION: Final = "betas_fithrf_GLMdenoise_RR"
_ATLAS_WIDTH: Final = 0.02
_BATCH: Final = 125


def coco_annotations(world: SceneWorld, n_stimuli: int) -> dict[str, dict[str, Any]]:
    """Describe the first scenes of a world as COCO describes photographs.

    Parameters
    ----------
    world : SceneWorld
    n_stimuli : int
        Scenes 0 … n_stimuli - 1 are described; the scene's id is the image's.

    Returns
    -------
    dict of str to dict
        Contents by file name: ``captions_simulated.json`` with one caption an image, and
        ``instances_simulated.json`` with the objects, largest first, of the five categories 1 … 5.

    Notes
    -----
    An object's box is cut off at the picture's edge, as COCO's are. Its area is the whole square of
    its size, whatever is cut off or covered, since that size is what the world calls the largest.
    """
    common = {
        "info": {"description": "Simulated scenes: nothing here is a photograph.", "year": 0},
        "licenses": [],
        "images": [_image(number, world.size) for number in range(n_stimuli)],
    }
    captions: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    for number in range(n_stimuli):
        scene = world.scene(number)
        captions.append({"image_id": number, "id": number + 1, "caption": scene.caption})
        for thing in scene.objects:
            instance = {"image_id": number, "id": len(instances) + 1, "iscrowd": 0}
            instances.append(instance | _outline(thing, world.size))
    categories = [
        {
            "supercategory": name,
            "id": number,
            "name": name,
            "synonyms": list(SYNONYMS[name]),
        }
        for number, name in enumerate(CATEGORIES, start=1)
    ]
    return {
        f"captions_{SPLIT}.json": {**common, "annotations": captions},
        f"instances_{SPLIT}.json": {**common, "annotations": instances, "categories": categories},
    }


def _image(number: int, size: int) -> dict[str, Any]:
    return {"id": number, "file_name": f"{number:012d}.jpg", "height": size, "width": size}


def _outline(thing: SceneObject, side: int) -> dict[str, Any]:
    """Give an object's box, area and outline (a rectangle) in pixels."""
    left, right = (_within(thing.x + sign * thing.size / 2) * side for sign in (-1, 1))
    top, bottom = (_within(thing.y + sign * thing.size / 2) * side for sign in (-1, 1))
    return {
        "category_id": CATEGORIES.index(thing.category) + 1,
        "area": (thing.size * side) ** 2,
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
    }


def _within(fraction: float) -> float:
    return min(max(fraction, 0.0), 1.0)


@dataclass(frozen=True, slots=True)
class Design:
    """Who sees what when.

    Attributes
    ----------
    masterordering : uint16 array (1, n_trials)
        Number, for each trial, of the image within the subject's list.
    basiccnt : uint16 array (3, n_sessions)
        Numbers of images that have been shown at least once, twice, three times by the session's
        end.
    sharedix : int32 array (1, n_shared)
        Numbers of the shared images among all, ascending.
    stimpattern : uint8 array (n_sessions, 12, 75)
        1 where a slot of a run holds an image.
    subjectim : int32 array (8, n_images)
        Numbers, for each subject, of the images in the list; the shared ones first. 0 from there
        on for subjects who are not simulated.
    subjects : tuple of int
    n_stimuli : int
    trials_per_session : int
    """

    masterordering: npt.NDArray[np.uint16]
    basiccnt: npt.NDArray[np.uint16]
    sharedix: npt.NDArray[np.int32]
    stimpattern: npt.NDArray[np.uint8]
    subjectim: npt.NDArray[np.int32]
    subjects: tuple[int, ...]
    n_stimuli: int
    trials_per_session: int

    def shown(self, subject: int) -> npt.NDArray[np.int64]:
        """Give the 0-based stimulus row of each trial of a subject, all designed trials."""
        places = self.masterordering[0].astype(np.int64) - 1
        return np.asarray(self.subjectim[subject - 1, places], dtype=np.int64) - 1

    def runs(self) -> npt.NDArray[np.int64]:
        """Give the run of each designed trial, counted through all sessions from 0."""
        n_sessions = self.masterordering.shape[1] // self.trials_per_session
        lengths = np.tile(trials_by_run(self.trials_per_session), n_sessions)
        return np.repeat(np.arange(N_RUNS * n_sessions), lengths)

    def as_mat(self) -> dict[str, npt.NDArray[Any]]:
        """Give the variables of ``nsd_expdesign.mat``."""
        return {
            "masterordering": self.masterordering,
            "basiccnt": self.basiccnt,
            "sharedix": self.sharedix,
            "stimpattern": self.stimpattern,
            "subjectim": self.subjectim,
        }


def draw_design(
    subjects: tuple[int, ...],
    images_per_subject: int,
    shared: int,
    trials_per_session: int,
    seed: int,
) -> Design:
    """Draw a design in which every image comes three times, in random order.

    Parameters
    ----------
    subjects : tuple of int
        The simulated subjects, of 1..8.
    images_per_subject, shared : int
        Images each subject sees, and how many of these all see.
    trials_per_session : int
        12 to 900; it must divide three times `images_per_subject`.
    seed : int

    Raises
    ------
    InputError
        If the counts do not fit together.
    """
    _check_counts(subjects, images_per_subject, shared, trials_per_session)
    rng = np.random.default_rng([seed, _DESIGN_KEY])
    unshared = images_per_subject - shared
    n_stimuli = shared + unshared * len(subjects)
    order = rng.permutation(n_stimuli) + 1
    sharedix = np.sort(order[:shared]).astype(np.int32)
    subjectim = np.zeros((N_SUBJECTS, images_per_subject), dtype=np.int32)
    subjectim[:, :shared] = sharedix
    for number, subject in enumerate(subjects):
        start = shared + unshared * number
        subjectim[subject - 1, shared:] = order[start : start + unshared]
    numbers = np.repeat(np.arange(1, images_per_subject + 1), N_REPEATS)
    ordering = rng.permutation(numbers).astype(np.uint16)
    return Design(
        masterordering=ordering[None],
        basiccnt=_count_seen(ordering, trials_per_session),
        sharedix=sharedix[None],
        stimpattern=_draw_pattern(len(ordering) // trials_per_session, trials_per_session, rng),
        subjectim=subjectim,
        subjects=subjects,
        n_stimuli=n_stimuli,
        trials_per_session=trials_per_session,
    )


def trials_by_run(trials_per_session: int) -> npt.NDArray[np.int64]:
    """Divide a session's trials over its twelve runs; 750 give 63 and 62 in turn."""
    counts = np.full(N_RUNS, trials_per_session // N_RUNS, dtype=np.int64)
    turn = np.r_[np.arange(0, N_RUNS, 2), np.arange(1, N_RUNS, 2)]
    counts[turn[: trials_per_session % N_RUNS]] += 1
    return counts


def stimulus_info(design: Design) -> pd.DataFrame:
    """Give the table ``nsd_stim_info_merged.csv``, with the row number as its unnamed index.

    Parameters
    ----------
    design : Design

    Returns
    -------
    table : DataFrame
        40 columns. What only photographs of COCO have is filled with neutral values: ``cocoId``
        repeats ``nsdId``, ``cocoSplit`` is ``simulated``, nothing is cropped.
    """
    rows = np.arange(design.n_stimuli)
    shared = np.isin(rows + 1, design.sharedix[0])
    columns: dict[str, Any] = {
        "cocoId": rows,
        "cocoSplit": SPLIT,
        "cropBox": "(0.0, 0.0, 0.0, 0.0)",
        "loss": 0.0,
        "nsdId": rows,
        "flagged": False,
        "BOLD5000": False,
        "shared1000": shared,
    }
    repeats: dict[str, npt.NDArray[np.int64]] = {}
    for subject in range(1, N_SUBJECTS + 1):
        times = np.zeros((design.n_stimuli, N_REPEATS), dtype=np.int64)
        if subject in design.subjects:
            shown = design.shown(subject)
            order = np.argsort(shown, kind="stable")
            times[shown[order[::N_REPEATS]]] = order.reshape(-1, N_REPEATS) + 1
        columns[f"subject{subject}"] = (times[:, 0] > 0).astype(np.int64)
        for repeat in range(N_REPEATS):
            repeats[f"subject{subject}_rep{repeat}"] = times[:, repeat]
    return pd.DataFrame({**columns, **repeats})


def _check_counts(
    subjects: tuple[int, ...], images_per_subject: int, shared: int, trials_per_session: int
) -> None:
    known = range(1, N_SUBJECTS + 1)
    if not subjects or len(set(subjects)) < len(subjects) or not set(subjects) <= set(known):
        raise InputError(f"Subjects must be different ones of 1..8, but {subjects} were given.")
    if not 1 <= shared <= images_per_subject:
        raise InputError(
            f"Of {images_per_subject} images a subject, 1 to {images_per_subject} can be shared, "
            f"but shared={shared} was given."
        )
    if images_per_subject > np.iinfo(np.uint16).max:
        raise InputError(f"A subject can see at most 65535 images, not {images_per_subject}.")
    most = N_RUNS * (N_SLOTS - _LEAD - _TAIL)
    if not N_RUNS <= trials_per_session <= most:
        raise InputError(
            f"A session has {N_RUNS} to {most} trials, but {trials_per_session} were given."
        )
    if N_REPEATS * images_per_subject % trials_per_session:
        raise InputError(
            f"{images_per_subject} images shown three times do not fill sessions of "
            f"{trials_per_session} trials; choose trials_per_session so that it divides "
            f"{N_REPEATS * images_per_subject}."
        )


def _count_seen(
    ordering: npt.NDArray[np.uint16], trials_per_session: int
) -> npt.NDArray[np.uint16]:
    counts = np.zeros(int(ordering.max()) + 1, dtype=np.int64)
    seen = []
    for session in ordering.reshape(-1, trials_per_session):
        counts += np.bincount(session, minlength=len(counts))
        seen.append([(counts >= times).sum() for times in range(1, N_REPEATS + 1)])
    return np.asarray(seen, dtype=np.uint16).T


def _draw_pattern(
    n_sessions: int, trials_per_session: int, rng: np.random.Generator
) -> npt.NDArray[np.uint8]:
    """Put the images into slots; the first three and last four of a run are always blank."""
    pattern = np.zeros((n_sessions, N_RUNS, N_SLOTS), dtype=np.uint8)
    for session in range(n_sessions):
        for run, count in enumerate(trials_by_run(trials_per_session)):
            free = np.arange(_LEAD, N_SLOTS - _TAIL)
            pattern[session, run, rng.choice(free, size=count, replace=False)] = 1
    return pattern


class Recorder:
    """Writes one subject's betas.

    Parameters
    ----------
    root : Path
        Folder of ``nsddata`` and ``nsddata_betas``.
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
            See `Population.channels`.
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
        Numbers of 1..8.
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
        See `SimulatedBrain`.
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
