"""Handwritten sixes and nines (van Gerven, de Lange and Heskes, 2010), one person, 100 trials.

``69digits.mat`` holds the betas X (100, 3092), the images I (100, 784, column-major 28 × 28
uint8), the classes Y (1 = six, 2 = nine), thirteen masks on a 110 × 110 × 37 grid and an anatomy.
Column v of X is the v-th non-zero voxel of the first mask in *Fortran* order. The file has no
affine, so maps are in voxel units.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.array_likes import inside, whole_numbers
from brainkit.arrays.files import read_mat, require_file
from brainkit.arrays.sources import Memory
from brainkit.data.from_nifti import unit_table
from brainkit.data.recording import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.data.units import VolumeSpace, roi_table
from brainkit.errors import CorruptFileError, listed, unknown_name

OPTIONS = ()
FILE = "69digits.mat"
VARIABLES = ("X", "Y", "I", "masks", "funloc", "structural")
SIDE = 28
CLASSES = {1: "six", 2: "nine"}
SUBJECT = "s1"


def subjects(root: Path) -> list[str]:
    """Return the one subject."""
    require_file(root / FILE, "The digits69 recording")
    return [SUBJECT]


def load(root: str | Path, subject: str | int = SUBJECT) -> Recording:
    """Load the recording: 100 trials × 3,092 voxels, ROIs V1d … V3v of both hemispheres and each.

    Parameters
    ----------
    root : path
        The folder that holds ``69digits.mat``.
    subject : str or int, default="s1"
        The only subject.

    Raises
    ------
    MissingFileError, CorruptFileError, UnknownNameError
        If the file is missing or damaged, or another subject is asked for.
    """
    if str(subject) not in (SUBJECT, "1"):
        raise unknown_name("subject", subject, [SUBJECT])
    content = read_mat(
        Path(root) / FILE,
        "The digits69 recording",
        VARIABLES,
        "fetch it again with 'brainkit download digits69'",
    )
    masks = {
        str(name.ravel()[0]).removesuffix(".nii"): _inside(mask, str(name.ravel()[0]))
        for name, mask in zip(content["funloc"].ravel(), content["masks"].ravel(), strict=True)
    }
    inside = masks.pop("primary")
    i, j, k = np.unravel_index(np.flatnonzero(inside.ravel(order="F")), inside.shape, order="F")
    voxels = np.ravel_multi_index((i, j, k), inside.shape)
    betas = content["X"]
    if betas.shape[1] != len(voxels):
        raise CorruptFileError(
            f"{FILE} holds {betas.shape[1]} voxels but its first mask {len(voxels)}."
        )
    flat = {name: mask.ravel()[voxels] for name, mask in masks.items()}
    areas = sorted({name.split(".")[1] for name in flat})
    both = {area: flat[f"lh.{area}"] | flat[f"rh.{area}"] for area in areas}
    images = content["I"].reshape(len(betas), SIDE, SIDE, order="F")
    classes = _classes(content["Y"])
    grid = (inside.shape[0], inside.shape[1], inside.shape[2])
    return Recording.from_source(
        Memory(betas),
        subject=SUBJECT,
        trials=pd.DataFrame(
            {"stimulus": np.arange(len(betas)), "label": classes, "session": 1, "run": 1}
        ),
        units=pd.concat([unit_table(voxels, grid), roi_table({**both, **flat})], axis=1),
        stimuli=Stimuli(images, table=pd.DataFrame({"category": classes})),
        space=VolumeSpace(grid, np.eye(4), voxels, content["structural"]),
        info={
            "measure": "beta estimates of the authors' GLM",
            "affine": "voxel indices",
            "order": "sorted by class, not in time",
        },
    )


def _inside(mask: NDArray[Any], name: str) -> NDArray[np.bool_]:
    return inside(mask, f"The mask {name} of {FILE}")


def _classes(codes: NDArray[Any]) -> list[str]:
    numbers = whole_numbers(codes.ravel(), f"The classes Y of {FILE}").tolist()
    unknown = sorted(set(numbers) - set(CLASSES))
    if unknown:
        raise CorruptFileError(f"{FILE} holds the classes {listed(unknown)}; expected 1 and 2.")
    return [CLASSES[number] for number in numbers]
