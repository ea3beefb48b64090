"""Dissimilarities: what several people's responses say of how different the same stimuli are.

Some data sets are given as representational dissimilarity matrices (RDMs) alone, without the
responses from which they were computed. They are no Recording, which has trials and units.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError, listed, unknown_name
from brainkit.evaluation.rsa import rdm_stack


@dataclass(frozen=True, eq=False)
class Dissimilarities:
    """RDMs of several people over one set of stimuli, by region.

    Attributes
    ----------
    rdms : mapping of str to array (subjects, stimuli, stimuli)
        Dissimilarities by region, in order from early to late; they are checked to be RDMs.
    subjects : tuple of str
        People of every region, in order.
    stimuli : Stimuli
        Stimuli in the order of the RDMs' rows and columns.
    info : dict
        What else is known, such as ``measure``.

    Raises
    ------
    InputError
        If the regions are not of these subjects and stimuli, or hold what is no RDM.
    """

    rdms: Mapping[str, NDArray[np.float64]]
    subjects: tuple[str, ...]
    stimuli: Stimuli
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.rdms:
            raise InputError("Dissimilarities need the RDMs of at least one region; got none.")
        checked = {name: rdm_stack(part, f"region {name}") for name, part in self.rdms.items()}
        expected = (len(self.subjects), len(self.stimuli), len(self.stimuli))
        for name, part in checked.items():
            if part.shape != expected:
                raise InputError(
                    f"The RDMs of region {name} have shape {part.shape}, expected {expected}: "
                    f"{len(self.subjects)} subjects and {len(self.stimuli)} stimuli."
                )
        if len(set(self.subjects)) < len(self.subjects):
            raise InputError(f"Subjects need different names; got {listed(self.subjects)}.")
        object.__setattr__(self, "rdms", checked)

    @property
    def regions(self) -> list[str]:
        """Names of the regions, in order."""
        return list(self.rdms)

    @property
    def described(self) -> str:
        """How large the data are, and what they measure, in a few words."""
        measure = self.info.get("measure", "dissimilarities")
        return f"{len(self.subjects)} people, {len(self.stimuli)} stimuli; {measure}"

    def __getitem__(self, region: str) -> NDArray[np.float64]:
        """Return the RDMs of a region, (subjects, stimuli, stimuli)."""
        if region not in self.rdms:
            raise unknown_name("region", region, self.regions)
        return self.rdms[region]

    def __repr__(self) -> str:
        return (
            f"Dissimilarities({len(self.subjects)} subjects, {len(self.stimuli)} stimuli, "
            f"regions {listed(self.regions)})"
        )
