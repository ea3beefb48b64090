"""Feature spaces on scales learnt from the training stimuli, side by side, and fewer of them.

Every scaled space has a total training variance of 1, so that spaces of any size weigh the same
side by side and one range of penalties fits them all.
"""

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from brainkit.data.stimuli import Stimuli
from brainkit.errors import InputError
from brainkit.features.pixels import principal_axes
from brainkit.features.wrapped_spaces import ReadsAsInner, SideBySide, read_for, reads

Float = NDArray[np.float32]
ROUNDING = 1e-6  # deviation of a constant column, as a share of its largest value


class SingleSpace(ReadsAsInner, TransformerMixin, BaseEstimator):
    """Features on the scale of the training stimuli.

    Parameters
    ----------
    space : transformer
        Transformer from stimuli to features.
    scale : {"feature", "space"}
        Give every feature the same training variance, 1 / n_features, or divide the whole space by
        the root of its total variance, which keeps the features' relative sizes.

    Attributes
    ----------
    mean_, scale_ : array (n_features,)
        Training statistics; a feature that is constant in training is only centred.
    """

    def __init__(self, space: Any, scale: str = "feature") -> None:
        self.space = space
        self.scale = scale

    def fit(self, stimuli: Any, y: None = None) -> Self:
        """Fit the space and the scale on the training stimuli."""
        self.fit_transform(stimuli)
        return self

    def fit_transform(self, stimuli: Any, y: None = None) -> Float:
        """Fit, and return the training stimuli's features, computed once."""
        if self.scale not in ("feature", "space"):
            raise InputError(f"scale must be 'feature' or 'space'; got {self.scale!r}.")
        values = self.space.fit(stimuli).transform(stimuli)
        self.mean_ = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        spread = values.std(axis=0, dtype=np.float64)
        spread[spread <= ROUNDING * np.abs(values).max(axis=0)] = 0  # constant, in any unit
        if self.scale == "space":
            spread = np.full_like(spread, np.sqrt(np.sum(spread**2)))
        else:
            spread *= np.sqrt(len(spread))
        self.scale_ = np.where(spread > 0, spread, 1.0).astype(np.float32)
        return (values - self.mean_) / self.scale_

    def transform(self, stimuli: Any) -> Float:
        """Return the features of any stimuli, with the training statistics."""
        check_is_fitted(self, "mean_")
        return (self.space.transform(stimuli) - self.mean_) / self.scale_


class FeatureStack(TransformerMixin, BaseEstimator):
    """Feature spaces side by side.

    Parameters
    ----------
    spaces : sequence of transformers
        Each from stimuli to (n, features), such as `SingleSpace`. Where they do not all read the
        same of the stimuli (images, captions), the stack takes what `read` gives.

    Attributes
    ----------
    widths_ : list of int
        Number of features of each space.
    """

    def __init__(self, spaces: Sequence[Any]) -> None:
        self.spaces = spaces

    @property
    def reads(self) -> str:
        """What the spaces read, each thing named once."""
        return " and ".join(dict.fromkeys(reads(space) for space in self.spaces))

    def read(self, stimuli: Stimuli, rows: ArrayLike) -> Any:
        """Read what the spaces take of some stimuli, each thing once.

        Returns
        -------
        array or SideBySide
            What all spaces read, or what each does where they differ.
        """
        by_kind: dict[str, Any] = {}
        for space in self.spaces:
            if reads(space) not in by_kind:
                by_kind[reads(space)] = read_for(space, stimuli, rows)
        parts = tuple(by_kind[reads(space)] for space in self.spaces)
        return parts[0] if len(by_kind) == 1 else SideBySide(parts)

    def fit(self, stimuli: Any, y: None = None) -> Self:
        """Fit every space on the training stimuli."""
        self.fit_transform(stimuli)
        return self

    def fit_transform(self, stimuli: Any, y: None = None) -> Float:
        """Fit every space and return the training stimuli's features."""
        if not self.spaces:
            raise InputError("A FeatureStack needs at least one feature space.")
        pairs = zip(self.spaces, self._by_space(stimuli), strict=True)
        parts = [space.fit_transform(stimuli_of) for space, stimuli_of in pairs]
        self.widths_ = [part.shape[1] for part in parts]
        return np.concatenate(parts, axis=1)

    def transform(self, stimuli: Any) -> Float:
        """Return the features of any stimuli, (n, sum of features)."""
        check_is_fitted(self, "widths_")
        pairs = zip(self.spaces, self._by_space(stimuli), strict=True)
        return np.concatenate([space.transform(stimuli_of) for space, stimuli_of in pairs], axis=1)

    def _by_space(self, stimuli: Any) -> Sequence[Any]:
        """Return what each space is given."""
        if not isinstance(stimuli, SideBySide):
            if len({reads(space) for space in self.spaces}) > 1:
                raise InputError(
                    f"This stack reads {self.reads}, so that one array is not enough: give it what "
                    "read_for(stack, stimuli, rows) returns."
                )
            return [stimuli] * len(self.spaces)
        if len(stimuli.parts) != len(self.spaces):
            raise InputError(
                f"This stack has {len(self.spaces)} feature spaces and was given what "
                f"{len(stimuli.parts)} read."
            )
        return stimuli.parts


class PrincipalSpace(ReadsAsInner, TransformerMixin, BaseEstimator):
    """The leading principal components of another space's features, by their training variance.

    For spaces with more features than a ridge needs: what is cut off has so little variance that
    the penalty would remove it.

    Parameters
    ----------
    space : transformer
        Transformer from stimuli to features.
    n_components : int, default=1000
        Components to keep; all where the training stimuli's features vary in fewer directions.

    Attributes
    ----------
    mean_ : array (n_features,)
    components_ : array (n_components, n_features)
        Orthonormal axes.
    kept_variance_ : float
        Share of the training variance that is kept.
    """

    def __init__(self, space: Any, n_components: int = 1000) -> None:
        self.space = space
        self.n_components = n_components

    def fit(self, stimuli: Any, y: None = None) -> Self:
        """Fit the space and the components on the training stimuli."""
        self.fit_transform(stimuli)
        return self

    def fit_transform(self, stimuli: Any, y: None = None) -> Float:
        """Fit, and return the training stimuli's components."""
        if self.n_components < 1:
            raise InputError(f"n_components must be at least 1; got {self.n_components}.")
        values = self.space.fit_transform(stimuli)
        self.mean_ = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        centred = values - self.mean_
        n_kept = min(self.n_components, values.shape[1], max(len(values) - 1, 1))
        self.components_, variances = principal_axes(centred, n_kept)
        if not len(self.components_):
            raise InputError(
                f"The features of the {len(values)} training stimuli are all the same, so they "
                "have no principal components."
            )
        total = float(centred.var(axis=0, ddof=1, dtype=np.float64).sum())
        self.kept_variance_ = float(variances.sum(dtype=np.float64)) / total
        return centred @ self.components_.T  # (n, n_components)

    def transform(self, stimuli: Any) -> Float:
        """Return the components of any stimuli, (n, n_components)."""
        check_is_fitted(self, "mean_")
        return (self.space.transform(stimuli) - self.mean_) @ self.components_.T
