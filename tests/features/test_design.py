"""Features aligned to rows: through stimuli, time and events; delays, windows, resampling."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from brainkit import Recording
from brainkit.errors import InputError
from brainkit.features import Delays, Design, FeatureStack, PixelPCA, SingleSpace
from brainkit.features.design import as_design
from brainkit.features.time_alignment import resample


def continuous(n_runs=2, n_each=50, step=1.5, start=0.0, **options):
    samples = pd.DataFrame(
        {"run": np.repeat(np.arange(1, n_runs + 1), n_each),
         "time": np.tile(start + np.arange(n_each) * step, n_runs)}
    )  # fmt: skip
    values = np.random.default_rng(0).normal(size=(n_runs * n_each, 3))
    return Recording.from_arrays(values, samples=samples, **options)


def rows_of(design):
    every = np.arange(len(design))
    return design.table(every, every)[1]


def test_a_space_is_fitted_on_what_training_rows_show():
    images = np.random.default_rng(0).uniform(size=(30, 5, 5)).astype(np.float32)
    shown = np.random.default_rng(1).permutation(np.repeat(np.arange(30), 2))
    recording = Recording.from_arrays(
        np.zeros((60, 2)), trials=pd.DataFrame({"stimulus": shown, "run": np.arange(60) // 20}),
        stimuli=images,
    )  # fmt: skip
    design = Design.from_stimuli(recording, PixelPCA(4))
    np.testing.assert_array_equal(design.shown, shown)
    np.testing.assert_array_equal(design.runs, np.arange(60) // 20)
    space, train, test = design.table(np.arange(20), np.arange(20, 30))
    alone = PixelPCA(4).fit(images[:20])
    np.testing.assert_allclose(train, alone.transform(images[:20]), atol=1e-5)
    np.testing.assert_allclose(test, alone.transform(images[20:]), atol=1e-5)
    assert space is not design.space
    stack = FeatureStack([SingleSpace(PixelPCA(3)), SingleSpace(PixelPCA(2))])
    assert Design.from_stimuli(recording, stack).table(np.arange(20), [25])[0].widths_ == [3, 2]
    with pytest.raises(InputError, match="cannot be delayed"):
        design.delayed([0, 1])


def test_one_clock_takes_features_as_they_are():
    recording = continuous()
    features = np.random.default_rng(1).normal(size=(100, 4)).astype(np.float32)
    design = Design.from_time(
        recording, features, times=recording.samples["time"], runs=recording.samples["run"]
    )
    np.testing.assert_array_equal(rows_of(design), features)
    assert design.facts["filter"] == "none"
    assert design.bands == {"features": 4}


def test_each_run_has_its_own_clock():
    recording = continuous(n_each=40, step=1.0, start=0.25)
    t = np.arange(0, 45, 0.1)
    features = np.concatenate([np.sin(0.5 * t), np.cos(0.5 * t)])
    design = Design.from_time(recording, features, sfreq=10.0, runs=np.repeat([1, 2], len(t)))
    at = recording.samples["time"].to_numpy()[:40]
    found = rows_of(design)[:, 0].reshape(2, 40)
    inner = slice(16, -16)  # the ends of a run lack half of the filter
    np.testing.assert_allclose(found[0][inner], np.sin(0.5 * at)[inner], atol=2e-3)
    np.testing.assert_allclose(found[1][inner], np.cos(0.5 * at)[inner], atol=2e-3)
    assert "cut-off 0.5 Hz" in design.facts["filter"]
    assert design.facts["rates"] == pytest.approx([10.0, 1.0])


def test_what_the_recording_is_too_slow_for_is_filtered_out():
    """0.9 Hz sampled every second would pass for 0.1 Hz."""
    t = np.arange(0, 200, 0.05)
    fast, kept = np.sin(2 * np.pi * 0.9 * t), np.sin(2 * np.pi * 0.1 * t)
    at = np.arange(40.0, 160.0)
    found, _ = resample(np.stack([fast, kept], axis=1), t, at)
    assert np.abs(found[:, 0]).max() < 2e-3
    np.testing.assert_allclose(found[:, 1], np.sin(2 * np.pi * 0.1 * at), atol=2e-3)
    assert np.abs(np.sin(2 * np.pi * 0.9 * at)).max() > 0.9  # taken as it stands


def test_resampling_agrees_with_scipy_on_slow_signals():
    rng = np.random.default_rng(0)
    t = np.arange(600) / 10
    slow = sum(np.sin(2 * np.pi * f * t + p) for f, p in zip(rng.uniform(0.05, 0.6, 6),
               rng.uniform(0, 6, 6), strict=True))  # fmt: skip
    for up, down in ((1, 5), (3, 2)):
        peer = resample_poly(slow, up, down)
        at = np.arange(len(peer)) * down / up / 10
        inside = (at > 18) & (at < 42)
        found, _ = resample(slow[:, None], t, at[at <= t[-1]])
        np.testing.assert_allclose(
            found[inside[: len(found)], 0], peer[: len(found)][inside[: len(found)]], atol=0.02
        )


@given(st.floats(0.2, 5.0), st.floats(-0.5, 0.5), st.integers(20, 80))
def test_constants_stay_constant_up_to_the_ends(step, offset, n):
    t = np.arange(200) * 0.1
    at = np.clip(offset * 0.1 + np.arange(n) * step, 0, None)
    at = at[at <= t[-1]]
    found, _ = resample(np.full((200, 1), 3.7), t, at)
    np.testing.assert_allclose(found, 3.7, rtol=1e-6)


def test_delays_never_cross_runs():
    recording = continuous(n_each=5)
    features = np.arange(10.0)[:, None]
    design = Design.from_rows(recording, features).delayed([0, 2, -1])
    expected = Delays([0, 2, -1]).fit_transform(
        features.astype(np.float32), runs=recording.samples["run"]
    )
    np.testing.assert_array_equal(rows_of(design), expected)
    assert rows_of(design)[5].tolist() == [5, 0, 6]  # the first of the second run
    with pytest.raises(InputError, match="delayed already"):
        design.delayed([1])
    with pytest.raises(InputError, match="Every delay may be given once"):
        Design.from_rows(recording, features).delayed([1, 1])


def test_windows_are_delays_in_seconds():
    recording = continuous()
    design = Design.from_rows(recording, np.ones((100, 1))).window(-1.5, 4.5)
    assert design.facts["delays"] == [-1, 0, 1, 2, 3]
    with pytest.raises(InputError, match="from start to stop"):
        Design.from_rows(recording, np.ones((100, 1))).window(2, 1)


def test_bands_stand_together_when_delayed():
    recording = continuous(n_each=4)
    a, b = np.arange(8.0)[:, None], np.arange(16.0).reshape(8, 2) + 100
    stacked = Design.stack(
        {"a": Design.from_rows(recording, a), "b": Design.from_rows(recording, b)}
    ).delayed([0, 1])
    assert stacked.bands == {"a": 1, "b": 2}
    space, values, _ = stacked.table(np.arange(8), np.arange(2))
    assert space.widths_ == [2, 4]
    assert values[1].tolist() == [1, 0, 102, 103, 100, 101]
    both = Design.from_rows(recording, {"a": a, "b": b}).delayed([0, 1])
    np.testing.assert_array_equal(rows_of(both), values)


def test_events_fill_samples_by_their_share():
    recording = continuous(n_runs=1, n_each=10, step=2.0)
    events = pd.DataFrame({"onset": [3.0, 7.0, 12.4], "duration": [3.0, 0.0, 0.5]})
    design = Design.from_events(recording, events=events)
    # Sample k stands for 2k - 1 to 2k + 1 s; an event without duration is an impulse.
    assert rows_of(design)[:, 0].tolist() == pytest.approx([0, 0, 1, 0.5 + 1, 0, 0, 0.25, 0, 0, 0])
    impulses = Design.from_events(recording, events=events, boxes=False)
    assert np.flatnonzero(rows_of(impulses)[:, 0]).tolist() == [1, 3, 6]
    assert rows_of(impulses)[:, 0].sum() == 3


def test_events_by_label_by_amount_and_by_their_own_features():
    events = pd.DataFrame(
        {"onset": [0.0, 3.0, 0.0], "run": [1, 1, 2], "word": ["a", "b", "a"], "loud": [0.5, 2, 1]}
    )
    recording = continuous(n_each=4, events=events)
    design = Design.from_events(recording, ["word", "loud"], values=np.eye(3)[:, :2])
    assert design.bands == {"word": 2, "loud": 1, "values": 2}
    values = rows_of(design)
    assert values[0].tolist() == [1, 0, 0.5, 1, 0]
    assert values[2].tolist() == [0, 1, 2, 0, 1]
    assert values[4].tolist() == [1, 0, 1, 0, 0]  # the second run
    assert values.sum() == pytest.approx(3 + 3.5 + 2)


def test_clocks_that_do_not_fit():
    recording = continuous(n_runs=1, n_each=50, step=1.5)
    features = np.zeros((600, 2))
    with pytest.raises(InputError, match=r"of 50 samples lie outside the features' time, which"):
        Design.from_time(recording, features[:300], sfreq=10.0)
    with pytest.raises(InputError, match="Features have one clock: give sfreq"):
        Design.from_time(recording, features)
    times = np.arange(600) / 5
    times[300:] += 4
    with pytest.raises(InputError, match="evenly apart in time"):
        Design.from_time(recording, features, times=times)
    with pytest.raises(InputError, match="come without: say the run of each moment"):
        Design.from_time(continuous(), features, sfreq=10.0)
    with pytest.raises(InputError, match="0 moments in run 2 of the recording; they name the runs"):
        Design.from_time(continuous(), features, sfreq=5.0, runs=np.ones(600))
    with pytest.raises(InputError, match="has trials; features of time"):
        Design.from_time(Recording.from_arrays(np.zeros((5, 2))), features, sfreq=10.0)
    bare = Recording.from_arrays(np.zeros((5, 2)), samples=pd.DataFrame({"run": np.ones(5)}))
    with pytest.raises(InputError, match="knows no times"):
        Design.from_time(bare, features, sfreq=10.0)


def test_events_outside_the_recording():
    recording = continuous(n_runs=1, n_each=10)
    for onsets, message in (
        ([1.0, 400.0], r"1 of 2 events lie outside .* numbers 1, at 400 s"),
        ([-9.0, 3.0], r"1 of 2 events lie outside"),
        ([512.0, 1024.0], r"in seconds \(not samples\)"),
    ):
        with pytest.raises(InputError, match=message):
            Design.from_events(recording, events=pd.DataFrame({"onset": onsets}))
    with pytest.raises(InputError, match="have the same times, so that events need a column 'run'"):
        Design.from_events(continuous(), events=pd.DataFrame({"onset": [1.0]}))
    with pytest.raises(InputError, match="Events name the runs 7"):
        Design.from_events(continuous(), events=pd.DataFrame({"onset": [1.0], "run": [7]}))
    with pytest.raises(InputError, match="no column 'pitch'"):
        Design.from_events(recording, "pitch", events=pd.DataFrame({"onset": [1.0]}))
    with pytest.raises(InputError, match="has no events of continuous data"):
        Design.from_events(recording)


def test_what_stands_for_features():
    recording = continuous()
    table = np.ones((100, 2))
    assert as_design(recording, table).bands == {"features": 2}
    design = Design.from_rows(recording, table)
    assert as_design(recording, design) is design
    assert as_design(recording, {"a": table, "b": table}).bands == {"a": 2, "b": 2}
    trials = Recording.from_arrays(np.zeros((10, 2)), stimuli=np.zeros((10, 3, 3)))
    assert as_design(trials, PixelPCA(2)).stimuli is trials.stimuli
    with pytest.raises(InputError, match="FeatureStack"):
        as_design(trials, {"a": table})
    with pytest.raises(InputError, match="Nothing to stack"):
        Design.stack({})
