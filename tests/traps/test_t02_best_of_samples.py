"""T02: the best of several samples picked by its likeness to the image shown."""

import inspect

import numpy as np
import pytest

from brainkit.generators import Generator
from brainkit.reconstruction.drawing import draw, further_seeds, nearest_drawing
from brainkit.reconstruction.nulls import Condition

SETTINGS = {"steps": 2, "guidance": None, "noise_level": 0}


@pytest.fixture(scope="module")
def generator():
    return Generator.from_pretrained("tiny", device="cpu")


@pytest.fixture(scope="module")
def decoded(generator):
    """Embeddings as a decoder gives them, of the length that true ones have."""
    shown = np.random.default_rng(0).uniform(size=(2, *generator.image_size, 3))
    return generator.embed_images(shown.astype(np.float32))


def test_the_drawing_that_is_kept_is_nearest_to_what_it_was_drawn_from(generator, decoded):
    kept = draw(generator, {"kind": Condition(decoded)}, [3, 4], SETTINGS, samples=3)["kind"]
    samples = [
        generator.generate(image_embeds=decoded, seeds=further_seeds([3, 4], k), **SETTINGS)
        for k in range(3)
    ]
    looks = np.stack([generator.embed_images(images) for images in samples])  # (3, 2, width)
    norms = np.linalg.norm(looks, axis=2) * np.linalg.norm(decoded, axis=1)
    cosines = (looks * decoded).sum(axis=2) / norms
    best = cosines.argmax(axis=0)
    expected = np.stack([samples[k][item] for item, k in enumerate(best)])
    np.testing.assert_allclose(kept, expected, atol=1e-5)
    assert len({*map(tuple, np.round(cosines, 6))}) == 3  # the samples do differ


def test_one_sample_is_what_was_drawn_before_and_nothing_chooses(generator, decoded):
    one = draw(generator, {"kind": Condition(decoded)}, [3, 4], SETTINGS)["kind"]
    plain = generator.generate(image_embeds=decoded, seeds=[3, 4], **SETTINGS)
    np.testing.assert_array_equal(one, plain)
    nothing = draw(generator, {"kind": Condition()}, [3, 4], SETTINGS, samples=3)["kind"]
    np.testing.assert_array_equal(nothing, draw(generator, {"kind": Condition()}, [3, 4], SETTINGS)["kind"])  # fmt: skip # noqa: E501


def test_neither_the_drawing_nor_the_choice_can_be_given_the_image_shown():
    assert set(inspect.signature(draw).parameters) == {
        "generator", "conditions", "seeds", "settings", "strength", "samples",
    }  # fmt: skip
    assert set(inspect.signature(nearest_drawing).parameters) == {"generator", "drawn", "wanted"}
    assert set(Condition.__dataclass_fields__) == {"image_embeds", "init_latents", "text"}
