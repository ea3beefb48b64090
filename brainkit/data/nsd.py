"""The Natural Scenes Dataset (Allen et al., 2022, Nature Neuroscience 25:116), func1pt8mm volumes.

All conversions happen here, once: stimulus rows are 0-based (the files' are 1-based), betas are
percent signal change (the files hold int16 × 300), a region is a label ≥ 1 (0 is unlabelled
cortex, −1 not cortex), and a voxel is indexed (x, y, z) (HDF5 files run z, y, x).

Layout under the root: ``nsddata_betas/ppdata/subjXX/func1pt8mm/<betas>/betas_sessionYY.hdf5`` (or
``.nii.gz``), ``nsddata/experiments/nsd/nsd_expdesign.mat``,
``nsddata/ppdata/subjXX/func1pt8mm/roi/*.nii.gz``,
``nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5``. COCO's annotation files, where a user
has them, stand in ``annotations``; ``nsddata/experiments/nsd/nsd_stim_info_merged.csv`` says which
photograph is which stimulus.

Regions are found by name. Label files hold −1 outside cortex (or in the other hemisphere), 0 for
unlabelled cortex, and label numbers from 1. The names come from the subject's ``.mgz.ctab`` table
where it is there, and from the published numbering otherwise.
"""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.array_likes import whole_number, whole_numbers
from brainkit.arrays.files import is_file, is_folder, matching, read_mat, read_text
from brainkit.arrays.sources import Index, Source, Stacked, View
from brainkit.arrays.volumes import HDF5Volumes, NiftiVolumes, read_labels
from brainkit.data.coco import (
    STIMULUS_INFO,
    annotation_files,
    annotation_folder,
    read_stimulus_info,
    read_table,
)
from brainkit.data.from_nifti import read_map, read_mask, unit_table
from brainkit.data.recording import Recording
from brainkit.data.simulation import simulation_info
from brainkit.data.stimuli import HDF5Stimuli, Stimuli
from brainkit.data.units import NSD_PARTS, VolumeSpace, roi_table
from brainkit.errors import (
    CorruptFileError,
    GridMismatchError,
    InputError,
    MissingFileError,
    listed,
    unknown_name,
)

LABELS: dict[str, tuple[str, ...]] = {
    "prf-visualrois": ("V1v", "V1d", "V2v", "V2d", "V3v", "V3d", "hV4"),
    "floc-faces": ("OFA", "FFA-1", "FFA-2", "mTL-faces", "aTL-faces"),
    "floc-bodies": ("EBA", "FBA-1", "FBA-2", "mTL-bodies"),
    "floc-places": ("OPA", "PPA", "RSC"),
    "floc-words": ("OWFA", "VWFA-1", "VWFA-2", "mfs-words", "mTL-words"),
    "streams": (
        "early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal",
    ),
    "nsdgeneral": ("nsdgeneral",),
}  # fmt: skip
STANDARD_ROIS = (*LABELS, "floc-food")

Volume = NDArray[np.int64]
OPTIONS = ("betas", "sessions", "mask", "rois", "annotations")
BETAS_PER_PERCENT = 300
SPACE = "func1pt8mm"
STIMULI = Path("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5")
DESIGN = ("masterordering", "sharedix", "stimpattern", "subjectim")  # its variables
EXPERIMENT = Path("nsddata/experiments/nsd/nsd_expdesign.mat")
# Shared images count as seen three times if all repeats lie in this part of the sessions.
EARLY_SESSIONS = 30 / 40


def label_names(root: Path, subject: str, roi: str, volume: Volume) -> dict[int, str]:
    """Return the names of the labels of one ROI file, by number.

    Raises
    ------
    MissingFileError, FileAccessError, CorruptFileError
        If the table of labels may not be read, names none, or one number twice.
    """
    table = root / "nsddata/freesurfer" / subject / "label" / f"{roi}.mgz.ctab"
    if is_file(table):
        lines = read_text(table, "A table of labels").splitlines()
        names: dict[int, str] = {}
        for row in (line.split() for line in lines):
            if len(row) < 2 or not row[0].isdecimal():
                continue
            number, name = int(row[0]), row[1]
            if names.setdefault(number, name) != name:
                raise CorruptFileError(
                    f"{table} names the label {number} twice: {names[number]} and {name}."
                )
        if not any(number >= 1 for number in names):
            raise CorruptFileError(
                f"{table} names no label: expected lines of a number from 1 and a name, such as "
                "'1 V1v'."
            )
        shared = {name for known in LABELS.values() for name in known}
        # Two localisers both name an mTL; it keeps the name of its file.
        return {
            number: name if name in shared or roi not in LABELS else _qualified(roi, number, name)
            for number, name in names.items()
            if number >= 1
        }
    if roi in LABELS:
        return dict(enumerate(LABELS[roi], start=1))
    numbers = np.unique(volume[volume >= 1])
    return {int(number): f"{roi}-{number}" for number in numbers}


def _qualified(roi: str, number: int, name: str) -> str:
    known = LABELS[roi]
    listed_here = number <= len(known) and known[number - 1].startswith(name)
    return known[number - 1] if listed_here else name


def roi_files(folder: Path) -> list[str]:
    """Return the names of the ROI files of both hemispheres, the standard ones first.

    Several atlases name the same region ("V1" of HCP_MMP1 is not the functional V1 of
    prf-visualrois), so that the order decides which one a bare name means.
    """
    names = (path.name.removesuffix(".nii.gz") for path in matching(folder, "*.nii.gz"))
    both = sorted(name for name in names if not name.startswith(("lh.", "rh.")))
    return sorted(both, key=lambda name: (name not in STANDARD_ROIS, name))


def find_roi(root: Path, subject: str, name: str) -> NDArray[np.bool_]:
    """Return the volume mask of a ROI file, a label, or the common name of several labels.

    Raises
    ------
    UnknownNameError
        If there is no such region; the message has the names that exist.
    """
    folder = root / "nsddata/ppdata" / subject / "func1pt8mm/roi"
    unsided = folder / f"{name}.nii.gz"
    if is_file(unsided):
        return np.asarray(read_labels(unsided, "A ROI file")[0] >= 1)
    known: list[str] = []
    for file in roi_files(folder):
        path = folder / f"{file}.nii.gz"
        volume = read_labels(path, "A ROI file")[0]
        names = label_names(root, subject, file, volume)
        # The name may say whose it is, where several atlases have it.
        label = name.removeprefix(f"{file}.")
        parts = NSD_PARTS.get(label, ()) if file in LABELS else ()
        wanted = (label,) if label in names.values() else parts
        numbers = [number for number, known_as in names.items() if known_as in wanted]
        if numbers:
            return np.isin(volume, numbers)
        known += [file, *names.values()]
    raise unknown_name("ROI", name, sorted(set(known)))


def subjects(root: Path) -> list[str]:
    """Return the subjects with betas under the root."""
    names = [path.name for path in matching(root / "nsddata_betas/ppdata", "subj[0-9][0-9]")]
    if not names:
        raise MissingFileError(
            f"{root} holds no subjects: expected nsddata_betas/ppdata/subj01 and so on, as the NSD "
            "download lays them out."
        )
    return names


def subject_name(root: Path, subject: str | int) -> str:
    """Return the folder name of a subject given as 1, "1", "s1", "subj1" or "subj01"."""
    known = subjects(root)
    match = re.fullmatch(r"(?:subj|sub-|s)?0*(\d+)", str(subject))
    name = f"subj{int(match.group(1)):02d}" if match else str(subject)
    if name not in known:
        raise unknown_name("subject", subject, known)
    return name


def read_design(
    expdesign_mat: str | Path, subject: str | int, sessions: int | Sequence[int] | None = None
) -> pd.DataFrame:
    """Read which image each trial of a subject showed.

    Trial t of subject s showed image ``subjectim[s, masterordering[t] − 1] − 1`` (0-based).

    Parameters
    ----------
    expdesign_mat : path
        ``nsd_expdesign.mat``.
    subject : str or int
        1 … 8, or "subj01" and so on.
    sessions : int or sequence of int, optional
        Sessions (from 1) whose trials to return, or a number n for the first n; all that were
        planned where not given.

    Returns
    -------
    DataFrame
        A row a trial, in order: `stimulus` (0-based row of the 73,000), `session`, `run` (1 … 12
        within the session), `trial` (0-based, within the session), `repeat` (0, 1, 2: how often
        the image was shown before, over all sessions), `shared` (one of the images that all
        subjects see), `early_repeats` (how often the image is shown in the first three quarters
        of the planned sessions: NSD's first 30).

    Raises
    ------
    MissingFileError, CorruptFileError, UnknownNameError
        If the file is missing or damaged, or has no such subject or session.
    """
    design = _read_design(Path(expdesign_mat))
    order = design["masterordering"].ravel() - 1  # of the subject's own images
    images = design["subjectim"] - 1  # (subjects, images), 0-based rows
    pattern = design["stimpattern"] > 0  # (sessions, runs, slots)
    number = _subject_number(subject, len(images))
    n_shared = design["sharedix"].size
    per_session = pattern.sum(axis=(1, 2))
    session = np.repeat(np.arange(1, len(pattern) + 1), per_session)
    if len(session) != len(order) or order.max() >= images.shape[1] or order.min() < 0:
        raise CorruptFileError(
            f"{expdesign_mat}: masterordering has {len(order)} trials up to image "
            f"{order.max() + 1}, stimpattern {len(session)} trials, subjectim "
            f"{images.shape[1]} images; they do not fit each other."
        )
    run = np.concatenate([np.repeat(np.arange(1, len(s) + 1), s.sum(axis=1)) for s in pattern])
    early = session <= round(EARLY_SESSIONS * len(pattern))
    counts = np.bincount(order[early], minlength=images.shape[1])
    trials = pd.DataFrame(
        {
            "stimulus": images[number - 1, order],
            "session": session,
            "run": run,
            "trial": np.concatenate([np.arange(n) for n in per_session]),
            "repeat": pd.Series(order).groupby(order).cumcount().to_numpy(),
            "shared": order < n_shared,
            "early_repeats": counts[order],
        }
    )
    if sessions is None:
        return trials
    chosen = _chosen_sessions(sessions, len(pattern))
    unknown = [number for number in chosen if not 1 <= number <= len(pattern)]
    if unknown:
        raise unknown_name("session", unknown[0], [str(s) for s in range(1, len(pattern) + 1)])
    return trials[trials["session"].isin(chosen)].reset_index(drop=True)


def _chosen_sessions(sessions: int | Sequence[int], n_sessions: int) -> list[int]:
    """Return the sessions' numbers; a number n alone means the first n, of which one must exist."""
    if isinstance(sessions, str | bytes) or not np.iterable(sessions):
        last = whole_number(sessions, "sessions")
        return list(range(1, last + 1)) if 1 <= last <= n_sessions else [last]
    return sorted({whole_number(session, "A session in sessions") for session in sessions})


def _read_design(path: Path) -> dict[str, NDArray[np.int64]]:
    content = read_mat(path, "NSD's experimental design (nsd_expdesign.mat)", DESIGN)
    try:
        return {name: whole_numbers(content[name], f"{path}: {name}") for name in DESIGN}
    except InputError as error:
        raise CorruptFileError(str(error)) from error


def _subject_number(subject: str | int, n_subjects: int) -> int:
    match = re.fullmatch(r"(?:subj|sub-|s)?0*(\d+)", str(subject))
    number = int(match.group(1)) if match else 0
    if not 1 <= number <= n_subjects:
        raise unknown_name("subject", subject, [f"subj{n:02d}" for n in range(1, n_subjects + 1)])
    return number


def _session_files(folder: Path, sessions: Sequence[int] | None) -> dict[int, Path]:
    """Find the betas of the sessions asked for, or of all that are there."""
    if not is_folder(folder):
        versions = [path.name for path in matching(folder.parent, "betas_*")]
        raise MissingFileError(
            f"There is no folder {folder}; the beta versions here are: "
            f"{listed(versions) or 'none'}."
        )
    files: dict[int, Path] = {}
    for suffix in ("nii.gz", "nii", "hdf5"):  # the last one found is preferred
        for path in matching(folder, f"betas_session[0-9][0-9].{suffix}"):
            files[int(path.name[13:15])] = path
    if sessions is None:  # a gap is a download that is not complete
        wanted = list(range(1, max(files, default=0) + 1))
    else:
        wanted = _chosen_sessions(sessions, max(files, default=0))
    missing = [session for session in wanted if session not in files]
    if missing or not wanted:
        expected = folder / f"betas_session{missing[0] if missing else 1:02d}.hdf5"
        here = listed(sorted(files)) or "none"
        raise MissingFileError(
            f"The betas of {'session ' + listed(missing) if missing else 'all sessions'} are "
            f"missing: expected {expected} (or .nii.gz). Sessions here: {here}. Name the sessions "
            "(sessions=) to read some of them."
        )
    return {session: files[session] for session in wanted}


def _session_source(path: Path, voxels: Index, grid: tuple[int, int, int]) -> Source:
    scale = 1 / BETAS_PER_PERCENT
    if path.suffix == ".hdf5":
        return HDF5Volumes(path, "betas", voxels, grid, scale)
    return NiftiVolumes(path, voxels, grid, scale)


def load(
    root: str | Path,
    subject: str | int,
    *,
    betas: str = "betas_fithrf_GLMdenoise_RR",
    sessions: Sequence[int] | None = None,
    mask: str | Path | None = "nsdgeneral",
    rois: Sequence[str] = STANDARD_ROIS,
    annotations: str | Path | Literal[False] | None = None,
) -> Recording:
    """Load one subject of NSD, lazily, in percent signal change.

    Parameters
    ----------
    root : path
        The folder that holds ``nsddata``, ``nsddata_betas`` and ``nsddata_stimuli``.
    subject : str or int
        Such as "subj01" or 1.
    betas : str, default="betas_fithrf_GLMdenoise_RR"
        Beta version.
    sessions : sequence of int, optional
        Sessions, from 1; where not given all that are there, which must then be 1, 2, 3 …
        without a gap.
    mask : str or path, optional
        Voxels that are the units: a ROI by name ("V1", "FFA-1"), a ROI file by name
        ("nsdgeneral", "floc-faces"), or a mask NIfTI of your own (above 0 inside). None takes all
        cortical voxels.
    rois : sequence of str
        ROI files whose labels become ROIs of the units; of the standard ones, those that are not
        there are left out. A name that an earlier file has is preceded by the file's
        (``Kastner2015.V1v``).
    annotations : path or False, optional
        The folder with COCO's ``captions_*.json`` and ``instances_*.json``, from which the
        stimuli's table takes `caption`, `captions` and `category` (of the largest object within
        NSD's crop; see `brainkit.data.coco`). They are read when the table is first
        asked for. Where not given, ``<root>/annotations`` if it is there; False for none.

    Returns
    -------
    Recording
        Recording with `ncsnr` among the columns of its units where the file is there.

    Raises
    ------
    MissingFileError, CorruptFileError, GridMismatchError, UnknownNameError
        If files are missing, truncated or on another grid, or names do not exist.
    """
    root = Path(root)
    name = subject_name(root, subject)
    anatomical = root / "nsddata/ppdata" / name / SPACE
    folder = root / "nsddata_betas/ppdata" / name / SPACE / betas
    files = _session_files(folder, sessions)
    voxels, grid, affine = _mask_voxels(root, name, mask)
    tables = _roi_labels(root, name, rois, grid)
    trials = read_design(root / EXPERIMENT, name, list(files))
    stacked = Stacked([_session_source(path, voxels, grid) for path in files.values()])
    source = _in_design_order(stacked, files, trials)
    units = unit_table(voxels, grid)
    masks: dict[str, NDArray[np.bool_]] = {}
    for roi, volume, names in tables:
        for number, label in names.items():
            # Of two atlases that have a name, the first keeps it.
            unique = f"{roi}.{label}" if label in masks else label
            masks[unique] = volume.ravel()[voxels] == number
    units = pd.concat([units, roi_table(masks)], axis=1)
    ncsnr = folder / "ncsnr.nii.gz"
    if is_file(ncsnr):
        units["ncsnr"] = read_map(ncsnr, grid, "The ncsnr map").ravel()[voxels]
    anatomy = anatomical / "T1_to_func1pt8mm.nii.gz"
    background = read_map(anatomy, grid, "The anatomy") if is_file(anatomy) else None
    return Recording.from_source(
        source,
        subject=name,
        trials=trials,
        units=units,
        stimuli=_stimuli(root, annotations),
        space=VolumeSpace(grid, affine, voxels, background),
        info={"measure": "percent signal change", "betas": betas, "sessions": list(files)}
        | simulation_info(root),
    )


def _in_design_order(source: Stacked, files: dict[int, Path], trials: pd.DataFrame) -> Source:
    """Check each session's number of trials against the design; return rows in its order."""
    for part, (session, path) in zip(source.parts, files.items(), strict=True):
        planned = int((trials["session"] == session).sum())
        if part.shape[0] != planned:
            raise CorruptFileError(
                f"{path} holds {part.shape[0]} trials; the design has {planned} in session "
                f"{session}. The file is truncated or of another experiment."
            )
    order = np.concatenate([np.flatnonzero(trials["session"] == session) for session in files])
    return View(source, np.argsort(order)) if np.any(np.diff(order) != 1) else source


def _roi_labels(
    root: Path, subject: str, rois: Sequence[str], grid: tuple[int, int, int]
) -> list[tuple[str, NDArray[np.int64], dict[int, str]]]:
    folder = root / "nsddata/ppdata" / subject / SPACE / "roi"
    tables = []
    for roi in rois:
        path = folder / f"{roi}.nii.gz"
        if is_file(path):
            volume = read_mask(path, grid, what="A ROI file")
            tables.append((roi, volume, label_names(root, subject, roi, volume)))
        elif roi not in STANDARD_ROIS:
            raise unknown_name("ROI file", roi, roi_files(folder))
    return tables


def _mask_voxels(
    root: Path, subject: str, mask: str | Path | None
) -> tuple[Index, tuple[int, int, int], NDArray[np.float64]]:
    """Return the flat indices of the voxels inside a mask, the grid and the affine."""
    folder = root / "nsddata/ppdata" / subject / SPACE / "roi"
    files = roi_files(folder)
    if not files:
        raise MissingFileError(f"There are no ROI files in {folder}.")
    reference, affine = read_labels(folder / f"{files[0]}.nii.gz", "A ROI file")
    grid = (reference.shape[0], reference.shape[1], reference.shape[2])
    if mask is None:
        # −1 is outside cortex in the standard files; others may have 0 there.
        known = [name for name in files if name in STANDARD_ROIS] or files
        inside = np.any([read_mask(folder / f"{name}.nii.gz", grid) >= 0 for name in known], axis=0)
    elif str(mask).endswith((".nii", ".nii.gz")):
        inside = read_mask(Path(mask), grid, affine) > 0
    else:
        inside = find_roi(root, subject, str(mask))
    if inside.shape != grid:
        raise GridMismatchError(
            f"The ROI {mask} of {subject} has the grid {inside.shape}; {files[0]} has {grid}."
        )
    voxels = np.flatnonzero(inside)
    if not len(voxels):
        raise InputError(f"The mask {mask} has no voxel inside (none above 0).")
    return voxels, grid, affine


def _stimuli(root: Path, annotations: str | Path | Literal[False] | None) -> Stimuli | None:
    """Open the pictures; what they show is read when it is asked for, but looked for now."""
    folder = annotation_folder(root, annotations)
    path = root / STIMULI
    if not is_file(path):
        return None
    source = HDF5Stimuli.open(path, "imgBrick")
    if folder is None:
        return Stimuli(source)
    info = root / STIMULUS_INFO
    files = annotation_files(folder, set(read_stimulus_info(info, len(source))["cocoSplit"]))
    return Stimuli(source, table=partial(read_table, info, files, len(source)))
