"""Pipelines of the real classes at tiny sizes, with random weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
START, END = "<|startoftext|>", "<|endoftext|>"
TEXT_LENGTH = 8


def tokenizer(length: int = TEXT_LENGTH) -> Any:
    from transformers import CLIPTokenizer

    tokens = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "do", "dog</w>", START, END]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    merges = [("d", "o"), ("do", "g</w>")]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length)


def text_config(width: int, projection: int = 16, length: int = TEXT_LENGTH) -> Any:
    from transformers import CLIPTextConfig

    return CLIPTextConfig(
        vocab_size=56,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=length,
        bos_token_id=54,
        eos_token_id=55,
        pad_token_id=55,
        projection_dim=projection,
    )


def image_encoder(width: int, hidden: int = 32, seed: int = 0) -> Any:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(seed)
    config = CLIPVisionConfig(
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=32,
        patch_size=8,
        projection_dim=width,
        initializer_range=0.2,
    )
    return CLIPVisionModelWithProjection(config)


def extractor() -> Any:
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})


def autoencoder_tiny() -> Any:
    from diffusers import AutoencoderTiny

    torch.manual_seed(3)
    return AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8),
        decoder_block_out_channels=(8, 8, 8),
        num_encoder_blocks=(0, 1, 1),
        num_decoder_blocks=(1, 1, 1),
        latent_channels=4,
        scaling_factor=0.7,
    )


def autoencoder_kl(**settings: Any) -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(4)
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        layers_per_block=1,
        norm_num_groups=4,
        latent_channels=4,
        **settings,
    )


def unet(**settings: Any) -> Any:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(5)
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        **settings,
    )


def ddim(kind: str = "v_prediction") -> Any:
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        beta_schedule="squaredcos_cap_v2",
        prediction_type=kind,
        clip_sample=False,
        timestep_spacing="trailing",
    )


def unclip_pipeline(
    width: int = 24, scheduler: Any = None, vae: Any = None, text_length: int = TEXT_LENGTH
) -> Any:
    from diffusers import DDPMScheduler, StableUnCLIPImg2ImgPipeline
    from diffusers.pipelines.stable_diffusion.stable_unclip_image_normalizer import (
        StableUnCLIPImageNormalizer,
    )
    from transformers import CLIPTextModel

    encoder = image_encoder(width)
    normalizer = StableUnCLIPImageNormalizer(embedding_dim=width)
    torch.manual_seed(6)
    with torch.no_grad():
        normalizer.mean.normal_()
        normalizer.std.uniform_(0.5, 2)
    pipe = StableUnCLIPImg2ImgPipeline(
        feature_extractor=extractor(),
        image_encoder=encoder,
        image_normalizer=normalizer,
        image_noising_scheduler=DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
        tokenizer=tokenizer(text_length),
        text_encoder=CLIPTextModel(text_config(16, length=text_length)),
        unet=unet(
            sample_size=8,
            cross_attention_dim=16,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=2 * width,
        ),
        scheduler=scheduler or ddim(),
        vae=vae or autoencoder_tiny(),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def sdxl_pipeline() -> Any:
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(7)
    pipe = StableDiffusionXLPipeline(
        vae=autoencoder_kl(scaling_factor=0.13025),
        text_encoder=CLIPTextModel(text_config(16)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(24, projection=12)),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        unet=unet(
            sample_size=16,
            cross_attention_dim=40,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            transformer_layers_per_block=1,
            projection_class_embeddings_input_dim=12 + 6 * 8,
            use_linear_projection=True,
        ),
        scheduler=EulerDiscreteScheduler(
            beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1
        ),
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def adapter_state(pipe: Any, width: int, kind: str = "plain") -> dict[str, torch.Tensor]:
    """Random weights of an IP-Adapter, with the names of the published files."""
    from diffusers.models.embeddings import IPAdapterPlusImageProjection

    torch.manual_seed(8)
    cross = pipe.unet.config.cross_attention_dim
    state = {}
    if kind == "plain":
        state["image_proj.proj.weight"] = torch.randn(4 * cross, width) / width**0.5
        state["image_proj.proj.bias"] = torch.zeros(4 * cross)
        state["image_proj.norm.weight"] = torch.ones(cross)
        state["image_proj.norm.bias"] = torch.zeros(cross)
    else:
        state |= _plus_projection(IPAdapterPlusImageProjection, width, cross)
    key = 1
    for name in pipe.unet.attn_processors:
        if name.endswith("attn2.processor"):
            inner = pipe.unet.get_submodule(name.removesuffix(".processor")).to_k.out_features
            for part in ("to_k_ip", "to_v_ip"):
                state[f"ip_adapter.{key}.{part}.weight"] = torch.randn(inner, cross) / cross**0.5
            key += 2
    return state


def _plus_projection(kind: Any, width: int, cross: int) -> dict[str, torch.Tensor]:
    """One layer of the resampler, under the names of the published files."""
    hidden, heads, queries = 64, 1, 3
    rows = {
        "latents": (1, queries, hidden),
        "proj_in.weight": (hidden, width),
        "proj_in.bias": (hidden,),
        "proj_out.weight": (cross, hidden),
        "proj_out.bias": (cross,),
        "norm_out.weight": (cross,),
        "norm_out.bias": (cross,),
    }
    for layer in range(len(kind(hidden_dims=hidden, heads=heads).layers)):
        rows |= {
            f"layers.{layer}.0.norm1.weight": (hidden,),
            f"layers.{layer}.0.norm1.bias": (hidden,),
            f"layers.{layer}.0.norm2.weight": (hidden,),
            f"layers.{layer}.0.norm2.bias": (hidden,),
            f"layers.{layer}.0.to_q.weight": (64 * heads, hidden),
            f"layers.{layer}.0.to_kv.weight": (128 * heads, hidden),
            f"layers.{layer}.0.to_out.weight": (hidden, 64 * heads),
            f"layers.{layer}.1.0.weight": (hidden,),
            f"layers.{layer}.1.0.bias": (hidden,),
            f"layers.{layer}.1.1.weight": (4 * hidden, hidden),
            f"layers.{layer}.1.3.weight": (hidden, 4 * hidden),
        }
    return {f"image_proj.{name}": torch.randn(shape) * 0.1 for name, shape in rows.items()}


@pytest.fixture(scope="session")
def make_unclip() -> Callable[..., Any]:
    return unclip_pipeline


@pytest.fixture(scope="session")
def make_adapter() -> Callable[..., dict[str, torch.Tensor]]:
    return adapter_state


@pytest.fixture(scope="session")
def make_vae() -> Callable[..., Any]:
    return autoencoder_kl


@pytest.fixture(scope="session")
def make_encoder() -> Callable[..., Any]:
    return image_encoder


@pytest.fixture(scope="session")
def unclip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / "unclip"
    unclip_pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def sdxl_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pipelines") / "sdxl"
    sdxl_pipeline().save_pretrained(folder, safe_serialization=True)
    return folder


@pytest.fixture(scope="session")
def unclip(unclip_folder: Path) -> Any:
    """The generator of a random unCLIP pipeline: 32-pixel images, embeddings 24 wide."""
    from brainkit.generators import Generator

    return Generator.from_pretrained(unclip_folder, device="cpu")
