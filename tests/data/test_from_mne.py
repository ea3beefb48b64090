"""Recordings from MNE, simulated for exact values and real for the whole way there and back."""

import warnings

import mne
import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.errors import InputError, LeakError


def raw(n_seconds=4, sfreq=100.0, seed=0, meas_date=None):
    info = mne.create_info(["Fz", "Cz", "Pz", "EOG 1"], sfreq, ["eeg"] * 3 + ["eog"])
    info.set_montage("standard_1020")
    data = np.random.default_rng(seed).normal(size=(4, int(n_seconds * sfreq)))
    made = mne.io.RawArray(data * 1e-6, info, verbose=False)
    made.set_meas_date(meas_date)
    return made


def epochs(metadata=None):
    events = np.array([[50, 0, 1], [120, 0, 2], [200, 0, 1], [390, 0, 2]])
    return mne.Epochs(
        raw(), events, {"left": 1, "right": 2}, -0.1, 0.3, baseline=None, preload=True,
        metadata=metadata, verbose=False,
    )  # fmt: skip


def test_epochs():
    made = epochs()  # the last one reaches past the end and is dropped
    recording = Recording.from_mne(made, subject="p1")
    data = made.get_data(picks="eeg")
    assert recording.responses.shape == (3, 3, 41)
    np.testing.assert_allclose(recording.responses.read(), data, rtol=1e-6)
    np.testing.assert_allclose(
        recording.responses.read(trials=[2], units=[1, 0]), data[[2]][:, [1, 0]], rtol=1e-6
    )
    assert recording.trials["label"].tolist() == ["left", "right", "left"]
    assert recording.trials["stimulus"].isna().all()
    assert recording.stimuli is None
    assert recording.sfreq == 100
    np.testing.assert_allclose(recording.times, made.times)
    assert recording.units["name"].tolist() == ["Fz", "Cz", "Pz"]
    np.testing.assert_allclose(
        recording.units[["x", "y", "z"]], [ch["loc"][:3] for ch in made.info["chs"][:3]]
    )
    assert made.ch_names == ["Fz", "Cz", "Pz", "EOG 1"]  # the caller's own are as they were
    with pytest.raises(InputError, match="3 trials show no stimulus"):
        recording.stimulus_rows()


def test_picks_metadata_and_more_columns():
    metadata = pd.DataFrame({"run": [3, 3, 4, 4], "rt": [0.1, 0.2, 0.3, 0.4]}, index=[5, 6, 7, 8])
    recording = Recording.from_mne(
        epochs(metadata), picks=["Pz", "EOG 1"], trials=pd.DataFrame({"stimulus": [2, 0, 2]})
    )
    assert recording.trials["run"].tolist() == [3, 3, 4]
    assert recording.trials["stimulus"].tolist() == [2, 0, 2]
    assert recording.units["kind"].tolist() == ["eeg", "eog"]
    with pytest.raises(LeakError):
        recording.split("leave-one-run-out")  # image 2 in both runs
    with pytest.raises(InputError, match=r"3 epochs .* but 4 rows"):
        Recording.from_mne(epochs(), trials=metadata)


def test_the_way_back_to_the_sensors():
    made = epochs()
    recording = Recording.from_mne(made).select(units=[2, 0])
    scores = recording.unflatten(recording.targets().mean(axis=0))  # (unit, time)
    evoked = recording.to_image(scores.T)
    np.testing.assert_allclose(evoked.data, made.get_data()[:, [2, 0]].mean(0), rtol=1e-5)
    positions = evoked.get_montage().get_positions()["ch_pos"]
    expected = made.get_montage().get_positions()["ch_pos"]
    np.testing.assert_allclose(positions["Pz"], expected["Pz"])


@pytest.mark.parametrize("meas_date", [None, 1_600_000_000])
@pytest.mark.parametrize("start", [0.0, 1.5])
def test_raw_with_events_in_its_own_time(meas_date, start):
    whole = raw(meas_date=meas_date)
    marks = mne.Annotations(
        [2.0, 3.2], [0.5, 0], ["word", "pause"], orig_time=whole.info["meas_date"]
    )
    whole.set_annotations(marks)
    recording = Recording.from_mne(whole.copy().crop(start))
    first = int(start * 100)
    expected = whole.get_data(picks="eeg").T[first:]
    assert recording.responses.shape == expected.shape
    np.testing.assert_allclose(recording.responses.read(), expected, rtol=1e-6)
    assert recording.trials is None
    np.testing.assert_allclose(recording.samples["time"], np.arange(len(expected)) / 100)
    # The event stands at the sample that it marks, whatever was cut off before it.
    np.testing.assert_allclose(recording.events["onset"], [2.0 - start, 3.2 - start])
    assert recording.events["label"].tolist() == ["word", "pause"]
    assert recording.events["duration"].tolist() == [0.5, 0]
    assert recording.samples["run"].eq(1).all()


def test_joined_raws_are_runs():
    joined = mne.concatenate_raws([raw(2, seed=1), raw(3, seed=2), raw(1, seed=3)], verbose=False)
    recording = Recording.from_mne(joined.crop(0.5))
    assert recording.samples["run"].tolist() == [1] * 150 + [2] * 300 + [3] * 100
    assert len(recording.split("leave-one-run-out")) == 3


def test_nothing_else():
    with pytest.raises(InputError, match=r"mne\.Epochs or mne\.io\.Raw; got Info"):
        Recording.from_mne(raw().info)


# -- the real recording ---------------------------------------------------------------------

RUNS = (5, 9, 13)  # both fists (T1) and both feet (T2), executed


@pytest.fixture(scope="module")
def real(shared_data):
    parts, runs = [], []
    for run in RUNS:
        part = mne.io.read_raw_edf(
            shared_data / "eegmmidb" / f"S001R{run:02d}.edf", preload=True, verbose=False
        )
        mne.datasets.eegbci.standardize(part)
        part.set_montage("standard_1020", verbose=False)
        part.filter(7, 30, fir_design="firwin", skip_by_annotation="edge", verbose=False)
        cut = mne.Epochs(
            part, event_id={"hands": 2, "feet": 3}, events=mne.events_from_annotations(
                part, {"T1": 2, "T2": 3}, verbose=False
            )[0], tmin=-1.0, tmax=4.0, baseline=None, preload=True, verbose=False,
        )  # fmt: skip
        parts.append(cut)
        runs += [run] * len(cut)
    with warnings.catch_warnings(action="ignore"):  # annotations within epochs are dropped
        joined = mne.concatenate_epochs(parts, verbose="error")
    joined.metadata = pd.DataFrame({"run": runs})
    return joined


def test_real_epochs(real):
    recording = Recording.from_mne(real, subject="S001")
    assert recording.responses.shape == (45, 64, 801)
    assert recording.trials["label"].value_counts().to_dict() == {
        "hands": 23,
        "feet": 22,
    }
    assert recording.trials.groupby("run").size().tolist() == [15, 15, 15]
    assert recording.stimuli is None
    assert recording.sfreq == 160
    np.testing.assert_allclose(recording.responses.read(), real.get_data(), rtol=1e-5)
    values = recording.responses.read()
    assert 1e-6 < values.std() < 1e-4  # volts
    z = recording.split("leave-one-run-out").folds[0].zscore(None)
    got = z.train.responses.read()
    np.testing.assert_allclose(got.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(got.std(0), 1, atol=1e-4)
    by_label = recording.average_repeats("label")
    feet = real.events[:, 2] == 3
    np.testing.assert_allclose(
        by_label.responses.read()[0], real.get_data()[feet].mean(0), rtol=1e-3, atol=1e-9
    )


def test_real_hands_against_feet(real, tmp_path):
    """CSP and LDA with runs left out: .93 by a plain analysis, .5 by chance."""
    from mne.decoding import CSP
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.pipeline import make_pipeline

    recording = Recording.from_mne(real)
    inside = np.flatnonzero((recording.times >= 0.5) & (recording.times <= 2.5))[::2]  # 80 Hz
    correct = []
    for fold in recording.split("leave-one-run-out"):
        model = make_pipeline(
            CSP(4, reg=None, log=True, norm_trace=False), LinearDiscriminantAnalysis()
        )
        with mne.utils.use_log_level("ERROR"):
            model.fit(
                fold.train.responses.read()[..., inside].astype(float), fold.train.trials["label"]
            )
            got = model.predict(fold.test.responses.read()[..., inside].astype(float))
        correct.append(got == fold.test.trials["label"].to_numpy())
        assert len(set(fold.test.trials["run"])) == 1
    assert np.concatenate(correct).mean() >= 0.9
    # Band power of hands against feet, written back to the cap.
    power = np.log((recording.responses.read()[..., inside] ** 2).mean(-1))
    hands = (recording.trials["label"] == "hands").to_numpy()
    difference = power[hands].mean(0) - power[~hands].mean(0)
    evoked = recording.to_image(difference)
    evoked.save(tmp_path / "power-ave.fif", verbose=False)
    loaded = mne.read_evokeds(tmp_path / "power-ave.fif", verbose=False)[0]
    assert loaded.ch_names == real.ch_names
    np.testing.assert_allclose(loaded.data[:, 0], difference, rtol=1e-5)
    placed = loaded.get_montage().get_positions()["ch_pos"]
    assert placed["C3"][0] < -0.04 < 0.04 < placed["C4"][0]  # metres, left and right


def test_real_continuous(shared_data):
    parts = [
        mne.io.read_raw_edf(shared_data / "eegmmidb" / f"S001R{run:02d}.edf", verbose=False)
        for run in (3, 4)
    ]
    lengths = [part.n_times for part in parts]
    recording = Recording.from_mne(
        mne.concatenate_raws(parts, verbose=False), picks=["C3..", "C4.."]
    )
    assert recording.responses.shape == (sum(lengths), 2)
    assert recording.samples.groupby("run").size().tolist() == lengths
    assert {"T0", "T1", "T2"} <= set(recording.events["label"])
