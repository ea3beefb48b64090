"""Versions of the brain never change: values that were written down when each was committed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose

from brainkit.errors import InputError, UnknownNameError
from brainkit.world import Population, SceneWorld, SimulatedBrain
from brainkit.world.versions import VERSIONS

WRITTEN = json.loads(Path(__file__).with_name("versions.json").read_text())
SCENES = [3, 1400, 70_000]
WORLDS = {
    "world": {},
    "gate off": {"gate": False},
    "shared tuning off": {"shared_tuning": False},
}


def values(version: int) -> dict[str, Any]:
    """Give responses, truth and measurements of some voxels in the world and its counters."""
    given: dict[str, Any] = {}
    for gate in (True, False):
        population = Population(SceneWorld(3), gate=gate, version=version)
        for name, switches in WORLDS.items():
            if switches.get("gate", True) != gate:
                continue
            for subject in (1, 3):
                brain = SimulatedBrain(
                    SceneWorld(3), subject, density=0.05, population=population, **switches
                )
                live = np.flatnonzero(brain.truth["kind"] != "silent")[::17]
                response = brain.response(SCENES)
                betas = brain.measure(
                    SCENES, [1, 1, 2], [0, 1, 60], runs=[0, 0, 12], response=response
                )
                numbers = brain.truth.select_dtypes("number").iloc[live]
                given[f"{name}, subject {subject}"] = {
                    "n_voxels": brain.n_voxels,
                    "response": response[:, live].ravel().tolist(),
                    "betas": betas[:, live].ravel().tolist(),
                    "truth": numbers.fillna(0).mean().to_dict(),
                    "haemodynamics": brain.haemodynamic_gains([1, 3, 5, 7, 9]).tolist(),
                }
    return given


def test_every_version_is_written_down() -> None:
    assert set(WRITTEN) == {str(version) for version in VERSIONS}


@pytest.mark.parametrize("version", VERSIONS)
def test_a_version_stays_as_it_was_committed(version: int) -> None:
    for name, found in values(version).items():
        written = WRITTEN[str(version)][name]
        assert set(found["truth"]) == set(written["truth"])
        for column, mean in written["truth"].items():
            assert found["truth"][column] == pytest.approx(mean, rel=1e-4, abs=1e-6), column
        assert found["n_voxels"] == written["n_voxels"]
        for part in ("response", "betas", "haemodynamics"):
            assert_allclose(found[part], written[part], rtol=1e-3, atol=2e-3, err_msg=name)


def test_unknown_and_mixed_versions_are_refused(world: SceneWorld, population: Population) -> None:
    with pytest.raises(UnknownNameError, match="Unknown version of the simulated brain 9"):
        SimulatedBrain(world, version=9)
    with pytest.raises(UnknownNameError, match="Unknown version of the simulated brain 0"):
        Population(world, version=0)
    other = next(version for version in (2, 1) if version != population.version)
    with pytest.raises(InputError, match=r"version\) = .* 1\), the brain .* 2\)"):
        SimulatedBrain(world, 1, version=other, population=population)
