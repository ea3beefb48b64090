"""What an encoder may need to know beyond features and responses: bands, regions, embeddings.

An estimator that needs some of it has a method ``set_context(context)``, which fills in parameters
that were left out; the others are left alone.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from brainkit.data.recording import Recording


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
    """

    bands: tuple[int, ...] = ()
    regions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)
    subject: str | None = None
    known_as: tuple[str, ...] = ()


def context_of(recording: Recording, space: Any, usable: NDArray[np.bool_]) -> FitContext:
    """Describe the usable units of a recording, and the features of a fitted space.

    Parameters
    ----------
    recording : Recording
    space : transformer
        Fitted; a stack of several spaces knows their widths.
    usable : bool array (n_units,)
        The units that are targets.
    """
    masks = {name: recording.roi_mask(name)[usable] for name in recording.region_names}
    return FitContext(
        bands=tuple(getattr(space, "widths_", ())),
        regions={name: mask for name, mask in masks.items() if mask.any()},
        subject=recording.subject,
        known_as=names_of(recording),
    )


def names_of(recording: Recording) -> tuple[str, ...]:
    """Return the names by which a network may say that it learned from a recording's subject.

    ``CARD/SUBJECT``, that of `simulated_name` for one of a simulated world, and the subject alone,
    for a network that was not told of which dataset its subjects are.
    """
    names = [recording.subject]
    if recording.info.get("card"):
        names.insert(0, f"{recording.info['card']}/{recording.subject}")
    given = recording.info.get("simulated")
    simulated = given if isinstance(given, Mapping) else {}
    world = simulated.get("world")
    number = re.search(r"\d+$", recording.subject)
    if isinstance(world, Mapping) and "seed" in world and number:
        brain = simulated.get("brain")
        version = brain.get("version", 1) if isinstance(brain, Mapping) else 1
        names.insert(0, simulated_name(world["seed"], int(number[0]), version))
    return tuple(names)


def simulated_name(seed: int, subject: int, brain: int = 1) -> str:
    """Return the name of a simulated subject: another for each version of the simulated brain.

    Parameters
    ----------
    seed : int
        Of the world.
    subject : int
    brain : int, default=1
        Version of the brain.
    """
    version = "" if brain == 1 else f"brain-{brain}/"
    return f"world-{seed}/{version}subject-{subject}"


def tell(model: Any, context: FitContext) -> Any:
    """Give an estimator the context, if it asks for one, and return it."""
    if hasattr(model, "set_context"):
        model.set_context(context)
    return model
