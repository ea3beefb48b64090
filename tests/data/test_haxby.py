"""The real blocks: every array against the files themselves, read without the reader."""

import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.signal import clean

import brainkit
from brainkit.data.cards import read_card
from brainkit.data.haxby import CATEGORIES, load_series
from brainkit.errors import CorruptFileError, InputError, MissingFileError, UnknownNameError


@pytest.fixture(scope="module")
def root(shared_data):
    return shared_data / "haxby"


def run_folder(root, run):
    return root / f"haxby2001/sub001/BOLD/task001_run{run:03d}"


@pytest.mark.parametrize(
    ("form", "file", "mask"),
    [
        ("slice", "bold_1slice.nii.gz", "mask.nii.gz"),
        ("whole-brain", "bold_25mm.nii.gz", "haxby2001/sub001/masks/25mm/brain.nii.gz"),
    ],
)
def test_the_series_is_the_files(root, form, file, mask):
    recording = load_series(root, form)
    inside = np.asarray(nibabel.load(root / mask).dataobj) > 0
    runs = [np.asarray(nibabel.load(run_folder(root, r) / file).dataobj) for r in range(1, 13)]
    expected = np.concatenate([run[inside].T for run in runs])
    assert expected.shape == (1452, 530 if form == "slice" else 129)
    np.testing.assert_array_equal(recording.responses.read(), expected)
    np.testing.assert_array_equal(recording.samples["run"], np.repeat(np.arange(1, 13), 121))
    np.testing.assert_array_equal(recording.samples["time"], np.tile(np.arange(121) * 2.5, 12))
    assert recording.sfreq == pytest.approx(0.4)
    assert len(recording.events) == 96
    assert set(recording.roi_names) == (set() if form == "slice" else {"grey", "white", "VT"})


def test_events_name_the_volumes_that_the_attributes_name(root):
    """attributes_literal.txt has a category for every volume; the events say the same."""
    recording = load_series(root)
    table = pd.read_csv(root / "attributes_literal.txt", sep=" ", names=["label", "run"])
    said = np.full(1452, "rest", dtype=object)
    for event in recording.events.itertuples():
        time = recording.samples["time"]
        here = (recording.samples["run"] == event.run) & (time >= event.onset)
        said[here & (time < event.onset + event.duration)] = event.trial_type
    np.testing.assert_array_equal(said, table["label"])


@pytest.mark.parametrize("delay", [0.0, 2.5])
def test_trials_are_means_of_cleaned_volumes(root, delay):
    recording = brainkit.load("haxby", root, delay=delay)
    assert recording.responses.shape == (96, 530)
    assert recording.info["card"] == "haxby"
    values = recording.responses.read()
    inside = np.asarray(nibabel.load(root / "mask.nii.gz").dataobj) > 0
    for run in (1, 7):
        folder = run_folder(root, run)
        volumes = np.asarray(nibabel.load(folder / "bold_1slice.nii.gz").dataobj)[inside].T
        cleaned = clean(volumes.astype(float), detrend=True, standardize="zscore_sample")
        events = pd.read_csv(folder / "bold_events.tsv", sep="\t")
        rows = np.flatnonzero(recording.trials["run"] == run)
        assert recording.trials["label"].iloc[rows].tolist() == events["trial_type"].tolist()
        for row, onset in zip(rows, events["onset"], strict=True):
            first = round((onset + delay) / 2.5)
            expected = cleaned[first : first + 9].mean(axis=0)
            np.testing.assert_allclose(values[row], expected, atol=1e-5)


def test_a_run_has_a_block_of_each_category(root):
    trials = brainkit.load("haxby", root, form="whole-brain").trials
    for _, part in trials.groupby("run"):
        assert sorted(part["label"]) == list(CATEGORIES)
    assert trials["n_volumes"].between(9, 9).all()
    assert trials["run"].nunique() == 12


def test_maps_lie_on_the_masks_grid(root):
    recording = brainkit.load("haxby", root, form="whole-brain")
    inside = np.asarray(nibabel.load(root / "haxby2001/sub001/masks/25mm/brain.nii.gz").dataobj)
    volume = recording.to_image(np.arange(1.0, 130), fill=0).get_fdata()
    np.testing.assert_array_equal(volume[inside > 0], np.arange(1.0, 130))
    assert (volume[inside == 0] == 0).all()


def copied(root, tmp_path):
    """Copy what one run needs, as files that can be written."""
    for run in (1, 2):
        folder = run_folder(tmp_path, run)
        folder.mkdir(parents=True)
        for name in ("bold_events.tsv", "bold_1slice.nii.gz"):
            shutil.copyfile(run_folder(root, run) / name, folder / name)
    shutil.copyfile(root / "mask.nii.gz", tmp_path / "mask.nii.gz")
    return tmp_path


def test_what_is_missing_or_damaged(root, tmp_path):
    with pytest.raises(MissingFileError, match="The haxby recording"):
        brainkit.load("haxby", tmp_path)
    folder = copied(root, tmp_path)
    assert brainkit.load("haxby", folder).responses.shape == (16, 530)
    with pytest.raises(MissingFileError, match="The mask of the haxby recording"):
        brainkit.load("haxby", folder, form="whole-brain")
    events = run_folder(folder, 2) / "bold_events.tsv"
    whole = events.read_text()
    events.write_text(whole.replace("face", "fase"))
    with pytest.raises(CorruptFileError, match="one block of each of the eight categories"):
        brainkit.load("haxby", folder)
    events.write_text(whole.replace("trial_type", "kind"))
    with pytest.raises(CorruptFileError, match="has the columns"):
        brainkit.load("haxby", folder)
    events.write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(CorruptFileError, match="is no table of events"):
        brainkit.load("haxby", folder)
    events.unlink()
    with pytest.raises(MissingFileError, match="The events of a run"):
        brainkit.load("haxby", folder)
    events.write_text(whole)
    volumes = run_folder(folder, 1) / "bold_1slice.nii.gz"
    volumes.write_bytes(volumes.read_bytes()[:3000])
    with pytest.raises(CorruptFileError):
        brainkit.load("haxby", folder).responses.read()
    volumes.unlink()
    with pytest.raises(MissingFileError, match="bold_1slice"):
        brainkit.load("haxby", folder)


def test_bad_input(root):
    with pytest.raises(UnknownNameError, match="sub001"):
        brainkit.load("haxby", root, subject="sub002")
    with pytest.raises(InputError, match="The option form cannot be 'surface'"):
        brainkit.load("haxby", root, form="surface")
    with pytest.raises(UnknownNameError, match="whole-brain"):
        load_series(root, "surface")
    with pytest.raises(InputError, match="No volume lies in the window"):
        brainkit.load("haxby", root, delay=60.0)


def test_the_card_pins_what_is_read(root):
    card = read_card("haxby")
    assert {file.path for file in card.files} >= {
        "mask.nii.gz", "haxby2001/sub001/BOLD/task001_run012/bold_25mm.nii.gz"
    }  # fmt: skip
    for file in card.files:
        assert (root / file.path).stat().st_size == file.size
