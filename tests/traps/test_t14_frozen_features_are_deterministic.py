"""T14: "frozen" features taken with the random crops of training."""

import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file

from brainkit.features import extract, open_backbone
from brainkit.features.extraction import ModelInputs

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 64, 96, 3), dtype=np.uint8)


@pytest.fixture
def clip(tmp_path: Path) -> str:
    """A model with dropout of patches, which training alone may use."""
    vision = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
    text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    config = {"embed_dim": 8, "vision_cfg": {**vision, "patch_dropout": 0.5}, "text_cfg": text}
    model = open_clip.CLIP(**json.loads(json.dumps(config)))
    content = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    return f"open_clip:{tmp_path}"


def test_extracting_twice_gives_the_same_bits(clip: str) -> None:
    backbone = open_backbone(clip)
    first = extract(backbone, IMAGES, layers=backbone.layers(), batch_size=2)
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002 - augmentations draw from the global state
    backbone.module.train()  # somebody forgot
    again = extract(backbone, IMAGES, layers=backbone.layers(), batch_size=2)
    for layer, values in first.items():
        assert values.std() > 0
        np.testing.assert_array_equal(again[layer], values, err_msg=layer)


def test_preprocessing_has_no_random_part(clip: str) -> None:
    backbone = open_backbone(clip)
    images = ModelInputs(IMAGES, "image").read(range(5))
    first = backbone.prepare(images)
    assert torch.equal(backbone.prepare(images), first)
    # The whole image's centre, not a part of it that varies: mirrored in, mirrored out.
    mirrored = backbone.prepare(ModelInputs(IMAGES[:, :, ::-1].copy(), "image").read(range(5)))
    torch.testing.assert_close(mirrored.flip(3), first, rtol=0, atol=2 / 127)


def test_a_row_does_not_depend_on_its_batch(clip: str) -> None:
    whole = extract(clip, IMAGES, batch_size=5)
    alone = np.concatenate([extract(clip, IMAGES[i : i + 1]) for i in range(5)])
    np.testing.assert_allclose(alone, whole, rtol=1e-5, atol=1e-6)
