"""SDXL with an IP-Adapter: our loop against the pipeline's own call, plain and plus."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from brainkit.errors import InputError, MissingFileError
from brainkit.generators import Generator

WIDTH = 20


@pytest.fixture(scope="module")
def adapters(
    sdxl_folder: Path,
    make_adapter: Callable[..., dict[str, torch.Tensor]],
    make_encoder: Callable[..., Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with plain.safetensors, plus.safetensors and the image encoder of both."""
    folder = tmp_path_factory.mktemp("adapters")
    pipe = diffusers.DiffusionPipeline.from_pretrained(sdxl_folder)
    save_file(make_adapter(pipe, WIDTH), folder / "plain.safetensors")
    save_file(make_adapter(pipe, 32, "plus"), folder / "plus.safetensors")
    save_file(make_adapter(pipe, 1280), folder / "bigg.safetensors")
    make_encoder(WIDTH).save_pretrained(folder / "image_encoder")
    return folder


def load(sdxl_folder: Path, adapters: Path, kind: str) -> Any:
    return Generator.from_pretrained(
        sdxl_folder, adapter=adapters / f"{kind}.safetensors", device="cpu"
    )


def real_pipeline(sdxl_folder: Path, adapters: Path, kind: str) -> Any:
    pipe = diffusers.DiffusionPipeline.from_pretrained(sdxl_folder)
    pipe.load_ip_adapter(
        str(adapters), subfolder="", weight_name=f"{kind}.safetensors", image_encoder_folder=None
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_images_are_those_of_the_pipeline(
    sdxl_folder: Path, adapters: Path, guidance: float
) -> None:
    generator = load(sdxl_folder, adapters, "plain")
    assert generator.embedding_width == WIDTH
    assert generator.image_size == (32, 32)
    embeds = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(0))
    found = generator.generate(
        seeds=[4, 5], image_embeds=embeds, text=["dog", "cat"], steps=4, guidance=guidance
    )
    pipe = real_pipeline(sdxl_folder, adapters, "plain")
    for row, (seed, text) in enumerate([(4, "dog"), (5, "cat")]):
        told = embeds[row].reshape(1, 1, WIDTH)
        if guidance > 1:
            told = torch.cat([torch.zeros_like(told), told])
        expected = pipe(
            prompt=text,
            ip_adapter_image_embeds=[told],
            num_inference_steps=4,
            guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images
        np.testing.assert_allclose(found[row : row + 1], expected, atol=1e-5)
    other = generator.generate(
        seeds=[4, 5], image_embeds=-embeds, text=["dog", "cat"], steps=4, guidance=guidance
    )
    assert np.abs(found - other).max() > 1e-4


def test_plus_takes_the_tokens_of_its_encoder(sdxl_folder: Path, adapters: Path) -> None:
    generator = load(sdxl_folder, adapters, "plus")
    images = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    embeds = generator.embed_images(images)
    assert embeds.shape == (2, 17, 32)
    found = generator.generate(seeds=[4, 5], image_embeds=embeds, text="dog", steps=3, guidance=3)
    pipe = real_pipeline(sdxl_folder, adapters, "plus")
    pipe.register_modules(
        image_encoder=generator.pipe.image_encoder,
        feature_extractor=generator.pipe.feature_extractor,
    )
    pictures = [
        diffusers.utils.pt_to_pil(torch.tensor(i).permute(2, 0, 1)[None] * 2 - 1)[0] for i in images
    ]
    for row, seed in enumerate((4, 5)):
        expected = pipe(
            prompt="dog",
            ip_adapter_image=pictures[row],
            num_inference_steps=3,
            guidance_scale=3.0,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images
        np.testing.assert_allclose(found[row : row + 1], expected, atol=1e-5)
    with pytest.raises(InputError, match=r"\(n, tokens, width\) here; got shape \(2, 32\)"):
        generator.generate(seeds=[1, 2], image_embeds=embeds[:, 0])


def test_the_encoder_beside_the_adapter_is_used_if_it_fits(
    sdxl_folder: Path, adapters: Path
) -> None:
    plain = load(sdxl_folder, adapters, "plain")
    images = np.random.default_rng(1).random((3, 40, 32, 3), dtype=np.float32)
    embeds = plain.embed_images(images)
    assert embeds.shape == (3, WIDTH)
    assert plain.check_embeddings(images, embeds) == pytest.approx(1, abs=1e-5)
    wide = load(sdxl_folder, adapters, "bigg")
    assert wide.embedding_width == 1280
    with pytest.raises(InputError, match="no image encoder"):
        wide.embed_images(images)
    assert wide.check_embeddings(images, np.ones((3, 1280))) is None
    with pytest.raises(InputError, match=r"1024 wide.*ViT-H.*1280 wide.*bigG"):
        wide.check_embeddings(images, np.ones((3, 1024)))
    made = wide.generate(seeds=[1], image_embeds=np.ones((1, 1280)), steps=1)
    assert made.shape == (1, 32, 32, 3)


def test_the_scale_weighs_the_adapter(sdxl_folder: Path, adapters: Path) -> None:
    embeds = np.random.default_rng(0).standard_normal((2, WIDTH))
    off = Generator.from_pretrained(
        sdxl_folder, adapter=adapters / "plain.safetensors", adapter_scale=0.0, device="cpu"
    )
    made = off.generate(seeds=[1, 1], image_embeds=embeds, steps=2)
    np.testing.assert_allclose(made[0], made[1], atol=1e-6)


def test_text_alone(sdxl_folder: Path, adapters: Path) -> None:
    plain = Generator.from_pretrained(sdxl_folder, device="cpu")
    assert plain.embedding_width is None
    made = plain.generate(seeds=[3], text="dog", steps=2, guidance=2.0)
    pipe = diffusers.DiffusionPipeline.from_pretrained(sdxl_folder)
    expected = pipe(
        prompt="dog",
        num_inference_steps=2,
        guidance_scale=2.0,
        generator=torch.Generator().manual_seed(3),
        output_type="np",
    ).images
    np.testing.assert_allclose(made, expected, atol=1e-5)
    with pytest.raises(InputError, match="no IP-Adapter is loaded"):
        plain.generate(seeds=[1], image_embeds=np.zeros((1, WIDTH)))
    with pytest.raises(InputError, match="only unCLIP"):
        plain.generate(seeds=[1], text="dog", noise_level=3)
    adapted = load(sdxl_folder, adapters, "plain").generate(seeds=[3], text="dog", steps=2)
    assert np.isfinite(adapted).all()


def test_gradients_reach_the_embeddings(sdxl_folder: Path, adapters: Path) -> None:
    generator = load(sdxl_folder, adapters, "plain")
    latents = torch.randn(1, 4, 16, 16, requires_grad=True)
    embeds = torch.randn(1, WIDTH, requires_grad=True)
    found = generator.predict_x0(latents, 400, image_embeds=embeds, guidance=2.0)
    gradients = torch.autograd.grad(found.square().sum(), [latents, embeds])
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)


def test_bad_adapters_are_named(
    sdxl_folder: Path, unclip_folder: Path, adapters: Path, tmp_path: Path
) -> None:
    with pytest.raises(MissingFileError, match="ORG/NAME:PATH"):
        Generator.from_pretrained(sdxl_folder, adapter=tmp_path / "none.safetensors")
    (tmp_path / "old.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"pickled.*safetensors.torch.save_file"):
        Generator.from_pretrained(sdxl_folder, adapter=tmp_path / "old.bin")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"no IP-Adapter.*got x"):
        Generator.from_pretrained(sdxl_folder, adapter=tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="takes no adapter"):
        Generator.from_pretrained(unclip_folder, adapter=adapters / "plain.safetensors")
    face = {"image_proj.norm.weight": torch.ones(4), "ip_adapter.1.to_k_ip.weight": torch.ones(1)}
    save_file(face, tmp_path / "face.safetensors")
    with pytest.raises(InputError, match="face recogniser"):
        Generator.from_pretrained(sdxl_folder, adapter=tmp_path / "face.safetensors")
    part = {
        "image_proj.proj.weight": torch.ones(160, 3),
        "ip_adapter.1.to_k_ip.weight": torch.ones(16, 40),
    }
    save_file(part, tmp_path / "part.safetensors")
    with pytest.raises(InputError, match="does not fit this pipeline"):
        Generator.from_pretrained(sdxl_folder, adapter=tmp_path / "part.safetensors")


def test_texts_that_are_cut_are_told_of(sdxl_folder: Path) -> None:
    """Once, though two text encoders read them."""
    generator = Generator.from_pretrained(sdxl_folder, device="cpu")
    with pytest.warns(UserWarning, match=r"at most 8 tokens.* 1 of 'dog dog") as told:
        generator.generate(seeds=[1, 2], text="dog dog dog dog dog dog dog", steps=1)
    assert sum("at most 8 tokens" in str(warning.message) for warning in told) == 1
