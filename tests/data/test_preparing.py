"""The arrays of a fold: order of steps, unusable units, what is recorded."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.preparing import prepare
from brainkit.errors import InputError, SplitError


def recorded(values=None, *, session=None, seed=0):
    """24 stimuli shown twice; the last eight are shared."""
    generator = np.random.default_rng(seed)
    if values is None:
        values = generator.normal(size=(48, 6)) + 5
    stimulus = np.tile(np.arange(24), 2)
    trials = pd.DataFrame(
        {
            "stimulus": stimulus,
            "session": np.repeat([1, 2], 24) if session is None else session,
            "shared": stimulus >= 16,
        }
    )
    return Recording.from_arrays(values, trials=trials)


def only_fold(recording):
    return recording.split("nsd-shared1000").folds[0]


def test_parts_are_averaged_by_stimulus():
    recording = recorded()
    values = recording.responses.read()
    prepared = prepare(only_fold(recording), zscore=None, average_repeats=True)
    assert prepared.train_stimuli.tolist() == list(range(16))
    assert prepared.test_stimuli.tolist() == list(range(16, 24))
    np.testing.assert_allclose(prepared.train, (values[:16] + values[24:40]) / 2, rtol=1e-6)
    np.testing.assert_allclose(prepared.test, (values[16:24] + values[40:]) / 2, rtol=1e-6)
    assert (prepared.test_trials["n_repeats"] == 2).all()
    assert prepared.usable.all()
    assert prepared.zscore == {}


def test_single_trials_keep_their_order():
    recording = recorded()
    prepared = prepare(only_fold(recording), zscore=None, average_repeats=False)
    assert prepared.train_stimuli.tolist() == [*range(16), *range(16)]
    assert len(prepared.train_trials) == len(prepared.train) == 32
    np.testing.assert_array_equal(prepared.test, recording.responses.read()[np.r_[16:24, 40:48]])


def test_the_test_part_alone_is_averaged():
    recording = recorded()
    fold = only_fold(recording)
    for zscore in (None, "session"):
        single = prepare(fold, zscore=zscore, average_repeats=False)
        averaged = prepare(fold, zscore=zscore, average_repeats=True)
        prepared = prepare(fold, zscore=zscore, average_repeats="test")
        np.testing.assert_array_equal(prepared.train, single.train)
        np.testing.assert_array_equal(prepared.test, averaged.test)
        assert prepared.train_stimuli.tolist() == [*range(16), *range(16)]
        assert prepared.test_stimuli.tolist() == list(range(16, 24))
        assert len(prepared.train_trials) == 32
        assert "n_repeats" not in prepared.train_trials
        assert prepared.test_trials["n_repeats"].tolist() == [2] * 8
        assert prepared.zscore == single.zscore


def test_all_trials_can_be_one_group():
    recording = recorded()
    values, fold = recording.responses.read().astype(np.float64), only_fold(recording)
    train = fold.rows["train"]
    scored = (values - values[train].mean(axis=0)) / values[train].std(axis=0)
    prepared = prepare(fold, zscore="recording", average_repeats=False)
    np.testing.assert_allclose(prepared.train, scored[train], atol=1e-4)
    np.testing.assert_allclose(prepared.test, scored[fold.rows["test"]], atol=1e-4)
    names, shift, scale = prepared.statistics()
    assert (names, shift.shape, scale.shape) == (["recording"], (1, 6), (1, 6))
    again = recording.zscore("recording", fit_on=train).responses.read()
    np.testing.assert_allclose(again, scored, atol=1e-4)
    # A column of that name is taken for what it is.
    half = recording.trials.assign(recording=recording.trials["session"])
    apart = Recording.from_arrays(recording.responses.read(), trials=half)
    by_session = prepare(only_fold(recording), zscore="session", average_repeats=False)
    named = prepare(only_fold(apart), zscore="recording", average_repeats=False)
    np.testing.assert_array_equal(named.test, by_session.test)


def test_standardised_by_training_trials_before_averaging():
    recording = recorded()
    values = recording.responses.read().astype(np.float64)
    prepared = prepare(only_fold(recording), zscore="session", average_repeats=True)
    scored = np.empty_like(values)
    for start in (0, 24):
        train = values[start : start + 16]
        scored[start : start + 24] = (values[start : start + 24] - train.mean(axis=0)) / train.std(
            axis=0
        )
    np.testing.assert_allclose(prepared.train, (scored[:16] + scored[24:40]) / 2, atol=1e-4)
    np.testing.assert_allclose(prepared.test, (scored[16:24] + scored[40:]) / 2, atol=1e-4)
    assert prepared.zscore == {"by": "session", "transductive": False, "unseen": []}


@pytest.mark.parametrize("zscore", [None, "session"])
@pytest.mark.parametrize("average_repeats", [True, False, "test"])
def test_constant_and_broken_units_are_named_and_the_rest_untouched(zscore, average_repeats):
    values = np.random.default_rng(0).normal(size=(48, 6)).astype(np.float32)
    options = {"zscore": zscore, "average_repeats": average_repeats}
    whole = prepare(only_fold(recorded(values)), **options)
    broken = values.copy()
    broken[:, 0] = 3.0  # constant
    broken[5, 1] = np.nan  # in training
    broken[20, 2] = np.nan  # in test
    broken[7, 3] = np.inf
    prepared = prepare(only_fold(recorded(broken)), **options)
    assert prepared.usable.tolist() == [False, False, False, False, True, True]
    np.testing.assert_array_equal(prepared.train[:, 4:], whole.train[:, 4:])
    np.testing.assert_array_equal(prepared.test[:, 4:], whole.test[:, 4:])


def test_a_unit_that_varies_in_the_test_part_alone_is_constant():
    values = np.random.default_rng(0).normal(size=(48, 2))
    values[np.r_[:16, 24:40], 0] = 1.0
    prepared = prepare(only_fold(recorded(values)), zscore=None, average_repeats=True)
    assert prepared.usable.tolist() == [False, True]


def test_epochs_are_targets_by_unit_and_time():
    values = np.random.default_rng(0).normal(size=(48, 3, 5))
    values[4, 1, 2] = np.nan
    prepared = prepare(only_fold(recorded(values)), zscore=None, average_repeats=True)
    assert prepared.train.shape == (16, 15)
    assert np.flatnonzero(~prepared.usable).tolist() == [1 * 5 + 2]


def test_a_session_without_training_trials_is_transductive_or_refused():
    stimulus = np.tile(np.arange(24), 2)
    session = np.where(stimulus >= 16, 3, np.repeat([1, 2], 24))
    fold = only_fold(recorded(session=session))
    with pytest.raises(SplitError, match="session 3 has no training trials"):
        prepare(fold, zscore="session", average_repeats=True)
    prepared = prepare(fold, zscore="session", unseen="session-unlabelled", average_repeats=True)
    assert prepared.zscore == {"by": "session", "transductive": True, "unseen": [3]}
    np.testing.assert_allclose(prepared.test.mean(axis=0), 0, atol=1e-6)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_no_unit_that_can_be_used(value):
    with pytest.raises(InputError, match="None of the 6 units of s1 can be used"):
        _ = prepare(
            only_fold(recorded(np.full((48, 6), value))), zscore=None, average_repeats=False
        ).usable
