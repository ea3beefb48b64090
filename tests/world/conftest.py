"""Worlds that the tests of this folder share; building one takes seconds."""

from pathlib import Path

import pytest

from brainkit.world import Population, SceneWorld, SimulatedBrain, write_nsd


@pytest.fixture(scope="session")
def world() -> SceneWorld:
    return SceneWorld(seed=0)


@pytest.fixture(scope="session")
def population(world: SceneWorld) -> Population:
    return Population(world)


@pytest.fixture(scope="session")
def second_population(world: SceneWorld) -> Population:
    return Population(world, version=2)


@pytest.fixture(scope="session")
def second_brains(world: SceneWorld, second_population: Population) -> dict[int, SimulatedBrain]:
    return {
        subject: SimulatedBrain(world, subject, density=0.25, population=second_population)
        for subject in (1, 2, 3)
    }


@pytest.fixture(scope="session")
def brains(world: SceneWorld, population: Population) -> dict[int, SimulatedBrain]:
    return {
        subject: SimulatedBrain(world, subject, density=0.25, population=population)
        for subject in (1, 2, 3)
    }


@pytest.fixture(scope="session")
def tiny_nsd(
    world: SceneWorld, population: Population, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return write_nsd(
        tmp_path_factory.mktemp("nsd"),
        world,
        (1, 3),
        images_per_subject=40,
        shared=10,
        trials_per_session=24,
        sessions={1: 5, 3: 4},
        nifti=True,
        density=0.1,
        population=population,
    )
