"""Recordings of arrays: every chain of steps equals the same steps in numpy and pandas."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from brainkit import Recording, Stimuli
from brainkit.arrays.sources import Memory, Source, View
from brainkit.data.units import VolumeSpace
from brainkit.errors import InputError, SplitError, UnknownNameError


class Watched(Source):
    """Counts the values that are read."""

    def __init__(self, array):
        self.inner, self.shape, self.values = Memory(array), array.shape, 0

    def read(self, rows=None, columns=None):
        out = self.inner.read(rows, columns)
        self.values += out.size
        return out


def make(n_trials=12, n_units=5, inner=(), seed=0):
    generator = np.random.default_rng(seed)
    array = generator.normal(3, 2, (n_trials, n_units, *inner))
    trials = pd.DataFrame(
        {
            "stimulus": generator.integers(0, 4, n_trials),
            "session": np.arange(n_trials) * 3 // n_trials + 1,
            "run": np.arange(n_trials) % 2 + 1,
        }
    )
    units = pd.DataFrame({"roi.V1v": np.arange(n_units) % 2 == 0, "name": list(range(n_units))})
    return array, trials, units


@settings(max_examples=60)
@given(st.data())
def test_any_chain_of_steps_equals_numpy(data):
    inner = data.draw(st.sampled_from([(), (2,)]))
    array, trials, units = make(inner=inner, seed=data.draw(st.integers(0, 99)))
    recording = Recording.from_arrays(array, trials=trials, units=units)
    for step in data.draw(st.lists(st.sampled_from(["rows", "units", "z", "mean"]), max_size=5)):
        n_rows, n_units = array.shape[:2]
        if step == "rows":
            rows = data.draw(st.lists(st.integers(0, n_rows - 1), min_size=1, max_size=14))
            recording = recording.select(trials=rows)
            array, trials = array[rows], trials.iloc[rows].reset_index(drop=True)
        elif step == "units":
            keep = data.draw(st.lists(st.booleans(), min_size=n_units, max_size=n_units))
            mask = np.array(keep, dtype=bool)
            recording = recording.select(units=mask)
            array, units = array[:, mask], units[mask].reset_index(drop=True)
        elif step == "z":
            by = data.draw(st.sampled_from([None, "stimulus"]))
            keys = np.zeros(n_rows) if by is None else trials[by].to_numpy()
            if min(np.unique(keys, return_counts=True)[1]) < 2:
                with pytest.raises(SplitError, match=r"cannot be z-scored"):
                    recording.zscore(by)
                continue
            recording = recording.zscore(by)
            new = np.empty_like(array)
            for key in np.unique(keys):
                part = array[keys == key].astype(np.float32).astype(np.float64)
                spread = part.std(axis=0)
                # A constant unit has no scale; rounding must not make one up.
                spread = np.where(np.ptp(part, axis=0) < 1e-5, np.nan, spread)
                new[keys == key] = (part - part.mean(axis=0)) / spread
            array = new
        else:
            recording = recording.average_repeats()
            names = sorted(trials["stimulus"].unique())
            array = np.stack([array[trials["stimulus"] == name].mean(axis=0) for name in names])
            trials = pd.DataFrame({"stimulus": names})
        got = recording.responses.read()
        expected = np.asarray(array)
        # Standardising what is all but constant amplifies rounding: compare where it is defined.
        fine = np.isfinite(expected)
        np.testing.assert_allclose(got[fine], expected[fine], rtol=2e-3, atol=2e-3)
        assert recording.rows["stimulus"].tolist() == trials["stimulus"].tolist()
        assert recording.units["name"].tolist() == units["name"].tolist()
        array = np.where(fine, got, np.nan)


def test_select_copies_and_reads_nothing():
    array, trials, units = make()
    trials = trials.drop(columns="stimulus")
    base = Watched(array)
    recording = Recording.from_source(base, subject="s", trials=trials, units=units)
    part = recording.select(trials=trials["session"] > 1, roi="V1")
    part = part.select(trials=slice(None, None, -1), units=[2, 0])
    fold = part.split("kfold:2:session").folds[0]
    assert base.values == 0
    for view in (part, fold.train):
        assert isinstance(view.responses.source, View)
        assert view.responses.source.base is base
    got = part.responses.read(trials=[0], units=[1])
    np.testing.assert_allclose(got, [[array[11, 0]]], rtol=1e-6)
    assert base.values == 1
    recording.average_repeats("session")
    assert base.values == 1


def test_what_one_recording_says_does_not_change_another():
    array, trials, units = make()
    recording = Recording.from_arrays(array, trials=trials, units=units, info={"a": 1})
    part = recording.select(units=[0, 1])
    part.info["b"] = 2
    part.trials["extra"] = 1
    part.units["extra"] = 1
    assert recording.info == {"a": 1}
    assert "extra" not in recording.trials
    assert "extra" not in recording.units
    trials["later"] = 0
    assert "later" not in recording.trials
    assert recording != part  # compared by identity, without an ambiguous truth value
    assert recording in [part, recording]


def test_tables_with_an_index_of_their_own():
    array, trials, units = make()
    kept = trials[trials["session"] != 2]
    recording = Recording.from_arrays(array[kept.index], trials=kept, units=units)
    averaged = recording.average_repeats()
    for row, name in enumerate(sorted(kept["stimulus"].unique())):
        expected = array[trials.index[(trials["stimulus"] == name) & (trials["session"] != 2)]]
        np.testing.assert_allclose(averaged.responses.read()[row], expected.mean(0), rtol=1e-5)
    kept = kept.drop(columns="stimulus")
    recording = Recording.from_arrays(array[kept.index], trials=kept, units=units)
    assert recording.split("leave-one-session-out").folds[1].test.trials["session"].eq(3).all()


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ([0, 2], [0, 2]),
        ([2, 0, 2], [2, 0, 2]),
        (slice(1, None), [1, 2]),
        (np.array([True, False, True]), [0, 2]),
        (pd.Series([True, False, True], index=[9, 8, 7]), [0, 2]),
        (pd.Series([True, False, True], dtype="boolean"), [0, 2]),
        (pd.Series([2, 1], dtype="Int64"), [2, 1]),
        ([], []),
        (np.array([1], dtype=np.uint8), [1]),
    ],
)
def test_ways_to_choose(chosen, expected):
    recording = Recording.from_arrays(np.arange(9.0).reshape(3, 3))
    np.testing.assert_array_equal(
        recording.select(trials=chosen).responses.read()[:, 0], 3 * np.array(expected)
    )
    np.testing.assert_array_equal(recording.responses.read(units=chosen)[0], expected)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([3], "out of range: 3; there are 3"),
        ([-1], "out of range"),
        ([True, False], "needs 3 values"),
        ([0.0, 1.0], "mask, a slice or integer"),
        (["a"], "mask, a slice or integer"),
        (1, "mask, a slice or integer"),
        ([[0, 1]], "mask, a slice or integer"),
        (pd.Series([True, None, False], dtype="boolean"), "missing values"),
    ],
)
def test_ways_not_to_choose(chosen, message):
    recording = Recording.from_arrays(np.arange(9.0).reshape(3, 3))
    for choose in (
        lambda: recording.select(trials=chosen),
        lambda: recording.select(units=chosen),
        lambda: recording.responses.read(trials=chosen),
    ):
        with pytest.raises(InputError, match=message):
            choose()


def test_units_and_roi_together():
    array, trials, units = make()
    part = Recording.from_arrays(array, trials=trials, units=units)
    part = part.select(units=[4, 3, 0], roi="V1v")
    assert part.units["name"].tolist() == [4, 0]
    with pytest.raises(UnknownNameError, match="V1v"):
        part.select(roi="IT")


# -- averaging --------------------------------------------------------------------------------


def test_average_repeats_keeps_what_is_constant_and_counts():
    array = np.arange(10.0).reshape(5, 2)
    trials = pd.DataFrame(
        {
            "stimulus": pd.array([3, 1, 3, 1, 7], dtype="Int64"),
            "label": ["b", "a", "b", "a", "c"],
            "session": [1, 1, 2, 1, 2],
            "missing": [np.nan] * 5,
            "words": [["a"], ["b"], ["a"], ["b"], []],
            "rating": [[1], [2], [3], [2], []],
        }
    )
    averaged = Recording.from_arrays(array, trials=trials).average_repeats()
    assert averaged.trials["stimulus"].tolist() == [1, 3, 7]
    assert averaged.trials["label"].tolist() == ["a", "b", "c"]
    assert averaged.trials["n_repeats"].tolist() == [2, 2, 1]
    assert "session" not in averaged.trials
    assert "rating" not in averaged.trials
    assert averaged.trials["words"].tolist() == [["b"], ["a"], []]
    assert averaged.trials["missing"].isna().all()
    np.testing.assert_array_equal(averaged.responses.read(), [[4, 5], [2, 3], [8, 9]])
    with pytest.raises(InputError, match="no column 'session'"):
        averaged.zscore()


def test_averaging_twice_changes_nothing():
    array, trials, units = make()
    once = Recording.from_arrays(array, trials=trials, units=units).average_repeats()
    twice = once.average_repeats()
    np.testing.assert_array_equal(once.responses.read(), twice.responses.read())
    pd.testing.assert_frame_equal(once.trials, twice.trials)


def test_average_after_selecting_counts_the_selected():
    array, trials, units = make()
    recording = Recording.from_arrays(array, trials=trials, units=units)
    rows = np.flatnonzero(trials["session"] == 2)
    averaged = recording.select(trials=rows, units=[3]).average_repeats()
    assert averaged.trials["n_repeats"].sum() == len(rows)
    for row, name in enumerate(averaged.trials["stimulus"]):
        mine = rows[trials["stimulus"].to_numpy()[rows] == name]
        np.testing.assert_allclose(averaged.responses.read()[row, 0], array[mine, 3].mean())


def test_average_needs_complete_names():
    trials = pd.DataFrame({"stimulus": pd.array([0, None], dtype="Int64")})
    recording = Recording.from_arrays(np.ones((2, 1)), trials=trials)
    with pytest.raises(InputError, match="without missing values"):
        recording.average_repeats()
    with pytest.raises(InputError, match="column 'image'"):
        recording.average_repeats("image")
    with pytest.raises(InputError, match="no trials"):
        recording.select(trials=[]).average_repeats()
    continuous = Recording.from_arrays(np.ones((2, 1)), samples=pd.DataFrame({"run": [1, 1]}))
    with pytest.raises(InputError, match="continuous"):
        continuous.average_repeats()


# -- z-scoring ---------------------------------------------------------------------------------


def test_zscore_uses_the_training_trials_alone():
    array, trials, units = make(n_trials=30)
    recording = Recording.from_arrays(array, trials=trials, units=units)
    train = np.random.default_rng(1).random(30) < 0.6
    got = recording.zscore(fit_on=train)
    for session in (1, 2, 3):
        here = (trials["session"] == session).to_numpy()
        fit = array[here & train]
        expected = (array[here] - fit.mean(0)) / fit.std(0)
        np.testing.assert_allclose(got.responses.read(trials=here), expected, rtol=1e-4, atol=1e-5)
    assert got.info["zscore"] == {"by": "session", "transductive": False, "unseen": []}
    assert got.info["measure"] == "standard deviations"
    assert "zscore" not in recording.info
    # What is held out does not matter: change it, and the training trials stay.
    changed = np.where(train[:, None], array, 99)
    other = Recording.from_arrays(changed, trials=trials, units=units).zscore(fit_on=train)
    np.testing.assert_array_equal(
        got.responses.read(trials=train), other.responses.read(trials=train)
    )


def test_zscore_by_run_tells_the_runs_of_sessions_apart():
    array, trials, units = make(n_trials=24)
    got = Recording.from_arrays(array, trials=trials, units=units).zscore("run").responses.read()
    for _, rows in trials.groupby(["session", "run"]).groups.items():
        np.testing.assert_allclose(got[rows].mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(got[rows].std(0), 1, atol=1e-5)


def test_constant_and_nan_units_become_nan_and_others_do_not():
    array, trials, units = make()
    array[:, 0] = 0.1  # its mean is not exactly representable
    array[3, 1] = np.nan
    array[4, 2] = np.inf
    got = Recording.from_arrays(array, trials=trials, units=units).zscore(None).responses.read()
    assert np.isnan(got[:, :3]).all(axis=0).tolist()[:2] == [True, True]
    assert not np.isfinite(got[:, 2]).any()
    assert np.isfinite(got[:, 3:]).all()


def test_zscore_keeps_precision_beside_a_large_mean():
    generator = np.random.default_rng(0)
    array = (1000 + generator.normal(size=(400, 3))).astype(np.float32)
    got = Recording.from_arrays(array).zscore(None).responses.read()
    exact = array.astype(np.float64)
    exact = (exact - exact.mean(0)) / exact.std(0)
    np.testing.assert_allclose(got, exact, atol=2e-4)


def test_a_session_without_training_trials():
    array, trials, units = make(n_trials=12)
    trials = trials.drop(columns="stimulus")
    recording = Recording.from_arrays(array, trials=trials, units=units)
    fold = recording.split("leave-one-session-out").folds[2]
    with pytest.raises(SplitError, match=r"session 3 has no training trials.*session-unlabelled"):
        fold.zscore()
    got = fold.zscore(unseen="session-unlabelled")
    assert got.test.info["zscore"] == {"by": "session", "transductive": True, "unseen": [3]}
    own = array[8:]
    np.testing.assert_allclose(
        got.test.responses.read(), (own - own.mean(0)) / own.std(0), rtol=1e-4, atol=1e-5
    )
    with pytest.raises(InputError, match="session-unlabelled"):
        fold.zscore(unseen="whatever")


def test_one_training_trial_has_no_standard_deviation():
    array, trials, units = make(n_trials=12)
    recording = Recording.from_arrays(array, trials=trials, units=units)
    train = np.array([0, 1, 2, 3, 4, 5, 6, 7, 8])  # one of session 3
    with pytest.raises(SplitError, match="session 3 has 1 training trial"):
        recording.zscore(fit_on=train)
    assert recording.zscore(fit_on=train, unseen="session-unlabelled").info["zscore"]["unseen"]
    with pytest.raises(SplitError, match="single trial"):
        recording.select(trials=[0]).zscore(None, unseen="session-unlabelled")


def test_zscore_needs_complete_groups():
    array, trials, units = make()
    trials["session"] = pd.array([1] * 6 + [None] * 6, dtype="Int64")
    recording = Recording.from_arrays(array, trials=trials, units=units)
    with pytest.raises(InputError, match="'session' without missing values"):
        recording.zscore()
    with pytest.raises(InputError, match=r"no column 'day'.*by=None"):
        recording.zscore("day")


def test_statistics_do_not_depend_on_the_batches(monkeypatch):
    array, trials, units = make(n_trials=20, n_units=300, inner=(2,))
    units = pd.DataFrame(index=range(300))
    recording = Recording.from_arrays(array, trials=trials, units=units)
    whole = recording.zscore().responses.read()
    monkeypatch.setattr("brainkit.data.standardising.pick_batch", lambda *_: 7)
    np.testing.assert_array_equal(whole, recording.zscore().responses.read())


# -- to estimators and back -----------------------------------------------------------------


@pytest.mark.parametrize("inner", [(), (4,)])
def test_targets_and_back(inner):
    array, trials, units = make(inner=inner)
    recording = Recording.from_arrays(array, trials=trials, units=units)
    targets = recording.targets()
    assert targets.shape == (12, 5 * int(np.prod(inner)))
    np.testing.assert_allclose(recording.unflatten(targets), array, rtol=1e-6)
    np.testing.assert_allclose(recording.unflatten(targets[0]), array[0], rtol=1e-6)
    if inner:
        np.testing.assert_allclose(targets[:, 5], array[:, 1, 1], rtol=1e-6)
    assert recording.select(trials=[]).targets().shape == (0, targets.shape[1])
    for wrong in (np.ones(3), np.float64(1), np.ones((5, 2))):
        with pytest.raises(InputError, match="unflatten takes"):
            recording.unflatten(wrong)
    with pytest.raises(InputError, match="no space"):
        recording.to_image(np.ones(5))


# -- what does not fit is refused -----------------------------------------------------------


def test_stimuli_by_row():
    images = np.arange(3 * 2 * 2).reshape(3, 2, 2).astype(np.uint8)
    recording = Recording.from_arrays(np.ones((3, 2)), stimuli=images)
    np.testing.assert_array_equal(recording.stimulus_rows(), [0, 1, 2])
    np.testing.assert_array_equal(recording.stimuli.read([2]), images[2:])
    trials = pd.DataFrame({"stimulus": [2.0, 0.0, 2.0]})
    part = Recording.from_arrays(np.ones((3, 2)), trials=trials, stimuli=Stimuli(images))
    np.testing.assert_array_equal(part.stimulus_rows(), [2, 0, 2])
    assert part.stimulus_rows().dtype == np.int64
    alone = Recording.from_arrays(np.ones((4, 2)), stimuli=images)
    with pytest.raises(InputError, match="names no stimuli"):
        alone.stimulus_rows()
    trials = pd.DataFrame({"stimulus": pd.array([1, None, 0], dtype="Int64")})
    with pytest.raises(InputError, match="1 trials show no stimulus"):
        Recording.from_arrays(np.ones((3, 2)), trials=trials).stimulus_rows()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([0, 1, 3], "stimulus rows 3, but there are 3 stimuli"),
        ([0, -1, 2], "stimulus rows -1"),
        ([0, 1.5, 2], r"whole numbers.*1\.5"),
        (["a.png", "b.png", "a.png"], r"whole numbers.*a\.png"),
        (["0", "1", "2"], "whole numbers.*'0', '1', '2'"),
        ([True, False, True], "whole numbers.*True, False"),
        ([0, 1, np.inf], "whole numbers.*inf"),
        (pd.to_datetime(["2020-01-01"] * 3), "whole numbers.*Timestamp"),
        (pd.Categorical(["a", "b", "a"]), "whole numbers.*'a', 'b'"),
    ],
)
def test_wrong_stimulus_rows(column, message):
    trials = pd.DataFrame({"stimulus": column})
    with pytest.raises(InputError, match=message):
        Recording.from_arrays(np.ones((3, 2)), trials=trials, stimuli=np.ones((3, 4, 4)))
    if "there are 3" not in message:
        with pytest.raises(InputError, match=message):
            Recording.from_arrays(np.ones((3, 2)), trials=trials).stimulus_rows()


@pytest.mark.parametrize(
    "column",
    [
        [0, 2, 1],
        [0.0, 2.0, 1.0],
        pd.Categorical([0, 2, 1]),
        np.array([0, 2.0, np.int8(1)], dtype=object),
        pd.array([0, 2, 1], dtype="Int64"),
        np.array([0, 2, 1], dtype=np.uint8),
    ],
)
def test_stimulus_rows_as_whole_numbers_of_any_kind(column):
    trials = pd.DataFrame({"stimulus": column})
    for stimuli in (None, np.ones((3, 4, 4))):
        recording = Recording.from_arrays(np.ones((3, 2)), trials=trials, stimuli=stimuli)
        assert recording.stimulus_rows().tolist() == [0, 2, 1]
        assert recording.stimulus_rows().dtype == np.int64


def test_text_in_every_table_is_text():
    trials = pd.DataFrame(
        {"label": [b"a", "Häuser".encode()], "session": [b"1", None], "n": [1, 2]}
    )
    units = pd.DataFrame({"name": np.array([b"Fz", b"Cz"], object)})
    recording = Recording.from_arrays(np.ones((2, 2)), subject=b"s1", trials=trials, units=units)
    assert recording.subject == "s1"
    assert recording.trials["label"].tolist() == ["a", "Häuser"]
    assert recording.trials["session"].tolist() == ["1", None]
    assert recording.units["name"].tolist() == ["Fz", "Cz"]
    assert trials["label"][0] == b"a"  # the caller's own is as it was
    samples = pd.DataFrame({"bad_span": [b"", b"BAD"]})
    events = pd.DataFrame({"label": [b"face"]})
    flowing = Recording.from_arrays(np.ones((2, 2)), samples=samples, events=events)
    assert flowing.samples["bad_span"].tolist() == ["", "BAD"]
    assert flowing.events["label"].tolist() == ["face"]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"trials": pd.DataFrame({"label": [b"\xff", "a"]})}, "'label' of trials .* no UTF-8"),
        ({"units": pd.DataFrame({"name": [b"\xff", "a"]})}, "'name' of units"),
        ({"trials": {"stimulus": [0, 1]}}, "trials must be a DataFrame; got a dict"),
        ({"units": ["a", "b"]}, "units must be a DataFrame; got a list"),
        ({"units": pd.DataFrame([[1, 2]] * 2, columns=["a", "a"])}, "each column once.*: a"),
        ({"times": "ab"}, "times must be an array; got 'ab'"),
        ({"times": ["a", "b"]}, "times are seconds, real numbers"),
        ({"subject": None}, r"subject is a name; got nothing \(None"),
        ({"subject": b"\xff"}, "subject is a name; got bytes that are no UTF-8"),
    ],
)  # fmt: skip
def test_tables_that_are_none(parts, message):
    with pytest.raises(InputError, match=message):
        Recording.from_arrays(np.ones((2, 2)), **parts)


@pytest.mark.parametrize(
    ("responses", "message"),
    [
        ([[1.0, 2.0], [3.0]], "responses must be an array, rows of equal lengths"),
        (sparse.csr_array(np.ones((2, 2))), "responses is a sparse array"),
        (None, "responses must be an array; got None"),
        ({"a": 1}, "responses must be an array; got a dict"),
    ],
)
def test_responses_that_are_no_array(responses, message):
    with pytest.raises(InputError, match=message):
        Recording.from_arrays(responses)


@pytest.mark.parametrize(
    "responses",
    [
        torch.ones(2, 3, requires_grad=True),
        torch.ones(2, 3, dtype=torch.bfloat16),
        pd.DataFrame(np.ones((2, 3))).astype("Float64"),
        np.ma.masked_array(np.ones((2, 3)), mask=False),
    ],
)
def test_responses_of_other_kinds(responses):
    read = Recording.from_arrays(responses).responses.read()
    assert read.tolist() == [[1, 1, 1], [1, 1, 1]]


@pytest.mark.parametrize(
    "column",
    [
        [1.00003, 0.0, 7e-15],
        np.array([1, 0, 0], dtype=np.float32) + np.float32(1e-6),
        np.array([1, 1e-4, -1e-4]),
    ],
    ids=["file", "float32", "interpolated"],
)
def test_regions_as_real_numbers(column):
    units = pd.DataFrame({"roi.V1": column, "ncsnr": [0.5, 0.25, 0.1]})
    with pytest.warns(UserWarning, match=r"'roi\.V1': \d of 3 values were rounded"):
        recording = Recording.from_arrays(np.ones((2, 3)), units=units)
    assert recording.units["roi.V1"].dtype == bool
    assert recording.units["roi.V1"].tolist() == [True, False, False]
    assert recording.units["ncsnr"].tolist() == [0.5, 0.25, 0.1]
    assert recording.roi_mask("V1").tolist() == [True, False, False]
    assert units["roi.V1"].dtype != bool  # the caller's own is as it was


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([0.4, 0.0], r"'roi\.V1' must hold whole numbers; 1 of its 2 values are none: 0\.4"),
        ([2, 0], "must be true or false for each unit; it holds 2"),
        ([-1, 0], "it holds -1"),
        (["1", "0"], "it holds 1, 0"),
        ([True, None], "it holds None"),
        (pd.array([True, pd.NA], dtype="boolean"), "it holds <NA>"),
    ],
)
def test_what_is_no_region(column, message):
    with pytest.raises(InputError, match=message):
        Recording.from_arrays(np.ones((2, 2)), units=pd.DataFrame({"roi.V1": column}))


@pytest.mark.parametrize(
    "column", [[True, False], [1, 0], [1.0, 0.0], pd.array([True, False], dtype="boolean")]
)
def test_regions_that_are_exact(column):
    recording = Recording.from_arrays(np.ones((2, 2)), units=pd.DataFrame({"roi.V1": column}))
    assert recording.units["roi.V1"].dtype == bool
    assert recording.roi_mask("V1").tolist() == [True, False]


def test_numbers_of_stimuli_and_runs_that_are_nearly_whole():
    """2.9999998 is run 3, not a run of its own; a run called 1.5 stays one."""
    trials = pd.DataFrame(
        {
            "stimulus": [0.0, 0.99999, np.nan, 2.00001],
            "session": [1.0, 1.0, 2.0, 2.0],
            "run": [1, 1.0000002, 2.9999998, 3],
            "repeat": [1.5, 1.00001, 2, 2],
            "rt": [0.99999, 1, 1, 1],
        }
    )
    with pytest.warns(UserWarning, match="were rounded") as caught:
        recording = Recording.from_arrays(
            np.ones((4, 2)), trials=trials, stimuli=np.ones((3, 2, 2))
        )
    assert [str(warning.message).split(":")[0] for warning in caught] == [
        "The column 'stimulus' of the trials",
        "The column 'run' of the trials",
    ]
    assert recording.trials["run"].tolist() == [1, 1, 3, 3]
    assert recording.trials["stimulus"].fillna(-1).tolist() == [0, 1, -1, 2]
    assert recording.trials["repeat"].tolist() == trials["repeat"].tolist()
    assert recording.trials["rt"].tolist() == trials["rt"].tolist()
    assert recording.select(trials=[0, 1, 3]).stimulus_rows().tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("array", "parts", "message"),
    [
        (np.ones(3), {}, r"float64 of shape \(3,\)"),
        (np.ones((2, 2, 2, 2)), {}, "responses must be real numbers"),
        (np.ones((2, 2), dtype=complex), {}, "real numbers"),
        (np.array([["a"]]), {}, "real numbers"),
        (np.ma.masked_less(np.ones((2, 2)), 3), {}, "masked"),
        (np.ones((2, 2)), {"trials": pd.DataFrame({"a": [1]})}, "1 rows but responses have 2"),
        (np.ones((2, 2)), {"units": pd.DataFrame({"a": [1]})}, "units has 1 rows"),
        (np.ones((2, 2)), {"times": [0.0, 0.1]}, "times has 2 values"),
        (np.ones((2, 2, 3)), {"times": [0.0, 0.1]}, "times has 2 values"),
        (np.ones((2, 2, 3)), {"samples": pd.DataFrame({"a": [1, 2]})}, "Continuous data"),
        (
            np.ones((2, 2)),
            {"trials": pd.DataFrame({"a": [1, 2]}), "samples": pd.DataFrame({"a": [1, 2]})},
            "either trials or samples",
        ),
        (np.ones((2, 2)), {"space": VolumeSpace((1, 1, 1), np.eye(4), np.arange(1))}, "places 1"),
        (
            np.ones((2, 2)),
            {"units": pd.DataFrame({"roi.V1": [1.0, np.nan]})},
            r"'roi\.V1' must be true or false",
        ),
    ],
)
def test_parts_that_do_not_fit(array, parts, message):
    with pytest.raises(InputError, match=message):
        Recording.from_arrays(array, **parts)


def test_it_says_what_it_is():
    recording = Recording.from_arrays(
        np.ones((3, 1, 2)), subject="p07", stimuli=np.ones((3, 4, 4)), info={"simulated": {}}
    )
    assert repr(recording) == "Recording('p07': 3 trials x 1 unit x 2 times, 3 stimuli)"
    continuous = Recording.from_arrays(
        np.ones((4, 2)), samples=pd.DataFrame({"run": [1] * 4}), info={"simulated": {"seed": 0}}
    )
    assert repr(continuous) == "Recording('s1': 4 samples x 2 units, simulated)"
    assert continuous.trials is None
    assert continuous.select(trials=[3, 1]).samples["run"].tolist() == [1, 1]


def test_the_same_picture_in_two_trials_is_one_stimulus():
    """Taken as two, it would train on one side of a split what it tests on the other."""
    rng = np.random.default_rng(8)
    pictures = rng.integers(0, 256, (5, 8, 8), dtype=np.uint8)
    shown = rng.permutation(np.repeat(np.arange(5), 3))
    with pytest.warns(UserWarning, match="Of 15 stimuli, one for each trial, 5 are distinct"):
        recording = Recording.from_arrays(np.zeros((15, 2)), stimuli=pictures[shown])
    rows = recording.stimulus_rows()
    np.testing.assert_array_equal(shown[rows], shown)
    assert len(np.unique(rows)) == 5
    for fold in recording.split("kfold:5"):
        assert not set(shown[fold.rows["train"]]) & set(shown[fold.rows["test"]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for distinct in (rng.random((15, 8, 8)) * 255, np.zeros((15, 8, 8))):
            other = Recording.from_arrays(np.zeros((15, 2)), stimuli=distinct.astype(np.uint8))
            np.testing.assert_array_equal(other.stimulus_rows(), np.arange(15))
        said = Recording.from_arrays(
            np.zeros((15, 2)), stimuli=pictures[shown],
            trials=pd.DataFrame({"stimulus": np.arange(15)}),
        )  # fmt: skip
        assert len(np.unique(said.stimulus_rows())) == 15


def test_windows_of_time_are_selected_lazily():
    values = np.random.default_rng(0).normal(size=(6, 3, 20)).astype(np.float32)
    epochs = Recording.from_arrays(values, times=np.arange(20) / 10 - 0.5, sfreq=10.0)
    some = epochs.select(times=(0.0, 0.4), units=[2, 0])
    np.testing.assert_array_equal(some.responses.read(), values[:, [2, 0], 5:10])
    assert some.times == pytest.approx([0, 0.1, 0.2, 0.3, 0.4])
    np.testing.assert_array_equal(
        some.select(times=(0.1, 0.2), trials=[4]).responses.read(), values[[4]][:, [2, 0], 6:8]
    )
    samples = pd.DataFrame({"run": np.repeat([1, 2], 5), "time": np.tile(np.arange(5) * 2.0, 2)})
    series = Recording.from_arrays(np.arange(20.0).reshape(10, 2), samples=samples)
    inside = series.select(times=(2.0, 5.0))
    assert inside.samples["time"].tolist() == [2, 4, 2, 4]
    np.testing.assert_array_equal(inside.responses.read()[:, 0], [2, 4, 12, 14])
    chosen = series.select(trials=[9, 1, 0], times=(2.0, 8.0))
    np.testing.assert_array_equal(chosen.responses.read()[:, 0], [18, 2])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ((3.0, 4.0), "Nothing lies between 3 and 4 s; the recording has 0 to 0.9 s"),
        ((0.4, 0.1), "in order"),
        (0.5, r"a window \(start, stop\)"),
        (("a", "b"), r"a window \(start, stop\)"),
    ],
)
def test_windows_without_sense(times, message):
    epochs = Recording.from_arrays(np.zeros((2, 2, 10)), times=np.arange(10) / 10)
    with pytest.raises(InputError, match=message):
        epochs.select(times=times)
    with pytest.raises(InputError, match="knows no times"):
        Recording.from_arrays(np.zeros((2, 2))).select(times=(0, 1))
