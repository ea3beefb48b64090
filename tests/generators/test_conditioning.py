"""Embeddings of another model, another order or another scale are found out on probe images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from brainkit.errors import InputError
from brainkit.generators import Generator
from brainkit.generators.conditioning import compare_embeddings, cosines


@pytest.fixture(scope="module")
def probes() -> np.ndarray:
    """Pictures that differ: coloured ramps with noise."""
    rng = np.random.default_rng(0)
    ramps = np.linspace(0, 1, 32)[None, :, None, None] * rng.random((8, 1, 1, 3))
    return (0.6 * ramps + 0.4 * rng.random((8, 32, 32, 3))).astype(np.float32)


def test_cosines_in_closed_form() -> None:
    found = cosines(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 3.0], [2.0, 0.0]]))
    np.testing.assert_allclose(found, [[0, 1], [np.sqrt(0.5), np.sqrt(0.5)]])


def test_embeddings_are_those_of_the_pipelines_own_call(
    unclip: Generator, probes: np.ndarray
) -> None:
    from PIL import Image

    pictures = [Image.fromarray(np.rint(one * 255).astype(np.uint8)) for one in probes]
    pixels = unclip.pipe.feature_extractor(pictures, return_tensors="pt").pixel_values
    with torch.no_grad():
        expected = unclip.pipe.image_encoder(pixels).image_embeds
    found = unclip.embed_images(probes)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-5)
    with torch.no_grad():
        images = unclip.pipe(
            image=pictures[0],
            prompt="",
            num_inference_steps=2,
            guidance_scale=2.0,
            generator=torch.Generator().manual_seed(1),
            output_type="np",
        ).images
    made = unclip.generate(seeds=[1], image_embeds=found[:1], steps=2, guidance=2.0)
    np.testing.assert_allclose(made, images, atol=1e-5)


def test_the_right_embeddings_pass(unclip: Generator, probes: np.ndarray) -> None:
    own = unclip.embed_images(probes)
    assert unclip.check_embeddings(probes, own) == pytest.approx(1, abs=1e-5)
    noisy = own + 0.05 * own.std() * np.random.default_rng(0).standard_normal(own.shape)
    assert 0.98 < unclip.check_embeddings(probes, noisy) < 1


def test_another_width_is_named(unclip: Generator, probes: np.ndarray) -> None:
    with pytest.raises(InputError, match=r"512 wide.*ViT-B.*24 wide.*embed_images"):
        unclip.check_embeddings(probes, np.ones((8, 512)))


def test_another_model_of_the_same_width_is_found_out(
    unclip: Generator, probes: np.ndarray, make_encoder: Callable[..., Any]
) -> None:
    other = make_encoder(24, seed=9).eval()
    pixels = torch.tensor(probes).permute(0, 3, 1, 2)
    with torch.no_grad():
        embeddings = other(pixels).image_embeds.numpy()
    with pytest.raises(
        InputError, match=r"another model.*8 images.*both are 24 wide.*embed_images"
    ):
        unclip.check_embeddings(probes, embeddings)


def test_another_scale_is_found_out(unclip: Generator, probes: np.ndarray) -> None:
    own = unclip.embed_images(probes)
    with pytest.raises(InputError, match=r"normalised or scaled.*multiply them by 5"):
        unclip.check_embeddings(probes, own / 5)


def test_another_order_is_found_out() -> None:
    own = np.random.default_rng(0).standard_normal((6, 50))
    with pytest.raises(InputError, match=r"another order.*image 0 fits row 5"):
        compare_embeddings(own, own[::-1])


def test_other_shapes_are_named(unclip: Generator, probes: np.ndarray) -> None:
    with pytest.raises(InputError, match="8 images, 7 embeddings"):
        unclip.check_embeddings(probes, np.ones((7, 24)))
    with pytest.raises(InputError, match=r"have shape \(2, 5, 3\).*got \(2, 4, 3\)"):
        compare_embeddings(np.ones((2, 5, 3)), np.ones((2, 4, 3)))
