"""NSD's regions: which label number means which region, and finding one by name.

Label files hold −1 outside cortex (or in the other hemisphere), 0 for unlabelled cortex, and
label numbers from 1. The names come from the subject's ``.mgz.ctab`` table where it is there, and
from the published numbering otherwise.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.files import is_file, matching, read_text
from brainkit.arrays.volumes import read_labels
from brainkit.data.rois import NSD_PARTS
from brainkit.errors import CorruptFileError, unknown_name

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
        With the names that exist.
    """
    folder = root / "nsddata/ppdata" / subject / "func1pt8mm/roi"
    own = folder / f"{name}.nii.gz"
    if is_file(own):
        return np.asarray(read_labels(own, "A ROI file")[0] >= 1)
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
