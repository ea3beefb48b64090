"""Tasks to learn from: voxels, with support images that are shown and query images to answer for.

Voxels of one draw share their images. Synthetic voxels weigh real image embeddings at random;
subjects' voxels are measured.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError, LeakError, listed

Float = NDArray[np.float32]
TINY = 1e-6  # standard deviations below this times the largest value count as none


@dataclass(frozen=True)
class Tasks:
    """Voxels that share their images.

    Attributes
    ----------
    support, query : float32 arrays (n_support, embedding), (n_query, embedding)
        Unit-norm embeddings.
    responses, answers : float32 arrays (n_support, n_voxels), (n_query, n_voxels)
        What the voxels did, in one unit of measurement.
    """

    support: Float
    responses: Float
    query: Float
    answers: Float


class TaskSource(Protocol):
    """Where tasks come from."""

    def draw(
        self, generator: np.random.Generator, n_support: int, n_query: int, n_voxels: int
    ) -> Tasks:
        """Draw voxels and their images."""

    @property
    def longest(self) -> int:
        """The most support images that a task may have."""


def unit_norm(embeddings: Any) -> Float:
    """Return embeddings (n, embedding) of length 1 each, as float32.

    Raises
    ------
    InputError
        If they are not a table of finite numbers, or one of them is zero.
    """
    values = np.asarray(embeddings, dtype=np.float32)
    if values.ndim != 2 or not len(values):
        raise InputError(f"Embeddings are (n_images, embedding); got the shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError("The embeddings hold NaN or infinities; leave those images out.")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    if not length.all():
        raise InputError(
            f"{int((length == 0).sum())} embeddings are zero and have no direction, the first of "
            f"them number {int(np.flatnonzero(length == 0)[0])}; leave those images out."
        )
    return values / length


@dataclass(frozen=True)
class Scale:
    """Mean and standard deviation of each voxel over its support images.

    Attributes
    ----------
    mean, deviation : float32 arrays (n_voxels,)
    """

    mean: Float
    deviation: Float

    @classmethod
    def of(cls, responses: Float) -> "Scale":
        """Measure responses (n_images, n_voxels); a constant voxel's deviation is 1."""
        mean = responses.mean(axis=0, dtype=np.float64)
        deviation = responses.std(axis=0, dtype=np.float64)
        constant = deviation <= TINY * np.abs(responses).max(axis=0, initial=0)
        deviation[constant] = 1
        return cls(mean.astype(np.float32), deviation.astype(np.float32))

    def apply(self, responses: Float) -> Float:
        """Return z-scored responses."""
        return np.asarray((responses - self.mean) / self.deviation, dtype=np.float32)


@dataclass(frozen=True)
class SyntheticVoxels:
    r"""Voxels with random weights on real image embeddings, and noise.

    ``y = √ρ s + √(1 - ρ) ε`` with s = w · x scaled to unit variance over the images drawn, w and ε
    standard normal, and ρ, the explainable share of variance, uniform between two bounds. What is
    asked for is √ρ s, without noise, of which y is an unbiased measurement.

    Parameters
    ----------
    embeddings : float32 array (n_images, embedding)
        Unit norm.
    share : (float, float), default=(0.05, 0.95)
        Bounds of ρ.
    """

    embeddings: Float
    share: tuple[float, float] = (0.05, 0.95)

    @property
    def longest(self) -> int:
        """All images but one."""
        return len(self.embeddings) - 1

    def draw(
        self, generator: np.random.Generator, n_support: int, n_query: int, n_voxels: int
    ) -> Tasks:
        """Draw voxels and their images."""
        rows = generator.permutation(len(self.embeddings))[: n_support + n_query]
        embedding = self.embeddings.shape[1]
        weights = generator.standard_normal((embedding, n_voxels), dtype=np.float32)
        signal = self.embeddings[rows] @ weights
        signal = (signal - signal.mean(axis=0)) / np.maximum(signal.std(axis=0), TINY)
        share = generator.uniform(*self.share, n_voxels).astype(np.float32)
        signal *= np.sqrt(share)
        noise = generator.standard_normal((n_support, n_voxels), dtype=np.float32)
        shown, asked = self.embeddings[rows[:n_support]], self.embeddings[rows[n_support:]]
        responses = signal[:n_support] + np.sqrt(1 - share) * noise
        return Tasks(shown, responses, asked, signal[n_support:])


@dataclass(frozen=True)
class Subject:
    """What one subject contributes.

    Attributes
    ----------
    embeddings : float32 array (n_images, embedding)
        Unit norm.
    responses : float array (n_images, n_voxels)
        Averaged over an image's repeats.
    noise : float32 array (n_voxels,), optional
        Standard deviation of one trial's noise, where `responses` are the noise-free ones of a
        simulated subject: noise is added afresh to the support at each draw, never to answers.
    """

    embeddings: Float
    responses: NDArray[np.floating[Any]]
    noise: Float | None = None

    def __post_init__(self) -> None:
        if self.responses.ndim != 2 or len(self.responses) != len(self.embeddings):
            raise InputError(
                f"Responses are (n_images, n_voxels) for the {len(self.embeddings)} images of the "
                f"embeddings; got the shape {self.responses.shape}."
            )
        if not np.isfinite(self.responses).all():
            raise InputError("The responses hold NaN or infinities; leave those voxels out.")


@dataclass(frozen=True)
class SubjectVoxels:
    """Voxels of subjects, some images of each put aside for validation.

    Parameters
    ----------
    subjects : mapping of str to Subject
    held_out : float, default=0.1
        Share of each subject's images that training never sees; validation asks for those.
    repeats : (int, int), default=(1, 3)
        Least and most trials whose noise is averaged, where a subject's `noise` is given.
    seed : int, default=0
        Of the choice of images put aside.
    validating : bool, default=False
        Ask for the images that were put aside.
    """

    subjects: Mapping[str, Subject]
    held_out: float = 0.1
    repeats: tuple[int, int] = (1, 3)
    seed: int = 0
    validating: bool = False
    _rows: dict[str, tuple[NDArray[np.intp], NDArray[np.intp]]] = field(
        init=False, repr=False, default_factory=dict
    )

    def __post_init__(self) -> None:
        if not self.subjects:
            raise InputError("No subject was given to learn from.")
        widths = {name: one.embeddings.shape[1] for name, one in self.subjects.items()}
        if len(set(widths.values())) > 1:
            raise InputError(f"All subjects' embeddings must be of one model; got widths {widths}.")
        for name, one in self.subjects.items():
            order = rng(self.seed, "held out", name).permutation(len(one.embeddings))
            aside = max(2, round(self.held_out * len(order)))
            if len(order) - aside < 3:
                raise InputError(
                    f"Subject {name!r} has {len(order)} images; after {aside} are put aside for "
                    "validation there are too few to learn from."
                )
            self._rows[name] = (np.sort(order[aside:]), np.sort(order[:aside]))

    @property
    def longest(self) -> int:
        """The fewest training images of a subject, but one to ask for."""
        return min(len(own) for own, _ in self._rows.values()) - (not self.validating)

    def for_validation(self) -> "SubjectVoxels":
        """Return a source that asks for the images that were put aside."""
        return SubjectVoxels(self.subjects, self.held_out, self.repeats, self.seed, validating=True)

    def draw(
        self, generator: np.random.Generator, n_support: int, n_query: int, n_voxels: int
    ) -> Tasks:
        """Draw one subject, voxels of it, and images."""
        name = sorted(self.subjects)[generator.integers(len(self.subjects))]
        subject, (own, aside) = self.subjects[name], self._rows[name]
        order = generator.permutation(own)
        shown = order[:n_support]
        asked = (generator.permutation(aside) if self.validating else order[n_support:])[:n_query]
        n_all = subject.responses.shape[1]
        voxels = generator.choice(n_all, min(n_voxels, n_all), replace=False)
        responses = subject.responses[np.ix_(shown, voxels)].astype(np.float32)
        if subject.noise is not None:
            low, high = self.repeats
            averaged = np.float32(np.sqrt(generator.integers(low, high + 1)))
            drawn = generator.standard_normal(responses.shape, dtype=np.float32)
            responses += drawn * (subject.noise[voxels] / averaged)
        answers = subject.responses[np.ix_(asked, voxels)].astype(np.float32)
        return Tasks(subject.embeddings[shown], responses, subject.embeddings[asked], answers)


def check_excluded(held_out: Iterable[str], trained_on: Iterable[str]) -> None:
    """Raise if a subject that is to be predicted was, or is to be, learned from.

    Raises
    ------
    LeakError
        With the subjects in ``ids``.
    """
    both = sorted(set(held_out) & set(trained_on))
    if both:
        raise LeakError(
            f"{listed(both)} {'is' if len(both) == 1 else 'are'} to be predicted as new, but "
            "belongs to the subjects that the network learns from. Leave it out of the training, "
            "or take a checkpoint that was trained without it.",
            both,
        )
