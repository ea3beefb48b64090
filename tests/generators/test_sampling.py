"""Clean latents from a denoiser's output, against the schedulers' own and in closed form."""

from typing import Any

import diffusers
import pytest
import torch

from brainkit.errors import InputError
from brainkit.generators.sampling import levels, predict_original, start_noise

KINDS = ("epsilon", "v_prediction", "sample")


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [*KINDS, "flow"])
def test_every_kind_finds_the_latents_that_were_mixed(kind: str) -> None:
    clean, eps = noise(3, 4, 2, 2), noise(3, 4, 2, 2, seed=1)
    signal, sigma = torch.tensor(0.6), torch.tensor(0.8)
    if kind == "flow":
        signal, sigma = torch.tensor(0.3), torch.tensor(0.7)
    output = {
        "epsilon": eps,
        "v_prediction": signal * eps - sigma * clean,
        "sample": clean,
        "flow": eps - clean,
    }[kind]
    found = predict_original(kind, signal * clean + sigma * eps, output, signal, sigma)
    torch.testing.assert_close(found, clean, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("timestep", [1, 340, 901])
def test_ddim_agrees(kind: str, timestep: int) -> None:
    scheduler = diffusers.DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type=kind, clip_sample=False
    )
    scheduler.set_timesteps(50)
    check_own(scheduler, timestep, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_ddpm_agrees(kind: str) -> None:
    scheduler = diffusers.DDPMScheduler(prediction_type=kind, clip_sample=False)
    check_own(scheduler, 500, kind)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *(("EulerDiscreteScheduler", kind) for kind in KINDS),
        ("EulerAncestralDiscreteScheduler", "epsilon"),
        ("HeunDiscreteScheduler", "v_prediction"),
        ("LMSDiscreteScheduler", "epsilon"),
    ],
)
@pytest.mark.parametrize("settings", [{}, {"timestep_spacing": "leading"}])
def test_euler_agrees(name: str, kind: str, settings: dict[str, Any]) -> None:
    scheduler = getattr(diffusers, name)(prediction_type=kind, **settings)
    scheduler.set_timesteps(12)
    check_own(scheduler, scheduler.timesteps[4], kind)


def test_karras_timesteps_have_the_sigma_of_their_scheduler() -> None:
    scheduler = diffusers.EulerDiscreteScheduler(use_karras_sigmas=True)
    scheduler.set_timesteps(9)
    found = torch.stack([levels(scheduler, t).noise.squeeze() for t in scheduler.timesteps])
    torch.testing.assert_close(found, scheduler.sigmas[:-1], rtol=1e-4, atol=0)


def check_own(scheduler: Any, timestep: Any, kind: str) -> None:
    """The scheduler's own pred_original_sample, and its scaling of the denoiser's input."""
    clean, eps, output = (noise(2, 4, 4, 4, seed=seed) for seed in range(3))
    latents = scheduler.add_noise(clean, eps, torch.as_tensor(timestep).reshape(1))
    level = levels(scheduler, timestep)
    torch.testing.assert_close(level.signal * clean + level.noise * eps, latents)
    scaled = scheduler.scale_model_input(latents, timestep)
    torch.testing.assert_close(latents * level.scale, scaled)
    own = scheduler.step(output, timestep, latents).pred_original_sample
    found = predict_original(level.kind, latents, output, level.signal, level.noise)
    assert level.kind == kind
    torch.testing.assert_close(found, own, rtol=1e-5, atol=1e-5)


def test_flow_matching_steps_towards_the_prediction() -> None:
    """One Euler step of size −σ leads to x₀, so the step before the last ends there."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(6)
    timestep, latents, output = (
        scheduler.timesteps[-1],
        noise(2, 4, 4, 4),
        noise(2, 4, 4, 4, seed=1),
    )
    level = levels(scheduler, timestep)
    found = predict_original(level.kind, latents, output, level.signal, level.noise)
    torch.testing.assert_close(found, scheduler.step(output, timestep, latents).prev_sample)
    mixed = scheduler.scale_noise(latents, timestep.reshape(1), output)
    torch.testing.assert_close(level.signal * latents + level.noise * output, mixed)


def test_one_timestep_per_row() -> None:
    scheduler = diffusers.DDIMScheduler()
    level = levels(scheduler, torch.tensor([3, 700]))
    assert level.signal.shape == (2, 1, 1, 1)
    torch.testing.assert_close(
        level.signal.flatten() ** 2, scheduler.alphas_cumprod[torch.tensor([3, 700])]
    )
    torch.testing.assert_close(level.signal**2 + level.noise**2, torch.ones(2, 1, 1, 1))


def test_a_scheduler_is_not_changed() -> None:
    scheduler = diffusers.EulerDiscreteScheduler()
    scheduler.set_timesteps(5)
    before = {key: str(value) for key, value in vars(scheduler).items()}
    levels(scheduler, 17.5)
    assert {key: str(value) for key, value in vars(scheduler).items()} == before


@pytest.mark.parametrize("timestep", [-1, 1000, float("nan")])
def test_timesteps_outside_are_named(timestep: float) -> None:
    with pytest.raises(InputError, match="0 to 999"):
        levels(diffusers.DDIMScheduler(), timestep)


def test_unknown_families_and_kinds_are_named() -> None:
    with pytest.raises(InputError, match=r"EDMEulerScheduler.*DDIMScheduler.from_config"):
        levels(diffusers.EDMEulerScheduler(), 3)
    with pytest.raises(InputError, match="flow_prediction"):
        levels(
            diffusers.DPMSolverMultistepScheduler(
                prediction_type="flow_prediction", use_flow_sigmas=True
            ),
            3,
        )
    with pytest.raises(InputError, match=r"'epsilom'.*Did you mean 'epsilon'"):
        predict_original("epsilom", *(noise(1, 1, 1, 1) for _ in range(4)))


def test_noise_to_start_from() -> None:
    assert start_noise(diffusers.DDIMScheduler()) == 1
    euler = diffusers.EulerDiscreteScheduler(timestep_spacing="trailing")
    euler.set_timesteps(5)
    assert start_noise(euler) == pytest.approx(float(euler.sigmas.max()))
