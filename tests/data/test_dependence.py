"""Which rows depend on each other, and what changes places in null runs."""

import warnings

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.dependence import dependence
from brainkit.data.preparing import prepare_split
from brainkit.errors import DependenceWarning, InputError, SplitError


def recording(stimulus, *, units=3, seed=0, responses=None, **options):
    columns = {"stimulus": np.asarray(stimulus), **options.pop("columns", {})}
    n = len(columns["stimulus"])
    values = np.random.default_rng(seed).normal(size=(n, units)) if responses is None else responses
    images = np.zeros((int(columns["stimulus"].max()) + 1, 4, 4), np.uint8)
    return Recording.from_arrays(values, trials=pd.DataFrame(columns), stimuli=images, **options)


def conditions(n_runs=8, n_conditions=5, n_sessions=1):
    """The same few conditions in every run, three trials each in random order."""
    rng = np.random.default_rng(1)
    order = [rng.permutation(np.repeat(np.arange(n_conditions), 3)) for _ in range(n_runs)]
    run = np.repeat(np.arange(n_runs), 3 * n_conditions)
    per_session = n_runs // n_sessions
    columns = {"session": run // per_session, "run": run % per_session}
    return recording(np.concatenate(order), columns=columns, stimuli_are="conditions")


def slow(n, n_columns, phi=0.9, seed=0):
    """Series that change slowly."""
    rng = np.random.default_rng(seed)
    series = np.zeros((n, n_columns))
    for row in range(1, n):
        series[row] = phi * series[row - 1] + rng.normal(size=n_columns)
    return series


def test_exemplars_are_independent_and_their_repeats_are_not():
    shown = np.random.default_rng(0).permutation(np.repeat(np.arange(20), 3))
    rows = dependence(
        recording(shown), features=np.random.default_rng(1).normal(size=(20, 6))[shown]
    )
    assert rows.facts == {"independent": "stimulus", "because": "stimuli in random order"}
    np.testing.assert_array_equal(rows.groups, shown)
    moved = shown[rows.exchanged(np.random.default_rng(0))]
    assert all(len(set(moved[shown == one])) == 1 for one in range(20))


def test_conditions_are_told_by_runs_and_exchanged_within_them():
    rows = dependence(conditions(n_sessions=2))
    assert rows.facts["independent"] == "run"
    assert len(np.unique(rows.groups)) == 8  # run 0 of session 1 is another than that of 0
    moved = rows.shown[rows.exchanged(np.random.default_rng(0))]
    orders = []
    for run in range(8):
        here = rows.groups == np.unique(rows.groups)[run]
        assert sorted(moved[here]) == sorted(rows.shown[here])  # each as often as it was shown
        orders.append(tuple(moved[here]))
    assert len(set(orders)) == 8  # not the same in every run


def test_slow_features_and_responses_are_told_by_stretches():
    responses, features = slow(400, 30, seed=1), slow(400, 10, seed=2)
    run = np.repeat([0, 1], 200)
    both = recording(np.arange(400), responses=responses, columns={"run": run})
    with pytest.warns(DependenceWarning, match=r"change slowly.*resample='block:\d+'"):
        rows = dependence(both, features=features)
    length = int(rows.facts["independent"].split(":")[1])
    assert 20 < length < 120  # twice the lag at which .9^k is small
    assert rows.reach == length
    assert all(len(set(run[rows.groups == block])) == 1 for block in np.unique(rows.groups))
    order = rows.exchanged(np.random.default_rng(0))
    assert (np.diff(order) == 1).mean() > 0.9  # what was shown keeps its order
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick = np.random.default_rng(0).normal(size=features.shape)
        assert dependence(both, features=quick).facts["independent"] == "stimulus"
        fresh = recording(np.arange(400), columns={"run": run}, units=30)
        assert dependence(fresh, features=features).facts["independent"] == "stimulus"
        assert dependence(both, "stimulus", features=features).series is None


def test_chance_runs_shift_what_was_shown_in_time():
    rows = dependence(recording(np.arange(60)), "block:5")
    for seed in range(20):
        order = rows.exchanged(np.random.default_rng(seed))
        apart = (np.arange(60) - order) % 60
        assert len(set(apart.tolist())) == 1
        assert 5 <= apart[0] <= 55  # no truth is left
    shifts = [int(rows.permuted(number, 19)[0]) for number in range(19)]
    # With no shift at all they are a group: steps of three round 60 rows.
    assert sorted(-shift % 60 for shift in shifts) == [3 * step for step in range(1, 20)]
    free = dependence(recording(np.arange(60)), "stimulus")
    drawn = [free.permuted(number, 19) for number in range(19)]
    assert all(sorted(order) == list(range(60)) for order in drawn)
    assert len({order.tobytes() for order in drawn}) == 19
    np.testing.assert_array_equal(drawn[3], free.permuted(3, 19))


def test_rows_are_near_within_their_run():
    columns = {"run": np.repeat([0, 1], 20)}
    rows = dependence(recording(np.arange(40), columns=columns), "block:4")
    test = rows.take(np.arange(8, 12))
    assert np.flatnonzero(rows.near(test)).tolist() == list(range(5, 15))
    last = rows.take(np.arange(18, 20))
    assert np.flatnonzero(rows.near(last)).tolist() == [15, 16, 17, 18, 19]  # not the next run
    plain = dependence(recording(np.arange(40), columns=columns), "run")
    assert not plain.near(plain.take(np.arange(8, 12))).any()


@pytest.mark.parametrize("split", ["stretches:4", "kfold:4:run"])
def test_training_rows_near_a_test_row_are_left_out(split):
    columns = {"run": np.repeat(np.arange(4), 10)}
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    trials = recording(np.arange(40), responses=values, columns=columns)
    rows = dependence(trials, "block:3")
    settings = {"zscore": None, "average_repeats": False}
    for fold in prepare_split(trials, split, rows=rows, **settings):
        assert not fold.train_rows.near(fold.test_rows).any()
        assert len(fold.train) == 30  # runs, whose neighbours are no neighbours
    longer = recording(np.arange(40), responses=values)
    sizes = [
        len(fold.train)
        for fold in prepare_split(
            longer, "stretches:4", rows=dependence(longer, "block:3"), **settings
        )
    ]
    assert sizes == [28, 26, 26, 28]  # two at each end of the test part
    with pytest.raises(SplitError, match=r"split='stretches:5'.*resample='stimulus'"):
        prepare_split(longer, "kfold:2", rows=dependence(longer, "block:30"), **settings)


def test_what_is_asked_for_is_taken():
    columns = {"session": np.repeat([0, 1], 20), "block": np.tile(np.repeat([0, 1, 2, 3], 5), 2)}
    trials = recording(np.arange(40), columns=columns)
    rows = dependence(trials)
    assert rows.facts == {"independent": "block", "because": "the trials have a column 'block'"}
    assert len(np.unique(rows.groups)) == 8  # block 0 of session 1 is another than that of 0
    for resample, n_units in (("session", 2), ("block:5", 8), ("block:6", 8), ("stimulus", 40)):
        found = dependence(trials, resample)
        assert len(np.unique(found.groups)) == n_units
        assert found.facts == {"independent": resample, "because": "asked for"}
    with pytest.raises(InputError, match=r"resample='runs' names no column.*'session'"):
        dependence(trials, "runs")
    with pytest.raises(InputError, match="at least 1 trial"):
        dependence(trials, "block:0")


def test_averages_count_where_they_were_shown_first():
    shown = np.random.default_rng(0).permutation(np.repeat(np.arange(12), 2))
    trials = recording(shown, columns={"block": np.arange(24) // 4})
    rows = dependence(trials, "block")
    (fold, *_) = prepare_split(trials, "kfold:3", zscore=None, average_repeats=True, rows=rows)
    first = [int(np.flatnonzero(shown == one)[0]) for one in fold.test_stimuli]
    np.testing.assert_array_equal(fold.test_rows.place, first)
    np.testing.assert_array_equal(fold.test_rows.groups, np.array(first) // 4)


def test_conditions_are_averaged_within_their_run():
    folds = prepare_split(conditions(), "leave-one-run-out", zscore=None, average_repeats=True)
    assert len(folds) == 8
    for fold in folds:
        assert len(fold.test) == 5
        assert len(fold.train) == 35
        assert sorted(fold.test_stimuli) == list(range(5))
        assert set(fold.train_trials["n_repeats"]) == {3}
        assert len(np.unique(fold.train_rows.groups)) == 7
        assert len(np.unique(fold.test_rows.groups)) == 1


def test_without_a_third_of_the_groups():
    (fold, *_) = prepare_split(
        recording(np.repeat(np.arange(40), 2)), "kfold:4", zscore=None, average_repeats=False
    )
    fewer = fold.without(1 / 3, np.random.default_rng(0))
    assert len(fewer.train) == 40
    assert len(np.unique(fewer.train_rows.groups)) == 20
    np.testing.assert_array_equal(fewer.train_stimuli, fewer.train_rows.shown)
    np.testing.assert_array_equal(fewer.test, fold.test)


def test_some_conditions_are_never_left_out_of_training():
    with pytest.raises(InputError, match=r"n_train=3 .* stimuli are conditions"):
        prepare_split(
            conditions(), "leave-one-run-out", zscore=None, average_repeats=False, n_train=3
        )
    with pytest.raises(InputError, match="n_train=1 asks"):
        prepare_split(
            recording(np.arange(20)), "kfold:2", zscore=None, average_repeats=False, n_train=1
        )


def test_functions_are_asked_only_where_responses_are_slow():
    features, asked = slow(400, 10, seed=2), []

    def look(rows):
        asked.append(len(rows))
        return features[rows]

    quick = recording(np.arange(400), units=30)
    assert dependence(quick, features=[look]).facts["independent"] == "stimulus"
    assert asked == []
    both = recording(np.arange(400), responses=slow(400, 30, seed=1))
    with pytest.warns(DependenceWarning):
        found = dependence(both, features=[lambda rows: np.eye(400)[rows], look])
    assert asked == [400]
    with pytest.warns(DependenceWarning):  # the slowest space counts
        assert dependence(both, features=[look]).reach == found.reach


def test_rows_that_do_not_stand_in_time_are_not_slow():
    """As a file that is sorted by class has them."""
    responses, features = slow(400, 30, seed=1), slow(400, 10, seed=2)
    sorted_by_class = recording(np.arange(400), responses=responses, info={"order": "by class"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = dependence(sorted_by_class, features=features)
    assert found.facts["independent"] == "stimulus"
