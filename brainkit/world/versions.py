"""The versions of the simulated brain; this is the one place that knows which parts make which.

A version is committed, equations and constants, before any encoder runs on it, and never changes
after: a better or a harder brain is a new version.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from brainkit.errors import unknown_name
from brainkit.world import first_brain, second_brain
from brainkit.world.anatomy import Anatomy
from brainkit.world.measurement import Measurement
from brainkit.world.tuning import FloatArray, Senses, Tuning

if TYPE_CHECKING:
    from brainkit.world.population import Population


@dataclass(frozen=True, slots=True)
class BrainVersion:
    """What a version of the simulated brain is made of.

    Attributes
    ----------
    senses : callable
        Takes the reference set's images and content, ``gate`` and ``seed``; gives `Senses`.
    tuning : callable
        Takes a subject's units, the population and the subject; gives `Tuning`.
    measurement : callable
        Takes ceilings, anatomy, subject and seed; gives `Measurement`.
    output : callable
        Takes drives (n_scenes, n_voxels) to what the blood-oxygen signal is linear in.
    """

    senses: Callable[..., Senses]
    tuning: Callable[[pd.DataFrame, "Population", int], Tuning]
    measurement: Callable[[FloatArray, Anatomy, int, int], Measurement]
    output: Callable[[npt.NDArray[np.float64]], npt.NDArray[np.float64]]


VERSIONS: Final = {
    1: BrainVersion(
        first_brain.FirstSenses,
        first_brain.FirstTuning.draw,
        first_brain.FirstMeasurement.draw,
        first_brain.first_output,
    ),
    2: BrainVersion(
        second_brain.SecondSenses,
        second_brain.SecondTuning.draw,
        second_brain.SecondMeasurement.draw,
        second_brain.second_output,
    ),
}


def brain_version(version: int) -> BrainVersion:
    """Return the parts of a version.

    Raises
    ------
    UnknownNameError
        If there is no such version.
    """
    if version not in VERSIONS:
        raise unknown_name(
            "version of the simulated brain", version, [str(number) for number in VERSIONS]
        )
    return VERSIONS[version]
