"""Tasks to learn from: voxels, with support images that are shown and query images to answer for.

Voxels of one draw share their images. Synthetic voxels weigh real image embeddings at random;
subjects' voxels are measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError
from brainkit.training.set_networks import Subject

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

    def weights(self, generator: np.random.Generator, n_voxels: int) -> Float:
        """Draw weights on the embedding, (embedding, n_voxels); their length does not matter."""
        return generator.standard_normal((self.embeddings.shape[1], n_voxels), dtype=np.float32)

    def draw(
        self, generator: np.random.Generator, n_support: int, n_query: int, n_voxels: int
    ) -> Tasks:
        """Draw voxels and their images."""
        rows = generator.permutation(len(self.embeddings))[: n_support + n_query]
        signal = self.embeddings[rows] @ self.weights(generator, n_voxels)
        signal = (signal - signal.mean(axis=0)) / np.maximum(signal.std(axis=0), TINY)
        share = generator.uniform(*self.share, n_voxels).astype(np.float32)
        signal *= np.sqrt(share)
        noise = generator.standard_normal((n_support, n_voxels), dtype=np.float32)
        shown, asked = self.embeddings[rows[:n_support]], self.embeddings[rows[n_support:]]
        responses = signal[:n_support] + np.sqrt(1 - share) * noise
        return Tasks(shown, responses, asked, signal[n_support:])


@dataclass(frozen=True)
class TuningVoxels(SyntheticVoxels):
    r"""Voxels whose weights are mixtures of measured ones, on embeddings that may be anything.

    For weights that others fitted and published: no image that the people saw is needed. A voxel is

    .. math:: w = \sqrt{1 - s}\, u / |u| + \sqrt{s}\, z / |z|, \quad
        u = \textstyle\sum_j g_j \hat w_j

    with a few weights of one group, each of unit length, mixed at random, z standard normal and s
    the share of it that is of no direction. Mixing keeps what weights of a group have in common and
    makes more of them than there are; s is for what a new person's have not in common with them.

    Parameters
    ----------
    embeddings, share
        See `SyntheticVoxels`.
    tunings : mapping of str to array (n_voxels, embedding)
        Weights by group, such as a region of a person; a group is drawn as often as its share of
        all voxels.
    mixed : (int, int), default=(1, 4)
        Fewest and most weights that are mixed.
    isotropic : float, default=0.5
        The share s, from 0 to 1.
    """

    tunings: Mapping[str, Float] = field(default_factory=dict)
    mixed: tuple[int, int] = (1, 4)
    isotropic: float = 0.5

    def __post_init__(self) -> None:
        width = self.embeddings.shape[1]
        if not self.tunings:
            raise InputError("No weights were given to mix.")
        for name, weights in self.tunings.items():
            if weights.ndim != 2 or weights.shape[1] != width or not len(weights):
                raise InputError(
                    f"The weights of {name!r} are of shape {weights.shape}; they must be "
                    f"(n_voxels, {width}), as the embeddings have {width} numbers."
                )
            if not np.isfinite(weights).all() or not np.abs(weights).sum(axis=1).all():
                raise InputError(f"Weights of {name!r} hold NaN or infinity, or are all zero.")
        low, high = self.mixed
        if not 1 <= low <= high or not 0 <= self.isotropic <= 1:
            raise InputError(
                "mixed is from 1 upwards, the fewest first, and isotropic a share from 0 to 1; got "
                f"{self.mixed} and {self.isotropic}."
            )

    def weights(self, generator: np.random.Generator, n_voxels: int) -> Float:
        """Draw mixtures of measured weights, each of one group, and of no direction."""
        names = list(self.tunings)
        counts = np.array([len(self.tunings[name]) for name in names])
        low, high = self.mixed
        drawn = np.empty((self.embeddings.shape[1], n_voxels), dtype=np.float32)
        groups = generator.choice(len(names), n_voxels, p=counts / counts.sum())
        for voxel, group in enumerate(groups):
            tuning = self.tunings[names[group]]
            chosen = tuning[generator.integers(len(tuning), size=generator.integers(low, high + 1))]
            chosen = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
            drawn[:, voxel] = generator.standard_normal(len(chosen), dtype=np.float32) @ chosen
        plain = super().weights(generator, n_voxels)
        drawn /= np.maximum(np.linalg.norm(drawn, axis=0), TINY)
        plain /= np.linalg.norm(plain, axis=0)
        mixture = np.sqrt(1 - self.isotropic) * drawn + np.sqrt(self.isotropic) * plain
        return np.asarray(mixture, dtype=np.float32)


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
