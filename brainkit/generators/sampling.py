"""The denoising loop: from noise, or from given latents, to clean latents.

It is the loop of diffusers' pipelines with two differences. Each image draws all its noise from a
generator of its own, on the CPU, so that it depends on its seed and its condition but neither on
the other images of the batch nor on the device. And the scheduler is copied for every run, because
it holds the state of a run.
"""

import copy
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from brainkit.errors import InputError
from brainkit.generators.prediction import start_noise

LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Condition:
    """What the denoiser is told, besides latents and timestep.

    Attributes
    ----------
    keywords : dict
        Arguments of the UNet. With guidance every tensor holds the unconditional rows first, then
        the conditional ones.
    guidance : float
        Weight of classifier-free guidance; at 1 or below there is none, and no unconditional rows.
    """

    keywords: dict[str, Any]
    guidance: float


@dataclass(frozen=True)
class Run:
    """Settings of one call of `generate`."""

    steps: int
    guidance: float
    noise_level: int
    strength: float


def image_generators(seeds: Sequence[int]) -> list[torch.Generator]:
    """Return one generator on the CPU per seed.

    Raises
    ------
    InputError
        If `seeds` is no sequence, or a seed no whole number from 0 to 2⁶³ − 1.
    """
    if not isinstance(seeds, Iterable):
        raise InputError(f"seeds has one whole number per image, as in [0, 1]; got {seeds!r}.")
    generators: list[torch.Generator] = []
    for seed in seeds:
        if not isinstance(seed, Real) or int(seed) != seed or not 0 <= seed <= LARGEST_SEED:
            raise InputError(f"A seed is a whole number from 0 to 2**63 - 1; got {seed!r}.")
        generators.append(torch.Generator().manual_seed(int(seed)))
    return generators


def draw(
    generators: Sequence[torch.Generator],
    shape: Sequence[int],
    device: "torch.device | str",
    dtype: torch.dtype,
) -> Tensor:
    """Draw standard normal numbers, one row per generator: (n, *shape)."""
    rows = [torch.randn(tuple(shape), generator=one, dtype=dtype) for one in generators]
    return torch.stack(rows).to(device)


def start(
    scheduler: Any,
    noise: Tensor,
    *,
    steps: int,
    init_latents: Tensor | None = None,
    strength: float = 1.0,
) -> tuple[Any, Tensor, Tensor]:
    """Prepare a run: a scheduler of its own, its timesteps and the latents it starts from.

    Parameters
    ----------
    scheduler : scheduler of diffusers
        It is not changed.
    noise : tensor (n, c, h, w)
        Standard normal.
    steps : int
        Number of steps of a whole run.
    init_latents : tensor (n, c, h, w), optional
        Clean latents to start from.
    strength : float
        Share of the run that is gone through, rounded down to whole steps: at 0 the initial latents
        stay as they are, at 1 they are ignored. In between they are noised to the level of the
        first step that is left (SDEdit; Meng et al. 2022).

    Returns
    -------
    scheduler, timesteps, latents
    """
    if int(steps) != steps or steps < 1:
        raise InputError(f"steps is a whole number from 1; got {steps!r}.")
    if not 0 <= strength <= 1:
        raise InputError(f"strength is a share from 0 to 1; got {strength!r}.")
    scheduler = copy.deepcopy(scheduler)
    scheduler.set_timesteps(int(steps), device=noise.device)
    timesteps: Tensor = scheduler.timesteps
    if init_latents is None or strength == 1:
        return scheduler, timesteps, noise * start_noise(scheduler)
    kept = int(steps * strength + 1e-9)  # 0.29 × 100 is 28.999... in floating point
    first = (int(steps) - kept) * int(getattr(scheduler, "order", 1))
    if kept == 0:
        return scheduler, timesteps[:0], init_latents
    timesteps = timesteps[first:]
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(first)
    level = timesteps[:1].repeat(len(noise))
    if hasattr(scheduler, "add_noise"):
        return scheduler, timesteps, scheduler.add_noise(init_latents, noise, level)
    return scheduler, timesteps, scheduler.scale_noise(init_latents, level, noise)


def denoise(
    output: Callable[[Tensor, Tensor], Tensor],
    scheduler: Any,
    timesteps: Tensor,
    latents: Tensor,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Go through the steps of a run.

    Parameters
    ----------
    output : function
        From the scaled latents (n, c, h, w) and a timestep to the denoiser's output.
    scheduler, timesteps, latents
        From `start`.
    generators : sequence of torch.Generator
        One per image, for schedulers that add noise at every step.

    Returns
    -------
    tensor (n, c, h, w)
        Clean latents.
    """
    extra: dict[str, Any] = {}
    if "generator" in inspect.signature(scheduler.step).parameters:
        extra["generator"] = list(generators)
    for timestep in timesteps:
        scaled = latents
        if hasattr(scheduler, "scale_model_input"):
            scaled = scheduler.scale_model_input(latents, timestep)
        step = scheduler.step(output(scaled, timestep), timestep, latents, **extra)
        latents = step.prev_sample.to(latents.dtype)
    return latents


def guided_output(unet: Any, condition: Condition, latents: Tensor, timestep: Tensor) -> Tensor:
    """Return what a denoiser says of scaled latents, guided.

    Parameters
    ----------
    unet : UNet2DConditionModel
    condition : Condition
    latents : tensor (n, c, h, w)
        On the scale of the denoiser's input.
    timestep : tensor () or (n,)

    Returns
    -------
    tensor (n, c, h, w)
        unconditional + guidance × (conditional − unconditional), from one pass over both.
    """
    guided = condition.guidance > 1
    steps = timestep.reshape(-1).expand(len(latents))
    if guided:
        latents, steps = torch.cat([latents] * 2), torch.cat([steps] * 2)
    output: Tensor = unet(latents, steps, **condition.keywords).sample
    if not guided:
        return output
    without, given = output.chunk(2)
    return without + condition.guidance * (given - without)
