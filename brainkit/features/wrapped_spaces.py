"""What feature spaces read of stimuli and remember of them, also where they wrap other spaces.

A space reads the stimuli themselves, or something that is said of them. A space that reads
something else has an attribute ``reads``, a name for it, and a method ``read(stimuli, rows)`` that
returns it; `fit` and `transform` are then given that in place of the stimuli. Spaces that wrap
others read what those read, and a stack gives each of its spaces its own.

`Remembered` keeps the features of stimuli already seen, `RememberedFits` what was fitted to the
same stimuli.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone

from brainkit.arrays.digest import content_digest
from brainkit.data.dependence import Rows, dependence
from brainkit.data.recording import Recording
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


def dependent_rows(
    recording: Recording, protocol: Any, spaces: Sequence[Any], *, among: ArrayLike | None = None
) -> Rows:
    """Say which rows of a recording are independent, looking at what models see where needed.

    Parameters
    ----------
    recording : Recording
    protocol : object
        A protocol with ``split``, ``resample``, and ``seeds`` or ``seed``.
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
