"""Ninety-two objects on a plain ground, and fifteen people's dissimilarities in EVC and IT.

The images are those of Kriegeskorte et al. (2008): human and animal bodies and faces, natural and
artificial objects. The RDMs are of the fMRI of Cichy et al. (2016), early visual cortex (EVC) and
inferior temporal cortex (IT). The order of the images is the same in both.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from brainkit.arrays.array_likes import inside
from brainkit.arrays.files import read_mat, reading, require_file
from brainkit.data.dissimilarities import Dissimilarities
from brainkit.data.stimuli import Stimuli
from brainkit.errors import CorruptFileError, unknown_name

OPTIONS = ("ground",)
IMAGES = Path("92imageData/Kriegeskorte_Neuron2008_supplementalData.mat")
BRAIN = Path("cichy92_and_78/nb/brain_data/92images")
WHITE = Path("cichy92_and_78/nb/stimuli_data/92images")
REGIONS = ("EVC", "IT")
N_IMAGES = 92
MEND = "fetch it again with 'brainkit download rsa92'"
N_SUBJECTS = 15

Ground = Literal["grey", "white"]


def load_dissimilarities(root: str | Path, ground: Ground = "grey") -> Dissimilarities:
    """Load the images and the RDMs of fifteen people.

    Parameters
    ----------
    root : path
        The folder that holds ``92imageData`` and ``cichy92_and_78``.
    ground : {"grey", "white"}, default="grey"
        The images on mid-grey, as in the study of 2008 and here the default, or on white.

    Returns
    -------
    Dissimilarities
        Regions EVC and IT; stimuli 175 × 175 pixels, with ``category``, ``human``, ``face``,
        ``animal`` and ``natural`` in their table.

    Raises
    ------
    MissingFileError, CorruptFileError, UnknownNameError
        If a file is missing or damaged, or there is no such ground.
    """
    root = Path(root)
    if ground not in ("grey", "white"):
        raise unknown_name("ground", ground, ("grey", "white"))
    images, table = _images(root / IMAGES)
    if ground == "white":
        paths = [root / WHITE / f"image_{i:02d}.jpg" for i in range(1, N_IMAGES + 1)]
        for path in paths:
            require_file(path, "An image on white")
        stimuli = Stimuli.from_files(paths, table=table)
    else:
        stimuli = Stimuli(images, ids=[f"image_{i:02d}" for i in range(1, 93)], table=table)
    return Dissimilarities(
        rdms={name: _rdms(root / BRAIN / f"fmri_{name}_RDMs.npz") for name in REGIONS},
        subjects=tuple(f"sub-{i:02d}" for i in range(1, N_SUBJECTS + 1)),
        stimuli=stimuli,
        info={"measure": "1 − Pearson r of fMRI response patterns", "ground": ground},
    )


def _rdms(path: Path) -> NDArray[np.float64]:
    require_file(path, "The people's RDMs")
    with (
        reading(path, "cannot be read as an array of NumPy", mend=MEND),
        np.load(path, allow_pickle=False) as content,
    ):
        (name,) = content.files
        values: NDArray[np.float64] = content[name].astype(np.float64)
    if values.shape != (N_SUBJECTS, N_IMAGES, N_IMAGES):
        raise _damaged(path, f"its RDMs have shape {values.shape}")
    return values


def _images(path: Path) -> tuple[NDArray[np.uint8], pd.DataFrame]:
    content = read_mat(path, "The 92 images", ["stimuli_92objs"], MEND)
    with reading(
        path,
        "cannot be read as the 92 images",
        mend=MEND,
        also=[LookupError, TypeError, AttributeError],
    ):
        entries: Any = content["stimuli_92objs"][0]
        images = np.stack([entry["image"] for entry in entries]).astype(np.uint8)
        table = pd.DataFrame({"category": [str(entry["category"].item()) for entry in entries]})
        for name in ("human", "face", "animal", "natural"):
            flags = np.array([float(entry[name].item()) for entry in entries])
            table[name] = inside(flags, f"{path.name}: {name}")
    if images.shape[0] != N_IMAGES or images.shape[3:] != (3,):
        raise _damaged(path, f"its images have shape {images.shape}")
    return images, table


def _damaged(path: Path, reason: str) -> CorruptFileError:
    return CorruptFileError(
        f"{path} cannot be read as it should ({reason}): it is truncated or damaged; {MEND}."
    )
