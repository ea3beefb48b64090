"""

A simulated world described in COCO's files, and read back by the real dataset's reader.

The reader of the real dataset reads the simulated one, from HDF5 and NIfTI alike.
"""

import json
import shutil
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import scipy.io
from numpy.testing import assert_allclose, assert_array_equal
from scipy.io import loadmat

import brainkit
from brainkit.data.nsd import STIMULI, read_design
from brainkit.errors import InputError, OutputError
from brainkit.world import Population, SceneWorld, SimulatedBrain, write_nsd
from brainkit.world.anatomy import ROI_FILES
from brainkit.world.nsd_layout import coco_annotations, draw_design, trials_by_run

VERSION = "betas_fithrf_GLMdenoise_RR"
N = 70


def betas_folder(root: Path, subject: int) -> Path:
    return root / f"nsddata_betas/ppdata/subj{subject:02d}/func1pt8mm/{VERSION}"


def volume(path: Path) -> np.ndarray:
    return np.asarray(nibabel.load(path).dataobj)


def test_design_of_the_real_size() -> None:
    design = draw_design((1, 2), 10000, 1000, 750, seed=0).as_mat()
    kinds = {name: (array.shape, str(array.dtype)) for name, array in design.items()}
    assert kinds["masterordering"] == ((1, 30000), "uint16")
    assert kinds["basiccnt"][0] == (3, 40)
    assert kinds["sharedix"] == ((1, 1000), "int32")
    assert kinds["stimpattern"] == ((40, 12, 75), "uint8")
    assert kinds["subjectim"] == ((8, 10000), "int32")
    assert_array_equal(design["stimpattern"].sum(axis=2), np.tile([63, 62], (40, 6)))
    assert_array_equal(design["basiccnt"][:, -1], [10000] * 3)


@pytest.mark.parametrize(
    ("trials", "first"), [(750, [63, 62, 63]), (24, [2, 2, 2]), (13, [2, 1, 1])]
)
def test_runs_share_a_session(trials: int, first: list[int]) -> None:
    runs = trials_by_run(trials)
    assert runs.sum() == trials
    assert_array_equal(runs[:3], first)


def test_design_on_disk(tiny_nsd: Path) -> None:
    design = scipy.io.loadmat(tiny_nsd / "nsddata/experiments/nsd/nsd_expdesign.mat")
    ordering, shared = design["masterordering"], design["sharedix"][0]
    assert ordering.dtype == np.uint16
    assert ordering.shape == (1, 120)
    assert_array_equal(np.bincount(ordering[0]), [0] + [3] * 40)
    assert (np.diff(shared.astype(int)) > 0).all()
    assert shared.min() >= 1
    lists = design["subjectim"]
    assert lists.shape == (8, 40)
    assert_array_equal(lists[:, :10], np.tile(shared, (8, 1)))
    for subject in (1, 3):
        assert len(set(lists[subject - 1])) == 40
        assert_array_equal(
            np.isin(lists[subject - 1, ordering[0].astype(int) - 1], shared), ordering[0] <= 10
        )
    assert not set(lists[0, 10:]) & set(lists[2, 10:])
    assert (lists[1, 10:] == 0).all()
    assert design["stimpattern"].shape == (5, 12, 75)
    assert_array_equal(design["stimpattern"].sum(axis=(1, 2)), 24)


def test_stimulus_table(tiny_nsd: Path) -> None:
    folder = tiny_nsd / "nsddata/experiments/nsd"
    table = pd.read_csv(folder / "nsd_stim_info_merged.csv")
    assert table.shape == (70, 41)
    names = ["cocoId", "cocoSplit", "cropBox", "loss", "nsdId", "flagged", "BOLD5000", "shared1000"]
    names += [f"subject{s}" for s in range(1, 9)]
    names += [f"subject{s}_rep{r}" for s in range(1, 9) for r in range(3)]
    assert list(table.columns) == ["Unnamed: 0", *names]
    assert_array_equal(table["nsdId"], np.arange(70))
    design = scipy.io.loadmat(folder / "nsd_expdesign.mat")
    assert_array_equal(np.flatnonzero(table["shared1000"]) + 1, design["sharedix"][0])
    shown = design["subjectim"][2, design["masterordering"][0].astype(int) - 1] - 1
    for row, repeats in table[[f"subject3_rep{r}" for r in range(3)]].iterrows():
        assert_array_equal(np.flatnonzero(shown == row) + 1, repeats[repeats > 0])
    assert (table["subject2"] == 0).all()
    assert table["subject1"].sum() == 40


def test_stimuli(tiny_nsd: Path, world: SceneWorld) -> None:
    with h5py.File(tiny_nsd / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5") as file:
        images = file["imgBrick"]
        assert images.shape == (70, 64, 64, 3)
        assert images.dtype == np.uint8
        assert_array_equal(images[33], world.paint([33])[0])


def test_betas(tiny_nsd: Path, population: Population) -> None:
    brain = SimulatedBrain.from_manifest(tiny_nsd, 3, population=population)
    x, y, z = brain.anatomy.shape
    folder = betas_folder(tiny_nsd, 3)
    assert len(list(folder.glob("betas_session*.hdf5"))) == 4
    with h5py.File(folder / "betas_session02.hdf5") as file:
        assert list(file) == ["betas"]
        betas = file["betas"]
        assert (betas.shape, betas.dtype, betas.chunks) == ((24, z, y, x), np.int16, (24, 1, 1, 1))
        stored = betas[:]
    outside = volume(tiny_nsd / "nsddata/ppdata/subj03/func1pt8mm/brainmask.nii.gz") == 0
    assert (stored[:, outside.T] == 0).all()
    assert stored[:, ~outside.T].any(axis=0).all()
    design = scipy.io.loadmat(tiny_nsd / "nsddata/experiments/nsd/nsd_expdesign.mat")
    shown = design["subjectim"][2, design["masterordering"][0].astype(int) - 1] - 1
    trials = np.arange(24, 48)
    expected = brain.measure(shown[trials], np.full(24, 2), trials)
    i, j, k = brain.units[["i", "j", "k"]].to_numpy().T
    assert_allclose(stored[:, k, j, i] / 300, expected, atol=0.5 / 300 + 1e-4)
    assert_array_equal(volume(folder / "betas_session02.nii.gz"), stored.T)


def test_roi_volumes(tiny_nsd: Path, population: Population) -> None:
    brain = SimulatedBrain.from_manifest(tiny_nsd, 1, population=population)
    folder = tiny_nsd / "nsddata/ppdata/subj01/func1pt8mm"
    i, j, k = brain.units[["i", "j", "k"]].to_numpy().T
    for file, labels in ROI_FILES.items():
        both, left, right = (
            volume(folder / f"roi/{prefix}{file}.nii.gz") for prefix in ("", "lh.", "rh.")
        )
        assert both.shape == brain.anatomy.shape
        assert_array_equal(both[i, j, k], brain.units[file])
        assert_array_equal(np.maximum(left, right), both)
        assert (np.minimum(left, right) == -1).all()
        assert {-1, 0} <= set(np.unique(both)) <= set(range(-1, len(labels) + 1))
        table = tiny_nsd / f"nsddata/freesurfer/subj01/label/{file}.mgz.ctab"
        lines = table.read_text().splitlines()
        assert lines[1:] == [f"{n} {name}" for n, name in enumerate(labels, start=1)]
    image = nibabel.load(folder / "T1_to_func1pt8mm.nii.gz")
    assert image.shape == brain.anatomy.shape
    assert_allclose(image.header.get_zooms(), 1.8, rtol=1e-6)


def test_ncsnr_by_the_recipe_meets_the_truth(
    tmp_path: Path, world: SceneWorld, population: Population
) -> None:
    write_nsd(
        tmp_path / "nsd",
        world,
        (1,),
        images_per_subject=500,
        shared=100,
        density=0.15,
        population=population,
    )
    brain = SimulatedBrain.from_manifest(tmp_path / "nsd", 1, population=population)
    written = volume(betas_folder(tmp_path / "nsd", 1) / "ncsnr.nii.gz")
    assert written.dtype == np.float32
    i, j, k = brain.units[["i", "j", "k"]].to_numpy().T
    found, truth = written[i, j, k], brain.truth["ncsnr"].to_numpy()
    labelled = (brain.units["roi"] != "").to_numpy()
    assert np.median(found[labelled] / truth[labelled]) == pytest.approx(1, abs=0.06)
    assert np.corrcoef(found[labelled], truth[labelled])[0, 1] > 0.9
    assert np.median(found[truth == 0]) < 0.1


def test_manifest_tells_that_it_is_simulated(tiny_nsd: Path) -> None:
    manifest = json.loads((tiny_nsd / "SIMULATED.json").read_text())
    assert manifest["simulated"]
    assert manifest["complete"]
    assert manifest["sessions"] == {"1": 5, "3": 4}
    assert manifest["brain"]["gate"]
    assert not list(tiny_nsd.rglob("*.partial*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"subjects": (0,)}, "different ones of 1..8"),
        ({"subjects": (1, 1)}, "different ones of 1..8"),
        ({"shared": 0}, "can be shared"),
        ({"shared": 41}, "can be shared"),
        ({"trials_per_session": 6}, "12 to 816 trials"),
        ({"trials_per_session": 25}, "do not fill sessions"),
        ({"sessions": 6}, r"1..5 sessions"),
        ({"images_per_subject": 70000}, "65535"),
    ],
)
def test_counts_that_do_not_fit(tmp_path: Path, options: dict, message: str) -> None:
    counts = {"images_per_subject": 40, "shared": 10, "trials_per_session": 24}
    with pytest.raises(InputError, match=message):
        write_nsd(tmp_path / "nsd", **{**counts, **options})
    assert not (tmp_path / "nsd").exists()


def test_nothing_is_simulated_over_other_data(tmp_path: Path, tiny_nsd: Path) -> None:
    (tmp_path / "nsddata").mkdir()
    counts = {"images_per_subject": 40, "shared": 10, "trials_per_session": 24}
    with pytest.raises(OutputError, match="may hold real data"):
        write_nsd(tmp_path, **counts)
    with pytest.raises(OutputError, match="another simulation"):
        write_nsd(tiny_nsd, subjects=(2,), **counts)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutputError, match="is a file"):
        write_nsd(file, **counts)


def test_the_reader_tells_the_worlds_truth(tiny_nsd: Path, world: SceneWorld) -> None:
    truth = world.table(range(N))
    for subject in (1, 3):
        table = brainkit.load("nsd", tiny_nsd, subject=subject).stimuli.table
        assert table["caption"].tolist() == truth["caption"].tolist()
        assert table["category"].tolist() == truth["category"].tolist()
        assert table["captions"].tolist() == [[line] for line in truth["caption"]]
        assert set(table["category"]) == {"face", "body", "place", "food", "word"}
        assert set(table["cocoSplit"]) == {"simulated"}


@pytest.mark.parametrize("seed", [1, 2])
def test_the_largest_instance_is_the_worlds_category(seed: int) -> None:
    world = SceneWorld(seed, size=128)
    content = coco_annotations(world, 500)["instances_simulated.json"]
    names = {category["id"]: category["name"] for category in content["categories"]}
    largest: dict[int, tuple[float, str]] = {}
    for entry in content["annotations"]:
        found = (entry["area"], names[entry["category_id"]])
        largest[entry["image_id"]] = max(largest.get(entry["image_id"], (0.0, "")), found)
    assert [largest[n][1] for n in range(500)] == world.table(range(500))["category"].tolist()


def test_the_files_have_the_layout_of_cocos(tiny_nsd: Path, world: SceneWorld) -> None:
    files = coco_annotations(world, N)
    assert sorted(files) == ["captions_simulated.json", "instances_simulated.json"]
    for name, expected in files.items():
        content = json.loads((tiny_nsd / "annotations" / name).read_text())
        assert content == expected
        assert [image["id"] for image in content["images"]] == list(range(N))
        assert {image["width"] for image in content["images"]} == {64}
    entries, categories = content["annotations"], content["categories"]
    assert categories[1] == {
        "supercategory": "body", "id": 2, "name": "body", "synonyms": ["person"],
    }  # fmt: skip
    assert [entry["id"] for entry in entries] == list(range(1, len(entries) + 1))
    objects = [(number, thing) for number in range(N) for thing in world.scene(number).objects]
    for (number, thing), entry in zip(objects, entries, strict=True):
        assert entry["image_id"] == number
        assert categories[entry["category_id"] - 1]["name"] == thing.category
        assert entry["area"] == pytest.approx((64 * thing.size) ** 2)
        x, y, width, height = entry["bbox"]
        assert 0 <= x < x + width <= 64
        assert 0 <= y < y + height <= 64
        assert x == pytest.approx(max(64 * (thing.x - thing.size / 2), 0))
        assert y + height == pytest.approx(min(64 * (thing.y + thing.size / 2), 64))
        outline = np.reshape(entry["segmentation"][0], (-1, 2))
        np.testing.assert_allclose(outline.min(axis=0), [x, y])
        np.testing.assert_allclose(np.ptp(outline, axis=0), [width, height])


@pytest.mark.parametrize(("subject", "n_sessions"), [(1, 5), (3, 4)])
def test_values_come_from_the_files(tiny_nsd: Path, subject: int, n_sessions: int) -> None:
    recording = brainkit.load("nsd", tiny_nsd, subject=subject)
    folder = tiny_nsd / f"nsddata_betas/ppdata/subj{subject:02d}/func1pt8mm/{VERSION}"
    mask = nibabel.load(
        tiny_nsd / f"nsddata/ppdata/subj{subject:02d}/func1pt8mm/roi/nsdgeneral.nii.gz"
    ).get_fdata()
    x, y, z = np.nonzero(mask >= 1)
    stacked = []
    for session in range(1, n_sessions + 1):
        with h5py.File(folder / f"betas_session{session:02d}.hdf5") as file:
            stacked.append(file["betas"][()][:, z, y, x] / 300)
    expected = np.concatenate(stacked)
    assert expected.shape[0] == 24 * n_sessions
    np.testing.assert_allclose(recording.responses.read(), expected, rtol=1e-6)
    assert recording.info["simulated"]
    assert {"V1", "V2", "V3", "hV4"} <= set(recording.region_names)


def test_trials_follow_the_design(tiny_nsd: Path) -> None:
    path = tiny_nsd / "nsddata/experiments/nsd/nsd_expdesign.mat"
    design = loadmat(path)
    trials = read_design(path, 3)
    for t, order in enumerate(design["masterordering"][0].astype(int)):
        assert trials["stimulus"][t] == int(design["subjectim"][2, order - 1]) - 1
        assert trials["shared"][t] == (order <= design["sharedix"].size)
    recording = brainkit.load("nsd", tiny_nsd, subject=3, sessions=[2])
    with h5py.File(tiny_nsd / STIMULI) as file:
        shown = np.stack([file["imgBrick"][row] for row in recording.stimulus_rows()[:4]])
    np.testing.assert_array_equal(recording.stimuli.read(recording.stimulus_rows()[:4]), shown)


def test_nifti_betas_hold_the_same(tiny_nsd: Path, tmp_path: Path) -> None:
    root = tmp_path / "nsd"
    shutil.copytree(tiny_nsd, root)
    expected = brainkit.load("nsd", root, subject=1, mask="V1").responses.read()
    for path in root.rglob("betas_session*.hdf5"):
        path.unlink()
    got = brainkit.load("nsd", root, subject=1, mask="V1").responses.read()
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_the_whole_way_to_a_map(tiny_nsd: Path) -> None:
    recording = brainkit.load("nsd", tiny_nsd, subject=1)
    split = recording.split("nsd-shared1000").zscore()
    averaged = split.test.average_repeats()
    assert averaged.trials["n_repeats"].max() <= 3
    values = averaged.responses.read()
    assert np.isfinite(values).mean() > 0.9
    image = recording.to_image(values.mean(axis=0))
    assert image.shape == recording.space.shape
