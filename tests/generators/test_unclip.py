"""Stable unCLIP: our loop against the pipeline's own call, and what an image depends on."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from brainkit.errors import InputError
from brainkit.generators import Generator
from brainkit.generators.pipelines import StableUnCLIPGenerator

SEEDS = [11, 2, 30, 4, 55]
TEXTS = ["dog", "", "a dog", "do", "cat"]


def embeddings(n: int, width: int = 24) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(1))


def from_pipeline(pipe: Any, embeds: torch.Tensor, **settings: Any) -> np.ndarray:
    return pipe(
        image_embeds=embeds,
        prompt=TEXTS[: len(embeds)],
        generator=[torch.Generator().manual_seed(seed) for seed in SEEDS[: len(embeds)]],
        output_type="np",
        **settings,
    ).images


def test_it_is_loaded_from_its_folder(unclip: Generator) -> None:
    assert type(unclip) is StableUnCLIPGenerator
    assert unclip.embedding_width == 24
    assert unclip.latent_shape == (4, 8, 8)
    assert unclip.image_size == (32, 32)
    assert not any(p.requires_grad for p in unclip.pipe.unet.parameters())
    assert not unclip.pipe.unet.training


@pytest.mark.parametrize(("guidance", "noise_level"), [(1.0, 0), (4.0, 0), (2.5, 300)])
def test_images_are_those_of_the_pipeline(
    unclip: Generator, unclip_folder: Path, guidance: float, noise_level: int
) -> None:
    embeds = embeddings(3)
    pipe = diffusers.DiffusionPipeline.from_pretrained(unclip_folder)
    expected = from_pipeline(
        pipe, embeds, num_inference_steps=4, guidance_scale=guidance, noise_level=noise_level
    )
    found = unclip.generate(
        seeds=SEEDS[:3],
        image_embeds=embeds.numpy(),
        text=TEXTS[:3],
        steps=4,
        guidance=guidance,
        noise_level=noise_level,
    )
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.std() > 1e-3


@pytest.mark.parametrize(
    "name", ["EulerAncestralDiscreteScheduler", "PNDMScheduler", "DPMSolverMultistepScheduler"]
)
def test_other_schedulers_too(make_unclip: Callable[..., Any], name: str) -> None:
    """With noise at every step, with a memory of earlier steps, of a second order."""
    pipe = make_unclip(scheduler=getattr(diffusers, name)(prediction_type="v_prediction"))
    embeds = embeddings(2)
    expected = from_pipeline(pipe, embeds, num_inference_steps=5, guidance_scale=3.0)
    generator = StableUnCLIPGenerator(pipe)
    settings = {"steps": 5, "guidance": 3.0, "text": TEXTS[:2]}
    found = generator.generate(seeds=SEEDS[:2], image_embeds=embeds, **settings)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    again = generator.generate(seeds=SEEDS[:2], image_embeds=embeds, **settings)
    np.testing.assert_array_equal(found, again)
    alone = generator.generate(
        seeds=SEEDS[1:2], image_embeds=embeds[1:], **(settings | {"text": TEXTS[1]})
    )
    np.testing.assert_allclose(found[1:], alone, atol=1e-5)


def test_an_image_does_not_depend_on_its_batch(unclip: Generator) -> None:
    embeds = embeddings(5).numpy()
    settings = {"steps": 3, "guidance": 2.0, "noise_level": 50}
    together = unclip.generate(seeds=SEEDS, image_embeds=embeds, text=TEXTS, **settings)
    alone = [
        unclip.generate(seeds=[seed], image_embeds=embeds[i : i + 1], text=[TEXTS[i]], **settings)
        for i, seed in enumerate(SEEDS)
    ]
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-5)
    by_two = unclip.generate(seeds=SEEDS, image_embeds=embeds, text=TEXTS, batch_size=2, **settings)
    np.testing.assert_allclose(together, by_two, atol=1e-5)
    same = unclip.generate(seeds=[7, 7, 8], image_embeds=embeds[[0, 0, 0]], text="dog", **settings)
    np.testing.assert_allclose(same[0], same[1], atol=1e-5)
    assert np.abs(same[0] - same[2]).max() > 1e-3


def test_embedding_and_text_both_act(unclip: Generator) -> None:
    embeds, settings = embeddings(2), {"seeds": [1], "steps": 2, "guidance": 1.0}
    both = unclip.generate(image_embeds=embeds[:1], text="dog", **settings)
    for other in (
        unclip.generate(image_embeds=embeds[1:], text="dog", **settings),
        unclip.generate(image_embeds=embeds[:1], text="cat", **settings),
        unclip.generate(image_embeds=embeds[:1], **settings),
        unclip.generate(text="dog", **settings),
        unclip.generate(**settings),
    ):
        assert np.abs(both - other).max() > 1e-4


def test_nothing_given_is_the_unconditional_branch(unclip: Generator) -> None:
    plain = unclip.generate(seeds=[5], steps=2, guidance=1.0)
    np.testing.assert_allclose(plain, unclip.generate(seeds=[5], steps=2, guidance=6.0), atol=1e-5)


@pytest.mark.parametrize("text", [None, "", ["", "dog"]])
def test_guidance_costs_nothing_where_nothing_is_told(
    unclip: Generator, monkeypatch: pytest.MonkeyPatch, text: Any
) -> None:
    rows: list[int] = []
    unet = unclip.pipe.unet
    monkeypatch.setattr(
        unet, "forward", lambda x, *a, f=unet.forward, **k: rows.append(len(x)) or f(x, *a, **k)
    )
    unclip.generate(seeds=[5, 6], text=text, steps=2, guidance=6.0)
    assert rows == ([4, 4] if isinstance(text, list) else [2, 2])


def test_an_empty_text_among_others_is_the_unconditional_branch(unclip: Generator) -> None:
    settings = {"steps": 2, "guidance": 6.0}
    mixed = unclip.generate(seeds=[5, 6], text=["", "dog"], **settings)
    np.testing.assert_allclose(mixed[:1], unclip.generate(seeds=[5], **settings), atol=1e-5)


def test_texts_that_are_cut_are_told_of_once(
    unclip: Generator, capfd: pytest.CaptureFixture[str]
) -> None:
    """The context has eight tokens, two of them for start and end."""
    long, longer = "dog dog dog dog dog dog dog", "a dog dog dog dog dog dog dog dog"
    settings: dict[str, Any] = {"steps": 1, "guidance": 2.0, "batch_size": 1}
    with pytest.warns(UserWarning, match="at most 8 tokens") as told:
        cut = unclip.generate(seeds=[1, 2, 1], text=[long, longer, long], **settings)
    (warning,) = told
    assert "2 of 2 different texts" in str(warning.message)
    assert f"1 of {long!r}; 3 of {longer!r}" in str(warning.message)
    assert warning.filename == __file__
    fitting = unclip.generate(seeds=[1], text="dog dog dog dog dog dog", **settings)
    np.testing.assert_allclose(cut[:1], fitting, atol=1e-5)
    np.testing.assert_allclose(cut[2:], fitting, atol=1e-5)
    with pytest.warns(UserWarning, match=r"1 of 2 different texts: 3 of"):
        unclip.predict_x0(torch.zeros(2, 4, 8, 8), 500, text=[longer, "dog"])
    heard = capfd.readouterr()
    assert "truncated" not in heard.err + heard.out  # not said a second time by the libraries
    assert "longer than" not in heard.err + heard.out


def test_a_long_text_is_quoted_in_part(unclip: Generator) -> None:
    text = "dog " * 40
    with pytest.warns(UserWarning, match=rf"34 of '{('dog ' * 15).rstrip()}\.\.\.'\. Give"):
        unclip.generate(seeds=[1], text=text, steps=1)


def test_strength_runs_from_the_initial_latents(unclip: Generator) -> None:
    images = np.random.default_rng(0).random((2, 32, 32, 3), dtype=np.float32)
    init, embeds = unclip.encode_latents(images), embeddings(2)
    settings = {"seeds": [1, 2], "image_embeds": embeds, "steps": 10, "guidance": 1.0}
    kept = unclip.generate(init_latents=init, strength=0, **settings)
    np.testing.assert_allclose(kept, unclip.decode_latents(init), atol=1e-6)
    ignored = unclip.generate(init_latents=init, strength=1, **settings)
    np.testing.assert_array_equal(ignored, unclip.generate(**settings))
    default = unclip.generate(init_latents=init, **settings)
    np.testing.assert_array_equal(
        default, unclip.generate(init_latents=init, strength=0.75, **settings)
    )
    far = [
        np.abs(unclip.generate(init_latents=init, strength=s, **settings) - kept).mean()
        for s in (0.1, 0.9)
    ]
    assert 0 < far[0] < far[1]


def test_strength_starts_at_the_right_step(unclip: Generator) -> None:
    """By hand: noise of the image's own seed at timestep 3 of 5, then the last two steps."""
    init, embeds = torch.randn(1, 4, 8, 8), embeddings(1)
    found = unclip.generate(
        seeds=[9], image_embeds=embeds, init_latents=init, strength=0.4, steps=5, guidance=1.0
    )
    draws = torch.Generator().manual_seed(9)
    labels = unclip.pipe.noise_image_embeddings(embeds, torch.tensor([0]), generator=draws)
    noise = torch.randn(1, 4, 8, 8, generator=draws)
    scheduler = diffusers.DDIMScheduler.from_config(unclip.pipe.scheduler.config)
    scheduler.set_timesteps(5)
    steps = scheduler.timesteps[3:]
    latents = scheduler.add_noise(init, noise, steps[:1])
    hidden, _ = unclip.pipe.encode_prompt([""], "cpu", 1, False)
    with torch.no_grad():
        for step in steps:
            output = unclip.pipe.unet(latents, step, hidden, class_labels=labels).sample
            latents = scheduler.step(output, step, latents).prev_sample
    np.testing.assert_allclose(found, unclip.decode_latents(latents), atol=1e-5)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_predict_x0_is_the_schedulers_own(make_unclip: Callable[..., Any], kind: str) -> None:
    scheduler = diffusers.DDIMScheduler(prediction_type=kind, clip_sample=False)
    generator = StableUnCLIPGenerator(make_unclip(scheduler=scheduler))
    latents, embeds = torch.randn(2, 4, 8, 8), embeddings(2)
    found = generator.predict_x0(latents, 400, image_embeds=embeds, guidance=1.0)
    level = torch.full((2,), 0)
    normal = generator.pipe.noise_image_embeddings(
        embeds, torch.tensor([0]), noise=torch.zeros_like(embeds)
    )
    hidden, _ = generator.pipe.encode_prompt(["", ""], "cpu", 1, False)
    output = generator.pipe.unet(latents, level + 400, hidden, class_labels=normal).sample
    scheduler.set_timesteps(1000)
    own = scheduler.step(output, 400, latents).pred_original_sample
    torch.testing.assert_close(found, own.detach(), atol=1e-5, rtol=1e-5)


def test_predict_x0_of_a_flow_and_of_euler(make_unclip: Callable[..., Any]) -> None:
    latents, embeds = torch.randn(1, 4, 8, 8), embeddings(1)
    for scheduler in (
        diffusers.FlowMatchEulerDiscreteScheduler(),
        diffusers.EulerDiscreteScheduler(),
    ):
        pipe = make_unclip(scheduler=scheduler)
        generator = StableUnCLIPGenerator(pipe)
        scheduler.set_timesteps(8)
        step = scheduler.timesteps[-1]
        found = generator.predict_x0(latents, step, image_embeds=embeds, guidance=3.0)
        images = generator.generate(seeds=[1], image_embeds=embeds, steps=2)
        assert images.shape == (1, 32, 32, 3)
        # From the last timestep the Euler step leads to the prediction.
        with torch.no_grad():
            told = generator._condition(embeds, [""], 3.0, 0, None)
            scaled = latents
            if hasattr(scheduler, "scale_model_input"):
                scaled = scheduler.scale_model_input(latents, step)
            output = pipe.unet(
                torch.cat([scaled] * 2), step.reshape(1).repeat(2), **told.keywords
            ).sample
        output = output[:1] + 3.0 * (output[1:] - output[:1])
        own = scheduler.step(output, step, latents).prev_sample
        torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)


def test_predict_x0_has_right_gradients(make_unclip: Callable[..., Any]) -> None:
    """Against central differences, in double precision, for latents and embeddings."""
    generator = StableUnCLIPGenerator(make_unclip().to(dtype=torch.float64))
    latents = torch.randn(1, 4, 8, 8, dtype=torch.float64)
    embeds = embeddings(1).double()
    weights = torch.randn(1, 4, 8, 8, dtype=torch.float64)

    def value(x: torch.Tensor, e: torch.Tensor) -> torch.Tensor:
        found = generator.predict_x0(x, 300, image_embeds=e, text="dog", guidance=2.0)
        return (found * weights).sum()

    leaves = [latents.clone().requires_grad_(), embeds.clone().requires_grad_()]
    gradients = torch.autograd.grad(value(*leaves), leaves)
    for which, gradient in enumerate(gradients):
        direction = torch.randn(leaves[which].shape, dtype=torch.float64)
        step = 1e-3
        ends = []
        for sign in (1, -1):
            moved = [latents, embeds]
            moved[which] = moved[which] + sign * step * direction
            with torch.no_grad():
                ends.append(value(*moved))
        numeric = float(ends[0] - ends[1]) / (2 * step)
        assert numeric == pytest.approx(float((gradient * direction).sum()), rel=1e-3)
        assert abs(numeric) > 1e-6


def test_the_real_size_of_vit_h(make_unclip: Callable[..., Any], tmp_path: Path) -> None:
    make_unclip(width=1024).save_pretrained(tmp_path / "h", safe_serialization=True)
    generator = Generator.from_pretrained(tmp_path / "h", device="cpu")
    assert generator.embedding_width == 1024
    images = generator.generate(seeds=[1, 2], image_embeds=embeddings(2, 1024), steps=1)
    assert images.shape == (2, 32, 32, 3)
    with pytest.raises(InputError, match=r"768 wide.*ViT-L.*1024 wide.*ViT-H"):
        generator.generate(seeds=[1], image_embeds=np.zeros((1, 768)))


def test_half_precision_files_are_loaded_in_one_precision(
    make_unclip: Callable[..., Any], tmp_path: Path
) -> None:
    pipe = make_unclip()
    expected = StableUnCLIPGenerator(pipe).generate(
        seeds=[3], image_embeds=embeddings(1), steps=2, guidance=2.0
    )
    pipe.to(dtype=torch.float16).save_pretrained(tmp_path / "half", safe_serialization=True)
    generator = Generator.from_pretrained(tmp_path / "half", device="cpu")
    assert generator.dtype == torch.float32
    assert generator.pipe.text_encoder.dtype == torch.float32
    found = generator.generate(seeds=[3], image_embeds=embeddings(1), steps=2, guidance=2.0)
    np.testing.assert_allclose(found, expected, atol=2e-2)
    narrow = Generator.from_pretrained(tmp_path / "half", device="cpu", dtype="bfloat16")
    assert narrow.dtype == torch.bfloat16
    images = narrow.generate(seeds=[3], image_embeds=embeddings(1), steps=2)
    assert np.isfinite(images).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_embeds": np.zeros((2, 24))}, "one per image; got 1 seeds, 2 image_embeds"),
        ({"text": ["dog", "cat"]}, "1 seeds, 2 text"),
        ({"image_embeds": np.zeros(24)}, r"\(n, width\) here; got shape \(24,\)"),
        ({"image_embeds": np.full((1, 24), np.nan)}, "not finite"),
        ({"strength": 0.5}, "give those too"),
        ({"init_latents": np.zeros((1, 4, 8, 9))}, r"\(n, 4, 8, 8\).*32×32 pixels"),
        ({"init_latents": np.zeros((1, 4, 8, 8)), "strength": 1.5}, "from 0 to 1; got 1.5"),
        ({"steps": 0}, "whole number from 1; got 0"),
        ({"guidance": -1.0}, "weight from 0; got -1.0"),
        ({"noise_level": 1000, "image_embeds": np.zeros((1, 24))}, "0 to 999; got 1000"),
        ({"seeds": [1.5]}, "whole number from 0 to"),
        ({"seeds": [-1]}, "whole number from 0 to"),
        ({"seeds": ["a"]}, "whole number from 0 to"),
        ({"seeds": 3}, "one whole number per image"),
        ({"text": [3]}, "sequence of strings"),
        ({"text": 3}, "sequence of strings"),
        ({"guidance": "7"}, "weight from 0; got '7'"),
        ({"image_embeds": [["a"] * 24]}, "arrays of numbers"),
        ({"batch_size": 0}, "from 1; got 0"),
    ],
)
def test_bad_requests_are_named(unclip: Generator, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        unclip.generate(**({"seeds": [1], "steps": 1} | settings))


def test_bad_latents_to_predict_from_are_named(unclip: Generator) -> None:
    with pytest.raises(InputError, match=r"\(n, 4, h, w\); got shape \(1, 3, 8, 8\)"):
        unclip.predict_x0(torch.zeros(1, 3, 8, 8), 10)


def test_no_seeds_no_images(unclip: Generator) -> None:
    assert unclip.generate(seeds=[]).shape == (0, 32, 32, 3)
