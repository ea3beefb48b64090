"""Writing a simulated world as BOLD5000's release 1 stands on disk (Chang et al., 2019).

Only counts are smaller. ``SIMULATED.json`` in the root says that nothing here was measured on a
person, and holds all that is needed to ask for the truth.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
import scipy.io

from brainkit.arrays.atomic import atomic_path, write_json, write_text
from brainkit.arrays.progress import track
from brainkit.data.bold5000 import PRESENTED, REGIONS, REPEATED, STIMULI, TRIALS_PER_RUN
from brainkit.data.simulation import MANIFEST, check_root
from brainkit.errors import InputError
from brainkit.world.brain import SimulatedBrain, chosen_version
from brainkit.world.nsd_layout import SPLIT, coco_annotations
from brainkit.world.population import Population
from brainkit.world.scenes import SceneWorld

N_REPEATS: Final = 4
PEOPLE: Final = (1, 2, 3, 4)
SHORT: Final = 4  # the person who stops early
SHORT_SHARE: Final = 9 / 15
REGION_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "EarlyVis": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d"),
    "LOC": ("OFA", "EBA"),
    "OPA": ("OPA",),
    "PPA": ("PPA",),
    "RSC": ("RSC",),
}
TR_SECONDS: Final = 2.0
_N_TRS: Final = 5
VOLUME_SECONDS: Final = TR_SECONDS * (np.arange(_N_TRS) + 0.5)  # their middles, after the image
_DESIGN_KEY: Final = 808


@dataclass(frozen=True, slots=True)
class _Design:
    """What each person sees: the scene, the session and the runs of every trial."""

    shown: dict[int, npt.NDArray[np.int64]]
    sessions: dict[int, npt.NDArray[np.int64]]
    runs: dict[int, list[list[int]]]
    repeated: frozenset[int]


def write_bold5000(  # noqa: PLR0913  a whole experiment in one flat call, all but three by keyword
    root: str | Path,
    world: SceneWorld | None = None,
    subjects: Sequence[int] = PEOPLE,
    *,
    images: int = 300,
    repeated: int = 20,
    sessions: int = 5,
    mat: bool = False,
    brain_version: int | None = None,
    gate: bool = True,
    shared_tuning: bool = True,
    seed: int | None = None,
    density: float = 1.0,
    population: Population | None = None,
    workers: int | None = None,
) -> Path:
    """Simulate an experiment and write it in the layout of BOLD5000's release 1.

    Parameters
    ----------
    root : path
        Where ``ROIs``, ``BOLD5000_Stimuli`` and ``annotations`` (captions as in COCO's files) shall
        stand.
    world : SceneWorld, optional
        ``SceneWorld()`` by default. Image ``COCO_simulated_<n>.png`` is the world's scene n.
    subjects : sequence of int
        Numbers of 1 … 4. All see the same images in orders of their own; subject 4 stops after 9/15
        of the sessions, as in the dataset.
    images, repeated : int
        Different images, and how many of them are shown four times instead of once.
    sessions : int
        Sessions, of runs of 37 trials; the last run of a session may be shorter.
    mat : bool
        Write the regions as MATLAB files beside the HDF5 files too.
    brain_version, gate, shared_tuning, seed, density, population, workers
        See `write_nsd`.

    Returns
    -------
    root : Path

    Raises
    ------
    InputError
        If the counts do not fit together or there is no such subject.
    OutputError
        If `root` holds files that are not this very simulation's; nothing is changed then.

    Notes
    -----
    With r the brain's noise-free response to a scene (percent signal change), volume k of a trial
    is measured as h_k r, with h of `SimulatedBrain.haemodynamic_gains` at the volumes' middles (1,
    3, 5, 7 and 9 s after the image), the session's gain and offset, and noise of its own
    (`SimulatedBrain.measure`); ``TR34`` is the mean of the volumes 3 and 4. LOC, for
    which the world has no region, is made of its two lateral category regions, OFA and EBA.
    """
    root = Path(root)
    world = world or SceneWorld()
    chosen = tuple(int(subject) for subject in subjects)
    seed = seed if seed is not None else population.seed if population else world.seed
    design = _draw_design(chosen, images, repeated, sessions, seed)
    options: dict[str, Any] = {
        "version": chosen_version(brain_version, population),
        "gate": gate,
        "shared_tuning": shared_tuning,
        "seed": seed,
        "density": density,
    }
    manifest = {
        "simulated": True,
        "layout": "BOLD5000 release 1",
        "world": {"version": world.version, "seed": world.seed, "size": world.size},
        "brain": options,
        "subjects": list(chosen),
        "trials_per_run": {f"CSI{person}": runs for person, runs in design.runs.items()},
        "images": images,
        "repeated": repeated,
        "scene_of_stimulus": "the scene's id is the number in the image's name",
    }
    check_root(root, manifest)
    people = population or Population(world, seed, gate=gate, version=options["version"])
    # Written first, so that a broken-off run can be told from real data and started again.
    write_json(root / MANIFEST, {**manifest, "complete": False})
    _write_stimuli(root, world, images, design.repeated)
    for person in track(chosen, "Simulating BOLD5000", len(chosen)):
        brain = SimulatedBrain(world, person, population=people, **options)
        _write_regions(root, brain, design, mat=mat, workers=workers)
        _write_list(root, person, design)
    write_json(root / MANIFEST, {**manifest, "complete": True})
    return root


def _draw_design(
    subjects: tuple[int, ...], images: int, repeated: int, sessions: int, seed: int
) -> _Design:
    known = set(PEOPLE)
    if not subjects or len(set(subjects)) < len(subjects) or not set(subjects) <= known:
        raise InputError(f"Subjects must be different ones of 1..4, but {subjects} were given.")
    if not 1 <= repeated <= images:
        raise InputError(
            f"Of {images} images, 1 to {images} can be repeated, but repeated={repeated} was given."
        )
    n_trials = images + (N_REPEATS - 1) * repeated
    if not 2 <= sessions <= n_trials // 2:
        raise InputError(
            f"{n_trials} trials fill 2 to {n_trials // 2} sessions, but {sessions} were asked for."
        )
    generator = np.random.default_rng([seed, _DESIGN_KEY])
    again = generator.choice(images, repeated, replace=False)
    trials = np.concatenate([np.arange(images), np.repeat(again, N_REPEATS - 1)])
    lengths = [len(part) for part in np.array_split(trials, sessions)]
    shown, numbers, runs = {}, {}, {}
    for person in subjects:
        order = np.random.default_rng([seed, _DESIGN_KEY, person]).permutation(trials)
        held = max(2, round(SHORT_SHARE * sessions)) if person == SHORT else sessions
        numbers[person] = np.repeat(np.arange(1, held + 1), lengths[:held])
        shown[person] = order[: len(numbers[person])]
        runs[person] = [_run_lengths(length) for length in lengths[:held]]
    return _Design(shown, numbers, runs, frozenset(again.tolist()))


def _run_lengths(n_trials: int) -> list[int]:
    full, rest = divmod(n_trials, TRIALS_PER_RUN)
    return [TRIALS_PER_RUN] * full + ([rest] if rest else [])


def image_name(scene: int) -> str:
    """Name the file of a scene's picture, as COCO's photographs are named."""
    return f"COCO_{SPLIT}_{scene:012d}.png"


def _write_stimuli(root: Path, world: SceneWorld, images: int, repeated: frozenset[int]) -> None:
    from PIL import Image

    for scene in track(range(images), "Painting scenes", images):
        with atomic_path(root / PRESENTED / "COCO" / image_name(scene)) as path:
            Image.fromarray(world.paint([scene])[0]).save(path, format="PNG")
    names = [image_name(scene) for scene in sorted(repeated)]
    path = root / STIMULI / "Scene_Stimuli/repeated_stimuli_113_list.txt"
    write_text(path, "\n".join(names) + "\n")
    for name, content in coco_annotations(world, images).items():
        write_text(root / "annotations" / name, json.dumps(content))


def _write_list(root: Path, person: int, design: _Design) -> None:
    names = [
        (REPEATED if scene in design.repeated else "") + image_name(scene)
        for scene in design.shown[person].tolist()
    ]
    path = root / "ROIs/stim_lists" / f"CSI0{person}_stim_lists.txt"
    write_text(path, "\n".join(names) + "\n")


def _write_regions(
    root: Path, brain: SimulatedBrain, design: _Design, *, mat: bool, workers: int | None
) -> None:
    """Write the five volumes of each trial, and the mean of the third and fourth."""
    person = brain.subject
    shown, sessions = design.shown[person], design.sessions[person]
    seen, rows = np.unique(shown, return_inverse=True)
    response = brain.response(seen, workers=workers)[rows]
    volumes: dict[str, npt.NDArray[np.float32]] = {}
    lengths = [length for session in design.runs[person] for length in session]
    runs = np.repeat(np.arange(len(lengths)), lengths)
    for number, gain in enumerate(brain.haemodynamic_gains(VOLUME_SECONDS)):
        trials = _N_TRS * np.arange(len(shown)) + number  # noise of its own for every volume
        volumes[str(number + 1)] = brain.measure(
            shown, sessions, trials, runs=runs, response=response * np.float32(gain)
        )
    volumes["34"] = (volumes["3"] + volumes["4"]) / np.float32(2)
    masks = _region_masks(brain)
    for tr, values in volumes.items():
        parts = {key: values[:, inside] for key, inside in masks.items()}
        stem = root / "ROIs" / f"CSI{person}"
        with (
            atomic_path(stem / "h5" / f"CSI{person}_ROIs_TR{tr}.h5") as path,
            h5py.File(path, "w") as file,
        ):
            for key, part in parts.items():
                file[key] = part
        if mat:
            with atomic_path(stem / "mat" / f"CSI{person}_ROIs_TR{tr}.mat") as path:
                scipy.io.savemat(path, parts)


def _region_masks(brain: SimulatedBrain) -> dict[str, npt.NDArray[np.bool_]]:
    """Say which of a brain's voxels each of the dataset's regions is made of."""
    roi, side = brain.units["roi"], brain.units["hemisphere"]
    return {
        f"{name}{region}": (roi.isin(REGION_NAMES[region]) & (side == name.lower())).to_numpy()
        for region in REGIONS
        for name in ("LH", "RH")
    }
