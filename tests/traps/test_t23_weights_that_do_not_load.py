"""T23: weights that silently do not load and leave a random network behind."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file

from brainkit.errors import InputError
from brainkit.features import open_backbone
from brainkit.features.weights import load_state

VISION = {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8}
TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    config = {"embed_dim": 8, "vision_cfg": VISION, "text_cfg": TEXT}
    model = open_clip.CLIP(**json.loads(json.dumps(config)))
    content = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps(content))
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    return tmp_path


def test_the_very_values_are_loaded(folder: Path) -> None:
    state = load_file(folder / "open_clip_model.safetensors")
    own = open_backbone(f"open_clip:{folder}").module.state_dict()
    assert len(own) > 20
    for name, value in own.items():
        assert torch.equal(value, state[f"visual.{name}"])


@pytest.mark.parametrize("change", ["prefix", "missing", "unexpected", "shape"])
def test_weights_that_do_not_fit_raise_with_counts(folder: Path, change: str) -> None:
    path = folder / "open_clip_model.safetensors"
    state = load_file(path)
    name = "visual.transformer.resblocks.1.mlp.c_fc.weight"
    n = len(state)
    if change == "prefix":
        state = {f"model.{key}": value for key, value in state.items()}
        expected = rf"of the {n} tensors of CLIP, 0 were found, {n} missing.*; {n} that it does"
    elif change == "missing":
        del state[name]
        expected = rf"{n - 1} were found, 1 missing \({name}\), 0 of another shape; 0 that"
    elif change == "unexpected":
        state["visual.extra"] = torch.ones(2)
        expected = rf"{n} were found, 0 missing, .*1 that it does not have \(visual\.extra\)"
    else:
        state[name] = state[name][:-1].contiguous()
        expected = rf"{n - 1} were found, 0 missing, 1 of another shape \({name} \(127, 32\)"
    save_file(state, path)
    with pytest.raises(InputError, match=expected):
        open_backbone(f"open_clip:{folder}")


def test_plain_modules() -> None:
    module = torch.nn.Linear(3, 2)
    with pytest.raises(InputError, match=r"of the 2 tensors of Linear, 1 were found, 1 missing"):
        load_state(module, {"weight": torch.ones(2, 3)})
