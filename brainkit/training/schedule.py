"""How a module is trained, what a step may draw from, and what a run did."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch

from brainkit.arrays.seeds import rng
from brainkit.errors import InputError


@dataclass(frozen=True)
class Schedule:
    """How a module is trained.

    Parameters
    ----------
    steps : int
        Optimiser steps.
    learning_rate : float, default=1e-3
        Reached after `warmup` steps, then falling to `final` of it along a cosine.
    final : float, default=0.02
    warmup : int, default=100
    weight_decay : float, default=0.05
        Of matrices and kernels; vectors (biases, gains) do not decay.
    betas : (float, float), default=(0.9, 0.98)
        Of AdamW (Loshchilov and Hutter 2019).
    clip : float, default=1.0
        Largest norm of the gradient.
    average : float, optional
        Decay of a running average of the weights, which the trained module is left with.
    precision : {"float32", "bfloat16"}
        Of matrix products; weights and optimiser stay in float32.
    seed : int, default=0
    checkpoint_every, validate_every : int
        In steps.
    patience : int, optional
        Validations without a better score before training stops.
    """

    steps: int
    learning_rate: float = 1e-3
    final: float = 0.02
    warmup: int = 100
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.98)
    clip: float = 1.0
    average: float | None = None
    precision: str = "float32"
    seed: int = 0
    checkpoint_every: int = 200
    validate_every: int = 200
    patience: int | None = None

    def __post_init__(self) -> None:
        if self.steps < 1 or self.checkpoint_every < 1 or self.validate_every < 1:
            raise InputError("steps, checkpoint_every and validate_every are 1 or more.")
        if self.precision not in ("float32", "bfloat16"):
            raise InputError(f"precision is 'float32' or 'bfloat16'; got {self.precision!r}.")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(self.steps - self.warmup, 1)
        cosine = 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))
        return self.learning_rate * (self.final + (1 - self.final) * cosine)


@dataclass(frozen=True)
class Step:
    """What a step may draw its batch and its noise from.

    Attributes
    ----------
    number : int
        Counted from 0.
    seed : int
        The schedule's.
    generator : torch.Generator
        On the CPU, for this step alone.
    """

    number: int
    seed: int
    generator: torch.Generator

    def rng(self, *keys: str | int) -> Any:
        """Return a numpy generator for one purpose of this step."""
        return rng(self.seed, "step", self.number, *keys)


@dataclass
class Report:
    """What a training run did.

    Attributes
    ----------
    trained, frozen : dict of str to int
        Parameters by the first part of their name.
    steps : int
        Steps done.
    losses : list of (int, float)
        Mean loss since the entry before.
    scores : list of (int, float)
        Validation scores, higher is better.
    best_step : int or None
        Of the best validation score, whose weights the module has where `patience` is set.
    seconds : float
        Time spent, over all runs that led here.
    devices : dict of str to int
        How many steps ran on which kind of device, over all runs that led here.
    """

    trained: dict[str, int]
    frozen: dict[str, int]
    steps: int = 0
    losses: list[tuple[int, float]] = field(default_factory=list)
    scores: list[tuple[int, float]] = field(default_factory=list)
    best_step: int | None = None
    seconds: float = 0.0
    devices: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Return the report that `dataclasses.asdict` was given, also after a trip through JSON."""
        pairs = {key: [tuple(entry) for entry in values[key]] for key in ("losses", "scores")}
        return cls(**{**values, **pairs})

    def state(self) -> str:
        """Say the last loss and score, in a few words."""
        told = [f"loss {self.losses[-1][1]:.4g}"] if self.losses else []
        told += [f"score {self.scores[-1][1]:.4g}"] if self.scores else []
        return ", ".join(told)
