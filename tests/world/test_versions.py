"""Versions of the brain never change: values that were written down when each was committed."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from numpy.testing import assert_allclose

import brainkit
from brainkit.errors import CorruptFileError, InputError, UnknownNameError
from brainkit.world import Population, SceneWorld, SimulatedBrain, write_bold5000, write_nsd
from brainkit.world.bold5000_layout import VOLUME_SECONDS
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


def test_nsd_layout_of_the_second_brain(
    tmp_path: Path, world: SceneWorld, second_population: Population
) -> None:
    """Read by the real reader: betas are the brain's, with noise that hangs together in a run."""
    root = write_nsd(
        tmp_path / "nsd", world, (2,), images_per_subject=60, shared=10, trials_per_session=90,
        density=0.08, brain_version=2, shared_tuning=False, population=second_population,
    )  # fmt: skip
    manifest = json.loads((root / "SIMULATED.json").read_text())
    assert manifest["brain"] == {
        "version": 2, "gate": True, "shared_tuning": False, "seed": 0, "density": 0.08,
    }  # fmt: skip
    brain = SimulatedBrain.from_manifest(root, 2, population=second_population)
    assert brain.version == 2
    assert not brain.shared_tuning
    recording = brainkit.load("nsd", root, subject=2)
    assert recording.info["simulated"]["brain"]["version"] == 2
    place = {tuple(p): n for n, p in enumerate(brain.units[["i", "j", "k"]].to_numpy())}
    voxels = [place[tuple(p)] for p in recording.units[["i", "j", "k"]].to_numpy()]
    trials = recording.trials
    runs = 12 * (trials["session"] - trials["session"].min()) + trials["run"] - trials["run"].min()
    expected = brain.measure(
        trials["stimulus"].to_numpy(), trials["session"].to_numpy(), np.arange(len(trials)),
        runs=runs.to_numpy(),
    )  # fmt: skip
    assert len(trials) == 180
    assert_allclose(recording.responses.read(), expected[:, voxels], atol=0.5 / 300 + 1e-4)
    design = scipy.io.loadmat(root / "nsddata/experiments/nsd/nsd_expdesign.mat")
    assert design["masterordering"].shape == (1, 180)
    with pytest.raises(InputError, match="build the population with the same"):
        write_nsd(
            tmp_path / "other", world, (2,), images_per_subject=60, shared=10,
            trials_per_session=90, brain_version=1, population=second_population,
        )  # fmt: skip


def test_bold5000_layout_of_the_second_brain(
    tmp_path: Path, world: SceneWorld, second_population: Population
) -> None:
    """Each volume of a trial follows the person's own haemodynamic response."""
    root = write_bold5000(
        tmp_path / "b", world, (1, 3), images=60, repeated=10, sessions=2, density=0.15,
        population=second_population,
    )  # fmt: skip
    assert json.loads((root / "SIMULATED.json").read_text())["brain"]["version"] == 2
    gains = []
    for person in (1, 3):
        recording = brainkit.load("bold5000", root, person)
        assert recording.info["simulated"]["brain"]["version"] == 2
        brain = SimulatedBrain.from_manifest(root, person, population=second_population)
        gains.append(brain.haemodynamic_gains(VOLUME_SECONDS))
        trials = recording.trials
        shown, sessions = trials["stimulus"].to_numpy(), trials["session"].to_numpy()
        runs = trials.groupby(["session", "run"], sort=False).ngroup().to_numpy()
        response = brain.response(shown)
        volumes = [
            brain.measure(
                shown, sessions, 5 * np.arange(len(shown)) + number, runs=runs,
                response=response * np.float32(gains[-1][number]),
            )
            for number in (2, 3)
        ]  # fmt: skip
        inside = (brain.units["roi"] == "PPA") & (brain.units["hemisphere"] == "lh")
        expected = ((volumes[0] + volumes[1]) / 2)[:, inside.to_numpy()]
        with h5py.File(root / f"ROIs/CSI{person}/h5/CSI{person}_ROIs_TR34.h5") as file:
            assert_allclose(file["LHPPA"][:], expected, atol=1e-3)
    assert np.abs(gains[0] - gains[1]).max() > 0.02


def test_a_manifest_of_a_later_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "SIMULATED.json").write_text(
        json.dumps({"world": {"version": 1, "seed": 0, "size": 64}, "brain": {"version": 9}})
    )
    with pytest.raises(CorruptFileError, match=r"and 9 of the brain; .* 1, 2 of the brain"):
        SimulatedBrain.from_manifest(tmp_path, 1)
