"""What feature spaces read of stimuli and remember of them, also where they wrap other spaces.

A space reads the stimuli themselves, or something that is said of them. A space that reads
something else has an attribute ``reads``, a name for it, and a method ``read(stimuli, rows)`` that
returns it; `fit` and `transform` are then given that in place of the stimuli. Spaces that wrap
others read what those read, and a stack gives each of its spaces its own.

`Remembered` keeps the features of stimuli already seen, `RememberedFits` what was fitted to the
same stimuli.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone

from brainkit.arrays.digest import content_digest
from brainkit.data.stimuli import Stimuli
from brainkit.data.text import as_texts

STIMULI = "stimuli"
Float = NDArray[np.float32]
Fitted = dict[str, Any]  # attributes by name


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


class Remembered(ReadsAsInner, TransformerMixin, BaseEstimator):
    """A stateless feature space that computes each distinct stimulus once.

    Stimuli are told apart by their content, and kept with the space's parameters. Clones share
    what is remembered, which changes no result since the space has nothing to fit; it is not
    saved.

    Parameters
    ----------
    space : transformer
        A space whose `fit` does nothing, such as `OrientedEnergy`.
    """

    def __init__(self, space: Any) -> None:
        self.space = space
        self._rows: dict[bytes, int] = {}
        self._values: list[Float] = []

    def __sklearn_clone__(self) -> "Remembered":
        twin = Remembered(clone(self.space))
        twin._rows, twin._values = self._rows, self._values
        return twin

    def forget(self) -> None:
        """Drop what is remembered, here and in all clones."""
        self._rows.clear()
        self._values.clear()

    def fit(self, stimuli: NDArray[Any], y: None = None) -> Self:
        """Do nothing."""
        return self

    def transform(self, stimuli: NDArray[Any]) -> Float:
        """Return the features, computing only those of stimuli not seen before."""
        stimuli = np.ascontiguousarray(stimuli)
        texts = stimuli.dtype.kind in "OSUT"  # whose type says how long the longest is
        form = "text" if texts else f"{stimuli.dtype}{stimuli.shape[1:]}"
        header = f"{content_digest(self.space)}{form}".encode()
        contents = (
            (text.encode() for text in as_texts(stimuli.tolist()))
            if texts
            else (item.tobytes() for item in stimuli)
        )
        keys = [hashlib.blake2b(header + content, digest_size=16).digest() for content in contents]
        fresh = {key: number for number, key in enumerate(keys) if key not in self._rows}
        if fresh:
            values = self.space.transform(stimuli[list(fresh.values())])
            for key, value in zip(fresh, values, strict=True):
                self._rows[key] = len(self._values)
                self._values.append(value)
        if not keys:
            return np.asarray(self.space.transform(stimuli))
        return np.stack([self._values[self._rows[key]] for key in keys])

    def __sklearn_is_fitted__(self) -> bool:
        return True


class RememberedFits:
    """What estimators of equal settings found when they were fitted to the same stimuli.

    An estimator that takes long to fit keeps one and shares it with its clones. What is remembered
    is told apart by the estimator's class and parameters and by the content of the stimuli, so that
    no result changes; it is not saved.
    """

    def __init__(self) -> None:
        self._fits: dict[bytes, Fitted] = {}

    def fitted(
        self, estimator: Any, stimuli: NDArray[Any], fit: Callable[[NDArray[Any]], Fitted]
    ) -> Fitted:
        """Return what `fit` finds for the stimuli, or what it once found for the same ones."""
        stimuli = np.ascontiguousarray(stimuli)
        kind, settings = str(type(estimator)), sorted(estimator.get_params().items())
        header = f"{content_digest(kind, settings)}{stimuli.dtype}{stimuli.shape}".encode()
        digest = hashlib.blake2b(header, digest_size=16)
        digest.update(stimuli.data)
        key = digest.digest()
        if key not in self._fits:
            self._fits[key] = fit(stimuli)
        return self._fits[key]

    def forget(self) -> None:
        """Drop what is remembered, for all that share it."""
        self._fits.clear()
