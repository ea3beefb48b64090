"""Labels decoded from real recordings, at least as well as a plain analysis does."""

import re

import h5py
import mne
import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.decoding import LabelDecoder, LabelProtocol, assess_labels

pytestmark = pytest.mark.slow
BALANCED, AUC = "decoding_balanced_accuracy", "decoding_auc"


def hands_and_feet(folder, runs):
    """Epochs of both fists and both feet, 7 to 30 Hz, half a second to 2.5 s after the cue."""
    epochs, of_run = [], []
    for run in runs:
        path = folder / "eegmmidb" / f"S001R{run:02d}.edf"
        raw = mne.io.read_raw_edf(path, preload=True, verbose="error")
        raw.filter(7.0, 30.0, verbose="error")
        events, _ = mne.events_from_annotations(raw, {"T1": 1, "T2": 2}, verbose="error")
        names = {"hands": 1, "feet": 2}
        one = mne.Epochs(raw, events, names, 0.5, 2.5, baseline=None, preload=True, verbose="error")
        epochs.append(one)
        of_run += [run] * len(one)
    joined = mne.concatenate_epochs(epochs, verbose="error")
    return Recording.from_mne(joined, picks="eeg", trials=pd.DataFrame({"run": of_run}))


@pytest.mark.parametrize(
    ("runs", "seen"), [((5, 9, 13), 0.933), ((6, 10, 14), 0.711)], ids=["executed", "imagined"]
)
def test_hands_are_told_from_feet_in_runs_left_out(shared_data, runs, seen):
    recording = hands_and_feet(shared_data, runs)
    result = assess_labels(
        recording,
        LabelDecoder("lda", features="csp"),
        LabelProtocol("leave-one-run-out", permutations=19, shuffles=5),
    )
    entry = result.metrics[BALANCED]
    assert entry["value"] >= seen
    assert np.diag(result.confusion).sum() / 45 >= seen  # plain accuracy
    assert entry["p"] == 0.05
    assert abs(entry["nulls"]["exchanged_labels"] - 0.5) < 0.15
    assert (entry["n_units"], entry["few_units"]) == (3, True)


@pytest.fixture(scope="module")
def flashes(shared_data):
    """Sixteen channels, 480 flashes, 80 of them the target's; 1 to 20 Hz."""
    with h5py.File(shared_data / "p300" / "EEG_ex.mat") as file:
        channels = file["EEG/Channels"][()].astype(np.float64)
        onsets = np.flatnonzero(file["EEG/Trigger"][()].ravel() > 0)
        target = file["EEG/EpochClass"][()].ravel() > 0
        sfreq = float(file["EEG/Fs"][()].ravel()[0])
    filtered = mne.filter.filter_data(channels, sfreq, 1.0, 20.0, verbose="error")
    n = int(0.8 * sfreq)
    epochs = np.stack([filtered[:, onset : onset + n] for onset in onsets])
    table = pd.DataFrame({"label": np.where(target, "target", "other")})
    return Recording.from_arrays(epochs, trials=table, sfreq=sfreq, times=np.arange(n) / sfreq)


def test_targets_are_told_in_contiguous_folds(flashes):
    protocol = LabelProtocol("stretches:5", permutations=19, shuffles=5)
    windows = assess_labels(flashes, LabelDecoder("lda", features="xdawn", bins=8), protocol)
    entry = windows.metrics[AUC]
    assert entry["value"] >= 0.890
    assert entry["p"] == 0.05
    assert abs(entry["nulls"]["exchanged_labels"] - 0.5) < 0.08
    assert entry["ci"][0] > 0.75


def test_targets_are_told_by_covariances(flashes):
    protocol = LabelProtocol("stretches:5", permutations=0, shuffles=1)
    result = assess_labels(flashes, LabelDecoder("lda", features="erp_covariance"), protocol)
    assert result.metrics[AUC]["value"] >= 0.915


def muse(folder, kind, names, bands, window):
    """Epochs of four electrodes in all files of a task, a run each; those above 150 µV are out."""
    sfreq, epochs, labels, runs = 256.0, [], [], []
    for run, path in enumerate(sorted((folder / "muse" / kind).rglob("*.csv.gz"))):
        table = pd.read_csv(path)
        marker = next(name for name in table if re.match("Marker", name))
        signal = table[["TP9", "AF7", "AF8", "TP10"]].to_numpy(dtype=np.float64).T
        filtered = np.concatenate(
            [mne.filter.filter_data(signal, sfreq, *band, verbose="error") for band in bands]
        )
        first, last = (int(end * sfreq) for end in window)
        for onset in np.flatnonzero(table[marker] > 0):
            epoch = filtered[:, onset + first : onset + last]
            if epoch.shape[1] == last - first and np.ptp(epoch, axis=1).max() < 150:
                epochs.append(epoch)
                labels.append(names[int(table[marker][onset])])
                runs.append(run)
    trials = pd.DataFrame({"label": labels, "run": runs})
    return Recording.from_arrays(np.stack(epochs), trials=trials, sfreq=sfreq)


@pytest.mark.parametrize(
    ("kind", "seen"), [("visual/P300", 0.765), ("auditory/P300", 0.617)], ids=["seen", "heard"]
)
def test_rare_stimuli_are_told_from_four_dry_electrodes(shared_data, kind, seen):
    names = {1: "other", 2: "target"}
    recording = muse(shared_data, kind, names, [(1.0, 20.0)], (0.1, 0.75))
    result = assess_labels(
        recording,
        LabelDecoder("lda", features="erp_covariance", n_components=2),
        LabelProtocol("leave-one-run-out", permutations=0, shuffles=2),
    )
    entry = result.metrics[AUC]
    assert entry["value"] >= seen
    assert abs(entry["nulls"]["exchanged_labels"] - 0.5) < 0.06


def test_flicker_is_told_by_power(shared_data):
    names, bands = {1: "30 Hz", 2: "20 Hz"}, [(19.0, 21.0), (29.0, 31.0)]
    recording = muse(shared_data, "visual/SSVEP", names, bands, (0.5, 2.5))
    result = assess_labels(
        recording,
        LabelDecoder("lda", features="csp"),
        LabelProtocol("leave-one-run-out", permutations=9, shuffles=3),
    )
    entry = result.metrics[BALANCED]
    assert entry["value"] >= 0.85
    assert entry["p"] == 0.1
    assert abs(entry["nulls"]["exchanged_labels"] - 0.5) < 0.12


def volumes(folder):
    """Categories and blocks of the volumes of all runs of the person who saw eight categories."""
    table = pd.read_csv(
        folder / "haxby" / "attributes_literal.txt", sep=" ", names=["label", "run"]
    )
    table["trial"] = (table["label"] != table["label"].shift()).cumsum()
    return table.assign(label=table["label"].where(table["label"] != "rest"))


def test_volumes_are_told_one_by_one(shared_data):
    """As samples of a continuous series, standardised by their runs' own volumes."""
    series = Recording.from_nifti(
        shared_data / "haxby" / "bold.nii.gz", shared_data / "haxby" / "mask.nii.gz",
        samples=volumes(shared_data), tr=2.5,
    )  # fmt: skip
    result = assess_labels(
        series, LabelDecoder("lda"),
        LabelProtocol("leave-one-run-out", zscore="run", unseen="session-unlabelled",
                      permutations=0, shuffles=1),
    )  # fmt: skip
    assert result.metrics[BALANCED]["value"] >= 0.646
    assert abs(result.metrics[BALANCED]["nulls"]["exchanged_labels"] - 0.125) < 0.1
    assert result.zscore["transductive"]
    assert result.counts["without_label"] == 588
