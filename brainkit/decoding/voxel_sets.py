r"""Sets of voxels to learn decoding from, and the stages of training on them.

A draw is of one person: voxels, their weights as an encoder read them from a few support images,
and trials of other images whose embeddings are to be written. Three stages follow one another, as
in BrainCoDec (arXiv:2604.08537): synthetic voxels, as many in each draw; synthetic voxels, few or
many; and people's voxels, whose weights were read from responses with noise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from torch import Tensor

from brainkit.arrays.seeds import rng
from brainkit.decoding.voxel_transformer import VoxelTransformer
from brainkit.errors import InputError
from brainkit.linear.ridge_estimator import fit_rows
from brainkit.training import Report, Schedule, Step
from brainkit.training.losses import cosine_and_contrast
from brainkit.training.set_networks import Subject, train_on_sets

Float = NDArray[np.float32]
TINY = 1e-6  # standard deviations below this times the largest value count as none
VALIDATION_DRAWS, VALIDATION_TRIALS = 8, 100


# -- where sets of voxels come from ----------------------------------------------------------------


@dataclass(frozen=True)
class VoxelSet:
    """Voxels of one person, and trials to decode.

    Attributes
    ----------
    coef, intercept : float32 arrays (n_voxels, embedding), (n_voxels,)
        Weights on unit-norm embeddings, of responses z-scored over the support images.
    responses : float32 array (n_trials, n_voxels)
        Z-scored with the same statistics.
    embeddings : float32 array (n_trials, embedding)
        Of the images that evoked them; unit norm.
    """

    coef: Float
    intercept: Float
    responses: Float
    embeddings: Float


class SetSource(Protocol):
    """Where sets of voxels come from."""

    def draw(self, generator: np.random.Generator, n_trials: int, n_voxels: int) -> VoxelSet:
        """Draw voxels and trials."""

    @property
    def most(self) -> tuple[int, int]:
        """The most trials, and the most voxels, that can be drawn."""


@dataclass(frozen=True)
class SyntheticSets:
    r"""Voxels with random weights on real image embeddings, known with an error.

    A voxel responds ``y = √ρ s + √(1 - ρ) ε`` with s = w · x scaled to mean 0 and variance 1 over
    all images, w and ε standard normal, and ρ, the explainable share of variance, uniform between
    two bounds. The decoder is told the weights of √ρ s mixed with those of another voxel:
    ``(1 - e) w + e w'``, with e uniform between two bounds and the same for all voxels of a draw.

    Parameters
    ----------
    embeddings : float32 array (n_images, embedding)
        Unit norm.
    share : (float, float), default=(0.05, 0.95)
        Bounds of ρ.
    error : (float, float), default=(0, 0.5)
        Bounds of e.
    """

    embeddings: Float
    share: tuple[float, float] = (0.05, 0.95)
    error: tuple[float, float] = (0.0, 0.5)

    @property
    def most(self) -> tuple[int, int]:
        """All images; voxels without end."""
        return len(self.embeddings), np.iinfo(np.int64).max

    def draw(self, generator: np.random.Generator, n_trials: int, n_voxels: int) -> VoxelSet:
        """Draw voxels and trials."""
        share = generator.uniform(*self.share, n_voxels).astype(np.float32)
        (coef, intercept), (other, shift) = (self._weights(generator, share) for _ in range(2))
        rows = generator.permutation(len(self.embeddings))[:n_trials]
        shown = self.embeddings[rows]
        noise = generator.standard_normal((len(rows), n_voxels), dtype=np.float32)
        responses = shown @ coef.T + intercept + np.sqrt(1 - share) * noise
        error = np.float32(generator.uniform(*self.error))
        told = (1 - error) * coef + error * other
        constant = (1 - error) * intercept + error * shift
        return VoxelSet(told, constant, responses.astype(np.float32), shown)

    def _weights(self, generator: np.random.Generator, share: Float) -> tuple[Float, Float]:
        """Return weights and constants of voxels whose signal has a given variance."""
        size = len(share), self.embeddings.shape[1]
        coef = generator.standard_normal(size, dtype=np.float32)
        signal = self.embeddings @ coef.T  # (n_images, n_voxels)
        factor = np.sqrt(share) / np.maximum(signal.std(axis=0), TINY)
        return coef * factor[:, None], -signal.mean(axis=0) * factor


@dataclass(frozen=True)
class Reading:
    """What an encoder made of one support set of a person.

    Attributes
    ----------
    person : str
    shown : array of int (n_support,)
        The support images, which are never decoded.
    coef, intercept : float arrays (n_voxels, embedding), (n_voxels,)
        Weights of responses z-scored over the support images.
    mean, deviation : float32 arrays (n_voxels,)
        Of the support responses.
    strength : float32 array (n_voxels,)
        Standard deviation over the support images of what the weights predict.
    """

    person: str
    shown: NDArray[np.intp]
    coef: NDArray[np.floating[Any]]
    intercept: Float
    mean: Float
    deviation: Float
    strength: Float


def read_person(
    name: str,
    person: Subject,
    encoder: Any,
    n_support: int,
    generator: np.random.Generator,
    repeats: tuple[int, int] = (1, 3),
) -> Reading:
    """Read a person's voxels from a random support set.

    Parameters
    ----------
    name : str
    person : Subject
    encoder : estimator
        With ``fit(embeddings, responses)``, then `coef_` and `intercept_`; a clone is fitted.
    n_support : int
        Support images; at least one image has to be left.
    generator : numpy.random.Generator
    repeats : (int, int), default=(1, 3)
        Least and most trials whose noise is averaged, where a person's `noise` is given.
    """
    n_images = len(person.embeddings)
    if not 2 <= n_support < n_images:
        raise InputError(
            f"{name!r} has {n_images} images: a support set has 2 to {n_images - 1}; got "
            f"{n_support}."
        )
    shown = generator.permutation(n_images)[:n_support]
    responses = person.measured(generator, shown, slice(None), repeats)
    mean, deviation = response_scale(responses)
    embeddings = person.embeddings[shown]
    fitted = fit_rows(clone(encoder), embeddings, (responses - mean) / deviation)
    coef, intercept = voxel_weights(fitted, responses.shape[1], embeddings.shape[1])
    strength = (embeddings @ coef.T).std(axis=0)
    half = coef.astype(np.float16)
    return Reading(name, shown, half, intercept, mean, deviation, strength)


def response_scale(responses: Float) -> tuple[Float, Float]:
    """Return mean and standard deviation of each voxel; a constant voxel's deviation is 1."""
    mean = responses.mean(axis=0, dtype=np.float64)
    deviation = responses.std(axis=0, dtype=np.float64)
    deviation[deviation <= TINY * np.abs(responses).max(axis=0, initial=0)] = 1
    return mean.astype(np.float32), deviation.astype(np.float32)


def voxel_weights(fitted: Any, n_voxels: int, width: int) -> tuple[Float, Float]:
    """Return the weights (n_voxels, width) and constants (n_voxels,) of a fitted linear encoder.

    Raises
    ------
    InputError
        If it has none, or they are of another shape or not finite.
    """
    name = type(fitted).__name__
    if not (hasattr(fitted, "coef_") and hasattr(fitted, "intercept_")):
        raise InputError(
            f"{name} has no coef_ and intercept_ after fit: take an encoder that is linear in the "
            "embeddings, such as brainkit.encoding.VoxelwiseRidge."
        )
    coef = np.asarray(fitted.coef_, dtype=np.float32)
    intercept = np.broadcast_to(np.asarray(fitted.intercept_, dtype=np.float32), (n_voxels,))
    if coef.shape != (n_voxels, width):
        raise InputError(
            f"coef_ of {name} has the shape {coef.shape}; weights of {n_voxels} voxels on "
            f"embeddings of {width} numbers are needed."
        )
    if not (np.isfinite(coef).all() and np.isfinite(intercept).all()):
        raise InputError(f"The weights of {name} hold NaN or infinities.")
    return coef, intercept


@dataclass(frozen=True)
class PeopleSets:
    """Voxels of people, as encoders read them from support sets.

    Half of the draws take voxels at random, the others those whose weights predict most.

    Parameters
    ----------
    people : mapping of str to Subject
    readings : sequence of Reading
        Several of each person, by one encoder or by several.
    repeats : (int, int), default=(1, 3)
        Least and most trials whose noise is averaged, where a person's `noise` is given.
    """

    people: Mapping[str, Subject]
    readings: Sequence[Reading]
    repeats: tuple[int, int] = (1, 3)

    def __post_init__(self) -> None:
        if not self.readings:
            raise InputError("No person was read to learn from: there are no readings.")
        lacking = sorted({one.person for one in self.readings} - set(self.people))
        if lacking:
            raise InputError(f"There are readings of {lacking}, of whom no responses are given.")

    @property
    def most(self) -> tuple[int, int]:
        """The fewest images that a support set leaves, and the fewest voxels of a person."""
        left = [len(self.people[one.person].embeddings) - len(one.shown) for one in self.readings]
        return min(left), min(len(one.mean) for one in self.readings)

    def draw(self, generator: np.random.Generator, n_trials: int, n_voxels: int) -> VoxelSet:
        """Draw one reading, voxels of it, and trials of images that it was not read from."""
        reading = self.readings[int(generator.integers(len(self.readings)))]
        person = self.people[reading.person]
        every = np.arange(len(person.embeddings))
        rows = generator.permutation(np.setdiff1d(every, reading.shown))[:n_trials]
        order = generator.permutation(len(reading.mean))
        if generator.random() < 0.5:
            order = np.argsort(-reading.strength, kind="stable")
        voxels = order[:n_voxels]
        responses = person.measured(generator, rows, voxels, self.repeats)
        return VoxelSet(
            reading.coef[voxels].astype(np.float32),
            reading.intercept[voxels],
            (responses - reading.mean[voxels]) / reading.deviation[voxels],
            person.embeddings[rows],
        )


# -- training --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DecodingStage:
    """One stage of training.

    Parameters
    ----------
    name : str
        Also that of its folder.
    schedule : Schedule
    voxels : (int, int)
        Fewest and most voxels; their logarithm is uniform between the two.
    n_trials : int, default=32
        Trials of one draw, which are told apart by the contrast.
    n_tokens : int, optional
        Most voxels times trials of a draw, which cuts trials of many voxels short, to 8 at least.
    n_draws : int, default=1
        Draws in a step.
    contrast : float, default=0.1
        Weight of the contrast beside the cosine.
    """

    name: str
    schedule: Schedule
    voxels: tuple[int, int]
    n_trials: int = 32
    n_tokens: int | None = None
    n_draws: int = 1
    contrast: float = 0.1

    def __post_init__(self) -> None:
        low, high = self.voxels
        if not 1 <= low <= high or self.n_trials < 2:
            raise InputError(
                f"Stage {self.name!r} has at least 1 voxel, the fewest first, and 2 trials; got "
                f"voxels={self.voxels} and n_trials={self.n_trials}."
            )

    def size(self, generator: np.random.Generator) -> tuple[int, int]:
        """Draw the number of trials and of voxels."""
        low, high = np.log(self.voxels)
        n_voxels = round(float(np.exp(generator.uniform(low, high))))
        n_trials = self.n_trials
        if self.n_tokens is not None:
            n_trials = min(n_trials, max(8, self.n_tokens // n_voxels))
        return n_trials, n_voxels


def published_decoding_stages(
    steps: Sequence[int] = (60_000, 60_000, 60_000),
) -> tuple[DecodingStage, ...]:
    """Return the three stages with the published batch, numbers of voxels and optimiser.

    Parameters
    ----------
    steps : three ints
        Of the stages; how many there were is not known here.
    """
    first = Schedule(steps=steps[0], learning_rate=1e-5, warmup=1000, weight_decay=1e-2)
    later = [replace(first, steps=n) for n in steps[1:]]
    return (
        DecodingStage("synthetic", first, (200, 200)),
        DecodingStage("voxels", later[0], (200, 4000)),
        DecodingStage("people", later[1], (200, 4000)),
    )


def set_loss(network: VoxelTransformer, drawn: VoxelSet, contrast: float = 0.1) -> Tensor:
    """Return the loss of one draw, in the space that the network writes in.

    See `brainkit.training.losses.cosine_and_contrast`.
    """
    written, truth = written_and_true(network, drawn)
    return cosine_and_contrast(written, truth, network.log_scale, contrast)


def written_and_true(network: VoxelTransformer, drawn: VoxelSet) -> tuple[Tensor, Tensor]:
    """Return what the network writes for a draw, and what it should, (n_trials, embedding)."""
    device = network.centre.device
    coef, intercept, responses, embeddings = (
        torch.from_numpy(values).to(device)
        for values in (drawn.coef, drawn.intercept, drawn.responses, drawn.embeddings)
    )
    written = network(network.encode_voxels(coef, intercept), responses)
    return written, network.into(embeddings)


def retrieval_score(network: VoxelTransformer, source: SetSource, stage: DecodingStage) -> float:
    """Return how often an embedding is the nearest of 100 to its own image, in fixed draws.

    Parameters
    ----------
    network : VoxelTransformer
    source : SetSource
        Of sets that training does not draw.
    stage : DecodingStage
    """
    n_trials = min(VALIDATION_TRIALS, source.most[0])
    n_voxels = min(round(float(np.sqrt(stage.voxels[0] * stage.voxels[1]))), source.most[1])
    shares = []
    for draw in range(VALIDATION_DRAWS):
        generator = rng(stage.schedule.seed, "validation", draw)
        written, truth = written_and_true(network, source.draw(generator, n_trials, n_voxels))
        alike = unit_rows(written) @ unit_rows(truth).T
        shares.append(float((alike.argmax(dim=1) == torch.arange(len(alike))).float().mean()))
    return float(np.mean(shares))


def unit_rows(values: Tensor) -> Tensor:
    """Return rows of length 1."""
    return torch.nn.functional.normalize(values, dim=1)


def train_decoding_stage(
    network: VoxelTransformer,
    source: SetSource,
    stage: DecodingStage,
    *,
    validation: SetSource | None = None,
    folder: Path | None = None,
) -> Report:
    """Train the network in place, for one stage.

    Parameters
    ----------
    network : VoxelTransformer
        With its space set (`set_space`).
    source : SetSource
    stage : DecodingStage
    validation : SetSource, optional
        Sets to watch; those of training where not given.
    folder : path, optional
        Where states are kept, in a sub-folder of the stage's name and, in that, one for each
        training: told apart by the network's first weights, the content of the sources and the
        stage. A training that was interrupted goes on from there; another begins anew.

    Raises
    ------
    InputError
        If the source has fewer trials or voxels than the stage asks for.
    """
    watched = source if validation is None else validation
    for asked, most, what in zip(
        (stage.n_trials, stage.voxels[1]), source.most, ("trials", "voxels"), strict=True
    ):
        if asked > most:
            raise InputError(
                f"Stage {stage.name!r} draws up to {asked} {what}, and there are sets of {most} at "
                f"most. Give more {what}, or draw fewer."
            )

    def loss(_: torch.nn.Module, step: Step) -> Tensor:
        total = torch.zeros((), device=network.centre.device)
        for draw in range(stage.n_draws):
            generator = step.rng("voxels", draw)
            drawn = source.draw(generator, *stage.size(generator))
            total = total + set_loss(network, drawn, stage.contrast) / stage.n_draws
        return total

    def validate(_: torch.nn.Module) -> float:
        return retrieval_score(network, watched, stage)

    return train_on_sets(
        network, loss, stage, source, validation, validate,
        kind="in-context decoder", folder=folder,
        parts=tuple(dict.fromkeys(name.split(".")[0] for name, _ in network.named_parameters())),
    )  # fmt: skip
