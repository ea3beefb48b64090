"""T20: index bases, ×300 scaling, mask polarity, axis order, samples against seconds.

A fixture with one known answer for each: a voxel of known place, a trial of known image, a mask
with −1, 0 and 1, values of a known percentage, and an event at a known second.
"""

import h5py
import mne
import nibabel
import numpy as np
import pytest
from scipy.io import savemat

import brainkit
from brainkit import Recording

GRID = (4, 3, 2)  # X, Y, Z
PLACE = (3, 1, 0)


@pytest.fixture
def root(tmp_path):
    experiment = tmp_path / "nsddata/experiments/nsd"
    experiment.mkdir(parents=True)
    pattern = np.zeros((1, 12, 75), dtype=np.uint8)
    pattern[0, 0, :4] = 1
    images = np.tile([2, 9, 5], (8, 1)).astype(np.int32)  # 1-based rows of the stimuli
    savemat(
        experiment / "nsd_expdesign.mat",
        {
            "masterordering": np.array([[3, 1, 3, 2]], dtype=np.uint16),  # 1-based again
            "sharedix": np.array([[2]], dtype=np.int32),
            "stimpattern": pattern,
            "subjectim": images,
        },
    )
    stimuli = tmp_path / "nsddata_stimuli/stimuli/nsd"
    stimuli.mkdir(parents=True)
    with h5py.File(stimuli / "nsd_stimuli.hdf5", "w") as file:
        file["imgBrick"] = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones(
            (1, 2, 2, 3), np.uint8
        )
    rois = tmp_path / "nsddata/ppdata/subj01/func1pt8mm/roi"
    rois.mkdir(parents=True)
    mask = np.full(GRID, -1, dtype=np.int16)
    mask[PLACE] = 1
    mask[0, 0, 0] = 0
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), rois / "nsdgeneral.nii.gz")
    betas = tmp_path / "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
    betas.mkdir(parents=True)
    values = np.zeros((4, *reversed(GRID)), dtype=np.int16)  # (trials, Z, Y, X)
    values[:, PLACE[2], PLACE[1], PLACE[0]] = [300, -150, 32767, 3]
    with h5py.File(betas / "betas_session01.hdf5", "w") as file:
        file.create_dataset("betas", data=values, chunks=(4, 1, 1, 1))
    return tmp_path


def test_nsd(root):
    recording = brainkit.load("nsd", root)
    # Axis order and polarity: one unit, at its (x, y, z); 0 and −1 are outside.
    assert recording.units[["i", "j", "k"]].to_numpy().tolist() == [list(PLACE)]
    # Scale: percent signal change.
    np.testing.assert_allclose(
        recording.responses.read()[:, 0], [1, -0.5, 32767 / 300, 0.01], rtol=1e-6
    )
    # Index bases: image 3 of the subject is row 5 − 1 of the stimuli.
    assert recording.trials["stimulus"].tolist() == [4, 1, 4, 8]
    assert recording.stimuli.read(recording.stimulus_rows())[:, 0, 0, 0].tolist() == [4, 1, 4, 8]
    assert recording.trials["shared"].tolist() == [False, True, False, False]
    assert recording.trials["repeat"].tolist() == [0, 0, 1, 0]


def test_all_cortex_takes_zero_but_not_minus_one(root):
    recording = brainkit.load("nsd", root, mask=None)
    assert recording.units[["i", "j", "k"]].to_numpy().tolist() == [[0, 0, 0], list(PLACE)]


def test_maps_use_the_same_axes(root):
    image = brainkit.load("nsd", root).to_image([7.0], fill=0).get_fdata()
    assert np.argwhere(image).tolist() == [list(PLACE)]
    assert image[PLACE] == 7


def test_events_are_seconds_from_the_first_sample():
    raw = mne.io.RawArray(np.zeros((1, 1000)), mne.create_info(1, 250.0, "eeg"), verbose=False)
    raw.set_annotations(mne.Annotations([2.0], [0.1], ["flash"]))
    recording = Recording.from_mne(raw.crop(0.8))
    onset = recording.events["onset"][0]
    assert onset == pytest.approx(1.2)
    row = np.argmin(np.abs(recording.samples["time"] - onset))
    assert row == 300  # 1.2 s at 250 Hz
