"""A small world to reconstruct: scenes, a brain that is linear in embeddings, real tiny models."""

import importlib.util
from types import ModuleType, SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.stimuli import Stimuli
from brainkit.world import SceneWorld

WIDTH = 24
LETTERS = 256  # of the longest caption: to the random pipeline every letter is a token
N_TRAIN, N_TEST = 70, 20


def builders(repository, name) -> ModuleType:
    """Return a module of the generators' tests, for what it builds."""
    path = repository / "tests" / "generators" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"builders_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def generator(repository, tmp_path_factory):
    """A random unCLIP pipeline: 32-pixel images, embeddings 24 wide, whole captions."""
    from brainkit.generators import Generator

    folder = tmp_path_factory.mktemp("pipeline") / "unclip"
    pipeline = builders(repository, "conftest").unclip_pipeline(WIDTH, text_length=LETTERS)
    pipeline.save_pretrained(folder)
    return Generator.from_pretrained(folder, device="cpu")


@pytest.fixture(scope="session")
def captioners(repository):
    """A prefix captioner for the generator's embeddings, and a GIT."""
    return SimpleNamespace(
        prefix=builders(repository, "test_captioner").build(embedding_width=WIDTH),
        git=builders(repository, "test_captioner_git").build_git(),
    )


@pytest.fixture(scope="session")
def scenes():
    world = SceneWorld(seed=5)
    ids = range(N_TRAIN + N_TEST)
    return Stimuli(world.paint(ids), table=world.table(ids))


@pytest.fixture(scope="session")
def embeddings(generator, scenes):
    return generator.embed_images(scenes.read())


@pytest.fixture(scope="session")
def make_recording(scenes, embeddings):
    """Brains with two trials an image that are linear in its embedding."""

    def make(noise=0.05, stimuli=scenes, seed=0, seen=embeddings):
        rng = np.random.default_rng(seed)
        z = (seen - seen.mean(axis=0)) / seen.std(axis=0)
        signal = z @ rng.normal(size=(WIDTH, 80)) / WIDTH**0.5
        stimulus = rng.permutation(np.repeat(np.arange(len(z)), 2))
        values = signal[stimulus] + noise * rng.normal(size=(len(stimulus), 80))
        trials = pd.DataFrame(
            {
                "stimulus": stimulus,
                "session": np.arange(len(stimulus)) % 2,
                "shared": stimulus >= N_TRAIN,
            }
        )
        units = pd.DataFrame({"roi.V1": np.arange(80) < 60})
        return Recording.from_arrays(values, trials=trials, units=units, stimuli=stimuli)

    return make
