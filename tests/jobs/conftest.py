"""Real models at tiny sizes on disk, a simulated NSD, and recipes that name them."""

import importlib.util

import pytest
import yaml

from brainkit.world import SceneWorld, write_nsd

WIDTH = 24
DECODER = {
    "kind": "embedding-decoder",
    "alphas": {"low": 1, "high": 1e4, "count": 3},
    "cv": 3,
}


def builders(repository, name):
    """Return a module of the generators' tests, for what it builds."""
    path = repository / "tests" / "generators" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"recipe_builders_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_models(repository, folder, width):
    """Write a generator, its image encoder, a captioner and a GIT, all with random weights."""
    generators = builders(repository, "conftest")
    generators.unclip_pipeline(width, text_length=256).save_pretrained(folder / "unclip")
    generators.extractor().save_pretrained(folder / "unclip" / "image_encoder")
    captioners = builders(repository, "test_captioner")
    captioners.build(embedding_width=width).save_pretrained(folder / "captioner")
    return folder


@pytest.fixture(scope="session")
def make_models(repository, tmp_path_factory):
    """Make a folder of models whose embeddings have a width."""
    return lambda width: save_models(repository, tmp_path_factory.mktemp("models"), width)


@pytest.fixture(scope="session")
def models(make_models):
    """A generator of 32-pixel images from embeddings 24 wide, its encoder, and a captioner."""
    return make_models(WIDTH)


@pytest.fixture(scope="session")
def git(repository, tmp_path_factory):
    """A captioner that reads images."""
    folder = tmp_path_factory.mktemp("git") / "git"
    builders(repository, "test_captioner_git").build_git().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def nsd(tmp_path_factory):
    """Two simulated people in NSD's layout; do not change its files."""
    return write_nsd(
        tmp_path_factory.mktemp("nsd"),
        SceneWorld(seed=0),
        (1, 3),
        images_per_subject=40,
        shared=10,
        trials_per_session=24,
        density=0.1,
    )


def recipe_of(folder, **changes):
    """Return a recipe of the models in a folder, as its file's content."""
    return {
        "name": "small",
        "about": "Small.",
        "job": "reconstruct",
        "embedding": f"transformers:{folder}/unclip/image_encoder",
        "model": DECODER,
        "generator": {"name": f"{folder}/unclip", "device": "cpu"},
        "captioner": {"name": f"{folder}/captioner", "device": "cpu"},
        "judges": {"judge": "timm:test_vit/random:3"},
        "protocol": {
            "split": "nsd-shared1000",
            "n_images": 6,
            "steps": 2,
            "guidance": 2.0,
            "max_new_tokens": 8,
        },
    } | changes


@pytest.fixture(scope="session")
def make_recipe(models, tmp_path_factory):
    """Write a recipe's file; keywords change its settings."""

    def make(folder=models, **changes):
        path = tmp_path_factory.mktemp("recipes") / "small.yaml"
        path.write_text(yaml.safe_dump(recipe_of(folder, **changes)))
        return path

    return make
