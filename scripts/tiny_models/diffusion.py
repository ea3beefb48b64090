"""The latent diffusion pipeline: from a CLIP image embedding, a text, or both, to a scene.

A diffusers `StableUnCLIPImg2ImgPipeline`, whose parts are the tiny autoencoder, the towers of the
tiny CLIP and a small U-Net trained here: the class that large models of this kind use as well.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from brainkit.arrays.atomic import write_json, write_npy
from brainkit.arrays.digest import content_digest
from brainkit.training import Report, Schedule, Step, train
from brainkit.world import SceneWorld
from tiny_models import autoencoder, clip
from tiny_models.files import declare_single, finish, what_decides
from tiny_models.scenes import SIZE, TRAINING, describe, paint_pool

NAME = "diffusion"
BATCH, SCENES = 64, 40_000
TIMES, NOISE_LEVELS = 1000, 400
DEFAULTS = {"num_inference_steps": 12, "guidance_scale": 3.5}
SCHEDULE = Schedule(
    steps=6000,
    learning_rate=1.5e-3,
    weight_decay=0.01,
    betas=(0.9, 0.99),
    warmup=200,
    precision="bfloat16",
    average=0.999,
    checkpoint_every=250,
    seed=13,
)
# A second run from where the first ended, as in warm restarts (Loshchilov and Hutter 2017).
AGAIN = replace(SCHEDULE, steps=3000, learning_rate=1e-3, seed=15)


def build() -> nn.Module:
    """Build the U-Net with fresh weights."""
    from diffusers import UNet2DConditionModel

    torch.manual_seed(SCHEDULE.seed)
    return UNet2DConditionModel(
        sample_size=SIZE // 4,
        in_channels=4,
        out_channels=4,
        block_out_channels=(40, 80, 104),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
        attention_head_dim=4,
        cross_attention_dim=clip.WIDTH,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=2 * clip.EMBEDDING,
        resnet_time_scale_shift="scale_shift",
        time_embedding_dim=192,
    )


def noise_schedule() -> Any:
    """Return the noise schedule, for the latents as for the embeddings."""
    from diffusers import DDPMScheduler

    return DDPMScheduler(num_train_timesteps=TIMES, beta_schedule="squaredcos_cap_v2")


def condition(
    embeddings: torch.Tensor, levels: torch.Tensor, mean: torch.Tensor, std: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:  # fmt: skip
    """Return what the U-Net is told of an embedding, (n, 2 width), as the pipeline makes it.

    The embedding is standardised, noised to its level, put back on its scale, and followed by the
    level's sinusoids.
    """
    from diffusers.models.embeddings import get_timestep_embedding

    noise = torch.randn(embeddings.shape, generator=generator)
    noisy = noise_schedule().add_noise((embeddings - mean) / std, noise, levels)
    sinusoids = get_timestep_embedding(
        levels, clip.EMBEDDING, flip_sin_to_cos=True, downscale_freq_shift=0
    )
    return torch.cat([noisy * std + mean, sinusoids], dim=1)


def material(out: Path, work: Path, pool: int) -> dict[str, torch.Tensor]:
    """Return latents and embeddings of the training scenes, made the first time they are asked.

    They are kept by the scenes and by the weights of what made them.
    """
    count = min(pool, SCENES)
    images = paint_pool(work, count=pool)[:count]
    model, vae = clip.load(out / clip.NAME)[0], load_autoencoder(work)
    made = content_digest(images, model.state_dict(), vae.state_dict())[:16]
    files = {name: work / NAME / f"{name}-{made}.npy" for name in ("latents", "embeddings")}
    if not all(path.is_file() for path in files.values()):
        raw = [
            clip.embed(model, images[n : n + 2000], normalize=False) for n in range(0, count, 2000)
        ]
        write_npy(files["embeddings"], torch.cat(raw).numpy())
        latents = [autoencoder.encode(vae, images[n : n + 2000]) for n in range(0, count, 2000)]
        write_npy(files["latents"], torch.cat(latents).numpy())
    return {name: torch.from_numpy(np.load(path)) for name, path in files.items()}


def load_autoencoder(work: Path) -> Any:
    """Load the trained autoencoder."""
    from diffusers import AutoencoderTiny

    return AutoencoderTiny.from_pretrained(work / autoencoder.NAME / "model").eval()


def text_states(out: Path) -> tuple[Any, Any]:
    """Return the text tower and its tokenizer, as the pipeline uses them."""
    from transformers import CLIPTextModel, CLIPTokenizer

    folder = out / f"{clip.NAME}-transformers"
    tower = CLIPTextModel.from_pretrained(folder, dtype=torch.float32).eval()
    return tower.requires_grad_(False), CLIPTokenizer.from_pretrained(folder)


def fit(out: Path, work: Path, pool: int) -> tuple[nn.Module, Report, dict[str, torch.Tensor]]:
    """Train the U-Net to predict v (Salimans and Ho 2022), weighted by min-SNR (Hang et al. 2023).

    The embedding is dropped for a third of the scenes and the text for two thirds; for an eighth
    both are, which is what guidance steers away from.
    """
    kept = material(out, work, pool)
    scale = kept["latents"].std()
    latents, embeddings = kept["latents"] / scale, kept["embeddings"]
    mean, std = embeddings.mean(dim=0), embeddings.std(dim=0)
    tower, tokenizer = text_states(out)
    world = SceneWorld(TRAINING, SIZE)
    scenes = [world.scene(number) for number in range(len(latents))]
    noises, model = noise_schedule(), build()
    with torch.no_grad():  # embeddings of any scale count as much as their noise level
        model.class_embedding.linear_1.weight[:, : clip.EMBEDDING] /= std

    def loss(module: nn.Module, step: Step) -> torch.Tensor:
        generator, draws = step.generator, step.rng("conditions")
        rows = draws.choice(len(latents), BATCH, replace=False)
        kind = draws.random(BATCH)
        use_text = (kind > 0.125) & (kind < 0.45)
        use_embedding = kind > 0.33
        texts = [
            describe(scenes[row], draws) if told else ""
            for row, told in zip(rows, use_text, strict=True)
        ]
        states = tower(clip.tokenize(tokenizer, texts)).last_hidden_state
        levels = torch.from_numpy(
            draws.integers(0, NOISE_LEVELS, BATCH) * (draws.random(BATCH) < 0.5)
        )
        told = condition(embeddings[rows], levels, mean, std, generator)
        told = told * torch.from_numpy(use_embedding)[:, None]
        times = torch.from_numpy(draws.integers(0, TIMES, BATCH))
        noise = torch.randn(latents[rows].shape, generator=generator)
        noisy = noises.add_noise(latents[rows], noise, times)
        velocity = noises.get_velocity(latents[rows], noise, times)
        made = module(noisy, times, encoder_hidden_states=states, class_labels=told).sample
        alpha = noises.alphas_cumprod[times]
        snr = alpha / (1 - alpha)
        weight = snr.clamp(max=5) / (snr + 1)
        error = (made.float() - velocity).square().mean(dim=(1, 2, 3))
        return (weight * error).mean() / weight.mean()

    captions = [scene.caption for scene in scenes]
    learned = kept | {"captions": captions, "tower": tower.state_dict(), "batch": BATCH}
    first = train(
        model, loss, SCHEDULE, folder=work / NAME, identity=what_decides(model, **learned),
        description=NAME,
    )  # fmt: skip
    report = train(
        model, loss, AGAIN, folder=work / NAME, identity=what_decides(model, **learned),
        description=f"{NAME} again",
    )  # fmt: skip
    report.steps += first.steps
    report.seconds += first.seconds
    return model, report, {"scale": scale, "mean": mean, "std": std}


def assemble(out: Path, work: Path, unet: nn.Module, scales: dict[str, torch.Tensor]) -> Any:
    """Put the pipeline together from its parts."""
    from diffusers import DDIMScheduler, StableUnCLIPImg2ImgPipeline
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )
    from transformers import CLIPVisionModelWithProjection

    towers = out / f"{clip.NAME}-transformers"
    tower, tokenizer = text_states(out)
    normaliser = StableUnCLIPImageNormalizer(embedding_dim=clip.EMBEDDING)
    normaliser.mean.data, normaliser.std.data = scales["mean"][None], scales["std"][None]
    vae = load_autoencoder(work)
    vae.register_to_config(scaling_factor=float(1 / scales["scale"]))
    return StableUnCLIPImg2ImgPipeline(
        feature_extractor=clip.image_processor(),
        image_encoder=CLIPVisionModelWithProjection.from_pretrained(towers, dtype=torch.float32),
        image_normalizer=normaliser,
        image_noising_scheduler=noise_schedule(),
        tokenizer=tokenizer,
        text_encoder=tower,
        unet=unet.eval(),
        scheduler=DDIMScheduler(
            num_train_timesteps=TIMES,
            beta_schedule="squaredcos_cap_v2",
            prediction_type="v_prediction",
            clip_sample=False,
            timestep_spacing="trailing",
        ),
        vae=vae,
    )


def save(pipeline: Any, folder: Path) -> None:
    """Write the pipeline in half precision; its parts compute in single precision."""
    pipeline.to(dtype=torch.float16).save_pretrained(folder, safe_serialization=True)
    for part in ("image_encoder", "text_encoder"):
        declare_single(folder / part / "config.json")
    write_json(folder / "generation_config.json", DEFAULTS)
    finish(folder)


def make(name: str, out: Path, work: Path, pool: int) -> Report:
    """Train the U-Net and write the pipeline."""
    model, report, scales = fit(out, work, pool)
    pipeline = assemble(out, work, model, scales)
    save(pipeline, out / name)
    return report
