"""The reader of the real dataset reads the simulated one, from HDF5 and NIfTI alike."""

import shutil
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pytest
from scipy.io import loadmat

import brainkit
from brainkit.data.nsd import STIMULI, read_design

VERSION = "betas_fithrf_GLMdenoise_RR"


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
