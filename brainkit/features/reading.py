"""What a feature space reads of stimuli: the stimuli themselves, or something that is said of them.

A space that reads something else has an attribute ``reads``, a name for it, and a method
``read(stimuli, rows)`` that returns it; `fit` and `transform` are then given that in place of the
stimuli. Spaces that wrap others read what those read, and a stack gives each of its spaces its own.
"""

from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

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
