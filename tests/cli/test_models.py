"""The commands that show models."""

import json

import pytest
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
