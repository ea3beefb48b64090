"""T37: an encoder whose constants were set while looking at the simulator that judges it."""

import inspect

import numpy as np
import pytest
from compare_encoders import COUNTER, jobs

from brainkit.features import OrientedEnergy
from brainkit.world.versions import VERSIONS


def test_there_is_a_second_brain_of_another_kind() -> None:
    assert len(VERSIONS) >= 2
    first, second = (VERSIONS[number] for number in (1, 2))
    assert all(one is not two for one, two in zip(
        (first.senses, first.tuning, first.measurement, first.output),
        (second.senses, second.tuning, second.measurement, second.output), strict=True,
    ))  # fmt: skip


def test_comparisons_run_on_all_versions_and_their_counter_worlds() -> None:
    worlds = {world for _, world, _, _ in jobs([1], [100, 400])}
    for number in VERSIONS:
        assert f"brain {number}" in worlds
        assert sum(world.startswith(f"brain {number}") for world in worlds) == 1 + len(COUNTER)


def test_oriented_energy_has_the_constants_of_its_source() -> None:
    """Kay et al. (2008): octaves from 1 cycle per field of view, 8 orientations, 2 phases."""
    source = {
        name: parameter.default
        for name, parameter in inspect.signature(OrientedEnergy).parameters.items()
    }
    assert source["n_orientations"] == 8
    assert np.allclose(np.diff(np.log2(source["frequencies"])), 1)
    assert source["frequencies"][0] == 1
    assert source["bandwidth"] == 1  # octave


@pytest.mark.parametrize("of_the_world", ["n_cells", "contrast"])
def test_oriented_energy_shares_no_setting_with_the_world(of_the_world: str) -> None:
    assert of_the_world not in inspect.signature(OrientedEnergy).parameters
