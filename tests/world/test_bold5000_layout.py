import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from numpy.testing import assert_allclose, assert_array_equal

import brainkit
from brainkit.data.bold5000 import KEYS
from brainkit.errors import CorruptFileError, InputError, OutputError
from brainkit.world import Population, SceneWorld, SimulatedBrain, write_bold5000
from brainkit.world.bold5000_layout import VOLUME_SECONDS, image_name

COUNTS = {"images": 70, "repeated": 10, "sessions": 2, "density": 0.15}


@pytest.fixture(scope="module")
def tree(
    world: SceneWorld, population: Population, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    root = tmp_path_factory.mktemp("bold5000")
    return write_bold5000(root, world, (1, 4), mat=True, population=population, **COUNTS)


def regions(root: Path, person: int, tr: int) -> dict[str, np.ndarray]:
    with h5py.File(root / f"ROIs/CSI{person}/h5/CSI{person}_ROIs_TR{tr}.h5") as file:
        return {key: file[key][:] for key in file}


def scenes(root: Path, person: int) -> list[int]:
    names = (root / f"ROIs/stim_lists/CSI0{person}_stim_lists.txt").read_text().split()
    return [int(name.removesuffix(".png")[-12:]) for name in names]


def test_files_and_counts(tree: Path) -> None:
    for person, n_trials in ((1, 100), (4, 100)):
        shown = scenes(tree, person)
        assert len(shown) == n_trials
        for tr in (1, 2, 3, 4, 5, 34):
            found = regions(tree, person, tr)
            assert set(found) == set(KEYS)
            assert {len(values) for values in found.values()} == {n_trials}
            mat = scipy.io.loadmat(tree / f"ROIs/CSI{person}/mat/CSI{person}_ROIs_TR{tr}.mat")
            for key, values in found.items():
                assert_array_equal(mat[key], values)
        third, fourth, mean = (regions(tree, person, tr) for tr in (3, 4, 34))
        for key in KEYS:
            assert_allclose(mean[key], (third[key] + fourth[key]) / 2, rtol=1e-6)
    assert sorted(np.bincount(scenes(tree, 1))) == [1] * 60 + [4] * 10
    listed = tree / "BOLD5000_Stimuli/Scene_Stimuli/repeated_stimuli_113_list.txt"
    assert len(listed.read_text().split()) == 10
    names = (tree / "ROIs/stim_lists/CSI01_stim_lists.txt").read_text().split()
    again = {name.removeprefix("rep_") for name in names if name.startswith("rep_")}
    assert again == set(listed.read_text().split())


def test_the_fourth_person_stops_early(
    world: SceneWorld, population: Population, tmp_path: Path
) -> None:
    counts = {**COUNTS, "sessions": 5}
    root = write_bold5000(tmp_path / "b", world, (3, 4), population=population, **counts)
    assert (len(scenes(root, 3)), len(scenes(root, 4))) == (100, 60)
    recording = brainkit.load("bold5000", root, 4)
    assert recording.trials["session"].value_counts().to_dict() == {1: 20, 2: 20, 3: 20}


def test_values_are_the_brains(tree: Path, population: Population) -> None:
    brain = SimulatedBrain.from_manifest(tree, 1, population=population)
    shown = scenes(tree, 1)
    sessions = np.repeat([1, 2], 50)
    gains = brain.haemodynamic_gains(VOLUME_SECONDS)
    assert gains.argmax() == 2
    assert_allclose(gains[[0, 3]], [np.exp(4) / 5**5, (7 / 5) ** 5 * np.exp(-2)])
    response = gains[1] * brain.response(shown)
    expected = brain.measure(shown, sessions, 5 * np.arange(100) + 1, response=response)
    found = regions(tree, 1, 2)
    roi, side = brain.units["roi"], brain.units["hemisphere"]
    for key, names in (("LHPPA", ["PPA"]), ("RHLOC", ["OFA", "EBA"]), ("LHEarlyVis", None)):
        inside = roi.isin(names) if names else roi.str.match("V[123][vd]")
        inside &= side == key[:2].lower()
        assert inside.sum() >= 2
        assert_allclose(found[key], expected[:, inside], rtol=1e-5, atol=1e-5)


def test_the_reader_reads_it(tree: Path, world: SceneWorld) -> None:
    found = {name: brainkit.load("bold5000", tree, name) for name in ("CSI1", "CSI4")}
    for recording in found.values():
        person = int(recording.subject[-1])
        assert recording.info["simulated"]["layout"] == "BOLD5000 release 1"
        assert_array_equal(recording.stimulus_rows(), scenes(tree, person))
        expected = np.concatenate([regions(tree, person, 34)[key] for key in KEYS], axis=1)
        assert_allclose(recording.responses.read(), expected, rtol=1e-6)
        assert recording.trials.groupby(["session", "run"]).size().tolist() == [37, 13] * 2
    stimuli = found["CSI1"].stimuli
    assert list(stimuli.ids) == [image_name(scene) for scene in range(70)]
    assert_array_equal(stimuli.read([5, 69]), world.paint([5, 69]))
    assert list(stimuli.table["caption"]) == [world.scene(n).caption for n in range(70)]


def test_a_simulation_is_whole_and_alone(
    tree: Path, world: SceneWorld, population: Population, tmp_path: Path
) -> None:
    before = (tree / "ROIs/CSI1/h5/CSI1_ROIs_TR1.h5").read_bytes()
    write_bold5000(tree, world, (1, 4), mat=True, population=population, **COUNTS)
    assert (tree / "ROIs/CSI1/h5/CSI1_ROIs_TR1.h5").read_bytes() == before
    with pytest.raises(OutputError, match="another simulation"):
        write_bold5000(tree, world, (1,), population=population, **COUNTS)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="may hold real data"):
        write_bold5000(tmp_path, world, (1,), population=population, **COUNTS)
    broken = tmp_path / "broken"
    (broken / "ROIs/CSI1").mkdir(parents=True)
    (broken / "ROIs/stim_lists").mkdir()
    (broken / "ROIs/stim_lists/CSI01_stim_lists.txt").write_text(image_name(0))
    (broken / "SIMULATED.json").write_text(json.dumps({"complete": False}))
    with pytest.raises(CorruptFileError, match="not written to their end"):
        brainkit.load("bold5000", broken)
    (broken / "SIMULATED.json").write_text(json.dumps({"layout": "NSD"}))
    with pytest.raises(CorruptFileError, match="do not tell the runs of CSI1"):
        brainkit.load("bold5000", broken)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": (5,)}, r"different ones of 1\.\.4, but \(5,\)"),
        ({"subjects": ()}, r"different ones of 1\.\.4"),
        ({"repeated": 0}, "Of 70 images, 1 to 70 can be repeated, but repeated=0"),
        ({"repeated": 71}, "repeated=71"),
        ({"sessions": 1}, "100 trials fill 2 to 50 sessions, but 1"),
        ({"sessions": 51}, "but 51"),
    ],
)
def test_counts_without_sense(
    world: SceneWorld, population: Population, tmp_path: Path, changes: dict, message: str
) -> None:
    settings = {"subjects": (1,), **COUNTS, **changes}
    with pytest.raises(InputError, match=message):
        write_bold5000(tmp_path / "b", world, population=population, **settings)
    assert not (tmp_path / "b").exists()
