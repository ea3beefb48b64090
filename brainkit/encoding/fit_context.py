"""What an encoder may need to know beyond features and responses: bands, regions, embeddings.

An estimator that needs some of it has a method ``set_context(context)``, which fills in parameters
that were left out; the others are left alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.data.recording import Recording
from brainkit.data.simulation import names_of


@dataclass(frozen=True)
class FitContext:
    """What is known of the columns of X and Y that an encoder is fitted to.

    Attributes
    ----------
    bands : tuple of int
        Number of features of each feature space, in the order of their columns.
    regions : mapping of str to bool array (n_targets,)
        Which targets are in which region; only regions that have some.
    subject : str or None
        Whose responses they are.
    known_as : tuple of str
        The names by which a network may say that it learned from that subject, see `names_of`.
    space : transformer or None
        The fitted feature space, for models that look at other stimuli of the same file.
    held_out : array of int or None
        Rows of the recording that the fold tests, which tell it from the other folds.
    """

    bands: tuple[int, ...] = ()
    regions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    subject: str | None = None
    known_as: tuple[str, ...] = ()
    space: Any = None
    held_out: NDArray[np.int64] | None = None


def context_of(
    recording: Recording, space: Any, usable: NDArray[np.bool_], held_out: Any = None
) -> FitContext:
    """Describe the usable targets of a recording, and the features of a fitted space.

    Parameters
    ----------
    recording : Recording
    space : transformer
        Fitted; a stack of several spaces knows their widths.
    usable : bool array (n_units × n_times,)
        What is fitted: units, or time points of units, time running fastest.
    held_out : array of int, optional
        Rows of the recording that the fold tests.
    """
    n_times = len(usable) // len(recording.units)
    masks = {
        name: np.repeat(recording.roi_mask(name), n_times)[usable]
        for name in recording.region_names
    }
    return FitContext(
        bands=tuple(getattr(space, "widths_", ())),
        regions={name: mask for name, mask in masks.items() if mask.any()},
        subject=recording.subject,
        known_as=names_of(recording),
        space=space,
        held_out=held_out,
    )


def tell(model: Any, context: FitContext) -> Any:
    """Give an estimator the context, if it asks for one, and return it."""
    if hasattr(model, "set_context"):
        model.set_context(context)
    return model
