"""T24: repeats averaged before z-scoring, with statistics of all sessions, test ones included."""

import numpy as np
import pandas as pd
import pytest

from brainkit import Recording
from brainkit.data.preparing import prepare
from brainkit.errors import InputError, SplitError


def drifting(seed=0):
    """Images shown in two of three sessions, whose gain and offset differ."""
    generator = np.random.default_rng(seed)
    pairs = np.repeat([[1, 2], [2, 3], [1, 3]], 20, axis=0)
    stimulus = np.repeat(np.arange(60), 2)
    session = pairs.ravel()
    signal = generator.normal(size=(60, 8))
    gain, offset = np.array([1, 3, 0.3])[session - 1, None], np.array([0, 5, -9])[session - 1, None]
    values = offset + gain * (signal[stimulus] + 0.1 * generator.normal(size=(120, 8)))
    trials = pd.DataFrame({"stimulus": stimulus, "session": session, "run": 1})
    return Recording.from_arrays(values, trials=trials), values, signal


def test_sessions_cannot_be_zscored_once_they_are_averaged_over():
    recording, _, _ = drifting()
    with pytest.raises(InputError, match=r"no column 'session' to z-score by"):
        recording.average_repeats().zscore()


def test_the_right_order_recovers_the_signal_and_the_wrong_one_does_not():
    recording, _, signal = drifting()
    right = recording.zscore().average_repeats().responses.read()
    wrong = recording.average_repeats().zscore(None).responses.read()

    def agreement(values):
        return np.mean([np.corrcoef(values[:, u], signal[:, u])[0, 1] for u in range(8)])

    assert agreement(right) > 0.95
    assert agreement(wrong) < 0.6


def test_statistics_come_from_the_training_trials_in_use():
    recording, values, _ = drifting()
    fold = recording.split("kfold:4:stimulus", seed=3).folds[0]
    prepared = prepare(fold, zscore="session", average_repeats=True)
    train = np.zeros(120, dtype=bool)
    train[fold.rows["train"]] = True
    trials = recording.trials
    standard = np.empty_like(values)
    for session in (1, 2, 3):
        here = (trials["session"] == session).to_numpy()
        fit = values[here & train]
        standard[here] = (values[here] - fit.mean(0)) / fit.std(0)
    for got, stimuli in (
        (prepared.train, prepared.train_stimuli),
        (prepared.test, prepared.test_stimuli),
    ):
        expected = [standard[trials["stimulus"] == s].mean(0) for s in stimuli]
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    # Test trials of any value leave the training part as it is.
    changed = np.where(train[:, None], values, 1e3 * values + 7)
    other = Recording.from_arrays(changed, trials=trials).split("kfold:4:stimulus", seed=3)
    again = prepare(other.folds[0], zscore="session", average_repeats=True)
    np.testing.assert_array_equal(prepared.train, again.train)


def test_a_session_of_test_trials_alone_is_not_silently_standardised():
    recording, values, _ = drifting()
    trials = recording.trials.assign(stimulus=np.arange(120))  # no image twice, else it leaks
    fold = Recording.from_arrays(values, trials=trials).split("leave-one-session-out").folds[0]
    with pytest.raises(SplitError, match="session 1 has no training trials"):
        prepare(fold, zscore="session", average_repeats=True)
    prepared = prepare(fold, zscore="session", unseen="session-unlabelled", average_repeats=True)
    assert prepared.zscore["transductive"] is True
    assert prepared.zscore["unseen"] == [1]
