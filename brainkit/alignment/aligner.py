r"""What every aligner is: people's maps into one shared space, fitted, applied and added to.

Every fixed aligner comes down, for one person, to

.. math:: z = (x - a) F_1 F_2 \cdots + b

for responses x, or to several such products side by side, one a parcel. Applying them and making
torch modules of them is written here once; an aligner says what it learns (`_learn`), how it takes
a new person (`_learn_new`), and what a person's map is (`_map`, `_inverse_map`).
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from brainkit.alignment.common_stimuli import (
    Person,
    Recordings,
    as_recordings,
    common_responses,
    matching_responses,
    own_responses,
    refuse_sealed,
)
from brainkit.arrays.array_likes import as_array
from brainkit.arrays.sources import Float, Index, Source
from brainkit.data.recording import Recording
from brainkit.errors import InputError, listed, unknown_name

if TYPE_CHECKING:
    from brainkit.alignment.frozen import FrozenAlignment

Real = NDArray[np.floating[Any]]
Matrix = Any  # an array, or a sparse array of SciPy


@dataclass(frozen=True)
class Block:
    """A linear map of some columns.

    Attributes
    ----------
    columns : array of int or None
        Which it takes, ascending; all where None.
    factors : tuple of matrix
        From the left: (columns, r), (r, ...), up to (..., dimensions). None is the identity.
    """

    columns: Index | None
    factors: tuple[Matrix, ...]

    def __call__(self, values: Real) -> Real:
        """Map (n, columns) to (n, dimensions)."""
        if self.columns is not None and len(self.columns) < values.shape[1]:
            values = values[:, self.columns]
        for factor in self.factors:
            values = values @ factor
        return values


@dataclass(frozen=True)
class Affine:
    """Blocks side by side, with a shift before and one after.

    Attributes
    ----------
    blocks : tuple of Block
    before : array or None
        Taken off what comes in.
    after : array or None
        Added to what comes out.
    places : array of int or None
        Where the blocks' dimensions stand in what comes out; in their order where None.
    width : int
        Of what comes out, where `places` are given; dimensions of no block are 0.
    """

    blocks: tuple[Block, ...]
    before: Real | None = None
    after: Real | None = None
    places: Index | None = None
    width: int = 0

    @classmethod
    def of(cls, *factors: Matrix, before: Real | None = None, after: Real | None = None) -> Self:
        """Return the map of all columns by one product of factors."""
        return cls((Block(None, factors),), before, after)

    def __call__(self, values: Real) -> Real:
        """Map (n, units) to (n, dimensions)."""
        values = values if self.before is None else values - self.before
        parts = [block(values) for block in self.blocks]
        out = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if self.places is not None:
            placed = np.zeros((len(out), self.width), dtype=out.dtype)
            placed[:, self.places] = out
            out = placed
        return out if self.after is None else out + self.after


class Aligner(BaseEstimator, ABC):  # type: ignore[misc]
    """Person's space ⇄ shared space.

    Attributes
    ----------
    needs_common_stimuli : bool
        Of the class: whether people must have seen the same stimuli (heard the same story).
    needs_responses : bool
        Of the class: whether a person's map is learned from responses, not from where units are.
    aligns : bool
        Of the class: whether a dimension of the shared space means the same in everybody, as all
        models want it but those that tell people apart.
    invertible : bool
        Of the class: whether the shared space leads back to everyone's units.
    n_units_ : dict of str to int
        Units of each person.
    n_samples_ : dict of str to int
        Samples that each person's map was fitted on.
    n_shared_ : int
        Dimensions of the shared space.
    stimuli_ : array of str (n_stimuli,)
        Of aligners that need common stimuli: what those are, by their content.
    """

    needs_common_stimuli: ClassVar[bool] = False
    needs_responses: ClassVar[bool] = True
    aligns: ClassVar[bool] = True
    invertible: ClassVar[bool] = False

    def fit(self, recordings: Recordings, *, forbidden: Any = None) -> Self:
        """Learn each person's map and the shared space.

        Parameters
        ----------
        recordings : mapping of str to Recording, or sequence of Recording
            The training (and align) parts, one a person. Repeats are averaged first, so that every
            stimulus counts once. Common stimuli are found by their content; in continuous
            recordings the same time of the same run is the common stimulus.
        forbidden : Recording, recordings, or array of ids, optional
            The test parts of all people, or ids of their stimuli: none of them may take part.

        Raises
        ------
        LeakError
            If a stimulus of the test parts takes part, with the ids.
        InputError
            If people lack what the aligner needs, or responses hold NaN.
        """
        held = as_recordings(recordings)
        refuse_sealed(held, forbidden)
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)  # nothing of an earlier fit may stay
        if not self.needs_common_stimuli:
            people = own_responses(held)
        else:
            self._refuse_one(held)
            people, self.stimuli_ = common_responses(held, _without_common())
        self._learn(people)
        self._count(people)
        first = people[0].subject
        self.n_shared_ = self._map(first)(np.zeros((1, self.n_units_[first]), np.float32)).shape[1]
        return self

    def add_subject(self, recording: Recording, *, forbidden: Any = None) -> Self:
        """Fit a new person's map to the shared space, which stays as it is.

        Parameters
        ----------
        recording : Recording
            Few trials of the new person. Of aligners that need common stimuli those are used that
            the people of `fit` saw.
        forbidden : Recording, recordings, or array of ids, optional
            As in `fit`.

        Raises
        ------
        LeakError
            If a stimulus of the test part takes part.
        InputError
            If the person is there already, or the trials are too few for this aligner.
        """
        self._fitted()
        (held,) = as_recordings(recording, "The new person's recording")
        if held.subject in self.n_units_:
            raise InputError(
                f"{held.subject!r} is aligned already, with {self.n_samples_[held.subject]} "
                "samples: fit anew to use others."
            )
        refuse_sealed([held], forbidden)
        if not self.needs_common_stimuli:
            person, rows = own_responses([held])[0], np.empty(0, dtype=np.int64)
        else:
            person, rows = matching_responses(held, self.stimuli_, _without_common())
            rows = self._sample_rows(person, rows)
        self._learn_new(person, rows)
        self._count([person])
        return self

    def _sample_rows(self, person: Person, stimuli: Index) -> Index:
        """Return the samples of `fit` that a new person's are of: a stimulus has one a time."""
        n_times = next(iter(self.n_samples_.values())) // len(self.stimuli_)
        if len(person.values) != n_times * len(stimuli):
            raise InputError(
                f"Trials of {person.subject!r} have {len(person.values) // len(stimuli)} time "
                f"points, and those that were aligned have {n_times}; cut them to the same times."
            )
        return np.asarray(stimuli[:, None] * n_times + np.arange(n_times)).ravel()

    def transform(self, responses: ArrayLike, subject: str) -> Real:
        """Map a person's responses to the shared space.

        Parameters
        ----------
        responses : array (n, n_units) or (n, n_units, n_times)
        subject : str
            Whose they are.

        Returns
        -------
        array (n, n_shared) or (n, n_shared, n_times)

        Raises
        ------
        UnknownNameError
            If the aligner was not fitted on this person.
        InputError
            If the person has another number of units, or responses are no finite real numbers.
        """
        self._fitted(subject)
        what = f"responses of {subject!r}"
        return _along_units(self._map(subject), responses, self.n_units_[subject], what)

    def leads_back_to(self, subject: str) -> bool:
        """Tell whether the shared space leads back to a person's units, fitted or not."""
        return self.invertible

    def inverse_transform(self, shared: ArrayLike, subject: str) -> Real:
        """Map shared values to a person's units, where the aligner `leads_back_to` them.

        Parameters
        ----------
        shared : array (n, n_shared) or (n, n_shared, n_times)
        subject : str
            To whose units.

        Returns
        -------
        array (n, n_units) or (n, n_units, n_times)
        """
        self._fitted(subject)
        return _along_units(self._inverse_map(subject), shared, self.n_shared_, "shared values")

    def align(self, recording: Recording) -> Recording:
        """Return a recording in the shared space, read when it is needed: its units are dimensions.

        It has the trials, stimuli and times of the one given, and no ROIs and no space.
        """
        self._fitted(recording.subject)
        parts = {
            name: getattr(recording, name)
            for name in ("trials", "samples", "events", "stimuli", "times", "sfreq", "stimuli_are")
        }
        info = {**recording.info, "aligned": type(self).__name__}
        source = _Aligned(self, recording)
        return Recording.from_source(
            source, subject=recording.subject, units=pd.DataFrame(index=range(self.n_shared_)),
            info=info, **parts,
        )  # fmt: skip

    def as_module(self) -> "FrozenAlignment":
        """Return a torch module, ``module(responses, subject)``, whose parameters are frozen."""
        from brainkit.alignment.frozen import FrozenAlignment

        self._fitted()
        return FrozenAlignment({subject: self._map(subject) for subject in self.n_units_})

    # -- what an aligner says of itself ------------------------------------------------------

    def _learn(self, people: list[Person]) -> None:
        """Learn the shared space and each person's map."""
        for person in people:
            self._learn_new(person, np.empty(0, dtype=np.int64))

    def _learn_new(self, person: Person, rows: Index) -> None:
        """Learn one more person's map; `rows` are those of the common stimuli."""

    @abstractmethod
    def _map(self, subject: str) -> Affine:
        """Return a person's map to the shared space."""

    def _inverse_map(self, subject: str) -> Affine:
        """Return the map from the shared space to a person's units."""
        from brainkit.alignment import ALIGNERS

        kinds = [kind for kind in ALIGNERS.builtin.values() if kind.invertible and kind.aligns]
        others = [kind.__name__ for kind in kinds]
        raise InputError(
            f"{self!r} has no way back from the shared space to the units of {subject!r}. These "
            f"have one to everybody's: {listed(others)}; RidgeToReference has one to its reference."
        )

    # -- for all of them ---------------------------------------------------------------------

    def _count(self, people: list[Person]) -> None:
        units = {person.subject: person.values.shape[1] for person in people}
        samples = {person.subject: len(person.values) for person in people}
        self.n_units_ = {**getattr(self, "n_units_", {}), **units}
        self.n_samples_ = {**getattr(self, "n_samples_", {}), **samples}

    def _keep(self, name: str, subject: str, value: Any) -> None:
        """Add a person's entry to a fitted attribute, in a new dict."""
        setattr(self, name, {**getattr(self, name, {}), subject: value})

    def _fitted(self, subject: str | None = None) -> None:
        if not hasattr(self, "n_units_"):
            raise NotFittedError(
                f"This {type(self).__name__} is not fitted: call fit(recordings) first."
            )
        if subject is not None and subject not in self.n_units_:
            raise unknown_name("subject", subject, list(self.n_units_))

    def _refuse_one(self, recordings: list[Recording]) -> None:
        if len(recordings) < 2:
            raise InputError(
                f"{type(self).__name__} aligns people with each other; got "
                f"{recordings[0].subject!r} alone. {_without_common()}"
            )


def _without_common() -> str:
    from brainkit.alignment import ALIGNERS

    kinds = ALIGNERS.builtin.values()
    names = [kind.__name__ for kind in kinds if kind.aligns and not kind.needs_common_stimuli]
    return f"These need no stimuli in common: {listed(names)}."


def _along_units(map_: Affine, values: ArrayLike, n_units: int, what: str) -> Real:
    """Apply a map along the second axis of (n, units) or (n, units, time)."""
    array = as_array(values, what)
    if array.dtype.kind not in "iuf" or array.ndim not in (2, 3) or array.shape[1] != n_units:
        raise InputError(
            f"{what} must be real numbers (n, {n_units}) or (n, {n_units}, time); got "
            f"{array.dtype} of shape {array.shape}."
        )
    if not np.isfinite(array).all():
        raise InputError(f"{what} hold NaN or infinity; leave those rows out or mend them.")
    real = array if array.dtype == np.float64 else array.astype(np.float32, copy=False)
    if real.ndim == 2:
        out = map_(real)
        return out.copy() if np.shares_memory(out, array) else out
    flat = np.moveaxis(real, 1, 2).reshape(-1, n_units)
    out = map_(flat)
    return np.moveaxis(out.reshape(len(real), real.shape[2], out.shape[1]), 2, 1)


class _Aligned(Source):
    """Responses in the shared space, mapped when they are read."""

    def __init__(self, aligner: Aligner, recording: Recording) -> None:
        self.aligner, self.subject = aligner, recording.subject
        self.base = recording.responses.source
        n_rows, _, *rest = self.base.shape
        self.shape = (n_rows, aligner.n_shared_, *rest)

    def read(self, rows: Index | None = None, columns: Index | None = None) -> Float:
        """Map the chosen rows and return the chosen dimensions."""
        shared = self.aligner.transform(self.base.read(rows), self.subject)
        chosen = shared if columns is None else shared[:, columns]
        return np.array(chosen, dtype=np.float32)
