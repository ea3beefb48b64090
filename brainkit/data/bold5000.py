"""BOLD5000 (Chang et al., 2019, Scientific Data 6:49), release 1: regions of interest of 4 people.

Layout under the root: ``ROIs/CSI<n>/h5/CSI<n>_ROIs_TR<t>.h5`` (or ``mat/…mat``), one file for each
of the five volumes (TRs of 2 s) after an image's onset and one, ``TR34``, for the mean of the third
and fourth, which are the peak of the response; in each file ten regions, ``LHPPA`` and so on,
(trials, voxels). ``ROIs/stim_lists/CSI0<n>_stim_lists.txt`` names the image of each trial, with the
prefix ``rep_``, which no file of an image has, for the 113 images that were shown several times.
Repeats are known by the image's name, so that splits keep them together; contiguous folds over
trials, as published, put most of the 451 repeated trials on both sides. Images are in
``BOLD5000_Stimuli``; COCO's annotation files, where a user has them, in ``annotations``.

The release has no voxel coordinates, so there are no maps.

The images come from three sets. COCO's have sentences in COCO's annotation files. ImageNet's have a
line of words for their synset in ``Image_Labels/imagenet_final_labels.txt``, and those of scenes
are named after what they show (``homeoffice5.jpg``); as in Oota et al. (2022, COLING) these words
stand in for a caption.
"""

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.files import is_file, is_folder, matching, read_mat, read_text, reading
from brainkit.arrays.sources import Float, Index, Kept, Source
from brainkit.data.coco import annotation_folder, read_captions
from brainkit.data.recording import Recording
from brainkit.data.simulation import read_simulation, simulation_info
from brainkit.data.stimuli import ImageFiles, Stimuli
from brainkit.data.units import roi_table
from brainkit.errors import CorruptFileError, InputError, MissingFileError, listed, unknown_name

SETS = ("Scene", "COCO", "ImageNet")
STIMULI = Path("BOLD5000_Stimuli")
PRESENTED = STIMULI / "Scene_Stimuli/Presented_Stimuli"
LABELS = STIMULI / "Image_Labels/imagenet_final_labels.txt"
# COCO's files of 2017 tell of the same photographs under the same numbers.
SPLITS = {"train2014": ("train2014", "train2017"), "val2014": ("val2014",)}
_COCO = re.compile(r"COCO_(\w+)_(\d+)\.\w+")
_IMAGENET = re.compile(r"(n\d{8})_\d+\.\w+")
_SCENE = re.compile(r"\D+")
OPTIONS = ("trs", "sets", "annotations")
REGIONS = ("EarlyVis", "LOC", "OPA", "PPA", "RSC")
KEYS = tuple(f"{side}{region}" for region in REGIONS for side in ("LH", "RH"))
TRS = ("1", "2", "3", "4", "5", "34")
# The second is the average of Oota et al. (2022, COLING), in which the third and fourth volumes
# have double weight, since TR34 is their mean already.
AVERAGES = {"peak": ("34",), "oota-2022": ("1", "2", "3", "34", "4", "5")}
REPEATED = "rep_"
MEND = "unpack BOLD5000_ROIs.zip again"
TRIALS_PER_RUN = 37
# Sessions of each person, and those with ten runs; the others have nine.
SESSIONS = {
    "CSI1": (15, (1, 2, 3, 5, 7, 10, 15)),
    "CSI2": (15, (1, 3, 4, 5, 11, 12, 14)),
    "CSI3": (15, (1, 3, 5, 6, 7, 11, 15)),
    "CSI4": (9, (1, 4, 9)),
}


def image_set(name: str) -> str:
    """Return the set that an image is of, by its name.

    Examples
    --------
    >>> [image_set(name) for name in ("bar2.jpg", "COCO_train2014_000000000009.jpg")]
    ['Scene', 'COCO']
    """
    if _COCO.fullmatch(name):
        return "COCO"
    return "ImageNet" if _IMAGENET.fullmatch(name) else "Scene"


def open_stimuli(
    root: Path, names: Sequence[str], annotations: str | Path | Literal[False] | None
) -> Stimuli | None:
    """Open images as stimuli whose ids are their names.

    Parameters
    ----------
    root : path
        Folder that holds ``BOLD5000_Stimuli`` and, where there are captions, ``annotations``.
    names : sequence of str
        File names of the images.
    annotations : path, False or None
        See `brainkit.data.bold5000.load`.

    Returns
    -------
    Stimuli or None
        None where there is no folder of stimuli.

    Raises
    ------
    MissingFileError
        If images or files of annotations are missing.
    """
    folder = annotation_folder(root, annotations)
    if not is_folder(root / STIMULI):
        return None
    paths = tuple(root / PRESENTED / image_set(name) / name for name in names)
    missing = [path.name for path in paths if not is_file(path)]
    if missing:
        raise MissingFileError(
            f"{len(missing)} of {len(names)} images are not in {root / PRESENTED}: "
            f"{listed(missing)}. Unpack BOLD5000_Stimuli.zip again, or read the images of one set "
            f"(sets=), of {listed(SETS)}."
        )
    captions = None if folder is None else _caption_files(folder, names)
    words = root / LABELS
    table = partial(stimulus_table, tuple(names), captions, words)
    return Stimuli(ImageFiles(paths), ids=list(names), table=table)


def stimulus_table(
    names: Sequence[str], captions: dict[str, Path] | None, labels: Path
) -> pd.DataFrame:
    """Return what is known of images.

    Parameters
    ----------
    names : sequence of str
        File names of the images.
    captions : dict of str to path, or None
        The file of captions of each of COCO's splits; None for no captions at all.
    labels : path
        ``imagenet_final_labels.txt``: a line a synset, its number and then words.

    Returns
    -------
    DataFrame
        `image`, `set`, and where there are captions `captions` (a list, empty where there are
        none) and `caption` (the first).

    Raises
    ------
    MissingFileError, CorruptFileError
        If a file is missing or damaged.
    """
    table = pd.DataFrame({"image": list(names), "set": [image_set(name) for name in names]})
    if captions is None:
        return table
    captions_of = _coco_captions(names, captions) | _labels(names, labels)
    table["captions"] = [captions_of.get(name, []) for name in names]
    table["caption"] = [lines[0] if lines else None for lines in table["captions"]]
    return table


def _caption_files(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Find the file of captions for each of COCO's splits that the images are of."""
    splits = sorted({match.group(1) for name in names if (match := _COCO.fullmatch(name))})
    files = {}
    for split in splits:
        every = [folder / f"captions_{other}.json" for other in SPLITS.get(split, (split,))]
        there = [path for path in every if is_file(path)]
        if not there:
            raise MissingFileError(
                f"{folder} holds no captions of COCO's {split}: expected "
                f"{listed([path.name for path in every], separator=' or ')}. Read without captions "
                "with annotations=False."
            )
        files[split] = there[0]
    return files


def _coco_captions(names: Sequence[str], files: dict[str, Path]) -> dict[str, list[str]]:
    matches = [match for name in names if (match := _COCO.fullmatch(name))]
    captions_of: dict[str, list[str]] = {}
    for split, path in files.items():
        numbers = {int(match.group(2)): match.group(0) for match in matches if match[1] == split}
        for number, lines in read_captions(path, set(numbers)).items():
            captions_of[numbers[number]] = lines
    return captions_of


def _labels(names: Sequence[str], path: Path) -> dict[str, list[str]]:
    """Return the words that stand in for captions of the images that are not COCO's."""
    words_of: dict[str, list[str]] = {}
    synsets = {name: match[1] for name in names if (match := _IMAGENET.fullmatch(name))}
    if synsets:
        words = _read_labels(path)
        words_of |= {name: [words[synset]] for name, synset in synsets.items() if synset in words}
    for name in names:
        match = _SCENE.match(Path(name).stem)
        if image_set(name) == "Scene" and match:
            words_of[name] = [match.group().replace("_", " ").strip()]
    return words_of


def _read_labels(path: Path) -> dict[str, str]:
    lines = read_text(path, "BOLD5000's labels of ImageNet's images").splitlines()
    words: dict[str, str] = {}
    for line in lines:
        synset, _, label = line.strip().partition(" ")
        if label:
            words.setdefault(synset, label.strip())
    return words


def subjects(root: Path) -> list[str]:
    """Return the subjects whose regions are under the root."""
    names = [path.name for path in matching(root / "ROIs", "CSI[1-9]")]
    if not names:
        raise MissingFileError(
            f"{root} holds no subjects: expected ROIs/CSI1 and so on, as BOLD5000_ROIs.zip of "
            "release 1 unpacks them."
        )
    return names


def subject_name(root: Path, subject: str | int) -> str:
    """Return the folder name of a subject given as 1, "1", "CSI1", "CSI01" or "sub-CSI1"."""
    known = subjects(root)
    match = re.fullmatch(r"(?:sub-)?(?:CSI|s)?0*(\d+)", str(subject))
    name = f"CSI{int(match.group(1))}" if match else str(subject)
    if name not in known:
        raise unknown_name("subject", subject, known)
    return name


def read_stimulus_list(path: Path) -> pd.DataFrame:
    """Read which image each trial showed.

    Parameters
    ----------
    path : path
        ``CSI01_stim_lists.txt``: a name a line.

    Returns
    -------
    DataFrame
        A row a trial: `image` (the name without ``rep_``), `repeated` (one of the images that are
        shown several times), `repeat` (how often the image was shown before).

    Raises
    ------
    MissingFileError, CorruptFileError
        If the file is missing, no text, or empty.
    """
    lines = read_text(path, "BOLD5000's list of stimuli")
    names = [line.strip() for line in lines.splitlines() if line.strip()]
    if not names:
        raise CorruptFileError(f"{path} names no image: it is empty.")
    images = pd.Series([name.removeprefix(REPEATED) for name in names], name="image")
    return pd.DataFrame(
        {
            "image": images,
            "repeated": [name.startswith(REPEATED) for name in names],
            "repeat": images.groupby(images).cumcount(),
        }
    )


def load(
    root: str | Path,
    subject: str | int,
    *,
    trs: str | int | Sequence[int] = "peak",
    sets: str | Sequence[str] | None = None,
    annotations: str | Path | Literal[False] | None = None,
) -> Recording:
    """Load one person's regions of interest, lazily.

    Parameters
    ----------
    root : path
        The folder that holds ``ROIs`` and ``BOLD5000_Stimuli``.
    subject : str or int
        "CSI1" … "CSI4", or 1 … 4. CSI4 stopped after 9 of 15 sessions and has 3,108 trials, the
        others have 5,254.
    trs : str, int or sequence of int, default="peak"
        Volumes after an image's onset that are averaged: ``"peak"`` is the third and fourth (the
        file ``TR34``); numbers, of 1 … 5 and 34, are averaged with equal weights; ``"oota-2022"``
        is all six files, so that the third and fourth volumes have double weight.
    sets : str or sequence of str, optional
        Keep the trials of images from some of the sets "Scene", "COCO" and "ImageNet".
    annotations : path or False, optional
        The folder with COCO's ``captions_train2014.json`` (or of 2017), from which the stimuli's
        table takes `caption` and `captions`; the labels of ImageNet's images and of scenes then
        stand in for captions of those. Where not given, ``<root>/annotations`` if it is there;
        False for none.

    Returns
    -------
    Recording
        Trials have `stimulus` (the same row for one image in all people), `image`, `set`,
        `repeated`, `repeat`, `session` and `run`. The regions are ROIs by hemisphere (``LHPPA``)
        and of both (``PPA``). `stimuli` is None where there is no folder of them.

    Raises
    ------
    MissingFileError, CorruptFileError, UnknownNameError
        If files are missing or do not fit each other, or names do not exist.
    """
    root = Path(root)
    name = subject_name(root, subject)
    chosen = _chosen_trs(trs)
    wanted = _chosen_sets(sets)
    path = root / "ROIs/stim_lists" / f"CSI0{name.removeprefix('CSI')}_stim_lists.txt"
    trials = read_stimulus_list(path)
    trials[["session", "run"]] = _runs(root, name, path, len(trials))
    trials.insert(1, "set", [image_set(image) for image in trials["image"]])
    source = _source(root, name, chosen, path, len(trials))
    images = [image for image in _all_images(root) if image_set(image) in wanted]
    shown = trials["set"].isin(wanted).to_numpy()
    if not shown.any():
        raise InputError(f"{name} saw no image of the sets {listed(wanted)}.")
    rows = {image: row for row, image in enumerate(images)}
    trials.insert(0, "stimulus", trials["image"].map(rows).astype("Int64"))
    recording = Recording.from_source(
        Kept(source),  # 35 MB a person at most, and MATLAB files cannot be read in part
        subject=name,
        trials=trials,
        units=_units(source.widths),
        stimuli=open_stimuli(root, images, annotations),
        info={"measure": "signal of the averaged volumes, as the release holds it"}
        | {"trs": list(chosen), "sets": list(wanted)}
        | simulation_info(root),
    )
    return recording if shown.all() else recording.select(trials=shown)


def _chosen_trs(trs: str | int | Sequence[int]) -> tuple[str, ...]:
    if isinstance(trs, str) and trs in AVERAGES:
        return AVERAGES[trs]
    numbers = list(trs) if np.iterable(trs) and not isinstance(trs, str) else [trs]
    for number in numbers:
        if str(number) not in TRS:
            raise unknown_name("TR", number, [*TRS, *AVERAGES])
    if not numbers or len(set(numbers)) < len(numbers):
        raise InputError(f"trs needs different TRs, at least one of {listed(TRS)}; got {numbers}.")
    return tuple(str(number) for number in numbers)


def _chosen_sets(sets: str | Sequence[str] | None) -> tuple[str, ...]:
    wanted = SETS if sets is None else (sets,) if isinstance(sets, str) else tuple(sets)
    for name in wanted:
        if name not in SETS:
            raise unknown_name("set of images", name, SETS)
    if not wanted:
        raise InputError(f"sets must name at least one of {listed(SETS)}; got none.")
    return wanted


def _all_images(root: Path) -> list[str]:
    """Return the images of all people's lists, so that a row is the same image for everyone."""
    lists = matching(root / "ROIs/stim_lists", "CSI0[1-9]_stim_lists.txt")
    return sorted({image for path in lists for image in read_stimulus_list(path)["image"]})


def _runs(root: Path, subject: str, path: Path, n_trials: int) -> NDArray[np.int64]:
    """Return session and run within the session of each trial, (n_trials, 2), both from 1."""
    lengths = _simulated_runs(root, subject)
    if lengths is None:
        if subject not in SESSIONS:
            raise unknown_name("person of BOLD5000", subject, list(SESSIONS))
        n_sessions, long = SESSIONS[subject]
        lengths = [
            [TRIALS_PER_RUN] * (10 if session in long else 9)
            for session in range(1, n_sessions + 1)
        ]
    planned = sum(map(sum, lengths))
    if planned != n_trials:
        raise CorruptFileError(
            f"{path} names {n_trials} trials; {subject} has {planned}, in "
            f"{sum(map(len, lengths))} runs. The file is truncated or of another person."
        )
    parts = [
        np.tile([session, run], (length, 1))
        for session, runs in enumerate(lengths, start=1)
        for run, length in enumerate(runs, start=1)
    ]
    return np.concatenate(parts)


def _simulated_runs(root: Path, subject: str) -> list[list[int]] | None:
    """Return the trials of each run by session of a simulated person; None for real data."""
    content = read_simulation(root)
    if content is None:
        return None
    try:
        lengths: list[list[int]] = content["trials_per_run"][subject]
    except (KeyError, TypeError) as error:
        raise CorruptFileError(
            f"The simulated data in {root} do not tell the runs of {subject} ({error!r}): they are "
            "of another layout than BOLD5000's."
        ) from error
    return lengths


def _source(
    root: Path, subject: str, trs: Sequence[str], path: Path, n_trials: int
) -> "RegionFiles":
    """Find the files of the TRs, and check them against the list of stimuli and each other."""
    folder = root / "ROIs" / subject
    files = [_region_file(folder, subject, tr) for tr in trs]
    widths: dict[str, int] = {}
    for file in files:
        shapes = _shapes(file)
        missing = [key for key in KEYS if key not in shapes]
        if missing:
            raise CorruptFileError(
                f"{file} lacks {listed(missing)}: it is not of BOLD5000's regions, or damaged."
            )
        for key in KEYS:
            if len(shapes[key]) != 2 or shapes[key][0] != n_trials:
                raise CorruptFileError(
                    f"{file}: {key} has shape {shapes[key]}, where {path.name} names {n_trials} "
                    "trials. The file is truncated or of another person."
                )
            if widths.setdefault(key, shapes[key][1]) != shapes[key][1]:
                raise CorruptFileError(
                    f"{file}: {key} has {shapes[key][1]} voxels; {files[0].name} has {widths[key]}."
                )
    return RegionFiles(files, {key: widths[key] for key in KEYS}, n_trials)


def _region_file(folder: Path, subject: str, tr: str) -> Path:
    """Return the file of one TR; HDF5 goes first, being read in part."""
    names = [folder / kind / f"{subject}_ROIs_TR{tr}.{kind}" for kind in ("h5", "mat")]
    present = [path for path in names if is_file(path)]
    if not present:
        raise MissingFileError(
            f"The regions of {subject} in TR{tr} are missing: expected {names[0]} or {names[1]}. "
            "Unpack BOLD5000_ROIs.zip of release 1, or choose other TRs (trs=)."
        )
    return present[0]


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the arrays in a file, which is not read."""
    kind = "HDF5" if path.suffix == ".h5" else "a MATLAB file"
    # The MATLAB reader raises many kinds on a damaged file.
    with reading(path, f"cannot be read as {kind} of regions", mend=MEND, also=[Exception]):
        if path.suffix == ".h5":
            with h5py.File(path, "r") as file:
                return {key: tuple(file[key].shape) for key in file if key in KEYS}
        from scipy.io import whosmat

        return {name: tuple(shape) for name, shape, _ in whosmat(path)}


def _read_regions(path: Path, keys: Sequence[str]) -> dict[str, NDArray[Any]]:
    if path.suffix != ".h5":
        content = read_mat(path, "A file of regions", keys, MEND)
        return {key: content[key] for key in keys}
    with (
        reading(path, "cannot be read as HDF5 of regions", mend=MEND, also=[KeyError]),
        h5py.File(path, "r") as file,
    ):
        return {key: np.asarray(file[key]) for key in keys}


class RegionFiles(Source):
    """The regions of several files side by side, averaged over the files.

    Parameters
    ----------
    files : sequence of path
        Files of one TR each, with the same regions.
    widths : mapping of str to int
        Voxels of each region, in the order of the columns.
    n_trials : int
    """

    def __init__(self, files: Sequence[Path], widths: Mapping[str, int], n_trials: int) -> None:
        self.files, self.widths = tuple(files), dict(widths)
        self.shape = (n_trials, sum(self.widths.values()))

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Average the chosen trials and voxels over the files, in double precision."""
        wanted = np.arange(self.shape[1]) if columns is None else np.asarray(columns)
        ends = np.cumsum(list(self.widths.values()))
        owner = np.searchsorted(ends, wanted, side="right")
        here = {
            key: np.flatnonzero(owner == number)
            for number, key in enumerate(self.widths)
            if (owner == number).any()
        }
        starts = dict(zip(self.widths, ends - list(self.widths.values()), strict=True))
        n_rows = self.shape[0] if rows is None else len(rows)
        total = np.zeros((n_rows, len(wanted)))
        for path in self.files:
            for key, values in _read_regions(path, list(here)).items():
                trials = values if rows is None else values[rows]
                total[:, here[key]] += trials[:, wanted[here[key]] - starts[key]]
        return (total / len(self.files)).astype(np.float32)


def _units(widths: Mapping[str, int]) -> pd.DataFrame:
    """Return a row a voxel: its region and hemisphere, and the masks of the regions."""
    region = np.repeat([key[2:] for key in widths], list(widths.values()))
    side = np.repeat([key[:2].lower() for key in widths], list(widths.values()))
    one = {key: (region == key[2:]) & (side == key[:2].lower()) for key in widths}
    both = {name: region == name for name in REGIONS}
    table = pd.DataFrame({"region": region, "hemisphere": side})
    return pd.concat([table, roi_table({**one, **both})], axis=1)
