"""Recordings from MNE, simulated for exact values and real for the whole way there and back."""

import warnings

import h5py
import mne
import numpy as np
import pandas as pd
import pytest

from brainkit import Recording, Stimuli
from brainkit.data.from_mne import quality_said
from brainkit.errors import InputError, LeakError, UnknownNameError


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


# -- what MNE knows of the quality of its data ----------------------------------------------


def marked(meas_date=None):
    """Ten seconds, with a bad channel and bad spans that overlap, two of them unlike in case."""
    whole = raw(10, meas_date=meas_date)
    whole.info["bads"] = ["Cz"]
    descriptions = ["word", "BAD_blink", "bad muscle", "pause", "BAD_blink"]
    marks = mne.Annotations(
        [1.0, 2.0, 2.5, 6.503, 8.0],
        [0.5, 1.0, 1.25, 0.0, 0.5],
        descriptions,
        orig_time=whole.info["meas_date"],
    )
    return whole.set_annotations(marks)


@pytest.mark.parametrize("meas_date", [None, 1_600_000_000])
@pytest.mark.parametrize("start", [0.0, 2.2])
def test_bad_channels_and_spans_of_raw_are_left_out(meas_date, start):
    data = marked(meas_date).crop(start)
    recording = Recording.from_mne(data)
    kept, times = data.get_data(
        picks=["Fz", "Pz"], reject_by_annotation="omit", return_times=True, verbose=False
    )
    np.testing.assert_allclose(recording.responses.read(), kept.T, rtol=1e-6)
    np.testing.assert_allclose(recording.samples["time"], times)
    assert not recording.samples["bad"].any()
    assert recording.units["name"].tolist() == ["Fz", "Pz"]
    assert not recording.units["bad"].any()
    assert recording.samples["stretch"].unique().tolist() == ([1, 2, 3] if start == 0 else [1, 2])
    within = recording.samples.groupby("stretch")["time"].diff().dropna()
    np.testing.assert_allclose(within, 0.01)  # no hole within a stretch
    n_bad = len(data.times) - len(times)
    quality = recording.info["quality"]
    assert quality["bads"] == "exclude"
    assert quality["channels"] == {"excluded": ["Cz"], "marked": []}
    assert quality["samples"]["bad"] == n_bad == round((2.25 - (0.2 if start else 0)) * 100)
    assert quality["samples"]["spans"] == {"BAD_blink": 2, "bad muscle": 1}
    # Marks of bad data are no events.
    assert recording.events["label"].tolist() == ["word", "pause"][start > 0 :]
    assert not recording.events["bad"].any()
    assert quality_said(quality) == (
        f"bad channels excluded: Cz; {n_bad / len(data.times):.1%} of the samples in bad spans "
        "excluded (BAD_blink 2, bad muscle 1)"
    )


def test_bad_channels_and_spans_of_raw_are_marked():
    data = marked()
    recording = Recording.from_mne(data, bads="mark")
    np.testing.assert_allclose(recording.responses.read(), data.get_data("eeg").T, rtol=1e-6)
    assert recording.units["bad"].tolist() == [False, True, False]
    nan = np.isnan(data.get_data(picks="Fz", reject_by_annotation="NaN", verbose=False)[0])
    np.testing.assert_array_equal(recording.samples["bad"], nan)
    spans = recording.samples["bad_span"].to_numpy()
    assert set(spans[~nan]) == {""}
    assert spans[200] == "BAD_blink"
    assert spans[260] == "BAD_blink, bad muscle"
    assert spans[360] == "bad muscle"
    assert recording.samples["stretch"].eq(1).all()
    assert recording.info["quality"]["channels"] == {"excluded": [], "marked": ["Cz"]}
    good = recording.select(trials=~recording.samples["bad"], units=~recording.units["bad"])
    excluded = Recording.from_mne(data)
    np.testing.assert_array_equal(good.responses.read(), excluded.responses.read())


def test_an_event_within_a_bad_span_is_marked():
    data = raw(4)
    data.set_annotations(mne.Annotations([1.0, 1.2, 3.0], [1.0, 0, 0], ["BAD_x", "a", "b"]))
    events = Recording.from_mne(data).events
    assert events["label"].tolist() == ["a", "b"]
    assert events["bad"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("picks", "names", "marked_names"),
    [
        ("data", ["Fz", "Pz"], []),
        ("eeg", ["Fz", "Pz"], []),
        (["eeg", "eog"], ["Fz", "Pz", "EOG 1"], []),
        ("all", ["Fz", "Pz", "EOG 1"], []),
        (["Fz", "Cz"], ["Fz", "Cz"], ["Cz"]),
        ("Cz", ["Cz"], ["Cz"]),
        ([1, 2], ["Cz", "Pz"], ["Cz"]),
        (np.array([0, 1]), ["Fz", "Cz"], ["Cz"]),
        (slice(0, 2), ["Fz", "Cz"], ["Cz"]),
    ],
)
def test_a_bad_channel_is_kept_only_where_it_is_named(picks, names, marked_names):
    recording = Recording.from_mne(marked(), picks=picks)
    assert recording.units["name"].tolist() == names
    assert recording.units.loc[recording.units["bad"], "name"].tolist() == marked_names
    assert recording.space.names == tuple(names)
    channels = recording.info["quality"]["channels"]
    assert channels["marked"] == marked_names
    assert channels["excluded"] == ([] if "Cz" in names else ["Cz"])


def test_several_runs_with_bad_spans():
    parts = [raw(2, seed=1), raw(3, seed=2)]
    parts[1].set_annotations(mne.Annotations([1.0], [0.5], ["BAD_x"]))
    joined = mne.concatenate_raws(parts, verbose=False)
    recording = Recording.from_mne(joined)
    samples = recording.samples
    assert samples.groupby("run").size().tolist() == [200, 250]
    assert samples.groupby("stretch")["run"].agg(["first", "size"]).to_numpy().tolist() == [
        [1, 200], [2, 100], [2, 150],
    ]  # fmt: skip
    assert len(recording.events) == 0  # where two runs meet nothing happened
    np.testing.assert_allclose(
        recording.responses.read(),
        joined.get_data("eeg", reject_by_annotation="omit", verbose=False).T,
        rtol=1e-6,
    )


def cut(data, **settings):
    onsets = [50, 120, 200, 260, 450, 500, 990]
    events = np.column_stack([onsets, np.zeros(7, int), [1, 2, 1, 2, 2, 9, 2]])
    settings = {"preload": True, "baseline": None, "verbose": False, **settings}
    return mne.Epochs(data, events, {"left": 1, "right": 2}, -0.1, 0.3, **settings)


@pytest.mark.parametrize("preload", [True, False])
def test_dropped_epochs_are_counted_with_their_reasons(preload):
    data = marked()
    data._data[0, 130] = 1e-3
    data._data[3, 55] = 1.0  # an eye movement, in a channel that is not picked
    made = cut(data, preload=preload, reject={"eeg": 5e-4, "eog": 0.5})
    recording = Recording.from_mne(made)
    expected = made.copy().load_data().drop_bad(verbose=False)
    np.testing.assert_allclose(
        recording.responses.read(), expected.get_data(picks=["Fz", "Pz"]), rtol=1e-6
    )
    assert recording.trials["label"].tolist() == [
        {1: "left", 2: "right"}[code] for code in expected.events[:, 2]
    ]
    assert recording.trials["selection"].tolist() == expected.selection.tolist()
    assert recording.info["quality"]["epochs"] == {
        "all": 6,  # the seventh is of another kind
        "dropped": 5,
        "reasons": {"BAD_blink": 2, "EOG 1": 1, "Fz": 1, "TOO_SHORT": 1},
        "kept_in_bad_spans": 0,
    }
    assert made.preload == preload  # the caller's own are as they were
    assert made.ch_names == ["Fz", "Cz", "Pz", "EOG 1"]


def test_epochs_that_are_not_loaded():
    data = raw(10)
    lazy, loaded = cut(data, preload=False), cut(data)
    one, other = (Recording.from_mne(made) for made in (lazy, loaded))
    np.testing.assert_array_equal(one.responses.read(), other.responses.read())
    pd.testing.assert_frame_equal(one.trials, other.trials)


def test_epochs_that_were_kept_in_bad_spans_are_marked():
    made = cut(marked(), reject_by_annotation=False)
    recording = Recording.from_mne(made)
    assert recording.trials["selection"].tolist() == [0, 1, 2, 3, 4]
    assert recording.trials["bad"].tolist() == [False, False, True, True, False]
    spans = ["", "", "BAD_blink", "BAD_blink, bad muscle", ""]
    assert recording.trials["bad_span"].tolist() == spans
    assert recording.info["quality"]["epochs"]["kept_in_bad_spans"] == 2
    assert "2 epochs kept in bad spans" in quality_said(recording.info["quality"])


def test_quality_of_good_data_is_not_worth_a_word():
    recording = Recording.from_mne(cut(raw(10)).drop([0], reason="USER", verbose=False))
    said = quality_said(recording.info["quality"])
    assert said == "2 of 6 epochs dropped (USER 1, TOO_SHORT 1)"
    assert quality_said(Recording.from_mne(raw()).info["quality"]) == ""
    assert quality_said(None) == ""


# -- nothing to be read -----------------------------------------------------------------------


@pytest.mark.parametrize("preload", [True, False])
def test_no_epoch_left(preload):
    made = cut(raw(10), preload=preload, reject={"eeg": 1e-9})
    message = r"No epoch is left: 6 of 6 epochs dropped \(Fz 5, Cz 5, Pz 5, TOO_SHORT 1\)"
    with pytest.raises(InputError, match=message):
        Recording.from_mne(made)


@pytest.mark.parametrize("kind", ["misc", "stim", "resp"])
@pytest.mark.parametrize("epoched", [True, False])
def test_files_without_data_channels(kind, epoched):
    data = raw(10)
    with warnings.catch_warnings(action="ignore"):  # the units change
        data.set_channel_types(dict.fromkeys(data.ch_names, kind), verbose="error")
    given = cut(data) if epoched else data
    with pytest.raises(InputError, match=f"there are 4 {kind}, none of which .* picks='{kind}'"):
        Recording.from_mne(given)
    recording = Recording.from_mne(given, picks=kind)
    assert recording.units["kind"].tolist() == [kind] * 4
    assert recording.responses.shape[1] == 4


@pytest.mark.parametrize(
    ("picks", "message"),
    [
        ("meg", r"picks='meg' finds no channel; there are 3 eeg, 1 eog, and none called meg"),
        (["Oz"], "none called Oz: Fz, Cz, Pz, EOG 1"),
        (["Fz", "Oz"], "none called Oz"),
        ([], "finds no channel"),
        ([17], "finds no channel"),
    ],
)
def test_picks_that_find_nothing(picks, message):
    with pytest.raises(InputError, match=message):
        Recording.from_mne(raw(), picks=picks)


def test_nothing_but_bad():
    data = raw()
    data.info["bads"] = ["Fz", "Cz", "Pz"]
    with pytest.raises(InputError, match=r"All 3 channels .* are bad \(Fz, Cz, Pz\); bads='mark'"):
        Recording.from_mne(data)
    data.info["bads"] = []
    data.set_annotations(mne.Annotations([0], [10], ["BAD_all"]))
    with pytest.raises(InputError, match="All samples lie in bad spans; bads='mark'"):
        Recording.from_mne(data)
    assert Recording.from_mne(data, bads="mark").samples["bad"].all()
    with pytest.raises(UnknownNameError, match="'drop': there are exclude, mark"):
        Recording.from_mne(data, bads="drop")
    with pytest.raises(InputError, match="samples, not trials"):
        Recording.from_mne(data, bads="mark", trials=pd.DataFrame({"run": [1]}))


# -- metadata ---------------------------------------------------------------------------------


def test_metadata_do_not_replace_what_a_recording_says():
    metadata = pd.DataFrame(
        {
            "label": ["cat", "dog", "cat", "dog"],
            "selection": [9, 9, 9, 9],
            "bad": ["no"] * 4,
            "n_repeats": [5] * 4,
            "stimulus": ["cat.png", "dog.png", "cat.png", "dog.png"],
            "run": [1, 1, 2, 2],
            "session": [1, 1, 1, 1],
            "rt": pd.array([1, None, 3, 4], dtype="Int64"),
        }
    )
    with pytest.warns(UserWarning, match="label, selection, bad, n_repeats, stimulus are kept as "):
        recording = Recording.from_mne(epochs(metadata))
    trials = recording.trials
    assert trials["label"].tolist() == ["left", "right", "left"]  # the events' names
    assert trials["metadata.label"].tolist() == ["cat", "dog", "cat"]
    assert trials["selection"].tolist() == [0, 1, 2]
    assert trials["bad"].tolist() == [False] * 3
    assert trials["stimulus"].isna().all()
    assert trials["metadata.stimulus"].tolist() == ["cat.png", "dog.png", "cat.png"]
    assert trials["run"].tolist() == [1, 1, 2]
    assert trials["rt"].dtype == "Int64"
    counted = recording.average_repeats("label").trials["n_repeats"]
    assert counted.tolist() == [2, 1]  # five repeats each, the metadata's own count, would be 15
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        given = Recording.from_mne(
            epochs(metadata), trials=pd.DataFrame({"label": ["x", "y", "z"], "stimulus": [2, 0, 2]})
        )
    assert given.trials["label"].tolist() == ["x", "y", "z"]  # asked for in so many words
    assert given.trials["stimulus"].tolist() == [2, 0, 2]


def test_conditions_that_come_again_in_every_run():
    metadata = pd.DataFrame({"run": [1, 1, 2, 2], "stimulus": [0] * 4})
    recording = Recording.from_mne(epochs(metadata), stimuli_are="conditions")
    assert recording.stimuli_are == "conditions"
    assert len(recording.split("leave-one-run-out")) == 2
    with pytest.raises(UnknownNameError, match="stimuli_are"):
        Recording.from_mne(epochs(metadata), stimuli_are="pictures")


def test_metadata_that_name_stimuli_by_their_ids():
    stimuli = Stimuli(np.zeros((2, 4, 4)), ids=["dog.png", "cat.png"])
    metadata = pd.DataFrame({"stimulus": ["cat.png", "dog.png", None, "dog.png"]})
    recording = Recording.from_mne(epochs(metadata), stimuli=stimuli)
    assert recording.trials["stimulus"].fillna(-1).tolist() == [1, 0, -1]
    metadata["stimulus"] = ["cow.png"] * 4
    with pytest.warns(UserWarning, match="stimulus are kept as metadata.stimulus"):
        assert Recording.from_mne(epochs(metadata), stimuli=stimuli).trials["stimulus"].isna().all()


@pytest.mark.parametrize(
    ("ids", "column", "expected"),
    [
        (None, [1, 0, None, 1], [1, 0, -1]),
        (None, ["1", "0", None, "1"], [1, 0, -1]),
        ([70, 50], [50, 70, None, 50], [1, 0, -1]),
        ([70, 50], ["50", "70", None, "50"], [1, 0, -1]),
        ([70, 50], [1, 0, None, 1], [1, 0, -1]),
        (["70", "50"], [50, 70, None, 50], [1, 0, -1]),
        ([1, 0], ["1", "0", None, "1"], [0, 1, -1]),
        ([2, 1], [1, 2, None, 1], [1, 0, -1]),
        ([0.5, 1.5], [1.5, 0.5, None, 1.5], [1, 0, -1]),
    ],
)
def test_numbers_that_name_stimuli(ids, column, expected):
    stimuli = Stimuli(np.zeros((2, 4, 4)), ids=ids)
    metadata = pd.DataFrame({"stimulus": column})
    recording = Recording.from_mne(epochs(metadata), stimuli=stimuli)
    assert recording.trials["stimulus"].fillna(-1).tolist() == expected


@pytest.mark.parametrize("ids", [[1, 0], ["1", "0"], [1, 2]])
def test_numbers_that_are_rows_and_ids(ids):
    stimuli = Stimuli(np.zeros((2, 4, 4)), ids=ids)
    metadata = pd.DataFrame({"stimulus": [1, 1, 1, 1]})
    with pytest.raises(InputError, match=r"holds 1: rows .* and ids of other .*astype\(str\)"):
        Recording.from_mne(epochs(metadata), stimuli=stimuli)
    text = Recording.from_mne(epochs(metadata.astype(str)), stimuli=stimuli)
    assert text.trials["stimulus"].tolist() == [0, 0, 0]
    asked = pd.DataFrame({"stimulus": [1, 0, 1]})
    rows = Recording.from_mne(epochs(metadata), stimuli=stimuli, trials=asked)
    assert rows.trials["stimulus"].tolist() == [1, 0, 1]


def test_numbers_that_no_stimulus_has():
    stimuli = Stimuli(np.zeros((2, 4, 4)), ids=[70, 50])
    for column, message in (([50, 60, 70, 50], "stimulus rows 50, 60"), ([0.5] * 4, "whole")):
        with pytest.raises(InputError, match=message):
            Recording.from_mne(epochs(pd.DataFrame({"stimulus": column})), stimuli=stimuli)


# -- real recordings --------------------------------------------------------------------------


def test_a_real_recording_with_a_bad_channel_and_a_bad_span(shared_data):
    """sEEG: its strongest line noise taken for a bad channel, its second mark for a bad span."""
    data = mne.io.read_raw_edf(shared_data / "mne_misc/seeg/sample_seeg.edf", verbose="error")
    data.set_channel_types(dict.fromkeys(data.ch_names, "seeg"), verbose="error")
    own = data.annotations
    data.info["bads"] = data.ch_names[10:12]
    data.set_annotations(own + mne.Annotations([5.0], [2.5], ["BAD_line"], orig_time=own.orig_time))
    recording = Recording.from_mne(data)
    assert recording.responses.shape == (17_500, 96)
    assert recording.info["quality"]["samples"] == {
        "all": 20_000, "bad": 2500, "spans": {"BAD_line": 1},
    }  # fmt: skip
    assert recording.samples.groupby("stretch").size().tolist() == [5000, 12_500]
    good = [name for name in data.ch_names if name not in data.info["bads"]]
    kept = data.get_data(good, reject_by_annotation="omit", verbose="error")
    np.testing.assert_allclose(recording.responses.read(), kept.T, rtol=1e-5, atol=1e-12)
    assert recording.events["label"].tolist() == own.description.tolist()
    assert not data.preload


@pytest.mark.parametrize("preload", [True, False])
def test_real_epochs_with_rejection(shared_data, preload):
    data = mne.io.read_raw_edf(shared_data / "eegmmidb/S001R03.edf", preload=True, verbose="error")
    mne.datasets.eegbci.standardize(data)
    data.info["bads"] = ["Fp1", "Fpz"]
    events, codes = mne.events_from_annotations(data, verbose="error")
    made = mne.Epochs(
        data, events, {"left": codes["T1"], "right": codes["T2"]}, -0.5, 3, baseline=(None, 0),
        reject={"eeg": 600e-6}, preload=preload, verbose="error",
    )  # fmt: skip
    recording = Recording.from_mne(made)
    expected = made.copy().drop_bad(verbose="error")
    assert 0 < len(expected) < 15
    assert recording.responses.shape == (len(expected), 62, len(made.times))
    np.testing.assert_allclose(
        recording.responses.read(), expected.get_data("eeg", exclude="bads", verbose="error"),
        rtol=1e-5, atol=1e-12,
    )  # fmt: skip
    quality = recording.info["quality"]
    assert quality["epochs"]["dropped"] == 15 - len(expected)
    assert sum(quality["epochs"]["reasons"].values()) >= quality["epochs"]["dropped"]
    assert quality["channels"]["excluded"] == ["Fp1", "Fpz"]


def test_real_flashes_with_blinks_rejected(shared_data):
    """480 flashes, 80 of them targets; blinks in the frontal channels cost some."""
    with h5py.File(shared_data / "p300/EEG_ex.mat") as file:
        values, trigger = file["EEG/Channels"][:] * 1e-6, file["EEG/Trigger"][0]
        target = file["EEG/EpochClass"][0].astype(int)
    data = mne.io.RawArray(values, mne.create_info(16, 128.0, "eeg"), verbose="error")
    events = np.column_stack([np.flatnonzero(trigger), np.zeros(480, int), target])
    made = mne.Epochs(
        data, events, {"other": 0, "target": 1}, 0, 0.8, baseline=None, reject={"eeg": 150e-6},
        detrend=0, preload=False, verbose="error",
    )  # fmt: skip
    recording = Recording.from_mne(made)
    kept = recording.trials["selection"].to_numpy()
    counts = recording.info["quality"]["epochs"]
    assert counts["all"] == 480
    assert counts["dropped"] == 480 - len(kept) > 0
    labels = np.array(["other", "target"])[target[kept]]
    np.testing.assert_array_equal(recording.trials["label"], labels)
    expected = np.stack([values[:, at : at + 103] for at in np.flatnonzero(trigger)[kept]])
    expected -= expected.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(recording.responses.read(), expected, atol=1e-10)


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
