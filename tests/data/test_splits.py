"""Presets, guards and the parts of a split."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import (
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    StratifiedKFold,
)

from brainkit import Recording
from brainkit.data.splits import check_split, kept_split, split_by_hand
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
        ("kfolds:3", UnknownNameError, r"kfold:K:column, stratified:K:column, kfold, .*nsd-515"),
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


def conditions(runs=True, n_runs=4):
    """Five conditions in every run."""
    columns = {"stimulus": np.tile(np.arange(5), n_runs), "label": np.tile(list("abcde"), n_runs)}
    if runs:
        columns["run"] = np.repeat(np.arange(n_runs), 5)
    trials = pd.DataFrame(columns)
    return Recording.from_arrays(
        np.random.default_rng(0).normal(size=(len(trials), 3)),
        trials=trials,
        stimuli=np.zeros((5, 4, 4), np.uint8),
        stimuli_are="conditions",
    )


def test_conditions_are_found_again_in_other_runs():
    recording = conditions()
    for split in ("leave-one-run-out", "kfold:4", LeaveOneGroupOut(), GroupKFold(2)):
        for fold in recording.split(split):
            assert set(fold.train.trials["stimulus"]) == set(fold.test.trials["stimulus"])
            assert not set(fold.train.trials["run"]) & set(fold.test.trials["run"])
    with pytest.raises(
        LeakError, match=r"values of 'run' stand in both.*leave-one-run-out"
    ) as raised:
        recording.split(StratifiedKFold(2, shuffle=True, random_state=0))
    assert raised.value.ids == [0, 1, 2, 3]
    with pytest.raises(SplitError, match="1 conditions are tested but not trained on"):
        recording.split("kfold:5:stimulus")
    lacking = recording.select(trials=np.arange(16))  # the last run has one condition alone
    assert len(lacking.split("leave-one-run-out")) == 4
    first = recording.select(trials=[0, 1, 2, 8, 9])
    with pytest.raises(
        SplitError, match=r"conditions are tested but not trained on.*stimuli 0, 1, 2"
    ):
        first.split("leave-one-run-out")


def test_conditions_without_runs_are_split_in_time():
    recording = conditions(runs=False)
    for split in ("kfold:4", "stretches:4"):
        for number, fold in enumerate(recording.split(split)):
            np.testing.assert_array_equal(fold.rows["test"], np.arange(5) + 5 * number)
    with pytest.raises(
        LeakError, match=r"change sides \d+ times.*neighbours in time.*'stretches:5'"
    ):
        recording.split(KFold(4, shuffle=True, random_state=0))


def test_exemplars_of_every_run_are_refused_with_the_way_out():
    exemplars = conditions()
    exemplars = Recording.from_arrays(
        exemplars.responses.read(), trials=exemplars.trials, stimuli=exemplars.stimuli
    )
    with pytest.raises(LeakError, match=r"stimuli_are='conditions'\) and leave runs out"):
        exemplars.split("leave-one-run-out")
    partly = make(stimulus=[0, 1, 2, 1], run=[0, 0, 1, 1])
    with pytest.raises(LeakError) as raised:  # not in every run: no conditions, but repeats
        partly.split("leave-one-run-out")
    assert "conditions" not in str(raised.value)
    with pytest.raises(
        UnknownNameError, match=r"stimuli_are 'condition'.*Did you mean 'conditions'"
    ):
        Recording.from_arrays(np.zeros((2, 2)), stimuli_are="condition")


def test_splitters_and_rows_of_your_own():
    recording = make(stimulus=np.repeat(np.arange(8), 2), label=np.tile([0, 1], 8))
    folds = recording.split(GroupKFold(4))
    assert len(folds) == 4
    assert folds.preset.startswith("GroupKFold")
    pairs = [(fold.rows["train"], fold.rows["test"]) for fold in folds]
    again = recording.split(pairs)
    assert again.preset == "by hand, 4 folds"
    for one, other in zip(folds, again, strict=True):
        np.testing.assert_array_equal(one.rows["test"], other.rows["test"])
    with pytest.raises(LeakError, match="'stimulus' stand in both"):
        recording.split(KFold(3))
    with pytest.raises(SplitError, match="cannot split the 16 rows"):
        recording.split(GroupKFold(9))
    with pytest.raises(SplitError, match=r"preset such as 'kfold:5', an object with split"):
        recording.split(7)
    shuffled = ShuffleSplit(2, test_size=4)
    single = make(stimulus=np.arange(16))
    one, other, same = (single.split(shuffled, seed=seed) for seed in (0, 1, 0))
    assert one.folds[0].rows["test"].tolist() == same.folds[0].rows["test"].tolist()
    assert one.folds[0].rows["test"].tolist() != other.folds[0].rows["test"].tolist()
    assert shuffled.random_state is None  # the caller's own is left alone
    hand = split_by_hand(single, train=np.arange(10), test=np.arange(10, 16))
    rebound = single.select(units=[0]).split(hand)
    assert rebound.test.responses.shape == (6, 1)
    with pytest.raises(SplitError, match="of a recording of 16 rows; this one has 4"):
        single.select(trials=np.arange(4)).split(hand)


def test_labels_in_equal_shares():
    stimulus = np.arange(40)
    label = np.repeat(["rare", "common"], [8, 32])
    recording = make(stimulus=stimulus, label=label, kind=label)
    for preset in ("stratified:4", "stratified:4:kind"):
        split = recording.split(preset, seed=1)
        for fold in split:
            assert fold.test.trials["label"].value_counts().to_dict() == {"common": 8, "rare": 2}
    assert recording.split("stratified:4", seed=2).folds[0].rows["test"].tolist() != (
        split.folds[0].rows["test"].tolist()
    )
    repeated = make(stimulus=np.repeat(np.arange(20), 2), label=np.repeat(label[::2], 2))
    for fold in repeated.split("stratified:4"):
        assert not set(fold.train.trials["stimulus"]) & set(fold.test.trials["stimulus"])
        assert fold.test.trials["label"].value_counts().to_dict() == {"common": 8, "rare": 2}
    with pytest.raises(SplitError, match="rarest stands in 8 rows"):
        recording.split("stratified:9")
    with pytest.raises(SplitError, match="'label' without missing values"):
        make(stimulus=stimulus).split("stratified:4")
    with pytest.raises(SplitError, match="stratified:5:label"):
        recording.split("stratified")
    with pytest.raises(SplitError, match="stretches:5"):
        recording.split("stretches:2:run")


@pytest.mark.parametrize(
    "preset", ["kfold:²", "stratified:²", "stretches:²", "kfold:1.5", "kfold:"]
)
def test_a_number_of_folds_that_is_none(preset):
    recording = Recording.from_arrays(
        np.zeros((6, 2)), trials=pd.DataFrame({"label": list("ababab")})
    )
    with pytest.raises(SplitError, match="Write"):
        recording.split(preset)


def test_pairs_from_a_generator_can_be_gone_through_again():
    pairs = kept_split(KFold(3).split(np.empty((9, 1))))
    assert [len(list(pairs)), len(list(pairs))] == [3, 3]
    assert kept_split("kfold:3") == "kfold:3"
    splitter = KFold(3)
    assert kept_split(splitter) is splitter


def test_splitters_are_not_told_off_for_groups_that_nobody_gave():
    trials = pd.DataFrame({"stimulus": np.arange(12)})
    recording = Recording.from_arrays(
        np.random.default_rng(0).normal(size=(12, 2)), trials=trials,
        stimuli=np.zeros((12, 4, 4), np.uint8),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(recording.split(ShuffleSplit(2, test_size=0.5)).folds) == 2
