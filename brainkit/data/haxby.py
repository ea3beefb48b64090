"""Eight categories in blocks (Haxby et al., 2001, Science 293:2425), one person, 12 runs.

Layout under the root, that of the example data of PyMVPA: for each run
``haxby2001/sub001/BOLD/task001_run<nnn>`` with ``bold_events.tsv`` (onset, duration, trial_type)
and 121 volumes, 2.5 s apart, as they were measured: ``bold_1slice.nii.gz``, the posterior half of
one axial slice, and ``bold_25mm.nii.gz``, the brain in voxels of 25 mm. The slice's mask is
``mask.nii.gz``, those of the coarse voxels are in ``haxby2001/sub001/masks/25mm``.

A run has one block of each category. By the events of the same person's recording in OpenNeuro's
ds000105 blocks began 12, 48, ..., 264 s after the first volume and lasted 24 s; those of this
layout begin 2.6 s later, on average (1 to 4.5 s), and last 22.5 s, whole volumes. Another 2.5 s,
one volume, make about 5 s from what was shown to what is averaged: that is the default delay here.
"""

from pathlib import Path
from typing import Literal

import pandas as pd

from brainkit.arrays.files import matching, require_file
from brainkit.data.block_averages import average_events, clean_runs
from brainkit.data.from_nifti import read_nifti
from brainkit.data.recording import Recording
from brainkit.errors import CorruptFileError, unknown_name

OPTIONS = ("form", "delay")
SUBJECT = "sub001"
FOLDER = Path("haxby2001") / SUBJECT
TR = 2.5
CATEGORIES = (
    "bottle", "cat", "chair", "face", "house", "scissors", "scrambledpix", "shoe"
)  # fmt: skip
IMAGES = {"slice": "bold_1slice.nii.gz", "whole-brain": "bold_25mm.nii.gz"}
MASKS = {"slice": Path("mask.nii.gz"), "whole-brain": FOLDER / "masks/25mm/brain.nii.gz"}
# Of the coarse voxels; VT is ventral temporal cortex.
ROIS = {"grey": "gray", "white": "white", "VT": "vt"}
COLUMNS = ["onset", "duration", "trial_type"]

Form = Literal["slice", "whole-brain"]


def subjects(root: Path) -> list[str]:
    """Return the one subject."""
    _runs(root)
    return [SUBJECT]


def load_series(root: str | Path, form: Form = "slice") -> Recording:
    """Load the volumes of all runs as they were measured, with the events.

    Parameters
    ----------
    root : path
        The folder that holds ``haxby2001``.
    form : {"slice", "whole-brain"}, default="slice"
        530 voxels of one slice, or the 129 coarse voxels in the brain, with ROIs ``grey``,
        ``white`` and ``VT``.

    Returns
    -------
    Recording
        A series, 1,452 volumes × voxels; its events have `onset`, `duration`, `trial_type`, `run`.

    Raises
    ------
    MissingFileError, CorruptFileError, UnknownNameError
        If a file is missing or damaged, or there is no such form.
    """
    if form not in IMAGES:
        raise unknown_name("form", form, list(IMAGES))
    root = Path(root)
    folders = _runs(root)
    mask = require_file(root / MASKS[form], "The mask of the haxby recording")
    rois = {}
    if form == "whole-brain":
        rois = {name: mask.with_name(f"{stem}.nii.gz") for name, stem in ROIS.items()}
    events = [_events(folder).assign(run=run) for run, folder in enumerate(folders, start=1)]
    return Recording.from_source(
        **read_nifti(
            [folder / IMAGES[form] for folder in folders],
            mask,
            tr=TR,
            events=pd.concat(events, ignore_index=True),
            rois=rois,
            subject=SUBJECT,
            info={"measure": "BOLD signal as it was measured", "form": form},
        )
    )


def load(
    root: str | Path, subject: str | int = SUBJECT, form: Form = "slice", delay: float = 2.5
) -> Recording:
    """Load the blocks as trials: runs detrended and standardised, volumes averaged by block.

    Every run is cleaned by itself (`brainkit.data.block_averages.clean_runs`), of whichever part of
    a split, without its labels: decoders of these trials are transductive.

    Parameters
    ----------
    root : path
        The folder that holds ``haxby2001``.
    subject : str or int, default="sub001"
        The only subject.
    form : {"slice", "whole-brain"}, default="slice"
        See `load_series`.
    delay : float, default=2.5
        Seconds after a block's onset, as this layout's events have it, at which its volumes begin;
        about 5 s after the first picture.

    Returns
    -------
    Recording
        96 trials × voxels, with `label` and `run`.

    Raises
    ------
    MissingFileError, CorruptFileError, UnknownNameError, InputError
        As `load_series`, or if another subject is asked for, or the delay leaves a block without
        volumes.
    """
    if str(subject) not in (SUBJECT, "1"):
        raise unknown_name("subject", subject, [SUBJECT])
    return average_events(clean_runs(load_series(root, form)), delay=delay)


def _runs(root: Path) -> list[Path]:
    """Return the folders of the runs in order."""
    folder = Path(root) / FOLDER / "BOLD"
    runs = matching(folder, "task001_run*")
    if not runs:
        require_file(folder / "task001_run001" / "bold_events.tsv", "The haxby recording")
    return runs


def _events(folder: Path) -> pd.DataFrame:
    """Return the blocks of a run."""
    path = require_file(folder / "bold_events.tsv", "The events of a run of the haxby recording")
    try:
        table = pd.read_csv(path, sep="\t")
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise CorruptFileError(f"{path} is no table of events: {error}.") from error
    if list(table) != COLUMNS or sorted(table["trial_type"].astype(str)) != list(CATEGORIES):
        raise CorruptFileError(
            f"{path} has the columns {list(table)} and {len(table)} events; expected {COLUMNS} and "
            "one block of each of the eight categories."
        )
    return table
