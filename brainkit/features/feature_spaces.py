"""Feature spaces that hold others or ready features: what they read, remember and scale."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.utils.validation import check_is_fitted

from brainkit.arrays.array_likes import as_array
from brainkit.arrays.digest import content_digest
from brainkit.data.stimuli import Stimuli
from brainkit.data.text import as_names, as_texts
from brainkit.errors import InputError, listed
from brainkit.features.reduction import feature_array, principal_axes

# -- what feature spaces read of stimuli and remember of them, also where they wrap other spaces ---
#
# A space reads the stimuli themselves, or something that is said of them. A space that reads
# something else has an attribute ``reads``, a name for it, and a method ``read(stimuli, rows)``
# that returns it; `fit` and `transform` are then given that in place of the stimuli. Spaces that
# wrap others read what those read, and a stack gives each of its spaces its own.
#
# `Remembered` keeps the features of stimuli already seen, `RememberedFits` what was fitted to the
# same stimuli.


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


# -- feature spaces on scales learnt from the training stimuli, side by side, and fewer of them ----
#
# Every scaled space has a total training variance of 1, so that spaces of any size weigh the same
# side by side and one range of penalties fits them all.


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


# -- features that are ready: computed elsewhere, looked up by stimulus ----------------------------


class Precomputed(TransformerMixin, BaseEstimator):
    """Features of your own, a row a stimulus, in place of a space that computes them.

    ``assess_encoder(recording, values, model, protocol)`` takes an array or a table as it is and
    makes one of these; in a stack, name it yourself.

    Parameters
    ----------
    values : array (n_stimuli, n_features) or DataFrame
        A DataFrame's index names the stimuli by their ids, unless it merely counts them.
    ids : array (n_stimuli,), optional
        Ids of the stimuli that the rows belong to, as in ``stimuli.ids``. Where not given, row i
        belongs to stimulus i of the recording.

    Examples
    --------
    >>> import numpy as np
    >>> from brainkit import Stimuli
    >>> from brainkit.features import Precomputed, read_for
    >>> space = Precomputed(np.array([[1.0], [2.0], [3.0]]), ids=["a", "b", "c"])
    >>> stimuli = Stimuli(np.zeros((2, 4, 4)), ids=["c", "a"])
    >>> space.fit_transform(read_for(space, stimuli, [0, 1])).tolist()
    [[3.0], [1.0]]
    """

    def __init__(self, values: Any, ids: Any = None) -> None:
        self.values = values
        self.ids = ids

    @property
    def reads(self) -> str:
        """A name of this table: spaces of one stack that read other tables read something else."""
        return f"table {id(self.values)}"

    def read(self, stimuli: Stimuli, rows: ArrayLike) -> NDArray[np.float32]:
        """Return the features of stimuli by row, (n, n_features).

        Raises
        ------
        InputError
            If the features are no table of finite numbers in single precision, or lack a stimulus.
        """
        values, ids = self._checked()
        wanted = np.asarray(rows)
        if ids is None:
            if len(values) != len(stimuli):
                raise InputError(
                    f"There are features of {len(values)} stimuli and {len(stimuli)} stimuli: give "
                    "a row for each, or ids that say which stimulus each row belongs to."
                )
            return values[wanted]
        place = {name: number for number, name in enumerate(ids.tolist())}
        names = stimuli.ids[wanted].tolist()
        lacking = [name for name in names if name not in place]
        if lacking:
            raise InputError(
                f"There are no features for {len(lacking)} stimuli, with ids {listed(lacking)}."
            )
        return values[[place[name] for name in names]]

    def _checked(self) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        ids = self.ids
        if ids is None and isinstance(self.values, pd.DataFrame):
            index = self.values.index
            ids = None if index.equals(pd.RangeIndex(len(index))) else index
        with np.errstate(over="ignore"):
            array = np.asarray(feature_array(self.values), dtype=np.float32)
        if not np.isfinite(array).all():
            raise InputError(
                "Features that are ready hold NaN or infinity, or exceed single precision "
                "(3.4e38): mend those rows, or divide by their scale, first."
            )
        if ids is None:
            return array, None
        names = as_names(ids)
        if len(names) != len(array) or len(np.unique(names)) != len(names):
            raise InputError(
                f"ids must name each of the {len(array)} rows of features once; got {len(names)}, "
                f"{len(np.unique(names))} of them different."
            )
        return array, names

    def fit(self, values: Any, y: None = None) -> Self:
        """Do nothing."""
        return self

    def transform(self, values: Any) -> NDArray[np.float32]:
        """Return the features that `read` gave."""
        return np.asarray(values, dtype=np.float32)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_clone__(self) -> "Precomputed":
        return Precomputed(self.values, self.ids)  # the table is not copied


def as_features(features: Any) -> Any:
    """Return a feature space as it is, and an array or a table as `Precomputed`.

    Raises
    ------
    InputError
        If it is neither, such as a class, a dict, or a sparse or masked array.
    """
    if hasattr(features, "fit") and not isinstance(features, type):  # tables have a transform too
        return features
    as_array(features, "The features (a feature space, or a table, a row a stimulus)")
    return Precomputed(features)
