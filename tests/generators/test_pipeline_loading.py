"""Loading pipelines: strict, safetensors only, offline; each thing that is wrong is named."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from brainkit.errors import (
    CorruptFileError,
    DownloadError,
    InputError,
    MissingFileError,
    UnknownNameError,
)
from brainkit.features.weights import quiet
from brainkit.generators import Generator
from brainkit.generators.pipelines import SDXLGenerator, StableUnCLIPGenerator


@pytest.fixture
def folder(unclip_folder: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return shutil.copytree(unclip_folder, tmp_path / "pipeline")


def weights(folder: Path, part: str = "unet") -> Path:
    return next((folder / part).glob("*.safetensors"))


def test_an_id_that_is_not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(DownloadError, match=r"nobody/no-such-pipeline.*hf download"):
        Generator.from_pretrained("nobody/no-such-pipeline")


def test_folders_without_a_pipeline(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        Generator.from_pretrained(tmp_path / "none")
    with pytest.raises(InputError, match=r"no model_index\.json"):
        Generator.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text("{")
    with pytest.raises(CorruptFileError, match="not readable JSON"):
        Generator.from_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(CorruptFileError, match="_class_name"):
        Generator.from_pretrained(tmp_path)


def test_a_class_that_nothing_drives(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    index["_class_name"] = "StableUnCLIPPipeline"
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(UnknownNameError, match="Did you mean 'StableUnCLIPImg2ImgPipeline'"):
        Generator.from_pretrained(folder)


def test_another_kind_than_asked_for(folder: Path) -> None:
    with pytest.raises(InputError, match="StableUnCLIPGenerator, not a SDXLGenerator"):
        SDXLGenerator.from_pretrained(folder)
    assert isinstance(StableUnCLIPGenerator.from_pretrained(folder), StableUnCLIPGenerator)


def test_pickled_weights_are_refused(folder: Path) -> None:
    path = weights(folder)
    torch.save(load_file(path), path.with_suffix(".bin"))
    path.unlink()
    with pytest.raises(InputError, match=r"pickled weights.*safetensors.torch.save_file"):
        Generator.from_pretrained(folder)
    path.with_suffix(".bin").unlink()
    with pytest.raises(MissingFileError, match="no weights"):
        Generator.from_pretrained(folder)


@pytest.mark.parametrize("part", ["unet", "text_encoder", "vae", "image_encoder"])
def test_tensors_that_are_missing_or_left_over(folder: Path, part: str) -> None:
    path = weights(folder, part)
    state = load_file(path)
    name, value = next(iter(state.items()))
    save_file({**state, "left.over": value.clone()}, path, metadata={"format": "pt"})
    with pytest.raises(CorruptFileError, match=r"0 tensors are missing.*1 are not known"):
        Generator.from_pretrained(folder)
    state.pop(name)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(CorruptFileError, match=r"1 tensors are missing"):
        Generator.from_pretrained(folder)


def test_truncated_weights(folder: Path) -> None:
    path = weights(folder)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CorruptFileError, match="unet cannot be loaded"):
        Generator.from_pretrained(folder)


@pytest.mark.parametrize(
    "entry",
    [
        ["my_module", "MyUNet"],
        ["antigravity", "__class__"],
        ["antigravity", None],
        ["diffusers", "logging"],
        ["os", "system"],
        ["antigravity.x", "x"],
        "ab",
        {"antigravity": 1, "x": 2},
        ["antigravity", "x", "y"],
    ],
    ids=str,
)
def test_foreign_classes_are_neither_run_nor_imported(
    folder: Path, entry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library imports what the file names; that importing opens a browser is the joke."""
    monkeypatch.setitem(sys.modules, "antigravity", None)
    index = json.loads((folder / "model_index.json").read_text())
    index["scheduler"] = entry
    (folder / "model_index.json").write_text(json.dumps(index))
    with pytest.raises((InputError, CorruptFileError), match=r"not run|expected a library"):
        Generator.from_pretrained(folder)


def test_a_missing_part(folder: Path) -> None:
    shutil.rmtree(folder / "scheduler")
    with pytest.raises(MissingFileError, match="lacks its part scheduler"):
        Generator.from_pretrained(folder)


def test_the_half_precision_variant(folder: Path) -> None:
    for path in folder.glob("*/*.safetensors"):
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    assert Generator.from_pretrained(folder).embedding_width == 24


def test_defaults_beside_the_pipeline(folder: Path) -> None:
    plain = Generator.from_pretrained(folder)
    assert (plain.steps, plain.guidance) == (20, 10.0)
    (folder / "generation_config.json").write_text(
        '{"num_inference_steps": 7, "guidance_scale": 2.5}'
    )
    told = Generator.from_pretrained(folder)
    assert (told.steps, told.guidance) == (7, 2.5)


def test_devices_and_precisions(folder: Path) -> None:
    with pytest.raises(InputError, match="no device"):
        Generator.from_pretrained(folder, device="gpu0")
    with pytest.raises(UnknownNameError, match="'float32'"):
        Generator.from_pretrained(folder, dtype="float31")


def test_the_libraries_logs_are_put_back() -> None:
    from diffusers.utils import logging as diffusers_log
    from transformers.utils import logging as transformers_log

    def state() -> list[object]:
        logs = (diffusers_log, transformers_log)
        return [(log.get_verbosity(), log.is_progress_bar_enabled()) for log in logs]

    before = state()
    with pytest.raises(RuntimeError), quiet("diffusers", "transformers"):
        raise RuntimeError
    assert state() == before
