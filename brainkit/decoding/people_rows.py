"""Rows of several people: whose each is, which columns are theirs, and as tensors to train on.

People have unequal numbers of units. Their responses stand in one array all the same: those of
people with fewer units than others are followed by zeros.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from brainkit.alignment.person_units import PersonUnits
from brainkit.arrays.array_likes import as_array
from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, unknown_name
from brainkit.linear.folds import group_codes

Array = NDArray[Any]
Float = NDArray[np.float32]
ALONE = "person"  # the name of whoever is decoded where nobody is named


def checked_pairs(
    X: ArrayLike, y: ArrayLike, people: ArrayLike | None = None
) -> tuple[Float, Float, Array]:
    """Return responses (n, units), embeddings (n, width) and whose each row is, checked.

    Raises
    ------
    InputError
        If a value is no finite number, or rows do not fit each other.
    """
    responses, Z = as_array(X, "X"), as_array(y, "y")
    for name, values in (("responses (n, units)", responses), ("embeddings (n, width)", Z)):
        if values.ndim != 2 or values.dtype.kind not in "iuf" or 0 in values.shape:
            raise InputError(
                f"Decoding takes {name} as numbers; got {values.dtype} {values.shape}."
            )
        if not np.isfinite(values).all():
            raise InputError(f"Some {name} are NaN or infinite; leave those rows out.")
    if len(responses) != len(Z):
        raise InputError(f"There are {len(responses)} responses and {len(Z)} embeddings.")
    whose = np.full(len(Z), ALONE) if people is None else np.asarray(people).astype(str)
    if whose.shape != (len(Z),):
        raise InputError(f"people name one person a row, {len(Z)}; got shape {whose.shape}.")
    single = (values.astype(np.float32, copy=False) for values in (responses, Z))
    return (*single, whose)  # type: ignore[return-value]


def whose_rows(people: ArrayLike | None, n_rows: int, subjects: Sequence[str]) -> Array:
    """Return whose each of some rows is, the last subject's where nobody is named.

    Raises
    ------
    InputError
        If there are not as many names as rows.
    UnknownNameError
        If a person is not among the subjects.
    """
    if people is None:
        return np.full(n_rows, subjects[-1])
    names = np.asarray(people).astype(str)
    if names.shape != (n_rows,):
        raise InputError(f"people name one person a row, {n_rows}; got shape {names.shape}.")
    for name in dict.fromkeys(names):
        if name not in subjects:
            raise unknown_name("person", str(name), list(subjects))
    return names


def image_numbers(groups: ArrayLike | None, n_rows: int) -> Array:
    """Return the number of each row's image: whole numbers as they are, other labels by order.

    Each row is an image of its own, with a number below 0, where nothing is said.
    """
    if groups is None:
        return -1 - np.arange(n_rows)
    labels = np.asarray(groups)
    if labels.shape == (n_rows,) and labels.dtype.kind in "iu":
        return labels.astype(np.int64)
    return np.asarray(group_codes(groups, n_rows))


def held_out_images(images: Array, share: float, seed: int) -> Array:
    """Return the rows of a random share of the images, sorted; of two images at least.

    Parameters
    ----------
    images : array of int (n,)
        Of each row.
    share : float
        From 0, for none, to below 1.
    seed : int

    Raises
    ------
    InputError
        If there are too few images.
    """
    if share == 0:
        return np.empty(0, dtype=np.int64)
    known = np.unique(images)
    n_held = max(2, round(share * len(known)))
    if len(known) < n_held + 2:
        raise InputError(
            f"{len(known)} images are too few to hold {n_held} out of training: give more, or "
            "validation=0 for a fixed schedule."
        )
    chosen = rng(seed, "validation").permutation(known)[:n_held]
    return np.flatnonzero(np.isin(images, chosen))


@dataclass(frozen=True)
class PersonScale:
    """Which columns are a person's, and what they are standardised by.

    Attributes
    ----------
    subject : str
    columns : array of int (n_units,)
        Those that vary in the training rows.
    mean, scale : array (n_units,)
    """

    subject: str
    columns: Array
    mean: Float
    scale: Float

    @classmethod
    def of(cls, subject: str, X: Float) -> Self:
        """Learn them from a person's training rows.

        Raises
        ------
        InputError
            If nothing varies.
        """
        columns = np.flatnonzero(np.ptp(X, axis=0) > 0)
        if not len(columns):
            raise InputError(f"All responses of {subject!r} are constant: nothing can be decoded.")
        values = X[:, columns]
        mean = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(subject, columns, mean, values.std(axis=0, dtype=np.float64).astype(np.float32))

    def __call__(self, X: Array) -> Float:
        """Return rows of the person standardised, (n, n_units).

        Raises
        ------
        InputError
            If there are fewer columns than in training, or values are not finite.
        """
        if X.ndim != 2 or X.shape[1] <= self.columns[-1]:
            raise InputError(
                f"{self.subject!r} was fitted on {self.columns[-1] + 1} columns of responses; got "
                f"shape {X.shape}."
            )
        values = X[:, self.columns].astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise InputError(
                f"Responses of {self.subject!r} hold NaN or infinity; leave those rows out."
            )
        return np.asarray((values - self.mean) / self.scale, dtype=np.float32)


def units_in_use(positions: Mapping[str, Array] | None, scale: PersonScale) -> PersonUnits:
    """Return what is known of a person's units that are in use."""
    places = (positions or {}).get(scale.subject)
    return PersonUnits(
        len(scale.columns), None if places is None else np.asarray(places)[scale.columns]
    )


@dataclass(frozen=True)
class TrainingRows:
    """Everyone's training rows as tensors, those of one person together.

    Attributes
    ----------
    people : tuple of str
    aligned : bool
        Whether `responses` are what the people's layers give of them already.
    person : tensor of int (n,)
        Number of the person, ascending.
    responses : list of tensor (n_p, units of the person or shared width)
        By person.
    place : tensor of int (n,)
        Row among the person's.
    targets : tensor (n, width)
        Standardised embeddings.
    image : tensor of int (n,)
    """

    people: tuple[str, ...]
    aligned: bool
    person: Tensor
    responses: list[Tensor]
    place: Tensor
    targets: Tensor
    image: Tensor

    def of_people(self, chosen: Tensor) -> list[tuple[str, Tensor]]:
        """Return the responses of some rows, ascending, by person; people without any left out."""
        person = self.person[chosen]
        parts = []
        for number, name in enumerate(self.people):
            mine = chosen[person == number]
            if len(mine):
                parts.append((name, self.responses[number][self.place[mine]]))
        return parts

    @classmethod
    def of(
        cls,
        people: Sequence[str],
        responses: Sequence[Float],
        targets: Float,
        images: Array,
        *,
        aligned: bool,
        device: torch.device,
    ) -> Self:
        """Return rows as tensors on a device.

        Parameters
        ----------
        people : sequence of str
        responses : sequence of array (n_p, ...)
            By person; targets and images stand in the same order.
        targets : array (n, width)
        images : array of int (n,)
        aligned : bool
        device : torch.device
        """
        counts = [len(values) for values in responses]
        person = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
        place = torch.cat([torch.arange(count) for count in counts])
        return cls(
            tuple(people),
            aligned=aligned,
            person=person.to(device),
            responses=[torch.from_numpy(values).to(device) for values in responses],
            place=place.to(device),
            targets=torch.from_numpy(targets).to(device),
            image=torch.from_numpy(np.ascontiguousarray(images)).to(device),
        )
