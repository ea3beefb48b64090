"""Remember the features of images already seen, for spaces without a fitted part."""

import hashlib
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone

Float = NDArray[np.float32]


class Remembered(TransformerMixin, BaseEstimator):
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
        settings = sorted(self.space.get_params().items())
        header = f"{type(self.space)}{settings}{stimuli.dtype}{stimuli.shape[1:]}".encode()
        keys = [
            hashlib.blake2b(header + item.tobytes(), digest_size=16).digest() for item in stimuli
        ]
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
