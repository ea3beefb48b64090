r"""What a denoiser says of the clean latents, for every kind of output, as pure functions.

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
"""

import math
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
    found = (1 - share) * values[below] + share * values[above]
    return torch.exp(found) if in_logs else found


def start_noise(scheduler: Any) -> float:
    """Return the standard deviation of the latents that a scheduler starts from."""
    value = float(getattr(scheduler, "init_noise_sigma", 1.0))
    if not math.isfinite(value):
        raise InputError(
            f"{type(scheduler).__name__} starts from noise of standard deviation {value}; its "
            "schedule has no signal at the last step. Set rescale_betas_zero_snr=False."
        )
    return value
