"""The autoencoder of the diffusion model: 64×64 pixels to 16×16 latents of four channels.

A reduction by four keeps eyes and toppings; one by eight does not. Kept as a diffusers
`AutoencoderTiny`; its weights travel inside the diffusion pipeline.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from brainkit.training import Report, Schedule, Step, train, variance_matched_l1
from tiny_models.files import what_decides
from tiny_models.scenes import VALIDATION, as_tensor, paint_pool

NAME = "autoencoder"
BATCH, LATENT_NOISE, WIDTH = 16, 0.05, 32
SCHEDULE = Schedule(
    steps=7000,
    learning_rate=2e-3,
    weight_decay=1e-4,
    betas=(0.9, 0.99),
    precision="bfloat16",
    average=0.998,
    validate_every=500,
    seed=12,
)


def build() -> nn.Module:
    """Build the autoencoder with fresh weights."""
    from diffusers import AutoencoderTiny

    torch.manual_seed(SCHEDULE.seed)
    return AutoencoderTiny(
        encoder_block_out_channels=(WIDTH,) * 3,
        decoder_block_out_channels=(WIDTH,) * 3,
        num_encoder_blocks=(0, 1, 2),
        num_decoder_blocks=(2, 1, 1),
        latent_channels=4,
        upsampling_scaling_factor=2,
    ).to(memory_format=torch.channels_last)


def fit(work: Path, pool: int) -> tuple[nn.Module, Report]:
    """Train on painted scenes, with a little noise on the latents."""
    images, held_out = paint_pool(work, count=pool), paint_pool(work, VALIDATION, 1000)

    def loss(module: nn.Module, step: Step) -> torch.Tensor:
        rows = np.sort(step.rng("scenes").choice(pool, BATCH, replace=False))
        shown = as_tensor(images[rows]).contiguous(memory_format=torch.channels_last)
        latents = module.encoder(shown)
        noise = torch.randn(latents.shape, generator=step.generator) * LATENT_NOISE
        return variance_matched_l1(module.decoder(latents + noise), shown, latents)

    model = build()
    report = train(
        model,
        loss,
        SCHEDULE,
        folder=work / NAME,
        identity=what_decides(model, scenes=images, batch=BATCH, noise=LATENT_NOISE),
        validate=lambda module: psnr(module, held_out[:200]),
        description=NAME,
    )
    return model, report


def encode(model: Any, images: np.ndarray, batch: int = 100) -> torch.Tensor:
    """Return latents (n, 4, 16, 16), before any scaling."""
    with torch.inference_mode():
        blocks = [
            model.encoder(as_tensor(images[start : start + batch]))
            for start in range(0, len(images), batch)
        ]
    return torch.cat(blocks).float().clone()


def psnr(model: Any, images: np.ndarray) -> float:
    """Return the mean peak signal-to-noise ratio of round trips, in dB."""
    with torch.inference_mode():
        made = model.decoder(encode(model, images)).clamp(-1, 1)
    error = (made - as_tensor(images)).square().mean(dim=(1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


def make(name: str, out: Path, work: Path, pool: int) -> Report:
    """Train the autoencoder; the diffusion model puts it into its pipeline."""
    model, report = fit(work, pool)
    model.save_pretrained(work / name / "model", safe_serialization=True)
    return report
