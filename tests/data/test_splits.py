"""Presets, guards and the parts of a split."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brainkit import Recording
from brainkit.data.guards import check_split
from brainkit.data.splits import split_by_hand
from brainkit.errors import InputError, LeakError, SplitError, UnknownNameError


def make(**columns):
    trials = pd.DataFrame(columns)
    array = np.arange(2.0 * len(trials)).reshape(len(trials), 2)
    return Recording.from_arrays(array, trials=trials)


@given(
    stimulus=st.lists(st.integers(0, 9), min_size=4, max_size=40).filter(lambda s: len(set(s)) > 2),
    seed=st.integers(0, 9),
)
def test_kfold_tests_each_trial_once_and_no_image_on_two_sides(stimulus, seed):
    recording = make(stimulus=stimulus)
    split = recording.split("kfold:3", seed=seed)
    assert len(split) == 3
    tested = np.concatenate([fold.test.responses.read()[:, 0] for fold in split])
    np.testing.assert_array_equal(np.sort(tested), np.arange(0, 2 * len(stimulus), 2))
    for fold in split:
        assert not set(fold.train.trials["stimulus"]) & set(fold.test.trials["stimulus"])
        assert len(fold.train.trials) + len(fold.test.trials) == len(stimulus)


def test_kfold_by_other_columns():
    recording = make(session=[1, 1, 1, 1, 2, 2, 2, 2], run=[1, 1, 2, 2, 1, 1, 2, 2])
    tested = [fold.test.trials for fold in recording.split("kfold:4:run")]
    assert sorted(len(t) for t in tested) == [2] * 4
    assert all(len(t.drop_duplicates()) == 1 for t in tested)  # run 1 of session 1 is not of 2
    tested = [set(fold.test.trials["session"]) for fold in recording.split("kfold:2:session")]
    assert tested in ([{1}, {2}], [{2}, {1}])


def test_windows_of_a_trial_stay_together():
    recording = make(trial=[0, 0, 1, 1, 0, 0, 1, 1], run=[1, 1, 1, 1, 2, 2, 2, 2])
    for preset in ("kfold:4", "kfold:4:trial"):
        for fold in recording.split(preset):
            assert len(fold.test.trials.drop_duplicates()) == 1
            assert len(fold.test.trials) == 2


def test_windows_of_an_unknown_trial():
    recording = make(trial=pd.array([0, 0, None, 1], dtype="Int64"), run=[1, 1, 1, 1])
    with pytest.raises(SplitError, match="'trial' without missing values"):
        recording.split("kfold:2")


def test_leave_one_out():
    recording = make(session=["a", "a", "b", "b"], run=[1, 2, 1, 2])
    assert len(recording.split("leave-one-run-out")) == 4
    folds = recording.split("leave-one-session-out").folds
    assert [set(fold.test.trials["session"]) for fold in folds] == [{"a"}, {"b"}]
    alone = make(run=[1, 1, 2, 10])
    tested = [fold.test.trials["run"].tolist() for fold in alone.split("leave-one-run-out")]
    assert tested == [[1, 1], [2], [10]]


def test_continuous_data_are_cut_into_stretches():
    samples = pd.DataFrame({"run": np.repeat([1, 2], 50), "time": np.tile(np.arange(50), 2)})
    recording = Recording.from_arrays(np.arange(200.0).reshape(100, 2), samples=samples)
    for fold in recording.split("kfold:5"):
        assert (np.diff(fold.test.responses.read()[:, 0]) == 2).all()
        assert fold.test.trials is None
    tested = [set(fold.test.samples["run"]) for fold in recording.split("leave-one-run-out")]
    assert tested == [{1}, {2}]


def nsd_like():
    # Images 0-5 shared; 0, 1 thrice in the early part; 10-13 the subject's own.
    stimulus = [0, 0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 10, 11, 12, 13, 10]
    early = [3, 3, 3, 3, 3, 3, 2, 2, 1, 1, 0, 2, 1, 1, 1, 2]
    return make(stimulus=stimulus, shared=[s < 6 for s in stimulus], early_repeats=early)


def images(part):
    return set(part.trials["stimulus"])


def test_nsd_presets():
    split = nsd_like().split("nsd-shared1000")
    assert (images(split.train), images(split.test)) == ({10, 11, 12, 13}, set(range(6)))
    with pytest.raises(SplitError, match=r"no 'align' part; it has train, test"):
        _ = split.align
    split = nsd_like().split("nsd-515")
    assert images(split.train) == {10, 11, 12, 13}
    assert images(split.test) == {0, 1}
    assert images(split.align) == {2, 4}
    assert images(split.validation) == {3, 5}
    # After averaging the repeats the same images stand on the same sides.
    averaged = nsd_like().average_repeats().split("nsd-515")
    for name in ("train", "validation", "align", "test"):
        assert images(averaged.folds[0].part(name)) == images(split.folds[0].part(name))


def test_a_part_without_trials_does_not_exist():
    recording = nsd_like().select(trials=[0, 1, 2, 11, 12])
    split = recording.split("nsd-515")
    with pytest.raises(SplitError, match="no 'align' part"):
        _ = split.align
    with pytest.raises(SplitError, match="test part of the split is empty"):
        nsd_like().select(trials=[6, 11]).split("nsd-515")
    with pytest.raises(SplitError, match="train part of the split is empty"):
        nsd_like().select(trials=[0, 1]).split("nsd-shared1000")


@pytest.mark.parametrize(
    ("preset", "error", "message"),
    [
        ("kfolds:3", UnknownNameError, r"kfold:K:column, kfold, .*nsd-515"),
        ("nsd-1000", UnknownNameError, "Did you mean"),
        ("kfold", SplitError, "kfold:10"),
        ("kfold:", SplitError, "kfold:10"),
        ("kfold:-2", SplitError, "kfold:10"),
        ("kfold:2:run:x", SplitError, "kfold:10"),
        ("kfold:1", InputError, "1 folds cannot be made"),
        ("kfold:99", InputError, "99 folds cannot be made of 4 groups"),
        ("kfold:2:subject", SplitError, "'subject' without missing values"),
        ("leave-one-run-out", SplitError, "'run' without missing values"),
        ("leave-one-session-out", SplitError, "'session' without missing values"),
        ("leave-one-session-out:2", SplitError, "takes nothing after a colon"),
        ("nsd-shared1000", SplitError, "'shared'"),
        ("nsd-515", SplitError, "'shared'"),
    ],
)
def test_wrong_presets(preset, error, message):
    recording = make(stimulus=[0, 1, 2, 3], session=pd.array([1, 2, None, 1], dtype="Int64"))
    with pytest.raises(error, match=message):
        recording.split(preset)


def test_several_folds_are_gone_through():
    split = make(stimulus=[0, 1, 2, 3]).split("kfold:2")
    for name in ("train", "test", "validation", "align"):
        with pytest.raises(SplitError, match="has 2 folds"):
            getattr(split, name)


def test_by_hand():
    recording = make(stimulus=[0, 1, 2, 3])
    split = split_by_hand(recording, train=[0, 1], test=np.array([False, False, True, True]))
    assert split.preset == "by hand"
    assert images(split.test) == {2, 3}
    with pytest.raises(UnknownNameError, match="train, validation, align, test"):
        split_by_hand(recording, train=[0], tests=[1])
    with pytest.raises(InputError, match="out of range"):
        split_by_hand(recording, train=[0], test=[4])
    with pytest.raises(LeakError, match="share 1 rows: 1") as caught:
        split_by_hand(recording, train=[0, 1], test=[1, 2])
    assert caught.value.ids == [1]


def test_zscore_of_each_fold_by_its_own_training_part():
    recording = make(stimulus=range(8), session=[1] * 8)
    split = recording.split("kfold:2").zscore()
    for fold in split:
        got = fold.train.responses.read()
        np.testing.assert_allclose(got.mean(0), 0, atol=1e-6)
        np.testing.assert_allclose(got.std(0), 1, atol=1e-6)
        raw = recording.responses.read()
        fit = raw[fold.rows["train"]]
        np.testing.assert_allclose(
            fold.test.responses.read(),
            (raw[fold.rows["test"]] - fit.mean(0)) / fit.std(0),
            rtol=1e-5,
        )


def test_guards_compare_identities_not_numbers():
    # NSD counts trials within a session: number 0 of two sessions are two trials.
    rows = pd.DataFrame({"session": [1, 1, 2, 2], "trial": [0, 1, 0, 1]})
    parts = {"train": np.array([0, 1]), "test": np.array([2, 3])}
    check_split(rows, parts)
    with pytest.raises(LeakError, match="Split by trial") as caught:
        check_split(rows.assign(session=1), parts)
    assert len(caught.value.ids) == 2
    with pytest.raises(LeakError) as caught:
        check_split(rows[["trial"]], parts)
    assert caught.value.ids == [0, 1]


def test_trials_without_a_stimulus_are_no_leak():
    stimulus = pd.array([None, 0, None, 1], dtype="Int64")
    recording = make(stimulus=stimulus, run=[1, 1, 2, 2])
    assert len(recording.split("leave-one-run-out")) == 2
