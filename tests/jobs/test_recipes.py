"""Recipes by name, from files, from manifests, with settings changed; every fault is named."""

import json

import pytest
import yaml

from brainkit.data.cards import card_names, read_card
from brainkit.errors import InputError, MissingFileError, UnknownNameError
from brainkit.features.spec import parse_spec
from brainkit.jobs import JOBS, read_recipe
from brainkit.recipes import build_features, build_model, recipe_names
from brainkit.recipes.specs import FeatureSpec


def test_every_recipe_is_valid_and_can_be_built():
    assert recipe_names()
    for name in recipe_names():
        recipe = read_recipe(name)
        assert recipe.name == name
        assert type(recipe) is JOBS[recipe.job].schema
        assert recipe.about.endswith(".")
        for field in ("model", "judge_model"):
            if hasattr(getattr(recipe, field, None), "kind"):
                build_model(getattr(recipe, field))
        for field in ("features", "judge_features"):
            if hasattr(recipe, field):
                build_features(getattr(recipe, field))
        for spec in [getattr(recipe, "embedding", None), *getattr(recipe, "judges", {}).values()]:
            assert spec is None or len(parse_spec(spec).layers) <= 1
        latents = getattr(getattr(recipe, "generator", None), "latents", None)
        if latents is not None:
            build_model(latents)
        if recipe.job == "layers":
            assert parse_spec(recipe.network).layers == ()


def test_every_default_recipe_is_for_its_job():
    some = {
        "rsa92": {"rsa"},
        "bold5000": {"encode"},
        "nsd": {"encode", "decode", "synthesize", "layers", "reconstruct"},
        "digits69": {"encode", "decode", "synthesize", "labels"},
        "haxby": {"labels"},
    }
    for card in map(read_card, card_names()):
        assert set(card.recipes) >= some.get(card.name, set())
        for job, name in card.recipes.items():
            assert read_recipe(name).job == job


@pytest.fixture
def content():
    return {
        "name": "mine",
        "about": "Mine.",
        "job": "encode",
        "features": [{"kind": "pixel-pca"}, {"kind": "oriented-energy", "scale": "space"}],
        "model": {"kind": "voxelwise-ridge", "alphas": {"low": 1, "high": 100, "count": 3}},
        "protocol": {"split": "kfold:5"},
    }


@pytest.fixture
def path(content, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def test_files_and_manifests_hold_the_same_recipe(path, tmp_path):
    recipe = read_recipe(path)
    assert recipe.protocol.permutations == 200
    assert recipe.protocol.seeds == (0,)
    assert recipe == read_recipe(str(path))
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"recipe": recipe.model_dump(mode="json"), "card": "nsd"}))
    assert read_recipe(manifest) == recipe
    bare = tmp_path / "recipe.json"
    bare.write_text(recipe.model_dump_json())
    assert read_recipe(bare) == recipe


def test_changes(path):
    changes = [
        "protocol.permutations=20",
        "protocol.seeds=[3, 4]",
        "protocol.zscore=null",
        "features.0.settings.n_components=7",
        "features.1.kind=pixel-pca",
        "model.alphas.high=1e3",  # text to YAML, a number to us
        "model.alphas={low: 2, high: 8, count: 3}",
        "model.settings.fit_intercept=false",
        "about=a = b",
    ]
    recipe = read_recipe(path, changes)
    assert recipe.protocol.permutations == 20
    assert recipe.protocol.seeds == (3, 4)
    assert recipe.protocol.zscore is None
    assert recipe.features[0].settings == {"n_components": 7}
    assert recipe.features[1].kind == "pixel-pca"
    assert recipe.model.alphas.high == 8
    assert recipe.model.settings == {"fit_intercept": False}
    assert recipe.about == "a = b"
    assert read_recipe(path, ["model.alphas.high=1e3"]).model.alphas.high == 1000
    assert read_recipe(path).protocol.permutations == 200  # the file is as it was


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("protocol", "Cannot set 'protocol'"),
        ("", "Cannot set"),
        ("features.2.kind=x", "Cannot set"),
        ("features.-1.kind=x", "Cannot set"),
        ("features.kind=x", "Cannot set"),
        ("about.length=3", "Cannot set"),
        ("protocol.seeds={", "not valid YAML"),
        ("protocol.seeds=!!python/name:os.system", "not valid YAML"),
        ("modle.cv=3", "Cannot set"),
        ("protocol.sedes=[1]", r"not valid: there is no setting protocol\.sedes"),
        ("protocol.shuffles=0", r"protocol\.shuffles: Input should be greater"),
        ("features=[]", "features: List should have at least 1 item"),
        ("model.alphas.low=.nan", r"model\.alphas\.low"),
        ("model.alphas.count=101", r"model\.alphas\.count"),
        ("protocol.ceiling=other", r"protocol\.ceiling: Input should be 'auto', 'ncsnr', 'split-h"),
        (
            "job=dance",
            "not valid: job must be one of encode, layers, decode, reconstruct, .* got 'dance'",
        ),
        ("job=null", "job must be one of"),
    ],
)
def test_wrong_changes(path, change, message):
    with pytest.raises(InputError, match=message):
        read_recipe(path, [change])


def test_what_is_no_recipe(path, tmp_path):
    with pytest.raises(UnknownNameError, match="Did you mean 'encode-energy'"):
        read_recipe("encode-enery")
    with pytest.raises(MissingFileError, match=r"recipe file is missing.*nope\.yaml"):
        read_recipe(tmp_path / "nope.yaml")
    with pytest.raises(UnknownNameError):
        read_recipe(tmp_path)
    path.write_text("[1, 2]")
    with pytest.raises(InputError, match="holds no settings by name"):
        read_recipe(path)
    path.write_text("a" * 3 + ": [" * 5000)
    with pytest.raises(InputError, match="cannot be read"):
        read_recipe(path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text('{"recipe": {"encode": {}, "decode": {}}}')
    with pytest.raises(InputError, match="does not hold one recipe"):
        read_recipe(manifest)


def test_places_are_told_so_that_a_rerun_from_any_folder_finds_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drawer").mkdir()
    changes = [
        "generator.name=drawer",
        "captioner.name=tiny",
        "embedding=open_clip:./clip@blocks.1",
        "judges={a: torchvision:resnet18/w.safetensors, b: timm:tiny-judge-b}",
        "store=kept",
    ]
    recipe = read_recipe("brain_diffuser", changes)
    assert recipe.generator.name == str(tmp_path / "drawer")
    assert recipe.captioner.name == "tiny"
    assert recipe.embedding == f"open_clip:{tmp_path}/clip@blocks.1"
    assert recipe.judges == {
        "a": f"torchvision:resnet18/{tmp_path}/w.safetensors",
        "b": "timm:tiny-judge-b",
    }
    assert recipe.store == str(tmp_path / "kept")
    settings = {"kind": "model-layer", "settings": {"model": "timm:./net@stem", "pool": "mean"}}
    space = FeatureSpec.model_validate(settings)
    assert space.settings == {"model": f"timm:{tmp_path}/net@stem", "pool": "mean"}
    monkeypatch.chdir("/")
    (tmp_path / "manifest.json").write_text(json.dumps({"recipe": recipe.model_dump(mode="json")}))
    assert read_recipe(tmp_path / "manifest.json") == recipe


@pytest.mark.parametrize("suffix", [".yaml", ".json"])
def test_a_setting_that_is_made_twice(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_text('{"job": "encode", "name": "a", "name": "b"}')
    with pytest.raises(InputError, match=r"name'? is set twice"):
        read_recipe(path)
