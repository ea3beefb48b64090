"""What a feature space reads of stimuli: the stimuli themselves, or something that is said of them.

A space that reads something else has an attribute ``reads``, a name for it, and a method
``read(stimuli, rows)`` that returns it; `fit` and `transform` are then given that in place of the
stimuli. Spaces that wrap others read what those read, and a stack gives each of its spaces its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import clone

from brainkit.data.dependence import Rows, dependence
from brainkit.data.recording import Recording
from brainkit.data.stimuli import Stimuli

STIMULI = "stimuli"


@dataclass(frozen=True)
class SideBySide:
    """What the spaces of a stack read of the same stimuli, in their order.

    Attributes
    ----------
    parts : tuple
        One for each space, of equal lengths.
    """

    parts: tuple[Any, ...]

    def __len__(self) -> int:
        return len(self.parts[0])


def reads(space: Any) -> str:
    """Return the name of what a feature space reads; ``"stimuli"`` for most."""
    return str(getattr(space, "reads", STIMULI))


def read_for(space: Any, stimuli: Stimuli, rows: ArrayLike) -> Any:
    """Read what a feature space takes of some stimuli.

    Parameters
    ----------
    space : transformer
    stimuli : Stimuli
    rows : array of int (n,)

    Returns
    -------
    array (n, ...) or SideBySide
        What the space's `fit` and `transform` take.
    """
    return space.read(stimuli, rows) if hasattr(space, "read") else stimuli.read(rows)


def dependent_rows(
    recording: Recording, protocol: Any, spaces: Sequence[Any], *, among: ArrayLike | None = None
) -> Rows:
    """Say which rows of a recording are independent, looking at what models see where needed.

    Parameters
    ----------
    recording : Recording
    protocol : object
        With ``split``, ``resample``, and ``seeds`` or ``seed``.
    spaces : sequence of transformers
        All feature spaces that take part. Where responses change slowly a clone of each is fitted
        on the stimuli of the first training part.
    among : array of int, optional
        Rows of the stimuli that spaces may be asked for, such as those that are used at all; other
        trials count as average ones. All where not given.

    Returns
    -------
    Rows
    """
    plain = dependence(recording, protocol.resample)
    stimuli = recording.stimuli
    if protocol.resample != "auto" or plain.facts["independent"] != "stimulus" or stimuli is None:
        return plain
    seed = getattr(protocol, "seed", None)

    def look(space: Any, rows: ArrayLike) -> Any:
        fold = recording.split(
            protocol.split, seed=protocol.seeds[0] if seed is None else seed
        ).folds[0]
        fitted, asked = clone(space), np.asarray(rows)
        train = np.unique(plain.shown[fold.rows["train"]])
        inside = np.ones(len(asked), dtype=bool)
        if among is not None:
            train, inside = np.intersect1d(train, among), np.isin(asked, among)
        if not inside.any():
            return np.zeros((len(asked), 1))  # nothing is known to be slow
        fitted.fit(read_for(fitted, stimuli, train))
        seen = np.asarray(fitted.transform(read_for(fitted, stimuli, asked[inside])))
        values = np.repeat(seen.mean(axis=0, keepdims=True), len(asked), axis=0)
        values[inside] = seen
        return values

    return dependence(recording, "auto", features=[partial(look, space) for space in spaces])


class ReadsAsInner:
    """A space around another one, ``self.space``, whose reading it does."""

    space: Any

    @property
    def reads(self) -> str:
        """What the inner space reads."""
        return reads(self.space)

    def read(self, stimuli: Stimuli, rows: ArrayLike) -> Any:
        """Read what the inner space takes of some stimuli."""
        return read_for(self.space, stimuli, rows)
