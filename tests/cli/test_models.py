"""The commands that show models and convert weights."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from brainkit.cli import app

SQUEEZENET = "torchvision:squeezenet1_1/random:3"


def test_layers_are_listed_in_order() -> None:
    result = CliRunner().invoke(app, ["features", SQUEEZENET, "--list"])
    assert result.exit_code == 0
    layers = result.stdout.split()
    assert layers.index("features.3") < layers.index("features.3.squeeze")
    assert layers.index("features.3") < layers.index("features.12")
    assert "Default: " in result.stderr


def test_a_model_is_summed_up() -> None:
    result = CliRunner().invoke(app, ["features", SQUEEZENET])
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{SQUEEZENET} takes images and has ")
    as_json = CliRunner().invoke(app, ["features", SQUEEZENET, "--list", "--json"])
    about = json.loads(as_json.stdout)
    assert about["takes"] == "image"
    assert about["n_layers"] == len(about["layers"])
    assert about["default_layer"] in about["layers"]


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("torchvison:resnet18", "Did you mean 'torchvision'"),
        ("open_clip:ViT-B-32/openai", "QuickGELU mismatch"),
        ("open_clip:hf:org/name", "hf download org/name"),
        ("resnet18", "SOURCE:NAME"),
        (f"{SQUEEZENET}@featurs.3", "Did you mean 'features.3'"),
        ("open_clip:vit-b-23/random", "nearest: ViT-B-32"),
        ("torchvision:squeezenet1_0/randm", "Did you mean 'random'"),
    ],
)
def test_mistakes_end_in_one_sentence(model: str, said: str) -> None:
    result = CliRunner().invoke(app, ["features", model, "--list"])
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert "Traceback" not in result.stderr


def test_download_asks_the_hub() -> None:
    result = CliRunner().invoke(app, ["features", "open_clip:hf:org/name", "--download"])
    assert result.exit_code == 2
    assert "could not be fetched" in result.stderr


def test_weights_are_converted(tmp_path: Path) -> None:
    state = torch.nn.Linear(3, 2).state_dict()
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "w.pth")
    source, target = str(tmp_path / "w.pth"), str(tmp_path / "w.safetensors")
    result = CliRunner().invoke(app, ["weights", "convert", source, target])
    assert result.exit_code == 0
    assert "2 tensors, 8 values" in result.stdout
    assert torch.equal(load_file(target)["weight"], state["weight"])
    again = CliRunner().invoke(app, ["weights", "convert", source, str(tmp_path / "w.bin")])
    assert again.exit_code == 2
    assert "must be called *.safetensors" in again.stderr
