"""Profiles of recipes: their published sizes, built from the settings that the file names."""

import pytest
import torch

from brainkit.alignment.person_units import PersonUnits
from brainkit.errors import UnknownNameError
from brainkit.jobs import read_recipe
from brainkit.recipes.reading import recipe_content, recipe_names, recipe_profiles
from brainkit.recipes.specs import build_model

MILLION = 1e6
# What the papers, or their code, count: see tests/decoding/test_published_sizes.py. The low-level
# head of MindEye2 and the text head of MindBridge (121.2 M) are not in the recipes.
COUNTS = {"mindeye1": 1000, "mindeye2": 2227, "mindbridge": 580 - 121.2}
WITH_PROFILES = [name for name in recipe_names() if recipe_profiles(name)]


def test_the_recipes_of_deep_decoders_have_a_published_profile():
    assert set(COUNTS) <= set(WITH_PROFILES)


@pytest.mark.parametrize("name", COUNTS)
def test_a_published_profile_has_the_published_count(name):
    recipe = read_recipe(f"{name}@published")
    head = recipe.model.settings["heads"]["embedding"]
    with torch.device("meta"):
        network = build_model(recipe.model).network(
            {"subj01": PersonUnits(15_724)}, head["n_tokens"] * head["width"]
        )
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(COUNTS[name] * MILLION, rel=0.01)


def test_a_profile_changes_what_it_names_and_nothing_else():
    plain, published = recipe_content("mindeye2"), recipe_content("mindeye2@published")
    assert "profiles" not in plain
    assert published["model"]["settings"]["start"] == "random"
    assert plain["model"]["settings"]["start"] == "ridge"
    for name in ("protocol", "generator", "captioner", "judges"):
        assert plain[name] == published[name]


def test_changes_go_after_a_profile():
    content = recipe_content("mindeye1@published", ["protocol.samples=3"])
    assert content["protocol"]["samples"] == 3
    assert recipe_content("mindeye1@published")["protocol"]["samples"] == 16


def test_profiles_of_files(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text(
        "name: my\njob: decode\nprotocol: {seed: 0}\nprofiles: {other: {protocol.seed: 7}}\n"
    )
    assert recipe_content(path)["protocol"]["seed"] == 0
    assert recipe_content(f"{path}@other")["protocol"]["seed"] == 7


def test_a_profile_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(UnknownNameError, match=r"profile of the recipe mindeye2 .*published"):
        recipe_content("mindeye2@publised")
    with pytest.raises(UnknownNameError, match="profile of the recipe linear_clip"):
        recipe_content("linear_clip@published")
