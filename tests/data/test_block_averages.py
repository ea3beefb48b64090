"""Runs that are cleaned by themselves, and means over events, against what a hand works out."""

import numpy as np
import pandas as pd
import pytest
from scipy.signal import detrend

from brainkit import Recording
from brainkit.data.block_averages import average_events, clean_runs
from brainkit.data.preparing import prepare_split
from brainkit.errors import InputError

RNG = np.random.default_rng(5)


def series(n_runs=2, n=12, units=3, tr=2.0, values=None):
    """Runs of n volumes; volume k of run r is 100 r + k in every unit, or the values given."""
    run = np.repeat(np.arange(1, n_runs + 1), n)
    time = np.tile(np.arange(n) * tr, n_runs)
    plain = (100.0 * run + time / tr)[:, None].repeat(units, axis=1)
    return Recording.from_arrays(
        plain if values is None else values,
        samples=pd.DataFrame({"run": run, "time": time}), sfreq=1 / tr,
    )  # fmt: skip


def blocks(**columns):
    table = {
        "onset": [2.0, 10.0, 2.0],
        "duration": [4.0, 4.0, 6.0],
        "trial_type": ["face", "house", "face"],
        "run": [1, 1, 2],
    }
    return pd.DataFrame({**table, **columns})


# --------------------------------------------------------------------------------- averages


def test_means_worked_by_hand():
    """Volumes at 0, 2, ... 22 s: 2 + 4 to 6 + 4 s are volumes 3 and 4, and so on."""
    trials = average_events(series(), blocks(), delay=4.0)
    np.testing.assert_array_equal(
        trials.responses.read()[:, 0], [(103 + 104) / 2, (107 + 108) / 2, (203 + 204 + 205) / 3]
    )
    assert trials.trials["label"].tolist() == ["face", "house", "face"]
    assert trials.trials["run"].tolist() == [1, 1, 2]
    assert trials.trials["trial"].tolist() == [0, 1, 2]
    assert trials.trials["n_volumes"].tolist() == [2, 2, 3]
    assert trials.trials["onset"].tolist() == [2.0, 10.0, 2.0]
    assert trials.info["averaged"] == {"over": "events", "delay": 4.0}


@pytest.mark.parametrize(
    ("delay", "volumes"), [(0.0, [1, 2]), (2.0, [2, 3]), (1.0, [2, 3]), (5.0, [4, 5])]
)
def test_a_volume_belongs_from_the_windows_start_to_before_its_end(delay, volumes):
    one = pd.DataFrame({"onset": [2.0], "duration": [4.0], "trial_type": ["a"], "run": [1]})
    found = average_events(series(1), one, delay=delay).responses.read()[0, 0]
    assert found == 100 + np.mean(volumes)


def test_times_that_are_sums_of_steps_miss_no_volume():
    tr = 0.1
    one = pd.DataFrame({"onset": [0.1 + 0.2], "duration": [0.3], "trial_type": ["a"]})
    recording = series(1, tr=tr)
    recording = Recording.from_arrays(
        recording.responses.read(), samples=recording.samples.drop(columns="run"), sfreq=10.0
    )
    found = average_events(recording, one, delay=0.0)
    assert found.responses.read()[0, 0] == 104  # volumes 3, 4 and 5, not 6
    assert "run" not in found.trials


def test_one_length_for_all_and_events_without_a_label():
    events = blocks(trial_type=["face", None, "face"], duration=[np.nan, 4.0, 60.0])
    found = average_events(series(), events, delay=0.0, duration=2.0)
    np.testing.assert_array_equal(found.responses.read()[:, 0], [101, 201])
    with pytest.raises(InputError, match="Event 0 has the duration nan"):
        average_events(series(), events, delay=0.0)


def test_trials_stand_in_the_order_of_the_series():
    recording, shuffled = series(), blocks().iloc[[2, 1, 0]]
    found = average_events(recording, shuffled, delay=0.0)
    pd.testing.assert_frame_equal(
        found.trials, average_events(recording, blocks(), delay=0.0).trials
    )


def test_the_recordings_own_events_units_and_sessions():
    plain = series()
    recording = Recording.from_arrays(
        plain.responses.read(), samples=plain.samples.assign(session=3), sfreq=0.5,
        events=blocks(kind=["a", "b", "a"], session=3), units=pd.DataFrame({"i": [4, 5, 6]}),
    )  # fmt: skip
    found = average_events(recording, delay=0.0, label="kind")
    assert found.trials["label"].tolist() == ["a", "b", "a"]
    assert found.trials["session"].tolist() == [3, 3, 3]
    assert found.units["i"].tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"onset": [2.0, 4.0, 2.0]}, {}, "at 2 and 4 s .* share a volume"),
        ({"onset": [2.0, 40.0, 2.0]}, {}, "No volume lies in the window of the event at 40 s"),
        ({"run": [1, 1, 9]}, {}, "name the runs 9, which the series lacks"),
        ({"duration": [4.0, 0.0, 6.0]}, {}, "Event 1 has the duration 0"),
        ({"onset": [2.0, "soon", 2.0]}, {}, "Event 1 has the onset nan"),
        ({"trial_type": [None, None, None]}, {}, "No event has a 'trial_type'"),
        ({}, {"label": "stimulus"}, "no column 'stimulus'"),
        ({}, {"delay": np.nan}, "delay is in seconds; got nan"),
        ({}, {"delay": 50.0}, "is delay=50 in seconds"),
    ],
)
def test_events_that_do_not_fit(changes, options, message):
    with pytest.raises(InputError, match=message):
        average_events(series(), blocks(**changes), **{"delay": 0.0, **options})


def test_runs_have_to_be_named_where_there_are_several():
    with pytest.raises(InputError, match="no column 'run'"):
        average_events(series(), blocks().drop(columns="run"))
    with pytest.raises(InputError, match="Events are a table"):
        average_events(series())
    trials = Recording.from_arrays(np.ones((4, 2)))
    for refused in (average_events, clean_runs):
        with pytest.raises(InputError, match="A series of volumes is needed"):
            refused(trials)
    recording = Recording.from_arrays(np.ones((4, 2)), samples=pd.DataFrame({"run": [1] * 4}))
    with pytest.raises(InputError, match="no column 'time'"):
        average_events(recording, blocks())


# --------------------------------------------------------------------------------- cleaning


def test_each_run_is_detrended_and_standardised_by_itself():
    values = RNG.normal(size=(24, 3)) + np.arange(24)[:, None] * [0.5, -1.0, 0.0] + 50
    values[12:] *= 7
    cleaned = clean_runs(series(values=values))
    for rows in (slice(0, 12), slice(12, 24)):
        expected = detrend(values[rows], axis=0)
        expected /= expected.std(axis=0, ddof=1)
        np.testing.assert_allclose(cleaned.responses.read()[rows], expected, atol=1e-4)
    assert cleaned.info["zscore"] == {"by": "run", "transductive": True, "unseen": ["1", "2"]}
    assert cleaned.info["cleaned"] == {"by": "run", "detrend": True, "high_pass": None}


def test_without_detrending_only_mean_and_deviation_go():
    values = RNG.normal(size=(24, 3)) + np.arange(24)[:, None]
    found = clean_runs(series(values=values), detrend=False).responses.read()[:12]
    expected = (values[:12] - values[:12].mean(0)) / values[:12].std(0, ddof=1)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_high_pass_takes_what_is_slow():
    time = np.arange(200) * 2.0
    slow, fast = np.sin(2 * np.pi * time / 200), np.sin(2 * np.pi * time / 20)
    recording = series(1, n=200, units=2, values=np.stack([slow + fast, fast], axis=1))
    one, other = clean_runs(recording, high_pass=0.02).responses.read()[20:-20].T
    assert np.corrcoef(one, other)[0, 1] > 0.99
    one, other = clean_runs(recording).responses.read()[20:-20].T
    assert np.corrcoef(one, other)[0, 1] < 0.9


def test_a_unit_that_does_not_vary_in_a_run_is_zero_there():
    values = RNG.normal(size=(24, 2))
    values[:12, 0] = 3.0
    found = clean_runs(series(units=2, values=values)).responses.read()
    np.testing.assert_array_equal(found[:12, 0], 0.0)
    assert found[12:, 0].std(ddof=1) == pytest.approx(1.0, abs=1e-5)
    still = clean_runs(series(units=1, values=np.ones((24, 1))))
    np.testing.assert_array_equal(still.responses.read(), 0.0)


def test_the_series_itself_stays_as_it_is():
    values = RNG.normal(size=(24, 3)).astype(np.float32)
    before = values.copy()
    clean_runs(series(values=values))
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"high_pass": 0.0}, r"below half the sampling rate \(0.25 Hz\); got 0.0"),
        ({"high_pass": 0.25}, "got 0.25"),
        ({"high_pass": -1.0}, "got -1.0"),
    ],
)
def test_frequencies_that_cannot_be_cut_at(options, message):
    with pytest.raises(InputError, match=message):
        clean_runs(series(), **options)


def test_what_cannot_be_cleaned():
    values = RNG.normal(size=(24, 3))
    values[3, 2] = np.nan
    with pytest.raises(InputError, match="unit 2 has some"):
        clean_runs(series(values=values))
    with pytest.raises(InputError, match="The run 1 has 2 volumes; 3 are needed"):
        clean_runs(series(n=2))


# ----------------------------------------------------------------------------------- access


@pytest.mark.parametrize("zscore", [None, "run", "recording"])
def test_rows_that_met_their_own_run_stay_transductive(zscore):
    recording = clean_runs(series(n_runs=4, values=RNG.normal(size=(48, 3))))
    events = pd.DataFrame(
        {"onset": [2.0, 12.0] * 4, "duration": 4.0, "trial_type": ["a", "b"] * 4,
         "run": np.repeat([1, 2, 3, 4], 2)}
    )  # fmt: skip
    trials = average_events(recording, events, delay=2.0)
    unseen = "session-unlabelled" if zscore == "run" else None
    folds = prepare_split(
        trials, "leave-one-run-out", zscore=zscore, unseen=unseen, average_repeats=False
    )
    assert all(fold.zscore["transductive"] for fold in folds)
    assert trials.zscore("run").info["zscore"]["transductive"] is True
    plain = average_events(series(n_runs=4), events, delay=2.0)
    folds = prepare_split(plain, "leave-one-run-out", zscore="recording", average_repeats=False)
    assert not any(fold.zscore["transductive"] for fold in folds)
