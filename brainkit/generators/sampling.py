r"""The denoising loop, and what a denoiser says of the clean latents for every kind of output.

Every schedule mixes clean latents :math:`x_0` and noise :math:`ε` as :math:`x = a x_0 + s ε`; only
the two factors differ:

* variance preserving (DDPM, DDIM, PNDM, DPM-Solver ...): :math:`a = \sqrt{ᾱ}`,
  :math:`s = \sqrt{1-ᾱ}`;
* variance exploding (Euler, Heun, LMS): :math:`a = 1`, :math:`s = σ = \sqrt{(1-ᾱ)/ᾱ}`;
* flow matching: :math:`a = 1-σ`, :math:`s = σ`.

The four kinds of output are then solved for :math:`x_0` by one formula each. All of them are linear
and keep gradients; nothing is clipped, whereas a scheduler's own ``pred_original_sample`` is where
its ``clip_sample`` or ``thresholding`` says so.

References
----------
Ho, Jain & Abbeel 2020 (ε); Salimans & Ho 2022, appendix D (v); Karras et al. 2022 (σ);
Lipman et al. 2023 (flow matching).

The loop leads from noise, or from given latents, to clean latents. It is the loop of diffusers'
pipelines with two differences. Each image draws all its noise from a generator of its own, on the
CPU, so that it depends on its seed and its condition but neither on the other images of the batch
nor on the device. And the scheduler is copied for every run, because it holds the state of a run.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from brainkit.errors import InputError, unknown_name

Kind = Literal["epsilon", "v_prediction", "sample", "flow"]
KINDS: tuple[Kind, ...] = ("epsilon", "v_prediction", "sample", "flow")

EXPLODING = frozenset(
    {
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "HeunDiscreteScheduler",
        "LMSDiscreteScheduler",
    }
)
FLOW = frozenset({"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"})
SPACED_IN_SIGMA = ("karras", "exponential", "beta")
SMALLEST_SIGNAL = 2.0**-24  # ᾱ of a terminal step without signal, where σ would be infinite
LARGEST_SEED = 2**63 - 1


class Levels(NamedTuple):
    """How much signal and noise the latents of a timestep hold.

    Attributes
    ----------
    signal, noise : tensor
        The factors a and s of x = a x₀ + s ε, of a shape that broadcasts against the latents.
    kind : {"epsilon", "v_prediction", "sample", "flow"}
        What the denoiser gives out.
    scale : tensor
        What the latents are multiplied by before the denoiser sees them.
    """

    signal: Tensor
    noise: Tensor
    kind: Kind
    scale: Tensor


def x0_from_epsilon(latents: Tensor, output: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Return the clean latents (x − s ε) / a."""
    return (latents - noise * output) / signal


def x0_from_velocity(latents: Tensor, output: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Return the clean latents from v = (a ε − s x₀) / √(a² + s²).

    With n = √(a² + s²), which is 1 where the variance is preserved: x₀ = (a x / n − s v) / n.
    """
    norm = torch.sqrt(signal**2 + noise**2)
    return (signal * latents / norm - noise * output) / norm


def x0_from_flow(latents: Tensor, output: Tensor, signal: Tensor, noise: Tensor) -> Tensor:
    """Return the clean latents from the flow u = ε − x₀: (x − s u) / (a + s)."""
    return (latents - noise * output) / (signal + noise)


def predict_original(
    kind: str, latents: Tensor, output: Tensor, signal: Tensor, noise: Tensor
) -> Tensor:
    """Return the clean latents that a denoiser's output implies.

    Parameters
    ----------
    kind : {"epsilon", "v_prediction", "sample", "flow"}
        What `output` is.
    latents, output : tensor (n, c, h, w)
        The noisy latents x, as the scheduler holds them, and what the denoiser made of them.
    signal, noise : tensor
        The factors a and s of x = a x₀ + s ε.

    Returns
    -------
    tensor (n, c, h, w)
        x₀, with gradients with respect to `latents` and `output`.

    Raises
    ------
    UnknownNameError
        If `kind` is none of the four.
    """
    if kind == "epsilon":
        return x0_from_epsilon(latents, output, signal, noise)
    if kind == "v_prediction":
        return x0_from_velocity(latents, output, signal, noise)
    if kind == "sample":
        return output
    if kind == "flow":
        return x0_from_flow(latents, output, signal, noise)
    raise unknown_name("kind of prediction", kind, KINDS)


def levels(scheduler: Any, timestep: Tensor | float) -> Levels:
    """Return how much signal and noise a scheduler of diffusers mixes at a timestep.

    The scheduler's state is neither needed nor changed.

    Parameters
    ----------
    scheduler : scheduler of diffusers
    timestep : float or tensor (n,)
        On the scheduler's own scale, 0 to ``num_train_timesteps``; one for all or one per row.
        Whole numbers where the variance is preserved.

    Returns
    -------
    Levels
        Factors of shape (1, 1, 1, 1) or (n, 1, 1, 1), float32, on the timestep's device.

    Raises
    ------
    InputError
        If the scheduler is of a family that is not known here, or the timestep is outside.
    """
    name = type(scheduler).__name__
    steps = torch.as_tensor(timestep, dtype=torch.float32).reshape(-1, 1, 1, 1)
    n_train = int(scheduler.config.num_train_timesteps)
    last = n_train if name in FLOW else n_train - 1
    if not bool(((steps >= 0) & (steps <= last)).all()):
        raise InputError(
            f"A timestep of {name} is in 0 to {last}; got "
            f"{steps.min().item():g} to {steps.max().item():g}."
        )
    one = torch.ones_like(steps)
    if name in FLOW:
        sigma = steps / n_train
        return Levels(1 - sigma, sigma, "flow", one)
    kind = _kind(scheduler, name)
    alphas = scheduler.alphas_cumprod.to(device=steps.device, dtype=torch.float32)
    if name in EXPLODING:
        sigma = _sigma(alphas, steps, scheduler.config)
        return Levels(one, sigma, kind, 1 / torch.sqrt(sigma**2 + 1))
    alpha = alphas[steps.round().long()]
    return Levels(torch.sqrt(alpha), torch.sqrt(1 - alpha), kind, one)


def _kind(scheduler: Any, name: str) -> Kind:
    """Return what the denoiser of this scheduler gives out; raises if the family is not known."""
    kind = str(scheduler.config.get("prediction_type", "epsilon"))
    flow = kind == "flow_prediction" or scheduler.config.get("use_flow_sigmas", False)
    if flow or name.startswith("EDM") or not hasattr(scheduler, "alphas_cumprod"):
        raise InputError(
            f"The clean latents cannot be predicted under {name} with prediction_type={kind!r}: "
            "known are schedulers with alphas_cumprod (DDIM, DDPM, PNDM, DPM-Solver ...), "
            f"{', '.join(sorted(EXPLODING | FLOW))}. Give the pipeline one of these, by "
            "`DDIMScheduler.from_config(scheduler.config)` for example."
        )
    kind = "sample" if kind == "original_sample" else kind
    if kind not in KINDS:
        raise unknown_name("prediction_type of a scheduler", kind, KINDS)
    return kind


def _sigma(alphas: Tensor, steps: Tensor, config: Any) -> Tensor:
    """Return σ at timesteps that need not be whole, interpolated as the scheduler does it.

    Schedules that are spaced in σ (Karras') find their timesteps by interpolating log σ, the others
    interpolate σ at given timesteps.
    """
    alphas = alphas.clamp(SMALLEST_SIGNAL, 1 - 1e-7)
    sigmas = torch.sqrt((1 - alphas) / alphas)
    in_logs = config.get("interpolation_type", "linear") == "log_linear"
    in_logs |= any(config.get(f"use_{kind}_sigmas", False) for kind in SPACED_IN_SIGMA)
    values = torch.log(sigmas) if in_logs else sigmas
    below = steps.floor().long().clamp(max=max(len(values) - 2, 0))
    share = steps - below
    above = (below + 1).clamp(max=len(values) - 1)
    interpolated = (1 - share) * values[below] + share * values[above]
    return torch.exp(interpolated) if in_logs else interpolated


def start_noise(scheduler: Any) -> float:
    """Return the standard deviation of the latents that a scheduler starts from."""
    value = float(getattr(scheduler, "init_noise_sigma", 1.0))
    if not math.isfinite(value):
        raise InputError(
            f"{type(scheduler).__name__} starts from noise of standard deviation {value}; its "
            "schedule has no signal at the last step. Set rescale_betas_zero_snr=False."
        )
    return value


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
        Function from the scaled latents (n, c, h, w) and a timestep to the denoiser's output.
    scheduler, timesteps, latents
        What `start` gives.
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
    without, conditioned = output.chunk(2)
    return without + condition.guidance * (conditioned - without)
