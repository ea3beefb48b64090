"""Recordings from NIfTI files, in the layout of BOLD5000's second release."""

import os

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainkit import Recording, Stimuli
from brainkit.errors import CorruptFileError, GridMismatchError, InputError, MissingFileError

GRID = (7, 8, 6)
AFFINE = np.array([[-2.0, 0, 0, 70], [0, 2, 0, -90], [0, 0, 2, -60], [0, 0, 0, 1]])
TRIALS = (37 * 2, 37, 37)  # runs of 37 trials; sessions of several runs
BETAS = "CSI1_GLMbetas-TYPED-FITHRF-GLMDENOISE-RR_ses-{:02d}.nii.gz"


def save(path, volume, affine=AFFINE):
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


@pytest.fixture(scope="module")
def bold5000(tmp_path_factory):
    """Sessions of float32 volumes, a mask and one image name a trial, repeats unmarked."""
    folder = tmp_path_factory.mktemp("BOLD5000")
    generator = np.random.default_rng(3)
    inside = generator.random(GRID) < 0.3
    save(folder / "CSI1_brainmask.nii.gz", inside.astype(np.uint8))
    save(
        folder / "sub-CSI1_mask-LHPPA.nii.gz",
        (inside & (generator.random(GRID) < 0.4)).astype("u1"),
    )
    volumes = []
    for session, n in enumerate(TRIALS, start=1):
        volume = generator.normal(session, session, (*GRID, n)).astype(np.float32)
        volume[~inside] = 0
        save(folder / BETAS.format(session), volume)
        volumes.append(volume)
    names = [f"COCO_{n:04d}.jpg" for n in range(140)]
    shown = generator.permutation([*names[:136], names[0], *names[1:6], *names[:6]])
    (folder / "CSI1_imgnames.txt").write_text("\n".join(shown[: sum(TRIALS)]) + "\n")
    (folder / "stimuli").mkdir()
    for number, name in enumerate(sorted(set(shown))):
        image = np.full((8, 8, 3), number, dtype=np.uint8)
        Image.fromarray(image).save(folder / "stimuli" / name, quality=100)
    return folder, inside, np.concatenate(volumes, axis=3)


def read(folder, **options):
    shown = (folder / "CSI1_imgnames.txt").read_text().split()
    unique = sorted(set(shown))
    sessions = np.repeat(np.arange(1, len(TRIALS) + 1), TRIALS)
    runs = np.concatenate([np.arange(n) // 37 + 1 for n in TRIALS])
    rows = {name: row for row, name in enumerate(unique)}
    trials = pd.DataFrame(
        {
            "stimulus": [rows[name] for name in shown],
            "name": shown,
            "session": sessions,
            "run": runs,
        }
    )
    return Recording.from_nifti(
        [folder / BETAS.format(session) for session in (1, 2, 3)],
        folder / "CSI1_brainmask.nii.gz",
        trials,
        subject="CSI1",
        rois={"LHPPA": folder / "sub-CSI1_mask-LHPPA.nii.gz"},
        stimuli=Stimuli.from_files([folder / "stimuli" / name for name in unique]),
        info={"measure": "percent signal change"},
        **options,
    )


def test_read_and_select(bold5000):
    folder, inside, volumes = bold5000
    recording = read(folder)
    assert recording.responses.shape == (sum(TRIALS), inside.sum())
    np.testing.assert_array_equal(recording.responses.read(), volumes[inside].T)
    rows = [100, 3, 3, 147]
    part = recording.select(trials=rows, roi="LHPPA")
    region = nibabel.load(folder / "sub-CSI1_mask-LHPPA.nii.gz").get_fdata() > 0
    np.testing.assert_array_equal(part.responses.read(), volumes[region].T[rows])
    np.testing.assert_array_equal(part.units[["i", "j", "k"]], np.argwhere(region))
    # Images are read by the trials' names.
    order = sorted(set(recording.trials["name"]))
    image = part.stimuli.read(part.stimulus_rows())[1]
    assert abs(int(image.mean()) - order.index(part.trials["name"][1])) <= 2


def test_split_zscore_average(bold5000):
    folder, inside, volumes = bold5000
    recording = read(folder)
    names = recording.trials["name"]
    assert names.duplicated().any()
    for fold in recording.split("kfold:4").zscore():
        assert not set(fold.train.trials["name"]) & set(fold.test.trials["name"])
        averaged = fold.test.average_repeats()
        assert averaged.trials["name"].is_unique
        counts = fold.test.trials["name"].value_counts()
        np.testing.assert_array_equal(averaged.trials["n_repeats"], counts[averaged.trials["name"]])
    flat = volumes[inside].T.astype(float)
    train = np.isin(np.arange(sum(TRIALS)), fold.rows["train"])
    session = recording.trials["session"].to_numpy()
    standard = np.empty_like(flat)
    for number in (1, 2, 3):
        fit = flat[train & (session == number)]
        standard[session == number] = (flat[session == number] - fit.mean(0)) / fit.std(0)
    for row, name in enumerate(averaged.trials["name"]):
        expected = standard[(names == name).to_numpy()].mean(0)
        np.testing.assert_allclose(averaged.responses.read()[row], expected, rtol=1e-3, atol=1e-4)


def test_maps(bold5000, tmp_path):
    folder, inside, volumes = bold5000
    recording = read(folder, background=folder / "CSI1_brainmask.nii.gz")
    mean = recording.responses.read().mean(0)
    nibabel.save(recording.to_image(mean, fill=0), tmp_path / "mean.nii.gz")
    image = nibabel.load(tmp_path / "mean.nii.gz")
    np.testing.assert_allclose(image.get_fdata(), volumes.mean(axis=3), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(recording.space.background_image().get_fdata(), inside)


def test_a_file_a_trial_and_no_table(bold5000, tmp_path):
    _, inside, volumes = bold5000
    for number in range(3):
        save(tmp_path / f"beta{number}.nii", volumes[..., number])
    save(tmp_path / "mask.nii", inside.astype(np.uint8))
    images = np.zeros((3, 4, 4))
    recording = Recording.from_nifti(
        [tmp_path / f"beta{number}.nii" for number in (2, 0, 1)],
        tmp_path / "mask.nii",
        stimuli=images,
        scale=0.5,
    )
    np.testing.assert_allclose(recording.responses.read(), 0.5 * volumes[inside].T[[2, 0, 1]])
    np.testing.assert_array_equal(recording.stimulus_rows(), [0, 1, 2])
    one = Recording.from_nifti(str(tmp_path / "beta1.nii"), str(tmp_path / "mask.nii"))
    assert one.responses.shape == (1, inside.sum())
    assert repr(one).startswith("Recording('s1': 1 trial x")


def test_conditions_that_come_again_in_every_run(bold5000):
    folder, _, _ = bold5000
    trials = pd.DataFrame({"stimulus": np.arange(37) % 5, "run": np.arange(37) // 10})
    recording = Recording.from_nifti(
        folder / BETAS.format(2), folder / "CSI1_brainmask.nii.gz", trials, stimuli_are="conditions"
    )
    assert recording.stimuli_are == "conditions"
    assert len(recording.split("leave-one-run-out")) == 4


def test_grids_that_differ(bold5000, tmp_path):
    folder, inside, _ = bold5000
    betas = folder / BETAS.format(1)
    moved = AFFINE.copy()
    moved[1, 3] += 2
    save(tmp_path / "moved.nii.gz", inside.astype(np.uint8), moved)
    save(tmp_path / "small.nii.gz", inside[1:].astype(np.uint8))
    save(tmp_path / "flipped.nii.gz", inside.astype(np.uint8), AFFINE * [[-1], [1], [1], [1]])
    for name, message in (
        ("moved", "another affine"),
        ("flipped", "another affine"),
        ("small", r"\(7, 8, 6\).*\(6, 8, 6\)"),
    ):
        with pytest.raises(GridMismatchError, match=rf"{name}.*{message}"):
            Recording.from_nifti(betas, tmp_path / f"{name}.nii.gz")
        with pytest.raises(GridMismatchError, match="ROI mine"):
            Recording.from_nifti(
                betas, folder / "CSI1_brainmask.nii.gz", rois={"mine": tmp_path / f"{name}.nii.gz"}
            )


@pytest.mark.parametrize("given", ["file", "image", "array"])
def test_masks_and_regions_with_noise(bold5000, tmp_path, given):
    """A background of 7e-15 is outside, and a region of 1.00003 is not empty."""
    folder, inside, _ = bold5000
    betas = folder / BETAS.format(1)
    noisy = np.where(inside, 1.0, 7e-15)
    region = np.where(inside & (np.indices(GRID)[0] < 3), 1.00003, -1e-9)

    def as_given(name, volume):
        save(tmp_path / f"{name}.nii.gz", volume)
        image = nibabel.load(tmp_path / f"{name}.nii.gz")
        return {"file": tmp_path / f"{name}.nii.gz", "image": image, "array": volume}[given]

    with pytest.warns(UserWarning, match="were rounded to whole numbers") as caught:
        recording = Recording.from_nifti(
            betas, as_given("mask", noisy), rois={"early": as_given("early", region)}
        )
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2  # once for each volume
    assert f"{(~inside).sum()} of {inside.size} values" in said[0]
    np.testing.assert_array_equal(recording.units[["i", "j", "k"]], np.argwhere(inside))
    np.testing.assert_array_equal(recording.roi_mask("early"), np.argwhere(inside)[:, 0] < 3)
    np.testing.assert_allclose(recording.space.affine, AFFINE)


@pytest.mark.parametrize("given", ["file", "array"])
def test_probabilities_are_no_mask(bold5000, tmp_path, given):
    folder, inside, _ = bold5000
    betas, mask = folder / BETAS.format(1), folder / "CSI1_brainmask.nii.gz"
    share = np.where(inside, 0.7, 0.02)
    save(tmp_path / "share.nii.gz", share)
    named = {"file": tmp_path / "share.nii.gz", "array": share}[given]
    with pytest.raises(InputError, match=r"The mask.* none: 0\.02, 0\.7\. Threshold"):
        Recording.from_nifti(betas, named)
    with pytest.raises(InputError, match=r"The mask of the ROI V1.* none: 0\.02, 0\.7"):
        Recording.from_nifti(betas, mask, rois={"V1": named})


def test_an_array_of_another_grid_is_no_mask(bold5000):
    folder, inside, _ = bold5000
    betas, mask = folder / BETAS.format(1), folder / "CSI1_brainmask.nii.gz"
    with pytest.raises(GridMismatchError, match=r"\(7, 8, 6\).*\(6, 8, 6\)"):
        Recording.from_nifti(betas, inside[1:])
    with pytest.raises(GridMismatchError, match="ROI mine, given as an array"):
        Recording.from_nifti(betas, mask, rois={"mine": inside[1:]})
    with pytest.raises(InputError, match=r"shape \(336,\); expected \(X, Y, Z\)"):
        Recording.from_nifti(betas, inside.ravel())


def test_bad_input(bold5000, tmp_path):
    folder, inside, _ = bold5000
    mask, betas = folder / "CSI1_brainmask.nii.gz", folder / BETAS.format(2)
    with pytest.raises(MissingFileError, match="ses-09"):
        Recording.from_nifti([betas, folder / BETAS.format(9)], mask)
    with pytest.raises(MissingFileError, match="The mask is missing"):
        Recording.from_nifti(betas, tmp_path / "mask.nii.gz")
    with pytest.raises(InputError, match="table has 5 rows but responses have 37"):
        Recording.from_nifti(betas, mask, pd.DataFrame({"session": [1] * 5}))
    with pytest.raises(InputError, match="at least one"):
        Recording.from_nifti([], mask)
    save(tmp_path / "empty.nii.gz", 0 * inside.astype(np.uint8))
    with pytest.raises(InputError, match="no voxel above 0"):
        Recording.from_nifti(betas, tmp_path / "empty.nii.gz")
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(betas.read_bytes()[:3000])
    with pytest.raises(CorruptFileError, match="broken"):
        Recording.from_nifti(broken, mask).responses.read()


def test_masked_masks(bold5000):
    folder, inside, _ = bold5000
    path = folder / BETAS.format(2)
    plain = Recording.from_nifti(path, inside)
    masked = np.ma.masked_array(np.ones(GRID), mask=~inside)
    with pytest.raises(InputError, match="The mask is a masked array"):
        Recording.from_nifti(path, masked)
    with pytest.raises(InputError, match="The mask of the ROI a is a masked array"):
        Recording.from_nifti(path, inside, rois={"a": masked})
    none = np.ma.masked_array(inside, mask=False)
    pd.testing.assert_frame_equal(Recording.from_nifti(path, none).units, plain.units)
    with pytest.raises(InputError, match="The mask must be an array; got None"):
        Recording.from_nifti(path, None)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (nibabel.Nifti1Image(np.zeros(GRID), AFFINE), "paths of NIfTI files.* a Nifti1Image"),
        ([nibabel.Nifti1Image(np.zeros(GRID), AFFINE)], "paths of NIfTI files.* a Nifti1Image"),
        (np.zeros((2, 2)), r"a ndarray.*Recording\.from_arrays"),
        (None, "images must be a sequence, even of one; got None"),
        ({"a.nii"}, "got a set"),
        ("", "got ''"),
        ([], "names no file"),
    ],
)
def test_images_are_files(bold5000, images, message):
    with pytest.raises(InputError, match=message):
        Recording.from_nifti(images, bold5000[1])


def test_regions_by_name_and_paths_in_bytes(bold5000):
    folder, inside, _ = bold5000
    path = folder / BETAS.format(2)
    recording = Recording.from_nifti(os.fsencode(path), inside, rois={b"V1": inside})
    assert recording.roi_names == ["V1"]
    with pytest.raises(InputError, match="rois must be a dict of masks by name; got a list"):
        Recording.from_nifti(path, inside, rois=[inside])
    with pytest.raises(InputError, match="rois are masks by name; got int"):
        Recording.from_nifti(path, inside, rois={1: inside})


@pytest.fixture
def series(tmp_path):
    """Two runs of a BOLD series, of four and three volumes."""
    rng, paths, values = np.random.default_rng(0), [], []
    for run, n in enumerate((4, 3)):
        volume = rng.normal(size=(3, 2, 2, n)).astype(np.float32)
        paths.append(tmp_path / f"run{run}.nii.gz")
        nibabel.save(nibabel.Nifti1Image(volume, np.eye(4)), paths[-1])
        values.append(volume.reshape(12, n).T)
    return paths, np.concatenate(values)


def test_series_have_a_row_a_volume(series):
    paths, values = series
    mask = np.ones((3, 2, 2), dtype=int)
    events = pd.DataFrame({"onset": [0.0], "run": [1]})
    recording = Recording.from_nifti(paths, mask, tr=2.0, events=events)
    assert recording.trials is None
    assert recording.samples["run"].tolist() == [1] * 4 + [2] * 3
    assert recording.samples["time"].tolist() == [0, 2, 4, 6, 0, 2, 4]
    assert recording.sfreq == 0.5
    assert len(recording.events) == 1
    np.testing.assert_array_equal(recording.responses.read(), values)
    named = pd.DataFrame({"run": ["a"] * 4 + ["b"] * 3, "label": list("xxyyxxy")})
    labelled = Recording.from_nifti(paths, mask, samples=named, tr=1.5)
    assert labelled.samples["time"].tolist() == [0, 1.5, 3, 4.5, 0, 1.5, 3]
    assert labelled.samples["label"].tolist() == list("xxyyxxy")
    timed = named.assign(time=[0.5, 1.5, 2.5, 3.5, 10, 11, 12])
    assert Recording.from_nifti(paths, mask, samples=timed).sfreq == pytest.approx(1.0)


def test_series_that_do_not_fit(series):
    paths, _ = series
    mask = np.ones((3, 2, 2), dtype=int)
    table = pd.DataFrame({"run": [1] * 4 + [2] * 3})
    for options, message in (
        ({"samples": table}, "A series needs times"),
        ({"samples": table[:-1], "tr": 2.0}, "samples has 6 rows and the 2 files have 7 volumes"),
        ({"tr": 0.0}, "above 0; got 0.0"),
        ({"tr": np.nan}, "above 0; got nan"),
        ({"trials": table, "tr": 2.0}, "not both"),
        ({"samples": table.assign(time=[0, 1, 1, 2, 0, 1, 2])}, "rows 1 and 2 of samples have"),
    ):
        with pytest.raises(InputError, match=message):
            Recording.from_nifti(paths, mask, **options)
